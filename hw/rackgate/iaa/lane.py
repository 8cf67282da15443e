# SPDX-License-Identifier: Apache-2.0
"""Carries out one descriptor after the other."""

import operator

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import QUEUES, DecompressFlag, Flag, Framing, Opcode, Status
from rackgate.iaa.aecs import ACCUMULATOR_OFFSET
from rackgate.iaa.check import DescriptorChecker
from rackgate.iaa.judge import Judge, Subject
from rackgate.iaa.lister import ListJob, ListResult
from rackgate.iaa.misses import Fault
from rackgate.iaa.record import RawCompletion, RecordJob
from rackgate.iaa.utility import UtilityJob, UtilityOperation, UtilityResult
from rackgate.iaa.work import ErrorReport, Space, Work
from rackgate.inflate.abi import MAX_DESTINATION_SIZE
from rackgate.inflate.record import Outcome
from rackgate.inflate.task import ADDR_WIDTH, Task

__all__ = ["Lane"]

_STATES = (
    "IDLE", "CHECK", "CHECKING", "AECS", "AECS_READ", "TABLES", "TABLES_READ", "TASK", "UTILITY", "LIST", "WORK",
    "JUDGE", "CLOSE", "RECORD", "WRITTEN", "REPORT", "RETIRE")


class _Kept(data.Struct):
    """What was read of an AECS, and which it was; the context's codes are of it if it has any."""

    valid: 1
    address: ADDR_WIDTH
    generation: 32
    translate: 1
    table: ADDR_WIDTH - 12
    is_canned: 1
    crc: 32
    xor_checksum: 16


class Lane(wiring.Component):
    """Do what a descriptor asks for, with one context of an inflate engine, and write its record.

    From ``i`` to the first task or operation pass 10 cycles, from its result to that of the record 3. The tables of
    an AECS stay in the context, and it is not read again at the same address of the same address space, until
    ``generation`` changes or another stream goes through the context.

    Parameters
    ----------
    context:
        Number of the context in its engine, 0 to 7; ``None`` for a lane that carries out LISTs and nothing else.

    Members
    -------
    i: descriptors. retired: strobe, done with one; ``succeeded``, ``interrupt``, ``listed``, ``consumed`` and
    ``produced`` (bytes) are of it.
    busy: a descriptor is under way. abort: bit per queue; descriptors end with ABORTED.
    cut: the descriptor under way is to be cut short: its reads are to be answered with errors.
    generation, now: AECS_GENERATION, the cycle counter.
    space: of the descriptor under way. fault, clear: of its accesses; forget the fault.
    utility_fault, utility_clear: likewise of the utility's accesses, while it works for this lane.
    o_task, i_outcome: the context. o_utility, i_result: the utility.
    o_list, i_list: the lister, whose accesses ``fault`` is about then.
    o_record, record_done, record_failed: the completion writer; the strobe is for this lane's record.
    o_error: what no record can tell.

    Reset forgets the descriptor under way, and the AECS.
    """

    def __init__(self, *, context: int | None):
        self.context = 0 if context is None else operator.index(context)
        super().__init__({
            "i": In(stream.Signature(Work)),
            "retired": Out(1), "succeeded": Out(1), "interrupt": Out(1), "listed": Out(1),
            "consumed": Out(32), "produced": Out(32),
            "busy": Out(1), "abort": In(QUEUES), "cut": Out(1),
            "generation": In(32), "now": In(32),
            "space": Out(Space), "fault": In(Fault), "clear": Out(1),
            "utility_fault": In(Fault), "utility_clear": Out(1),
            "o_task": Out(stream.Signature(Task)),
            "i_outcome": In(stream.Signature(Outcome)),
            "o_utility": Out(stream.Signature(UtilityJob)),
            "i_result": In(stream.Signature(UtilityResult)),
            "o_list": Out(stream.Signature(ListJob)),
            "i_list": In(stream.Signature(ListResult)),
            "o_record": Out(stream.Signature(RecordJob)),
            "record_done": In(1), "record_failed": In(1),
            "o_error": Out(stream.Signature(ErrorReport)),
        })
        # Made here, not in elaborate, so that a proof can state invariants about them.
        self._at = {name: Signal(name=f"at_{name.lower()}") for name in _STATES}
        self._subject = Signal(Subject)

    def elaborate(self, platform):
        m = Module()
        m.submodules.checker = checker = DescriptorChecker()
        m.submodules.judge = judge = Judge()
        work, record, kept, started = Signal(Work), Signal(RawCompletion), Signal(_Kept), Signal(32)
        raw = work.descriptor
        uses_aecs, is_kept, is_aborted, header_size = Signal(), Signal(), Signal(), Signal(9)
        m.d.comb += [
            checker.i.eq(work),
            uses_aecs.eq((raw.opcode == Opcode.DECOMPRESS) & (raw.flags & Flag.READ_SOURCE2_AECS).any()),
            judge.raw.eq(raw), judge.outcome.eq(self.i_outcome.payload), judge.fault.eq(self.fault),
            judge.utility_fault.eq(self.utility_fault), judge.result.eq(self.i_result.payload),
            judge.list_result.eq(self.i_list.payload), judge.aborted.eq(is_aborted), judge.header_size.eq(header_size),
            is_aborted.eq(self.abort.bit_select(work.space.queue, 1)),
            self.cut.eq(self.busy & is_aborted),
            self.space.eq(work.space),
            self.space.block.eq(work.space.block & (raw.flags & Flag.BLOCK_ON_FAULT).any()),
        ]
        m.d.sync += is_kept.eq(
            kept.valid & (kept.address == raw.source2[:ADDR_WIDTH]) & (kept.generation == self.generation)
            & (kept.translate == work.space.translate) & (~kept.translate | (kept.table == work.space.table)))
        subject = self._subject
        m.d.comb += judge.subject.eq(subject)
        self._task(m, raw, uses_aecs, kept, header_size)
        self._utility(m, raw, uses_aecs)
        m.d.comb += [
            self.o_list.payload.address.eq(raw.source), self.o_list.payload.size.eq(raw.source_size),
            self.o_list.payload.space.eq(work.space),
            self.o_list.payload.max_transfer_shift.eq(work.max_transfer_shift),
        ]
        self._report(m, raw, work, record)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [work.eq(self.i.payload), record.eq(0), started.eq(self.now)]
                with m.If(self.i.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += checker.start.eq(1)
                m.next = "CHECKING"
            with m.State("CHECKING"):
                with m.If(checker.done):
                    m.d.sync += [record.status.eq(checker.o.status), record.invalid_flags.eq(checker.o.invalid)]
                    m.next = "CLOSE"
                    with m.If((work.aborted | is_aborted) & (checker.o.status != Status.COMPLETION_MISALIGNED)):
                        m.d.sync += [record.status.eq(Status.ABORTED), record.invalid_flags.eq(0)]
                    with m.Elif(checker.o.status == Status.IN_PROGRESS):
                        self._begin(m, raw, record, uses_aecs, is_kept)
            with m.State("AECS"):
                m.d.comb += self.o_utility.valid.eq(1)
                with m.If(self.o_utility.ready):
                    m.next = "AECS_READ"
            with m.State("AECS_READ"):
                with m.If(self.i_result.valid):
                    self._keep(m, raw, work, kept, header_size, subject)
            with m.State("TABLES"):
                m.d.comb += [self.o_task.valid.eq(1), self.o_task.payload.tables.eq(1)]
                with m.If(self.o_task.ready):
                    m.next = "TABLES_READ"
            with m.State("TABLES_READ"):
                with m.If(self.i_outcome.valid & judge.has_tables):
                    m.d.comb += self.i_outcome.ready.eq(1)
                    m.next = "TASK"
                with m.Elif(self.i_outcome.valid):
                    m.d.sync += [kept.valid.eq(0), subject.eq(Subject.TABLES)]
                    m.next = "JUDGE"
            with m.State("TASK"):
                m.d.comb += self.o_task.valid.eq(1)
                m.d.sync += subject.eq(Subject.DECOMPRESS)
                with m.If(self.o_task.ready):
                    with m.If(~self.o_task.payload.canned):
                        m.d.sync += kept.valid.eq(0)
                    m.next = "WORK"
            with m.State("UTILITY"):
                m.d.comb += self.o_utility.valid.eq(1)
                m.d.sync += subject.eq(Subject.UTILITY)
                with m.If(self.o_utility.ready):
                    m.next = "WORK"
            with m.State("LIST"):
                m.d.comb += self.o_list.valid.eq(1)
                m.d.sync += subject.eq(Subject.LIST)
                with m.If(self.o_list.ready):
                    m.next = "WORK"
            with m.State("WORK"):
                with m.If(self.i_outcome.valid | self.i_result.valid | self.i_list.valid):
                    m.next = "JUDGE"
            with m.State("JUDGE"):  # a cycle after the result, for the judge's arithmetic
                m.d.comb += [
                    self.i_outcome.ready.eq((subject == Subject.DECOMPRESS) | (subject == Subject.TABLES)),
                    self.i_list.ready.eq(subject == Subject.LIST),
                    self.i_result.ready.eq(subject == Subject.UTILITY),
                ]
                m.d.sync += record.eq(judge.o)
                m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.sync += record.cycles.eq(self.now - started)
                m.next = "RECORD"
            with m.State("RECORD"):
                self._record(m, raw, record)
            with m.State("WRITTEN"):
                with m.If(self.record_done):
                    m.next = "RETIRE"
                    with m.If(self.record_failed):
                        m.d.sync += record.status.eq(Status.COMPLETION_FAULT)
                        m.next = "REPORT"
            with m.State("REPORT"):
                m.d.comb += self.o_error.valid.eq(1)
                with m.If(self.o_error.ready):
                    m.next = "RETIRE"
            with m.State("RETIRE"):
                m.d.comb += [self.retired.eq(1), self.clear.eq(1), self.utility_clear.eq(1)]
                m.next = "IDLE"
        m.d.comb += [self.busy.eq(~fsm.ongoing("IDLE")), *(at.eq(fsm.ongoing(name)) for name, at in self._at.items())]
        return m

    def _begin(self, m, raw, record, uses_aecs, is_kept):
        """Where a descriptor that can be carried out begins."""
        with m.Switch(raw.opcode):
            with m.Case(Opcode.DECOMPRESS):
                m.next = "TASK"
                with m.If(uses_aecs & ~is_kept):
                    m.next = "AECS"
            with m.Case(Opcode.CRC64, Opcode.FILL):
                m.next = "UTILITY"
            with m.Case(Opcode.LIST):
                m.next = "LIST"
            with m.Default():  # NOOP, DRAIN
                m.d.sync += record.status.eq(Status.SUCCESS)

    def _keep(self, m, raw, work, kept, header_size, subject):
        """Take what the utility has read of an AECS."""
        result = self.i_result.payload
        m.d.sync += [
            kept.address.eq(raw.source2), kept.generation.eq(self.generation),
            kept.translate.eq(work.space.translate), kept.table.eq(work.space.table),
            kept.crc.eq(result.aecs.crc), kept.xor_checksum.eq(result.aecs.xor_checksum),
            kept.is_canned.eq(result.aecs.size != 0), kept.valid.eq(1), header_size.eq(result.aecs.size),
        ]
        with m.If(result.failed | result.aecs.is_bad):
            m.d.sync += [kept.valid.eq(0), subject.eq(Subject.UTILITY)]
            m.next = "JUDGE"
        with m.Else():
            m.d.comb += self.i_result.ready.eq(1)
            m.next = "TASK"
            with m.If(result.aecs.size != 0):
                m.next = "TABLES"

    def _task(self, m, raw, uses_aecs, kept, header_size):
        """The task for the context: the AECS' header with ``tables``, else the source."""
        task, flags = self.o_task.payload, raw.operation_flags
        stops, checks, wants_last, suppressed = ((flags & flag).any() for flag in (
            DecompressFlag.STOP_ON_EOB, DecompressFlag.CHECK_FOR_EOB, DecompressFlag.EOB_IS_BFINAL,
            DecompressFlag.SUPPRESS_OUTPUT))
        framing = flags[13:15]
        is_raw = framing == Framing.RAW
        m.d.comb += [
            task.tag.eq(self.context), task.context.eq(self.context), task.strict_lengths.eq(1),
            task.source.eq(raw.source), task.source_size.eq(raw.source_size),
        ]
        with m.If(task.tables):
            m.d.comb += [
                task.source.eq(raw.source2[:ADDR_WIDTH] + ACCUMULATOR_OFFSET), task.source_size.eq(header_size),
                task.last.eq(1),
            ]
        with m.Else():
            m.d.comb += [
                task.framing.eq(framing), task.last.eq(checks & (wants_last | ~is_raw)),
                task.multi.eq((framing == Framing.GZIP) & ~stops),
                task.one_block.eq(is_raw & stops & ~wants_last), task.ignored_bits.eq(flags[6:9]),
                task.canned.eq(uses_aecs & kept.is_canned),
                task.options.crc32c.eq((raw.flags & Flag.CRC32C).any()), task.options.discard.eq(suppressed),
                task.options.crc.eq(Mux(uses_aecs, kept.crc, 0)),
                task.options.xor_checksum.eq(Mux(uses_aecs, kept.xor_checksum, 0)),
                task.destination.eq(raw.destination),
                task.destination_size.eq(Mux(suppressed, MAX_DESTINATION_SIZE, raw.destination_size)),
            ]

    def _utility(self, m, raw, uses_aecs):
        """The operation for the utility: an AECS for DECOMPRESS, else the descriptor's own."""
        job = self.o_utility.payload
        is_fill = raw.opcode == Opcode.FILL
        m.d.comb += [
            job.lane.eq(self.context),
            job.operation.eq(Mux(uses_aecs, UtilityOperation.AECS,
                                 Mux(is_fill, UtilityOperation.FILL, UtilityOperation.CRC64))),
            job.address.eq(Mux(uses_aecs, raw.source2, Mux(is_fill, raw.destination, raw.source))),
            job.size.eq(Mux(is_fill, raw.destination_size, raw.source_size)),
            job.value.eq(Mux(is_fill, raw.source2, raw.filter_flags | raw.elements << 32)),
            job.invert.eq(raw.operation_flags[14]), job.big_endian.eq(raw.operation_flags[15]),
        ]

    def _record(self, m, raw, record):
        """Write the record, if there is to be one."""
        has_address = (raw.flags & Flag.COMPLETION_ADDRESS_VALID).any()
        is_wanted = (raw.flags & Flag.REQUEST_COMPLETION).any() | (record.status != Status.SUCCESS)
        m.d.comb += [
            self.o_record.payload.address.eq(raw.completion), self.o_record.payload.record.eq(record),
        ]
        m.next = "RETIRE"
        with m.If(record.status == Status.COMPLETION_MISALIGNED):
            m.next = "REPORT"
        with m.Elif(has_address & is_wanted & raw.completion[ADDR_WIDTH:].any()):
            m.d.sync += record.status.eq(Status.COMPLETION_FAULT)
            m.next = "REPORT"
        with m.Elif(has_address & is_wanted):
            m.d.comb += self.o_record.valid.eq(1)
            m.next = "RECORD"
            with m.If(self.o_record.ready):
                m.next = "WRITTEN"

    def _report(self, m, raw, work, record):
        """What is told of a descriptor when it is done with, and to SWERR."""
        error = self.o_error.payload
        m.d.comb += [
            self.succeeded.eq(record.status == Status.SUCCESS), self.listed.eq(work.listed),
            self.interrupt.eq((raw.flags & Flag.REQUEST_INTERRUPT).any()),
            self.consumed.eq(record.completed), self.produced.eq(record.output_size),
            error.status.eq(record.status), error.queue.eq(work.space.queue), error.opcode.eq(raw.opcode),
            error.pasid.eq(raw.pasid_priv[:20]), error.write.eq(record.status == Status.COMPLETION_FAULT),
            error.address.eq(raw.completion),
        ]
