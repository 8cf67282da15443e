# SPDX-License-Identifier: Apache-2.0
"""Carries out one descriptor after the other."""

import operator

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import QUEUES, Flag, Opcode, Status
from rackgate.iaa.aecs import AECS_SIZE, HISTORY_OFFSET
from rackgate.iaa.check import DescriptorChecker
from rackgate.iaa.judge import Judge, Subject
from rackgate.iaa.lister import ListJob, ListResult
from rackgate.iaa.misses import Fault
from rackgate.iaa.record import RawCompletion, RecordJob
from rackgate.iaa.save import AecsSaver
from rackgate.iaa.tasks import AecsState, LaneTask, TaskMaker
from rackgate.iaa.utility import UtilityJob, UtilityOperation, UtilityResult
from rackgate.iaa.work import ErrorReport, Space, Work
from rackgate.inflate.record import Outcome
from rackgate.inflate.steps import check_window
from rackgate.inflate.task import ADDR_WIDTH, Task

__all__ = ["Lane"]

_STATES = (
    "IDLE", "CHECK", "CHECKING", "AECS", "AECS_READ", "PREPARE", "PREPARED", "TASK", "UTILITY", "LIST", "WORK",
    "JUDGE", "SAVE", "CLOSE", "RECORD", "WRITTEN", "REPORT", "RETIRE")


class _Kept(data.Struct):
    """Which AECS was read; if ``valid``, the context's codes are of it if it has any."""

    valid: 1
    address: ADDR_WIDTH
    generation: 32
    translate: 1
    table: ADDR_WIDTH - 12


class Lane(wiring.Component):
    """Do what a descriptor asks for, with one context of an inflate engine, and write its record.

    From ``i`` to the first task or operation pass 10 cycles, from its result to that of the record 3. The tables of
    an AECS stay in the context, and it is not read again at the same address of the same address space, until
    ``generation`` changes or another stream goes through the context. One that is to be written is always read.

    A stream that an AECS of the device's own was left with goes on in at most two tasks before that of the source: one
    loads the history, one reads the header of the block once more.

    Parameters
    ----------
    context:
        Number of the context in its engine, 0 to 7; ``None`` for a lane that carries out LISTs and nothing else.
    window:
        Bytes of history of the context.

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

    def __init__(self, *, context: int | None, window: int = 32768):
        self.context = 0 if context is None else operator.index(context)
        self.window = check_window(window)
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
        self._subject, self._work, self._completion = Signal(Subject), Signal(Work), Signal(RawCompletion)
        self._aecs, self._place, self._kind = Signal(AecsState), Signal(ADDR_WIDTH), Signal(LaneTask)
        self._saver = AecsSaver(window=self.window, lane=self.context)

    def elaborate(self, platform):
        m = Module()
        m.submodules.checker = checker = DescriptorChecker(window=self.window)
        m.submodules.judge = judge = Judge()
        m.submodules.tasks = tasks = TaskMaker(context=self.context)
        m.submodules.saver = saver = self._saver
        work, record, kept, started = self._work, self._completion, Signal(_Kept), Signal(32)
        raw, aecs, kind = work.descriptor, self._aecs, self._kind
        uses_aecs, is_kept, is_aborted, writes = Signal(), Signal(), Signal(), _writes(raw)
        place, target = self._place, Signal(ADDR_WIDTH)  # of the AECS that is read, and that is written
        m.d.comb += [
            checker.i.eq(work),
            uses_aecs.eq((raw.opcode == Opcode.DECOMPRESS) & (raw.flags & Flag.READ_SOURCE2_AECS).any()),
            judge.raw.eq(raw), judge.outcome.eq(self.i_outcome.payload), judge.fault.eq(self.fault),
            judge.utility_fault.eq(self.utility_fault), judge.result.eq(self.i_result.payload),
            judge.list_result.eq(self.i_list.payload), judge.aborted.eq(is_aborted), judge.kind.eq(kind),
            judge.aecs.eq(aecs),
            is_aborted.eq(self.abort.bit_select(work.space.queue, 1)),
            self.cut.eq(self.busy & is_aborted),
            self.space.eq(work.space),
            self.space.block.eq(work.space.block & (raw.flags & Flag.BLOCK_ON_FAULT).any()),
        ]
        m.d.sync += is_kept.eq(
            kept.valid & ~writes & (kept.address == place) & (kept.generation == self.generation)
            & (kept.translate == work.space.translate) & (~kept.translate | (kept.table == work.space.table)))
        subject = self._subject
        is_second = (raw.flags & Flag.AECS_TOGGLE).any()
        m.d.sync += [
            place.eq(raw.source2 + Mux(is_second, raw.source2_size, 0)),
            target.eq(raw.source2 + Mux(is_second, 0, raw.source2_size)),
        ]
        for part in (tasks, saver):
            m.d.comb += [part.raw.eq(raw), part.uses_aecs.eq(uses_aecs), part.aecs.eq(aecs), part.place.eq(place)]
        m.d.comb += [
            judge.subject.eq(subject), tasks.kind.eq(kind), self.o_task.payload.eq(tasks.o),
            saver.outcome.eq(self.i_outcome.payload), saver.target.eq(target),
            saver.i_result.payload.eq(self.i_result.payload),
        ]
        self._utility(m, raw, uses_aecs, place, saver)
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
                        m.d.sync += kind.eq(LaneTask.SOURCE)
                        self._begin(m, raw, record, uses_aecs, is_kept)
            with m.State("AECS"):
                m.d.comb += self.o_utility.valid.eq(1)
                with m.If(self.o_utility.ready):
                    m.next = "AECS_READ"
            with m.State("AECS_READ"):
                with m.If(self.i_result.valid):
                    self._keep(m, raw, work, kept, aecs, kind, place, subject)
            with m.State("PREPARE"):
                m.d.comb += self.o_task.valid.eq(1)
                with m.If(self.o_task.ready):
                    m.next = "PREPARED"
            with m.State("PREPARED"):
                with m.If(self.i_outcome.valid & judge.is_prepared):
                    m.d.comb += self.i_outcome.ready.eq(1)
                    m.d.sync += kind.eq(LaneTask.SOURCE)
                    m.next = "TASK"
                    with m.If((kind == LaneTask.HISTORY) & aecs.saved.is_within):
                        m.d.sync += kind.eq(LaneTask.HEADER)
                        m.next = "PREPARE"
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
                    self.i_result.ready.eq((subject == Subject.UTILITY) | (subject == Subject.SAVE)),
                    saver.start.eq(judge.saves),
                ]
                m.d.sync += record.eq(judge.o)
                m.next = "CLOSE"
                with m.If(judge.saves):
                    m.next = "SAVE"
            with m.State("SAVE"):
                m.d.comb += [saver.i_result.valid.eq(self.i_result.valid), self.i_result.ready.eq(saver.i_result.ready)]
                with m.If(saver.done):
                    m.next = "CLOSE"
                    with m.If(saver.failed):
                        m.d.sync += subject.eq(Subject.SAVE)
                        m.next = "JUDGE"
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

    def _keep(self, m, raw, work, kept, aecs, kind, place, subject):
        """Take what the utility has read of an AECS."""
        result, saved = self.i_result.payload, self.i_result.payload.aecs.saved
        ignored = raw.operation_flags[6:9]
        has_no_bits = saved.valid & (raw.source_size == 1) & (saved.start_bit + ignored > 8)
        m.d.sync += [
            kept.address.eq(place), kept.generation.eq(self.generation),
            kept.translate.eq(work.space.translate), kept.table.eq(work.space.table),
            kept.valid.eq(~saved.valid & ~_writes(raw)),
            *(aecs[name].eq(result.aecs[name]) for name in ("crc", "xor_checksum", "size", "saved")),
        ]
        with m.If(result.failed | result.aecs.is_bad | has_no_bits):
            m.d.sync += [kept.valid.eq(0), subject.eq(Subject.UTILITY)]
            m.next = "JUDGE"
        with m.Else():
            m.d.comb += self.i_result.ready.eq(1)
            m.next = "PREPARE"
            with m.If(saved.valid & (saved.history != 0)):
                m.d.sync += kind.eq(LaneTask.HISTORY)
            with m.Elif(saved.valid & saved.is_within):
                m.d.sync += kind.eq(LaneTask.HEADER)
            with m.Elif(~saved.valid & (result.aecs.size != 0)):
                m.d.sync += kind.eq(LaneTask.TABLES)
            with m.Else():
                m.next = "TASK"

    def _utility(self, m, raw, uses_aecs, place, saver):
        """The operation for the utility: an AECS for DECOMPRESS, and what is saved of it, else the descriptor's own."""
        job = self.o_utility.payload
        is_fill = raw.opcode == Opcode.FILL
        aecs_size = Mux(raw.source2_size == AECS_SIZE, AECS_SIZE, HISTORY_OFFSET)  # no more than where the history is
        m.d.comb += [
            job.lane.eq(self.context),
            job.operation.eq(Mux(uses_aecs, UtilityOperation.AECS,
                                 Mux(is_fill, UtilityOperation.FILL, UtilityOperation.CRC64))),
            job.address.eq(Mux(uses_aecs, place, Mux(is_fill, raw.destination, raw.source))),
            job.size.eq(Mux(uses_aecs, aecs_size, Mux(is_fill, raw.destination_size, raw.source_size))),
            job.value.eq(Mux(is_fill, raw.source2, raw.filter_flags | raw.elements << 32)),
            job.invert.eq(raw.operation_flags[14]), job.big_endian.eq(raw.operation_flags[15]),
            saver.o_utility.ready.eq(self.o_utility.ready),
        ]
        with m.If(saver.o_utility.valid):
            m.d.comb += [self.o_utility.valid.eq(1), job.eq(saver.o_utility.payload)]

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


def _writes(raw):
    """Whether an AECS is to be written, maybe; then its twin may have been, by another lane."""
    return raw.flags[18:20].any()
