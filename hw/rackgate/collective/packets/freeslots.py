# SPDX-License-Identifier: Apache-2.0
"""The receive buffers that hold no packet."""

import operator

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.queue import Queue

__all__ = ["FreeSlots"]


class FreeSlots(wiring.Component):
    """Give out slots that are free, and take them back.

    After reset a counter gives out each slot once; from then on those that came back, in their order. So nothing has
    to be written when a reset makes all slots free. One that came back can be given out two cycles later.

    Parameters
    ----------
    slots:
        Number of slots, at least 2.

    Members
    -------
    i:
        Slots that come back; there is always room.
    o:
        Slots that are free.
    level:
        How many are free.
    """

    def __init__(self, slots: int):
        self.slots = operator.index(slots)
        if self.slots < 2:
            raise ValueError(f"slots must be at least 2, not {slots}")
        super().__init__({
            "i": In(stream.Signature(range(self.slots), always_ready=True)),
            "o": Out(stream.Signature(range(self.slots))),
            "level": Out(range(self.slots + 1)),
        })
        self._unused = Signal(range(self.slots + 1))  # first of the slots that have never been given out
        self._returned = Queue(range(self.slots), depth=self.slots, block_ram=False)

    def elaborate(self, platform):
        m = Module()
        m.submodules.returned = returned = self._returned
        has_unused, may_show = self._unused != self.slots, ~self.o.valid | self.o.ready
        m.d.comb += [
            returned.i.payload.eq(self.i.payload),
            returned.i.valid.eq(self.i.valid),
            returned.o.ready.eq(may_show & ~has_unused),
            self.level.eq(self.slots - self._unused + returned.level + self.o.valid),
        ]
        with m.If(may_show):  # from registers: it goes a long way
            m.d.sync += [
                self.o.valid.eq(has_unused | returned.o.valid),
                self.o.payload.eq(Mux(has_unused, self._unused, returned.o.payload)),
            ]
        with m.If(has_unused & may_show):
            m.d.sync += self._unused.eq(self._unused + 1)
        return m
