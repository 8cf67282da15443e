# SPDX-License-Identifier: Apache-2.0
"""Proofs of the copier by induction, so for all time.

Admission: no step writes past the room or refers to a byte from before the history began, whatever the entries.
History: every byte that comes out is the literal it should be, or the byte that came out so far before; so the
recent rows and block RAM agree wherever they are read. RowAssembler: there is always room for a word.
Each is also shown to find a fault that is put into the specification.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Mux, Signal
from amaranth.lib import data
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.inflate.admission import Admission
from rackgate.inflate.entry import Kind, Mark
from rackgate.inflate.history import History
from rackgate.inflate.rows import RowAssembler
from rackgate.inflate.steps import BANKS, RECENT, Operation

pytestmark = pytest.mark.formal

WINDOW = 64


def history(fault=None):
    """Chunks that follow on each other, of any content, from any distance up to the window; with pauses."""
    m = specification()
    m.submodules.dut = dut = History(contexts=1, window=WINDOW)
    chunk, out = dut.i.payload, dut.o.payload
    distance, position = Signal(range(WINDOW + 1)), Signal(6)
    bound = RECENT // 2 if fault == "too few recent rows" else RECENT
    reach = WINDOW + 8 if fault == "beyond the window" else WINDOW
    m.d.comb += [
        dut.i.valid.eq(AnySeq(1)),
        distance.eq(AnySeq(7)),
        chunk.operation.eq(Operation.BYTES),
        chunk.position.eq(position),
        chunk.source.eq(position - distance),
        chunk.near.eq(distance < bound),
        chunk.repeat.eq(Mux(distance < 8, distance, 0)),
        chunk.copied.eq(AnySeq(4)),
        chunk.count.eq(AnySeq(4)),
        Cat(chunk.bytes).eq(AnySeq(32)),
        Assume((distance >= 1) & (distance <= reach)),
        Assume((chunk.copied <= chunk.count) & (chunk.count <= BANKS) & (chunk.count - chunk.copied <= 4)),
    ]
    with m.If(dut.i.valid):
        m.d.sync += position.eq(position + chunk.count)

    # What came in three cycles ago comes out now; stages 1 and 2 are the block's own registers.
    chunk_3, valid_3 = Signal.like(chunk), Signal()
    m.d.sync += [chunk_3.eq(dut._chunk_2), valid_3.eq(dut._valid_2)]
    far, fars = distance, []
    for stage in range(1, 4):
        far, before = Signal(7, name=f"distance_{stage}"), far
        m.d.sync += far.eq(before)
        fars.append(far)
    stages = [(dut._valid_1, dut._chunk_1, fars[0]), (dut._valid_2, dut._chunk_2, fars[1]), (valid_3, chunk_3, fars[2])]
    valid, source, far = stages[2]
    start = source.position
    m.d.comb += Assert(dut.o.valid == valid)
    with m.If(valid):
        m.d.comb += Assert((out.low == start[:3]) & (out.count == source.count))

    # Follow one place of the window: ``value`` is what came out for it last. Look at one byte of each chunk.
    place, index, value = Signal(6), Signal(3), Signal(8)
    m.d.comb += [place.eq(AnyConst(6)), index.eq(AnyConst(3))]
    with m.If(valid & ((place - start)[:6] < source.count)):
        m.d.sync += value.eq(Array(out.data)[place[:3]])
    found = Array(out.data)[(start[:3] + index)[:3]]
    with m.If(valid & (index < source.copied)):
        with m.If(index >= far):  # of this very chunk
            m.d.comb += Assert(found == Array(out.data)[(start + index - far)[:3]], "a byte is not repeated")
        with m.Elif((start + index - far)[:6] == place):
            m.d.comb += Assert(found == value, "a byte is not what came out that far before")
    with m.Elif(valid & (index < source.count)):
        m.d.comb += Assert(found == Array(source.bytes)[(index - source.copied)[:2]], "a literal is wrong")

    _history_invariants(m, dut, stages, place, value, position, bound, reach)
    return m


def _history_invariants(m, dut, stages, place, value, position, bound, reach):
    """What an induction needs to know: chunks follow on each other, and everything kept of ``place`` is ``value``."""
    following = position
    for valid, chunk, far in stages:
        with m.If(valid):
            m.d.comb += Assert((chunk.position + chunk.count)[:6] == following)
            m.d.comb += Assert((chunk.copied <= chunk.count) & (chunk.count <= BANKS))
            m.d.comb += Assert((far >= 1) & (far <= reach) & (chunk.source == (chunk.position - far)[:6]))
            m.d.comb += Assert((chunk.near == (far < bound)) & (chunk.repeat == Mux(far < 8, far, 0)))
        follower, following = following, Signal(6)
        m.d.comb += following.eq(Mux(valid, chunk.position, follower))

    (valid_1, chunk_1, _), (valid_2, chunk_2, _), (valid_3, chunk_3, _) = stages
    is_new = valid_3 & ((place - chunk_3.position)[:6] < chunk_3.count)
    end = Mux(valid_3, (chunk_3.position + chunk_3.count)[:6], following)
    back = (end - place)[:6]
    m.d.comb += Assert(dut._row_3 == chunk_3.position[3:])
    for bank in range(BANKS):
        ram, recent = dut._banks[bank].read_port(domain="comb"), dut._recents[bank].read_port(domain="comb")
        m.d.comb += [ram.addr.eq(place[3:]), recent.addr.eq(place[3:5])]
        m.d.comb += Assert(dut._new_3[bank] == (valid_3 & ((bank - chunk_3.position)[:3] < chunk_3.count)))
        with m.If(place[:3] == bank):
            m.d.comb += Assert(ram.data == value, "block RAM does not hold what came out last")
            with m.If(valid_1 & ~chunk_1.near & ((place - chunk_1.source)[:6] < BANKS)):
                m.d.comb += Assert(dut._r_ports[bank].data == value, "what was read from block RAM is out of date")
            with m.If(valid_2 & ~chunk_2.near & ((place - chunk_2.source)[:6] < BANKS)):
                m.d.comb += Assert(dut._fetched_2[bank] == value, "what was fetched is out of date")
            # Recent rows are a cycle ahead: the chunk that comes out now is in them. When nothing is, no more is known.
            with m.If((back != 0) & (back <= RECENT)):
                m.d.comb += Assert(recent.data == Mux(is_new, dut.o.payload.data[bank], value), "a recent row is wrong")


def test_history():
    prove(history(), "copier_history", depth=2)


def test_history_with_too_few_recent_rows(monkeypatch):
    monkeypatch.setattr("rackgate.inflate.history.RECENT", RECENT // 2)
    with pytest.raises(ProofFailed, match="test_inflate_copier.py"):
        prove(history("too few recent rows"), "copier_history_recent", depth=2)


def test_history_beyond_the_window():
    """A place then stands for two distances, and the block's own rules find that."""
    with pytest.raises(ProofFailed, match="history.py"):
        prove(history("beyond the window"), "copier_history_window", depth=2)


def admission(fault=None):
    """Any entries of one context that obey the order of starts, runs and marks."""
    m = specification()
    m.submodules.dut = dut = Admission(contexts=1, window=WINDOW)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    stall(m, dut.o_result, name="o_result")
    entry, intake = dut.i.payload, dut._intake
    is_taken, in_run = dut.i.valid & dut.i.ready, Signal()
    m.d.comb += [
        Assume(entry.context == 0),
        Assume((entry.kind != Kind.START) | ~in_run),
        Assume((entry.kind != Kind.MARK) | (entry.mark != Mark.ABORT)),
        Assume((entry.kind != Kind.TOKEN) | ~entry.has_match | (entry.distance != 0)),
    ]
    # The distance and room of the entry in the intake, and of the one that became the step.
    layout = {"distance": 16, "room": 32}
    held, stepped = Signal(data.StructLayout(layout)), Signal(data.StructLayout(layout))
    with m.If(is_taken):
        m.d.sync += [
            held.distance.eq(entry.distance),
            held.room.eq(Cat(entry.bytes)),
            in_run.eq((entry.kind == Kind.TOKEN) | (entry.kind == Kind.RAW)),
        ]
    is_entry_of_bytes = (intake.entry.kind == Kind.TOKEN) | (intake.entry.kind == Kind.RAW)
    is_dropped = dut._is_faulted & ~(dut._has_step & dut._check.is_mark) & is_entry_of_bytes
    with m.If(intake.take & ~is_dropped):
        m.d.sync += stepped.eq(held)

    # What is left of the room, and the bytes since the history began, counted from what comes out.
    step = dut.o.payload
    spec = Signal(data.StructLayout({"position": 6, "have": 16, "room": 32, "quiet": 1}))
    clears = step.flags.reset_history | step.flags.suppress
    with m.If(dut.o.valid & (step.operation == Operation.BYTES)):
        m.d.comb += [
            Assert(spec.quiet | (step.total <= spec.room), "beyond the destination"),
            Assert((step.length == 0) | (stepped.distance <= spec.have), "before the history"),
            Assert((step.length == 0) | (stepped.distance <= WINDOW), "beyond the window"),
            Assert((step.length == 0) | (step.source == (step.position - stepped.distance)[:6])),
            Assert((step.length == 0) | (step.near == (stepped.distance < RECENT))),
            Assert((step.length == 0) | (step.repeat == Mux(stepped.distance < 8, stepped.distance, 0))),
            Assert(step.total == step.length + step.literals),
            Assert((step.position == spec.position) & (step.quiet == spec.quiet)),
        ]
        with m.If(dut.o.ready):
            m.d.sync += [
                spec.position.eq(spec.position + step.total),
                spec.have.eq(Mux(spec.have < WINDOW, spec.have + step.total, spec.have)),
            ]
            with m.If(~spec.quiet):
                m.d.sync += spec.room.eq(spec.room - step.total)
    started = Signal.like(spec)
    m.d.comb += [
        started.position.eq(Mux(clears, 0, spec.position)),
        started.have.eq(Mux(clears, 0, spec.have)),
        started.room.eq(Mux(step.flags.new_job, stepped.room - (1 if fault == "a byte too many" else 0), spec.room)),
        started.quiet.eq(step.flags.suppress),
    ]
    with m.If(dut.o.valid & dut.o.ready & (step.operation == Operation.START)):
        m.d.sync += spec.eq(started)
    _admission_invariants(m, dut, held, stepped, spec, started, in_run)
    return m


def _admission_invariants(m, dut, held, stepped, spec, started, in_run):
    """What an induction needs to know: the state is that of ``spec`` after the step; the intake is what came in."""
    entry, step, check, state = dut._intake.entry, dut._step, dut._check, dut._state
    is_start, is_mark = step.operation == Operation.START, step.operation == Operation.END
    is_bytes = step.operation == Operation.BYTES
    is_beyond = stepped.distance > WINDOW
    after = Signal.like(spec)
    m.d.comb += after.eq(spec)
    with m.If(dut._has_step & is_start):
        m.d.comb += after.eq(started)
    with m.If(dut._has_step & is_bytes):
        m.d.comb += [
            after.position.eq(spec.position + step.total),
            after.have.eq(Mux(spec.have < WINDOW, spec.have + step.total, spec.have)),
            after.room.eq(spec.room - Mux(spec.quiet, 0, step.total)),
            Assert((step.position == spec.position) & (step.quiet == spec.quiet)),
            Assert((check.have == spec.have) & (check.room == spec.room)),
            Assert(check.is_over == (~spec.quiet & (step.total > spec.room))),
            Assert(check.is_bad == ((step.length != 0) & (is_beyond | (stepped.distance > spec.have)))),
            Assert((step.length == 0) | (step.source == (step.position - stepped.distance)[:6])),
            Assert((step.length == 0) | (step.near == (stepped.distance < RECENT))),
            Assert((step.length == 0) | (step.repeat == Mux(stepped.distance < 8, stepped.distance, 0))),
            Assert((step.total == step.length + step.literals) & dut._in_run),
        ]
    m.d.comb += [
        Assert((state.position == after.position) & (state.have == after.have)),
        Assert((state.room == after.room) & (state.quiet == after.quiet)),
        Assert((spec.have < WINDOW + 520) & (dut._context == 0)),
        Assert(~dut._has_step | (check.is_mark == is_mark)),
        Assert(~dut._has_step | is_bytes | (step.total == 0)),
        Assert(~dut._has_step | ~is_mark | (check.mark != Mark.ABORT)),
        Assert(~dut._is_faulted | dut._in_run),
    ]
    runs_on = dut._in_run & ~(dut._has_step & is_mark)
    with m.If(dut._intake.valid):
        m.d.comb += [
            Assert((entry.distance == held.distance) & (entry.is_far == (held.distance > WINDOW))),
            Assert(entry.context == 0),
            Assert((entry.kind != Kind.START) | ((Cat(entry.bytes) == held.room) & ~runs_on)),
            Assert((entry.total == entry.length + entry.literals) & ((entry.length == 0) | (entry.distance != 0))),
            Assert((entry.kind != Kind.MARK) | (entry.mark != Mark.ABORT)),
            Assert((entry.kind == Kind.TOKEN) | (entry.kind == Kind.RAW) | (entry.total == 0)),
            Assert(in_run == ((entry.kind == Kind.TOKEN) | (entry.kind == Kind.RAW))),
        ]
    with m.Else():
        m.d.comb += Assert(in_run == runs_on)


def test_admission():
    prove(admission(), "copier_admission", depth=2)


def test_admission_fault():
    with pytest.raises(ProofFailed, match="test_inflate_copier.py"):
        prove(admission("a byte too many"), "copier_admission_fault", mode="bmc", depth=8)


def row_assembler(stages):
    """Rows of one context that follow on each other, each begun when ``go`` is high."""
    m = specification()
    m.submodules.dut = dut = RowAssembler(contexts=1)
    m.d.comb += dut.o.ready.eq(AnySeq(1))  # that the queue obeys the stream rules is proved elsewhere
    row, low, quiet = dut.i.payload, Signal(3), Signal()
    begun = [dut.go & AnySeq(1)]
    for stage in range(stages):
        valid = Signal(name=f"valid_{stage}")
        m.d.sync += valid.eq(begun[-1])
        begun.append(valid)
    m.d.comb += [
        dut.i.valid.eq(begun[-1]),
        row.operation.eq(AnySeq(2)),
        row.flags.eq(AnySeq(9)),
        row.count.eq(AnySeq(4)),
        Cat(row.data).eq(AnySeq(64)),
        row.low.eq(Mux(row.operation == Operation.START, AnySeq(3), low)),
        row.quiet.eq(quiet),
        Assume(row.count <= Mux(row.operation == Operation.BYTES, BANKS, 0)),
        Assume(row.operation.as_value() != 3),
    ]
    with m.If(dut.i.valid):
        m.d.sync += low.eq(row.low + row.count)
        m.d.comb += Assert(dut._queue.i.ready, "no room for a word")
        with m.If(row.operation == Operation.START):
            m.d.sync += quiet.eq(AnySeq(1))
    m.d.comb += [
        Assert(quiet | (dut._firsts[0] <= low)),
        Assert(dut._queue.level + sum(begun[1:]) <= 16),
        Assert(~dut.go | (dut._queue.level + sum(begun[1:]) <= 15)),
        Cover(dut._queue.level == 16),
    ]
    return m


def test_row_assembler():
    prove(row_assembler(3), "copier_rows", depth=2)


def test_row_assembler_can_be_full():
    prove(row_assembler(3), "copier_rows_cover", mode="cover", depth=24)


def test_row_assembler_fault():
    with pytest.raises(ProofFailed, match="test_inflate_copier.py"):
        prove(row_assembler(4), "copier_rows_fault", depth=2)
