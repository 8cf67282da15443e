# SPDX-License-Identifier: Apache-2.0
"""A station behind a MAC: what a board has at its Ethernet port."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.mac.mac import Mac
from rackgate.mac.pins import GmiiSignature
from rackgate.net.station.station import Station
from rackgate.stream.packet import PacketSignature


class EthernetPort(wiring.Component):
    """Bytes at the PHY; frames of the system, and messages, behind it."""

    def __init__(self, width=4):
        self.mac, self.station = Mac(width), Station(width)
        super().__init__({
            "gmii": Out(GmiiSignature()),
            "system_rx": Out(PacketSignature(width)), "system_tx": In(PacketSignature(width)),
            "o_message": Out(PacketSignature(4)), "i_answer": In(PacketSignature(4)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.mac = mac = self.mac
        m.submodules.station = station = self.station
        wiring.connect(m, mac.gmii, wiring.flipped(self.gmii))
        wiring.connect(m, mac.o, station.net_rx)
        wiring.connect(m, station.net_tx, mac.i)
        for name in ("system_rx", "o_message"):
            wiring.connect(m, getattr(station, name), wiring.flipped(getattr(self, name)))
        for name in ("system_tx", "i_answer"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(station, name))
        return m
