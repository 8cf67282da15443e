# SPDX-License-Identifier: Apache-2.0
"""From the words of frames to header vectors."""

import operator
from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.hdl import Const as Constant
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.pisa.abi import Rejection
from rackgate.pisa.declare import ACCEPT, REJECT, Pipeline, standard
from rackgate.pisa.graph import nodes
from rackgate.pisa.layout import name_of
from rackgate.pisa.lower import first_of
from rackgate.stream.packet import packet_layout

__all__ = ["CAUSES", "Extractor", "extracted_layout", "frame_layout"]

#: Causes that are known without a checksum, in the order of their priority.
CAUSES = tuple(cause for cause in Rejection if cause is not Rejection.CHECKSUM)

_END_BITS = 17  # a length field of 16 bits, and where its header begins


def extracted_layout(pipeline: Pipeline) -> data.StructLayout:
    """Fields of the packet header vector, by their names in :func:`~.layout.phv_layout`."""
    return data.StructLayout({name_of(item): item.width for item in pipeline.phv})


def frame_layout(pipeline: Pipeline, slot_size: int) -> data.StructLayout:
    """What is known of a frame when it has ended.

    ``fields``: :func:`extracted_layout`. ``start``, ``length``: where its payload lies. ``causes``: one bit for each of
    :data:`CAUSES`, of which at most one is set.
    """
    bits = slot_size.bit_length()
    return data.StructLayout({"fields": extracted_layout(pipeline), "start": bits, "length": bits,
                              "causes": len(CAUSES)})


class Extractor(wiring.Component):
    """Extract the headers of frames as a pipeline's parser declares it.

    A word a cycle, no stalls. ``o`` has the frame 3 cycles after its last word; ``payload`` has each word in 4 cycles.
    Reset forgets the frame that has begun: what comes is then taken for the begin of one.

    Parameters
    ----------
    pipeline:
        The declaration.
    width:
        Bytes of a word.
    slot_size:
        Bytes of the largest frame, a power of two.

    Members
    -------
    i:
        Words of frames.
    index:
        Number of the word at ``i`` in its frame; stays at the largest value.
    o:
        Frames (:func:`frame_layout`).
    payload:
        Each word, with bytes that are not of the payload zeroed; what is not taken into the frame's payload in the end,
        because the frame is rejected, may be there too.
    """

    def __init__(self, pipeline: Pipeline, width: int, slot_size: int):
        self.pipeline, self.width, self.slot_size = pipeline, operator.index(width), operator.index(slot_size)
        self._lane_bits = exact_log2(self.width)
        self._most = self.slot_size // self.width  # words of the largest frame
        self.nodes = nodes(pipeline.parser)
        self._ends = max(node.end for node in self.nodes)
        if self._ends > self.slot_size:
            raise ValueError(f"slot_size must hold all headers, {self._ends} bytes, not {slot_size}")
        super().__init__({
            "i": In(stream.Signature(packet_layout(self.width), always_ready=True)),
            "index": Out(range(self._most + 1)),
            "o": Out(stream.Signature(frame_layout(pipeline, self.slot_size), always_ready=True)),
            "payload": Out(stream.Signature(data.StructLayout({"data": 8 * self.width, "last": 1}),
                                            always_ready=True)),
        })

    def elaborate(self, platform):
        m = Module()
        captured = Signal(8 * self.width * -(-self._ends // self.width))
        words = self._capture(m, captured)
        # Cycle 2, of what is captured with the word of cycle 1: where each state goes on, and where the packet ends.
        snapshot, length = Signal.like(captured), Signal(range(2 * self.slot_size))
        with m.If(words[0][0].word.last):
            m.d.sync += snapshot.eq(captured)
        m.d.sync += length.eq((words[0][0].index << self._lane_bits) + words[0][0].word.count)
        hits, limits = self._hits(m, captured), self._limits(m, captured)

        reached = self._reached(hits)
        accepted = {node: reached[node] & hits[node][ACCEPT] for node in self.nodes if ACCEPT in hits[node]}
        limit, is_limited, start = Signal(_END_BITS), Signal(), Signal(range(self.slot_size + 1))
        m.d.comb += [
            limit.eq(self._one(accepted, lambda node: limits.get(self._length_place(node), 0))),
            is_limited.eq(self._one(accepted, lambda node: self._length_place(node) is not None)),
            start.eq(self._one(accepted, lambda node: node.end)),
        ]
        # Cycle 3: what there is to say of the frame.
        out, (now, valid) = self.o.payload, words[1]
        end, payload_end = Signal(_END_BITS), Signal(_END_BITS)
        m.d.comb += end.eq(Mux(is_limited, limit, length))
        m.d.sync += [
            self.o.valid.eq(valid & now.word.last),
            out.start.eq(start),
            out.length.eq(end - start),
            out.causes.eq(Cat(first_of([
                now.word.error,
                now.index == self._most,
                Cat(reached[node] & (length < node.end) for node in self.nodes).any(),
                Cat(reached[node] & hits[node][REJECT] for node in self.nodes if REJECT in hits[node]).any(),
                (end < start) | (end > length),
            ]))),
            payload_end.eq(Mux(is_limited, limit, ~0)),
        ]
        self._fields(m, out.fields, snapshot, reached, length, end - start)
        is_accepted = Signal()
        m.d.sync += is_accepted.eq(Cat(accepted.values()).any())
        self._payload(m, *words[2], is_accepted, out.start, payload_end)
        return m

    def _capture(self, m, captured):
        """Keep a frame's first words; hand all words on: registers of cycles 1 to 3."""
        index = self.index
        with m.If(self.i.valid):
            m.d.sync += index.eq(Mux(self.i.payload.last, 0, index + (index != self._most)))
            for number in range(len(captured) // (8 * self.width)):
                with m.If(index == number):
                    m.d.sync += captured.word_select(number, 8 * self.width).eq(self.i.payload.data)
        step = data.StructLayout({"word": packet_layout(self.width), "index": index.shape()})
        words = [(Signal(step, name=f"step_{k}"), Signal(name=f"valid_{k}")) for k in range(1, 4)]
        counts = Cat((self.i.payload.count > lane).replicate(8) for lane in range(self.width))
        m.d.sync += [
            words[0][0].word.eq(self.i.payload),
            words[0][0].word.data.eq(self.i.payload.data & counts),
            words[0][0].index.eq(index),
            words[0][1].eq(self.i.valid),
        ]
        for (before, was_valid), (after, valid) in pairwise(words):
            m.d.sync += [after.eq(before), valid.eq(was_valid)]
        return words

    # The graph

    def _value(self, content, item, places):
        """A field of a frame's first bytes, given where its header lies; of one that was not extracted 0."""
        if item.owner not in places or item.name == "is_valid":
            return Constant(int(item.owner in places), item.width)
        place, header = places[item.owner], item.owner
        whole = Cat(content.word_select(at, 8) for at in reversed(range(place, place + header.size)))
        low = header.width
        for part in header.fields.values():
            low -= part.width
            if part is item:
                break
        return whole[low:low + item.width]

    def _hits(self, m, captured):
        """For each node, by target of its state, whether the selected fields lead there."""
        hits = {}
        for number, node in enumerate(self.nodes):
            state = self.pipeline.parser.states[node.name]
            values = [self._value(captured, item, node.places) for item in state.select]
            found = {}
            for key, target in state.transitions.items():
                matches = Cat(value == want for value, want in zip(values, state.key_of(key), strict=True)).all()
                found.setdefault(target, []).append(matches)
            matched = [match for matches in found.values() for match in matches]
            found.setdefault(state.default, []).append(~Cat(matched).any())
            hits[node] = {}
            for target, matches in found.items():
                hits[node][target] = kept = Signal(name=f"hit_{number}_{target}")
                m.d.sync += kept.eq(Cat(matches).any())
        return hits

    def _reached(self, hits):
        """Which nodes the frame comes to."""
        by_way, reached = {node.way: node for node in self.nodes}, {}
        for node in self.nodes:
            before = by_way.get(node.way[:-1])
            reached[node] = Constant(1, 1) if before is None else reached[before] & hits[before][node.name]
        return reached

    def _length_place(self, node):
        """Where the header that counts the packet's bytes lies, if the frame has it."""
        item = self.pipeline.parser.length
        return None if item is None else node.places.get(item.owner)

    def _limits(self, m, captured):
        """By place of that header, the end of the packet that it gives."""
        item, limits = self.pipeline.parser.length, {}
        if item is None:
            return limits
        if item.width > 16:
            raise ValueError(f"the parser's length must have at most 16 bits, but {item!r} has {item.width}")
        for place in sorted({place for node in self.nodes if (place := self._length_place(node)) is not None}):
            limits[place] = kept = Signal(_END_BITS, name=f"limit_{place}")
            m.d.sync += kept.eq(self._value(captured, item, {item.owner: place}) + place)
        return limits

    @staticmethod
    def _one(accepted, value_of):
        """The value of the way that is accepted; 0 if none is."""
        return reduce(or_, (Mux(taken, value_of(node), 0) for node, taken in accepted.items()), Constant(0, 1))

    # What comes out

    def _fields(self, m, fields, snapshot, reached, length, payload_length):
        ends = [node for node in self.nodes if self._accepts(node)]
        for header in self.pipeline.headers:
            places = {node.places.get(header) for node in ends}
            members = [item for item in self.pipeline.phv if item.owner is header]
            if len(places) == 1 and None not in places:
                choices = [(Constant(1, 1), {header: places.pop()})]
            else:
                choices = [(self._is_last(node, reached), node.places) for node in self.nodes
                           if self.pipeline.parser.states[node.name].header is header]
            for item in members:
                value = reduce(or_, (Mux(taken, self._value(snapshot, item, place), 0) for taken, place in choices),
                               Constant(0, 1))
                m.d.sync += fields[name_of(item)].eq(value)
        m.d.sync += [fields[name_of(standard.packet_length)].eq(length),
                     fields[name_of(standard.payload_length)].eq(payload_length)]

    def _accepts(self, node):
        state = self.pipeline.parser.states[node.name]
        return ACCEPT in (*state.transitions.values(), state.default)

    def _is_last(self, node, reached):
        """Whether the frame comes to ``node`` and not, later, to another one that extracts the same header."""
        states = self.pipeline.parser.states
        later = [reached[other] for other in self.nodes if other is not node and other.way[:len(node.way)] == node.way
                 and states[other.name].header is states[node.name].header]
        return reached[node] & ~Cat(later).any() if later else reached[node]

    def _payload(self, m, word, valid, is_accepted, start, end):
        """Zero the bytes before the payload and behind it. A byte's way is known when it gets here, and so is its end.

        What decides the way, and the length, stands in bytes before the payload's first: so for none of its bytes are
        ``start`` and ``end`` those of another frame's remains.
        """
        lanes = self._lane_bits
        start_word, start_lane = start[lanes:], start[:lanes]
        end_word, end_lane = end[lanes:], end[:lanes]
        is_behind, is_first, is_before, is_last, keeps = Signal(), Signal(), Signal(), Signal(), Signal(self.width)
        m.d.comb += [
            is_behind.eq(is_accepted & (word.index > start_word)),
            is_first.eq(is_accepted & (word.index == start_word)),
            is_before.eq(word.index < end_word), is_last.eq(word.index == end_word),
            keeps.eq(Cat((is_behind | is_first & (lane >= start_lane)) & (is_before | is_last & (lane < end_lane))
                         for lane in range(self.width))),
        ]
        m.d.sync += [
            self.payload.payload.data.eq(word.word.data & Cat(keep.replicate(8) for keep in keeps)),
            self.payload.payload.last.eq(word.word.last),
            self.payload.valid.eq(valid),
        ]
