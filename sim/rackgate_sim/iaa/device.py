# SPDX-License-Identifier: Apache-2.0
"""The IAA-style device at its registers: portals, work queues, commands, translation, page requests, interrupt.

Descriptors have the golden model's results (``rackgate_sim.iaa.model``). Their times are plausible and
deterministic, nothing more: they are no statement about the gateware's speed.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rackgate.csr.map import Access
from rackgate.iaa.abi import (
    COMPLETION_SIZE,
    DESCRIPTOR_SIZE,
    GROUPS,
    PAGE_SIZE,
    PORTAL_SIZE,
    PORTALS,
    QUEUES,
    REGISTERS,
    Command,
    CommandError,
    Completion,
    Descriptor,
    DeviceState,
    Flag,
    InterruptCause,
    Opcode,
    PageResponse,
    PageTableEntry,
    QueueState,
    Status,
    queue_register,
)
from rackgate_sim.iaa.model import (
    ADDRESS_BITS,
    LIST_MEMBER_FAILED,
    Fault,
    Outcome,
    Rules,
    Translate,
    identity,
    is_record_due,
    perform,
)
from rackgate_sim.inflate.model import BusError, Memory
from rackgate_sim.registermodel import WORD, RegisterModel

__all__ = ["IaaModel"]

_DISPATCH_CYCLES = 12  # from one descriptor to the next
_JOB_CYCLES = 60  # what a descriptor takes besides its bytes
_INPUT_BYTES_PER_CYCLE = 2
_OUTPUT_BYTES_PER_CYCLE = 4
_COMMAND_CYCLES = 4
_WORDS = DESCRIPTOR_SIZE // 4
_ENTRY_ADDRESS = (1 << ADDRESS_BITS) - PAGE_SIZE
_MASKED = (Command.DISABLE_WQ, Command.DRAIN_WQ, Command.ABORT_WQ, Command.RESET_WQ)
_ABORTING = (Command.ABORT_ALL, Command.ABORT_WQ, Command.RESET_WQ)
_CLOSING = (Command.DISABLE_DEVICE, Command.DISABLE_WQ, Command.RESET_WQ)


def _bits(register: str, name: str, value: int) -> int:
    """A field of ``value``, which is that of ``register``."""
    bits = next(bits for bits in REGISTERS[register].fields if bits.name == name)
    return (value & bits.mask) >> bits.lsb


def _in_portals(offset: int) -> bool:
    return PORTALS <= offset < PORTALS + QUEUES * PORTAL_SIZE


_MAX_SHIFT = _bits("GENCAP_LO", "MAX_TRANSFER_SHIFT", REGISTERS["GENCAP_LO"].reset)


@dataclass
class _Job:
    """A descriptor on a lane.

    ``finish`` is the cycle of its end, ``None`` while it waits for the page of ``fault``, until ``deadline`` if there
    is one. ``refused``: the host would not give that page. ``todo`` are a list's descriptors to come,
    ``done`` counts the others, ``parent`` is the list of a descriptor in one.
    """

    descriptor: Descriptor
    queue: int
    lane: int
    started: int
    parent: "_Job | None" = None
    outcome: Outcome = field(default_factory=lambda: Outcome(Completion()))
    finish: int | None = None
    fault: Fault | None = None
    refused: Fault | None = None
    deadline: int | None = None
    todo: deque[Descriptor] = field(default_factory=deque)
    done: int = 0
    has_failed: bool = False
    has_members: bool = False


@dataclass
class _Queue:
    """A work queue. ``place`` and ``following``: the descriptor being written, and the word that comes next of it."""

    state: QueueState = QueueState.DISABLED
    entries: deque[Descriptor] = field(default_factory=deque)
    region: range = range(0)
    words: list[int] = field(default_factory=lambda: [0] * _WORDS)
    place: int = 0
    following: int = 0
    has_room: bool = False
    granted: int = -1
    is_aborting: bool = False


@dataclass
class _Running:
    """A command under way."""

    command: Command
    queues: int
    tell: bool
    earliest: int


class IaaModel(RegisterModel):
    """A software device with the registers of ``rackgate.iaa.abi.REGISTERS``.

    Time passes only in :meth:`run`. A source is read when its descriptor begins or one of its pages has come, output
    and completion record are written when it ends. Commands take a few cycles, and as long as they have to wait.

    What is left open by the register map is settled so: lists do their descriptors one after the other. A list that is
    aborted says how many it had done; the one that it was at gets a record with ABORTED, the others none. A page
    request is answered by SUCCESS when the page is there: if it is not, the descriptor ends with PAGE_FAULT, as after
    any other answer. Descriptors with REQUEST_INTERRUPT raise it whatever their status. SWERR tells of records that
    have no place; errors of descriptors that want no record are told nowhere. A bus error in the tables of the
    translation is as a page that is not there.

    Parameters
    ----------
    memory:
        What the device sees at its memory port, for instance a ``FlatMemory``.
    engines:
        1, 2, 4 or 8.
    queues, entries:
        Work queues, 1 to 8, and descriptors that all of them together hold, 2 to 1024.
    contexts:
        Descriptors that an engine works on at a time, 1 to 6.
    window:
        As for :class:`rackgate_sim.inflate.model.Engine`.
    lanes:
        Value of PARAM_LANES; of no effect.
    ports:
        Value of PARAM_PORTS, 1 to ``engines``; of no effect.
    build:
        Value of BUILD_LO and BUILD_HI, 64 bits.
    """

    def __init__(self, memory: Memory, *, engines: int = 1, queues: int = 4, entries: int = 64, contexts: int = 2,
                 window: int = 32768, lanes: int = 16, ports: int = 1, build: int = 0) -> None:
        if engines not in (1, 2, 4, 8):
            raise ValueError(f"engines must be 1, 2, 4 or 8, not {engines}")
        for name, value, least, most in (("queues", queues, 1, QUEUES), ("entries", entries, 2, 1024),
                                         ("contexts", contexts, 1, 6)):
            if not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most}, not {value}")
        if ports not in (1, 2, 4, 8) or ports > engines:
            raise ValueError(f"ports must be 1, 2, 4 or 8 and at most {engines}, one an engine, not {ports}")
        if window not in (4096, 32768):
            raise ValueError(f"window must be 4096 or 32768, not {window}")
        if not 0 <= build < 1 << 64:
            raise ValueError(f"build must fit 64 bits, not be {build:#x}")
        self._memory = memory
        self._engines, self._entries, self._contexts, self._window = engines, entries, contexts, window
        self._queue_count = queues
        absent = [name for queue in range(queues, QUEUES) for name in REGISTERS
                  if name.startswith(queue_register(queue, ""))]
        super().__init__(REGISTERS, {
            "PARAM_ENGINES": engines, "PARAM_QUEUES": queues, "PARAM_ENTRIES": entries, "PARAM_CONTEXTS": contexts,
            "PARAM_WINDOW": window, "PARAM_LANES": lanes, "PARAM_PORTS": ports,
            "BUILD_LO": build & WORD, "BUILD_HI": build >> 32,
            "WQCAP_LO": entries | queues << 16 | 1 << 24, "ENGCAP": engines,
        }, absent)
        self._restart()

    def _restart(self) -> None:
        self._device = DeviceState.DISABLED
        self._queues = [_Queue() for _ in range(self._queue_count)]
        self._lanes: list[_Job | None] = [None] * (self._engines * self._contexts)
        self._requests: deque[_Job] = deque()
        self._command: _Running | None = None
        self._dispatch_from = 0

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return bool(self._registers["INTCAUSE"] & self._registers["IRQ_ENABLE"])

    # Registers

    def read_register(self, offset: int) -> int | None:
        """The register at byte ``offset``, zero in a portal; ``None`` if the bus answers with SLVERR.

        Raises ``ValueError`` if ``offset`` is no multiple of 4.
        """
        name = self._name(offset)
        return 0 if name is None and _in_portals(offset) else super().read_register(offset)

    def _value(self, name: str) -> int:
        if name == "GENSTS":
            return self._device
        if name.startswith("PAGE_") and self._requests:
            return self._page_register(name)
        if name.startswith("WQ") and name.endswith("_STATE"):
            queue = self._queues[int(name[2])]
            return len(queue.entries) | queue.state << 30
        return self._registers[name]

    def _page_register(self, name: str) -> int:
        job = self._requests[0]
        assert job.fault is not None
        if name == "PAGE_REQUEST":
            mode = self._registers[queue_register(job.queue, "MODE")]
            return (1 | job.fault.write << 1 | job.lane // self._contexts << 4 | job.queue << 8
                    | _bits("WQ0_MODE", "PASID", mode) << 12)
        if name.startswith("PAGE_ADDRESS"):
            return job.fault.address >> (32 if name.endswith("HI") else 0) & WORD
        return self._registers[name]

    def write_register(self, offset: int, value: int) -> bool:
        """Write the register or the word of a portal at byte ``offset``. Whether the bus answered OKAY.

        Raises ``ValueError`` for a bad offset or value.
        """
        if self._name(offset) is None and _in_portals(offset) and 0 <= value <= WORD:
            return self._write_portal(*divmod(offset - PORTALS, PORTAL_SIZE), value)
        return super().write_register(offset, value)

    def _write(self, name: str, value: int) -> None:
        register = REGISTERS[name]
        if register.access == Access.W1C:
            self._registers[name] &= ~value
        elif register.access == Access.RW and not (name == "CMD" and self._command is not None):
            self._registers[name] = value & (sum(bits.mask for bits in register.fields) or WORD)
        if name == "CMD" and self._command is None:
            self._begin_command(value)
        elif name == "PAGE_RESPONSE" and self._requests:
            self._answer(value & 15)

    def _write_portal(self, number: int, offset: int, value: int) -> bool:
        if number >= self._queue_count:
            return False
        queue = self._queues[number]
        place, word = offset // DESCRIPTOR_SIZE, offset % DESCRIPTOR_SIZE // 4
        if queue.state != QueueState.ENABLED:
            queue.following = 0
            return False
        if word == 0:
            queue.place, queue.has_room = place, len(queue.entries) < len(queue.region)
        elif place != queue.place:
            return False
        elif word != queue.following:
            queue.following = 0
            return False
        queue.words[word] = value
        queue.following = (word + 1) % _WORDS
        return word < _WORDS - 1 or self._submit(number)

    def _submit(self, number: int) -> bool:
        queue = self._queues[number]
        is_dedicated = bool(self._registers[queue_register(number, "MODE")] & 1)
        if not queue.has_room or not is_dedicated and len(queue.entries) >= self._threshold(number):
            if is_dedicated:
                self._tell_error(Status.QUEUE_FULL, number, None, 0)
            return is_dedicated
        queue.entries.append(Descriptor.unpack(b"".join(word.to_bytes(4, "little") for word in queue.words)))
        self._dispatch_from = max(self._dispatch_from, self._cycle + 1)
        return True

    def _threshold(self, number: int) -> int:
        return self._registers[queue_register(number, "THRESHOLD")]

    def _raise(self, cause: InterruptCause) -> None:
        self._registers["INTCAUSE"] |= cause

    def _tell_error(self, status: int, queue: int, descriptor: Descriptor | None, address: int,
                    write: bool = False) -> None:
        """Put an error into SWERR."""
        self._raise(InterruptCause.SOFTWARE_ERROR)
        if self._registers["SWERR0"] & 1:
            self._registers["SWERR0"] |= 2
            return
        mode = self._registers[queue_register(queue, "MODE")]
        pasid = _bits("WQ0_MODE", "PASID", mode) if _bits("WQ0_MODE", "PASID_ENABLE", mode) else 0
        has_descriptor = descriptor is not None
        self._registers["SWERR0"] = 1 | has_descriptor << 2 | 1 << 3 | write << 5 | status << 8 | queue << 16
        self._registers["SWERR1"] = 0 if descriptor is None else descriptor.opcode | pasid << 8
        self._registers["SWERR_ADDRESS_LO"] = address & WORD
        self._registers["SWERR_ADDRESS_HI"] = address >> 32

    # Commands

    def _groups(self, queue: int) -> list[int]:
        """Groups of a queue that have an engine."""
        return [group for group in range(GROUPS) if self._registers[f"GRP{group}_WQS"] >> queue & 1
                and self._engine_mask(group)]

    def _engine_mask(self, group: int) -> int:
        return self._registers[f"GRP{group}_ENGINES"] & (1 << self._engines) - 1

    def _begin_command(self, value: int) -> None:
        operand, code = _bits("CMD", "OPERAND", value), _bits("CMD", "COMMAND", value)
        tell = bool(_bits("CMD", "REQUEST_INTERRUPT", value))
        error = self._command_error(code, operand)
        if error:
            self._registers["CMDSTS"] = error
            if tell:
                self._raise(InterruptCause.COMMAND_DONE)
            return
        command = Command(code)
        if command == Command.RESET_DEVICE:
            self._reset_registers()
            self._restart()
            return
        queues = operand & 0xFFFF if command in _MASKED else 0
        if command in (Command.DISABLE_DEVICE, Command.DRAIN_ALL, Command.ABORT_ALL):
            queues = (1 << self._queue_count) - 1
        elif command == Command.ENABLE_WQ:
            self._queues[operand].region = self._region(operand)
            queues = 1 << operand
        self._command = _Running(command, queues, tell, self._cycle + _COMMAND_CYCLES)
        self._registers["CMDSTS"] = 1 << 31
        if command == Command.DISABLE_DEVICE:
            self._device = DeviceState.DRAINING
        if command != Command.ENABLE_WQ:
            for queue in self._chosen(queues):
                if queue.state == QueueState.ENABLED:
                    queue.state, queue.is_aborting = QueueState.DRAINING, command in _ABORTING
        if command in _ABORTING:
            self._abort(queues)

    def _chosen(self, mask: int) -> list[_Queue]:
        return [queue for number, queue in enumerate(self._queues) if mask >> number & 1]

    def _region(self, number: int) -> range:
        sizes = [self._registers[queue_register(queue, "SIZE")] for queue in range(number + 1)]
        return range(sum(sizes[:-1]), sum(sizes))

    def _command_error(self, code: int, operand: int) -> CommandError:
        """Why a command is refused, NONE if it is not; in the order that ``abi.CommandError`` gives."""
        if code not in tuple(Command):
            return CommandError.UNKNOWN_COMMAND
        is_enabled = self._device == DeviceState.ENABLED
        if code == Command.ENABLE_DEVICE:
            if is_enabled:
                return CommandError.DEVICE_ENABLED
            has_group = any(self._groups(queue) for queue in range(self._queue_count))
            return CommandError.NONE if has_group else CommandError.NO_GROUPS
        if code == Command.ENABLE_WQ:
            return self._enable_error(operand) if is_enabled else CommandError.DEVICE_NOT_ENABLED
        if code in _MASKED:
            if not is_enabled:
                return CommandError.QUEUE_NOT_ENABLED
            if not 0 < operand < 1 << self._queue_count:
                return CommandError.BAD_QUEUE
            are_enabled = all(queue.state == QueueState.ENABLED for queue in self._chosen(operand))
            return (CommandError.NONE if are_enabled or code == Command.RESET_WQ else CommandError.QUEUE_NOT_ENABLED)
        return CommandError.NONE if is_enabled or code == Command.RESET_DEVICE else CommandError.DEVICE_DISABLED

    def _enable_error(self, number: int) -> CommandError:
        if number >= self._queue_count:
            return CommandError.BAD_QUEUE
        if self._queues[number].state != QueueState.DISABLED:
            return CommandError.QUEUE_ENABLED
        if not self._groups(number):
            return CommandError.QUEUE_IN_NO_GROUP
        region = self._region(number)
        taken = [queue.region for queue in self._queues if queue.state != QueueState.DISABLED]
        meets = any(region.start < other.stop and other.start < region.stop for other in taken)
        if not region or region.stop > self._entries or meets:
            return CommandError.BAD_QUEUE_SIZE
        mode = self._registers[queue_register(number, "MODE")]
        if not _bits("WQ0_MODE", "PRIORITY", mode):
            return CommandError.BAD_QUEUE_PRIORITY
        if not mode & 1 and not 0 < self._threshold(number) <= len(region):
            return CommandError.BAD_QUEUE_MODE
        shift = self._registers[queue_register(number, "LIMITS")]
        return CommandError.BAD_TRANSFER_SIZE if shift > _MAX_SHIFT else CommandError.NONE

    def _abort(self, mask: int) -> None:
        """End what the queues have on lanes."""
        for job in list(self._jobs()):
            if mask >> job.queue & 1:
                self._withdraw(job)
                top = job.parent or job
                top.todo.clear()
                job.outcome = Outcome(Completion(Status.ABORTED))
                job.refused = job.fault
                job.finish = self._cycle
                if job.parent is not None:
                    job.parent.outcome = Outcome(Completion(Status.ABORTED))

    def _jobs(self) -> Iterator[_Job]:
        return (job for job in self._lanes if job is not None)

    def _is_quiet(self, number: int) -> bool:
        return not self._queues[number].entries and all(job.queue != number for job in self._jobs())

    def _finish_command(self) -> None:
        running = self._command
        assert running is not None
        self._command = None
        for queue in self._chosen(running.queues):
            if running.command == Command.ENABLE_WQ:
                queue.state, queue.following = QueueState.ENABLED, 0
            elif queue.state == QueueState.DRAINING:
                queue.state = QueueState.DISABLED if running.command in _CLOSING else QueueState.ENABLED
            queue.is_aborting = False
        if running.command == Command.ENABLE_DEVICE:
            self._device = DeviceState.ENABLED
        elif running.command == Command.DISABLE_DEVICE:
            self._device = DeviceState.DISABLED
        self._registers["CMDSTS"] = 0
        if running.tell:
            self._raise(InterruptCause.COMMAND_DONE)

    def _is_command_ready(self) -> bool:
        """Whether nothing but time is missing for the end of the command."""
        running = self._command
        if running is None:
            return False
        waits = running.command not in (Command.ENABLE_DEVICE, Command.ENABLE_WQ)
        return not waits or all(self._is_quiet(number) for number in range(self._queue_count)
                                if running.queues >> number & 1)

    # Time

    def _is_working(self) -> bool:
        return any(True for _ in self._jobs())

    def _next_event(self) -> int | None:
        events = [at for job in self._jobs() for at in (job.finish, job.deadline) if at is not None]
        if self._is_command_ready():
            assert self._command is not None
            events.append(max(self._cycle, self._command.earliest))
        if self._choose() is not None:
            events.append(max(self._cycle, self._dispatch_from))
        return min(events, default=None)

    def _step(self) -> None:
        for job in list(self._jobs()):
            if job.deadline is not None and job.deadline <= self._cycle:
                self._time_out(job)
            elif job.finish is not None and job.finish <= self._cycle:
                self._finish(job)
        if self._is_command_ready() and self._command is not None and self._command.earliest <= self._cycle:
            self._finish_command()
        choice = self._choose()
        if choice is not None and self._dispatch_from <= self._cycle:
            self._dispatch(*choice)

    # Descriptors

    def _lane_for(self, queue: int) -> int | None:
        masks = [self._engine_mask(group) for group in self._groups(queue)]
        return next((lane for lane, job in enumerate(self._lanes) if job is None
                     and any(mask >> lane // self._contexts & 1 for mask in masks)), None)

    def _choose(self) -> tuple[int, int] | None:
        """The queue that is served next, and a lane for it: by priority in a group, then the longest unserved."""
        waiting: dict[int, int] = {}
        for number, queue in enumerate(self._queues):
            lane = self._lane_for(number) if queue.entries else None
            is_held = (lane is not None and queue.entries[0].opcode == Opcode.DRAIN
                       and any(job.queue == number for job in self._jobs()))
            if lane is not None and not is_held:
                waiting[number] = lane
        served = [number for number in waiting if not any(
            self._priority(other) > self._priority(number) and set(self._groups(other)) & set(self._groups(number))
            for other in waiting)]
        if not served:
            return None
        number = min(served, key=lambda number: (self._queues[number].granted, number))
        return number, waiting[number]

    def _priority(self, number: int) -> int:
        return _bits("WQ0_MODE", "PRIORITY", self._registers[queue_register(number, "MODE")])

    def _dispatch(self, number: int, lane: int) -> None:
        queue = self._queues[number]
        descriptor = queue.entries.popleft()
        queue.granted = self._cycle
        self._dispatch_from = self._cycle + _DISPATCH_CYCLES
        limit = self._registers[queue_register(number, "OCCUPANCY_LIMIT")]
        if limit >> 16 & 1 and len(queue.entries) + 1 == limit & 0xFFFF:
            self._raise(InterruptCause.OCCUPANCY)
        job = _Job(descriptor, number, lane, self._cycle)
        self._lanes[lane] = job
        if queue.is_aborting:
            job.outcome, job.finish = Outcome(Completion(Status.ABORTED)), self._cycle + 1
        else:
            self._evaluate(job)

    def _translate(self, number: int) -> Translate:
        """The translation of a queue's addresses."""
        mode = self._registers[queue_register(number, "MODE")]
        if not _bits("WQ0_MODE", "PASID_ENABLE", mode):
            return identity
        low, high = (self._registers[queue_register(number, name)] for name in ("TABLE_LO", "TABLE_HI"))
        table = (high << 32 | low) & _ENTRY_ADDRESS

        def translate(address: int, write: bool) -> int | None:
            self._count("TLB_MISSES")
            found = self._walk(table, address, write)
            if found is None:
                self._count("PAGE_FAULTS")
            return found

        return translate

    def _walk(self, table: int, address: int, write: bool) -> int | None:
        """The page at ``address`` by x86-64's tables."""
        for shift in (39, 30, 21, 12):
            try:
                raw = self._memory.read(table + 8 * (address >> shift & 511), 8)
            except BusError:
                return None
            entry = int.from_bytes(raw, "little")
            if not entry & PageTableEntry.PRESENT or write and not entry & PageTableEntry.WRITABLE:
                return None
            table = entry & _ENTRY_ADDRESS
            if shift == 21 and entry & PageTableEntry.LARGE:
                return (table & -(1 << 21)) + (address & (1 << 21) - PAGE_SIZE)
        return table

    def _rules(self, job: _Job) -> Rules:
        mode = self._registers[queue_register(job.queue, "MODE")]
        shift = self._registers[queue_register(job.queue, "LIMITS")]
        return Rules(self._window, shift, bool(_bits("WQ0_MODE", "BOF", mode)), job.parent is not None,
                     bool(_bits("WQ0_MODE", "PASID_ENABLE", mode)))

    def _evaluate(self, job: _Job) -> None:
        """Find out what a descriptor comes to, and when; or ask for a page."""
        job.outcome = perform(job.descriptor, self._memory, self._translate(job.queue), self._rules(job))
        fault = job.outcome.fault
        if fault is not None and self._ask(job, fault):
            return
        record = job.outcome.completion
        cycles = max(record.completed // _INPUT_BYTES_PER_CYCLE if not job.outcome.members else 0,
                     record.output_size // _OUTPUT_BYTES_PER_CYCLE)
        job.finish = self._cycle + _JOB_CYCLES + cycles

    def _ask(self, job: _Job, fault: Fault) -> bool:
        """Request a page, if the descriptor may block and the host has not refused it."""
        if not job.descriptor.flags & Flag.BLOCK_ON_FAULT or fault == job.refused or not self._rules(job).may_block:
            return False
        job.fault, job.finish = fault, None
        timeout = self._registers["PAGE_TIMEOUT"]
        job.deadline = self._cycle + timeout if timeout else None
        self._requests.append(job)
        if len(self._requests) == 1:
            self._raise(InterruptCause.PAGE_REQUEST)
        return True

    def _withdraw(self, job: _Job) -> None:
        """A job waits for its page no more."""
        if job not in self._requests:
            return
        was_shown = self._requests[0] is job
        self._requests.remove(job)
        job.deadline = None
        if was_shown and self._requests:
            self._raise(InterruptCause.PAGE_REQUEST)

    def _answer(self, code: int) -> None:
        job = self._requests[0]
        self._withdraw(job)
        # Whatever the answer was, this page is not asked for again.
        job.refused, job.fault = job.fault, None
        if job.outcome.fault is None:
            job.finish = self._cycle + 1  # it is the record's page
        elif code == PageResponse.SUCCESS:
            self._evaluate(job)
        else:
            job.finish = self._cycle + 1

    def _time_out(self, job: _Job) -> None:
        fault = job.fault
        assert fault is not None
        self._withdraw(job)
        job.refused, job.fault = fault, None
        if job.outcome.fault is not None:
            job.outcome = Outcome(Completion(Status.PAGE_REQUEST_TIMEOUT, fault_address=fault.address))
        job.finish = self._cycle + 1

    def _finish(self, job: _Job) -> None:
        """A descriptor has come to its end, or a list to its next descriptor."""
        if job.outcome.members and not job.has_members:
            job.has_members = True
            job.todo.extend(job.outcome.members)
        if job.todo:
            member = _Job(job.todo.popleft(), job.queue, job.lane, self._cycle, job)
            job.finish = None
            self._lanes[job.lane] = member
            self._evaluate(member)
            return
        completion = self._written(job)
        if job.has_failed and completion.status == Status.SUCCESS:
            completion = replace(completion, error=LIST_MEMBER_FAILED)
        if job.has_members and completion.status == Status.ABORTED:
            completion = replace(completion, completed=job.done)
        completion = replace(completion, cycles=(self._cycle - job.started) & WORD)
        if not self._write_record(job, completion):
            return
        self._lanes[job.lane] = job.parent
        self._count("COMPLETED")
        self._count("BYTES_IN", completion.completed if job.descriptor.opcode != Opcode.LIST else 0)
        self._count("BYTES_OUT", completion.output_size)
        if job.descriptor.flags & Flag.REQUEST_INTERRUPT:
            self._raise(InterruptCause.COMPLETION)
        if job.parent is not None:
            job.parent.done += completion.status != Status.ABORTED
            job.parent.has_failed |= completion.status != Status.SUCCESS
            job.parent.finish = self._cycle

    def _written(self, job: _Job) -> Completion:
        """Write a job's output, once. Its record, if that went well."""
        writes, outcome = job.outcome.writes, job.outcome
        try:
            for address, data in writes:
                self._memory.write(address, data)
        except BusError:
            failed = Fault(Status.WRITE_ERROR, job.descriptor.destination & -PAGE_SIZE, True)
            outcome = Outcome(failed.record())
        job.outcome = replace(outcome, writes=())
        return outcome.completion

    def _write_record(self, job: _Job, completion: Completion) -> bool:
        """Write a completion record, or tell the error in SWERR. False if its page was asked for."""
        descriptor = job.descriptor
        if not is_record_due(descriptor, completion):
            if completion.status == Status.COMPLETION_MISALIGNED:
                self._tell_error(completion.status, job.queue, descriptor, descriptor.completion)
            return True
        page = descriptor.completion & -PAGE_SIZE
        is_beyond = descriptor.completion + COMPLETION_SIZE > 1 << ADDRESS_BITS
        place = None if is_beyond else self._translate(job.queue)(page, True)
        if place is None and not is_beyond and self._ask(job, Fault(Status.PAGE_FAULT, page, True)):
            job.outcome = Outcome(completion)
            return False
        try:
            if place is None:
                raise BusError
            self._memory.write(place + descriptor.completion % PAGE_SIZE, completion.pack())
        except BusError:
            self._tell_error(Status.COMPLETION_FAULT, job.queue, descriptor, descriptor.completion, True)
        return True
