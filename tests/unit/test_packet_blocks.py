# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Blocks for packet streams: widths, whole packets, overflow, turns by packet, and a queue between two clocks."""

import random

import pytest
from amaranth.hdl import Module
from ethernet_bench import Gathered, take_all, words

from rackgate.stream.arbiter import Arbiter
from rackgate.stream.asyncqueue import AsyncQueue
from rackgate.stream.overflow import OverflowGuard
from rackgate.stream.packet import packet_layout
from rackgate.stream.packetqueue import PacketQueue
from rackgate.stream.width import Narrower, Widener
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch

RATES = [(0, 0), (0.5, 0.1), (0.1, 0.6)]


def watched(dut):
    m = Module()
    m.submodules.dut = dut
    watch(m, dut.o, name="o")
    return m


def random_packets(rng, count, longest):
    """Packets, and whether each is damaged."""
    return [(rng.randbytes(rng.randrange(1, longest + 1)), rng.random() < 0.3) for _ in range(count)]


def as_words(packets, width):
    return [word for content, is_damaged in packets for word in words(content, width, is_damaged=is_damaged)]


@pytest.mark.parametrize("make,widths", [(Widener, (1, 4)), (Widener, (4, 16)), (Widener, (8, 8)), (Narrower, (8, 4)),
                                         (Narrower, (16, 1)), (Narrower, (4, 4))])
@pytest.mark.parametrize("idle,stall", RATES)
def test_width(make, widths, idle, stall, seed):
    rng, dut = random.Random(seed), make(*widths)
    packets, out = random_packets(rng, 20, 40), []
    expected = as_words(packets, widths[1])

    async def source(ctx):
        await send(ctx, dut.i, as_words(packets, widths[0]), rng=rng, idle=idle)

    async def sink(ctx):
        for word in await receive(ctx, dut.o, len(expected), rng=random.Random(seed), stall=stall):
            out.append({"data": word.data & (1 << 8 * word.count) - 1, "count": word.count, "last": word.last,
                        "error": word.error})

    simulate(watched(dut), source, sink)
    assert out == expected


def test_widener_takes_a_word_a_cycle(seed):
    dut = Widener(1, 4)
    items = as_words(random_packets(random.Random(seed), 20, 9), 1)

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        for item in items:
            ctx.set(dut.i.payload, item)
            ctx.set(dut.i.valid, 1)
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            assert ready

    simulate(dut, testbench)


@pytest.mark.parametrize("make,arguments,message", [
    (Widener, (4, 2), "the wide side must have at least the narrow side's 4 bytes, not 2"),
    (Narrower, (2, 4), "the wide side must have at least the narrow side's 4 bytes, not 2"),
    (Widener, (1, 3), "width must be one of"),
])
def test_width_parameters(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(*arguments)


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("idle,stall", [*RATES[:2], (0, 0.85)])
@pytest.mark.parametrize("depth,longest", [(16, 16), (16, 6), (13, 8)])
def test_packet_queue(waits, idle, stall, depth, longest, seed):
    rng, dut = random.Random(seed), PacketQueue(4, depth=depth, waits=waits, longest=longest)
    packets, out, told = random_packets(rng, 60, 4 * 9), Gathered(4), {"kept": 0, "dropped": 0}
    fates = []

    async def source(ctx):
        for packet in packets:
            await send(ctx, dut.i, as_words([packet], 4), rng=rng, idle=idle)
        await ctx.tick().repeat(400)

    async def sink(ctx):
        await take_all(ctx, dut.o, out, rng=random.Random(seed + 1), stall=stall)

    async def watch_fates(ctx):
        while True:
            _, _, kept, dropped, ready = await ctx.tick().sample(dut.kept, dut.dropped, dut.i.ready)
            assert waits or ready, "a queue that drops has stalled"
            if kept or dropped:
                fates.append(bool(kept))
            told["kept"] += kept
            told["dropped"] += dropped

    simulate(watched(dut), source, models=[sink, watch_fates])
    assert out.is_between and len(fates) == len(packets)
    kept = [content for (content, _), fate in zip(packets, fates, strict=True) if fate]
    assert out.frames == [(content, False) for content in kept]
    possible = [not is_damaged and len(content) <= 4 * longest for content, is_damaged in packets]
    if waits:
        assert fates == possible
    else:
        assert all(can or not fate for can, fate in zip(possible, fates, strict=True)) and any(fates)
        assert stall < 0.5 or fates != possible, "nothing was dropped for want of room"


def test_packet_queue_latency_and_pace():
    """Nothing comes out before the packet is whole; then a word a cycle, from the third cycle on."""
    dut = PacketQueue(4, depth=16, waits=True)
    items = as_words([(bytes(range(32)), False)], 4)

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        await send(ctx, dut.i, items)
        for cycle in range(12):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            assert valid == (2 <= cycle < 10), f"cycle {cycle}"

    simulate(dut, testbench)


@pytest.mark.parametrize("arguments,message", [
    ({"depth": 1}, "depth must be at least 2, not 1"),
    ({"depth": 4, "longest": 5}, "longest must be 1 to the depth, 4, not 5"),
    ({"depth": 4, "longest": 0}, "longest must be 1 to the depth, 4, not 0"),
])
def test_packet_queue_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        PacketQueue(4, waits=True, **arguments)


@pytest.mark.parametrize("stall", [0, 0.1, 0.3, 0.9])
def test_overflow(stall, seed):
    rng, dut = random.Random(seed), OverflowGuard(4)
    packets, out, lost = random_packets(rng, 80, 30), Gathered(4), 0

    async def source(ctx):
        for item in as_words(packets, 4):
            ctx.set(dut.i.payload, item)
            ctx.set(dut.i.valid, 1)
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            if rng.random() < 0.5:
                await ctx.tick()
        sink_rng.random = lambda: 1.0
        await ctx.tick().repeat(5)

    sink_rng = random.Random(seed + 1)

    async def sink(ctx):
        await take_all(ctx, dut.o, out, rng=sink_rng, stall=stall)

    async def watch_lost(ctx):
        nonlocal lost
        while True:
            lost += (await ctx.tick().sample(dut.lost))[2]

    simulate(watched(dut), source, models=[sink, watch_lost])
    assert out.is_between
    # In order, each packet came whole, or cut at a word and damaged, or not at all.
    left, cut = list(packets), 0
    for content, is_damaged in out.frames:
        while True:
            assert left, "a packet came out that did not go in"
            sent, was_damaged = left.pop(0)
            if (content, is_damaged) == (sent, was_damaged):
                break
            if is_damaged and content[-1:] == b"\0" and len(content) % 4 == 1 and sent.startswith(content[:-1]):
                cut += 1
                break
    assert lost == len(packets) - len(out.frames) + cut
    assert (lost > 0) == (stall > 0)


@pytest.mark.parametrize("idle,stall", RATES)
def test_turns_by_packet(idle, stall, seed):
    dut, out = Arbiter(packet_layout(4), 3, packets=True), Gathered(4)
    packets = [[(bytes([k]) * random.Random(seed + 9 * k + n).randrange(1, 30), False) for n in range(15)]
               for k in range(3)]

    def source(k):
        async def run(ctx):
            await send(ctx, dut.i[k], as_words(packets[k], 4), rng=random.Random(seed + k), idle=idle)
            await ctx.tick().repeat(40)
        return run

    async def sink(ctx):
        await take_all(ctx, dut.o, out, rng=random.Random(seed + 7), stall=stall)

    simulate(watched(dut), *map(source, range(3)), models=[sink])
    for k in range(3):
        assert [frame for frame, _ in out.frames if frame[0] == k] == [content for content, _ in packets[k]]
    assert all(len(set(frame)) == 1 for frame, _ in out.frames), "packets were mixed"
    if idle == 0:
        assert [frame[0] for frame, _ in out.frames] == [0, 1, 2] * 15


@pytest.mark.parametrize("periods", [(1.0, 1.0), (1.0, 0.37), (0.37, 1.0), (1.0, 3.3), (3.3, 1.0)])
@pytest.mark.parametrize("idle,stall", RATES)
def test_async_queue(periods, idle, stall, seed):
    dut, out = AsyncQueue(16, depth=8, i_domain="one", o_domain="other"), []
    items = [random.Random(seed).getrandbits(16) for _ in range(100)]

    async def source(ctx):
        await send(ctx, dut.i, items, rng=random.Random(seed), idle=idle, domain="one")

    async def sink(ctx):
        out.extend(await receive(ctx, dut.o, len(items), rng=random.Random(seed + 1), stall=stall, domain="other"))
        for _ in range(20):
            _, _, valid = await ctx.tick("other").sample(dut.o.valid)
            assert not valid, "more came out than went in"

    simulate(dut, source, sink, clocks=dict(zip(("one", "other"), periods, strict=True)))
    assert out == items


def test_async_queue_holds_what_it_says():
    dut = AsyncQueue(8, depth=9, i_domain="one", o_domain="other")

    async def source(ctx):
        count = 0
        for _ in range(60):
            ctx.set(dut.i.valid, 1)
            _, _, ready = await ctx.tick("one").sample(dut.i.ready)
            count += ready
        assert count == 9

    simulate(dut, source, clocks={"one": 1.0, "other": 0.7})


def test_async_queue_parameters():
    with pytest.raises(ValueError, match="depth must be at least 4, not 3"):
        AsyncQueue(8, depth=3)
    with pytest.raises(TypeError, match="o_domain must be the name of a domain, not 7"):
        AsyncQueue(8, depth=4, o_domain=7)
