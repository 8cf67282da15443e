# SPDX-License-Identifier: Apache-2.0
"""Registers on a handshake, for what must not count as taken before it is."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Relay"]


class Relay(wiring.Component):
    """Offer each payload of ``i`` at ``o``, and take it when it has been taken there, not earlier.

    So ``i`` and ``o`` are one after the other as if they were connected, but ``o`` and ``i.ready`` come from registers.
    A payload takes 3 cycles: it is offered 1 cycle after it comes to ``i``, and taken from there 1 cycle after ``o``.
    Reset forgets that one is on offer.

    Parameters
    ----------
    shape:
        Shape of the payload.

    Members
    -------
    i, o:
        The two ends.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        with m.If(~self.o.valid):
            m.d.sync += self.o.payload.eq(self.i.payload)
        m.d.sync += [
            self.i.ready.eq(self.o.valid & self.o.ready),
            self.o.valid.eq(self.i.valid & ~self.i.ready & ~(self.o.valid & self.o.ready)),
        ]
        return m
