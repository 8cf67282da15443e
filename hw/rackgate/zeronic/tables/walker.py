# SPDX-License-Identifier: Apache-2.0
"""From segment to segment along a range of a stream."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.records import ADDRESS_BITS, FLOW_BITS, LENGTH_BITS, REGION_BITS
from rackgate.zeronic.tables.search import check_lists, found_layout
from rackgate.zeronic.tables.segments import Segment

__all__ = ["Stretch", "Walker", "walk_layout"]


class Stretch(data.Struct):
    """``size`` bytes from ``position`` on are at ``offset`` of ``region``; if the size is 0, the rest means nothing.

    ``last`` ends the range, and only then the size may be 0; ``missing``: the next byte is in no segment. The offset
    has a bit more than that of a segment: it may be beyond all memory.
    """

    flow: FLOW_BITS
    position: 32
    size: LENGTH_BITS
    region: REGION_BITS
    offset: ADDRESS_BITS + 1
    last: 1
    missing: 1


def walk_layout(flows: int, segments: int) -> data.StructLayout:
    """A range of a stream, and where its first byte may be."""
    return data.StructLayout({"position": 32, "size": LENGTH_BITS, "found": found_layout(flows, segments)})


class Walker(wiring.Component):
    """Cut a range of a stream at the borders of its segments, up to the first byte that is in none.

    Each segment that is read, and so each stretch, takes 5 cycles, and more while ``granted`` is low or two stretches
    wait at ``o``; the first comes 6 cycles after the range. ``i.ready`` depends on no input. Whether a byte is in a
    segment is told by what is read, and nothing else. Reset forgets the range.

    Parameters
    ----------
    flows, segments:
        Numbers of lists, and of segments in each: powers of two.

    Members
    -------
    i:
        Ranges (:func:`walk_layout`).
    o:
        Stretches of each, contiguous from its position on.
    read, place:
        A segment is wanted.
    granted:
        It is read in this cycle.
    segment:
        It, 2 cycles later.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, flows: int, segments: int):
        self.flows, self.segments = check_lists(flows, segments)
        self._range = Signal(walk_layout(self.flows, self.segments))
        super().__init__({
            "i": In(stream.Signature(walk_layout(self.flows, self.segments))),
            "o": Out(stream.Signature(Stretch)),
            "read": Out(1), "place": Out(range(self.flows * self.segments)), "granted": In(1), "segment": In(Segment),
        })
        # Of the segment that was read: bytes before the position, and behind it; whether the position is in it.
        self._before, self._length, self._behind, self._is_inside = Signal(32), Signal(31), Signal(31), Signal()
        self._region, self._offset = Signal(REGION_BITS), Signal(ADDRESS_BITS + 1)
        # Behind a stretch the next range is taken: whether that goes on must not depend on all that follows.
        self._given = SkidBuffer(Stretch)

    def elaborate(self, platform):
        m = Module()
        wanted, segment = self._range, self.segment
        m.submodules.given = given = self._given
        wiring.connect(m, given.o, wiring.flipped(self.o))
        m.d.comb += self.place.eq(wanted.found.place)
        with m.FSM():
            with m.State("IDLE"):
                self._accept(m)
            with m.State("READ"):
                m.d.comb += self.read.eq(1)
                with m.If(self.granted):
                    m.next = "MEMORY"
            with m.State("MEMORY"):
                m.next = "BEFORE"
            with m.State("BEFORE"):
                m.d.sync += [
                    self._before.eq(wanted.position - segment.start), self._length.eq(segment.length),
                    self._region.eq(segment.region), self._offset.eq(segment.offset),
                ]
                m.next = "BEHIND"
            with m.State("BEHIND"):
                m.d.sync += [
                    self._is_inside.eq((self._before < self._length) & ~wanted.found.none),
                    self._behind.eq(self._length - self._before), self._offset.eq(self._offset + self._before),
                ]
                m.next = "GIVE"
            with m.State("GIVE"):
                self._give(m, given.i)
        return m

    def _accept(self, m):
        m.d.comb += self.i.ready.eq(1)
        m.d.sync += self._range.eq(self.i.payload)
        with m.If(self.i.valid):
            m.next = "READ"
        with m.Else():
            m.next = "IDLE"

    def _give(self, m, given):
        """A stretch, and on to the next segment, or to the next range."""
        wanted, stretch, found = self._range, given.payload, self._range.found
        has_all, number = Signal(), Signal(range(self.segments))
        bits = exact_log2(self.segments)
        m.d.comb += [
            has_all.eq((wanted.size == 0) | self._is_inside & (wanted.size <= self._behind)),
            number.eq(found.place[:bits] + 1),
            given.valid.eq(1),
            stretch.flow.eq(found.place[bits:]), stretch.position.eq(wanted.position),
            stretch.size.eq(Mux(has_all, wanted.size, Mux(self._is_inside, self._behind, 0))),
            stretch.region.eq(self._region), stretch.offset.eq(self._offset),
            stretch.last.eq(has_all | ~self._is_inside | (found.left == 0)), stretch.missing.eq(~has_all),
        ]
        with m.If(given.ready):
            m.d.sync += [
                wanted.position.eq(wanted.position + self._behind), wanted.size.eq(wanted.size - self._behind),
                found.place.eq(Cat(number, found.place[bits:])), found.left.eq(found.left - 1),
            ]
            m.next = "READ"
            with m.If(stretch.last):
                self._accept(m)
