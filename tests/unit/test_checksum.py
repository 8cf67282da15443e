# SPDX-License-Identifier: Apache-2.0
"""CRC32 and Adler32 against zlib."""

import random
import zlib

import pytest

from rackgate.checksum.adler32 import Adler32
from rackgate.checksum.crc32 import CRC32
from rackgate.verif.stimulus import send, simulate

KINDS = {"crc32": (CRC32, zlib.crc32, 0), "adler32": (Adler32, zlib.adler32, 1)}


async def settle(ctx, dut):
    """Cycles until the value counts; and the value."""
    cycles = 0
    while ctx.get(dut.busy):
        cycles += 1
        await ctx.tick()
    return cycles, ctx.get(dut.value)


def word(rng, raw, *, restart=0, value=0):
    """Bytes as an input, noise above them."""
    noise = rng.getrandbits(64) << 8 * len(raw)
    return {"data": (noise | int.from_bytes(raw, "little")) & (1 << 64) - 1, "count": len(raw), "restart": restart,
            "value": value}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_random_counts(kind, seed):
    block, reference, expected = KINDS[kind]
    print(f"seed {seed}")
    rng, dut = random.Random(seed), block()

    async def testbench(ctx):
        value = expected
        for _ in range(60):
            for _ in range(rng.randrange(1, 12)):
                raw = rng.randbytes(rng.choice([8, rng.randrange(9)])) if rng.random() < 0.7 else b"\xff" * 8
                restart = rng.random() < 0.15
                start = rng.choice([expected, reference(rng.randbytes(9))]) if restart else rng.getrandbits(32)
                value = reference(raw, start if restart else value)
                await send(ctx, dut.i, [word(rng, raw, restart=restart, value=start)], rng=rng, idle=0.2)
            assert (await settle(ctx, dut))[1] == value

    simulate(dut, testbench)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", range(9))
def test_every_count_at_every_place(kind, count):
    block, reference, value = KINDS[kind]
    rng, dut = random.Random(count), block()

    async def testbench(ctx):
        nonlocal value
        for before in range(9):
            for raw in (rng.randbytes(before), rng.randbytes(count)):
                await send(ctx, dut.i, [word(rng, raw)])
                value = reference(raw, value)
            assert (await settle(ctx, dut))[1] == value

    simulate(dut, testbench)


@pytest.mark.thorough
@pytest.mark.parametrize("kind,latency", [("crc32", 2), ("adler32", 11)])
def test_throughput_and_latency(kind, latency):
    block, reference, expected = KINDS[kind]
    dut, raw = block(), b"\xff" * 8 * 400

    async def testbench(ctx):
        for k in range(0, len(raw), 8):
            ctx.set(dut.i.payload, word(random, raw[k:k + 8]))
            ctx.set(dut.i.valid, 1)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        assert await settle(ctx, dut) == (latency, reference(raw))

    simulate(dut, testbench)


@pytest.mark.thorough
@pytest.mark.parametrize("count,cycles", list(enumerate([1, 1, 1, 2, 1, 2, 2, 3, 1])))
def test_crc_cycles_of_a_short_word(count, cycles):
    dut = CRC32()

    async def testbench(ctx):
        ctx.set(dut.i.payload, word(random, bytes(count)))
        ctx.set(dut.i.valid, 1)
        for _ in range(10):
            await ctx.tick()
        taken = 0
        for _ in range(6 * cycles):
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken += ready
        assert taken == 6

    simulate(dut, testbench)


@pytest.mark.parametrize("kind", KINDS)
def test_reset_value(kind):
    block, _, expected = KINDS[kind]
    dut = block()

    async def testbench(ctx):
        for _ in range(5):
            assert await settle(ctx, dut) == (0, expected)
            await ctx.tick()

    simulate(dut, testbench)


@pytest.mark.parametrize("kind", KINDS)
def test_count_above_8_is_caught(kind):
    dut = KINDS[kind][0]()

    async def testbench(ctx):
        await send(ctx, dut.i, [{"count": 9}])

    with pytest.raises(AssertionError, match="count is above 8"):
        simulate(dut, testbench)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_long(kind):
    """A worst case for the lazy reduction, which comes close to its bounds within 16 kB, then noise."""
    block, reference, value = KINDS[kind]
    rng, dut = random.Random(99), block()
    raw = b"\xff" * 16_000 + rng.randbytes(8_000)

    async def testbench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.payload.count, 8)
        for k in range(0, len(raw), 8):
            ctx.set(dut.i.payload.data, int.from_bytes(raw[k:k + 8], "little"))
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        assert (await settle(ctx, dut))[1] == reference(raw)

    simulate(dut, testbench)
