# SPDX-License-Identifier: Apache-2.0
"""SegmentLists: searches, and how long they take; also the whole of Cover's timing, with full lists."""

import random

import pytest

from rackgate.verif.stimulus import receive, send, simulate
from rackgate.zeronic.abi import Right
from rackgate.zeronic.tables.cover import Cover
from rackgate.zeronic.tables.search import SegmentSearch
from rackgate.zeronic.tables.segments import SegmentLists
from rackgate.zeronic.tables.walker import Walker

WRAP = 1 << 32


@pytest.mark.parametrize("make,rule", [
    (lambda: SegmentLists(12, 8), "flows must be a power of two from 2 to 1024, not 12"),
    (lambda: SegmentLists(2048, 8), "flows must be a power of two from 2 to 1024, not 2048"),
    (lambda: SegmentLists(16, 1), "segments must be a power of two from 2 to 64, not 1"),
    (lambda: SegmentSearch(16, 128), "segments must be a power of two from 2 to 64, not 128"),
    (lambda: Walker(1, 8), "flows must be a power of two from 2 to 1024, not 1"),
    (lambda: SegmentLists(16, 8, engines=5), r"engines must be one of \(1, 2, 3, 4\), not 5"),
])
def test_parameters(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()
    with pytest.raises(TypeError):
        SegmentLists(16, "8")
    with pytest.raises(TypeError):
        SegmentLists(16, 8, engines="1")


def fill(rng, count, *, gap=10, most=300):
    """Segments (start, length), not wrapped, that wrap in their middle."""
    at, segments = WRAP - count * most // 4, []
    for _ in range(count):
        length = rng.randrange(1, most)
        segments.append((at, length))
        at += length + rng.randrange(3) * gap
    return segments


def posts(flow, segments):
    return [{"flow": flow, "start": start % WRAP, "length": length, "region": 0, "offset": start % WRAP}
            for start, length in segments]


async def answers(ctx, port, count):
    """Payloads, and the cycle of each."""
    got, cycle = [], 0
    ctx.set(port.ready, 1)
    while len(got) < count:
        _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
        cycle += 1
        if valid:
            got.append((cycle, payload))
    return got


@pytest.mark.parametrize("engines", [1, 2, 3, 4])
@pytest.mark.parametrize("segments", [2, 8, 64])
def test_search(engines, segments):
    """Each position is found: where it is, or where it would be."""
    print(f"seed {segments}")
    rng, dut = random.Random(segments), SegmentLists(4, segments, engines=engines)
    lists = {1: fill(rng, segments), 2: fill(rng, segments // 2), 3: []}
    asked = [(flow := rng.choice([1, 1, 1, 2, 2, 3]), rng.choice(lists[flow] or [(5, 1)])[0] + rng.randrange(-9, 300))
             for _ in range(60)]

    async def testbench(ctx):
        # Turn the ring, so that lists begin somewhere in it.
        for flow in lists:
            for _ in range(flow):
                await send(ctx, dut.post, posts(flow, [(3, 7)]))
                await send(ctx, dut.retire, [{"flow": flow, "count": 1}])
            await send(ctx, dut.post, posts(flow, lists[flow]))
        await send(ctx, dut.search, [{"flow": flow, "position": at % WRAP} for flow, at in asked], rng=rng, idle=0.3)

    async def check(ctx):
        for (flow, at), found in zip(asked, await receive(ctx, dut.found, len(asked), rng=rng, stall=0.4), strict=True):
            segments_before = [index for index, (start, _) in enumerate(lists[flow]) if start <= at]
            index = max(segments_before, default=0)
            assert found.none == (not lists[flow])
            if lists[flow]:
                assert found.place == flow * segments + (index + flow) % segments
                assert found.left == len(lists[flow]) - 1 - index

    simulate(dut, testbench, check)


def test_read():
    """A segment comes 2 cycles after it has been read, also while searches go on."""
    rng, dut = random.Random(3), SegmentLists(4, 8)
    segments = fill(rng, 8)

    async def testbench(ctx):
        await send(ctx, dut.post, posts(2, segments))
        ctx.set(dut.search.payload, {"flow": 2, "position": segments[5][0] % WRAP})
        ctx.set(dut.search.valid, 1)
        ctx.set(dut.found.ready, 1)
        for _ in range(30):
            number = rng.randrange(8)
            ctx.set(dut.place, 16 + number)
            ctx.set(dut.read, 1)
            await ctx.tick()
            ctx.set(dut.read, 0)
            await ctx.tick()
            segment = ctx.get(dut.segment)
            assert (segment.start, segment.length) == (segments[number][0] % WRAP, segments[number][1])
            if ctx.get(dut.found.valid):
                assert ctx.get(dut.found.payload.place) == 16 + 5

    simulate(dut, testbench)


@pytest.mark.parametrize("length", [0, 1 << 31, WRAP - 1])
def test_refused(length):
    """Lengths that no list can hold, a full list, and an overlap."""
    dut = SegmentLists(2, 2)

    async def post(ctx, start, length):
        ctx.set(dut.post.payload, {"flow": 1, "start": start % WRAP, "length": length})
        ctx.set(dut.post.valid, 1)
        (refused,) = await ctx.tick().sample(dut.refused).until(dut.post.ready)
        ctx.set(dut.post.valid, 0)
        return refused

    async def testbench(ctx):
        assert await post(ctx, 5, length)
        assert not await post(ctx, -7, 10)
        assert await post(ctx, 2, 1)
        assert not await post(ctx, 3, (1 << 31) - 1)
        assert await post(ctx, 3 + (1 << 31), 1)  # full
        await send(ctx, dut.retire, [{"flow": 1, "count": 1}])
        assert not await post(ctx, 2 + (1 << 31), 1)
        await send(ctx, dut.retire, [{"flow": 1, "count": 255}])
        assert not await post(ctx, 0, 1)
        await send(ctx, dut.clear, [1])
        assert not await post(ctx, -500, 1)

    simulate(dut, testbench)


@pytest.mark.parametrize("engines,segments,interval", [
    (1, 64, 7.1), (2, 64, 3.1), (3, 64, 2.1), (1, 32, 6.1), (2, 32, 2.7), (3, 32, 1.8), (1, 8, 5.1)])
def test_cover_interval(engines, segments, interval):
    """Cycles a request, each in some segment of a full list, in any order."""
    print(f"seed {engines}")
    rng = random.Random(engines)
    dut = Cover(Right.WRITE, flows=2, segments=segments, regions=1, engines=engines)
    listed = fill(rng, segments)
    asked = [rng.choice(listed)[0] for _ in range(80)]

    async def ask(ctx):
        await send(ctx, dut.region, [{"region": 0, "rights": 3, "base": 0, "length": 2 * WRAP, "owner": 0}])
        await send(ctx, dut.post, posts(1, listed))
        await send(ctx, dut.request, [{"flow": 1, "position": at % WRAP, "size": 1} for at in asked])

    async def pieces(ctx):
        got = await answers(ctx, dut.piece, len(asked))
        assert [piece.address for _, piece in got] == [at % WRAP for at in asked]
        taken = (got[-1][0] - got[20][0]) / (len(got) - 21)
        print(f"{taken:.2f} cycles a request")
        assert taken <= interval

    async def results(ctx):
        for _, result in await answers(ctx, dut.result, len(asked)):
            assert result.covered == 1

    simulate(dut, ask, pieces, results)


@pytest.mark.parametrize("segments,cycles", [(1, 20), (2, 20), (8, 26), (64, 35)])
def test_cover_latency(segments, cycles):
    """Cycles from a lone request to its first piece, and from one piece to the next."""
    rng, dut = random.Random(segments), Cover(Right.WRITE, flows=2, segments=64, regions=1)
    listed = fill(rng, segments, gap=0, most=99)
    total = sum(length for _, length in listed)

    async def testbench(ctx):
        await send(ctx, dut.region, [{"region": 0, "rights": 3, "base": 0, "length": 2 * WRAP, "owner": 0}])
        await send(ctx, dut.post, posts(1, listed))
        ctx.set(dut.piece.ready, 1)
        ctx.set(dut.result.ready, 1)
        for shift in range(3):
            await ctx.tick().repeat(40 + shift)
            await send(ctx, dut.request, [{"flow": 1, "position": listed[0][0] % WRAP, "size": total}])
            took, cycle = [], 0
            while len(took) < segments:
                _, _, valid, last = await ctx.tick().sample(dut.piece.valid, dut.piece.payload.last)
                cycle += 1
                if valid:
                    took.append(cycle)
                    assert last == (len(took) == segments)
            print(f"{segments} segments: {took[:4]}")
            assert cycles - 2 <= took[0] <= cycles
            assert all(5 <= b - a <= 6 for a, b in zip(took, took[1:], strict=False))

    simulate(dut, testbench)
