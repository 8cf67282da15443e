# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The chain of symbols against a walk in software."""

import random

import pytest
from amaranth.sim import Simulator

from rackgate.inflate.chain import BLOCKS, COUNT_BITS, Chain
from rackgate.inflate.pairs import Pairs


def random_block(rng, lanes, short):
    """For each offset: (bits, code, bad, is_length) of the literal/length symbol, (bits, code, bad) of the distance."""
    literal = [(rng.randint(1, 4 if short else 20), rng.randrange(16), rng.random() < 0.1, rng.random() < 0.3)
               for _ in range(lanes)]
    distance = [(rng.randint(1, 6 if short else 28), rng.randrange(16), rng.random() < 0.1) for _ in range(lanes)]
    return literal, distance


def walk(blocks, lanes):
    """(picks of each block that has any, in pairs; cycles that take)."""
    at, match, groups, cycles = 0, False, [], 0
    for number, (literal, distance) in enumerate(blocks):
        picks = []
        while at < lanes:
            bits, code, bad = distance[at] if match else literal[at][:3]
            picks.append((number % BLOCKS, at, bits, code, int(match), int(bad)))
            match = not match and literal[at][3]
            at += bits
        at -= lanes
        groups += [picks[k:k + 2] for k in range(0, len(picks), 2)]
        cycles += max(1, -(-len(picks) // 2))
    return groups, cycles


@pytest.mark.thorough
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("idle", [0.0, 0.4])
@pytest.mark.parametrize("short", [False, True])
def test_walk(lanes, idle, short):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    blocks = [random_block(rng, lanes, short) for _ in range(60)]
    dut, got, counts = Chain(lanes), [], {"put": 0, "walked": 0, "cycles": 0}
    mask = (1 << COUNT_BITS) - 1

    async def lanes_side(ctx):
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        while counts["put"] < len(blocks):
            free = counts["put"] - counts["walked"] < BLOCKS - 1
            put = free and rng.random() >= idle
            ctx.set(dut.put, put)
            if put:
                for offset, (literal, distance) in enumerate(zip(*blocks[counts["put"]], strict=True)):
                    ctx.set(dut.steps[offset], {"literal_stop": offset + literal[0], "is_length": literal[3],
                                                "distance_stop": offset + distance[0]})
                    ctx.set(dut.results[offset], {
                        "literal_bits": literal[0], "literal_code": literal[1], "literal_bad": literal[2],
                        "distance_bits": distance[0], "distance_code": distance[1], "distance_bad": distance[2]})
            counts["put"] += put
            await ctx.tick()
            ctx.set(dut.known, max(0, counts["put"] - rng.randrange(3) * (idle > 0)) & mask)
        ctx.set(dut.put, 0)
        ctx.set(dut.known, counts["put"] & mask)
        for _ in range(200):
            await ctx.tick()

    async def symbols_side(ctx):
        while True:
            ctx.set(dut.step, rng.random() >= idle)
            _, _, walked, block, *picks = await ctx.tick().sample(dut.walked, dut.block, *dut.picks)
            counts["walked"] += (walked - counts["walked"]) & mask
            counts["cycles"] += counts["walked"] < len(blocks)
            found = [(block, pick.offset, pick.bits, pick.code, pick.is_distance, pick.bad)
                     for pick in picks if pick.valid]
            assert bool(picks[0].valid) >= bool(picks[1].valid)
            if found:
                got.append(found)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(lanes_side)
    sim.add_testbench(symbols_side, background=True)
    sim.run()
    groups, cycles = walk(blocks, lanes)
    assert got == groups
    if not idle:
        assert counts["cycles"] <= cycles + 5


def test_parameters():
    for component in (Chain, Pairs):
        with pytest.raises(ValueError, match="^lanes must be 8 or 16, not 4$"):
            component(4)
