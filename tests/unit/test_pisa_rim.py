# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Parser, slots and deparser, back to back, against the model."""

import random

import pytest
from pisa_example import BALANCER
from pisa_rim import Loop, expected, words
from test_pisa_model import datagram

from rackgate.pisa.abi import Rejection
from rackgate.verif.stimulus import send, simulate


def run(pipeline, width, frames, *, seed, idle=0.0, stall=0.0, slots=4, slot_size=2048):
    print(f"seed {seed}")
    want, model = expected(pipeline, frames, slot_size)
    dut, out, counts, rejected = Loop(pipeline, width, slots=slots, slot_size=slot_size), [], {}, [0] * len(Rejection)
    total = sum(len(frame) for frame, _ in frames)

    async def source(ctx):
        items = [word for frame, damaged in frames for word in words(frame, width, is_damaged=damaged)]
        await send(ctx, dut.i, items, rng=random.Random(seed), idle=idle)

    async def sink(ctx):
        rng, frame, quiet = random.Random(seed + 1), b"", 0
        while quiet < 100:
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, valid, word, ended, idle_now, causes, sent = await ctx.tick().sample(
                dut.o.valid, dut.o.payload, dut.received, dut.is_idle, dut.rejected, dut.sent)
            counts["received"] = counts.get("received", 0) + ended
            counts["sent"] = counts.get("sent", 0) + sent
            for cause in Rejection:
                rejected[cause] += causes >> cause & 1
            quiet = quiet + 1 if idle_now and counts["received"] == len(frames) else 0
            if valid and ready:
                assert word.count == width or word.last
                frame += word.data.to_bytes(width, "little")[:word.count]
                if word.last:
                    out.append(frame)
                    frame = b""
        assert not frame

    simulate(dut, source, sink, limit=8 * total + 3000)
    assert out == want
    assert {cause: rejected[cause] for cause in Rejection} == model.rejections
    assert counts["sent"] == len(want)


def mutated(frame, rng):
    match rng.randrange(6):
        case 0:
            return frame
        case 1:
            return frame[:rng.randrange(1, len(frame) + 1)]
        case 2:
            place = rng.randrange(len(frame))
            return frame[:place] + bytes([rng.getrandbits(8)]) + frame[place + 1:]
        case 3:
            return frame + rng.randbytes(rng.randrange(40))
        case 4:
            return rng.randbytes(rng.randrange(1, 90))
        case _:
            place = rng.randrange(min(len(frame), 40))
            return frame[:place] + bytes([frame[place] ^ 1 << rng.randrange(8)]) + frame[place + 1:]


def random_frames(count, rng, most=120):
    frames = []
    for _ in range(count):
        frame = datagram(rng.getrandbits(32), rng.getrandbits(16), rng.randbytes(rng.randrange(most)))
        if rng.random() < 0.2:
            frame = frame[:40] + b"\0\0" + frame[42:]  # no UDP checksum
        frames.append((mutated(frame, rng) if rng.random() < 0.5 else frame, rng.random() < 0.05))
    return frames


@pytest.mark.thorough
@pytest.mark.parametrize("width", [2, 8, 32])
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.3, 0.4)])
def test_random_frames(width, idle, stall, seed):
    rng = random.Random(f"{seed} {width} {idle}")
    run(BALANCER, width, random_frames(20, rng), seed=seed, idle=idle, stall=stall)
