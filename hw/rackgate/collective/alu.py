# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of the sequencer that takes one cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.isa import REGISTER_BITS, Opcode

__all__ = ["Alu"]


class Alu(wiring.Component):
    """Combine two registers' values, as :class:`~rackgate.collective.isa.Opcode` says. There are no registers.

    Members
    -------
    operation:
        Opcode from ADD to SUBM, but for MUL, DIV and MOD.
    a, b:
        Operands.
    size:
        Of the communicator, for ADDM and SUBM.
    result:
        Anything for an operation that does not exist.
    total:
        a + b.
    is_equal, is_less:
        a == b; a < b.
    """

    operation: In(4)
    a: In(REGISTER_BITS)
    b: In(REGISTER_BITS)
    size: In(5)
    result: Out(REGISTER_BITS)
    total: Out(REGISTER_BITS)
    is_equal: Out(1)
    is_less: Out(1)

    def elaborate(self, platform):
        m = Module()
        a, b = self.a, self.b
        difference = Signal(REGISTER_BITS + 1)
        m.d.comb += [
            self.total.eq(a + b),
            difference.eq(a - b),
            self.is_less.eq(difference[-1]),
            self.is_equal.eq(a == b),
        ]
        with m.Switch(self.operation):
            with m.Case(Opcode.ADD):
                m.d.comb += self.result.eq(self.total)
            with m.Case(Opcode.SUB):
                m.d.comb += self.result.eq(difference)
            with m.Case(Opcode.AND):
                m.d.comb += self.result.eq(a & b)
            with m.Case(Opcode.OR):
                m.d.comb += self.result.eq(a | b)
            with m.Case(Opcode.XOR):
                m.d.comb += self.result.eq(a ^ b)
            with m.Case(Opcode.MIN):
                m.d.comb += self.result.eq(Mux(self.is_less, a, b))
            with m.Case(Opcode.MAX):
                m.d.comb += self.result.eq(Mux(self.is_less, b, a))
            with m.Case(Opcode.ADDM, Opcode.SUBM):
                m.d.comb += self.result.eq(self._modular(m))
            with m.Default():
                m.d.comb += self.result.eq(self._shift(m))
        return m

    def _shift(self, m):
        """One shifter to the right; for the left, the bits are in reverse before and after."""
        is_left, amount, shifted = self.operation == Opcode.SHL, self.b[:6], Signal(REGISTER_BITS)
        source = Mux(is_left, Cat(reversed(list(self.a))), self.a)
        m.d.comb += shifted.eq(source >> amount)
        return Mux(is_left, Cat(reversed(list(shifted))), shifted)

    def _modular(self, m):
        """On few bits, so that two sums after one another are as fast as one."""
        a, b, size = self.a[:5], self.b[:5], self.size
        is_sum, first, second = self.operation == Opcode.ADDM, Signal(6), Signal(6)
        is_over = Mux(is_sum, a + b >= size, a < b)
        m.d.comb += [
            first.eq(Mux(is_sum, a + b, a - b)),
            second.eq(Mux(is_sum, first - size, first + size)),
        ]
        return Mux(is_over, second, first)
