# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of the sequencer that takes more than one cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CONTEXTS
from rackgate.collective.divider import Divider
from rackgate.collective.isa import REGISTER_BITS
from rackgate.collective.multiplier import Multiplier

__all__ = ["Multicycle"]

_PRODUCT_CYCLES = 3


class Multicycle(wiring.Component):
    """Multiply and divide for one context at a time.

    ``is_done`` is high from cycle t + 4 on after a multiplication that was started in cycle t, t + 41 after a
    division, until ``release``. Then, or at any time before to give up, the next can be started. Reset: it is free.

    Members
    -------
    start, context, divides, a, b:
        Begin; only while ``is_busy`` is low. ``b`` is not 0 if it ``divides``.
    wants_remainder:
        Which result of a division is asked for now.
    is_busy, owner:
        Whom it works, or has worked, for.
    is_done, result:
        The product, or what is asked for of the division.
    is_soon:
        High at least once after the owner began to wait, 3 cycles before there is a product, or when there is a
        quotient: who then has the instruction fetched again finds its result.
    release:
        The owner has the result, or does not want it.
    """

    start: In(1)
    context: In(range(CONTEXTS))
    divides: In(1)
    a: In(REGISTER_BITS)
    b: In(REGISTER_BITS)
    wants_remainder: In(1)
    is_busy: Out(1)
    owner: Out(range(CONTEXTS))
    is_done: Out(1)
    result: Out(REGISTER_BITS)
    is_soon: Out(1)
    release: In(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.divider = divider = Divider(REGISTER_BITS)
        m.submodules.multiplier = multiplier = Multiplier()
        left, divides = Signal(range(_PRODUCT_CYCLES + 1)), Signal()
        m.d.comb += [
            divider.start.eq(self.start & self.divides), divider.dividend.eq(self.a), divider.divisor.eq(self.b),
            multiplier.a.eq(self.a), multiplier.b.eq(self.b),
            self.is_soon.eq(self.is_busy & Mux(divides, divider.is_done, left == _PRODUCT_CYCLES)),
            self.is_done.eq(self.is_busy & Mux(divides, divider.is_done, left == 0)),
        ]
        product = Signal(REGISTER_BITS)  # the multiplier goes on with others' operands
        with m.If(left == 1):
            m.d.sync += product.eq(multiplier.product)
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        m.d.comb += self.result.eq(Mux(~divides, product, Mux(self.wants_remainder, divider.remainder,
                                                              divider.quotient)))
        with m.If(self.start):
            m.d.sync += [self.is_busy.eq(1), self.owner.eq(self.context), divides.eq(self.divides),
                         left.eq(_PRODUCT_CYCLES)]
        with m.Elif(self.release):
            m.d.sync += self.is_busy.eq(0)
        return m
