# SPDX-License-Identifier: Apache-2.0
"""When a segment of the receive lane is done."""

import operator

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.records import MOVE_BITS, Retired
from rackgate.stream.queue import Queue

__all__ = ["Retirement", "retirement_layout"]

#: Input of a :class:`Retirement`: a segment and what it waits for.
retirement_layout = data.StructLayout({"move": MOVE_BITS, "to_memory": 1, "to_stream": 1, "send": 1})


class Retirement(wiring.Component):
    """Retire segments in order, each when it has been read and all places that it goes to have it.

    One a cycle, the cycle after the last of the events that it waits for. ``i.ready`` comes from registers. Reset
    forgets all segments.

    Parameters
    ----------
    segments:
        Segments that may be under way, at least 1.

    Members
    -------
    i:
        Segments (:data:`retirement_layout`).
    passed, passed_error:
        High for a cycle for each segment, in order, when all its words have been read; and whether with an error.
    written:
        In order, for each segment with ``to_memory``, when it is in memory; and whether with an error.
    sent, streamed:
        High for a cycle for each segment with ``send``, with ``to_stream``, when all of it was taken.
    o:
        Retired segments.
    """

    i: stream.Interface
    written: stream.Interface
    o: stream.Interface

    def __init__(self, *, segments=8):
        self.segments = operator.index(segments)
        if self.segments < 1:
            raise ValueError(f"segments must be at least 1, not {segments}")
        super().__init__({
            "i": In(stream.Signature(retirement_layout)),
            "passed": In(1),
            "passed_error": In(1),
            "written": In(stream.Signature(data.StructLayout({"error": 1}))),
            "sent": In(1),
            "streamed": In(1),
            "o": Out(stream.Signature(Retired)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.waiting = waiting = Queue(retirement_layout, depth=self.segments, block_ram=False)
        m.submodules.read = read = Queue(1, depth=self.segments, block_ram=False)
        wiring.connect(m, wiring.flipped(self.i), waiting.i)
        segment, can_retire, retires = waiting.o.payload, Signal(), Signal()
        has_sent = self._events(m, "sent", self.sent, retires & segment.send)
        has_streamed = self._events(m, "streamed", self.streamed, retires & segment.to_stream)
        m.d.comb += [
            read.i.payload.eq(self.passed_error),
            read.i.valid.eq(self.passed),
            can_retire.eq(~self.o.valid | self.o.ready),
            retires.eq(can_retire & waiting.o.valid & read.o.valid & (self.written.valid | ~segment.to_memory)
                       & (has_sent | ~segment.send) & (has_streamed | ~segment.to_stream)),
            waiting.o.ready.eq(retires),
            read.o.ready.eq(retires),
            self.written.ready.eq(retires & segment.to_memory),
        ]
        with m.If(can_retire):
            m.d.sync += [
                self.o.valid.eq(retires),
                self.o.payload.move.eq(segment.move),
                self.o.payload.read_error.eq(read.o.payload),
                self.o.payload.write_error.eq(segment.to_memory & self.written.payload.error),
            ]
        m.d.sync += Assert(~self.passed | read.i.ready, "more segments were read than there are")
        return m

    def _events(self, m, name, comes, goes):
        """Whether an event is there that no segment has been retired for."""
        count = Signal(range(self.segments + 1), name=name)
        m.d.sync += [
            count.eq(count + comes - goes),
            Assert(~goes | (count != 0), "a segment was retired too early"),
            Assert(~comes | goes | (count != self.segments), "more segments have ended than there are"),
        ]
        return count != 0
