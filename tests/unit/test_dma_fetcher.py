# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""dma.Fetcher (with its planner, cutter and packer) against a memory that stalls, is late and fails."""

import random

import pytest
from dma_bench import BASE, TAG, WIDTHS, commands_of, every_alignment, idle, tags_of, watched, words_of

from rackgate.dma.cutter import Cutter
from rackgate.dma.fetcher import Fetcher
from rackgate.dma.planner import Planner
from rackgate.verif.stimulus import AXI4Memory, receive, send, simulate

SIZE = 0x5000


async def take_ranges(ctx, port, count, *, width, rng=None, stall=0.0):
    """Take packed words until ``count`` ranges have ended; return for each its bytes, whether in error, and its tag."""
    ranges, raw, tags = [], b"", set()
    while len(ranges) < count:
        word, = await receive(ctx, port, 1, rng=rng, stall=stall)
        raw += word.data.to_bytes(width, "little")[:word.count]
        tags.add((word.tag.lane, word.tag.call))
        assert word.last or (word.count == width and not word.error)
        if word.last:
            assert len(tags) == 1
            ranges.append((raw, word.error, tags.pop()))
            raw = b""
    return ranges


def run(width, ranges, *, seed=1, stall=0.0, latency=0, bad=(), **parameters):
    """Give the commands to a fetcher; return what it says of each, and the memory model."""
    print(f"seed {seed}")
    memory = bytearray(random.Random(seed).randbytes(SIZE))
    model = AXI4Memory(memory, base=BASE, rng=random.Random(seed + 1), stall=stall, bad=bad, width=width,
                       latency=latency)
    dut = Fetcher(width, tag=TAG, **parameters)
    results = []

    async def source(ctx):
        await send(ctx, dut.i, commands_of(ranges), rng=random.Random(seed + 2), idle=stall)

    async def sink(ctx):
        results.extend(await take_ranges(ctx, dut.o, len(ranges), width=width, rng=random.Random(seed + 3),
                                         stall=stall))
        ctx.set(dut.o.ready, 1)
        for _ in range(20):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            assert not valid, "a word that nobody asked for"

    simulate(watched(dut, "ar", "o"), source, sink, models=[model.reader(dut.ar, dut.r)])
    return results, model


def check(width, ranges, results, model):
    memory, base = model.memory, model.base
    assert [raw for raw, _, _ in results] == [memory[addr - base:addr - base + size] for addr, size in ranges]
    assert [tag for _, _, tag in results] == tags_of(ranges)
    read = [addr + width * beat for _, addr, beats in model.reads for beat in range(beats)]
    assert read == [word for addr, size in ranges for word in words_of(addr, size, width)]


def some_ranges(rng, width, count, most):
    """Random ranges, many of them short, empty, or at a border of a word, of a burst or of a page."""
    ranges = []
    for _ in range(count):
        size = rng.choice([0, 1, width - 1, width, width + 1, 64, rng.randrange(3 * width), rng.randrange(most)])
        border = rng.choice([width, 16 * width, 4096])
        addr = rng.choice([BASE + rng.randrange(SIZE), BASE + border * rng.randrange(SIZE // border)
                           + rng.randrange(-2, 3)])
        ranges.append((min(max(addr, BASE), BASE + SIZE - size), size))
    return ranges


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variant", range(4))
def test_random(width, variant, seed):
    seed = 1000 * seed + 10 * width + variant
    rng = random.Random(seed)
    parameters = [{}, {"burst": 1, "fifo_depth": 1, "outstanding": 1}, {"burst": 4, "fifo_depth": 7, "outstanding": 3},
                  {"burst": 64, "fifo_depth": 64, "id": 5}][variant]
    ranges = some_ranges(rng, width, 20, 40 * width)
    results, model = run(width, ranges, seed=seed, stall=rng.choice([0, 0.2, 0.6]), latency=rng.choice([0, 3, 40]),
                         **parameters)
    check(width, ranges, results, model)
    assert not any(error for _, error, _ in results)
    assert {id for id, _, _ in model.reads} == {parameters.get("id", 0)}
    assert max(beats for _, _, beats in model.reads) <= parameters.get("burst", 16)


@pytest.mark.soak
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variant", range(20))
def test_random_long(width, variant, seed):
    seed = 100_000 * seed + 100 * width + variant
    rng = random.Random(seed)
    burst, outstanding = rng.choice([1, 2, 8, 16, 64]), rng.randrange(1, 20)
    latency = rng.randrange(min(100, 2 * burst * outstanding))
    ranges = some_ranges(rng, width, 100, 5000)
    results, model = run(width, ranges, seed=seed, stall=rng.choice([0, 0.1, 0.3, 0.6]), latency=latency,
                         burst=burst, fifo_depth=burst + rng.randrange(100), outstanding=outstanding)
    check(width, ranges, results, model)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_alignment(width):
    """Each first byte with each last one, up to three words of memory, one command close behind the other."""
    ranges = [(BASE + start, end - start + 1) for start, end in every_alignment(random.Random(width), width)]
    results, model = run(width, ranges, seed=width)
    check(width, ranges, results, model)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_large(width):
    ranges = [(BASE + 3, 5000), (BASE + 1, 0), (BASE, 4096), (BASE + 4096, 5120), (BASE + width - 1, 5001)]
    results, model = run(width, ranges, latency=10)
    check(width, ranges, results, model)
    assert max(beats for _, _, beats in model.reads) == 16


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_an_error_marks_the_last_word(width, where):
    addr, size = BASE + 256 + 3, 5 * width
    bad = {"first": addr, "middle": addr + 2 * width, "last": addr + size - 1}[where]
    ranges = [(BASE, 2 * width), (addr, size), (BASE + 8, 0), (BASE + 4, 1), (BASE, width)]
    results, _ = run(width, ranges, bad=[bad])
    assert [error for _, error, _ in results] == [0, 1, 0, 0, 0]
    assert [len(raw) for raw, _, _ in results] == [size for _, size in ranges]


def test_an_error_outside_the_range_but_in_its_word_counts():
    results, _ = run(8, [(BASE + 4, 4), (BASE + 8, 8)], bad=[BASE + 1])
    assert [error for _, error, _ in results] == [1, 0]


def cycles_of(width, ranges, *, latency, o_ready=lambda cycle: True, **parameters):
    """Offer the commands as fast as they go; return the cycles of requests, of words at o, and the last ones among."""
    memory = bytearray(random.Random(width).randbytes(SIZE))
    model = AXI4Memory(memory, base=BASE, width=width, latency=latency)
    dut = Fetcher(width, tag=TAG, **parameters)
    asked, given, ends = [], [], []

    async def source(ctx):
        await send(ctx, dut.i, commands_of(ranges))

    async def watcher(ctx):
        cycle = 0
        while len(ends) < len(ranges):
            ctx.set(dut.o.ready, o_ready(cycle))
            _, _, ar, ar_ready, valid, ready, last = await ctx.tick().sample(
                dut.ar.valid, dut.ar.ready, dut.o.valid, dut.o.ready, dut.o.payload.last)
            if ar and ar_ready:
                asked.append(cycle)
            if valid and ready:
                given.append(cycle)
                if last:
                    ends.append(cycle)
            cycle += 1

    simulate(dut, source, watcher, models=[model.reader(dut.ar, dut.r)], limit=20_000)
    return asked, given, ends


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("size", [64, 1024])
def test_back_to_back(width, offset, size):
    """At most an idle cycle a command, none when aligned, behind a latency of 40 cycles; and 2 for the FIFO."""
    ranges = [(BASE + (size + 4 * offset) * number + offset, size) for number in range(12)]
    _, given, _ = cycles_of(width, ranges, latency=40, fifo_depth=128, outstanding=64)
    assert len(given) == 12 * -(-size // width)
    assert idle(given) <= (11 + 2 if offset else 0)


@pytest.mark.parametrize("size,outstanding", [(64, 8), (1024, 4)])
def test_default_fifo_hides_40_cycles_at_8_bytes(size, outstanding):
    ranges = [(BASE + size * number, size) for number in range(12)]
    _, given, _ = cycles_of(8, ranges, latency=40, outstanding=outstanding)
    assert idle(given) == 0


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_back_pressure_costs_only_its_own_cycles(width):
    ranges = [(BASE + 1024 * number, 1024) for number in range(12)]
    _, given, _ = cycles_of(width, ranges, latency=10, fifo_depth=64, o_ready=lambda cycle: cycle % 100 != 99)
    assert idle(given) <= (given[-1] - given[0]) // 100 + 1 + 2


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("fifo_depth", [16, 64])
def test_latency(width, fifo_depth):
    """The first address 3 cycles after the command (of cycle 0); the first word 2 cycles after the memory's."""
    dut = Fetcher(width, tag=TAG, fifo_depth=fifo_depth)

    async def testbench(ctx):
        ctx.set(dut.ar.ready, 1)
        ctx.set(dut.o.ready, 1)
        await send(ctx, dut.i, [{"addr": BASE, "size": 2 * width}])
        for _ in range(2):
            assert not ctx.get(dut.ar.valid)
            await ctx.tick()
        assert ctx.get(dut.ar.valid)
        await ctx.tick()
        ctx.set(dut.r.valid, 1)
        await ctx.tick()
        ctx.set(dut.r.payload.last, 1)
        assert not ctx.get(dut.o.valid)
        await ctx.tick()
        assert ctx.get(dut.o.valid) and not ctx.get(dut.o.payload.last)
        ctx.set(dut.r.valid, 0)
        await ctx.tick()
        assert ctx.get(dut.o.valid) and ctx.get(dut.o.payload.last)

    simulate(dut, testbench)


def test_no_more_is_asked_for_than_has_room():
    """With nothing taken at o, requests stop at fifo_depth words, and r is never held up."""
    dut = Fetcher(8, tag=TAG, fifo_depth=40, burst=16, outstanding=16)
    memory = AXI4Memory(bytearray(0x1000), base=BASE)

    async def testbench(ctx):
        await send(ctx, dut.i, [{"addr": BASE, "size": 0x1000}])
        for _ in range(200):
            await ctx.tick()
            assert ctx.get(dut.r.ready)
        # Two words have left the FIFO for the registers behind it; their room came back, but is no whole burst.
        assert sum(beats for _, _, beats in memory.reads) == 32

    simulate(dut, testbench, models=[memory.reader(dut.ar, dut.r)])


def test_past_the_end_of_the_address_space_is_caught():
    dut = Fetcher(8, tag=TAG, addr_width=16)

    async def testbench(ctx):
        await send(ctx, dut.i, [{"addr": 0xFFF8, "size": 8}])
        with pytest.raises(AssertionError, match="past the end of the address space"):
            await send(ctx, dut.i, [{"addr": 0xFFF8, "size": 9}])
            await ctx.tick()

    with pytest.raises(AssertionError, match="past the end of the address space"):
        simulate(dut, testbench)


@pytest.mark.parametrize("parameters,message", [
    ({"width": 2}, r"width must be one of \(4, 8, 16, 32, 64\) bytes, not 2"),
    ({"id": 16}, "id must fit 4 bits, not 16"),
    ({"burst": 12}, "burst must be a power of two from 1 to 256 for words of 8 bytes, not 12"),
    ({"burst": 512}, "burst must be a power of two from 1 to 256 for words of 8 bytes, not 512"),
    ({"width": 64, "burst": 128}, "burst must be a power of two from 1 to 64 for words of 64 bytes, not 128"),
    ({"burst": 16, "fifo_depth": 15}, r"fifo_depth must be at least burst \(16\), not 15"),
    ({"outstanding": 0}, "outstanding must be at least 1, not 0"),
    ({"addr_width": 8}, "addr_width must be 12 to 64, not 8"),
    ({"id_width": 0}, "id_width must be at least 1, not 0"),
])
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        Fetcher(**{"width": 8, **parameters})


@pytest.mark.parametrize("name", ["width", "burst", "fifo_depth", "outstanding", "id", "addr_width", "id_width"])
def test_parameters_must_be_integers(name):
    with pytest.raises(TypeError):
        Fetcher(**{"width": 8, name: "8"})


def test_bad_planner():
    with pytest.raises(ValueError, match="commands must be at least 1, not 0"):
        Planner(8, tag=1, commands=0)
    with pytest.raises(ValueError, match=r"width must be one of \(4, 8, 16, 32, 64\) bytes, not 128"):
        Cutter(128)
