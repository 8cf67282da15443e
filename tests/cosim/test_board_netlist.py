# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The echo system after synthesis for an ECP5, cell by cell, at its serial line: its driver finds no difference."""

import random
from importlib import import_module

import pytest
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

import rackgate_host
from rackgate.board.device import board_device
from rackgate.board.links import Uart
from rackgate.export import to_verilog
from rackgate_boards.netlist import netlist, simulation_cells
from rackgate_host.echo import EchoDriver
from rackgate_sim.board.serve import CLOCK_HZ, UartBoard

# The module, whose name its package gives to a function of it.
native_build = import_module("rackgate_sim.native.build")

pytestmark = [pytest.mark.cosim, pytest.mark.thorough, pytest.mark.xdist_group("yowasp")]


class Netlist(wiring.Component):
    """A board whose insides are a netlist of that name."""

    rx: In(1, init=1)
    tx: Out(1, init=1)

    def __init__(self, board, name):
        self.link, self.divisor, self._name = board.link, board.divisor, name
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.cells = Instance(self._name, i_clk=ClockSignal(), i_rst=ResetSignal(), i_rx=self.rx, o_tx=self.tx)
        return m


def test_echo_as_cells(monkeypatch, seed):
    board = board_device("echo", {}, board="netlist", link=Uart(CLOCK_HZ // 4), clock_hz=CLOCK_HZ, memory=4096)
    cells = netlist(board, "echo_cells") + simulation_cells()
    assert cells.count("TRELLIS_FF #") > 1000 and cells.count("DP16KD #") > 2
    # The library is made of the world around the netlist, and the netlist.
    monkeypatch.setattr(native_build, "to_verilog",
                        lambda component, **options: to_verilog(component, **options) + cells)
    rng = random.Random(seed)
    with UartBoard(Netlist(board, "echo_cells"), variant="brief") as served, rackgate_host.open(served.url) as device:
        echo = EchoDriver(device)
        for words in (1, 9, 40):
            content = rng.randbytes(8 * words)
            assert echo.echo(content, change=0) == content
        assert device.regs.COPIES.value == 3
        device.regs.SCRATCH.value = 0xA5A55A5A
        assert device.regs.SCRATCH.value == 0xA5A55A5A
