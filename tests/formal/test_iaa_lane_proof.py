# SPDX-License-Identifier: Apache-2.0
"""Proofs by induction about a lane: every descriptor retires once, with the one record that is due or an error told
once, every task's outcome is taken once, and every address that it gives out is of a buffer that the descriptor names.

The checker, the judge and the saver are whatever their contracts allow: they are held to the model elsewhere. A task's
outcome, an operation's result, a list's and a record's answer come once, at any time after they were asked for.
"""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cover, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from runner import ProofFailed, prove, specification

from rackgate.iaa import lane as lane_module
from rackgate.iaa.abi import Flag, Opcode, Status
from rackgate.iaa.aecs import (
    ACCUMULATOR_OFFSET,
    ACCUMULATOR_SIZE,
    AECS_SIZE,
    HEADER_OFFSET,
    HEADER_SIZE,
    HISTORY_OFFSET,
    saved_size,
)
from rackgate.iaa.check import Verdict
from rackgate.iaa.judge import Judge, Subject
from rackgate.iaa.save import AecsSaver
from rackgate.iaa.tasks import LaneTask
from rackgate.iaa.utility import UtilityOperation
from rackgate.iaa.work import Work
from rackgate.inflate.task import ADDR_WIDTH
from rackgate.verif.stream_rules import watch

pytestmark = pytest.mark.formal

WINDOW = 4096
UNTOLD = (Status.COMPLETION_MISALIGNED, Status.COMPLETION_FAULT)


class AnyChecker(wiring.Component):
    """Any verdict after any time; an AECS has one of two sizes if it passes."""

    start: In(1)
    i: In(Work)
    done: Out(1)
    o: Out(Verdict)

    def __init__(self, *, window):
        super().__init__()
        self._has = Signal()

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self._has.eq((self._has | self.start) & ~self.done)
        size = self.i.descriptor.source2_size
        m.d.comb += [
            self.done.eq(self._has & AnySeq(1)), self.o.as_value().eq(AnySeq(len(self.o.as_value()))),
            Assume(self.o.status != Status.COMPLETION_FAULT),
            Assume((self.o.status != Status.IN_PROGRESS) | (size == AECS_SIZE) | (size == saved_size(WINDOW))),
        ]
        return m


class AnyJudge(Judge):
    """Any record, and any decision to go on or to save that can be."""

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.o.as_value().eq(AnySeq(len(self.o.as_value()))), self.is_prepared.eq(AnySeq(1)),
            self.saves.eq(AnySeq(1)), Assume(~self.saves | (self.subject == Subject.DECOMPRESS)),
            *(Assume(self.o.status != status) for status in UNTOLD),
        ]
        return m


class AnySaver(AecsSaver):
    """Ends after any time, well or not."""

    def __init__(self, **parameters):
        super().__init__(**parameters)
        self._has = Signal()

    def elaborate(self, platform):
        m, has = Module(), self._has
        m.d.sync += has.eq((has | self.start) & ~self.done)
        m.d.comb += [self.done.eq(has & AnySeq(1)), self.failed.eq(AnySeq(1))]
        return m


def outstanding(m, asked, answered, answers, name, fault):
    """Whether there is an answer to come, of which there is none that nobody asked for."""
    count = Signal(name=f"outstanding_{name}")
    m.d.sync += count.eq((count | asked) & ~answered)
    m.d.comb += Assert(~asked | ~count, "asked for again")
    if fault != "answers come unasked":
        m.d.comb += Assume(~answers | count)
    return count


def answer(m, target, name, fault):
    """Any payload at any time by the stream rules."""
    payload = Value.cast(target.payload)
    m.d.comb += [payload.eq(AnySeq(len(payload))), target.valid.eq(AnySeq(1))]
    watch(m, target, name=name, assume=True)


def lane(monkeypatch, fault=None):
    monkeypatch.setattr(lane_module, "DescriptorChecker", AnyChecker)
    monkeypatch.setattr(lane_module, "Judge", AnyJudge)
    monkeypatch.setattr(lane_module, "AecsSaver", AnySaver)
    m = specification()
    m.submodules.dut = dut = lane_module.Lane(context=1, window=WINDOW)
    for name in ("i", "i_outcome", "i_result", "i_list"):
        answer(m, getattr(dut, name), name, fault)
    for name in ("o_task", "o_utility", "o_list", "o_record", "o_error"):
        m.d.comb += getattr(dut, name).ready.eq(AnySeq(1))
    for name in ("abort", "generation", "now"):
        m.d.comb += getattr(dut, name).eq(AnySeq(len(getattr(dut, name))))
    at, subject, work, record = dut._at, dut._subject, dut._work, dut._completion

    def taken(one):
        return one.valid & one.ready

    # What there is to come, and what has been.
    task = outstanding(m, taken(dut.o_task), taken(dut.i_outcome), dut.i_outcome.valid, "task", fault)
    operation = outstanding(m, taken(dut.o_utility), taken(dut.i_result), dut.i_result.valid, "operation", fault)
    a_list = outstanding(m, taken(dut.o_list), taken(dut.i_list), dut.i_list.valid, "list", fault)
    has, records, answered, errors = Signal(), Signal(2), Signal(), Signal(2)
    m.d.comb += [dut.record_done.eq(AnySeq(1)), dut.record_failed.eq(AnySeq(1)),
                 Assume(~dut.record_done | ((records == 1) & ~answered))]
    with m.If(taken(dut.i)):
        m.d.sync += [has.eq(1), records.eq(0), answered.eq(0), errors.eq(0)]
    with m.Else():
        m.d.sync += [has.eq(has & ~dut.retired), answered.eq(answered | dut.record_done),
                     records.eq(records + taken(dut.o_record)), errors.eq(errors + taken(dut.o_error))]

    # The states as they must be, for the induction.
    is_judged = at["WORK"] | at["JUDGE"]
    is_task = (is_judged & (subject == Subject.DECOMPRESS)) | (at["JUDGE"] & (subject == Subject.TABLES))
    is_operation = is_judged & (subject == Subject.UTILITY)
    m.d.comb += [
        Assert(has == ~at["IDLE"], "a descriptor is lost"),
        Assert(task == (at["PREPARED"] | is_task)),
        Assert(operation == (at["AECS_READ"] | is_operation)),
        Assert(a_list == (is_judged & (subject == Subject.LIST))),
        Assert(~at["WORK"] | (subject != Subject.TABLES) & (subject != Subject.SAVE)),
        Assert(~at["JUDGE"] | (subject.as_value() <= Subject.SAVE)), Assert(~at["WORK"] | (subject.as_value() <= 3)),
        Assert(~at["JUDGE"] | ~is_task | dut.i_outcome.valid),
        Assert(~at["JUDGE"] | ~is_operation | dut.i_result.valid),
        Assert(~at["JUDGE"] | (subject != Subject.LIST) | dut.i_list.valid),
        Assert(~at["SAVE"] | dut_saver(dut)), Assert(at["SAVE"] | ~dut_saver(dut)),
    ]
    is_end = at["WRITTEN"] | at["REPORT"] | at["RETIRE"] | at["IDLE"]
    is_untold = (record.status == UNTOLD[0]) | (record.status == UNTOLD[1])
    m.d.comb += [
        Assert(is_end | ((records == 0) & ~answered)), Assert(at["RETIRE"] | at["IDLE"] | (errors == 0)),
        Assert(at["REPORT"] | at["RETIRE"] | at["IDLE"] | (record.status != Status.COMPLETION_FAULT)),
        Assert(~at["WRITTEN"] | ((records == 1) & ~answered & ~is_untold)),
        Assert(~at["REPORT"] | (is_untold & ((records == 0) | ((records == 1) & answered)))),
        Assert(~at["CHECK"] | (record.status == 0)),
    ]

    # What is claimed.
    flags = work.descriptor.flags
    is_due = (flags & Flag.COMPLETION_ADDRESS_VALID).any() & (
        (flags & Flag.REQUEST_COMPLETION).any() | (record.status != Status.SUCCESS))
    m.d.comb += [
        Assert(~at["WRITTEN"] | is_due), Assert(dut.retired == at["RETIRE"]),
        Assert(~dut.o_record.valid | (dut.o_record.payload.address == work.descriptor.completion[:ADDR_WIDTH]),
               "a record for another place"),
    ]
    with m.If(dut.retired):
        with m.If(is_untold):
            m.d.comb += Assert(errors == (2 if fault == "two errors" else 1), "an error is lost or doubled")
        with m.Else():
            m.d.comb += Assert((errors == 0) & (records == is_due) & (~is_due | answered),
                               "a completion is lost or doubled")
    given, has_given = Signal(Work), Signal()
    with m.If(taken(dut.i)):
        m.d.sync += [given.eq(dut.i.payload), has_given.eq(1)]
    m.d.comb += Assert(~has_given & at["IDLE"] | (work.as_value() == given.as_value()) | at["IDLE"],
                       "the descriptor changes")
    addresses(m, dut, fault)
    covers(m, dut, at, subject, errors)
    return m


def dut_saver(dut):
    """Whether the saver is at work."""
    return dut._saver._has


def addresses(m, dut, fault):
    """Ranges that the lane gives out are of the descriptor's buffers."""
    raw, aecs, place = dut._work.descriptor, dut._aecs, Signal(ADDR_WIDTH)
    is_second = (raw.flags & Flag.AECS_TOGGLE).any()
    m.d.comb += place.eq(raw.source2 + Mux(is_second, raw.source2_size, 0))
    saved = aecs.saved
    result = dut.i_result.payload.aecs
    is_saved_good = (result.saved.history <= WINDOW) & (result.saved.header_bits <= 8 * HEADER_SIZE)
    m.d.comb += [
        # What the reader of an AECS says of one that is none does not matter.
        Assume(result.is_bad | ((result.size <= ACCUMULATOR_SIZE) & (~result.saved.valid | is_saved_good))),
        Assert(dut._at["IDLE"] | dut._at["CHECK"] | (dut._place == place)),
        *(Assert(~dut._at[name] | (dut._kind == LaneTask.SOURCE)) for name in ("AECS", "AECS_READ", "TASK")),
        Assert(~dut._at["PREPARE"] | (dut._kind != LaneTask.SOURCE)),
        Assert(~dut._at["PREPARED"] | (dut._kind != LaneTask.SOURCE)),
    ]
    begun = (dut._at["AECS"], dut._at["AECS_READ"], dut._at["PREPARE"], dut._at["PREPARED"], dut._at["TASK"])
    for state in begun:
        m.d.comb += Assert(~state | (raw.source2_size == AECS_SIZE) | (raw.source2_size == saved_size(WINDOW)))
    for name in ("PREPARE", "PREPARED"):
        m.d.comb += Assert(~dut._at[name] | saved.valid | (dut._kind == LaneTask.TABLES))
        m.d.comb += Assert(~dut._at[name] | ((aecs.size <= ACCUMULATOR_SIZE) & (~saved.valid | (
            (saved.history <= WINDOW) & (saved.header_bits <= 8 * HEADER_SIZE)))))
    task = dut.o_task.payload
    offset = (task.source - place)[:ADDR_WIDTH]
    with m.If(dut.o_task.valid & dut._at["PREPARE"]):
        with m.If(task.tables):
            m.d.comb += Assert((offset == ACCUMULATOR_OFFSET) & (task.source_size <= ACCUMULATOR_SIZE), "a wrong table")
        with m.Elif(task.load):
            most = 8 if fault == "a long history" else WINDOW
            m.d.comb += Assert((offset == HISTORY_OFFSET) & (task.source_size <= most), "a wrong history")
        with m.Else():
            m.d.comb += Assert((offset == HEADER_OFFSET) & (task.source_size <= HEADER_SIZE), "a wrong header")
        m.d.comb += Assert(task.destination_size == 0, "output of what comes before the source")
    with m.If(dut.o_task.valid & dut._at["TASK"]):
        m.d.comb += [
            Assert((task.source == raw.source[:ADDR_WIDTH]) & (task.source_size == raw.source_size), "a wrong source"),
            Assert(task.options.discard | ((task.destination == raw.destination[:ADDR_WIDTH])
                                           & (task.destination_size == raw.destination_size)), "a wrong destination"),
        ]
    job = dut.o_utility.payload
    with m.If(dut.o_utility.valid):
        with m.If(dut._at["AECS"]):
            m.d.comb += Assert((job.operation == UtilityOperation.AECS) & (job.address == place)
                               & (job.size <= raw.source2_size), "a wrong AECS")
        with m.Elif(raw.opcode == Opcode.FILL):
            m.d.comb += Assert((job.operation == UtilityOperation.FILL)
                               & (job.address == raw.destination[:ADDR_WIDTH])
                               & (job.size == raw.destination_size), "a wrong destination")
        with m.Else():
            m.d.comb += Assert((job.operation == UtilityOperation.CRC64) & (job.address == raw.source[:ADDR_WIDTH])
                               & (job.size == raw.source_size), "a wrong source")


def covers(m, dut, at, subject, errors):
    """What must be possible within some cycles."""
    was_saved, was_loaded = Signal(), Signal()
    with m.If(at["SAVE"]):
        m.d.sync += was_saved.eq(1)
    with m.If(at["PREPARE"] & dut.o_task.payload.load):
        m.d.sync += was_loaded.eq(1)
    m.d.comb += [
        Cover(dut.retired & was_saved), Cover(dut.retired & (errors == 1)), Cover(dut.retired & was_loaded),
        Cover(dut.retired & (subject == Subject.LIST)), Cover(dut.retired & (subject == Subject.SAVE)),
    ]


def test_lane(monkeypatch):
    prove(lane(monkeypatch), "iaa_lane", depth=2)


def test_lane_can_end(monkeypatch):
    prove(lane(monkeypatch), "iaa_lane_cover", mode="cover", depth=16)


@pytest.mark.parametrize("fault", ["answers come unasked", "two errors", "a long history"])
def test_lane_fault(monkeypatch, fault):
    with pytest.raises(ProofFailed):
        prove(lane(monkeypatch, fault), f"iaa_lane_{fault.replace(' ', '_')}", depth=2)
