# SPDX-License-Identifier: Apache-2.0
"""Slots are neither lost nor given out twice; what the parser lets in, the deparser gives out."""

from functools import reduce
from operator import or_

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Array, Assert, Assume, Cover, Mux, Signal
from pisa_rim import Loop
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.pisa import deparser, parser, payload
from rackgate.pisa.declare import ACCEPT, REJECT, Copy, Header, Parser, Pipeline, State
from rackgate.pisa.expr import Const
from rackgate.pisa.payload import SlotPool

pytestmark = pytest.mark.formal


def pool(slots, fault=None):
    """Whoever holds a slot may give it back at any time, by any way."""
    m = specification()
    m.submodules.dut = dut = SlotPool(slots)
    held, back = Signal(slots), [Signal(slots, name=f"back_{k}") for k in range(2)]
    stall(m, dut.free, name="free")
    for mine, put in zip(back, dut.put, strict=True):
        m.d.comb += [put.valid.eq(AnySeq(1)), put.payload.eq(AnySeq(len(put.payload))),
                     mine.eq(put.valid << put.payload)]
    given, offered = Signal(slots), Signal(slots)
    m.d.comb += [offered.eq(dut.free.valid << dut.free.payload), given.eq(Mux(dut.free.ready, offered, 0))]
    if fault != "gives back what it has not":
        m.d.comb += Assume((reduce(or_, back) & ~held) == 0)
    if fault != "gives back twice":
        m.d.comb += Assume((back[0] & back[1]) == 0)
    m.d.sync += held.eq((held | (0 if fault == "forgets" else given)) & ~back[0] & ~back[1])
    m.d.comb += [
        Assert((dut._is_free | offered | held) == (1 << slots) - 1, "a slot is lost"),
        Assert((dut._is_free & offered | dut._is_free & held | offered & held) == 0, "a slot is in two places"),
        Assert(dut.is_idle == (held == 0), "idle while a slot is out, or the other way round"),
        Cover(held.all()),
    ]
    return m


@pytest.mark.parametrize("slots", [2, 8])
def test_slots_are_conserved(slots):
    prove(pool(slots), f"pisa_slots_{slots}", depth=2)


def test_all_slots_can_be_out():
    prove(pool(4), "pisa_slots_cover", mode="cover", depth=8)


@pytest.mark.parametrize("fault", ["gives back what it has not", "gives back twice", "forgets"])
def test_wrong_users_of_slots_are_found(fault):
    with pytest.raises(ProofFailed):
        prove(pool(4, fault), f"pisa_slots_{fault.replace(' ', '_')}", mode="bmc", depth=6)


first, second = Header("first", kind=4, rest=4), Header("second", value=8)

SMALL = Pipeline(
    "small",
    parser=Parser(start="first", states={
        "first": State(first, [first.kind], {1: "second", 2: ACCEPT}, REJECT),
        "second": State(second),
    }),
    ingress=[], copies=[Copy("out", Const(1, 1))], emit=[first, second])

_BYTES = 12
_DEPTH = 15


@pytest.fixture
def few(monkeypatch):
    """Short queues and small slots, for the solver's sake."""
    monkeypatch.setattr(payload, "LEAST_SIZE", 8)
    monkeypatch.setattr(parser, "FRAMES", 2)
    monkeypatch.setattr(deparser, "PACKETS", 2)


def round_trip(width, fault=None):
    """Frames of at most 3 bytes: each byte of those that the declaration accepts comes out, and nothing else does."""
    m = specification()
    m.submodules.dut = dut = Loop(SMALL, width, slots=2, slot_size=8)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    word, taken = dut.i.payload, Signal()
    sent = Array(Signal(8, name=f"sent_{k}") for k in range(_BYTES))
    begin, end, out = (Signal(range(_BYTES + 1), name=name) for name in ("begin", "end", "out"))
    here, kind = Signal(range(8)), Signal(4)
    m.d.comb += [
        taken.eq(dut.i.valid & dut.i.ready),
        Assume((word.count >= 1) & (word.count <= width)), Assume(word.last | (word.count == width)),
        Assume(word.last | ~word.error), Assume(end <= _BYTES - 3),
        here.eq(end - begin + word.count), Assume(~dut.i.valid | (here < 3) | (here == 3) & word.last),
        kind.eq(Mux(end == begin, word.data[4:8], sent[begin][4:8])),
    ]
    is_good = ~word.error & Mux(kind == 1, here >= 2, kind == 2)
    with m.If(taken):
        for lane in range(width):
            with m.If(word.count > lane):
                m.d.sync += sent[end + lane].eq(word.data.word_select(lane, 8) ^ (fault == "another byte"))
        m.d.sync += end.eq(end + word.count)
        with m.If(word.last):
            m.d.sync += begin.eq(Mux(is_good, end + word.count, begin))
            with m.If(~is_good):
                m.d.sync += end.eq(begin)
    with m.If(dut.o.valid):
        for lane in range(width):
            with m.If(dut.o.payload.count > lane):
                m.d.comb += Assert(dut.o.payload.data.word_select(lane, 8) == sent[out + lane], "another byte")
        m.d.comb += Assert(out + dut.o.payload.count <= begin, "more bytes come out than were let in")
        with m.If(dut.o.ready):
            m.d.sync += out.eq(out + dut.o.payload.count)
    m.d.comb += Assert(~dut.is_idle | (end != begin) | (out == begin), "idle, and not all bytes are out")
    return m


@pytest.mark.timeout(1000)
def test_what_goes_in_comes_out(few):
    prove(round_trip(2), "pisa_round_trip", mode="bmc", depth=_DEPTH, limit=900)


def test_a_byte_that_comes_out_otherwise_is_found(few):
    with pytest.raises(ProofFailed):
        prove(round_trip(2, "another byte"), "pisa_round_trip_fault", mode="bmc", depth=_DEPTH)


