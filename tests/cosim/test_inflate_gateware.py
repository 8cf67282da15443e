# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The inflate gateware against zlib and the golden model, with many jobs in flight over all contexts."""

import random
import zlib
from dataclasses import replace

import numpy as np
import pytest
from inflate_jobs import BASE, Bench, Job, Step

from rackgate.inflate.abi import ErrorCode, Flag, Opcode, Status
from rackgate_sim.devices import component
from rackgate_sim.inflate import streams
from rackgate_sim.inflate.assembler import END, Assembler, Bits, Match, Symbol, limited_lengths
from rackgate_sim.inflate.corpus import MAX_OUTPUT, Outcome, case, verdict_zlib
from rackgate_sim.inflate.differential import compare_batches, describe_stop
from rackgate_sim.inflate.model import DISTANCE_BASE, DISTANCE_EXTRA, LENGTH_BASE, LENGTH_EXTRA
from rackgate_sim.native import build

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("native")]

RESUMABLE = (Status.NEED_INPUT, Status.OUTPUT_OVERFLOW, Status.NEED_DICTIONARY)


@pytest.fixture(scope="module")
def library():
    return build(component("inflate"), name="inflate", key=[])


def outcome(made, result, before=0):
    """A result as the comparison with zlib takes it."""
    completion = result.completion
    accepted = completion.status == Status.SUCCESS
    return Outcome(accepted, result.output, before + completion.consumed if accepted else None,
                   describe_stop(completion))


def whole(made):
    """Script: a case as one job, with its dictionary before or between."""
    flags = Flag.LAST | (Flag.MULTI if made.multi else 0)
    job = Job(made.data, MAX_OUTPUT, Opcode.INFLATE, made.format, flags)
    load = Job(made.dictionary or b"", 0, Opcode.LOAD, flags=0)
    if made.dictionary is None:
        (result,) = yield Step([job], final=True)
        return outcome(made, result)
    if made.wbits < 0:
        _, result = yield Step([load, replace(job, flags=flags | Flag.RESUME)], final=True)
        return outcome(made, result)
    (result,) = yield Step([job])
    before = result.completion.consumed
    if result.completion.status != Status.NEED_DICTIONARY or (
            zlib.adler32(made.dictionary) != result.completion.dictionary):
        return outcome(made, result)
    _, result = yield Step([load, replace(job, source=made.data[before:], flags=flags | Flag.RESUME)], final=True)
    return outcome(made, result, before)


def pieces(made, rng):
    """Script: a case in jobs whose source ends early and whose room is small; what came out in all, and how it ended.

    The source of a job ends where it likes, at the same byte for gateware and model, who may differ in where they
    want to go on after an overflow.
    """
    flags = Flag.LAST | (Flag.MULTI if made.multi else 0)
    position = model_position = 0  # bits
    data, output, resume, end = made.data, b"", Flag(0), 0
    if made.dictionary is not None and made.wbits < 0:
        yield Step([Job(made.dictionary, 0, Opcode.LOAD, flags=0)])
        resume = Flag.RESUME
    for _ in range(400):
        low = max(position, model_position) + 7 >> 3
        end = max(end, low, min(len(data), low + rng.choice((0, 1, 2, 3, 7, 8, 9, 40, 300, 5000))))
        if rng.random() < 0.3:
            end = len(data)
        room = rng.choice((0, 1, 2, 7, 8, 9, 63, 300, 5000, rng.randrange(1, 400), MAX_OUTPUT))
        (result,) = yield Step([Job(
            data[position >> 3:end], room, Opcode.INFLATE, made.format,
            (flags if end == len(data) else flags & ~Flag.LAST) | resume, position & 7,
            data[model_position >> 3:end], model_position & 7, (model_position >> 3) - (position >> 3))])
        completion, expected = result.completion, result.expected
        output += result.output
        position = 8 * (position >> 3) + 8 * completion.consumed + completion.consumed_bit
        model_position = 8 * (model_position >> 3) + 8 * expected.consumed + expected.consumed_bit
        if completion.status not in RESUMABLE or len(output) > MAX_OUTPUT:
            return output, completion
        resume = Flag.RESUME
        if completion.status == Status.NEED_DICTIONARY:
            if made.dictionary is None or zlib.adler32(made.dictionary) != completion.dictionary:
                return output, completion
            yield Step([Job(made.dictionary, 0, Opcode.LOAD, flags=0)])
    return output, None


def decoder(bench):
    """The gateware as a decoder of batches."""
    return lambda chosen: bench.run([whole(made) for made in chosen])


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.soak)])
def test_gateware_has_zlibs_verdict(library, seed, tmp_path, count):
    start = 0 if count < 1000 else 300
    bench = Bench(library, seed=seed)
    report = compare_batches(decoder(bench), seed, count, start=start, batch=100, directory=tmp_path)
    report.check()
    assert report.count == count and 0.4 * count < report.accepted < 0.7 * count


def no_exceptions(outcomes):
    wrong = [str(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
    assert not wrong, "\n".join(wrong)
    return outcomes


def one(data, **options):
    """Script: one job; its result."""
    (result,) = yield Step([Job(data, **options)], final=True)
    return result


@pytest.mark.parametrize("strict", [False, True])
def test_negatives(library, seed, strict):
    bench = Bench(library, seed=seed)
    flags = Flag.LAST | (Flag.STRICT_LENGTHS if strict else 0)
    cases = [negative for negative in streams.NEGATIVES for _ in range(2)]
    results = no_exceptions(bench.run([one(negative.data, flags=flags) for negative in cases]))
    for negative, result in zip(cases, results, strict=True):
        want = negative.strict if strict else negative.error
        got = result.completion
        status = Status.SUCCESS if want is None else Status.ANALYTICS_ERROR
        assert (got.status, got.error) == (status, want or ErrorCode.NONE), negative.name


def test_corners(library, seed):
    bench = Bench(library, seed=seed)
    results = no_exceptions(bench.run([one(corner.data, format=corner.format) for corner in streams.CORNERS]))
    for corner, result in zip(streams.CORNERS, results, strict=True):
        got = result.completion
        assert got.error == corner.error and result.output == corner.output, corner.name
        if corner.error == ErrorCode.NONE:
            assert (got.status, got.consumed) == (Status.SUCCESS, corner.consumed), corner.name


def every_code(rng, count):
    """A block that has all symbols, with codes of up to 15 bits in any order, each as often as the others."""
    lengths = []
    for size in (286, 30):
        frequencies = [*range(16), *(rng.randrange(16) for _ in range(size - 16))]
        code = limited_lengths([1 << frequency for frequency in frequencies])
        assert max(code) == 15
        rng.shuffle(code)
        lengths.append(code)
    tokens, size = list(rng.randbytes(300)), 300
    for _ in range(count):
        symbol = rng.choice([k for k in range(286) if k != END.value])
        if symbol < END.value:
            tokens.append(symbol)
            size += 1
            continue
        extra = rng.getrandbits(LENGTH_EXTRA[symbol - 257])
        extra -= symbol == 284 and extra == 31  # zlib writes 258 as symbol 285
        distances = [k for k in range(30) if DISTANCE_BASE[k] + (1 << DISTANCE_EXTRA[k]) <= size]
        distance = rng.choice(distances)
        tokens.append(Match(symbol, extra, distance, rng.getrandbits(DISTANCE_EXTRA[distance])))
        size += LENGTH_BASE[symbol - 257] + extra
    return Assembler().dynamic(tokens, True, literals=lengths[0], distances=lengths[1]).data()


def test_every_code(library, seed):
    """The first code of each length is what is compared with limits: each is met at many places of a word."""
    rng = random.Random(seed)
    cases = [every_code(rng, 1500) for _ in range(12)]
    results = no_exceptions(Bench(library, seed=seed).run([one(data) for data in cases]))
    for data, result in zip(cases, results, strict=True):
        assert result.completion.status == Status.SUCCESS
        assert result.output == zlib.decompress(data, -15)


def test_first_code_that_is_not_there(library, seed):
    """A lone code of one bit leaves half of all codes without a meaning: the first of these, of distances anywhere."""
    literals = [0] * 286
    literals[65], literals[257], literals[END.value] = 1, 2, 2
    missing = [Bits(1, 15), Bits(0, 64)]
    blocks = [([*[65] * ones, Symbol(257), *missing], literals) for ones in range(40)]
    cases = [Assembler().dynamic(tokens, True, literals=lengths, distances=[1], end=False).data()
             for tokens, lengths in [*blocks, (missing, [0] * END.value + [1])]]
    results = no_exceptions(Bench(library, seed=seed).run([one(data) for data in cases]))
    for data, result in zip(cases, results, strict=True):
        is_distance = data is not cases[-1]
        with pytest.raises(zlib.error, match="invalid distance code" if is_distance else "invalid literal/length code"):
            zlib.decompress(data, -15)
        assert result.completion.error == (ErrorCode.BAD_DISTANCE_CODE if is_distance else ErrorCode.BAD_LITERAL_CODE)


MEMORIES = {
    "fast": {"latency": 1, "write_latency": 0},
    "far": {"latency": 200, "write_latency": 90, "jitter": 100, "outstanding": 4},
    "mixed": {"latency": 20, "jitter": 60, "reorder": True, "interleave": True},
    "halting": {"latency": 5, "jitter": 5, "reorder": True, "interleave": True, "stall": 0.4},
    "narrow": {"latency": 10, "bytes_per_cycle": 1.5, "outstanding": 1, "stall": 0.1},
}


def all_pieces(library, seed, memory, count, start=0, **options):
    """Cases in pieces, against zlib."""
    bench = Bench(library, seed=seed, memory=MEMORIES[memory], **options)
    cases = [case(seed, start + index) for index in range(count)]
    rng = random.Random(f"pieces {seed} {memory} {start}")
    outcomes = no_exceptions(bench.run([pieces(made, random.Random(rng.random())) for made in cases]))
    for made, (output, completion) in zip(cases, outcomes, strict=True):
        if completion is None:
            continue  # too many small pieces: the jobs that were done agree with the model
        expected = verdict_zlib(made)
        where = f"seed {seed} case {made.index} memory {memory}: {describe_stop(completion)}"
        assert (completion.status == Status.SUCCESS) == expected.accepted, where
        assert expected.output is None or output == expected.output, where


@pytest.mark.parametrize("memory", MEMORIES)
def test_pieces(library, seed, memory):
    all_pieces(library, seed, memory, 40)


@pytest.mark.soak
@pytest.mark.parametrize("memory", MEMORIES)
def test_many_pieces(library, seed, memory):
    all_pieces(library, seed, memory, 1000, start=100)


# Canned codes


def canned(made, rng):
    """Script: keep the codes of a case's final block, then decode the rest; its result if no block is before it."""
    (tables,) = yield Step([Job(made.data, MAX_OUTPUT, Opcode.TABLES)])
    if tables.completion.status != Status.SUCCESS:
        yield Step([Job(made.data[:rng.randrange(40)], flags=Flag.LAST | Flag.CANNED)])
        return None
    body, start_bit = made.data[tables.completion.consumed:], tables.completion.consumed_bit
    whole = Job(body, MAX_OUTPUT, flags=Flag.LAST | Flag.CANNED, start_bit=start_bit)
    half = rng.randrange(len(body) + 1)
    first, second, _ = yield Step([whole, whole, replace(whole, source=body[:half], flags=Flag.CANNED)])
    assert first.output == second.output
    return None if tables.output else (first.output, first.completion)


def test_canned(library, seed):
    """Against zlib, which gets header and body in one piece."""
    bench = Bench(library, seed=seed, memory=MEMORIES["mixed"])
    rng = random.Random(seed)
    cases = [made for made in (case(seed, index) for index in range(600)) if made.format == 0 and not made.dictionary]
    outcomes = no_exceptions(bench.run([canned(made, random.Random(rng.random())) for made in cases]))
    checked = 0
    for made, outcome in zip(cases, outcomes, strict=True):
        expected = verdict_zlib(made)
        if outcome is not None:
            output, completion = outcome
            assert (completion.status == Status.SUCCESS) == expected.accepted, f"seed {seed} case {made.index}"
            assert expected.output is None or output == expected.output, f"seed {seed} case {made.index}"
            checked += 1
    assert checked > 30


# Bus errors


def test_read_errors(library, seed):
    """A source that cannot be read ends in READ_ERROR, or as without the error if the bad part is not needed."""
    rng = random.Random(seed)
    bench = Bench(library, seed=seed, check=False)
    seen = set()
    for _ in range(30):
        data = rng.randbytes(rng.randrange(1, 3000))
        stream = zlib.compress(data, rng.choice((0, 6)))[2:-4] + bytes(rng.choice((0, 500)))
        at = rng.randrange(len(stream))
        offset, slot = rng.randrange(64), bench.free[0]
        source = BASE + (slot + 1 << 20) + (1 << 12) + offset
        bench.port.inject(source + at, source + at + 1, write=False, response=rng.choice(("SLVERR", "DECERR")))
        (result,) = no_exceptions(bench.run([one(stream, source_offset=offset)]))
        bench.port.clear_faults()
        got = result.completion
        seen.add(Status(got.status))
        if got.status == Status.SUCCESS:
            assert at >= got.consumed and result.output == data
        else:
            assert got.status == Status.READ_ERROR and data.startswith(result.output)
        # The context works on, and has nothing to resume.
        (after,) = no_exceptions(bench.run([one(stream, flags=Flag.LAST | Flag.RESUME)]))
        assert after.completion.status == Status.SUCCESS and after.output == data
    assert seen == {Status.READ_ERROR, Status.SUCCESS}


def test_write_errors(library, seed):
    """An output of which a part cannot be written ends in WRITE_ERROR; one that does not reach it is right."""
    rng = random.Random(seed)
    bench = Bench(library, seed=seed, check=False)
    seen = set()
    for _ in range(30):
        data = rng.randbytes(rng.randrange(1, 3000))
        stream = zlib.compress(data, rng.choice((0, 6)))[2:-4]
        at = rng.randrange(len(data) + 200)
        offset, slot = rng.randrange(64), bench.free[0]
        destination = BASE + (slot + 1 << 20) + (1 << 19) + offset
        bench.port.inject(destination + at, destination + at + 1, read=False)
        (result,) = no_exceptions(bench.run([one(stream, destination_offset=offset)]))
        if result.completion.status == Status.WRITE_ERROR:
            # A job without output behind it has an error of its own, not that one.
            (next_one,) = no_exceptions(bench.run([one(b"\x06")]))
            assert next_one.completion.error == ErrorCode.BAD_BLOCK_TYPE
        bench.port.clear_faults()
        seen.add(Status(result.completion.status))
        if result.completion.status == Status.SUCCESS:
            # An error beside the output may be in the same burst's range, never in its bytes.
            assert at >= len(data) and result.output == data
        else:
            assert result.completion.status == Status.WRITE_ERROR and at < len(data) + 8
        (after,) = no_exceptions(bench.run([one(stream, flags=Flag.LAST | Flag.RESUME)]))
        assert after.completion.status == Status.SUCCESS and after.output == data
    assert seen == {Status.WRITE_ERROR, Status.SUCCESS}


def test_fault_on_ring_and_record(library, seed):
    """What has no completion record to tell of it raises FAULT, with the address, and the device goes on."""
    bench = Bench(library, seed=seed)
    stream = zlib.compress(b"fault")[2:-4]
    for place in (BASE, None):
        address = bench.record_address(bench.free[0]) if place is None else BASE + 64 * (bench.tail % 64)
        bench.port.inject(address, address + 8)
        (outcome,) = bench.run([one(stream)])
        assert isinstance(outcome, Exception) and f"FAULT at {address:#x}" in str(outcome)
    # The same without a fresh simulation behind it: the next job is done.
    address = bench.record_address(bench.free[0])
    bench.port.inject(address, address + 64, count=1)
    script = one(stream)
    bench.submit(next(script).jobs[0], 0, None)
    bench.write("RING_TAIL", bench.tail)
    bench.simulation.run(3000)
    assert bench.read("IRQ_STATUS") & 2 and bench.read("COMPLETED") == 0
    bench.write("IRQ_STATUS", 3)
    bench.flying.clear()
    (result,) = no_exceptions(bench.run([one(stream)]))
    assert result.output == b"fault" and bench.read("COMPLETED") == 1


# Restart


def restarts(library, seed, rounds):
    rng = random.Random(f"restart {seed}")
    bench = Bench(library, seed=seed, memory=MEMORIES["mixed"])
    for turn in range(rounds):
        cases = [case(seed, 1000 + 16 * turn + index) for index in range(8)]
        for context, made in enumerate(cases[:4]):
            flags = Flag.LAST | (Flag.MULTI if made.multi else 0)
            bench.submit(Job(made.data, format=made.format, flags=flags), context % 2, None)
        bench.write("RING_TAIL", bench.tail)
        bench.simulation.run(rng.randrange(3000))
        bench.restart()
        for name in ("RING_HEAD", "RING_TAIL", "COMPLETED", "BYTES_OUT", "IRQ_STATUS"):
            assert bench.read(name) == 0, (seed, turn, name)
        kept = bench.array.copy()
        bench.simulation.run(1000)
        assert np.array_equal(kept, bench.array), f"seed {seed} turn {turn}: writes after the restart was done"
        bench.setup()
        for made, got in zip(cases, bench.run([whole(made) for made in cases]), strict=True):
            assert not isinstance(got, Exception), f"seed {seed} turn {turn}: {got}"
            expected = verdict_zlib(made)
            assert (got.accepted, got.consumed) == (expected.accepted, expected.consumed), f"seed {seed} {made.index}"


def test_restart_in_mid_job(library, seed):
    restarts(library, seed, 12)


@pytest.mark.soak
def test_many_restarts(library, seed):
    restarts(library, seed + 1, 300)


# The bench itself


def test_bench_tells_a_mismatch(library, seed):
    """What the other tests rely on: a wrong record, a wrong byte and a write beside the output are seen."""
    bench = Bench(library, seed=seed)
    data = Assembler().fixed([*b"abcabc"], True).data()

    flying = bench.submit(Job(data), 0, type("Nobody", (), {"index": 7}))
    bench.write("RING_TAIL", bench.tail)
    bench.simulation.run(2000)
    bench.array[flying.destination - BASE + 6] = 0
    with pytest.raises(Exception, match=r"script 7, .*wrote outside its output of 6 bytes .*at offsets \[6\] to 6"):
        bench.collect()
    good = bench.submit(Job(data), 0, type("Nobody", (), {"index": 8}))
    bench.write("RING_TAIL", bench.tail)
    bench.simulation.run(2000)
    assert bench.collect() == [good] and bench.mismatch(good) == ""
    right = good.output
    good.output = right[:3] + b"x" + right[4:]
    assert bench.mismatch(good) == "output byte 3 of 6: expected 0x61, got 0x78"
    good.completion = replace(good.completion, crc32=good.completion.crc32 ^ 1)
    assert bench.mismatch(good).startswith("crc32: expected")
