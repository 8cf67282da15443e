# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Frames and fences through the tables, against dictionaries."""

import random
from collections import deque

import pytest
from amaranth.hdl import Module
from zeronic_tables import random_key

from rackgate.verif.stimulus import simulate
from rackgate.verif.stream_rules import watch
from rackgate.zeronic.abi import WAYS, before, flow_hash
from rackgate.zeronic.rx.lookup import Lookup

FLOWS = 16
SAME = {"position": 32, "headers": 7, "payload": 14, "flags": 8}


def test_parameters():
    with pytest.raises(ValueError, match="flows must be a power of two from 16 to 1024, not 100"):
        Lookup(100)


class World:
    """What the tables hold, and what is to come out."""

    def __init__(self, rng):
        self.rng = rng
        self.keys = [random_key(rng) for _ in range(12)]
        self.places, self.flows = {}, {flow: (0, 0) for flow in range(FLOWS)}
        self.wanted = deque()

    def make(self, name):
        """Something for the input of that name."""
        rng = self.rng
        if name == "i":
            return {**{field: rng.getrandbits(size) for field, size in SAME.items()}, "split": rng.random() < 0.9,
                    "key": rng.choice(self.keys)}
        if name == "fence":
            return {"ring": rng.randrange(2), "cookie": rng.getrandbits(16)}
        if name == "key":
            key = rng.choice(self.keys)
            # One place for each key: a key must not stand twice.
            place = flow_hash(**key) % (FLOWS // 2) * WAYS + self.keys.index(key) % WAYS
            return {"place": place, "valid": rng.random() < 0.9, "flow": rng.randrange(FLOWS), "key": key}
        return {"flow": rng.randrange(FLOWS), "begin": rng.random() < 0.4, "flags": rng.randrange(8),
                "cursor": rng.getrandbits(32)}

    def take(self, name, item):
        """It was taken."""
        if name == "key":
            self.places[item["place"]] = item
        elif name == "flow":
            flags, cursor = self.flows[item["flow"]]
            if item["begin"]:
                self.flows[item["flow"]] = (item["flags"], item["cursor"])
            elif not before(item["cursor"], cursor):
                self.flows[item["flow"]] = (flags, item["cursor"])
        elif name == "fence":
            self.wanted.append({"is_fence": 1, "ring": item["ring"], "cookie": item["cookie"]})
        else:
            self.wanted.append({"is_fence": 0, "frame": self.look(item)})

    def look(self, item):
        """What is known of a frame."""
        found = [one["flow"] for one in self.places.values() if one["valid"] and one["key"] == item["key"]]
        has_flow = bool(item["split"] and found)
        flags, cursor = self.flows[found[0]] if has_flow else (0, 0)
        frame = {"checked": item["split"], "has_flow": has_flow, "split": flags & 1, "ring": flags >> 1 & 1}
        if has_flow:
            frame |= {name: item[name] for name in SAME}
            frame |= {"flow": found[0], "coalesce": flags >> 2, "cursor": cursor}
        return frame


#: How often each input has something, a cycle.
RATES = {
    "busy": {"i": 1, "fence": 0.02, "key": 0.02, "flow": 0.02},
    "mixed": {"i": 0.5, "fence": 0.2, "key": 0.2, "flow": 0.2},
    "updates": {"i": 0.2, "fence": 0.1, "key": 0.9, "flow": 0.9},
}


@pytest.mark.parametrize("rates,stall", [("busy", 0), ("busy", 0.4), ("mixed", 0.3), ("updates", 0)])
def test_lookup(rates, stall, seed):
    """Any order of frames, fences and updates, which come alone at first, so that there is something to find.

    A frame may see an update that comes while it is looked up: not here.
    """
    rng, m, dut = random.Random(seed), Module(), Lookup(FLOWS)
    m.submodules.dut = dut
    watch(m, dut.o, name="o")
    world, names, got, split = World(rng), ("i", "fence", "key", "flow"), [0], [0]

    async def bench(ctx):
        offers = dict.fromkeys(names)
        ports = {name: getattr(dut, name) for name in names}
        under_way = updates = 0
        while got[0] < 600 or under_way:
            rate = RATES[rates] if updates >= 120 else {"i": 0, "fence": 0, "key": 0.4, "flow": 0.9}
            for name in names:
                # The flow's state is read two cycles after the key: a change in between would be seen or not.
                quiet = name not in ("key", "flow") or not under_way and offers["i"] is None and (
                    offers["key"] is offers["flow"] is None)
                if name == "i" and (offers["key"] or offers["flow"]):
                    quiet = False
                if offers[name] is None and got[0] + under_way < 600 and quiet and rng.random() < rate[name]:
                    offers[name] = world.make(name)
                    ctx.set(ports[name].payload, offers[name])
                ctx.set(ports[name].valid, offers[name] is not None)
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, *taken, valid, out, idle = await ctx.tick().sample(
                *(port.ready for port in ports.values()), dut.o.valid, dut.o.payload, dut.idle)
            assert idle == (under_way == 0)
            for name, takes in zip(names, taken, strict=True):
                if takes and offers[name] is not None:
                    world.take(name, offers[name])
                    offers[name] = None
                    under_way += name in ("i", "fence")
                    updates += name in ("key", "flow")
            if valid and ready:
                wanted = world.wanted.popleft()
                frame = wanted.pop("frame", {})
                assert all(out[name] == value for name, value in wanted.items())
                for name, value in frame.items():
                    assert out.frame[name] == value, name
                got[0] += 1
                split[0] += frame.get("split", 0)
                under_way -= 1

    simulate(m, bench)
    assert not world.wanted
    assert 0 < split[0] < 600


def test_order(seed):
    """A fence that follows an update has behind it only frames that see it, however busy the way is."""
    rng, dut = random.Random(seed), Lookup(FLOWS)
    key = random_key(rng)
    place = flow_hash(**key) % (FLOWS // 2) * WAYS
    seen = []

    async def bench(ctx):
        while not ctx.get(dut.ready):
            await ctx.tick()
        ctx.set(dut.key.payload, {"place": place, "valid": 1, "flow": 3, "key": key})
        ctx.set(dut.key.valid, 1)
        ctx.set(dut.i.payload, {"split": 1, "key": key})
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        ctx.set(dut.key.valid, 0)
        jobs = deque()
        for cookie in range(40):
            jobs += [("flow", {"flow": 3, "begin": 1, "flags": 1, "cursor": cookie}),
                     ("fence", {"ring": 0, "cookie": cookie})]
        for _ in range(600):
            name, item = jobs[0] if jobs else ("fence", None)
            port = getattr(dut, name)
            if item is not None:
                ctx.set(port.payload, item)
            ctx.set(port.valid, item is not None)
            ready = rng.random() < 0.7
            ctx.set(dut.o.ready, ready)
            _, _, takes, valid, out = await ctx.tick().sample(port.ready, dut.o.valid, dut.o.payload)
            if item is not None and takes:
                jobs.popleft()
                ctx.set(port.valid, 0)
            if valid and ready:
                seen.append(("fence", out.cookie) if out.is_fence else ("frame", out.frame.cursor))

    simulate(dut, bench)
    at = -1
    for what, number in seen:
        if what == "fence":
            assert number == at + 1
            at = number
        else:
            assert number >= at and number <= at + 2
    assert at == 39 and sum(what == "frame" for what, _ in seen) > 100


def test_latency():
    """4 cycles, one a cycle."""
    dut, times = Lookup(FLOWS), []

    async def bench(ctx):
        while not ctx.get(dut.ready):
            await ctx.tick()
        ctx.set(dut.o.ready, 1)
        for cycle in range(30):
            ctx.set(dut.i.valid, cycle < 20)
            _, _, ready, valid = await ctx.tick().sample(dut.i.ready, dut.o.valid)
            assert ready
            times.append(valid)

    simulate(dut, bench)
    assert times == [0] * 4 + [1] * 20 + [0] * 6
