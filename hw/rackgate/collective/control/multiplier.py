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
        terms = {}
        for low in range(0, REGISTER_BITS, _DIGIT):
            for other in range(0, REGISTER_BITS - low, _DIGIT):
                # Digits of which only some bits can reach the result are cut, so that no multiplier is spent.
                bits = REGISTER_BITS - low - other
                digits = [value[place:place + min(_DIGIT, bits)] for value, place in ((self.a, low), (self.b, other))]
                terms[low, other] = term = Signal(min(2 * _DIGIT, bits), name=f"term_{low}_{other}")
                m.d.sync += term.eq(digits[0] * digits[1])
        middle, lowest = Signal(REGISTER_BITS - _DIGIT), Signal.like(terms[0, 0])
        highest = sum(term for (low, other), term in terms.items() if low + other == 2 * _DIGIT)
        m.d.sync += [
            middle.eq(terms[0, _DIGIT] + terms[_DIGIT, 0] + (highest << _DIGIT)), lowest.eq(terms[0, 0]),
            self.product.eq(lowest + (middle << _DIGIT)),
        ]
        return m
