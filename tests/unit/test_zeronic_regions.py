# SPDX-License-Identifier: Apache-2.0
"""Regions against plain numbers; updates of them at any time are in the tests of Cover."""

import random

import pytest
from amaranth.hdl import Module

from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch
from rackgate.zeronic.abi import Right
from rackgate.zeronic.tables.regions import Regions

END = 1 << 40


@pytest.mark.parametrize("make,rule", [
    (lambda: Regions(Right.READ, 0), "regions must be 1 to 256, not 0"),
    (lambda: Regions(Right.READ, 257), "regions must be 1 to 256, not 257"),
    (lambda: Regions(Right.READ, 4, address_bits=41), "address_bits must be 1 to 40, not 41"),
    (lambda: Regions(Right.READ | Right.WRITE, 4), "right must be Right.READ or Right.WRITE, not"),
    (lambda: Regions(Right(0), 4), "right must be Right.READ or Right.WRITE, not"),
])
def test_parameters(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()
    with pytest.raises(TypeError):
        Regions(Right.READ, "4")
    with pytest.raises(TypeError):
        Regions("READ", 4)


def entries(rng, count):
    """Regions at both ends of memory, whole memory but a byte, and none."""
    made = [(3, 0, END - 1, 0), (3, END - 1, 1, 0), (3, 5, 0, 0), (0, 0, 1 << 20, 0)]
    while len(made) < count:
        base = rng.randrange(END)
        made.append((rng.randrange(4), base, rng.choice([END - base, rng.randrange(END - base)]) % END,
                     rng.choice([0, 0, rng.randrange(1, 1025)])))
    return [dict(zip(("rights", "base", "length", "owner"), entry, strict=True)) for entry in made]


def draw(rng, table):
    """A request, often at the very end of a region."""
    number = rng.randrange(len(table) + (rng.random() < 0.1))
    entry = table[number] if number < len(table) else table[0]
    size = rng.choice([0, 1, rng.randrange(1 << 14)])
    offset = rng.choice([0, rng.randrange(2 * END), entry["length"] - size + rng.randint(-1, 1), entry["length"]])
    flow = entry["owner"] - 1 if entry["owner"] and rng.random() < 0.8 else rng.randrange(1024)
    return {"flow": flow, "region": number, "offset": max(0, offset), "size": size, "carried": rng.getrandbits(8)}


def address(table, right, request):
    """Where its bytes are, or None."""
    if request["region"] >= len(table):
        return None
    entry = table[request["region"]]
    allowed = (entry["rights"] & right and entry["owner"] in (0, request["flow"] + 1)
               and request["offset"] + request["size"] <= entry["length"])
    return entry["base"] + request["offset"] if allowed else None


@pytest.mark.parametrize("right,idle,stall", [(Right.READ, 0, 0), (Right.WRITE, 0.3, 0.4), (Right.READ, 0.7, 0)])
def test_regions(right, idle, stall):
    print(f"seed {int(right)}")
    rng, dut, m = random.Random(int(right)), Regions(right, 24, carried=8), Module()
    m.submodules.dut = dut
    watch(m, dut.o, name="o")
    table = entries(rng, 24)
    requests = [draw(rng, table) for _ in range(500)]
    wanted = [address(table, right, request) for request in requests]
    assert 100 < sum(place is not None for place in wanted) < 400

    async def ask(ctx):
        await send(ctx, dut.update, [{"region": number, **entry} for number, entry in enumerate(table)])
        await send(ctx, dut.i, requests, rng=rng, idle=idle)

    async def check(ctx):
        answers = await receive(ctx, dut.o, len(requests), rng=rng, stall=stall)
        for request, place, answer in zip(requests, wanted, answers, strict=True):
            assert answer.ok == (place is not None) and answer.carried == request["carried"], request
            # A size of 0 just behind the end of memory has no address.
            assert place is None or answer.address == place % END
        await ctx.tick().repeat(9)
        assert not ctx.get(dut.o.valid)

    simulate(m, ask, check)


def test_times():
    """One a cycle, 4 cycles later; and what is refused changes nothing."""
    dut = Regions(Right.READ, 3, carried=8)

    async def testbench(ctx):
        for region, base, length, refused in (
                (0, 100, 50, 0), (0, END - 1, 2, 1), (3, 0, 1, 1), (255, 0, 1, 1), (1, END - 7, 7, 0), (2, 8, 8, 0)):
            ctx.set(dut.update.payload, {"region": region, "rights": 1, "base": base, "length": length})
            ctx.set(dut.update.valid, 1)
            assert await ctx.tick().sample(dut.refused).until(dut.update.ready) == (refused,)
            ctx.set(dut.update.valid, 0)
        ctx.set(dut.o.ready, 1)
        for cycle in range(13):
            ctx.set(dut.i.valid, cycle < 9)
            ctx.set(dut.i.payload, {"region": cycle % 3, "offset": 1, "size": 6, "carried": cycle})
            _, _, ready, valid, answer = await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload)
            assert ready and valid == (cycle >= 4)
            if valid:
                assert (answer.ok, answer.carried) == (1, cycle - 4)
                assert answer.address == (101, END - 6, 9)[(cycle - 4) % 3]

    simulate(dut, testbench)
