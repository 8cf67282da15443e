# SPDX-License-Identifier: Apache-2.0
"""What a context's front remembers: the job, how it stands, and what a later job can go on with."""

from amaranth.hdl import Mux, Signal
from amaranth.lib import data, enum

from rackgate.inflate.abi import ErrorCode, Format, ResultFlag, Status
from rackgate.inflate.entry import Job, Mark, Start

__all__ = ["JobResult", "JobState", "Phase", "Progress"]


class Phase(enum.Enum, shape=3):
    """What the next source bit belongs to."""

    NONE = 0  # nothing to go on with
    HEADER = 1
    BLOCK = 2  # a block header
    BODY = 3
    STORED = 4
    TRAILER = 5
    NEXT = 6  # after a gzip member


_TRUNCATED = {
    Phase.HEADER: ErrorCode.FRAME_TRUNCATED,
    Phase.BLOCK: ErrorCode.HEADER_TRUNCATED,
    Phase.BODY: ErrorCode.END_OF_BLOCK_MISSING,
    Phase.STORED: ErrorCode.END_OF_BLOCK_MISSING,
    Phase.TRAILER: ErrorCode.FRAME_TRUNCATED,
}


class Progress(data.Struct):
    """What more is needed to go on after a job elsewhere.

    ``header`` and ``body``: bit positions of the last block header that the job has begun and of what followed the last
    one it has ended, which is one of this job if ``has_header``. Of the block under way: ``is_stored``, ``is_final``,
    and how many bytes are ``left`` of a stored one.
    """

    header: 32
    body: 32
    has_header: 1
    is_stored: 1
    is_final: 1
    left: 16


class JobResult(data.Struct):
    """How a job ended: fields as in :class:`~rackgate.inflate.abi.Completion`.

    ``position`` is the bit position, in the stream of aligned words, up to which the job is done with its
    source.
    """

    status: 8
    error: 8
    flags: 16
    position: 32
    produced: 32
    crc32: 32
    adler32: 32
    total: 64
    xor_checksum: 16
    members: 32
    dictionary: 32
    progress: Progress


class JobState:
    """The registers of a :class:`~rackgate.inflate.front.Front` and the statements that change them.

    Methods take the module ``m`` and add statements to it, under the conditions open there.

    Attributes
    ----------
    job : Signal(Job)
        The job under way.
    phase : Signal(Phase)
        Where it is in the stream, and where a later one goes on.
    pending : Signal(Start)
        What the next START entry has to say.
    result : Signal(JobResult)
        The result as it stands; ``status`` is IN_PROGRESS until the job's end is known. ``flags`` and
        ``dictionary`` stay zero.
    has_more : Value
        Further gzip members may follow.
    has_codes : Signal()
        The context's codes are those that a TABLES job has kept.
    is_over : Value
        The status is known.
    """

    def __init__(self) -> None:
        self.job = Signal(Job)
        self.phase = Signal(Phase)
        self.pending = Signal(Start)
        self.result = Signal(JobResult, init={"adler32": 1})
        self.has_more = self.job.multi & (self.job.framing == Format.GZIP)
        self.has_codes = Signal()
        self.is_over = self.result.status != Status.IN_PROGRESS

    def accept(self, m, job):
        """Take ``job``; its payload may be rubbish until the last of several cycles."""
        m.d.sync += [
            self.job.eq(job), self.result.status.eq(Status.IN_PROGRESS), self.result.error.eq(ErrorCode.NONE),
            self.result.produced.eq(0), self.result.progress.has_header.eq(0),
        ]

    def begin(self, m):
        """Decide whether the job accepted goes on or starts anew."""
        job, phase = self.job, self.phase
        m.d.sync += [
            self.pending.new_job.eq(1), self.pending.suppress.eq(job.load), self.pending.whole.eq(job.options.whole),
            self.result.xor_checksum.eq(job.options.xor_checksum),
        ]
        with m.If(job.load | ~job.resume | (phase == Phase.NONE)):
            self.begin_member(m)
            m.d.sync += [self.result.members.eq(0), phase.eq(Phase.HEADER)]
            with m.If(job.canned & ~job.load & ~job.tables):
                m.d.sync += phase.eq(Phase.BODY)
                with m.If(~self.has_codes):
                    self.end(m, Status.ANALYTICS_ERROR, ErrorCode.BAD_AECS)
            with m.Elif(job.load | (job.framing == Format.RAW)):
                m.d.sync += phase.eq(Phase.BLOCK)

    def begin_member(self, m):
        """Nothing that came before can be referred to or is checked."""
        m.d.sync += [
            self.result.crc32.eq(self.job.options.crc), self.result.adler32.eq(1), self.result.total.eq(0),
            self.pending.reset_history.eq(1), self.pending.reset_check.eq(1),
        ]

    def header_done(self, m, is_final, is_stored):
        """A block header has been read: go on with the block's content, or keep the codes."""
        m.d.sync += [self.phase.eq(Mux(is_stored, Phase.STORED, Phase.BODY)), self.result.progress.has_header.eq(1)]
        with m.If(self.job.tables & is_final):
            m.d.sync += self.has_codes.eq(~is_stored)
            self.end(m, Mux(is_stored, Status.ANALYTICS_ERROR, Status.SUCCESS),
                     Mux(is_stored, ErrorCode.BAD_AECS, ErrorCode.NONE))

    def announced(self, m):
        """The START entry has been sent."""
        # The bytes of a dictionary are no output, so after it the checksums begin once more.
        m.d.sync += [self.pending.eq(0), self.pending.reset_check.eq(self.job.load)]

    def summarize(self, m, summary):
        """Take over the checksums of the output so far; of a dictionary there are none."""
        with m.If(~self.job.load):
            m.d.sync += [getattr(self.result, name).eq(summary[name])
                         for name in ("crc32", "adler32", "total", "xor_checksum")]

    def end(self, m, status, error=ErrorCode.NONE):
        """The job ends with ``status`` and ``error``."""
        m.d.sync += [self.result.status.eq(status), self.result.error.eq(error)]

    def end_dry(self, m, read_error):
        """The source has ended before what the phase needs."""
        with m.If(read_error):
            self.end(m, Status.READ_ERROR)
        with m.Elif(~self.job.last):
            self.end(m, Status.NEED_INPUT)
        with m.Elif(self.phase == Phase.NEXT):
            self.end(m, Status.SUCCESS)
        with m.Else():
            self.end(m, Status.ANALYTICS_ERROR)
            with m.Switch(self.phase):
                for phase, error in _TRUNCATED.items():
                    with m.Case(phase):
                        m.d.sync += self.result.error.eq(error)

    def take(self, m, run, read_error):
        """Account for a run of entries that ended as ``run`` says. ``position`` was at its beginning."""
        result = self.result
        m.d.sync += result.produced.eq(run.produced)
        with m.If(run.overflow | run.error.any() | (run.mark != Mark.END_OF_BLOCK) | self.job.load):
            m.d.sync += result.position.eq(result.position + run.bits)
        with m.If(run.overflow):
            self.end(m, Status.OUTPUT_OVERFLOW)
        with m.Elif(run.error.any()):
            self.end(m, Status.ANALYTICS_ERROR, run.error)
        with m.Elif(run.mark != Mark.END_OF_BLOCK):
            self.end_dry(m, read_error)
        with m.Elif(self.job.load):
            self.end(m, Mux(read_error, Status.READ_ERROR, Status.SUCCESS))

    def report(self, m, payload, dictionary):
        """Drive ``payload`` with the result."""
        succeeded = self.result.status == Status.SUCCESS
        in_block = (self.phase == Phase.BODY) | (self.phase == Phase.STORED)
        m.d.comb += [
            payload.eq(self.result),
            payload.dictionary.eq(dictionary),
            payload.progress.is_stored.eq(self.phase == Phase.STORED),
            payload.flags.eq(Mux(succeeded & ~self.job.load & ~self.job.tables, ResultFlag.END, 0)
                             | Mux(~succeeded & in_block, ResultFlag.BLOCK, 0)),
        ]

    def retire(self, m):
        """The result has been taken: forget the stream unless something can go on with it."""
        status = self.result.status
        with m.If(~status.matches(Status.NEED_INPUT, Status.NEED_DICTIONARY, Status.OUTPUT_OVERFLOW)
                  & ~(self.job.load & (status == Status.SUCCESS))):
            m.d.sync += self.phase.eq(Phase.NONE)
