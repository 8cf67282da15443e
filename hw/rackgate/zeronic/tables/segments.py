# SPDX-License-Identifier: Apache-2.0
"""The posted segments of each flow, in the order of its stream."""

import operator

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.stream.queue import Queue
from rackgate.zeronic.records import ADDRESS_BITS, FLOW_BITS, REGION_BITS, PostUpdate, RetireUpdate
from rackgate.zeronic.tables.search import SegmentSearch, check_lists, found_layout, sought_layout

__all__ = ["ENGINES", "Segment", "SegmentLists"]

#: Legal numbers of search engines.
ENGINES = (1, 2, 3, 4)
#: Searches that are under way or whose answers wait.
_UNDER_WAY = 16


class Segment(data.Struct):
    """``length`` bytes of a stream from ``start`` on, which are at ``offset`` of ``region``."""

    start: 32
    length: 31
    region: REGION_BITS
    offset: ADDRESS_BITS


class SegmentLists(wiring.Component):
    """Keep a list of segments for each flow, and find where in it a position is.

    A search says where to look; only the segment that is then read tells whether the position is in it. A search
    reflects the list as it was when it was taken: what is appended or retired in the meantime does not mislead it. A
    place that has been found, and the ``left`` ones behind it (numbers count up modulo ``segments``), hold what they
    held then or, if that was retired, a segment of the same flow that was posted later; segments that were cleared
    stay readable until their places are used again.

    Timing: with ``engines`` E, log2(segments) / E cycles a search when all lists are full, and fewer in shorter ones;
    with 1, a read takes a turn of a search: log2(segments) + 1 cycles for both. So with 64 segments a search and its
    read take 7, 3 and 2 cycles with 1, 2 and 3 engines. The answer to a lone search comes after up to 9 cycles if the
    list has one or two segments, and 3 later each time their number doubles. An update takes 5 cycles; the first
    ``post`` after a ``retire`` or ``clear`` waits until the searches that are older have their answers, some 30
    cycles, 100 if as many as there can be are under way. Updates do not hold up searches; searches whose answers are
    not taken do not hold up updates. Reset empties all lists, one a cycle.

    Parameters
    ----------
    flows:
        Number of lists, a power of two from 2 to 1024.
    segments:
        That a list can hold, a power of two from 2 to 64.
    engines:
        1 to 4, with 3 searches at a time each. If there are several, each has a copy of the starts, and the reads
        have one.

    Members
    -------
    post:
        Append a segment. Ready when it is applied: searches taken in a later cycle see it; so with the other updates.
    refused:
        With ``post.ready``: the list is full, the length is 0 or 2**31 or more, or it begins before the end of the
        last of its list; nothing was changed.
    retire:
        Take segments from the head of a list, up to all.
    clear:
        Empty the list of a flow.
    search:
        A position in the list of a flow.
    found:
        Where to look (:func:`~rackgate.zeronic.tables.search.found_layout`), in the order of searches.
    read, place:
        Strobe: read a segment.
    segment:
        It, 2 cycles later.
    ready:
        The lists have been emptied after reset. Before that nothing is taken.
    """

    post: stream.Interface
    retire: stream.Interface
    clear: stream.Interface
    search: stream.Interface
    found: stream.Interface

    def __init__(self, flows: int, segments: int, *, engines: int = 1):
        self.flows, self.segments = check_lists(flows, segments)
        self.engines = operator.index(engines)
        if self.engines not in ENGINES:
            raise ValueError(f"engines must be one of {ENGINES}, not {engines}")
        self._flow_bits = exact_log2(self.flows)
        places = self.flows * self.segments
        super().__init__({
            "post": In(stream.Signature(PostUpdate)), "refused": Out(1),
            "retire": In(stream.Signature(RetireUpdate)),
            "clear": In(stream.Signature(FLOW_BITS)),
            "search": In(stream.Signature(data.StructLayout({"flow": FLOW_BITS, "position": 32}))),
            "found": Out(stream.Signature(found_layout(self.flows, self.segments))),
            "read": In(1), "place": In(range(places)), "segment": Out(Segment),
            "ready": Out(1),
        })
        self._engines = [SegmentSearch(self.flows, self.segments, turn=turn) for turn in range(self.engines)]
        # By flow: which segments are in its list; where the last one ends, if there is one.
        self._span = data.StructLayout({"head": range(self.segments), "count": range(self.segments + 1)})
        self._spans = Memory(shape=self._span, depth=self.flows, init=[])
        self._ends = Memory(shape=32, depth=self.flows, init=[])
        # By place: each engine has its own port to the starts.
        self._starts = Memory(shape=32, depth=places, init=[])
        self._details = Memory(shape=31 + REGION_BITS + ADDRESS_BITS, depth=places, init=[])
        self._sought = Queue(sought_layout(self.flows, self.segments), depth=_UNDER_WAY)
        self._answers = Queue(self.found.payload.shape(), depth=_UNDER_WAY)
        # Searches under way, and those of them that a retired segment may still matter to.
        self._under_way, self._older = Signal(range(_UNDER_WAY + 1)), Signal(range(_UNDER_WAY + 1))
        self._has_room = Signal()  # for one more
        # An update: whose list, what is there, what becomes of it.
        self._flow, self._old, self._new = Signal(range(self.flows)), Signal(self._span), Signal(self._span)
        self._end, self._new_end, self._is_refused = Signal(32), Signal(32), Signal()

    def elaborate(self, platform):
        m = Module()
        for name in ("spans", "ends", "starts", "details"):
            m.submodules[name] = getattr(self, f"_{name}")
        takes, leaves, retires = Signal(), Signal(), Signal()
        under_way = Signal.like(self._under_way)
        m.d.comb += [
            takes.eq(self.search.valid & self.search.ready),
            under_way.eq(self._under_way - leaves),
            retires.eq(self.retire.ready | self.clear.ready),
        ]
        m.d.sync += [
            self._under_way.eq(under_way + takes),
            # Known a cycle ahead to keep the path short.
            self._has_room.eq(self._under_way + self._answers.level + takes < _UNDER_WAY),
        ]
        with m.If(retires):
            m.d.sync += self._older.eq(under_way + takes)
        with m.Elif(leaves & (self._older != 0)):
            m.d.sync += self._older.eq(self._older - 1)
        self._update(m)
        self._connect_engines(m, self._prepare(m), leaves)
        self._connect_memory(m)
        return m

    def _update(self, m):
        """Apply one update after the other."""
        write, write_end = self._spans.write_port(), self._ends.write_port()
        span, end = self._spans.read_port(), self._ends.read_port()
        old, new, post, retire = self._old, self._new, self.post.payload, self.retire.payload
        kinds = {"clear": Signal(name="is_clear"), "retire": Signal(name="is_retire"), "post": Signal(name="is_post")}
        m.d.comb += [
            *(port.addr.eq(self._flow) for port in (write, write_end, span, end)),
            write.data.eq(new), write_end.data.eq(self._new_end),
        ]
        with m.FSM():
            with m.State("CLEAR"):  # after reset
                m.d.comb += [write.en.eq(1), write.data.eq(0)]
                m.d.sync += self._flow.eq(self._flow + 1)
                with m.If(self._flow == self.flows - 1):
                    m.d.sync += self.ready.eq(1)
                    m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.sync += [
                    kinds["clear"].eq(self.clear.valid),
                    kinds["retire"].eq(self.retire.valid & ~self.clear.valid),
                    kinds["post"].eq(self.post.valid & ~self.retire.valid & ~self.clear.valid),
                    self._flow.eq(Mux(self.clear.valid, self.clear.payload,
                                      Mux(self.retire.valid, retire.flow, post.flow))),
                ]
                with m.If(self.clear.valid | self.retire.valid | self.post.valid & (self._older == 0)):
                    m.next = "READ"
            with m.State("READ"):
                m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += [old.eq(span.data), self._end.eq(end.data)]
                m.next = "JUDGE"
            with m.State("JUDGE"):
                taken = Mux(retire.count < old.count, retire.count, old.count)
                is_before = (post.start - self._end)[31]
                m.d.sync += [
                    self._is_refused.eq((old.count == self.segments) | (post.length == 0) | post.length[31]
                                        | (old.count != 0) & is_before),
                    self._new_end.eq(post.start + post.length),
                    new.eq(0),
                ]
                with m.If(kinds["retire"]):
                    m.d.sync += [new.head.eq(old.head + taken), new.count.eq(old.count - taken)]
                with m.If(kinds["post"]):
                    m.d.sync += [new.head.eq(old.head), new.count.eq(old.count + 1)]
                m.next = "APPLY"
            with m.State("APPLY"):
                is_kept = ~(kinds["post"] & self._is_refused)
                m.d.comb += [
                    self.clear.ready.eq(kinds["clear"]), self.retire.ready.eq(kinds["retire"]),
                    self.post.ready.eq(kinds["post"]), self.refused.eq(~is_kept),
                    write.en.eq(is_kept), write_end.en.eq(kinds["post"] & is_kept),
                ]
                self._append(m, kinds["post"] & is_kept)
                m.next = "CHOOSE"

    def _append(self, m, enable):
        """Write a segment behind the last one."""
        start, details, post, number = (self._starts.write_port(), self._details.write_port(), self.post.payload,
                                        Signal(range(self.segments)))
        m.d.comb += [
            number.eq(self._old.head + self._old.count),
            *(port.addr.eq(Cat(number, self._flow)) for port in (start, details)),
            *(port.en.eq(enable) for port in (start, details)),
            start.data.eq(post.start),
            details.data.eq(Cat(post.length[:31], post.region, post.offset)),
        ]

    def _prepare(self, m) -> stream.Interface:
        """See which segments a flow has; what is known then waits for an engine, and always finds room."""
        m.submodules.sought = sought = self._sought
        flow, position, is_looking, port = Signal(range(self.flows)), Signal(32), Signal(), self._spans.read_port()
        m.d.comb += [
            self.search.ready.eq(self.ready & self._has_room),
            port.addr.eq(self.search.payload.flow),
            sought.i.valid.eq(is_looking),
            sought.i.payload.flow.eq(flow), sought.i.payload.position.eq(position),
            sought.i.payload.head.eq(port.data.head), sought.i.payload.count.eq(port.data.count),
        ]
        m.d.sync += [
            is_looking.eq(self.search.valid & self.search.ready),
            flow.eq(self.search.payload.flow), position.eq(self.search.payload.position),
            Assert(~is_looking | sought.i.ready, "a search finds no room"),
        ]
        return sought.o

    def _connect_engines(self, m, sought, leaves):
        """The engines get searches in turn, and give their answers in turn, which always find room."""
        m.submodules += self._engines
        m.submodules.answers = answers = self._answers
        enters, gives = Signal(range(self.engines)), Signal(range(self.engines))
        inputs, outputs = [engine.i for engine in self._engines], [engine.o for engine in self._engines]
        wiring.connect(m, answers.o, wiring.flipped(self.found))
        m.d.comb += [
            sought.ready.eq(Array(port.ready for port in inputs)[enters]),
            answers.i.valid.eq(Array(port.valid for port in outputs)[gives]),
            answers.i.payload.eq(Array(port.payload for port in outputs)[gives]),
            leaves.eq(answers.i.valid),
        ]
        for index, (given, answer) in enumerate(zip(inputs, outputs, strict=True)):
            m.d.comb += [
                given.payload.eq(sought.payload), given.valid.eq(sought.valid & (enters == index)),
                answer.ready.eq(gives == index),
            ]
        with m.If(sought.valid & sought.ready):
            m.d.sync += enters.eq(Mux(enters == self.engines - 1, 0, enters + 1))
        with m.If(leaves):
            m.d.sync += gives.eq(Mux(gives == self.engines - 1, 0, gives + 1))
        m.d.sync += Assert(~answers.i.valid | answers.i.ready, "an answer finds no room")

    def _connect_memory(self, m):
        """A port to the starts for each engine; reads have one of their own, or the only engine's."""
        details = self._details.read_port()
        m.d.comb += details.addr.eq(self.place)
        for engine in self._engines:
            starts = self._starts.read_port()
            m.d.comb += [starts.addr.eq(engine.place), engine.start.eq(starts.data)]
        if self.engines == 1:
            m.d.comb += engine.denied.eq(self.read)
            with m.If(self.read):
                m.d.comb += starts.addr.eq(self.place)
        else:
            starts = self._starts.read_port()
            m.d.comb += starts.addr.eq(self.place)
        m.d.sync += self.segment.eq(Cat(starts.data, details.data))
