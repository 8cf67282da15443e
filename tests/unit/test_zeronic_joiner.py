# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Merger and Joiner: headers and pieces of payload become packed frames."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from zeronic_send import WIDTHS, collect, feed, packed, unpacked, watched

from rackgate.verif.stimulus import simulate
from rackgate.zeronic.tx.joiner import Joiner
from rackgate.zeronic.tx.merger import Merger


def frame_of(rng, width):
    """Pieces of a frame: most have the sizes that matter; its tag, and whether it is bad."""
    sizes = [rng.choice([1, width - 1, width, width + 1, 3 * width, rng.randrange(1, 5 * width)])
             for _ in range(rng.choice([1, 2, 2, 5]))]
    tag = {"offload": rng.randrange(2), "last": rng.randrange(2), "flow": rng.randrange(1024)}
    return [rng.randbytes(size) for size in sizes], tag, rng.random() < 0.2


def gapped(rng, pieces, width, tag, is_bad):
    """The words of a frame's pieces; now and then an empty one, at the end too."""
    words = []
    for piece in pieces:
        words += packed(piece, width, tag=tag)
        if rng.random() < 0.2:
            words.append({"data": rng.getrandbits(8 * width), "count": 0, "tag": tag})
    for word in words:
        word["last"] = False
    words[-1] |= {"last": True, "error": is_bad, "bad_region": is_bad and rng.random() < 0.5}
    return words


def frames_in(words):
    """Words by frame."""
    frames = [[]]
    for word in words:
        frames[-1].append(word)
        if word.last:
            frames.append([])
    assert frames.pop() == []
    return frames


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.4, 0.1), (0.1, 0.5)])
def test_joiner(width, idle, stall, seed):
    print(f"seed {seed}")
    rng, dut, words = random.Random(seed + width), Joiner(width), []
    frames = [frame_of(rng, width) for _ in range(60)]
    given = [gapped(rng, *frame[:1], width, *frame[1:]) for frame in frames]

    async def finish(ctx):
        while sum(word.last for word in words) < len(frames):
            await ctx.tick()

    simulate(watched(dut, dut.o), feed(dut.i, [word for frame in given for word in frame], seed, idle), finish,
             models=[collect(dut.o, words, seed + 1, stall)])
    for came, (pieces, tag, is_bad), sent in zip(frames_in(words), frames, given, strict=True):
        assert unpacked(came, width) == b"".join(pieces)
        assert all(word.count == width and not word.error and not word.bad_region for word in came[:-1])
        assert 0 < came[-1].count <= width
        assert (came[-1].error, came[-1].bad_region) == (is_bad, sent[-1]["bad_region"])
        assert all((word.tag.offload, word.tag.last, word.tag.flow) == tuple(tag.values()) for word in came)


@pytest.mark.parametrize("width", WIDTHS)
def test_cycles(width, seed):
    """A header and one piece: at most a cycle more than the frame has words, none if the words in are no more."""
    rng, dut, cycles = random.Random(seed), Joiner(width), []
    pieces = [[rng.randbytes(rng.choice([54, 66, 64, 32])), rng.randbytes(rng.randrange(1, 200))] for _ in range(30)]
    words = [[word | {"last": 0} for piece in frame for word in packed(piece, width)] for frame in pieces]
    for frame in words:
        frame[-1]["last"] = 1

    async def sink(ctx):
        ctx.set(dut.o.ready, 1)
        cycle = 0
        while len(cycles) < len(pieces):
            _, _, valid, last = await ctx.tick().sample(dut.o.valid, dut.o.payload.last)
            cycle += 1
            if valid and last:
                cycles.append(cycle)

    simulate(dut, feed(dut.i, [word for frame in words for word in frame], seed), sink)
    for before, after, frame, sent in zip(cycles, cycles[1:], pieces[1:], words[1:], strict=False):
        size = -(-len(b"".join(frame)) // width)
        assert after - before == max(len(sent), size) <= size + 1


def test_a_frame_without_a_byte_is_caught():
    dut = Joiner(8)
    with pytest.raises(AssertionError, match="a frame without a byte"):
        simulate(dut, feed(dut.i, [{"count": 0, "last": 1}, {"count": 1}], 1))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.3, 0.5)])
def test_merger(width, idle, stall, seed):
    print(f"seed {seed}")
    rng, words = random.Random(seed + width), []
    m = Module()
    m.submodules.merger = dut = Merger(width)
    m.submodules.joiner = joiner = Joiner(width)
    wiring.connect(m, dut.o, joiner.i)
    headers, payloads, want = [], {"gathered": [], "inline": []}, []
    for _ in range(40):
        header, payload = rng.randbytes(rng.randrange(14, 95)), rng.randbytes(rng.choice([0, 1, rng.randrange(90)]))
        tag = {"offload": rng.randrange(2), "last": rng.randrange(2), "flow": rng.randrange(1024)}
        gather, is_bad = rng.randrange(2), payload and rng.random() < 0.2
        headers += packed(header, width, has_payload=bool(payload), gather=gather, tag=tag)
        if payload:
            payloads["gathered" if gather else "inline"] += packed(payload, width)
        if gather and is_bad:
            payloads["gathered"][-1] |= {"error": 1, "bad_region": 1}
        want.append((header + payload, int(bool(gather and is_bad)), tuple(tag.values())))

    async def finish(ctx):
        while sum(word.last for word in words) < len(want):
            await ctx.tick()

    simulate(m, feed(dut.header, headers, seed, idle), feed(dut.gathered, payloads["gathered"], seed + 1, idle),
             feed(dut.inline, payloads["inline"], seed + 2, idle), finish,
             models=[collect(joiner.o, words, seed + 3, stall)])
    assert [(unpacked(frame, width), frame[-1].error,
             (frame[-1].tag.offload, frame[-1].tag.last, frame[-1].tag.flow)) for frame in frames_in(words)] == want


@pytest.mark.parametrize("block", [Joiner, Merger])
def test_widths(block):
    with pytest.raises(ValueError, match="width of a NIC must be one of"):
        block(12)
