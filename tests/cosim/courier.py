# SPDX-License-Identifier: Apache-2.0
"""A small device with links, for worlds of devices: it sends numbers to other nodes, and counts those that come."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate import systems
from rackgate.axi.bus import AXI4LiteSignature
from rackgate.csr.bank import Bank
from rackgate.csr.map import Access, Register, RegisterMap
from rackgate.stream.packet import PacketSignature
from rackgate_host.devices import DEVICES, DeviceType
from rackgate_sim import devices

__all__ = ["REGISTERS", "Courier", "register"]

REGISTERS = RegisterMap("COUR", (1, 0), (
    Register("SEND", 0x20, Access.WO, "Send a packet: node in bits 7:0, a number in bits 31:8."),
    Register("RECEIVED", 0x24, Access.RO, "The last number that came."),
    Register("COUNT", 0x28, Access.RO, "Packets that came."),
    Register("SUM", 0x2C, Access.RO, "Sum of the numbers that came."),
    Register("IRQ_STATUS", 0x30, Access.W1C, "Bit 0: a packet came. The interrupt."),
    Register("CLOCK", 0x34, Access.RO, "Cycles since the first packet was sent."),
))


class Courier(wiring.Component):
    """Sends and receives packets of one word."""

    csr: In(AXI4LiteSignature())
    net_rx: In(PacketSignature(8))
    net_tx: Out(PacketSignature(8))
    irq: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = Bank(REGISTERS)
        wiring.connect(m, wiring.flipped(self.csr), bank.bus)
        rx, tx, running = self.net_rx, self.net_tx, Signal()
        m.d.comb += [rx.ready.eq(1), self.irq.eq(bank.irq_status[0]), bank.irq_status_set.eq(rx.valid)]
        with m.If(tx.ready):
            m.d.sync += tx.valid.eq(0)
        with m.If(bank.send_written):
            m.d.sync += [tx.valid.eq(1), tx.payload.data.eq(Cat(bank.send)), tx.payload.count.eq(4),
                         tx.payload.last.eq(1), running.eq(1)]
        with m.If(running):
            m.d.sync += bank.clock.eq(bank.clock + 1)
        with m.If(rx.valid):
            number = rx.payload.data[8:32]
            m.d.sync += [bank.received.eq(number), bank.count.eq(bank.count + 1), bank.sum.eq(bank.sum + number)]
        return m


def register(monkeypatch):
    """Make the device known under the name ``courier``."""
    kind = DeviceType("courier", REGISTERS, (), frozenset({"CLOCK"}), has_memory=False, has_links=True)
    monkeypatch.setitem(DEVICES, "courier", kind)
    monkeypatch.setitem(systems._COMPONENTS, "courier", Courier)
    monkeypatch.setitem(devices._DESTINATIONS, "courier", (0, 1))
