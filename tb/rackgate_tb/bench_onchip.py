# SPDX-License-Identifier: Apache-2.0
"""Bench of OnChipMemory with initiators that nobody here wrote: bursts of any length at any byte."""

import logging

import cocotb
from amaranth.lib import wiring
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Combine
from cocotbext.axi import AxiBus, AxiMaster, AxiResp

from rackgate.axi.bus import AXI4Signature
from rackgate.mem.onchip import OnChipMemory

from . import session
from .axi_pins import AxiPins
from .buses import Pauses, axi_channels

PERIOD_NS = 10
BASE = 0x1000_0000
SIZE = 24 * 1024  # no power of two
_LIMIT_NS = 3_000_000


def onchip(initiators: int) -> wiring.Component:
    """The memory with pins."""
    return AxiPins(OnChipMemory(SIZE, [AXI4Signature(id_width=2 + number) for number in range(initiators)]))


class Bench:
    """Initiators with a part of memory each, and an image of what this must hold."""

    def __init__(self, dut, purpose, pause):
        self.rng = session.rng(purpose)
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)  # cocotbext-axi says a line for each burst
        self.count = session.parameters()["initiators"]
        self.masters = [AxiMaster(AxiBus.from_prefix(dut, f"i_{number}"), dut.clk, dut.rst)
                        for number in range(self.count)]
        self.share = SIZE // self.count
        self.image = bytearray(SIZE)
        channels = [channel for master in self.masters for channel in axi_channels(master)]
        self.pauses = Pauses(dut.clk, channels, rng=session.rng(f"{purpose} pauses"), most=pause)

    @classmethod
    async def start(cls, dut, purpose, *, pause):
        """Clock and reset."""
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        dut.withdraw.value = 0
        dut.rst.value = 1
        bench = cls(dut, purpose, pause)
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 2)
        return bench

    def place(self, number):
        """A range in the part of an initiator."""
        size = self.rng.choice([1, 7, 8, 64, self.rng.randrange(1, 300), self.rng.randrange(1, 3000)])
        return number * self.share + self.rng.randrange(self.share - size + 1), size

    async def use(self, number, turns):
        """Write and read by turns, a few at a time."""
        master = self.masters[number]
        for _ in range(turns):
            start, size = self.place(number)
            content = self.rng.randbytes(size)
            self.image[start:start + size] = content
            done = await master.write(BASE + start, content)
            assert done.resp == AxiResp.OKAY
            ranges = [self.place(number) for _ in range(3)]
            reads = [master.init_read(BASE + first, length) for first, length in ranges]
            for (first, length), read in zip(ranges, reads, strict=True):
                await read.wait()
                assert read.data.resp == AxiResp.OKAY
                assert read.data.data == self.image[first:first + length], f"wrong bytes at {first:#x}"


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.6])
async def initiators(dut, pause):
    """All at once, each in its own part; at the end the whole memory is as it must be."""
    bench = await Bench.start(dut, f"initiators {pause}", pause=pause)
    # All is written once, as this test does not rest on what a test before it left.
    for number, master in enumerate(bench.masters):
        await master.write(BASE + number * bench.share, bytes(bench.share))
    await Combine(*(cocotb.start_soon(bench.use(number, 25)) for number in range(bench.count)))
    whole = await bench.masters[-1].read(BASE, SIZE)
    assert whole.data == bench.image
    if pause:
        assert all(bench.pauses.seen.values()), f"a channel never paused: {bench.pauses.seen}"


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def outside(dut):
    """What is outside is refused, and leaves no trace inside."""
    bench = await Bench.start(dut, "outside", pause=0.3)
    for number, master in enumerate(bench.masters):
        await master.write(BASE + number * bench.share, bytes(bench.share))
    for address in (BASE - 8, BASE + SIZE, BASE + SIZE - 4, 0, BASE + (1 << 20), BASE + (1 << 36)):
        for master in bench.masters:
            done = await master.write(address, b"\xff" * 8)
            assert done.resp == AxiResp.DECERR, hex(address)
            got = await master.read(address, 8)
            assert got.resp == AxiResp.DECERR, hex(address)
    whole = await bench.masters[0].read(BASE, SIZE)
    assert whole.resp == AxiResp.OKAY
    assert whole.data == bytes(SIZE - 4) + b"\xff" * 4  # the one whose first half is inside
