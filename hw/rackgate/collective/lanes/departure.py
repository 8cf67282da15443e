# SPDX-License-Identifier: Apache-2.0
"""The end of a lane at the packetizer."""

import operator

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.records import HeaderFields
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue

__all__ = ["Departure"]


class Departure(wiring.Component):
    """Keep the headers of segments until the packetizer takes them, and hold back payload that is none.

    An empty segment (one word with ``count`` 0 at ``i``) gives no payload; its word is taken when, or after, its
    header is. So a segment's last word at ``i`` is taken when all of it has been handed over. The payload passes
    without a register; a header can be taken the cycle after it came. ``i.ready`` depends combinationally on
    ``payload.ready``, ``header.ready`` and ``i.payload``. Reset forgets the headers.

    Parameters
    ----------
    width:
        Bytes of a word.
    segments:
        Headers that may wait, at least 1; also the greatest number of headers that were taken while their
        segments' last words were not.

    Members
    -------
    headers:
        One for each segment, at the latest with its first word.
    i:
        Packets, one for each segment.
    header, payload:
        To the packetizer.
    """

    headers: stream.Interface
    i: stream.Interface
    header: stream.Interface
    payload: stream.Interface

    def __init__(self, width, *, segments=8):
        self.segments = operator.index(segments)
        if self.segments < 1:
            raise ValueError(f"segments must be at least 1, not {segments}")
        packets = PacketSignature(width)
        super().__init__({
            "headers": In(stream.Signature(HeaderFields)),
            "i": In(packets),
            "header": Out(stream.Signature(HeaderFields)),
            "payload": Out(packets),
        })
        self._ahead = Signal(range(self.segments + 1))  # headers taken, last words not

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Queue(HeaderFields, depth=self.segments, block_ram=False)
        wiring.connect(m, wiring.flipped(self.headers), queue.i)
        begins, ends, is_empty, has_room = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            has_room.eq(self._ahead != self.segments),
            self.header.payload.eq(queue.o.payload),
            self.header.valid.eq(queue.o.valid & has_room),
            queue.o.ready.eq(self.header.ready & has_room),
            begins.eq(self.header.valid & self.header.ready),
            is_empty.eq(self.i.payload.count == 0),
            self.payload.payload.eq(self.i.payload),
            self.payload.valid.eq(self.i.valid & ~is_empty),
            ends.eq(self.i.valid & self.i.ready & self.i.payload.last),
        ]
        with m.If(is_empty):
            m.d.comb += self.i.ready.eq((self._ahead != 0) | begins)
        with m.Else():
            m.d.comb += self.i.ready.eq(self.payload.ready)
        m.d.sync += [
            self._ahead.eq(self._ahead + begins - ends),
            Assert(~ends | begins | (self._ahead != 0), "a packet left before its header"),
        ]
        return m
