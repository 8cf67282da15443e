# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""zeronic.relay: what is taken at one end has been taken at the other, in order, and from registers."""

import random

import pytest

from rackgate.verif.stimulus import receive, send, simulate
from rackgate.zeronic.relay import Relay


@pytest.mark.parametrize("idle,stall", [(0, 0), (0.5, 0.2), (0.2, 0.8)])
def test_taken_there_before_here(idle, stall, seed):
    print(f"seed {seed}")
    rng, dut, given, came = random.Random(seed), Relay(8), [], []
    items = [rng.randrange(256) for _ in range(100)]

    async def source(ctx):
        for item in items:
            await send(ctx, dut.i, [item], rng=random.Random(seed + 1), idle=idle)
            given.append(item)
            assert came[:len(given)] == given, "taken here, and not there"

    async def sink(ctx):
        draw = random.Random(seed + 2)
        while len(came) < len(items):
            came.extend(await receive(ctx, dut.o, 1, rng=draw, stall=stall))
            assert len(came) <= len(given) + 1

    simulate(dut, source, sink)
    assert given == came == items


def test_timing():
    """A payload every 3 cycles; what is at one end in a cycle does not show at the other in it."""
    dut, seen = Relay(8), []

    async def watch(ctx):
        ctx.set(dut.i.valid, 1)
        for ready in (0, 0, 1, 1, 1, 1, 1, 1):
            ctx.set(dut.o.ready, ready)
            seen.append((ctx.get(dut.o.valid), ctx.get(dut.i.ready)))
            await ctx.tick()

    simulate(dut, watch)
    assert seen == [(0, 0), (1, 0), (1, 0), (0, 1), (0, 0), (1, 0), (0, 1), (0, 0)]
