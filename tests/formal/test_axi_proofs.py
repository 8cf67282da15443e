# SPDX-License-Identifier: Apache-2.0
"""Proofs that ReadArbiter and WriteArbiter route to whom it belongs.

By induction, so for all time: ReadArbiter. Bounded, for some cycles after reset: WriteArbiter's order of data.
"""

import pytest
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Cover, Signal
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.axi.read_arbiter import ReadArbiter
from rackgate.axi.write_arbiter import WriteArbiter

pytestmark = pytest.mark.formal

ADDR_WIDTH = 12


def read_arbiter(n, fault=None):
    m = specification()
    m.submodules.dut = dut = ReadArbiter(n, addr_width=ADDR_WIDTH, data_width=32, id_width=2)
    stall(m, dut.o_ar, name="o_ar")
    drive(m, dut.i_r, name="i_r")
    m.d.comb += Assume(dut.i_r.payload.id < n << 2)

    # Addresses: what was granted is at the bus in the next cycle, with the number of its port.
    address, id, was_granted, is_granted = Signal(ADDR_WIDTH), Signal(4), Signal(), Signal(n)
    m.d.sync += was_granted.eq(is_granted.any())
    for k in range(n):
        drive(m, dut.i_ar[k], name=f"i_ar_{k}")
        port = dut.i_ar[k]
        m.d.comb += is_granted[k].eq(port.valid & port.ready)
        with m.If(is_granted[k]):
            number = n - 1 - k if fault == "port" else k
            m.d.sync += [address.eq(port.payload.addr), id.eq(port.payload.id | number << 2)]
    with m.If(was_granted):
        m.d.comb += Assert(dut.o_ar.valid & (dut.o_ar.payload.addr == address) & (dut.o_ar.payload.id == id))

    # Answers: offered to the one port that the id names, and taken when that port takes them.
    answer = dut.i_r
    for k in range(n):
        stall(m, dut.o_r[k], name=f"o_r_{k}")
        is_named = answer.payload.id >> 2 == (n - 1 - k if fault == "answer" else k)
        m.d.comb += Assert(dut.o_r[k].valid == (answer.valid & is_named), "an answer at the wrong port")
        with m.If(dut.o_r[k].valid):
            payload = dut.o_r[k].payload
            m.d.comb += [
                Assert(answer.ready == dut.o_r[k].ready, "an answer is taken that its port does not take"),
                Assert((payload.data == answer.payload.data) & (payload.last == answer.payload.last)
                       & (payload.resp == answer.payload.resp) & (payload.id == answer.payload.id[:2])),
            ]
    return m


@pytest.mark.parametrize("n", [2, 3])
def test_read_arbiter(n):
    prove(read_arbiter(n), f"read_arbiter_{n}", depth=3)


@pytest.mark.parametrize("fault", ["port", "answer"])
def test_read_arbiter_fault(fault):
    with pytest.raises(ProofFailed, match="test_axi_proofs.py"):
        prove(read_arbiter(2, fault), f"read_arbiter_fault_{fault}", mode="bmc", depth=6)


def write_arbiter(fault=None):
    """Two initiators that mark their data: the n-th burst of data is of the initiator of the n-th address."""
    m = specification()
    m.submodules.dut = dut = WriteArbiter(2, addr_width=ADDR_WIDTH, data_width=32, id_width=1, grants=2)
    for name in ("o_aw", "o_w"):
        stall(m, getattr(dut, name), name=name)
    for k in range(2):
        drive(m, dut.i_aw[k], name=f"i_aw_{k}")
        drive(m, dut.i_w[k], name=f"i_w_{k}")
        m.d.comb += Assume(dut.i_w[k].payload.data == k)
    number = Signal(3)
    m.d.comb += number.eq(AnyConst(3))

    aw_count, aw_port, has_aw = Signal(4), Signal(), Signal()
    with m.If(dut.o_aw.valid & dut.o_aw.ready):
        m.d.sync += aw_count.eq(aw_count + 1)
        with m.If(aw_count == number):
            m.d.sync += [aw_port.eq(dut.o_aw.payload.id[1]), has_aw.eq(1)]

    w_count, w_port, has_w, is_within, source = Signal(4), Signal(), Signal(), Signal(), Signal()
    beat = dut.o_w.payload
    with m.If(dut.o_w.valid):
        m.d.comb += Assert(~is_within | (beat.data == source), "the data of two bursts are mixed")
    with m.If(dut.o_w.valid & dut.o_w.ready):
        m.d.sync += [is_within.eq(~beat.last), source.eq(beat.data), w_count.eq(w_count + beat.last)]
        with m.If(beat.last & (w_count == number + (1 if fault == "shifted" else 0))):
            m.d.sync += [w_port.eq(beat.data), has_w.eq(1)]
    m.d.comb += [
        Assert(~(has_aw & has_w) | (aw_port == w_port), "data go with another's address"),
        Cover(has_aw & has_w & (number == 2) & (aw_port == 1)),
    ]

    # Answers, as for reads.
    drive(m, dut.i_b, name="i_b")
    for k in range(2):
        stall(m, dut.o_b[k], name=f"o_b_{k}")
        m.d.comb += Assert(dut.o_b[k].valid == (dut.i_b.valid & (dut.i_b.payload.id[1] == k)))
        with m.If(dut.o_b[k].valid):
            m.d.comb += Assert(dut.i_b.ready == dut.o_b[k].ready)
    return m


def test_write_arbiter():
    prove(write_arbiter(), "write_arbiter", mode="bmc", depth=12)


def test_write_arbiter_can_write():
    prove(write_arbiter(), "write_arbiter_cover", mode="cover", depth=14)


def test_write_arbiter_fault():
    with pytest.raises(ProofFailed, match="test_axi_proofs.py"):
        prove(write_arbiter("shifted"), "write_arbiter_fault", mode="bmc", depth=12)
