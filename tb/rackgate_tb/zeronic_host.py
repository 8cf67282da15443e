# SPDX-License-Identifier: Apache-2.0
"""The host's part in the bench of the whole NIC: memory, rings, commands, frames, and what must come of them.

The golden model gets the same commands and frames. When both are quiet all that a host can see is the same: every byte
of memory with payload and rings, the frames that were sent, registers and counters.
"""

import gc
import itertools
import logging

import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiBus, AxiRam, AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from rackgate.zeronic.abi import REGISTERS, RINGS, WAYS, Control, Counter, Right, StatusFlag, flow_hash
from rackgate.zeronic.messages import Command, CommandKind, Entry, EntryKind, Flow, FlowFlag, Key, Region
from rackgate_sim.inflate.model import FlatMemory
from rackgate_sim.zeronic.device import ZeronicModel

from . import session
from .buses import Memory, Pauses, Registers

__all__ = ["BASE", "DATA", "DATA_SIZE", "Bench"]

PERIOD_NS = 10
BASE, SIZE = 0x12_3456_0000, 1 << 20
#: Where in memory the rings are, as powers of two, and a region for all flows.
_COMMANDS, _COMMANDS_LOG, _RINGS, _RING_LOG = BASE, 17, (BASE + 0x2_0000, BASE + 0x4_0000), 17
DATA, DATA_SIZE = BASE + 0x8_0000, 0x8_0000
#: Cycles that the NIC may take to be quiet, and between two looks.
_LIMIT, _LOOK = 60_000, 40


class Bench:
    """A NIC between its bus models, and the model of it. Make one with :meth:`start`."""

    def __init__(self, dut, purpose: str, pause: float):
        gc.freeze()  # cocotb makes many objects each cycle; the collector need not look at the imported modules
        self.dut, self.rng = dut, session.rng(purpose)
        self.parameters = {name: value for name, value in session.parameters().items() if name != "build"}
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        memory = Memory(dut, "mem0", base=BASE, size=SIZE)
        self.bytes = memory.bytes
        self.bytes.allow(BASE, SIZE)
        rings = AxiRam(AxiBus.from_prefix(dut, "mem1"), dut.clk, size=len(self.bytes), mem=self.bytes)
        self.registers = Registers(dut, "csr", period_ns=PERIOD_NS)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "net_rx"), dut.clk)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "net_tx"), dut.clk)
        channels = [channel for ram in (memory.ram, rings) for part in (ram.write_if, ram.read_if)
                    for name in ("aw", "w", "b", "ar", "r")
                    if (channel := getattr(part, f"{name}_channel", None)) is not None]
        self.pauses = Pauses(dut.clk, [*channels, *self.registers.channels()], rng=session.rng(f"{purpose} pauses"),
                             most=pause)
        if pause:
            for stream in (self.source, self.sink):
                stream.set_pause_generator(self.rng.random() < pause for _ in itertools.count())
        self.image = np.zeros(SIZE, np.uint8)
        self.image[:] = np.frombuffer(self.rng.randbytes(SIZE), np.uint8)
        self.bytes.data[:] = self.image.tobytes()
        self.model = ZeronicModel(FlatMemory(self.image, BASE), **self.parameters)

    @classmethod
    async def start(cls, dut, purpose: str, *, pause: float = 0.0, ring_log: int = _RING_LOG) -> "Bench":
        """Clock, reset, rings of ``2 ** ring_log`` bytes, and a region of memory that all flows may read and write."""
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        dut.withdraw.value = 0
        dut.rst.value = 1
        bench = cls(dut, purpose, pause)
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        bench.ring_log = ring_log
        await bench.set_up()
        return bench

    async def set_up(self) -> None:
        """Reset by register, and set everything up."""
        await self.write("CONTROL", Control.RESET)
        await self.until(StatusFlag.READY)
        self.produced, self.consumed, self.places = 0, [0] * RINGS, set()
        for name, place, log in (("COMMAND", _COMMANDS, _COMMANDS_LOG),
                                 *((f"RING{ring}", _RINGS[ring], self.ring_log) for ring in range(RINGS))):
            for field, value in (("BASE_LO", place & 0xFFFFFFFF), ("BASE_HI", place >> 32), ("SIZE", log)):
                await self.write(f"{name}_{field}", value)
        await self.write("CONTROL", Control.RECEIVE | Control.SEND)
        await self.do(Region(0, Right.READ | Right.WRITE, DATA, DATA_SIZE))

    # Registers

    async def read(self, name: str) -> int:
        """A register of the NIC."""
        return await self.registers.read(REGISTERS[name].offset)

    async def write(self, name: str, value: int) -> None:
        """Write a register of both."""
        await self.registers.write(REGISTERS[name].offset, int(value))
        assert self.model.write_register(REGISTERS[name].offset, int(value))

    async def until(self, flags: StatusFlag) -> None:
        """Wait until all of ``flags`` are set."""
        for _ in range(_LIMIT // _LOOK):
            if await self.read("STATUS") & flags == flags:
                return
            await ClockCycles(self.dut.clk, _LOOK)
        raise AssertionError(f"STATUS is {await self.read('STATUS'):#x} after {_LIMIT} cycles, without {flags!r}")

    # What is given

    def place(self, address: int, content: bytes) -> None:
        """Store bytes in both memories."""
        self.bytes.data[address - BASE:address - BASE + len(content)] = content
        self.image[address - BASE:address - BASE + len(content)] = np.frombuffer(content, np.uint8)

    async def queue(self, *commands) -> None:
        """Put commands into the ring, and ring the doorbell."""
        size = 1 << _COMMANDS_LOG
        for command in commands:
            content = command.to_bytes()
            left = size - self.produced % size
            if len(content) > left:
                self.place(_COMMANDS + self.produced % size, Command(CommandKind.PAD, units=left // 32).to_bytes())
                self.produced += left
                await self.write("COMMAND_PRODUCER", self.produced)
                await self.settle()
            self.place(_COMMANDS + self.produced % size, content)
            self.produced = (self.produced + len(content)) % (1 << 32)
        await self.write("COMMAND_PRODUCER", self.produced)

    async def do(self, *commands) -> list[list[tuple[Entry, bytes]]]:
        """Commands to their end; the entries that came, by ring."""
        await self.queue(*commands)
        return await self.settle()

    async def begin(self, number: int, key: tuple[int, int, int, int], cursor: int = 0,
                    flags: FlowFlag = FlowFlag.RECEIVE) -> None:
        """Begin a flow with a key. Raises LookupError if the table has no place for it."""
        first = flow_hash(*key, 0) % (2 * self.parameters["flows"] // WAYS) * WAYS
        place = next((place for place in range(first, first + WAYS) if place not in self.places), None)
        if place is None:
            raise LookupError("the key's set is full")
        self.places.add(place)
        await self.do(Flow(number, flags, cursor), Key(number, place, True, *key, 0))

    def give(self, *frames: bytes, is_damaged: bool = False) -> None:
        """Frames for the wire into both, back to back; they are taken when time passes."""
        for frame in frames:
            self.source.send_nowait(AxiStreamFrame(frame, tuser=[int(is_damaged)] * len(frame)))
            self.model.push("net_rx", frame, error=is_damaged)

    async def receive(self, *frames: bytes, is_damaged: bool = False) -> list[list[tuple[Entry, bytes]]]:
        """Frames from the wire; the entries that came, by ring."""
        self.give(*frames, is_damaged=is_damaged)
        return await self.settle()

    # What comes of it

    async def settle(self) -> list[list[tuple[Entry, bytes]]]:
        """Wait until both are quiet, compare them, and take the entries, by ring."""
        await self.source.wait()
        self.run_model()
        for _ in range(2):  # what has been announced may not have begun
            await self.until(StatusFlag.RECEIVE_IDLE | StatusFlag.SEND_IDLE)
            await ClockCycles(self.dut.clk, _LOOK)
        await self.sink_ends()
        self.sent = [bytes(self.sink.recv_nowait().tdata) for _ in range(self.sink.count())]
        wanted = []
        while (frame := self.model.pop("net_tx")) is not None:
            wanted.append(frame)
        assert self.sent == wanted, "frames that were sent"
        await self._compare()
        return [await self.take(ring) for ring in range(RINGS)]

    def run_model(self) -> None:
        """Let the model do all that it can."""
        while self.model.busy:
            self.model.run(1 << 20)

    async def sink_ends(self) -> None:
        """Wait until no frame is on its way out."""
        while self.dut.net_tx_tvalid.value or not self.sink.idle():
            await ClockCycles(self.dut.clk, 4)

    async def _compare(self) -> None:
        mine, wanted = np.frombuffer(self.bytes.data, np.uint8), self.image
        if not np.array_equal(mine, wanted):
            at = int(np.flatnonzero(mine != wanted)[0])
            raise AssertionError(f"memory differs at {BASE + at:#x}")
        for name in ("COMMAND_CONSUMER", *(f"RING{ring}_PRODUCER" for ring in range(RINGS)),
                     *(f"COUNT_{counter.name}" for counter in Counter if counter != Counter.RING_FULL)):
            assert await self.read(name) == self.model.read_register(REGISTERS[name].offset), name

    async def take(self, ring: int) -> list[tuple[Entry, bytes]]:
        """Entries of a ring, which then has their room again."""
        found, size = [], 1 << self.ring_log
        producer = await self.read(f"RING{ring}_PRODUCER")
        while self.consumed[ring] != producer:
            at = _RINGS[ring] - BASE + self.consumed[ring] % size
            entry = Entry.from_bytes(bytes(self.bytes.data[at:at + 16]).ljust(16, b"\0"))
            if entry.kind != EntryKind.PAD:
                found.append((entry, bytes(self.bytes.data[at + 16:at + 16 + entry.content])))
            self.consumed[ring] = (self.consumed[ring] + 8 * entry.size) % (1 << 32)
        await self.write(f"RING{ring}_CONSUMER", self.consumed[ring])
        return found
