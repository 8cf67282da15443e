# SPDX-License-Identifier: Apache-2.0
"""What decompresses: the processor, a device, or the processor's results at a device's pace.

The restorer hands out :class:`Batch` and takes :class:`BatchResult` (protocol :class:`BatchEngine`). A driver that
knows single jobs, as a device's does, implements the smaller protocol :class:`Engine`; :class:`Batched` makes the one
of the other. An engine says which CRC-32 its output has; the restorer compares it with the snapshot's and never
installs what differs.
"""

import contextlib
import heapq
import importlib
import mmap
import os
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ..errors import Unavailable, UsageError
from .errors import SabreError
from .format import PAGE, Kind
from .monitor import close_others
from .plan import WORK, Plan
from .snapshot import Snapshot
from .software import InvalidStream, choose, crc32

__all__ = ["Arenas", "Batch", "BatchEngine", "BatchResult", "Batched", "CycleModel", "ENGINES", "Engine",
           "EngineError", "EngineJob", "EngineResult", "PacedEngine", "SoftwareEngine", "make_engine", "prepare_engine"]

ENGINES = {
    "software": "rackgate_host.sabre.engines:SoftwareEngine",
    "paced": "rackgate_host.sabre.engines:PacedEngine",
    "device": "rackgate_host.iaa.engine:device_engine",
}
"""Engines by name: ``module:factory``. A factory gets (snapshot, plan, arenas) and the engine's options. A module with
what takes long the first time has a function ``prepare``, which gets a reporter of lines and the same options."""


class EngineError(SabreError):
    """The engine itself failed: a worker died, a device stopped. No word about the data."""


class Arenas:
    """Memory that the restorer, the readers and the engine share: ``source`` for stored bytes, ``target`` for
    restored ones, which begins at ``target_address`` here. Both begin at a page, and forked workers see them."""

    def __init__(self, source: int, target: int):
        self.source = memoryview(mmap.mmap(-1, max(source, PAGE)))
        self.target = memoryview(mmap.mmap(-1, max(target, PAGE)))
        self.target_address = np.frombuffer(self.target, np.uint8).ctypes.data
        for arena in (self.source, self.target):
            np.frombuffer(arena, np.uint8)[::PAGE] = 0  # the kernel makes its pages now, not while time is taken


@dataclass(frozen=True)
class Batch:
    """Work of type :data:`~rackgate_host.sabre.plan.WORK`. ``urgent`` work is for a fault that somebody waits in."""

    number: int
    work: np.ndarray
    urgent: bool = False


@dataclass(frozen=True)
class BatchResult:
    """What became of a batch, entry by entry: ``crc32`` of the output, which is at ``addresses`` of this process;
    ``faults`` says what is wrong with some entries. ``seconds`` is the engine time that it took, summed over workers
    or units; ``cycles`` those of a device, 0 where there is none."""

    number: int
    crc32: np.ndarray
    addresses: np.ndarray
    seconds: float
    faults: dict[int, str] = field(default_factory=dict)
    cycles: int = 0


class BatchEngine(Protocol):
    """An engine as the restorer sees it. ``depth`` batches may be with it at a time, urgent ones not counted."""

    depth: int

    def submit(self, batch: Batch) -> None:
        """Begin a batch; never waits."""
        ...

    def collect(self) -> list[BatchResult]:
        """What is done by now; never waits. Raises :class:`EngineError` if the engine has failed."""
        ...

    def descriptors(self) -> Sequence[int]:
        """Readable when there may be results."""
        ...

    def due(self) -> float | None:
        """Seconds after which to look for results although no descriptor is readable; ``None`` for never."""
        ...

    def close(self) -> None:
        """End workers, give devices back."""
        ...


@dataclass(frozen=True)
class EngineJob:
    """One unit for an :class:`Engine`: ``stored`` bytes to restore into ``destination``."""

    partition: int
    kind: Kind
    table: int
    stored: memoryview
    destination: memoryview
    crc32: int
    urgent: bool = False


@dataclass(frozen=True)
class EngineResult:
    """What became of a job: ``error`` is ``None``, or says what is wrong with the data. ``crc32`` is of the output,
    as the engine has computed it."""

    partition: int
    crc32: int
    seconds: float = 0.0
    cycles: int = 0
    error: str | None = None


class Engine(Protocol):
    """An engine of single jobs. ``depth`` jobs may be with it at a time."""

    depth: int

    def submit(self, jobs: Sequence[EngineJob]) -> None:
        """Begin jobs, at most as many as fit; never waits for results."""
        ...

    def collect(self) -> list[EngineResult]:
        """Jobs that are done by now, in any order. Raises :class:`EngineError` if the engine has failed."""
        ...

    def close(self) -> None:
        """Give the device back."""
        ...


def make_engine(name: str, snapshot: Snapshot, plan: Plan, arenas: Arenas, options: dict[str, Any]) -> BatchEngine:
    """The engine called ``name``: one of :data:`ENGINES`, or ``module:factory``.

    Raises :class:`~rackgate_host.errors.UsageError` for an unknown one or options that it does not take,
    :class:`~rackgate_host.errors.Unavailable` if what it needs is not there.
    """
    module, factory = _module(name)
    try:
        return getattr(module, factory)(snapshot, plan, arenas, **options)
    except TypeError as error:
        raise UsageError(f"engine {name!r}: {error}") from error


def prepare_engine(name: str, options: dict[str, Any], report: Callable[[str], None] = lambda line: None) -> None:
    """Have what the engine takes long for the first time, as building the model of a simulated device.

    For the process that will wait for the engine's: there is no limit to this. Raises as :func:`make_engine`.
    """
    prepare = getattr(_module(name)[0], "prepare", None)
    if prepare is not None:
        try:
            prepare(report, **options)
        except TypeError as error:
            raise UsageError(f"engine {name!r}: {error}") from error


def _module(name: str) -> tuple[ModuleType, str]:
    """An engine's module, and the name of its factory there."""
    module, separator, factory = ENGINES.get(name, name).partition(":")
    if not separator:
        raise UsageError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
    try:
        return importlib.import_module(module), factory
    except ModuleNotFoundError as error:
        raise Unavailable(f"the engine {name!r} is not there: {error}") from error


class _Codec:
    """Restores single units by software."""

    def __init__(self, snapshot: Snapshot, codec: str | None):
        self._inflate = choose(codec).inflate
        self.name = choose(codec).name
        self._headers = [table.header for table in snapshot.tables]

    def restore(self, kind: int, table: int, stored: memoryview, target: memoryview) -> int:
        """Write the unit's bytes to ``target``; their CRC-32. Raises :class:`InvalidStream`."""
        if kind == Kind.RAW:
            if len(stored) != len(target):
                raise InvalidStream(f"{len(stored)} raw bytes are stored, not {len(target)}")
            target[:] = stored
            return crc32(stored)
        output = self._inflate(stored, len(target), self._headers[table] if kind == Kind.CANNED else b"")
        target[:] = output
        return crc32(output)


_REQUEST = struct.Struct("<QI")
_ANSWER = struct.Struct("<QId")
_BATCH_LIMIT = 4096


def _run_work(codec: _Codec, work: np.ndarray, source: memoryview, target: memoryview) -> tuple[np.ndarray,
                                                                                               dict[int, str]]:
    """Do the work; the CRCs, and what is wrong with which entry."""
    crcs = np.zeros(len(work), np.uint32)
    faults: dict[int, str] = {}
    names = ("kind", "table", "source", "stored", "target", "size")
    for number, (kind, table, start, stored, goal, size) in enumerate(
            zip(*(work[name].tolist() for name in names), strict=True)):
        try:
            crcs[number] = codec.restore(kind, table, source[start:start + stored], target[goal:goal + size])
        except InvalidStream as error:
            faults[number] = str(error)
    return crcs, faults


class SoftwareEngine:
    """Decompression by ``workers`` forked processes (default: one a processor) with ``codec`` (libdeflate, isal or
    zlib; default: the fastest there is). Urgent batches are done on the spot: handing them on would take longer."""

    def __init__(self, snapshot: Snapshot, plan: Plan, arenas: Arenas, workers: int | None = None,
                 codec: str | None = None):
        count = len(os.sched_getaffinity(0)) if workers is None else workers
        if count < 1:
            raise UsageError(f"workers must be 1 or more, not {count}")
        self._codec = _Codec(snapshot, codec)
        self.codec = self._codec.name
        self._arenas = arenas
        self._source, self._target = arenas.source, arenas.target
        self._done: list[BatchResult] = []
        self._batches: dict[int, tuple[int, np.ndarray]] = {}
        self._load = [0] * count
        self._workers = [self._start(number) for number in range(count)]
        self.depth = 8 * count

    def submit(self, batch: Batch) -> None:
        if batch.urgent:
            start = time.perf_counter()
            crcs, faults = _run_work(self._codec, batch.work, self._source, self._target)
            self._finish(batch.number, batch.work, crcs, time.perf_counter() - start, faults)
            return
        if len(batch.work) > _BATCH_LIMIT:
            raise ValueError(f"a batch must have at most {_BATCH_LIMIT} units, not {len(batch.work)}")
        worker = self._load.index(min(self._load))
        self._batches[batch.number] = worker, batch.work
        self._load[worker] += 1
        try:
            self._workers[worker][1].send(_REQUEST.pack(batch.number, len(batch.work)) + batch.work.tobytes())
        except OSError as error:
            raise EngineError(self._fate(worker)) from error

    def collect(self) -> list[BatchResult]:
        for worker, (_, endpoint) in enumerate(self._workers):
            while self._load[worker]:
                try:
                    data = endpoint.recv(1 << 20, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                except OSError:
                    data = b""
                if not data:
                    raise EngineError(self._fate(worker))
                self._answer(worker, data)
        done, self._done = self._done, []
        return done

    def descriptors(self) -> Sequence[int]:
        return [endpoint.fileno() for _, endpoint in self._workers]

    def due(self) -> float | None:
        return 0.0 if self._done else None

    def close(self) -> None:
        for pid, endpoint in self._workers:
            endpoint.close()
            with contextlib.suppress(ChildProcessError):  # its end was seen already
                os.waitpid(pid, 0)
        self._workers = []

    def _start(self, number: int) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                close_others(theirs.fileno())
                self._serve(theirs)
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        return pid, ours

    def _serve(self, endpoint: socket.socket) -> None:
        """A worker's life. It maps the arenas' pages before there is work."""
        for arena in (self._source, self._target):
            np.frombuffer(arena, np.uint8)[::PAGE].max()
        while request := endpoint.recv(1 << 20):
            number, count = _REQUEST.unpack_from(request)
            work = np.frombuffer(request, WORK, count, _REQUEST.size)
            start = time.perf_counter()
            crcs, faults = _run_work(self._codec, work, self._source, self._target)
            text = "\n".join(f"{entry} {reason}" for entry, reason in faults.items()).encode()
            endpoint.send(_ANSWER.pack(number, count, time.perf_counter() - start) + crcs.tobytes() + text)

    def _answer(self, worker: int, data: bytes) -> None:
        number, count, seconds = _ANSWER.unpack_from(data)
        crcs = np.frombuffer(data, "<u4", count, _ANSWER.size)
        lines = data[_ANSWER.size + 4 * count:].decode().splitlines()
        faults = {int(entry): reason for entry, _, reason in (line.partition(" ") for line in lines)}
        _, work = self._batches.pop(number)
        self._load[worker] -= 1
        self._finish(number, work, crcs, seconds, faults)

    def _finish(self, number: int, work: np.ndarray, crcs: np.ndarray, seconds: float, faults: dict[int, str]) -> None:
        addresses = work["target"].astype(np.int64) + self._arenas.target_address
        self._done.append(BatchResult(number, crcs, addresses, seconds, faults))

    def _fate(self, worker: int) -> str:
        pid, _ = self._workers[worker]
        partitions = [int(work["partition"][0]) for owner, work in self._batches.values() if owner == worker]
        _, status = os.waitpid(pid, 0)
        how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "an error"
        return f"a decompression worker (process {pid}) was ended by {how}; its batches " \
               f"began at partitions {partitions}"


@dataclass(frozen=True)
class CycleModel:
    """Cycles that one engine of a device takes for a unit: ``base + per_stored * stored bytes + per_page * pages``;
    ``per_raw`` cycles a byte for RAW units instead.

    The default goes through two points that `rackgate bench inflate` measures in the RTL with dynamic codes: anonymous
    pages (911 bytes stored, 4.8 bytes/cycle) and library code (2197 bytes, 3.1 bytes/cycle).
    """

    base: float = 0.0
    per_stored: float = 0.364
    per_page: float = 521.0
    per_raw: float = 0.125

    def cycles(self, units: np.ndarray) -> np.ndarray:
        """Of each unit."""
        size = units["size"].astype(np.float64)
        packed = self.base + self.per_stored * units["stored"] + self.per_page * size / PAGE
        return np.where(units["kind"] == Kind.RAW, self.base + self.per_raw * size, packed)


@dataclass(eq=False)
class _Paced:
    """A batch that an imagined device works on: ``next`` is the unit that begins next, ``end`` when the last of those
    that have begun is done."""

    batch: Batch
    submitted: float
    cycles: int
    costs: list[float]
    end: float
    next: int = 0

    @property
    def begun(self) -> bool:
        """Whether all units have."""
        return self.next == len(self.costs)


class PacedEngine:
    """A device's pace with software's results: all is decompressed and checked beforehand, and a unit is reported
    when ``engines`` engines at ``clock`` MHz would have it done, each taking one unit at a time, urgent ones first.

    ``cycles`` is the model's parameters (:class:`CycleModel`), or the name of a .npy file with the cycles of each
    partition, while others follow; ``latency`` cycles later it is there. What it gives is a prediction, to be shown
    with its clock and as such.
    """

    def __init__(self, snapshot: Snapshot, plan: Plan, arenas: Arenas, clock: float = 100.0, engines: int = 1,
                 depth: int = 16, cycles: dict[str, float] | str | None = None, latency: float = 0.0,
                 now: Callable[[], float] = time.monotonic):
        if not clock > 0:
            raise UsageError(f"clock must be above 0 MHz, not {clock}")
        if engines < 1 or depth < 1:
            raise UsageError(f"engines and depth must be 1 or more, not {engines} and {depth}")
        if not latency >= 0:
            raise UsageError(f"latency must be 0 or more cycles, not {latency}")
        self.depth = depth
        self._now = now
        self._period = 1e-6 / clock
        self._latency = latency * self._period
        self._cycles = self._costs(plan, cycles)
        self._crcs, self._faults, self._addresses = self._decompress(snapshot, plan)
        self._free = [now()] * engines
        self._urgent: deque[_Paced] = deque()
        self._normal: deque[_Paced] = deque()
        self._all: list[_Paced] = []

    def submit(self, batch: Batch) -> None:
        now = self._now()
        self._advance(now)
        cycles = self._cycles[batch.work["unit"]]
        paced = _Paced(batch, now, int(round(float(cycles.sum()))), (cycles * self._period).tolist(), now)
        (self._urgent if batch.urgent else self._normal).append(paced)
        self._all.append(paced)
        self._advance(now)

    def collect(self) -> list[BatchResult]:
        now = self._now()
        self._advance(now)
        ready = sorted((paced for paced in self._all if paced.begun and paced.end <= now), key=lambda paced: paced.end)
        if ready:
            self._all = [paced for paced in self._all if paced not in ready]
        return [self._result(paced) for paced in ready]

    def descriptors(self) -> Sequence[int]:
        return ()

    def due(self) -> float | None:
        if not self._all:
            return None
        moments = [paced.end for paced in self._all if paced.begun]
        if self._urgent or self._normal:
            moments.append(self._free[0])
        return max(min(moments) - self._now(), 20e-6)

    def close(self) -> None:
        self._all.clear()

    def _advance(self, now: float) -> None:
        """Give engines that were free by ``now`` their next units."""
        free, replace = self._free, heapq.heapreplace
        while (self._urgent or self._normal) and free[0] <= now:
            urgent = bool(self._urgent) and (not self._normal or self._urgent[0].submitted <= max(
                free[0], self._normal[0].submitted))
            queue = self._urgent if urgent else self._normal
            paced = queue[0]
            # Urgent work that came later ends a run of other work at the moment when it came.
            until = now if urgent or not self._urgent else min(now, self._urgent[0].submitted)
            while free[0] <= until:
                start = free[0] if free[0] > paced.submitted else paced.submitted
                end = start + paced.costs[paced.next]
                replace(free, end)
                paced.next += 1
                if end + self._latency > paced.end:
                    paced.end = end + self._latency
                if paced.begun:
                    queue.popleft()
                    break

    def _result(self, paced: "_Paced") -> BatchResult:
        units = paced.batch.work["unit"]
        faults = {entry: self._faults[unit] for entry, unit in enumerate(units.tolist()) if unit in self._faults} \
            if self._faults else {}
        return BatchResult(paced.batch.number, self._crcs[units], self._addresses[units],
                           paced.cycles * self._period, faults, paced.cycles)

    @staticmethod
    def _costs(plan: Plan, cycles: dict[str, float] | str | None) -> np.ndarray:
        if isinstance(cycles, str):
            table = np.load(cycles, allow_pickle=False)
            if table.ndim != 1 or len(plan.units) and int(plan.units["partition"].max()) >= len(table):
                raise UsageError(f"{cycles} must hold the cycles of each partition")
            return table[plan.units["partition"]].astype(np.float64)
        return CycleModel(**(cycles or {})).cycles(plan.units)

    def _decompress(self, snapshot: Snapshot, plan: Plan) -> tuple[np.ndarray, dict[int, str], np.ndarray]:
        """CRC, faults and place of each unit, all decompressed into memory of our own; a run's units lie as they are
        to be installed."""
        codec = _Codec(snapshot, None)
        total = int(plan.units["size"].sum(dtype=np.int64))
        target = memoryview(mmap.mmap(-1, max(total, PAGE)))
        self._store = np.frombuffer(target, np.uint8)
        crcs, faults = np.zeros(len(plan.units), np.uint32), {}
        addresses = np.zeros(len(plan.units), np.int64)
        place = 0
        with open(snapshot.path, "rb") as file:
            for read in plan.reads:
                file.seek(read.offset)
                source = memoryview(file.read(read.size))
                for low, high in read.batches:
                    units = np.arange(low, high)
                    work = plan.work(units, plan.units["source"][units] - np.uint64(read.offset), place)
                    found, wrong = _run_work(codec, work, source, target)
                    crcs[work["unit"]] = found
                    addresses[work["unit"]] = work["target"].astype(np.int64) + self._store.ctypes.data
                    faults |= {int(work["unit"][entry]): reason for entry, reason in wrong.items()}
                    place += int(work["size"].sum(dtype=np.int64))
        return crcs, faults, addresses


class Batched:
    """Makes an engine of batches out of one of jobs. ``depth`` batches are taken at a time; their jobs go to the
    engine as it has room, urgent ones first."""

    def __init__(self, engine: Engine, arenas: Arenas, depth: int = 4):
        self.depth = depth
        self._engine = engine
        self._arenas = arenas
        self._source, self._target = arenas.source, arenas.target
        self._queue: deque[tuple[int, int, EngineJob]] = deque()
        self._running: dict[int, deque[tuple[int, int]]] = {}
        self._count = 0
        self._open: dict[int, tuple[np.ndarray, list[EngineResult | None]]] = {}

    def submit(self, batch: Batch) -> None:
        jobs = [(batch.number, entry, self._job(row, batch.urgent)) for entry, row in enumerate(batch.work)]
        self._open[batch.number] = batch.work, [None] * len(jobs)
        if batch.urgent:
            self._queue.extendleft(reversed(jobs))
        else:
            self._queue.extend(jobs)
        self._feed()

    def collect(self) -> list[BatchResult]:
        done = []
        for result in self._engine.collect():
            if not self._running.get(result.partition):
                raise EngineError(f"the engine reported partition {result.partition}, which it did not have")
            number, entry = self._running[result.partition].popleft()
            self._count -= 1
            self._open[number][1][entry] = result
            if None not in self._open[number][1]:
                done.append(self._result(number))
        self._feed()
        return done

    def descriptors(self) -> Sequence[int]:
        return ()

    def due(self) -> float | None:
        return 0.0 if self._open else None

    def close(self) -> None:
        self._engine.close()

    def _feed(self) -> None:
        jobs = []
        while self._queue and self._count < self._engine.depth:
            number, entry, job = self._queue.popleft()
            self._running.setdefault(job.partition, deque()).append((number, entry))
            self._count += 1
            jobs.append(job)
        if jobs:
            self._engine.submit(jobs)

    def _job(self, row: Any, urgent: bool) -> EngineJob:
        source, target = int(row["source"]), int(row["target"])
        return EngineJob(int(row["partition"]), Kind(int(row["kind"])), int(row["table"]),
                         self._source[source:source + int(row["stored"])],
                         self._target[target:target + int(row["size"])], int(row["crc32"]), urgent)

    def _result(self, number: int) -> BatchResult:
        work, results = self._open.pop(number)
        known = [result for result in results if result is not None]
        return BatchResult(number, np.array([result.crc32 for result in known], np.uint32),
                           work["target"].astype(np.int64) + self._arenas.target_address,
                           sum(result.seconds for result in known),
                           {entry: result.error for entry, result in enumerate(known) if result.error is not None},
                           sum(result.cycles for result in known))
