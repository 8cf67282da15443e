# SPDX-License-Identifier: Apache-2.0
"""Division of unsigned integers."""

import operator

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Divider"]


class Divider(wiring.Component):
    """Divide, a bit of the quotient a cycle (restoring division).

    ``is_done`` is high from cycle t + width + 1 on, when ``start`` was high in cycle t, until the next start. The
    divisor must not be 0: the quotient would be all ones. A start at any time begins anew. Reset: ``is_done`` is low.

    Parameters
    ----------
    width:
        Bits of all numbers, at least 2.

    Members
    -------
    start, dividend, divisor:
        Divide these.
    quotient, remainder:
        What came of it.
    """

    def __init__(self, width: int):
        self.width = operator.index(width)
        if self.width < 2:
            raise ValueError(f"width must be at least 2, not {width}")
        super().__init__({
            "start": In(1), "dividend": In(self.width), "divisor": In(self.width),
            "is_done": Out(1), "quotient": Out(self.width), "remainder": Out(self.width),
        })

    def elaborate(self, platform):
        m = Module()
        divisor, left = Signal(self.width), Signal(range(self.width + 1))
        # The dividend's bits leave the register of the quotient at the top, while the quotient's come in below.
        grown, reduced, fits = Signal(self.width + 1), Signal(self.width + 2), Signal()
        m.d.comb += [
            grown.eq(Cat(self.quotient[-1], self.remainder)),
            reduced.eq(grown - divisor),
            fits.eq(~reduced[-1]),
        ]
        with m.If(self.start):
            m.d.sync += [
                divisor.eq(self.divisor), self.quotient.eq(self.dividend), self.remainder.eq(0),
                left.eq(self.width), self.is_done.eq(0),
            ]
        with m.Elif(left != 0):
            m.d.sync += [
                self.quotient.eq(Cat(fits, self.quotient)),
                left.eq(left - 1), self.is_done.eq(left == 1),
                self.remainder.eq(grown),
            ]
            with m.If(fits):
                m.d.sync += self.remainder.eq(reduced)
        return m
