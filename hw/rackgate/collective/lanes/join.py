# SPDX-License-Identifier: Apache-2.0
"""Two streams of operands become operands of a reducer."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.arith.abi import ELEMENT_TYPE_BITS, FUNCTION_BITS, Function
from rackgate.arith.reducer import operands_layout
from rackgate.stream.packet import PacketSignature

__all__ = ["Join", "join_layout", "rest_layout"]

#: Input of a :class:`Join`: which operands a segment has, at least one, and what to do with two.
join_layout = data.StructLayout({"has_received": 1, "has_local": 1, "function": FUNCTION_BITS,
                                 "element": ELEMENT_TYPE_BITS})


def rest_layout(width: int) -> data.StructLayout:
    """What a word of a packet has besides data, as in :func:`~rackgate.stream.packet.packet_layout`."""
    return data.StructLayout({"count": ceil_log2(width + 1), "last": 1, "error": 1})


class Join(wiring.Component):
    """Take the words of one operand, or the words of both side by side.

    With both, the result will be ``function(received, local)``; with one, that one passes (Function.PASS). Two
    operands of a segment must be of one size: that is asserted. ``error`` on the last word: one of them had it.

    One word a cycle, no registers, no bubble. Every ``ready`` depends combinationally on ``i``, ``o.ready`` and the
    ``valid`` of the other operand. There is no state.

    Parameters
    ----------
    width:
        Bytes of a word.

    Members
    -------
    i:
        One for each segment (:data:`join_layout`), taken with its last word.
    received, local:
        Packets of equal size.
    o:
        For the reducer (:func:`~rackgate.arith.reducer.operands_layout`), with :func:`rest_layout` as sideband.
        Where there is one operand it is ``b``; ``a`` then means nothing, and need not hold still.
    is_pair:
        The word at ``o`` has two operands.
    """

    i: stream.Interface
    received: stream.Interface
    local: stream.Interface
    o: stream.Interface

    def __init__(self, width):
        packets = PacketSignature(width)
        super().__init__({
            "i": In(stream.Signature(join_layout)),
            "received": In(packets),
            "local": In(packets),
            "o": Out(stream.Signature(operands_layout(width, rest_layout(width)))),
            "is_pair": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        segment, received, local, word = self.i.payload, self.received, self.local, self.o.payload
        is_pair, has_all = self.is_pair, Signal()
        m.d.comb += [
            is_pair.eq(segment.has_received & segment.has_local),
            has_all.eq(self.i.valid & (received.valid | ~segment.has_received) & (local.valid | ~segment.has_local)),
            self.o.valid.eq(has_all),
            received.ready.eq(has_all & segment.has_received & self.o.ready),
            local.ready.eq(has_all & segment.has_local & self.o.ready),
            word.a.eq(received.payload.data),
            word.b.eq(Mux(segment.has_local, local.payload.data, received.payload.data)),
            word.function.eq(Mux(is_pair, segment.function, Function.PASS)),
            word.element_type.eq(segment.element),
            word.sideband.count.eq(Mux(segment.has_local, local.payload.count, received.payload.count)),
            word.sideband.last.eq(Mux(segment.has_local, local.payload.last, received.payload.last)),
            word.sideband.error.eq(Cat(segment.has_received & received.payload.error,
                                       segment.has_local & local.payload.error).any()),
            self.i.ready.eq(has_all & self.o.ready & word.sideband.last),
        ]
        with m.If(self.i.valid):
            m.d.sync += Assert(segment.has_received | segment.has_local, "a segment has no operand")
        with m.If(has_all & is_pair):
            m.d.sync += Assert((received.payload.count == local.payload.count)
                               & (received.payload.last == local.payload.last), "the operands are not of one size")
        return m
