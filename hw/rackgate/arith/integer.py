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
    for 32-bit elements, and takes one operand inverted to compare.

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

        carry, parts = None, []
        for index in range(self.width // 4):
            place = slice(32 * index, 32 * index + 32)
            a, b = self.a[place], self.b[place]
            total = Signal(34, name=f"total_{index}")
            inverted = Signal(32, name=f"inverted_{index}")
            is_upper = self._chain == 8 and index % 2
            carry_in = Mux(is_wide, carry, ~is_sum) if is_upper else ~is_sum
            m.d.comb += [
                inverted.eq(b ^ (~is_sum).replicate(32)),
                total.eq(Cat(C(1, 1), a) + Cat(carry_in, inverted)),
            ]
            carry = total[33]
            result, old_a, old_b = (Signal(32, name=f"{name}_{index}", reset_less=True)
                                    for name in ("result", "old_a", "old_b"))
            with m.If(self.en):
                m.d.sync += [result.eq(total[1:33]), old_a.eq(a), old_b.eq(b)]
            take_a = Mux(old_a[31] == old_b[31], result[31], old_a[31]) ^ was_max  # a < b, or for MAX not
            parts.append((place, result, old_a, old_b, take_a))

        for index, (place, result, old_a, old_b, take_a) in enumerate(parts):
            if self._chain == 8 and index % 2 == 0:
                take_a = Mux(was_wide, parts[index + 1][-1], take_a)
            with m.If(self.en):
                m.d.sync += self.o[place].eq(Mux(was_sum, result, Mux(take_a, old_a, old_b)))
        return m
