# SPDX-License-Identifier: Apache-2.0
"""The writer of completion records against a memory that stalls and fails."""

import random

import pytest
from iaa_stage import Stage

from rackgate.axi.bus import Response
from rackgate.iaa.abi import COMPLETION_SIZE, Completion
from rackgate.iaa.record import CompletionWriter, RawCompletion
from rackgate.verif.stimulus import AXI4Memory, send

BASE, SIZE = 0x10000, 0x2000
STAGE = Stage(CompletionWriter, ["aw", "w"])
STALLS = pytest.mark.parametrize("stall", [0, 0.5])


def any_record(rng):
    """A record with noise in every field that one can have."""
    return Completion.unpack(rng.randbytes(COMPLETION_SIZE))


def raw_job(address, record):
    return {"address": address, "record": RawCompletion.from_bits(int.from_bytes(record.pack(), "little"))}


def write(jobs, *, seed, stall, bad=()):
    """Have the records written. (done, failed) in their order, and the memory model."""
    rng = random.Random(seed)
    memory = AXI4Memory(bytearray(SIZE), base=BASE, rng=random.Random(seed + 1) if stall else None, stall=stall,
                        bad=bad)
    answers = []

    def scene(dut):
        async def give(ctx):
            await send(ctx, dut.i, [raw_job(*job) for job in jobs], rng=rng, idle=stall)
            while ctx.get(dut.busy):
                await ctx.tick()
            for _ in range(20):
                await ctx.tick()
                assert not ctx.get(dut.busy) and ctx.get(dut.i.ready)

        async def listen(ctx):
            while True:
                _, _, done, failed = await ctx.tick().sample(dut.done, dut.failed)
                if done:
                    answers.append(failed)

        return [give], [memory.writer(dut.aw, dut.w, dut.b), listen]

    STAGE.run(scene)
    return answers, memory


@STALLS
def test_records(seed, stall):
    """Each in its 64 bytes and nowhere else, the first word after all others have been answered."""
    rng = random.Random(seed)
    places = rng.sample(range(BASE, BASE + SIZE, COMPLETION_SIZE), 30)
    places[:2] = BASE, BASE + SIZE - COMPLETION_SIZE
    jobs = [(address, any_record(rng)) for address in dict.fromkeys(places)]
    answers, memory = write(jobs, seed=seed, stall=stall)
    assert answers == [0] * len(jobs)
    assert [write[1:] for write in memory.writes] == [
        part for address, _ in jobs for part in ((address + 8, 7), (address, 1))]
    expected = bytearray(SIZE)
    for address, record in jobs:
        expected[address - BASE:address - BASE + COMPLETION_SIZE] = record.pack()
    assert memory.memory == expected


@pytest.mark.parametrize("word", range(8))
@STALLS
def test_error_at_a_word(seed, word, stall):
    """After an error nothing follows, least of all the word with the status. The next record is written as ever."""
    rng = random.Random(seed)
    broken, good = (BASE + 0x40, any_record(rng)), (BASE + 0x80, any_record(rng))
    answers, memory = write([broken, good], seed=seed, stall=stall, bad=[broken[0] + 8 * word + rng.randrange(8)])
    assert answers == [1, 0]
    first = [(broken[0] + 8, 7), (broken[0], 1)][:1 if word else 2]
    assert [write[1:] for write in memory.writes] == [*first, (good[0] + 8, 7), (good[0], 1)]
    assert bytes(memory.memory[0x80:0xC0]) == good[1].pack()
    assert word == 0 or not any(memory.memory[0x40:0x48])


@pytest.mark.parametrize("response", Response)
@pytest.mark.parametrize("part", [0, 1])
def test_every_response(response, part):
    """EXOKAY is no error. The address of the head waits for the answer to the rest."""
    is_error = response in (Response.SLVERR, Response.DECERR)

    def scene(dut):
        async def play(ctx):
            await send(ctx, dut.i, [{"address": BASE}])
            ctx.set(dut.aw.ready, 1)
            ctx.set(dut.w.ready, 1)
            for number in range(2 if part or not is_error else 1):
                await ctx.tick().until(dut.w.valid & dut.w.payload.last)
                for _ in range(9):
                    await ctx.tick()
                    assert not ctx.get(dut.aw.valid) and not ctx.get(dut.w.valid) and not ctx.get(dut.done)
                ctx.set(dut.b.payload.resp, response if number == part else Response.OKAY)
                ctx.set(dut.b.valid, 1)
                assert ctx.get(dut.b.ready)
                fails = is_error and number == part
                assert ctx.get(dut.done) == (fails or number == 1)
                assert ctx.get(dut.failed) == fails
                await ctx.tick()
                ctx.set(dut.b.valid, 0)
                assert not ctx.get(dut.done)
            assert not ctx.get(dut.busy)

        return [play], []

    STAGE.run(scene, limit=200)


def test_one_at_a_time():
    """A second record waits until the first has been answered; its payload does not matter until then."""
    def scene(dut):
        async def play(ctx):
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload.address, BASE)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
            ctx.set(dut.i.payload.address, BASE + 64)
            ctx.set(dut.aw.ready, 1)
            for _ in range(30):
                await ctx.tick()
                assert not ctx.get(dut.i.ready) and ctx.get(dut.busy)
                assert ctx.get(dut.w.valid) and not ctx.get(dut.aw.valid)

        return [play], []

    STAGE.run(scene, limit=200)
