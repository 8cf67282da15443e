# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Assembler with Sums: frames leave whole, with right checksums, those of a command up to its first bad one."""

import random

import pytest
from zeronic_send import WIDTHS, collect, expected, feed, packed, random_header, unpacked, watched

from rackgate.verif.stimulus import simulate
from rackgate.zeronic.messages import Send, SendFlag
from rackgate.zeronic.tx.assembler import Assembler
from rackgate.zeronic.tx.sums import Sums


def commands_of(rng, count, most=300):
    """For each command the frames that its blocks before make, as (frame without sums, with them, tag, is bad)."""
    commands = []
    for _ in range(count):
        flow = rng.randrange(1024)
        if rng.random() < 0.2:
            frame = rng.randbytes(rng.randrange(14, most))
            commands.append([(frame, frame, {"offload": 0, "last": 1, "flow": flow}, False)])
            continue
        payload = rng.randbytes(rng.randrange(most))
        segment = rng.randrange(max(len(payload) // 6, 1), most)
        frames = expected(Send(flow, SendFlag.OFFLOAD, random_header(rng), len(payload), segment), payload)
        bad = rng.randrange(len(frames)) if rng.random() < 0.3 else None
        command = []
        for number, frame in enumerate(frames):
            blank = bytearray(frame)
            blank[24:26], blank[50:52] = rng.randbytes(2), rng.randbytes(2)
            is_bad = number == bad or bad is not None and number > bad and rng.random() < 0.5
            cut = rng.randrange(1, len(frame) + 1) if is_bad else len(frame)
            command.append((bytes(blank[:cut]), frame,
                            {"offload": 1, "last": number == len(frames) - 1, "flow": flow}, is_bad))
        commands.append(command)
    return commands


def run(width, commands, *, seed=1, idle=0.0, stall=0.0, late=0.0, hold=0):
    """Returns the frames that leave, unsent flows, counts, and the cycles of (last word in, first word out).

    The output stands still for the first ``hold`` cycles.
    """
    dut, unsent, words, frames = Assembler(width), [], [], []
    counts = {"done": 0, "bad_region": 0, "sent": 0, "bytes": 0}
    given = []
    for command in commands:
        for blank, _, tag, is_bad in command:
            given += packed(blank, width, tag=tag)
            given[-1] |= {"error": is_bad, "bad_region": is_bad}
    ins, outs = [], []

    async def sink(ctx):
        rng, inside = random.Random(seed + 1), False
        if hold:
            await ctx.tick().repeat(hold)
        while True:
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, valid, word = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            assert valid or not inside, "a frame pauses"
            inside = (inside or valid) and not (ready and word.last)
            if valid and ready:
                assert not word.error and (word.last or word.count == width)
                words.append(word)
                if word.last:
                    frames.append(unpacked(words, width))
                    words.clear()

    async def count(ctx):
        cycle, first = 0, True
        async for _, _, done, bad, sent, size, valid, last, iv, ir, il in ctx.tick().sample(
                dut.done, dut.bad_region, dut.sent, dut.sent_bytes, dut.o.valid, dut.o.payload.last, dut.i.valid,
                dut.i.ready, dut.i.payload.last):
            counts["done"] += done
            counts["bad_region"] += bad
            counts["sent"] += sent
            counts["bytes"] += size * sent
            if valid and first:
                outs.append(cycle)
            first = last if valid else first
            if iv and ir and il:
                ins.append(cycle)
            cycle += 1

    async def finish(ctx):
        await feed(dut.i, given, seed, idle)(ctx)
        await ctx.tick().repeat(20)
        while not ctx.get(dut.idle):
            await ctx.tick()
        await ctx.tick().repeat(20)

    simulate(watched(dut, dut.o, dut.unsent), finish, models=[sink, count, collect(dut.unsent, unsent, seed + 2, late)])
    assert not words
    return frames, unsent, counts, list(zip(ins, outs, strict=False))


def check(commands, frames, unsent, counts):
    good, cut = [], []
    for command in commands:
        for _, frame, tag, is_bad in command:
            if is_bad:
                cut.append(tag["flow"])
                break
            good.append(frame)
    assert frames == good
    assert unsent == cut
    assert counts == {"done": len(commands), "bad_region": len(cut), "sent": len(good), "bytes": sum(map(len, good))}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle,stall,late", [(0, 0, 0), (0.3, 0.1, 0.9), (0, 0.6, 0.5)])
def test_random(width, idle, stall, late, seed):
    print(f"seed {seed}")
    commands = commands_of(random.Random(seed + width), 40)
    check(commands, *run(width, commands, seed=seed, idle=idle, stall=stall, late=late)[:3])


@pytest.mark.parametrize("width", WIDTHS)
def test_short_frames_leave_before_their_sums(width, seed):
    """The sums of a frame that needs none must not be taken for those of the next."""
    rng, commands = random.Random(seed), []
    for size in range(14, 60, 3):
        raw = rng.randbytes(size)
        commands.append([(raw, raw, {"offload": 0, "last": 1, "flow": 0}, False)])
        frame, = expected(Send(1, SendFlag.OFFLOAD, random_header(rng), 5), rng.randbytes(5))
        commands.append([(frame, frame, {"offload": 1, "last": 1, "flow": 1}, False)])
    check(commands, *run(width, commands, seed=seed, idle=0.7)[:3])


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_long_frames_fill_the_memory(width, seed):
    """The longest frames go round the memory; the output stands still at first, so that it fills."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    payload = rng.randbytes(3 * 9216)
    header = random_header(rng, options=bytes(40))
    frames = expected(Send(7, SendFlag.OFFLOAD, header, len(payload), 9216), payload)
    tags = [{"offload": 1, "last": number == 2, "flow": 7} for number in range(3)]
    commands = [[(frame, frame, tag, False) for frame, tag in zip(frames, tags, strict=True)]]
    came, unsent, counts, _ = run(width, commands, seed=seed, stall=0.3, hold=len(payload) // width + 200)
    check(commands, came, unsent, counts)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [0, 1, 10, 100])
def test_cycles(width, size, seed):
    """A lone frame leaves ``latency`` cycles after its last word; frames that come without a gap leave without one."""
    rng = random.Random(seed)
    header = random_header(rng, options=b"")
    frame, = expected(Send(1, SendFlag.OFFLOAD, header, size), rng.randbytes(size))
    tag = {"offload": 1, "last": 1, "flow": 1}
    dut = Assembler(width)
    assert dut.latency == {8: 3, 16: 6, 32: 7}[width]
    came, _, _, cycles = run(width, [[(frame, frame, tag, False)]])
    assert came == [frame]
    assert cycles[0][1] - cycles[0][0] == dut.latency
    came, _, _, cycles = run(width, [[(frame, frame, tag, False)]] * 10)
    assert came == [frame] * 10
    first = [out for _, out in cycles]
    assert {after - before for before, after in zip(first, first[1:], strict=False)} == {-(-len(frame) // width)}


@pytest.mark.parametrize("content", [b"\0", b"\xff", b"\xff\xff", b"\0" * 7])
def test_sums_of_ones(content):
    """Sums whose words are all zeros or ones: where ones' complement has two zeros."""
    for fill in (0, 0xFF):
        header = bytearray(bytes([fill]) * 54)
        header[12:15], header[23], header[46] = b"\x08\x00\x45", 6, 0x50
        payload = content * 50
        frame, = expected(Send(1, SendFlag.OFFLOAD, bytes(header), len(payload)), payload)
        tag = {"offload": 1, "last": 1, "flow": 1}
        for width in WIDTHS:
            assert run(width, [[(frame, frame, tag, False)]])[0] == [frame]


@pytest.mark.parametrize("block", [Assembler, Sums])
def test_widths(block):
    with pytest.raises(ValueError, match="width of a NIC must be one of"):
        block(64)
