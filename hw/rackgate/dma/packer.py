# SPDX-License-Identifier: Apache-2.0
"""Words of memory into packed words: the first byte of a range moves to byte 0."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rackgate.dma.planner import plan_layout
from rackgate.dma.rotate import rotate_down

__all__ = ["Packer", "packed_layout"]


def packed_layout(width: int, tag) -> data.StructLayout:
    """A packed word: bytes ``width * k`` and following of a range, its first byte in byte 0 of its first word.

    ``count`` bytes are valid: ``width`` on each word but the last, whose other bytes mean nothing. ``last`` ends the
    range; a range of size 0 is one word with ``count`` 0. ``error``, on the last word: the memory answered a
    word of the range with an error, and no byte of the range can be relied on.
    """
    return data.StructLayout({"data": 8 * width, "count": ceil_log2(width + 1), "last": 1, "error": 1, "tag": tag})


class Packer(wiring.Component):
    """Turn the words of memory that cover a range into packed words.

    A range of n packed words takes n cycles, or n + 1 when its first byte is not byte 0 of a word of memory.
    A packed word leaves 2 cycles after the last word of memory that it needs, except that one more cycle passes
    before the last word if nothing of it is new in the last word of memory. ``i.ready`` depends
    combinationally on ``o.ready`` and ``plans``, ``plans.ready`` on ``i`` too. Reset forgets everything.

    Parameters
    ----------
    width:
        Bytes of a word, a power of two from 2 on.
    tag:
        Shape of a command's tag.

    Members
    -------
    plans:
        A plan for each range (:func:`~rackgate.dma.planner.plan_layout`), before or with its first word.
    i:
        Words of memory; ``last`` of each range that is not empty is marked. ``error`` as in a
        :class:`~rackgate.dma.reader.ReadWord`.
    o:
        Packed words (:func:`packed_layout`).
    """

    plans: stream.Interface
    i: stream.Interface
    o: stream.Interface

    def __init__(self, width, *, tag):
        self.width, self.tag = width, tag
        packed = packed_layout(width, tag)
        super().__init__({
            "plans": In(stream.Signature(plan_layout(width, tag))),
            "i": In(stream.Signature(data.StructLayout({"data": 8 * width, "last": 1, "error": 1}))),
            "o": Out(stream.Signature(packed)),
        })
        self._is_inside = Signal()  # a word of the range has come
        self._is_flushing = Signal()  # all have, and bytes are held back
        self._is_bad = Signal()  # an error has come
        # First stage: the word as it will be, but turned only, not merged.
        self._turned, self._has_turned = Signal(packed), Signal()
        self._keep = Signal(width)  # bytes that are those held back
        self._held = Signal(8 * width)

    def elaborate(self, platform):
        m = Module()
        move = Signal()  # both registers move together
        m.d.comb += move.eq(~self.o.valid | self.o.ready)
        with m.If(move):
            m.d.sync += [
                self.o.valid.eq(self._has_turned),
                self.o.payload.eq(self._turned),
                self._held.eq(self._turned.data),
            ]
            for k in range(self.width):
                with m.If(self._keep[k]):
                    m.d.sync += self.o.payload.data.word_select(k, 8).eq(self._held.word_select(k, 8))
        self._step(m, move)
        return m

    def _step(self, m, move):
        """One cycle: a word of memory goes in, or what is held back comes out, or the word of an empty range."""
        plan, word, index = self.plans.payload, self.i.payload, exact_log2(self.width)
        is_odd, has_more, takes, gives, ends, is_error = (Signal(name=name) for name in (
            "is_odd", "has_more", "takes", "gives", "ends", "is_error"))
        m.d.comb += [
            is_odd.eq(plan.shift != 0),
            # The last word of memory has bytes for two packed words.
            has_more.eq(is_odd & self._is_inside & (plan.end >= plan.shift)),
            is_error.eq(self._is_bad | takes & word.error),
        ]
        with m.If(plan.is_empty | self._is_flushing):
            m.d.comb += [gives.eq(1), ends.eq(1)]
        with m.Elif(self.i.valid):
            m.d.comb += [takes.eq(1), gives.eq(~is_odd | self._is_inside | word.last), ends.eq(word.last & ~has_more)]
        m.d.comb += [
            self.i.ready.eq(move & self.plans.valid & ~plan.is_empty & ~self._is_flushing),
            self.plans.ready.eq(move & ends),
        ]
        with m.If(move):
            m.d.sync += self._has_turned.eq(self.plans.valid & gives)
        with m.If(move & self.plans.valid):
            m.d.sync += [
                self._is_inside.eq((self._is_inside | takes) & ~ends),
                self._is_flushing.eq(takes & word.last & ~ends),
                self._is_bad.eq(is_error & ~ends),
                self._turned.last.eq(ends),
                self._turned.error.eq(is_error & ends),
                self._turned.count.eq(self.width),
                self._turned.tag.eq(plan.tag),
                self._keep.eq(Cat(self._is_inside & is_odd & (plan.shift < self.width - k)
                                  for k in range(self.width))),
            ]
            with m.If(ends):
                m.d.sync += self._turned.count.eq(Mux(plan.is_empty, 0, (plan.end - plan.shift)[:index] + 1))
        # A rotation rather than a shift: what leaves at the bottom is the next packed word's.
        turned = rotate_down(m, word.data, plan.shift)
        with m.If(move & takes):
            m.d.sync += self._turned.data.eq(turned)
