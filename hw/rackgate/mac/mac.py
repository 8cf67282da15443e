# SPDX-License-Identifier: Apache-2.0
"""The whole MAC: frames in the domain ``sync``, bytes at the PHY's clocks."""

import dataclasses

from amaranth.hdl import Assert, DomainRenamer, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer, PulseSynchronizer
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.axi.bus import AXI4LiteSignature
from rackgate.csr.bank import Bank
from rackgate.mac.abi import MAC_REGISTERS, MacCounter, Speed
from rackgate.mac.pins import GmiiSignature, LinkStatus
from rackgate.mac.receive import RECEIVE_ERRORS, ReceiveMac, check_longest
from rackgate.mac.transmit import TransmitMac
from rackgate.stream.asyncqueue import AsyncQueue
from rackgate.stream.overflow import OverflowGuard
from rackgate.stream.packet import PacketSignature, packet_layout
from rackgate.stream.packetqueue import PacketQueue
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer
from rackgate.stream.width import Narrower, Widener

__all__ = ["Mac"]

_WIDTHS = (2, 4, 8, 16, 32, 64)
# Words of the queues between clocks: enough not to cost throughput, and few, since their pointers have 8 ns.
_CROSSING = 16


class Mac(wiring.Component):
    """Ethernet frames to and from a PHY (IEEE 802.3, full duplex, no pause frames).

    *Receive*: a word can be taken some 9 cycles of ``sync`` after its last byte; frames come as they are on the wire,
    padding included, without FCS. A bad frame has ``error`` on its last word (see :class:`~.receive.ReceiveMac`). If
    they are not taken in time, a queue of ``depth`` words fills, and 17 more between the clocks; then frames are lost:
    whole, or from a word on with ``error`` at their new end.

    *Transmit*: a frame is stored until all of it is there, then sent, so the sender's pauses do not show on the wire;
    ``i`` is stalled while the store is full. Frames that end with ``error``, or have more words than ``longest`` bytes
    need, are dropped. Frames are sent at line rate, 12 byte times apart, as long as they come. For that, and for a
    frame not to break off on the wire, ``sync`` has to carry more than 125 MB/s: above 32 MHz with words of 4 bytes.

    Reset of all three domains, together, forgets all frames; one under way on the wire breaks off.

    Parameters
    ----------
    width:
        Bytes of a word, 2 to 64.
    longest:
        Bytes of the longest frame without FCS, 60 to 9600.
    depth:
        Words of the receive queue, 4 or more.
    speed:
        What the register SPEED is after reset (:class:`~.abi.Speed`).

    Members
    -------
    i, o:
        Frames without FCS.
    csr:
        Registers (:data:`~.abi.MAC_REGISTERS`).
    gmii:
        The PHY, or what drives its pins.
    """

    def __init__(self, width: int = 4, *, longest: int = 1518, depth: int = 512, speed: Speed = Speed.AUTO):
        if width not in _WIDTHS:
            raise ValueError(f"width must be one of {_WIDTHS} bytes, not {width}")
        self.width, self.longest, self.speed = width, check_longest(longest), Speed(speed)
        if depth < 4:
            raise ValueError(f"depth must be at least 4, not {depth}")
        self._queue = Queue(packet_layout(width), depth=depth)
        self.depth = self._queue.depth
        super().__init__({
            "i": In(PacketSignature(width)), "o": Out(PacketSignature(width)),
            "csr": In(AXI4LiteSignature(addr_width=12)), "gmii": Out(GmiiSignature()),
        })

    def elaborate(self, platform):
        m = Module()
        sizes = (MacCounter.RX_BYTES, MacCounter.TX_BYTES)
        events = {counter: Signal(range(self.longest + 1) if counter in sizes else 1, name=counter.name.lower())
                  for counter in MacCounter}
        self._receive(m, events)
        self._transmit(m, events)
        self._tell(m, events)
        return m

    def _receive(self, m, events):
        receive, widener, guard = ReceiveMac(longest=self.longest), Widener(1, self.width), OverflowGuard(self.width)
        for name, part in (("receive", receive), ("widener", widener), ("guard", guard)):
            m.submodules[name] = DomainRenamer("eth_rx")(part)
        m.submodules.arrival = arrival = AsyncQueue(packet_layout(self.width), depth=_CROSSING, i_domain="eth_rx")
        m.submodules.received = queue = self._queue
        m.d.comb += [
            *(getattr(receive, name).eq(getattr(self.gmii, name))
              for name in ("rx_data", "rx_valid", "rx_error", "rx_strobe")),
            widener.i.payload.eq(receive.o.payload), widener.i.valid.eq(receive.o.valid),
        ]
        wiring.connect(m, widener.o, guard.i)
        wiring.connect(m, guard.o, arrival.i)
        wiring.connect(m, arrival.o, queue.i)
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        m.d.eth_rx += Assert(widener.i.ready, "a byte from the wire would have to wait")
        pulses = {name: receive.errors[name] for name in RECEIVE_ERRORS} | {"lost": guard.lost}
        for name, pulse in pulses.items():
            m.submodules[f"tell_{name}"] = crossing = PulseSynchronizer("eth_rx", "sync")
            m.d.comb += [crossing.i.eq(pulse), events[MacCounter[f"RX_{name.upper()}"]].eq(crossing.o)]
        self._measure(m, self.o, events[MacCounter.RX_FRAMES], events[MacCounter.RX_BYTES])

    def _transmit(self, m, events):
        longest = -(-self.longest // self.width)
        # Room to fill while the frame before leaves: as much as the block RAM has anyway.
        m.submodules.store = store = PacketQueue(self.width, depth=1 << ceil_log2(longest + 1), waits=True,
                                                 longest=longest)
        m.submodules.crossing = queue = AsyncQueue(packet_layout(self.width), depth=_CROSSING,
                                                   o_domain="eth_tx")
        narrower, transmit = Narrower(self.width, 1), TransmitMac()
        # Whether a byte is taken must not be asked through all of the queue within 8 ns.
        words, octets = SkidBuffer(packet_layout(self.width)), SkidBuffer(packet_layout(1))
        for name, part in (("words", words), ("narrower", narrower), ("octets", octets), ("transmit", transmit)):
            m.submodules[name] = DomainRenamer("eth_tx")(part)
        m.submodules.tell_underrun = crossing = PulseSynchronizer("eth_tx", "sync")
        wiring.connect(m, wiring.flipped(self.i), store.i)
        wiring.connect(m, store.o, queue.i)
        wiring.connect(m, queue.o, words.i)
        wiring.connect(m, words.o, narrower.i)
        wiring.connect(m, narrower.o, octets.i)
        wiring.connect(m, octets.o, transmit.i)
        m.d.comb += [
            transmit.tx_strobe.eq(self.gmii.tx_strobe), self.gmii.tx_data.eq(transmit.tx_data),
            self.gmii.tx_enable.eq(transmit.tx_enable), self.gmii.tx_error.eq(transmit.tx_error),
            crossing.i.eq(transmit.underrun), events[MacCounter.TX_UNDERRUNS].eq(crossing.o),
            events[MacCounter.TX_DROPPED].eq(store.dropped),
        ]
        self._measure(m, store.o, events[MacCounter.TX_FRAMES], events[MacCounter.TX_BYTES])

    def _measure(self, m, frames, count, size):
        """Tell of good frames, and of their bytes, as they pass at ``frames``."""
        word, length = frames.payload, Signal(range(self.longest + 1), name="length")
        total = Signal(range(self.longest + self.width + 1))
        m.d.comb += total.eq(length + word.count)
        with m.If(frames.valid & frames.ready):
            m.d.sync += length.eq(Mux(word.last, 0, total))
            m.d.comb += count.eq(word.last & ~word.error)
            with m.If(count):
                m.d.comb += size.eq(total)

    def _tell(self, m, events):
        """The registers."""
        speed = MAC_REGISTERS["SPEED"]
        registers = [dataclasses.replace(item, reset=self.speed) if item is speed else item
                     for item in MAC_REGISTERS.registers]
        m.submodules.bank = bank = Bank(dataclasses.replace(MAC_REGISTERS, registers=tuple(registers)))
        link = Signal(LinkStatus)
        m.submodules.link = FFSynchronizer(self.gmii.link.as_value(), link.as_value())
        wiring.connect(m, wiring.flipped(self.csr), bank.bus)
        m.d.comb += [bank.status.eq(link), self.gmii.speed.eq(bank.speed)]
        for counter, event in events.items():
            count = getattr(bank, f"count_{counter.name.lower()}")
            total = Signal(32, name=f"total_{counter.name.lower()}")
            m.d.sync += total.eq(total + event)
            m.d.comb += count.eq(total)
