# SPDX-License-Identifier: Apache-2.0
"""A host and lanes in software around the IAA device's front."""

import random
from dataclasses import dataclass

from amaranth.hdl import Cat

from rackgate.axi.bus import Response
from rackgate.iaa.abi import PORTAL_SIZE, PORTALS, REGISTERS, Command, Descriptor, Opcode, queue_register

__all__ = ["Handed", "Host", "Lanes", "mode", "noop"]


def mode(*, dedicated=False, block=False, priority=1, pasid=0, pasid_enable=False, privileged=False):
    """Value of a queue's MODE."""
    return dedicated | block << 1 | priority << 4 | pasid << 8 | pasid_enable << 28 | privileged << 29


class Host:
    """Registers and portals behind an AXI4-Lite target."""

    def __init__(self, ctx, bus):
        self.ctx, self.bus = ctx, bus

    async def read(self, address):
        """Data of a read, which must succeed."""
        ctx, bus = self.ctx, self.bus
        ctx.set(bus.ar.payload.addr, address)
        ctx.set(bus.ar.valid, 1)
        await ctx.tick().until(bus.ar.ready)
        ctx.set(bus.ar.valid, 0)
        ctx.set(bus.r.ready, 1)
        answer, = await ctx.tick().sample(bus.r.payload).until(bus.r.valid)
        ctx.set(bus.r.ready, 0)
        assert answer.resp == Response.OKAY, f"read of {address:#x}"
        return answer.data

    async def write(self, address, value, *, strobe=0xF):
        """Response of a write."""
        ctx, bus = self.ctx, self.bus
        ctx.set(bus.aw.payload.addr, address)
        ctx.set(bus.w.payload, {"data": value, "strb": strobe})
        ctx.set(bus.aw.valid, 1)
        ctx.set(bus.w.valid, 1)
        await ctx.tick().until(bus.aw.ready & bus.w.ready)
        ctx.set(bus.aw.valid, 0)
        ctx.set(bus.w.valid, 0)
        ctx.set(bus.b.ready, 1)
        answer, = await ctx.tick().sample(bus.b.payload.resp).until(bus.b.valid)
        ctx.set(bus.b.ready, 0)
        return answer

    async def get(self, name):
        """Value of a register."""
        return await self.read(REGISTERS[name].offset)

    async def put(self, name, value):
        """Set a register."""
        assert await self.write(REGISTERS[name].offset, value) == Response.OKAY, name

    async def submit(self, queue, descriptor, *, place=0, words=range(16)):
        """Response to the last word."""
        raw = descriptor.pack()
        for word in words:
            answer = await self.write(PORTALS + PORTAL_SIZE * queue + 64 * place + 4 * word,
                                      int.from_bytes(raw[4 * word:4 * word + 4], "little"))
        return answer

    async def command(self, command, operand=0, *, interrupt=False):
        """Begin a command."""
        await self.put("CMD", operand | command << 20 | interrupt << 31)

    async def finish(self, limit=500):
        """Wait for the command under way; its error."""
        for _ in range(limit):
            status = await self.get("CMDSTS")
            if not status >> 31:
                return status
        raise AssertionError("the command does not end")

    async def do(self, command, operand=0, **more):
        """Carry out a command; its error."""
        await self.command(command, operand, **more)
        return await self.finish()

    async def configure(self, queue, *, size=4, threshold=None, shift=21, table=0, limit=None, **more):
        """Set a queue's registers."""
        values = {"SIZE": size, "THRESHOLD": size if threshold is None else threshold, "MODE": mode(**more),
                  "LIMITS": shift, "TABLE_LO": table & 0xFFFFFFFF, "TABLE_HI": table >> 32,
                  "OCCUPANCY_LIMIT": 0 if limit is None else limit | 1 << 16}
        for name, value in values.items():
            await self.put(queue_register(queue, name), value)

    async def start(self, queues, *, groups=((0xFF, 0xFF),)):
        """Enable the device and queues that have been configured."""
        for group, (members, engines) in enumerate(groups):
            await self.put(f"GRP{group}_WQS", members)
            await self.put(f"GRP{group}_ENGINES", engines)
        assert await self.do(Command.ENABLE_DEVICE) == 0
        for queue in queues:
            assert await self.do(Command.ENABLE_WQ, queue) == 0


@dataclass
class Handed:
    """A descriptor that a lane has taken."""

    cycle: int
    lane: int
    queue: int
    tag: int
    opcode: int
    aborted: int
    work: object


class Lanes:
    """Lanes that hold each descriptor for a time: ``hold(handed)`` cycles, or for ever if that is None."""

    def __init__(self, o, retired, *, hold=lambda handed: 5, rng=None, stall=0.0):
        self.o, self.retired, self.hold = o, retired, hold
        self.rng, self.stall = rng or random.Random(0), stall
        self.cycle, self.handed, self.running, self.first_valid = 0, [], {}, {}

    async def run(self, ctx):
        """Play the lanes; a model for ``simulate``."""
        ready, offered = [False] * len(self.o), Cat(o.valid for o in self.o)
        while True:
            strobes = 0
            for lane, (_, end) in list(self.running.items()):
                if end is not None and self.cycle >= end:
                    strobes |= 1 << lane
                    del self.running[lane]
            for lane in range(len(self.o)):
                # Once ready, a lane stays so until it takes a descriptor.
                ready[lane] = lane not in self.running and (ready[lane] or self.rng.random() >= self.stall)
                ctx.set(self.o[lane].ready, ready[lane])
            ctx.set(self.retired, strobes)
            valid = ctx.get(offered)  # from registers: it does not change before the clock does
            assert not valid & valid - 1, "a descriptor is offered to two lanes"
            if valid and ready[lane := valid.bit_length() - 1]:
                work = ctx.get(self.o[lane].payload)
                handed = Handed(self.cycle, lane, work.space.queue, work.descriptor.source, work.descriptor.opcode,
                                work.aborted, work)
                busy = [other for other, _ in self.running.values() if other.queue == handed.queue]
                assert handed.opcode != Opcode.DRAIN or not busy, "a DRAIN overtakes"
                self.handed.append(handed)
                time = self.hold(handed)
                self.running[lane] = (handed, None if time is None else self.cycle + 1 + time)
            await ctx.tick()
            self.cycle += 1

    def release(self):
        """Let everything that is held go."""
        self.running = {lane: (handed, self.cycle) for lane, (handed, _) in self.running.items()}


def noop(tag, *, opcode=Opcode.NOOP, **more):
    """A descriptor that can be told from others by its source address."""
    return Descriptor(opcode=opcode, source=tag, completion=64 * tag, **more)
