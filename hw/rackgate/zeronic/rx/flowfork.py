# SPDX-License-Identifier: Apache-2.0
"""What commands say of flows, to all who keep something of them."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.records import FLOW_BITS, FlowUpdate

__all__ = ["FlowFork"]


class FlowFork(wiring.Component):
    """Offer each update to all places it is for; take the next when all of them have taken it.

    No registers in the way; ``i.ready`` depends combinationally on the readies of the places, their ``valid`` on no
    ``ready``. Reset forgets which of them have taken the update at ``i``.

    Members
    -------
    i:
        See :class:`~rackgate.zeronic.records.FlowUpdate`.
    lookup, guard:
        All of them.
    clear:
        The flows that begin.
    """

    i: stream.Interface
    lookup: stream.Interface
    guard: stream.Interface
    clear: stream.Interface

    def __init__(self):
        updates = stream.Signature(FlowUpdate)
        super().__init__({
            "i": In(updates), "lookup": Out(updates), "guard": Out(updates), "clear": Out(stream.Signature(FLOW_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        outputs = (self.lookup, self.guard, self.clear)
        has_taken, left, takes = Signal(3), Signal(3), Signal(3)
        m.d.comb += [
            left.eq(Cat(1, 1, self.i.payload.begin) & ~has_taken),
            takes.eq(left & Cat(output.ready for output in outputs)),
            self.i.ready.eq(takes == left),
            self.lookup.payload.eq(self.i.payload),
            self.guard.payload.eq(self.i.payload),
            self.clear.payload.eq(self.i.payload.flow),
            *(output.valid.eq(self.i.valid & left[k]) for k, output in enumerate(outputs)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += has_taken.eq(0)
        with m.Elif(self.i.valid):
            m.d.sync += has_taken.eq(has_taken | takes)
        return m
