# SPDX-License-Identifier: Apache-2.0
"""The front of one context of the inflate engine: a job, from its acceptance to its result."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import Format, Status
from rackgate.inflate.block import BlockHeader
from rackgate.inflate.code import CodeTables, SymbolWrite
from rackgate.inflate.entry import Entry, Job, Result, Run, Stop, Summary
from rackgate.inflate.frame import Frame, FrameTask
from rackgate.inflate.jobstate import JobResult, JobState, Phase
from rackgate.inflate.runner import Runner, RunTask, check_context
from rackgate.inflate.steady import Steady

__all__ = ["Front"]


class Front(wiring.Component):
    """Do the jobs of one context, one at a time: headers, stored blocks, trailers, and what a job leaves behind.

    The front parses headers and sends stored bytes itself; the symbols of a compressed block it leaves to the
    body decoder, with ``tables`` as they stand during the run. It asks for the shared pipe with ``want`` only
    when a block is ready to be carried out, so its header work overlaps another context's blocks; from then on
    it keeps the pipe until no entry of the job can follow.

    After each step of the stream ``position`` is a resume point; a job that stops reports the last one, with
    what its last run carried out added. Those points, and which of several faults is reported, are as in the
    golden model (``rackgate_sim.inflate.model``), but that a run is exact to an entry, not to a symbol.

    A job without ``resume``, or with nothing to resume, starts a stream. LOAD empties the window, fills it from
    its source, and leaves the context before a block header: a job with ``resume``, of any format, goes on
    there. So it gives a raw stream a dictionary, and a zlib stream that has ended with NEED_DICTIONARY. With
    ``multi`` a gzip job that is not ``last`` ends with NEED_INPUT when the source ends between members.

    ``i_job.ready`` and the readiness of the other inputs do not depend on ``valid``; ``take`` depends combinationally
    on ``level``, and ``consume`` is zero while the body decoder is at work. Reset forgets the job and what could be
    resumed; there is no memory.

    Parameters
    ----------
    context : int
        Number of the context, 0 to 7, put into entries and runs.

    Members
    -------
    i_job, o_result
        Jobs, and their ends in the same order. ``source_end`` must not be less than ``source_bits``.
    forget : In(1)
        While no job is under way: nothing can be resumed (the last job's output could not be written).
    flush : Out(1)
        No job is under way: words that arrive are of no use. Falls in the cycle after a job is taken, so the
        job's words may come from then on.
    window, level, exhausted, read_error, primed, position, end, take, consume, restart, restart_position
        The context's input buffer.
    want, grant, fault, o_entry, o_run, i_stop, i_outcome, i_summary
        The shared pipe. The inputs carry only what is for this context.
    tables, o_symbol
        The block's codes, for the body decoder.
    begun
        The job has announced itself to the pipe, so what the writer says of errors is about this one.

    Raises
    ------
    ValueError
        If ``context`` is not 0 to 7.
    """

    def __init__(self, *, context: int):
        self.context = check_context(context)
        super().__init__({
            "i_job": In(stream.Signature(Job)), "o_result": Out(stream.Signature(JobResult)), "forget": In(1),
            "window": In(32), "level": In(6), "exhausted": In(1), "read_error": In(1), "primed": In(1),
            "position": In(32), "end": Out(32), "take": Out(1), "consume": Out(6),
            "restart": Out(1), "restart_position": Out(32), "flush": Out(1),
            "want": Out(1), "grant": In(1), "fault": In(1),
            "o_entry": Out(stream.Signature(Entry)),
            "o_run": Out(stream.Signature(Run)),
            "i_stop": In(stream.Signature(Stop)),
            "i_outcome": In(stream.Signature(Result)),
            "i_summary": In(stream.Signature(Summary)),
            "tables": Out(CodeTables), "o_symbol": Out(SymbolWrite), "begun": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.frame = frame = Frame()
        m.submodules.block = block = BlockHeader()
        m.submodules.steady = steady = Steady()
        m.submodules.runner = runner = Runner(context=self.context)
        state = JobState()
        job, phase, result = state.job, state.phase, state.result
        is_final, is_fresh = block.final | job.one_block, Signal()  # is_fresh: a block header has just been read
        self._connect(m, steady, frame, block, runner, state)
        m.d.comb += runner.final.eq(is_final)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.i_job.ready.eq(1), self.flush.eq(1)]
                state.accept(m, self.i_job.p)
                with m.If(self.forget):
                    m.d.sync += phase.eq(Phase.NONE)
                with m.If(self.i_job.valid):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += [self.restart.eq(1), self.restart_position.eq(job.source_bits)]
                m.d.sync += Assert(job.source_bits <= job.source_end, "a job's source ends before it begins")
                state.begin(m)
                m.next = "STEP"
            with m.State("STEP"):
                m.d.sync += [result.position.eq(self.position), is_fresh.eq(0)]
                with m.If(is_fresh):
                    m.d.sync += result.progress.body.eq(self.position)
                self._step(m, frame, block, runner, state)
            with m.State("FRAME"):
                with m.If(frame.at_trailer):
                    m.d.sync += result.position.eq(self.position)
                self._frame(m, frame, state)
            with m.State("BLOCK"):
                with m.If(block.done):
                    m.next = "CLOSE"
                    with m.If(block.error.any()):
                        state.end(m, Status.ANALYTICS_ERROR, block.error)
                    with m.Elif(block.dry):
                        state.end_dry(m, self.read_error)
                    with m.Else():
                        m.d.comb += runner.set_length.eq(1)
                        m.d.sync += is_fresh.eq(1)
                        state.header_done(m, is_final, block.is_stored)
                        m.next = "STEP"
            with m.State("RUN"):
                with m.If(runner.has_result):
                    state.take(m, runner.result, self.read_error)
                with m.If(runner.done):
                    m.next = "CLOSE"
                    with m.If(~state.is_over):
                        m.d.sync += phase.eq(Mux(is_final, Phase.TRAILER, Phase.BLOCK))
                        m.next = "STEP"
            with m.State("CLOSE"):
                m.d.comb += [runner.start.eq(1), runner.task.eq(RunTask.CLOSE)]
                m.next = "CLOSING"
            with m.State("CLOSING"):
                m.d.comb += runner.task.eq(RunTask.CLOSE)
                with m.If(runner.done):
                    m.next = "REPORT"
            with m.State("REPORT"):
                m.d.comb += [self.o_result.valid.eq(1), self.flush.eq(1)]
                with m.If(self.o_result.ready):
                    state.retire(m)
                    m.next = "IDLE"
        return m

    def _step(self, m, frame, block, runner, state):
        """Start what the phase asks for."""
        with m.If(state.is_over):
            m.next = "CLOSE"
        with m.Elif(state.job.load):
            m.d.comb += runner.start.eq(1)
            m.next = "RUN"
        with m.Elif((state.phase == Phase.TRAILER) & (state.job.framing == Format.RAW)):
            # Nothing follows. What fills its last byte counts as taken, though some of it may not be there.
            state.end(m, Status.SUCCESS)
            m.d.sync += [
                state.result.members.eq(state.result.members + 1),
                state.result.position.eq((self.position[3:] + self.position[:3].any()) << 3),
            ]
            m.next = "CLOSE"
        with m.Else(), m.Switch(state.phase):
            with m.Case(Phase.BLOCK):
                m.d.comb += block.start.eq(1)
                m.d.sync += [state.has_codes.eq(0), state.result.progress.header.eq(self.position)]
                m.next = "BLOCK"
            with m.Case(Phase.BODY, Phase.STORED):
                m.d.comb += runner.start.eq(1)
                m.next = "RUN"
            with m.Default():
                m.d.comb += frame.start.eq(1)
                m.next = "FRAME"

    def _frame(self, m, frame, state):
        """Go on after a header, a trailer, or the look for another member."""
        phase, members = state.phase, state.result.members
        with m.If(frame.done):
            m.next = "STEP"
            with m.If(frame.error.any()):
                state.end(m, Status.ANALYTICS_ERROR, frame.error)
                m.next = "CLOSE"
            with m.Elif(frame.dry):
                state.end_dry(m, self.read_error)
                m.next = "CLOSE"
            with m.Elif(phase == Phase.HEADER):
                state.begin_member(m)
                m.d.sync += phase.eq(Phase.BLOCK)
                with m.If(frame.preset):
                    state.end(m, Status.NEED_DICTIONARY)
            with m.Elif(phase == Phase.TRAILER):
                m.d.sync += [members.eq(members + 1), phase.eq(Phase.NEXT)]
                with m.If(~state.has_more):
                    state.end(m, Status.SUCCESS)
            with m.Elif(frame.absent):
                state.end(m, Status.SUCCESS)
                m.next = "CLOSE"  # without STEP: padding does not count as consumed
            with m.Else():
                m.d.sync += phase.eq(Phase.HEADER)

    def _connect(self, m, steady, frame, block, runner, state):
        """What does not depend on the state of the FSM."""
        job, result = state.job, state.result
        for part in (steady, block, runner):
            m.d.comb += [
                part.window.eq(self.window), part.level.eq(self.level), part.exhausted.eq(self.exhausted),
            ]
        for part in (frame, block):
            m.d.comb += [getattr(part.source, name).eq(getattr(steady.o, name))
                         for name in ("window", "level", "exhausted", "settled")]
        m.d.comb += [
            # Only one of them is at work.
            steady.o.take.eq(frame.source.take | block.source.take),
            self.take.eq(steady.take | block.take | runner.take),
            self.consume.eq(steady.consume | block.consume | runner.consume),
            self.end.eq(job.source_end),
            self.restart.eq(runner.restart), self.restart_position.eq(runner.restart_position),
            frame.offset.eq(self.position[:3]), frame.format.eq(job.framing),
            frame.crc32.eq(result.crc32), frame.adler32.eq(result.adler32), frame.length.eq(result.total[:32]),
            block.offset.eq(self.position[:3]), block.strict.eq(job.strict_lengths),
            self.tables.eq(block.tables), self.o_symbol.eq(block.o_symbol),
            runner.primed.eq(self.primed), runner.position.eq(self.position), runner.end.eq(job.source_end),
            runner.keep.eq(state.has_more), runner.failed.eq(result.error.any()),
            runner.begin.eq(state.pending), runner.room.eq(job.room),
            runner.length.eq(block.length), runner.retire.eq(runner.has_result),
            self.want.eq(runner.want), self.begun.eq(~state.pending.new_job),
            runner.grant.eq(self.grant), runner.fault.eq(self.fault),
        ]
        state.report(m, self.o_result.p, frame.dictionary)
        m.d.comb += [
            self.o_result.p.progress.is_final.eq(block.final), self.o_result.p.progress.left.eq(runner.left),
        ]
        with m.If(runner.begun):
            state.announced(m)
        with m.If(runner.has_summary):
            state.summarize(m, self.i_summary.p)
        with m.Switch(state.phase):
            with m.Case(Phase.TRAILER):
                m.d.comb += frame.task.eq(FrameTask.TRAILER)
            with m.Case(Phase.NEXT):
                m.d.comb += frame.task.eq(FrameTask.NEXT)
            with m.Case(Phase.STORED):
                m.d.comb += runner.task.eq(RunTask.STORED)
        with m.If(job.load):
            m.d.comb += runner.task.eq(RunTask.LOAD)
        for name in ("o_entry", "o_run"):
            wiring.connect(m, getattr(runner, name), wiring.flipped(getattr(self, name)))
        for name in ("i_stop", "i_outcome", "i_summary"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(runner, name))
