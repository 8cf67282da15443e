# SPDX-License-Identifier: Apache-2.0
"""What one context of the sequencer is doing."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import COMMUNICATORS, Status
from rackgate.collective.records import Failure

__all__ = ["MOVES_PER_CONTEXT", "Context"]

#: Moves of a call that can be under way.
MOVES_PER_CONTEXT = 4


class Context(wiring.Component):
    """The life of a context's calls: free, running, being stopped, ended, and free again.

    A running context is ready when its next instruction may be fetched. That instruction lets it go on (``resume``),
    puts it to sleep until something has happened (``sleep``), or ends it. What ends a call first counts. If its moves
    have to be stopped, ``kill`` is raised as soon as no instruction and no move of the context are on their way, and
    kept until ``killed``. Reset: the context is free.

    Members
    -------
    start, status, communicator, is_collective:
        A call begins, or ends at once if its ``status`` is not SUCCESS. Only while ``is_free``.
    fetch, resume, sleep, wake:
        See above; ``wake`` is for all contexts that sleep.
    end, end_status, end_cause:
        The program ends of its own; ``end_stops``: its moves must be stopped.
    is_moving:
        An instruction or a move of the context is on its way.
    go, done:
        A move starts; one has ended.
    failed, failure, is_aborted, is_broken:
        Reasons for others to end the call: a move failed; the host wants it; the communicator has broken.
    killed:
        No move is left.
    answered:
        The call that ``has_ended`` has been reported.
    is_free, is_running, is_ready, has_ended:
        Its state.
    kill:
        Stop the moves.
    outstanding:
        Moves under way.
    result:
        How the call has ended.
    breaks:
        Communicators that this call's end breaks.
    """

    start: In(1)
    status: In(Status)
    communicator: In(range(COMMUNICATORS))
    is_collective: In(1)
    fetch: In(1)
    resume: In(1)
    sleep: In(1)
    wake: In(1)
    end: In(1)
    end_stops: In(1)
    end_status: In(Status)
    end_cause: In(4)
    is_moving: In(1)
    go: In(1)
    done: In(1)
    failed: In(1)
    failure: In(Failure)
    is_aborted: In(1)
    is_broken: In(COMMUNICATORS)
    killed: In(1)
    answered: In(1)
    is_free: Out(1)
    is_running: Out(1)
    is_ready: Out(1)
    has_ended: Out(1)
    kill: Out(1)
    outstanding: Out(range(MOVES_PER_CONTEXT + 1))
    result: Out(Failure)
    breaks: Out(COMMUNICATORS)

    def __init__(self):
        super().__init__()
        # Made here, not in elaborate, so that a proof can look at them.
        self._communicator, self._is_stopping = Signal(range(COMMUNICATORS)), Signal()

    def elaborate(self, platform):
        m = Module()
        is_running, may_fetch, sleeps = self.is_running, Signal(), Signal()
        m.d.comb += self.is_ready.eq(is_running & may_fetch)
        with m.If(self.fetch):
            m.d.sync += may_fetch.eq(0)
        with m.If(self.resume | self.sleep & self.wake | sleeps & self.wake):
            m.d.sync += [may_fetch.eq(1), sleeps.eq(0)]
        with m.Elif(self.sleep):
            m.d.sync += sleeps.eq(1)
        m.d.sync += self.outstanding.eq(self.outstanding + self.go - (self.done & is_running))
        communicator, is_collective = self._communicator, Signal()
        with m.FSM():
            with m.State("FREE"):
                m.d.comb += self.is_free.eq(1)
                m.d.sync += [may_fetch.eq(1), sleeps.eq(0), self.outstanding.eq(0)]
                with m.If(self.start):
                    m.d.sync += [
                        communicator.eq(self.communicator), is_collective.eq(self.is_collective),
                        self.result.eq(0), self.result.status.eq(self.status),
                    ]
                    m.next = "RUNNING"
                    with m.If(self.status != Status.SUCCESS):
                        m.next = "ENDED"
            with m.State("RUNNING"):
                m.d.comb += is_running.eq(1)
                self._run(m, communicator)
            with m.State("STOPPING"):
                m.d.comb += self._is_stopping.eq(1)
                with m.If(~self.is_moving):
                    m.next = "KILLING"
            with m.State("KILLING"):
                m.d.comb += self.kill.eq(1)
                with m.If(self.killed):
                    m.next = "ENDED"
            with m.State("ENDED"):
                m.d.comb += self.has_ended.eq(1)
                with m.If(self.answered):
                    m.next = "FREE"
        self._break(m, communicator, is_collective)
        m.d.sync += [
            Assert(~self.start | self.is_free, "a call begins in a context that has one"),
            Assert(~self.answered | self.has_ended, "a call is answered that has not ended"),
            Assert(~self.go | (self.outstanding != MOVES_PER_CONTEXT), "there are too many moves"),
            Assert(~(self.done & is_running) | (self.outstanding != 0), "a move has ended that was not started"),
            Assert(~(is_running & self.end & ~self.end_stops) | (self.outstanding == 0), "a call leaves moves behind"),
        ]
        return m

    def _run(self, m, communicator):
        """Whether the call ends now, and how."""
        result = self.result
        with m.If(self.end):
            m.d.sync += [result.status.eq(self.end_status), result.cause.eq(self.end_cause)]
            m.next = "ENDED"
            with m.If(self.end_stops):
                m.next = "STOPPING"
        with m.Elif(self.failed):
            m.d.sync += result.eq(self.failure)
            m.next = "STOPPING"
        with m.Elif(self.is_aborted):
            m.d.sync += result.status.eq(Status.ABORTED)
            m.next = "STOPPING"
        with m.Elif(self.is_broken.bit_select(communicator, 1)):
            m.d.sync += result.status.eq(Status.COMMUNICATOR_BROKEN)
            m.next = "STOPPING"

    def _break(self, m, communicator, is_collective):
        """A failed call breaks its communicator if it has started a move; a collective that was aborted always."""
        has_moved, breaks = Signal(), Signal()
        with m.If(self.go):
            m.d.sync += has_moved.eq(1)
        with m.If(self.start):
            m.d.sync += has_moved.eq(0)
        m.d.comb += breaks.eq(
            (self.kill | self.has_ended) & (self.result.status != Status.SUCCESS)
            & (has_moved | is_collective & (self.result.status == Status.ABORTED)))
        m.d.sync += self.breaks.eq(Mux(breaks, 1 << communicator, 0))
