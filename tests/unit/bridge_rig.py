# SPDX-License-Identifier: Apache-2.0
"""A bridge with a device behind it whose every access is on record, and what a golden bridge makes of the same."""

import itertools
import random

from amaranth.hdl import Module

from rackgate.axi.bus import Response
from rackgate.bridge import operations
from rackgate.bridge.abi import MEMORY_BASE, Kind, Message, pack_message, pack_words
from rackgate.bridge.bridge import Bridge
from rackgate.bridge.identity import Identity
from rackgate.verif.stimulus import AXI4Memory, send, simulate
from rackgate.verif.stream_rules import watch
from rackgate_sim.bridge import GoldenBridge

MEMORY_SIZE = 8192
IDENTITY = Identity(system="echo", board="none", clock_khz=50_000, memory_base=MEMORY_BASE, memory_size=MEMORY_SIZE,
                    parameters={"a": 1})
#: Registers from this byte on are refused.
REGISTERS_END = 0x400


class Registers:
    """Registers on AXI4-Lite that answer when they like, or, while ``dead``, not at all. Reads change them."""

    def __init__(self, rng, stall):
        self.rng, self.stall, self.dead = rng, stall, False
        self.values = {}
        #: (offset, value) of each write, and offset of each read, in their order.
        self.log = []

    def read(self, offset):
        """A value that says how often it was read, or ``None``."""
        self.log.append(offset)
        if offset >= REGISTERS_END:
            return None
        self.values[offset] = (self.values.get(offset, 0) + 0x0100_0000) & 0xFFFF_FFFF
        return self.values[offset]

    def write(self, offset, value):
        """Whether there is such a register."""
        self.log.append((offset, value))
        if offset < REGISTERS_END:
            self.values[offset] = value
        return offset < REGISTERS_END

    def _may(self):
        return not self.dead and self.rng.random() >= self.stall

    async def reads(self, ctx, ar, r):
        while True:
            offset = await self._take(ctx, ar)
            value = self.read(offset.addr)
            await self._give(ctx, r, {"data": value or 0xBAD, "resp": Response.OKAY if value is not None
                                      else Response.SLVERR})

    async def writes(self, ctx, aw, w, b):
        while True:
            address, word, offered = None, None, False
            while address is None or word is None:
                ready = [self._may() and address is None, self._may() and word is None]
                ctx.set(aw.ready, ready[0])
                ctx.set(w.ready, ready[1])
                _, _, aw_valid, aw_payload, w_valid, w_payload = await ctx.tick().sample(
                    aw.valid, aw.payload, w.valid, w.payload)
                if ready[0] and aw_valid:
                    address = aw_payload.addr
                if ready[1] and w_valid:
                    word = w_payload
            ctx.set(aw.ready, 0)
            ctx.set(w.ready, 0)
            assert word.strb == 0b1111 and not offered
            await self._give(ctx, b, {"resp": Response.OKAY if self.write(address, word.data) else Response.SLVERR})

    async def _take(self, ctx, source):
        while True:
            ready = self._may()
            ctx.set(source.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(source.valid, source.payload)
            if valid and ready:
                ctx.set(source.ready, 0)
                return payload

    async def _give(self, ctx, target, payload):
        while not self._may():
            await ctx.tick()
        await send(ctx, target, [payload])


class Device:
    """The same registers and memory, for a golden bridge."""

    irq, cycle = True, 0

    def __init__(self):
        self.registers, self.memory = Registers(random.Random(0), 0), bytearray(MEMORY_SIZE)

    def read_register(self, offset):
        return self.registers.read(offset)

    def write_register(self, offset, value):
        return self.registers.write(offset, value)

    def read(self, address, size):
        return bytes(self.memory[address - MEMORY_BASE:][:size])

    def write(self, address, data):
        self.memory[address - MEMORY_BASE:][:len(data)] = data
        self.memory[address - MEMORY_BASE:address - MEMORY_BASE + len(data)] = data

    def run(self, cycles):
        """Time does not matter here."""


class Rig:
    """A bridge between streams that pause, and a device that answers late."""

    def __init__(self, seed, *, stall=0.0, window=8, timeout=4096, bad=(), memory_size=MEMORY_SIZE):
        self.rng = random.Random(seed)
        self.stall = stall
        self.dut = Bridge(IDENTITY.pack(), window=window, memory_size=memory_size, timeout=timeout)
        self.registers = Registers(random.Random(seed + 1), stall)
        self.memory = AXI4Memory(bytearray(MEMORY_SIZE), base=MEMORY_BASE, rng=random.Random(seed + 2), stall=stall,
                                 bad=bad)
        self.answers = []
        self.device = Device()
        self.golden = GoldenBridge(self.device, IDENTITY, window=window)

    async def give(self, ctx, raw, *, error=False):
        """Offer a message, of any number of bytes."""
        words = [raw[place:place + 4] for place in range(0, len(raw), 4)]
        items = [{"data": int.from_bytes(word, "little"), "count": len(word), "last": place == len(words) - 1,
                  "error": error and place == len(words) - 1} for place, word in enumerate(words)]
        await send(ctx, self.dut.i, items, rng=self.rng, idle=self.stall)

    async def collect(self, ctx):
        """Answers, for ever."""
        rng, answer, port = random.Random(self.rng.random()), b"", self.dut.o
        while True:
            ready = rng.random() >= self.stall
            ctx.set(port.ready, ready)
            _, _, valid, word = await ctx.tick().sample(port.valid, port.payload)
            if valid and ready:
                assert word.count == 4 and not word.error
                answer += word.data.to_bytes(4, "little")
                if word.last:
                    self.answers.append(answer)
                    answer = b""

    async def settle(self, ctx):
        """Wait until nothing is under way: the next message can be taken, or not for long."""
        for _ in range(12):
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(self.dut.i.ready)
        ctx.set(self.dut.i.valid, 0)

    def run(self, bench, *, limit=400_000):
        """Run ``bench(ctx)``."""
        m = Module()
        m.submodules.dut = dut = self.dut
        outputs = {"o": dut.o, **{f"mem_{name}": getattr(dut.mem, name) for name in ("ar", "aw", "w")},
                   **{f"csr_{name}": getattr(dut.csr, name) for name in ("ar", "aw", "w")}}
        for name, port in outputs.items():
            watch(m, port, name=name)

        async def start(ctx):
            ctx.set(dut.irq, 1)
            await bench(ctx)
            await self.settle(ctx)

        async def reads(ctx):
            await self.registers.reads(ctx, dut.csr.ar, dut.csr.r)

        async def writes(ctx):
            await self.registers.writes(ctx, dut.csr.aw, dut.csr.w, dut.csr.b)

        simulate(m, start, limit=limit, models=[
            self.collect, reads, writes, self.memory.reader(dut.mem.ar, dut.mem.r),
            self.memory.writer(dut.mem.aw, dut.mem.w, dut.mem.b)])

    def check(self, messages):
        """The golden bridge gives the same answers to ``messages``, and leaves the same behind."""
        expected = [answer for raw in messages if (answer := self.golden.answer(raw)) is not None]
        for number, (found, wanted) in enumerate(itertools.zip_longest(self.answers, expected)):
            assert found == wanted, f"answer {number}: {found and found.hex()}, not {wanted and wanted.hex()}"
        assert self.registers.log == self.device.registers.log
        assert self.memory.memory == self.device.memory


def open_message(session, previous=0, sequence=0):
    return pack_message(Message(Kind.OPEN, session, sequence, pack_words([previous])))


def request(session, sequence, *listed):
    """A request with operations."""
    return pack_message(Message(Kind.REQUEST, session, sequence, operations.pack_operations(listed)))
