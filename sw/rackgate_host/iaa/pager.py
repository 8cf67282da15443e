# SPDX-License-Identifier: Apache-2.0
"""Page tables in device memory, and service of the device's page requests.

What an operating system does for a device with shared virtual memory, on a world that has none: the pages that a test
or an experiment takes away come back when the device asks for them, after as long as a kernel would take.
"""

import math
import random
from dataclasses import dataclass, field

import numpy as np

from rackgate.iaa.abi import PAGE_SIZE, PageResponse, PageTableEntry

from ..device import Device
from ..memory import Buffer

__all__ = ["FaultLatency", "Pager"]

_ENTRIES = 512
_PRESENT = int(PageTableEntry.PRESENT)
_WRITABLE = int(PageTableEntry.WRITABLE)
_MOST = 556.0  # microseconds
_SOON, _QUICK = 0.97, (1.0, 10.0)
_TAIL = 112.0  # mean of what is above 10 microseconds, so that the mean of all is 9


@dataclass
class FaultLatency:
    """How long a page fault takes, drawn anew each time.

    Has the shape of what QEMU's documentation tells of a run of IAA with shared virtual memory (25,965 faults): 97 %
    take 1 to 10 microseconds, the mean is 9, the most 556. Within these bounds it is uniform up to 10 and exponential
    above.

    Parameters
    ----------
    clock:
        Device cycles a second: latencies are given in cycles of it.
    seed:
        Of the draw.
    """

    clock: float = 100e6
    seed: int = 1
    _dice: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.clock > 0:
            raise ValueError(f"clock must be positive, not {self.clock}")
        self._dice = random.Random(self.seed)

    def cycles(self) -> int:
        """The next latency, at least one cycle."""
        if self._dice.random() < _SOON:
            microseconds = self._dice.uniform(*_QUICK)
        else:
            microseconds = _QUICK[1] + min(self._dice.expovariate(1 / _TAIL), _MOST - _QUICK[1])
        return max(1, math.ceil(microseconds * self.clock / 1e6))


class Pager:
    """The address space of a work queue: all of device memory, each page at its own address, until it is taken away.

    Give it to a queue (:class:`~rackgate_host.iaa.QueueConfig`) and the driver lets it answer page requests.

    Parameters
    ----------
    device:
        Whose memory it is. The tables take 8 bytes a page of it, and a few pages.
    latency:
        How long an answer takes.

    Attributes
    ----------
    served, refused:
        Requests answered with SUCCESS, and those for pages that are not of device memory, or barred.
    waited:
        Cycles that the requests waited for, in all.
    """

    def __init__(self, device: Device, latency: FaultLatency | None = None):
        self._device = device
        self._latency = latency or FaultLatency()
        self.served = self.refused = self.waited = 0
        base, size = device.transport.memory_base, device.transport.memory_size
        self._first, self._end = base // PAGE_SIZE, -(-(base + size) // PAGE_SIZE)
        self._barred: set[int] = set()
        self._build()

    def _build(self) -> None:
        """Tables of four levels that map each page to itself."""
        last = self._end - 1
        levels = [(self._first >> 9 * level, (last >> 9 * level) + 1) for level in range(5)]  # entries a level covers
        tables = [(levels[level + 1][0], levels[level + 1][1]) for level in range(4)]
        counts = [end - first for first, end in tables]
        self._tables: Buffer = self._device.allocate((sum(counts), _ENTRIES), "<u8", alignment=PAGE_SIZE)
        raw = self._tables.view(np.ndarray)
        raw[:] = 0
        starts = np.concatenate([[0], np.cumsum(counts)])  # of each level's tables; the lowest level comes first
        flat = raw.reshape(-1)
        self._leaves = flat[:counts[0] * _ENTRIES]
        self._leaf_first = tables[0][0] * _ENTRIES
        pages = np.arange(self._first, self._end, dtype=np.uint64)
        self._leaves[self._first - self._leaf_first:self._end - self._leaf_first] = (
            pages * np.uint64(PAGE_SIZE) | np.uint64(_PRESENT | _WRITABLE))
        for level in range(1, 4):
            below = np.arange(counts[level - 1], dtype=np.uint64) + np.uint64(starts[level - 1])
            entries = np.uint64(self._tables.device_address) + below * np.uint64(PAGE_SIZE) | np.uint64(
                _PRESENT | _WRITABLE)
            begin = starts[level] * _ENTRIES + tables[level - 1][0] - tables[level][0] * _ENTRIES
            flat[begin:begin + len(entries)] = entries
        #: Address of the level-4 table.
        self.address = self._tables.device_address + int(starts[3]) * PAGE_SIZE
        self._tables.sync_to_device()

    def _set(self, buffer: Buffer, bits: int) -> None:
        first = buffer.device_address // PAGE_SIZE
        end = -(-(buffer.device_address + buffer.nbytes) // PAGE_SIZE)
        for page in range(first, end):
            self._map(page, bits)

    def _map(self, page: int, bits: int) -> None:
        index = page - self._leaf_first
        self._leaves[index] = page * PAGE_SIZE | bits if bits else 0
        row, column = divmod(index, _ENTRIES)
        self._tables[row, column:column + 1].sync_to_device()

    def take_away(self, buffer: Buffer, *, for_good: bool = False) -> None:
        """Unmap the pages that ``buffer`` lies in. With ``for_good`` the device does not get them back."""
        self._set(buffer, 0)
        if for_good:
            first = buffer.device_address // PAGE_SIZE
            self._barred |= set(range(first, -(-(buffer.device_address + buffer.nbytes) // PAGE_SIZE)))
        self._forget()

    def protect(self, buffer: Buffer) -> None:
        """Let the device read the pages that ``buffer`` lies in, and ask before it writes."""
        self._set(buffer, _PRESENT)
        self._forget()

    def give_back(self, buffer: Buffer) -> None:
        """Map the pages that ``buffer`` lies in."""
        first = buffer.device_address // PAGE_SIZE
        self._barred -= set(range(first, -(-(buffer.device_address + buffer.nbytes) // PAGE_SIZE)))
        self._set(buffer, _PRESENT | _WRITABLE)

    def _forget(self) -> None:
        self._device.regs.TLB_INVALIDATE.value = 1

    def serve(self, address: int) -> None:
        """Answer the page request that the device shows, which is for ``address``, after the latency."""
        cycles = self._latency.cycles()
        self._device.run(cycles)
        self.waited += cycles
        page = address // PAGE_SIZE
        if self._first <= page < self._end and page not in self._barred:
            self._map(page, _PRESENT | _WRITABLE)
            self.served += 1
            answer = PageResponse.SUCCESS
        else:
            self.refused += 1
            answer = PageResponse.INVALID
        self._device.regs.PAGE_RESPONSE.value = answer

    def free(self) -> None:
        """Give the tables' memory back. The queue must be disabled."""
        self._tables.free()
