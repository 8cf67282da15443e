# SPDX-License-Identifier: Apache-2.0
"""Packets of a source that cannot wait, on their way into a queue that may be full."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.packet import PacketSignature, packet_layout

__all__ = ["OverflowGuard"]


class OverflowGuard(wiring.Component):
    """Take every word; where ``o`` is stalled, packets are lost, but what comes out are always packets.

    A packet with a lost word is lost from there on: what came out of it before is ended by a word of one byte with
    ``error``; a packet of which nothing came out vanishes. Latency 1 cycle, a word a cycle. ``o`` comes from
    registers. Reset forgets the word on offer, and expects the begin of a packet.

    Parameters
    ----------
    width:
        Bytes of a word.

    Members
    -------
    i:
        Packets, as they come.
    o:
        Packets.
    lost:
        Strobe: a packet has just begun to be lost.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int):
        super().__init__({
            "i": In(stream.Signature(packet_layout(width), always_ready=True)),
            "o": Out(PacketSignature(width)),
            "lost": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        is_within, is_skipping, owes_end = Signal(), Signal(), Signal()
        is_free, comes, out = Signal(), Signal(), self.o.payload
        m.d.comb += [
            is_free.eq(~self.o.valid | self.o.ready),
            comes.eq(self.i.valid & ~is_skipping),
            self.lost.eq(comes & (~is_free | owes_end)),
        ]
        with m.If(self.i.valid & self.i.payload.last):
            m.d.sync += is_skipping.eq(0)
        with m.If(is_free):
            m.d.sync += self.o.valid.eq(comes | owes_end)
            with m.If(owes_end):
                m.d.sync += [out.eq(0), out.count.eq(1), out.last.eq(1), out.error.eq(1), owes_end.eq(0)]
            with m.Elif(comes):
                m.d.sync += [out.eq(self.i.payload), is_within.eq(~self.i.payload.last)]
        with m.If(self.lost):
            m.d.sync += [is_skipping.eq(~self.i.payload.last), is_within.eq(0)]
            with m.If(is_within):
                m.d.sync += owes_end.eq(1)
        return m
