# SPDX-License-Identifier: Apache-2.0
"""The inflate gateware at its ring, without a driver: many jobs in flight, each held against the golden model.

A *script* is a generator for one context: it yields a :class:`Step` (jobs to queue together), is sent their
:class:`Result` list, and returns its outcome. The model does the same jobs in the same order. Around each
source lies noise, around each destination a pattern that must not change.
"""

import random
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rackgate.inflate.abi import (
    COMPLETION_SIZE,
    DESCRIPTOR_SIZE,
    REGISTERS,
    Completion,
    Control,
    Descriptor,
    Flag,
    Format,
    Opcode,
    Status,
)
from rackgate_sim.inflate.model import Engine, JobMemory, difference
from rackgate_sim.native import Event, Library, Simulation

__all__ = ["BASE", "Bench", "Job", "Result", "Script", "Step", "Stuck", "Wrong"]

BASE = 0x1000_0000
_RING = 64
_SLOT = 1 << 20
_SOURCE_AT, _DESTINATION_AT, _GUARD = 1 << 12, 1 << 19, 1 << 10  # in a slot
_PATTERN = 0xA5
_IRQS = 3


@dataclass
class Job:
    """What a script asks for.

    ``model_source`` and ``model_start_bit`` are for a model that goes on elsewhere, ``model_ahead`` bytes on (or back):
    after an overflow or an error the gateware's position may be before the model's.
    """

    source: bytes
    room: int = 1 << 18
    opcode: int = Opcode.INFLATE
    format: int = Format.RAW
    flags: int = Flag.LAST
    start_bit: int = 0
    model_source: bytes | None = None
    model_start_bit: int = 0
    model_ahead: int = 0
    source_offset: int | None = None  # alignment, 0 to 63; random if not given
    destination_offset: int | None = None


@dataclass
class Step:
    """Jobs that are queued together. ``final``: none of this script comes after them, so others may queue behind."""

    jobs: Sequence[Job]
    final: bool = False


@dataclass
class Result:
    """A job's record and output, and the model's."""

    job: Job
    completion: Completion
    output: bytes
    expected: Completion
    expected_output: bytes


Script = Generator[Step, list[Result], object]


class Stuck(Exception):
    """No job completed for a long time."""


class Wrong(Exception):
    """A record, an output or a guard byte is not what it must be."""


@dataclass
class _Flying:
    job: Job
    slot: int
    tag: int
    source: int
    destination: int
    expected: Completion
    expected_output: bytes
    running: "_Running"
    context: int
    completion: Completion | None = None
    output: bytes = b""


@dataclass
class _Running:
    index: int
    script: Script
    step: Step | None = None
    flying: list[_Flying] = field(default_factory=list)


class Bench:
    """A simulated device with its ring set up.

    Parameters
    ----------
    library:
        The built device.
    seed:
        Of the memory's behaviour and of alignments.
    depth:
        Jobs queued on a context at most, if its scripts allow.
    memory:
        Settings of the memory port.
    check:
        Hold each job against the model; else only guards are looked at.
    limit:
        Cycles without a completion that count as stuck.
    """

    def __init__(self, library: Library, *, contexts: int = 2, window: int = 32768, seed: int = 1, depth: int = 6,
                 memory: dict | None = None, check: bool = True, limit: int = 1_500_000):
        self.library, self.contexts, self.window, self.seed = library, contexts, window, seed
        self.depth, self.behaviour, self.check, self.limit = depth, memory or {}, check, limit
        self.random = random.Random(f"bench {seed}")
        self.slots = contexts * depth
        self.array = np.zeros((self.slots + 1) * _SLOT, np.uint8)
        self._noise = np.frombuffer(self.random.randbytes(1 << 19), np.uint8)
        self.cycles = 0
        self.open()

    def open(self) -> None:
        """A fresh simulation; what was under way is gone."""
        self.simulation = Simulation(self.library, seed=self.seed)
        self.port = self.simulation.memory("mem")
        self.port.attach(self.array, BASE)
        self.port.configure(**self.behaviour)
        self.setup()

    def setup(self) -> None:
        """Set up registers and ring after a reset."""
        self.engine = Engine(self.contexts, self.window)
        self.tail = 0
        self.free = list(range(self.slots))
        self.flying: dict[int, _Flying] = {}
        for name, value in (("RING_BASE_LO", BASE), ("RING_BASE_HI", 0), ("RING_SIZE", _RING), ("IRQ_STATUS", _IRQS),
                            ("IRQ_ENABLE", _IRQS), ("CONTROL", int(Control.ENABLE))):
            self.write(name, value)

    def restart(self, limit: int = 20_000) -> None:
        """Restart the device through CONTROL, as a driver does."""
        self.write("CONTROL", int(Control.RESET))
        for _ in range(limit // 16):
            if not self.read("CONTROL") & Control.RESET:
                break
            self.simulation.run(16)
        else:
            raise Stuck(f"seed {self.seed}: CONTROL.RESET not done after {limit} cycles\n{self.simulation.state()}")

    def read(self, name: str) -> int:
        """A register."""
        return self.simulation.read_register(REGISTERS[name].offset)

    def write(self, name: str, value: int) -> None:
        """Write a register."""
        self.simulation.write_register(REGISTERS[name].offset, value)

    def record_address(self, slot: int) -> int:
        """Where a slot's completion record lies."""
        return BASE + 64 * _RING + COMPLETION_SIZE * slot

    def _record(self, slot: int) -> np.ndarray:
        start = self.record_address(slot) - BASE
        return self.array[start:start + COMPLETION_SIZE]

    def submit(self, job: Job, context: int, running: _Running) -> _Flying:
        """Put a job into the ring; the doorbell is the caller's."""
        slot, tag = self.free.pop(0), self.tail
        offset = job.source_offset if job.source_offset is not None else self.random.randrange(64)
        place = job.destination_offset if job.destination_offset is not None else self.random.randrange(64)
        base = (slot + 1) * _SLOT
        source, destination = base + _SOURCE_AT + offset, base + _DESTINATION_AT + place
        size = len(job.source)
        if size > _DESTINATION_AT - _SOURCE_AT - 256 or job.room > _SLOT - _DESTINATION_AT - 2 * _GUARD:
            raise ValueError(f"a job of {size} bytes into {job.room} does not fit a slot")
        shift = self.random.randrange(1 << 16)
        low, high = source - 128, source + size + 128
        self.array[low:high] = self._noise[shift % (len(self._noise) - (high - low)):][:high - low]
        self.array[source:source + size] = np.frombuffer(job.source, np.uint8)
        self.array[destination - _GUARD:destination + job.room + _GUARD] = _PATTERN
        self._record(slot)[:] = 0
        descriptor = Descriptor(BASE + source, size, BASE + destination, job.room, self.record_address(slot),
                                job.opcode, job.format, job.flags | Flag.INTERRUPT, context, tag, job.start_bit)
        entry = DESCRIPTOR_SIZE * (self.tail % _RING)
        self.array[entry:entry + DESCRIPTOR_SIZE] = np.frombuffer(descriptor.pack(), np.uint8)
        self.tail = (self.tail + 1) & 0xFFFF
        model_source = job.source if job.model_source is None else job.model_source
        model_bit = job.start_bit if job.model_source is None else job.model_start_bit
        memory = JobMemory(model_source)
        expected = self.engine.run(
            Descriptor(0, len(model_source), 0, job.room, 0, job.opcode, job.format, job.flags, context, tag,
                       model_bit), memory)
        output = memory.written
        flying = _Flying(job, slot, tag, BASE + source, BASE + destination, expected, output, running,
                         context)
        self.flying[tag] = flying
        return flying

    def collect(self) -> list[_Flying]:
        """Jobs whose records have come, checked."""
        done = [flying for flying in self.flying.values() if self._record(flying.slot)[60]]
        for flying in done:
            self._finish(flying)
        return done

    def _finish(self, flying: _Flying) -> None:
        completion = flying.completion = Completion.unpack(self._record(flying.slot).tobytes())
        del self.flying[flying.tag]
        self.free.append(flying.slot)
        start, room = flying.destination - BASE, flying.job.room
        produced = min(completion.produced, room)
        flying.output = self.array[start:start + produced].tobytes()
        # A bus error counts nothing as produced; what lies in the room then is not told.
        written = room if completion.status in (Status.READ_ERROR, Status.WRITE_ERROR) else produced
        low, high = self.array[start - _GUARD:start], self.array[start + written:start + room + _GUARD]
        if completion.produced > room:
            raise Wrong(f"{self.describe(flying)}: produced {completion.produced} bytes with room for {room}")
        if (low != _PATTERN).any() or (high != _PATTERN).any():
            where = np.flatnonzero(self.array[start - _GUARD:start + room + _GUARD] != _PATTERN) - _GUARD
            outside = [int(at) for at in where if not 0 <= at < written]
            raise Wrong(f"{self.describe(flying)}: wrote outside its output of {written} bytes (room {room}), at "
                        f"offsets {outside[:4]} to {outside[-1]}")

    def mismatch(self, flying: _Flying) -> str:
        """How a job differs from the model, empty if not."""
        assert flying.completion is not None
        expected = replace(flying.expected, consumed=flying.expected.consumed + flying.job.model_ahead)
        text = difference(expected, flying.completion)
        if not text and flying.output != flying.expected_output:
            pairs = enumerate(zip(flying.output, flying.expected_output, strict=False))
            at, (got, want) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
            text = f"output byte {at} of {len(flying.output)}: expected {want:#04x}, got {got:#04x}"
        return text

    def describe(self, flying: _Flying) -> str:
        """A job, for messages."""
        job = flying.job
        return (f"bench seed {self.seed} script {flying.running.index}, job {flying.tag} ({len(job.source)} bytes at "
                f"{flying.source:#x}, room {job.room} at {flying.destination:#x}, {Format(job.format).name}, "
                f"{Flag(job.flags)!r}, start bit {job.start_bit}), record {flying.completion}")

    def wait(self) -> list[_Flying]:
        """Run until at least one job is done. Raises :class:`Stuck`."""
        before = self.simulation.cycle
        while not (done := self.collect()):
            if self.simulation.cycle - before > self.limit:
                oldest = {flying.context: flying for flying in reversed(self.flying.values())}
                raise Stuck(f"no completion in {self.limit} cycles, to cycle {self.simulation.cycle}; the oldest of "
                            f"each context: {'; '.join(map(self.describe, oldest.values()))}\n"
                            f"{self.simulation.state()}")
            self.simulation.run(self.limit + 1 - (self.simulation.cycle - before), Event.IRQ)
            causes = self.read("IRQ_STATUS")
            self.write("IRQ_STATUS", causes)
            if causes & 2:
                address = self.read("FAULT_ADDR_HI") << 32 | self.read("FAULT_ADDR_LO")
                raise Wrong(f"bench seed {self.seed}: FAULT at {address:#x}")
        return done

    def run(self, scripts: Iterable[Script]) -> list[object]:
        """Run scripts over all contexts; their outcomes in order. An outcome may be an exception.

        When the device gets stuck, or writes where it must not, a fresh one goes on with the scripts that have not
        begun. Those that had begun have an exception as outcome: that one if they were the oldest of their context.
        """
        waiting = deque(_Running(index, script) for index, script in enumerate(scripts))
        outcomes: dict[int, object] = {}
        queues: list[deque[_Running]] = [deque() for _ in range(self.contexts)]
        while waiting or any(queues):
            try:
                self._fill(waiting, queues)
                begin = self.simulation.cycle
                self.wait()
                self.cycles += self.simulation.cycle - begin
                for queue in queues:
                    self._advance(queue, outcomes)
            except (Stuck, Wrong) as error:
                for queue in queues:
                    for place, running in enumerate(queue):
                        lost = Stuck(f"bench seed {self.seed} script {running.index}: lost, with what others have met")
                        outcomes[running.index] = lost if place else error
                    queue.clear()
                self.open()
        return [outcomes[index] for index in sorted(outcomes)]

    def _fill(self, waiting: deque[_Running], queues: list[deque[_Running]]) -> None:
        fresh = False
        for context, queue in enumerate(queues):
            for running in queue:
                if running.step is not None and not running.flying:
                    running.flying = [self.submit(job, context, running) for job in running.step.jobs]
                    fresh = True
        for _ in range(self.depth):
            for context, queue in enumerate(queues):
                open_end = not queue or (queue[-1].step is not None and queue[-1].step.final)
                if waiting and open_end and sum(len(one.flying) for one in queue) + 2 <= self.depth:
                    running = waiting.popleft()
                    running.step = next(running.script)
                    running.flying = [self.submit(job, context, running) for job in running.step.jobs]
                    queue.append(running)
                    fresh = True
        if fresh:
            self.write("RING_TAIL", self.tail)

    def _advance(self, queue: deque[_Running], outcomes: dict[int, object]) -> None:
        while queue and all(flying.completion is not None for flying in queue[0].flying):
            running = queue[0]
            results = []
            for flying in running.flying:
                text = self.mismatch(flying) if self.check else ""
                if text:
                    outcomes[running.index] = Wrong(f"{self.describe(flying)}: {text}")
                assert flying.completion is not None
                results.append(Result(flying.job, flying.completion, flying.output, flying.expected,
                                      flying.expected_output))
            if running.index in outcomes:
                queue.popleft()
                continue
            running.flying = []
            try:
                running.step = running.script.send(results)
            except StopIteration as end:
                outcomes[running.index] = end.value
                queue.popleft()
                continue
            return
