# SPDX-License-Identifier: Apache-2.0
"""The inflate device at its registers: ring, doorbell, completion records, interrupt, counters.

Jobs have the golden model's results (``rackgate_sim.inflate.model``). Their times are plausible and
deterministic, nothing more: they are no statement about the gateware's speed.
"""

from dataclasses import dataclass, replace

from rackgate.csr.map import Access
from rackgate.inflate.abi import (
    COMPLETION_SIZE,
    DESCRIPTOR_SIZE,
    REGISTERS,
    Completion,
    Control,
    Descriptor,
    Flag,
    Status,
)
from rackgate_sim.inflate.model import BusError, Engine, Memory, check
from rackgate_sim.registermodel import RegisterModel

__all__ = ["InflateModel"]

_FETCH_CYCLES = 12  # from one descriptor to the next
_JOB_CYCLES = 60  # what a job takes besides its bytes
_INPUT_BYTES_PER_CYCLE = 2
_OUTPUT_BYTES_PER_CYCLE = 4
_RESERVED = slice(44, DESCRIPTOR_SIZE)
_IRQ_COMPLETION = REGISTERS["IRQ_STATUS"].fields[0].mask
_IRQ_FAULT = REGISTERS["IRQ_STATUS"].fields[1].mask


class _Deferred:
    """Memory that keeps what is written until the job ends."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.writes: list[tuple[int, bytes]] = []

    def read(self, address: int, size: int) -> bytes:
        return self._memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self.writes.append((address, data))

    def flush(self) -> None:
        for address, data in self.writes:
            self._memory.write(address, data)


@dataclass
class _Running:
    """A job on a context: its result and output stand already, and come out when it finishes."""

    descriptor: Descriptor
    completion: Completion
    output: _Deferred
    finish: int


class InflateModel(RegisterModel):
    """A software device with the registers of ``rackgate.inflate.abi.REGISTERS``.

    Time passes only in :meth:`run`. Descriptors are taken in order; one whose context is busy holds up those
    behind it. A source is read when its job begins, output and completion record are written when it ends.

    What is left open by the register map is settled so: a descriptor that the device refuses (see
    :func:`rackgate_sim.inflate.model.check`; reserved are bytes 44 to 63) gets its completion record without
    touching its context. A descriptor that cannot be read, or whose completion address is no multiple of 64, is
    dropped; that, and a completion record that cannot be written, sets FAULT and FAULT_ADDR, and is not
    counted in COMPLETED. Writing Control.RESET puts all registers to their values after reset, whatever else
    is written with it.

    Parameters
    ----------
    memory:
        What the device sees at its memory port, for instance a ``FlatMemory``.
    contexts, window:
        As for :class:`rackgate_sim.inflate.model.Engine`.
    lanes:
        Value of PARAM_LANES; of no effect.
    build:
        Value of BUILD_LO and BUILD_HI, 64 bits.
    """

    def __init__(self, memory: Memory, *, contexts: int = 2, window: int = 32768, lanes: int = 16,
                 build: int = 0) -> None:
        if not 0 <= build < 1 << 64:
            raise ValueError(f"build must fit 64 bits, not be {build:#x}")
        self._memory = memory
        self._engine = Engine(contexts, window)
        super().__init__(REGISTERS, {
            "PARAM_CONTEXTS": contexts, "PARAM_WINDOW": window, "PARAM_LANES": lanes,
            "BUILD_LO": build & 0xFFFFFFFF, "BUILD_HI": build >> 32})
        self._restart()

    def _restart(self) -> None:
        self._engine = Engine(self._engine.contexts, self._engine.window)
        self._fetch_from = 0
        self._waiting: Descriptor | None = None
        self._running: dict[int, _Running] = {}

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return bool(self._registers["IRQ_STATUS"] & self._registers["IRQ_ENABLE"])

    def _value(self, name: str) -> int:
        return self._registers[name]

    def _write(self, name: str, value: int) -> None:
        if name == "CONTROL":
            self._registers[name] = value & Control.ENABLE
            if value & Control.RESET:
                self._reset_registers()
                self._restart()
        elif name == "RING_TAIL":
            self._registers[name] = value & 0xFFFF
        elif name == "IRQ_ENABLE":
            self._registers[name] = value & (_IRQ_COMPLETION | _IRQ_FAULT)
        elif REGISTERS[name].access == Access.W1C:
            self._registers[name] &= ~value
        else:
            self._registers[name] = value
        self._fetch_from = max(self._fetch_from, self._cycle + 1)

    def _is_working(self) -> bool:
        return bool(self._running)

    def _can_fetch(self) -> bool:
        registers = self._registers
        return (bool(registers["CONTROL"] & Control.ENABLE) and registers["RING_SIZE"] > 0 and self._waiting is None
                and registers["RING_HEAD"] != registers["RING_TAIL"])

    def _next_event(self) -> int | None:
        events = [job.finish for job in self._running.values()]
        if self._can_fetch():
            events.append(max(self._cycle, self._fetch_from))
        return min(events, default=None)

    def _step(self) -> None:
        for context, job in sorted(self._running.items()):
            if job.finish <= self._cycle:
                del self._running[context]
                self._finish(job)
        if self._waiting is not None and self._waiting.context not in self._running:
            descriptor, self._waiting = self._waiting, None
            self._begin(descriptor)
        if self._can_fetch() and self._fetch_from <= self._cycle:
            self._fetch()

    def _pair(self, name: str) -> int:
        return self._registers[name + "_HI"] << 32 | self._registers[name + "_LO"]

    def _fetch(self) -> None:
        index = self._registers["RING_HEAD"] & (self._registers["RING_SIZE"] - 1)
        address = self._pair("RING_BASE") + DESCRIPTOR_SIZE * index
        self._registers["RING_HEAD"] = (self._registers["RING_HEAD"] + 1) & 0xFFFF
        self._fetch_from = self._cycle + _FETCH_CYCLES
        try:
            raw = self._memory.read(address, DESCRIPTOR_SIZE)
        except BusError:
            self._fault(address)
            return
        descriptor = Descriptor.unpack(raw)
        status = check(descriptor, self._engine.contexts, raw[_RESERVED])
        if descriptor.completion % COMPLETION_SIZE:
            self._fault(descriptor.completion)
        elif status != Status.SUCCESS:
            now = self._cycle & 0xFFFFFFFFFFFFFFFF
            self._complete(descriptor, Completion(0, 0, 0, 0, 0, 0, 0, now, now, 0, descriptor.tag, status, 0, 0))
        elif descriptor.context in self._running:
            self._waiting = descriptor
        else:
            self._begin(descriptor)

    def _begin(self, descriptor: Descriptor) -> None:
        output = _Deferred(self._memory)
        completion = self._engine.run(descriptor, output)
        cycles = max(completion.consumed // _INPUT_BYTES_PER_CYCLE, completion.produced // _OUTPUT_BYTES_PER_CYCLE)
        completion = replace(completion, started=self._cycle)
        self._running[descriptor.context] = _Running(descriptor, completion, output,
                                                     self._cycle + _JOB_CYCLES + cycles)

    def _finish(self, job: _Running) -> None:
        completion = replace(job.completion, finished=self._cycle)
        try:
            job.output.flush()
        except BusError:
            self._engine.forget(job.descriptor.context)
            completion = Completion(0, 0, 0, 0, 0, 0, 0, completion.started, completion.finished, 0,
                                    job.descriptor.tag, Status.WRITE_ERROR, 0, 0)
        self._count("BYTES_IN", completion.consumed)
        self._count("BYTES_OUT", completion.produced)
        self._complete(job.descriptor, completion)

    def _complete(self, descriptor: Descriptor, completion: Completion) -> None:
        try:
            self._memory.write(descriptor.completion, completion.pack())
        except BusError:
            self._fault(descriptor.completion)
            return
        self._count("COMPLETED")
        if descriptor.flags & Flag.INTERRUPT:
            self._registers["IRQ_STATUS"] |= _IRQ_COMPLETION

    def _fault(self, address: int) -> None:
        self._registers["IRQ_STATUS"] |= _IRQ_FAULT
        self._registers["FAULT_ADDR_LO"] = address & 0xFFFFFFFF
        self._registers["FAULT_ADDR_HI"] = address >> 32
