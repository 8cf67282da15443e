# SPDX-License-Identifier: Apache-2.0
"""One context of the inflate engine: its source, its front, and the record of each of its jobs."""

import operator

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.dma.reader import Reader
from rackgate.inflate.abi import Status
from rackgate.inflate.code import CodeTables, SymbolWrite
from rackgate.inflate.entry import Entry, Options, Result, Run, Stop, Summary
from rackgate.inflate.feeder import Feeder
from rackgate.inflate.front import Front
from rackgate.inflate.input import InputBuffer
from rackgate.inflate.record import Outcome
from rackgate.inflate.task import ADDR_WIDTH, Task

__all__ = ["Slot"]

#: Fields of a record that are the front's result as it stands.
_FROM_FRONT = ("produced", "crc32", "adler32", "members", "total", "dictionary", "error", "flags")

#: Fields of a job that are the task's.
_FROM_TASK = (
    "load", "tables", "canned", "framing", "resume", "last", "multi", "strict_lengths", "one_block", "options")


class Slot(wiring.Component):
    """Do the tasks of one context, one at a time, each from its descriptor to its completion record.

    A task that was refused only gets its record. A record is given out when every byte of the job has been
    answered by the memory. About 12 cycles pass between a job's result and the next job's first read.

    Parameters
    ----------
    context:
        Number of the context, 0 to 7. lanes: bits of a block, 8 or 16.

    Members
    -------
    i, o: tasks, and their records in the same order.
    now: the cycle counter. busy: a task is under way.
    destination: byte address of the job under way, for the writer. options: its options, for the output stage.
    writer_idle, writer_error: of this context.
    want_block, has_block, block, block_count: blocks of source bits for the body decoder, see ``Feeder``.
    want, grant, fault, o_entry, o_run, i_stop, i_outcome, i_summary, tables, o_symbol: see ``Front``.
    ar, r: AXI4 read channels of the source.

    Reset forgets the task and what could be resumed; reads under way must be reset with it.
    """

    def __init__(self, *, context: int, lanes: int = 16):
        self.context = operator.index(context)
        self.lanes = operator.index(lanes)
        self._feeder = Feeder(lanes=self.lanes)
        self._front = Front(context=self.context)
        self._reader = Reader(addr_width=ADDR_WIDTH, id_width=1)
        bus = AXI4Signature(addr_width=ADDR_WIDTH, id_width=1)
        super().__init__({
            "i": In(stream.Signature(Task)),
            "o": Out(stream.Signature(Outcome)),
            "now": In(64),
            "busy": Out(1),
            "destination": Out(ADDR_WIDTH),
            "options": Out(Options),
            "writer_idle": In(1), "writer_error": In(1),
            "want_block": In(1), "has_block": Out(1), "block": Out(self.lanes),
            "block_count": Out(range(self.lanes + 1)),
            "want": Out(1), "grant": In(1), "fault": In(1),
            "o_entry": Out(stream.Signature(Entry)),
            "o_run": Out(stream.Signature(Run)),
            "i_stop": In(stream.Signature(Stop)),
            "i_outcome": In(stream.Signature(Result)),
            "i_summary": In(stream.Signature(Summary)),
            "tables": Out(CodeTables), "o_symbol": Out(SymbolWrite),
            "ar": bus.members["ar"],
            "r": bus.members["r"],
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.front = front = self._front
        m.submodules.reader = reader = self._reader
        m.submodules.source = source = InputBuffer()
        m.submodules.feeder = feeder = self._feeder
        self._connect(m, front, reader, source, feeder)

        task = Signal(Task)
        record = self.o.payload.record
        source_bits, source_end = Signal(32), Signal(32)
        m.d.comb += [
            # Positions count from bit 0 of the aligned word that holds the first byte.
            source_end.eq(((task.source[:3] + task.source_size) << 3) - task.ignored_bits),
            source_bits.eq(Mux(task.source_size == 0, source_end, task.source[:3] << 3 | task.start_bit)),
            *(front.i_job.p[name].eq(task[name]) for name in _FROM_TASK),
            front.i_job.p.source_bits.eq(source_bits),
            front.i_job.p.source_end.eq(source_end),
            front.i_job.p.room.eq(task.destination_size),
            reader.i.payload.addr.eq(task.source),
            reader.i.payload.size.eq(task.source_size),
            self.destination.eq(task.destination),
            self.options.eq(task.options),
        ]
        is_drained = Signal()  # in the cycle before: what it takes to know is far away
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [task.eq(self.i.payload), self._begin_record(self.i.payload)]
                with m.If(self.i.valid):
                    m.next = "START"
                    with m.If(self.i.payload.status != Status.IN_PROGRESS):
                        m.next = "RECORD"
            with m.State("START"):
                m.d.comb += front.i_job.valid.eq(1)
                with m.If(front.i_job.ready):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += reader.i.valid.eq(1)
                with m.If(reader.i.ready):
                    m.next = "WORK"
            with m.State("WORK"):
                with m.If(front.o_result.valid):
                    m.d.sync += self._end_record(front.o_result.p, task)
                    m.d.comb += [front.o_result.ready.eq(1), reader.cancel.eq(1)]
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.sync += is_drained.eq(~reader.busy & self.writer_idle)
                with m.If(is_drained):
                    m.d.sync += is_drained.eq(0)
                    m.d.sync += record.finished.eq(self.now)
                    with m.If(self.writer_error & front.begun):
                        m.d.sync += self._failed_record()
                        m.d.comb += front.forget.eq(1)
                    m.next = "RECORD"
            with m.State("RECORD"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m

    def _connect(self, m, front, reader, source, feeder):
        in_run = Signal()
        m.d.comb += feeder.active.eq((self.o_run.valid & self.o_run.ready)
                                     | (in_run & ~(self.i_stop.valid & self.i_stop.ready)))
        m.d.sync += in_run.eq(feeder.active)
        wiring.connect(m, reader.o, source.i)
        # A cycle late, as it goes far: it is looked at only after a parser has found the source exhausted.
        m.d.sync += front.read_error.eq(source.error)
        m.d.comb += [
            source.take.eq(front.take | feeder.take),  # never both at a time
            source.consume.eq(front.consume | feeder.consume),
            feeder.want.eq(self.want_block),
            self.has_block.eq(feeder.valid),
            self.block.eq(feeder.bits),
            self.block_count.eq(feeder.count),
        ]
        for target, origin, names in (
            (source, front, ("restart", "restart_position", "end", "flush")),
            (front, source, ("window", "level", "exhausted", "primed", "position")),
            (feeder, source, ("window", "level", "exhausted")),
            (front, self, ("grant", "fault")),
            (self, front, ("want", "tables", "o_symbol")),
        ):
            m.d.comb += [getattr(target, name).eq(getattr(origin, name)) for name in names]
        for name in ("ar", "r"):
            wiring.connect(m, getattr(reader, name), wiring.flipped(getattr(self, name)))
        for name in ("o_entry", "o_run"):
            wiring.connect(m, getattr(front, name), wiring.flipped(getattr(self, name)))
        for name in ("i_stop", "i_outcome", "i_summary"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(front, name))

    def _begin_record(self, task):
        record = self.o.payload.record
        return [
            record.eq(0),
            record.tag.eq(task.tag), record.status.eq(task.status),
            record.started.eq(self.now), record.finished.eq(self.now),
            self.o.payload.address.eq(task.completion), self.o.payload.interrupt.eq(task.interrupt),
        ]

    def _end_record(self, result, task):
        """Fill the record with a job's result; after a read error, with what was done before it."""
        record = self.o.payload.record
        return [
            *(record[name].eq(result[name]) for name in _FROM_FRONT),
            record.consumed.eq((result.position >> 3) - task.source[:3]),
            record.consumed_bit.eq(result.position[:3]),
            record.status.eq(result.status), self.o.payload.xor_checksum.eq(result.xor_checksum),
            self.o.payload.progress.eq(result.progress),
        ]

    def _failed_record(self):
        """What is left of the record when the output could not be written."""
        record = self.o.payload.record
        names = (*_FROM_FRONT, "consumed", "consumed_bit")
        return [*(record[name].eq(0) for name in names), record.status.eq(Status.WRITE_ERROR)]
