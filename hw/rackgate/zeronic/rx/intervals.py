# SPDX-License-Identifier: Apache-2.0
"""Ranges of a stream that have been placed ahead of the first gap."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.records import LENGTH_BITS
from rackgate.zeronic.rx.rowscan import RowScan, before, row_layout

__all__ = ["Intervals", "change_layout", "look_layout", "outcome_layout"]


def look_layout(flows: int, intervals: int) -> data.StructLayout:
    """Whose intervals are to be looked at, and which of them count."""
    return data.StructLayout({"flow": range(flows), "used": intervals})


def change_layout(position_bits: int = 32) -> data.StructLayout:
    """What is to be done with a flow's intervals, all of which begin behind ``low``.

    Without ``raises``: as much as possible of the range from ``mark`` to ``end`` is to be placed; it is not empty.
    ``at_low``: ``mark`` is ``low``. With it: all before ``mark``, which is behind ``low``, is done with.
    """
    return data.StructLayout({"raises": 1, "low": position_bits, "mark": position_bits, "end": position_bits,
                              "at_low": 1})


def outcome_layout(intervals: int, position_bits: int = 32) -> data.StructLayout:
    """What came of it: which intervals count now, all of which begin behind ``low``.

    Of a range: ``size`` bytes from ``first`` on may be placed, if any; ``is_all``: that is all of it. ``no_room``:
    nothing may be, as there is no place for an interval.
    """
    return data.StructLayout({"used": intervals, "low": position_bits, "first": position_bits, "size": LENGTH_BITS,
                              "is_all": 1, "no_room": 1})


class Intervals(wiring.Component):
    """Keep intervals of placed bytes, which neither overlap nor touch each other.

    A range that may be placed is merged with the intervals it touches, or with all from the cursor to ``low``. Whose
    intervals count is kept by the user, who hands it in and gets it back; here are only their positions. So it is
    enough to forget ``used`` to empty them, and reset does nothing to the memory.

    Rows are read from ``look`` on, while it is not yet known whether there is a change and what it is. A change takes 4
    cycles, and one for each row in which intervals are used; if the range reaches several of them, 2 cycles more and as
    many as the levels of a tournament of a row (3 for 8).

    Parameters
    ----------
    flows:
        Their number, a power of two.
    intervals:
        That each can have, a multiple of ``row``, up to 64; their number divided by ``row`` must be a power of two.
    row:
        How many are compared at the same time, a power of two up to 16.
    position_bits:
        Bits of a position, 32; fewer for proofs.

    Members
    -------
    look:
        The intervals of a flow (:func:`look_layout`). What was looked at before is forgotten; no change is under way.
    i:
        A change of them (:func:`change_layout`), in the cycle after ``look`` or not at all.
    o:
        What came of it (:func:`outcome_layout`).
    """

    look: stream.Interface
    i: stream.Interface
    o: stream.Interface

    def __init__(self, flows: int, intervals: int, *, row: int = 8, position_bits: int = 32):
        self.flows, self.intervals, self.row = operator.index(flows), operator.index(intervals), operator.index(row)
        if self.row & (self.row - 1) or not 1 <= self.row <= 16:
            raise ValueError(f"row must be a power of two up to 16, not {row}")
        self._rows, rest = divmod(self.intervals, self.row)
        if rest or self._rows & (self._rows - 1) or not self.row <= self.intervals <= 64:
            raise ValueError(f"intervals must be {self.row} times a power of two, up to 64, not {intervals}")
        super().__init__({
            "look": In(stream.Signature(look_layout(self.flows, self.intervals), always_ready=True)),
            "i": In(stream.Signature(change_layout(position_bits), always_ready=True)),
            "o": Out(stream.Signature(outcome_layout(self.intervals, position_bits))),
        })
        self._scan = RowScan(self.intervals, row=self.row, position_bits=position_bits)
        self._memory = Memory(shape=row_layout(self.row, position_bits), depth=self.flows * self._rows, init=[])
        self._looked, self._change = Signal(self.look.payload.shape()), Signal(self.i.payload.shape())
        self._left_over, self._is_reading = Signal(self._rows), Signal()  # rows to be read; one is in the output
        self._is_changing = Signal()
        # A place that is free, as a number and a bit.
        self._unused, self._unused_bit = Signal(range(self.intervals)), Signal(self.intervals)
        # Of a range: it is not empty, begins and ends as asked for; bytes of it, and up to the interval on its right.
        # Of the place to be written: its number; the bit of the interval on the right.
        self._is_some, self._is_same = Signal(), Signal()
        distance = min(position_bits, LENGTH_BITS)
        self._size, self._room = Signal(distance), Signal(distance)
        self._place, self._right_bit = Signal(range(self.intervals)), Signal(self.intervals)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory, m.submodules.scan = self._memory, self._scan
        change, scan = self._change, self._scan
        self._read(m)
        first = Signal.like(change.mark)
        m.d.comb += [
            scan.mark.eq(change.mark), scan.end.eq(change.end),
            first.eq(Mux(scan.left.valid, scan.left.end, change.mark)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += change.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "SCAN"
            with m.State("SCAN"):
                with m.If((self._left_over == 0) & ~self._is_reading & ~scan.valid):
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                self._compare(m, first)
                with m.If(~scan.is_ranking):
                    m.next = "APPLY"
            with m.State("APPLY"):
                m.d.sync += self.o.valid.eq(1)
                with m.If(change.raises):
                    self._raise(m)
                with m.Else():
                    self._place_range(m, first)
                m.next = "IDLE"
        m.d.comb += self._is_changing.eq(~fsm.ongoing("IDLE"))
        m.d.sync += Assert(~self.look.valid | ~self._is_changing & ~self.i.valid, "a look while there is a change")
        return m

    def _read(self, m):
        """Read rows that are used, one a cycle; the memory's output passes a register."""
        port, scan, look, looked = self._memory.read_port(), self._scan, self.look.payload, self._looked
        rows, flow = Signal(self._rows), Signal.like(look.flow)
        number, was_number = Signal(range(self._rows)), Signal(range(self._rows))
        m.d.comb += [rows.eq(self._left_over), flow.eq(looked.flow)]
        with m.If(self.look.valid):
            m.d.sync += looked.eq(look)
            m.d.comb += [
                rows.eq(Cat(look.used.word_select(row, self.row).any() for row in range(self._rows))),
                flow.eq(look.flow),
            ]
        for row in reversed(range(self._rows)):
            with m.If(rows[row]):
                m.d.comb += number.eq(row)
        m.d.comb += port.addr.eq(flow * self._rows + number)
        m.d.sync += [
            self._left_over.eq(rows & (rows - 1)), self._is_reading.eq(rows != 0), was_number.eq(number),
            scan.valid.eq(self._is_reading & ~self.look.valid), scan.number.eq(was_number),
            scan.intervals_in.eq(port.data), scan.used.eq(looked.used.word_select(was_number, self.row)),
            scan.clear.eq(self.look.valid),
        ]
        for number in reversed(range(self.intervals)):
            with m.If(~looked.used[number]):
                m.d.sync += [self._unused.eq(number), self._unused_bit.eq(1 << number)]

    def _compare(self, m, first):
        """What the intervals on both sides mean for a range."""
        change, left, right = self._change, self._scan.left, self._scan.right
        m.d.sync += [
            self._is_some.eq(right.valid | before(first, change.end)),
            self._is_same.eq((~left.valid | (left.end == change.mark)) & (~right.valid | (right.start == change.end))),
            self._size.eq(change.end - first), self._room.eq(right.start - first),
            self._place.eq(Mux(left.valid, left.place, Mux(right.valid, right.place, self._unused))),
            self._right_bit.eq(1 << right.place),
        ]

    def _raise(self, m):
        """Drop what begins before the mark; what covers it is placed from there on."""
        scan = self._scan
        m.d.sync += [
            self.o.payload.low.eq(Mux(scan.left.valid, scan.left.end, self._change.mark)),
            self.o.payload.used.eq(self._looked.used & ~scan.begins),
        ]

    def _place_range(self, m, first):
        """Merge what may be placed with the intervals on both sides, or find a place for it."""
        change, left, right, used, o = (self._change, self._scan.left, self._scan.right, self._looked.used,
                                        self.o.payload)
        end, writes_start, writes_end = Signal.like(change.end), Signal(), Signal()
        m.d.comb += end.eq(Mux(right.valid, right.end, change.end))
        m.d.sync += [
            o.used.eq(used), o.low.eq(change.low), o.first.eq(first), o.size.eq(0), o.is_all.eq(0), o.no_room.eq(0),
        ]
        with m.If(self._is_some):
            m.d.sync += [o.size.eq(Mux(right.valid, self._room, self._size)), o.is_all.eq(self._is_same)]
            with m.If(right.valid & (change.at_low | left.valid)):
                m.d.sync += o.used.eq(used & ~self._right_bit)
            with m.If(change.at_low):
                m.d.sync += o.low.eq(end)
            with m.Elif(left.valid):
                m.d.comb += writes_end.eq(1)
            with m.Elif(right.valid):
                m.d.comb += writes_start.eq(1)
            with m.Elif(used.all()):
                m.d.sync += [o.size.eq(0), o.is_all.eq(0), o.no_room.eq(1)]
            with m.Else():
                m.d.comb += [writes_start.eq(1), writes_end.eq(1)]
                m.d.sync += o.used.eq(used | self._unused_bit)
        port, place = self._memory.write_port(granularity=1), self._place
        m.d.comb += port.addr.eq(self._looked.flow * self._rows + place // self.row)
        for lane in range(self.row):
            is_lane = (place % self.row == lane) if self.row > 1 else 1
            m.d.comb += [
                port.data[2 * lane].eq(first), port.en[2 * lane].eq(writes_start & is_lane),
                port.data[2 * lane + 1].eq(end), port.en[2 * lane + 1].eq(writes_end & is_lane),
            ]
