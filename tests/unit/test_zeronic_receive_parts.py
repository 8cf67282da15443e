# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Small parts of the receive chain: the buffer of headers, what releases frames, and bad parameters."""

import random

import pytest
from iaa_stage import Stage

from rackgate.verif.stimulus import receive, send
from rackgate.zeronic.rx.decider import Decider
from rackgate.zeronic.rx.delivery import Delivery
from rackgate.zeronic.rx.headerbuffer import HeaderBuffer
from rackgate.zeronic.rx.releaser import Releaser

HEADERS = {width: Stage(lambda width=width: HeaderBuffer(width, slots=4), ("o",)) for width in (8, 16, 32)}


@pytest.mark.parametrize("width", (8, 16, 32))
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.3, 0.4)])
def test_headers_of_kept_frames(width, idle, stall, seed):
    """Of frames that are kept and wanted, the headers behind Ethernet's; with four slots, and many frames dropped."""
    rng = random.Random(seed + width)
    frames = [(rng.randbytes(rng.choice([60, 100, 300])), rng.random() < 0.4, rng.random() < 0.7,
               rng.choice([54, 66, 94, 42])) for _ in range(60)]
    kept = [frame for frame in frames if frame[1]]
    frames += [(bytes(60), False, False, 54)] * 9  # the slots of dropped ones come back with no other behind them
    seen, written = [], []

    def scene(dut):
        async def writer(ctx):
            for raw, _, _, _ in frames:
                words = [{"data": int.from_bytes(raw[at:at + width], "little"), "last": at + width >= len(raw)}
                         for at in range(0, len(raw), width)]
                await send(ctx, dut.write, words, rng=random.Random(seed), idle=idle)
                written.append(1)

        async def judge(ctx):
            for number, (_, keep, _, _) in enumerate(frames):
                while len(written) <= number:
                    await ctx.tick()
                await send(ctx, dut.judged, [{"keep": keep}], rng=rng, idle=idle)

        async def reader(ctx):
            reads = [{"wanted": wanted, "end": min(headers, len(raw)) - 1} for raw, _, wanted, headers in kept]
            await send(ctx, dut.read, reads, rng=random.Random(seed + 1), idle=idle)

        async def sink(ctx):
            draw = random.Random(seed + 2)
            for _ in range(sum(wanted for _, _, wanted, _ in kept)):
                raw, is_last = b"", False
                while not is_last:
                    word, = await receive(ctx, dut.o, 1, rng=draw, stall=stall)
                    raw, is_last = raw + word.data.to_bytes(width, "little")[:word.count], word.last
                seen.append(raw)

        return [writer, judge, reader, sink], []

    HEADERS[width].run(scene, limit=20_000)
    assert seen == [raw[14:headers] for raw, _, wanted, headers in kept if wanted]


def test_frames_are_released_in_order():
    """One that is read holds up those behind it."""
    def scene(dut):
        async def bench(ctx):
            frames = [{"frame": {"word": word, "size": 60}, "is_read": word == 2} for word in range(4)]
            await send(ctx, dut.i, frames)
            for _ in range(20):
                await ctx.tick()
            assert released == [0, 1]
            ctx.set(dut.was_read, 1)
            await ctx.tick()
            ctx.set(dut.was_read, 0)
            for _ in range(5):
                await ctx.tick()
            assert released == [0, 1, 2, 3]

        async def watcher(ctx):
            while True:
                _, _, valid, frame = await ctx.tick().sample(dut.o.valid, dut.o.payload)
                if valid:
                    released.append(frame.word)

        return [bench], [watcher]

    released = []
    Stage(Releaser, ()).run(scene, limit=1000)


@pytest.mark.parametrize("make,message", [
    (lambda: HeaderBuffer(8, slots=3), "slots must be a power of two from 2 on, not 3"),
    (lambda: HeaderBuffer(8, slots=1), "slots must be a power of two from 2 on, not 1"),
    (lambda: Decider(frames=0), "frames must be at least 1, not 0"),
    (lambda: Releaser(frames=0), "frames must be at least 1, not 0"),
    (lambda: Delivery(8, frames=1), "frames must be at least 2, not 1"),
    (lambda: Delivery(64), "width of a NIC must be one of"),
])
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: HeaderBuffer(8, slots="4"), lambda: Decider(frames="4"),
                                  lambda: Releaser(frames=None), lambda: Delivery("8")])
def test_parameters_of_a_wrong_type(make):
    with pytest.raises(TypeError):
        make()
