# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Queue, SkidBuffer, Backlog, Arbiter and the stream rules."""

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.arbiter import Arbiter
from rackgate.stream.backlog import Backlog
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch


def watched(dut):
    """The block with the stream rules on its output."""
    m = Module()
    m.submodules.dut = dut
    watch(m, dut.o, name="o")
    return m


def through(dut, items, *, seed, idle, stall):
    """Send items through a block with ports i and o; return what comes out."""
    print(f"seed {seed}")
    out = []

    async def source(ctx):
        await send(ctx, dut.i, items, rng=random.Random(seed), idle=idle)

    async def sink(ctx):
        out.extend(await receive(ctx, dut.o, len(items), rng=random.Random(seed + 1), stall=stall))
        _, _, valid = await ctx.tick().sample(dut.o.valid)
        assert not valid, "more came out than went in"

    simulate(watched(dut), source, sink)
    return out


BLOCKS = {
    "skid": lambda: SkidBuffer(16), "depth 1": lambda: Queue(16, depth=1), "depth 2": lambda: Queue(16, depth=2),
    "depth 7": lambda: Queue(16, depth=7), "depth 32": lambda: Queue(16, depth=32),
    "depth 33": lambda: Queue(16, depth=33),
    "block 2": lambda: Queue(16, depth=2, block_ram=True), "block 5": lambda: Queue(16, depth=5, block_ram=True),
    "backlog 2": lambda: Backlog(16, depth=2), "backlog 9": lambda: Backlog(16, depth=9),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.5, 0.1), (0.1, 0.5), (0.5, 0.5)])
def test_order(name, idle, stall):
    seed = 1000 + int(10 * idle)
    items = [random.Random(seed).getrandbits(16) for _ in range(200)]
    assert through(BLOCKS[name](), items, seed=seed, idle=idle, stall=stall) == items


@pytest.mark.parametrize("name,cycles", [("skid", 1), ("depth 2", 1), ("depth 32", 1), ("depth 33", 3),
                                         ("backlog 9", 1)])
def test_latency_and_throughput(name, cycles):
    dut = BLOCKS[name]()
    total = 100

    async def source(ctx):
        await send(ctx, dut.i, range(total))

    async def sink(ctx):
        ctx.set(dut.o.ready, 1)
        _, _, valid = await ctx.tick().sample(dut.o.valid)
        for _ in range(cycles - 1):
            assert not valid
            _, _, valid = await ctx.tick().sample(dut.o.valid)
        assert not valid
        for expected in range(total):
            _, _, valid, value = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            assert (valid, value) == (1, expected)

    simulate(dut, source, sink)


@pytest.mark.parametrize("depth", [1, 2, 5, 32, 33, 100])
def test_capacity(depth):
    dut = Queue(8, depth=depth)

    async def testbench(ctx):
        ctx.set(dut.i.valid, 1)
        for count in range(depth):
            assert ctx.get(dut.i.ready)
            assert ctx.get(dut.level) == count
            await ctx.tick()
        assert not ctx.get(dut.i.ready)
        await ctx.tick().repeat(4)
        assert ctx.get(dut.level) == depth

    simulate(dut, testbench)


@pytest.mark.parametrize("stalled", [1, 2, 3, 4, 17, 18, 19, 20, 21, 22, 40, 60])
def test_backlog_goes_on(stalled):
    """While ``o`` stands, ``i`` does not; afterwards a payload leaves in each cycle."""
    dut, total, taken = Backlog(16, depth=40), 100, []
    assert dut.capacity == 58

    async def source(ctx):
        ctx.set(dut.i.valid, 1)
        for value in range(total):
            ctx.set(dut.i.payload, value)
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            assert ready or value >= dut.capacity
            while not ready:
                _, _, ready = await ctx.tick().sample(dut.i.ready)
        ctx.set(dut.i.valid, 0)

    async def sink(ctx):
        await ctx.tick().repeat(stalled)
        ctx.set(dut.o.ready, 1)
        while len(taken) < total:
            _, _, valid, value = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            assert valid or not taken, "a bubble"
            if valid:
                taken.append(value)

    simulate(dut, source, sink)
    assert taken == list(range(total))


def test_backlog_parameters():
    with pytest.raises(ValueError, match="depth must be at least 2, not 1"):
        Backlog(16, depth=1)


def test_struct_payload():
    layout = data.StructLayout({"a": 3, "b": 5})
    for dut in (Queue(layout, depth=3), Queue(layout, depth=40), SkidBuffer(layout), Backlog(layout, depth=3)):
        out = through(dut, [{"a": 5, "b": 17}, {"a": 1, "b": 30}], seed=3, idle=0.3, stall=0.3)
        assert [(word.a, word.b) for word in out] == [(5, 17), (1, 30)]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.7, 0.2), (0.2, 0.6)])
def test_arbiter(n, idle, stall):
    seed, each = 77, 60
    print(f"seed {seed}")
    dut = Arbiter(16, n)
    grants = []

    def source(k):
        async def run(ctx):
            await send(ctx, dut.i[k], [k << 8 | index for index in range(each)], rng=random.Random(seed + k), idle=idle)
        return run

    async def sink(ctx):
        rng = random.Random(seed - 1)
        while len(grants) < n * each:
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, valid, value, origin = await ctx.tick().sample(dut.o.valid, dut.o.payload, dut.source)
            if valid and ready:
                assert value >> 8 == origin
                grants.append(value)

    simulate(watched(dut), sink, *(source(k) for k in range(n)))
    for k in range(n):
        assert [value & 0xFF for value in grants if value >> 8 == k] == list(range(each))
    if idle == 0:
        assert [value >> 8 for value in grants] == list(range(n)) * each


class Liar(wiring.Component):
    """Breaks one of the stream rules on purpose."""

    o: Out(stream.Signature(8))
    drop: In(1)
    change: In(1)

    def elaborate(self, platform):
        m = Module()
        tick = Signal(8)
        m.d.sync += tick.eq(tick + 1)
        m.d.comb += [
            self.o.valid.eq(~self.drop | tick[1]),
            self.o.payload.eq(tick & self.change.replicate(8)),
        ]
        return m


@pytest.mark.parametrize("fault,message", [("drop", "valid fell"), ("change", "payload changed")])
def test_rules_catch(fault, message):
    dut = Liar()

    async def testbench(ctx):
        ctx.set(getattr(dut, fault), 1)
        for _ in range(20):
            await ctx.tick()

    with pytest.raises(AssertionError, match=message):
        simulate(watched(dut), testbench)


def test_rules_accept_a_stall():
    dut = Liar()

    async def testbench(ctx):
        for _ in range(20):
            await ctx.tick()

    simulate(watched(dut), testbench)


def test_bad_parameters():
    with pytest.raises(ValueError, match="depth must be at least 1, not 0"):
        Queue(8, depth=0)
    with pytest.raises(TypeError):
        Queue(8, depth=1.5)
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        Arbiter(8, 0)
