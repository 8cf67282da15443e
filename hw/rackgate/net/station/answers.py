# SPDX-License-Identifier: Apache-2.0
"""Answers of the bridge, on their way into datagrams."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.bridge.abi import MESSAGE_WORDS
from rackgate.net.station.records import PARCEL_WIDTH, Peer
from rackgate.pisa.checksum import WordSum
from rackgate.stream.packet import PacketSignature
from rackgate.stream.packetqueue import PacketQueue

__all__ = ["Answer", "AnswerStore"]


#: Words: one block RAM, and more than a message has.
_DEPTH = 512


class Answer(data.Struct):
    """Whom an answer is for, how many bytes it has, and the sum of its 16-bit words, folded to 16 bits."""

    peer: Peer
    length: 16
    sum: 16


class AnswerStore(wiring.Component):
    """Store an answer until its length and sum are known, as they go before it.

    A word a cycle; between two answers some 5 cycles pass. What is longer than any message, or ends with ``error``, is
    dropped. ``i.ready`` depends on no input. Reset forgets all answers.

    Members
    -------
    i:
        Answers.
    peer:
        Whom an answer is for, when its last word is taken.
    record, words:
        For each answer, in order: what is known of it, then, not before the record is taken, its words.
    """

    i: In(PacketSignature(PARCEL_WIDTH))
    peer: In(Peer)
    record: Out(stream.Signature(Answer))
    words: Out(PacketSignature(PARCEL_WIDTH))

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = PacketQueue(PARCEL_WIDTH, depth=_DEPTH, waits=True, longest=MESSAGE_WORDS)
        m.submodules.sum = total = WordSum(PARCEL_WIDTH, MESSAGE_WORDS)
        word, takes, length = self.i.payload, Signal(), Signal(16)
        kept, is_kept = Signal(Answer), Signal()
        wiring.connect(m, store.o, wiring.flipped(self.words))
        m.d.comb += [
            takes.eq(self.i.valid & self.i.ready),
            store.i.payload.eq(word), store.i.valid.eq(takes),
            total.i.valid.eq(takes), total.i.payload.last.eq(word.last),
        ]
        for place in range(PARCEL_WIDTH):
            here = slice(8 * place, 8 * place + 8)
            m.d.comb += total.i.payload.data[here].eq(Mux(word.count > place, word.data[here], 0))
        with m.If(takes):
            m.d.sync += length.eq(Mux(word.last, 0, length + word.count))
        with m.If(store.kept):
            m.d.sync += is_kept.eq(1)

        with m.FSM():
            with m.State("PASS"):
                m.d.comb += self.i.ready.eq(store.i.ready)
                with m.If(takes & word.last):
                    m.d.sync += [kept.peer.eq(self.peer), kept.length.eq(length + word.count)]
                    m.next = "SUM"
            with m.State("SUM"):
                with m.If(total.o.valid):
                    m.d.sync += kept.sum.eq(total.o.payload)
                    m.next = "TELL"
            with m.State("TELL"):
                m.d.comb += [self.record.valid.eq(is_kept), self.record.payload.eq(kept)]
                with m.If(self.record.ready | ~is_kept):
                    m.d.sync += is_kept.eq(0)
                    m.next = "PASS"
        return m
