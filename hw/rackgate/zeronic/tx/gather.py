# SPDX-License-Identifier: Apache-2.0
"""Payload from memory, by its place in the stream."""

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.axi.bus import AXI4Signature
from rackgate.dma.fetcher import Fetcher
from rackgate.zeronic.records import ADDRESS_BITS, FLOW_BITS, LENGTH_BITS, Piece, check_width
from rackgate.zeronic.tx.records import GatherRequest

__all__ = ["Gather", "gathered_layout"]

#: Pieces that may be under way, and requests that may be looked up.
_PIECES = 16
_REQUESTS = 32


def gathered_layout(width: int) -> data.StructLayout:
    """A word of which the first ``count`` bytes go on with a payload; ``last`` ends it.

    ``error`` on the last word: no word of the payload is of use; ``bad_region``: it is because a region forbids it.
    """
    return data.StructLayout({"data": 8 * width, "count": ceil_log2(width + 1), "last": 1, "error": 1, "bad_region": 1})


class Gather(wiring.Component):
    """Read the pieces of memory that hold a frame's payload, in order, as packed words.

    Each request ends in a word with ``last``; the words before it that end a piece may be less than full. ``error`` on
    the last word (``count`` may be 0 there): a byte is in no segment or outside its region, or the memory refused a
    read; then the words are of no use. Only what :class:`~rackgate.zeronic.tables.cover.Cover` has given is read.

    The first address is out 3 cycles after a piece came, a word leaves 2 cycles after it came from the memory. A piece
    of n packed words takes n cycles or n + 1, while 16 pieces hide the memory's latency. Reset
    forgets everything; bursts under way must be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.
    id:
        The AXI id.

    Members
    -------
    i:
        Requests.
    request, piece, result:
        Of a Cover with the right READ. The last piece of a request is taken with its result.
    searching:
        Pieces of a request are not yet all known.
    o:
        See :func:`gathered_layout`.
    ar, r:
        AXI4 read channels.
    """

    i: stream.Interface
    request: stream.Interface
    piece: stream.Interface
    result: stream.Interface
    o: stream.Interface
    ar: stream.Interface
    r: stream.Interface

    def __init__(self, width: int = 8, *, id: int = 0):
        self.width = check_width(width)
        self._fetcher = Fetcher(self.width, tag=data.StructLayout({"last": 1, "error": 1, "bad_region": 1}),
                                addr_width=ADDRESS_BITS, id=id, outstanding=_PIECES)
        super().__init__({
            "i": In(stream.Signature(GatherRequest)),
            "request": Out(stream.Signature(data.StructLayout(
                {"flow": FLOW_BITS, "position": 32, "size": LENGTH_BITS, "carried": 0}))),
            "piece": In(stream.Signature(Piece)),
            "result": In(stream.Signature(data.StructLayout(
                {"covered": LENGTH_BITS, "no_segment": 1, "bad_region": 1, "carried": 0}))),
            "searching": Out(1),
            "o": Out(stream.Signature(gathered_layout(self.width))),
            "ar": AXI4Signature(data_width=8 * self.width).members["ar"],
            "r": AXI4Signature(data_width=8 * self.width).members["r"],
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetcher = fetcher = self._fetcher
        wiring.connect(m, fetcher.ar, wiring.flipped(self.ar))
        wiring.connect(m, wiring.flipped(self.r), fetcher.r)
        wanted, asked, pending, ends = self.i.payload, self.request.payload, Signal(range(_REQUESTS + 1)), Signal()
        m.d.comb += [
            self.request.valid.eq(self.i.valid & (pending != _REQUESTS)),
            self.i.ready.eq(self.request.ready & (pending != _REQUESTS)),
            asked.flow.eq(wanted.flow), asked.position.eq(wanted.position), asked.size.eq(wanted.size),
            self.searching.eq(pending != 0),
        ]
        m.d.sync += pending.eq(pending + (self.request.valid & self.request.ready) - ends)

        piece, command, result = self.piece.payload, fetcher.i.payload, self.result.payload
        has_result = ~piece.last | self.result.valid
        m.d.comb += [
            fetcher.i.valid.eq(self.piece.valid & has_result), self.piece.ready.eq(fetcher.i.ready & has_result),
            ends.eq(self.piece.valid & self.piece.ready & piece.last), self.result.ready.eq(ends),
            command.addr.eq(piece.address), command.size.eq(piece.size), command.tag.last.eq(piece.last),
            command.tag.error.eq(piece.last & (result.no_segment | result.bad_region)),
            command.tag.bad_region.eq(piece.last & result.bad_region),
        ]
        m.d.sync += Assert(~ends | (pending != 0), "a piece that nobody asked for")

        word, out, has_failed = fetcher.o.payload, self.o.payload, Signal()
        m.d.comb += [
            self.o.valid.eq(fetcher.o.valid), fetcher.o.ready.eq(self.o.ready),
            out.data.eq(word.data), out.count.eq(word.count), out.last.eq(word.last & word.tag.last),
            out.error.eq(out.last & (word.error | word.tag.error | has_failed)),
            out.bad_region.eq(out.last & word.tag.bad_region),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += has_failed.eq((has_failed | word.error) & ~out.last)
        return m
