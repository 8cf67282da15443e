# SPDX-License-Identifier: Apache-2.0
"""The host's part in the benches of the inflate device: memory, ring, jobs, and what must come of them."""

import gc
import logging
import zlib
from dataclasses import dataclass

import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

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
from rackgate_sim.inflate.model import Engine, FlatMemory, difference

from . import session
from .buses import Memory, Pauses, Registers

__all__ = ["BASE", "KINDS", "PERIOD_NS", "Bench", "Job", "compress", "text"]

PERIOD_NS = 10
BASE = 0x12_3456_0000
SIZE = 96 * 1024
WINDOW_BITS = {Format.RAW: -15, Format.ZLIB: 15, Format.GZIP: 31}
#: What a stream is made of: level and strategy for zlib, and how many pieces.
KINDS = {
    "stored": (0, zlib.Z_DEFAULT_STRATEGY, 1),
    "fixed": (6, zlib.Z_FIXED, 1),
    "dynamic": (9, zlib.Z_DEFAULT_STRATEGY, 1),
    "literals": (6, zlib.Z_HUFFMAN_ONLY, 1),
    "mixed": (6, zlib.Z_DEFAULT_STRATEGY, 4),
}


def text(rng, size: int) -> bytes:
    """``size`` bytes that compress: words again and again, and some noise."""
    words = [rng.randbytes(rng.randint(2, 12)) for _ in range(20)]
    out = bytearray()
    while len(out) < size:
        out += rng.choice(words) if rng.random() < 0.9 else rng.randbytes(3)
    return bytes(out[:size])


def compress(data: bytes, form: Format, kind: str) -> bytes:
    """``data`` as zlib writes it; ``kind`` is one of :data:`KINDS`. Pieces are flushed with empty stored blocks."""
    level, strategy, pieces = KINDS[kind]
    engine = zlib.compressobj(level, zlib.DEFLATED, WINDOW_BITS[form], 8, strategy)
    out, step = b"", -(-len(data) // pieces)
    for start in range(0, len(data), step):
        out += engine.compress(data[start:start + step])
        if pieces > 1:
            out += engine.flush(zlib.Z_SYNC_FLUSH)
    return out + engine.flush()


@dataclass
class Job:
    """A job that has been submitted. ``expected`` is the golden model's result, None if the test knows better."""

    descriptor: Descriptor
    expected: Completion | None


class Bench:
    """A device with memory, random pauses on all ten channels, and an image of what the memory must hold.

    Make one with :meth:`start`. The image starts out random, as the memory does; ``finish`` compares all of it.
    """

    def __init__(self, dut, purpose: str, pause: float):
        # cocotb makes and drops many objects each cycle; the collector need not look at the imported modules each time.
        gc.freeze()
        self.dut = dut
        self.rng = session.rng(purpose)
        self.contexts = session.parameters()["contexts"]
        # cocotbext-axi says a line for each transaction.
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.memory = Memory(dut, "mem", base=BASE, size=SIZE)
        self.registers = Registers(dut, "csr", period_ns=PERIOD_NS)
        self.pauses = Pauses(dut.clk, self.memory.channels() + self.registers.channels(),
                             rng=session.rng(f"{purpose} pauses"), most=pause)
        self.image = np.frombuffer(self.rng.randbytes(SIZE), np.uint8).copy()
        self.memory.bytes.data[:] = self.image.tobytes()
        self._free = BASE
        self.forget()

    def forget(self):
        """A device that has been reset knows no jobs."""
        self.model = Engine(self.contexts)
        self.jobs, self.completed, self.tail = [], 0, 0

    @classmethod
    async def start(cls, dut, purpose: str, *, pause: float = 0.0, ring_size: int = 4) -> "Bench":
        """Clock, reset, and a ring of ``ring_size``; channels pause with a probability of up to ``pause``."""
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        dut.withdraw.value = 0
        dut.rst.value = 1
        bench = cls(dut, purpose, pause)
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        bench.ring_size = ring_size
        bench.ring = bench.allocate(ring_size * DESCRIPTOR_SIZE, 64)
        bench.memory.bytes.allow(bench.ring, ring_size * DESCRIPTOR_SIZE)
        return bench

    async def set_up(self):
        """Tell the device its ring, and enable it."""
        for name, value in (("RING_BASE_LO", self.ring & 0xFFFFFFFF), ("RING_BASE_HI", self.ring >> 32),
                            ("RING_SIZE", self.ring_size), ("CONTROL", Control.ENABLE)):
            await self.write(name, value)

    async def read(self, name: str) -> int:
        """A register by its name."""
        return await self.registers.read(REGISTERS[name].offset)

    async def write(self, name: str, value: int) -> None:
        """Write a register by its name."""
        await self.registers.write(REGISTERS[name].offset, int(value))

    async def wait_for(self, name: str, value: int, *, cycles: int = 60_000) -> None:
        """Poll a register until it is ``value``."""
        clock = await self.now()
        while (got := await self.read(name)) != value:
            waited = await self.now() - clock
            assert waited < cycles, (f"{name} is {got} and not {value} after {waited} cycles; "
                                     f"head {await self.read('RING_HEAD')}, tail {self.tail}, "
                                     f"completed {await self.read('COMPLETED')}")
            await ClockCycles(self.dut.clk, 30)

    async def now(self) -> int:
        """The device's own cycle counter."""
        return await self.read("CYCLES_LO")

    # Memory.

    def allocate(self, size: int, alignment: int = 0) -> int:
        """Address of ``size`` bytes, at a multiple of ``alignment`` or anywhere, with a random gap before it."""
        address = self._free + self.rng.randint(1, 24)
        if alignment:
            address = -(-address // alignment) * alignment
        self._free = address + size
        assert self._free <= BASE + SIZE, "the bench has run out of memory"
        return address

    def put(self, address: int, data: bytes) -> None:
        """The host writes."""
        self.expect(address, data)
        self.memory.bytes.data[address - BASE:address - BASE + len(data)] = data

    def expect(self, address: int, data: bytes) -> None:
        """The device must have written ``data`` by the end."""
        self.image[address - BASE:address - BASE + len(data)] = np.frombuffer(data, np.uint8)

    def get(self, address: int, size: int) -> bytes:
        """What the memory holds."""
        return bytes(self.memory.bytes.data[address - BASE:address - BASE + size])

    def source(self, data: bytes) -> tuple[int, int]:
        """Put a source somewhere; its address and size."""
        address = self.allocate(len(data))
        self.put(address, data)
        self.memory.bytes.allow(address, len(data))
        return address, len(data)

    # Jobs.

    async def submit(self, source: tuple[int, int], destination: tuple[int, int], *, form: Format, context: int,
                     flags: Flag = Flag.LAST, opcode: Opcode = Opcode.INFLATE, start_bit: int = 0,
                     modelled: bool = True) -> Job:
        """Put a job into the ring, when there is room, and ring the bell."""
        record = self.allocate(COMPLETION_SIZE, 64)
        if len(self.jobs) - self.ring_size >= 0:
            await self._wait_for_room()
        descriptor = Descriptor(*source, *destination, record, opcode, form, flags, context, self.rng.getrandbits(32),
                                start_bit)
        self.put(self.ring + self.tail % self.ring_size * DESCRIPTOR_SIZE, descriptor.pack())
        self.put(record, bytes(COMPLETION_SIZE))
        expected = self.model.run(descriptor, FlatMemory(self.image, BASE)) if modelled else None
        job = Job(descriptor, expected)
        self.jobs.append(job)
        self.tail = (self.tail + 1) & 0xFFFF
        await self.write("RING_TAIL", self.tail)
        return job

    async def _wait_for_room(self):
        for _ in range(2000):
            if (self.tail - await self.read("RING_HEAD")) & 0xFFFF < self.ring_size:
                return
            await ClockCycles(self.dut.clk, 20)
        raise AssertionError(f"the ring stays full: head {await self.read('RING_HEAD')}, tail {self.tail}")

    def record(self, job: Job) -> Completion:
        """The record as it now stands in memory."""
        return Completion.unpack(self.get(job.descriptor.completion, COMPLETION_SIZE))

    async def results(self) -> list[Completion]:
        """Wait for all jobs, check them against the model, and forget them; their records in the order of the jobs."""
        self.completed += len(self.jobs)
        await self.wait_for("COMPLETED", self.completed)
        records = [self.record(job) for job in self.jobs]
        last: dict[int, int] = {}
        for job, record in zip(self.jobs, records, strict=True):
            where = f"job {job.descriptor}: {record}"
            assert record.tag == job.descriptor.tag, f"another job's tag in the record of {where}"
            assert record.status != Status.IN_PROGRESS, f"counted but not written: {where}"
            assert last.get(job.descriptor.context, 0) <= record.started <= record.finished, f"out of order: {where}"
            last[job.descriptor.context] = record.finished
            if job.expected is not None:
                wrong = difference(job.expected, record)
                assert not wrong, f"{wrong} in {where}"
            self.expect(job.descriptor.completion, self.get(job.descriptor.completion, COMPLETION_SIZE))
        self.jobs = []
        return records

    def compare_memory(self):
        """Nothing may have been written but what was expected."""
        found = np.frombuffer(bytes(self.memory.bytes.data), np.uint8)
        wrong = np.flatnonzero(found != self.image)
        assert not len(wrong), (f"{len(wrong)} bytes of memory differ, first at {BASE + int(wrong[0]):#x}: "
                                f"{found[wrong[0]]:#x}, not {self.image[wrong[0]]:#x}")
        strays = self.memory.bytes.strays
        assert not strays, f"the device read {len(strays)} words that hold no source, first {strays[0]:#x}"

    async def finish(self, cycles: int = 80):
        """All jobs are done: the memory holds what it must, and the device is and stays idle."""
        await self.results()
        assert await self.read("RING_HEAD") == self.tail
        busy, written = await self.read("BUSY_CYCLES"), self.memory.bytes.written
        dut = self.dut
        for _ in range(cycles):
            await RisingEdge(dut.clk)
            offers = [name for name in ("mem_arvalid", "mem_awvalid", "mem_wvalid") if getattr(dut, name).value]
            assert not offers, f"an idle device asserts {offers}"
        assert await self.read("BUSY_CYCLES") == busy, "an idle device says that it is busy"
        assert await self.read("COMPLETED") == self.completed
        assert self.memory.bytes.written == written
        for channel in (*self.memory.channels(), *self.registers.channels()):
            assert channel.empty(), f"a transfer is left over on {channel.bus._name}"
        self.compare_memory()
