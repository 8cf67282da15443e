# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a stream are in memory: posted segments in registered regions."""

from collections import deque
from typing import NamedTuple

from rackgate.zeronic.abi import Right

__all__ = ["Covered", "Piece", "Region", "Regions", "Segment", "SegmentList"]


class Segment(NamedTuple):
    """``length`` bytes of the stream from ``start`` on are at ``offset`` of ``region``."""

    start: int
    length: int
    region: int
    offset: int

    @property
    def end(self) -> int:
        """Position of the byte behind it."""
        return (self.start + self.length) % (1 << 32)


class Region(NamedTuple):
    """Registered memory. ``owner``: 0, or the only flow + 1 that may use it."""

    rights: Right
    base: int
    length: int
    owner: int


class Regions:
    """The table of regions, by number; those that are not there have no right."""

    def __init__(self) -> None:
        self._regions: dict[int, Region] = {}

    def register(self, number: int, region: Region) -> None:
        """Write the table's entry ``number``."""
        self._regions[number] = region

    def address(self, flow: int, number: int, offset: int, size: int, right: Right) -> int | None:
        """Where ``size`` bytes at ``offset`` of a region are in memory; ``None`` if ``flow`` may not do this."""
        region = self._regions.get(number)
        if region is None or not region.rights & right or region.owner not in (0, flow + 1):
            return None
        return region.base + offset if offset + size <= region.length else None


class Piece(NamedTuple):
    """``size`` bytes of the stream from ``position`` on, at ``address``."""

    position: int
    size: int
    address: int


class Covered(NamedTuple):
    """Where bytes of a stream are, from the first on without a gap, and why no more are, if they are not all."""

    pieces: list[Piece]
    size: int
    no_segment: bool = False
    bad_region: bool = False


class SegmentList:
    """Segments of one flow and direction, in the stream's order. At most ``limit``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._segments: deque[Segment] = deque()

    def __len__(self) -> int:
        return len(self._segments)

    def post(self, segment: Segment) -> bool:
        """Append a segment. False if it is refused."""
        is_in_order = not self._segments or (segment.start - self._segments[-1].end) % (1 << 32) < 1 << 31
        if len(self._segments) == self._limit or not 0 < segment.length < 1 << 31 or not is_in_order:
            return False
        self._segments.append(segment)
        return True

    def retire(self, count: int) -> None:
        """Take the ``count`` oldest away, or all that there are."""
        for _ in range(min(count, len(self._segments))):
            self._segments.popleft()

    def clear(self) -> None:
        """Take all away."""
        self._segments.clear()

    def _holding(self, position: int) -> Segment | None:
        return next((one for one in self._segments if (position - one.start) % (1 << 32) < one.length), None)

    def cover(self, regions: Regions, flow: int, position: int, size: int, right: Right) -> Covered:
        """Where ``size`` bytes from ``position`` on are. A piece has all that one segment holds of them."""
        pieces: list[Piece] = []
        done = 0
        while done < size:
            at = (position + done) % (1 << 32)
            segment = self._holding(at)
            if segment is None:
                return Covered(pieces, done, no_segment=True)
            into = (at - segment.start) % (1 << 32)
            part = min(size - done, segment.length - into)
            address = regions.address(flow, segment.region, segment.offset + into, part, right)
            if address is None:
                return Covered(pieces, done, bad_region=True)
            pieces.append(Piece(at, part, address))
            done += part
        return Covered(pieces, done)
