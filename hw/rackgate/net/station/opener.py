# SPDX-License-Identifier: Apache-2.0
"""Messages, taken out of their parcels."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.net.station.records import PARCEL_WIDTH, Peer
from rackgate.stream.packet import PacketSignature

__all__ = ["Opener"]


class Opener(wiring.Component):
    """Take the sender off a parcel, and keep it for the answer.

    A word a cycle, three cycles more a parcel; the words of a message pass combinationally. Reset expects a parcel.

    Members
    -------
    i:
        Parcels of messages.
    o:
        Messages.
    peer:
        Sender of the message whose first word was taken last.
    opened:
        Strobe: the first word of a message is taken.
    """

    i: In(PacketSignature(PARCEL_WIDTH))
    o: Out(PacketSignature(PARCEL_WIDTH))
    peer: Out(Peer)
    opened: Out(1)

    def elaborate(self, platform):
        m = Module()
        words = Peer.as_shape().size // 32
        count, sender, is_first = Signal(range(words + 1)), Signal(Peer), Signal()
        is_message = count == words
        m.d.comb += [
            self.o.payload.eq(self.i.payload), self.o.valid.eq(self.i.valid & is_message),
            self.i.ready.eq(self.o.ready | ~is_message),
            self.opened.eq(self.o.valid & self.o.ready & is_first),
        ]
        with m.If(self.i.valid & ~is_message):
            m.d.sync += [
                sender.as_value().word_select(count, 32).eq(self.i.payload.data), count.eq(count + 1), is_first.eq(1),
            ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += is_first.eq(0)
            with m.If(self.i.payload.last):
                m.d.sync += count.eq(0)
        with m.If(self.opened):
            m.d.sync += self.peer.eq(sender)
        return m
