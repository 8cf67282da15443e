# SPDX-License-Identifier: Apache-2.0
"""The Digilent Arty A7-100, for Vivado. Nobody has run Vivado on it, nor loaded it: a place to begin at."""

from typing import Any

from amaranth.hdl import ClockDomain, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["CLOCK_MHZ", "NAME", "PART", "ArtyTop"]

NAME, PART = "arty_a7_100", "xc7a100tcsg324-1"
#: Frequency of ``sync``.
CLOCK_MHZ = 50
# The board's 100 MHz times 10: the oscillator must run at 800 to 1600 MHz (AMD DS181, table of PLL switching).
_MULTIPLY, _DIVIDE = 10, 20
_RESET_STAGES = 4


class ArtyTop(wiring.Component):
    """A board's PLL, domain and reset around a top with a UART.

    Pins and the oscillator's period are in ``constraints/arty_a7_100.xdc``, under the names of the ports.

    Parameters
    ----------
    inner:
        What the board is to be: ports ``rx`` and ``tx``, at :data:`CLOCK_MHZ`.

    Members
    -------
    clk100: the oscillator. ck_rst: the red button, low while it is pressed. uart_txd_in, uart_rxd_out: the USB bridge's
    line, named as seen by the host.

    All is in reset until the PLL has locked, and while the button is pressed.
    """

    clk100: In(1)
    ck_rst: In(1)
    uart_txd_in: In(1)
    uart_rxd_out: Out(1)

    def __init__(self, inner: wiring.Component):
        self._inner = inner
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        clock, feedback, locked = Signal(), Signal(), Signal()
        m.submodules.pll = Instance(
            "PLLE2_BASE", p_CLKIN1_PERIOD=10.0, p_DIVCLK_DIVIDE=1, p_CLKFBOUT_MULT=_MULTIPLY, p_CLKOUT0_DIVIDE=_DIVIDE,
            i_CLKIN1=self.clk100, i_CLKFBIN=feedback, i_RST=~self.ck_rst, i_PWRDWN=0,
            o_CLKFBOUT=feedback, o_CLKOUT0=clock, o_LOCKED=locked)
        m.domains.sync = sync = ClockDomain()
        m.submodules.buffer = Instance("BUFG", i_I=clock, o_O=sync.clk)
        m.submodules.reset = ResetSynchronizer(~locked, stages=_RESET_STAGES)
        m.submodules.inner = inner = self._inner
        m.d.comb += [inner.rx.eq(self.uart_txd_in), self.uart_rxd_out.eq(inner.tx)]
        return m
