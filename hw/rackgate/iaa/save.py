# SPDX-License-Identifier: Apache-2.0
"""The state of a stream to an AECS."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.aecs import (
    ACCUMULATOR_OFFSET,
    FORMAT_OFFSET,
    HEADER_OFFSET,
    HISTORY_OFFSET,
    HISTORY_WRITE_OFFSET,
    POSITION_OFFSET,
    SAVED_FORMAT,
    ParserState,
)
from rackgate.iaa.tasks import AecsState
from rackgate.iaa.utility import UtilityJob, UtilityOperation, UtilityResult
from rackgate.iaa.work import RawDescriptor
from rackgate.inflate.abi import ResultFlag
from rackgate.inflate.jobstate import Progress
from rackgate.inflate.record import Outcome
from rackgate.inflate.steps import check_window
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["AecsSaver"]

_STORED_HEADER_BITS = 40


class _Step(enum.Enum, shape=3):
    """What is written, in this order."""

    OLD_HISTORY = 0  # of the AECS that was read
    NEW_HISTORY = 1  # of the destination
    HEADER = 2
    CHECKSUMS = 3
    FORMAT = 4
    POSITION = 5
    HISTORY_WRITE = 6


class _Left(data.Struct):
    """What a job leaves: ``produced`` bytes, of which the last ``fresh`` are history, and ``kept`` of ``old`` ones."""

    produced: 32
    start_bit: 3
    is_within: 1
    has_ended: 1
    progress: Progress
    crc: 32
    xor_checksum: 16
    fresh: 16
    old: 16
    kept: 16
    first_bit: 3
    header_bits: 16


class AecsSaver(wiring.Component):
    """Write what a job leaves to an AECS, by operations of the utility: see :class:`rackgate.iaa.aecs.SavedState`.

    The history is what of the old one the output has not driven out, and the end of the output. The header is that of
    the block under way: of the source if the job has read it there, else of the AECS that was read; for a stored block
    one with the length that is left.

    About 10 cycles and the utility's time for each of 5 to 7 operations. Reset forgets what was begun.

    Parameters
    ----------
    window:
        Most bytes of history, 4096 or 32768. lane: number of the lane.

    Members
    -------
    start, raw, outcome, uses_aecs, aecs: begin; the descriptor, stable until the end; how its job went, sampled with
    ``start``; the AECS that was read.
    place: address of that AECS. target: of the one to be written.
    o_utility, i_result: the utility. A result with an error is left for others to take.
    done, failed: strobe; what is in the AECS means nothing.
    """

    def __init__(self, *, window: int = 32768, lane: int = 0):
        self.window = check_window(window)
        self.lane = lane
        super().__init__({
            "start": In(1), "raw": In(RawDescriptor), "outcome": In(Outcome), "uses_aecs": In(1), "aecs": In(AecsState),
            "place": In(ADDR_WIDTH), "target": In(ADDR_WIDTH),
            "o_utility": Out(stream.Signature(UtilityJob)),
            "i_result": In(stream.Signature(UtilityResult)),
            "done": Out(1), "failed": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        job, step, left, is_needed = Signal(UtilityJob), Signal(_Step), Signal(_Left), Signal()
        record, after = self.outcome.record, step.as_value() + 1
        m.d.comb += self.o_utility.payload.eq(job)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    left.produced.eq(record.produced), left.start_bit.eq(record.consumed_bit),
                    left.is_within.eq((record.flags & ResultFlag.BLOCK).any()),
                    left.has_ended.eq((record.flags & ResultFlag.END).any()), left.progress.eq(self.outcome.progress),
                    left.crc.eq(record.crc32), left.xor_checksum.eq(self.outcome.xor_checksum),
                    step.eq(_Step.OLD_HISTORY),
                ]
                with m.If(self.start):
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                self._measure(m, left)
                m.next = "KEEP"
            with m.State("KEEP"):
                room = (self.window - left.fresh)[:len(left.kept)]
                m.d.sync += left.kept.eq(Mux(left.old > room, room, left.old))
                m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.sync += [job.lane.eq(self.lane), job.operation.eq(UtilityOperation.FILL), job.size.eq(8),
                             is_needed.eq(1)]
                self._choose(m, step, job, is_needed, left)
                m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += self.o_utility.valid.eq(is_needed)
                with m.If(~is_needed):
                    m.d.sync += step.as_value().eq(after)
                    m.next = "CHOOSE"
                with m.Elif(self.o_utility.ready):
                    m.next = "AWAIT"
            with m.State("AWAIT"):
                with m.If(self.i_result.valid & self.i_result.payload.failed):
                    m.d.comb += [self.done.eq(1), self.failed.eq(1)]
                    m.next = "IDLE"
                with m.Elif(self.i_result.valid):
                    m.d.comb += self.i_result.ready.eq(1)
                    m.d.sync += step.as_value().eq(after)
                    m.next = "CHOOSE"
                    with m.If(step == _Step.HISTORY_WRITE):
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
        return m

    def _measure(self, m, left):
        """How much history there is, and where the header's bits are in its bytes."""
        progress, saved = left.progress, self.aecs.saved
        with m.If(progress.has_header):
            m.d.sync += [left.first_bit.eq(progress.header[:3]),
                         left.header_bits.eq(progress.body - Cat(Const(0, 3), progress.header[3:]))]
        with m.Else():
            m.d.sync += [left.first_bit.eq(Mux(saved.valid, saved.first_bit, 0)),
                         left.header_bits.eq(Mux(saved.valid, saved.header_bits, self.aecs.size << 3))]
        with m.If(progress.is_stored):
            m.d.sync += [left.first_bit.eq(0), left.header_bits.eq(_STORED_HEADER_BITS)]
        with m.If(~left.is_within):
            m.d.sync += [left.first_bit.eq(0), left.header_bits.eq(0)]
        m.d.sync += [
            left.fresh.eq(Mux(left.produced > self.window, self.window, left.produced)),
            left.old.eq(Mux(self.uses_aecs & saved.valid, saved.history, 0)),
        ]

    def _choose(self, m, step, job, is_needed, left):
        """The operation of a step."""
        def copy(address, offset, size):
            m.d.sync += [job.operation.eq(UtilityOperation.COPY), job.address.eq(address),
                         job.value.eq(self.target + offset), job.size.eq(size), is_needed.eq(size != 0)]

        def word(offset, *fields):
            m.d.sync += [job.address.eq(self.target + offset), job.value.eq(Cat(*fields))]

        progress, source = left.progress, self.raw.source
        with m.Switch(step):
            with m.Case(_Step.OLD_HISTORY):
                copy(self.place + HISTORY_OFFSET + (left.old - left.kept)[:16], HISTORY_OFFSET, left.kept)
            with m.Case(_Step.NEW_HISTORY):
                copy(self.raw.destination + (left.produced - left.fresh)[:32], HISTORY_OFFSET + left.kept, left.fresh)
            with m.Case(_Step.HEADER):
                of_source = Cat(Const(0, 3), source[3:ADDR_WIDTH]) + progress.header[3:]
                of_aecs = self.place + Mux(self.aecs.saved.valid, HEADER_OFFSET, ACCUMULATOR_OFFSET)
                copy(Mux(progress.has_header, of_source, of_aecs), HEADER_OFFSET, (left.header_bits + 7) >> 3)
                with m.If(progress.is_stored):
                    m.d.sync += [job.operation.eq(UtilityOperation.FILL), job.size.eq(8)]
                    word(HEADER_OFFSET, progress.is_final, Const(0, 7), progress.left, ~progress.left)
                m.d.sync += is_needed.eq(left.is_within)
            with m.Case(_Step.CHECKSUMS):
                word(0, left.crc, left.xor_checksum)
            with m.Case(_Step.FORMAT):
                word(FORMAT_OFFSET - 5, Const(0, 40), Const(SAVED_FORMAT, 8))
            with m.Case(_Step.POSITION):
                within = Mux(progress.is_stored, ParserState.STORED, ParserState.LITERAL_LENGTH) | Mux(
                    progress.is_final, ParserState.FINAL_LITERAL_LENGTH, 0)
                word(POSITION_OFFSET, left.start_bit, Const(0, 5), left.first_bit, Const(0, 5), left.header_bits,
                     Mux(left.has_ended, ParserState.ENDED, Mux(left.is_within, within, ParserState.HEADER)))
            with m.Case(_Step.HISTORY_WRITE):
                size = (left.fresh + left.kept)[:16]
                word(HISTORY_WRITE_OFFSET - 4, Const(0, 32), Mux(size == self.window, 1 << 15, size))
