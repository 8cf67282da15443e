# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Intake, Segmenter and Slicer: from SEND commands to kept headers, frames, and slices of payload."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from zeronic_send import ACK, WIDTHS, collect, feed, random_header, watched

from rackgate.verif.stimulus import simulate
from rackgate.zeronic.tx.intake import Intake
from rackgate.zeronic.tx.records import SLOTS
from rackgate.zeronic.tx.segmenter import Segmenter
from rackgate.zeronic.tx.slicer import Slicer


@pytest.mark.parametrize("block", [Intake, Segmenter, Slicer])
def test_widths(block):
    with pytest.raises(ValueError, match="width of a NIC must be one of"):
        block(4)
    with pytest.raises(TypeError):
        block("8")


def command(rng, width, *, kind=None):
    """A SEND command with its words, as the decoder gives them; and its header, payload and what is wrong with it."""
    kind = kind or rng.choice(["gather", "inline", "plain", "wrong"])
    header = rng.randbytes(rng.randrange(14, 95)) if kind == "plain" else random_header(rng)
    if kind == "wrong":
        place, value = rng.choice([(12, 9), (13, 1), (14, 0x46), (23, 17), (46, 0x40), (46, header[46] + 0x10 & 0xFF)])
        header = header[:place] + bytes([value]) + header[place + 1:]
    payload = b"" if kind == "gather" else rng.randbytes(rng.choice([0, 1, width, rng.randrange(100)]))
    content = header + payload + rng.randbytes(rng.randrange(40))
    content += bytes(-(len(content) + 16) % 32)
    content += bytes(-len(content) % width)
    words = [{"data": int.from_bytes(content[at:at + width], "little"), "last": at + width == len(content)}
             for at in range(0, len(content), width)]
    head = {"flow": rng.randrange(16), "gather": kind == "gather", "offload": kind != "plain",
            "snoop": kind != "plain" and rng.random() < 0.5, "headers": len(header),
            "payload": rng.randrange(600) if kind == "gather" else len(payload), "segment": rng.randrange(100)}
    return kind, head, words, header, payload


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.3, 0.5)])
def test_intake(width, idle, stall, seed):
    print(f"seed {seed}")
    rng, dut = random.Random(seed), Intake(width)
    commands = [command(rng, width) for _ in range(40)]
    came, cursors, payloads, headers, counts = [], [], [], [{}], {"bad": 0, "freed": 0}
    kept = [item for item in commands if item[0] != "wrong"]

    async def memory(ctx):
        """What is written, by slot; a header is freed some time after its job."""
        late = random.Random(seed + 5)
        while True:
            frees = counts["freed"] < len(came) and late.random() < 0.2
            ctx.set(dut.freed, frees)
            counts["freed"] += frees
            assert len(came) - counts["freed"] <= SLOTS
            _, _, write, address, content, valid, ready, bad, job = await ctx.tick().sample(
                dut.write, dut.address, dut.content, dut.o.valid, dut.o.ready, dut.bad_command, dut.o.payload)
            counts["bad"] += bad
            if write:
                headers[-1][address.slot, address.word] = content.to_bytes(width, "little")
            if valid and ready:
                raw = b"".join(headers[-1][job.slot, k] for k in range(-(-job.headers // width)))
                came.append((job, raw[:job.headers]))

    async def finish(ctx):
        await feed(dut.words, [word for _, _, words, _, _ in commands for word in words], seed + 2, idle)(ctx)
        await ctx.tick().repeat(10)
        while ctx.get(dut.pending):
            await ctx.tick()

    simulate(watched(dut, dut.o, dut.cursor), feed(dut.i, [head for _, head, _, _, _ in commands], seed + 1, idle),
             finish, models=[collect(dut.o, [], seed + 3, stall), collect(dut.cursor, cursors, seed + 4, stall),
                             collect(dut.payload, payloads, seed + 6, stall), memory])
    assert [raw for _, raw in came] == [header for _, _, _, header, _ in kept]
    assert counts["bad"] == len(commands) - len(kept)
    for (job, _), (kind, head, _, header, _) in zip(came, kept, strict=True):
        assert all(job[name] == head[name] for name in ("flow", "gather", "offload", "headers", "payload", "segment"))
        if kind != "plain":
            assert job.sequence == int.from_bytes(header[38:42], "big")
            assert job.identification == int.from_bytes(header[18:20], "big")
    assert [(item.flow, item.begin, item.cursor) for item in cursors] == [
        (head["flow"], 0, int.from_bytes(header[42:46], "big"))
        for _, head, _, header, _ in kept if head["snoop"] and header[47] & ACK]
    want = [word for _, head, words, header, payload in kept if payload
            for word in words[len(header) // width:]]
    assert [{"data": word.data, "last": word.last} for word in payloads] == want


def slices_of(head):
    """Sizes of the pieces that a payload is cut into."""
    step = head["segment"] or head["payload"]
    return [min(step, head["payload"] - done) for done in range(0, head["payload"], step)] if head["payload"] else []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.3, 0.5)])
def test_segmenter_and_slicer(width, idle, stall, seed):
    """Both together, as what one says of slices is for the other."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    commands = [command(rng, width, kind=rng.choice(["gather", "inline", "inline"])) for _ in range(30)]
    jobs = [{**{name: value for name, value in head.items() if name != "snoop"}, "slot": k % 8,
             "sequence": int.from_bytes(header[38:42], "big"),
             "identification": int.from_bytes(header[18:20], "big")}
            for k, (_, head, _, header, _) in enumerate(commands)]
    m = Module()
    m.submodules.segmenter = segmenter = Segmenter(width)
    m.submodules.slicer = slicer = Slicer(width)
    wiring.connect(m, segmenter.slices, slicer.slices)
    frames, gathers, packed = [], [], []
    words = [word for _, head, words, header, payload in commands if payload for word in words[len(header) // width:]]

    async def finish(ctx):
        await feed(slicer.i, words, seed + 1, idle)(ctx)
        await ctx.tick().repeat(2000 if stall else 600)
        assert not ctx.get(segmenter.busy)

    # The outputs' ready must not depend on valid: collect sets it at random.
    simulate(m, feed(segmenter.i, jobs, seed, idle), finish, models=[
        collect(segmenter.frames, frames, seed + 2, stall), collect(segmenter.gathers, gathers, seed + 3, stall),
        collect(slicer.o, packed, seed + 4, stall)])
    want, asked, pieces = [], [], []
    for job, (_, head, _, _, payload) in zip(jobs, commands, strict=True):
        sizes, done = slices_of(head) or [0], 0
        for k, size in enumerate(sizes):
            position = (job["sequence"] + done) % 2**32
            want.append((job["slot"], job["gather"], size, position, (job["identification"] + k) % 2**16, k == 0,
                         k == len(sizes) - 1))
            if size and job["gather"]:
                asked.append((job["flow"], position, size))
            elif size:
                pieces.append(payload[done:done + size])
            done += size
    assert [(item.slot, item.gather, item.payload, item.sequence, item.identification, item.first, item.last)
            for item in frames] == want
    assert [(item.flow, item.position, item.size) for item in gathers] == asked
    came = [b""]
    for word in packed:
        came[-1] += word.data.to_bytes(width, "little")[:word.count]
        assert word.last or word.count == width
        if word.last:
            came.append(b"")
    assert came == [*pieces, b""]


def test_a_frame_a_cycle():
    dut, frames = Segmenter(8), []
    job = {"payload": 5 * 20, "segment": 5, "gather": 1, "headers": 54}

    async def testbench(ctx):
        for port in (dut.frames, dut.gathers, dut.slices):
            ctx.set(port.ready, 1)
        ctx.set(dut.i.payload, job)
        ctx.set(dut.i.valid, 1)
        for _ in range(1 + 3 * 20):
            _, _, valid = await ctx.tick().sample(dut.frames.valid)
            frames.append(valid)

    simulate(dut, testbench)
    assert frames == [0] + [1] * 60
