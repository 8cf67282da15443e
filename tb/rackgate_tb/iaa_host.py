# SPDX-License-Identifier: Apache-2.0
"""The host's part in the benches of the IAA device: memory, tables, queues, descriptors, and what must come of them."""

from dataclasses import replace

from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiResp

from rackgate.iaa.abi import (
    COMPLETION_SIZE,
    PAGE_SIZE,
    PORTAL_SIZE,
    PORTALS,
    REGISTERS,
    Command,
    Completion,
    Descriptor,
    Flag,
    PageTableEntry,
    Status,
)
from rackgate_sim.iaa.model import Rules, difference, is_record_due, run
from rackgate_sim.iaa.pagetable import PageTable
from rackgate_sim.inflate.model import FlatMemory

from . import inflate_host, session
from .inflate_host import BASE, PERIOD_NS, SIZE

__all__ = ["PHYSICAL", "SHIFT", "VIRTUAL", "Bench"]

PHYSICAL, VIRTUAL = 0, 1
#: What lies at an address is at so much more for the virtual queue.
SHIFT = 0x0765_4321_0000
_PASID = 0x12345
_MAX_TRANSFER_SHIFT = 20
_TABLES = 4  # frames: one a level


class _At:
    """Bytes that begin at address ``BASE``."""

    def __init__(self, data: bytearray):
        self._data = data

    def __getitem__(self, where: slice) -> bytes:
        return bytes(self._data[where.start - BASE:where.stop - BASE])

    def __setitem__(self, where: slice, data: bytes) -> None:
        self._data[where.start - BASE:where.stop - BASE] = data


class Bench(inflate_host.Bench):
    """A device with a queue of physical and one of virtual addresses; see the base for memory and pauses."""

    def forget(self):
        """A device that has been reset knows no descriptors."""
        self.jobs, self.completed = [], 0

    @classmethod
    async def start(cls, dut, purpose: str, *, pause: float = 0.0) -> "Bench":
        """Clock, reset and tables; channels pause with a probability of up to ``pause``."""
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        dut.withdraw.value = 0
        dut.rst.value = 1
        bench = cls(dut, purpose, pause)
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        bench.tables = tables = bench.allocate(_TABLES * PAGE_SIZE, PAGE_SIZE)
        bench.put(tables, bytes(_TABLES * PAGE_SIZE))
        bench.memory.bytes.allow(tables, _TABLES * PAGE_SIZE)
        bench.table = PageTable(_At(bench.memory.bytes.data), [tables + PAGE_SIZE * k for k in range(_TABLES)])
        bench.missing = set()
        for page in range(BASE, BASE + SIZE, PAGE_SIZE):
            bench.map(page)
        return bench

    def map(self, page: int, *, present: bool = True) -> None:
        """Let the page at a physical address be there for the virtual queue, or not."""
        flags = PageTableEntry.PRESENT | PageTableEntry.WRITABLE
        self.table.write(self.table.place_of(page + SHIFT), page | flags if present else 0)
        (self.missing.discard if present else self.missing.add)(page)
        self.expect(self.tables, self.get(self.tables, _TABLES * PAGE_SIZE))

    async def set_up(self, *, size: int = 4, mode: int = 0):
        """Queues of ``size`` entries each, one group, everything enabled. ``mode`` is added to the queues' own."""
        for queue in (PHYSICAL, VIRTUAL):
            own = 1 << 1 | 3 << 4 | (1 << 28 | _PASID << 8 if queue == VIRTUAL else 0)
            for name, value in (("SIZE", size), ("THRESHOLD", size), ("MODE", own | mode),
                                ("LIMITS", _MAX_TRANSFER_SHIFT), ("TABLE_LO", self.table.root & 0xFFFFFFFF),
                                ("TABLE_HI", self.table.root >> 32)):
                await self.write(f"WQ{queue}_{name}", value)
        await self.write("GRP0_WQS", 3)
        await self.write("GRP0_ENGINES", 1)
        await self.command(Command.ENABLE_DEVICE)
        for queue in (PHYSICAL, VIRTUAL):
            await self.command(Command.ENABLE_WQ, queue)

    async def command(self, command: Command, operand: int = 0) -> None:
        """Carry out a command, which must succeed."""
        await self.write("CMD", command << 20 | operand)
        for _ in range(2000):
            status = await self.read("CMDSTS")
            if not status >> 31:
                assert status == 0, f"{command!r}: {status:#x}"
                return
            await ClockCycles(self.dut.clk, 20)
        raise AssertionError(f"{command!r} does not end")

    async def read(self, name: str) -> int:
        """A register by its name."""
        return await self.registers.read(REGISTERS[name].offset)

    async def write(self, name: str, value: int) -> None:
        """Write a register by its name."""
        await self.registers.write(REGISTERS[name].offset, int(value))

    async def offer(self, descriptor: Descriptor, queue: int) -> bool:
        """Write a descriptor to a random place of the queue's portal; whether it was taken."""
        base = PORTALS + PORTAL_SIZE * queue + 64 * self.rng.randrange(PORTAL_SIZE // 64)
        raw = descriptor.pack()
        for word in range(0, 64, 4):
            response, _ = await self.registers.access(base + word, raw[word:word + 4])
            assert response == AxiResp.OKAY or word == 60, f"word {word // 4}: {response.name}"
        return response == AxiResp.OKAY

    def place(self, descriptor: Descriptor, queue: int) -> Descriptor:
        """A descriptor of physical addresses in terms of the queue, with a record."""
        record = self.allocate(COMPLETION_SIZE, 64)
        self.put(record, bytes(COMPLETION_SIZE))
        shift = SHIFT if queue == VIRTUAL else 0
        moved = {name: getattr(descriptor, name) + shift for name in ("source", "destination")
                 if getattr(descriptor, name)}
        if descriptor.flags & Flag.READ_SOURCE2_AECS:
            moved["source2"] = descriptor.source2 + shift
        return replace(descriptor, completion=record + shift, **moved)

    async def submit(self, descriptor: Descriptor, queue: int = PHYSICAL, *, modelled: bool = True):
        """Place and submit a descriptor, again and again until it is taken. The image takes what it will write."""
        placed = self.place(descriptor, queue)
        for _ in range(1000):
            if await self.offer(placed, queue):
                break
            await ClockCycles(self.dut.clk, 50)
        else:
            raise AssertionError("the queue takes nothing")
        want = None
        if modelled:
            want = run(placed, FlatMemory(self.image, BASE), self._translation(queue),
                       Rules(session.parameters()["window"], _MAX_TRANSFER_SHIFT, has_pasid=queue == VIRTUAL))
        self.jobs.append((placed, want, placed.completion - (SHIFT if queue == VIRTUAL else 0)))
        return self.jobs[-1]

    def _translation(self, queue):
        def translate(page, write):
            if queue == PHYSICAL:
                return page
            there = page - SHIFT
            return there if BASE <= there < BASE + SIZE and there not in self.missing else None
        return translate

    def completion(self, record: int) -> Completion:
        """The record at an address as it now stands in memory."""
        return Completion.unpack(self.get(record, COMPLETION_SIZE))

    async def results(self) -> list[Completion]:
        """Wait for all descriptors, check them against the model, and forget them; their records in order."""
        self.completed += len(self.jobs)
        await self.wait_for("COMPLETED", self.completed)
        found = []
        for descriptor, want, record in self.jobs:
            got = self.completion(record)
            if want is not None and is_record_due(descriptor, want) and want.status != Status.COMPLETION_FAULT:
                wrong = difference(want, got)
                assert not wrong, f"{wrong} in {descriptor}: {got}"
                self.expect(record, self.get(record, COMPLETION_SIZE))
            found.append(got)
        self.jobs = []
        return found

    async def wait_for(self, name: str, value: int, *, cycles: int = 60_000) -> None:
        """Poll a register until it is ``value``."""
        begin = await self.now()
        while (got := await self.read(name)) != value:
            assert await self.now() - begin < cycles, f"{name} is {got} and not {value} after {cycles} cycles"
            await ClockCycles(self.dut.clk, 30)

    async def finish(self, cycles: int = 80):
        """All is done: the memory holds what it must, and the device is and stays idle."""
        await self.results()
        busy, written = await self.read("BUSY_CYCLES"), self.memory.bytes.written
        for _ in range(cycles):
            await ClockCycles(self.dut.clk, 1)
            offers = [name for name in ("mem_arvalid", "mem_awvalid", "mem_wvalid") if getattr(self.dut, name).value]
            assert not offers, f"an idle device asserts {offers}"
        assert await self.read("BUSY_CYCLES") == busy, "an idle device says that it is busy"
        assert await self.read("COMPLETED") == self.completed
        assert self.memory.bytes.written == written
        for channel in (*self.memory.channels(), *self.registers.channels()):
            assert channel.empty(), f"a transfer is left over on {channel.bus._name}"
        self.compare_memory()
