# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Editor and FlowRings: headers of frames, and the ring that each flow has chosen."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib.memory import Memory
from zeronic_send import CWR, FIN, PSH, WIDTHS, collect, feed, random_header, unpacked, watched

from rackgate.verif.stimulus import simulate
from rackgate.zeronic.messages import FlowFlag
from rackgate.zeronic.tx.editor import Editor
from rackgate.zeronic.tx.records import SLOTS
from rackgate.zeronic.tx.rings import FlowRings


class Bench:
    """An editor with a memory that holds headers."""

    def __init__(self, width, headers):
        self.m, self.dut = Module(), Editor(width)
        places = 1 << len(self.dut.address.as_value())
        content = [0] * places
        per_slot = places // SLOTS
        for slot, header in enumerate(headers):
            for k in range(-(-len(header) // width)):
                content[slot * per_slot + k] = int.from_bytes(header[k * width:(k + 1) * width], "little")
        self.m.submodules.dut = self.dut
        self.m.submodules.memory = memory = Memory(shape=8 * width, depth=places, init=content)
        port = memory.read_port()
        self.m.d.comb += [port.addr.eq(self.dut.address), port.en.eq(self.dut.read), self.dut.content.eq(port.data)]


def edited(header, frame):
    """The header of a frame as it must be."""
    if not frame["offload"]:
        return header
    header = bytearray(header)
    header[16:18] = (len(header) - 14 + frame["payload"]).to_bytes(2, "big")
    header[18:20] = frame["identification"].to_bytes(2, "big")
    header[38:42] = frame["sequence"].to_bytes(4, "big")
    header[47] &= 0xFF - (0 if frame["last"] else FIN | PSH) - (0 if frame["first"] else CWR)
    return bytes(header)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.3, 0.5)])
def test_random(width, idle, stall, seed):
    print(f"seed {seed}")
    rng = random.Random(seed + width)
    offloads = [rng.random() < 0.7 for _ in range(SLOTS)]
    headers = [random_header(rng) if offload else rng.randbytes(rng.randrange(14, 95)) for offload in offloads]
    frames = []
    for _ in range(60):
        slot = rng.randrange(SLOTS)
        frames.append({
            "slot": slot, "flow": rng.getrandbits(10), "gather": rng.randrange(2), "offload": offloads[slot],
            "header_end": len(headers[slot]) - 1, "payload": rng.choice([0, rng.randrange(9217)]),
            "sequence": rng.getrandbits(32), "identification": rng.getrandbits(16), "first": rng.randrange(2),
            "last": rng.randrange(2)})
    bench, words, freed = Bench(width, headers), [], []

    async def finish(ctx):
        while sum(word.last for word in words) < len(frames):
            await ctx.tick()

    async def count(ctx):
        async for _, _, is_freed in ctx.tick().sample(bench.dut.freed):
            if is_freed:
                freed.append(1)

    simulate(watched(bench.m, bench.dut.o), feed(bench.dut.i, frames, seed, idle), finish,
             models=[collect(bench.dut.o, words, seed + 1, stall), count])
    came = [[]]
    for word in words:
        assert word.last or word.count == width
        came[-1].append(word)
        if word.last:
            came.append([])
    assert came.pop() == []
    assert [unpacked(part, width) for part in came] == [edited(headers[frame["slot"]], frame) for frame in frames]
    for part, frame in zip(came, frames, strict=True):
        for word in part:
            assert (word.tag.offload, word.tag.last, word.tag.flow) == (frame["offload"], frame["last"], frame["flow"])
            assert (word.has_payload, word.gather) == (frame["payload"] != 0, frame["gather"])
    assert len(freed) == sum(frame["last"] for frame in frames)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_cycle_between_frames(width, seed):
    rng, seen = random.Random(seed), []
    headers = [random_header(rng) for _ in range(SLOTS)]
    bench = Bench(width, headers)
    frames = [{"slot": k % SLOTS, "header_end": len(headers[k % SLOTS]) - 1, "offload": 1} for k in range(20)]

    async def sink(ctx):
        ctx.set(bench.dut.o.ready, 1)
        ends = 0
        while ends < len(frames):
            _, _, valid, last = await ctx.tick().sample(bench.dut.o.valid, bench.dut.o.payload.last)
            seen.append(valid)
            ends += valid and last

    simulate(bench.m, feed(bench.dut.i, frames, seed), sink)
    assert seen == [0, 0] + [1] * (len(seen) - 2)


def test_rings(seed):
    print(f"seed {seed}")
    rng, dut, ring = random.Random(seed), FlowRings(64), [0] * 64

    async def testbench(ctx):
        ctx.set(dut.update.valid, 1)
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        cycles = 0
        while not ctx.get(dut.ready):
            assert not ctx.get(dut.update.ready) and not ctx.get(dut.o.valid) and not ctx.get(dut.i.ready)
            await ctx.tick()
            cycles += 1
        assert cycles == 64
        for _ in range(300):
            update = {"flow": rng.randrange(64), "begin": rng.randrange(2), "flags": rng.getrandbits(3)}
            asked = rng.randrange(64)
            is_given = rng.randrange(2)
            ctx.set(dut.update.payload, update)
            ctx.set(dut.update.valid, is_given)
            ctx.set(dut.i.payload, asked)
            _, _, valid, answer = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            assert valid
            assert (answer.ring, answer.flow) == (ring[asked], asked)
            if is_given and update["begin"]:
                ring[update["flow"]] = int(bool(update["flags"] & FlowFlag.RING_1))

    simulate(dut, testbench)


def test_bad_parameters():
    with pytest.raises(ValueError, match="width of a NIC must be one of"):
        Editor(4)
    for flows in (0, 1025):
        with pytest.raises(ValueError, match=f"flows must be 1 to 1024, not {flows}"):
            FlowRings(flows)
