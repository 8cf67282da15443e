# SPDX-License-Identifier: Apache-2.0
"""Several AXI4 initiators write through one."""

import operator

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.axi.bus import AXI4Signature
from rackgate.stream.arbiter import Arbiter
from rackgate.stream.queue import Queue

__all__ = ["WriteArbiter"]


class WriteArbiter(wiring.Component):
    """Merge the write channels of ``n`` initiators.

    Addresses are granted round robin; the data of a burst follow in the order of the grants and do not
    interleave (AXI4 has no WID). Data may reach the bus before their address is taken there, as AXI4
    demands of an initiator (IHI 0022 A3.3.1). The number of the initiator stands above its id: the id on
    the bus is ``port << id_width | id``, and responses go back by the same bits in any order.

    An initiator that was granted and does not send its data holds up all others: send the address when
    the data are there. Latency 2 cycles for addresses, none for data and responses once granted; a beat
    a cycle, also across bursts. Reset drops the grants.

    Parameters
    ----------
    n:
        Number of initiators, at least 1.
    addr_width, data_width:
        Address and data bits.
    id_width:
        Id bits of an initiator. On the bus there are ``bus_id_width``: ``ceil_log2(n)`` more.
    grants:
        Bursts granted whose data are not yet through, at least 1.

    Members
    -------
    i_aw, i_w, o_b:
        Arrays of the initiators' channels.
    o_aw, o_w, i_b:
        The channels of the bus.
    """

    o_aw: stream.Interface
    o_w: stream.Interface
    i_b: stream.Interface

    def __init__(self, n, *, addr_width=40, data_width=64, id_width=4, grants=4):
        self.n = operator.index(n)
        self.grants = operator.index(grants)
        if self.n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        if self.grants < 1:
            raise ValueError(f"grants must be at least 1, not {grants}")
        initiator = AXI4Signature(addr_width=addr_width, data_width=data_width, id_width=id_width)
        self.id_width = initiator.id_width
        self.bus_id_width = self.id_width + ceil_log2(self.n)
        bus = AXI4Signature(addr_width=addr_width, data_width=data_width, id_width=self.bus_id_width)
        super().__init__({
            "i_aw": In(initiator.members["aw"].signature).array(self.n),
            "i_w": In(initiator.members["w"].signature).array(self.n),
            "o_b": Out(initiator.members["b"].signature.flip()).array(self.n),
            "o_aw": Out(bus.members["aw"].signature),
            "o_w": Out(bus.members["w"].signature),
            "i_b": In(bus.members["b"].signature.flip()),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.turns = turns = Arbiter(self.i_aw[0].signature.members["payload"].shape, self.n)
        m.submodules.addresses = addresses = Queue(self.o_aw.signature.members["payload"].shape, depth=2)
        m.submodules.order = order = Queue(range(self.n), depth=self.grants)
        for k in range(self.n):
            wiring.connect(m, wiring.flipped(self.i_aw[k]), turns.i[k])
        wiring.connect(m, addresses.o, wiring.flipped(self.o_aw))

        # A grant goes to both queues at once. Their ready stays high once it is, so valid holds.
        m.d.comb += [
            turns.o.ready.eq(addresses.i.ready & order.i.ready),
            addresses.i.valid.eq(turns.o.valid & order.i.ready),
            order.i.valid.eq(turns.o.valid & addresses.i.ready),
            order.i.payload.eq(turns.source),
            addresses.i.payload.id.eq(Cat(turns.o.payload.id, turns.source)),
        ]
        for name in ("addr", "len", "size", "burst"):
            m.d.comb += addresses.i.payload[name].eq(turns.o.payload[name])

        self._route_data(m, order)
        self._route_responses(m)
        return m

    def _route_data(self, m, order):
        for k in range(self.n):
            with m.If(order.o.valid & (order.o.payload == k)):
                m.d.comb += [
                    self.o_w.valid.eq(self.i_w[k].valid),
                    self.i_w[k].ready.eq(self.o_w.ready),
                ]
            with m.If(order.o.payload == k):
                m.d.comb += self.o_w.payload.eq(self.i_w[k].payload)
        m.d.comb += order.o.ready.eq(self.o_w.valid & self.o_w.ready & self.o_w.payload.last)

    def _route_responses(self, m):
        port = Signal(range(self.n))
        m.d.comb += port.eq(self.i_b.payload.id >> self.id_width)
        for k in range(self.n):
            m.d.comb += [
                self.o_b[k].valid.eq(self.i_b.valid & (port == k)),
                self.o_b[k].payload.id.eq(self.i_b.payload.id),  # the port's bits are cut off
                self.o_b[k].payload.resp.eq(self.i_b.payload.resp),
            ]
            with m.If(port == k):
                m.d.comb += self.i_b.ready.eq(self.o_b[k].ready)
        m.d.sync += Assert(~self.i_b.valid | (port < self.n), "a write response has the id of no port")
