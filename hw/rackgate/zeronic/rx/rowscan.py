# SPDX-License-Identifier: Apache-2.0
"""Compare a position with rows of intervals: which one it touches, and which one follows."""

import operator

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

__all__ = ["RowScan", "before", "found_interval", "row_layout"]


def before(a, b):
    """Whether position ``a`` is before position ``b``, by the sign of their difference."""
    return (a - b)[len(b) - 1]


def row_layout(row: int, position_bits: int) -> data.ArrayLayout:
    """A row of intervals: the start of each, behind it the position behind its last byte."""
    return data.ArrayLayout(position_bits, 2 * row)


def found_interval(intervals: int, position_bits: int) -> data.StructLayout:
    """An interval, if there is one, and its place."""
    return data.StructLayout({"valid": 1, "start": position_bits, "end": position_bits, "place": range(intervals)})


class RowScan(wiring.Component):
    """Find two intervals of those in some rows, with regard to ``mark``: ``left``, which begins at or before it and
    ends at or behind it; ``right``, the first that begins behind it.

    The intervals must neither overlap nor touch each other, and must begin, as must ``mark``, within 2**31 bytes: so
    there is one ``left`` at most. A row a cycle, in any order; ``left`` is right 2 cycles after the last row came,
    ``right`` 2 cycles and as many as the levels of a tournament later. Reset forgets the rows.

    Parameters
    ----------
    intervals:
        Number of intervals, a multiple of ``row``.
    row:
        Intervals in a row, a power of two up to 16.
    position_bits:
        Bits of a position, 32; fewer for proofs.

    Members
    -------
    clear:
        Forget what was found.
    mark:
        The position, until all is found.
    valid, row, number, used:
        A row comes: its intervals, its number, and which of them count.
    is_busy:
        A row is on its way.
    left, right:
        What was found (:func:`found_interval`).
    begins:
        Bit per interval that came: it begins at or before ``mark``.
    """

    def __init__(self, intervals: int, *, row: int, position_bits: int):
        self.intervals, self.row = operator.index(intervals), operator.index(row)
        found = found_interval(self.intervals, position_bits)
        self._position_bits, self._levels = position_bits, exact_log2(self.row)
        self._rows = self.intervals // self.row
        super().__init__({
            "clear": In(1), "mark": In(position_bits),
            "valid": In(1), "intervals_in": In(row_layout(self.row, position_bits)), "number": In(range(self._rows)),
            "used": In(self.row),
            "is_busy": Out(1), "left": Out(found), "right": Out(found), "begins": Out(self.intervals),
        })

    def elaborate(self, platform):
        m = Module()
        found = self.left.shape()
        stages = Signal(self._levels + 2)  # bit per stage: it holds something
        m.d.sync += stages.eq(Cat(self.valid, stages))
        m.d.comb += self.is_busy.eq((stages != 0) | self.valid)

        # First stage: two comparisons of each interval.
        candidates = [Signal(found, name=f"candidate_{lane}") for lane in range(self.row)]
        is_left, begins, number = Signal(self.row), Signal(self.row), Signal(range(self._rows))
        for lane, candidate in enumerate(candidates):
            start, end = self.intervals_in[2 * lane], self.intervals_in[2 * lane + 1]
            place = Signal(found["place"].shape, name=f"place_{lane}")
            begins_now = self.used[lane] & ~before(self.mark, start)
            m.d.comb += place.eq(self.number * self.row + lane)
            m.d.sync += [
                candidate.start.eq(start), candidate.end.eq(end), candidate.place.eq(place),
                candidate.valid.eq(self.used[lane] & before(self.mark, start)),
                is_left[lane].eq(begins_now & ~before(end, self.mark)), begins[lane].eq(begins_now),
            ]
        m.d.sync += number.eq(self.number)

        # Second stage: the only left one; the tournament of those that follow begins.
        with m.If(stages[0]):
            m.d.sync += self.begins.word_select(number, self.row).eq(begins)
            for lane, candidate in enumerate(candidates):
                with m.If(is_left[lane]):
                    m.d.sync += [self.left.eq(candidate), self.left.valid.eq(1)]
        for level in range(self._levels):
            winners = [Signal(found, name=f"winner_{level}_{pair}") for pair in range(len(candidates) // 2)]
            for pair, winner in enumerate(winners):
                m.d.sync += winner.eq(_first(candidates[2 * pair], candidates[2 * pair + 1]))
            candidates = winners
        with m.If(stages[self._levels]):
            m.d.sync += self.right.eq(_first(candidates[0], self.right))
        with m.If(self.clear):
            m.d.sync += [self.left.valid.eq(0), self.right.valid.eq(0), self.begins.eq(0)]
        return m


def _first(a, b):
    """The interval that begins first."""
    takes_a = a.valid & (~b.valid | before(a.start, b.start))
    return Mux(takes_a, a.as_value(), b.as_value())
