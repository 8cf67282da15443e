# SPDX-License-Identifier: Apache-2.0
"""Two streams of elements become one: the reduction of a collective."""

import operator
from collections.abc import Iterable

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .abi import ELEMENT_TYPE_BITS, FUNCTION_BITS, WIDTHS, ElementType, Function
from .lanes import LANES

__all__ = ["Reducer", "operands_layout", "reduced_layout"]


def operands_layout(width: int, sideband=0) -> data.StructLayout:
    """Input of a :class:`Reducer`: operands ``a`` and ``b`` of ``width`` bytes, what to do, and what goes along."""
    return data.StructLayout({"a": 8 * width, "b": 8 * width, "function": FUNCTION_BITS,
                              "element_type": ELEMENT_TYPE_BITS, "sideband": sideband})


def reduced_layout(width: int, sideband=0) -> data.StructLayout:
    """Output of a :class:`Reducer`: the word of results, and what went along."""
    return data.StructLayout({"data": 8 * width, "sideband": sideband})


class Reducer(wiring.Component):
    """Combine two words of elements, element by element.

    Results are those of :mod:`rackgate.arith.abi`. The function PASS gives ``b`` unchanged, whatever the type. Bytes
    of a word beyond the last element of a vector may hold anything: elements do not touch each other.

    One word a cycle; all types and functions have one latency, ``latency`` cycles without stalls, so words and their
    sidebands keep their order. The whole pipeline stands while its output is not taken: ``i.ready`` depends
    combinationally on ``o.ready``, not on ``i.valid``; ``o.payload`` is a choice between registers. Reset drops the
    words inside.

    A type that was not built fails an assertion, and gives ``b``. So does a function that does not exist; its result
    means nothing.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8, 16, 32 or 64. A type must fit: 4 has no 64-bit types.
    types:
        Types to build lanes for; by default all. A small FPGA leaves out what it has no room for.
    sideband:
        Shape of what is carried along with each word.

    Members
    -------
    i:
        Operands (:func:`operands_layout`).
    o:
        Results (:func:`reduced_layout`).

    Attributes
    ----------
    types:
        Types that are built.
    latency:
        Cycles from ``i`` to ``o``: at least 1.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int, types: Iterable[ElementType] = tuple(ElementType), *, sideband=0):
        self.width = operator.index(width)
        if self.width not in WIDTHS:
            raise ValueError(f"width must be one of {WIDTHS} bytes, not {width}")
        self.types = frozenset(ElementType(each) for each in types)
        for each in sorted(self.types):
            if each.size > self.width:
                raise ValueError(f"types must fit a word of {self.width} bytes; {each.name} has {each.size}")
        self.sideband = sideband
        super().__init__({
            "i": In(stream.Signature(operands_layout(self.width, sideband))),
            "o": Out(stream.Signature(reduced_layout(self.width, sideband))),
        })
        self._lanes = [(known & self.types, make(self.width, known & self.types))
                       for known, make in LANES if known & self.types]
        self.latency = max([1, *(lane.LATENCY for _, lane in self._lanes)])

    def supports(self, element_type: ElementType) -> bool:
        """Whether there are lanes for a type."""
        return ElementType(element_type) in self.types

    def elaborate(self, platform):
        m = Module()
        move = Signal()
        m.d.comb += [move.eq(~self.o.valid | self.o.ready), self.i.ready.eq(move)]
        operands = self.i.payload
        for index, (_, lane) in enumerate(self._lanes):
            m.submodules[f"lane_{index}"] = lane
            m.d.comb += [
                lane.en.eq(move), lane.function.eq(operands.function), lane.element_type.eq(operands.element_type),
                lane.a.eq(operands.a), lane.b.eq(operands.b),
            ]
        is_pass = operands.function == Function.PASS
        chosen = Cat(Cat(operands.element_type == each for each in sorted(types)).any() & ~is_pass
                     for types, _ in self._lanes)
        with m.If(self.i.valid):
            m.d.sync += [
                Assert(is_pass | chosen.any(), "the reducer has no lanes for this element type"),
                Assert(Cat(operands.function == each for each in Function).any(), "no such function"),
            ]

        # ``b`` goes along beside the lanes; where a lane ends, its result takes b's place.
        layout = data.StructLayout({"data": 8 * self.width, "chosen": len(self._lanes), "sideband": self.sideband})
        before, valid, value = None, self.i.valid, operands.b
        for cycle in range(1, self.latency + 1):
            stage, is_valid = Signal(layout, name=f"stage_{cycle}", reset_less=True), Signal(name=f"valid_{cycle}")
            with m.If(move):
                m.d.sync += [
                    is_valid.eq(valid), stage.data.eq(value),
                    stage.chosen.eq(chosen if before is None else before.chosen),
                    stage.sideband.eq(operands.sideband if before is None else before.sideband),
                ]
            value = stage.data
            for index, (_, lane) in enumerate(self._lanes):
                if lane.LATENCY == cycle:
                    value = Mux(stage.chosen[index], lane.o, value)
            before, valid = stage, is_valid
        m.d.comb += [
            self.o.valid.eq(valid), self.o.payload.data.eq(value), self.o.payload.sideband.eq(stage.sideband),
        ]
        return m
