# SPDX-License-Identifier: Apache-2.0
"""Proofs that the bridge executes no request twice, and that what it accesses is where it may be.

By induction, so for all time: no request twice; no word of a response behind its end; OnChipMemory writes no word that
its address does not name. Bounded, for some cycles after reset: every address that the bridge sends to memory.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover, Module, Signal
from axi_memory import answer_reads
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.axi.bus import AXI4Signature, Response
from rackgate.bridge import abi
from rackgate.bridge.reader import MemoryReadUnit
from rackgate.bridge.session import Header, Session, Verdict
from rackgate.bridge.writer import MemoryWriteUnit
from rackgate.mem.target import RamWrites, Region

pytestmark = pytest.mark.formal


def session(fault=None):
    """Any messages, and any request that is looked at: executed at most once.

    Hosts draw no session twice, so they can be numbered as they were drawn, and who opens one can only name one that
    was drawn before it. A session has fewer than 2**32 requests.
    """
    m = specification()
    m.submodules.dut = dut = Session(window=4)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    header, judged, was_judged = dut.i.payload, Signal(Header), Signal()
    watched, number = Signal(32), Signal(32)
    m.d.comb += [
        watched.eq(AnyConst(32)), number.eq(AnyConst(32)),
        Assume(dut._expected != 0xFFFF_FFFF),
    ]
    if fault != "a session is drawn twice":
        m.d.comb += Assume((header.kind != abi.Kind.OPEN) | (header.previous < header.session))
    m.d.sync += was_judged.eq(dut.i.valid & dut.i.ready)
    with m.If(dut.i.valid & dut.i.ready):
        m.d.sync += judged.eq(header)

    executes, is_executed, is_repeated = Signal(), Signal(), Signal()
    is_it = (judged.session == watched) & (judged.sequence == number) & (judged.kind == abi.Kind.REQUEST)
    m.d.comb += [
        executes.eq(was_judged & is_it & (dut.o.payload == Verdict.EXECUTE)),
        Assert(~(executes & is_executed), "a request is executed twice"),
        Assert(~was_judged | dut.o.valid),
        is_repeated.eq(was_judged & is_it & (dut.o.payload == Verdict.REPEAT)),
        Assert(~is_repeated | is_executed, "a response is sent that there never was"),
        Cover(is_repeated & (number == 1)),
    ]
    with m.If(executes):
        m.d.sync += is_executed.eq(1)

    # Induction: sessions and expected numbers only rise.
    is_past = (dut.open_session > watched) | ((dut.open_session == watched) & (dut._expected > number))
    m.d.comb += [
        Assert(~(is_executed | executes) | is_past),
        Assert(~(executes & (watched == 0))),
        Assert(dut._kept <= dut._expected),
    ]
    # What is kept has been executed, in the session that is open.
    with m.If((dut.open_session == watched) & (watched != 0) & (dut._expected > number)
              & (dut._expected - number <= dut._kept)):
        m.d.comb += Assert(is_executed | executes)
    return m


@pytest.mark.formal
def test_session():
    prove(session(), "bridge_session", depth=4)


def test_session_can_repeat():
    prove(session(), "bridge_session_cover", mode="cover", depth=14)


def test_session_fault():
    with pytest.raises(ProofFailed, match="test_bridge_proofs.py"):
        prove(session("a session is drawn twice"), "bridge_session_fault", mode="bmc", depth=20)


BASE, SIZE = 0x1000, 0x100


def use(m: Module, unit):
    """Any commands, and an executor that waits as long as it likes, as the contract of units lets it."""
    i = unit.i
    drive(m, i.command, name="command")
    m.d.comb += [
        i.cancel.eq(AnySeq(1)), i.r.ready.eq(AnySeq(1)), i.done.ready.eq(AnySeq(1)), i.w.valid.eq(AnySeq(1)),
        i.w.payload.eq(AnySeq(32)),
        Assume(~i.cancel | ~(i.command.valid | i.r.ready | i.done.ready | i.w.valid)),
        Assume(i.command.payload.count != 0),
        Assume(i.command.payload.address[:2] == 0),
    ]


def bound(m: Module, port, size=SIZE):
    """All words of a burst are memory that may be accessed."""
    request = port.payload
    with m.If(port.valid):
        m.d.comb += Assert((request.addr >= BASE) & (request.addr + ((request.len + 1) << 3) <= BASE + size),
                           "an address outside")


def read_unit(fault=None):
    m = specification()
    m.submodules.dut = dut = MemoryReadUnit(BASE, SIZE, addr_width=16, id_width=1)
    use(m, dut)
    stall(m, dut.ar, name="ar")
    answer_reads(m, dut.ar, dut.r, bursts=4)
    bound(m, dut.ar, SIZE - 8 if fault else SIZE)
    m.d.comb += Cover(dut.ar.valid & (dut.ar.payload.addr == BASE + SIZE - 8))
    return m


def write_unit(fault=None):
    m = specification()
    m.submodules.dut = dut = MemoryWriteUnit(BASE, SIZE, addr_width=16, id_width=1)
    use(m, dut)
    stall(m, dut.aw, name="aw")
    m.d.comb += dut.w.ready.eq(AnySeq(1))  # what is written has its own proof, which is the burst maker's
    under_way = Signal(4)
    is_asked, is_answered = dut.aw.valid & dut.aw.ready, dut.b.valid & dut.b.ready
    m.d.comb += [
        dut.b.valid.eq(AnySeq(1)), dut.b.payload.resp.eq(AnySeq(2)), Assume(~dut.b.valid | (under_way != 0)),
    ]
    m.d.sync += under_way.eq(under_way + is_asked - is_answered)
    bound(m, dut.aw, SIZE - 8 if fault else SIZE)
    m.d.comb += Cover(dut.aw.valid & (dut.aw.payload.addr == BASE + SIZE - 8))
    return m


@pytest.mark.parametrize("unit,depth", [(read_unit, 10), (write_unit, 10)])
def test_addresses(unit, depth):
    prove(unit(), f"bridge_{unit.__name__}", mode="bmc", depth=depth)


@pytest.mark.parametrize("unit", [read_unit, write_unit])
def test_addresses_reach_the_end(unit):
    prove(unit(), f"bridge_{unit.__name__}_cover", mode="cover", depth=12)


@pytest.mark.parametrize("unit", [read_unit, write_unit])
def test_addresses_fault(unit):
    with pytest.raises(ProofFailed, match="test_bridge_proofs.py"):
        prove(unit("short"), f"bridge_{unit.__name__}_fault", mode="bmc", depth=12)


def ram_writes(fault=None):
    """Any bursts: a word is written only if a beat of a legal burst named it, and never a place that is not there."""
    m = specification()
    region = Region(0x800, 96)  # 12 words of 16 that the bits can name
    m.submodules.dut = dut = RamWrites(AXI4Signature(addr_width=14, id_width=1), region)
    drive(m, dut.aw, name="aw")
    drive(m, dut.w, name="w")
    stall(m, dut.b, name="b")
    word, left, is_busy, is_named, strobe, place = Signal(11), Signal(8), Signal(), Signal(), Signal(8), Signal(4)
    is_taken = dut.w.valid & dut.w.ready
    with m.If(is_taken):
        m.d.sync += [word.eq(word + 1), left.eq(left - 1)]
        with m.If(left == 0):
            m.d.sync += is_busy.eq(0)
    with m.If(dut.aw.valid & dut.aw.ready):
        m.d.sync += [word.eq(dut.aw.payload.addr >> 3), left.eq(dut.aw.payload.len), is_busy.eq(1)]
    end = 0x100 + (11 if fault == "end" else 12)
    m.d.sync += [
        is_named.eq(is_taken & (word >= 0x100) & (word < end)), strobe.eq(dut.w.payload.strb), place.eq(word),
    ]
    m.d.comb += [
        Assume(~dut.w.valid | ~is_busy | (dut.w.payload.last == (left == 0))),
        Assert(~dut.ram_en.any() | (is_named & (dut.ram_en == strobe) & (dut.ram_addr == place)), "a stray write"),
        Assert(~dut.ram_en.any() | (dut.ram_addr < 12), "a write outside the RAM"),
        Assert(~is_taken | is_busy, "data without an address"),
        Cover(dut.ram_en.any() & (dut.ram_addr == 11) & (left == 2)),
        Cover(dut.b.valid & (dut.b.payload.resp == Response.DECERR)),
        # Induction.
        Assert(dut._is_busy == is_busy),
        Assert(~is_busy | ((dut._word == word) & (dut._left == left))),
    ]
    return m


def test_ram_writes():
    prove(ram_writes(), "ram_writes", depth=3)


def test_ram_writes_can_write():
    prove(ram_writes(), "ram_writes_cover", mode="cover", depth=8)


def test_ram_writes_fault():
    with pytest.raises(ProofFailed, match="test_bridge_proofs.py"):
        prove(ram_writes("end"), "ram_writes_fault", mode="bmc", depth=8)
