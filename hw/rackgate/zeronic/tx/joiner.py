# SPDX-License-Identifier: Apache-2.0
"""Pieces of any size, joined into packed frames."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.dma.rotate import rotate_up
from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.records import check_width
from rackgate.zeronic.tx.merger import parts_layout

__all__ = ["Joiner"]


class Joiner(wiring.Component):
    """Close the gaps between the words of a frame: all its words but the last are full.

    A word is given out when the next one has a byte, so that words of ``count`` 0 may stand anywhere, at the end too
    (but a frame without any byte fails an assertion). A word a cycle goes in; the last word of a frame leaves while the
    first of the next comes in. So a frame takes as many cycles as the more of its words in and its words out: one more
    than the frame has words for each piece at most. Latency 3 cycles from a word to the one it completes. ``o`` and
    ``i.ready`` come from registers. Reset forgets everything.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i, o:
        Words (:func:`~rackgate.zeronic.tx.merger.parts_layout`).
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        super().__init__({
            "i": In(stream.Signature(parts_layout(self.width))), "o": Out(stream.Signature(parts_layout(self.width))),
        })
        # The word that came last, turned to its place; ``start`` bytes of its frame are held then, of which the
        # lowest ``width`` make a word when there are more.
        self._turned, self._has_turned = Signal(parts_layout(self.width)), Signal()
        self._start = Signal(range(self.width + 1))
        self._held = Signal(parts_layout(self.width))
        self._is_ended = Signal()  # what is held ends its frame

    def elaborate(self, platform):
        m = Module()
        # Behind it stands what stores frames: whether that has room must not reach back to the memory's words.
        m.submodules.joined = joined = SkidBuffer(self.o.payload.shape())
        wiring.connect(m, joined.o, wiring.flipped(self.o))
        moves, place = Signal(), Signal(range(self.width + 1))
        word, turned, held, out = self.i.payload, self._turned, self._held, joined.i.payload
        total = Signal(range(2 * self.width + 1))
        m.d.comb += [moves.eq(joined.i.ready), self.i.ready.eq(moves), total.eq(place + word.count)]
        data = rotate_up(m, word.data, place[:exact_log2(self.width)])
        with m.If(moves):
            m.d.sync += self._has_turned.eq(self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += [
                    turned.eq(word), turned.data.eq(data), self._start.eq(place),
                    place.eq(Mux(word.last, 0, Mux(total > self.width, total - self.width, total))),
                    Assert(~word.last | (total != 0), "a frame without a byte"),
                ]

        merged, after, is_full = Signal(8 * self.width), Signal.like(total), Signal()
        m.d.comb += [
            after.eq(self._start + turned.count),
            is_full.eq(self._has_turned & (after > self.width)),
            merged.eq(Cat(Mux(self._start > k, held.data.word_select(k, 8), turned.data.word_select(k, 8))
                          for k in range(self.width))),
        ]
        m.d.comb += [joined.i.valid.eq(self._is_ended | is_full), out.eq(held)]
        with m.If(~self._is_ended):
            m.d.comb += [out.data.eq(merged), out.count.eq(self.width)]
        with m.If(moves):
            m.d.sync += self._is_ended.eq(self._has_turned & turned.last)
            with m.If(self._has_turned):
                m.d.sync += [
                    held.eq(turned), held.data.eq(Mux(is_full, turned.data, merged)),
                    held.count.eq(Mux(is_full, after - self.width, after)),
                    Assert(~self._is_ended | (self._start == 0), "a frame begins within another"),
                ]
        return m
