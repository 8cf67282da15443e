# SPDX-License-Identifier: Apache-2.0
"""Packets that have come in their order, on their way to the engine."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.link.frame import check_link_width
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue

__all__ = ["Deliverer"]

_DEPTH, _ROOM = 32, 16


class Deliverer(wiring.Component):
    """Let packets pass, or drop them, as ordered. No latency, a word a cycle. Reset forgets orders.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8 or 16.

    Members
    -------
    words:
        Packets, and what was in their place.
    order:
        Whether to deliver each, and whether it is damaged.
    has_room:
        16 more orders have room.
    o:
        Packets for the engine.
    """

    def __init__(self, width: int = 8):
        self.width = check_link_width(width)
        super().__init__({
            "words": In(PacketSignature(self.width)),
            "order": In(stream.Signature(data.StructLayout({"deliver": 1, "error": 1}), always_ready=True)),
            "has_room": Out(1, init=1),
            "o": Out(PacketSignature(self.width)),
        })
        self._orders = Queue(self.order.payload.shape(), depth=_DEPTH)

    def elaborate(self, platform):
        m = Module()
        m.submodules.orders = orders = self._orders
        order, word = orders.o, self.words.payload
        m.d.sync += self.has_room.eq(orders.level < _DEPTH - _ROOM)
        m.d.comb += [
            orders.i.valid.eq(self.order.valid), orders.i.payload.eq(self.order.payload),
            self.o.valid.eq(self.words.valid & order.valid & order.payload.deliver),
            self.o.payload.eq(word),
            self.o.payload.error.eq(word.last & order.payload.error),
            self.words.ready.eq(order.valid & (~order.payload.deliver | self.o.ready)),
            order.ready.eq(self.words.valid & self.words.ready & word.last),
        ]
        return m
