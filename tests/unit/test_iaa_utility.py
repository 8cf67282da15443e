# SPDX-License-Identifier: Apache-2.0
"""CRC64, FILL, COPY and the reading of an AECS against the models, in a memory that stalls and fails."""

import random
from dataclasses import dataclass

import pytest
from iaa_stage import Stage

from rackgate.iaa.aecs import (
    ACCUMULATOR_OFFSET,
    ACCUMULATOR_SIZE,
    AECS_SIZE,
    FORMAT_OFFSET,
    HISTORY_OFFSET,
    SAVED_FORMAT,
    STATE_OFFSET,
    Aecs,
    SavedState,
)
from rackgate.iaa.utility import Utility, UtilityOperation
from rackgate.verif.stimulus import AXI4Memory
from rackgate_sim.iaa.crc64 import crc64

BASE, SIZE = 0x7000, 0x4000
STAGE = Stage(Utility, ["o", "ar", "aw", "w"])
STALLS = pytest.mark.parametrize("stall", [0, 0.4])
POLYNOMIALS = (0x42F0E1EBA9EA3693, 0x04C11DB700000000, 0x1B, 0x8005 << 48)


@dataclass
class Job:
    """An operation on ``size`` bytes at ``place`` in the memory."""

    operation: UtilityOperation
    place: int
    size: int
    value: int = 0
    invert: int = 0
    big_endian: int = 0
    lane: int = 0

    def raw(self):
        return {"operation": self.operation, "lane": self.lane, "address": BASE + self.place, "size": self.size,
                "value": self.value, "invert": self.invert, "big_endian": self.big_endian}

    def crc(self, memory):
        return crc64(bytes(memory[self.place:self.place + self.size]), self.value, invert=bool(self.invert),
                     big_endian=bool(self.big_endian))


def crc_job(rng, place, size):
    return Job(UtilityOperation.CRC64, place, size, rng.choice(POLYNOMIALS), rng.randrange(2), rng.randrange(2),
               rng.randrange(8))


def fill_job(rng, place, size):
    return Job(UtilityOperation.FILL, place, size, rng.getrandbits(64), lane=rng.randrange(8))


def perform(jobs, content, *, seed, stall=0.0, bad=()):
    """The result of each job, the words read and the bytes written meanwhile, and the memory after all."""
    rng = random.Random(seed)
    memory = AXI4Memory(bytearray(content), base=BASE, rng=random.Random(seed + 1) if stall else None, stall=stall,
                        bad=bad)
    found = []

    def scene(dut):
        async def play(ctx):
            for job in jobs:
                reads, writes = len(memory.reads), len(memory.written)
                while rng.random() < stall:
                    await ctx.tick()
                    assert not ctx.get(dut.busy) and not ctx.get(dut.o.valid)
                ctx.set(dut.i.payload, job.raw())
                ctx.set(dut.i.valid, 1)
                assert ctx.get(dut.i.ready)
                await ctx.tick()
                # What is offered now is not looked at until the result has been taken.
                ctx.set(dut.i.payload.address, rng.getrandbits(48))
                ctx.set(dut.i.payload.size, rng.getrandbits(32))
                taken = False
                while not taken:
                    ctx.set(dut.i.valid, rng.randrange(2))
                    ready = rng.random() >= stall
                    ctx.set(dut.o.ready, ready)
                    assert ctx.get(dut.busy) and ctx.get(dut.lane) == job.lane and not ctx.get(dut.i.ready)
                    ctx.set(dut.i.valid, 0)
                    _, _, valid, result = await ctx.tick().sample(dut.o.valid, dut.o.payload)
                    taken = valid and ready
                ctx.set(dut.o.ready, 0)
                words = [address + 8 * beat for _, address, beats in memory.reads[reads:] for beat in range(beats)]
                found.append((result, words, memory.written[writes:]))
            for _ in range(20):
                await ctx.tick()
                assert not ctx.get(dut.busy) and ctx.get(dut.i.ready) and not ctx.get(dut.o.valid)

        return [play], [memory.reader(dut.ar, dut.r), memory.writer(dut.aw, dut.w, dut.b)]

    STAGE.run(scene)
    return found, memory.memory


def words_of(job):
    """Addresses of the aligned words that hold the job's bytes."""
    first = BASE + job.place
    return list(range(first // 8 * 8, first + job.size, 8))


@STALLS
def test_crc64(seed, stall):
    """Any alignment and size, the words of the source read once each, and no other."""
    rng = random.Random(seed)
    content = rng.randbytes(SIZE)
    jobs = [crc_job(rng, rng.randrange(64), size) for size in (1, 2, 7, 8, 9, 15, 16, 17, 64, 100, 300)]
    jobs += [crc_job(rng, first, last - first) for first, last in ((0, 8), (1, 8), (7, 8), (7, 9), (7, 17), (4, 20))]
    jobs.append(crc_job(rng, 0xFF9, 30))  # over a page's end
    found, after = perform(jobs, content, seed=seed, stall=stall)
    for job, (result, words, written) in zip(jobs, found, strict=True):
        assert (result.failed, result.value) == (0, job.crc(content)), job
        assert words == words_of(job) and not written
    assert after == content


@STALLS
def test_fill(seed, stall):
    """The pattern begins at the first byte; every byte of the destination is written once, and no other."""
    rng = random.Random(seed)
    jobs = [fill_job(rng, rng.randrange(8), size) for size in (1, 2, 7, 8, 9, 15, 16, 17, 100, 300)]
    jobs += [fill_job(rng, 0xFF9, 30), fill_job(rng, 0x2005, 1)]
    place = 0
    for job in jobs[:-2]:  # beside each other
        job.place += place
        place = job.place + job.size + 1
    content = rng.randbytes(SIZE)
    found, after = perform(jobs, content, seed=seed, stall=stall)
    expected = bytearray(content)
    for job, (result, words, written) in zip(jobs, found, strict=True):
        assert not result.failed and not words
        assert written == [BASE + job.place + k for k in range(job.size)]
        expected[job.place:job.place + job.size] = (job.value.to_bytes(8, "little") * (job.size // 8 + 1))[:job.size]
    assert after == expected


def aecs_of(rng, size):
    aecs = Aecs(rng.randbytes(size), rng.getrandbits(32), rng.getrandbits(16))
    raw = bytearray(aecs.pack())
    raw[6:8] = rng.randbytes(2)  # above the checksum: not looked at
    raw[STATE_OFFSET + 2:] = rng.randbytes(AECS_SIZE - STATE_OFFSET - 2)
    return aecs, raw


def copy_job(rng, place, size, to=None):
    return Job(UtilityOperation.COPY, place, size, BASE + (rng.randrange(0x3000, 0x3400) if to is None else to),
               lane=rng.randrange(8))


@STALLS
def test_copy(seed, stall):
    """Any sizes and alignments of both sides."""
    rng = random.Random(seed)
    content = rng.randbytes(SIZE)
    sizes = [1, 2, 7, 8, 9, 15, 64, 700, *(rng.randrange(1, 90) for _ in range(12))]
    jobs = [copy_job(rng, rng.randrange(0x1000), size) for size in sizes]
    found, after = perform(jobs, content, seed=seed, stall=stall)
    expected = bytearray(content)
    for job, (result, words, written) in zip(jobs, found, strict=True):
        to = job.value - BASE
        assert not result.failed
        assert written == [job.value + k for k in range(job.size)] and words == words_of(job)
        expected[to:to + job.size] = expected[job.place:job.place + job.size]
    assert after == expected


@STALLS
@pytest.mark.parametrize("side", ["read", "written"])
def test_copy_with_an_error(seed, stall, side):
    """It is told, the rest is not read or written much further, and the next copy is as ever."""
    rng = random.Random(seed)
    content = rng.randbytes(SIZE)
    jobs = [copy_job(rng, 3, 0x1800, 0x2001), copy_job(rng, 0x1900, 50, 0x3900)]
    bad = [BASE + (100 if side == "read" else 0x2000 + 100)]
    found, after = perform(jobs, content, seed=seed, stall=stall, bad=bad)
    assert [result.failed for result, *_ in found] == [1, 0]
    assert set(found[0][2]) <= set(range(BASE + 0x2001, BASE + 0x2001 + 0x1800)) and len(found[0][2]) < 0x1000
    assert after[0x3900:0x3900 + 50] == content[0x1900:0x1900 + 50]


def saved_aecs(rng, window, **fields):
    """A state, and the AECS that has it."""
    header = rng.randbytes(rng.randrange(1, 280))
    fields = {"state": rng.choice([0, 1, 2, 4, 6]), "history": bytes(rng.choice([0, 1, window - 1, window])),
              "header": header, "first_bit": rng.randrange(8), "header_bits": 8 * len(header), **{
                  name: rng.getrandbits(bits) for name, bits in (
                      ("start_bit", 3), ("crc", 32), ("xor_checksum", 16))}, **fields}
    raw = bytearray(rng.randbytes(HISTORY_OFFSET))
    state = SavedState(**fields)
    for offset, part in state.parts(window)[1:]:
        raw[offset:offset + len(part)] = part
    return state, raw


@pytest.mark.thorough
def test_saved_aecs(seed):
    """What the device has written it reads; what is wrong in it the model finds, too."""
    rng = random.Random(seed)
    jobs, content, states = [], bytearray(), []
    for number in range(24):
        wrong = {"header_bits": rng.choice([0, 2, 9999])} if number % 3 == 2 else {}
        wrong = {"state": rng.choice([3, 8, 5])} if number % 6 == 1 else wrong
        state, raw = saved_aecs(rng, 32768, **wrong)
        if number % 6 == 5:
            raw[FORMAT_OFFSET] = 1
        states.append((state, bytes(raw)))
        jobs.append(Job(UtilityOperation.AECS, len(content), HISTORY_OFFSET))
        content += raw
    found, _ = perform(jobs, content + bytes(64), seed=seed)
    seen = set()
    for (state, raw), (result, words, _) in zip(states, found, strict=True):
        assert len(words) == HISTORY_OFFSET // 8
        try:
            known = SavedState.unpack(raw, 32768) if raw[FORMAT_OFFSET] == SAVED_FORMAT else None
        except ValueError:
            known = None
        assert result.aecs.is_bad == (known is None)
        seen.add(known is None)
        if known is not None:
            saved = result.aecs.saved
            assert (result.aecs.crc, result.aecs.xor_checksum) == (known.crc, known.xor_checksum)
            assert (saved.valid, saved.history, saved.start_bit) == (1, len(state.history), known.start_bit)
            assert saved.is_within == (known.header_bits > 0)
            if known.header_bits:
                assert (saved.first_bit, saved.header_bits) == (known.first_bit, known.header_bits)
    assert seen == {False, True}


def test_a_state_without_its_end_is_bad(seed):
    """Where the history's size is not read."""
    _, raw = saved_aecs(random.Random(seed), 32768, state=1)
    found, _ = perform([Job(UtilityOperation.AECS, 0, AECS_SIZE)], raw + bytes(64), seed=seed)
    assert found[0][0].aecs.is_bad


@STALLS
def test_good_aecs(seed, stall):
    rng = random.Random(seed)
    for size in (0, 256, rng.randrange(1, 256)):
        aecs, raw = aecs_of(rng, size)
        assert Aecs.unpack(bytes(raw)) == aecs
        place = 32 * rng.randrange(20)
        job = Job(UtilityOperation.AECS, place, AECS_SIZE, lane=3)
        (result, words, written), = perform([job], bytes(place) + raw + bytes(64), seed=seed, stall=stall)[0]
        assert not result.failed and not result.aecs.is_bad
        assert (result.aecs.crc, result.aecs.xor_checksum, result.aecs.size) == (aecs.crc, aecs.xor_checksum, size)
        assert words == list(range(BASE + place, BASE + place + AECS_SIZE, 8)) and not written


COUNTS = ACCUMULATOR_OFFSET + ACCUMULATOR_SIZE
#: Byte of an AECS of 20 bytes' accumulator, and what it is not to be.
BAD = [(STATE_OFFSET, 0), (STATE_OFFSET, 4), (STATE_OFFSET + 1, 1), (COUNTS, 56), (COUNTS + 1, 0), (COUNTS + 2, 31),
       (COUNTS + 2, 72), (COUNTS + 3, 8), (COUNTS + 31, 64), (COUNTS + 2, 255)]


def test_bad_aecs(seed):
    """As the model has it."""
    rng = random.Random(seed)
    jobs, content = [], bytearray()
    for at, value in BAD:
        _, raw = aecs_of(rng, 20)
        raw[at] = value
        with pytest.raises(ValueError):
            Aecs.unpack(bytes(raw))
        jobs.append(Job(UtilityOperation.AECS, len(content), AECS_SIZE))
        content += raw
    aecs, raw = aecs_of(rng, 24)
    jobs.append(Job(UtilityOperation.AECS, len(content), AECS_SIZE))
    found, _ = perform(jobs, content + raw, seed=seed)
    assert [result.aecs.is_bad for result, *_ in found] == [1] * len(BAD) + [0]
    assert (found[-1][0].aecs.size, found[-1][0].aecs.crc) == (24, aecs.crc)


@pytest.mark.parametrize("make", [crc_job, fill_job])
@STALLS
def test_error_at_every_word(seed, make, stall):
    """It is told, once, and what comes next is as ever."""
    rng = random.Random(seed)
    content = rng.randbytes(SIZE)
    jobs = []
    for word in range(5):
        jobs += [make(rng, 0x1003 + 64 * word, 36), crc_job(rng, 0x2003 + 64 * word, 20)]
    bad = [BASE + 0x1000 + 72 * word + rng.randrange(3, 7) for word in range(5)]
    found, _ = perform(jobs, content, seed=seed, stall=stall, bad=bad)
    assert [result.failed for result, *_ in found] == [1, 0] * 5
    for job, (result, words, written) in zip(jobs, found, strict=True):
        if job.operation == UtilityOperation.FILL:
            assert set(written) <= set(range(BASE + job.place, BASE + job.place + job.size)) and not words
        else:
            assert set(words) <= set(words_of(job)) and not written
        if not result.failed:
            assert result.value == job.crc(content)


@pytest.mark.parametrize("make", [crc_job, fill_job])
def test_nothing_more_after_an_error(seed, make):
    """Of a long source or destination, what was under way when the error came, and no more."""
    rng = random.Random(seed)
    jobs = [make(rng, 3, 0x2000), make(rng, 0x3001, 50)]
    content = rng.randbytes(SIZE)
    found, after = perform(jobs, content, seed=seed, bad=[BASE + 100])
    (first, words, written), (second, *_) = found
    assert (first.failed, second.failed) == (1, 0)
    assert max(len(words) * 8, len(written)) < 0x800
    if make is crc_job:
        assert second.value == jobs[1].crc(content)
    else:
        assert after[0x3001:0x3001 + 50] == (jobs[1].value.to_bytes(8, "little") * 7)[:50]


def check_aecs_errors(seed, words):
    rng = random.Random(seed)
    _, raw = aecs_of(rng, 100)
    jobs, content, bad = [], bytearray(), []
    for word in words:
        bad.append(BASE + len(content) + 8 * word)
        jobs += [Job(UtilityOperation.AECS, len(content), AECS_SIZE)]
        content += raw
    jobs.append(Job(UtilityOperation.AECS, len(content), AECS_SIZE))
    found, _ = perform(jobs, content + raw, seed=seed, bad=bad)
    assert [result.failed for result, *_ in found] == [1] * len(words) + [0]


LAST = AECS_SIZE // 8 - 1


def test_error_in_an_aecs(seed):
    chosen = random.Random(seed).sample(range(1, LAST), 2)
    check_aecs_errors(seed, [0, COUNTS // 8, STATE_OFFSET // 8, LAST, *chosen])


@pytest.mark.soak
def test_error_at_every_word_of_an_aecs(seed):
    check_aecs_errors(seed, range(LAST + 1))
