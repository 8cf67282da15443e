# SPDX-License-Identifier: Apache-2.0
"""A queue from one clock domain into another."""

import operator

from amaranth.hdl import Module, Shape, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import AsyncFIFOBuffered
from amaranth.lib.wiring import In, Out

__all__ = ["AsyncQueue"]


class AsyncQueue(wiring.Component):
    """Hand payloads from the domain ``i_domain`` to ``o_domain`` in the order they came in.

    One payload a cycle of either clock, whatever the two frequencies and phases are. A payload can be taken some
    4 cycles of the output's clock after it went in, and its place is free again some 3 cycles of the input's clock
    after it left the RAM: below a depth of about 16 that costs throughput. ``o`` comes from registers; neither side
    depends combinationally on the other. Read pointer and write pointer cross in Gray code, through two flip-flops.

    Reset of the input's domain empties it; one of the output's domain forgets the payload on offer and no more. Those
    that want neither reset both together.

    Parameters
    ----------
    shape:
        Shape of the payload.
    depth:
        Least capacity in payloads, 4 or more; it is rounded up to a power of two and one more.
    i_domain, o_domain:
        Clock domains of the two ends.

    Members
    -------
    i, o:
        The two ends.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape, *, depth: int, i_domain: str = "sync", o_domain: str = "sync"):
        self.shape = shape
        self.depth = operator.index(depth)
        if self.depth < 4:
            raise ValueError(f"depth must be at least 4, not {depth}")
        for name, domain in (("i_domain", i_domain), ("o_domain", o_domain)):
            if not isinstance(domain, str):
                raise TypeError(f"{name} must be the name of a domain, not {domain!r}")
        self.i_domain, self.o_domain = i_domain, o_domain
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = AsyncFIFOBuffered(
            width=Shape.cast(self.shape).width, depth=self.depth, w_domain=self.i_domain, r_domain=self.o_domain)
        m.d.comb += [
            fifo.w_data.eq(Value.cast(self.i.payload)), fifo.w_en.eq(self.i.valid), self.i.ready.eq(fifo.w_rdy),
            Value.cast(self.o.payload).eq(fifo.r_data), self.o.valid.eq(fifo.r_rdy), fifo.r_en.eq(self.o.ready),
        ]
        return m
