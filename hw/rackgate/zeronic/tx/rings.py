# SPDX-License-Identifier: Apache-2.0
"""Which ring of entries each flow has chosen."""

import operator

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.messages import FlowFlag
from rackgate.zeronic.records import FLOW_BITS, FlowUpdate

__all__ = ["FlowRings"]


class FlowRings(wiring.Component):
    """Remember FlowFlag.RING_1 of each flow, for entries that are made while sending.

    No latency; an update takes a cycle, and goes before a look-up. Reset sets all flows to ring 0, which takes a cycle
    each; until ``ready``, nothing is taken.

    Parameters
    ----------
    flows:
        Flows of the NIC.

    Members
    -------
    update:
        Flows that begin; others change nothing.
    i:
        Flows.
    o:
        The same with their ring.
    ready:
        See above.
    """

    update: stream.Interface
    i: stream.Interface
    o: stream.Interface

    def __init__(self, flows: int = 256):
        self.flows = operator.index(flows)
        if not 1 <= self.flows <= 1 << FLOW_BITS:
            raise ValueError(f"flows must be 1 to {1 << FLOW_BITS}, not {flows}")
        super().__init__({
            "update": In(stream.Signature(FlowUpdate)),
            "i": In(stream.Signature(FLOW_BITS)),
            "o": Out(stream.Signature(data.StructLayout({"ring": 1, "flow": FLOW_BITS}))),
            "ready": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=1, depth=self.flows, init=[])
        write, read, place = memory.write_port(), memory.read_port(domain="comb"), Signal(range(self.flows + 1))
        update = self.update.payload
        m.d.comb += [
            self.ready.eq(place == self.flows), self.update.ready.eq(self.ready),
            read.addr.eq(self.i.payload), self.o.payload.ring.eq(read.data), self.o.payload.flow.eq(self.i.payload),
            self.o.valid.eq(self.i.valid & self.ready), self.i.ready.eq(self.o.ready & self.ready),
        ]
        with m.If(~self.ready):
            m.d.comb += [write.addr.eq(place), write.en.eq(1)]
            m.d.sync += place.eq(place + 1)
        with m.Else():
            m.d.comb += [
                write.addr.eq(update.flow), write.data.eq((update.flags & FlowFlag.RING_1) != 0),
                write.en.eq(self.update.valid & update.begin),
            ]
        return m
