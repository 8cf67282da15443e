# SPDX-License-Identifier: Apache-2.0
"""Proofs about copies and credits: every copy exactly once and in order, slots given back once, room for all.

Each is also shown to be able to fail.
"""

import pytest
from amaranth.hdl import Assert, Assume, Cover, Mux, Signal
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.pisa.chain import Chain
from rackgate.pisa.copies import Copies
from rackgate.pisa.declare import Compute, Copy, Header, Parser, Pipeline, State, assign
from rackgate.pisa.layout import packet_layout
from rackgate.pisa.liveness import carried
from rackgate.pisa.pipeline import PipelineCore

pytestmark = pytest.mark.formal

header = Header("h", wants=3, number=4, unused=7, tag=2)
SLOT = {"has_payload": 1, "owns_slot": 1}
COPIES = [
    Copy("first", header.wants[0] == 1, [assign(header.tag, 1)]),
    Copy("again", header.wants[1] == 1, [assign(header.tag, 2)], recirculate=True, payload=False),
    Copy("last", header.wants[2] == 1, [assign(header.tag, 3)], payload=False),
]


def copies(fault=None, *, order=True):
    """Packets are numbered as they come, copies tagged: what comes out must be complete and, with ``order``, sorted.

    The numbers must be enough for the cycles that a proof of the order looks at.
    """
    m = specification()
    fields = list(header.fields.values())
    m.submodules.dut = dut = Copies(COPIES, packet_layout(fields, SLOT), packet_layout(fields, {**SLOT, "dropped": 1}))
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    packet, out, again, held, left = dut.i.payload, dut.o.payload, dut.again.payload, dut._held, dut._left
    put, get, number = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready, Signal(4)
    m.d.comb += [
        Assume(packet.h__tag == 0),
        Assume(packet.h__number == number),
        Assume(packet.owns_slot | ~packet.has_payload),
    ]
    m.d.sync += number.eq(number + put)
    wanted = Mux(packet.is_control, 0, packet.h__wants)
    if fault == "counts all":
        wanted = packet.h__wants

    # All copies: as many as were asked for come out or are inside, of each kind.
    tag_out = Mux(out.dropped | out.is_control, 0, out.h__tag)
    kinds = [(1, wanted[0], left[0], dut.o.valid & (tag_out == 1), get & (tag_out == 1)),
             (2, wanted[1], left[1], dut.again.valid, dut.again.valid),
             (3, wanted[2], left[2], dut.o.valid & (tag_out == 3), get & (tag_out == 3)),
             (0, wanted == 0, left[3], dut.o.valid & (tag_out == 0), get & (tag_out == 0))]
    for tag, asked, is_left, offered, taken in kinds:
        inside = Signal(3, name=f"inside_{tag}")
        m.d.sync += inside.eq(inside + (put & asked) - taken)
        m.d.comb += Assert(inside == is_left + offered, "a copy is lost or doubled")

    # Slots: each that came in goes out once.
    slots = Signal(3)
    m.d.sync += slots.eq(slots + (put & packet.owns_slot) - (get & out.owns_slot)
                         - (dut.again.valid & again.owns_slot & (fault != "keeps a slot")))
    owed = held.owns_slot & left.any() & Mux(dut._recirculates, left[1], 1)
    m.d.comb += [
        Assert(slots == owed + (dut.o.valid & out.owns_slot) + (dut.again.valid & again.owns_slot),
               "a slot is lost or given back twice"),
        Assert(dut._has_more == ((left & (left - 1)) != 0)),
        Assert((left & ~Mux(held.is_control, 8, Mux(held.h__wants == 0, 8, held.h__wants))) == 0),
        Assert(~left.any() | (dut._recirculates == (~held.is_control & held.h__wants[1]))),
        Assert(~(dut._recirculates & left.any() & ~left[1]) | (left[2] & ~left[0])),
        Assert(held.h__tag == 0),
        Assert(~held.has_payload | held.owns_slot),
    ]

    seen, last = Signal(4, init=15), Signal(2, init=3)
    with m.If(get):
        m.d.sync += [seen.eq(out.h__number), last.eq(tag_out)]
    if order:
        rises = (out.h__number == seen) & (tag_out > last) | ((out.h__number - seen)[:4] - 1 < 14)
        m.d.comb += Assert(~get | rises, "copies are not in the declared order")
    with m.If(dut.o.valid):
        m.d.comb += [
            Assert((out.h__tag == 0) == (out.dropped | out.is_control), "a copy is marked as dropped, or the reverse"),
            Assert(~(out.h__tag == 3) | ~out.has_payload, "a copy has a payload that it must not have"),
            Assert(~out.is_control | ~out.dropped),
        ]
    with m.If(dut.again.valid):
        m.d.comb += Assert(~again.has_payload & (again.h__tag == 2))
    m.d.comb += Cover(get & (out.h__tag == 3) & (last == 1) & (seen == out.h__number))
    return m


def test_copies():
    prove(copies(), "pisa_copies", mode="bmc", depth=7)


def test_copies_for_all_time():
    """Without the order: counts, slots and marks."""
    prove(copies(order=False), "pisa_copies_induction", depth=3)


def test_copies_can_come():
    prove(copies(), "pisa_copies_cover", mode="cover", depth=10)


@pytest.mark.parametrize("fault", ["counts all", "keeps a slot"])
def test_copies_fault(fault):
    with pytest.raises(ProofFailed, match="test_pisa_copies.py"):
        prove(copies(fault), f"pisa_copies_fault_{fault.replace(' ', '_')}", mode="bmc", depth=10)


# A whole core -------------------------------------------------------------------------------------------------------

trip = Header("t", rounds=2, number=3, half=3)
ROUND = Pipeline(
    "round", Parser({"s": State(trip)}, "s"),
    [Compute("halve", [assign(trip.half, trip.number ^ 5)])],
    [Copy("out", trip.rounds == 1), Copy("again", trip.rounds > 1, [assign(trip.rounds, trip.rounds - 1)],
                                         recirculate=True)],
    [trip])


def core(fault=None):
    """Packets that go round up to twice, in a core that has room for few."""
    m = specification()
    m.submodules.dut = dut = PipelineCore(ROUND, depth=2, slot_bits=1)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    out = dut.o.payload
    m.d.comb += [Assume(~dut.i.payload.control.valid), Assert(~dut._is_waiting)]
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    stages, copying, queue = dut.ingress, dut.copies, dut._queue
    in_stage, is_copied, comes_back = stages.components[0].o.valid, copying._left.any(), copying.again.valid

    # Credits: all that came in and did not end is in one of the places, and each of them has room.
    inside = Signal(3)
    m.d.sync += inside.eq(inside + put - (get & (fault != "a lost output")))
    m.d.comb += [
        Assert(dut._inside == stages.level + is_copied + comes_back + queue.level, "a credit is lost or made up"),
        Assert(stages.level == stages._results.level + in_stage, "not all in the stages has room behind them"),
        Assert(stages._aside.level == stages.level, "a packet and its other fields are not together"),
        Assert(dut._inside <= (1 if fault == "too little room" else stages.depth), "there are more packets than room"),
        Assert(inside == dut._inside + dut.o.valid, "a packet is lost or doubled"),
        Assert(~is_copied | ((copying._left & (copying._left - 1)) == 0)),
        Assert(~is_copied | (copying._recirculates == copying._left[1])),
        Assert(~copying._has_more),
        Assert(~copying._left[0] | (copying._held.t__rounds == 1)),
    ]
    # No deadlock: if nothing stalls behind the core, something in it goes on, and no packet goes round for ever.
    goes_on = in_stage | is_copied | comes_back | (stages.o.valid & stages.o.ready) | (queue.o.valid & stages.i.ready)
    m.d.comb += Assert((dut._inside == 0) | ~(dut.o.ready | ~dut.o.valid) | goes_on, "all packets are stuck")
    with m.If(dut.o.valid):
        is_last = out.standard__drop | copying.o.payload.is_control | (out.t__rounds == 1)
        m.d.comb += Assert(is_last, "a packet leaves before its last round")
    m.d.comb += Cover((queue.level == 1) & (dut._inside == 2))
    return m


def test_credits():
    prove(core(), "pisa_core", depth=4)


def test_core_can_be_full():
    prove(core(), "pisa_core_cover", mode="cover", depth=12)


@pytest.mark.parametrize("fault", ["a lost output", "too little room"])
def test_core_fault(fault):
    with pytest.raises(ProofFailed, match="test_pisa_copies.py"):
        prove(core(fault), f"pisa_core_fault_{fault.replace(' ', '_')}", mode="bmc", depth=10)


def together(fault=None):
    """What goes through the stages and what waits beside them, of the same packet."""
    m = specification()
    m.submodules.dut = dut = Chain(ROUND.ingress, carried(ROUND.ingress, trip.fields.values()), {}, depth=2)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    expected = dut.o.payload.t__number ^ (4 if fault else 5)
    m.d.comb += [
        Assert(~dut.o.valid | (dut.o.payload.t__half == expected), "parts of two packets are joined"),
        Cover((dut.level == 2) & dut.o.valid & (dut.o.payload.t__number == 3)),
    ]
    return m


def test_parts_of_a_packet_stay_together():
    prove(together(), "pisa_chain", mode="bmc", depth=12)


def test_parts_can_be_parted():
    with pytest.raises(ProofFailed, match="test_pisa_copies.py"):
        prove(together("fault"), "pisa_chain_fault", mode="bmc", depth=6)
