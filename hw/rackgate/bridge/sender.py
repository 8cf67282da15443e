# SPDX-License-Identifier: Apache-2.0
"""Make a message of a body."""

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.wiring import In, Out

from rackgate.bridge import abi
from rackgate.stream.packet import PacketSignature

__all__ = ["Envelope", "Sender"]


class Envelope(data.Struct):
    """What a message says before its body, and the words that this has."""

    kind: 8
    session: 32
    sequence: 32
    words: range(abi.BODY_WORDS + 1)


class Sender(wiring.Component):
    """Send messages: header, body, CRC.

    A word a cycle, and 1 cycle more for a message. An envelope is taken with the last word of its message, and must not
    change before. Reset forgets the message, also in its middle.

    Members
    -------
    i: envelopes. body: words of the body, behind its envelope. o: messages.
    """

    i: In(stream.Signature(Envelope))
    body: In(stream.Signature(32))
    o: Out(PacketSignature(4))

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=32).create()
        left = Signal(range(abi.BODY_WORDS + 1))
        envelope, word = self.i.payload, self.o.payload
        is_sent = Signal()
        m.d.comb += [
            word.count.eq(4), is_sent.eq(self.o.valid & self.o.ready), crc.data.eq(word.data), crc.valid.eq(is_sent),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += left.eq(envelope.words)
                with m.If(self.i.valid):
                    m.next = "KIND"
            kind = Cat(Const(abi.MAGIC, 16), Const(abi.PROTOCOL, 8), envelope.kind)
            for state, value, after in (("KIND", kind, "SESSION"), ("SESSION", envelope.session, "SEQUENCE"),
                                        ("SEQUENCE", envelope.sequence, "BODY")):
                with m.State(state):
                    m.d.comb += [self.o.valid.eq(1), word.data.eq(value)]
                    with m.If(is_sent):
                        m.next = after
            with m.State("BODY"):
                m.d.comb += [
                    self.o.valid.eq(self.body.valid | (left == 0)),
                    self.body.ready.eq(self.o.ready & (left != 0)),
                    word.data.eq(Mux(left == 0, crc.crc, self.body.payload)),
                    word.last.eq(left == 0),
                ]
                with m.If(is_sent & (left != 0)):
                    m.d.sync += left.eq(left - 1)
                with m.If(is_sent & word.last):
                    m.d.comb += self.i.ready.eq(1)
                    m.next = "IDLE"
        m.d.sync += Assert(left <= abi.BODY_WORDS, "a body is too long")
        return m
