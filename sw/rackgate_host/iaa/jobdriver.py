# SPDX-License-Identifier: Apache-2.0
"""Jobs to the IAA-style device and back: its queues, its completion records, its interrupts."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rackgate.iaa.abi import (
    COMPLETION_SIZE,
    DESCRIPTOR_SIZE,
    Command,
    CommandError,
    Completion,
    Descriptor,
    Flag,
    InterruptCause,
    PageResponse,
    Status,
    queue_register,
)

from ..device import Device
from ..errors import DeviceFault, UsageError
from .errors import ChecksumMismatch
from .jobs import Handle, Job
from .queues import FIRST_DELAY, LAST_DELAY, Queue, QueueConfig

__all__ = ["ACTIVE", "JobDriver"]

_CYCLES = ((52, 56),)  # of a completion record: the world's, not the data's
_MASK = 0xFFFFFFFF
#: Of CMDSTS: a command is under way.
ACTIVE = 1 << 31
_RECORDED = Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION


class JobDriver:
    """Configures an IAA-style device, submits jobs, answers its requests, and waits for results.

    Setting up resets the device, so a device has one driver.

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
    progress:
        Called with the device now and then while a job is waited for.
    refusals:
        How often a queue was full.
    """

    def __init__(self, device: Device, *, queues: Sequence[QueueConfig] | None = None,
                 engines: Mapping[int, int] | None = None, slots: int = 256, verify: bool = True):
        if device.kind.name != "iaa":
            raise UsageError(f"{device.url} is no iaa device")
        if slots < 2:
            raise ValueError(f"slots must be at least 2, not {slots}")
        self.device = device
        self.verify = verify
        self.progress: Callable[[Device], None] | None = None
        self.refusals = 0
        configs = [QueueConfig(device.parameters["entries"])] if queues is None else list(queues)
        if not 1 <= len(configs) <= device.parameters["queues"]:
            raise ValueError(f"queues must be 1 to {device.parameters['queues']}, not {len(configs)}")
        self._queues = [Queue(number, config) for number, config in enumerate(configs)]
        self._engines = self._share(configs) if engines is None else dict(engines)
        self._records = device.allocate((slots, COMPLETION_SIZE))
        self._outstanding: OrderedDict[Handle, None] = OrderedDict()
        self._free: deque[int] = deque()
        self._slots = slots
        self._generation = 0
        device.driver = self
        self.reset()

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
            queue.running, queue.delay, queue.retry_at = 0, FIRST_DELAY, 0
        registers = self.device.regs
        registers.CMD.write(command=Command.RESET_DEVICE)
        self.device.wait_register("CMDSTS", ACTIVE, 0)
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

    def _configure(self, queue: Queue) -> None:
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
        self.device.wait_register("CMDSTS", ACTIVE, 0)
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

    def _push(self, queue: Queue) -> None:
        """Give the queue what it takes now of what waits for it."""
        while queue.backlog and queue.has_credit and not queue.is_waiting and self.device.cycles >= queue.retry_at:
            handle = queue.backlog[0]
            if not self.device.write_block(queue.portal(), handle._words):
                self.refusals += 1
                queue.retry_at = self.device.cycles + queue.delay
                queue.delay = min(2 * queue.delay, LAST_DELAY)
                return
            self._accepted(queue)

    def _accepted(self, queue: Queue) -> None:
        queue.backlog.popleft().accepted = True
        queue.running += 1
        queue.delay, queue.retry_at = FIRST_DELAY, 0

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
            The device told of an error in SWERR, or the record makes no sense. Interrupts are looked at only while time
            passes: what SWERR says of a descriptor without a record is told by :meth:`poll` if the jobs that are waited
            for are done at the first look, as short ones are behind a cable.
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

    def _count_generation(self) -> None:
        self._generation = (self._generation + 1) & _MASK
        self.device.regs.AECS_GENERATION.value = self._generation
