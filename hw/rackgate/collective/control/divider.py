# SPDX-License-Identifier: Apache-2.0
"""Division and shifts of unsigned integers."""

import operator

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Divider", "DividerTask"]


class DividerTask(enum.Enum, shape=2):
    """What to do with a number and another one."""

    DIVIDE = 0
    SHIFT_LEFT = 1
    SHIFT_RIGHT = 2


class Divider(wiring.Component):
    """Divide (restoring division) or shift, a bit a cycle.

    When ``start`` was high in cycle t, ``left`` is the number of cycles still to go from cycle t + 1 on: first the
    width of a division, the amount of a shift. The divisor must not be 0: the quotient would be all ones. A start at
    any time begins anew. Reset: nothing is to be done.

    Parameters
    ----------
    width:
        Bits of all numbers, at least 8.

    Members
    -------
    start, task, a, b:
        Begin: ``a`` is divided by ``b``, or shifted by its low 6 bits.
    left:
        Cycles to go.
    quotient, remainder:
        Of a division; ``quotient`` is also what was shifted.
    """

    def __init__(self, width: int):
        self.width = operator.index(width)
        if self.width < 8:
            raise ValueError(f"width must be at least 8, not {width}")
        super().__init__({
            "start": In(1), "task": In(DividerTask), "a": In(self.width), "b": In(self.width),
            "left": Out(6), "quotient": Out(self.width), "remainder": Out(self.width),
        })

    def elaborate(self, platform):
        m = Module()
        divisor, task = Signal(self.width), Signal(DividerTask)
        # The dividend's bits leave the register of the quotient at the top, while the quotient's come in below.
        grown, reduced, fits = Signal(self.width + 1), Signal(self.width + 2), Signal()
        m.d.comb += [
            grown.eq(Cat(self.quotient[-1], self.remainder)),
            reduced.eq(grown - divisor),
            fits.eq(~reduced[-1] & (task == DividerTask.DIVIDE)),
        ]
        with m.If(self.start):
            m.d.sync += [
                divisor.eq(self.b), task.eq(self.task), self.quotient.eq(self.a), self.remainder.eq(0),
                self.left.eq(Mux(self.task == DividerTask.DIVIDE, self.width, self.b[:6])),
            ]
        with m.Elif(self.left != 0):
            m.d.sync += [self.left.eq(self.left - 1), self.remainder.eq(Mux(fits, reduced, grown))]
            with m.If(task == DividerTask.SHIFT_RIGHT):
                m.d.sync += self.quotient.eq(self.quotient >> 1)
            with m.Else():
                m.d.sync += self.quotient.eq(Cat(fits, self.quotient))
        return m
