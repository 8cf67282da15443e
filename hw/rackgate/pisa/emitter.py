# SPDX-License-Identifier: Apache-2.0
"""Headers, and behind them a payload from memory, as the words of a frame."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.pisa.declare import Pipeline
from rackgate.pisa.graph import emitted_sizes, payload_starts
from rackgate.stream.packet import PacketSignature

__all__ = ["Emitter", "order_layout"]


def order_layout(size: int, slot_bits: int, slot_size: int) -> data.StructLayout:
    """A frame to make: ``head_size`` of at most ``size`` bytes of ``head``, then ``length`` from ``start`` of ``slot``.

    ``drop``: it is not to be made. ``owns_slot``: the slot is given back afterwards.
    """
    bits = slot_size.bit_length()
    return data.StructLayout({"head": 8 * size, "head_size": range(size + 1), "start": bits, "length": bits, "drop": 1,
                              "slot": slot_bits, "owns_slot": 1})


class Emitter(wiring.Component):
    """Make a frame of each order, a word a cycle and a cycle between two frames; latency 4 cycles to the first word.

    The payload may begin at any byte of a slot, and behind the headers at any byte of a word: its words are turned, and
    each word of the frame is made of two that follow each other. Before the first word of a frame the payload's word
    before it is fetched, whether it is needed or not; that is the cycle between.

    Members are those of :class:`~.deparser.Deparser`, but for ``i``: orders (:func:`order_layout`).
    """

    def __init__(self, pipeline: Pipeline, *, width: int, slot_bits: int, slot_size: int):
        self.width, self.slot_bits, self.slot_size = width, slot_bits, slot_size
        self._lane_bits = exact_log2(width)
        self._size = sum(header.size for header in pipeline.emit)
        sizes, starts = emitted_sizes(pipeline), payload_starts(pipeline.parser)
        #: By how many bytes payloads may have to be turned.
        self._turns = sorted({(size - start) % width for size in sizes for start in starts})
        super().__init__({
            "i": In(stream.Signature(order_layout(self._size, slot_bits, slot_size))),
            "read": Out(1), "read_slot": Out(slot_bits), "read_index": Out(range(slot_size // width)),
            "read_data": In(8 * width),
            "o": Out(PacketSignature(width)),
            "put": Out(stream.Signature(slot_bits, always_ready=True)),
            "sent": Out(1), "dropped": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        moves = Signal()
        m.d.comb += moves.eq(~self.o.valid | self.o.ready)
        beat = data.StructLayout({
            "head": 8 * self.width, "head_count": range(self.width + 1), "count": self.o.payload.count.shape(),
            "last": 1, "is_word": 1, "drop": 1, "turn": max(self._lane_bits, 1), "slot": self.slot_bits, "owns_slot": 1,
        })
        beats = [(Signal(beat, name=f"beat_{k}"), Signal(name=f"has_beat_{k}")) for k in range(4)]
        self._generate(m, moves, *beats[0])
        with m.If(moves):
            for (before, had), (after, has) in zip(beats, beats[1:], strict=False):
                m.d.sync += [after.eq(before), has.eq(had)]

        # The payload's word comes with beat 1; with beat 2 it has been turned; beat 3 is the word of the frame.
        turned, last_turned, now = Signal(8 * self.width), Signal(8 * self.width), beats[2][0]
        with m.If(moves):
            with m.Switch(beats[1][0].turn):
                for turn in self._turns:
                    with m.Case(turn):
                        m.d.sync += turned.eq(self.read_data.rotate_left(8 * turn))
            with m.If(beats[2][1]):
                m.d.sync += last_turned.eq(turned)
            lanes = []
            for lane in range(self.width):
                part = slice(8 * lane, 8 * lane + 8)
                payload = Mux(now.turn <= lane, turned[part], last_turned[part])
                lanes.append(Mux(now.head_count > lane, now.head[part], payload))
            m.d.sync += [
                self.o.valid.eq(beats[2][1] & now.is_word),
                self.o.payload.data.eq(Cat(lanes)),
                self.o.payload.count.eq(now.count),
                self.o.payload.last.eq(now.last),
            ]
        done, is_done = beats[3][0], Signal()
        m.d.comb += [
            is_done.eq(moves & beats[3][1] & done.last),
            self.put.valid.eq(is_done & done.owns_slot), self.put.payload.eq(done.slot),
            self.dropped.eq(is_done & done.drop), self.sent.eq(is_done & ~done.drop),
        ]
        m.d.sync += Assert(~self.o.valid | beats[3][1] & done.is_word, "a word of no beat")
        return m

    def _generate(self, m, moves, beat, has_beat):
        """A beat before each frame's first, then one a word; a single one for what is dropped."""
        head, head_left = Signal(8 * max(self._size, self.width)), Signal(range(self._size + 1))
        left, index = Signal(range(self._size + self.slot_size + 1)), Signal.like(self.read_index)
        kept, is_before, order = Signal(beat.shape()), Signal(), self.i.payload
        total, ahead = Signal.like(left), Signal(range(-self.slot_size, self._size + 1))
        m.d.comb += [
            total.eq(order.head_size + order.length),
            ahead.eq(order.head_size - order.start),
            self.i.ready.eq(~has_beat | moves & beat.last),
            self.read.eq(moves), self.read_slot.eq(kept.slot), self.read_index.eq(index),
            beat.eq(kept),
            beat.head.eq(head), beat.head_count.eq(Mux(head_left > self.width, self.width, head_left)),
            beat.is_word.eq(~is_before & ~kept.drop),
            beat.last.eq(kept.drop | ~is_before & (left <= self.width)),
            beat.count.eq(Mux(left < self.width, left, self.width)),
        ]
        with m.If(has_beat & moves):
            m.d.sync += [is_before.eq(0), index.eq(index + 1)]
            with m.If(beat.last):
                m.d.sync += has_beat.eq(0)
            with m.If(~is_before):
                m.d.sync += [
                    head.eq(head >> 8 * self.width),
                    head_left.eq(Mux(head_left > self.width, head_left - self.width, 0)),
                    left.eq(left - self.width),
                ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                has_beat.eq(1), is_before.eq(1),
                head.eq(order.head), head_left.eq(order.head_size), left.eq(total),
                # Word k of the frame has payload of word k - (ahead >> lanes) of the slot, and of the one before.
                index.eq(-1 - (ahead >> self._lane_bits)),
                kept.turn.eq(ahead[:self._lane_bits] if self._lane_bits else 0),
                kept.drop.eq(order.drop | (total == 0)),
                kept.slot.eq(order.slot), kept.owns_slot.eq(order.owns_slot),
            ]


