# SPDX-License-Identifier: Apache-2.0
"""Driver of the IAA-style device: its queues, its completion records, whole buffers, and what software does instead."""

import contextlib
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rackgate.iaa.abi import (
    COMPLETION_SIZE,
    DESCRIPTOR_SIZE,
    GROUPS,
    PORTAL_SIZE,
    PORTALS,
    Command,
    CommandError,
    Completion,
    Descriptor,
    Flag,
    Framing,
    InterruptCause,
    PageResponse,
    Status,
    queue_register,
)
from rackgate.iaa.aecs import AECS_SIZE, Aecs

from ..device import Device, open_device
from ..errors import DeviceFault, DeviceTimeout, Unavailable, UsageError
from ..memory import Buffer
from .checksums import crc64
from .errors import ChecksumMismatch, IaaError, InvalidData, failed
from .fallback import SoftwareIaa, decompress
from .jobs import Handle, Job, Table
from .pager import Pager

__all__ = ["ENVIRONMENT", "IaaDriver", "QueueConfig"]

#: Variable with the URL of the device that :meth:`IaaDriver.open` takes by default.
ENVIRONMENT = "RACKGATE_IAA"
_DEFAULT_URL = "sim:iaa"

_CYCLES = ((52, 56),)  # of a completion record: the world's, not the data's
_MASK = 0xFFFFFFFF
_ACTIVE = 1 << 31
_RECORDED = Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION
_FIRST_DELAY, _LAST_DELAY = 16, 4096
_PAGE = 4096


@dataclass(frozen=True)
class QueueConfig:
    """A work queue.

    ``size`` descriptors; a shared queue refuses more than ``threshold`` (all, if ``None``), a ``dedicated`` one is
    never given more. ``priority`` 1 to 15 among the queues of ``group``. Transfers have at most
    ``2**max_transfer_shift`` bytes. With a ``pager`` its addresses are virtual, and jobs wait for pages that are not
    there.
    """

    size: int
    threshold: int | None = None
    dedicated: bool = False
    priority: int = 8
    group: int = 0
    max_transfer_shift: int = 21
    pager: Pager | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.priority <= 15:
            raise ValueError(f"priority must be 1 to 15, not {self.priority}")
        if not 0 <= self.group < GROUPS:
            raise ValueError(f"group must be 0 to {GROUPS - 1}, not {self.group}")
        if not 1 <= self.size:
            raise ValueError(f"size must be at least 1, not {self.size}")


class _Queue:
    """A queue as the driver sees it: jobs that it has not taken yet, and when to try again."""

    def __init__(self, number: int, config: QueueConfig):
        self.number = number
        self.config = config
        self.backlog: deque[Handle] = deque()
        self.running = 0
        self.delay = _FIRST_DELAY
        self.retry_at = 0
        self.place = 0
        self.is_waiting = False  # for room for the first of the backlog: nobody else may submit that

    @property
    def has_credit(self) -> bool:
        """Whether a dedicated queue has room; it drops what it has no room for."""
        return not self.config.dedicated or self.running < self.config.size

    def portal(self) -> int:
        """Where the next descriptor goes: another place each time, so that none waits for another."""
        self.place = (self.place + DESCRIPTOR_SIZE) % PORTAL_SIZE
        return PORTALS + PORTAL_SIZE * self.number + self.place


class IaaDriver:
    """Drives an IAA-style device: configures it, submits jobs, waits for results, falls back to software.

    Setting up resets the device, so a device has one driver; :meth:`of` finds it, :meth:`open` takes a URL.

    Parameters
    ----------
    device:
        An opened ``iaa`` device.
    queues:
        Its work queues. By default one that is shared and has all entries.
    engines:
        Bit mask of the engines of each group. By default the groups of the queues share them evenly.
    slots:
        Completion records: so many jobs, members of lists included, can be on their way.
    verify:
        Compare the checksums of each completion with the bytes in memory.

    Attributes
    ----------
    lock:
        Held by the calls for whole buffers. The driver itself is not locked.
    progress:
        Called with the device now and then while a job is waited for.
    refusals:
        How often a queue was full.
    fallbacks, last_fallback:
        How many buffers software has done, and why it did the last one.
    note:
        ``None``: there is a device. See :class:`~rackgate_host.iaa.SoftwareIaa`.
    """

    def __init__(self, device: Device, *, queues: Sequence[QueueConfig] | None = None,
                 engines: Mapping[int, int] | None = None, slots: int = 256, verify: bool = True):
        if device.kind.name != "iaa":
            raise UsageError(f"{device.url} is no iaa device")
        if slots < 2:
            raise ValueError(f"slots must be at least 2, not {slots}")
        self.device = device
        self.verify = verify
        self.lock = threading.RLock()
        self.progress: Callable[[Device], None] | None = None
        self.note: str | None = None
        self.refusals = self.fallbacks = 0
        self.last_fallback: str | None = None
        configs = [QueueConfig(device.parameters["entries"])] if queues is None else list(queues)
        if not 1 <= len(configs) <= device.parameters["queues"]:
            raise ValueError(f"queues must be 1 to {device.parameters['queues']}, not {len(configs)}")
        self._queues = [_Queue(number, config) for number, config in enumerate(configs)]
        self._engines = self._share(configs) if engines is None else dict(engines)
        self._records = device.allocate((slots, COMPLETION_SIZE))
        self._scratch: dict[str, Buffer] = {}
        self._outstanding: OrderedDict[Handle, None] = OrderedDict()
        self._free: deque[int] = deque()
        self._slots = slots
        self._generation = 0
        self._owns_device = False
        device.driver = self
        self.reset()

    @classmethod
    def of(cls, device: Device) -> "IaaDriver":
        """The driver of ``device``, made now if it has none."""
        return device.driver if isinstance(device.driver, cls) else cls(device)

    @classmethod
    def open(cls, url: str | None = None, **options: Any) -> "IaaDriver | SoftwareIaa":
        """A driver of the device at ``url``, or software in its place if it cannot be had; ``note`` then says why.

        Without ``url`` that in the environment variable RACKGATE_IAA, else ``sim:iaa``. Closing the driver closes
        the device. Raises :class:`UsageError` for a wrong ``url``.
        """
        wanted = url or os.environ.get(ENVIRONMENT)
        try:
            device = open_device(wanted or _DEFAULT_URL, **options)
        except Unavailable as error:
            return SoftwareIaa(str(error))
        except UsageError as error:
            if wanted:
                raise
            return SoftwareIaa(str(error))
        try:
            driver = cls.of(device)
        except BaseException:
            device.close()
            raise
        driver._owns_device = True
        return driver

    def _share(self, configs: Sequence[QueueConfig]) -> dict[int, int]:
        """Engines of the groups that have queues, in turn."""
        groups, count = sorted({config.group for config in configs}), self.device.parameters["engines"]
        if len(groups) > count:
            raise ValueError(f"queues must be in at most {count} groups, as there are so many engines, not in "
                             f"{len(groups)}")
        return {group: sum(1 << engine for engine in range(turn, count, len(groups)))
                for turn, group in enumerate(groups)}

    # Setting up

    def reset(self) -> None:
        """Reset the device and configure it anew. Jobs on their way are lost."""
        for handle in [*self._outstanding, *(handle for queue in self._queues for handle in queue.backlog)]:
            handle.lost = True
        self._outstanding.clear()
        self._free = deque(range(self._slots))
        for queue in self._queues:
            queue.backlog.clear()
            queue.running, queue.delay, queue.retry_at = 0, _FIRST_DELAY, 0
        registers = self.device.regs
        registers.CMD.write(command=Command.RESET_DEVICE)
        self.device.wait_register("CMDSTS", _ACTIVE, 0)
        for group, mask in self._engines.items():
            members = sum(1 << queue.number for queue in self._queues if queue.config.group == group)
            registers[f"GRP{group}_WQS"].value = members
            registers[f"GRP{group}_ENGINES"].value = mask
        for queue in self._queues:
            self._configure(queue)
        self._count_generation()
        registers.INTCAUSE.value = _MASK
        registers.IRQ_ENABLE.value = (InterruptCause.SOFTWARE_ERROR | InterruptCause.COMPLETION
                                      | InterruptCause.PAGE_REQUEST)
        self.command(Command.ENABLE_DEVICE)
        for queue in self._queues:
            self.command(Command.ENABLE_WQ, queue.number)

    def _configure(self, queue: _Queue) -> None:
        config, registers = queue.config, self.device.regs

        def of(name: str) -> Any:
            return registers[queue_register(queue.number, name)]

        of("SIZE").value = config.size
        of("THRESHOLD").value = config.size if config.threshold is None else config.threshold
        has_pager = config.pager is not None
        of("MODE").write(dedicated=config.dedicated, bof=has_pager, priority=config.priority, pasid_enable=has_pager)
        of("LIMITS").value = config.max_transfer_shift
        if config.pager is not None:
            of("TABLE_LO").value = config.pager.address & _MASK
            of("TABLE_HI").value = config.pager.address >> 32

    def command(self, command: Command, operand: int = 0) -> None:
        """Have the device carry out a command, and wait for its end. Raises :class:`DeviceFault` if it is refused."""
        self.device.regs.CMD.write(command=command, operand=operand)
        self.device.wait_register("CMDSTS", _ACTIVE, 0)
        error = self.device.regs.CMDSTS.ERROR
        if error:
            name = CommandError(error).name if error in tuple(CommandError) else f"error {error:#x}"
            raise DeviceFault(f"{self.device.url}: command {command.name} with operand {operand:#x} was refused: "
                              f"{name}")

    def abort(self, queue: int | None = None) -> None:
        """Abort all jobs, or those of one queue: they end with ABORTED."""
        if queue is None:
            self.command(Command.ABORT_ALL)
        else:
            self.command(Command.ABORT_WQ, 1 << queue)

    def drain(self, queue: int | None = None) -> None:
        """Wait until the queues, or one of them, have nothing to do."""
        for handle in list(self._outstanding):
            if queue in (None, handle.queue):
                self.wait(handle)

    # Jobs

    @property
    def in_flight(self) -> int:
        """Jobs submitted whose results the driver has not seen yet."""
        return len(self._outstanding)

    @property
    def max_transfer(self) -> int:
        """Most bytes of a source or destination on queue 0."""
        return 1 << self._queues[0].config.max_transfer_shift

    def submit(self, job: Job | Descriptor, queue: int = 0, *, wait: bool = True, timeout: float | None = None,
               cycles: int | None = None) -> Handle:
        """Give a job to the device.

        With ``wait`` the queue has taken it on return: while it is full, device time passes, at first little, then
        twice as much at each try. Without, a job that a full queue refuses is tried again when any job is polled or
        waited for; a transcript misses that. Jobs of one queue keep their order. The driver puts the completion
        record's address and flags in.

        Raises
        ------
        DeviceTimeout
            The queue stayed full for too long: ``timeout`` in seconds of the host, ``cycles`` of the device.
        """
        if not 0 <= queue < len(self._queues):
            raise ValueError(f"queue must be 0 to {len(self._queues) - 1}, not {queue}")
        handle = self._prepare(Job.of(job) if isinstance(job, Descriptor) else job, queue)
        self._queues[queue].backlog.append(handle)
        self._outstanding[handle] = None
        self._push(self._queues[queue])
        if wait:
            self._accept(handle, timeout, cycles)
        return handle

    def _prepare(self, job: Job, queue: int) -> Handle:
        """A handle with its records, and its descriptor as it will be written."""
        needed = 1 + len(job.members)
        if needed > self._slots:
            raise ValueError(f"members must be at most {self._slots - 1}, not {len(job.members)}")
        while len(self._free) < needed:
            self.wait(next(iter(self._outstanding)))
        handle = self._handle(job, queue)
        descriptor = self._filled_in(handle, Flag.REQUEST_INTERRUPT)
        if job.members:
            handle.members = tuple(self._handle(member, queue) for member in job.members)
            handle._array = self.device.allocate((len(job.members), DESCRIPTOR_SIZE))
            for row, member in zip(handle._array, handle.members, strict=True):
                row[:] = np.frombuffer(self._filled_in(member, Flag(0)).pack(), np.uint8)
            handle._array.sync_to_device()
            descriptor = replace(descriptor, source=handle._array.device_address)
        raw = descriptor.pack()
        handle._words = tuple(int.from_bytes(raw[at:at + 4], "little") for at in range(0, DESCRIPTOR_SIZE, 4))
        return handle

    def _handle(self, job: Job, queue: int) -> Handle:
        handle = Handle(self, job, queue, self._free.popleft())
        record = self._records[handle._slot]
        record[:] = 0
        record.sync_to_device()
        if job.source is not None:
            job.source.sync_to_device()
        return handle

    def _filled_in(self, handle: Handle, flags: Flag) -> Descriptor:
        """The descriptor of a job with its completion record; pages are waited for only where somebody brings them."""
        descriptor = handle.job.descriptor
        general = descriptor.flags | _RECORDED | flags
        if self._queues[handle.queue].config.pager is None:
            general &= ~int(Flag.BLOCK_ON_FAULT)
        return replace(descriptor, flags=general, completion=self._records[handle._slot].device_address)

    def _push(self, queue: _Queue) -> None:
        """Give the queue what it takes now of what waits for it."""
        while queue.backlog and queue.has_credit and not queue.is_waiting and self.device.cycles >= queue.retry_at:
            handle = queue.backlog[0]
            if not self.device.write_block(queue.portal(), handle._words):
                self.refusals += 1
                queue.retry_at = self.device.cycles + queue.delay
                queue.delay = min(2 * queue.delay, _LAST_DELAY)
                return
            self._accepted(queue)

    def _accepted(self, queue: _Queue) -> None:
        queue.backlog.popleft().accepted = True
        queue.running += 1
        queue.delay, queue.retry_at = _FIRST_DELAY, 0

    def _accept(self, handle: Handle, timeout: float | None, cycles: int | None) -> None:
        """Wait until the queue has taken the job, and all those before it."""
        queue = self._queues[handle.queue]
        while not handle.accepted:
            self._alive(handle)
            if not queue.has_credit:
                oldest = next(other for other in self._outstanding if other.queue == queue.number)
                self.wait(oldest, timeout, cycles)
                continue
            queue.is_waiting = True
            try:
                self.refusals += self.device.submit_portal(
                    queue.portal(), queue.backlog[0]._words, timeout=timeout, cycles=cycles,
                    what=f"room in queue {queue.number}", on_refusal=self._service)
            finally:
                queue.is_waiting = False
            self._accepted(queue)

    def _alive(self, handle: Handle) -> None:
        if handle.lost:
            raise DeviceFault(f"{self.device.url}: a job was lost when the device was reset")

    def poll(self, handle: Handle) -> bool:
        """Whether the record is there. Lets no device time pass; a transcript does not show it before it is."""
        if handle.completion is None and not handle.lost:
            self._push(self._queues[handle.queue])
            self._service()
            record = self._records[handle._slot]
            with self.device.unrecorded():
                record.sync_from_device()
            if record[0]:
                self._finish(handle)
        return handle.completion is not None

    def wait(self, handle: Handle, timeout: float | None = None, cycles: int | None = None) -> Completion:
        """Wait until the job is done and return its completion record, whatever it says of the job.

        ``timeout`` in seconds of the host, ``cycles`` of the device. Without both the limit follows from the sizes,
        far above what a working device needs.

        Raises
        ------
        DeviceTimeout
            There was no record in time. :meth:`reset` makes the device usable again.
        DeviceFault
            The device told of an error in SWERR, or the record makes no sense.
        ChecksumMismatch
            The bytes in memory are not those that the device wrote, of the job or of a list's member.
        """
        if handle.completion is None:
            self._wait([handle], timeout, cycles)
            self._finish(handle)
        for part in (handle, *handle.members):
            if part.mismatch is not None:
                raise part.mismatch
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
        if timeout is None and cycles is None:
            cycles = 4_000_000 + 200 * sum(handle.job.size for handle in self._outstanding)
        for handle in handles:
            self._alive(handle)
        if not any(handle.accepted for handle in handles):
            self._accept(handles[0], timeout, cycles)
        self.device.wait_nonzero(
            [self._records[handle._slot].device_address for handle in handles if handle.accepted],
            acknowledge="INTCAUSE", timeout=timeout, cycles=cycles, what="completion of a job",
            on_interrupt=self._on_interrupt, progress=self._go_on)

    def _go_on(self, device: Device) -> None:
        for queue in self._queues:
            self._push(queue)
        if self.progress:
            self.progress(device)

    def _service(self) -> None:
        """See to what the device asks for."""
        with self.device.unrecorded():
            if self.device.irq:
                causes = self.device.regs.INTCAUSE.value
                self.device.regs.INTCAUSE.value = causes
                self._on_interrupt(causes)

    def _on_interrupt(self, causes: int) -> None:
        if causes & InterruptCause.SOFTWARE_ERROR:
            self._tell_error()
        if causes & InterruptCause.PAGE_REQUEST:
            self._page()
        for queue in self._queues:
            self._push(queue)

    def _page(self) -> None:
        """Answer all page requests."""
        registers = self.device.regs
        while (request := registers.PAGE_REQUEST.fields)["VALID"]:
            pager = self._queues[request["QUEUE"]].config.pager
            if pager is None:
                registers.PAGE_RESPONSE.value = PageResponse.INVALID
            else:
                pager.serve(registers.PAGE_ADDRESS_HI.value << 32 | registers.PAGE_ADDRESS_LO.value)

    def _tell_error(self) -> None:
        registers = self.device.regs
        error = registers.SWERR0.fields
        address = registers.SWERR_ADDRESS_HI.value << 32 | registers.SWERR_ADDRESS_LO.value
        operation = registers.SWERR1.OPERATION
        registers.SWERR0.value = _MASK
        code = error["ERROR"]
        name = Status(code).name if code in tuple(Status) else f"error {code:#x}"
        raise DeviceFault(f"{self.device.url}: {name} of operation {operation:#x} in queue {error['QUEUE']} at address "
                          f"{address:#x}, which no completion record tells\n{self.device.state()}")

    def _finish(self, handle: Handle) -> None:
        """Take the record of a job, and those of a list's members, and give the places back."""
        self._outstanding.pop(handle)
        self._queues[handle.queue].running -= 1
        parts = [handle, *handle.members]
        try:
            for part in parts:
                self._read(part)
        finally:
            self._free.extend(part._slot for part in parts)
            if handle._array is not None:
                handle._array.free()
        for part in parts:
            self._check(part)

    def _read(self, handle: Handle) -> None:
        record, job = self._records[handle._slot], handle.job
        record.sync_from_device(volatile=_CYCLES)
        completion = handle.completion = Completion.unpack(record.tobytes())
        room, size = job.descriptor.destination_size, job.descriptor.source_size
        known = completion.status & 0x7F in tuple(Status)
        if not known or job.destination is not None and completion.output_size > room or completion.completed > size:
            raise DeviceFault(f"{self.device.url}: a completion record makes no sense: {completion}")
        if job.destination is not None and completion.output_size:
            job.destination[:completion.output_size].sync_from_device()

    def _check(self, handle: Handle) -> None:
        completion = handle.completion
        if completion is not None and self.verify and completion.status in (Status.SUCCESS, Status.OUTPUT_OVERFLOW):
            try:
                handle.job.check(completion)
            except ChecksumMismatch as error:
                handle.mismatch = error

    # Tables

    def _count_generation(self) -> None:
        self._generation = (self._generation + 1) & _MASK
        self.device.regs.AECS_GENERATION.value = self._generation

    def load_table(self, header: bytes, *, crc: int = 0, xor_checksum: int = 0) -> Table:
        """Put a canned table into device memory.

        ``header`` is the header of a final dynamic block, made to end on a byte boundary; checksums of the jobs' output
        go on from the seeds. The device reads a table once and keeps it; what it keeps of others is forgotten now.
        """
        aecs = Aecs(header, crc, xor_checksum)
        table = Table(self.device.allocate(AECS_SIZE), aecs)
        self._count_generation()
        return table

    # Whole buffers

    def _buffer(self, name: str, size: int) -> Buffer:
        """A buffer of ``size`` bytes that lives as long as the driver, if it is the largest of its name."""
        buffer = self._scratch.get(name)
        if buffer is None or buffer.nbytes < size:
            buffer = self._scratch[name] = self.device.allocate(-(-max(size, 1) // _PAGE) * _PAGE, alignment=_PAGE)
        return buffer[:size]

    def _put(self, name: str, data: bytes) -> Buffer:
        buffer = self._buffer(name, len(data))
        buffer[:] = np.frombuffer(data, np.uint8)
        return buffer

    def _fell_back(self, reason: Exception | str) -> None:
        self.fallbacks += 1
        self.last_fallback = str(reason).splitlines()[0]
        if isinstance(reason, (DeviceFault, DeviceTimeout)):
            self.reset()

    def decompress(self, data: bytes, framing: Framing = Framing.RAW, *, size: int | None = None,
                   table: Table | None = None, timeout: float | None = None) -> bytes:
        """``data`` decompressed: one raw or zlib stream, or all members of gzip data. Bytes behind it are ignored.

        Without ``size`` the room for the output is guessed, and the job done again with more where it was not enough.
        When the device fails, software does it: see :attr:`last_fallback`. ``timeout`` is in seconds for each job.

        Raises
        ------
        InvalidData
            The data is wrong or cut short, or does not hold ``size`` bytes.
        """
        with self.lock:
            reason: Exception | str = f"{len(data)} bytes are more than a job can have"
            if 0 < len(data) <= self.max_transfer and (size or 0) <= self.max_transfer:
                try:
                    return self._decompress(data, framing, size, table, timeout)
                except (IaaError, DeviceFault, DeviceTimeout) as error:
                    reason = error
            self._fell_back(reason)
            header = b"" if table is None else table.header
            try:
                return decompress(data, framing, size=size, header=header)
            except InvalidData as error:
                if isinstance(reason, InvalidData):
                    raise reason from error
                raise

    def _decompress(self, data: bytes, framing: Framing, size: int | None, table: Table | None,
                    timeout: float | None) -> bytes:
        source = self._put("source", data)
        room = min(max(_PAGE, 4 * len(data)), self.max_transfer) if size is None else max(size, 1)
        while True:
            destination = self._buffer("destination", room)
            completion = self.submit(Job.decompress(source, destination, framing, table=table),
                                     timeout=timeout).wait(timeout)
            if completion.status == Status.OUTPUT_OVERFLOW and size is None and room < self.max_transfer:
                room = min(4 * room, self.max_transfer)
                continue
            if completion.status != Status.SUCCESS:
                raise failed(completion)
            if size is not None and completion.output_size != size:
                raise InvalidData(f"the data holds {completion.output_size} bytes, not {size}", completion)
            return destination[:completion.output_size].tobytes()

    def decompress_many(self, pages: Sequence[bytes], size: int = _PAGE, *, table: Table | None = None,
                        timeout: float | None = None) -> list[bytes]:
        """Raw streams, each of at most ``size`` bytes, decompressed: as lists, so that a page takes no submission.

        Pages that the device fails at are done by software. Errors and ``timeout`` as in :meth:`decompress`.
        """
        with self.lock:
            outputs: list[bytes] = []
            at_a_time = self.device.parameters["engines"] * self.device.parameters["contexts"]
            most = max(1, (self._slots - 1) // at_a_time - 1) * at_a_time
            for begin in range(0, len(pages), most):
                outputs += self._lists(pages[begin:begin + most], size, table, at_a_time, timeout)
            return outputs

    def _lists(self, pages: Sequence[bytes], size: int, table: Table | None, lists: int,
               timeout: float | None) -> list[bytes]:
        ends = np.cumsum([0, *(-(-len(page) // 64) * 64 for page in pages)]).tolist()
        source = self._buffer("source", max(ends[-1], 64))
        destination = self._buffer("destination", size * len(pages))
        jobs: list[Job | None] = []
        for number, page in enumerate(pages):
            if not 0 < len(page) <= self.max_transfer:
                jobs.append(None)
                continue
            part = source[ends[number]:ends[number] + len(page)]
            part[:] = np.frombuffer(page, np.uint8)
            jobs.append(Job.decompress(part, destination[size * number:size * (number + 1)], table=table))
        there = [job for job in jobs if job is not None]
        handles: dict[int, Handle] = {}
        reason: Exception | str = "the job was not done"
        try:
            step = -(-len(there) // lists)
            groups = [there[at:at + step] for at in range(0, len(there), step)] if there else []
            submitted = [self.submit(Job.list(group), timeout=timeout) for group in groups]
            for handle in submitted:
                with contextlib.suppress(ChecksumMismatch):  # the page is done again below
                    handle.wait(timeout)
                handles |= {id(member.job): member for member in handle.members}
        except (DeviceFault, DeviceTimeout) as error:
            reason = error
            self._fell_back(error)
        return [self._page_of(page, jobs[number], handles, size, table, reason) for number, page in enumerate(pages)]

    def _page_of(self, page: bytes, job: Job | None, handles: dict[int, Handle], size: int, table: Table | None,
                 reason: Exception | str) -> bytes:
        """A page of a list, by software if it has not come out well."""
        handle = None if job is None else handles.get(id(job))
        if handle is not None and job is not None and job.destination is not None and handle.completion is not None:
            completion = handle.completion
            if completion.status == Status.SUCCESS and handle.mismatch is None:
                return job.destination[:completion.output_size].tobytes()
            reason = handle.mismatch or failed(completion)
        self.fallbacks += 1
        self.last_fallback = str(reason).splitlines()[0]
        output = decompress(page, header=b"" if table is None else table.header)
        if len(output) > size:
            raise InvalidData(f"a page holds {len(output)} bytes, more than {size}")
        return output

    def crc64(self, data: bytes, polynomial: int, *, invert: bool = False, big_endian: bool = False,
              timeout: float | None = None) -> int:
        """CRC of ``data``; see :func:`rackgate_host.iaa.checksums.crc64`. When the device fails, software does it."""
        with self.lock:
            reason: Exception | str = f"{len(data)} bytes are none, or more than a job can have"
            if 0 < len(data) <= self.max_transfer:
                try:
                    job = Job.crc64(self._put("source", data), polynomial, invert=invert, big_endian=big_endian)
                    completion = self.submit(job, timeout=timeout).wait(timeout)
                    if completion.status == Status.SUCCESS:
                        return completion.crc64
                    reason = failed(completion)
                except (IaaError, DeviceFault, DeviceTimeout) as error:
                    reason = error
            self._fell_back(reason)
            return crc64(data, polynomial, invert=invert, big_endian=big_endian)

    def fill(self, destination: Buffer, pattern: int = 0, *, timeout: float | None = None) -> None:
        """Fill a buffer in device memory with the 8 bytes of ``pattern``. When the device fails, the host does it."""
        with self.lock:
            try:
                completion = self.submit(Job.fill(destination, pattern), timeout=timeout).wait(timeout)
                wanted = np.frombuffer((pattern.to_bytes(8, "little") * (destination.nbytes // 8 + 1)), np.uint8)
                wanted = wanted[:destination.nbytes]
                if completion.status == Status.SUCCESS and np.array_equal(destination.view(np.ndarray), wanted):
                    return
                reason: Exception = failed(completion)
            except (IaaError, DeviceFault, DeviceTimeout) as error:
                reason = error
            self._fell_back(reason)
            repeated = pattern.to_bytes(8, "little") * (destination.nbytes // 8 + 1)
            destination[:] = np.frombuffer(repeated, np.uint8)[:destination.nbytes]
            destination.sync_to_device()

    def close(self) -> None:
        """Disable the device and give back the driver's memory. A device that :meth:`open` opened is closed."""
        if self.device.closed or self.device.driver is not self:
            return
        self.device.regs.IRQ_ENABLE.value = 0
        self.device.regs.CMD.write(command=Command.RESET_DEVICE)
        self.device.wait_register("CMDSTS", _ACTIVE, 0)
        for buffer in (self._records, *self._scratch.values()):
            buffer.free()
        self.device.driver = None
        if self._owns_device:
            self.device.close()

    def __enter__(self) -> "IaaDriver":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
