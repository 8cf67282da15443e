# SPDX-License-Identifier: Apache-2.0
"""One AXI4-Lite target in front of several, told apart by address."""

import itertools
import operator
from collections.abc import Iterable

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.axi.bus import AXI4LiteSignature, Response

__all__ = ["LiteDecoder"]


class _Router(wiring.Component):
    """Send a request to the output whose region it is in; pass that output's answer back.

    One request is under way at a time. A request of no region is answered with SLVERR.
    """

    i: stream.Interface
    o_answer: stream.Interface

    def __init__(self, request, answer, regions):
        self.regions = regions
        super().__init__({
            "i": In(stream.Signature(request)),
            "o": Out(stream.Signature(request)).array(len(regions)),
            "i_answer": In(stream.Signature(answer)).array(len(regions)),
            "o_answer": Out(stream.Signature(answer)),
        })

    def elaborate(self, platform):
        m = Module()
        request, hit = Signal.like(self.i.payload), Signal(len(self.o))
        m.d.comb += hit.eq(Cat(request.addr[exact_log2(size):] == start // size for start, size in self.regions))
        for o in self.o:
            m.d.comb += o.payload.eq(request)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += request.eq(self.i.payload)
                    m.next = "SEND"
            with m.State("SEND"):
                with m.If(~hit.any()):
                    m.next = "REFUSE"
                for here, o in zip(hit, self.o, strict=True):
                    m.d.comb += o.valid.eq(here)
                    with m.If(o.valid & o.ready):
                        m.next = "PASS"
            with m.State("PASS"):
                for here, answer in zip(hit, self.i_answer, strict=True):
                    with m.If(here):
                        m.d.comb += [self.o_answer.valid.eq(answer.valid), self.o_answer.payload.eq(answer.payload),
                                     answer.ready.eq(self.o_answer.ready)]
                with m.If(self.o_answer.valid & self.o_answer.ready):
                    m.next = "IDLE"
            with m.State("REFUSE"):
                m.d.comb += [self.o_answer.valid.eq(1), self.o_answer.payload.resp.eq(Response.SLVERR)]
                with m.If(self.o_answer.ready):
                    m.next = "IDLE"
        return m


class LiteDecoder(wiring.Component):
    """Join AXI4-Lite targets to one, each with a region of the address space.

    One read and one write are under way at a time, independently. An address outside all regions is answered with
    SLVERR. A request reaches its target a cycle after it is taken; answers pass combinationally; the next is taken in
    the cycle after the answer. ``i.aw.ready`` and ``i.w.ready`` depend combinationally on each other's ``valid``.
    Reset forgets what is under way.

    Parameters
    ----------
    regions:
        First address and size of each. A size is a power of two, 8 or more; an address is a multiple of it.
    addr_width:
        Address bits of ``i``.

    Members
    -------
    i:
        The target.
    o_0, o_1...:
        An initiator a region, with as many address bits as its size needs: it sees addresses from 0 on.

    Raises
    ------
    ValueError
        When there is no region, or one has a wrong size or place, or two overlap.
    """

    def __init__(self, regions: Iterable[tuple[int, int]], *, addr_width: int = 16):
        self.addr_width = operator.index(addr_width)
        self.regions = tuple((operator.index(start), operator.index(size)) for start, size in regions)
        if not self.regions:
            raise ValueError("regions must not be empty")
        for start, size in self.regions:
            if size < 8 or size & size - 1:
                raise ValueError(f"size of a region must be a power of two from 8 on, not {size}")
            if start % size or not 0 <= start <= (1 << self.addr_width) - size:
                raise ValueError(f"a region of {size} must start at a multiple of it below "
                                 f"{1 << self.addr_width:#x}, not at {start:#x}")
        ends = sorted((start, start + size) for start, size in self.regions)
        for (_, end), (start, _) in itertools.pairwise(ends):
            if start < end:
                raise ValueError(f"regions must not overlap, as two do at {start:#x}")
        super().__init__({
            "i": In(AXI4LiteSignature(addr_width=self.addr_width)),
            **{f"o_{number}": Out(AXI4LiteSignature(addr_width=exact_log2(size)))
               for number, (_, size) in enumerate(self.regions)},
        })

    def elaborate(self, platform):
        m = Module()
        i, outputs = self.i, [getattr(self, f"o_{number}") for number in range(len(self.regions))]
        write_layout = data.StructLayout({"addr": self.addr_width, "data": 32, "strb": 4})
        m.submodules.read = read = _Router(i.ar.payload.shape(), i.r.payload.shape(), self.regions)
        m.submodules.write = write = _Router(write_layout, i.b.payload.shape(), self.regions)
        wiring.connect(m, wiring.flipped(i.ar), read.i)
        wiring.connect(m, read.o_answer, wiring.flipped(i.r))
        wiring.connect(m, write.o_answer, wiring.flipped(i.b))
        m.d.comb += [
            write.i.valid.eq(i.aw.valid & i.w.valid),
            i.aw.ready.eq(write.i.ready & i.w.valid),
            i.w.ready.eq(write.i.ready & i.aw.valid),
            write.i.payload.addr.eq(i.aw.payload.addr),
            write.i.payload.data.eq(i.w.payload.data),
            write.i.payload.strb.eq(i.w.payload.strb),
        ]
        # A target may take address and data in different cycles. Only one write is under way: flags can be shared.
        has_address, has_data = Signal(), Signal()
        with m.If(write.i.valid & write.i.ready):
            m.d.sync += [has_address.eq(0), has_data.eq(0)]
        for number, o in enumerate(outputs):
            wiring.connect(m, wiring.flipped(o.r), read.i_answer[number])
            wiring.connect(m, wiring.flipped(o.b), write.i_answer[number])
            request, ar = write.o[number], read.o[number]
            m.d.comb += [
                o.ar.valid.eq(ar.valid),
                ar.ready.eq(o.ar.ready),
                o.ar.payload.addr.eq(ar.payload.addr),
                o.aw.valid.eq(request.valid & ~has_address),
                o.aw.payload.addr.eq(request.payload.addr),
                o.w.valid.eq(request.valid & ~has_data),
                o.w.payload.data.eq(request.payload.data),
                o.w.payload.strb.eq(request.payload.strb),
                request.ready.eq((o.aw.ready | has_address) & (o.w.ready | has_data)),
            ]
            with m.If(o.aw.valid & o.aw.ready):
                m.d.sync += has_address.eq(1)
            with m.If(o.w.valid & o.w.ready):
                m.d.sync += has_data.eq(1)
        return m
