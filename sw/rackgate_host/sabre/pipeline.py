# SPDX-License-Identifier: Apache-2.0
"""The monitor's side of a restore: read, decompress and install as a pipeline, with faults before all else.

One thread reads ahead, the engine's workers decompress, and the loop here installs, serves faults and hands out work.
Between the stages are bounded queues: slots of the source arena and of the target arena. Nothing is installed before
the CRC-32 of its restored bytes was compared with the snapshot's.
"""

import select
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .channel import Channel, SabreTimeout
from .engines import Arenas, Batch, BatchResult, make_engine
from .errors import SabreError
from .guest_memory import MISSING, PRESENT, REMOVED, GuestMemory
from .plan import Plan, Read
from .readahead import ReadAhead
from .snapshot import Snapshot
from .storage import BLOCK, Storage, drop_cache
from .throttle import Throttle
from .userfault import PAGE

__all__ = ["RestoreSession"]

_READ_SLOTS = 4
_URGENT_SLOTS = 8
_ZEROS_AT_ONCE = 64


@dataclass
class _Flight:
    """A batch that is with the engine. ``read_slot`` is where its stored bytes are, ``slot`` where its output goes."""

    work: np.ndarray
    slot: int
    read_slot: int | None
    urgent: bool


class RestoreSession:
    """Restores ``options["path"]``; the options are those of :class:`~rackgate_host.sabre.restorer.Restorer`."""

    def __init__(self, options: dict[str, Any], descriptors: Sequence[int]):
        self._options = options
        self._snapshot = Snapshot.open(options["path"])
        self._cached = drop_cache(self._snapshot.fileno()) if options["cold"] else None
        self._closing = threading.Event()
        throttle = Throttle(options["throttle"], options["latency"], sleep=self._closing.wait)
        self._storage = Storage(options["path"], throttle, options["direct"])
        self._plan = plan = Plan.of(self._snapshot, run_bytes=options["run_pages"] * PAGE,
                                    read_bytes=options["read_bytes"])
        self._serial = options["serial"]
        self._depth = options["depth"]
        self._unit_bytes = int(plan.units["size"].max(initial=PAGE))
        self._span_bytes = -(-int(plan.units["stored"].max(initial=1)) // BLOCK) * BLOCK + BLOCK
        self._read_bytes = plan.largest_read
        self._batch_bytes = plan.largest_batch
        if self._serial:
            source, target = sum(read.size for read in plan.reads), int(plan.units["size"].sum(dtype=np.int64))
        else:
            source, target = _READ_SLOTS * self._read_bytes, self._depth * self._batch_bytes
        self._urgent_source, self._urgent_target = source, target
        arenas = Arenas(source + _URGENT_SLOTS * self._span_bytes, target + _URGENT_SLOTS * self._unit_bytes)
        self._source = arenas.source
        self._engine = make_engine(options["engine"], self._snapshot, plan, arenas, options["engine_options"])
        self._reader: ReadAhead | None = None
        self._resident: dict[int, tuple[Read, int]] = {}
        self._users: dict[int, int] = {}
        self._ready: deque[tuple[int, int, int, int]] = deque()
        self._flights: dict[int, _Flight] = {}
        self._free = list(range(self._depth))
        self._free_urgent = list(range(_URGENT_SLOTS))
        self._number = 0
        self._done = np.zeros(len(plan.units), bool)
        self._urgent_units: dict[int, list[int]] = {}
        self._touches: list[tuple[int, int]] = []
        self._latencies: list[float] = []
        self._decompressing = 0.0
        self._cycles = 0
        self._told = 0
        self._moved = 0.0
        self.running = False
        self._resumed: float | None = None
        self._finish_asked = False

    def run(self, memory: GuestMemory, channel: Channel) -> dict[str, Any]:
        """Restore; the report."""
        if memory.sizes != self._plan.sizes:
            raise SabreError(f"the snapshot's regions have {self._plan.sizes} pages, the guest's {memory.sizes}")
        self._memory, self._channel = memory, channel
        self._begun = self._moved = time.monotonic()
        self._begun_ns = time.monotonic_ns()
        if self._serial:
            self._one_after_the_other()
        else:
            self._side_by_side()
        memory.drain()
        self._serve()
        memory.release()
        if self._resumed is None:
            self._resume()
        return self._report(time.monotonic() - self._begun)

    def close(self) -> None:
        """End the reader and the engine, close the file."""
        self._closing.set()
        if self._reader is not None:
            self._reader.close()
        self._engine.close()
        self._storage.close()
        self._snapshot.close()

    # The pipeline.

    def _side_by_side(self) -> None:
        prefetch, policy = self._options["prefetch"], self._options["policy"]
        plan = self._plan
        working = [read for read in plan.reads if read.batches[0][0] < plan.working_units]
        rest = plan.reads[len(working):]
        now, later = {"all": (plan.reads, []), "working-set": (working, rest), "none": ([], plan.reads)}[prefetch]
        if policy == "resume-at-once":
            self._resume()
        if prefetch != "none":
            for page, count in plan.working_zeros:
                self._memory.zero(page, count)
        self._read_ahead(now)
        while not self._done.all():
            self._turn()
            if self._resumed is None and policy == "working-set-first" and self._done[:plan.working_units].all():
                self._resume()
            if self._finish_asked and later and not self._busy():
                self._read_ahead(later)
                later = []
        if prefetch != "all":
            while not self._finish_asked:
                self._turn()

    def _read_ahead(self, reads: Sequence[Read]) -> None:
        if self._reader is not None:
            self._reader.close()
        self._resident.clear()
        self._users.clear()
        self._reader = ReadAhead(self._storage, reads, self._source[:_READ_SLOTS * self._read_bytes],
                                 self._read_bytes, _READ_SLOTS)

    def _busy(self) -> bool:
        return bool(self._flights or self._ready or self._reader is not None and self._reader.left)

    def _turn(self) -> None:
        """Wait for something, and go on with all that can."""
        reader = self._reader
        watched = [self._memory.userfault.fileno(), self._channel.fileno(), *self._engine.descriptors()]
        if reader is not None:
            watched.append(reader.descriptor())
        due = self._engine.due()
        ready, _, _ = select.select(watched, (), (), 0.05 if due is None else min(due, 0.05))
        if watched[0] in ready:
            self._memory.drain()
        self._serve()
        if watched[1] in ready:
            self._hear()
        if reader is not None and reader.descriptor() in ready:
            self._take_reads(reader)
        self._collect()
        self._hand_out()
        self._watch_progress()

    def _take_reads(self, reader: ReadAhead) -> None:
        for read, slot in reader.take():
            self._moved = time.monotonic()
            self._resident[slot] = read, slot
            self._users[slot] = len(read.batches)
            self._ready.extend((low, high, read.offset, slot) for low, high in read.batches)

    def _hand_out(self) -> None:
        """Give the engine batches while it, and the target arena, have room."""
        limit = min(self._depth, self._engine.depth)
        while self._ready and self._free and len(self._flights) < limit:
            low, high, offset, read_slot = self._ready.popleft()
            units = np.arange(low, high)
            if self._done[low:high].any():
                units = units[~self._done[low:high]]
            if not len(units):
                self._release_read(read_slot)
                continue
            slot = self._free.pop()
            base = read_slot * self._read_bytes - offset
            work = self._plan.work(units, (self._plan.units["source"][units].astype(np.int64) + base).astype(np.uint64),
                                   slot * self._batch_bytes)
            self._submit(_Flight(work, slot, read_slot, False))

    def _submit(self, flight: _Flight) -> None:
        self._number += 1
        self._flights[self._number] = flight
        self._engine.submit(Batch(self._number, flight.work, flight.urgent))

    def _collect(self) -> None:
        for result in self._engine.collect():
            flight = self._flights.pop(result.number)
            self._decompressing += result.seconds
            self._cycles += result.cycles
            self._check(flight.work, result)
            self._install(flight.work, result.addresses)
            if flight.urgent:
                self._free_urgent.append(flight.slot)
            else:
                self._free.append(flight.slot)
            if flight.read_slot is not None:
                self._release_read(flight.read_slot)
            self._moved = time.monotonic()

    def _release_read(self, slot: int) -> None:
        self._users[slot] -= 1
        if not self._users[slot]:
            del self._users[slot], self._resident[slot]
            if self._reader is not None:
                self._reader.release(slot)

    # Checking and installing.

    def _check(self, work: np.ndarray, result: BatchResult) -> None:
        """Raise :class:`SabreError` for the first unit whose bytes are not those that were stored."""
        def fail(entry: int, reason: str) -> None:
            raise SabreError(f"{self._options['path']}: partition {work['partition'][entry]} {reason}")

        for entry, reason in sorted(result.faults.items()):
            fail(entry, f"cannot be restored: {reason}")
        for entry in np.flatnonzero(result.crc32 != work["crc32"]).tolist():
            fail(entry, f"restores to bytes with CRC-32 {int(result.crc32[entry]):#010x}; the index says "
                        f"{int(work['crc32'][entry]):#010x}")

    def _install(self, work: np.ndarray, addresses: np.ndarray) -> None:
        """Put a batch into the guest, in runs as long as they come."""
        plan, copy = self._plan, self._memory.copy
        units = work["unit"]
        pages, counts = plan.unit_page[units], plan.pages[units]
        cuts = np.flatnonzero((pages[1:] != pages[:-1] + counts[:-1]) |
                              (addresses[1:] != addresses[:-1] + counts[:-1] * PAGE)) + 1
        starts = [0, *cuts.tolist()] if len(units) else []
        ends = [*starts[1:], len(units)]
        sums = np.concatenate(([0], np.cumsum(counts)))
        for start, end in zip(starts, ends, strict=True):
            copy(int(pages[start]), int(sums[end] - sums[start]), int(addresses[start]))
        self._done[units] = True
        for entry, unit in enumerate(units.tolist() if plan.duplicates or self._urgent_units else ()):
            for page in plan.duplicates.get(unit, ()):
                copy(page, int(counts[entry]), int(addresses[entry]))
            if unit in self._urgent_units:
                now = time.monotonic_ns()
                self._latencies += [(now - since) * 1e-3 for since in self._urgent_units.pop(unit)]

    # Faults.

    def _serve(self) -> None:
        """Serve all faults that are known; those for which no slot is free stay."""
        memory = self._memory
        while memory.faults and (self._free_urgent or not self._flights):
            page, since = memory.faults.pop(0)
            state = memory.state[page]
            if state == MISSING:
                self._fetch(page, since)
            elif state == REMOVED:
                memory.zero_again(page)
            elif state == PRESENT:
                memory.wake(page)

    def _fetch(self, page: int, since: int) -> None:
        self._touches.append((page, since))
        partition = self._plan.partition(page)
        unit = self._plan.unit(partition)
        if unit < 0:
            first, count = self._plan.extent(partition)
            self._memory.zero(page, min(first + count - page, _ZEROS_AT_ONCE))
            self._latencies.append((time.monotonic_ns() - since) * 1e-3)
            return
        if unit in self._urgent_units:
            self._urgent_units[unit].append(since)
            return
        self._urgent_units[unit] = [since]
        slot = self._free_urgent.pop()
        source, read_slot = self._stored(unit, slot)
        work = self._plan.work(np.array([unit]), np.array([source], np.uint64),
                               self._urgent_target + slot * self._unit_bytes)
        self._submit(_Flight(work, slot, read_slot, True))
        self._collect()

    def _stored(self, unit: int, slot: int) -> tuple[int, int | None]:
        """Where a unit's stored bytes are: in a slot that was read ahead (then in use once more), or read for it."""
        start = int(self._plan.units["source"][unit])
        for read, read_slot in self._resident.values():
            if read.batches[0][0] <= unit < read.batches[-1][1]:
                self._users[read_slot] += 1
                return start - read.offset + read_slot * self._read_bytes, read_slot
        offset, size, needed = self._plan.span(unit)
        place = self._urgent_source + slot * self._span_bytes
        self._storage.read(offset, self._source[place:place + size], needed)
        return place + start - offset, None

    # Sabre's own flow, to compare with.

    def _one_after_the_other(self) -> None:
        """Read all, then decompress all, then install all."""
        place, batches = 0, []
        for read in self._plan.reads:
            self._storage.read(read.offset, self._source[place:place + read.size], read.needed)
            batches += [(low, high, place - read.offset) for low, high in read.batches]
            place += read.size
        waiting, target = deque(batches), 0
        results: list[tuple[np.ndarray, BatchResult]] = []
        while waiting or self._flights:
            while waiting and len(self._flights) < self._engine.depth:
                low, high, shift = waiting.popleft()
                units = np.arange(low, high)
                source = (self._plan.units["source"][units].astype(np.int64) + shift).astype(np.uint64)
                work = self._plan.work(units, source, target)
                target += int(work["size"].sum(dtype=np.int64))
                self._submit(_Flight(work, -1, None, False))
            due = self._engine.due()
            select.select(self._engine.descriptors(), (), (), 0.05 if due is None else min(due, 0.05))
            for result in self._engine.collect():
                flight = self._flights.pop(result.number)
                self._decompressing += result.seconds
                self._cycles += result.cycles
                self._check(flight.work, result)
                results.append((flight.work, result))
                self._moved = time.monotonic()
            self._watch_progress()
        for work, result in results:
            self._install(work, result.addresses)
            self._tell()

    # Talking.

    def _resume(self) -> None:
        self._resumed = time.monotonic() - self._begun
        self.running = True
        self._channel.send({"kind": "resume", "seconds": self._resumed})

    def _hear(self) -> None:
        self._channel.read_ready("the guest")
        while (message := self._channel.take()) is not None:
            if message[0]["kind"] == "abandon":
                raise SabreError("the restore was abandoned")
            self._finish_asked = True

    def _tell(self) -> None:
        """Say how far it is, a hundred times at most. Nobody need listen: a guest that waits in a fault does not."""
        done = int(np.count_nonzero(self._done))
        if done * 100 >= self._told + len(self._done):
            self._told = done * 100
            self._channel.tell({"kind": "progress", "units": done, "of": len(self._done)})

    def _watch_progress(self) -> None:
        """Say how far it is; end in an error if nothing moves although something should."""
        self._tell()
        now = time.monotonic()
        if not self._busy() and not self._urgent_units:
            self._moved = now
        elif now - self._moved > self._options["timeout"]:
            begins = sorted(int(flight.work["partition"][0]) for flight in self._flights.values())
            what = f"the engine to finish batches that begin at partitions {begins}" if begins else \
                f"storage to give {self._options['path']}"
            raise SabreTimeout(f"waited {self._options['timeout']:g} s for {what}")

    def _report(self, total: float) -> dict[str, Any]:
        memory, plan = self._memory, self._plan
        places = [(*memory.region(page), since - self._begun_ns) for page, since in self._touches]
        latencies = np.array(self._latencies or [0.0])
        return {
            "seconds": {"total": total, "resume": self._resumed, "read": self._storage.busy,
                        "decompress": self._decompressing, "install": memory.busy},
            "bytes": {"read": self._storage.bytes_read,
                      "stored": int(plan.units["stored"].sum(dtype=np.int64)),
                      "restored": int(plan.units["size"].sum(dtype=np.int64)),
                      "regions": sum(plan.sizes) * PAGE},
            "pages": {"installed": memory.state.count(PRESENT), "removed": memory.removed, "repeated": memory.repeated},
            "demand": {"faults": len(self._touches), "mean_us": float(latencies.mean()),
                       "p50_us": float(np.percentile(latencies, 50)), "p99_us": float(np.percentile(latencies, 99)),
                       "max_us": float(latencies.max())},
            "cycles": self._cycles or None,
            "direct": self._storage.direct,
            "cached_before": self._cached,
            "touches": {"touches": places, "repeated": memory.repeated, "removed": memory.removed},
        }
