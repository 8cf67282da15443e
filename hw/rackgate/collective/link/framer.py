# SPDX-License-Identifier: Apache-2.0
"""Frames, put together from their headers and the packets in the store."""

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.link.abi import FRAME_HEADER_SIZE
from rackgate.collective.link.frame import (
    BUFFER_BITS,
    LENGTH_BITS,
    Departure,
    LinkSettings,
    check_link_width,
    frame_header,
)
from rackgate.stream.packet import PacketSignature

__all__ = ["Framer"]


class Framer(wiring.Component):
    """Send frames, a word a cycle; the first word 2 cycles after its departure was taken.

    Nothing is between two frames if the next departure is there in time. ``o`` comes from registers. Reset cuts off
    the frame under way.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8 or 16.

    Members
    -------
    i:
        Frames to be sent. It is taken when the frame begins.
    node, settings:
        This node, and what the host has set.
    read, words:
        Packet to be read from the store, and its words.
    held:
        The buffer that is being read.
    o:
        Ethernet frames without padding and FCS.
    sent, sent_packet:
        Strobe: a frame begins; it has a packet.
    """

    def __init__(self, width: int = 8):
        self.width = check_link_width(width)
        super().__init__({
            "i": In(stream.Signature(Departure)),
            "node": In(4), "settings": In(LinkSettings),
            "read": Out(stream.Signature(data.StructLayout({"buffer": BUFFER_BITS, "length": LENGTH_BITS}))),
            "words": In(PacketSignature(self.width)),
            "held": Out(data.StructLayout({"valid": 1, "buffer": BUFFER_BITS})),
            "o": Out(PacketSignature(self.width)),
            "sent": Out(1), "sent_packet": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        beats = FRAME_HEADER_SIZE // self.width
        frame, beat, moves, has_packet = Signal(Departure), Signal(range(beats)), Signal(), Signal()
        header, out, word = frame_header(frame, self.node, self.settings), self.o.payload, self.words.payload
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            has_packet.eq(frame.length != 0),
            self.read.payload.buffer.eq(self.i.payload.buffer), self.read.payload.length.eq(self.i.payload.length),
            self.sent.eq(self.i.valid & self.i.ready),
            self.sent_packet.eq(self.i.payload.length != 0),
            self.held.buffer.eq(frame.buffer),
        ]
        with m.If(moves):
            m.d.sync += self.o.valid.eq(0)

        def take_next():
            """The next frame, if its packet can be read."""
            m.d.comb += [
                self.i.ready.eq(~self.sent_packet | self.read.ready),
                self.read.valid.eq(self.i.valid & self.sent_packet),
            ]
            with m.If(self.i.valid & self.i.ready):
                m.next = "HEADER"
            with m.Else():
                m.next = "IDLE"

        with m.FSM():
            with m.State("IDLE"):
                take_next()
            with m.State("HEADER"):
                with m.If(moves):
                    is_end = beat == beats - 1
                    m.d.sync += [
                        self.o.valid.eq(1), beat.eq(beat + 1),
                        out.data.eq(header.word_select(beat, 8 * self.width)), out.count.eq(self.width),
                        out.last.eq(is_end & ~has_packet), out.error.eq(0),
                    ]
                    with m.If(is_end):
                        m.d.sync += beat.eq(0)
                        with m.If(has_packet):
                            m.next = "PACKET"
                        with m.Else():
                            take_next()
            with m.State("PACKET"):
                m.d.comb += self.words.ready.eq(moves)
                with m.If(moves & self.words.valid):
                    m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(word)]
                    with m.If(word.last):
                        m.d.sync += self.held.valid.eq(0)
                        take_next()
        with m.If(self.sent):  # behind the end of the frame before it, which may come at the same time
            m.d.sync += [frame.eq(self.i.payload), self.held.valid.eq(self.sent_packet)]
        m.d.sync += Assert(~self.words.valid | self.held.valid, "words of no packet")
        return m
