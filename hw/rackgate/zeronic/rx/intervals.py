# SPDX-License-Identifier: Apache-2.0
"""Ranges of a stream that have been placed ahead of the first gap."""

import operator

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.records import LENGTH_BITS
from rackgate.zeronic.rx.rowscan import RowScan, before, row_layout

__all__ = ["Intervals", "change_layout", "outcome_layout"]


def change_layout(flows: int, intervals: int, position_bits: int = 32) -> data.StructLayout:
    """What is to be done with a flow's intervals, of which those in ``used`` count and all begin behind ``low``.

    Without ``raises``: as much as possible of the range from ``mark`` to ``end`` is to be placed; it is not empty.
    ``at_low``: ``mark`` is ``low``. With it: all before ``mark``, which is behind ``low``, is done with.
    """
    return data.StructLayout({"raises": 1, "flow": range(flows), "used": intervals, "low": position_bits,
                              "mark": position_bits, "end": position_bits, "at_low": 1})


def outcome_layout(intervals: int, position_bits: int = 32) -> data.StructLayout:
    """What came of it: which intervals count now, all of which begin behind ``low``.

    Of a range: ``size`` bytes from ``first`` on may be placed, if any; it ``moved`` its begin behind what had been
    placed; it was ``cut`` where something had been. ``no_room``: nothing may be, as there is no place for an interval.
    """
    return data.StructLayout({"used": intervals, "low": position_bits, "first": position_bits, "size": LENGTH_BITS,
                              "moved": 1, "cut": 1, "no_room": 1})


class Intervals(wiring.Component):
    """Keep intervals of placed bytes, which neither overlap nor touch each other.

    A range that may be placed is merged with the intervals it touches, or with all from the cursor to ``low``. Whose
    intervals count is kept by the user, who hands it in and gets it back; here are only their positions. So it is
    enough to forget ``used`` to empty them, and reset does nothing to the memory.

    A change takes 8 cycles, as many more as the levels of a tournament of a row (3 for 8), and one for each row in
    which intervals are used; 4 if there is none.

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
    i:
        A change (:func:`change_layout`).
    o:
        What came of it (:func:`outcome_layout`).
    """

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
            "i": In(stream.Signature(change_layout(self.flows, self.intervals, position_bits))),
            "o": Out(stream.Signature(outcome_layout(self.intervals, position_bits))),
        })
        self._scan = RowScan(self.intervals, row=self.row, position_bits=position_bits)
        self._memory = Memory(shape=row_layout(self.row, position_bits), depth=self.flows * self._rows, init=[])
        self._change = Signal(change_layout(self.flows, self.intervals, position_bits))
        self._left_over = Signal(self._rows)  # rows to be read
        # Of a range: it reaches the interval on its right; bytes of it, and up to that interval.
        self._reaches, self._size, self._room = Signal(), Signal(position_bits), Signal(position_bits)
        self._moves, self._is_cut = Signal(), Signal()
        self._is_reading = Signal()  # a row is in the memory's output

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory, m.submodules.scan = self._memory, self._scan
        change, scan = self._change, self._scan
        self._read(m)
        first = Signal.like(change.mark)
        m.d.comb += [
            scan.mark.eq(change.mark),
            first.eq(Mux(scan.left.valid, scan.left.end, change.mark)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.i.ready.eq(~self.o.valid), scan.clear.eq(1)]
                m.d.sync += change.eq(self.i.payload)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += self._left_over.eq(Cat(self.i.payload.used.word_select(number, self.row).any()
                                                       for number in range(self._rows)))
                    m.next = "SCAN"
            with m.State("SCAN"):
                with m.If((self._left_over == 0) & ~self._is_reading & ~scan.is_busy):
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += [
                    self._reaches.eq(scan.right.valid & ~before(change.end, scan.right.start)),
                    self._moves.eq(scan.left.valid & (scan.left.end != change.mark)),
                    self._is_cut.eq(change.end != scan.right.start),
                    self._size.eq(change.end - first), self._room.eq(scan.right.start - first),
                ]
                m.next = "APPLY"
            with m.State("APPLY"):
                m.d.sync += self.o.valid.eq(1)
                with m.If(change.raises):
                    self._raise(m)
                with m.Else():
                    self._place(m, first)
                m.next = "IDLE"
        return m

    def _read(self, m):
        """Read rows that are used, one a cycle; the memory's output passes a register."""
        port, scan = self._memory.read_port(), self._scan
        number, was_number = Signal(range(self._rows)), Signal(range(self._rows))
        for row in reversed(range(self._rows)):
            with m.If(self._left_over[row]):
                m.d.comb += number.eq(row)
        m.d.comb += port.addr.eq(self._change.flow * self._rows + number)
        m.d.sync += [
            self._is_reading.eq(self._left_over != 0), was_number.eq(number),
            scan.valid.eq(self._is_reading), scan.number.eq(was_number), scan.intervals_in.eq(port.data),
            scan.used.eq(self._change.used.word_select(was_number, self.row)),
        ]
        with m.If(self._left_over != 0):
            m.d.sync += self._left_over.eq(self._left_over & (self._left_over - 1))

    def _raise(self, m):
        """Drop what begins before the mark; what covers it is placed from there on."""
        scan = self._scan
        m.d.sync += [
            self.o.payload.low.eq(Mux(scan.left.valid, scan.left.end, self._change.mark)),
            self.o.payload.used.eq(self._change.used & ~scan.begins),
        ]

    def _place(self, m, first):
        """Merge what may be placed with the intervals on both sides, or find a place for it."""
        change, left, right, o = self._change, self._scan.left, self._scan.right, self.o.payload
        is_some, end, place, kept = Signal(), Signal.like(change.end), Signal.like(left.place), Signal(self.intervals)
        unused, place_bit = Signal.like(left.place), Signal(self.intervals)
        for number in reversed(range(self.intervals)):
            with m.If(~change.used[number]):
                m.d.comb += unused.eq(number)
        m.d.comb += [
            is_some.eq(self._reaches | ~self._size[-1] & (self._size != 0)),
            end.eq(Mux(self._reaches, right.end, change.end)),
            kept.eq(change.used),
            place.eq(Mux(left.valid, left.place, Mux(self._reaches, right.place, unused))),
            place_bit.eq(1 << place),
        ]
        m.d.sync += [
            o.used.eq(change.used), o.low.eq(change.low), o.first.eq(first), o.size.eq(0),
            o.moved.eq(self._moves), o.cut.eq(self._reaches & self._is_cut), o.no_room.eq(0),
        ]
        writes_start, writes_end = Signal(), Signal()
        with m.If(is_some):
            m.d.sync += [o.size.eq(Mux(self._reaches, self._room, self._size)), o.used.eq(kept)]
            with m.If(self._reaches & (change.at_low | left.valid)):
                m.d.comb += kept.eq(change.used & ~(1 << right.place))
            with m.If(change.at_low):
                m.d.sync += o.low.eq(end)
            with m.Elif(left.valid):
                m.d.comb += writes_end.eq(1)
            with m.Elif(self._reaches):
                m.d.comb += writes_start.eq(1)
            with m.Elif(change.used.all()):
                m.d.sync += [o.size.eq(0), o.no_room.eq(1)]
            with m.Else():
                m.d.comb += [writes_start.eq(1), writes_end.eq(1), kept.eq(change.used | place_bit)]
        port = self._memory.write_port(granularity=1)
        m.d.comb += port.addr.eq(change.flow * self._rows + place // self.row)
        for lane in range(self.row):
            is_lane = (place % self.row == lane) if self.row > 1 else 1
            m.d.comb += [
                port.data[2 * lane].eq(first), port.en[2 * lane].eq(writes_start & is_lane),
                port.data[2 * lane + 1].eq(end), port.en[2 * lane + 1].eq(writes_end & is_lane),
            ]
