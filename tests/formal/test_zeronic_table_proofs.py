# SPDX-License-Identifier: Apache-2.0
"""Proofs that no address leaves its region, and no piece its segment.

By induction, so for all time: Regions. Bounded: the stretches of a Walker are contiguous, and each lies in the segment
that was read for it. Each is also shown to be able to fail.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cat, Cover, Mux, Signal
from amaranth.lib import data
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.zeronic.abi import Right
from rackgate.zeronic.records import ADDRESS_BITS, FLOW_BITS, LENGTH_BITS, REGION_BITS
from rackgate.zeronic.tables.regions import Regions
from rackgate.zeronic.tables.walker import Walker

pytestmark = pytest.mark.formal


#: Of an address in the proof of the pipeline; the arithmetic is proved with all bits.
BITS = 8
ENTRY = {"rights": 2, "base": BITS, "length": BITS, "owner": FLOW_BITS + 1}


def regions(fault=None):
    """A request carries itself, and the region it names as it was when the request was taken."""
    m = specification()
    asked = data.StructLayout({"flow": FLOW_BITS, "region": REGION_BITS, "offset": BITS + 1,
                               "size": LENGTH_BITS, "entry": data.StructLayout(ENTRY)})
    m.submodules.dut = dut = Regions(Right.WRITE, 2, carried=asked, address_bits=BITS)
    for name in ("i", "update"):
        drive(m, getattr(dut, name), name=name)
    stall(m, dut.o, name="o")
    # What has been registered, by what the host said alone.
    request, update = dut.i.payload, dut.update.payload
    held = [Signal(asked["entry"].shape, name=f"held_{k}") for k in range(2)]
    applies = dut.update.valid & dut.update.ready & ~dut.refused
    for k, region in enumerate(held):
        with m.If(applies & (update.region == k)):
            m.d.sync += [region[name].eq(update[name]) for name in ENTRY]
        port = dut._memory.read_port(domain="comb")
        is_clear = dut.ready | (dut._place > k)
        m.d.comb += [
            port.addr.eq(k),
            Assert(~is_clear | (port.data.as_value() == region.as_value())),
            Assert(dut.ready | (region.as_value() == 0)),
            Assert(region.base + region.length <= 1 << BITS, "a region runs past the end of memory"),
        ]
    is_bad = (update.region >= 2) | (update.base + update.length > 1 << BITS)
    m.d.comb += [
        *(Assume(request.carried[name] == request[name]) for name in ("flow", "region", "offset", "size")),
        Assume(request.carried.entry.as_value() == Mux(request.region[0], held[1].as_value(), held[0].as_value())),
        Assume((update.base >> BITS == 0) & (update.length >> BITS == 0) & (request.size >> BITS == 0)),
        Assert(~dut._is_judged | dut.ready & dut.update.valid & (dut._is_bad == is_bad)),
        Assert(dut.ready | ~dut._has_reading & ~dut._has_request & ~dut._has_sums & ~dut.o.valid),
    ]
    _region_stages(m, dut)

    # What an answer says; that it means what it should is shown by ``arithmetic``.
    answer, was = dut.o.payload, dut.o.payload.carried
    with m.If(dut.o.valid & answer.ok):
        m.d.comb += [
            Assert(was.region < 2, "an address in no region"),
            Assert((was.entry.rights & Right.WRITE) != 0, "an address without the right"),
            Assert((was.entry.owner == 0) | (was.entry.owner == was.flow + 1), "an address in another's region"),
            Assert(was.offset + was.size <= was.entry.length - (fault == "shorter"), "an address behind its region"),
            Assert(answer.address == (was.entry.base + was.offset)[:BITS]),
            Assert(was.entry.base + was.entry.length <= 1 << BITS, "a region runs past the end of memory"),
        ]
    m.d.comb += Cover(dut.o.valid & answer.ok & (was.size == 3) & (was.offset == 5) & (was.region == 1)
                      & (was.entry.length == 8) & (was.entry.owner == was.flow + 1))
    return m


def arithmetic(fault=None):
    """If a region ends within memory, and bytes within the region, then no byte's address is outside it."""
    m = specification()
    base, length, offset, size, address = (Signal(bits, name=name) for name, bits in (
        ("base", ADDRESS_BITS), ("length", ADDRESS_BITS), ("offset", ADDRESS_BITS + 1), ("size", LENGTH_BITS),
        ("address", ADDRESS_BITS)))
    m.d.comb += [
        *(value.eq(AnyConst(len(value))) for value in (base, length, offset, size)),
        address.eq(base + offset),
        Assume(base + length <= (1 << ADDRESS_BITS) + (fault is not None)),
        Assume((size != 0) & (offset + size <= length)),
        Assert(address >= base, "an address before its region"),
        Assert(address + size <= base + length, "an address behind its region"),
        Assert(address + size <= 1 << ADDRESS_BITS, "an address behind all memory"),
    ]
    return m


def _region_stages(m, dut):
    """What an induction needs to know: each stage holds what it should of the request."""
    reading, request, sums, o = dut._reading, dut._request, dut._sums, dut.o.payload
    names = ("flow", "region", "offset", "size")

    def is_right(entry, was):
        return ((was.region < 2) & ((entry.rights & Right.WRITE) != 0)
                & ((entry.owner == 0) | (entry.owner == was.flow + 1)))

    m.d.comb += [
        *(Assert(~dut._has_reading | (reading[name] == reading.carried[name])) for name in names),
        *(Assert(~dut._has_request | (request[name] == request.carried[name])) for name in names),
        Assert(~dut._has_reading | (reading.region >= 2)
               | (dut._port.data.as_value() == reading.carried.entry.as_value())),
        Assert(~dut._has_request | (request.region >= 2)
               | (dut._region.as_value() == request.carried.entry.as_value())),
    ]
    with m.If(dut._has_sums):
        was, entry = sums.carried, sums.carried.entry
        m.d.comb += [
            Assert(sums.fits == is_right(entry, was)),
            Assert(sums.end == was.offset + was.size),
            Assert((was.region >= 2) | (sums.length == entry.length)
                   & (sums.address == (entry.base + was.offset)[:BITS])),
        ]
    for has, was in ((dut._has_reading, reading.carried), (dut._has_request, request.carried),
                     (dut._has_sums, sums.carried), (dut.o.valid, o.carried)):
        m.d.comb += Assert(~has | (was.entry.base + was.entry.length <= 1 << BITS))
    was, entry = o.carried, o.carried.entry
    with m.If(dut.o.valid & o.ok):
        m.d.comb += [
            Assert(is_right(entry, was) & (was.offset + was.size <= entry.length)),
            Assert(o.address == (entry.base + was.offset)[:BITS]),
        ]


def test_regions():
    prove(regions(), "zeronic_regions", depth=2)


def test_region_arithmetic():
    prove(arithmetic(), "zeronic_region_arithmetic", mode="bmc", depth=1)


def test_region_arithmetic_fault():
    with pytest.raises(ProofFailed, match="test_zeronic_table_proofs.py"):
        prove(arithmetic("fault"), "zeronic_region_arithmetic_fault", mode="bmc", depth=1)


def test_regions_can_allow():
    prove(regions(), "zeronic_regions_cover", mode="cover", depth=12)


def test_regions_fault():
    with pytest.raises(ProofFailed, match="test_zeronic_table_proofs.py"):
        prove(regions("shorter"), "zeronic_regions_fault", mode="bmc", depth=12)


def walker(fault=None):
    """Ranges and segments of up to 31 bytes, anywhere."""
    m = specification()
    m.submodules.dut = dut = Walker(2, 4)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    # A segment comes 2 cycles after it has been asked for; the next is not asked for before the stretch is out. What
    # follows is a skid buffer, with a proof of its own: looked at is what goes in.
    segment, wanted, stretch = dut.segment, dut.i.payload, dut._given.i.payload
    granted, read = Signal(2), Signal(segment.shape())
    m.d.comb += [
        dut.granted.eq(AnySeq(1) & dut.read),
        segment.as_value().eq(AnySeq(len(segment.as_value()))),
        Assume((wanted.size < 32) & (segment.length < 32) & (segment.offset < 32)),
        Assume((wanted.position < 64) & (segment.start < 64)),
    ]
    m.d.sync += granted.eq(Cat(dut.granted, granted))
    with m.If(granted[1]):
        m.d.sync += read.eq(segment)
    # What is left of the range.
    expected, left, pieces = Signal(32), Signal(6), Signal(2)
    is_new, before, end = Signal(), Signal(32), Signal(33)
    m.d.comb += [
        is_new.eq(dut._given.i.valid & dut._given.i.ready),
        before.eq(stretch.position - read.start), end.eq(before + stretch.size),
    ]
    with m.If(is_new):
        m.d.comb += [
            Assert((stretch.position == expected) & (stretch.size <= left), "a stretch outside the range"),
            Assert(stretch.last | (stretch.size != 0) & (stretch.size != left), "an empty stretch, or no last"),
            Assert(~stretch.last | (stretch.missing == (stretch.size != left)), "a wrong cause"),
        ]
        m.d.sync += pieces.eq(Mux(stretch.last, 0, pieces + 1))
        with m.If(~stretch.last):
            m.d.sync += [expected.eq(expected + stretch.size), left.eq(left - stretch.size)]
    with m.If(is_new & (stretch.size != 0)):
        m.d.comb += [
            Assert((before < read.length) & (end + (fault is not None) <= read.length), "a stretch outside a segment"),
            Assert((stretch.offset == read.offset + before) & (stretch.region == read.region)),
        ]
    with m.If(dut.i.valid & dut.i.ready):
        m.d.sync += [expected.eq(wanted.position), left.eq(wanted.size)]
    m.d.comb += Cover(is_new & stretch.last & ~stretch.missing & (stretch.size == 3) & (pieces == 1))
    return m


def test_walker():
    prove(walker(), "zeronic_walker", mode="bmc", depth=13)


def test_walker_can_go_on():
    prove(walker(), "zeronic_walker_cover", mode="cover", depth=16)


def test_walker_fault():
    with pytest.raises(ProofFailed, match="test_zeronic_table_proofs.py"):
        prove(walker("fault"), "zeronic_walker_fault", mode="bmc", depth=9)
