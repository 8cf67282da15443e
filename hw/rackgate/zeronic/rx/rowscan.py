# SPDX-License-Identifier: Apache-2.0
"""Compare a position with rows of intervals: which one it touches, and which one follows."""

import operator
from functools import reduce
from operator import or_

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
    """Find two intervals of those in some rows, with regard to a range from ``mark`` to before ``end``: ``left``, which
    begins at or before the mark and ends at or behind it; ``right``, the first that begins behind the mark and not
    behind the end.

    The intervals must neither overlap nor touch each other, and must begin, as must ``mark``, within 2**31 bytes: so
    there is one ``left`` at most. A row a cycle, in any order; what was found is right 2 cycles after the last row
    came, but for ``right`` while ``is_ranking``: several begin in the range, and a tournament looks for the first. It
    takes 2 cycles and as many as it has levels. Reset forgets the rows.

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
        Forget what was found and what is on its way; no row comes in this cycle.
    mark, end:
        The range, from when the first row comes until all is found.
    valid, row, number, used:
        A row comes: its intervals, its number, and which of them count.
    is_ranking:
        See above.
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
            "clear": In(1), "mark": In(position_bits), "end": In(position_bits),
            "valid": In(1), "intervals_in": In(row_layout(self.row, position_bits)), "number": In(range(self._rows)),
            "used": In(self.row),
            "is_ranking": Out(1), "left": Out(found), "right": Out(found), "begins": Out(self.intervals),
        })

    def elaborate(self, platform):
        m = Module()
        found = self.left.shape()
        stages = Signal(self._levels + 2)  # bit per stage behind the first: it holds a row
        with m.If(self.clear):
            m.d.sync += stages.eq(0)
        with m.Else():
            m.d.sync += stages.eq(Cat(self.valid, stages))

        # First stage: three comparisons of each interval.
        candidates = [Signal(found, name=f"candidate_{lane}") for lane in range(self.row)]
        is_left, begins, number = Signal(self.row), Signal(self.row), Signal(range(self._rows))
        for lane, candidate in enumerate(candidates):
            start, end = self.intervals_in[2 * lane], self.intervals_in[2 * lane + 1]
            place = Signal(found["place"].shape, name=f"place_{lane}")
            begins_now = self.used[lane] & ~before(self.mark, start)
            m.d.comb += place.eq(self.number * self.row + lane)
            m.d.sync += [
                candidate.start.eq(start), candidate.end.eq(end), candidate.place.eq(place),
                candidate.valid.eq(self.used[lane] & before(self.mark, start) & ~before(self.end, start)),
                is_left[lane].eq(begins_now & ~before(end, self.mark)), begins[lane].eq(begins_now),
            ]
        m.d.sync += number.eq(self.number)

        # Second stage: the only left one, and the only right one, if there are not more.
        is_right, is_many = Cat(candidate.valid for candidate in candidates), Signal()
        with m.If(stages[0]):
            m.d.sync += self.begins.word_select(number, self.row).eq(begins)
            with m.If(is_left.any()):
                m.d.sync += [self.left.eq(_chosen(candidates, is_left)), self.left.valid.eq(1)]
            with m.If(is_right.any()):
                m.d.sync += [
                    self.right.eq(_chosen(candidates, is_right)), self.right.valid.eq(1),
                    is_many.eq(is_many | self.right.valid | (is_right & (is_right - 1)).any()),
                ]
        self._rank(m, candidates, stages, is_many)
        with m.If(self.clear):
            m.d.sync += [self.left.valid.eq(0), self.right.valid.eq(0), self.begins.eq(0), is_many.eq(0)]
        return m

    def _rank(self, m, candidates, stages, is_many):
        """The tournament of a row, and the first of all rows."""
        first = Signal(candidates[0].shape())
        for level in range(self._levels):
            winners = [Signal(first.shape(), name=f"winner_{level}_{pair}") for pair in range(len(candidates) // 2)]
            for pair, winner in enumerate(winners):
                m.d.sync += winner.eq(_first(candidates[2 * pair], candidates[2 * pair + 1]))
            candidates = winners
        with m.If(stages[self._levels]):
            m.d.sync += first.eq(_first(candidates[0], first))
        with m.If(stages[self._levels + 1] & is_many):
            m.d.sync += self.right.eq(first)
        with m.If(self.clear):
            m.d.sync += first.valid.eq(0)
        m.d.comb += self.is_ranking.eq(is_many & stages[1:].any())


def _chosen(intervals, bits):
    """The one whose bit is set."""
    return reduce(or_, (Mux(bit, interval.as_value(), 0) for interval, bit in zip(intervals, bits, strict=True)))


def _first(a, b):
    """The interval that begins first."""
    takes_a = a.valid & (~b.valid | before(a.start, b.start))
    return Mux(takes_a, a.as_value(), b.as_value())
