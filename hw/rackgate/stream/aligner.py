# SPDX-License-Identifier: Apache-2.0
"""Bytes at any place of a word, re-aligned into whole words."""

import operator

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

__all__ = ["CONTEXT_BITS", "Aligner", "aligned_layout", "pieces_layout"]

#: Bits of a context's number; there are at most 8 contexts.
CONTEXT_BITS = 3


def pieces_layout(width: int) -> data.StructLayout:
    """Input of an :class:`Aligner` of ``width`` bytes.

    Bytes ``first`` to ``first + count - 1`` of ``data`` are appended to the stream of ``context``. ``begin``
    (with ``count`` 0) starts a new stream: its first byte goes to byte ``data % width`` of a word. ``flush``
    (with any ``count``) pushes everything out; the stream may go on behind it.
    """
    index = exact_log2(width)
    return data.StructLayout({"data": 8 * width, "first": index, "count": index + 1, "context": CONTEXT_BITS,
                              "begin": 1, "flush": 1})


def aligned_layout(width: int) -> data.StructLayout:
    """Output of an :class:`Aligner` of ``width`` bytes.

    ``strobe`` has a bit for each byte of ``data`` that counts, and ``has_bytes`` is high when any is set. The
    word is complete when the highest bit is set; else the stream goes on within it. ``begin`` repeats the
    input's, with its ``data``. ``flush`` says that everything before it is out. ``end`` marks the last (or
    only) element made from an input. An element may be empty: no strobe, no flag but ``end``.
    """
    return data.StructLayout({"data": 8 * width, "strobe": width, "has_bytes": 1, "context": CONTEXT_BITS,
                              "begin": 1, "flush": 1, "end": 1})


def _below(lane, width):
    """Mask of the bytes with a number smaller than ``lane``."""
    return Cat(lane > k for k in range(width))


class Aligner(wiring.Component):
    """Turn pieces of bytes of several interleaved streams into aligned words.

    One piece a cycle goes in; each makes one element of output, a flush with bytes two (and takes
    2 cycles). Latency 3 cycles. The bytes of a stream keep their order, and inputs make their elements
    in their order, whatever their context. ``i.ready`` depends combinationally on ``o.ready``, not on
    ``i.valid``. Reset forgets the bytes that wait, and all streams begin at byte 0.

    A ``begin`` on a stream with bytes that wait for a flush would lose them: it fails an assertion.

    Parameters
    ----------
    width:
        Bytes of a word: a power of two, 2 to 64.
    contexts:
        Number of streams, 1 to 8.

    Members
    -------
    i:
        Pieces (:func:`pieces_layout`).
    o:
        Words (:func:`aligned_layout`).
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width=8, *, contexts=1):
        self.width = operator.index(width)
        self.contexts = operator.index(contexts)
        if self.width not in (2, 4, 8, 16, 32, 64):
            raise ValueError(f"width must be a power of two from 2 to 64, not {width}")
        if not 1 <= self.contexts <= 1 << CONTEXT_BITS:
            raise ValueError(f"contexts must be 1 to {1 << CONTEXT_BITS}, not {contexts}")
        super().__init__({
            "i": In(stream.Signature(pieces_layout(self.width))),
            "o": Out(stream.Signature(aligned_layout(self.width))),
        })
        index = exact_log2(self.width)
        # Of the word that each stream is filling: bytes before ``start`` are not ours or already out, those
        # from there to before ``place`` are held back.
        self._place = Array(Signal(index, name=f"place_{k}") for k in range(self.contexts))
        self._start = Array(Signal(index, name=f"start_{k}") for k in range(self.contexts))
        self._held = Array(Signal(8 * self.width, name=f"held_{k}") for k in range(self.contexts))
        step = data.StructLayout({
            "word": aligned_layout(self.width), "rotate": index, "keep": self.width, "is_full": 1,
        })
        self._piece, self._has_piece = Signal(pieces_layout(self.width)), Signal()
        self._step, self._has_step = Signal(step), Signal()
        self._turned, self._has_turned = Signal(step), Signal()

    def elaborate(self, platform):
        m = Module()
        # All registers move together. An input with bytes and a flush stays a second cycle in the first.
        move, is_split = Signal(), Signal()
        m.d.comb += [
            move.eq(~self.o.valid | self.o.ready),
            is_split.eq(self._has_piece & self._piece.flush & (self._piece.count != 0)),
            self.i.ready.eq(move & ~is_split),
        ]
        with m.If(move):
            m.d.sync += [
                self._has_step.eq(self._has_piece),
                self._has_turned.eq(self._has_step),
                self.o.valid.eq(self._has_turned),
            ]
            with m.If(is_split):
                m.d.sync += self._piece.count.eq(0)
            with m.Else():
                m.d.sync += [
                    self._piece.eq(self.i.payload),
                    self._has_piece.eq(self.i.valid),
                ]
            self._place_piece(m, is_split)
            self._turn(m)
            self._merge(m)
        return m

    def _place_piece(self, m, is_split):
        """Where the bytes go; move the stream's place on."""
        piece, word = self._piece, self._step.word
        place, start = self._place[piece.context], self._start[piece.context]
        total, is_full, is_flush = Signal(piece.count.shape().width + 1), Signal(), Signal()
        m.d.comb += [
            total.eq(place + piece.count),
            is_full.eq(total >= self.width),
            is_flush.eq(piece.flush & ~is_split),
        ]
        with m.If(self._has_piece):
            m.d.sync += place.eq(Mux(piece.begin, piece.data, total))
            with m.If(piece.begin):
                m.d.sync += start.eq(piece.data)
            with m.Elif(is_full):
                m.d.sync += start.eq(0)
            with m.Elif(is_flush):
                m.d.sync += start.eq(place)
            m.d.sync += [
                Assert(~piece.begin | (piece.count == 0), "a piece with begin has bytes"),
                Assert(~piece.begin | (place == start), "begin before the bytes of the last stream were flushed"),
                Assert(piece.first + piece.count <= self.width, "a piece reaches past its word"),
                Assert(piece.context < self.contexts, "a piece is of no context"),
            ]

        end = Mux(is_full, self.width, Mux(is_flush, place, 0))
        m.d.sync += [
            word.data.eq(piece.data),
            word.context.eq(piece.context),
            word.begin.eq(piece.begin),
            word.flush.eq(is_flush),
            word.end.eq(~is_split),
            word.has_bytes.eq(~piece.begin & (is_full | is_flush & (place != start))),
            word.strobe.eq(Mux(piece.begin, 0, _below(end, self.width) & ~_below(start, self.width))),
            self._step.rotate.eq(Mux(piece.begin, 0, place - piece.first)),
            self._step.keep.eq(Mux(piece.begin, 0, _below(place, self.width))),
            self._step.is_full.eq(is_full),
        ]

    def _turn(self, m):
        """Rotate, rather than shift: what leaves the word at the top is where the next word begins."""
        m.d.sync += self._turned.eq(self._step)
        with m.Switch(self._step.rotate):
            for distance in range(self.width):
                with m.Case(distance):
                    m.d.sync += self._turned.word.data.eq(self._step.word.data.rotate_left(8 * distance))

    def _merge(self, m):
        """Put the bytes held back below the new ones; hold back what does not fill the word."""
        word, held = self._turned.word, self._held[self._turned.word.context]
        merged = Signal(8 * self.width)
        for k in range(self.width):
            lane = slice(8 * k, 8 * k + 8)
            m.d.comb += merged[lane].eq(Mux(self._turned.keep[k], held[lane], word.data[lane]))
        m.d.sync += [
            self.o.payload.eq(word),
            self.o.payload.data.eq(merged),
        ]
        with m.If(self._has_turned & ~word.begin):
            m.d.sync += held.eq(Mux(self._turned.is_full, word.data, merged))
