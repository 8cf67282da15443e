# SPDX-License-Identifier: Apache-2.0
"""Bench of dma.Fetcher and dma.Placer with AXI models that nobody here wrote: copies of ranges of any alignment.

Each test compares the whole memory with what the copies must leave there, and sees that no word was read that holds
no byte of a range.
"""

import logging

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from . import session
from .buses import Memory, Pauses

PERIOD_NS = 10
BASE = 0x12_3456_0000
SIZE = 64 * 1024
_LIMIT_NS = 2_000_000


class Bench:
    """A copier with a memory that pauses at random, and an image of what that must hold."""

    def __init__(self, dut, purpose, pause):
        self.dut, self.rng, self.width = dut, session.rng(purpose), session.parameters()["width"]
        # cocotbext-axi says a line for each transaction.
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.memory = Memory(dut, "mem", base=BASE, size=SIZE)
        self.pauses = Pauses(dut.clk, self.memory.channels(), rng=session.rng(f"{purpose} pauses"), most=pause)
        self.pause = pause
        self.image = bytearray(self.rng.randbytes(SIZE))
        self.memory.bytes.data[:] = self.image
        self.free = BASE + SIZE // 2  # sources lie in the lower half, destinations in the upper

    @classmethod
    async def start(cls, dut, purpose, *, pause):
        """Clock and reset."""
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        for name in ("withdraw", "valid", "done_ready"):
            getattr(dut, name).value = 0
        dut.rst.value = 1
        bench = cls(dut, purpose, pause)
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        return bench

    def copy(self, size):
        """A command for a range of ``size`` bytes, whose effect the image has by then."""
        source = BASE + self.rng.randrange(SIZE // 2 - size)
        destination = self.free + self.rng.randrange(2 * self.width)
        self.free = destination + size
        assert self.free <= BASE + SIZE, "the bench has run out of memory"
        first = source // self.width * self.width
        self.memory.bytes.allow(first, -(-(source + size) // self.width) * self.width - first if size else 0)
        place = destination - BASE
        self.image[place:place + size] = self.image[source - BASE:source - BASE + size]
        return source, destination, size

    async def give(self, commands):
        """Offer the commands, each with its number as its tag."""
        for tag, (source, destination, size) in enumerate(commands):
            for name, value in (("source", source), ("destination", destination), ("size", size), ("tag", tag & 0xFF),
                                ("valid", 1)):
                getattr(self.dut, name).value = value
            await ReadOnly()
            while not self.dut.ready.value:
                await RisingEdge(self.dut.clk)
                await ReadOnly()
            await RisingEdge(self.dut.clk)
            self.dut.valid.value = 0
            while self.rng.random() < self.pause:
                await RisingEdge(self.dut.clk)

    async def take(self, count):
        """What ``done`` says of as many commands: their tags, and whether in error."""
        said = []
        while len(said) < count:
            ready = self.rng.random() >= self.pause
            self.dut.done_ready.value = ready
            await ReadOnly()
            if ready and self.dut.done_valid.value:
                said.append((int(self.dut.done_tag.value), bool(self.dut.done_error.value)))
            await RisingEdge(self.dut.clk)
        return said

    async def run(self, commands):
        """Give the commands, and take what is said of them."""
        giver = cocotb.start_soon(self.give(commands))
        said = await self.take(len(commands))
        await giver
        assert [tag for tag, _ in said] == [number & 0xFF for number in range(len(commands))], "tags out of order"
        return [error for _, error in said]

    def check(self):
        """The whole memory, and what was read."""
        assert self.memory.bytes.data == self.image
        assert not self.memory.bytes.strays, f"words outside the ranges are read: {self.memory.bytes.strays[:4]}"


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.5, 0.9])
async def random_copies(dut, pause):
    """Ranges of all sizes from 0 to 5 KB, at any alignment."""
    bench = await Bench.start(dut, f"copies {pause}", pause=pause)
    sizes = [bench.rng.choice([0, 1, bench.width, 64, bench.rng.randrange(3 * bench.width), bench.rng.randrange(1000)])
             for _ in range(40)] + [1024, 5000, 0, 4096]
    assert not any(await bench.run([bench.copy(size) for size in sizes]))
    bench.check()
    assert bench.memory.bytes.written == sum(sizes), "bytes are written more than once"
    if pause:
        assert all(bench.pauses.seen.values()), f"a channel never paused: {bench.pauses.seen}"


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.5])
async def errors(dut, pause):
    """A range whose source, or destination, is outside the memory is said to be in error, and no other is."""
    bench = await Bench.start(dut, f"errors {pause}", pause=pause)
    good = [bench.copy(200) for _ in range(4)]
    outside = BASE + SIZE + 8192
    spare = bench.free + 64
    bad_source, bad_destination = (outside, spare, 2 * bench.width), (good[0][0], outside, 200)
    errors = await bench.run([good[0], bad_source, good[1], bad_destination, good[2], good[3]])
    assert errors == [False, True, False, True, False, False]
    # What comes of a source that cannot be read means nothing.
    place = spare - BASE
    bench.image[place:place + 2 * bench.width] = bench.memory.bytes.data[place:place + 2 * bench.width]
    bench.check()
