# SPDX-License-Identifier: Apache-2.0
"""Source bits of one context for the body decoder, in blocks."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Feeder"]


class Feeder(wiring.Component):
    """Take blocks of ``lanes`` bits from an input buffer as long as they are wanted.

    Whether a block is there is found out here, so that the path from ``level`` to ``consume`` does not leave the
    slot; what was taken is handed over a cycle later, and cannot be refused. After the end of the source
    come blocks with zeros in place of what is missing, without end. A block a cycle, but a cycle is lost before the
    last one that is not whole: how many bits it has is found out there.

    ``take`` depends combinationally on ``want`` and ``level``. Reset takes nothing.

    Parameters
    ----------
    lanes:
        Bits of a block, 8 or 16.

    Members
    -------
    active: in the next cycle a run is under way, so nobody else takes bits; ``consume`` is then zero without it.
    want: take a block in this cycle, if there is one; only during a run.
    window, level, exhausted, take, consume: the input buffer.
    valid, bits, count: a block, taken in the cycle before; so many of its bits are the source's.
    """

    def __init__(self, *, lanes: int = 16):
        self.lanes = operator.index(lanes)
        if self.lanes not in (8, 16):
            raise ValueError(f"lanes must be 8 or 16, not {lanes}")
        super().__init__({
            "active": In(1),
            "want": In(1),
            "window": In(32),
            "level": In(6),
            "exhausted": In(1),
            "take": Out(1),
            "consume": Out(6),
            "valid": Out(1),
            "bits": Out(self.lanes),
            "count": Out(range(self.lanes + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        low = (self.lanes - 1).bit_length()
        is_full, is_rest = self.level[low:].any(), self.exhausted & self.level[:low].any()
        is_active, has_rest = Signal(), Signal()  # has_rest: the bits after the last whole block may be taken now
        leaves_rest = self.want & is_rest & ~is_full & ~has_rest
        m.d.comb += self.take.eq(self.want & (is_full | has_rest))
        m.d.sync += [
            Assert(is_active | ~self.want, "a block is wanted without a run"),
            is_active.eq(self.active), has_rest.eq(leaves_rest),
            # A register, as it leads into the buffer's loop.
            self.consume.eq(Mux(self.active, Mux(leaves_rest, self.level[:low], self.lanes), 0)),
            self.valid.eq(self.want & (is_full | has_rest | (self.exhausted & ~is_rest))),
            self.bits.eq(self.window), self.count.eq(Mux(has_rest, self.consume, Mux(is_full, self.lanes, 0))),
        ]
        return m
