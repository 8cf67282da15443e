# SPDX-License-Identifier: Apache-2.0
"""Ranges of bytes, cut into AXI4 bursts."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.axi.bus import AXI4Signature
from rackgate.stream.skid import SkidBuffer

__all__ = ["SIZE_BITS", "WORD_WIDTHS", "Cutter", "burst_layout"]

#: Bits of a range's size in bytes.
SIZE_BITS = 32

#: Bytes of a word: those that AXI4Signature has a data width for.
WORD_WIDTHS = (4, 8, 16, 32, 64)

_PAGE_BYTES = 4096


def burst_layout(width: int, *, addr_width: int, burst: int) -> data.StructLayout:
    """Output of a :class:`Cutter`: ``beats`` words from word address ``word`` on; ``last`` of its range."""
    return data.StructLayout({"word": addr_width - exact_log2(width), "beats": range(burst + 1), "last": 1})


class Cutter(wiring.Component):
    """Cut ranges of bytes into bursts of whole words.

    The bursts cover the words that hold a byte of the range, once, in order, and no other word. They end at multiples
    of ``burst`` words, so they never cross 4 KiB (IHI 0022 A3.4.1). A range of size 0 gives none. A range must not run
    past the end of the address space: that fails an assertion.

    One burst a cycle, also across ranges. Latency 2 cycles. ``o`` comes from registers; ``i.ready`` depends on no
    input. Reset forgets everything.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8, 16, 32 or 64.
    addr_width:
        Address bits.
    burst:
        Greatest beats in a burst, a power of two up to 256 that fits 4 KiB.

    Members
    -------
    i:
        Ranges: ``addr`` and ``size`` in bytes, of any alignment.
    o:
        Bursts (:func:`burst_layout`).

    Raises
    ------
    ValueError, TypeError
        When a parameter is out of range or no integer.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width, *, addr_width=40, burst=16):
        self.width, self.burst = operator.index(width), operator.index(burst)
        if self.width not in WORD_WIDTHS:
            raise ValueError(f"width must be one of {WORD_WIDTHS} bytes, not {width}")
        self.addr_width = AXI4Signature(addr_width=addr_width, data_width=8 * self.width).addr_width
        most = min(256, _PAGE_BYTES // self.width)
        if self.burst not in range(1, most + 1) or self.burst & self.burst - 1:
            raise ValueError(f"burst must be a power of two from 1 to {most} for words of {width} bytes, not {burst}")
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"addr": self.addr_width, "size": SIZE_BITS}))),
            "o": Out(stream.Signature(burst_layout(self.width, addr_width=self.addr_width, burst=self.burst))),
        })
        # Words are seen as blocks of ``burst``. State is made here, not in elaborate, so that a proof can state
        # invariants about it.
        self._skid = SkidBuffer(burst_layout(self.width, addr_width=self.addr_width, burst=self.burst))
        self._block_bits = exact_log2(self.width * self.burst)
        self._is_busy = Signal()
        self._block = Signal(self.addr_width - self._block_bits)  # the next burst's
        self._start = Signal(exact_log2(self.burst))  # its first word within the block
        self._left = Signal(SIZE_BITS + 1 - self._block_bits)  # blocks behind it
        self._stop = Signal(exact_log2(self.burst))  # the range's last word, within the last block

    def elaborate(self, platform):
        m = Module()
        m.submodules.skid = skid = self._skid
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        is_final, stop = Signal(), Signal.like(self._stop)
        m.d.comb += [
            is_final.eq(self._left == 0),
            stop.eq(Mux(is_final, self._stop, self.burst - 1)),
            skid.i.valid.eq(self._is_busy),
            skid.i.payload.word.eq(Cat(self._start, self._block)),
            skid.i.payload.beats.eq(stop - self._start + 1),
            skid.i.payload.last.eq(is_final),
            self.i.ready.eq(~self._is_busy | skid.i.ready & is_final),
        ]
        with m.If(self._is_busy & skid.i.ready):
            m.d.sync += [
                self._is_busy.eq(~is_final),
                self._block.eq(self._block + 1),
                self._start.eq(0),
                self._left.eq(self._left - 1),
            ]
        with m.If(self.i.valid & self.i.ready):
            self._load(m)
        return m

    def _load(self, m):
        wanted, word = self.i.payload, exact_log2(self.width)
        last = Signal(SIZE_BITS + 1)  # the last byte, counted from the start of the first block
        m.d.comb += last.eq(wanted.addr[:self._block_bits] + wanted.size - 1)
        m.d.sync += [
            self._is_busy.eq(wanted.size != 0),
            Cat(self._start, self._block).eq(wanted.addr[word:]),
            self._stop.eq(last[word:self._block_bits]),
            self._left.eq(last[self._block_bits:]),
            Assert(wanted.addr + wanted.size <= 1 << self.addr_width, "a range runs past the end of the address space"),
        ]
