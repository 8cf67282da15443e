# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""zeronic.rx.placement: moves are in memory, byte for byte, when their frame is said to be placed."""

import random

import pytest
from iaa_stage import Stage

from rackgate.verif.stimulus import AXI4Memory, receive, send
from rackgate.zeronic.rx.placement import Placement

BASE, SIZE = 0x12_0000_0000, 0x10000
WIDTHS = (8, 16, 32)
STAGES = {width: Stage(lambda width=width: Placement(width), ("read", "placed", "aw", "w")) for width in WIDTHS}


def packets(raw, width):
    """The packed words of some bytes."""
    return [{"data": int.from_bytes(raw[at:at + width], "little"), "count": len(raw[at:at + width]),
             "last": at + width >= len(raw)} for at in range(0, len(raw), width)]


def some_frames(rng, count, most):
    """Frames of moves (word, offset, size, address) to places that do not overlap."""
    frames, place = [], BASE
    for _ in range(count):
        moves = []
        for _ in range(rng.choice([1, 1, 2, 5])):
            size = rng.choice([1, 7, 8, 33, rng.randrange(1, most)])
            border = rng.choice([1, 64, 64, 4096])
            place = -(-place // border) * border + rng.randrange(40)
            if place + size > BASE + SIZE:
                break
            moves.append((rng.getrandbits(16), rng.randrange(9310), size, place))
            place += size
        frames += [moves] if moves else []
    return frames


def run(width, frames, *, seed, idle=0.0, stall=0.0, latency=0, bad=()):
    """Place random bytes; check reads, memory, and that nothing is said to be placed too early. Returns the errors."""
    rng, memory = random.Random(seed), bytearray(SIZE)
    model = AXI4Memory(memory, base=BASE, rng=random.Random(seed + 1), stall=stall, bad=bad, width=width,
                       latency=latency)
    moves = [(*move, index == len(frame) - 1) for frame in frames for index, move in enumerate(frame)]
    contents = [rng.randbytes(size) for _, _, size, _, _ in moves]
    expected, errors = bytearray(SIZE), []
    for (_, _, size, address, _), raw in zip(moves, contents, strict=True):
        expected[address - BASE:address - BASE + size] = raw

    def scene(dut):
        async def source(ctx):
            await send(ctx, dut.i, [dict(zip(("word", "offset", "size", "address", "last"), move, strict=True))
                                    for move in moves], rng=random.Random(seed + 2), idle=idle)

        async def frame_buffer(ctx):
            for move, raw in zip(moves, contents, strict=True):
                read, = await receive(ctx, dut.read, 1, rng=rng, stall=stall)
                assert (read.word, read.offset, read.size) == move[:3]
                await send(ctx, dut.words, packets(raw, width), rng=rng, idle=idle)

        async def sink(ctx):
            done = 0
            for frame in frames:
                placed, = await receive(ctx, dut.placed, 1, rng=random.Random(seed + 3), stall=stall)
                done += sum(size for _, _, size, _ in frame)
                assert bad or len(model.written) >= done, "placed before it is in memory"
                errors.append(placed.error)
            ctx.set(dut.placed.ready, 1)
            for _ in range(30):
                _, _, valid = await ctx.tick().sample(dut.placed.valid)
                assert not valid, "a frame too many"

        return [source, frame_buffer, sink], [model.writer(dut.aw, dut.w, dut.b)]

    STAGES[width].run(scene)
    if not bad:
        assert memory == expected
        assert len(model.written) == sum(map(len, contents))
    return errors


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle,stall,latency", [(0, 0, 0), (0.3, 0.3, 20), (0, 0.6, 50)])
def test_random(width, idle, stall, latency, seed):
    frames = some_frames(random.Random(seed + width), 25, 400)
    assert not any(run(width, frames, seed=seed, idle=idle, stall=stall, latency=latency))


@pytest.mark.parametrize("width", WIDTHS)
def test_an_error_marks_its_frame(width, seed):
    frames = [[(0, 54, 100, BASE)], [(0, 54, 64, BASE + 0x1000), (0, 99, 50, BASE + 0x2000), (0, 1, 9, BASE + 0x3000)],
              [(0, 54, 64, BASE + 0x4000), (0, 54, 64, BASE + 0x5000)], [(0, 54, 1, BASE + 0x6000)]]
    before = [[(0, 54, 8, BASE + 0x7000 + 64 * number)] for number in range(20)]  # queues have held the ends of frames
    errors = run(width, before + frames, seed=seed, bad=[BASE + 0x2020, BASE + 0x5000])
    assert errors == [0] * len(before) + [0, 1, 1, 0]


def test_bad_width():
    with pytest.raises(ValueError, match="width"):
        Placement(2)
    with pytest.raises(TypeError):
        Placement("8")
