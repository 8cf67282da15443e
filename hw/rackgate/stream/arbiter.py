# SPDX-License-Identifier: Apache-2.0
"""Several streams take turns on one."""

import operator

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Arbiter"]


class Arbiter(wiring.Component):
    """Merge ``n`` streams into one, a payload or a packet at a time, round robin.

    After a grant to input k the inputs are asked in the order k+1, k+2, ..., k, so an input that offers a
    payload waits for at most n - 1 payloads of the others (or packets: a grant then lasts to the end of the packet,
    however long its words are waited for). Latency 1 cycle, one payload a cycle; the
    output is registered. Each ``i[k].ready`` depends combinationally on the ``valid`` of all inputs and on
    ``o.ready``. Reset drops the payload at the output and starts with input 0.

    Parameters
    ----------
    shape:
        Shape of the payload.
    n:
        Number of inputs, at least 1.
    packets:
        Whether a grant lasts until a payload with ``last``, as in :func:`~rackgate.stream.packet.packet_layout`.

    Members
    -------
    i:
        Array of the inputs.
    o:
        The merged stream.
    source:
        Input that the payload at ``o`` came from; holds with it.
    """

    o: stream.Interface

    def __init__(self, shape, n, *, packets=False):
        self.shape, self.packets = shape, bool(packets)
        self.n = operator.index(n)
        if self.n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        super().__init__({
            "i": In(stream.Signature(shape)).array(self.n),
            "o": Out(stream.Signature(shape)),
            "source": Out(range(self.n), init=self.n - 1),
        })

    def elaborate(self, platform):
        m = Module()
        grant = Signal(range(self.n))
        is_free, is_within = Signal(), Signal()
        m.d.comb += is_free.eq(~self.o.valid | self.o.ready)

        # ``source`` keeps the last grant while the output is empty: it is the state of the turns. In each
        # case a later If overrides, so the candidates go from the lowest to the highest precedence.
        with m.Switch(self.source):
            for last in range(self.n):
                with m.Case(last):
                    m.d.comb += grant.eq(last)
                    for distance in reversed(range(1, self.n)):
                        candidate = (last + distance) % self.n
                        with m.If(self.i[candidate].valid):
                            m.d.comb += grant.eq(candidate)
        with m.If(is_within):
            m.d.comb += grant.eq(self.source)

        with m.If(is_free):
            m.d.sync += self.o.valid.eq(0)
        for k in range(self.n):
            m.d.comb += self.i[k].ready.eq(is_free & (grant == k))
            with m.If(self.i[k].valid & self.i[k].ready):
                m.d.sync += [
                    self.o.payload.eq(self.i[k].payload),
                    self.o.valid.eq(1),
                    self.source.eq(k),
                ]
                if self.packets:
                    m.d.sync += is_within.eq(~self.i[k].payload.last)
        return m
