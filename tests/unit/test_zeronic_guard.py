# SPDX-License-Identifier: Apache-2.0
"""Guard against sets of bytes in plain Python: what is granted, once and not before the cursor."""

import random

import pytest
from amaranth.hdl import Module

from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch
from rackgate.zeronic.rx.guard import Guard
from rackgate.zeronic.rx.intervals import Intervals
from rackgate_sim.zeronic.guard import FlowGuard

WRAP = 1 << 32
FLOWS = 4


@pytest.mark.parametrize("make,rule", [
    (lambda: Guard(3, 8), "flows must be a power of two from 2 to 1024, not 3"),
    (lambda: Guard(4, 8, position_bits=33), "position_bits must be 4 to 32, not 33"),
    (lambda: Intervals(4, 12), "intervals must be 8 times a power of two, up to 64, not 12"),
    (lambda: Intervals(4, 24), "intervals must be 8 times a power of two, up to 64, not 24"),
    (lambda: Intervals(4, 128), "intervals must be 8 times a power of two, up to 64, not 128"),
    (lambda: Intervals(4, 12, row=6), "row must be a power of two up to 16, not 6"),
])
def test_parameters(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()
    with pytest.raises(TypeError):
        Guard(4, "8")


class Stream:
    """A flow: its cursor, not wrapped, and the bytes behind it that have been granted."""

    def __init__(self, intervals):
        self.intervals, self.cursor, self.granted = intervals, 0, set()

    def update(self, cursor, begin):
        if begin:
            self.cursor, self.granted = cursor, set()
        elif cursor > self.cursor:
            self.cursor = cursor
            self.granted = {byte for byte in self.granted if byte >= cursor}

    def runs(self):
        """Intervals that are to be remembered: runs of granted bytes that do not begin at the cursor."""
        return sum(byte - 1 not in self.granted and byte != self.cursor for byte in self.granted)

    def judge(self, position, size, start, covered):
        """Judged, as a dict; the position only if there is a size. No byte is 2**31 or more from the cursor."""
        frame = {byte for byte in range(position, position + size) if byte >= self.cursor}
        wanted = [byte for byte in range(start, start + covered) if byte >= self.cursor]
        new = [byte for byte in wanted if byte not in self.granted]
        run, no_interval = [], False
        for byte in new:
            if run and byte != run[-1] + 1:
                break
            run.append(byte)
        if run:
            touches = run[0] == self.cursor or run[0] - 1 in self.granted or run[-1] + 1 in self.granted
            if not touches and self.runs() == self.intervals:
                run, no_interval = [], True
        self.granted |= set(run)
        return {"position": run[0] % WRAP if run else None, "size": len(run), "whole": frame <= set(run),
                "old": len(frame) < size, "conflict": not no_interval and run != wanted, "no_interval": no_interval}


def judged(answer):
    """The same of what the gateware says."""
    names = ("size", "whole", "old", "conflict", "no_interval")
    return {"position": answer.position if answer.size else None} | {name: getattr(answer, name) for name in names}


class Bench:
    """Requests and updates at random; answers are compared in the order in which the guard took both."""

    def __init__(self, dut, *, intervals, seed, idle, stall, spread, updates):
        self.dut, self.rng, self.idle, self.stall = dut, random.Random(seed), idle, stall
        self.spread, self.updates = spread, updates
        self.streams = [Stream(intervals) for _ in range(FLOWS)]
        self.tops = [0] * FLOWS  # behind all that was asked for
        self.expected, self.counts = [], dict.fromkeys(("granted", "whole", "old", "conflict", "no_interval"), 0)

    def draw_update(self, begin):
        rng, flow = self.rng, self.rng.randrange(FLOWS)
        cursor = self.streams[flow].cursor + rng.choice([0, 1, rng.randrange(-9, self.spread)])
        if begin:
            cursor = WRAP + rng.randrange(WRAP - 200, WRAP)
            self.tops[flow] = cursor
        elif rng.random() < 0.5:
            cursor = max(cursor, self.tops[flow] - rng.randrange(self.spread))
        return {"flow": flow, "begin": begin, "cursor": cursor}

    def draw_request(self):
        rng, flow = self.rng, self.rng.randrange(FLOWS)
        stream = self.streams[flow]
        position = rng.choice([stream.cursor + rng.randrange(self.spread), stream.cursor + rng.randrange(self.spread),
                               stream.cursor - rng.randrange(20), self.tops[flow], self.tops[flow] + 1])
        size = rng.choice([0, 1, rng.randrange(30), rng.randrange(30), rng.randrange(self.spread)])
        start = min(max(position, stream.cursor - rng.choice([0, 0, 9])), position + size)
        most = position + size - start
        covered = rng.choice([most, most, rng.randint(0, most)])
        self.tops[flow] = max(self.tops[flow], position + size)
        return {"flow": flow, "position": position, "size": size, "covered_start": start, "covered_size": covered}

    def apply(self, payload):
        stream = self.streams[payload["flow"]]
        if "cursor" in payload:
            stream.update(payload["cursor"], payload["begin"])
            return
        answer = stream.judge(payload["position"], payload["size"], payload["covered_start"], payload["covered_size"])
        self.expected.append(answer)
        for name in self.counts:
            self.counts[name] += answer["size" if name == "granted" else name] > 0

    @staticmethod
    def wrapped(payload):
        return {k: v % WRAP if k in ("position", "cursor", "covered_start") else v for k, v in payload.items()}

    async def run(self, ctx, requests):
        dut, rng = self.dut, self.rng
        begins = [{"flow": flow, "begin": 1, "cursor": 2 * WRAP - rng.randrange(200)} for flow in range(FLOWS)]
        for payload in begins:
            await send(ctx, dut.update, [self.wrapped(payload)])
            self.apply(payload)
            self.tops[payload["flow"]] = payload["cursor"]
        offers, was_updating, taken = {}, 0, 0
        while requests or self.expected or offers:
            if "update" not in offers and requests and rng.random() < self.updates:
                offers["update"] = self.draw_update(rng.random() < 0.05)
            if "request" not in offers and requests and rng.random() >= self.idle:
                offers["request"] = self.draw_request()
                requests -= 1
            for name in ("update", "request"):
                ctx.set(getattr(dut, name).valid, name in offers)
                if name in offers:
                    ctx.set(getattr(dut, name).payload, self.wrapped(offers[name]))
            take = rng.random() >= self.stall
            ctx.set(dut.o.ready, take)
            _, _, update_ready, request_ready, valid, answer = await ctx.tick().sample(
                dut.update.ready, dut.request.ready, dut.o.valid, dut.o.payload)
            # The order of an update among the requests is that in which both were taken in, before it is applied.
            is_updating = ctx.get(dut._is_updating)
            if is_updating and (not was_updating or update_ready):
                self.apply(offers["update"])
            if request_ready and "request" in offers:
                self.apply(offers.pop("request"))
            if update_ready:
                del offers["update"]
            was_updating = is_updating
            if valid and take:
                taken += 1
                assert judged(answer) == self.expected.pop(0), f"answer {taken}"
        await ctx.tick().repeat(30)
        assert not ctx.get(dut.o.valid)


def play(seed, *, intervals, row, requests, idle=0.0, stall=0.0, spread=60, updates=0.1):
    dut = Guard(FLOWS, intervals, row=row)
    m = Module()
    m.submodules.dut = dut
    watch(m, dut.o, name="o")
    bench = Bench(dut, intervals=intervals, seed=seed, idle=idle, stall=stall, spread=spread, updates=updates)

    async def testbench(ctx):
        while not ctx.get(dut.ready):
            await ctx.tick()
        await bench.run(ctx, requests)

    simulate(m, testbench, limit=requests * 40 + 500)
    print(f"seed {seed}: {bench.counts}")
    return bench.counts


@pytest.mark.parametrize("seed,intervals,row", [(1, 2, 1), (2, 4, 4), (3, 8, 2), (4, 16, 8)])
@pytest.mark.parametrize("idle,stall,spread,updates", [(0, 0, 60, 0.05), (0.3, 0.6, 400, 0.1), (0.8, 0.1, 900, 0.02)])
def test_guard(seed, intervals, row, idle, stall, spread, updates):
    counts = play(seed, intervals=intervals, row=row, requests=200, idle=idle, stall=stall, spread=spread,
                  updates=updates)
    assert all(count for name, count in counts.items() if name != "no_interval" or intervals == 2)


def ask(flow, position, size):
    return {"flow": flow, "position": position % WRAP, "size": size, "covered_start": position % WRAP,
            "covered_size": size}


_HALF = WRAP // 2
#: Offset from the cursor and size of payloads one after the other, and what becomes of them.
FAR = [
    (_HALF - 40, 40, {"size": 0, "conflict": 1, "whole": 0, "old": 0}),  # its end is as far as can be
    (_HALF - 40, 39, {"size": 39, "whole": 1, "conflict": 0}),
    (_HALF - 50, 10, {"size": 10, "whole": 1}),
    (_HALF - 50, 49, {"size": 0, "conflict": 1}),
    (_HALF, 20, {"size": 0, "whole": 1, "old": 1, "conflict": 0}),
    (_HALF - 10, 30, {"size": 0, "conflict": 1, "whole": 0}),
    (-_HALF, 20, {"size": 0, "whole": 1, "old": 1}),
    (-20, 20, {"size": 0, "whole": 1, "old": 1, "conflict": 0}),
    (-20, 25, {"size": 5, "whole": 1, "old": 1, "conflict": 0}),
    (-20, 25, {"size": 0, "whole": 0, "old": 1, "conflict": 1}),
]
BASES = [0, WRAP - 100, 1 << 31, (1 << 31) - 50]


@pytest.mark.parametrize("base", BASES)
def test_far_in_the_model(base):
    guard = FlowGuard(base, 8)
    for offset, size, wanted in FAR:
        behind = min(size, max(0, -offset)) if offset < _HALF else size
        answer = guard.judge((base + offset) % WRAP, size, size - behind)
        assert {name: getattr(answer, name) for name in wanted} == wanted, (offset, size)


@pytest.mark.parametrize("base", BASES)
def test_far(base):
    """Half of all positions are behind the cursor, the others before it; what runs from these to those is refused."""
    dut = Guard(2, 8)

    async def testbench(ctx):
        await send(ctx, dut.update, [{"flow": 1, "begin": 1, "cursor": base % WRAP}])
        await send(ctx, dut.request, [ask(1, base + offset, size) for offset, size, _ in FAR])

    async def check(ctx):
        for (offset, size, wanted), answer in zip(FAR, await receive(ctx, dut.o, len(FAR)), strict=True):
            assert {name: getattr(answer, name) for name in wanted} == wanted, (offset, size)

    simulate(dut, testbench, check)


def test_wraps():
    """A stream of more than 2**32 bytes: its interval never gets stale, though only the cursor goes on."""
    dut, at = Guard(2, 8), 0

    async def testbench(ctx):
        nonlocal at
        ctx.set(dut.o.ready, 1)
        await send(ctx, dut.update, [{"flow": 0, "begin": 1, "cursor": 0}])
        for step in [1 << 30] * 9 + [(1 << 31) - 2000] * 5:
            for offset, size in ((100, 50), (100, 50), (0, 100), (0, 150)):
                await send(ctx, dut.request, [ask(0, at + offset, size)])
                (answer,) = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
                assert answer.size == (0 if (offset, size) in seen else size)
                seen.add((offset, size))
                if size == 100:
                    seen.add((0, 150))
            seen.clear()
            at += step
            await send(ctx, dut.update, [{"flow": 0, "begin": 0, "cursor": at % WRAP}])

    seen = set()
    simulate(dut, testbench)


@pytest.mark.parametrize("holes,cycles", [(0, 2), (1, 7), (9, 8)])
def test_interval(holes, cycles):
    """Cycles a request for a flow with so many holes, in rows of 8."""
    dut, count = Guard(2, 16), 30

    async def testbench(ctx):
        await send(ctx, dut.update, [{"flow": 1, "begin": 1, "cursor": 0}])
        await send(ctx, dut.request, [ask(1, 10_000 + 20 * hole, 10) for hole in range(holes)])
        await send(ctx, dut.request, [ask(1, 10 * k, 10) for k in range(count)])

    async def check(ctx):
        ctx.set(dut.o.ready, 1)
        at, cycle = [], 0
        while len(at) < holes + count:
            _, _, valid, answer = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            cycle += 1
            if valid:
                assert answer.whole and answer.size == 10
                at.append(cycle)
        assert at[-1] - at[holes] == cycles * (count - 1)

    simulate(dut, testbench, check)


@pytest.mark.parametrize("row", [4, 8])
def test_latency(row):
    """Cycles from a lone request, or update, to its answer: in order, first behind a gap, with intervals."""
    dut = Guard(2, 16, row=row)

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        await send(ctx, dut.update, [{"flow": 1, "begin": 1, "cursor": 0}])
        for position, cycles in ((0, 4), (100, 8), (200, 9), (10, 9), (20, 9)):
            await ctx.tick().repeat(9)
            await send(ctx, dut.request, [ask(1, position, 10)])
            await ctx.tick().repeat(cycles - 2)
            assert not ctx.get(dut.o.valid)
            await ctx.tick()
            assert ctx.get(dut.o.valid) and ctx.get(dut.o.payload.size) == 10
        for cursor, cycles in ((5, 4), (130, 9)):
            await ctx.tick().repeat(9)
            ctx.set(dut.update.payload, {"flow": 1, "begin": 0, "cursor": cursor})
            ctx.set(dut.update.valid, 1)
            await ctx.tick().repeat(cycles - 2)
            assert not ctx.get(dut.update.ready)
            await ctx.tick()
            assert ctx.get(dut.update.ready)
            await ctx.tick()
            ctx.set(dut.update.valid, 0)

    simulate(dut, testbench)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_guard_long(seed):
    rng = random.Random(seed)
    row = rng.choice([1, 2, 4, 8])
    counts = play(seed, intervals=row * rng.choice([1, 2, 4]), row=row, requests=10_000, idle=rng.choice([0, 0.5, 0.9]),
                  stall=rng.choice([0, 0.3, 0.8]), spread=rng.choice([40, 200, 2000]), updates=rng.choice([0.01, 0.1]))
    assert counts["granted"] and counts["whole"] and counts["old"] and counts["conflict"]
