# SPDX-License-Identifier: Apache-2.0
"""The table of lanes: which component computes which element types.

A lane is a component with the members ``en``, ``function``, ``element_type``, ``a``, ``b`` and ``o`` as
:class:`~rackgate.arith.integer.IntegerLanes` has them, and the attribute ``LATENCY``. It takes a word of operands a
cycle while ``en`` is high, and gives the word of results ``LATENCY`` such cycles later. Another type is another line
of :data:`LANES` and a number in the ABI; another function is a number in the ABI that the lanes understand.
"""

import operator
from collections.abc import Callable, Iterable

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .abi import ELEMENT_TYPE_BITS, FUNCTION_BITS, ElementType
from .adder import FloatAdder
from .integer import IntegerLanes

__all__ = ["LANES", "FloatLanes"]


class FloatLanes(wiring.Component):
    """A :class:`~rackgate.arith.adder.FloatAdder` for each float of a word: a lane, see the module's text.

    Parameters
    ----------
    width:
        Bytes of a word: a multiple of the element.
    types:
        The one type to build for.
    """

    LATENCY = FloatAdder.LATENCY

    def __init__(self, width: int, types: Iterable[ElementType]):
        self.width = operator.index(width)
        self.type, = types
        fmt = self.type.format
        if fmt is None:
            raise ValueError(f"types must be one type of float, not {self.type.name}")
        if self.width < self.type.size or self.width % self.type.size:
            raise ValueError(f"width must be a multiple of {self.type.size} bytes, not {width}")
        self._format = fmt
        super().__init__({
            "en": In(1), "function": In(FUNCTION_BITS), "element_type": In(ELEMENT_TYPE_BITS),
            "a": In(8 * self.width), "b": In(8 * self.width), "o": Out(8 * self.width),
        })

    def elaborate(self, platform):
        m = Module()
        fmt = self._format
        for index in range(self.width // self.type.size):
            m.submodules[f"adder_{index}"] = adder = FloatAdder(fmt.exponent, fmt.mantissa)
            m.d.comb += [
                adder.en.eq(self.en),
                adder.function.eq(self.function),
                adder.a.eq(self.a.word_select(index, fmt.bits)),
                adder.b.eq(self.b.word_select(index, fmt.bits)),
                self.o.word_select(index, fmt.bits).eq(adder.o),
            ]
        return m


#: Types that one lane computes together, and what makes it from the width of a word and those of them that are wanted.
LANES: tuple[tuple[frozenset[ElementType], Callable[[int, Iterable[ElementType]], wiring.Component]], ...] = (
    (frozenset({ElementType.INT32, ElementType.INT64}), IntegerLanes),
    (frozenset({ElementType.FLOAT16}), FloatLanes),
    (frozenset({ElementType.FLOAT32}), FloatLanes),
    (frozenset({ElementType.FLOAT64}), FloatLanes),
)
