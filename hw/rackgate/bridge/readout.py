# SPDX-License-Identifier: Apache-2.0
"""Read consecutive words of a block RAM as a stream."""

import operator

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Readout"]


class Readout(wiring.Component):
    """Read ranges of words from the read port of a memory, one range after the other.

    A word a cycle; the first 3 cycles after the range is taken, as the RAM's output passes a register. The next range
    is taken in the cycle after the last word was taken at the earliest. ``cancel`` forgets the range and the words on
    their way (here, and only here, an offered word is withdrawn). No output depends combinationally on an input, but
    ``ram_en`` on ``o.ready``. Reset forgets the range.

    Parameters
    ----------
    depth:
        Words of the memory.
    width:
        Bits of a word.

    Members
    -------
    i:
        Ranges: ``first`` word and ``count``; none for 0.
    o:
        The words.
    cancel:
        As said.
    ram_addr, ram_en, ram_data:
        To a synchronous read port of the memory.
    """

    o: stream.Interface

    def __init__(self, depth: int, *, width: int = 32):
        self.depth, self.width = operator.index(depth), operator.index(width)
        if self.depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth}")
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {width}")
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"first": range(self.depth), "count": range(self.depth + 1)}))),
            "o": Out(stream.Signature(self.width)),
            "cancel": In(1),
            "ram_addr": Out(range(self.depth)), "ram_en": Out(1), "ram_data": In(self.width),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._left = Signal(range(self.depth + 1))  # words not yet asked of the RAM
        self._is_fetched = Signal()  # a word is at the RAM's output

    def elaborate(self, platform):
        m = Module()
        is_free, is_moving, fetch = Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq((self._left == 0) & ~self._is_fetched & ~self.o.valid & ~self.cancel),
            is_free.eq(~self.o.valid | self.o.ready),
            is_moving.eq(~self._is_fetched | is_free),
            fetch.eq((self._left != 0) & is_moving),
            self.ram_en.eq(is_moving),
        ]
        with m.If(is_moving):
            m.d.sync += self._is_fetched.eq(fetch)
        with m.If(is_free):
            m.d.sync += [self.o.payload.eq(self.ram_data), self.o.valid.eq(self._is_fetched)]
        with m.If(fetch):
            m.d.sync += [self.ram_addr.eq(self.ram_addr + 1), self._left.eq(self._left - 1)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [self.ram_addr.eq(self.i.payload.first), self._left.eq(self.i.payload.count)]
            m.d.sync += Assert(self.i.payload.first + self.i.payload.count <= self.depth, "a range leaves the memory")
        with m.If(self.cancel):
            m.d.sync += [self._left.eq(0), self._is_fetched.eq(0), self.o.valid.eq(0)]
        return m
