# SPDX-License-Identifier: Apache-2.0
"""Proofs that Guard grants each byte of a stream once, and none before the cursor, for all time.

A flow and a byte are picked. A state of the flow is *sound* if what has been granted is from the cursor to the low mark
or in an interval, and intervals neither overlap nor touch. From any sound state, any operation grants the byte at most
once, not before the cursor, and leaves a sound state: bounded, as an operation is. By induction, an operation starts
from the state that the one before it left, however they overlap. And, without that argument, whatever is asked and
updated, for some cycles after reset.

Positions have 5 bits; a flow has two intervals, in one row or in two. Each proof is also shown to be able to fail.
"""

import pytest
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Cat, Cover, Signal
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.zeronic.rx.guard import Guard
from rackgate.zeronic.rx.intervals import Intervals
from rackgate.zeronic.rx.rowscan import before

pytestmark = pytest.mark.formal

BITS, INTERVALS = 5, 2


class Forgetful(Intervals):
    """Does not remember a new interval."""

    def _place_range(self, m, first):
        super()._place_range(m, first)
        m.d.sync += self.o.payload.used.eq(self._looked.used)


class Careless(Intervals):
    """Does not drop what is before a cursor that has gone on."""

    def _raise(self, m):
        super()._raise(m)
        m.d.sync += self.o.payload.used.eq(self._looked.used)


def contents(m, dut, flow):
    """State and intervals of a flow, as they are in the memories: (start, end) each."""
    state = dut._memory.read_port(domain="comb")
    m.d.comb += state.addr.eq(flow)
    rows, intervals = dut._intervals._rows, []
    for number in range(rows):
        port = dut._intervals._memory.read_port(domain="comb")
        m.d.comb += port.addr.eq(flow * rows + number)
        intervals += [(port.data[2 * lane], port.data[2 * lane + 1]) for lane in range(INTERVALS // rows)]
    return state.data, intervals


def is_sound(state, intervals, byte, is_granted):
    """Whether a state remembers that the byte was granted, if it was."""
    facts = [~before(state.low, state.cursor)]
    for number, (start, end) in enumerate(intervals):
        facts.append(~state.used[number] | before(state.low, start) & ~before(start, state.cursor)
                     & before(start, end) & ~before(end, state.cursor))
        for other, (next_start, next_end) in enumerate(intervals[:number]):
            facts.append(~state.used[number] | ~state.used[other] | before(end, next_start) | before(next_end, start))
    holds = [~before(byte, state.cursor) & before(byte, state.low)]
    holds += [state.used[number] & ~before(byte, start) & before(byte, end)
              for number, (start, end) in enumerate(intervals)]
    return Cat(facts).all() & (~is_granted | before(byte, state.cursor) | Cat(holds).any())


def load(m, dut, flow, byte, is_granted, loads):
    """When ``loads``, put any sound state into the memories, of which the picked byte may have been granted."""
    port = dut._memory.write_port()
    rows = dut._intervals._rows
    m.d.comb += [port.addr.eq(flow), port.en.eq(loads), port.data.as_value().eq(AnyConst(len(port.data.as_value())))]
    intervals, granted = [], Signal()
    for number in range(rows):
        row = dut._intervals._memory.write_port()
        m.d.comb += [row.addr.eq(flow * rows + number), row.en.eq(loads),
                     row.data.as_value().eq(AnyConst(len(row.data.as_value())))]
        intervals += [(row.data[2 * lane], row.data[2 * lane + 1]) for lane in range(INTERVALS // rows)]
    m.d.comb += [
        granted.eq(AnyConst(1)),
        Assume(~granted | ~before(byte, port.data.cursor)),
        Assume(is_sound(port.data, intervals, byte, granted)),
    ]
    with m.If(loads):
        m.d.sync += is_granted.eq(granted)
    return port.data.cursor


def blocks(*, row, intervals=Intervals, flow=None):
    """A specification with a guard that is asked and updated in any way, and the flow that is looked at."""
    m = specification()
    dut = Guard(2, INTERVALS, row=row, position_bits=BITS)
    dut._intervals = intervals(2, INTERVALS, row=row, position_bits=BITS)
    m.submodules.dut = dut
    drive(m, dut.request, name="request")
    drive(m, dut.update, name="update")
    stall(m, dut.o, name="o")
    request, update, picked = dut.request.payload, dut.update.payload, Signal()
    m.d.comb += [
        picked.eq(AnyConst(1) if flow is None else flow),
        Assume(Cat(request.flow[1:], update.flow[1:], request.position[BITS:], request.covered_start[BITS:],
                   update.cursor[BITS:]) == 0),
        Assume((request.size < 1 << BITS - 2) & (request.covered_size < 1 << BITS - 2)),
    ]
    return m, dut, picked


def guard(*, row, from_any, intervals=Intervals, fault=None):
    """What a picked byte meets. With ``from_any``: from any sound state on, and of one operation only."""
    m, dut, flow = blocks(row=row, intervals=intervals, flow=1 if from_any else None)
    byte, cursor, is_granted = Signal(BITS), Signal(BITS), Signal()
    update, answers = dut.update.payload, dut._answers.i
    m.d.comb += byte.eq(AnyConst(BITS))

    # What the picked byte's history is: an update or answer counts from when it is made.
    answer, is_mine, contains, in_frame = answers.payload, Signal(), Signal(), Signal()
    question, applies = dut._judged, dut.update.valid & dut.update.ready & (update.flow[0] == flow)
    m.d.comb += [
        Assert(~answers.valid | answers.ready, "an answer is lost"),
        is_mine.eq(answers.valid & (question.flow == flow)),
        contains.eq((byte - answer.position[:BITS])[:BITS] < answer.size),
        in_frame.eq((byte - question.position)[:BITS] < (question.end - question.position)[:BITS]),
    ]
    with m.If(is_mine & contains):
        m.d.comb += [
            Assert(~is_granted, "a byte is granted twice"),
            Assert(~before(byte, cursor), "a byte before the cursor is granted"),
        ]
        m.d.sync += is_granted.eq(1)
    with m.If(is_mine & answer.whole & in_frame & ~before(byte, cursor)):
        m.d.comb += Assert(contains, "a header is said to suffice, but a byte of its frame is missing")
    with m.If(applies & (update.begin | ~before(update.cursor[:BITS], cursor))):
        m.d.sync += cursor.eq(update.cursor)
        with m.If(update.begin):
            m.d.sync += is_granted.eq(fault == "remembers what was before a begin")
        with m.Elif(before(byte, update.cursor[:BITS])):
            m.d.sync += is_granted.eq(0)

    state, places = contents(m, dut, flow)
    was_finished, has_conflict = Signal(), Signal()
    m.d.sync += [was_finished.eq(dut._finishes), has_conflict.eq(is_mine & contains & answer.conflict)]
    if from_any:
        is_loaded, was_asked, was_updated, is_update = Signal(), Signal(), Signal(), Signal()
        loads = dut.ready & ~is_loaded
        m.d.sync += [
            is_loaded.eq(dut.ready), was_asked.eq(was_asked | is_loaded), was_updated.eq(was_updated | applies),
        ]
        loaded = load(m, dut, flow, byte, is_granted, loads)
        with m.If(loads):
            m.d.sync += cursor.eq(loaded)
        m.d.comb += [
            is_update.eq(AnyConst(1)),
            Assume(dut.request.valid == (is_loaded & ~was_asked & ~is_update)),
            Assume(dut.update.valid == (is_loaded & ~was_updated & is_update)),
            Assume(dut.o.ready),
        ]
    m.d.comb += Cover(was_finished & has_conflict & (state.used == 3))
    with m.If(was_finished):
        m.d.comb += [
            Assert(state.cursor == cursor),
            Assert(is_sound(state, places, byte, is_granted), "what was granted is forgotten"),
        ]
    return m


def pipeline(fault=None):
    """Each operation starts from what the one before it left in memory."""
    m, dut, flow = blocks(row=1)
    state, _ = contents(m, dut, flow)
    stages = ((dut._has_came, dut._came), (dut._has_asked, dut._asked), (dut._has_judged, dut._judged))
    came, asked, judged = (has & (stage.flow == flow) for has, stage in stages)
    m.d.comb += [
        Assert(~dut._has_asked | ~dut._has_judged),
        Assert(~came | asked | judged | (dut._read_port.data.as_value() == state.as_value())),
        Assert(~asked | (dut._asked_state.as_value() == state.as_value()), "an operation starts from an old state"),
        Assert(~judged | (dut._judged_state.as_value() == state.as_value() + (fault is not None))),
        Assert(dut.ready | ~dut._has_came & ~dut._has_asked & ~dut._has_judged),
        # The intervals work for what is judged, and for nothing else.
        Assert(~dut._was_judged | dut._has_judged),
        Assert(~dut._intervals._is_changing | ~dut._intervals.o.valid),
        Assert(~(dut._intervals._is_changing | dut._intervals.o.valid) | dut._was_judged & dut._facts.needs),
        Assert(dut._is_updating == sum(has & stage.is_update for has, stage in stages), "an update is applied twice"),
    ]
    return m


@pytest.mark.parametrize("row", [1, 2])
def test_operation(row):
    prove(guard(row=row, from_any=True), f"zeronic_guard_operation_{row}", mode="bmc", depth=18)


def test_operation_can_conflict():
    prove(guard(row=2, from_any=True), "zeronic_guard_operation_cover", mode="cover", depth=18)


@pytest.mark.parametrize("intervals", [Forgetful, Careless])
def test_operation_fault(intervals):
    with pytest.raises(ProofFailed, match="test_zeronic_guard_proofs.py"):
        prove(guard(row=2, from_any=True, intervals=intervals), f"zeronic_guard_fault_{intervals.__name__}", mode="bmc",
              depth=18)


def test_pipeline():
    prove(pipeline(), "zeronic_guard_pipeline", depth=2)


def test_pipeline_fault():
    with pytest.raises(ProofFailed, match="test_zeronic_guard_proofs.py"):
        prove(pipeline("fault"), "zeronic_guard_fault_pipeline", mode="bmc", depth=8)


def test_guard():
    prove(guard(row=2, from_any=False), "zeronic_guard", mode="bmc", depth=12)


def test_guard_fault():
    with pytest.raises(ProofFailed, match="test_zeronic_guard_proofs.py"):
        prove(guard(row=2, from_any=False, fault="remembers what was before a begin"), "zeronic_guard_fault_begin",
              mode="bmc", depth=14)
