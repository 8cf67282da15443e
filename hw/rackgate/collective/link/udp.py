# SPDX-License-Identifier: Apache-2.0
"""The link over UDP: packets between engines on a network that loses, doubles and reorders some."""

import operator

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.link.abi import LinkCounter
from rackgate.collective.link.arrivals import Arrivals
from rackgate.collective.link.deframer import Deframer
from rackgate.collective.link.deliverer import Deliverer
from rackgate.collective.link.frame import Acknowledgement, LinkSettings, most_bytes
from rackgate.collective.link.framer import Framer
from rackgate.collective.link.planner import Planner
from rackgate.collective.link.store import PacketStore
from rackgate.collective.link.windows import Windows
from rackgate.stream.packet import PacketSignature, packet_layout
from rackgate.stream.queue import Queue

__all__ = ["UdpLink"]

#: Buffers beyond the receive buffers of a peer: for packets that need no credit.
_MORE = 16


class UdpLink(wiring.Component):
    """Carry the engine's packets in UDP datagrams, each to its node once and in order (see :mod:`.abi`).

    Go-back-N: a packet stays in the store until it is acknowledged; ``timeout`` cycles without that, or a peer that
    says that a packet is missing, and all from the oldest on are sent again. There is no limit to how often: that the
    peer is dead is for the engine's time-out to say. Acknowledgements go with packets, or alone if there are none.
    All nodes have to begin at the same time, or with a new session: a node that was restarted alone is not understood.

    A word a cycle each way, less 48 bytes a frame and the frames that only acknowledge, one for two packets. From a
    packet's last word to the frame's first some 20 cycles, from a frame's last word to the packet's first some 12:
    both are checksums' doing. As long as the engine takes what comes, ``net_rx`` is stalled only when frames come that
    are no packets, one right behind the other. Reset forgets everything; a frame under way must be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8 or 16.
    segment:
        Payload bytes of the longest packet.
    slots:
        Receive buffers of each node: so many packets with payload can be without an acknowledgement.

    Members
    -------
    i, o:
        Packets from and to the engine.
    net_tx, net_rx:
        Ethernet frames without FCS.
    node, settings, timeout, delay:
        This node's number, and what the host has set. ``timeout`` 0: never.
    events:
        A bit for each :class:`~.abi.LinkCounter`.
    """

    def __init__(self, width: int = 8, *, segment: int = 1024, slots: int = 64):
        self.slots = operator.index(slots)
        if not 1 <= self.slots <= 256:
            raise ValueError(f"slots must be 1 to 256, not {slots}")
        self._framer, self._deframer = Framer(width), Deframer(width, segment=segment)
        self._deliverer = Deliverer(width)
        self._store = PacketStore(width, segment=segment, buffers=self.slots + _MORE)
        self._windows = Windows(self.slots + _MORE)
        self._planner, self._arrivals = Planner(), Arrivals()
        # Two of the longest packets: the words of one wait for their checksum while the one before them leaves.
        self._words = Queue(packet_layout(width), depth=2 * most_bytes(segment) // width, block_ram=True)
        self._acknowledgements = Queue(Acknowledgement, depth=16)
        super().__init__({
            "i": In(PacketSignature(width)), "o": Out(PacketSignature(width)),
            "net_rx": In(PacketSignature(width)), "net_tx": Out(PacketSignature(width)),
            "node": In(4), "settings": In(LinkSettings), "timeout": In(32), "delay": In(32),
            "events": Out(data.StructLayout({counter.name.lower(): 1 for counter in LinkCounter})),
        })

    def elaborate(self, platform):
        m = Module()
        parts = ("framer", "deframer", "deliverer", "store", "windows", "planner", "arrivals", "words",
                 "acknowledgements")
        for name in parts:
            m.submodules[name] = getattr(self, f"_{name}")
        self._send(m)
        self._receive(m)
        for part in (self._framer, self._deframer, self._planner):
            m.d.comb += [part.node.eq(self.node), part.settings.eq(self.settings)]
        self._tell(m)
        return m

    def _send(self, m):
        store, windows, planner, framer = self._store, self._windows, self._planner, self._framer
        wiring.connect(m, wiring.flipped(self.i), store.i)
        wiring.connect(m, store.stored, windows.append)
        wiring.connect(m, windows.freed, store.freed)
        wiring.connect(m, planner.take, windows.take)
        wiring.connect(m, planner.o, framer.i)
        wiring.connect(m, framer.read, store.read)
        wiring.connect(m, store.words, framer.words)
        wiring.connect(m, framer.o, wiring.flipped(self.net_tx))
        m.d.comb += [
            windows.timeout.eq(self.timeout),
            windows.held[0].eq(planner.held), windows.held[1].eq(framer.held),
            planner.pending.eq(windows.pending), planner.found.eq(windows.taken.found),
            planner.buffer.eq(windows.taken.buffer), planner.sequence.eq(windows.taken.sequence),
            store.lookup.eq(planner.lookup), planner.entry.eq(store.entry),
        ]

    def _receive(self, m):
        deframer, arrivals, deliverer, words = self._deframer, self._arrivals, self._deliverer, self._words
        m.d.comb += [
            deframer.i.payload.eq(self.net_rx.payload),
            deframer.i.valid.eq(self.net_rx.valid & deliverer.has_room),
            self.net_rx.ready.eq(deframer.i.ready & deliverer.has_room),
        ]
        wiring.connect(m, deframer.words, words.i)
        wiring.connect(m, words.o, deliverer.words)
        wiring.connect(m, deframer.o, arrivals.i)
        wiring.connect(m, arrivals.order, deliverer.order)
        wiring.connect(m, deliverer.o, wiring.flipped(self.o))
        wiring.connect(m, arrivals.acknowledge, self._acknowledgements.i)
        wiring.connect(m, self._acknowledgements.o, self._windows.acknowledge)
        planner = self._planner
        m.d.comb += [
            arrivals.delay.eq(self.delay), arrivals.peer.eq(planner.peer), arrivals.told.eq(planner.told),
            planner.due.eq(arrivals.due), planner.expected.eq(arrivals.expected), planner.missing.eq(arrivals.missing),
        ]

    def _tell(self, m):
        windows, framer, arrivals, events = self._windows, self._framer, self._arrivals, self.events
        m.d.comb += [
            events.frames_sent.eq(framer.sent),
            events.acknowledgements.eq(framer.sent & ~framer.sent_packet),
            events.retransmitted.eq(windows.take.valid & windows.take.ready & windows.taken.found
                                    & windows.taken.again),
            events.timeouts.eq(windows.expired),
            events.frames_received.eq(arrivals.received), events.foreign.eq(arrivals.foreign),
            events.damaged.eq(arrivals.damaged), events.ahead.eq(arrivals.ahead),
            events.duplicates.eq(arrivals.duplicate),
        ]
