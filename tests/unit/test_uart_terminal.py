# SPDX-License-Identifier: Apache-2.0
"""The far end of a serial line against a waveform that is drawn and read here, a cycle at a time."""

import random
from fractions import Fraction

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from rackgate_sim.board.uart import UartTerminal


def wave(content, bit_cycles, *, gap=0, stop=1):
    """Levels of a line that carries ``content``, a cycle each."""
    bits = [1] * 3
    for byte in content:
        bits += [0, *(byte >> k & 1 for k in range(8)), stop, *[1] * gap]
    return [bits[int(cycle / bit_cycles)] for cycle in range(int(len(bits) * bit_cycles))] + [1] * int(12 * bit_cycles)


def read(levels, bit_cycles):
    """Bytes that a line's levels carry."""
    content, cycle = bytearray(), 0
    while cycle < len(levels) and not all(levels[cycle:]):
        cycle += levels[cycle:].index(0)
        middles = [cycle + int((k + Fraction(1, 2)) * bit_cycles) for k in range(10)]
        assert levels[middles[0]] == 0 and levels[middles[9]] == 1
        content.append(sum(levels[middles[1 + k]] << k for k in range(8)))
        cycle = middles[9]
    return bytes(content)


def taking(end, into, cycles):
    """A bench that takes all bytes that come within some cycles."""

    async def bench(ctx):
        ctx.set(end.o.ready, 1)
        for _ in range(cycles):
            *_, valid, payload = await ctx.tick().sample(end.o.valid, end.o.payload)
            if valid:
                into.append(payload)

    return bench


def simulate(dut, *benches, seconds=0.01):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    for bench in benches:
        simulator.add_testbench(bench)
    simulator.run_until(seconds)


@pytest.mark.parametrize("bit_cycles", [4, Fraction(87, 10), 20])
def test_sends(bit_cycles, seed):
    content, levels, dut = random.Random(seed).randbytes(12), [], UartTerminal(bit_cycles)

    async def push(ctx):
        for byte in content:
            ctx.set(dut.i.payload, byte)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)

    async def watch(ctx):
        for _ in range(int(10 * len(content) * bit_cycles) + 60):
            levels.append(ctx.get(dut.tx))
            await ctx.tick()

    simulate(dut, push, watch)
    assert read(levels, bit_cycles) == content
    # The next start bit follows the stop bit at once, or a cycle later.
    assert levels[-1] == 1 and len(levels) - levels[::-1].index(0) <= len(content) * (10 * bit_cycles + 1) + 4


@pytest.mark.parametrize("off", [Fraction(-2, 100), 0, Fraction(2, 100)])
@pytest.mark.parametrize("bit_cycles", [8, Fraction(217, 10)])
def test_receives(bit_cycles, off, seed):
    content, dut, taken = random.Random(seed).randbytes(12), UartTerminal(bit_cycles), []

    async def draw(ctx):
        for level in wave(content, bit_cycles * (1 + off)):
            ctx.set(dut.rx, level)
            await ctx.tick()

    simulate(dut, draw, taking(dut, taken, int(bit_cycles * 11 * len(content))))
    assert bytes(taken) == content


def test_what_is_no_byte(seed):
    """A glitch, and a byte without a stop bit, are dropped; the next byte is right."""
    dut, taken = UartTerminal(16), []

    async def draw(ctx):
        for level in [1, 1, 0, 0, 0, 0, *[1] * 40, *wave(b"\x55", 16, stop=0), *wave(b"!", 16)]:
            ctx.set(dut.rx, level)
            await ctx.tick()

    simulate(dut, draw, taking(dut, taken, 1200))
    assert bytes(taken) == b"!"


def test_two_of_them(seed):
    """Two terminals of different speeds understand each other, both ways at a time."""

    class Pair(wiring.Component):
        done: Out(1)

        def __init__(self):
            super().__init__()
            self.ends = UartTerminal(10), UartTerminal(Fraction(102, 10))

        def elaborate(self, platform):
            m = Module()
            m.submodules += self.ends
            m.d.comb += [self.ends[0].rx.eq(self.ends[1].tx), self.ends[1].rx.eq(self.ends[0].tx)]
            return m

    rng, dut = random.Random(seed), Pair()
    sent, taken = [rng.randbytes(20) for _ in range(2)], ([], [])

    def send(end, content):
        async def bench(ctx):
            for byte in content:
                ctx.set(end.i.payload, byte)
                ctx.set(end.i.valid, 1)
                await ctx.tick().until(end.i.ready)
            ctx.set(end.i.valid, 0)
        return bench

    simulate(dut, *(send(end, content) for end, content in zip(dut.ends, sent, strict=True)),
             *(taking(end, into, 3000) for end, into in zip(dut.ends, taken, strict=True)))
    assert [bytes(one) for one in taken] == [sent[1], sent[0]]


def test_bit_cycles():
    with pytest.raises(ValueError, match="bit_cycles must be at least 2, not 1"):
        UartTerminal(1)
