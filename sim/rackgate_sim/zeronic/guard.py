# SPDX-License-Identifier: Apache-2.0
"""At most once: which bytes of a flow may still be written (rule 9 of ``rackgate.zeronic.abi``)."""

from typing import NamedTuple

__all__ = ["FlowGuard", "Judged"]


class Judged(NamedTuple):
    """How much of a frame may be written: ``size`` bytes from ``offset`` of its payload on.

    ``whole``: all other bytes are before the cursor. ``old``: some are. ``conflict``, ``no_interval``: why not all of
    what is covered may be written.
    """

    offset: int
    size: int
    whole: bool
    old: bool
    conflict: bool = False
    no_interval: bool = False


class FlowGuard:
    """Cursor and placed intervals of one flow.

    Inside, positions are integers that do not wrap; those given are modulo 2**32. One 2**31 or more beyond the cursor
    counts as before it; what is covered and runs from behind the cursor to such a position is not granted.

    Parameters
    ----------
    cursor:
        Where it begins.
    limit:
        Intervals that can be remembered, besides one that begins at the cursor.
    """

    def __init__(self, cursor: int, limit: int) -> None:
        self._cursor = cursor
        self._limit = limit
        self._intervals: list[range] = []  # in order, with gaps between them

    @property
    def cursor(self) -> int:
        """Position of the first byte that may be written."""
        return self._cursor % (1 << 32)

    def _unwrapped(self, position: int) -> int:
        distance = (position - self._cursor) % (1 << 32)
        return self._cursor + (distance if distance < 1 << 31 else distance - (1 << 32))

    def advance(self, position: int) -> None:
        """Move the cursor, if that is forward, and forget what is before it."""
        self._cursor = max(self._cursor, self._unwrapped(position))
        cut = (range(max(one.start, self._cursor), one.stop) for one in self._intervals)
        self._intervals = [one for one in cut if one]

    def judge(self, position: int, size: int, covered: int) -> Judged:
        """Decide on a frame of ``size`` > 0 bytes at ``position``, and remember what is granted.

        ``covered``: so many bytes, from the first that is not before the cursor on, have a place in memory.
        """
        begin = self._unwrapped(position)
        end = begin + size
        first = min(max(begin, self._cursor), end)
        is_old = begin < self._cursor
        if first == end:
            return Judged(0, 0, whole=True, old=is_old)
        if covered and first + covered - self._cursor >= 1 << 31:
            return Judged(0, 0, False, is_old, conflict=True)
        start, stop = first, first + covered
        for one in self._intervals:
            if start in one:
                start = min(one.stop, stop)
        for one in self._intervals:
            if start < one.start < stop:
                stop = one.start
        has_conflict = stop - start < covered
        if start == stop:
            return Judged(0, 0, False, is_old, has_conflict)
        united = self._united(range(start, stop))
        if sum(one.start > self._cursor for one in united) > self._limit:
            return Judged(0, 0, False, is_old, no_interval=True)
        self._intervals = united
        return Judged(start - begin, stop - start, (start, stop) == (first, end), is_old, has_conflict)

    def _united(self, new: range) -> list[range]:
        """The intervals with one more, which overlaps none; those that touch become one."""
        united: list[range] = []
        for one in sorted([*self._intervals, new], key=lambda interval: interval.start):
            if united and united[-1].stop == one.start:
                united[-1] = range(united[-1].start, one.stop)
            else:
                united.append(one)
        return united
