# SPDX-License-Identifier: Apache-2.0
"""Bench of :class:`rackgate.stream.queue.Queue`, and an example of how a block's bench looks.

It draws idle cycles and back-pressure at random, and checks values, order, number, the level in every cycle, how
long the first payload takes, and that nothing is left at the end.
"""

from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge, with_timeout

from . import session

PERIOD_NS = 10
LIMIT_CYCLES = 20_000


class Bench:
    """The two ends of a queue, and what it must hold in between."""

    def __init__(self, dut, purpose):
        self.dut = dut
        self.rng = session.rng(purpose)
        self.depth = session.parameters()["depth"]
        self.inside = deque()
        self.taken = 0

    async def reset(self):
        """Start the clock, and leave the queue empty."""
        Clock(self.dut.clk, PERIOD_NS, unit="ns").start()
        self.dut.i__valid.value = 0
        self.dut.o__ready.value = 0
        self.dut.rst.value = 1
        for _ in range(2):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def cycle(self, *, offer, ready):
        """One clock cycle; ``offer`` is a payload or None. Returns whether it was taken."""
        dut = self.dut
        dut.i__valid.value = offer is not None
        dut.i__payload.value = self.rng.getrandbits(len(dut.i__payload)) if offer is None else offer
        dut.o__ready.value = ready
        await ReadOnly()
        assert int(dut.level.value) == len(self.inside), f"level is {int(dut.level.value)}, not {len(self.inside)}"
        accepted = offer is not None and bool(dut.i__ready.value)
        assert bool(dut.i__ready.value) == (len(self.inside) < self.depth), "ready does not say whether it is full"
        if dut.o__valid.value:
            assert self.inside, "a payload comes out of an empty queue"
            assert int(dut.o__payload.value) == self.inside[0], "another payload than the oldest comes out"
            if ready:
                self.inside.popleft()
                self.taken += 1
        if accepted:
            self.inside.append(offer)
        await RisingEdge(dut.clk)
        return accepted


async def _traffic(bench, count, *, idle, stall):
    """Put ``count`` payloads in, with a probability of idling and stalling in each cycle, and take all of them."""
    offer, put = None, 0
    while put < count or bench.inside:
        if offer is None and put < count and bench.rng.random() >= idle:
            offer = bench.rng.getrandbits(len(bench.dut.i__payload))
        if await bench.cycle(offer=offer, ready=bench.rng.random() >= stall):
            offer, put = None, put + 1
    return put


@cocotb.test()
@cocotb.parametrize(idle=[0.0, 0.5, 0.9], stall=[0.0, 0.5, 0.9])
async def random_traffic(dut, idle, stall):
    """Everything comes out once and in order, whatever the two ends do."""
    bench = Bench(dut, f"traffic {idle} {stall}")
    await bench.reset()
    put = await with_timeout(_traffic(bench, 300, idle=idle, stall=stall), LIMIT_CYCLES * PERIOD_NS, "ns")
    assert put == bench.taken == 300
    for _ in range(8):
        await bench.cycle(offer=None, ready=1)
    assert bench.taken == 300


@cocotb.test()
async def fill_and_drain(dut):
    """It holds just what it says, refuses more, and gives it all out in one payload a cycle."""
    bench = Bench(dut, "fill")
    await bench.reset()
    accepted = 0
    for value in range(bench.depth + 4):
        accepted += await bench.cycle(offer=value, ready=0)
    assert accepted == bench.depth
    for _ in range(bench.depth):
        await bench.cycle(offer=None, ready=1)
    assert bench.taken == bench.depth


@cocotb.test()
async def latency(dut):
    """A payload can be taken one cycle after it went in, or three when it goes through block RAM."""
    bench = Bench(dut, "latency")
    await bench.reset()
    await bench.cycle(offer=1, ready=1)
    cycles = 0
    while not bench.taken:
        cycles += 1
        assert cycles <= LIMIT_CYCLES, "nothing comes out"
        await bench.cycle(offer=None, ready=1)
    assert cycles == (3 if bench.depth > 32 else 1)
