# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The bridge's parts by themselves: what they promise of bounds, cycles and cancels."""

import random
import zlib

import pytest
from amaranth.hdl import Module, Signal

from rackgate.bridge.abi import MESSAGE_WORDS, Kind, Message, StatusWord, pack_message, unpack_words
from rackgate.bridge.range import MemoryRange
from rackgate.bridge.readout import Readout
from rackgate.bridge.responses import ResponseStore
from rackgate.bridge.sender import Sender
from rackgate.bridge.session import Session
from rackgate.bridge.store import MessageStore
from rackgate.bridge.words import StatusUnit
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch


def watched(dut, name="o"):
    m = Module()
    m.submodules.dut = dut
    watch(m, getattr(dut, name), name=name)
    return m


def message(words, rng):
    """So many words, the CRC is right."""
    raw = rng.randbytes(4 * words - 4)
    return raw + zlib.crc32(raw).to_bytes(4, "little")


def items(raw, **last):
    words = unpack_words(raw)
    return [{"data": word, "count": 4, "last": place == len(words) - 1, **(last if place == len(words) - 1 else {})}
            for place, word in enumerate(words)]


@pytest.mark.thorough
@pytest.mark.parametrize("words", [1, 3, 4, 5, MESSAGE_WORDS, MESSAGE_WORDS + 1, MESSAGE_WORDS + 2, 512, 513, 600])
def test_store_lengths(words, seed):
    """Of messages with a right CRC those of legal lengths are held; the one behind is as ever."""
    dut, rng, is_legal = MessageStore(), random.Random(seed), 4 <= words <= MESSAGE_WORDS
    raw, damaged = message(words, rng), []

    async def count(ctx):
        async for _, _, here in ctx.tick().sample(dut.damaged):
            damaged.append(here)

    async def bench(ctx):
        for one, expected in ((raw, is_legal), (message(7, rng), True)):
            await send(ctx, dut.i, items(one))
            await ctx.tick()
            assert ctx.get(dut.is_held) == expected
            if expected:
                assert ctx.get(dut.words) == len(one) // 4 - 1
                assert tuple(await receive(ctx, dut.o, len(one) // 4 - 1)) == unpack_words(one[:-4])
                ctx.set(dut.release, 1)
                await ctx.tick()
                ctx.set(dut.release, 0)
                assert not ctx.get(dut.is_held)
        assert sum(damaged) == (not is_legal)

    simulate(watched(dut), bench, models=[count])


@pytest.mark.parametrize("last", [{"error": 1}, {"count": 3}, {"data": 0}])
def test_store_drops(last, seed):
    dut, rng = MessageStore(), random.Random(seed)

    async def bench(ctx):
        await send(ctx, dut.i, items(message(6, rng), **last))
        await ctx.tick().repeat(4)
        assert not ctx.get(dut.is_held) and ctx.get(dut.i.ready)
        await send(ctx, dut.i, items(message(6, rng)))
        await ctx.tick()
        assert ctx.get(dut.is_held)

    simulate(watched(dut), bench)


def test_store_forgets_what_was_not_read(seed):
    """A message that is released with words on their way does not leave any to the next."""
    dut, rng = MessageStore(), random.Random(seed)

    async def bench(ctx):
        for taken in range(7):
            one = message(8, rng)
            await send(ctx, dut.i, items(one))
            await ctx.tick()
            assert tuple(await receive(ctx, dut.o, taken, rng=rng, stall=0.5)) == unpack_words(one)[:taken]
            ctx.set(dut.release, 1)
            await ctx.tick()
            ctx.set(dut.release, 0)
            assert not ctx.get(dut.o.valid)

    simulate(dut, bench)


def readout():
    """A readout of a RAM that holds each word's number."""
    dut = Readout(64)

    async def ram(ctx):
        data = 0
        while True:
            ctx.set(dut.ram_data, data)
            _, _, enable, address = await ctx.tick().sample(dut.ram_en, dut.ram_addr)
            data = address if enable else data
    return dut, ram


@pytest.mark.parametrize("stall", [0, 0.5])
def test_readout(stall, seed):
    dut, ram = readout()
    rng = random.Random(seed)
    ranges = [(0, 64), (5, 0), (63, 1), *((first, rng.randrange(65 - first)) for first in range(0, 64, 5))]

    async def give(ctx):
        await send(ctx, dut.i, [{"first": first, "count": count} for first, count in ranges])

    async def take(ctx):
        for first, count in ranges:
            assert await receive(ctx, dut.o, count, rng=rng, stall=stall) == list(range(first, first + count))
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.o.valid)

    simulate(watched(dut), give, take, models=[ram])


def test_readout_gives_a_word_a_cycle():
    dut, ram = readout()

    async def bench(ctx):
        await send(ctx, dut.i, [{"first": 0, "count": 20}])
        ctx.set(dut.o.ready, 1)
        valid = [(await ctx.tick().sample(dut.o.valid))[2] for _ in range(24)]
        assert valid == [0, 0] + [1] * 20 + [0, 0]

    simulate(dut, bench, models=[ram])


@pytest.mark.thorough
@pytest.mark.parametrize("words", [0, 1, 9, 364])
@pytest.mark.parametrize("stall", [0, 0.4])
def test_sender(words, stall, seed):
    dut, rng = Sender(), random.Random(seed)
    sent = [Message(Kind.RESPONSE, rng.getrandbits(32), rng.getrandbits(32), rng.randbytes(4 * words))
            for _ in range(2)]

    async def give(ctx):
        await send(ctx, dut.i, [{"kind": one.kind, "session": one.session, "sequence": one.sequence, "words": words}
                                for one in sent])

    async def bodies(ctx):
        for one in sent:
            await send(ctx, dut.body, unpack_words(one.body), rng=rng, idle=stall)

    async def take(ctx):
        found = await receive(ctx, dut.o, 2 * (words + 4), rng=random.Random(seed), stall=stall)
        assert b"".join(word.data.to_bytes(4, "little") for word in found) == b"".join(map(pack_message, sent))
        assert [word.last for word in found] == ([0] * (words + 3) + [1]) * 2
        assert {word.count for word in found} == {4}

    simulate(watched(dut), give, bodies, take)


def test_cycles_belong_together():
    """The upper half is that of the lower half that was read, even if it has changed since."""
    dut, begin = StatusUnit(), (7 << 32) - 12
    dut._cycles = Signal(64, init=begin)

    async def bench(ctx):
        halves = []
        for first in (StatusWord.CYCLES_LO, StatusWord.CYCLES_HI) * 2:
            await send(ctx, dut.i.command, [{"address": 4 * first, "count": 1}])
            halves += await receive(ctx, dut.i.r, 1)
            await receive(ctx, dut.i.done, 1)
            await ctx.tick().repeat(8)
        assert begin < halves[0] | halves[1] << 32 < 7 << 32 < halves[2] | halves[3] << 32 < begin + 80

    simulate(dut, bench)


@pytest.mark.parametrize("make,rule", [
    (lambda: Readout(1), "depth must be at least 2, not 1"),
    (lambda: Readout(8, width=0), "width must be at least 1, not 0"),
    (lambda: ResponseStore(3), "slots must be a power of two, not 3"),
    (lambda: ResponseStore(0), "slots must be a power of two, not 0"),
    (lambda: Session(16), "window must be 1, 2, 4 or 8, not 16"),
    (lambda: MemoryRange.of(0, -8, addr_width=32), "size must be a multiple of 8, not -0x8"),
])
def test_bad_parameters(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()
