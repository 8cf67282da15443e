# SPDX-License-Identifier: Apache-2.0
"""Payload that came with its command, cut for the frames."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.dma.packer import Packer, packed_layout
from rackgate.zeronic.records import LENGTH_BITS, check_width

__all__ = ["Slicer", "slice_layout"]


def slice_layout(width: int) -> data.StructLayout:
    """Bytes ``shift`` to ``end`` of what begins with a word; ``ends``: they are the last of their command."""
    return data.StructLayout({"shift": exact_log2(width), "end": LENGTH_BITS + 1, "ends": 1})


class Slicer(wiring.Component):
    """Turn a command's bytes into packed words for each slice of it.

    A slice begins behind the one before it; the word that has bytes of both is used twice. What is behind the last
    slice of a command, up to its ``last`` word, is dropped.

    A slice of n packed words takes n cycles or n + 1. Latency 2 to 3 cycles. Ready comes combinationally from
    ``o.ready``. Reset forgets everything.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Words; ``last`` ends a command's.
    slices:
        See :func:`slice_layout`.
    o:
        Packed words (:func:`~rackgate.dma.packer.packed_layout`), ``last`` of each slice.
    """

    i: stream.Interface
    slices: stream.Interface
    o: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"data": 8 * self.width, "last": 1}))),
            "slices": In(stream.Signature(slice_layout(self.width))),
            "o": Out(stream.Signature(packed_layout(self.width, 0))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.packer = packer = Packer(self.width, tag=0)
        wiring.connect(m, packer.o, wiring.flipped(self.o))
        index = exact_log2(self.width)
        part, plan, words = self.slices.payload, packer.plans.payload, packer.i
        number = Signal(LENGTH_BITS + 1 - index)  # of the word under way
        is_all, is_skipping, goes_on = Signal(), Signal(), Signal()  # all words of the slice were given
        m.d.comb += [
            plan.shift.eq(part.shift), plan.end.eq(part.end),
            packer.plans.valid.eq(self.slices.valid),
            self.slices.ready.eq(packer.plans.ready),
            words.payload.data.eq(self.i.payload.data),
            words.payload.last.eq(number == part.end >> index),
            words.valid.eq(self.i.valid & self.slices.valid & ~is_all & ~is_skipping),
            # The word that the slice ends in is the next one's too, unless it ends with it.
            goes_on.eq(words.payload.last & ~part.ends & (plan.end != self.width - 1)),
            self.i.ready.eq(is_skipping | words.valid & words.ready & ~goes_on),
        ]
        with m.If(words.valid & words.ready):
            m.d.sync += [number.eq(number + 1), is_all.eq(words.payload.last)]
            with m.If(words.payload.last & part.ends):
                m.d.sync += is_skipping.eq(~self.i.payload.last)
        with m.If(self.slices.valid & self.slices.ready):
            m.d.sync += [number.eq(0), is_all.eq(0)]
        with m.If(is_skipping & self.i.valid & self.i.payload.last):
            m.d.sync += is_skipping.eq(0)
        return m
