# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The whole MAC between a PHY and packet streams, with clocks of its own on each side."""

import random
from collections import Counter, deque

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from ethernet_bench import (
    Gathered,
    drive_receive,
    drive_transmit,
    read_register,
    take_all,
    words,
    write_register,
)

from rackgate.csr.map import MAGIC
from rackgate.mac.abi import MAC_REGISTERS, MacCounter, Speed
from rackgate.mac.mac import Mac
from rackgate.mac.rgmii import Rgmii
from rackgate.stream.packet import PacketSignature
from rackgate.verif.stimulus import send, simulate
from rackgate.verif.stream_rules import watch
from rackgate_sim.phy import Faults, Phy

#: Cycles of ``sync`` in a cycle of the PHY's clocks: 125 MHz beside 50 and 200 MHz.
FAST, SLOW = {"eth_rx": 1.601, "eth_tx": 1.6}, {"eth_rx": 0.3999, "eth_tx": 0.4}


class Bench:
    """A Mac, a PHY at its pins, and what comes out of it."""

    def __init__(self, width, phy, *, stall=0.0, seed=1, every=1, clocks=SLOW, **parameters):
        self.dut, self.phy, self.every, self.clocks = Mac(width, **parameters), phy, every, clocks
        self.out, self.stall, self.rng = Gathered(width), stall, random.Random(seed)

    async def _receive(self, ctx):
        await drive_receive(ctx, self.dut.gmii, self.phy, every=self.every)

    async def _transmit(self, ctx):
        await drive_transmit(ctx, self.dut.gmii, self.phy, every=self.every)

    async def _take(self, ctx):
        await take_all(ctx, self.dut.o, self.out, rng=self.rng, stall=self.stall)

    async def read(self, ctx, name):
        """A register."""
        return await read_register(ctx, self.dut.csr, MAC_REGISTERS[name].offset)

    async def write(self, ctx, name, value):
        """Write a register."""
        await write_register(ctx, self.dut.csr, MAC_REGISTERS[name].offset, value)

    async def counters(self, ctx):
        """Counters that are not 0, by name."""
        found = {counter.name: await self.read(ctx, f"COUNT_{counter.name}") for counter in MacCounter}
        return {name: value for name, value in found.items() if value}

    async def settle(self, ctx, *, cycles=200):
        """Until nothing is on the wire, and then some."""
        quiet = 0
        while quiet < cycles:
            await ctx.tick()
            quiet = quiet + 1 if self.phy.is_idle else 0

    def run(self, testbench, *, limit=400_000):
        m = Module()
        m.submodules.dut = self.dut
        watch(m, self.dut.o, name="o")
        simulate(m, testbench, models=[self._receive, self._transmit, self._take], limit=limit, clocks=self.clocks)
        assert self.out.is_between, "the last frame has no end"


@pytest.mark.thorough
@pytest.mark.parametrize("width,clocks", [(4, FAST), (4, SLOW), (8, SLOW)])
def test_loop(width, clocks, seed):
    rng = random.Random(seed)
    phy = Phy(rng=rng, faults=Faults(flip=0.2, preamble=0.2))
    there = [rng.randbytes(rng.randrange(60, 120)) for _ in range(12)]
    back = [rng.randbytes(rng.randrange(1, 120)) for _ in range(12)]
    bench = Bench(width, phy, clocks=clocks, stall=0.2, seed=seed)
    found = {}

    async def testbench(ctx):
        for frame in there:
            phy.send(frame)
        for frame in back:
            damaged = rng.random() < 0.3
            await send(ctx, bench.dut.i, words(frame, width, is_damaged=damaged), rng=rng, idle=0.3)
            sent.append((frame, damaged))
        await bench.settle(ctx)
        found.update(await bench.counters(ctx))
        assert await bench.read(ctx, "MAGIC") == MAGIC

    sent = []
    bench.run(testbench)
    good = [frame for frame, is_damaged in bench.out.frames if not is_damaged]
    assert good == [frame for frame in there if frame not in phy.spoiled] and len(bench.out.frames) == 12
    whole = [frame for frame, damaged in sent if not damaged]
    assert list(phy.taken) == [frame.ljust(60, b"\0") for frame in whole] and not phy.broken
    expected = Counter(RX_FRAMES=len(good), RX_BYTES=sum(map(len, good)), RX_FCS_ERRORS=len(phy.spoiled),
                       TX_FRAMES=len(whole), TX_BYTES=sum(map(len, whole)), TX_DROPPED=12 - len(whole))
    assert found == {name: value for name, value in expected.items() if value}


@pytest.mark.thorough
def test_line_rate_both_ways(seed):
    """Back to back in both directions: nothing is lost, and the gaps stay at 12 byte times."""
    rng = random.Random(seed)
    phy = Phy()
    there = [rng.randbytes(60) for _ in range(10)] + [rng.randbytes(1518)]
    back = [rng.randbytes(60) for _ in range(6)] + [rng.randbytes(1518), rng.randbytes(60)]
    bench = Bench(4, phy)
    gaps, found = [], {}

    async def testbench(ctx):
        for frame in there:
            phy.send(frame)
        await send(ctx, bench.dut.i, [word for frame in back for word in words(frame, 4)])
        await bench.settle(ctx)
        found.update(await bench.counters(ctx))

    take = phy.from_mac

    def watched(now):
        gaps.append(now.valid)
        take(now)

    phy.from_mac = watched
    bench.run(testbench)
    assert bench.out.frames == [(frame, False) for frame in there]
    assert list(phy.taken) == back
    assert set(found) == {"RX_FRAMES", "RX_BYTES", "TX_FRAMES", "TX_BYTES"}
    text = "".join(".x"[valid] for valid in gaps).strip(".")
    # The long frame is not there in whole before the wire is free; the others are.
    assert [len(gap) for gap in text.replace("x", " ").split()][:5] == [12] * 5


def test_overflow(seed):
    rng, phy = random.Random(seed), Phy()
    frames = [rng.randbytes(60) for _ in range(8)]
    bench = Bench(4, phy, depth=32, stall=1)
    found = {}

    async def testbench(ctx):
        for frame in frames:
            phy.send(frame)
        await bench.settle(ctx)
        bench.rng.random = lambda: 2.0  # from now on everything is taken
        await ctx.tick().repeat(200)
        phy.send(bytes(60))
        await bench.settle(ctx)
        found.update(await bench.counters(ctx))

    bench.run(testbench)
    good = [frame for frame, is_damaged in bench.out.frames if not is_damaged]
    # 32 words in the queue, 17 between the clocks and one before them: three frames of 15, and the begin of a fourth.
    assert good == [*frames[:3], bytes(60)]
    assert [frame for frame, is_damaged in bench.out.frames if is_damaged] == [frames[3][:20] + b"\0"]
    assert found == {"RX_FRAMES": 4, "RX_BYTES": 240, "RX_LOST": 5}


def test_too_long_and_a_slow_clock(seed):
    rng, phy = random.Random(seed), Phy()
    frames = [rng.randbytes(size) for size in (100, 101, 64)]
    bench = Bench(4, phy, longest=100, clocks={"eth_rx": 0.4, "eth_tx": 0.05})
    found = {}

    async def testbench(ctx):
        for frame in frames:
            await send(ctx, bench.dut.i, words(frame, 4))
        await bench.settle(ctx)
        found.update(await bench.counters(ctx))

    bench.run(testbench)
    # Words come at a fifth of the pace of bytes: what the queue holds is sent, then the frame breaks off.
    assert not phy.taken and phy.broken == 2
    assert found == {"TX_FRAMES": 2, "TX_BYTES": 164, "TX_DROPPED": 1, "TX_UNDERRUNS": 2}


class Looped(wiring.Component):
    """A MAC with its RGMII."""

    def __init__(self):
        self.mac, self.rgmii = Mac(4), Rgmii()
        super().__init__({"i": In(PacketSignature(4)), "o": Out(PacketSignature(4))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.mac, m.submodules.rgmii = self.mac, self.rgmii
        wiring.connect(m, self.mac.gmii, self.rgmii.gmii)
        wiring.connect(m, wiring.flipped(self.i), self.mac.i)
        wiring.connect(m, self.mac.o, wiring.flipped(self.o))
        return m


@pytest.mark.thorough
def test_loop_at_100(seed):
    """The PHY says 100 Mb/s between frames, and sends back at its clock what it gets at the MAC's."""
    rng, dut, out, halves = random.Random(seed), Looped(), Gathered(4), deque()
    frames, status = [rng.randbytes(size) for size in (60, 64, 3)], Speed.MBPS_100 << 1 | 0b1001

    async def testbench(ctx):
        await ctx.tick().repeat(100)  # until the speed is known
        await send(ctx, dut.i, [word for frame in frames for word in words(frame, 4)])
        for _ in range(4000):
            await ctx.tick()
            if len(out.frames) == len(frames):
                return

    async def take(ctx):
        await take_all(ctx, dut.o, out)

    async def transmit(ctx):
        was_high = 0
        while True:
            _, _, clock, data, control = await ctx.tick("eth_tx").sample(
                dut.rgmii.tx_clock[0], dut.rgmii.tx_data[0], dut.rgmii.tx_control[0])
            if clock and not was_high:
                halves.append((data, control))
            was_high = clock

    async def receive(ctx):
        while True:
            data, valid = halves.popleft() if halves else (0, 0)
            ctx.set(dut.rgmii.rx_data[0], data if valid else status)
            ctx.set(dut.rgmii.rx_control.as_value(), 3 * valid)
            await ctx.tick("eth_rx")

    simulate(dut, testbench, models=[take, transmit, receive], clocks={"eth_tx": 0.4, "eth_rx": 2.0})
    assert out.frames == [(frame.ljust(60, b"\0"), False) for frame in frames]


def test_speed_and_link():
    bench = Bench(4, Phy(), speed=Speed.MBPS_100)

    async def testbench(ctx):
        assert await bench.read(ctx, "SPEED") == Speed.MBPS_100 == ctx.get(bench.dut.gmii.speed)
        await bench.write(ctx, "SPEED", Speed.MBPS_10)
        assert ctx.get(bench.dut.gmii.speed) == Speed.MBPS_10
        assert await bench.read(ctx, "STATUS") == 0
        ctx.set(bench.dut.gmii.link, {"up": 1, "speed": 2, "full_duplex": 1})
        await ctx.tick().repeat(4)
        assert await bench.read(ctx, "STATUS") == 0b1101

    bench.run(testbench)


@pytest.mark.parametrize("arguments,message", [
    ({"width": 1}, "width must be one of .* not 1"), ({"longest": 20}, "longest must be 60 to 9600 bytes, not 20"),
    ({"depth": 2}, "depth must be at least 4, not 2"), ({"speed": 5}, "5 is not a valid Speed"),
])
def test_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mac(**arguments)
