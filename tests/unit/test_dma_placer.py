# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""dma.Placer (with its planner, unpacker and answers) against a memory that stalls, is late and fails."""

import random

import pytest
from dma_bench import BASE, TAG, WIDTHS, commands_of, every_alignment, idle, tag_of, tags_of, watched, words_of

from rackgate.dma.answers import Answers
from rackgate.dma.placer import Placer
from rackgate.verif.stimulus import AXI4Memory, receive, send, simulate

SIZE = 0x10000


def packed(raw, width, *, error=0, rng=None):
    """The packed words of some bytes; those that do not count are noise."""
    words = []
    for start in range(0, len(raw), width) or [0]:
        chunk = raw[start:start + width]
        noise = rng.getrandbits(8 * width) if rng else 0
        word = noise >> 8 * len(chunk) << 8 * len(chunk) | int.from_bytes(chunk, "little")
        last = start + width >= len(raw)
        words.append({"data": word, "count": len(chunk), "last": last, "error": error if last else 0})
    return words


def some_ranges(rng, width, count, most):
    """Random ranges that do not overlap, in any order, many short, empty, or at a border of word, burst or page."""
    ranges, place = [], BASE
    for _ in range(count):
        size = rng.choice([0, 1, width - 1, width, width + 1, 64, rng.randrange(3 * width), rng.randrange(most)])
        border = rng.choice([1, width, 16 * width, 4096])
        addr = -(-place // border) * border + rng.choice([0, 1, rng.randrange(width)])
        if addr + size > BASE + SIZE:
            break
        ranges.append((addr, size))
        place = addr + size
    rng.shuffle(ranges)
    return ranges


def run(width, ranges, *, seed=1, stall=0.0, latency=0, bad=(), wrong=(), **parameters):
    """Write random bytes to the ranges; check the memory, and return what ``done`` says, and the memory model."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    memory = bytearray(b"\xEE" * SIZE)
    model = AXI4Memory(memory, base=BASE, rng=random.Random(seed + 1), stall=stall, bad=bad, width=width,
                       latency=latency)
    dut = Placer(width, tag=TAG, **parameters)
    contents = [rng.randbytes(size) for _, size in ranges]
    expected, given = bytearray(memory), []
    for (addr, size), raw in zip(ranges, contents, strict=True):
        expected[addr - BASE:addr - BASE + size] = raw
        given += range(addr, addr + size)
    results = []

    async def source(ctx):
        await send(ctx, dut.i, commands_of(ranges), rng=random.Random(seed + 2), idle=stall)

    async def words(ctx):
        for number, raw in enumerate(contents):
            await send(ctx, dut.words, packed(raw, width, error=number in wrong, rng=rng), rng=rng, idle=stall)

    async def sink(ctx):
        for _ in ranges:
            done, = await receive(ctx, dut.done, 1, rng=random.Random(seed + 3), stall=stall)
            # Everything up to this command is in memory by now: as many bytes as it and those before it have.
            so_far = sum(size for _, size in ranges[:len(results) + 1])
            assert bad or len(model.written) >= so_far
            results.append((done.error, (done.tag.lane, done.tag.call)))
        ctx.set(dut.done.ready, 1)
        for _ in range(20):
            _, _, valid = await ctx.tick().sample(dut.done.valid)
            assert not valid, "an answer to no command"

    simulate(watched(dut, "aw", "w", "done"), source, words, sink, models=[model.writer(dut.aw, dut.w, dut.b)],
             limit=400_000)
    if not bad:
        assert memory == expected
        assert model.written == given, "bytes are written in order and once"
    assert [tag for _, tag in results] == tags_of(ranges)
    covered = [addr + width * beat for _, addr, beats in model.writes for beat in range(beats)]
    assert covered == [word for addr, size in ranges for word in words_of(addr, size, width)]
    return [error for error, _ in results], model


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variant", range(6))
def test_random(width, variant, seed):
    seed = 1000 * seed + 10 * width + variant
    rng = random.Random(seed)
    parameters = [{}, {"burst": 1, "fifo_depth": 2, "outstanding": 2}, {"burst": 4, "fifo_depth": 7, "outstanding": 3},
                  {"burst": 64, "fifo_depth": 65, "id": 5}, {"is_eager": True},
                  {"is_eager": True, "burst": 4, "fifo_depth": 5, "outstanding": 2}][variant]
    errors, model = run(width, some_ranges(rng, width, 20, 40 * width), seed=seed, stall=rng.choice([0, 0.2, 0.6]),
                        latency=rng.choice([0, 3, 40]), **parameters)
    assert not any(errors)
    assert {id for id, _, _ in model.writes} == {parameters.get("id", 0)}
    assert max(beats for _, _, beats in model.writes) <= parameters.get("burst", 16)


@pytest.mark.soak
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variant", range(20))
def test_random_long(width, variant, seed):
    seed = 100_000 * seed + 100 * width + variant
    rng = random.Random(seed)
    burst, outstanding = rng.choice([1, 2, 8, 16, 64]), rng.randrange(2, 20)
    latency = rng.randrange(min(100, 2 * burst * outstanding))
    errors, _ = run(width, some_ranges(rng, width, 100, 5000), seed=seed, stall=rng.choice([0, 0.1, 0.3, 0.6]),
                    latency=latency, burst=burst, fifo_depth=burst + rng.randrange(1, 100), outstanding=outstanding)
    assert not any(errors)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_alignment(width):
    """Each first byte with each last one, up to three words of memory, one command close behind the other."""
    ranges = [(BASE + 4 * width * number + start, end - start + 1)
              for number, (start, end) in enumerate(every_alignment(random.Random(width), width))]
    run(width, ranges, seed=width)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_large(width):
    ranges = [(BASE + 3, 5000), (BASE + 1, 0), (BASE + 0x3000, 4096), (BASE + 0x4000, 5120),
              (BASE + 0x6000 + width - 1, 5001)]
    _, model = run(width, ranges, latency=10)
    assert max(beats for _, _, beats in model.writes) == 16


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_an_error_marks_its_command(width, where):
    addr, size = BASE + 0x100 + 3, 40 * width
    bad = {"first": addr, "middle": addr + 20 * width, "last": addr + size - 1}[where]
    ranges = [(BASE, 2 * width), (addr, size), (BASE + 8, 0), (BASE + 0x2000, 1), (BASE + 0x3000, width)]
    errors, _ = run(width, ranges, bad=[bad])
    assert errors == [0, 1, 0, 0, 0]


def test_an_error_of_the_words_marks_their_command():
    ranges = [(BASE + 0x101 * number, size) for number, size in enumerate([20, 200, 0, 0, 7, 7])]
    errors, _ = run(8, ranges, wrong=[1, 3, 4])
    assert errors == [0, 1, 0, 1, 1, 0]


def cycles_of(width, ranges, *, latency, **parameters):
    """Offer everything as fast as it goes; return the cycles in which words are taken, in which beats go, and done."""
    memory = bytearray(SIZE)
    model = AXI4Memory(memory, base=BASE, width=width, latency=latency)
    dut = Placer(width, tag=TAG, **parameters)
    taken, written, ends = [], [], []

    async def source(ctx):
        await send(ctx, dut.i, commands_of(ranges))

    async def words(ctx):
        await send(ctx, dut.words, [word for _, size in ranges for word in packed(bytes(size), width)])

    async def watcher(ctx):
        ctx.set(dut.done.ready, 1)
        cycle = 0
        while len(ends) < len(ranges):
            _, _, valid, ready, w_valid, w_ready, done = await ctx.tick().sample(
                dut.words.valid, dut.words.ready, dut.w.valid, dut.w.ready, dut.done.valid)
            if valid and ready:
                taken.append(cycle)
            if w_valid and w_ready:
                written.append(cycle)
            if done:
                ends.append(cycle)
            cycle += 1

    simulate(dut, source, words, watcher, models=[model.writer(dut.aw, dut.w, dut.b)], limit=20_000)
    return taken, written, ends


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("size", [64, 1024])
def test_back_to_back(width, offset, size):
    """At most an idle cycle a command at ``words``, none when aligned, behind a latency of 40 cycles."""
    ranges = [(BASE + (size + 4 * offset) * number + offset, size) for number in range(12)]
    taken, written, _ = cycles_of(width, ranges, latency=40, outstanding=64)
    assert len(taken) == 12 * -(-size // width)
    assert idle(taken) <= (11 if offset else 0)
    assert idle(written) == 0


def test_defaults_hide_40_cycles_at_8_bytes():
    taken, _, _ = cycles_of(8, [(BASE + 1024 * number, 1024) for number in range(12)], latency=40)
    assert idle(taken) == 0


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("fifo_depth", [17, 64])
@pytest.mark.parametrize("spill", [0, 1])
def test_latency(width, fifo_depth, spill):
    """An address 2 cycles after its burst's last word, 3 if that spills; done 3 after an empty word or 1 after b."""
    dut = Placer(width, tag=TAG, fifo_depth=fifo_depth)

    async def testbench(ctx):
        ctx.set(dut.aw.ready, 1)
        ctx.set(dut.w.ready, 1)
        ctx.set(dut.done.ready, 1)
        await send(ctx, dut.i, commands_of([(BASE, 0), (BASE + spill, 2 * width)]))
        await send(ctx, dut.words, packed(b"", width))
        assert not ctx.get(dut.done.valid)
        for _ in range(2):
            await ctx.tick()
        assert ctx.get(dut.done.valid) and ctx.get(dut.done.payload.tag.call) == 0
        await send(ctx, dut.words, packed(bytes(2 * width), width))
        await ctx.tick()
        if spill:
            assert not ctx.get(dut.aw.valid)
            await ctx.tick()
        assert ctx.get(dut.aw.valid)
        cycles = 0
        while not ctx.get(dut.w.valid):
            await ctx.tick()
            cycles += 1
        assert cycles <= 2
        for _ in range(20):
            await ctx.tick()
            assert not ctx.get(dut.done.valid)
        await send(ctx, dut.b, [{}])
        assert ctx.get(dut.done.valid) and ctx.get(dut.done.payload.tag.call) == 5

    simulate(dut, testbench)


def test_outstanding_bursts_are_limited():
    dut = Placer(8, tag=TAG, burst=1, outstanding=3)
    addresses = []

    async def source(ctx):
        await send(ctx, dut.i, commands_of([(BASE, 800)]))
        for _ in range(60):  # as many words as it takes, and nobody answers
            ctx.set(dut.words.payload, {"count": 8})
            ctx.set(dut.words.valid, 1)
            ctx.set(dut.aw.ready, 1)
            ctx.set(dut.w.ready, 1)
            _, _, valid, address = await ctx.tick().sample(dut.aw.valid, dut.aw.payload.addr)
            if valid:
                addresses.append(address)

    simulate(dut, source)
    assert addresses == [BASE, BASE + 8, BASE + 16]


def test_done_that_is_not_taken_holds_up_and_loses_nothing():
    dut = Placer(8, tag=TAG, outstanding=4)
    model = AXI4Memory(bytearray(SIZE), base=BASE)
    ranges = [(BASE + 16 * number, 0 if number % 3 == 0 else 9) for number in range(12)]
    results = []

    async def source(ctx):
        await send(ctx, dut.i, commands_of(ranges))

    async def words(ctx):
        await send(ctx, dut.words, [word for _, size in ranges for word in packed(bytes(size), 8)])

    async def sink(ctx):
        for _ in range(100):
            await ctx.tick()
        assert len(model.writes) <= 4
        results.extend(await receive(ctx, dut.done, 12))

    simulate(dut, source, words, sink, models=[model.writer(dut.aw, dut.w, dut.b)], limit=1000)
    assert [done.tag.call for done in results] == [tag_of(number)["call"] for number in range(12)]


@pytest.mark.parametrize("fifo_depth", [17, 18, 20, 40])
def test_a_full_fifo_loses_nothing(fifo_depth):
    """A memory that takes nothing for long; the FIFO fills, and what is in it comes out whole."""
    dut = Placer(8, tag=TAG, fifo_depth=fifo_depth)
    memory, raw = bytearray(SIZE), random.Random(fifo_depth).randbytes(1000)
    model = AXI4Memory(memory, base=BASE)

    async def late(ctx):
        for _ in range(100):
            await ctx.tick()
        assert fifo_depth - 1 <= ctx.get(dut._queue.level) <= fifo_depth
        await model.writer(dut.aw, dut.w, dut.b)(ctx)

    async def source(ctx):
        await send(ctx, dut.i, commands_of([(BASE + 3, 1000)]))
        await send(ctx, dut.words, packed(raw, 8))

    async def sink(ctx):
        await receive(ctx, dut.done, 1)
        assert memory[3:1003] == raw

    simulate(dut, source, sink, models=[late], limit=1000)


def test_an_eager_burst_waits_for_its_first_word():
    """Then the address is out 2 cycles later, and the words as they come."""
    dut = Placer(8, tag=TAG, fifo_depth=32, is_eager=True)

    async def testbench(ctx):
        ctx.set(dut.aw.ready, 1)
        ctx.set(dut.w.ready, 1)
        ctx.set(dut.done.ready, 1)
        await send(ctx, dut.i, commands_of([(BASE, 32)]))
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(dut.aw.valid) and not ctx.get(dut.w.valid)
        words = packed(bytes(32), 8)
        await send(ctx, dut.words, words[:1])
        await ctx.tick()
        assert ctx.get(dut.aw.valid) and ctx.get(dut.aw.payload.len) == 3
        assert ctx.get(dut.w.valid) and not ctx.get(dut.w.payload.last)
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(dut.aw.valid) and not ctx.get(dut.w.valid)
        await send(ctx, dut.words, words[1:])
        await ctx.tick()
        assert ctx.get(dut.w.valid) and ctx.get(dut.w.payload.last)
        await ctx.tick()
        await send(ctx, dut.b, [{}])
        assert ctx.get(dut.done.valid)

    simulate(dut, testbench)


def test_a_burst_waits_for_its_data():
    """No address while a word of the burst is missing, and no data either."""
    dut = Placer(8, tag=TAG)

    async def testbench(ctx):
        ctx.set(dut.aw.ready, 1)
        ctx.set(dut.w.ready, 1)
        await send(ctx, dut.i, commands_of([(BASE, 32)]))
        words = packed(bytes(32), 8)
        await send(ctx, dut.words, words[:-1])
        for _ in range(20):
            assert not ctx.get(dut.aw.valid) and not ctx.get(dut.w.valid)
            await ctx.tick()
        await send(ctx, dut.words, words[-1:])
        await ctx.tick()
        assert ctx.get(dut.aw.valid)

    simulate(dut, testbench)


@pytest.mark.parametrize("size,words", [
    (16, [{"count": 8, "last": 1}]),  # too short
    (16, [{"count": 8}, {"count": 7, "last": 1}]),
    (16, [{"count": 8}, {"count": 8}, {"count": 8, "last": 1}]),  # too long
    (12, [{"count": 4}, {"count": 8, "last": 1}]),  # a hole
    (0, [{"count": 1, "last": 1}]),
    (8, [{"count": 0, "last": 1}]),
])
@pytest.mark.parametrize("offset", [0, 5])
def test_words_that_disagree_with_the_size_are_caught(size, words, offset):
    dut = Placer(8, tag=TAG)

    async def testbench(ctx):
        await send(ctx, dut.i, commands_of([(BASE + offset, size), (BASE, 64)]))
        await send(ctx, dut.words, words)
        for _ in range(5):
            await ctx.tick()

    with pytest.raises(AssertionError, match="disagree with the size|before or after their command"):
        simulate(dut, testbench)


@pytest.mark.parametrize("parameters,message", [
    ({"width": 2}, r"width must be one of \(4, 8, 16, 32, 64\) bytes, not 2"),
    ({"id": 16}, "id must fit 4 bits, not 16"),
    ({"burst": 12}, "burst must be a power of two from 1 to 256 for words of 8 bytes, not 12"),
    ({"width": 32, "burst": 256}, "burst must be a power of two from 1 to 128 for words of 32 bytes, not 256"),
    ({"burst": 16, "fifo_depth": 16}, r"fifo_depth must be more than burst \(16\), not 16"),
    ({"outstanding": 1}, "outstanding must be at least 2, not 1"),
    ({"addr_width": 8}, "addr_width must be 12 to 64, not 8"),
    ({"id_width": 0}, "id_width must be at least 1, not 0"),
])
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        Placer(**{"width": 8, **parameters})


@pytest.mark.parametrize("name", ["width", "burst", "fifo_depth", "outstanding", "id", "addr_width", "id_width"])
def test_parameters_must_be_integers(name):
    with pytest.raises(TypeError):
        Placer(**{"width": 8, name: "8"})


def test_bad_answers():
    with pytest.raises(ValueError, match="outstanding must be at least 2, not 1"):
        Answers(tag=1, outstanding=1)
