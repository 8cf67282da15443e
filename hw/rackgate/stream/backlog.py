# SPDX-License-Identifier: Apache-2.0
"""A register between two streams, with room behind it for what the far side does not take in time."""

import operator

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer

__all__ = ["Backlog"]

# Payloads that wait in LUT RAM, which is 16 deep whether it is used or not.
_FRONT = 16


class Backlog(wiring.Component):
    """Register a stream in both directions, and let ``i`` go on while ``o`` is stalled.

    Latency 1 cycle while nothing has had to wait, as of a :class:`~rackgate.stream.skid.SkidBuffer`. What comes when
    that one is full waits in LUT RAM, and behind 16 payloads in block RAM. While ``i`` has one payload a cycle ``o``
    has one a cycle too, however long it was stalled before; what comes after a pause, when one payload is left in block
    RAM, can be 2 cycles late. Order is kept. Both readies and ``o`` come from registers. Reset empties it.

    Parameters
    ----------
    shape:
        Shape of the payload.
    depth:
        Payloads in block RAM, at least 2. ``capacity`` counts those before it too.

    Members
    -------
    i, o:
        The two ends.
    is_empty:
        Nothing is held.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape, *, depth):
        self.depth = operator.index(depth)
        if self.depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth}")
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "is_empty": Out(1)})
        self.capacity = self.depth + _FRONT + 2
        # Made here so that a proof can state invariants about them.
        self._back = Queue(shape, depth=self.depth, block_ram=True)
        self._front = Queue(shape, depth=_FRONT, block_ram=False)
        self._skid = SkidBuffer(shape)

    def elaborate(self, platform):
        m = Module()
        back, front, skid = self._back, self._front, self._skid
        m.submodules.back, m.submodules.front, m.submodules.skid = back, front, skid
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        # A payload waits in front only if none is behind, so those in front are the older ones.
        has_back, has_front, passes, waits_in_front = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            has_back.eq(back.level != 0),
            has_front.eq(front.level != 0),
            passes.eq(~has_back & ~has_front & skid.i.ready),
            waits_in_front.eq(~has_back & ~passes & front.i.ready),
            self.is_empty.eq(~has_back & ~has_front & ~self.o.valid),
            # If the RAM is empty it has room, so this is right whichever way a payload takes.
            self.i.ready.eq(back.i.ready),
            front.i.valid.eq(self.i.valid & waits_in_front),
            front.i.payload.eq(self.i.payload),
            back.i.valid.eq(self.i.valid & ~passes & ~waits_in_front),
            back.i.payload.eq(self.i.payload),
            front.o.ready.eq(skid.i.ready),
            back.o.ready.eq(skid.i.ready & ~has_front),
        ]
        with m.If(has_front):
            m.d.comb += [skid.i.valid.eq(1), skid.i.payload.eq(front.o.payload)]
        with m.Elif(has_back):
            m.d.comb += [skid.i.valid.eq(back.o.valid), skid.i.payload.eq(back.o.payload)]
        with m.Else():
            m.d.comb += [skid.i.valid.eq(self.i.valid), skid.i.payload.eq(self.i.payload)]
        return m
