# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of the sequencer that takes more than one cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CONTEXTS
from rackgate.collective.control.divider import Divider, DividerTask
from rackgate.collective.control.multiplier import Multiplier
from rackgate.collective.isa import REGISTER_BITS, Opcode

__all__ = ["Multicycle"]

_PRODUCT_CYCLES = 3
#: A result that comes so soon is there when the instruction that waits has been fetched again.
_FETCH_CYCLES = 3


class Multicycle(wiring.Component):
    """Multiply, divide and shift for one context at a time.

    What is started in cycle t is done from cycle t + 1 + n on, until ``release``; n: 3 of a multiplication, 40 of a
    division, the amount of a shift. Then, or at any time before to give up, the next can be started. Reset: it is free.

    Members
    -------
    start, context, operation, a, b:
        Begin; only while ``is_busy`` is low. ``operation``: opcode SHL, SHR, MUL, DIV or MOD. ``b`` is not 0 in a
        division.
    is_busy, owner:
        Whom it works, or has worked, for.
    is_soon:
        3 cycles later it is done.
    is_done, result:
        The result.
    release:
        The owner has the result, or does not want it.
    """

    start: In(1)
    context: In(range(CONTEXTS))
    operation: In(4)
    a: In(REGISTER_BITS)
    b: In(REGISTER_BITS)
    is_busy: Out(1)
    owner: Out(range(CONTEXTS))
    is_soon: Out(1)
    is_done: Out(1)
    result: Out(REGISTER_BITS)
    release: In(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.divider = divider = Divider(REGISTER_BITS)
        m.submodules.multiplier = multiplier = Multiplier()
        left, operation = Signal(range(_PRODUCT_CYCLES + 1)), Signal(4)
        multiplies = operation == Opcode.MUL
        m.d.comb += [
            divider.start.eq(self.start), divider.a.eq(self.a), divider.b.eq(self.b),
            multiplier.a.eq(self.a), multiplier.b.eq(self.b),
            self.is_soon.eq(self.is_busy & (multiplies | (divider.left <= _FETCH_CYCLES))),
            self.is_done.eq(self.is_busy & Mux(multiplies, left == 0, divider.left == 0)),
        ]
        with m.Switch(self.operation):
            with m.Case(Opcode.SHL):
                m.d.comb += divider.task.eq(DividerTask.SHIFT_LEFT)
            with m.Case(Opcode.SHR):
                m.d.comb += divider.task.eq(DividerTask.SHIFT_RIGHT)
        product = Signal(REGISTER_BITS)  # the multiplier goes on with others' operands
        with m.If(left == 1):
            m.d.sync += product.eq(multiplier.product)
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Switch(operation):
            with m.Case(Opcode.MUL):
                m.d.comb += self.result.eq(product)
            with m.Case(Opcode.MOD):
                m.d.comb += self.result.eq(divider.remainder)
            with m.Default():
                m.d.comb += self.result.eq(divider.quotient)
        with m.If(self.start):
            m.d.sync += [self.is_busy.eq(1), self.owner.eq(self.context), operation.eq(self.operation),
                         left.eq(_PRODUCT_CYCLES)]
        with m.Elif(self.release):
            m.d.sync += self.is_busy.eq(0)
        return m
