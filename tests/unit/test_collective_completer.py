# SPDX-License-Identifier: Apache-2.0
"""Completions tell the last packet's tag and who sent it, or, after a failure, whom the cause is about."""

import pytest
from amaranth.sim import Simulator

from rackgate.collective.abi import Status
from rackgate.collective.control.completer import Completer


@pytest.mark.parametrize(("status", "packets", "node"), [
    (Status.SUCCESS, [(700, 3), (20, 9)], 9), (Status.SUCCESS, [], 0), (Status.TIMEOUT, [(700, 3)], 6)])
def test_node_of_a_completion(status, packets, node):
    dut = Completer(slots=16)

    async def bench(ctx):
        ctx.set(dut.context, 2)
        ctx.set(dut.info, {"slot": 4, "id": 77})
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for size, sender in packets:
            ctx.set(dut.received, {"valid": 1, "context": 2, "size": size, "node": sender, "tag": 100 * sender})
            await ctx.tick()
        ctx.set(dut.received, {"valid": 0, "context": 0, "size": 0, "node": 0, "tag": 0})
        await ctx.tick().repeat(3)
        ctx.set(dut.result[2], {"status": status, "cause": 0, "node": 6})
        ctx.set(dut.has_ended, 1 << 2)
        ctx.set(dut.o.ready, 1)
        for _ in range(20):
            if ctx.get(dut.answered):
                ctx.set(dut.has_ended, 0)
            if ctx.get(dut.o.valid):
                fields = ctx.get(dut.o.payload.fields)
                assert (fields.id, fields.status, fields.node) == (77, status, node)
                assert fields.tag == (100 * packets[-1][1] if packets else 0)
                assert fields.bytes == sum(size for size, _ in packets)
                return
            await ctx.tick()
        raise AssertionError("no completion")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
