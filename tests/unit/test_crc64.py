# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""CRC64: the model against known check values, the gateware against the model."""

import random
import zlib

import pytest

from rackgate.checksum.crc64 import CRC64
from rackgate.verif.stimulus import receive, send, simulate
from rackgate_sim.iaa.crc64 import crc64, width_of

#: Name in the catalogue of CRCs, polynomial, invert, big_endian, and the CRC of "123456789" in its own width.
KNOWN = [
    ("CRC-64/ECMA-182", 0x42F0E1EBA9EA3693, 0, 0, 0x6C40DF5F0B497347),
    ("CRC-64/WE", 0x42F0E1EBA9EA3693, 1, 0, 0x62EC59E3F1A4F00A),
    ("CRC-64/XZ", 0x42F0E1EBA9EA3693, 1, 1, 0x995DC9BBDF1939FA),
    ("CRC-64/GO-ISO", 0x000000000000001B, 1, 1, 0xB90956C775A41001),
    ("CRC-40/GSM, not inverted", 0x0004820009000000, 0, 0, 0xD4164FC646 ^ 0xFFFFFFFFFF),
    ("CRC-32/ISO-HDLC", 0x04C11DB700000000, 1, 1, 0xCBF43926),
    ("CRC-32/BZIP2", 0x04C11DB700000000, 1, 0, 0xFC891918),
    ("CRC-32/ISCSI", 0x1EDC6F4100000000, 1, 1, 0xE3069283),
    ("CRC-16/XMODEM", 0x1021000000000000, 0, 0, 0x31C3),
    ("CRC-16/GENIBUS", 0x1021000000000000, 1, 0, 0xD64E),
    ("CRC-16/IBM-SDLC", 0x1021000000000000, 1, 1, 0x906E),
    ("CRC-16/ARC", 0x8005000000000000, 0, 1, 0xBB3D),
    ("CRC-8/SMBUS", 0x0700000000000000, 0, 0, 0xF4),
]


@pytest.mark.parametrize("name,polynomial,invert,big_endian,check", KNOWN, ids=[known[0] for known in KNOWN])
def test_model_has_the_check_values(name, polynomial, invert, big_endian, check):
    width = int(name.split("-")[1].split("/")[0])
    assert width_of(polynomial) == width
    value = crc64(b"123456789", polynomial, invert=bool(invert), big_endian=bool(big_endian))
    assert value == (check if big_endian else check << 64 - width)


def test_model_against_zlib():
    raw = random.Random(3).randbytes(300)
    assert crc64(raw, 0x04C11DB7 << 32, invert=True, big_endian=True) == zlib.crc32(raw)


def test_model_without_terms():
    assert width_of(0) == 0
    assert crc64(b"abc", 0, invert=True) == 0


def words_of(rng, raw, *, whole=False):
    """Bytes cut into words at random, or as a reader would give them from a random offset; noise around them."""
    words, place, first = [], 0, rng.randrange(8) if whole else None
    while place < len(raw) or not words:
        start = (first if place == 0 else 0) if whole else rng.randrange(8)
        count = min(len(raw) - place, 8 - start if whole else rng.randrange(9 - start))
        noise = bytearray(rng.randbytes(8))
        noise[start:start + count] = raw[place:place + count]
        place += count
        words.append({"data": int.from_bytes(noise, "little"), "first": start, "count": count, "last": 0})
    words[-1]["last"] = 1
    return words


def jobs_of(rng, count):
    """(polynomial, invert, big_endian, bytes) of random jobs, often with the polynomial of the one before."""
    jobs, polynomial = [], 0
    for _ in range(count):
        if rng.random() < 0.7:
            width = rng.randint(1, 64)
            polynomial = (rng.getrandbits(width) | 1) << 64 - width if rng.random() < 0.9 else rng.choice(KNOWN)[1]
        size = rng.choice([0, 1, rng.randrange(9), rng.randrange(70)])
        jobs.append((polynomial, rng.randrange(2), rng.randrange(2), rng.randbytes(size)))
    return jobs


@pytest.mark.parametrize("step", [1, 2, 4, 8])
@pytest.mark.parametrize("stall", [0, 0.4])
def test_random_jobs(step, stall):
    seed = 10 * step + (stall > 0)
    print(f"seed {seed}")
    rng, dut = random.Random(seed), CRC64(step=step)
    jobs = [*jobs_of(rng, 12), (0, 1, 0, b"no terms")]
    if not stall:
        jobs += [(*known[1:4], b"123456789") for known in KNOWN]
    words = [word for *_, raw in jobs for word in words_of(rng, raw, whole=rng.random() < 0.5)]
    expected = [crc64(raw, polynomial, invert=invert, big_endian=big_endian)
                for polynomial, invert, big_endian, raw in jobs]

    async def give_jobs(ctx):
        await send(ctx, dut.i_job, ({"polynomial": polynomial, "invert": invert, "big_endian": big_endian}
                                    for polynomial, invert, big_endian, _ in jobs), rng=rng, idle=stall)

    async def give_words(ctx):
        await send(ctx, dut.i, words, rng=rng, idle=stall)

    async def take(ctx):
        assert await receive(ctx, dut.o, len(jobs), rng=rng, stall=stall) == expected

    simulate(dut, give_jobs, give_words, take, limit=20_000)


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_cycles(step):
    """From the job to its result: the rows only for another polynomial, then ``step`` bytes a cycle."""
    dut, size = CRC64(step=step), 64
    raw = random.Random(1).randbytes(size)

    async def testbench(ctx):
        for rows in (8 * step - 1, 0):
            ctx.set(dut.i_job.payload, {"polynomial": KNOWN[0][1], "invert": 0, "big_endian": 0})
            ctx.set(dut.i_job.valid, 1)
            assert ctx.get(dut.i_job.ready)
            await ctx.tick()
            ctx.set(dut.i_job.valid, 0)
            ctx.set(dut.i.valid, 1)
            cycles, place = 1, 0
            while not ctx.get(dut.o.valid):
                ctx.set(dut.i.payload, {"data": int.from_bytes(raw[place:place + 8], "little"), "first": 0, "count": 8,
                                        "last": place == size - 8})
                _, _, ready = await ctx.tick().sample(dut.i.ready)
                place += 8 * ready
                ctx.set(dut.i.valid, place < size)
                cycles += 1
            assert ctx.get(dut.o.payload) == crc64(raw, KNOWN[0][1])
            assert cycles == 3 + rows + size // step
            ctx.set(dut.o.ready, 1)
            await ctx.tick()
            ctx.set(dut.o.ready, 0)

    simulate(dut, testbench, limit=2000)


def test_bytes_past_the_word_are_caught():
    dut = CRC64()

    async def testbench(ctx):
        await send(ctx, dut.i_job, [{"polynomial": 1}])
        await send(ctx, dut.i, [{"first": 3, "count": 6}])

    with pytest.raises(AssertionError, match="a word's bytes reach past it"):
        simulate(dut, testbench)


def test_bad_step():
    with pytest.raises(ValueError, match="step must be 1, 2, 4 or 8, not 3"):
        CRC64(step=3)
