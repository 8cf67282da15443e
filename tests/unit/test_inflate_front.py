# SPDX-License-Identifier: Apache-2.0
# amaranth: UnusedElaboratable=no
"""The front of a context against the golden model: framing, stored blocks, resumption, dictionaries."""

import random
import zlib

import pytest
from front_bench import FrontBench

from rackgate.inflate.abi import ErrorCode, Flag, Format, Opcode, ResultFlag, Status
from rackgate.inflate.front import Front
from rackgate.inflate.runner import Runner
from rackgate_sim.inflate.assembler import Assembler, gzip_frame, zlib_frame
from rackgate_sim.inflate.model import inflate

LAST, RESUME, MULTI = Flag.LAST, Flag.RESUME, Flag.MULTI
TEXT = b"hello, world"


def stored(*pieces):
    """A stream of stored blocks."""
    assembler = Assembler()
    for index, piece in enumerate(pieces):
        assembler.stored(piece, final=index == len(pieces) - 1)
    return assembler.data()


def run(*jobs, seed=0, gap=0.0):
    """Do jobs one after another, each the arguments of ``FrontBench.job``; (completion, output) of each."""
    results = []

    async def driver(bench):
        for source, arguments in jobs:
            results.append(await bench.job(source, **arguments))

    FrontBench(seed=seed, gap=gap).run(driver)
    return results


def job(source, framing=Format.RAW, flags=LAST, **others):
    return source, {"framing": framing, "flags": flags, **others}


GZIP = gzip_frame(stored(TEXT), TEXT)
RICH = gzip_frame(stored(TEXT), TEXT, flags=1, extra=b"ab\0cd", name=b"name", comment=b"", header_crc=True)
ZLIB = zlib_frame(stored(b"", TEXT), TEXT)
STREAMS = {
    "raw": (stored(b"", TEXT, b"x"), Format.RAW), "gzip": (GZIP, Format.GZIP), "zlib": (ZLIB, Format.ZLIB),
    "rich": (RICH, Format.GZIP), "empty": (stored(b""), Format.RAW),
}


@pytest.mark.parametrize("gap", [0.0, 0.4])
@pytest.mark.parametrize("name", STREAMS)
def test_whole_streams_succeed(name, gap):
    source, framing = STREAMS[name]
    for completion, output in run(job(source, framing), job(source + b"more", framing), seed=1, gap=gap):
        assert completion.status == Status.SUCCESS and completion.flags == ResultFlag.END
        assert completion.consumed == len(source) and completion.members == 1
        assert completion.crc32 == zlib.crc32(output) and completion.total == len(output)


@pytest.mark.thorough
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_anywhere_goes_on_with_the_rest(name):
    source, framing = STREAMS[name]
    whole = inflate(source, framing)[1]

    async def driver(bench):
        for cut in range(len(source)):
            first, start = await bench.job(source[:cut], framing, Flag(0))
            assert first.status == Status.NEED_INPUT
            last, rest = await bench.job(source[first.consumed:], framing, LAST | RESUME, start_bit=first.consumed_bit)
            assert last.status == Status.SUCCESS and start + rest == whole

    FrontBench(seed=2, gap=0.1).run(driver)


@pytest.mark.thorough
@pytest.mark.parametrize("name", STREAMS)
def test_a_truncated_stream_is_an_error(name):
    source, framing = STREAMS[name]
    results = run(*(job(source[:cut], framing) for cut in range(len(source))), seed=3)
    assert all(completion.status == Status.ANALYTICS_ERROR for completion, _ in results)
    errors = {completion.error for completion, _ in results}
    assert errors <= {ErrorCode.FRAME_TRUNCATED, ErrorCode.HEADER_TRUNCATED, ErrorCode.END_OF_BLOCK_MISSING}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["raw", "gzip", "zlib"])
def test_a_stream_fed_in_pieces_into_small_destinations(name):
    source, framing = STREAMS[name]

    async def driver(bench):
        choose = random.Random(4)
        for _ in range(12):
            position, output, flags = 0, b"", 0
            while True:
                end = min(len(source), position // 8 + choose.randint(1, 20))
                flags = flags & RESUME | (LAST if end == len(source) else 0)
                piece = source[position // 8:end]
                completion, part = await bench.job(piece, framing, Flag(flags), room=choose.randrange(8),
                                                   start_bit=position % 8, compare=False)
                output += part
                position += 8 * completion.consumed + completion.consumed_bit - position % 8
                flags = RESUME
                if completion.status == Status.SUCCESS:
                    break
                assert completion.status in (Status.NEED_INPUT, Status.OUTPUT_OVERFLOW)
            expected, content = inflate(source, framing)
            assert output == content and completion.crc32 == expected.crc32 and position == 8 * len(source)

    FrontBench(seed=4, gap=0.2).run(driver)


def test_every_start_bit():
    jobs = []
    for bit in range(8):
        data = Assembler().bits(0x55, bit).stored(TEXT).stored(b"y", final=True).data()
        jobs.append(job(data, start_bit=bit))
    jobs += [job(b"\xff" + GZIP, Format.GZIP, start_bit=3), job(b"\xff" + ZLIB, Format.ZLIB, start_bit=7)]
    for completion, output in run(*jobs):
        assert completion.status == Status.SUCCESS and output.startswith(TEXT)


HEADER_ERRORS = {
    "gzip magic 1": (b"\x1e\x8b" + GZIP[2:], Format.GZIP, ErrorCode.GZIP_MAGIC),
    "gzip magic 2": (b"\x1f\x8c" + GZIP[2:], Format.GZIP, ErrorCode.GZIP_MAGIC),
    "gzip method": (gzip_frame(b"", b"", method=9, flags=0xFF), Format.GZIP, ErrorCode.GZIP_METHOD),
    "gzip flag 5": (gzip_frame(b"", b"", flags=0x20), Format.GZIP, ErrorCode.GZIP_FLAGS),
    "gzip flag 7": (gzip_frame(b"", b"", flags=0x80), Format.GZIP, ErrorCode.GZIP_FLAGS),
    "gzip header crc": (gzip_frame(stored(b""), b"", name=b"n", header_crc=0x1234), Format.GZIP,
                        ErrorCode.GZIP_HEADER_CRC),
    "zlib check": (zlib_frame(b"", b"", cmf=0x99, flg=0), Format.ZLIB, ErrorCode.ZLIB_HEADER_CHECK),
    "zlib check 1": (zlib_frame(b"", b"", flg=2), Format.ZLIB, ErrorCode.ZLIB_HEADER_CHECK),
    "zlib method": (zlib_frame(b"", b"", cmf=0x87), Format.ZLIB, ErrorCode.ZLIB_METHOD),
    "zlib window": (zlib_frame(b"", b"", cmf=0x88), Format.ZLIB, ErrorCode.ZLIB_WINDOW),
    "block type": (Assembler().header(3).raw(TEXT).data(), Format.RAW, ErrorCode.BAD_BLOCK_TYPE),
    "block type 2": (Assembler().stored(TEXT).header(3, True).data(), Format.RAW, ErrorCode.BAD_BLOCK_TYPE),
    "stored length": (Assembler().stored(TEXT, complement=5).data(), Format.RAW, ErrorCode.STORED_LENGTH_MISMATCH),
    "gzip crc": (gzip_frame(stored(TEXT), TEXT, crc=1), Format.GZIP, ErrorCode.CRC_MISMATCH),
    "gzip length": (gzip_frame(stored(TEXT), TEXT, length=1), Format.GZIP, ErrorCode.LENGTH_MISMATCH),
    "zlib adler": (zlib_frame(stored(TEXT), TEXT, adler=2), Format.ZLIB, ErrorCode.ADLER_MISMATCH),
}


@pytest.mark.parametrize("name", HEADER_ERRORS)
def test_a_fault_is_named_and_forgotten(name):
    source, framing, error = HEADER_ERRORS[name]
    results = run(job(source, framing), job(GZIP, Format.GZIP, LAST | RESUME), seed=5, gap=0.2)
    (bad, _), (good, output) = results
    assert (bad.status, bad.error) == (Status.ANALYTICS_ERROR, error)
    assert good.status == Status.SUCCESS and output == TEXT


@pytest.mark.thorough
def test_every_zlib_header():
    """All values of CMF with some of FLG: the model has the same opinion of each."""
    choose = random.Random(6)
    jobs = [job(b"\x7f\xff", Format.ZLIB)]  # the largest sum of digits
    for cmf in range(256):
        right = choose.choice([flg for flg in range(256) if (256 * cmf + flg) % 31 == 0])
        for flg in [right] if cmf % 8 else [right, choose.randrange(256)]:
            jobs.append(job(bytes((cmf, flg)) + stored(b""), Format.ZLIB, Flag(0)))
    run(*jobs, seed=6)


@pytest.mark.thorough
def test_every_combination_of_gzip_fields():
    async def driver(bench):
        for fields in range(32):
            source = gzip_frame(
                stored(TEXT), TEXT, flags=fields & 1, extra=bytes(260) if fields & 2 else None,
                name=b"a name" if fields & 4 else None, comment=b"\xff" if fields & 8 else None,
                header_crc=bool(fields & 16))
            completion, output = await bench.job(source, Format.GZIP)
            assert completion.status == Status.SUCCESS and output == TEXT

    FrontBench(seed=7).run(driver)


OTHER = gzip_frame(stored(b"ot", b"her"), b"other", name=b"f")
MEMBERS = {
    "two": GZIP + OTHER, "padded": GZIP + bytes(5) + OTHER, "zeros after": GZIP + OTHER + bytes(9),
    "rubbish after": GZIP + OTHER + b"\0\0rubbish", "half magic": GZIP + OTHER + b"\0\x1f",
    "wrong magic": GZIP + OTHER + b"\x1f\x8c", "wrong first": GZIP + OTHER + b"\x1e\x8b", "byte": GZIP + OTHER + b"\0x",
    "one": GZIP, "bad second": GZIP + b"\x1f\x8b\x07\0" + bytes(30),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_members(name):
    source = MEMBERS[name]
    results = run(job(source, Format.GZIP, LAST | MULTI), job(source, Format.GZIP), seed=8, gap=0.1)
    (completion, output), (single, first) = results
    assert single.status == Status.SUCCESS and single.consumed == len(GZIP) and first == TEXT
    if name not in ("one", "bad second"):
        assert completion.members == 2 and output == TEXT + b"other" and completion.total == 5
        assert completion.consumed == source.index(OTHER) + len(OTHER)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["padded", "half magic", "byte"])
def test_members_cut_anywhere(name):
    source = MEMBERS[name]

    async def driver(bench):
        for cut in (*range(len(GZIP) - 8, len(GZIP) + 18), *range(len(source) - 6, len(source) + 1)):
            first, start = await bench.job(source[:cut], Format.GZIP, MULTI)
            if first.status == Status.NEED_INPUT:
                await bench.job(source[first.consumed:], Format.GZIP, LAST | RESUME | MULTI)

    FrontBench(seed=9).run(driver)


def test_dictionaries():
    dictionary = b"some dictionary"
    framed = zlib_frame(stored(TEXT), TEXT, dictionary=dictionary)
    results = run(
        job(framed, Format.ZLIB),
        job(dictionary, flags=Flag(0), opcode=Opcode.LOAD),
        job(framed[6:], Format.ZLIB, LAST | RESUME),
        job(b"", flags=Flag(0), opcode=Opcode.LOAD),
        job(stored(TEXT), Format.RAW, LAST | RESUME),
        seed=10, gap=0.2)
    (asks, _), (load, nothing), (done, output), (empty, _), (raw, _) = results
    assert asks.status == Status.NEED_DICTIONARY and asks.dictionary == zlib.adler32(dictionary) and asks.consumed == 6
    assert load.status == Status.SUCCESS and load.flags == 0 and load.consumed == len(dictionary) and nothing == b""
    assert done.status == empty.status == raw.status == Status.SUCCESS and output == TEXT


def test_tables_without_codes():
    """A canned job needs codes, and a stored block has none to keep."""
    results = run(
        job(b"abc", flags=LAST | Flag.CANNED),
        job(stored(b"a"), opcode=Opcode.TABLES),
        job(b"abc", flags=LAST | Flag.CANNED),
        job(b"", opcode=Opcode.TABLES),
        job(stored(TEXT)),
        job(stored(TEXT)[:4], flags=Flag(0)),
        job(stored(TEXT)[4:], flags=LAST | RESUME | Flag.CANNED),
    )
    assert [(completion.status, completion.error) for completion, _ in results[:4]] == [
        (Status.ANALYTICS_ERROR, ErrorCode.BAD_AECS)] * 3 + [(Status.ANALYTICS_ERROR, ErrorCode.HEADER_TRUNCATED)]


def test_start_entries():
    """What begins is announced once, just before the first entry that it matters for."""
    seen = []

    async def driver(bench):
        async def start_of(*arguments, **named):
            await bench.job(*arguments, **named)
            seen.append([value for kind, value in bench.log if kind == "START"])

        two = gzip_frame(stored(b"a"), b"a") * 2
        await start_of(two, Format.GZIP, LAST | MULTI)
        await start_of(two[:3], Format.GZIP, Flag(0))
        await start_of(two[:-20], Format.GZIP, RESUME)
        await start_of(b"abc", opcode=Opcode.LOAD)
        await start_of(stored(TEXT)[:9], Format.RAW, RESUME)
        await start_of(TEXT[4:], Format.RAW, RESUME | LAST)

    FrontBench(seed=11).run(driver)
    new_job, history, check, suppress = 1, 2, 4, 8
    everything = new_job | history | check
    assert seen == [
        [everything, history | check], [], [everything], [everything | suppress], [new_job | check], [new_job],
    ]


def test_bytes_travel_four_at_a_time():
    log = []

    async def driver(bench):
        await bench.job(stored(bytes(range(103))))
        log.extend(count for kind, count in bench.log if kind == "RAW")

    FrontBench().run(driver)
    assert log == [4] * 25 + [3]


def test_a_full_destination_stops_the_block():
    log = []

    async def driver(bench):
        completion, output = await bench.job(stored(bytes(4000)), room=6)
        assert completion.status == Status.OUTPUT_OVERFLOW and len(output) == 6
        assert completion.flags == ResultFlag.BLOCK and completion.consumed == 5 + 4
        log.extend(bench.log)

    FrontBench().run(driver)
    assert len(log) < 10


@pytest.mark.parametrize("broken", [0, 1, 2, 3])
def test_read_errors(broken):
    async def driver(bench):
        completion, _ = await bench.job(GZIP, Format.GZIP, broken=broken)
        assert completion.status == Status.READ_ERROR
        completion, output = await bench.job(GZIP, Format.GZIP, LAST | RESUME)
        assert completion.status == Status.SUCCESS and output == TEXT
        # What lies behind the end of the stream may be as broken as it likes.
        completion, output = await bench.job(GZIP + bytes(40), Format.GZIP, broken=6)
        assert completion.status == Status.SUCCESS and output == TEXT

    FrontBench(seed=broken).run(driver)


def test_forget():
    async def driver(bench):
        await bench.job(GZIP[:20], Format.GZIP, Flag(0))
        await bench.forget()
        completion, output = await bench.job(GZIP, Format.GZIP, LAST | RESUME)
        assert completion.status == Status.SUCCESS and output == TEXT

    FrontBench().run(driver)


@pytest.mark.parametrize("block", [Front, Runner])
@pytest.mark.parametrize("context", [-1, 8, "0"])
def test_context_is_checked(block, context):
    with pytest.raises(ValueError, match=f"context must be 0 to 7, not {context!r}"):
        block(context=context)
