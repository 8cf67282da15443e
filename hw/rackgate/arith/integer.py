# SPDX-License-Identifier: Apache-2.0
"""Sum, maximum and minimum of the integers in a word."""

import operator
from collections.abc import Iterable

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .abi import ELEMENT_TYPE_BITS, FUNCTION_BITS, ElementType, Function

__all__ = ["IntegerLanes"]

_TYPES = frozenset({ElementType.INT32, ElementType.INT64})


class IntegerLanes(wiring.Component):
    """Add, or choose the larger or the smaller of, the signed integers of two words, element by element.

    Sums wrap. One carry chain for 8 bytes serves both types, for sums and for comparison: it is cut in the middle
    for 32-bit elements, and takes an operand inverted to compare.

    A lane (see :mod:`rackgate.arith.lanes`): latency 2 cycles with ``en`` high, one word a cycle. Reset clears
    nothing.

    Parameters
    ----------
    width:
        Bytes of a word: a multiple of the largest element.
    types:
        Types to build for, of INT32 and INT64, at least one.

    Members
    -------
    en:
        Move on.
    function, element_type:
        What to do, and with what: numbers of :class:`~rackgate.arith.abi.Function` and
        :class:`~rackgate.arith.abi.ElementType`. For those that are not built the result means nothing.
    a, b:
        Operands.
    o:
        Result.
    """

    LATENCY = 2

    def __init__(self, width: int, types: Iterable[ElementType]):
        self.width = operator.index(width)
        self.types = frozenset(ElementType(each) for each in types)
        if not self.types or self.types - _TYPES:
            raise ValueError(f"types must be some of INT32 and INT64, not {sorted(each.name for each in self.types)}")
        self._chain = max(each.size for each in self.types)
        if self.width < self._chain or self.width % self._chain:
            raise ValueError(f"width must be a multiple of {self._chain} bytes, not {width}")
        super().__init__({
            "en": In(1), "function": In(FUNCTION_BITS), "element_type": In(ELEMENT_TYPE_BITS),
            "a": In(8 * self.width), "b": In(8 * self.width), "o": Out(8 * self.width),
        })

    def elaborate(self, platform):
        m = Module()
        is_wide, is_sum, is_max = Signal(), Signal(), Signal()
        if len(self.types) == 2:
            m.d.comb += is_wide.eq(self.element_type == ElementType.INT64)
        else:
            m.d.comb += is_wide.eq(ElementType.INT64 in self.types)
        m.d.comb += [is_sum.eq(self.function == Function.SUM), is_max.eq(self.function == Function.MAX)]
        was_sum, was_max, was_wide = (Signal(name=name, reset_less=True) for name in ("was_sum", "was_max", "was_wide"))
        with m.If(self.en):
            m.d.sync += [was_sum.eq(is_sum), was_max.eq(is_max), was_wide.eq(is_wide)]

        old_a, old_b, result = (Signal(8 * self.width, name=name, reset_less=True)
                                for name in ("old_a", "old_b", "result"))
        with m.If(self.en):
            m.d.sync += [old_a.eq(self.a), old_b.eq(self.b)]
        bits = 8 * self._chain
        for index in range(self.width // self._chain):
            place = slice(bits * index, bits * (index + 1))
            total = self._add(self.a[place], self.b[place] ^ (~is_sum).replicate(bits), is_wide)
            with m.If(self.en):
                m.d.sync += result[place].eq(total)

        # a + ~b is a - b - 1: below zero if a <= b. For MIN a is then taken, for MAX b; if they are equal it is all
        # one. A wide element is known by its upper half.
        halves = range(self.width // 4)
        ends = [32 * half + 31 for half in halves]
        take_a = [Mux(old_a[end] == old_b[end], result[end], old_a[end]) ^ was_max for end in ends]
        for half in halves:
            place = slice(32 * half, 32 * half + 32)
            take = Mux(was_wide, take_a[half | 1], take_a[half]) if self._chain == 8 else take_a[half]
            with m.If(self.en):
                m.d.sync += self.o[place].eq(Mux(was_sum, result[place], Mux(take, old_a[place], old_b[place])))
        return m

    def _add(self, a, b, is_wide):
        """``a + b``; of 8 bytes both halves by themselves if they are not one element."""
        if self._chain == 4:
            return (a + b)[:32]
        # The bit between the halves hands on the carry from below, or swallows it.
        total = Cat(a[:32], is_wide, a[32:]) + Cat(b[:32], C(0, 1), b[32:])
        return Cat(total[:32], total[33:65])
