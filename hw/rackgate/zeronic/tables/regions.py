# SPDX-License-Identifier: Apache-2.0
"""Memory regions: every address is checked against them."""

import operator

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.abi import Right
from rackgate.zeronic.records import ADDRESS_BITS, FLOW_BITS, LENGTH_BITS, REGION_BITS, RegionUpdate

__all__ = ["Regions", "check_right"]


def check_right(right) -> Right:
    """A single right, or an error."""
    right = Right(operator.index(right))
    if right not in (Right.READ, Right.WRITE):
        raise ValueError(f"right must be Right.READ or Right.WRITE, not {right!r}")
    return right


class Regions(wiring.Component):
    """Turn offsets in memory regions into addresses, if all bytes lie in the region, and the flow has the right to.

    One a cycle, latency 4 cycles, order kept; ``i.ready`` depends combinationally on ``o.ready``. An update takes 2
    cycles. Reset takes all regions away, one a cycle.

    Parameters
    ----------
    right:
        What is to be done in the regions: ``Right.READ`` or ``Right.WRITE``.
    regions:
        Their number, 1 to 256.
    carried:
        Shape of what goes along.
    address_bits:
        Bits of an address, 40; fewer for proofs.

    Members
    -------
    i:
        ``size`` bytes from ``offset`` of ``region``, for ``flow``. The offset may be beyond all regions, and the region
        need not exist.
    o:
        ``ok``: the bytes are in memory from ``address`` on; else it means nothing.
    update:
        Write a region. Ready when it is applied: what is taken in a later cycle sees it.
    refused:
        With ``update.ready``: there is no such region, or it would run past the end of the address space; nothing was
        changed.
    ready:
        All regions have been taken away after reset. Before that nothing is taken.
    """

    i: stream.Interface
    o: stream.Interface
    update: stream.Interface

    def __init__(self, right: Right, regions: int, *, carried=0, address_bits: int = ADDRESS_BITS):
        self.right, self.regions = check_right(right), operator.index(regions)
        if not 1 <= self.regions <= 256:
            raise ValueError(f"regions must be 1 to 256, not {regions}")
        self.address_bits = operator.index(address_bits)
        if not 1 <= self.address_bits <= ADDRESS_BITS:
            raise ValueError(f"address_bits must be 1 to {ADDRESS_BITS}, not {address_bits}")
        request = data.StructLayout({"flow": FLOW_BITS, "region": REGION_BITS, "offset": self.address_bits + 1,
                                     "size": LENGTH_BITS, "carried": carried})
        super().__init__({
            "i": In(stream.Signature(request)),
            "o": Out(stream.Signature(data.StructLayout({"ok": 1, "address": self.address_bits, "carried": carried}))),
            "update": In(stream.Signature(RegionUpdate)), "refused": Out(1), "ready": Out(1),
        })
        entry = data.StructLayout({"rights": 2, "base": self.address_bits, "length": self.address_bits,
                                   "owner": FLOW_BITS + 1})
        self._memory = Memory(shape=entry, depth=self.regions, init=[])
        self._port = self._memory.read_port()
        # Stages: the memory reads; region and request; the sums, and whether all but the length is right.
        self._reading, self._has_reading = Signal(request), Signal()
        self._request, self._region, self._has_request = Signal(request), Signal(entry), Signal()
        self._sums = Signal(data.StructLayout({"end": ADDRESS_BITS + 2, "length": self.address_bits, "fits": 1,
                                               "address": self.address_bits, "carried": carried}))
        self._has_sums = Signal()
        # After reset: which region to clear. Of the update: it has been looked at, and must be refused.
        self._place, self._is_judged, self._is_bad = Signal(range(self.regions)), Signal(), Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = self._memory
        moves, request, region, o = Signal(), self._request, self._region, self.o
        port = self._port
        m.d.comb += [
            moves.eq(~o.valid | o.ready),
            self.i.ready.eq(moves & self.ready),
            port.addr.eq(self.i.payload.region), port.en.eq(moves),
        ]
        with m.If(moves):
            m.d.sync += [
                self._has_reading.eq(self.i.valid & self.ready), self._reading.eq(self.i.payload),

                self._has_request.eq(self._has_reading), request.eq(self._reading), region.eq(port.data),

                self._has_sums.eq(self._has_request),
                self._sums.end.eq(request.offset + request.size),
                self._sums.length.eq(region.length),
                self._sums.fits.eq((request.region < self.regions) & ((region.rights & self.right) != 0)
                                   & ((region.owner == 0) | (region.owner == request.flow + 1))),
                self._sums.address.eq(region.base + request.offset),
                self._sums.carried.eq(request.carried),

                o.valid.eq(self._has_sums),
                o.payload.ok.eq(self._sums.fits & (self._sums.end <= self._sums.length)),
                o.payload.address.eq(self._sums.address),
                o.payload.carried.eq(self._sums.carried),
            ]
        self._write(m)
        return m

    def _write(self, m):
        """After reset write nothing everywhere; then what comes."""
        port, update, end = self._memory.write_port(), self.update.payload, Signal(ADDRESS_BITS + 1)
        m.d.comb += end.eq(update.base + update.length)
        m.d.sync += self._is_judged.eq(0)
        with m.If(~self.ready):
            m.d.comb += [port.addr.eq(self._place), port.en.eq(1)]
            m.d.sync += [self._place.eq(self._place + 1), self.ready.eq(self._place == self.regions - 1)]
        with m.Elif(~self._is_judged):
            m.d.sync += [
                self._is_judged.eq(self.update.valid),
                self._is_bad.eq((update.region >= self.regions) | (end > 1 << self.address_bits)),
            ]
        with m.Else():
            m.d.comb += [
                port.addr.eq(update.region), port.en.eq(~self._is_bad),
                *(port.data[name].eq(update[name]) for name in ("rights", "base", "length", "owner")),
                self.update.ready.eq(1), self.refused.eq(self._is_bad),
            ]
