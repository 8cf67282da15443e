# SPDX-License-Identifier: Apache-2.0
"""Driver of the inflate device: its ring, its completion records, and who has which context."""

import threading
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rackgate.inflate.abi import (
    COMPLETION_SIZE,
    DESCRIPTOR_SIZE,
    Completion,
    Control,
    Descriptor,
    ErrorCode,
    Flag,
    Format,
    Opcode,
    Status,
)

from ..device import Device
from ..errors import DeviceFault, Unavailable, UsageError
from ..memory import Buffer

__all__ = ["Handle", "Holder", "InflateDriver", "Job"]

_STATUS_OFFSET = 60  # of the status byte in a completion record
_TIMES = ((32, 48),)  # started, finished: the world's, not the data's
_INTERRUPTS = 3  # IRQ_STATUS and IRQ_ENABLE: COMPLETION and FAULT
_FAULT = 2


@dataclass(frozen=True)
class Job:
    """What to do, with buffers in device memory.

    ``source`` and ``destination`` are one-dimensional buffers of bytes, or ``None`` for none. ``context`` ``None``
    takes the next one that no stream holds; a job that resumes another must name that one's context.
    Flag.INTERRUPT is always added. See :class:`rackgate.inflate.abi.Descriptor` for the rest.
    """

    source: Buffer | None
    destination: Buffer | None = None
    format: Format = Format.RAW
    flags: Flag = Flag.LAST
    opcode: Opcode = Opcode.INFLATE
    start_bit: int = 0
    context: int | None = None

    def __post_init__(self) -> None:
        for name in ("source", "destination"):
            buffer = getattr(self, name)
            if buffer is not None and (buffer.dtype != np.uint8 or buffer.ndim != 1 or not buffer.flags.c_contiguous):
                raise TypeError(f"{name} must be a one-dimensional contiguous buffer of uint8, not {buffer.dtype} of "
                                f"shape {buffer.shape}")
        if self.context is None and self.flags & Flag.RESUME:
            raise ValueError("context must be given with Flag.RESUME")


def _range(buffer: Buffer | None) -> tuple[int, int]:
    """Address and size for a descriptor."""
    return (0, 0) if buffer is None else (buffer.device_address, buffer.nbytes)


class Handle:
    """A job on its way. ``completion`` is its result once the driver has seen it, else ``None``."""

    def __init__(self, driver: "InflateDriver", job: Job, context: int, tag: int, slot: int):
        self.driver = driver
        self.job = job
        self.context = context
        self.tag = tag
        self.completion: Completion | None = None
        #: Whether the device was restarted before the result was there.
        self.lost = False
        self._slot = slot

    def done(self) -> bool:
        """Whether the result is there. Lets no device time pass."""
        return self.driver.poll(self)

    def wait(self, timeout: float | None = None, cycles: int | None = None) -> Completion:
        """Wait for the result; see :meth:`InflateDriver.wait`."""
        return self.driver.wait(self, timeout, cycles)


class Holder(Protocol):
    """A stream that holds a context between its jobs."""

    @property
    def pinned(self) -> bool:
        """Whether the stream cannot do without its context."""
        ...

    def evict(self) -> None:
        """The context is taken away: its next job starts anew."""


class InflateDriver:
    """Drives an inflate device: sets up its ring, submits jobs, waits for results.

    Setting up restarts the device, so a device has one driver; :meth:`of` finds it.

    Parameters
    ----------
    device:
        An opened inflate device.
    ring_size:
        Descriptors in the ring, a power of two from 2 to 32768. As many jobs can be on their way.
    verify:
        Compare the device's CRC-32 with that of the bytes in memory, for jobs whose output is one whole member so far.

    Attributes
    ----------
    lock:
        Held by whoever uses the driver. Streams in several threads are safe; the driver itself is not locked.
    progress:
        Called with the device now and then while a job is waited for.
    """

    def __init__(self, device: Device, *, ring_size: int = 64, verify: bool = False):
        if device.kind.name != "inflate":
            raise UsageError(f"{device.url} is no inflate device")
        if not 2 <= ring_size <= 32768 or ring_size & (ring_size - 1):
            raise ValueError(f"ring_size must be a power of two from 2 to 32768, not {ring_size}")
        self.device = device
        self.ring_size = ring_size
        self.verify = verify
        self.contexts = device.parameters["contexts"]
        self.window = device.parameters["window"]
        self.lock = threading.RLock()
        self.progress: Callable[[Device], None] | None = None
        self._scratch: dict[str, Buffer] = {}
        self._ring = device.allocate((ring_size, DESCRIPTOR_SIZE))
        self._records = device.allocate((ring_size, COMPLETION_SIZE))
        self._holders: list[weakref.ref[Holder] | None] = [None] * self.contexts
        self._recent: OrderedDict[int, None] = OrderedDict()  # contexts, the least recently used first
        self._next_context = 0
        self._outstanding: OrderedDict[int, Handle] = OrderedDict()
        device.driver = self
        self.reset()

    @classmethod
    def of(cls, device: Device) -> "InflateDriver":
        """The driver of ``device``, made now if it has none."""
        return device.driver if isinstance(device.driver, cls) else cls(device)

    def reset(self) -> None:
        """Restart the device and its ring. Jobs on their way are lost; streams go on, doing their input again."""
        for context in range(self.contexts):
            self._evict(context)
        for handle in self._outstanding.values():
            handle.lost = True
        self._outstanding.clear()
        self._suspect = False
        self._free_slots = list(range(self.ring_size))
        self._tail = 0
        registers = self.device.regs
        registers.CONTROL.value = Control.RESET
        self.device.wait_register("CONTROL", Control.RESET, 0)  # it lets bus transfers under way end first
        address = self._ring.device_address
        registers.RING_BASE_LO.value = address & 0xFFFFFFFF
        registers.RING_BASE_HI.value = address >> 32
        registers.RING_SIZE.value = self.ring_size
        registers.IRQ_STATUS.value = _INTERRUPTS
        registers.IRQ_ENABLE.value = _INTERRUPTS
        registers.CONTROL.value = Control.ENABLE

    def distrust(self) -> None:
        """Have the device restarted before the next job: a wait for one was given up."""
        self._suspect = True

    def recover(self) -> None:
        """Restart the device if :meth:`distrust` was called."""
        if self._suspect:
            self.reset()

    def submit(self, *jobs: Job) -> list[Handle]:
        """Put ``jobs`` into the ring and ring the doorbell once for all that fit.

        When the ring is full, waits for the oldest job first. Jobs of one context are done in order, those of different
        contexts overlap.
        """
        handles = []
        self.recover()
        for job in jobs:
            if len(self._outstanding) == self.ring_size:
                self._doorbell()
                self.wait(next(iter(self._outstanding.values())))
            handles.append(self._put(job))
        self._doorbell()
        return handles

    def _put(self, job: Job) -> Handle:
        context = self.free_context() if job.context is None else job.context
        if not 0 <= context < self.contexts:
            raise ValueError(f"context must be 0 to {self.contexts - 1}, not {context}")
        slot = self._free_slots.pop(0)
        handle = Handle(self, job, context, self._tail, slot)
        record = self._records[slot]
        record[:] = 0
        record.sync_to_device()
        if job.source is not None:
            job.source.sync_to_device()
        descriptor = Descriptor(
            *_range(job.source), *_range(job.destination), record.device_address, job.opcode, job.format,
            job.flags | Flag.INTERRUPT, context, handle.tag, job.start_bit)
        entry = self._ring[self._tail % self.ring_size]
        entry[:] = np.frombuffer(descriptor.pack(), np.uint8)
        entry.sync_to_device()
        self._tail = (self._tail + 1) & 0xFFFF
        self._outstanding[handle.tag] = handle
        return handle

    def _doorbell(self) -> None:
        self.device.regs.RING_TAIL.value = self._tail

    def wait(self, handle: Handle, timeout: float | None = None, cycles: int | None = None) -> Completion:
        """Wait until the job is done and return its completion record, checked for tag, status and sizes.

        ``timeout`` in seconds of the host, ``cycles`` of the device. Without both the limit follows from the sizes,
        far above what a working device needs.

        Raises
        ------
        DeviceTimeout
            There was no result in time. :meth:`reset` makes the device usable again.
        DeviceFault
            The device could not read or write, or the record makes no sense.
        """
        if handle.completion is None:
            self._wait([handle], timeout, cycles)
            self._finish(handle)
        assert handle.completion is not None
        return handle.completion

    def wait_any(self, handles: Sequence[Handle], timeout: float | None = None, cycles: int | None = None) -> Handle:
        """Wait until one of ``handles`` is done and return it, the first in order if several are.

        Limits and errors as in :meth:`wait`.
        """
        if not handles:
            raise ValueError("handles must not be empty")
        if not any(handle.completion for handle in handles):
            self._wait(handles, timeout, cycles)
        return next(handle for handle in handles if self.poll(handle))

    def _wait(self, handles: Sequence[Handle], timeout: float | None, cycles: int | None) -> None:
        """Let time pass until one of the jobs, which are all under way, has a completion record."""
        for handle in handles:
            if handle.lost:
                raise DeviceFault(f"{self.device.url}: job {handle.tag} was lost when the device was restarted")
        if timeout is None and cycles is None:
            cycles = 2_000_000 + 200 * sum(_range(part)[1] for handle in handles
                                           for part in (handle.job.source, handle.job.destination))
        jobs = " or ".join(f"job {handle.tag} in context {handle.context}" for handle in handles)
        self.device.wait_nonzero(
            [self._records[handle._slot].device_address + _STATUS_OFFSET for handle in handles],
            acknowledge="IRQ_STATUS", timeout=timeout, cycles=cycles, what=f"completion of {jobs}",
            on_interrupt=self._on_interrupt, progress=self.progress)

    def poll(self, handle: Handle) -> bool:
        """Whether the job is done. Lets no device time pass; a transcript does not show it before the job is done."""
        if handle.completion is None and not handle.lost:
            record = self._records[handle._slot]
            with self.device.unrecorded():
                record.sync_from_device()
            if record[_STATUS_OFFSET]:
                self._finish(handle)
        return handle.completion is not None

    def _on_interrupt(self, causes: int) -> None:
        if causes & _FAULT:
            registers = self.device.regs
            address = registers.FAULT_ADDR_HI.value << 32 | registers.FAULT_ADDR_LO.value
            raise DeviceFault(f"{self.device.url}: the device could not access {address:#x}, where it reads "
                              f"descriptors or writes results\n{self.device.state()}")

    def _finish(self, handle: Handle) -> None:
        record, job = self._records[handle._slot], handle.job
        record.sync_from_device(volatile=_TIMES)
        completion = Completion.unpack(record.tobytes())
        del self._outstanding[handle.tag]
        self._free_slots.append(handle._slot)
        size, room = _range(job.source)[1], _range(job.destination)[1]
        known = completion.status in set(Status) and completion.error in set(ErrorCode)
        if completion.tag != handle.tag or not known or completion.produced > room or completion.consumed > size:
            raise DeviceFault(f"{self.device.url}: the completion record of job {handle.tag} makes no sense: "
                              f"{completion}")
        if job.destination is not None and completion.produced:
            job.destination[:completion.produced].sync_from_device()
            if self.verify and completion.total == completion.produced:
                crc = zlib.crc32(job.destination[:completion.produced])
                if crc != completion.crc32:
                    raise DeviceFault(f"{self.device.url}: job {handle.tag} has CRC-32 {crc:#010x} in memory, "
                                      f"{completion.crc32:#010x} in its completion record")
        handle.completion = completion

    @property
    def in_flight(self) -> int:
        """Jobs submitted whose results the driver has not seen yet."""
        return len(self._outstanding)

    def free_context(self) -> int:
        """A context for a job that keeps nothing: the next that no stream holds; failing that, the least recently
        used stream is evicted. Raises :class:`~rackgate_host.errors.Unavailable` when no stream can be.
        """
        for step in range(self.contexts):
            context = (self._next_context + step) % self.contexts
            if self._holder(context) is None:
                self._next_context = (context + 1) % self.contexts
                return context
        for context in self._recent:
            holder = self._holder(context)
            if holder is not None and not holder.pinned:
                self._evict(context)
                return context
        raise Unavailable(f"{self.device.url}: all {self.contexts} contexts are held by long streams: finish one, or "
                          "open the device with more contexts")

    def hold(self, holder: Holder) -> int:
        """Give ``holder`` a context until :meth:`release`, or until it is evicted."""
        context = self.free_context()
        self._holders[context] = weakref.ref(holder)
        self.touch(context)
        return context

    def touch(self, context: int) -> None:
        """Note that a held context was used just now."""
        self._recent[context] = None
        self._recent.move_to_end(context)

    def release(self, context: int) -> None:
        """The holder of ``context`` needs it no more."""
        self._holders[context] = None
        self._recent.pop(context, None)

    def _holder(self, context: int) -> Holder | None:
        reference = self._holders[context]
        return None if reference is None else reference()

    def _evict(self, context: int) -> None:
        holder = self._holder(context)
        self.release(context)
        if holder is not None:
            holder.evict()

    def scratch(self, name: str, size: int) -> Buffer:
        """A buffer of at least ``size`` bytes that lives as long as the driver, the same each time for a ``name``."""
        buffer = self._scratch.get(name)
        if buffer is None or buffer.nbytes < size:
            buffer = self._scratch[name] = self.device.allocate(size)
        return buffer

    def close(self) -> None:
        """Stop the device and give back the driver's memory. The device stays open."""
        self.device.regs.CONTROL.value = 0
        for buffer in (self._ring, self._records, *self._scratch.values()):
            buffer.free()
        self.device.driver = None
