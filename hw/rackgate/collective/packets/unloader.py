# SPDX-License-Identifier: Apache-2.0
"""Packets out of their receive buffers."""

import operator

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.arith.convert import convert_layout
from rackgate.collective.records import SIZE_BITS, SLOT_BITS
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue

__all__ = ["Unloader", "free_layout", "read_layout", "unload_layout"]

#: Command to the receive buffer: read the ``size`` bytes of the packet in ``slot``.
read_layout = data.StructLayout({"slot": SLOT_BITS, "size": SIZE_BITS})
#: ``slot`` is free again.
free_layout = data.StructLayout({"slot": SLOT_BITS})
#: Input of an :class:`Unloader`: the packet in ``slot``, of ``size`` bytes, which may have to be ``expand``-ed.
unload_layout = data.StructLayout({"slot": SLOT_BITS, "size": SIZE_BITS, "expand": 1})


class Unloader(wiring.Component):
    """Read packets, and free each slot as soon as its last word has been taken.

    A packet of size 0 is not read and gives no word; its slot is freed when its turn comes. A read is asked for in the
    cycle of its command, if none waits before it, and ahead of the words of those before. The words pass without a
    register; ``packet.ready`` depends combinationally on ``o.ready`` and on ``packet.payload``, ``read`` on ``i``. No
    bubble between packets with words. Reset forgets what is under way.

    Parameters
    ----------
    width:
        Bytes of a word.
    packets:
        Packets asked for, at least 1.

    Members
    -------
    i:
        Commands (:data:`unload_layout`).
    read:
        To the receive buffer (:data:`read_layout`).
    packet:
        The words of the packets, in order.
    free:
        Slots to free (:data:`free_layout`), from registers.
    o:
        The same words, with ``convert`` if the packet has to be expanded.
    """

    i: stream.Interface
    read: stream.Interface
    packet: stream.Interface
    free: stream.Interface
    o: stream.Interface

    def __init__(self, width, *, packets=8):
        self.packets = operator.index(packets)
        if self.packets < 1:
            raise ValueError(f"packets must be at least 1, not {packets}")
        super().__init__({
            "i": In(stream.Signature(unload_layout)),
            "read": Out(stream.Signature(read_layout)),
            "packet": In(PacketSignature(width)),
            "free": Out(stream.Signature(free_layout)),
            "o": Out(stream.Signature(convert_layout(width))),
        })

    def elaborate(self, platform):
        m = Module()
        ticket = data.StructLayout({"slot": SLOT_BITS, "is_empty": 1, "expand": 1})
        m.submodules.tickets = tickets = Queue(ticket, depth=self.packets, block_ram=False)
        m.submodules.reads = reads = Queue(read_layout, depth=self.packets, block_ram=False)
        is_taken, is_wanted = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(tickets.i.ready & reads.i.ready),
            is_taken.eq(self.i.valid & self.i.ready),
            tickets.i.valid.eq(is_taken),
            tickets.i.payload.slot.eq(self.i.payload.slot),
            tickets.i.payload.is_empty.eq(self.i.payload.size == 0),
            tickets.i.payload.expand.eq(self.i.payload.expand),
        ]
        # Past the queue when that is empty.
        m.d.comb += [
            is_wanted.eq(is_taken & (self.i.payload.size != 0)),
            reads.i.payload.slot.eq(self.i.payload.slot),
            reads.i.payload.size.eq(self.i.payload.size),
            reads.i.valid.eq(is_wanted & (reads.o.valid | ~self.read.ready)),
            reads.o.ready.eq(self.read.ready),
            self.read.valid.eq(reads.o.valid | is_wanted),
            self.read.payload.eq(Mux(reads.o.valid, reads.o.payload, reads.i.payload)),
        ]
        self._pass(m, tickets.o)
        return m

    def _pass(self, m, tickets):
        ticket, packet = tickets.payload, self.packet
        can_free, has_words, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            can_free.eq(~self.free.valid | self.free.ready),
            # The last word waits until its slot can be freed.
            has_words.eq(tickets.valid & ~ticket.is_empty & (can_free | ~packet.payload.last)),
            self.o.valid.eq(has_words & packet.valid),
            self.o.payload.word.eq(packet.payload),
            self.o.payload.convert.eq(ticket.expand),
            # Half a number, which only a foreign packet can end in, does not count.
            self.o.payload.word.count[0].eq(packet.payload.count[0] & ~ticket.expand),
            packet.ready.eq(has_words & self.o.ready),
            ends.eq(tickets.valid & can_free & (ticket.is_empty | packet.valid & packet.ready & packet.payload.last)),
            tickets.ready.eq(ends),
        ]
        with m.If(can_free):
            m.d.sync += [self.free.valid.eq(ends), self.free.payload.slot.eq(ticket.slot)]
