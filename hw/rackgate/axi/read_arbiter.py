# SPDX-License-Identifier: Apache-2.0
"""Several AXI4 initiators read through one."""

import operator

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.axi.bus import AXI4Signature
from rackgate.stream.arbiter import Arbiter

__all__ = ["ReadArbiter"]


class ReadArbiter(wiring.Component):
    """Merge the read channels of ``n`` initiators.

    Addresses go out round robin (see :class:`~rackgate.stream.arbiter.Arbiter`), with the number of their
    initiator put above their id: the id on the bus is ``port << id_width | id``. Answers go back by the
    same bits, whatever their order; one that an initiator does not take blocks the others, so initiators
    should take theirs at once. Latency 1 cycle for addresses, none for answers (``o_r`` and ``i_r.ready`` are
    combinational). Reset drops an address at the output.

    Parameters
    ----------
    n:
        Number of initiators, at least 1.
    addr_width, data_width:
        Address and data bits.
    id_width:
        Id bits of an initiator. On the bus there are ``bus_id_width``: ``ceil_log2(n)`` more.

    Members
    -------
    i_ar, o_r:
        Arrays of the initiators' channels.
    o_ar, i_r:
        The channels of the bus.
    """

    o_ar: stream.Interface
    i_r: stream.Interface

    def __init__(self, n, *, addr_width=40, data_width=64, id_width=4):
        self.n = operator.index(n)
        if self.n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        initiator = AXI4Signature(addr_width=addr_width, data_width=data_width, id_width=id_width)
        self.id_width = initiator.id_width
        self.bus_id_width = self.id_width + ceil_log2(self.n)
        bus = AXI4Signature(addr_width=addr_width, data_width=data_width, id_width=self.bus_id_width)
        super().__init__({
            "i_ar": In(initiator.members["ar"].signature).array(self.n),
            "o_r": Out(initiator.members["r"].signature.flip()).array(self.n),
            "o_ar": Out(bus.members["ar"].signature),
            "i_r": In(bus.members["r"].signature.flip()),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.turns = turns = Arbiter(self.i_ar[0].signature.members["payload"].shape, self.n)
        for k in range(self.n):
            wiring.connect(m, wiring.flipped(self.i_ar[k]), turns.i[k])
        m.d.comb += [
            self.o_ar.valid.eq(turns.o.valid),
            turns.o.ready.eq(self.o_ar.ready),
            self.o_ar.payload.id.eq(Cat(turns.o.payload.id, turns.source)),
        ]
        for name in ("addr", "len", "size", "burst"):
            m.d.comb += self.o_ar.payload[name].eq(turns.o.payload[name])

        port = Signal(range(self.n))
        m.d.comb += port.eq(self.i_r.payload.id >> self.id_width)
        for k in range(self.n):
            is_mine = port == k
            m.d.comb += self.o_r[k].valid.eq(self.i_r.valid & is_mine)
            for name in ("data", "id", "resp", "last"):  # the port's bits of the id are cut off
                m.d.comb += self.o_r[k].payload[name].eq(self.i_r.payload[name])
            with m.If(is_mine):
                m.d.comb += self.i_r.ready.eq(self.o_r[k].ready)
        m.d.sync += Assert(~self.i_r.valid | (port < self.n), "a read answer has the id of no port")
        return m
