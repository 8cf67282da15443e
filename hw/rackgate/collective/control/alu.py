# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of the sequencer that takes one cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.isa import REGISTER_BITS, Opcode

__all__ = ["Alu"]


class Alu(wiring.Component):
    """Combine two registers' values, as :class:`~rackgate.collective.isa.Opcode` says. There are no registers.

    Members
    -------
    operation:
        Opcode from ADD to XOR, MIN, MAX, ADDM or SUBM.
    a, b:
        Operands.
    size:
        Of the communicator, for ADDM and SUBM.
    result:
        Anything for another operation.
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
        a, b, operation = self.a, self.b, self.operation
        difference, bitwise, modular = Signal(REGISTER_BITS + 1), Signal(REGISTER_BITS), Signal(6)
        m.d.comb += [
            self.total.eq(a + b),
            difference.eq(a - b),
            self.is_less.eq(difference[-1]),
            self.is_equal.eq(a == b),
            modular.eq(self._modular(m)),
        ]
        # Three bits say what becomes of each pair of bits, so that this is small.
        takes_a, is_pick, is_or = Signal(), Signal(), operation == Opcode.OR
        m.d.comb += [
            is_pick.eq((operation == Opcode.MIN) | (operation == Opcode.MAX)),
            takes_a.eq(self.is_less ^ (operation == Opcode.MAX)),
            bitwise.eq(Mux(is_pick, Mux(takes_a, a, b),
                           Mux(operation == Opcode.XOR, a ^ b, Mux(is_or, a | b, a & b)))),
        ]
        with m.Switch(operation):
            with m.Case(Opcode.ADD):
                m.d.comb += self.result.eq(self.total)
            with m.Case(Opcode.SUB):
                m.d.comb += self.result.eq(difference)
            with m.Case(Opcode.ADDM, Opcode.SUBM):
                m.d.comb += self.result.eq(modular)
            with m.Default():
                m.d.comb += self.result.eq(bitwise)
        return m

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
