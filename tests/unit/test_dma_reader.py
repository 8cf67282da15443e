# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""dma.Reader against a memory that stalls, reorders and fails."""

import random

import pytest

from rackgate.dma.reader import Reader
from rackgate.verif.stimulus import AXI4Memory, simulate

BASE = 0x1000


def covering(memory, addr, size):
    """The aligned words that a command must yield."""
    words = range(addr // 8 * 8, addr + size, 8) if size else range(0)
    return [int.from_bytes(memory[word - BASE:word - BASE + 8], "little") for word in words]


def run(commands, *, seed=1, stall=0.3, bad=(), **parameters):
    """Give the commands to a reader; return for each its list of (data, last, error), and the memory model."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    memory = bytearray(rng.randbytes(0x5000))
    model = AXI4Memory(memory, base=BASE, rng=random.Random(seed + 1), stall=stall, bad=bad)
    dut = Reader(**parameters)
    results = []

    async def testbench(ctx):
        for addr, size in commands:
            ctx.set(dut.i.payload, {"addr": addr, "size": size})
            ctx.set(dut.i.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(dut.i.ready)
            ctx.set(dut.i.valid, 0)
            words = []
            while ctx.get(dut.busy):
                ctx.set(dut.o.ready, rng.random() >= stall)
                _, _, valid, ready, word = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
                if valid and ready:
                    words.append((word.data, word.last, word.error))
            results.append(words)

    simulate(dut, testbench, models=[model.reader(dut.ar, dut.r)])
    return results, model


COMMANDS = [(0x1000, 8), (0x1003, 1), (0x1007, 2), (0x1001, 0), (0x1FF8, 16), (0x1FF9, 300), (0x2345, 1000),
            (0x3000, 4096), (0x10F8, 8), (0x1080, 128), (0x1079, 129)]


@pytest.mark.parametrize("parameters", [
    {}, {"burst": 1, "fifo_depth": 1, "outstanding": 1}, {"burst": 4, "fifo_depth": 7, "outstanding": 2},
    {"burst": 256, "fifo_depth": 256, "id": 5},
], ids=str)
def test_words(parameters):
    results, model = run(COMMANDS, **parameters)
    for (addr, size), words in zip(COMMANDS, results, strict=True):
        expected = covering(model.memory, addr, size)
        assert [word for word, _, _ in words] == expected
        assert [last for _, last, _ in words] == [0] * (len(words) - 1) + [1] * bool(expected)
        assert not any(error for _, _, error in words)
    assert {id for id, _, _ in model.reads} == {parameters.get("id", 0)}
    assert max(beats for _, _, beats in model.reads) == parameters.get("burst", 16)
    read = [addr + 8 * beat for _, addr, beats in model.reads for beat in range(beats)]
    assert read == [word for addr, size in COMMANDS if size for word in range(addr // 8 * 8, addr + size, 8)]


@pytest.mark.parametrize("seed", range(4))
def test_random(seed):
    rng = random.Random(seed)
    commands = [(BASE + rng.randrange(0x4000), rng.choice([0, rng.randrange(20), rng.randrange(600)]))
                for _ in range(20)]
    results, model = run(commands, seed=seed, stall=rng.choice([0, 0.2, 0.6]))
    assert [[word for word, _, _ in words] for words in results] == [covering(model.memory, *c) for c in commands]


def test_error_marks_its_word():
    results, _ = run([(0x1000, 256), (0x1000, 16)], bad=[0x1043])
    assert [error for _, _, error in results[0]] == [index == 8 for index in range(32)]
    assert [(last, error) for _, last, error in results[1]] == [(0, 0), (1, 0)]


def test_sustains_a_word_a_cycle():
    dut = Reader()
    model = AXI4Memory(bytearray(0x4000))
    taken = []

    async def testbench(ctx):
        ctx.set(dut.i.payload, {"addr": 5, "size": 8 * 1000})
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        cycle = 0
        while ctx.get(dut.busy):
            cycle += 1
            _, _, valid, ar_valid = await ctx.tick().sample(dut.o.valid, dut.ar.valid)
            if valid:
                taken.append(cycle)
            if ar_valid and len(model.reads) == 1:
                assert cycle == 3

    simulate(dut, testbench, models=[model.reader(dut.ar, dut.r)])
    assert len(taken) == 1001
    assert taken[-1] - taken[0] == 1000


@pytest.mark.parametrize("after", range(0, 60, 3))
@pytest.mark.parametrize("stall", [0, 0.5])
def test_cancel(after, stall):
    """Whenever it comes: nothing more is offered, every burst sent is drained, and the next command is whole."""
    seed = 100 + after
    memory = bytearray(random.Random(seed).randbytes(0x2000))
    model = AXI4Memory(memory, base=BASE, rng=random.Random(seed), stall=stall)
    dut = Reader(fifo_depth=32, outstanding=3)

    async def command(ctx, addr, size):
        ctx.set(dut.i.payload, {"addr": addr, "size": size})
        ctx.set(dut.i.valid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick().sample(dut.i.ready)
        ctx.set(dut.i.valid, 0)

    async def testbench(ctx):
        await command(ctx, BASE + 3, 2000)
        ctx.set(dut.o.ready, after % 2)
        for _ in range(after):
            await ctx.tick()
        ctx.set(dut.cancel, 1)
        await ctx.tick()
        ctx.set(dut.cancel, 0)
        sent = len(model.reads) + ctx.get(dut.ar.valid)  # an address on offer cannot be taken back
        while ctx.get(dut.busy):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            assert not valid
        assert len(model.reads) == sent
        await command(ctx, BASE + 8, 40)
        ctx.set(dut.o.ready, 1)
        words = []
        while ctx.get(dut.busy):
            _, _, valid, word = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                words.append(word.data)
        assert words == covering(memory, BASE + 8, 40)

    simulate(dut, testbench, models=[model.reader(dut.ar, dut.r)], limit=5000)


def test_cancel_when_idle_is_ignored():
    dut = Reader()
    model = AXI4Memory(bytearray(64))

    async def testbench(ctx):
        ctx.set(dut.cancel, 1)
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.payload, {"addr": 0, "size": 8})
        for _ in range(3):
            await ctx.tick()
            assert not ctx.get(dut.busy)
        ctx.set(dut.cancel, 0)
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        while not ctx.get(dut.o.valid):
            await ctx.tick()
        assert ctx.get(dut.o.payload.last)

    simulate(dut, testbench, models=[model.reader(dut.ar, dut.r)], limit=100)


@pytest.mark.parametrize("parameters,message", [
    ({"id": 16}, "id must fit 4 bits, not 16"),
    ({"burst": 12}, "burst must be a power of two from 1 to 256, not 12"),
    ({"burst": 16, "fifo_depth": 15}, r"fifo_depth must be at least burst \(16\), not 15"),
    ({"outstanding": 0}, "outstanding must be at least 1, not 0"),
    ({"addr_width": 8}, "addr_width must be 12 to 64, not 8"),
])
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        Reader(**parameters)
