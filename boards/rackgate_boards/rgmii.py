# SPDX-License-Identifier: Apache-2.0
"""The pins of an RGMII PHY on an ECP5 board: double data rate registers, delays, and the PHY's reset."""

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out

from rackgate.mac.pins import GmiiSignature
from rackgate.mac.rgmii import Rgmii

from .boards import Board

__all__ = ["RgmiiPort", "delay_taps"]

_TAP_NS = 0.025  # of DELAYG (Lattice FPGA-TN-02035)
_MOST_TAPS = 127
# Cycles of 125 MHz for which the PHY is held in reset: PHYs want 10 ms after power-up.
_PHY_RESET = 1 << 21


def delay_taps(delay_ns: float) -> int:
    """Taps of a DELAYG that make about ``delay_ns``. Raises ValueError when there are not so many."""
    taps = round(delay_ns / _TAP_NS)
    if not 0 <= taps <= _MOST_TAPS:
        raise ValueError(f"delay_ns must be 0 to {_MOST_TAPS * _TAP_NS:g}, not {delay_ns:g}")
    return taps


def _pin(port: Any, *names: str) -> Any:
    """A pin of a platform's resource, whichever of ``names`` it has there."""
    return next(getattr(port, name) for name in names if hasattr(port, name))


class RgmiiPort(wiring.Component):
    """:class:`~rackgate.mac.rgmii.Rgmii` at a board's pins.

    Received data and the transmit clock are delayed by what ``board`` says, where the PHY does not do it. The PHY is in
    reset for 17 ms after ``eth_tx`` has been. Its management pins are left alone: it works as its straps say.

    Parameters
    ----------
    board:
        The board, which has Ethernet.

    Members
    -------
    gmii:
        The MAC, in the domains ``eth_rx`` and ``eth_tx``.
    receive_clock:
        The PHY's receive clock, to drive ``eth_rx``.
    """

    def __init__(self, board: Board):
        if board.rgmii is None:
            raise ValueError(f"board {board.name} has no Ethernet")
        self.board = board
        super().__init__({"gmii": In(GmiiSignature()), "receive_clock": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        port = platform.request("eth_rgmii", self.board.rgmii, dir="-")
        m.submodules.rgmii = rgmii = Rgmii()
        wiring.connect(m, wiring.flipped(self.gmii), rgmii.gmii)
        m.submodules.clock = clock = io.Buffer("i", port.rx_clk)
        m.d.comb += self.receive_clock.eq(clock.i)
        self._receive(m, _pin(port, "rx_data"), rgmii.rx_data, "rx_data")
        self._receive(m, _pin(port, "rx_ctl", "rx_ctrl"), rgmii.rx_control, "rx_control")
        self._transmit(m, _pin(port, "tx_data"), rgmii.tx_data, "tx_data", 0)
        self._transmit(m, _pin(port, "tx_ctl", "tx_ctrl"), rgmii.tx_control, "tx_control", 0)
        self._transmit(m, _pin(port, "tx_clk"), rgmii.tx_clock, "tx_clock", self.board.transmit_delay_ns)
        if hasattr(port, "rst"):
            since = Signal(range(_PHY_RESET))
            with m.If(since != _PHY_RESET - 1):
                m.d.eth_tx += since.eq(since + 1)
            m.submodules.phy_reset = phy_reset = io.Buffer("o", port.rst)
            is_reset = Signal(init=1)
            m.d.eth_tx += is_reset.eq(since != _PHY_RESET - 1)
            m.d.comb += phy_reset.o.eq(is_reset)
        return m

    def _receive(self, m: Module, pins: Any, halves: Any, name: str) -> None:
        m.submodules[f"{name}_pins"] = pads = io.Buffer("i", pins)
        taps = delay_taps(self.board.receive_delay_ns)
        for bit in range(len(pins)):
            late = Signal(name=f"{name}_{bit}")
            m.submodules[f"{name}_delay_{bit}"] = Instance(
                "DELAYG", p_DEL_MODE="SCLK_ALIGNED", p_DEL_VALUE=taps, i_A=pads.i[bit], o_Z=late)
            m.submodules[f"{name}_register_{bit}"] = Instance(
                "IDDRX1F", i_SCLK=ClockSignal("eth_rx"), i_RST=0, i_D=late, o_Q0=halves[0][bit], o_Q1=halves[1][bit])

    def _transmit(self, m: Module, pins: Any, halves: Any, name: str, delay_ns: float) -> None:
        m.submodules[f"{name}_pins"] = pads = io.Buffer("o", pins)
        taps = delay_taps(delay_ns)
        for bit in range(len(pins)):
            early = Signal(name=f"{name}_{bit}")
            m.submodules[f"{name}_register_{bit}"] = Instance(
                "ODDRX1F", i_SCLK=ClockSignal("eth_tx"), i_RST=0, i_D0=halves[0][bit], i_D1=halves[1][bit], o_Q=early)
            m.submodules[f"{name}_delay_{bit}"] = Instance(
                "DELAYG", p_DEL_MODE="SCLK_ALIGNED", p_DEL_VALUE=taps, i_A=early, o_Z=pads.o[bit])
