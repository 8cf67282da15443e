# SPDX-License-Identifier: Apache-2.0
"""Takes bits of an input buffer for those who can wait some cycles."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Steady"]


class Steady(wiring.Component):
    """Put registers between an input buffer and a parser, which then takes bits in every fourth cycle at most.

    The parser sees a ``window`` and a ``level`` that are a cycle old, and no level until the bits that it took are
    out of the window. So what it makes of them is not in the buffer's loop. Reset forgets bits that are being taken.

    Members
    -------
    i_window, i_level, i_exhausted, o_take, consume: of the :class:`~rackgate.inflate.input.InputBuffer`. ``consume`` is
    zero when no bits are being taken.
    window: its first ``level`` bits are the next ones.
    level, exhausted: so many bits there are at least, and these are the last.
    take: bits to take, at most ``level``; in the next two cycles they are still in the window, then they are gone.
    settled: no bits are being taken, and none were in the two cycles before.
    """

    i_window: In(32)
    i_level: In(6)
    i_exhausted: In(1)
    o_take: Out(1)
    consume: Out(6)
    window: Out(32)
    level: Out(6)
    exhausted: Out(1)
    take: In(6)
    settled: Out(1, init=1)

    def elaborate(self, platform):
        m = Module()
        level, exhausted = Signal(6), Signal()
        is_old = Signal()  # these two and the window were read in the cycle in which bits were taken
        m.d.comb += [
            self.level.eq(Mux(self.settled, level, 0)),
            self.exhausted.eq(self.settled & exhausted),
        ]
        m.d.sync += [
            self.consume.eq(self.take), self.o_take.eq(self.take.any()), is_old.eq(self.o_take),
            # A register, as all that the parser does waits for it.
            self.settled.eq(~(self.take.any() | self.o_take | is_old)),
            self.window.eq(self.i_window), level.eq(self.i_level), exhausted.eq(self.i_exhausted),
        ]
        return m
