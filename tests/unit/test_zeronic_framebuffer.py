# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The buffer of frames against a list of frames."""

import random
from collections import deque

import pytest
from amaranth.hdl import Module

from rackgate.verif.stimulus import send, simulate
from rackgate.verif.stream_rules import watch
from rackgate.zeronic.rx.framebuffer import FrameBuffer


@pytest.mark.parametrize("width,error", [(4, ValueError), (64, ValueError), ("8", TypeError)])
def test_width(width, error):
    with pytest.raises(error):
        FrameBuffer(width)


def test_words():
    for words in (0, 8, 100, 1 << 17):
        with pytest.raises(ValueError, match=f"words must be a power of two from 16 to 65536, not {words}"):
            FrameBuffer(8, words=words)
    assert FrameBuffer(32).words == 1024
    with pytest.raises(ValueError, match="frames must be at least 2, not 1"):
        FrameBuffer(8, frames=1)


def words_of(content, width):
    parts = [content[at:at + width] for at in range(0, len(content), width)]
    return [{"data": int.from_bytes(part, "little"), "last": part is parts[-1]} for part in parts]


@pytest.mark.parametrize("width,idle,stall,bad", [(8, 0, 0, 0.2), (8, 0.2, 0.5, 0.5), (16, 0, 0.3, 0.9),
                                                  (32, 0.3, 0, 0), (32, 0, 0, 0.3)])
def test_frames(width, idle, stall, bad, seed):
    """Frames of all sizes go round and round: some are dropped, and of the others any part is read at any time."""
    rng, m, words = random.Random(seed), Module(), 32
    m.submodules.dut = dut = FrameBuffer(width, words=words, tag=8)
    watch(m, dut.o, name="o")
    sizes = [rng.choice((1, width, rng.randrange(1, 4 * width), rng.randrange(1, width * (words - 1) + 1)))
             for _ in range(120)]
    frames = [(rng.randbytes(size), rng.random() >= bad) for size in sizes]
    written, kept, wanted, got, full = deque(), deque(), [], [], [0]

    async def writer(ctx):
        for content, keep in frames:
            await send(ctx, dut.write, words_of(content, width), rng=rng, idle=idle)
            written.append((content, keep))

    async def judge(ctx):
        for _ in frames:
            while not written or rng.random() < 0.7:
                full[0] += ctx.get(dut.write.valid) and not ctx.get(dut.write.ready)
                await ctx.tick()
            content, keep = written.popleft()
            word = ctx.get(dut.first)
            ctx.set(dut.judged.payload.keep, keep)
            ctx.set(dut.judged.valid, 1)
            await ctx.tick()
            ctx.set(dut.judged.valid, 0)
            if keep:
                kept.append((word, content))

    async def reader(ctx):
        left = sum(keep for _, keep in frames)
        while left:
            if not kept:
                await ctx.tick()
                continue
            # Reads go between the frames that are there; the oldest goes when it has been read.
            for number, (word, content) in enumerate(list(kept)[:3]):
                for _ in range(rng.randrange(3) if number else rng.randrange(1, 4)):
                    offset = rng.randrange(len(content) + 1)
                    size = rng.choice((0, len(content) - offset, rng.randrange(len(content) - offset + 1)))
                    offset, size = rng.choice(((offset, size), (0, len(content))))
                    tag = len(wanted) % 256
                    wanted.append((tag, content[offset:offset + size]))
                    await send(ctx, dut.read, [{"word": word, "offset": offset, "size": size, "tag": tag}])
            word, content = kept.popleft()
            while len(got) < len(wanted):
                await ctx.tick()
            ctx.set(dut.release.payload, {"word": word, "size": len(content)})
            ctx.set(dut.release.valid, 1)
            await ctx.tick()
            ctx.set(dut.release.valid, 0)
            left -= 1
        while not ctx.get(dut.idle):
            await ctx.tick()
        got.append("end")

    async def taker(ctx):
        part = b""
        while "end" not in got:
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, valid, word = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid and ready:
                assert not word.error and (word.last or word.count == width)
                part += word.data.to_bytes(width, "little")[:word.count]
                if word.last:
                    got.append((word.tag, part))
                    part = b""

    simulate(m, writer, judge, reader, taker)
    assert got[:-1] == wanted
    assert full[0], "it was never full"


@pytest.mark.parametrize("width", [8, 16, 32])
def test_pace(width, seed):
    """A word a cycle in, and out 5 cycles after the command; reads without a gap."""
    rng, dut = random.Random(seed), FrameBuffer(width, words=64, tag=4)
    contents = [rng.randbytes(width * 7 - 3), rng.randbytes(width), rng.randbytes(width * 5)]
    reads = [(0, 0, width * 7 - 3), (1, 0, width), (1, 0, width), (2, 1, width), (2, 0, 1), (2, 0, width * 5),
             (1, 0, 0), (0, width * 3, 2 * width)]
    begins = [0, 7, 8]

    async def bench(ctx):
        await send(ctx, dut.write, [word for content in contents for word in words_of(content, width)])
        ctx.set(dut.judged.payload.keep, 1)
        ctx.set(dut.judged.valid, 1)
        for _ in contents:
            await ctx.tick()
        ctx.set(dut.judged.valid, 0)
        ctx.set(dut.o.ready, 1)
        pending, outs = deque(reads), []
        while len(outs) < 60:
            ctx.set(dut.read.valid, bool(pending))
            if pending:
                frame, offset, size = pending[0]
                ctx.set(dut.read.payload, {"word": begins[frame], "offset": offset, "size": size, "tag": frame})
            _, _, ready, valid = await ctx.tick().sample(dut.read.ready, dut.o.valid)
            outs.append(valid)
            if pending and ready:
                pending.popleft()
        count = sum(max(-(-size // width), 1) for _, _, size in reads)
        first, last = outs.index(1), 59 - outs[::-1].index(1)
        # The one read that does not begin at byte 0 of a word makes the one gap.
        assert (first, last - first + 1, sum(outs)) == (5, count + 1, count)

    simulate(dut, bench)


def breaks(rule, *steps):
    """Do the steps, a function of the block each, and see that the rule is asserted."""
    dut = FrameBuffer(8, words=16)

    async def bench(ctx):
        for step in steps:
            await step(ctx, dut)
        for _ in range(6):
            await ctx.tick()

    with pytest.raises(AssertionError, match=rule):
        simulate(dut, bench)


def test_what_must_not_be_is_asserted():
    def puts(count):
        return lambda ctx, dut: send(ctx, dut.write, [{"data": 1, "last": 0}] * count)

    async def judge(ctx, dut):
        ctx.set(dut.judged.valid, 1)

    async def release(ctx, dut):
        ctx.set(dut.release.valid, 1)

    async def read(ctx, dut):
        await send(ctx, dut.read, [{"word": 3, "offset": 0, "size": 1, "tag": 0}])

    breaks("judged before the frame was whole", puts(2), judge)
    breaks("nothing to release", release)
    breaks("a frame is longer than the memory", puts(16))
    breaks("a word is read that is no kept frame's", puts(5), read)
