# SPDX-License-Identifier: Apache-2.0
"""The end of a lane at the packetizer."""

import operator

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.records import HeaderFields
from rackgate.stream.backlog import Backlog
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer

__all__ = ["Departure"]


class Departure(wiring.Component):
    """Keep the headers of segments until the packetizer takes them, and hold back payload that is none.

    An empty segment (one word with ``count`` 0 at ``i``) gives no payload; its word is taken after its header was. The
    payload passes in a cycle, and a header can be taken two cycles after it came. With ``words``, payload whose turn at
    the packetizer has not come yet waits here, so that the lane can go on with its other places. ``i.ready`` depends
    combinationally on ``i.payload`` alone. Reset forgets the headers, and payload that is on offer.

    Parameters
    ----------
    width:
        Bytes of a word.
    segments:
        Headers that may wait, at least 1; also the greatest number of headers that were taken while their
        segments' last words were not.
    words:
        Words of payload that may wait in block RAM, at least 2; with 0 there is none, and two wait in registers.

    Members
    -------
    headers:
        One for each segment, at the latest with its first word.
    i:
        Packets, one for each segment.
    header, payload:
        To the packetizer.
    sent:
        For a cycle: the packetizer has taken the last word of a segment; or its header, if it is empty.
    """

    headers: stream.Interface
    i: stream.Interface
    header: stream.Interface
    payload: stream.Interface

    def __init__(self, width, *, segments=8, words=0):
        self.segments, self.words = operator.index(segments), operator.index(words)
        if self.segments < 1:
            raise ValueError(f"segments must be at least 1, not {segments}")
        if self.words < 0 or self.words == 1:
            raise ValueError(f"words must be 0, or at least 2, not {words}")
        packets = PacketSignature(width)
        super().__init__({
            "headers": In(stream.Signature(HeaderFields)),
            "i": In(packets),
            "header": Out(stream.Signature(HeaderFields)),
            "payload": Out(packets),
            "sent": Out(1),
        })
        self._ahead = Signal(range(self.segments + 1))  # headers taken, last words not

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Queue(HeaderFields, depth=self.segments, block_ram=False)
        shape = self.payload.payload.shape()
        m.submodules.waiting = waiting = Backlog(shape, depth=self.words) if self.words else SkidBuffer(shape)
        wiring.connect(m, wiring.flipped(self.headers), queue.i)
        wiring.connect(m, waiting.o, wiring.flipped(self.payload))
        begins, ends, is_empty, has_room, has_header = Signal(), Signal(), Signal(), Signal(), Signal()
        is_clear = waiting.is_empty if self.words else ~self.payload.valid
        m.d.comb += [
            has_room.eq(self._ahead != self.segments),
            self.header.valid.eq(has_header & has_room),
            queue.o.ready.eq(~has_header | begins),
            begins.eq(self.header.valid & self.header.ready),
            is_empty.eq(self.i.payload.count == 0),
            waiting.i.payload.eq(self.i.payload),
            waiting.i.valid.eq(self.i.valid & ~is_empty),
            self.sent.eq(ends),
            ends.eq(self.i.valid & self.i.ready & is_empty
                    | self.payload.valid & self.payload.ready & self.payload.payload.last),
        ]
        with m.If(queue.o.ready):  # what is in the RAM comes too late in the cycle for the packetizer to choose
            m.d.sync += [has_header.eq(queue.o.valid), self.header.payload.eq(queue.o.payload)]
        with m.If(is_empty):
            m.d.comb += self.i.ready.eq((self._ahead != 0) & is_clear)  # behind the words before
        with m.Else():
            m.d.comb += self.i.ready.eq(waiting.i.ready)
        m.d.sync += [
            self._ahead.eq(self._ahead + begins - ends),
            Assert(~ends | begins | (self._ahead != 0), "a packet left before its header"),
        ]
        return m
