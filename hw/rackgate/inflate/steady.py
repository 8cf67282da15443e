# SPDX-License-Identifier: Apache-2.0
"""How much source there is, for those who can wait a cycle to know."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Steady"]


class Steady(wiring.Component):
    """Delay what an input buffer says of its level by a cycle, and say nothing after a cycle in which bits were taken.

    Whoever takes bits of a header by this takes them in every other cycle at most, and has no path from the buffer's
    registers through a comparison with ``level`` back into the buffer. Reset says nothing.

    Members
    -------
    i_level, i_exhausted: of the :class:`~rackgate.inflate.input.InputBuffer`. taken: bits are taken in this cycle.
    level, exhausted: so many bits there are at least, and these are the last.
    """

    i_level: In(6)
    i_exhausted: In(1)
    taken: In(1)
    level: Out(6)
    exhausted: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [self.level.eq(Mux(self.taken, 0, self.i_level)), self.exhausted.eq(self.i_exhausted & ~self.taken)]
        return m
