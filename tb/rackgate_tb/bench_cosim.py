# SPDX-License-Identifier: Apache-2.0
"""The traffic of ``rackgate bench cosim`` under cocotb: see :mod:`rackgate_tb.speed_host`."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from . import session
from .speed_host import INPUTS, OUTPUTS, Host


@cocotb.test(timeout_time=1, timeout_unit="sec")
async def traffic(dut):
    """Jobs until the time is up."""
    options = session.options()
    inputs = {name: getattr(dut, name) for name in INPUTS}
    outputs = {name: getattr(dut, name) for name in OUTPUTS}

    def put(name, value):
        outputs[name].value = value

    host = Host(options["id_width"], [bytes.fromhex(page) for page in options["pages"]], options["seconds"],
                lambda name: int(inputs[name].value), put)
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    host.start()
    edge = RisingEdge(dut.clk)
    for _ in range(4):
        await edge
    dut.rst.value = 0
    await edge
    while not host.done:
        await edge
        host.step()
    session.report(**host.result())
