# SPDX-License-Identifier: Apache-2.0
"""One context's use of the shared pipe: entries and runs go in, results and checksums come back."""

from amaranth.hdl import Module, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.entry import Entry, Kind, Mark, Result, Run, Start, Stop, Summary
from rackgate.inflate.stored import Stored

__all__ = ["RunTask", "Runner", "check_context"]


def check_context(context):
    """``context``, if it is the number of one. Raises ``ValueError`` if not."""
    if context not in range(8):
        raise ValueError(f"context must be 0 to 7, not {context!r}")
    return context


class RunTask(enum.Enum, shape=2):
    """What a :class:`Runner` is to do."""

    BODY = 0  # a compressed block, whose tables are ready
    STORED = 1  # a stored block
    LOAD = 2  # a dictionary: all of the source
    CLOSE = 3  # the job ends here


class Runner(wiring.Component):
    """Have one block carried out by the shared pipe, from getting the lock to the last report.

    A task begins with ``start`` and ends with one cycle of ``done``. In between come at most one cycle of
    ``has_result``, in which ``result`` says how far the run got, and at most one of ``has_summary``. The pipe sends a
    summary after a final block and after a run that did not reach the end of its block, so bytes of earlier blocks
    may still be on their way when a job ends at a block header: CLOSE then sends an empty run, to get them
    out and counted. It also gives the lock back.

    The lock is asked for with ``want`` when the first task of a job begins, and is given back as soon as no
    further entry of the job can follow: after a run that fell short, or the final block if not ``keep``.

    Streams keep their rules; ``take`` depends combinationally on ``level``. Reset forgets the task; there is no
    memory.

    Parameters
    ----------
    context : int
        Number of the context, 0 to 7, put into entries and runs.

    Members
    -------
    start, task, final, keep, failed : In
        Begin; what; is the block its stream's last; may another member follow; is a CLOSE due to an error.
        Stable until ``done``.
    begin, room, begun
        Flags of the START entry to send before the next run, none if all are zero; room in the destination;
        a cycle in which they have been sent.
    want, grant, fault, o_entry, o_run, i_stop, i_outcome, i_summary
        The shared pipe.
    set_length, length, retire, left
        See :class:`~rackgate.inflate.stored.Stored`.
    window, level, exhausted, primed, position, end, take, consume, restart, restart_position
        The input buffer.

    Raises
    ------
    ValueError
        If ``context`` is not 0 to 7.
    """

    def __init__(self, *, context: int):
        self.context = check_context(context)
        super().__init__({
            "start": In(1), "task": In(RunTask), "final": In(1), "keep": In(1), "failed": In(1),
            "begin": In(Start), "room": In(32), "begun": Out(1),
            "set_length": In(1), "length": In(16), "retire": In(1), "left": Out(16),
            "want": Out(1), "grant": In(1), "fault": In(1),
            "o_entry": Out(stream.Signature(Entry)),
            "o_run": Out(stream.Signature(Run)),
            "i_stop": In(stream.Signature(Stop)),
            "i_outcome": In(stream.Signature(Result)),
            "i_summary": In(stream.Signature(Summary)),
            "window": In(32), "level": In(6), "exhausted": In(1), "primed": In(1), "position": In(32), "end": In(32),
            "take": Out(1), "consume": Out(6), "restart": Out(1), "restart_position": Out(32),
            "result": Out(Result), "has_result": Out(1), "has_summary": Out(1), "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.stored = stored = Stored()
        is_open = Signal()  # bytes may be on their way that no summary has covered
        task, outcome = self.task, self.i_outcome
        m.d.comb += [
            stored.whole.eq(task == RunTask.LOAD), stored.final.eq(self.final), stored.fault.eq(self.fault),
            stored.set_length.eq(self.set_length), stored.length.eq(self.length),
            stored.retire.eq(self.retire), stored.bits.eq(outcome.p.bits), self.left.eq(stored.left),
            stored.window.eq(self.window), stored.level.eq(self.level), stored.exhausted.eq(self.exhausted),
            self.take.eq(stored.take), self.consume.eq(stored.consume),
            self.o_run.p.context.eq(self.context), self.o_run.p.position.eq(self.position),
            self.o_run.p.end.eq(self.end), self.o_run.p.final.eq(self.final),
            self.restart_position.eq(self.i_stop.p.position),
            self.result.eq(outcome.p),
        ]

        def stop(mark):
            """The run's MARK is on its way: give the lock back unless more of this job can follow."""
            complete = mark == Mark.END_OF_BLOCK
            with m.If(~complete | (task == RunTask.LOAD) | (self.final & ~self.keep)):
                m.d.sync += self.want.eq(0)
            m.next = "RESULT"

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    with m.If(task != RunTask.CLOSE):
                        m.d.sync += self.want.eq(1)
                        m.next = "LOCK"
                    with m.Elif(is_open):
                        m.next = "CLOSE"
                    with m.Else():
                        m.d.sync += self.want.eq(0)
                        m.next = "DONE"
            with m.State("LOCK"):
                # Those who take bits say how many before these are there: not before the window is filled.
                with m.If(self.grant & self.primed):
                    m.d.sync += is_open.eq(1)
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                self._send_start(m)
                with m.If(self.o_entry.ready | ~self.begin.as_value().any()):
                    m.d.comb += stored.start.eq(task != RunTask.BODY)
                    m.next = "STORED"
                    with m.If(task == RunTask.BODY):
                        m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.o_run.valid.eq(1)
                with m.If(self.o_run.ready):
                    m.next = "BODY"
            with m.State("BODY"):
                m.d.comb += self.i_stop.ready.eq(1)
                m.d.comb += self.restart.eq(self.i_stop.valid & (self.i_stop.p.mark == Mark.END_OF_BLOCK))
                with m.If(self.i_stop.valid):
                    stop(self.i_stop.p.mark)
            with m.State("STORED"):
                m.d.comb += [
                    self.o_entry.p.eq(stored.o.p), self.o_entry.valid.eq(stored.o.valid),
                    stored.o.ready.eq(self.o_entry.ready),
                ]
                with m.If(stored.done):
                    stop(stored.mark)
            with m.State("CLOSE"):
                self._send_close(m)
                with m.If(self.o_entry.ready):
                    m.d.sync += self.want.eq(0)
                    m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += [outcome.ready.eq(1), self.has_result.eq(outcome.valid & (task != RunTask.CLOSE))]
                ends = (outcome.p.mark != Mark.END_OF_BLOCK) | outcome.p.overflow | outcome.p.error.any()
                with m.If(outcome.valid):
                    m.next = "DONE"
                    with m.If(ends | self.final | (task == RunTask.LOAD)):
                        m.next = "SUMMARY"
            with m.State("SUMMARY"):
                m.d.comb += [self.i_summary.ready.eq(1), self.has_summary.eq(self.i_summary.valid)]
                with m.If(self.i_summary.valid):
                    m.d.sync += is_open.eq(0)
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        m.d.comb += self.o_entry.p.context.eq(self.context)
        return m

    def _send_start(self, m):
        flags = self.begin.as_value()
        m.d.comb += [
            self.o_entry.p.kind.eq(Kind.START),
            self.o_entry.p.length.eq(flags),
            self.o_entry.p.bytes.as_value().eq(self.room),
            self.o_entry.valid.eq(flags.any()),
            self.begun.eq(self.o_entry.valid & self.o_entry.ready),
        ]

    def _send_close(self, m):
        m.d.comb += [
            self.o_entry.p.kind.eq(Kind.MARK),
            self.o_entry.p.mark.eq(Mark.DRY),
            self.o_entry.valid.eq(1),
        ]
        with m.If(self.failed):
            m.d.comb += self.o_entry.p.mark.eq(Mark.ERROR)
