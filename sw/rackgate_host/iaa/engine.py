# SPDX-License-Identifier: Apache-2.0
"""The accelerator as an engine of Sabre's restorer: ``--engine device``."""

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rackgate.iaa.abi import Status

from ..errors import DeviceFault, DeviceTimeout, UsageError
from ..memory import Buffer
from ..sabre.engines import Arenas, Batched, EngineError, EngineJob, EngineResult
from ..sabre.format import PAGE, Kind
from ..sabre.plan import Plan
from ..sabre.snapshot import Snapshot
from ..sabre.software import InvalidStream, choose
from .driver import IaaDriver, QueueConfig
from .jobs import Handle, Job, Table

__all__ = ["DeviceEngine", "device_engine", "prepare"]

#: Device time that a look for results lets pass at most, in cycles: about what a page takes.
_STEP = 2048
_DEPTH = 32


@dataclass
class _Slot:
    """Device memory for one job."""

    source: Buffer
    destination: Buffer


class DeviceEngine:
    """Decompress with an IAA-style device; implements :class:`rackgate_host.sabre.engines.Engine`.

    A job that fails for another reason than its data is done by software. RAW units are copied by the host: there is
    nothing for the device to do.

    Parameters
    ----------
    driver:
        Of the device; closed with the engine, and the device with it.
    headers:
        Of the snapshot's canned tables.
    stored, size:
        Largest unit, in bytes as stored and restored.
    clock:
        MHz, to tell device time in seconds; 0 tells none.
    depth:
        Jobs that may be with the device at a time.

    Attributes
    ----------
    fallbacks:
        How many units software has done.
    """

    def __init__(self, driver: IaaDriver, headers: Sequence[bytes], *, stored: int, size: int, clock: float = 0.0,
                 depth: int = _DEPTH):
        if not clock >= 0:
            raise UsageError(f"clock must be 0 or more MHz, not {clock}")
        if depth < 1:
            raise UsageError(f"depth must be 1 or more, not {depth}")
        self.depth = depth
        self.fallbacks = 0
        self._driver, self._headers = driver, list(headers)
        self._period = 1e-6 / clock if clock else 0.0
        device = driver.device
        self._tables: list[Table] = [driver.load_table(header) for header in self._headers]
        self._free = [_Slot(device.allocate(max(stored, 1)), device.allocate(max(size, PAGE))) for _ in range(depth)]
        self._flying: dict[Handle, tuple[EngineJob, _Slot]] = {}
        self._done: deque[EngineResult] = deque()

    def submit(self, jobs: Sequence[EngineJob]) -> None:
        """Begin jobs; the device works on them while :meth:`collect` is called."""
        for job in jobs:
            if job.kind == Kind.RAW:
                self._done.append(self._raw(job))
                continue
            slot = self._free.pop()
            source = slot.source[:len(job.stored)]
            source[:] = np.frombuffer(job.stored, np.uint8)
            table = self._tables[job.table] if job.kind == Kind.CANNED else None
            handle = self._driver.submit(
                Job.decompress(source, slot.destination[:len(job.destination)], table=table, block=False), wait=False)
            self._flying[handle] = job, slot

    def collect(self) -> list[EngineResult]:
        """What is done. Lets a little device time pass if nothing is."""
        if self._flying and not self._done:
            handles = list(self._flying)
            try:
                self._driver.wait_any(handles, cycles=_STEP)
            except DeviceTimeout:
                return []
            except DeviceFault as error:
                raise EngineError(str(error)) from error
            for handle in handles:
                if handle.done():
                    self._finish(handle)
        done = list(self._done)
        self._done.clear()
        return done

    def close(self) -> None:
        """Give the device back."""
        device = self._driver.device
        self._driver.close()
        device.close()

    def _raw(self, job: EngineJob) -> EngineResult:
        if len(job.stored) != len(job.destination):
            return EngineResult(job.partition, 0, error=f"{len(job.stored)} raw bytes are stored, not "
                                                        f"{len(job.destination)}")
        job.destination[:] = job.stored
        return EngineResult(job.partition, zlib.crc32(job.stored))

    def _finish(self, handle: Handle) -> None:
        job, slot = self._flying.pop(handle)
        self._free.append(slot)
        completion = handle.completion
        assert completion is not None
        size = len(job.destination)
        if completion.status == Status.SUCCESS and completion.output_size == size and handle.mismatch is None:
            job.destination[:] = bytes(slot.destination[:size])
            self._done.append(EngineResult(job.partition, completion.crc, completion.cycles * self._period,
                                           completion.cycles))
            return
        self.fallbacks += 1
        try:
            header = self._headers[job.table] if job.kind == Kind.CANNED else b""
            output = choose(None).inflate(job.stored, size, header)
        except InvalidStream as error:
            self._done.append(EngineResult(job.partition, 0, error=str(error)))
            return
        job.destination[:] = output
        self._done.append(EngineResult(job.partition, zlib.crc32(output)))


def prepare(report: Callable[[str], None], url: str = "sim:iaa", clock: float = 0.0, depth: int = _DEPTH,
            **options: Any) -> None:
    """Build the model of a simulated device, which takes minutes; the options are those of :func:`device_engine`."""
    from ..device import open_device

    if url.startswith("sim:"):
        open_device(url, progress=report, **options).close()


def device_engine(snapshot: Snapshot, plan: Plan, arenas: Arenas, url: str = "sim:iaa", clock: float = 0.0,
                  depth: int = _DEPTH, **options: Any) -> Batched:
    """Make a :class:`DeviceEngine` for a snapshot on the device at ``url`` (see :func:`rackgate_host.open`)."""
    from ..device import open_device

    units = plan.units
    packed = units[units["kind"] != Kind.RAW]
    stored = int(packed["stored"].max()) if len(packed) else 0
    size = int(packed["size"].max()) if len(packed) else 0
    device = open_device(url, **options)
    try:
        shift = max(21, (max(stored, size, 1) - 1).bit_length())
        driver = IaaDriver(device, queues=[QueueConfig(device.parameters["entries"], max_transfer_shift=shift)])
        engine = DeviceEngine(driver, [table.header for table in snapshot.tables], stored=stored, size=size,
                              clock=clock, depth=depth)
    except BaseException:
        device.close()
        raise
    return Batched(engine, arenas)
