# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Combinational helpers against Python."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from rackgate.inflate.logic import at_least, select


def evaluate(function, width):
    """``function`` of every value of a signal of ``width`` bits."""
    m = Module()
    value = Signal(width)
    result = Signal(8)
    m.d.comb += result.eq(function(value))
    simulator = Simulator(m)
    results = []

    async def testbench(ctx):
        for number in range(1 << width):
            ctx.set(value, number)
            results.append(ctx.get(result))

    simulator.add_testbench(testbench)
    simulator.run()
    return results


@pytest.mark.parametrize("constant", range(-1, 18))
def test_at_least(constant):
    assert evaluate(lambda value: at_least(value, constant), 4) == [number >= constant for number in range(16)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8])
def test_select(count):
    values = [17 * k + 3 for k in range(count)]
    assert evaluate(lambda index: select(values, index), 3)[:count] == values


def test_select_needs_an_index_wide_enough():
    with pytest.raises(ValueError, match="index must reach all 9 values, which 3 bits do not"):
        select(range(9), Signal(3))
