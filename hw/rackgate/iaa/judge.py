# SPDX-License-Identifier: Apache-2.0
"""From a result to a completion record."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import WRITE_FAULT, DecompressFlag, ErrorCode, Framing, Opcode, Status, WriteSource2
from rackgate.iaa.lister import ListResult
from rackgate.iaa.misses import Fault
from rackgate.iaa.record import RawCompletion
from rackgate.iaa.tasks import AecsState, LaneTask
from rackgate.iaa.utility import UtilityResult
from rackgate.iaa.work import RawDescriptor
from rackgate.inflate.abi import ResultFlag
from rackgate.inflate.abi import Status as InflateStatus
from rackgate.inflate.record import Outcome
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["Judge", "Subject"]


class Subject(enum.Enum, shape=3):
    """Of what a :class:`Judge` has the result."""

    DECOMPRESS = 0  # the outcome
    TABLES = 1  # the outcome of reading an AECS' header or history, which was no success
    UTILITY = 2  # the utility's result; of DECOMPRESS, a failure to read the AECS
    LIST = 3  # the list's result
    SAVE = 4  # the utility's result, a failure to write an AECS


class Judge(wiring.Component):
    """Work out the record of a descriptor; what it says is that of ``rackgate_sim.iaa.model``.

    ``o`` is right from the second cycle on in which the inputs stand. Of a page fault on a write, it tells the output
    before the page and nothing else. There is nothing to reset.

    Members
    -------
    subject: what is judged. raw: the descriptor.
    outcome, result, list_result: how it went. kind, aecs: which task; the AECS that was read.
    fault, utility_fault: of the accesses; of a list's, ``fault``. aborted: the descriptor was cut short if any failed.
    o: the record, without ``cycles``. is_prepared: the outcome is that of a task before the last which went well.
    saves: the state is to be written to an AECS.
    """

    subject: In(Subject)
    raw: In(RawDescriptor)
    outcome: In(Outcome)
    result: In(UtilityResult)
    list_result: In(ListResult)
    kind: In(LaneTask)
    aecs: In(AecsState)
    fault: In(Fault)
    utility_fault: In(Fault)
    aborted: In(1)
    o: Out(RawCompletion)
    is_prepared: Out(1)
    saves: Out(1)

    def elaborate(self, platform):
        m = Module()
        done = self.outcome.record
        is_utility = (self.subject == Subject.UTILITY) | (self.subject == Subject.SAVE)
        is_bus_error = done.status.matches(InflateStatus.READ_ERROR, InflateStatus.WRITE_ERROR)
        is_table = self.kind == LaneTask.TABLES
        is_whole = Cat(done.consumed_bit[:3], done.consumed) == Mux(
            is_table, self.aecs.size << 3, self.aecs.saved.header_bits)
        is_success, is_within = done.status == InflateStatus.SUCCESS, (done.flags & ResultFlag.BLOCK).any()
        with m.Switch(self.kind):
            with m.Case(LaneTask.TABLES):
                m.d.comb += self.is_prepared.eq(is_success & is_whole)
            with m.Case(LaneTask.HISTORY):
                m.d.comb += self.is_prepared.eq(is_success)
            with m.Default():
                m.d.comb += self.is_prepared.eq((done.status == InflateStatus.NEED_INPUT) & is_within & is_whole)
        is_list, is_short = self.subject == Subject.LIST, Signal()
        self._save(m, is_short)
        with m.If(Mux(is_list, self.list_result.failed, Mux(is_utility, self.result.failed, is_bus_error))):
            self._failure(m, is_utility, is_list)
        with m.Elif(is_list):
            m.d.comb += [
                self.o.status.eq(Status.SUCCESS), self.o.completed.eq(self.list_result.count),
                self.o.error.eq(self.list_result.member_failed),
            ]
        with m.Elif(is_utility):
            self._utility(m)
        with m.Elif(self.subject == Subject.TABLES):
            error = Mux(done.error == 0, ErrorCode.BAD_AECS, done.error)
            m.d.comb += [self.o.status.eq(Status.ANALYTICS_ERROR), self.o.error.eq(error)]
        with m.Else():
            self._progress(m)
            self._decompress(m, is_short)
        return m

    def _save(self, m, is_short):
        """Whether the state is to be written, and whether the source ends where it must not."""
        done, flags, write = self.outcome.record, self.raw.operation_flags, self.raw.flags[18:20]
        left = Signal(36)  # source bits behind the last block, if not in one
        m.d.sync += left.eq((self.raw.source_size << 3) - flags[6:9] - (done.consumed << 3) - done.consumed_bit)
        is_within = (done.flags & ResultFlag.BLOCK).any()
        needs_input = done.status == InflateStatus.NEED_INPUT
        is_success = (done.status == InflateStatus.SUCCESS) | (needs_input & ~is_short)
        is_overflow = done.status == InflateStatus.OUTPUT_OVERFLOW
        is_page_fault = ((done.status == InflateStatus.READ_ERROR) & ~self.aborted & self.fault.valid
                         & ~self.fault.write & ~self.fault.timeout)
        m.d.comb += [
            is_short.eq(needs_input & (flags & DecompressFlag.CHECK_FOR_EOB).any() & (is_within | (left >= 8))),
            self.saves.eq((self.subject == Subject.DECOMPRESS) & Mux(
                write == WriteSource2.ALWAYS, is_success | is_overflow | is_page_fault,
                (write == WriteSource2.ON_OVERFLOW) & is_overflow)),
        ]

    def _decompress(self, m, is_short):
        """Status and error of a decompression whose pages were all there."""
        done = self.outcome.record
        m.d.comb += [self.o.status.eq(done.status), self.o.error.eq(done.error)]
        with m.If(done.status == InflateStatus.NEED_INPUT):
            m.d.comb += self.o.status.eq(Status.SUCCESS)
            is_within = (done.flags & ResultFlag.BLOCK).any()
            with m.If(is_short):
                m.d.comb += [
                    self.o.status.eq(Status.ANALYTICS_ERROR),
                    self.o.error.eq(Mux(is_within, ErrorCode.END_OF_BLOCK_MISSING, ErrorCode.HEADER_TRUNCATED)),
                ]

    def _progress(self, m):
        """What was decompressed."""
        done, framing = self.outcome.record, self.raw.operation_flags[13:15]
        is_begun = done.consumed_bit.any()
        m.d.comb += [
            self.o.completed.eq(done.consumed + (is_begun & ~self.saves)),
            self.o.unused_bits.eq(Mux(is_begun & ~self.saves, (8 - done.consumed_bit)[:3], 0)),
            self.o.output_size.eq(done.produced),
            self.o.xor_checksum.eq(self.outcome.xor_checksum),
            self.o.crc.eq(done.crc32),
            self.o.members.eq(Mux(framing == Framing.GZIP, done.members, 0)),
            self.o.adler32.eq(Mux(framing == Framing.ZLIB, done.adler32, 0)),
        ]

    def _utility(self, m):
        """An operation that went well, or an AECS that is none."""
        m.d.comb += self.o.status.eq(Status.SUCCESS)
        with m.Switch(self.raw.opcode):
            with m.Case(Opcode.CRC64):
                m.d.comb += [
                    self.o.completed.eq(self.raw.source_size),
                    self.o.maximum.eq(self.result.value[:32]), self.o.sum.eq(self.result.value[32:]),
                ]
            with m.Case(Opcode.FILL):
                m.d.comb += self.o.output_size.eq(self.raw.destination_size)
            with m.Default():
                m.d.comb += [self.o.status.eq(Status.ANALYTICS_ERROR), self.o.error.eq(ErrorCode.BAD_AECS)]

    def _failure(self, m, is_utility, is_list):
        """An access failed: of the memory, for want of a page, or because the descriptor was cut short."""
        done = self.outcome.record
        fault, before = Signal(Fault), Signal(ADDR_WIDTH + 1)
        is_crc, is_fill = self.raw.opcode == Opcode.CRC64, self.raw.opcode == Opcode.FILL
        is_save = self.subject == Subject.SAVE
        begin = Mux(fault.write, self.raw.destination, self.raw.source)[:ADDR_WIDTH]
        m.d.comb += fault.eq(Mux(is_utility, self.utility_fault, self.fault))
        page = Cat(Const(0, 12), fault.address[12:])
        m.d.sync += before.eq(page - begin)  # bytes up to the page that is not there, if any
        there = Mux(before[ADDR_WIDTH], 0, before[:32])
        m.d.comb += self.o.status.eq(done.status)
        with m.If(is_utility | is_list):
            m.d.comb += self.o.status.eq(Mux(is_fill | is_save, Status.WRITE_ERROR, Status.READ_ERROR))
        with m.If(self.aborted):
            m.d.comb += self.o.status.eq(Status.ABORTED)
        with m.Elif(fault.valid):
            m.d.comb += [
                self.o.status.eq(Mux(fault.timeout, Status.PAGE_REQUEST_TIMEOUT, Status.PAGE_FAULT
                                     | Mux(fault.write, WRITE_FAULT, 0))),
                self.o.fault_address.eq(page),
            ]
            with m.If(fault.write & ~is_save):
                m.d.comb += self.o.output_size.eq(there)
            with m.Elif(is_list):
                m.d.comb += self.o.completed.eq(self.list_result.count)
            with m.Elif(is_utility & is_crc):
                m.d.comb += self.o.completed.eq(there)
            with m.Elif(self.subject == Subject.DECOMPRESS):
                self._progress(m)
