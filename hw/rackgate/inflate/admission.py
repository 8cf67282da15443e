# SPDX-License-Identifier: Apache-2.0
"""Keeps the copier within bounds: of the window, of the output so far, and of the destination."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.entry import Entry, Kind, Mark, Start
from rackgate.inflate.steps import (
    RECENT,
    ContextResult,
    Operation,
    check_contexts,
    check_window,
    have_shape,
    step_layout,
)

__all__ = ["Admission"]


class Pending(data.Struct):
    """The entry under consideration; ``length`` is zero without a match, ``given`` bytes of it were skipped."""

    kind: Kind
    context: 3
    bits: 7
    flags: Start
    length: 9
    distance: 16
    is_far: 1
    literals: 3
    total: 10
    given: 10
    bytes: data.ArrayLayout(8, 4)
    mark: Mark
    final: 1
    error: 8


class Admission(wiring.Component):
    """Turn entries into steps that are safe to carry out, and end every run with a result.

    Keeps for each context: where the next byte goes, how many bytes may be referred to, how much room the
    destination has. One entry a cycle, latency one cycle; a change of context, an entry that overflows and
    the bytes that a resumed job repeats cost a few cycles.

    A match that reaches too far back is dropped with the rest of its run. Of an entry that does not fit,
    the bytes that do are delivered; the rest of the run is dropped. The job that goes on there gets that
    entry once more, perhaps grouped with others: as many bytes as were delivered are then skipped. They are
    in the history already, so they are not written again.

    Parameters
    ----------
    contexts:
        How many contexts, 1 to 8. The context may change where no run is under way.
    window:
        Window in bytes, a power of two.

    Members
    -------
    i:
        Entries. ``ready`` depends on ``o.ready`` and on the entry taken before.
    o:
        Steps; their total never exceeds the room that a START gave.
    o_result:
        One result for each MARK.
    fault:
        Per context: the rest of the run under way is being dropped. Falls as its MARK is taken.

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
        # State is made here, not in elaborate, so that proofs can speak of it.
        self._entry = Signal(Pending)
        self._is_valid = Signal()
        self._state = Signal(data.StructLayout({
            "position": ceil_log2(self.window), "have": have_shape(self.window), "room": 32, "limit": 32, "skip": 10, "quiet": 1,
        }))
        self._context = Signal(3)
        self._known = Signal(self.contexts)  # has state in the memory
        self._bits = Signal(32)
        self._in_run = Signal()
        self._is_faulted = Signal()
        self._is_overflow = Signal()
        self._error = Signal(8)

    def elaborate(self, platform):
        m = Module()
        entry, state = self._entry, self._state
        consume, swap, is_bad, is_over, has_skip = Signal(), Signal(), Signal(), Signal(), Signal()
        self._take(m, consume)
        self._switch(m, swap)
        m.d.comb += [
            is_bad.eq((entry.length != 0) & (entry.is_far | (entry.distance > state.have))),
            is_over.eq((entry.total > state.room) & ~state.quiet),
            has_skip.eq((state.skip != 0) & (entry.total != 0)),
            self.fault.eq(self._is_faulted << self._context),
        ]
        with m.If(self.o_result.ready):
            m.d.sync += self.o_result.valid.eq(0)
        self._describe(m)

        with m.FSM():
            with m.State("FLOW"):
                with m.If(self._is_valid & (entry.context != self._context)):
                    m.d.comb += swap.eq(1)
                with m.Elif(self._is_valid & (entry.kind == Kind.START)):
                    m.d.comb += [self.o.valid.eq(1), consume.eq(self.o.ready)]
                    self._start(m, consume)
                with m.Elif(self._is_valid & (entry.kind == Kind.MARK)):
                    self._mark(m, consume)
                with m.Elif(self._is_valid & (self._is_faulted | is_bad)):
                    m.d.comb += consume.eq(1)
                    with m.If(~self._is_faulted):
                        code = Mux(entry.is_far, ErrorCode.DISTANCE_TOO_LARGE, ErrorCode.DISTANCE_BEFORE_START)
                        m.d.sync += [self._is_faulted.eq(1), self._error.eq(code)]
                with m.Elif(self._is_valid & has_skip):
                    m.next = "SKIP"
                with m.Elif(self._is_valid & is_over):
                    m.next = "CLIP"
                with m.Elif(self._is_valid):
                    m.d.comb += [self.o.valid.eq(1), consume.eq(self.o.ready)]
                    with m.If(consume):
                        m.d.sync += self._bits.eq(self._bits + entry.bits)
                        self._advance(m)
            with m.State("SKIP"):
                self._skip(m)
                with m.If((state.skip == 0) | (entry.total == 0)):
                    m.next = "FLOW"
            with m.State("CLIP"):
                self._clip(m)
                m.next = "CLIPPED"
            with m.State("CLIPPED"):
                m.d.comb += [self.o.valid.eq(1), consume.eq(self.o.ready)]
                with m.If(consume):
                    self._advance(m)
                    m.next = "FLOW"
        return m

    def _take(self, m, consume):
        """The register that entries pass; what the checks need to know of an entry is worked out before it."""
        i, entry = self.i.payload, self._entry
        has_bytes = (i.kind == Kind.TOKEN) | (i.kind == Kind.RAW)
        length = Mux((i.kind == Kind.TOKEN) & i.has_match, i.length, 0)
        literals = Mux(has_bytes, i.literals, 0)
        m.d.comb += self.i.ready.eq(~self._is_valid | consume)
        with m.If(self.i.ready):
            m.d.sync += [
                self._is_valid.eq(self.i.valid),
                entry.length.eq(length),
                entry.literals.eq(literals),
                entry.total.eq(length + literals),
                entry.given.eq(0),
                entry.flags.eq(i.length),
                entry.is_far.eq(i.distance > self.window),
            ]
            for name in ("kind", "context", "bits", "distance", "bytes", "mark", "final", "error"):
                m.d.sync += getattr(entry, name).eq(getattr(i, name))
        with m.If(self._is_valid & (entry.length != 0)):
            m.d.sync += Assert(entry.distance != 0, "a match copies from no distance")

    def _switch(self, m, swap):
        """Exchange the state of the old context and the new one's. What is only of use in a run stays."""
        m.submodules.states = states = Memory(shape=self._state.shape(), depth=self.contexts, init=[])
        r_port, w_port = states.read_port(domain="comb"), states.write_port()
        m.d.comb += [
            r_port.addr.eq(self._entry.context),
            w_port.addr.eq(self._context),
            w_port.data.eq(self._state),
            w_port.en.eq(swap),
        ]
        with m.If(self._is_valid & ((self._entry.kind == Kind.TOKEN) | (self._entry.kind == Kind.RAW))):
            m.d.sync += self._in_run.eq(1)
        with m.If(swap):
            is_known = self._known.bit_select(self._entry.context, 1)
            m.d.sync += [
                self._context.eq(self._entry.context),
                self._known.eq(self._known | (1 << self._context)),
                self._state.eq(Mux(is_known, r_port.data, 0)),
                Assert(~self._in_run, "the context changes within a run"),
                Assert(self._entry.context < self.contexts, "there is no such context"),
            ]

    def _describe(self, m):
        """The step that stands for the entry, should it be one."""
        entry, step, state = self._entry, self.o.payload, self._state
        is_start = entry.kind == Kind.START
        m.d.comb += [
            step.operation.eq(Mux(is_start, Operation.START, Mux(entry.kind == Kind.MARK, Operation.END, Operation.BYTES))),
            step.context.eq(entry.context),
            step.quiet.eq(state.quiet),
            step.flags.eq(entry.flags),
            step.position.eq(Mux(is_start & self._clears(), 0, state.position)),
            step.source.eq(state.position - entry.distance),
            step.near.eq(entry.distance < RECENT),
            step.repeat.eq(Mux(entry.distance < 8, entry.distance, 0)),
            step.length.eq(entry.length),
            step.literals.eq(entry.literals),
            step.total.eq(entry.total),
            step.bytes.eq(entry.bytes),
        ]

    def _clears(self):
        return self._entry.flags.reset_history | self._entry.flags.suppress

    def _start(self, m, consume):
        flags, state = self._entry.flags, self._state
        m.d.sync += Assert(~self._in_run, "a job or member starts within a run")
        with m.If(consume):
            m.d.sync += state.quiet.eq(flags.suppress)
            with m.If(flags.new_job):
                room = Cat(self._entry.bytes)
                m.d.sync += [state.room.eq(room), state.limit.eq(room)]
            with m.If(self._clears()):
                m.d.sync += [state.position.eq(0), state.have.eq(0), state.skip.eq(0)]

    def _mark(self, m, consume):
        """End the run, and the segment if nothing follows on: only a block that is not the last one leads to another."""
        entry, state, result = self._entry, self._state, self.o_result.payload
        is_end = entry.final | (entry.mark != Mark.END_OF_BLOCK) | self._is_faulted
        m.d.comb += [
            self.o.valid.eq(is_end & ~self.o_result.valid),
            consume.eq((~is_end | self.o.ready) & ~self.o_result.valid),
        ]
        m.d.sync += Assert((entry.mark != Mark.ABORT) | self._is_faulted, "a run was given up without a fault")
        own_error = Mux(entry.mark == Mark.ERROR, entry.error, 0)
        with m.If(consume):
            m.d.sync += [
                self.o_result.valid.eq(1),
                result.context.eq(entry.context),
                result.result.mark.eq(entry.mark),
                result.result.overflow.eq(self._is_overflow),
                result.result.error.eq(Mux(self._is_faulted, self._error, own_error)),
                result.result.bits.eq(self._bits + Mux(self._is_faulted, 0, entry.bits)),
                result.result.produced.eq(state.limit - state.room),
                self._bits.eq(0),
                self._in_run.eq(0),
                self._is_faulted.eq(0),
                self._is_overflow.eq(0),
                self._error.eq(0),
            ]

    def _advance(self, m):
        """Account for the bytes of the step that is being passed on."""
        state, total = self._state, self._entry.total
        m.d.sync += [
            state.position.eq(state.position + total),
            Assert(state.quiet | (total <= state.room), "a step goes beyond the destination"),
        ]
        with m.If(state.have < self.window):
            m.d.sync += state.have.eq(state.have + total)
        with m.If(~state.quiet):
            m.d.sync += state.room.eq(state.room - total)

    def _skip(self, m):
        """Take bytes that an earlier job delivered off the front: a match in one cycle, literals one by one."""
        entry, state = self._entry, self._state
        count = Mux(state.skip < entry.length, state.skip, entry.length)
        with m.If((state.skip != 0) & (entry.length != 0)):
            m.d.sync += [
                entry.length.eq(entry.length - count),
                entry.total.eq(entry.total - count),
                entry.given.eq(entry.given + count),
                state.skip.eq(state.skip - count),
            ]
        with m.Elif((state.skip != 0) & (entry.literals != 0)):
            m.d.sync += [
                entry.literals.eq(entry.literals - 1),
                Cat(entry.bytes).eq(Cat(entry.bytes)[8:]),
                entry.total.eq(entry.total - 1),
                entry.given.eq(entry.given + 1),
                state.skip.eq(state.skip - 1),
            ]

    def _clip(self, m):
        """Shorten the entry to the room left. What is skipped next time is all of it that was ever delivered."""
        entry, state = self._entry, self._state
        room = state.room[:len(entry.total)]
        length = Mux(entry.length < room, entry.length, room)
        m.d.sync += [
            entry.length.eq(length),
            entry.literals.eq(room - length),
            entry.total.eq(room),
            state.skip.eq(entry.given + room),
            self._is_overflow.eq(1),
            self._is_faulted.eq(1),
            Assert(state.room < entry.total, "an entry that fits is clipped"),
        ]
