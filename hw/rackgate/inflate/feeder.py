# SPDX-License-Identifier: Apache-2.0
"""Source bits of one context for the body decoder, in blocks."""

import operator

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Feeder"]


class Feeder(wiring.Component):
    """Take blocks of ``lanes`` bits from an input buffer as long as they are wanted.

    Whether a block is there is found out here, so that the path from ``level`` to ``consume`` does not leave the
    slot; what was taken is handed over a cycle later, and cannot be refused. After the end of the source
    come blocks with zeros in place of what is missing, without end. A block a cycle.

    ``consume`` depends combinationally on ``want``, ``level`` and ``exhausted``. Reset takes nothing.

    Parameters
    ----------
    lanes:
        Bits of a block, 8 or 16.

    Members
    -------
    want: take a block in this cycle, if there is one.
    window, level, exhausted, consume: the input buffer.
    valid, bits, count: a block, taken in the cycle before; so many of its bits are the source's.
    """

    def __init__(self, *, lanes: int = 16):
        self.lanes = operator.index(lanes)
        if self.lanes not in (8, 16):
            raise ValueError(f"lanes must be 8 or 16, not {lanes}")
        super().__init__({
            "want": In(1),
            "window": In(32),
            "level": In(6),
            "exhausted": In(1),
            "consume": Out(6),
            "valid": Out(1),
            "bits": Out(self.lanes),
            "count": Out(range(self.lanes + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        low = (self.lanes - 1).bit_length()
        full = self.level[low:].any()
        there = Mux(full, self.lanes, self.level[:low])
        m.d.comb += self.consume.eq(Mux(self.want & (full | self.exhausted), there, 0))
        m.d.sync += [
            self.valid.eq(self.want & (full | self.exhausted)), self.bits.eq(self.window[:self.lanes]),
            self.count.eq(there),
        ]
        return m
