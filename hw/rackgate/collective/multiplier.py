# SPDX-License-Identifier: Apache-2.0
"""Multiplication of the sequencer's registers."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.isa import REGISTER_BITS

__all__ = ["Multiplier"]

#: Bits of an operand of one of the FPGA's multipliers.
_DIGIT = 18


class Multiplier(wiring.Component):
    """Low 40 bits of a product, three cycles after the operands; one a cycle.

    Reset does nothing.

    Members
    -------
    a, b:
        Operands.
    product:
        Their product.
    """

    a: In(REGISTER_BITS)
    b: In(REGISTER_BITS)
    product: Out(REGISTER_BITS)

    def elaborate(self, platform):
        m = Module()
        places = range(0, REGISTER_BITS, _DIGIT)
        a, b = Signal.like(self.a), Signal.like(self.b)
        m.d.sync += [a.eq(self.a), b.eq(self.b)]
        terms = []
        for low in places:
            for other in places:
                if (left := REGISTER_BITS - low - other) > 0:
                    # Digits of which only some bits can reach the result are cut, so that no multiplier is spent.
                    digits = [value[place:place + min(_DIGIT, left)] for value, place in ((a, low), (b, other))]
                    term = Signal(min(2 * _DIGIT, left), name=f"term_{low}_{other}")
                    m.d.sync += term.eq(digits[0] * digits[1])
                    terms.append(term << low + other)
        m.d.sync += self.product.eq(sum(terms))
        return m
