# SPDX-License-Identifier: Apache-2.0
"""Takes bits of an input buffer for those who can wait some cycles."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Steady", "SteadySource"]

#: What a :class:`Steady` shows to a parser, which says in ``take`` how many bits it takes.
SteadySource = wiring.Signature({
    "window": Out(32), "level": Out(6), "exhausted": Out(1), "settled": Out(1, init=1), "take": In(6),
})


class Steady(wiring.Component):
    """Put registers between an input buffer and parsers, which then take bits in every fourth cycle at most.

    There may be several, one of them at work: their ``take`` are joined by OR. A parser sees a ``window`` and a
    ``level`` that are a cycle old, and no level until the bits that were taken are out of the window. So what it makes
    of them is not in the buffer's loop. Reset forgets bits that are being taken.

    Members
    -------
    window, level, exhausted, take, consume: of the :class:`~rackgate.inflate.input.InputBuffer`. ``consume`` is zero
    when no bits are being taken.
    o.window: its first ``level`` bits are the next ones.
    o.level, o.exhausted: so many bits there are at least, and these are the last.
    o.take: bits to take, at most ``level``; in the next two cycles they are still in the window, then they are gone.
    o.settled: no bits are being taken, and none were in the two cycles before.
    """

    window: In(32)
    level: In(6)
    exhausted: In(1)
    take: Out(1)
    consume: Out(6)
    o: Out(SteadySource)

    def elaborate(self, platform):
        m = Module()
        o, taken = self.o, self.o.take.any()
        level, exhausted = Signal(6), Signal()
        is_old = Signal()  # these two and the window were read in the cycle in which bits were taken
        m.d.comb += [o.level.eq(Mux(o.settled, level, 0)), o.exhausted.eq(o.settled & exhausted)]
        m.d.sync += [
            self.consume.eq(o.take), self.take.eq(taken), is_old.eq(self.take),
            # A register, as all that a parser does waits for it.
            o.settled.eq(~(taken | self.take | is_old)),
            o.window.eq(self.window), level.eq(self.level), exhausted.eq(self.exhausted),
        ]
        return m
