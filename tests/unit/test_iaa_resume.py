# SPDX-License-Identifier: Apache-2.0
"""The golden model's jobs that go on from one another, and what is refused of an AECS."""

import random
import struct
from dataclasses import replace

import pytest
from iaa_chain import PLAIN_RAW, Chain, streams
from test_iaa_model import ASKED, RECORD, SOURCE, STATES, TARGET, TEXT, Bench, canned, deflate, job

from rackgate.iaa.abi import PAGE_SIZE, WRITE_FAULT, DecompressFlag, Flag, Status
from rackgate.iaa.aecs import (
    AECS_SIZE,
    FORMAT_OFFSET,
    HISTORY_WRITE_OFFSET,
    POSITION_OFFSET,
    STATE_OFFSET,
    ParserState,
    SavedState,
    saved_size,
)
from rackgate.inflate.abi import ErrorCode
from rackgate_sim.iaa.model import Rules, check, run

WRITES = ASKED | Flag.WRITE_SOURCE2_ALWAYS


def chain(window):
    bench = Bench()
    return Chain(bench.memory.read, bench.memory.write,
                 lambda descriptor: run(descriptor, bench.memory, bench.translate, Rules(window)), SOURCE, TARGET,
                 STATES, RECORD, window)


@pytest.mark.parametrize("window", [4096, 32768])
@pytest.mark.parametrize("kind", ["dynamic", "fixed", "stored", "runs", "blocks", "noise"])
@pytest.mark.parametrize("pieces", [None, [700], [1, 2000, 40]])
def test_chains(seed, window, kind, pieces):
    rng = random.Random(f"{seed} {window} {kind} {pieces}")
    stream, data = streams(rng, 9000)[kind]
    jobs = chain(window)
    assert jobs.run(stream, rng, rooms=[260, 1000, 4096, 261], pieces=pieces) == data
    assert len(jobs.records) > 2


def test_canned_tables_go_on(seed):
    rng = random.Random(seed)
    header, body = canned()
    jobs = chain(4096)
    assert jobs.run(body, rng, rooms=[300], header=header) == TEXT
    assert len(jobs.records) > 20


def test_sizes():
    assert (saved_size(4096), saved_size(32768)) == (0x1500, 0x8500)


def state(**fields):
    """An AECS within a fixed block, after ``abcdefgh``."""
    fields = {"state": ParserState.LITERAL_LENGTH, "history": b"abcdefgh", "header": b"\2", "header_bits": 3, **fields}
    raw = bytearray(saved_size(4096))
    for offset, content in SavedState(**fields).parts(4096):
        raw[offset:offset + len(content)] = content
    return raw


def resume(bench, raw, source=b"\3\0", **fields):
    """The record of a job that goes on with ``source`` from an AECS."""
    bench.memory.write(STATES, bytes(raw))
    bench.memory.write(SOURCE, source)
    descriptor = job(flags=ASKED | Flag.READ_SOURCE2_AECS, source2=STATES, source2_size=saved_size(4096),
                     source_size=len(source), operation_flags=PLAIN_RAW)
    return run(replace(descriptor, **fields), bench.memory, bench.translate, Rules(4096))


def test_what_is_known_goes_on():
    """In the middle of a byte, of a block and of the history: a match of 3 from 8 bytes back, and the block's end."""
    bench = Bench()
    bits = "0000001" + "00101" + "1" + "0000000"  # length 3, distance 7 and a bit, end of block
    raw = int("0b" + (bits + "110" + "0000000")[::-1], 2) << 5  # behind it a final fixed block without content
    done = resume(bench, state(start_bit=5), raw.to_bytes(5, "little"))
    assert done.status == Status.SUCCESS and bench.memory.read(TARGET, done.output_size) == b"abc"


@pytest.mark.parametrize("change", [
    (FORMAT_OFFSET, b"\1"), (STATE_OFFSET, struct.pack("<H", ParserState.ENDED)), (STATE_OFFSET, b"\7\0"),
    (POSITION_OFFSET, b"\0\0\0\0"), (POSITION_OFFSET, b"\0\3\3\0"), (POSITION_OFFSET, struct.pack("<I", 2433 << 16)),
    (HISTORY_WRITE_OFFSET, struct.pack("<H", 4097)), (POSITION_OFFSET, struct.pack("<I", 2 << 16))])
def test_states_that_are_none(change):
    bench, (offset, content) = Bench(), change
    raw = state()
    raw[offset:offset + len(content)] = content
    done = resume(bench, raw)
    assert (done.status, done.error) == (Status.ANALYTICS_ERROR, ErrorCode.BAD_AECS)


def test_a_state_without_its_history_is_none():
    done = resume(Bench(), state(), source2_size=AECS_SIZE)
    assert (done.status, done.error) == (Status.ANALYTICS_ERROR, ErrorCode.BAD_AECS)


def test_a_header_that_is_wrong():
    done = resume(Bench(), state(header=b"\6"))
    assert (done.status, done.error) == (Status.ANALYTICS_ERROR, ErrorCode.BAD_BLOCK_TYPE)


def test_a_source_of_no_bits():
    flags = PLAIN_RAW | 4 << 6
    done = resume(Bench(), state(start_bit=5), b"\0", operation_flags=flags)
    assert (done.status, done.error) == (Status.ANALYTICS_ERROR, ErrorCode.BAD_AECS)
    assert resume(Bench(), state(start_bit=4), b"\0", operation_flags=flags).status == Status.SUCCESS


@pytest.mark.parametrize("fields, status, invalid", [
    ({"flags": ASKED | 3 << 18}, Status.BAD_FLAGS, 3 << 18),
    ({"flags": ASKED | Flag.AECS_TOGGLE}, Status.BAD_FLAGS, Flag.AECS_TOGGLE),
    ({"flags": ASKED | Flag.AECS_TOGGLE | Flag.READ_SOURCE2_AECS}, Status.BAD_FLAGS, Flag.AECS_TOGGLE),
    ({"operation_flags": PLAIN_RAW | DecompressFlag.SUPPRESS_OUTPUT}, Status.BAD_OPERATION_FLAGS,
     DecompressFlag.SUPPRESS_OUTPUT << 32),
    ({"operation_flags": PLAIN_RAW & ~DecompressFlag.EOB_IS_BFINAL}, Status.BAD_OPERATION_FLAGS,
     DecompressFlag.STOP_ON_EOB << 32),
    ({"operation_flags": PLAIN_RAW | 1 << 13}, Status.BAD_OPERATION_FLAGS, 1 << 45),
    ({"source2_size": AECS_SIZE}, Status.BAD_SIZE, 0), ({"source2_size": saved_size(32768)}, Status.BAD_SIZE, 0),
    ({"source2": STATES + 8}, Status.AECS_MISALIGNED, 0),
    ({"source2": TARGET - saved_size(4096) - 32}, Status.OVERLAP, 0),
    ({"source2": SOURCE - saved_size(4096) - 32}, Status.OVERLAP, 0),
    ({"source2": (1 << 48) - saved_size(4096)}, Status.READ_ERROR, 0)])
def test_refused(fields, status, invalid):
    good = job(flags=WRITES, source2=STATES, source2_size=saved_size(4096), operation_flags=PLAIN_RAW)
    assert check(good, Rules(4096)) is None
    refused = check(replace(good, **fields), Rules(4096))
    assert refused is not None and (refused.status, refused.invalid_flags) == (status, invalid)


def test_a_page_fault_leaves_its_state(seed):
    """Behind a page of the source that is not there the stream goes on once it is."""
    bench, rng = Bench(), random.Random(seed)
    stream, data = streams(rng, 30000)["dynamic"]
    bench.memory.write(SOURCE, stream)
    bench.missing = {SOURCE + PAGE_SIZE}
    first = job(flags=WRITES, source2=STATES, source2_size=saved_size(4096), source_size=len(stream),
                destination_size=0x10000, operation_flags=PLAIN_RAW)
    done = run(first, bench.memory, bench.translate, Rules(4096))
    assert done.status == Status.PAGE_FAULT and 0 < done.completed <= PAGE_SIZE
    bench.missing = set()
    rest = replace(first, flags=WRITES | Flag.READ_SOURCE2_AECS | Flag.AECS_TOGGLE, source=SOURCE + done.completed,
                   source_size=len(stream) - done.completed, destination=TARGET + done.output_size)
    end = run(rest, bench.memory, bench.translate, Rules(4096))
    assert end.status == Status.SUCCESS
    assert bench.memory.read(TARGET, done.output_size + end.output_size) == data


@pytest.mark.parametrize("page", range(2))
def test_a_state_that_cannot_be_written(page):
    bench = Bench()
    stream = deflate(TEXT)
    bench.memory.write(SOURCE, stream)
    bench.missing = {STATES + saved_size(4096) & -PAGE_SIZE, STATES + saved_size(4096) + PAGE_SIZE & -PAGE_SIZE}
    bench.missing.remove(sorted(bench.missing)[page])
    done = run(job(flags=WRITES, source2=STATES, source2_size=saved_size(4096), source_size=len(stream),
                   destination_size=0x10000, operation_flags=PLAIN_RAW), bench.memory, bench.translate, Rules(4096))
    assert done.status == Status.PAGE_FAULT | WRITE_FAULT
    assert (done.fault_address, done.output_size, done.completed) == (next(iter(bench.missing)), 0, 0)
