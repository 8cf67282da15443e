# SPDX-License-Identifier: Apache-2.0
"""What a restore does, laid out before it begins: reads, batches of work for the engine, and where pages go.

A *unit* is a partition with stored bytes; units are numbered in the order of the file. A unit has one target or more:
its own pages, and those of its duplicates. A *batch* is a run of units that goes through the engine and into the
guest together; a *read* is a piece of the file that holds whole batches. Page numbers are those of
:class:`~rackgate_host.sabre.guest_memory.GuestMemory`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .format import PAGE, Kind
from .guest_memory import first_pages
from .snapshot import Snapshot
from .storage import BLOCK

__all__ = ["Plan", "Read", "WORK"]

WORK = np.dtype([("partition", "<u4"), ("crc32", "<u4"), ("source", "<u8"), ("target", "<u8"), ("stored", "<u4"),
                 ("size", "<u4"), ("table", "<u2"), ("kind", "u1"), ("unused", "u1"), ("unit", "<u4")])
"""A unit on its way through an engine: ``stored`` bytes at ``source`` of the source arena become ``size`` bytes at
``target`` of the target arena, with ``crc32``."""

_RUN_BYTES = 64 * PAGE
_READ_BYTES = 512 << 10


@dataclass(frozen=True)
class Read:
    """Bytes ``offset`` to ``offset + size`` of the file; ``needed`` of them must be there. The batches that they hold
    are ``batches``: (first unit, end)."""

    offset: int
    size: int
    needed: int
    batches: tuple[tuple[int, int], ...]


class Plan:
    """The plan of a restore from ``index``, the snapshot's index, into regions of ``sizes`` pages.

    ``run_bytes`` bounds the output of a batch, ``read_bytes`` the size of a read; a unit larger than that stays whole.
    ``units`` are of type :data:`WORK` with places in the file as ``source``.
    """

    def __init__(self, index: np.ndarray, working_set: int, sizes: Sequence[int], run_bytes: int = _RUN_BYTES,
                 read_bytes: int = _READ_BYTES):
        self.first = first_pages(sizes)
        self.sizes = list(sizes)
        page = np.array(self.first, np.int64)[index["region"]] + index["first_page"].astype(np.int64)
        kind = index["kind"]
        numbers = np.flatnonzero((kind != Kind.ZERO) & (kind != Kind.DUPLICATE))
        self.units = self._units(index, numbers)
        self.pages = index["pages"].astype(np.int64)[numbers]
        self.unit_page = page[numbers]
        self._unit_of = np.full(len(index), -1, np.int64)
        self._unit_of[numbers] = np.arange(len(numbers))
        self.duplicates = self._duplicates(index, page)
        self.working_units = int(np.count_nonzero(numbers < working_set))
        self.working_zeros = self._zeros(kind[:working_set], page, index)
        self._order = np.argsort(page, kind="stable")
        self._sorted = page[self._order]
        self._page = page
        self._count = index["pages"]
        self.reads = self._reads(run_bytes, read_bytes)

    @classmethod
    def of(cls, snapshot: Snapshot, **sizes: int) -> "Plan":
        """The plan for an open snapshot."""
        pages = [region.pages for region in snapshot.regions]
        return cls(snapshot.partitions, snapshot.header.working_set_count, pages, **sizes)

    @property
    def largest_batch(self) -> int:
        """Bytes of output of the largest batch; 0 without units."""
        size = self.units["size"].astype(np.int64)
        return max((int(size[low:high].sum()) for read in self.reads for low, high in read.batches), default=0)

    @property
    def largest_read(self) -> int:
        """Bytes of the largest read; 0 without units."""
        return max((read.size for read in self.reads), default=0)

    def partition(self, page: int) -> int:
        """Number of the partition that holds ``page``."""
        return int(self._order[np.searchsorted(self._sorted, page, "right") - 1])

    def extent(self, partition: int) -> tuple[int, int]:
        """First page and count of a partition."""
        return int(self._page[partition]), int(self._count[partition])

    def unit(self, partition: int) -> int:
        """The unit that has the bytes of a partition; -1 for zeros."""
        return int(self._unit_of[partition])

    def work(self, units: np.ndarray, source: np.ndarray, target: int) -> np.ndarray:
        """Work for ``units`` whose stored bytes are at ``source``: outputs lie from ``target`` on in the order of
        their pages, so that what is contiguous in the guest is so in the arena."""
        ordered = np.argsort(self.unit_page[units], kind="stable")
        work = self.units[units[ordered]]
        work["source"] = source[ordered]
        ends = np.cumsum(work["size"], dtype=np.uint64)
        work["target"] = np.uint64(target) + ends - work["size"]
        return work

    def span(self, unit: int) -> tuple[int, int, int]:
        """What to read for one unit alone: offset and size of whole blocks, and bytes that are needed."""
        start, stored = int(self.units["source"][unit]), int(self.units["stored"][unit])
        low = start // BLOCK * BLOCK
        return low, -(-(start + stored) // BLOCK) * BLOCK - low, start + stored - low

    @staticmethod
    def _units(index: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        units = np.zeros(len(numbers), WORK)
        chosen = index[numbers]
        units["partition"], units["unit"] = numbers, np.arange(len(numbers))
        units["source"], units["stored"] = chosen["offset"], chosen["size"]
        units["size"] = chosen["pages"].astype(np.uint32) * PAGE
        for name in ("crc32", "table", "kind"):
            units[name] = chosen[name]
        return units

    def _duplicates(self, index: np.ndarray, page: np.ndarray) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for number in np.flatnonzero(index["kind"] == Kind.DUPLICATE).tolist():
            unit = self._unit_of[number] = self._unit_of[int(index["duplicate_of"][number])]
            found.setdefault(int(unit), []).append(int(page[number]))
        return found

    @staticmethod
    def _zeros(kind: np.ndarray, page: np.ndarray, index: np.ndarray) -> list[tuple[int, int]]:
        """(page, count) of the working set's zeros."""
        return [(int(page[number]), int(index["pages"][number]))
                for number in np.flatnonzero(kind == Kind.ZERO).tolist()]

    def _reads(self, run_bytes: int, read_bytes: int) -> list[Read]:
        """Cut the units into batches and the batches into reads; the working set ends with a batch."""
        starts = self.units["source"].astype(np.int64)
        ends = (starts + self.units["stored"]).tolist()
        starts, sizes = starts.tolist(), self.units["size"].tolist()
        reads: list[Read] = []
        batches: list[tuple[int, int]] = []
        low, total = 0, 0

        def end_read() -> None:
            if batches:
                offset = starts[batches[0][0]] // BLOCK * BLOCK
                needed = ends[batches[-1][1] - 1] - offset
                reads.append(Read(offset, -(-needed // BLOCK) * BLOCK, needed, tuple(batches)))
                batches.clear()

        def end_batch(high: int) -> None:
            nonlocal low, total
            if high > low:
                if batches and ends[high - 1] - starts[batches[0][0]] // BLOCK * BLOCK > read_bytes:
                    end_read()
                batches.append((low, high))
            low, total = high, 0

        for unit, size in enumerate(sizes):
            gap = unit and starts[unit] - ends[unit - 1] >= read_bytes
            if total and (total + size > run_bytes or unit == self.working_units or gap):
                end_batch(unit)
            if unit == self.working_units or gap:
                end_read()
            total += size
        end_batch(len(sizes))
        end_read()
        return reads
