# SPDX-License-Identifier: Apache-2.0
"""No byte of a stream is written twice: what has been placed, and what the transport has judged."""

import operator

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.records import FLOW_BITS, LENGTH_BITS, FlowUpdate, Judged
from rackgate.zeronic.rx.facts import Facts, compare, question_layout, state_layout
from rackgate.zeronic.rx.intervals import Intervals
from rackgate.zeronic.tables.search import check_flows

__all__ = ["Guard", "GuardRequest"]


class GuardRequest(data.Struct):
    """``size`` bytes of payload from ``position`` on came for ``flow``; those of them that a segment covers."""

    flow: FLOW_BITS
    position: 32
    size: LENGTH_BITS
    covered_start: 32
    covered_size: LENGTH_BITS


class Guard(wiring.Component):
    """Say which bytes of a frame may be written to memory: each byte of a stream once, and none before the cursor.

    Of what is covered, the answer is one range: from the first byte on that is not before the cursor and has not been
    granted, up to the next that has been. It counts as granted at once. Of a flow, all bytes from the cursor to its
    *low mark* have been granted, and those of some intervals behind it. If the range would be an interval of its own
    and all are used, nothing is granted (``no_interval``).

    Positions are compared by the sign of their difference: a byte up to 2**31 bytes before the cursor is before it. So
    a range that runs from behind the cursor up to what counts as before it is not granted (``conflict``).

    Timing: while a flow has no intervals, a request or update takes 2 cycles, and its answer comes after 4, whatever
    flow the one before it was of. A request with something new that begins behind the low mark takes 4 cycles more. If
    the flow has intervals, a request with something new, and an update that raises the low mark, take 4 cycles more,
    and one for each row in use: with one row of 8, a request takes 7 cycles, with four 10; if it reaches several
    intervals, 2 cycles more and one for each level of a tournament of a row (3 for 8). It holds up those behind it.
    Order is kept. An update goes before a request that comes at the same time.

    Reset forgets all, a flow a cycle.

    Parameters
    ----------
    flows:
        Their number, a power of two from 2 to 1024.
    intervals, row, position_bits:
        See :class:`~rackgate.zeronic.rx.intervals.Intervals`.

    Members
    -------
    request:
        A frame. What is covered must lie in it, and be smaller than a quarter of all positions.
    o:
        Of each: what may be written. ``whole`` also if it has no payload. The position means nothing if the size is 0.
    update:
        The cursor goes on; with ``begin`` it is set, and all that was granted is forgotten. Ready when it is applied:
        a request that is taken in a later cycle sees it.
    ready:
        All is forgotten after reset. Before that nothing is taken.
    """

    request: stream.Interface
    o: stream.Interface
    update: stream.Interface

    def __init__(self, flows: int, intervals: int, *, row: int = 8, position_bits: int = 32):
        self.flows, self.position_bits = check_flows(flows), operator.index(position_bits)
        if not 4 <= self.position_bits <= 32:
            raise ValueError(f"position_bits must be 4 to 32, not {position_bits}")
        self._intervals = Intervals(self.flows, intervals, row=row, position_bits=self.position_bits)
        super().__init__({
            "request": In(stream.Signature(GuardRequest)), "o": Out(stream.Signature(Judged)),
            "update": In(stream.Signature(FlowUpdate)), "ready": Out(1),
        })
        state = state_layout(self._intervals.intervals, self.position_bits)
        question = question_layout(self.flows, self.position_bits)
        self._memory = Memory(shape=state, depth=self.flows, init=[])
        self._write_port = self._memory.write_port()
        self._read_port = self._memory.read_port(transparent_for=[self._write_port])
        self._waiting, self._has_waiting = Signal(GuardRequest), Signal()  # a request that has not come so far
        # What came, while the memory reads the state; with its ends, and the state; with what was compared.
        self._came, self._has_came = Signal(question), Signal()
        self._size, self._covered = Signal(LENGTH_BITS), Signal(LENGTH_BITS)
        self._asked, self._has_asked, self._asked_state = Signal(question), Signal(), Signal(state)
        self._judged, self._has_judged, self._judged_state = Signal(question), Signal(), Signal(state)
        self._facts, self._low_size = Signal(Facts), Signal(LENGTH_BITS)
        self._answers = SkidBuffer(Judged)
        self._is_updating = Signal()  # what is on offer at ``update`` is in one of the stages
        self._was_judged = Signal()  # what is judged was so in the cycle before
        self._finishes = Signal()  # what is judged is done with

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory, m.submodules.intervals, m.submodules.answers = self._memory, self._intervals, self._answers
        wiring.connect(m, self._answers.o, wiring.flipped(self.o))
        write, read = self._write_port, self._read_port
        came, asked, judged = self._came, self._asked, self._judged
        new, goes, takes, finishes = Signal.like(self._judged_state), Signal(), Signal(), self._finishes
        # A question reads the state when it is taken, and gets what the one before it makes of it: so it waits for it.
        m.d.comb += [
            goes.eq(self._has_came & ~self._has_asked & (~self._has_judged | finishes)),
            takes.eq(self.ready & (~self._has_came | goes)),
            write.addr.eq(judged.flow), write.data.eq(new), write.en.eq(finishes),
        ]
        self._take(m, takes, read)
        with m.If(goes):
            m.d.sync += [
                asked.eq(came),
                asked.end.eq(came.position + self._size), asked.stop.eq(came.start + self._covered),
                self._asked_state.eq(Mux(finishes & (judged.flow == came.flow), new.as_value(), read.data.as_value())),
            ]
        m.d.sync += [
            self._has_asked.eq(goes),
            self._has_judged.eq(self._has_asked | self._has_judged & ~finishes),
        ]
        look = self._intervals.look
        m.d.comb += [
            look.valid.eq(self._has_asked), look.payload.flow.eq(asked.flow),
            look.payload.used.eq(self._asked_state.used),
        ]
        with m.If(self._has_asked):
            m.d.sync += [
                judged.eq(asked), self._judged_state.eq(self._asked_state),
                *(self._facts[name].eq(value) for name, value in compare(asked, self._asked_state).items()),
                self._low_size.eq((asked.stop - self._asked_state.low)[:self.position_bits]),
            ]
        self._finish(m, new)

        cleared = Signal(range(self.flows))
        with m.If(~self.ready):
            m.d.comb += [write.addr.eq(cleared), write.data.eq(0), write.en.eq(1)]
            m.d.sync += [cleared.eq(cleared + 1), self.ready.eq(cleared == self.flows - 1)]
        return m

    def _take(self, m, takes, read):
        """Take an update, or else a request; a request that cannot go on yet waits here, before later updates."""
        update, request, is_update = self.update.payload, Signal(GuardRequest), Signal()
        m.d.comb += [
            request.eq(Mux(self._has_waiting, self._waiting.as_value(), self.request.payload.as_value())),
            is_update.eq(self.update.valid & ~self._is_updating & ~self._has_waiting),
            self.request.ready.eq(self.ready & ~self._has_waiting & ~is_update),
            read.en.eq(takes), read.addr.eq(Mux(is_update, update.flow, request.flow)),
        ]
        m.d.sync += self._has_waiting.eq(~takes & (self._has_waiting | self.request.valid & self.request.ready))
        with m.If(self.request.ready):
            m.d.sync += self._waiting.eq(self.request.payload)
        with m.If(takes):
            came = self._came
            m.d.sync += [
                self._has_came.eq(is_update | self._has_waiting | self.request.valid),
                came.is_update.eq(is_update), came.begin.eq(update.begin), came.flow.eq(read.addr),
                came.position.eq(request.position), came.start.eq(Mux(is_update, update.cursor, request.covered_start)),
                came.has_payload.eq(request.size != 0), came.has_covered.eq(request.covered_size != 0),
                self._size.eq(request.size), self._covered.eq(request.covered_size),
            ]
            with m.If(is_update):
                m.d.sync += self._is_updating.eq(1)

    def _finish(self, m, new):
        """Change the state, with the help of the intervals if need be, and answer."""
        question, state, facts = self._judged, self._judged_state, self._facts
        change, outcome = self._intervals.i, self._intervals.o
        finishes = self._finishes
        m.d.comb += [
            change.valid.eq(self._has_judged & facts.needs & ~self._was_judged),
            change.payload.raises.eq(question.is_update), change.payload.low.eq(state.low),
            change.payload.mark.eq(Mux(facts.at_low, state.low, question.start)),
            change.payload.end.eq(question.stop), change.payload.at_low.eq(facts.at_low),
            finishes.eq(self._has_judged & (question.is_update | self._answers.i.ready)
                        & (~facts.needs | outcome.valid)),
            outcome.ready.eq(finishes),
            new.eq(state),
        ]
        m.d.sync += self._was_judged.eq(self._has_judged & ~finishes)

        with m.If(facts.needs):
            m.d.comb += [new.used.eq(outcome.payload.used), new.low.eq(outcome.payload.low)]
        with m.Elif(facts.raises | facts.is_new):
            m.d.comb += new.low.eq(Mux(question.is_update, question.start, question.stop))
        with m.If(facts.sets_cursor):
            m.d.comb += new.cursor.eq(question.start)
        with m.If(question.is_update & question.begin):
            m.d.comb += [new.low.eq(question.start), new.used.eq(0)]

        m.d.comb += self.update.ready.eq(finishes & question.is_update)
        with m.If(self.update.ready):
            m.d.sync += self._is_updating.eq(0)
        m.d.comb += self._answers.i.valid.eq(finishes & ~question.is_update)
        self._answer(m)

    def _answer(self, m):
        """What may be written, and what is to be said of the rest."""
        facts, outcome, o = self._facts, self._intervals.o.payload, self._answers.i.payload
        has_all, is_refused = Signal(), Signal()  # all that is new is granted; there is no place for an interval
        m.d.comb += [
            is_refused.eq(facts.needs & outcome.no_room),
            has_all.eq(facts.is_new & (~facts.needs | outcome.is_all)),
            o.position.eq(Mux(facts.needs, outcome.first, self._judged_state.low)),
            o.size.eq(Mux(facts.needs, outcome.size, Mux(facts.is_new, self._low_size, 0))),
            o.whole.eq(facts.is_done | has_all & facts.fills),
            o.old.eq(facts.is_old),
            o.conflict.eq(facts.wants & ~is_refused & ~(has_all & facts.covers)),
            o.no_interval.eq(is_refused),
        ]
