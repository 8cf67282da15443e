# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The table of flows against a list of its places."""

import random
from collections import Counter

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from zeronic_tables import DEPTHS, Bench, random_key

from rackgate.verif.stimulus import simulate
from rackgate.verif.stream_rules import watch
from rackgate.zeronic.abi import WAYS, flow_hash
from rackgate.zeronic.records import FlowKey
from rackgate.zeronic.tables.flowtable import FlowTable, hash_of


@pytest.mark.parametrize("flows,error", [(8, ValueError), (24, ValueError), (2048, ValueError), ("16", TypeError)])
def test_parameters(flows, error):
    with pytest.raises(error):
        FlowTable(flows)


def test_hash(seed):
    """The gates make what the driver computes."""
    rng, m, key = random.Random(seed), Module(), Signal(FlowKey)
    hashed = Signal(16)
    m.d.comb += hashed.eq(hash_of(key))
    simulator = Simulator(m)

    async def bench(ctx):
        singles = [dict.fromkeys(("source", "destination", "source_port", "destination_port", "profile"), 0)]
        for name, size in (("source", 32), ("destination", 32), ("source_port", 16), ("destination_port", 16),
                           ("profile", 2)):
            singles += [{**singles[0], name: 1 << bit} for bit in range(size)]
        for one in [*singles, *(random_key(rng) for _ in range(300))]:
            ctx.set(key, one)
            assert ctx.get(hashed) == flow_hash(**one)

    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("flows", [16, 64, 256, 1024])
@pytest.mark.parametrize("is_server", [False, True])
@pytest.mark.parametrize("what", ["any of one parity", "each other one", "in a row", "addresses in a row"])
def test_hash_spreads(flows, is_server, what, seed):
    """Keys as they come in practice nearly all find a place, though the table has only twice as many."""
    rng, here, there = random.Random(seed), 0x0A4D0001, 0x0A4D0100
    first = rng.randrange(32768, 58000)
    ports = {"any of one parity": rng.sample(range(first % 2 + 32768, 60999, 2), flows),
             "each other one": range(first, first + 2 * flows, 2), "in a row": range(first, first + flows),
             "addresses in a row": [40000] * flows}[what]
    taken = Counter()
    for number, port in enumerate(ports):
        peer = there + number * (what == "addresses in a row")
        ends = (peer, here, port, 6379) if is_server else (here, peer, 6379, port)
        taken[flow_hash(*ends, 0) % (2 * flows // WAYS)] += 1
    lost = sum(max(count - WAYS, 0) for count in taken.values())
    assert lost <= flows / 6 + 3, f"{lost} of {flows} find no place"


@pytest.mark.parametrize("flows,idle,stall,updates", [(16, 0, 0, 0.1), (16, 0.3, 0.4, 0.4), (64, 0, 0.5, 0.02),
                                                      (1024, 0, 0, 0.3)])
def test_lookups(flows, idle, stall, updates, seed):
    """Lookups and updates in any order: each lookup sees the updates that were taken before it, and no other."""
    rng, m, dut = random.Random(seed), Module(), FlowTable(flows, carried=12)
    m.submodules.dut = dut
    watch(m, dut.o, name="o")
    sets = dut.sets
    places = [(0, None, 0)] * (sets * WAYS)
    # Few keys, some with the same hash, so that sets are full and lookups hit.
    keys = [random_key(rng) for _ in range(40)]
    keys += [{**key, "source_port": key["source_port"] ^ 0xF0F, "destination_port": 0} for key in keys[:5]]

    def expected(item):
        key = item["key"]
        place = flow_hash(**key) % sets * WAYS
        for valid, known, flow in places[place:place + WAYS]:
            if valid and known == key:
                return {"hit": 1, "flow": flow, "carried": item["carried"]}
        return {"hit": 0, "carried": item["carried"]}

    def update():
        key = rng.choice(keys)
        row = flow_hash(**key) % sets if rng.random() < 0.9 else rng.randrange(sets)
        return {"place": row * WAYS + rng.randrange(WAYS), "valid": rng.random() < 0.8, "flow": rng.randrange(flows),
                "key": key}

    def apply(item):
        places[item["place"]] = (item["valid"], item["key"], item["flow"])

    def lookup(number):
        return {"key": rng.choice(keys) if rng.random() < 0.8 else random_key(rng), "carried": number % 4096}

    bench = Bench(dut, rng, count=600, lookup=lookup, expected=expected, update=update, apply=apply)
    simulate(m, bench.run(idle=idle, stall=stall, updates=updates))
    hits = sum(one["hit"] for one in bench.wanted)
    assert 50 < hits < 600, hits


@pytest.mark.parametrize("flows", [16, 256])
def test_pace(flows, seed):
    """A set a cycle is cleared after reset; then a lookup a cycle, 2 cycles each."""
    rng, dut = random.Random(seed), FlowTable(flows, carried=12)
    bench = Bench(dut, rng, count=50, lookup=lambda n: {"key": random_key(rng), "carried": n},
                  expected=lambda item: {"hit": 0, "carried": item["carried"]})
    simulate(dut, bench.run(idle=0, stall=0, updates=0))
    assert bench.cleared == dut.sets
    assert bench.latency() == (2, 50)


def test_every_bit_counts():
    """A key that differs in any one bit is another."""
    key = dict.fromkeys(DEPTHS, 1)
    others = [{**key, name: key[name] ^ 1 << bit} for name, size in DEPTHS.items() for bit in range(size)]
    rng, dut = random.Random(1), FlowTable(16, carried=12)
    # All sets hold the key, so only the comparison can tell.
    todo = [{"place": place * WAYS + 2, "valid": 1, "flow": 5, "key": key} for place in range(dut.sets)]
    lookups = [key, *others]
    bench = Bench(dut, rng, count=len(lookups), lookup=lambda n: {"key": lookups[n], "carried": n},
                  expected=lambda item: {"hit": item["key"] == key, "carried": item["carried"]},
                  update=todo.pop)
    simulate(dut, bench.run(idle=0, stall=0, updates=1, first=len(todo)))
    assert sum(one["hit"] for one in bench.wanted) == 1
