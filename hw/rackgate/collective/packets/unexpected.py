# SPDX-License-Identifier: Apache-2.0
"""Search for packets that came before anybody waited for them."""

import operator

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import NODES
from rackgate.collective.packets.postedkeys import agreements
from rackgate.collective.packets.slotstore import SeenPacket
from rackgate.collective.records import Key

__all__ = ["UnexpectedScan"]


class UnexpectedScan(wiring.Component):
    """Go through the queues of unexpected packets and take out those that match a key, until one is its message's last.

    The queues are in a :class:`~rackgate.collective.packets.slotstore.SlotStore`, which this block uses from
    ``start`` to ``done``; members without a text here are connected to those of the same names there. ``done``
    comes 2 cycles after ``start``, and 2 for each packet that is looked at, 3 if it matches, and 1 for each further
    source if all are meant. The first packet binds ANY fields of the key. A probe takes nothing: it ends with the first
    packet that matches. Reset ends the scan.

    Parameters
    ----------
    nodes, slots:
        Number of sources, and of slots.

    Members
    -------
    start, key:
        Strobe: search for packets that match ``key``.
    is_purge:
        With ``start``: take out all packets of its communicator, those for streams too.
    is_probe:
        With ``start``: only look.
    peek:
        Strobe: ``slot`` has the packet that a probe looked for.
    go:
        The store is not in use by others in this cycle.
    source:
        The queue that is meant: of the unexpected packets of that node, or, with the number ``nodes``, of those for
        streams.
    keep, can_keep:
        Strobe while ``can_keep``: ``slot``, which was removed before, has the next packet of the key.
    done, bound, has_last:
        Strobe: the scan has ended. What the key has become; whether there was the last packet of its message.
    """

    def __init__(self, nodes: int = NODES, *, slots: int):
        self.nodes, self.slots = operator.index(nodes), operator.index(slots)
        slot = range(self.slots)
        super().__init__({
            "start": In(1), "key": In(Key), "is_purge": In(1), "is_probe": In(1), "go": In(1),
            "source": Out(range(self.nodes + 1)), "has_slots": In(self.nodes + 1),
            "first": In(slot), "slot": Out(slot), "next": In(slot), "is_last": In(1),
            "peek": Out(1),
            "look": Out(1), "look_slot": Out(slot), "seen": In(SeenPacket),
            "remove": Out(1), "has_previous": Out(1), "previous": Out(slot),
            "keep": Out(1), "can_keep": In(1),
            "done": Out(1), "bound": Out(Key), "has_last": Out(1),
        })
        self._purges, self._probes = Signal(), Signal()
        self._more = Signal(range(self.nodes + 1))  # queues that follow
        # Behind ``slot``, and whether nothing is.
        self._next, self._is_end = Signal.like(self.slot), Signal()
        self._agreements = Signal(len(agreements(self.bound, self.seen.key)))  # of a packet's key
        self._ends_message = Signal()  # it is the last of its message: kept, as it comes late from block RAM

    def elaborate(self, platform):
        m = Module()
        bound, is_match = self.bound, Signal()
        m.d.comb += is_match.eq(self._agreements[0] & (self._purges | self._agreements.all()))
        with m.If(self.go), m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    bound.eq(self.key), self._purges.eq(self.is_purge), self._probes.eq(self.is_probe),
                    self.has_last.eq(0),
                    self.source.eq(self.key.node), self._more.eq(0),
                ]
                with m.If(self.is_purge | self.key.any_node):
                    m.d.sync += [self.source.eq(0), self._more.eq(Mux(self.is_purge, self.nodes, self.nodes - 1))]
                with m.If(self.start):
                    m.next = "QUEUE"
            with m.State("QUEUE"):
                m.d.sync += self.has_previous.eq(0)
                self._look(m, self.first)
                with m.If(~self.has_slots.bit_select(self.source, 1)):
                    self._next_queue(m)
            with m.State("LOOK"):
                m.d.sync += [self._agreements.eq(agreements(bound, self.seen.key)),
                             self._ends_message.eq(self.seen.is_last)]
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.sync += [self._next.eq(self.next), self._is_end.eq(self.is_last)]
                with m.If(is_match & self._probes):
                    m.d.comb += self.peek.eq(1)
                    m.next = "DONE"
                with m.Elif(is_match):
                    m.d.comb += self.remove.eq(1)
                    m.next = "KEEP"
                with m.Else():
                    m.d.sync += [self.previous.eq(self.slot), self.has_previous.eq(1)]
                    self._look(m, self.next)
                    with m.If(self.is_last):
                        self._next_queue(m)
            with m.State("KEEP"):
                m.d.comb += self.keep.eq(self.can_keep)
                with m.If(self.can_keep):
                    self._look(m, self._next)
                    with m.If(~self._purges):
                        self._bind(m)
                    with m.If(~self._purges & self._ends_message):
                        m.next = "DONE"
                    with m.Elif(self._is_end):
                        self._next_queue(m)
                        with m.If(~self._purges):
                            m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        return m

    def _look(self, m, slot):
        m.d.comb += [self.look.eq(1), self.look_slot.eq(slot)]
        m.d.sync += self.slot.eq(slot)
        m.next = "LOOK"

    def _next_queue(self, m):
        m.d.sync += [self.source.eq(self.source + 1), self._more.eq(self._more - 1)]
        m.next = "QUEUE"
        with m.If(self._more == 0):
            m.next = "DONE"

    def _bind(self, m):
        """What comes later must be of the same source, and have the same tag."""
        m.d.sync += [
            self.has_last.eq(self._ends_message),
            self._more.eq(0),
            self.bound.node.eq(self.seen.key.node), self.bound.any_node.eq(0),
            self.bound.tag.eq(self.seen.key.tag), self.bound.any_tag.eq(0),
        ]
