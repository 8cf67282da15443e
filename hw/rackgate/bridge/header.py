# SPDX-License-Identifier: Apache-2.0
"""Read the header of a message."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.bridge import abi
from rackgate.bridge.session import Header

__all__ = ["HeaderReader"]


class HeaderReader(wiring.Component):
    """Take the words of a message that a header consists of, and of OPEN the first of its body too.

    The header is offered 2 cycles after its last word, 1 after that of OPEN. Reset expects the begin of a message.

    Members
    -------
    is_held, words:
        As :class:`~rackgate.bridge.store.MessageStore` says them.
    i:
        Words of the message. What the header does not need is left there.
    o:
        The header, once for each message; its payload stays until ``is_held`` falls.
    foreign:
        The message has another magic: there is no header. Until ``is_held`` falls.
    """

    is_held: In(1)
    words: In(range(abi.MESSAGE_WORDS))
    i: In(stream.Signature(32))
    o: Out(stream.Signature(Header))
    foreign: Out(1)

    def elaborate(self, platform):
        m = Module()
        header = self.o.payload
        taken, common = Signal(range(abi.HEADER_WORDS)), header.as_value()[:32 * abi.HEADER_WORDS]
        has_previous = (header.kind == abi.Kind.OPEN) & (header.body_words != 0)
        with m.FSM():
            with m.State("WORDS"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += header.body_words.eq(self.words - abi.HEADER_WORDS)
                with m.If(self.i.valid):
                    m.d.sync += [common.eq(Cat(common[32:], self.i.payload)), taken.eq(taken + 1)]
                    with m.If(taken == abi.HEADER_WORDS - 1):
                        m.d.sync += taken.eq(0)
                        m.next = "PREVIOUS"
            with m.State("PREVIOUS"):
                m.d.sync += header.previous.eq(self.i.payload)
                m.d.comb += self.i.ready.eq(has_previous)
                with m.If(header.magic != abi.MAGIC):
                    m.next = "FOREIGN"
                with m.Elif(~has_previous | self.i.valid):
                    m.d.sync += self.o.valid.eq(1)
                    m.next = "GIVE"
            with m.State("GIVE"):
                with m.If(self.o.ready):
                    m.d.sync += self.o.valid.eq(0)
                    m.next = "REST"
            with m.State("REST"):
                with m.If(~self.is_held):
                    m.next = "WORDS"
            with m.State("FOREIGN"):
                m.d.comb += self.foreign.eq(1)
                with m.If(~self.is_held):
                    m.next = "WORDS"
        return m
