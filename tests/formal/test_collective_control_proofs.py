# SPDX-License-Identifier: Apache-2.0
"""Proofs by induction, so for all time: calls have slots of their own, and a context ends each call once.

Each is also shown to be able to fail: a fault is put into the specification, and the proof must find it.
"""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Array, Assert, Assume, Cover, Mux, Signal
from amaranth.lib import enum
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.collective.abi import Status
from rackgate.collective.control.callport import CallPort
from rackgate.collective.control.context import MOVES_PER_CONTEXT, Context

pytestmark = pytest.mark.formal

SLOTS, WORDS = 3, 4


class Place(enum.Enum, shape=2):
    """Where a slot is."""

    FREE = 0
    WRITTEN = 1
    QUEUED = 2
    TAKEN = 3


def call_port(fault=None):
    """A slot is given to a call only when it is free, and goes through its places in order.

    The space is what the places say, and when there is space the first word of a call is taken.
    """
    m = specification()
    m.submodules.dut = dut = CallPort(SLOTS, words=WORDS)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    stall(m, dut.call, name="call")
    places = Array(Signal(Place, name=f"place_{slot}") for slot in range(SLOTS))
    passes, slot, left = dut.o.valid & dut.o.ready, dut.o.payload.slot, dut.call.payload
    begins, ends, leaves = Signal(), Signal(), Signal()
    m.d.comb += [
        begins.eq(passes & (dut.o.payload.word == 0)), ends.eq(passes & (dut.o.payload.word == WORDS - 1)),
        leaves.eq(dut.call.valid & dut.call.ready),
        dut.release.eq(AnySeq(1)), dut.release_slot.eq(AnySeq(2)), Assume(dut.release_slot < SLOTS),
        Assert(~dut.o.valid | (slot < SLOTS)), Assert(~dut.call.valid | (left < SLOTS)),
    ]
    released = places[dut.release_slot]
    if fault == "released in the queue":
        m.d.comb += Assume(~dut.release | (released == Place.TAKEN) | (released == Place.QUEUED))
    else:
        m.d.comb += Assume(~dut.release | (released == Place.TAKEN))
    with m.If(begins):
        m.d.comb += Assert(places[slot] == Place.FREE, "a slot has two calls")
        m.d.sync += places[slot].eq(Place.WRITTEN)
    with m.If(passes & ~begins):
        m.d.comb += Assert(places[slot] == Place.WRITTEN, "a word goes to another's slot")
    with m.If(ends):
        m.d.sync += places[slot].eq(Place.QUEUED)
    with m.If(leaves):
        m.d.comb += Assert(places[left] == Place.QUEUED, "a call leaves that is not whole, or twice")
        m.d.sync += places[left].eq(Place.TAKEN)
    with m.If(dut.release):
        m.d.sync += released.eq(Place.FREE)

    was_begun = Signal()
    m.d.sync += was_begun.eq(begins)
    free = sum(place == Place.FREE for place in places)
    has_space = dut.space != 0
    m.d.comb += [
        Assert(dut.space + dut._was_released == free, "the space is not what it should be"),
        Assert(~has_space | dut._has_next | was_begun | dut._was_released & (dut.space == 0)),
        Assert(dut._has_next | dut._used.all() | was_begun | dut._was_released),
        Assert(~was_begun | (dut._word == 1)),
        Assert(dut._word < WORDS),
    ]
    with m.If(dut.i.valid & has_space & (dut._word == 0) & dut.o.ready):
        m.d.comb += Assert(dut.i.ready, "a call is kept waiting though there is space")
    if fault == "space at once":  # as the port had it at first
        m.d.comb += Assert(dut.i.ready | (free == 0) | (dut._word != 0) | ~dut.o.ready)
    # What an induction needs to know: where the queue has each slot.
    looks = [dut._calls._memory.read_port(domain="comb") for _ in range(SLOTS)]
    for position, look in enumerate(looks):
        address = dut._calls._r_addr + position
        m.d.comb += [look.addr.eq(Mux(address >= SLOTS, address - SLOTS, address)),
                     Assert((position >= dut._calls.level) | (look.data < SLOTS))]
    w_addr = dut._calls._r_addr + dut._calls.level
    m.d.comb += [
        Assert(dut._calls.level <= SLOTS), Assert(dut._calls._r_addr < SLOTS),
        Assert(dut._calls._w_addr == Mux(w_addr >= SLOTS, w_addr - SLOTS, w_addr)),
        Assert(dut._next < SLOTS), Assert(dut._slot < SLOTS),
    ]
    for number in range(SLOTS):
        is_next = dut._has_next & (dut._next == number)
        found = sum((position < dut._calls.level) & (look.data == number) for position, look in enumerate(looks))
        m.d.comb += [
            Assert(dut._used[number] == ((places[number] != Place.FREE) | is_next)),
            Assert(~is_next | (places[number] == Place.FREE)),
            Assert((places[number] == Place.WRITTEN) == ((dut._word != 0) & (dut._slot == number))),
            Assert(found == (places[number] == Place.QUEUED)),
        ]
    m.d.comb += Cover((free == 0) & (dut._calls.level == 2))
    return m


def context(fault=None):
    """Between two starts a context is reported once, of the first reason; if that asks for it, after it was killed."""
    m = specification()
    m.submodules.dut = dut = Context()
    inputs = ("start", "status", "communicator", "is_collective", "fetch", "resume", "sleep", "wake", "end",
              "end_stops", "end_status", "end_cause", "is_moving", "go", "done", "failed", "is_aborted", "is_broken",
              "killed", "answered")
    for name in inputs:
        m.d.comb += getattr(dut, name).eq(AnySeq(len(getattr(dut, name))))
    m.d.comb += [
        dut.failure.as_value().eq(AnySeq(16)),
        Assume(~dut.start | dut.is_free), Assume(~dut.answered | dut.has_ended), Assume(~dut.killed | dut.kill),
        Assume(~dut.go | (dut.outstanding != MOVES_PER_CONTEXT)), Assume(~dut.done | (dut.outstanding != 0)),
        Assume(~dut.end | dut.end_stops | (dut.outstanding == 0)), Assume(~dut.end | dut.is_moving),
        Assume(~dut.go | dut.is_moving), Assume(dut.failure.status != Status.SUCCESS),
    ]
    is_under_way, has_reason, stops, was_killed = (Signal(name=name) for name in (
        "is_under_way", "has_reason", "stops", "was_killed"))
    reason = Signal(8)
    ends, status, must_stop = Signal(), Signal(8), Signal()
    with m.If(dut.end):
        m.d.comb += [ends.eq(1), status.eq(dut.end_status), must_stop.eq(dut.end_stops)]
    with m.Elif(dut.failed):
        m.d.comb += [ends.eq(1), status.eq(dut.failure.status), must_stop.eq(1)]
    with m.Elif(dut.is_aborted):
        m.d.comb += [ends.eq(1), status.eq(Status.ABORTED), must_stop.eq(1)]
    with m.Elif((dut.is_broken & (1 << dut._communicator)).any()):
        m.d.comb += [ends.eq(1), status.eq(Status.COMMUNICATOR_BROKEN), must_stop.eq(1)]
    counts = is_under_way if fault == "the last reason" else is_under_way & ~has_reason
    with m.If(counts & ends):
        m.d.sync += [has_reason.eq(1), reason.eq(status), stops.eq(must_stop)]
    with m.If(dut.killed):
        m.d.sync += was_killed.eq(1)
    with m.If(dut.start):
        m.d.comb += Assert(~is_under_way, "a call begins before the one before was reported")
        m.d.sync += [is_under_way.eq(1), has_reason.eq(dut.status != Status.SUCCESS), reason.eq(dut.status),
                     stops.eq(0), was_killed.eq(0)]
    with m.If(dut.answered):
        m.d.comb += [
            Assert(is_under_way & has_reason, "a call is reported twice, or has not ended"),
            Assert(dut.result.status == reason, "a call ended of another reason"),
        ]
        m.d.sync += is_under_way.eq(0)
    states = (dut.is_free, dut.is_running, dut._is_stopping, dut.kill, dut.has_ended)
    m.d.comb += [
        Assert(sum(states) == 1),
        Assert(dut.is_free == ~is_under_way),
        Assert(dut.is_running == (is_under_way & ~has_reason), "a call goes on after its end"),
        Assert(~dut.is_ready | dut.is_running),
        Assert(~dut.has_ended | (stops == was_killed), "a call is reported with moves under way"),
        Assert(~dut.has_ended & ~dut.kill | (dut.result.status == reason)),
        Assert(~(is_under_way & has_reason) | (dut.result.status == reason)),
        Assert(~dut.kill | stops & ~was_killed),
        Assert(~dut._is_stopping | stops & ~was_killed), Assert(~dut.is_running | ~was_killed),
        Assert(dut.outstanding <= MOVES_PER_CONTEXT),
    ]
    if fault == "killed at once":
        m.d.comb += Assert(~(is_under_way & has_reason & stops & ~was_killed) | dut.kill)
    m.d.comb += Cover(dut.answered & was_killed & dut.breaks.any())
    return m


PROOFS = {"call_port": (call_port, 3), "context": (context, 2)}


@pytest.mark.parametrize("name", PROOFS)
def test_proofs(name):
    spec, depth = PROOFS[name]
    prove(spec(), f"collective_{name}", depth=depth)
    prove(spec(), f"collective_{name}_cover", mode="cover", depth=20)


@pytest.mark.parametrize("name,fault", [
    ("call_port", "released in the queue"), ("call_port", "space at once"), ("context", "the last reason"),
    ("context", "killed at once"),
])
def test_faults_are_found(name, fault):
    with pytest.raises(ProofFailed):
        prove(PROOFS[name][0](fault), f"collective_{name}_{fault.replace(' ', '_')}", mode="bmc", depth=20)
