# SPDX-License-Identifier: Apache-2.0
"""Packed words into words of memory: byte 0 moves to where the range begins."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.dma.planner import plan_layout
from rackgate.dma.rotate import rotate_up
from rackgate.stream.packet import PacketSignature

__all__ = ["Unpacker", "unpacked_layout"]


def unpacked_layout(width: int, tag) -> data.StructLayout:
    """A word of memory, with a bit of ``strobe`` for each byte that belongs to the range.

    ``last`` ends the range; a range of size 0 is one element with ``has_bytes`` low. ``error``, on the last
    one: the packed words ended in an error.
    """
    return data.StructLayout({"data": 8 * width, "strobe": width, "has_bytes": 1, "last": 1, "error": 1, "tag": tag})


class Unpacker(wiring.Component):
    """Turn packed words into the words of memory that cover a range.

    A range of n packed words takes as many cycles as it covers words of memory: n or n + 1. Latency 1 cycle. A range of
    size 0 takes its one packed word, of ``count`` 0, as :class:`~rackgate.dma.packer.Packer` gives it.
    ``i.ready`` depends combinationally on ``o.ready`` and ``plans``, ``plans.ready`` on ``i`` too. Words that are
    ``last`` with another count than the range's last word has, or that are not full before, fail an
    assertion. Reset forgets everything.

    Parameters
    ----------
    width:
        Bytes of a word, a power of two from 4 on.
    tag:
        Shape of a command's tag.

    Members
    -------
    plans:
        A plan for each range (:func:`~rackgate.dma.planner.plan_layout`).
    i:
        Packed words (:func:`~rackgate.stream.packet.packet_layout`; ``count`` may be 0 when the size is).
    o:
        Words of memory (:func:`unpacked_layout`).
    """

    plans: stream.Interface
    i: stream.Interface
    o: stream.Interface

    def __init__(self, width, *, tag):
        self.width, self.tag = width, tag
        super().__init__({
            "plans": In(stream.Signature(plan_layout(width, tag))),
            "i": In(PacketSignature(width)),
            "o": Out(stream.Signature(unpacked_layout(width, tag))),
        })
        self._is_inside = Signal()  # a word of the range has come
        self._is_flushing = Signal()  # all have, and bytes are held back
        self._is_bad = Signal()  # they ended in an error
        # The word as it will be, but turned only; it is merged on its way to the output.
        self._turned = Signal(unpacked_layout(width, tag))
        self._keep = Signal(width)  # bytes that are those held back
        self._held = Signal(8 * width)

    def elaborate(self, platform):
        m = Module()
        plan, word, index = self.plans.payload, self.i.payload, exact_log2(self.width)
        move, steps, takes, has_more, ends = (Signal(name=name) for name in (
            "move", "steps", "takes", "has_more", "ends"))
        m.d.comb += [
            move.eq(~self.o.valid | self.o.ready),
            takes.eq(self.i.valid & ~self._is_flushing),
            # The last packed word has bytes for two words of memory.
            has_more.eq(~plan.is_empty & (plan.end < plan.shift)),
            ends.eq(self._is_flushing | word.last & ~has_more),
            steps.eq(self.plans.valid & (takes | self._is_flushing)),
            self.i.ready.eq(move & self.plans.valid & ~self._is_flushing),
            self.plans.ready.eq(move & ends & (takes | self._is_flushing)),
        ]
        with m.If(move):
            m.d.sync += self.o.valid.eq(steps)
        with m.If(move & steps):
            self._step(m, ends)
        # A rotation rather than a shift: what leaves at the top is where the next word begins.
        turned = rotate_up(m, word.data, plan.shift)
        with m.If(move & steps & takes):
            m.d.sync += self._turned.data.eq(turned)
            count = Mux(word.last, Mux(plan.is_empty, 0, (plan.end - plan.shift)[:index] + 1), self.width)
            m.d.sync += Assert(word.count == count, "packed words that disagree with the size of their command")

        m.d.comb += self.o.payload.eq(self._turned)
        for k in range(self.width):
            with m.If(self._keep[k]):
                m.d.comb += self.o.payload.data.word_select(k, 8).eq(self._held.word_select(k, 8))
        return m

    def _step(self, m, ends):
        """A packed word goes in, or what is held back comes out."""
        plan, word, turned = self.plans.payload, self.i.payload, self._turned
        is_error = self._is_bad | ~self._is_flushing & word.last & word.error
        m.d.sync += [
            self._is_inside.eq(~ends),
            self._is_flushing.eq(~ends & word.last),
            self._is_bad.eq(~ends & is_error),
            self._held.eq(turned.data),
            # In the first word too: strobes are low there.
            self._keep.eq(Cat(plan.shift > k for k in range(self.width))),
            turned.strobe.eq(Cat(~plan.is_empty & (self._is_inside | (plan.shift <= k)) & (~ends | (plan.end >= k))
                                 for k in range(self.width))),
            turned.has_bytes.eq(~plan.is_empty),
            turned.last.eq(ends),
            turned.error.eq(ends & is_error),
            turned.tag.eq(plan.tag),
        ]
