# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""dma.Writer (with its aligner and burst maker) against a memory that stalls, reorders and fails."""

import random

import pytest

from rackgate.dma.burst import BurstParameters
from rackgate.dma.writer import Writer
from rackgate.stream.aligner import Aligner
from rackgate.verif.stimulus import AXI4Memory, receive, send, simulate

BASE = 0x1000
SIZE = 0x8000


def piece(context, raw=b"", *, first=0, begin=0, flush=0, noise=0):
    """One input word; the bytes outside are noise."""
    mask = ((1 << 8 * len(raw)) - 1) << 8 * first
    word = noise & ~mask | int.from_bytes(raw, "little") << 8 * first
    return {"data": word, "first": first, "count": len(raw), "context": context, "begin": begin, "flush": flush}


def cut(rng, context, raw, *, whole):
    """A segment as pieces: mostly whole words, or any pieces."""
    pieces, position = [], 0
    while position < len(raw):
        count = 8 if whole or rng.random() < 0.3 else rng.randrange(0, 9)
        chunk = raw[position:position + count]
        position += count
        pieces.append(piece(context, chunk, first=rng.randrange(0, 9 - len(chunk)) if chunk else 0,
                            noise=rng.getrandbits(64), flush=rng.random() < 0.1))
    pieces.append(piece(context, flush=1, noise=rng.getrandbits(64)))
    if len(pieces) > 1 and rng.random() < 0.5:  # a flush in the last piece with bytes instead
        pieces.pop()
        pieces[-1]["flush"] = 1
    return pieces


def interleave(rng, queues):
    """One list out of several, each keeping its order."""
    queues = [list(queue) for queue in queues]
    merged = []
    while any(queues):
        queue = rng.choice([queue for queue in queues if queue])
        for _ in range(rng.choice([1, 1, 3, 40])):
            if queue:
                merged.append(queue.pop(0))
    return merged


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("contexts", [1, 2, 5])
def test_random(seed, contexts):
    rng = random.Random(100 * contexts + seed)
    print(f"seed {100 * contexts + seed}")
    stall = rng.choice([0, 0.1, 0.5])
    parameters = rng.choice([{}, {"burst": 4, "fifo_depth": 5, "outstanding": 2},
                             {"burst": 1, "fifo_depth": 2, "id": 3}])
    # A segment of a context has its own region, so the order between contexts does not show in memory.
    queues, begins, expected, given = [], [], bytearray(b"\xEE" * SIZE), []
    for context in range(contexts):
        queue, queue_begins = [], []
        for segment in range(3):
            region = (context * 3 + segment) * 0x800
            address = BASE + region + rng.randrange(8) + 8 * rng.randrange(40)
            raw = rng.randbytes(rng.choice([0, 1, 7, 8, 9, rng.randrange(800)]))
            expected[address - BASE:address - BASE + len(raw)] = raw
            given += range(address, address + len(raw))
            queue.append(piece(context, begin=1, noise=rng.getrandbits(64)))
            queue += cut(rng, context, raw, whole=rng.random() < 0.4)
            queue_begins.append(address)
        queues.append(queue)
        begins.append(queue_begins)
    memory = bytearray(b"\xEE" * SIZE)
    model = AXI4Memory(memory, base=BASE, rng=random.Random(seed), stall=stall)
    dut = Writer(contexts=contexts, **parameters)

    async def testbench(ctx):
        for word in interleave(rng, queues):
            if word["begin"]:
                ctx.set(dut.address[word["context"]], begins[word["context"]].pop(0))
            await send(ctx, dut.i, [word], rng=rng, idle=stall)
            if word["begin"]:  # the address counts only in that cycle
                ctx.set(dut.address[word["context"]], rng.getrandbits(40))
        while ctx.get(dut.idle) != (1 << contexts) - 1:
            await ctx.tick()
        assert memory == expected
        assert ctx.get(dut.errors) == 0

    simulate(dut, testbench, models=[model.writer(dut.aw, dut.w, dut.b)])
    assert sorted(model.written) == sorted(given)
    for id, address, _ in model.writes:
        region = (address - BASE) // 0x800
        assert id == parameters.get("id", 0) + region // 3


@pytest.mark.parametrize("offset", range(8))
def test_sustains_8_bytes_a_cycle(offset):
    dut = Writer()
    memory = bytearray(0x4000)
    model = AXI4Memory(memory)
    raw = random.Random(offset).randbytes(8 * 500)
    words = [piece(1, raw[k:k + 8]) for k in range(0, len(raw), 8)]

    async def testbench(ctx):
        ctx.set(dut.address[1], 0x100 + offset)
        await send(ctx, dut.i, [piece(1, begin=1)])
        for word in words:
            ctx.set(dut.i.payload, word)
            ctx.set(dut.i.valid, 1)
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            assert ready
        await send(ctx, dut.i, [piece(1, flush=1)])
        while not ctx.get(dut.idle[1]):
            await ctx.tick()

    simulate(dut, testbench, models=[model.writer(dut.aw, dut.w, dut.b)])
    assert memory[0x100 + offset:0x100 + offset + len(raw)] == raw
    assert len(model.written) == len(raw)


def test_idle_waits_for_the_answer():
    dut = Writer()

    async def testbench(ctx):
        ctx.set(dut.aw.ready, 1)
        ctx.set(dut.w.ready, 1)
        assert ctx.get(dut.idle) == 3
        await send(ctx, dut.i, [piece(0, begin=1), piece(0, b"abc")])
        for _ in range(20):
            await ctx.tick()
            assert ctx.get(dut.idle) == 2, "bytes wait for a flush"
        await send(ctx, dut.i, [piece(0, flush=1)])
        for _ in range(20):
            assert ctx.get(dut.idle) == 2, "the answer has not come"
            await ctx.tick()
        ctx.set(dut.b.valid, 1)
        await ctx.tick()
        ctx.set(dut.b.valid, 0)
        assert ctx.get(dut.idle) == 3

    simulate(dut, testbench)


def test_address_latency():
    dut = Writer()

    async def testbench(ctx):
        await send(ctx, dut.i, [piece(0, begin=1), piece(0, b"12345678"), piece(0, flush=1)])
        for _ in range(5):
            assert not ctx.get(dut.aw.valid)
            await ctx.tick()
        assert ctx.get(dut.aw.valid)

    simulate(dut, testbench)


def test_outstanding_bursts_are_limited():
    dut = Writer(burst=1, outstanding=3)
    addresses = []

    async def source(ctx):
        for _ in range(60):  # as many words as it takes, and nobody answers
            ctx.set(dut.i.payload, piece(0, b"12345678"))
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.aw.ready, 1)
            ctx.set(dut.w.ready, 1)
            _, _, valid, address = await ctx.tick().sample(dut.aw.valid, dut.aw.payload.addr)
            if valid:
                addresses.append(address)

    simulate(dut, source)
    assert addresses == [0, 8, 16]


def test_errors_are_sticky_until_begin():
    dut = Writer()
    memory = bytearray(0x1000)
    model = AXI4Memory(memory, bad=[0x105])

    async def write(ctx, context, address):
        ctx.set(dut.address[context], address)
        await send(ctx, dut.i, [piece(context, begin=1), piece(context, b"12345678"), piece(context, flush=1)])
        while not ctx.get(dut.idle[context]):
            await ctx.tick()

    async def testbench(ctx):
        await write(ctx, 0, 0x100)
        assert ctx.get(dut.errors) == 1
        await write(ctx, 1, 0x200)
        assert ctx.get(dut.errors) == 1
        await write(ctx, 0, 0x300)
        assert ctx.get(dut.errors) == 0

    simulate(dut, testbench, models=[model.writer(dut.aw, dut.w, dut.b)])


def test_begin_without_flush_is_caught():
    dut = Writer()

    async def testbench(ctx):
        await send(ctx, dut.i, [piece(0, begin=1), piece(0, b"abc"), piece(0, begin=1)])
        for _ in range(10):
            await ctx.tick()

    with pytest.raises(AssertionError, match="begin before"):
        simulate(dut, testbench)


@pytest.mark.parametrize("width", [2, 4, 16, 64])
def test_aligner_widths(width):
    rng = random.Random(width)
    dut = Aligner(width)
    offset, raw = rng.randrange(width), rng.randbytes(20 * width)
    pieces, position = [{"data": offset, "begin": 1}], 0
    while position < len(raw):
        chunk = raw[position:position + rng.randrange(width + 1)]
        first = rng.randrange(width - len(chunk) + 1) % width
        if first + len(chunk) > width:
            first = 0
        position += len(chunk)
        pieces.append({"data": int.from_bytes(chunk, "little") << 8 * first, "first": first, "count": len(chunk)})
    pieces.append({"flush": 1})
    out = []

    async def source(ctx):
        await send(ctx, dut.i, pieces, rng=rng, idle=0.2)

    async def sink(ctx):
        out.extend(await receive(ctx, dut.o, len(pieces), rng=random.Random(1), stall=0.3))

    simulate(dut, source, sink)
    written, place = {}, 0
    for word in out[1:]:
        for lane in range(width):
            if word.strobe >> lane & 1:
                written[width * place + lane] = word.data >> 8 * lane & 0xFF
        place += word.strobe >> (width - 1)
    assert written == {offset + k: byte for k, byte in enumerate(raw)}
    assert out[-1].flush and not any(word.flush for word in out[:-1])
    assert all(word.end for word in out)
    assert all(word.has_bytes == (word.strobe != 0) for word in out)


@pytest.mark.parametrize("block", [BurstParameters, Writer])
@pytest.mark.parametrize("parameters,message", [
    ({"id": 15}, "id must leave room for 2 ids in 4 bits, not be 15"),
    ({"contexts": 9}, "contexts must be 1 to 8, not 9"),
    ({"burst": 3}, "burst must be a power of two from 1 to 256, not 3"),
    ({"fifo_depth": 16}, r"fifo_depth must be more than burst \(16\), not 16"),
    ({"outstanding": 1}, "outstanding must be at least 2, not 1"),
])
def test_bad_parameters(block, parameters, message):
    with pytest.raises(ValueError, match=message):
        block(**parameters)


def test_bad_aligner():
    with pytest.raises(ValueError, match="width must be a power of two from 2 to 64, not 3"):
        Aligner(3)
    with pytest.raises(ValueError, match="contexts must be 1 to 8, not 0"):
        Aligner(8, contexts=0)
