# SPDX-License-Identifier: Apache-2.0
"""Messages to bytes of a UART and back (:mod:`rackgate.bridge.framing`)."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.bridge.abi import MESSAGE_WORDS
from rackgate.bridge.framing import END, ESC, ESC_END, ESC_ESC
from rackgate.stream.packet import PacketSignature

__all__ = ["FrameReceiver", "FrameSender"]


class FrameReceiver(wiring.Component):
    """Gather the words of messages from bytes that cannot wait.

    A frame is damaged when one of its bytes is, when ESC stands before a byte that cannot follow it, when it has more
    words than a message, or when a word was not taken by the time the next was there. What of it has gone out ends with
    a word that says ``error``; when none has, the frame is dropped in silence. While such an end waits to be taken,
    whole frames are lost.

    A word goes out when the byte behind it is there, so the last one knows that it is. Reset forgets the frame; the
    rest of it is taken for one, which the bridge then finds damaged.

    Members
    -------
    byte, strobe, damaged:
        As :class:`~rackgate.bridge.uart.UartReceiver` gives them.
    o:
        Messages.
    dropped:
        High for a cycle for each frame that is damaged.
    """

    byte: In(8)
    strobe: In(1)
    damaged: In(1)
    o: Out(PacketSignature(4))
    dropped: Out(1)

    def elaborate(self, platform):
        m = Module()
        is_end, is_data, value, is_wrong = Signal(), Signal(), Signal(8), Signal()
        is_escaped = Signal()
        m.d.comb += [
            is_end.eq(self.strobe & (self.byte == END)),
            is_data.eq(self.strobe & ~is_end & ((self.byte != ESC) | is_escaped)),
            value.eq(self.byte),
            is_wrong.eq(self.damaged | (is_end & is_escaped)),
        ]
        with m.If(self.strobe):
            m.d.sync += is_escaped.eq(~is_escaped & (self.byte == ESC))
        with m.If(is_escaped):
            with m.Switch(self.byte):
                with m.Case(ESC_END):
                    m.d.comb += value.eq(END)
                with m.Case(ESC_ESC):
                    m.d.comb += value.eq(ESC)
                with m.Default():
                    m.d.comb += is_wrong.eq(self.damaged | self.strobe)
        self._gather(m, is_data, value, is_end, is_wrong)
        return m

    def _gather(self, m, is_data, value, is_end, is_wrong):
        """Bytes to words. A whole word waits until it is known whether it is the last."""
        is_bad, has_begun, is_ending = Signal(), Signal(), Signal()  # an end with ``error`` is owed
        words, word, count = Signal(range(MESSAGE_WORDS)), Signal(32), Signal(range(5))
        is_free, put, is_last, fails = Signal(), Signal(), Signal(), Signal()
        o_free = ~self.o.valid | self.o.ready
        m.d.comb += is_free.eq(o_free & ~is_ending)
        with m.If(o_free):
            m.d.sync += [
                self.o.valid.eq(put | is_ending), is_ending.eq(0),
                self.o.payload.data.eq(word), self.o.payload.count.eq(Mux(is_ending, 4, count)),
                self.o.payload.last.eq(is_last | is_ending), self.o.payload.error.eq(is_ending),
            ]
        with m.If(is_wrong):
            m.d.sync += is_bad.eq(1)
        with m.Elif(is_data & (count == 4)):
            m.d.comb += [fails.eq(~is_free | (words == MESSAGE_WORDS - 1)), put.eq(~fails & ~is_bad)]
            m.d.sync += [is_bad.eq(is_bad | fails), has_begun.eq(has_begun | put), words.eq(words + put), count.eq(1),
                         word.eq(value)]
        with m.Elif(is_data):
            m.d.sync += [word.word_select(count[:2], 8).eq(value), count.eq(count + 1)]
        with m.If(is_end):
            m.d.comb += [
                fails.eq(is_bad | is_wrong | ((count != 0) & ~is_free)), put.eq((count != 0) & ~fails),
                is_last.eq(1), self.dropped.eq(fails),
            ]
            m.d.sync += [is_bad.eq(0), has_begun.eq(0), words.eq(0), count.eq(0)]
            with m.If(fails & has_begun):
                m.d.sync += is_ending.eq(1)
        m.d.sync += Assert(~(is_end & fails & has_begun & is_ending), "two frames end in error at once")


class FrameSender(wiring.Component):
    """Send messages as frames, END before and behind each.

    A byte goes out when it is taken; the words of a message may come at any time. ``i.ready`` depends combinationally
    on ``o.ready`` and ``i.payload``; ``error`` is not looked at. Reset ends a frame in its middle.

    Members
    -------
    i: messages. o: bytes.
    """

    i: In(PacketSignature(4))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        word, place, value = self.i.payload, Signal(2), Signal(8)
        is_special, is_sent = Signal(), Signal()
        m.d.comb += [
            value.eq(word.data.word_select(place, 8)),
            is_special.eq((value == END) | (value == ESC)),
            is_sent.eq(self.o.valid & self.o.ready),
        ]
        with m.FSM():
            with m.State("BEGIN"):
                m.d.comb += [self.o.valid.eq(self.i.valid), self.o.payload.eq(END)]
                with m.If(is_sent):
                    m.next = "BYTES"
            with m.State("BYTES"):
                m.d.comb += [self.o.valid.eq(self.i.valid), self.o.payload.eq(Mux(is_special, ESC, value))]
                with m.If(is_sent & is_special):
                    m.next = "ESCAPED"
                with m.Elif(is_sent):
                    self._advance(m, place)
            with m.State("ESCAPED"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(Mux(value == END, ESC_END, ESC_ESC))]
                with m.If(is_sent):
                    m.next = "BYTES"
                    self._advance(m, place)
            with m.State("END"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(END)]
                with m.If(is_sent):
                    m.next = "BEGIN"
        return m

    def _advance(self, m, place):
        """To the next byte, or word, or the end."""
        m.d.sync += place.eq(place + 1)
        with m.If(place == self.i.payload.count - 1):
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += place.eq(0)
            with m.If(self.i.payload.last):
                m.next = "END"
