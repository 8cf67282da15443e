# SPDX-License-Identifier: Apache-2.0
"""The golden model's jobs: resume points, overflow, dictionaries, members, comparison of results."""

import random
import zlib
from bisect import bisect_right
from dataclasses import replace

import pytest

from rackgate.inflate.abi import Completion, Descriptor, ErrorCode, Flag, Format, Opcode, ResultFlag, Status
from rackgate_sim.inflate.assembler import Assembler, Symbol, gzip_frame, lengths_for, zlib_frame
from rackgate_sim.inflate.corpus import cases, verdict_zlib
from rackgate_sim.inflate.model import (
    ENTRY_BITS,
    FIXED_DISTANCES,
    FIXED_LITERALS,
    Engine,
    JobMemory,
    difference,
    inflate,
    same,
)

BLOCKS = (
    ("fixed", [*b"first", (9, 3)]), ("stored", b"stored"), ("dynamic", [*b"second", (258, 6), (3, 1), 7]),
    ("dynamic", []), ("stored", b""), ("fixed", [(4, 200)]),
)


def _stream() -> tuple[bytes, bytes, list[int], list[int]]:
    """A raw stream of all kinds of blocks, what it holds, its resume points, and those of them inside blocks."""
    asm, points, inside = Assembler(), [0], []
    for number, (kind, tokens) in enumerate(BLOCKS):
        final = number == len(BLOCKS) - 1
        if kind == "stored":
            asm.stored(b"", final, length=len(tokens))
            inside.append(len(asm))
            for byte in tokens:
                asm.bits(byte, 8)
                inside.append(len(asm))
        else:
            codes = (FIXED_LITERALS, FIXED_DISTANCES) if kind == "fixed" else lengths_for(tokens)
            asm.header(1, final) if kind == "fixed" else asm.dynamic_header(*codes, final)
            inside.append(len(asm))
            for token in tokens:
                asm.tokens([token], *codes, end=False)
                inside.append(len(asm))
            asm.tokens((), *codes)
        if kind == "stored":
            inside.pop()  # nothing is left of the block: what follows is a header
        points.append(len(asm))
    data = asm.data()
    return data, zlib.decompress(data, -15), sorted({*points, *inside}), inside


DATA, TEXT, POINTS, INSIDE = _stream()
FRAMED = {
    Format.RAW: DATA,
    Format.ZLIB: zlib_frame(DATA, TEXT),
    Format.GZIP: gzip_frame(DATA, TEXT, extra=b"extra", name=b"name", header_crc=True),
}

class Jobs:
    """Runs jobs on one context."""

    def __init__(self, format: Format = Format.RAW, **parameters: int) -> None:
        self.engine = Engine(**parameters)
        self.format = format

    def run(self, source: bytes, flags: int = 0, room: int = 1 << 16, start_bit: int = 0, context: int = 0,
            opcode: int = Opcode.INFLATE) -> tuple[Completion, bytes]:
        memory = JobMemory(source)
        completion = self.engine.run(Descriptor(0, len(source), 0, room, 0, opcode, self.format, flags, context, 5,
                                                start_bit), memory)
        assert completion.produced == len(memory.written) <= room
        assert completion.tag == 5
        return completion, memory.written

    def resume(self, data: bytes, last: Completion, flags: int = Flag.LAST, **options: int) -> tuple[Completion, bytes]:
        return self.run(data[last.consumed:], flags | Flag.RESUME, start_bit=last.consumed_bit, **options)


def _position(completion: Completion) -> int:
    return 8 * completion.consumed + completion.consumed_bit


# Running dry


@pytest.mark.parametrize("size", range(len(DATA)))
def test_dry_input_stops_at_the_last_resume_point(size):
    stop, begin = Jobs().run(DATA[:size])
    assert (stop.status, stop.error) == (Status.NEED_INPUT, ErrorCode.NONE)
    assert _position(stop) == POINTS[bisect_right(POINTS, 8 * size) - 1]
    assert stop.flags == (ResultFlag.BLOCK if _position(stop) in INSIDE else 0)
    assert TEXT.startswith(begin) and (stop.crc32, stop.total) == (zlib.crc32(begin), len(begin))
    end, same_begin = inflate(DATA[:size], flags=Flag.LAST)
    assert same_begin == begin and _position(end) == _position(stop)
    assert end.error == (ErrorCode.END_OF_BLOCK_MISSING if stop.flags else ErrorCode.HEADER_TRUNCATED)


@pytest.mark.parametrize("format", list(Format))
def test_resume_at_every_byte(format):
    data = FRAMED[format]
    whole, _ = inflate(data, format)
    for size in range(len(data)):
        jobs = Jobs(format)
        stop, begin = jobs.run(data[:size])
        assert stop.status == Status.NEED_INPUT and stop.consumed <= size
        end, rest = jobs.resume(data, stop)
        assert begin + rest == TEXT
        assert stop.consumed + end.consumed == len(data) and end.consumed_bit == 0
        assert replace(end, tag=0, consumed=len(data), produced=len(TEXT)) == whole


@pytest.mark.parametrize("format", list(Format))
@pytest.mark.parametrize("step", [1, 3])
def test_resume_with_a_few_bytes_more_each_time(format, step):
    data, jobs = FRAMED[format], Jobs(format)
    start, size, text = 0, 0, b""
    stop, part = jobs.run(b"")
    while stop.status == Status.NEED_INPUT and size < 2 * len(data):
        size += step
        stop, part = jobs.resume(data[start:size], replace(stop, consumed=0), 0)
        text += part
        start += stop.consumed
    assert stop.status == Status.SUCCESS and text == TEXT and start == len(data)
    assert (stop.total, stop.members) == (len(TEXT), 1)


@pytest.mark.parametrize("bit", range(8))
def test_start_bit(bit):
    data = Assembler().bits(~0, bit).fixed([1, 2, 3], True).data()
    completion, text = inflate(data, start_bit=bit)
    assert completion.status == Status.SUCCESS and text == b"\1\2\3" and completion.consumed == len(data)
    framed = b"\xff" * (bit > 0) + FRAMED[Format.ZLIB]
    assert inflate(framed, Format.ZLIB, start_bit=bit)[1] == TEXT


def test_start_bit_of_an_empty_source_says_nothing():
    completion, _ = Jobs().run(b"", start_bit=5)
    assert completion.status == Status.NEED_INPUT and _position(completion) == 0


def test_nothing_to_resume_starts_anew():
    jobs = Jobs()
    assert jobs.run(DATA, Flag.LAST | Flag.RESUME)[1] == TEXT
    assert jobs.run(DATA, Flag.LAST | Flag.RESUME)[1] == TEXT
    assert jobs.run(Assembler().fixed([1, Symbol(287)]).data(), Flag.LAST)[0].error == ErrorCode.BAD_LITERAL_CODE
    assert jobs.run(DATA, Flag.LAST | Flag.RESUME)[1] == TEXT


def test_job_without_resume_forgets_the_last_one():
    jobs = Jobs()
    for number in range(2):
        stop, begin = jobs.run(DATA[:5])
        assert stop.flags == ResultFlag.BLOCK and begin
        if number:
            jobs.engine.forget(0)
        end, text = jobs.run(DATA, Flag.LAST | Flag.RESUME * number)
        assert text == TEXT and end.total == len(TEXT)


def test_contexts_do_not_disturb_each_other():
    jobs = Jobs(contexts=3)
    stops = [jobs.run(DATA[:10 + 9 * context], context=context) for context in range(3)]
    for context, (stop, begin) in reversed(list(enumerate(stops))):
        end, rest = jobs.resume(DATA, stop, context=context)
        assert begin + rest == TEXT and end.status == Status.SUCCESS


# Overflow


@pytest.mark.parametrize("format", list(Format))
def test_overflow_at_every_size(format):
    data = FRAMED[format]
    for room in range(len(TEXT)):
        jobs = Jobs(format)
        stop, begin = jobs.run(data, Flag.LAST, room)
        assert (stop.status, stop.produced, stop.flags) == (Status.OUTPUT_OVERFLOW, room, ResultFlag.BLOCK)
        end, rest = jobs.resume(data, stop)
        assert begin + rest == TEXT and end.status == Status.SUCCESS
        assert (end.crc32, end.adler32, end.total) == (zlib.crc32(TEXT), zlib.adler32(TEXT), len(TEXT))
        assert stop.consumed + end.consumed == len(data)
    exact, text = Jobs(format).run(data, Flag.LAST, len(TEXT))
    assert exact.status == Status.SUCCESS and text == TEXT


@pytest.mark.parametrize("room", [1, 2, 7, 100])
def test_overflow_time_and_again(room):
    jobs, data, start, text = Jobs(), DATA, 0, b""
    stop, part = jobs.run(data, Flag.LAST, room)
    while stop.status == Status.OUTPUT_OVERFLOW and len(text) < 2 * len(TEXT):
        assert stop.produced == room
        text += part
        start += stop.consumed
        stop, part = jobs.resume(data[start:], replace(stop, consumed=0), room=room)
    assert stop.status == Status.SUCCESS and text + part == TEXT


def test_overflow_then_dry_within_a_match():
    jobs = Jobs()
    data = Assembler().fixed([5, (10, 1)], True).data()
    stop, begin = jobs.run(data, Flag.LAST, 4)
    assert stop.status == Status.OUTPUT_OVERFLOW and _position(stop) == len(Assembler().fixed([5], end=False))
    dry, nothing = jobs.resume(data[:stop.consumed + 1], stop, 0)
    assert (dry.status, nothing, _position(dry)) == (Status.NEED_INPUT, b"", stop.consumed_bit)
    end, rest = jobs.resume(data[stop.consumed:], dry)
    assert end.status == Status.SUCCESS and begin + rest == b"\5" * 11


def test_a_missing_byte_does_not_overflow():
    stored = Assembler().stored(b"abcdef", True).data()
    assert inflate(stored[:-3], flags=0, room=3)[0].status == Status.NEED_INPUT
    assert inflate(stored[:-2], flags=0, room=3)[0].status == Status.OUTPUT_OVERFLOW
    assert inflate(stored, room=0)[0].status == Status.OUTPUT_OVERFLOW


def test_overflow_of_a_match_from_the_far_end_of_the_window():
    block = bytes(i % 251 for i in range(32768))
    data = Assembler().stored(block).fixed([(258, 32768)], True).data()
    for room in (32769, 32768 + 257):
        jobs = Jobs()
        stop, begin = jobs.run(data, Flag.LAST, room)
        end, rest = jobs.resume(data, stop)
        assert end.status == Status.SUCCESS and begin + rest == block + block[:258]


# Errors


@pytest.mark.parametrize(("mistake", "error"), [
    (Symbol(286), ErrorCode.BAD_LITERAL_CODE), ((3, 30), ErrorCode.DISTANCE_BEFORE_START)])
def test_error_reports_the_position_of_its_symbol(mistake, error):
    good = Assembler().stored(b"good").fixed([7, (5, 5)], end=False)
    data = Assembler().stored(b"good").fixed([7, (5, 5), mistake]).data() + bytes(4)
    completion, text = inflate(data)
    assert (completion.status, completion.error) == (Status.ANALYTICS_ERROR, error)
    assert _position(completion) == len(good) and completion.flags == ResultFlag.BLOCK
    assert text == b"good\7good\7" and completion.crc32 == zlib.crc32(text)


def test_error_in_a_header_reports_its_beginning():
    data = Assembler().fixed([1]).header(3).data() + bytes(4)
    completion, _ = inflate(data)
    assert _position(completion) == len(Assembler().fixed([1])) and completion.flags == 0
    framed = FRAMED[Format.GZIP][:-8] + bytes(8)
    assert inflate(framed, Format.GZIP)[0].consumed == len(framed) - 8


def test_window_of_4_kb():
    jobs = Jobs(window=4096)
    ok = Assembler().stored(bytes(5000)).fixed([(3, 4096)], True).data()
    far = Assembler().stored(bytes(5000)).fixed([(3, 4097)], True).data()
    both = Assembler().stored(bytes(100)).fixed([(3, 4097)], True).data()
    before = Assembler().stored(bytes(100)).fixed([(3, 101)], True).data()
    assert jobs.run(ok, Flag.LAST)[0].status == Status.SUCCESS
    assert [jobs.run(data, Flag.LAST)[0].error for data in (far, both, before)] == [
        ErrorCode.DISTANCE_TOO_LARGE, ErrorCode.DISTANCE_TOO_LARGE, ErrorCode.DISTANCE_BEFORE_START]
    stop, _ = jobs.run(ok, Flag.LAST, 4999)
    assert jobs.resume(ok, stop)[1] == bytes(4)


def test_bad_distance_is_found_before_the_lack_of_room():
    data = Assembler().fixed([1, (3, 2)], True).data()
    assert inflate(data, room=1)[0].error == ErrorCode.DISTANCE_BEFORE_START


# Dictionaries


def _with_dictionary(wbits: int, dictionary: bytes, text: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, wbits, zdict=dictionary)
    return deflate.compress(text) + deflate.flush()


@pytest.mark.parametrize("dictionary", [b"x", b"a preset dictionary", bytes(i * i & 255 for i in range(40_000))])
def test_dictionary_of_a_zlib_stream(dictionary):
    text = dictionary[-300:] + b"and more" + dictionary[:200]
    data, jobs = _with_dictionary(15, dictionary, text), Jobs(Format.ZLIB)
    want, nothing = jobs.run(data, Flag.LAST)
    assert (want.status, want.consumed, want.dictionary, nothing) == (
        Status.NEED_DICTIONARY, 6, zlib.adler32(dictionary), b"")
    load, nothing = jobs.run(dictionary, opcode=Opcode.LOAD)
    assert (load.status, load.consumed, load.flags, nothing) == (Status.SUCCESS, len(dictionary), 0, b"")
    assert (load.crc32, load.adler32, load.total) == (0, 1, 0)
    end, out = jobs.resume(data, want)
    assert end.status == Status.SUCCESS and out == text and end.adler32 == zlib.adler32(text)


def test_dictionary_of_a_raw_stream():
    dictionary, jobs = b"0123456789" * 5, Jobs()
    data = _with_dictionary(-15, dictionary, dictionary + b"!")
    jobs.run(DATA[:50])  # what is under way is forgotten
    jobs.run(dictionary, opcode=Opcode.LOAD)
    assert jobs.run(data, Flag.LAST | Flag.RESUME)[1] == dictionary + b"!"
    assert jobs.run(data, Flag.LAST)[0].error == ErrorCode.DISTANCE_BEFORE_START


def test_load_forgets_the_stream_before():
    jobs = Jobs()
    jobs.run(DATA, Flag.LAST)
    matches = Assembler().fixed([(6, 3)], True).data()
    jobs.run(Assembler().fixed([1, (9, 1)]).data(), Flag.LAST, 3)  # stops within a match
    load, _ = jobs.run(b"abc", opcode=Opcode.LOAD)
    assert (load.members, load.total) == (0, 0)
    end, text = jobs.run(matches, Flag.LAST | Flag.RESUME)
    assert (text, end.members, end.total) == (b"abcabc", 1, 6)
    load, _ = jobs.run(b"abc", opcode=Opcode.LOAD)
    assert load.members == 0


def test_dictionary_ends_where_the_window_does():
    dictionary = bytes(i // 256 for i in range(40_000))
    farthest = Assembler().fixed([(3, 32768)], True).data()
    jobs = Jobs()
    jobs.run(dictionary, opcode=Opcode.LOAD)
    assert jobs.run(farthest, Flag.LAST | Flag.RESUME)[1] == dictionary[-32768:][:3]
    jobs.run(dictionary[:32767], opcode=Opcode.LOAD)
    assert jobs.run(farthest, Flag.LAST | Flag.RESUME)[0].error == ErrorCode.DISTANCE_BEFORE_START


# Members


MEMBERS = [gzip_frame(Assembler().fixed(text, True).data(), text) for text in (b"one", b"two two", b"")]


def test_members():
    data = MEMBERS[0] + MEMBERS[1] + bytes(700) + MEMBERS[2]
    completion, text = inflate(data, Format.GZIP, Flag.LAST | Flag.MULTI)
    assert text == b"onetwo two" and completion.consumed == len(data)
    assert (completion.members, completion.total, completion.crc32) == (3, 0, 0)
    completion, text = inflate(data, Format.GZIP)
    assert (text, completion.consumed, completion.members) == (b"one", len(MEMBERS[0]), 1)


@pytest.mark.parametrize("after", [b"", b"\0", bytes(999), b"x", b"\x1f", b"\0\x1f", b"\x1f\x8c", b"\0\0PK"])
def test_what_follows_the_last_member_is_left(after):
    data = MEMBERS[1]
    completion, text = inflate(data + after, Format.GZIP, Flag.LAST | Flag.MULTI)
    assert (completion.status, completion.consumed, completion.members) == (Status.SUCCESS, len(data), 1)
    assert (text, completion.total, completion.flags) == (b"two two", 7, ResultFlag.END)


@pytest.mark.parametrize(("after", "error", "consumed"), [
    (b"\x1f\x8b", ErrorCode.FRAME_TRUNCATED, 0), (b"\0\0\x1f\x8b\7\0", ErrorCode.GZIP_METHOD, 2)])
def test_what_begins_like_a_member_must_be_one(after, error, consumed):
    completion, text = inflate(MEMBERS[0] + after, Format.GZIP, Flag.LAST | Flag.MULTI)
    assert (completion.status, completion.error, text) == (Status.ANALYTICS_ERROR, error, b"one")
    assert completion.consumed == len(MEMBERS[0]) + consumed
    assert (completion.members, completion.total, completion.crc32) == (1, 3, zlib.crc32(b"one"))


def test_resume_at_every_byte_of_members():
    data = MEMBERS[0] + bytes(3) + MEMBERS[1] + MEMBERS[2]
    ends = [len(MEMBERS[0]), len(data) - len(MEMBERS[2])]
    for size in range(len(data)):
        jobs = Jobs(Format.GZIP)
        stop, begin = jobs.run(data[:size], Flag.MULTI)
        assert stop.status == Status.NEED_INPUT
        if ends[0] <= size <= ends[0] + 4:  # padding, and half a magic
            assert stop.consumed == ends[0]
        end, rest = jobs.resume(data, stop, Flag.MULTI | Flag.LAST)
        assert begin + rest == b"onetwo two" and end.members == 3 and stop.consumed + end.consumed == len(data)
    stop, _ = Jobs(Format.GZIP).run(data, Flag.MULTI)
    assert (stop.status, stop.consumed, stop.members) == (Status.NEED_INPUT, len(data), 3)


def test_member_cannot_refer_to_the_one_before():
    bad = gzip_frame(Assembler().fixed([(3, 1)], True).data(), b"eee")
    data = MEMBERS[0] + bad
    completion, _ = inflate(data, Format.GZIP, Flag.LAST | Flag.MULTI)
    assert completion.error == ErrorCode.DISTANCE_BEFORE_START
    jobs = Jobs(Format.GZIP)
    stop, _ = jobs.run(data[:len(MEMBERS[0]) + 11], Flag.MULTI)
    assert stop.flags == ResultFlag.BLOCK
    assert jobs.resume(data, stop, Flag.LAST | Flag.MULTI)[0].error == ErrorCode.DISTANCE_BEFORE_START


def test_multi_is_for_gzip_only():
    data = FRAMED[Format.ZLIB] * 2
    assert inflate(data, Format.ZLIB, Flag.LAST | Flag.MULTI)[0].consumed == len(data) // 2


# Comparison with gateware


def _result(**fields: int) -> Completion:
    return replace(inflate(DATA)[0], **fields)


def test_same_overlooks_times():
    assert same(_result(), _result(started=1, finished=9))


@pytest.mark.parametrize("name", ["tag", "error", "flags", "produced", "crc32", "adler32", "total", "members"])
def test_difference_names_the_field(name):
    assert difference(_result(), _result(**{name: 77})).startswith(f"{name}: expected ")


def test_difference_in_position():
    assert ENTRY_BITS == (15 + 5) + (15 + 13) + 2 * 15  # length, distance, two literals
    for status in (Status.SUCCESS, Status.NEED_INPUT):
        want = _result(status=status)
        assert "consumed" in difference(want, replace(want, consumed=want.consumed - 1))
    for status in (Status.OUTPUT_OVERFLOW, Status.ANALYTICS_ERROR):
        want = _result(status=status, consumed=100, consumed_bit=0)
        before = 800 - ENTRY_BITS
        assert same(want, replace(want, consumed=before // 8, consumed_bit=before % 8))
        assert not same(want, replace(want, consumed=(before - 1) // 8, consumed_bit=(before - 1) % 8))
        assert not same(want, replace(want, consumed_bit=1))


def test_difference_in_dictionary():
    assert same(_result(), _result(dictionary=1))
    want = _result(status=Status.NEED_DICTIONARY)
    assert not same(want, replace(want, dictionary=1))


def test_refusals_have_only_a_status():
    want = _result(status=Status.BAD_SIZE)
    assert same(want, replace(want, produced=7, consumed=9, crc32=1))
    assert difference(want, replace(want, status=Status.BAD_FLAGS)) == "status: expected 0x13, got 0x11"


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Engine(0), "contexts must be 1 to 8, not 0"), (lambda: Engine(window=1), "window must be 4096 or 32768")])
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# At random


def test_split_random_streams(seed):
    """Jobs that run dry and overflow at random come to zlib's verdict."""
    rng = random.Random(seed)
    for case in cases(seed, 150, start=1_000_000):
        if case.dictionary is not None or len(case.data) > 20_000:
            continue
        jobs, start, text = Jobs(case.format), 0, b""
        size = rng.randrange(len(case.data) + 1)
        multi = Flag.MULTI if case.multi else 0
        flags = multi | (Flag.LAST if size == len(case.data) else 0)
        stop, part = jobs.run(case.data[:size], flags, rng.randrange(9000))
        for _ in range(10_000):
            text += part
            start += stop.consumed
            if stop.status not in (Status.NEED_INPUT, Status.OUTPUT_OVERFLOW):
                break
            if stop.status == Status.NEED_INPUT:
                size = min(len(case.data), size + rng.randrange(1 + len(case.data)))
            flags = multi | (Flag.LAST if size == len(case.data) else 0)
            stop, part = jobs.resume(case.data[start:size], replace(stop, consumed=0), flags,
                                     room=rng.randrange(1, 60_000))
        want = verdict_zlib(case)
        assert (stop.status == Status.SUCCESS) == want.accepted, f"seed {seed} case {case.index}"
        assert text == (text if want.output is None else want.output), f"seed {seed} case {case.index}"
        if want.accepted:
            assert start == want.consumed


# Canned codes


def _deflate(data: bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    compressor = zlib.compressobj(9, wbits=-15, strategy=strategy)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED])
@pytest.mark.parametrize("empty_blocks", range(5))
def test_canned_jobs_go_on_behind_the_header(strategy, empty_blocks):
    data = _deflate(TEXT, strategy)
    for _ in range(empty_blocks):  # not the last, fixed codes, end of block: ten bits
        data = (int.from_bytes(data, "little") << 10 | 0b010).to_bytes(len(data) + 2, "little")
    jobs = Jobs()
    tables, nothing = jobs.run(data, Flag.LAST, room=0, opcode=Opcode.TABLES)
    assert (tables.status, tables.flags, nothing) == (Status.SUCCESS, 0, b"")
    body = data[tables.consumed:]
    for _ in range(2):
        done, output = jobs.run(body, Flag.LAST | Flag.CANNED, start_bit=tables.consumed_bit)
        assert (done.status, done.flags, output) == (Status.SUCCESS, ResultFlag.END, TEXT)
        assert len(body) - done.consumed <= 3 and (done.crc32, done.total) == (zlib.crc32(TEXT), len(TEXT))


def test_canned_jobs_resume():
    data = _deflate(TEXT)
    jobs = Jobs()
    tables, _ = jobs.run(data, Flag.LAST, opcode=Opcode.TABLES)
    body = data[tables.consumed:]
    stop, begin = jobs.run(body, Flag.LAST | Flag.CANNED, room=5, start_bit=tables.consumed_bit)
    assert (stop.status, stop.flags, len(begin)) == (Status.OUTPUT_OVERFLOW, ResultFlag.BLOCK, 5)
    end, rest = jobs.resume(body, stop, Flag.LAST | Flag.CANNED)
    assert end.status == Status.SUCCESS and begin + rest == TEXT


def test_codes_are_kept_until_the_next_header():
    data = _deflate(TEXT)
    jobs = Jobs(contexts=2)
    for _ in range(2):
        refused, _ = jobs.run(data, Flag.LAST | Flag.CANNED)
        assert (refused.status, refused.error) == (Status.ANALYTICS_ERROR, ErrorCode.BAD_AECS)
        jobs.run(data, Flag.LAST, opcode=Opcode.TABLES)
        elsewhere, _ = jobs.run(data, Flag.LAST | Flag.CANNED, context=1)
        assert elsewhere.error == ErrorCode.BAD_AECS
        jobs.run(data, Flag.LAST)
    stored, _ = jobs.run(zlib.compress(TEXT, 0)[2:], Flag.LAST, opcode=Opcode.TABLES)
    assert stored.error == ErrorCode.BAD_AECS


@pytest.mark.parametrize("format", [Format.ZLIB, Format.GZIP])
def test_canned_codes_have_no_framing(format):
    jobs = Jobs(format)
    assert jobs.run(b"", opcode=Opcode.TABLES)[0].status == Status.BAD_FLAGS
    assert jobs.run(b"", Flag.CANNED)[0].status == Status.BAD_FLAGS
