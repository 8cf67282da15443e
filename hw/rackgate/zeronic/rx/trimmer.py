# SPDX-License-Identifier: Apache-2.0
"""Pieces of memory, cut to what may be written."""

from amaranth.hdl import Assert, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.records import ADDRESS_BITS, LENGTH_BITS, Piece
from rackgate.zeronic.rx.records import Move, TrimOrder

__all__ = ["Trimmer"]

#: Differences of positions within a frame, and sums of two of them.
_DISTANCE = LENGTH_BITS + 2


class Trimmer(wiring.Component):
    """Cut the pieces of each frame to the range of its order; what is left of them are moves.

    The pieces of a frame are next to each other, and all bytes of the order are in one of them: that is asserted. A
    frame of whose pieces nothing is left has no move; the position of an order of size 0 means nothing.

    One piece a cycle, latency 2 cycles. An order is taken with its frame's last piece, and may come with the first one.
    ``pieces.ready`` and ``order.ready`` depend combinationally on ``o.ready`` and on the ``valid`` of each other. Reset
    forgets the pieces under way, and expects the first piece of a frame.

    Members
    -------
    order:
        One a frame (:class:`~.records.TrimOrder`).
    pieces:
        See :class:`~rackgate.zeronic.records.Piece`.
    o:
        Moves, in order (:class:`~.records.Move`). ``last`` is on the last one of a frame.
    """

    order: stream.Interface
    pieces: stream.Interface
    o: stream.Interface

    def __init__(self):
        super().__init__({
            "order": In(stream.Signature(TrimOrder)),
            "pieces": In(stream.Signature(Piece)),
            "o": Out(stream.Signature(Move)),
        })
        # A piece from ``begin`` to ``end``, counted from the first byte that is wanted.
        self._seen = Signal(data.StructLayout({
            "begin": signed(_DISTANCE), "end": signed(_DISTANCE), "size": LENGTH_BITS, "is_wanted": 1, "word": 16,
            "offset": LENGTH_BITS, "address": ADDRESS_BITS, "is_last": 1}))
        self._has_seen = Signal()

    def elaborate(self, platform):
        m = Module()
        order, piece, seen, move, takes = self.order.payload, self.pieces.payload, self._seen, Signal(), Signal()
        begin = Signal(signed(_DISTANCE))
        # Behind it stands what reads the frame buffer: who reads it next must not reach back to the decisions.
        m.submodules.moves = moves = SkidBuffer(Move)
        wiring.connect(m, moves.o, wiring.flipped(self.o))
        m.d.comb += [
            move.eq(moves.i.ready),
            takes.eq(move & self.order.valid & self.pieces.valid),
            self.pieces.ready.eq(move & self.order.valid),
            self.order.ready.eq(move & self.pieces.valid & piece.last),
            begin.eq(piece.position - order.position),
        ]
        with m.If(move):
            m.d.sync += self._has_seen.eq(takes)
        with m.If(takes):
            m.d.sync += [
                seen.begin.eq(begin),
                seen.end.eq(begin + piece.size),
                seen.size.eq(order.size),
                seen.is_wanted.eq(order.size != 0),
                seen.word.eq(order.word),
                seen.offset.eq(order.offset),
                seen.address.eq(piece.address),
                seen.is_last.eq(piece.last),
                Assert(piece.last | (piece.size != 0), "a piece before the last is empty"),
            ]
        self._cut(m, moves.i)
        return m

    def _cut(self, m, moves):
        seen, move = self._seen, moves.payload
        first, end = Signal(unsigned(LENGTH_BITS)), Signal(signed(_DISTANCE))
        is_end = seen.end >= seen.size
        m.d.comb += [
            first.eq(Mux(seen.begin < 0, 0, seen.begin)),
            end.eq(Mux(is_end, seen.size, seen.end)),
            moves.valid.eq(self._has_seen & seen.is_wanted & (seen.end > 0) & (seen.begin < seen.size)
                            & (seen.end != seen.begin)),
            move.word.eq(seen.word),
            move.offset.eq(seen.offset + first),
            move.size.eq(end - first),
            move.address.eq(seen.address + Mux(seen.begin < 0, -seen.begin, 0)),
            move.last.eq(is_end),
        ]
        m.d.sync += Assert(~self._has_seen | ~seen.is_last | is_end | (seen.size == 0),
                           "bytes to be written are in no piece")
