# SPDX-License-Identifier: Apache-2.0
"""Proofs of the blocks for packet streams: queue of whole packets, guard, turns, queue between clocks."""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Cat, Cover, Mux, Signal, Value
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.stream.arbiter import Arbiter
from rackgate.stream.asyncqueue import AsyncQueue
from rackgate.stream.overflow import OverflowGuard
from rackgate.stream.packet import packet_layout
from rackgate.stream.packetqueue import PacketQueue

pytestmark = pytest.mark.formal

DEPTH = 4


def packet_queue(waits, longest, fault=None):
    """Follow one word, picked at any time, from where it goes in until its packet is dropped or it comes out.

    With that for every pick, what comes out are the words that went in and were not dropped with their packet.
    """
    m = specification()
    m.submodules.dut = dut = PacketQueue(1, depth=DEPTH, waits=waits, longest=longest)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    # Damaged packets are dropped, so no word that is kept has an error that counts.
    word, out = (Cat(port.payload.data, port.payload.count, port.payload.last) for port in (dut.i, dut.o))
    takes, gets, put, pick = Signal(), Signal(), Signal(), Signal()
    # From the block's own state alone: what it does with the word that it takes.
    is_lost = dut._is_skipping | (dut._pending == longest) | ((dut._room == 0) & (
        (dut._stored == 0) if waits else 1))
    ends = takes & (is_lost | dut.i.payload.last & dut.i.payload.error)
    is_inside, value, ahead = Signal(), Signal(len(word)), Signal(range(DEPTH + 3))
    leaving = dut.o.valid + dut._is_fetched
    m.d.comb += [
        takes.eq(dut.i.valid & dut.i.ready), gets.eq(dut.o.valid & dut.o.ready),
        put.eq(takes & ~is_lost & ~ends), pick.eq(put & AnySeq(1) & ~is_inside),
    ]
    if not waits:
        m.d.comb += Assert(dut.i.ready, "a queue that drops has stalled")
    with m.If(pick):
        m.d.sync += [
            is_inside.eq(1), value.eq(~word if fault == "wrong data" else word),
            ahead.eq(dut._stored + dut._pending + leaving - (0 if fault == "forgets a get" else gets)),
        ]
    with m.If(is_inside):
        m.d.sync += ahead.eq(ahead - gets)
        with m.If(gets & (ahead == 0)):
            m.d.comb += Assert(out == value, "what comes out is not what went in")
            m.d.sync += is_inside.eq(0)
        with m.If(ends & (ahead >= leaving + dut._stored) & (fault != "forgets that it was dropped")):
            m.d.sync += is_inside.eq(0)
    m.d.comb += Assert(~is_inside | (ahead < dut._stored + dut._pending + leaving), "a word is lost or doubled")
    _where_it_is(m, dut, out, is_inside, value, ahead, leaving)
    m.d.comb += Cover(is_inside & (dut._room == 0) & dut.o.valid)
    return m


def _where_it_is(m, dut, out, is_inside, value, ahead, leaving):
    """What an induction needs to know of the state."""
    look, total = dut._memory.read_port(domain="comb"), dut._stored + dut._pending

    def after(address, distance):
        place = address + distance
        return Mux(place >= DEPTH, place - DEPTH, place)

    m.d.comb += [
        look.addr.eq(after(dut._r_addr, ahead - leaving)),
        Assert(dut._room + total == DEPTH), Assert(dut._pending <= dut.longest),
        Assert((dut._r_addr < DEPTH) & (dut._w_addr < DEPTH) & (dut._begin < DEPTH)),
        Assert(dut._begin == after(dut._r_addr, dut._stored)), Assert(dut._w_addr == after(dut._r_addr, total)),
        Assert(~dut._is_skipping | (dut._pending == 0)),
    ]
    with m.If(is_inside):
        with m.If(dut.o.valid & (ahead == 0)):
            m.d.comb += Assert(out == value)
        with m.Elif(dut._is_fetched & (ahead == dut.o.valid)):
            m.d.comb += Assert(dut._r_port.data.as_value() == value)
        with m.Else():
            m.d.comb += Assert(look.data.as_value() == value)


@pytest.mark.parametrize("waits,longest", [(True, 4), (False, 2)])
def test_packet_queue(waits, longest):
    prove(packet_queue(waits, longest), f"packet_queue_{waits}_{longest}", depth=4)


def test_packet_queue_can_be_full():
    prove(packet_queue(True, 4), "packet_queue_cover", mode="cover", depth=12)


@pytest.mark.parametrize("fault", ["wrong data", "forgets a get", "forgets that it was dropped"])
def test_packet_queue_fault(fault):
    with pytest.raises(ProofFailed, match="test_packet_proofs.py"):
        prove(packet_queue(False, 4, fault), f"packet_queue_fault_{fault.replace(' ', '_')}", mode="bmc", depth=10)


def whole_packets(waits):
    """From its first word on, a packet is offered without a break."""
    m = specification()
    m.submodules.dut = dut = PacketQueue(1, depth=DEPTH, waits=waits)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    is_within = Signal()
    with m.If(dut.o.valid & dut.o.ready):
        m.d.sync += is_within.eq(~dut.o.payload.last)
    m.d.comb += [Assert(~is_within | dut.o.valid, "a packet has a break"), Assert(
        ~dut.o.valid | ~dut.o.payload.last | ~dut.o.payload.error, "a damaged packet comes out")]
    return m


@pytest.mark.parametrize("waits", [True, False])
def test_packets_come_whole(waits):
    prove(whole_packets(waits), f"packet_queue_whole_{waits}", mode="bmc", depth=9)


def overflow(fault=None):
    """A model of what may come out next: the word that was taken, the end that is owed, nothing."""
    m = specification()
    m.submodules.dut = dut = OverflowGuard(1)
    m.d.comb += [Value.cast(dut.i.payload).eq(AnySeq(len(Value.cast(dut.i.payload)))), dut.i.valid.eq(AnySeq(1))]
    stall(m, dut.o, name="o")
    # Of the packet that comes in: words of it went on; a word of it was lost. Of the output: a packet has no end yet.
    has_gone, has_lost, is_open, owes = Signal(), Signal(), Signal(), Signal()
    expected, is_expected, moves = Signal(len(Value.cast(dut.i.payload))), Signal(), Signal()
    m.d.comb += moves.eq(~dut.o.valid | dut.o.ready)
    passes = dut.i.valid & ~has_lost & moves & ~owes
    loses = dut.i.valid & ~has_lost & ~(moves & ~owes)
    with m.If(moves):
        m.d.sync += [is_expected.eq(passes | owes), expected.eq(Value.cast(dut.i.payload)), owes.eq(0)]
        with m.If(owes):
            m.d.sync += [expected.eq(0b11_1_0000_0000 if fault is None else 0b01_1_0000_0000), is_open.eq(0)]
        with m.Elif(passes):
            m.d.sync += is_open.eq(~dut.i.payload.last)
    with m.If(dut.i.valid):
        m.d.sync += [has_gone.eq((has_gone | passes) & ~dut.i.payload.last & ~loses),
                     has_lost.eq((has_lost | loses) & ~dut.i.payload.last)]
    with m.If(loses & has_gone):
        m.d.sync += owes.eq(1)
    m.d.comb += [
        Assert(dut.lost == loses, "it does not tell what is lost"),
        Assert(dut.o.valid == is_expected, "a word is lost or doubled"),
        Assert(~is_expected | (Value.cast(dut.o.payload) == expected), "what comes out is not what went in"),
        Assert(is_open == (has_gone | owes), "a packet has no end"),
    ]
    return m


def test_overflow():
    prove(overflow(), "overflow_guard", mode="bmc", depth=10)


def test_overflow_fault():
    with pytest.raises(ProofFailed, match="test_packet_proofs.py"):
        prove(overflow("no error"), "overflow_guard_fault", mode="bmc", depth=10)


def turns(fault=None):
    """Between the words of a packet comes none of another."""
    m = specification()
    m.submodules.dut = dut = Arbiter(packet_layout(1), 2, packets=fault is None)
    stall(m, dut.o, name="o")
    for k in range(2):
        drive(m, dut.i[k], name=f"i_{k}")
    is_within, origin = Signal(), Signal()
    with m.If(dut.o.valid & dut.o.ready):
        m.d.sync += [is_within.eq(~dut.o.payload.last), origin.eq(dut.source)]
    m.d.comb += Assert(~(is_within & dut.o.valid) | (dut.source == origin), "packets are mixed")
    return m


def test_turns():
    prove(turns(), "arbiter_packets", mode="bmc", depth=10)


def test_turns_fault():
    with pytest.raises(ProofFailed, match="test_packet_proofs.py"):
        prove(turns("words take turns"), "arbiter_packets_fault", mode="bmc", depth=10)


def crossing(fault=None):
    """The queue between two clocks, with both ends on one: order, contents and number of what goes through."""
    m = specification()
    dut = AsyncQueue(4, depth=4)
    m.submodules.dut = dut
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    puts, gets, picked, value = Signal(4), Signal(4), Signal(4), Signal(4)
    has_pick, put, get = Signal(), Signal(), Signal()
    m.d.comb += [put.eq(dut.i.valid & dut.i.ready), get.eq(dut.o.valid & dut.o.ready)]
    m.d.sync += [puts.eq(puts + put), gets.eq(gets + get)]
    with m.If(put & AnySeq(1) & ~has_pick):
        m.d.sync += [has_pick.eq(1), picked.eq(puts), value.eq(dut.i.payload ^ (fault is not None))]
    with m.If(has_pick & get & (gets == picked)):
        m.d.comb += Assert(dut.o.payload == value, "what comes out is not what went in")
        m.d.sync += has_pick.eq(0)
    held = Signal(4)
    m.d.comb += [held.eq(puts - gets), Assert(held <= 5, "more comes out than went in, or it holds too much")]
    return m


def test_crossing():
    prove(crossing(), "async_queue", mode="bmc", depth=12)


def test_crossing_fault():
    with pytest.raises(ProofFailed, match="test_packet_proofs.py"):
        prove(crossing("wrong data"), "async_queue_fault", mode="bmc", depth=12)
