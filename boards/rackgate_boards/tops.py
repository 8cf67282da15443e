# SPDX-License-Identifier: Apache-2.0
"""Pins and clocks of a board around what is the same on every board (:class:`rackgate.board.top.BoardTop`)."""

from typing import Any

from amaranth.hdl import ClockDomain, Const, Elaboratable, Module
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer

from .boards import Board
from .pll import Pll
from .rgmii import RgmiiPort

__all__ = ["ETHERNET_MHZ", "Top"]

#: Frequency of both clocks of gigabit RGMII.
ETHERNET_MHZ = 125.0
# Cycles of reset after the PLL has locked: enough for what leaves reset to see a steady clock.
_RESET_STAGES = 4


class Top(Elaboratable):
    """A board's pins, PLL, domains and resets around a top without them.

    ``sync`` runs at ``clock_mhz``. All is in reset until the PLL has locked, and while the board's reset button, if it
    has one, is pressed. With Ethernet there are the domains ``eth_tx``, from the PLL, and ``eth_rx``, from the PHY's
    receive clock, which is reset with the others: a PHY without a link still clocks.

    Parameters
    ----------
    board:
        The board.
    inner:
        What it is to be: ports ``rx`` and ``tx`` for a UART, ``gmii`` for Ethernet.
    clock_mhz:
        Frequency of ``sync``.

    Attributes
    ----------
    clocks_mhz:
        Frequencies of all clocks that logic runs at, for the timing gate.

    Raises
    ------
    ValueError
        The board has no Ethernet and ``inner`` wants it, or its PLL cannot make the clock.
    """

    def __init__(self, board: Board, inner: wiring.Component, clock_mhz: float):
        self.board, self.clock_mhz = board, clock_mhz
        self._inner = inner
        self._has_ethernet = "gmii" in inner.signature.members
        if self._has_ethernet and board.rgmii is None:
            raise ValueError(f"board {board.name} has no Ethernet")
        outputs = (clock_mhz, ETHERNET_MHZ) if self._has_ethernet else (clock_mhz,)
        self._pll = Pll(board.clock_mhz, outputs)
        self.clocks_mhz = tuple(sorted({*outputs}))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.pll = pll = self._pll
        m.submodules.oscillator = oscillator = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.d.comb += pll.i.eq(oscillator.i)
        pressed = Const(0)
        if platform.default_rst is not None:
            m.submodules.button = button = io.Buffer("i", platform.request(platform.default_rst, dir="-"))
            pressed = button.i
        m.submodules.inner = self._inner
        self._domain(m, "sync", pll.o[0], ~pll.locked | pressed)
        if self._has_ethernet:
            m.submodules.rgmii = rgmii = RgmiiPort(self.board)
            self._domain(m, "eth_tx", pll.o[1], ~pll.locked | pressed)
            self._domain(m, "eth_rx", rgmii.receive_clock, ~pll.locked | pressed)
            wiring.connect(m, self._inner.gmii, rgmii.gmii)
        else:
            self._uart(m, platform)
        return m

    def _domain(self, m: Module, name: str, clock: Any, reset: Any) -> None:
        domain = ClockDomain(name)
        m.domains += domain
        m.d.comb += domain.clk.eq(clock)
        m.submodules[f"{name}_reset"] = ResetSynchronizer(reset, domain=name, stages=_RESET_STAGES)

    def _uart(self, m: Module, platform: Any) -> None:
        port = platform.request("uart", dir="-")
        m.submodules.rx = rx = io.Buffer("i", port.rx)
        m.submodules.tx = tx = io.Buffer("o", port.tx)
        m.d.comb += [self._inner.rx.eq(rx.i), tx.o.eq(self._inner.tx)]
