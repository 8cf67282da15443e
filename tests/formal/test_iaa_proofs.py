# SPDX-License-Identifier: Apache-2.0
"""Proofs about the translation's path of addresses, for some cycles after reset.

Whatever is asked and filled in, and whenever: no address leaves that was not translated, and no burst is lost,
doubled or overtaken by one of its context.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover, Signal
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.iaa.addresspath import AddressPath, PathParameters
from rackgate.iaa.tlb import Translation

pytestmark = pytest.mark.formal


def path(fault=None):
    """One context of two is followed; bursts carry a number in their length, in the order in which they come in."""
    m = specification()
    m.submodules.dut = dut = AddressPath(PathParameters(contexts=2, id_width=1, depth=2), write=False)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    stall(m, dut.o_refused, name="o_refused")
    mine, space = Signal(), dut.space
    m.d.comb += [
        mine.eq(AnyConst(1)), space.as_value().eq(AnyConst(len(space.as_value()))), dut.open.eq(1),
        dut.park_open.eq(1), dut.failed.eq(AnySeq(2)), dut.hold.eq(AnySeq(2)), dut.invalidate.eq(AnySeq(1)),
        dut.select.eq(AnySeq(1)), dut.released.eq(dut.unparked), dut.released_context.eq(dut.unparked_context),
        dut.fill_valid.eq(AnySeq(1)), dut.fill_context.eq(AnySeq(1)),
        dut.fill.as_value().eq(AnySeq(len(dut.fill.as_value()))),
        dut.answered.eq(AnySeq(1)), dut.answered_context.eq(AnySeq(1)),
    ]
    queue, translate = space[mine].queue, space[mine].translate
    request, out = dut.i.payload, dut.o.payload
    is_in, is_out = Signal(), Signal()
    m.d.comb += [
        is_in.eq(dut.i.valid & dut.i.ready & (request.id == mine)),
        is_out.eq(dut.o.valid & dut.o.ready & (out.id == mine)),
    ]
    # As many answers as bursts; a translation when it is wanted, for the page that was asked for.
    under_way = [Signal(6, name=f"under_way_{k}") for k in range(2)]
    for k, count in enumerate(under_way):
        sent, refused, done = Signal(), Signal(), Signal()
        m.d.comb += [
            sent.eq(dut.o.valid & dut.o.ready & (out.id == k)),
            refused.eq(dut.o_refused.valid & dut.o_refused.ready & (dut.o_refused.payload.context == k)),
            done.eq(dut.answered & (dut.answered_context == k)),
            Assume(~done | (count != 0)),
        ]
        m.d.sync += count.eq(count + sent + refused - done)
    # A context that has failed remains so.
    was_failed = Signal(2)
    m.d.sync += was_failed.eq(dut.failed)
    m.d.comb += Assume((was_failed & ~dut.failed) == 0)
    with m.If(dut.fill_valid):
        m.d.comb += Assume(dut.want.bit_select(dut.fill_context, 1))

    # The last translation filled in for the context.
    last, has_last, was_offered = Signal(Translation), Signal(), Signal()
    with m.If(dut.fill_valid & (dut.fill_context == mine)):
        m.d.sync += [last.eq(dut.fill), has_last.eq(1)]
    with m.If(dut.invalidate):
        m.d.sync += has_last.eq(0)
    m.d.sync += was_offered.eq(dut.o.valid & ~dut.o.ready & (out.id == mine))

    # The burst that must leave next: its number, and its page as it came in.
    came, left, number = Signal(8), Signal(8), Signal(8)
    page, has_page, offset = Signal(36), Signal(), Signal(12)
    m.d.comb += number.eq(AnyConst(8))
    with m.If(is_in):
        m.d.comb += Assume(request.len == came)
        m.d.sync += came.eq(came + 1)
        with m.If(came == number):
            m.d.sync += [page.eq(request.addr[12:]), offset.eq(request.addr[:12]), has_page.eq(1)]
    is_refused = dut.o_refused.valid & dut.o_refused.ready & (dut.o_refused.payload.context == mine)
    m.d.sync += left.eq(left + is_out + is_refused)
    m.d.comb += Assert(~(is_out & is_refused))
    with m.If(dut.o_refused.valid & (dut.o_refused.payload.context == mine)):
        m.d.comb += Assert(dut.o_refused.payload.len == left, "a burst is lost, doubled or overtaken")
    with m.If(dut.o.valid & (out.id == mine)):
        m.d.comb += Assert(out.len == left, "a burst is lost, doubled or overtaken")
        with m.If((left == number) & ~was_offered):
            m.d.comb += Assert(has_page & (out.addr[:12] == offset), "an address that did not come in")
            with m.If(translate):
                m.d.comb += [
                    Assert(has_last & (last.page == page) & (last.queue == queue), "an address without translation"),
                    Assert(out.addr[12:] == last.frame + (1 if fault else 0), "an address that is translated wrongly"),
                ]
            with m.Else():
                m.d.comb += Assert(out.addr[12:] == page, "an address that is not its own")
    m.d.comb += Cover(is_out & (left == 1) & translate & dut.o_source & has_page & (number == 1))
    return m


def test_addresses():
    prove(path(), "iaa_path", mode="bmc", depth=9)


def test_addresses_can_leave():
    prove(path(), "iaa_path_cover", mode="cover", depth=14)


def test_addresses_fault():
    with pytest.raises(ProofFailed, match="test_iaa_proofs.py"):
        prove(path(fault=True), "iaa_path_fault", mode="bmc", depth=9)
