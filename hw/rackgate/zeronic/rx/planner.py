# SPDX-License-Identifier: Apache-2.0
"""What is to be asked about a frame."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.records import FLOW_BITS, LENGTH_BITS, LookedUp

__all__ = ["Planner", "Question", "Range"]

_SYN = 1  # bit of TCP's flags


class Range(data.Struct):
    """``size`` bytes of the stream of ``flow``, from ``position`` on."""

    flow: FLOW_BITS
    position: 32
    size: LENGTH_BITS


class Question(data.Struct):
    """A frame or fence, and what is to be found out about it.

    ``asks``: its payload from ``start`` on may be placed. ``deferred``: it goes up whole, and nothing is asked.
    ``old``: it has bytes before the cursor.
    """

    what: LookedUp
    asks: 1
    deferred: 1
    old: 1
    start: 32


class Planner(wiring.Component):
    """Tell frames whose payload may be placed from others, and ask for memory for what is not before the cursor.

    Rules 7 to 9 of :mod:`rackgate.zeronic.abi`. One frame a cycle, latency 2 cycles. ``i.ready`` depends
    combinationally on ``o.ready`` and ``cover.ready``; a payload at one of these two may be taken before that at the
    other. Reset forgets the frames under way.

    Members
    -------
    i:
        Frames and fences, in order (:class:`~rackgate.zeronic.records.LookedUp`).
    cover:
        For each frame that ``asks``, in order: its payload from ``start`` on (:class:`Range`).
    o:
        Each frame and fence, in order (:class:`Question`).
    """

    i: stream.Interface
    cover: stream.Interface
    o: stream.Interface

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(LookedUp)),
            "cover": Out(stream.Signature(Range)),
            "o": Out(stream.Signature(Question)),
        })
        self._held, self._has_held = Signal(LookedUp), Signal()
        self._lead = Signal(32)  # bytes by which the cursor is ahead of the frame's first byte

    def elaborate(self, platform):
        m = Module()
        is_free, frame = Signal(), self.i.payload.frame
        m.d.comb += [
            is_free.eq((~self.o.valid | self.o.ready) & (~self.cover.valid | self.cover.ready)),
            self.i.ready.eq(is_free),
        ]
        # What one side has taken must not be offered to it again while the other waits.
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.cover.ready):
            m.d.sync += self.cover.valid.eq(0)
        with m.If(is_free):
            m.d.sync += [
                self._held.eq(self.i.payload),
                self._has_held.eq(self.i.valid),
                self._lead.eq(frame.cursor - frame.position),
            ]
            self._decide(m)
        return m

    def _decide(self, m):
        what, frame, question, wanted = self._held, self._held.frame, self.o.payload, self.cover.payload
        is_split, is_ahead, is_left, asks = Signal(), Signal(), Signal(), Signal()
        size = Signal(LENGTH_BITS)
        m.d.comb += [
            is_split.eq(~what.is_fence & frame.has_flow & frame.split),
            is_ahead.eq(~self._lead[-1] & (self._lead != 0)),
            is_left.eq(~is_ahead | (self._lead < frame.payload)),
            size.eq(Mux(is_ahead, frame.payload - self._lead[:LENGTH_BITS], frame.payload)),
            asks.eq(is_split & (frame.payload != 0) & ~frame.flags[_SYN] & is_left),
        ]
        m.d.sync += [
            self.o.valid.eq(self._has_held),
            question.what.eq(what),
            question.asks.eq(asks),
            question.deferred.eq(~is_split | (frame.payload != 0) & frame.flags[_SYN]),
            question.old.eq(is_split & (frame.payload != 0) & ~frame.flags[_SYN] & is_ahead),
            question.start.eq(Mux(is_ahead, frame.cursor, frame.position)),
            self.cover.valid.eq(self._has_held & asks),
            wanted.flow.eq(frame.flow),
            wanted.position.eq(Mux(is_ahead, frame.cursor, frame.position)),
            wanted.size.eq(size),
        ]
