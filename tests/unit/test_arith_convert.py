# SPDX-License-Identifier: Apache-2.0
"""float32 to float16 and back: the exact definition, NumPy, the golden functions, and the gateware."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module
from arith_packets import converted, random_packet, split
from arith_values import array, encode, specials
from arith_values import decode as decode_float

from rackgate.arith.abi import ElementType
from rackgate.arith.convert import Compress, Expand
from rackgate.arith.halves import HalfToSingle, SingleToHalf
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch
from rackgate_sim.arith import canonical, compress, expand

HALF, SINGLE = ElementType.FLOAT16, ElementType.FLOAT32


def singles(count, seed):
    """float32 numbers, most of them near the range of float16, and on the borders between two of those."""
    rng = np.random.default_rng(seed)
    value = rng.integers(1 << 32, size=count, dtype=np.uint32)
    kind = rng.integers(4, size=count)
    exponent = rng.integers(98, 146, count).astype(np.uint32)
    value = np.where(kind > 0, value & 0x807FFFFF | exponent << 23, value)
    halfway = value & ~np.uint32(0x1FFF) | np.uint32(0x1000)
    # A normal float16 has 13 bits less; a denormal has less again.
    deeper = np.clip(113 - exponent.astype(np.int64), 0, 11).astype(np.uint32)
    deep = value & ~(np.uint32(0x1FFF) << deeper) | np.uint32(0x1000) << deeper
    value = np.where(kind == 2, halfway + rng.integers(-1, 2, count).astype(np.uint32), value)
    value = np.where(kind == 3, deep & ~((np.uint32(0x1000) << deeper) - np.uint32(1)), value)
    edges = [*specials(SINGLE), *bits(array(specials(HALF), HALF).astype(np.float32)), 0x477FEFFF, 0x477FF000,
             0x477FF001, 0x33000000, 0x33000001, 0x32FFFFFF, 0x33C00000, 0x387FFFFF, 0x387FE000, 0x387FF000]
    return np.concatenate([array([int(each) for each in edges], SINGLE), value.astype(np.uint32).view(np.float32)])


def bits(values):
    return values.view(f"u{values.dtype.itemsize}")


EVERY_HALF = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


# ---- the golden functions ----


def test_compress_against_numpy(seed):
    values = singles(50_000, seed)
    with np.errstate(all="ignore"):
        expected = canonical(values.astype(np.float16))
    assert np.array_equal(bits(compress(values)), bits(expected))
    assert np.isinf(compress(values)).sum() > 100 and (abs(compress(values)) < 6e-5).sum() > 100


def test_compress_against_the_definition(seed):
    values = singles(5000, seed)
    for value, found in zip(map(int, bits(values)), map(int, bits(compress(values))), strict=True):
        if value & 0x7FFFFFFF > SINGLE.format.infinity:
            expected = HALF.format.quiet_nan
        elif value & 0x7FFFFFFF == SINGLE.format.infinity:
            expected = HALF.format.infinity | value >> 16 & 0x8000
        else:
            sign, magnitude = decode_float(value, SINGLE.format)
            expected = encode(magnitude, HALF.format) | sign << 15
        assert found == expected, hex(value)


def test_expand_keeps_every_value():
    found = expand(EVERY_HALF)
    for value, single in zip(map(int, bits(EVERY_HALF)), map(int, bits(found)), strict=True):
        if value & 0x7FFF > HALF.format.infinity:
            assert single == SINGLE.format.quiet_nan
        elif value & 0x7FFF == HALF.format.infinity:
            assert single == SINGLE.format.infinity | (value & 0x8000) << 16
        else:
            assert decode_float(single, SINGLE.format) == decode_float(value, HALF.format)
    numbers = ~np.isnan(EVERY_HALF)
    assert np.array_equal(bits(compress(found))[numbers], bits(EVERY_HALF)[numbers])


# ---- one number ----


def run_lane(dut, values, *, rng=None, stall=0.0):
    """Results of a number each cycle but for random stalls."""
    results = []

    async def testbench(ctx):
        source, pending = iter(values), []
        while True:
            moves = rng is None or rng.random() >= stall
            ctx.set(dut.en, moves)
            item = next(source, None) if moves else rng.getrandbits(len(dut.i))
            if item is not None:
                ctx.set(dut.i, int(item))
            await ctx.tick()
            if moves:
                pending.append(item is not None)
                if len(pending) == dut.LATENCY:
                    if not pending.pop(0):
                        return
                    results.append(ctx.get(dut.o))

    simulate(dut, testbench)
    return results


@pytest.mark.thorough
@pytest.mark.parametrize("stall", [0, 0.4])
def test_single_to_half(stall, seed):
    values = singles(5000, seed)
    found = run_lane(SingleToHalf(), bits(values), rng=random.Random(seed) if stall else None, stall=stall)
    wrong = [(hex(a), hex(b), hex(c)) for a, b, c in zip(bits(values), bits(compress(values)), found, strict=True)
             if b != c]
    assert not wrong


@pytest.mark.thorough
@pytest.mark.parametrize("stall", [0, 0.4])
def test_half_to_single(stall, seed):
    """All denormals, zeros, infinities, NaNs and a sample of the rest."""
    rng = random.Random(seed)
    chosen = [value for value in range(1 << 16) if value >> 10 & 31 in (0, 31) or rng.random() < 0.05]
    values = array(chosen, HALF)
    found = run_lane(HalfToSingle(), chosen, rng=rng if stall else None, stall=stall)
    assert found == list(bits(expand(values)))


# ---- packets ----

BLOCKS = {"compress": (Compress, np.float32), "expand": (Expand, np.float16)}


def watched(dut):
    m = Module()
    m.submodules.dut = dut
    watch(m, dut.o, name="o")
    return m


def payloads(words, convert):
    return [{"word": {"data": data, "count": count, "last": last, "error": error}, "convert": convert}
            for data, count, last, error in words]


def run_packets(dut, items, expected, *, seed=0, idle=0.0, stall=0.0):
    """Send words; what comes out must be the expected ones."""
    out = []

    async def source(ctx):
        await send(ctx, dut.i, items, rng=random.Random(seed), idle=idle)

    async def sink(ctx):
        out.extend(await receive(ctx, dut.o, len(expected), rng=random.Random(seed + 1), stall=stall))
        for _ in range(6):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            assert not valid, "more came out than went in"

    simulate(watched(dut), source, sink)
    found = [(word.data & (1 << 8 * word.count) - 1, word.count, word.last, word.error) for word in out]
    assert found == expected


@pytest.mark.thorough
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.5, 0.1), (0.1, 0.5)])
@pytest.mark.parametrize("width", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("name", BLOCKS)
def test_packets(name, width, idle, stall, seed):
    block, dtype = BLOCKS[name]
    rng = random.Random(seed)
    values = singles(2000, seed) if dtype == np.float32 else EVERY_HALF
    items, expected = [], []
    for _ in range(60):
        raw, convert = random_packet(rng, dtype, values, longest=2 * width)
        error = int(rng.random() < 0.2)
        items += payloads(split(raw, width, error=error), convert)
        expected += split(converted(raw, convert, dtype), width, error=error)
    run_packets(block(width), items, expected, seed=seed, idle=idle, stall=stall)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("convert", [0, 1])
def test_throughput_and_latency(name, convert):
    """The wider side has a word every cycle, across packets too."""
    block, dtype = BLOCKS[name]
    dut, packets, width = block(8), 10, 8
    raw = np.arange(40, dtype=dtype).tobytes()
    items = payloads(split(raw, width), convert) * packets
    result = split(converted(raw, convert, dtype), width) * packets
    times = []

    async def source(ctx):
        await send(ctx, dut.i, items)

    async def sink(ctx):
        ctx.set(dut.o.ready, 1)
        cycle = 0
        while len(times) < len(result):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            if valid:
                times.append(cycle)
            cycle += 1

    simulate(dut, source, sink)
    step = 2 if name == "compress" and convert else 1
    first = {"compress": 3, "expand": 2}[name] + step - 1
    assert times == [first + step * k for k in range(len(result))]


@pytest.mark.parametrize("name,held", [("compress", 3), ("expand", 2)])
def test_fills_before_it_is_asked(name, held):
    dut = BLOCKS[name][0](8)
    items = payloads(split(bytes(range(8 * held)), 8), 0)

    async def testbench(ctx):
        await send(ctx, dut.i, items)
        ctx.set(dut.i.valid, 1)
        for _ in range(10):
            _, _, ready, valid = await ctx.tick().sample(dut.i.ready, dut.o.valid)
            assert (ready, valid) == (0, 1)
        ctx.set(dut.i.valid, 0)
        assert [word.data for word in await receive(ctx, dut.o, held)] == [item["word"]["data"] for item in items]

    simulate(dut, testbench, limit=1000)


@pytest.mark.parametrize("name,word,message", [
    ("compress", {"count": 6, "last": 1}, "a part of a 32-bit float"),
    ("compress", {"count": 4, "last": 0}, "a word before the last is not full"),
    ("expand", {"count": 3, "last": 1}, "a part of a 16-bit float"),
    ("expand", {"count": 4, "last": 0}, "a word before the last is not full"),
])
def test_bad_packets(name, word, message):
    dut = BLOCKS[name][0](8)

    async def testbench(ctx):
        await send(ctx, dut.i, [{"word": word, "convert": 0}, {"word": word, "convert": 1}])

    with pytest.raises(AssertionError, match=message):
        simulate(dut, testbench)


@pytest.mark.parametrize("block", [Compress, Expand])
@pytest.mark.parametrize("width", [2, 12, 128])
def test_width(block, width):
    with pytest.raises(ValueError, match=rf"width must be one of \(4, 8, 16, 32, 64\) bytes, not {width}"):
        block(width)
    with pytest.raises(TypeError):
        block(8.0)
