# SPDX-License-Identifier: Apache-2.0
"""A board top with a model at its pins, as one component that the native simulation runs."""

from fractions import Fraction

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.board.links import Uart
from rackgate.board.top import BoardTop
from rackgate.mac.abi import Speed
from rackgate.mac.rgmii import Rgmii

from .uart import UartTerminal

__all__ = ["BYTE_TIME", "EthernetWorld", "SerialWorld"]

#: What is on the wire in a byte time, as :class:`rackgate_sim.phy.ByteTime`. ``gap`` counts the idle ones that were
#: left out before it; 255 stands for as many and more.
BYTE_TIME = data.StructLayout({"data": 8, "valid": 1, "error": 1, "gap": 8})
# In-band status of RGMII 2.0, 3.4.1: link up, speed, full duplex.
_LINK = 1 | Speed.MBPS_1000 << 1 | 1 << 3


class SerialWorld(wiring.Component):
    """A board with a UART, and a terminal at its line.

    Parameters
    ----------
    board:
        The board; its link is a UART.
    bit_cycles:
        Clock cycles of a bit at the terminal, unless they are the board's.

    Members
    -------
    i: bytes for the board. o: bytes from it. rx, tx: the board's pins.
    """

    i: stream.Interface
    o: stream.Interface
    rx: Signal
    tx: Signal

    def __init__(self, board: BoardTop, *, bit_cycles: Fraction | int | None = None):
        if not isinstance(board.link, Uart):
            raise TypeError(f"board must have a UART, not {board.link!r}")
        self._board, self._terminal = board, UartTerminal(bit_cycles or board.divisor)
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "rx": Out(1), "tx": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.board = board = self._board
        m.submodules.terminal = terminal = self._terminal
        wiring.connect(m, wiring.flipped(self.i), terminal.i)
        wiring.connect(m, terminal.o, wiring.flipped(self.o))
        m.d.comb += [self.rx.eq(terminal.tx), board.rx.eq(self.rx), self.tx.eq(board.tx), terminal.rx.eq(self.tx)]
        return m


class EthernetWorld(wiring.Component):
    """A board with Ethernet, and the other side of its RGMII pins at 1000 Mb/s.

    All of the board's clocks are one here: what crosses between them crosses between equal clocks. Between frames the
    pins say that the link is up. ``o`` has byte times with something on the wire, and the one behind them.

    Parameters
    ----------
    board:
        The board; its link is Ethernet.

    Members
    -------
    i: byte times to the board (:data:`BYTE_TIME`, without ``gap``), one a cycle; none is an idle one. o: byte times
    from it.
    rx_data, rx_control, tx_data, tx_control: the board's pins, what is there at the rising edge lowest.
    """

    i: stream.Interface
    o: stream.Interface
    rx_data: Signal
    rx_control: Signal
    tx_data: Signal
    tx_control: Signal

    def __init__(self, board: BoardTop):
        if isinstance(board.link, Uart):
            raise TypeError(f"board must have Ethernet, not {board.link!r}")
        self._board = board
        super().__init__({
            "i": In(stream.Signature(BYTE_TIME)), "o": Out(stream.Signature(BYTE_TIME)), "rx_data": Out(8),
            "rx_control": Out(2), "tx_data": Out(8), "tx_control": Out(2)})

    def elaborate(self, platform):
        m = Module()
        one_clock = DomainRenamer({"eth_rx": "sync", "eth_tx": "sync"})
        rgmii, now = Rgmii(), self.i.payload
        m.submodules.board, m.submodules.rgmii = one_clock(self._board), one_clock(rgmii)
        wiring.connect(m, self._board.gmii, rgmii.gmii)
        is_frame, was_frame, gap = Signal(), Signal(), Signal(8)
        m.d.comb += [
            self.i.ready.eq(1),
            is_frame.eq(self.i.valid & (now.valid | now.error)),
            self.rx_data.eq(Mux(is_frame, now.data, _LINK * 0x11)),
            self.rx_control.eq(Mux(is_frame, Cat(now.valid, now.valid ^ now.error), 0)),
            rgmii.rx_data.eq(self.rx_data), rgmii.rx_control.eq(self.rx_control),
            self.tx_data.eq(rgmii.tx_data), self.tx_control.eq(rgmii.tx_control),
            self.o.payload.data.eq(self.tx_data), self.o.payload.valid.eq(self.tx_control[0]),
            self.o.payload.error.eq(self.tx_control[0] ^ self.tx_control[1]),
            self.o.valid.eq(self.tx_control.any() | was_frame), self.o.payload.gap.eq(gap),
        ]
        m.d.sync += [was_frame.eq(self.tx_control.any()), gap.eq(gap + (gap != 255))]
        with m.If(self.o.valid):
            m.d.sync += gap.eq(0)
        return m
