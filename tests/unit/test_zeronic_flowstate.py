# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The state of flows against a list."""

import random

import pytest
from amaranth.hdl import Module
from zeronic_tables import Bench

from rackgate.verif.stimulus import simulate
from rackgate.verif.stream_rules import watch
from rackgate.zeronic.abi import before
from rackgate.zeronic.messages import FlowFlag
from rackgate.zeronic.tables.flowstate import FlowState

CLEAR = {"receive": 0, "ring": 0, "coalesce": 0, "cursor": 0}


@pytest.mark.parametrize("flows,error", [(8, ValueError), (24, ValueError), (2048, ValueError), ("16", TypeError)])
def test_parameters(flows, error):
    with pytest.raises(error):
        FlowState(flows)


@pytest.mark.parametrize("flows,idle,stall,updates", [(16, 0, 0, 0.1), (16, 0.3, 0.4, 0.4), (64, 0, 0.5, 1),
                                                      (1024, 0, 0, 0.3)])
def test_lookups(flows, idle, stall, updates, seed):
    """Flows begin, cursors go on and do not go back, also past zero; a lookup sees what was taken before it."""
    rng, m, dut = random.Random(seed), Module(), FlowState(flows, carried=12)
    m.submodules.dut = dut
    watch(m, dut.o, name="o")
    known, back = [dict(CLEAR) for _ in range(flows)], []

    def update():
        flow = rng.randrange(min(flows, 20))
        step = rng.choice((rng.randrange(1 << 31), 1, 0, -1, -rng.randrange(1 << 31), (1 << 31) - 1, -(1 << 31)))
        cursor = (known[flow]["cursor"] + step) % (1 << 32)
        return {"flow": flow, "begin": rng.random() < 0.3, "flags": rng.randrange(256), "cursor": cursor}

    def apply(item):
        state = known[item["flow"]]
        if item["begin"]:
            state.update(receive=bool(item["flags"] & FlowFlag.RECEIVE), ring=bool(item["flags"] & FlowFlag.RING_1),
                         coalesce=bool(item["flags"] & FlowFlag.COALESCE), cursor=item["cursor"])
        elif before(item["cursor"], state["cursor"]):
            back.append(item)
        else:
            state["cursor"] = item["cursor"]

    bench = Bench(dut, rng, count=600, lookup=lambda n: {"flow": rng.randrange(min(flows, 20)), "carried": n},
                  expected=lambda item: {**known[item["flow"]], "carried": item["carried"]}, update=update, apply=apply)
    simulate(m, bench.run(idle=idle, stall=stall, updates=updates))
    assert back and bench.updated > 3 * len(back) // 2


@pytest.mark.parametrize("flows", [16, 256])
def test_pace(flows, seed):
    """A flow a cycle is cleared after reset; then a lookup a cycle, 2 cycles each."""
    rng, dut = random.Random(seed), FlowState(flows, carried=12)
    bench = Bench(dut, rng, count=50, lookup=lambda n: {"flow": rng.randrange(flows), "carried": n},
                  expected=lambda item: {**CLEAR, "carried": item["carried"]})
    simulate(dut, bench.run(idle=0, stall=0, updates=0))
    assert bench.cleared == flows
    assert bench.latency() == (2, 50)
