# SPDX-License-Identifier: Apache-2.0
"""What becomes of a frame."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.queue import Queue
from rackgate.zeronic.records import FLOW_BITS, LENGTH_BITS, Judged
from rackgate.zeronic.rx.planner import Question
from rackgate.zeronic.rx.records import Decision, TrimOrder

__all__ = ["Covered", "Decider", "GuardRequest"]


class Covered(data.Struct):
    """How many bytes of a frame, from the first one asked for on, are in segments; and why not all."""

    covered: LENGTH_BITS
    no_segment: 1
    bad_region: 1


class GuardRequest(data.Struct):
    """A payload of ``size`` bytes from ``position`` on, and which part of it memory was found for."""

    flow: FLOW_BITS
    position: 32
    size: LENGTH_BITS
    covered_start: 32
    covered_size: LENGTH_BITS


class _Asked(data.Struct):
    question: Question
    covered: Covered


class Decider(wiring.Component):
    """Ask the guard for what memory was found for, and tell those behind what becomes of each frame.

    One frame a cycle, while those that were asked answer. Latency 1 cycle to the guard, 1 from its answer; both for a
    frame of which nothing is asked. ``i.ready``, ``covered.ready`` depend combinationally on each other's ``valid`` and
    on ``guard.ready``; ``judged.ready`` on ``order.ready`` and ``o.ready``. Reset forgets the frames under way.

    Parameters
    ----------
    frames:
        Frames that may be at the guard, at least 1.

    Members
    -------
    i:
        Frames and fences (:class:`~.planner.Question`).
    covered:
        For each that ``asks``, in order (:class:`Covered`).
    guard:
        Likewise (:class:`GuardRequest`).
    judged:
        The guard's answers, in order (:class:`~rackgate.zeronic.records.Judged`).
    order:
        What of their pieces may be written (:class:`~.records.TrimOrder`).
    o:
        Each frame and fence, in order (:class:`~.records.Decision`).
    """

    i: stream.Interface
    covered: stream.Interface
    guard: stream.Interface
    judged: stream.Interface
    order: stream.Interface
    o: stream.Interface

    def __init__(self, *, frames=8):
        self.frames = operator.index(frames)
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, not {frames}")
        super().__init__({
            "i": In(stream.Signature(Question)),
            "covered": In(stream.Signature(Covered)),
            "guard": Out(stream.Signature(GuardRequest)),
            "judged": In(stream.Signature(Judged)),
            "order": Out(stream.Signature(TrimOrder)),
            "o": Out(stream.Signature(Decision)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.asked = asked = Queue(_Asked, depth=self.frames, block_ram=False)
        self._ask(m, asked.i)
        self._decide(m, asked.o)
        return m

    def _ask(self, m, asked):
        question, covered, guard, is_known = self.i.payload, self.covered.payload, self.guard.payload, Signal()
        frame = question.what.frame
        m.d.comb += [
            is_known.eq(self.i.valid & (self.covered.valid | ~question.asks)),
            self.guard.valid.eq(is_known & question.asks & asked.ready),
            guard.flow.eq(frame.flow),
            guard.position.eq(frame.position),
            guard.size.eq(frame.payload),
            guard.covered_start.eq(question.start),
            guard.covered_size.eq(covered.covered),
            asked.valid.eq(is_known & (self.guard.ready | ~question.asks)),
            asked.payload.question.eq(question),
            asked.payload.covered.eq(covered),
            self.i.ready.eq(asked.valid & asked.ready),
            self.covered.ready.eq(self.i.ready & question.asks),
        ]

    def _decide(self, m, asked):
        question, covered, judged = asked.payload.question, asked.payload.covered, self.judged.payload
        frame, order, decision = question.what.frame, self.order.payload, self.o.payload
        is_free, takes, asks, offset = Signal(), Signal(), question.asks, Signal(LENGTH_BITS)
        m.d.comb += [
            is_free.eq((~self.o.valid | self.o.ready) & (~self.order.valid | self.order.ready)),
            takes.eq(is_free & asked.valid & (self.judged.valid | ~asks)),
            asked.ready.eq(takes),
            self.judged.ready.eq(is_free & asked.valid & asks),
            offset.eq(Mux(judged.size != 0, judged.position - frame.position, 0)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.order.ready):
            m.d.sync += self.order.valid.eq(0)
        with m.If(takes):
            m.d.sync += [
                self.o.valid.eq(1),
                *(decision[name].eq(frame[name]) for name in (
                    "word", "length", "checked", "has_flow", "flow", "coalesce", "headers", "payload", "flags")),
                decision.is_fence.eq(question.what.is_fence),
                decision.ring.eq(Mux(question.what.is_fence, question.what.ring, frame.has_flow & frame.ring)),
                decision.position.eq(Mux(question.what.is_fence, question.what.cookie, frame.position)),
                decision.split.eq(frame.has_flow & frame.split),
                decision.deferred.eq(Mux(asks, ~judged.whole, question.deferred)),
                decision.placed_offset.eq(Mux(asks, offset, 0)),
                decision.placed.eq(Mux(asks, judged.size, 0)),
                decision.old.eq(Mux(asks, judged.old, question.old)),
                decision.no_segment.eq(asks & ~judged.whole & covered.no_segment),
                decision.conflict.eq(asks & ~judged.whole & judged.conflict),
                decision.no_interval.eq(asks & ~judged.whole & judged.no_interval),
                decision.bad_region.eq(asks & covered.bad_region),
                self.order.valid.eq(asks),
                order.position.eq(judged.position),
                order.size.eq(judged.size),
                order.word.eq(frame.word),
                order.offset.eq(frame.headers + offset),
                Assert(~asks | (offset + judged.size <= frame.payload), "more is granted than the frame has"),
            ]
