# SPDX-License-Identifier: Apache-2.0
"""What becomes of a frame."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.queue import Queue
from rackgate.zeronic.records import FLOW_BITS, LENGTH_BITS, Ending, Judged
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
    ending: Ending


class Decider(wiring.Component):
    """Ask the guard for what memory was found for, and tell those behind what becomes of each frame.

    Here a frame's end meets what was found for its headers. Of a frame that is dropped the guard is not asked, its
    pieces are taken away by an order of size 0, and there is no decision.

    One frame a cycle, while those that were asked answer. The guard is asked in the cycle in which all is known;
    latency 1 cycle from its answer, and 2 for a frame of which nothing is asked. ``i.ready``, ``covered.ready`` and
    ``endings.ready`` depend combinationally on each other's ``valid`` and on ``guard.ready``; ``judged.ready`` on
    ``order.ready`` and ``o.ready``. Reset forgets the frames under way.

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
    endings:
        Of each frame, in order (:class:`~rackgate.zeronic.records.Ending`).
    guard:
        For each that ``asks`` and is kept (:class:`GuardRequest`).
    judged:
        The guard's answers, in order (:class:`~rackgate.zeronic.records.Judged`).
    order:
        What of their pieces may be written (:class:`~.records.TrimOrder`).
    o:
        Each fence, and each frame that is kept, in order (:class:`~.records.Decision`).
    unknown_flow:
        For a cycle: a frame was kept whose payload may not be placed.
    """

    i: stream.Interface
    covered: stream.Interface
    endings: stream.Interface
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
            "endings": In(stream.Signature(Ending)),
            "guard": Out(stream.Signature(GuardRequest)),
            "judged": In(stream.Signature(Judged)),
            "order": Out(stream.Signature(TrimOrder)),
            "o": Out(stream.Signature(Decision)),
            "unknown_flow": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.asked = asked = Queue(_Asked, depth=self.frames, block_ram=False)
        self._ask(m, asked.i)
        self._decide(m, asked.o)
        return m

    def _ask(self, m, asked):
        question, covered, guard, ending = (port.payload for port in (self.i, self.covered, self.guard, self.endings))
        frame, is_frame, is_known, asks = question.what.frame, ~question.what.is_fence, Signal(), Signal()
        m.d.comb += [
            is_known.eq(self.i.valid & (self.covered.valid | ~question.asks) & (self.endings.valid | ~is_frame)),
            asks.eq(question.asks & ending.keep),
            self.guard.valid.eq(is_known & asks & asked.ready),
            guard.flow.eq(frame.flow),
            guard.position.eq(frame.position),
            guard.size.eq(frame.payload),
            guard.covered_start.eq(question.start),
            guard.covered_size.eq(covered.covered),
            asked.valid.eq(is_known & (self.guard.ready | ~asks)),
            asked.payload.question.eq(question),
            asked.payload.covered.eq(covered),
            asked.payload.ending.eq(ending),
            self.i.ready.eq(asked.valid & asked.ready),
            self.covered.ready.eq(self.i.ready & question.asks),
            self.endings.ready.eq(self.i.ready & is_frame),
            self.unknown_flow.eq(self.endings.ready & ending.keep & ~(frame.has_flow & frame.split)),
        ]

    def _decide(self, m, asked):
        question, covered, ending, judged = (asked.payload.question, asked.payload.covered, asked.payload.ending,
                                             self.judged.payload)
        frame, order, decision = question.what.frame, self.order.payload, self.o.payload
        is_free, takes, asks, offset = Signal(), Signal(), question.asks & ending.keep, Signal(LENGTH_BITS)
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
                self.o.valid.eq(question.what.is_fence | ending.keep),
                decision.word.eq(ending.word), decision.length.eq(ending.length),
                *(decision[name].eq(frame[name]) for name in (
                    "checked", "has_flow", "flow", "coalesce", "headers", "payload", "flags")),
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
                self.order.valid.eq(question.asks),
                order.position.eq(judged.position),
                order.size.eq(Mux(ending.keep, judged.size, 0)),
                order.word.eq(ending.word),
                order.offset.eq(frame.headers + offset),
                Assert(~asks | (offset + judged.size <= frame.payload), "more is granted than the frame has"),
            ]
