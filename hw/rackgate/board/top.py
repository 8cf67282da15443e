# SPDX-License-Identifier: Apache-2.0
"""A system, its memory, the bridge, and the link to the host."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.lite_decoder import LiteDecoder
from rackgate.board.links import CSR_WIDTH, MAC_BASE, STATION_BASE, Uart, Udp
from rackgate.bridge.bridge import Bridge
from rackgate.bridge.framing import uart_divisor
from rackgate.bridge.identity import Identity
from rackgate.bridge.uart_link import UartLink
from rackgate.mac.mac import Mac
from rackgate.mac.pins import GmiiSignature
from rackgate.mem.onchip import OnChipMemory
from rackgate.net.station.station import Station

__all__ = ["BoardTop"]

_REGION = 0x1000  # bytes of registers of the station, and of the MAC
_PLAIN_WIDTH = 4  # bytes of the station's streams for a system without packet streams


def _memory_ports(system):
    """The system's AXI4 initiators: ``mem``, one or an array."""
    if "mem" not in system.signature.members:
        return []
    dimensions = system.signature.members["mem"].dimensions
    return list(system.mem) if dimensions else [system.mem]


class BoardTop(wiring.Component):
    """Put a system on a board: all but pins and clocks.

    The system may be any component of the device contract. Its registers answer at 0 of the bridge's register space;
    with Ethernet the station's are at ``STATION_BASE`` and the MAC's at ``MAC_BASE``
    (:mod:`rackgate.board.links`). Memory of the size that ``identity`` says serves the system's ports and the bridge.
    With Ethernet, frames that are not for the station go to the system's ``net_rx``, and those of its ``net_tx`` leave.
    Streams that are not of the contract have nobody behind them.

    Parameters
    ----------
    system:
        The system.
    identity:
        What the device says of itself; its clock is that of ``sync``.
    link:
        :class:`~rackgate.board.links.Uart` or :class:`~rackgate.board.links.Udp`.

    Members
    -------
    rx, tx:
        With a UART: its line, high when idle. ``rx`` may change at any time.
    gmii:
        With Ethernet: the MAC's side of a PHY (:class:`~rackgate.mac.pins.GmiiSignature`), in the domains ``eth_rx``
        and ``eth_tx``.

    Reset resets all but the memory's contents.

    Raises
    ------
    TypeError
        ``link`` is none.
    ValueError
        The system has packet streams, and the link is a UART; or the baud rate cannot be had.
    """

    def __init__(self, system: wiring.Component, *, identity: Identity, link: Uart | Udp):
        self.identity, self.link = identity, link
        self._system = system
        self._has_net = "net_rx" in system.signature.members
        memories = _memory_ports(system)
        registers = system.csr.signature.addr_width if isinstance(link, Uart) else CSR_WIDTH
        self._bridge = Bridge(identity.pack(), csr_addr_width=registers, memory_base=identity.memory_base,
                              memory_size=identity.memory_size)
        self._memory = OnChipMemory(identity.memory_size, [*(port.signature for port in memories),
                                                           self._bridge.mem.signature],
                                    base=identity.memory_base) if memories else None
        match link:
            case Uart():
                if self._has_net:
                    raise ValueError(f"system {identity.system} has packet streams: its link must be Udp, not a UART")
                self.divisor = uart_divisor(1000 * identity.clock_khz, link.baud)
                super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})
            case Udp():
                width = system.net_rx.payload.data.shape().width // 8 if self._has_net else _PLAIN_WIDTH
                self._mac = Mac(width)
                self._station = Station(width, mac=link.mac, address=link.address)
                super().__init__({"gmii": Out(GmiiSignature())})
            case _:
                raise TypeError(f"link must be Uart or Udp, not {link!r}")

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = system = self._system
        m.submodules.bridge = bridge = self._bridge
        if self._memory is not None:
            m.submodules.memory = memory = self._memory
            for number, port in enumerate([*_memory_ports(system), bridge.mem]):
                wiring.connect(m, port, getattr(memory, f"i_{number}"))
        if "irq" in system.signature.members:
            m.d.comb += bridge.irq.eq(system.irq)
        if isinstance(self.link, Uart):
            self._uart(m, bridge)
        else:
            self._ethernet(m, bridge)
        return m

    def _uart(self, m, bridge):
        m.submodules.link = link = UartLink(self.divisor)
        wiring.connect(m, link.o, bridge.i)
        wiring.connect(m, bridge.o, link.i)
        wiring.connect(m, bridge.csr, self._system.csr)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx), bridge.link_errors.eq(link.errors)]

    def _ethernet(self, m, bridge):
        system, mac, station = self._system, self._mac, self._station
        m.submodules.mac, m.submodules.station = mac, station
        m.submodules.decoder = decoder = LiteDecoder(
            [(0, 1 << system.csr.signature.addr_width), (STATION_BASE, _REGION), (MAC_BASE, _REGION)],
            addr_width=CSR_WIDTH)
        wiring.connect(m, bridge.csr, decoder.i)
        for initiator, target in ((decoder.o_0, system.csr), (decoder.o_1, station.csr), (decoder.o_2, mac.csr)):
            wiring.connect(m, initiator, target)
        wiring.connect(m, mac.gmii, wiring.flipped(self.gmii))
        m.d.comb += bridge.link_errors.eq(station.errors)
        wiring.connect(m, mac.o, station.net_rx)
        wiring.connect(m, station.net_tx, mac.i)
        wiring.connect(m, station.o_message, bridge.i)
        wiring.connect(m, bridge.o, station.i_answer)
        if self._has_net:
            wiring.connect(m, station.system_rx, system.net_rx)
            wiring.connect(m, system.net_tx, station.system_tx)
        else:
            m.d.comb += station.system_rx.ready.eq(1)
