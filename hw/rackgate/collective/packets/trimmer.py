# SPDX-License-Identifier: Apache-2.0
"""Payloads, made as long as their headers say."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.records import SIZE_BITS
from rackgate.stream.packet import PacketSignature

__all__ = ["TrimOrder", "Trimmer"]


class TrimOrder(data.Struct):
    """Of one packet: ``size`` bytes are wanted, none with ``drop``. ``has_words``: some come.

    A packet of which nothing is wanted and nothing comes has no order.
    """

    size: SIZE_BITS
    has_words: 1
    drop: 1


class Trimmer(wiring.Component):
    """Cut or pad (with zeros) each packet's payload to its size.

    A word a cycle, and a cycle between packets; latency 1 cycle from the word, 2 from the order. What was cut or
    padded, or came with an error, leaves with ``error`` on its last word. Reset drops the packet under way.

    Parameters
    ----------
    width:
        Bytes of a word, as :func:`~rackgate.stream.packet.packet_layout`.

    Members
    -------
    order:
        One a packet (:class:`TrimOrder`).
    i:
        The payloads as they came: for each order with ``has_words`` the words up to ``last``.
    o:
        The payloads as they should be; none for a size of 0.
    bad_length:
        Strobe, once a packet: it had another length than it should, or an error.
    """

    order: stream.Interface
    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int):
        words = PacketSignature(width)
        self.width = width
        super().__init__({
            "order": In(stream.Signature(TrimOrder)),
            "i": In(words),
            "o": Out(words),
            "bad_length": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        left = Signal(SIZE_BITS)  # bytes still to give out
        is_over = Signal()  # no more words come
        count, is_last, is_wrong, is_free = Signal.like(self.o.payload.count), Signal(), Signal(), Signal()
        word, out = self.i.payload, self.o.payload
        m.d.comb += [
            is_last.eq(left <= self.width),
            count.eq(Mux(is_last, left, self.width)),
            is_wrong.eq(is_over | ~word.last | word.error | (word.count != count)),
            is_free.eq(~self.o.valid | self.o.ready),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM():
            with m.State("IDLE"):
                order = self.order.payload
                m.d.comb += [
                    self.order.ready.eq(1),
                    self.bad_length.eq(self.order.valid & order.has_words & (order.size == 0) & ~order.drop),
                ]
                m.d.sync += [left.eq(Mux(order.drop, 0, order.size)), is_over.eq(~order.has_words)]
                with m.If(self.order.valid):
                    m.next = "WORDS"
            with m.State("WORDS"):
                with m.If(left == 0):  # the rest of what came is too much
                    m.d.comb += self.i.ready.eq(1)
                with m.Elif(is_free):
                    m.d.comb += self.i.ready.eq(~is_over)
                    with m.If(is_over | self.i.valid):
                        m.d.comb += self.bad_length.eq(is_last & is_wrong)
                        m.d.sync += [
                            self.o.valid.eq(1),
                            out.data.eq(Mux(is_over, 0, word.data)),
                            out.count.eq(count),
                            out.last.eq(is_last),
                            out.error.eq(is_last & is_wrong),
                            left.eq(left - count),
                            is_over.eq(is_over | word.last),
                        ]
                        with m.If(is_last & (is_over | word.last)):
                            m.next = "IDLE"
                with m.If((left == 0) & self.i.valid & word.last):
                    m.next = "IDLE"
        return m
