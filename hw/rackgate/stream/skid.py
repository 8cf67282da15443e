# SPDX-License-Identifier: Apache-2.0
"""A buffer that cuts every combinational path between two streams."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SkidBuffer"]


class SkidBuffer(wiring.Component):
    """Register a stream in both directions at full throughput.

    ``o.payload``, ``o.valid`` and ``i.ready`` come straight from registers. Latency 1 cycle, one payload a
    cycle, order kept, capacity 2: while ``o`` is stalled, the payload that ``i`` sends before it sees
    ``ready`` fall is kept aside. Reset empties it.

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
        # Made here so that a proof can state invariants about it.
        self._is_skidded = Signal()
        self._skidded = Signal(shape)

    def elaborate(self, platform):
        m = Module()
        # ready is a register's inverse: it resets to one without a special initial value.
        m.d.comb += self.i.ready.eq(~self._is_skidded)

        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid | self._is_skidded),
                self._is_skidded.eq(0),
            ]
            with m.If(self._is_skidded):
                m.d.sync += self.o.payload.eq(self._skidded)
            with m.Else():
                m.d.sync += self.o.payload.eq(self.i.payload)
        with m.Elif(self.i.ready):
            m.d.sync += self._is_skidded.eq(self.i.valid)
        with m.If(self.i.ready):  # whether it is wanted or not: that depends on o.ready, which may come late
            m.d.sync += self._skidded.eq(self.i.payload)
        return m
