# SPDX-License-Identifier: Apache-2.0
"""Takes bits of an input buffer for those who can wait some cycles."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Steady"]


class Steady(wiring.Component):
    """Put registers between an input buffer and a parser, which then takes bits in every third cycle at most.

    The parser sees a ``level`` that is a cycle old, and none until the bits that it took are out of the window. So what
    it makes of the window and the level is not in the buffer's loop. Reset forgets bits that are being taken.

    Members
    -------
    i_level, i_exhausted, consume: of the :class:`~rackgate.inflate.input.InputBuffer`.
    level, exhausted: so many bits there are at least, and these are the last.
    take: bits to take, at most ``level``; in the next cycle they are still in the window, then they are gone.
    settled: no bits are being taken.
    """

    i_level: In(6)
    i_exhausted: In(1)
    consume: Out(6)
    level: Out(6)
    exhausted: Out(1)
    take: In(6)
    settled: Out(1, init=1)

    def elaborate(self, platform):
        m = Module()
        quiet = Signal()
        m.d.comb += quiet.eq(self.settled & ~self.take.any())
        m.d.sync += [
            self.consume.eq(self.take), self.settled.eq(~self.take.any()),
            self.level.eq(Mux(quiet, self.i_level, 0)), self.exhausted.eq(self.i_exhausted & quiet),
        ]
        return m
