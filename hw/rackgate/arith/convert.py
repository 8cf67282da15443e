# SPDX-License-Identifier: Apache-2.0
"""Packets of float32 to packets of float16, and back."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.packet import PacketSignature, packet_layout

from .abi import WIDTHS
from .halves import HalfToSingle, SingleToHalf

__all__ = ["Compress", "Expand", "convert_layout"]


def convert_layout(width: int) -> data.StructLayout:
    """Input of a converter: a ``word`` of a packet, and whether to ``convert`` it (the same in all its words).

    A packet of no bytes is one word with ``count`` 0.
    """
    return data.StructLayout({"word": packet_layout(width), "convert": 1})


class _Converter(wiring.Component):
    """Ports and parameter of both converters."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int):
        self.width = operator.index(width)
        if self.width not in WIDTHS:
            raise ValueError(f"width must be one of {WIDTHS} bytes, not {width}")
        super().__init__({
            "i": In(stream.Signature(convert_layout(self.width))),
            "o": Out(PacketSignature(self.width)),
        })

    def _delay(self, m, move, valid, payload):
        """``valid`` and ``payload`` two cycles later, beside the lanes."""
        for cycle in range(2):
            is_valid, stage = Signal(name=f"valid_{cycle}"), Signal(convert_layout(self.width), name=f"stage_{cycle}",
                                                                   reset_less=True)
            with m.If(move):
                m.d.sync += [is_valid.eq(valid), stage.eq(payload)]
            valid, payload = is_valid, stage
        return valid, payload


class Compress(_Converter):
    """Make packets of float16 from packets of float32; or let packets pass as they are.

    Numbers are rounded as :class:`~rackgate.arith.halves.SingleToHalf` says. Two words that are converted make one;
    a packet with an odd number of words ends in a word that is at most half full. Bytes beyond ``count`` mean nothing.

    One word a cycle goes in; packets keep their order, whether converted or not, without a gap between them. Latency
    3 cycles, counted from the word that completes one of the output. The whole stands while its output is not
    taken: ``i.ready`` depends combinationally on ``o.ready``, not on ``i.valid``; the output is registered. Reset
    drops what is inside.

    A word of a packet to convert whose ``count`` is no multiple of 4, or that is short and not the last, fails an
    assertion.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8, 16, 32 or 64.

    Members
    -------
    i:
        Words of packets, and what to do with them (:func:`convert_layout`).
    o:
        Packets.
    """

    def elaborate(self, platform):
        m = Module()
        width, half = self.width, 4 * self.width
        move, source = Signal(), self.i.payload.word
        m.d.comb += [move.eq(~self.o.valid | self.o.ready), self.i.ready.eq(move)]
        halves = Signal(half)
        for index in range(width // 4):
            m.submodules[f"lane_{index}"] = lane = SingleToHalf()
            m.d.comb += [
                lane.en.eq(move), lane.i.eq(source.data.word_select(index, 32)),
                halves.word_select(index, 16).eq(lane.o),
            ]
        valid, done = self._delay(m, move, self.i.valid, self.i.payload)

        word, held, has_held = done.word, Signal(half, reset_less=True), Signal()
        with m.If(self.i.valid & self.i.payload.convert):
            m.d.sync += [
                Assert(source.count[:2] == 0, "a packet to compress has a part of a 32-bit float"),
                Assert(source.last | (source.count == width), "a word before the last is not full"),
            ]
        with m.If(move):
            m.d.sync += [
                self.o.valid.eq(valid & (~done.convert | has_held | word.last)),
                self.o.payload.eq(word),
            ]
            with m.If(done.convert):
                m.d.sync += [
                    self.o.payload.data.eq(Mux(has_held, Cat(held, halves), halves)),
                    self.o.payload.count.eq(word.count[1:] + Mux(has_held, width // 2, 0)),
                ]
            with m.If(valid & done.convert):
                m.d.sync += [held.eq(halves), has_held.eq(~has_held & ~word.last)]
        return m


class Expand(_Converter):
    """Make packets of float32 from packets of float16; or let packets pass as they are.

    Each number keeps its value; a NaN becomes the canonical one. A word that is converted makes two, one if it is the
    last and at most half full. Bytes beyond ``count`` mean nothing.

    One word a cycle comes out; packets keep their order, whether converted or not, without a gap between them.
    Latency 2 cycles. The whole stands while its output is not taken: ``i.ready`` depends combinationally on
    ``o.ready`` and on ``i.payload``, not on ``i.valid``; ``o.payload`` is a choice between two registers. Reset drops
    what is inside.

    A word of a packet to convert whose ``count`` is odd, or that is short and not the last, fails an assertion.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8, 16, 32 or 64.

    Members
    -------
    i:
        Words of packets, and what to do with them (:func:`convert_layout`).
    o:
        Packets.
    """

    def elaborate(self, platform):
        m = Module()
        width, half = self.width, 4 * self.width
        move, is_second, is_done = Signal(), Signal(), Signal()
        source, convert = self.i.payload.word, self.i.payload.convert
        is_short = source.count <= width // 2
        m.d.comb += [
            move.eq(~self.o.valid | self.o.ready),
            is_done.eq(~convert | is_second | source.last & is_short),
            self.i.ready.eq(move & is_done),
        ]
        with m.If(self.i.valid):
            with m.If(move):
                m.d.sync += is_second.eq(~is_done)
            with m.If(convert):
                m.d.sync += [
                    Assert(~source.count[0], "a packet to expand has a part of a 16-bit float"),
                    Assert(source.last | (source.count == width), "a word before the last is not full"),
                ]

        part = Signal(convert_layout(width))
        m.d.comb += [part.eq(self.i.payload), part.word.last.eq(source.last & is_done),
                     part.word.error.eq(source.error & is_done)]
        with m.If(convert):
            m.d.comb += part.word.count.eq(
                Mux(is_second, (source.count << 1) - width, Mux(is_short, source.count << 1, width)))
        halves, singles = Mux(is_second, source.data[half:], source.data[:half]), Signal(8 * width)
        for index in range(width // 4):
            m.submodules[f"lane_{index}"] = lane = HalfToSingle()
            m.d.comb += [
                lane.en.eq(move), lane.i.eq(halves.word_select(index, 16)),
                singles.word_select(index, 32).eq(lane.o),
            ]
        valid, done = self._delay(m, move, self.i.valid, part)
        m.d.comb += [self.o.valid.eq(valid), self.o.payload.eq(done.word)]
        with m.If(done.convert):
            m.d.comb += self.o.payload.data.eq(singles)
        return m
