# SPDX-License-Identifier: Apache-2.0
# amaranth: UnusedElaboratable=no
"""The front of a context against the golden model: compressed blocks and what stops them."""

import random
import zlib

import pytest
from front_bench import FrontBench

from rackgate.inflate.abi import ErrorCode, Flag, Format, Opcode, ResultFlag, Status
from rackgate.inflate.entry import Mark
from rackgate_sim.inflate.assembler import Assembler, Symbol, gzip_frame
from rackgate_sim.inflate.model import inflate

LAST, RESUME, MULTI = Flag.LAST, Flag.RESUME, Flag.MULTI
TEXT = b"to be or not to be, that is the question; whether 'tis nobler in the mind to suffer"
RAW = -15


def deflated(data, wbits=RAW, strategy=zlib.Z_DEFAULT_STRATEGY, dictionary=None):
    extra = () if dictionary is None else (dictionary,)
    compressor = zlib.compressobj(9, zlib.DEFLATED, wbits, 9, strategy, *extra)
    return compressor.compress(data) + compressor.flush()


def mixed():
    """Blocks of every kind, none of them beginning at a byte."""
    assembler = Assembler().fixed([*b"fixed", (4, 5)]).stored(b"stored").dynamic([*b"dynamic", (9, 3)])
    return assembler.stored(b"").fixed([(30, 20), *b"!"]).dynamic(b"end", final=True).data()


def run(driver, seed=0, gap=0.0):
    FrontBench(seed=seed, gap=gap).run(driver)


@pytest.mark.thorough
@pytest.mark.parametrize("gap", [0.0, 0.3])
@pytest.mark.parametrize("wbits, framing", [(RAW, Format.RAW), (15, Format.ZLIB), (31, Format.GZIP)])
def test_whole_streams(wbits, framing, gap):
    async def driver(bench):
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY):
            completion, output = await bench.job(deflated(TEXT, wbits, strategy) + b"more", framing)
            assert completion.status == Status.SUCCESS and output == TEXT
        completion, output = await bench.job(mixed())
        assert completion.status == Status.SUCCESS

    run(driver, seed=1, gap=gap)


@pytest.mark.thorough
def test_a_stream_cut_anywhere_goes_on_with_the_rest():
    source = mixed()
    whole = inflate(source)[1]

    async def driver(bench):
        for cut in range(0, len(source), 4):
            first, start = await bench.job(source[:cut], flags=Flag(0))
            assert first.status == Status.NEED_INPUT
            last, rest = await bench.job(source[first.consumed:], flags=LAST | RESUME, start_bit=first.consumed_bit)
            assert last.status == Status.SUCCESS and start + rest == whole
            await bench.job(source[:cut])

    run(driver, seed=2)


@pytest.mark.parametrize("wbits, framing", [(15, Format.ZLIB), (31, Format.GZIP)])
def test_a_trailer_begins_at_a_byte(wbits, framing):
    source = deflated(b"abc", wbits, zlib.Z_FIXED)

    async def driver(bench):
        for cut in range(len(source) - 9, len(source)):
            first, start = await bench.job(source[:cut], framing, Flag(0))
            last, rest = await bench.job(source[first.consumed:], framing, LAST | RESUME, start_bit=first.consumed_bit)
            assert last.status == Status.SUCCESS and start + rest == b"abc"
        await bench.job(source[:-5] + bytes(5), framing)

    run(driver, seed=6)


def test_a_stream_into_small_destinations():
    source = gzip_frame(mixed(), inflate(mixed())[1]) * 2
    content, whole = inflate(source, Format.GZIP, LAST | MULTI)

    async def driver(bench):
        choose = random.Random(3)
        position, output, flags = 0, b"", LAST | MULTI
        while True:
            completion, part = await bench.job(source[position // 8:], Format.GZIP, flags, room=choose.randrange(12),
                                               start_bit=position % 8, compare=False)
            output += part
            position += 8 * completion.consumed + completion.consumed_bit - position % 8
            flags |= RESUME
            if completion.status != Status.OUTPUT_OVERFLOW:
                break
        assert completion.status == Status.SUCCESS and completion.members == 2
        assert output == whole and position == 8 * len(source) and completion.crc32 == content.crc32

    run(driver, seed=3, gap=0.2)


FAULTS = {
    "literal": (Assembler().fixed([*b"ab", Symbol(286)]).raw(b"more"), ErrorCode.BAD_LITERAL_CODE),
    "before start": (Assembler().fixed([*b"ab", (3, 3)], True).raw(b"more"), ErrorCode.DISTANCE_BEFORE_START),
    "second block": (Assembler().fixed(b"ab").fixed([(4, 9)]).raw(b"more"), ErrorCode.DISTANCE_BEFORE_START),
    "type": (Assembler().fixed(b"abc").fixed(b"d").header(3), ErrorCode.BAD_BLOCK_TYPE),
    "codes": (Assembler().dynamic(b"abc").header(2).bits(31, 5).raw(b"more"), ErrorCode.TOO_MANY_LITERAL_CODES),
    "stored": (Assembler().dynamic(b"abc").stored(b"x", complement=1), ErrorCode.STORED_LENGTH_MISMATCH),
}


@pytest.mark.parametrize("name", FAULTS)
def test_output_before_a_fault_is_delivered(name):
    assembler, error = FAULTS[name]

    async def driver(bench):
        completion, output = await bench.job(assembler.data())
        assert (completion.status, completion.error) == (Status.ANALYTICS_ERROR, error)
        assert output and completion.total == len(output) and completion.crc32 == zlib.crc32(output)
        completion, output = await bench.job(deflated(TEXT), flags=LAST | RESUME)
        assert completion.status == Status.SUCCESS and output == TEXT

    run(driver, seed=4, gap=0.2)


def test_dictionaries_are_in_reach():
    dictionary = TEXT[20:60]
    source = deflated(TEXT, 15, dictionary=dictionary)

    async def driver(bench):
        completion, _ = await bench.job(source, Format.ZLIB)
        assert completion.status == Status.NEED_DICTIONARY
        rest = source[completion.consumed:]
        await bench.job(dictionary, opcode=Opcode.LOAD)
        completion, output = await bench.job(rest, Format.ZLIB, LAST | RESUME)
        assert completion.status == Status.SUCCESS and output == TEXT
        # Without the dictionary the window is empty.
        await bench.job(source, Format.ZLIB)
        completion, _ = await bench.job(rest, Format.ZLIB, LAST | RESUME)
        assert completion.error == ErrorCode.DISTANCE_BEFORE_START
        await bench.job(dictionary, opcode=Opcode.LOAD)
        completion, output = await bench.job(deflated(TEXT, dictionary=dictionary), Format.RAW, LAST | RESUME)
        assert completion.status == Status.SUCCESS and output == TEXT

    run(driver, seed=5)


def test_the_pipe_is_closed_only_when_something_is_open():
    logs = []

    async def driver(bench):
        for source in (Assembler().fixed(b"abc", True), Assembler().fixed(b"abc"), Assembler().fixed(b"abc", end=False),
                       Assembler().fixed(b"abc").header(3), Assembler()):
            await bench.job(source.data(), flags=Flag(0))
            logs.append([(kind, mark) for kind, mark in bench.log if kind != "START"])

    run(driver)
    assert logs == [
        [("RUN", Mark.END_OF_BLOCK)],
        [("RUN", Mark.END_OF_BLOCK), ("MARK", Mark.DRY)],
        [("RUN", Mark.DRY)],
        [("RUN", Mark.END_OF_BLOCK), ("MARK", Mark.ERROR)],
        [],
    ]


def test_flags_say_where_the_resume_point_is():
    async def driver(bench):
        for source, inside in ((Assembler().fixed(b"abc"), False), (Assembler().fixed(b"abc", end=False), True)):
            completion, _ = await bench.job(source.data(), flags=Flag(0))
            assert completion.flags == (ResultFlag.BLOCK if inside else 0)

    run(driver)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3))
def test_mutated_streams(seed):
    """Random damage: whatever the model says, the front says too, and it goes on to do the next job."""
    choose = random.Random(seed)

    async def driver(bench):
        for _ in range(25):
            wbits, framing = choose.choice([(RAW, Format.RAW), (15, Format.ZLIB), (31, Format.GZIP)])
            source = bytearray(deflated(TEXT[:choose.randrange(80)], wbits, choose.choice([0, zlib.Z_FIXED])))
            for _ in range(choose.randrange(3)):
                source[choose.randrange(len(source))] ^= 1 << choose.randrange(8)
            flags = Flag(choose.choice([LAST, 0, MULTI, LAST | MULTI, LAST | Flag.STRICT_LENGTHS]))
            await bench.job(bytes(source[:choose.randint(len(source) // 2, 2 * len(source))]), framing, flags,
                            room=choose.choice([20, 1000]))

    print(f"seed {seed}")
    run(driver, seed=seed, gap=0.1)
