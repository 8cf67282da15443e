# SPDX-License-Identifier: Apache-2.0
"""Cover against lists of segments in plain Python, with updates at any time."""

import random
from typing import NamedTuple

import pytest
from amaranth.hdl import Module

from rackgate.verif.stimulus import send, simulate
from rackgate.verif.stream_rules import watch
from rackgate.zeronic.abi import Right
from rackgate.zeronic.tables.cover import Cover

FLOWS, SEGMENTS, REGIONS = 4, 8, 4
WRAP = 1 << 32
INPUTS = ("post", "retire", "clear", "region", "request")


class Segment(NamedTuple):
    start: int  # not wrapped
    length: int
    region: int
    offset: int


class Region(NamedTuple):
    rights: int
    base: int
    length: int
    owner: int

    def allows(self, right, flow, offset, size):
        return bool(self.rights & right) and self.owner in (0, flow + 1) and offset + size <= self.length


NO_REGION = Region(0, 0, 0, 0)


def cover(segments, regions, right, flow, position, size):
    """Pieces (position, size, address), causes (no_segment, bad_region)."""
    pieces, end = [], position + size
    while position < end:
        segment = next((s for s in segments if s.start <= position < s.start + s.length), None)
        if segment is None:
            return pieces, (1, 0)
        part, offset = min(end, segment.start + segment.length) - position, segment.offset + position - segment.start
        region = regions.get(segment.region, NO_REGION)
        if not region.allows(right, flow, offset, part):
            return pieces, (0, 1)
        pieces.append((position, part, region.base + offset))
        position += part
    return pieces, (0, 0)


class Asked:
    """A request under way: the tables when it was taken, and what has been in them since."""

    def __init__(self, bench, request):
        self.flow, self.position, self.size = request["flow"], request["wide"], request["size"]
        self.tag = request["carried"]
        self.segments, self.regions = list(bench.lists[self.flow]), dict(bench.regions)
        self.is_exact = True
        # Segments of its flow that were there at some time; regions that were there at some time, by number.
        self.any_segments = set(self.segments)
        self.any_regions = set(self.regions.items())
        self.kept_segments, self.kept_regions = set(self.segments), dict(self.regions)
        self.pieces = []

    def saw(self, bench):
        """The tables have changed."""
        now, regions = bench.lists[self.flow], bench.regions
        if set(now) != self.kept_segments or regions != self.kept_regions:
            self.is_exact = False
        self.any_segments |= set(now)
        self.any_regions |= set(regions.items())
        self.kept_segments &= set(now)
        self.kept_regions = {k: region for k, region in self.kept_regions.items() if regions.get(k) == region}

    def check(self, right, result):
        """What came out."""
        pieces = [(p.position, p.size, p.address) for p in self.pieces if p.size]
        assert [p.last for p in self.pieces] == [0] * (len(self.pieces) - 1) + [1]
        assert all(p.size for p in self.pieces[:-1]) and len(self.pieces) <= SEGMENTS
        assert result.carried == self.tag
        assert result.covered == sum(size for _, size, _ in pieces)
        assert (result.covered == self.size) == (not result.no_segment and not result.bad_region)
        assert not (result.no_segment and result.bad_region)
        at, allowed = self.position, []
        for position, size, address in pieces:
            assert position == at % WRAP
            allowed.append(any(
                s.start <= at and at + size <= s.start + s.length
                and region.allows(right, self.flow, s.offset + at - s.start, size)
                and address == region.base + s.offset + at - s.start
                for s in self.any_segments for number, region in self.any_regions if number == s.region))
            at += size
        assert all(allowed), "a piece is in no segment, or in no region"
        if self.is_exact:
            wanted, causes = cover(self.segments, self.regions, right, self.flow, self.position, self.size)
            assert [(p % WRAP, size, address) for p, size, address in wanted] == pieces
            assert causes == (result.no_segment, result.bad_region)
        else:
            least, _ = cover(self.kept_segments, self.kept_regions, right, self.flow, self.position, self.size)
            assert result.covered >= sum(size for _, size, _ in least)
        return self.is_exact


class Bench:
    """Cover, with an update or request offered at each port at any time; every answer is checked."""

    def __init__(self, dut, *, seed, right, idle, stall):
        self.dut, self.right, self.rng, self.idle, self.stall = dut, right, random.Random(seed), idle, stall
        self.lists, self.regions = [[] for _ in range(FLOWS)], {k: NO_REGION for k in range(REGIONS)}
        self.ends = [self.rng.randrange(WRAP - 500, WRAP) for _ in range(FLOWS)]  # of what was ever posted
        self.offers, self.asked, self.results = {}, [], []
        self.counts = dict.fromkeys(("exact", "changed", "full", "no_segment", "bad_region", "several", "refused"), 0)

    def draw(self, name):
        """A payload for a port: what goes in, and for a request or a post the position that does not wrap."""
        rng, flow = self.rng, self.rng.randrange(FLOWS)
        held = self.lists[flow]
        end = held[-1].start + held[-1].length if held else self.ends[flow]
        if name == "post":
            wide = end + rng.choice([0, 0, 0, 0, rng.randrange(30), -1 if held else 0])
            length = rng.choice([1, rng.randrange(1, 40), rng.randrange(1, 40), 0 if rng.random() < 0.2 else 3])
            offset = rng.choice([rng.randrange(400), rng.randrange(400), (1 << 40) - 1 if rng.random() < 0.1 else 7])
            return {"flow": flow, "start": wide % WRAP, "length": length,
                    "region": REGIONS if rng.random() < 0.03 else rng.randrange(REGIONS),
                    "offset": offset, "wide": wide}
        if name == "retire":
            return {"flow": flow, "count": rng.choice([1, 1, 1, 2, rng.randrange(256)])}
        if name == "clear":
            return flow
        if name == "region":
            base, length = rng.randrange(1 << 39), rng.choice([rng.randrange(450), 450, 450, 450])
            if rng.random() < 0.2:
                base = (1 << 40) - 430
            return {"region": rng.randrange(REGIONS + (rng.random() < 0.1)), "base": base, "length": length,
                    "rights": rng.choice([3, 3, 3, 3, 3, self.right, 3 - self.right]),
                    "owner": rng.choice([0, 0, 0, 0, 0, flow + 1])}
        start = held[0].start if held else end - 20
        wide = rng.choice([start, rng.randrange(start - 1, end + 1)])
        return {"flow": flow, "position": wide % WRAP, "size": rng.choice([0, 1, rng.randrange(60), rng.randrange(99)]),
                "carried": rng.getrandbits(7), "wide": wide}

    def apply(self, name, payload, refused):
        """An input was taken."""
        if name == "request":
            self.asked.append(Asked(self, payload))
            return
        if name == "post":
            held = self.lists[payload["flow"]]
            bad = len(held) == SEGMENTS or not payload["length"] or (
                held and payload["wide"] < held[-1].start + held[-1].length)
            assert refused == bool(bad)
            self.counts["refused"] += refused
            if not bad:
                held.append(Segment(payload["wide"], payload["length"], payload["region"], payload["offset"]))
                self.ends[payload["flow"]] = held[-1].start + held[-1].length
        elif name == "retire":
            del self.lists[payload["flow"]][:payload["count"]]
        elif name == "clear":
            self.lists[payload].clear()
        else:
            bad = payload["region"] >= REGIONS or payload["base"] + payload["length"] > 1 << 40
            assert refused == bad
            if not bad:
                number = payload["region"]
                self.regions[number] = Region(*(payload[key] for key in ("rights", "base", "length", "owner")))
        for asked in self.asked:
            asked.saw(self)

    async def run(self, ctx, requests, rates):
        """``rates``: how likely an update is offered in a cycle, by port."""
        dut, rng, left = self.dut, self.rng, requests
        for number in range(REGIONS):
            self.offers["region"] = {"region": number, "rights": 3, "base": 1000 * number, "length": 450, "owner": 0}
            await send(ctx, dut.region, [self.offers["region"]])
            self.apply("region", self.offers.pop("region"), 0)
        outputs = (dut.piece, dut.result)
        while left or self.asked or self.offers:
            for name in INPUTS:
                rate = 1 - self.idle if name == "request" else rates.get(name, 0)
                if name not in self.offers and left and rng.random() < rate:
                    left -= name == "request"
                    payload = self.offers[name] = self.draw(name)
                    port = getattr(dut, name)
                    ctx.set(port.payload, {k: v for k, v in payload.items() if k != "wide"}
                            if isinstance(payload, dict) else payload)
                    ctx.set(port.valid, 1)
            takes = [rng.random() >= self.stall for _ in outputs]
            for port, take in zip(outputs, takes, strict=True):
                ctx.set(port.ready, take)
            values = await ctx.tick().sample(
                *(getattr(dut, name).ready for name in INPUTS), dut.refused, dut.region_refused,
                *(value for port in outputs for value in (port.valid, port.payload)))
            readies, (refused, region_refused, *given) = values[2:7], values[7:]
            self._take(takes, given)
            done = [name for name, ready in zip(INPUTS, readies, strict=True) if ready and name in self.offers]
            for name in sorted(done, key=lambda name: name != "request"):  # a request sees what was applied before
                self.apply(name, self.offers.pop(name), region_refused if name == "region" else refused)
                ctx.set(getattr(dut, name).valid, 0)
        await ctx.tick()
        assert not ctx.get(dut.piece.valid) and not ctx.get(dut.result.valid)

    def _take(self, takes, given):
        if takes[0] and given[0]:
            next(asked for asked in self.asked if not asked.pieces or not asked.pieces[-1].last).pieces.append(given[1])
        if takes[1] and given[2]:
            self.results.append(given[3])
        while self.results and self.asked and self.asked[0].pieces and self.asked[0].pieces[-1].last:
            asked, result = self.asked.pop(0), self.results.pop(0)
            is_exact, counts = asked.check(self.right, result), self.counts
            counts["exact" if is_exact else "changed"] += 1
            counts["no_segment"] += result.no_segment
            counts["bad_region"] += result.bad_region
            counts["full"] += asked.size == result.covered != 0
            counts["several"] += len(asked.pieces) > 1


def play(seed, *, engines, right=Right.WRITE, requests, rates, idle=0.0, stall=0.0):
    dut = Cover(right, flows=FLOWS, segments=SEGMENTS, regions=REGIONS, engines=engines, carried=7)
    m = Module()
    m.submodules.dut = dut
    watch(m, dut.piece, name="piece")
    watch(m, dut.result, name="result")
    bench = Bench(dut, seed=seed, right=right, idle=idle, stall=stall)

    async def testbench(ctx):
        while not ctx.get(dut.ready):
            await ctx.tick()
        await bench.run(ctx, requests, rates)

    simulate(m, testbench, limit=requests * 30 + 500)
    print(f"seed {seed}: {bench.counts}")
    return bench.counts


SELDOM = {"post": 0.04, "retire": 0.01, "clear": 0.0005, "region": 0.005}
OFTEN = {"post": 0.9, "retire": 0.04, "clear": 0.001, "region": 0.01}


@pytest.mark.parametrize("engines", [1, 2, 3])
@pytest.mark.parametrize("rates,idle,stall", [(SELDOM, 0.8, 0.3), (OFTEN, 0.0, 0.0), (OFTEN, 0.3, 0.6)])
def test_cover(engines, rates, idle, stall):
    counts = play(engines, engines=engines, requests=200, rates=rates, idle=idle, stall=stall,
                  right=Right.READ if engines == 2 else Right.WRITE)
    assert all(counts.values())


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_cover_long(seed):
    rng = random.Random(seed)
    counts = play(seed, engines=rng.randint(1, 4), requests=10_000, rates=rng.choice([SELDOM, OFTEN]),
                  idle=rng.choice([0, 0.5, 0.9]), stall=rng.choice([0, 0.3, 0.8]))
    assert all(counts.values())
