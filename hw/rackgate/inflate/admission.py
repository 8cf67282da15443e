# SPDX-License-Identifier: Apache-2.0
"""Keeps the copier within bounds: of the window, of the output so far, and of the destination."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.contexts import ContextStore
from rackgate.inflate.entry import Entry, Kind, Mark
from rackgate.inflate.intake import Intake
from rackgate.inflate.steps import (
    RECENT,
    ContextResult,
    Operation,
    check_contexts,
    check_window,
    state_layout,
    step_layout,
)

__all__ = ["Admission"]


class Admission(wiring.Component):
    """Turn entries into steps that are safe to carry out, and end every run with a result.

    Keeps for each context: where the next byte goes, how many bytes may be referred to, how much room the
    destination has. One entry a cycle, latency two cycles; a change of context, an entry that overflows and
    the bytes that a resumed job repeats cost a few cycles more.

    A match that reaches too far back is dropped with the rest of its run. Of an entry that does not fit,
    the bytes that do are delivered, none if the job wants ``whole`` entries; the rest of the run is dropped. The job
    that goes on there gets that
    entry once more, perhaps grouped with others: as many bytes as were delivered are then skipped. They are
    in the history already, so they are not written again.

    An entry is checked against the state that the entry before it leaves. To keep the checks out of that
    loop, the state is updated as if all were well while they are made; what they found is in registers
    beside the step, and a step that may not go on undoes its update in the next cycle.

    Parameters
    ----------
    contexts:
        How many contexts, 1 to 8. The context may change where no run is under way.
    window:
        Window in bytes, a power of two.

    Members
    -------
    i:
        Entries. ``ready`` depends on ``o.ready``.
    o:
        Steps; their total never exceeds the room that a START gave.
    o_result:
        One result for each MARK.
    fault:
        Per context: the rest of the run under way is being dropped. Falls as its MARK is passed on.

    Reset forgets all contexts: nothing can be referred to and there is no room, whatever the memories hold.
    """

    i: stream.Interface
    o: stream.Interface
    o_result: stream.Interface

    def __init__(self, *, contexts, window):
        self.contexts = check_contexts(contexts)
        self.window = check_window(window)
        super().__init__({
            "i": In(stream.Signature(Entry)),
            "o": Out(stream.Signature(step_layout(self.window))),
            "o_result": Out(stream.Signature(ContextResult)),
            "fault": Out(self.contexts),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._intake = Intake(window=self.window)
        self._state = Signal(state_layout(self.window))
        self._context = Signal(3)
        # The step, what the checks found about it, and the state from before it.
        self._has_step = Signal()
        self._step = Signal(step_layout(self.window))
        self._check = Signal(data.StructLayout({
            "is_mark": 1, "is_end": 1, "is_bad": 1, "is_far": 1, "is_over": 1, "have": len(self._state.have),
            "room": 32, "given": 10, "bits": 7, "mark": Mark, "error": 8,
        }))
        # Of the run under way.
        self._in_run = Signal()
        self._bits = Signal(32)
        self._is_faulted = Signal()
        self._is_overflow = Signal()
        self._error = Signal(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.intake = intake = self._intake
        m.submodules.store = store = ContextStore(self._state.shape(), contexts=self.contexts)
        wiring.connect(m, wiring.flipped(self.i), intake.i)
        entry, state, check = intake.entry, self._state, self._check
        is_here = Signal()
        is_bytes = Signal()
        has_skip = Signal()
        is_dropped = Signal()
        move = Signal()
        leave = Signal()
        is_refused = check.is_bad | check.is_over
        is_after_mark = self._has_step & check.is_mark  # what is in the intake belongs to no run or the next
        m.d.comb += [
            is_here.eq(intake.valid & (entry.context == self._context)),
            is_bytes.eq((entry.kind == Kind.TOKEN) | (entry.kind == Kind.RAW)),
            has_skip.eq(is_bytes & state.is_skipping & ~entry.is_empty),
            is_dropped.eq(self._is_faulted & ~is_after_mark),
            move.eq(is_here & ~(is_bytes & is_dropped) & ~has_skip & (~self._has_step | leave)),
            intake.take.eq(move | (is_here & is_bytes & is_dropped)),
            intake.trim.eq(is_here & has_skip & ~is_dropped),
            intake.skip.eq(state.skip),
            store.old.eq(self._context),
            store.new.eq(entry.context),
            store.i.eq(state),
            store.swap.eq(intake.valid & (entry.context != self._context) & ~self._has_step),
            # A MARK waits for the result before it to be gone, so that o.valid need not fall again.
            self.o.valid.eq(self._has_step & Mux(check.is_mark, check.is_end & ~self.o_result.valid, ~is_refused)),
            leave.eq(self._has_step & Mux(
                check.is_mark, (~check.is_end | self.o.ready) & ~self.o_result.valid, self.o.ready & ~is_refused)),
            self.o.payload.eq(self._step),
            self.fault.eq(self._is_faulted << self._context),
        ]
        with m.If(self.o_result.ready):
            m.d.sync += self.o_result.valid.eq(0)
        with m.If(leave):
            m.d.sync += self._has_step.eq(0)
            self._leave(m)
        with m.Elif(self._has_step & ~check.is_mark & check.is_bad):
            self._refuse(m)
        with m.Elif(self._has_step & ~check.is_mark & check.is_over):
            self._clip(m)

        with m.If(intake.trim):
            # That nothing is left to skip is noticed a cycle late; a cycle that trims nothing does no harm.
            m.d.sync += [state.skip.eq(state.skip - intake.trimmed), state.is_skipping.eq(state.skip != 0)]
        with m.If(store.swap):
            m.d.sync += [self._context.eq(entry.context), state.eq(store.o)]
            m.d.sync += Assert(~self._in_run, "the context changes within a run")
            m.d.sync += Assert(entry.context < self.contexts, "there is no such context")
        # A trim, a swap and a move never come together. Whether an entry moves is known last, so it stands last.
        with m.If(move):
            m.d.sync += self._has_step.eq(1)
            self._describe(m, entry, is_bytes, is_dropped)
            with m.If(entry.kind == Kind.START):
                self._start(m, entry)
                m.d.sync += Assert(~self._in_run | is_after_mark, "a job or member starts within a run")
            with m.Elif(is_bytes):
                self._advance(m, state.position, state.have, entry.total)
                m.d.sync += self._in_run.eq(1)
                with m.If(~state.quiet):
                    m.d.sync += state.room.eq(state.room - entry.total)
        return m

    def _describe(self, m, entry, is_bytes, is_dropped):
        """The step that the entry is, and what is found out about it."""
        step, check, state = self._step, self._check, self._state
        is_start, is_mark = entry.kind == Kind.START, entry.kind == Kind.MARK
        m.d.sync += [
            step.operation.eq(Mux(is_start, Operation.START, Mux(is_mark, Operation.END, Operation.BYTES))),
            step.context.eq(entry.context),
            step.quiet.eq(state.quiet),
            step.flags.eq(entry.flags),
            step.position.eq(Mux(is_start & _clears(entry.flags), 0, state.position)),
            step.source.eq(state.position - entry.distance),
            step.near.eq(entry.distance < RECENT),
            step.repeat.eq(Mux(entry.distance < 8, entry.distance, 0)),
            step.length.eq(entry.length),
            step.literals.eq(entry.literals),
            step.total.eq(entry.total),
            step.bytes.eq(entry.bytes),
            check.is_mark.eq(is_mark),
            check.is_end.eq(entry.final | (entry.mark != Mark.END_OF_BLOCK) | is_dropped),
            check.is_far.eq(entry.is_far),
            check.is_bad.eq((entry.length != 0) & (entry.is_far | (entry.distance > state.have))),
            check.is_over.eq(is_bytes & ~state.quiet & (entry.total > state.room)),
            check.have.eq(state.have),
            check.room.eq(state.room),
            check.given.eq(entry.given),
            check.bits.eq(entry.bits),
            check.mark.eq(entry.mark),
            check.error.eq(Mux(entry.mark == Mark.ERROR, entry.error, 0)),
        ]

    def _start(self, m, entry):
        state, room = self._state, Cat(entry.bytes)
        m.d.sync += state.quiet.eq(entry.flags.suppress)
        with m.If(entry.flags.new_job):
            m.d.sync += [state.room.eq(room), state.limit.eq(room), state.whole.eq(entry.flags.whole)]
        with m.If(_clears(entry.flags)):
            m.d.sync += [state.position.eq(0), state.have.eq(0), state.skip.eq(0), state.is_skipping.eq(0)]

    def _advance(self, m, position, have, total):
        """``total`` bytes follow on ``position`` and can be referred to; more than a window of them do not count."""
        m.d.sync += [
            self._state.position.eq(position + total),
            self._state.have.eq(Mux(have < self.window, have + total, have)),
        ]

    def _leave(self, m):
        """The step goes on; a MARK ends the run."""
        check, state, result = self._check, self._state, self.o_result.payload.result
        with m.If(check.is_mark):
            m.d.sync += [
                self.o_result.valid.eq(1),
                self.o_result.payload.context.eq(self._context),
                result.mark.eq(check.mark),
                result.overflow.eq(self._is_overflow),
                result.error.eq(Mux(self._is_faulted, self._error, check.error)),
                result.bits.eq(self._bits + Mux(self._is_faulted, 0, check.bits)),
                result.produced.eq(state.limit - state.room),
                self._bits.eq(0),
                self._in_run.eq(0),
                self._is_faulted.eq(0),
                self._is_overflow.eq(0),
                self._error.eq(0),
                Assert((check.mark != Mark.ABORT) | self._is_faulted, "a run was given up without a fault"),
            ]
        with m.Elif((self._step.operation == Operation.BYTES) & ~self._is_faulted):
            m.d.sync += self._bits.eq(self._bits + check.bits)
        m.d.sync += Assert(
            check.is_mark | self._step.quiet | (self._step.total <= check.room), "a step goes beyond the destination")

    def _refuse(self, m):
        check = self._check
        m.d.sync += [
            self._has_step.eq(0),
            self._state.position.eq(self._step.position),
            self._state.have.eq(check.have),
            self._state.room.eq(check.room),
            self._is_faulted.eq(1),
            self._error.eq(Mux(check.is_far, ErrorCode.DISTANCE_TOO_LARGE, ErrorCode.DISTANCE_BEFORE_START)),
        ]

    def _clip(self, m):
        """Shorten the step to the room left. What is skipped next time is all of the entry that was ever delivered."""
        step, check = self._step, self._check
        room = Mux(self._state.whole, 0, check.room[:len(step.total)])
        length = Mux(step.length < room, step.length, room)
        self._advance(m, step.position, check.have, room)
        m.d.sync += [
            step.length.eq(length),
            step.literals.eq(room - length),
            step.total.eq(room),
            check.is_over.eq(0),
            self._state.room.eq(Mux(self._state.whole, check.room, 0)),
            self._state.skip.eq(check.given + room),
            self._state.is_skipping.eq(1),
            self._is_faulted.eq(1),
            self._is_overflow.eq(1),
        ]


def _clears(flags):
    return flags.reset_history | flags.suppress
