# SPDX-License-Identifier: Apache-2.0
"""Recorder: serve a guest's memory page by page from a source, and log which page is touched first, and when.

The owner of the memory makes a :class:`Recorder`; the monitor process runs a :class:`RecordSession`.
"""

import mmap
import os
import select
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UsageError
from .channel import Channel
from .errors import SabreError
from .guest_memory import GONE, MISSING, REMOVED, GuestMemory
from .monitor import Monitor
from .owner import OwnedMemory
from .touches import Touches
from .userfault import PAGE, Userfault

__all__ = ["Recorder", "RecordSession"]

_SESSION = f"{__name__}:RecordSession"


class Recorder:
    """Records the first touches of memory whose content comes from ``source``.

    ``source`` is a file that holds all regions back to back, or a buffer a region. ``timeout`` bounds, in seconds,
    every wait for the monitor. Use as a context manager; at its end the monitor is gone.
    """

    def __init__(self, source: str | os.PathLike[str] | Sequence[Any], timeout: float = 60.0):
        self._monitor = Monitor(_SESSION, {}, timeout)
        self._userfault: Userfault | None = None
        self._memory: OwnedMemory | None = None
        self._used = False
        descriptor = _descriptor(source)
        try:
            self._monitor.start([descriptor])
        finally:
            os.close(descriptor)

    @property
    def monitor(self) -> Monitor:
        """The monitor process."""
        return self._monitor

    def attach(self, buffers: Sequence[Any]) -> None:
        """Begin: ``buffers`` are the regions, as :class:`~rackgate_host.sabre.owner.OwnedMemory` takes them.

        When this returns the memory reads as the source, and touches are recorded. Once only: a second time is a
        :class:`~rackgate_host.errors.UsageError`.
        """
        if self._used:
            raise UsageError("a Recorder records once; make another one")
        self._used = True
        self._memory = OwnedMemory(buffers)
        self._userfault = Userfault.open()
        self._memory.register(self._userfault)
        self._monitor.begin(self._userfault, self._memory.regions)
        self._monitor.expect("recording", "the monitor to record")

    def stop(self) -> Touches:
        """End the record: the pages not touched are filled in as well, then the memory is the owner's alone.

        Raises :class:`~rackgate_host.errors.UsageError` if there is none.
        """
        if self._memory is None:
            raise UsageError(f"the record was {'ended' if self._used else 'not begun: attach memory first'}")
        self._monitor.tell("stop")
        report = self._monitor.expect("finished", "the record to end")["report"]
        self.close()
        return Touches.from_json(report)

    def close(self) -> None:
        """End the monitor. Without :meth:`stop` before, pages that are missing are lost."""
        self._monitor.close()
        if self._userfault is not None:
            self._userfault.close()
            self._userfault = None
        if self._memory is not None:
            self._memory.settle()
            self._memory = None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _descriptor(source: str | os.PathLike[str] | Sequence[Any]) -> int:
    if isinstance(source, str | os.PathLike):
        return os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    descriptor = os.memfd_create("rackgate-record")
    with open(descriptor, "wb", closefd=False) as file:
        for buffer in source:
            file.write(memoryview(buffer).cast("B"))
    return descriptor


class RecordSession:
    """In the monitor: copies one page a fault out of the source, and logs it."""

    running = True

    def __init__(self, options: dict[str, Any], descriptors: Sequence[int]):
        self._descriptor, = descriptors
        self._pages: list[int] = []
        self._times: list[int] = []

    def run(self, memory: GuestMemory, channel: Channel) -> dict[str, Any]:
        """Serve until the owner says stop."""
        memory.strict = False
        source = self._source(memory)
        address = source.ctypes.data
        offsets = [address + sum(memory.sizes[:index]) * PAGE for index in range(len(memory.sizes))]
        begun = time.monotonic_ns()
        channel.send({"kind": "recording"})
        poller = select.poll()
        poller.register(memory.userfault, select.POLLIN)
        poller.register(channel, select.POLLIN)
        stopped = False
        while not stopped:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if memory.userfault.fileno() in ready:
                memory.drain()
            self._serve(memory, offsets)
            if channel.fileno() in ready:
                channel.read_ready("the end of the record")
                stopped = channel.take() is not None
        self._fill(memory, offsets)
        return self._report(memory, begun)

    def close(self) -> None:
        """Close the source."""
        os.close(self._descriptor)

    def _source(self, memory: GuestMemory) -> np.ndarray:
        size = os.fstat(self._descriptor).st_size
        wanted = sum(memory.sizes) * PAGE
        if size != wanted:
            raise SabreError(f"the source of the record has {size} bytes, the memory {wanted}")
        return np.frombuffer(mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE), np.uint8)

    def _serve(self, memory: GuestMemory, offsets: Sequence[int]) -> None:
        """Install what is waited for. More faults may come in meanwhile: whoever changes mappings is heard."""
        while memory.faults:
            batch, memory.faults = memory.faults, []
            for page, when in batch:
                state = memory.state[page]
                if state == MISSING:
                    region, inside = memory.region(page)
                    if memory.copy(page, 1, offsets[region] + inside * PAGE):
                        self._pages.append(page)
                        self._times.append(when)
                elif state == REMOVED:
                    memory.zero_again(page)
                elif state != GONE:
                    memory.wake(page)

    def _fill(self, memory: GuestMemory, offsets: Sequence[int]) -> None:
        for first, count in list(memory.runs()):
            region, inside = memory.region(first)
            memory.copy(first, count, offsets[region] + inside * PAGE)
        memory.drain()
        self._serve(memory, offsets)

    def _report(self, memory: GuestMemory, begun: int) -> dict[str, Any]:
        places = [memory.region(page) for page in self._pages]
        rows = [[region, page, when - begun] for (region, page), when in zip(places, self._times, strict=True)]
        return {"touches": rows, "repeated": memory.repeated, "removed": memory.removed}


