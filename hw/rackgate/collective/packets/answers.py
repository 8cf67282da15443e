# SPDX-License-Identifier: Apache-2.0
"""Packets that an engine sends of its own accord."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import PacketType
from rackgate.collective.records import Clear, CreditPacket, HeaderFields

__all__ = ["Answers"]


class Answers(wiring.Component):
    """Make headers of credits that go back, and of answers to messages that ask before they are sent.

    Both take turns. What is offered at ``o`` stays until it is taken, as the packetizer needs it; it is there in the
    cycle in which it comes, or, of ``clear``, and of both at a time, in the next.

    Members
    -------
    credit:
        Credits that go back in a packet of their own.
    clear:
        Messages that may be sent on.
    o:
        Headers of packets without payload.

    Reset: it is the credits' turn.
    """

    credit: stream.Interface
    clear: stream.Interface
    o: stream.Interface

    def __init__(self):
        super().__init__({
            "credit": In(stream.Signature(CreditPacket)),
            "clear": In(stream.Signature(Clear)),
            "o": Out(stream.Signature(HeaderFields)),
        })

    def elaborate(self, platform):
        m = Module()
        is_clear, header = Signal(), self.o.payload
        with m.If(is_clear):
            m.d.comb += [
                self.o.valid.eq(self.clear.valid), self.clear.ready.eq(self.o.ready),
                header.type.eq(PacketType.CLEAR_TO_SEND),
                *(header[name].eq(self.clear.payload[name]) for name in ("communicator", "node", "handle")),
            ]
        with m.Else():
            m.d.comb += [
                self.o.valid.eq(self.credit.valid), self.credit.ready.eq(self.o.ready),
                header.type.eq(PacketType.CREDIT), header.credit.eq(self.credit.payload.count),
                *(header[name].eq(self.credit.payload[name]) for name in ("communicator", "node")),
            ]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += is_clear.eq(~is_clear & self.clear.valid)
        return m
