# SPDX-License-Identifier: Apache-2.0
"""Proof that CommandReader reads only its ring, in order, and always has room for what it asked for.

By induction, so for all time, any ring, any doorbell, any answers.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Mux
from axi_memory import answer_reads
from runner import ProofFailed, prove, specification, stall

from rackgate.zeronic.commandreader import RING_BITS, CommandReader

pytestmark = pytest.mark.formal

WIDTH = 32
BURSTS = 2  # under way at a time, in the proof


def reader(fault=None):
    """A reader with any ring, that does not change, and a doorbell that does."""
    m = specification()
    m.submodules.dut = dut = CommandReader(WIDTH)
    base, log_size = AnyConst(40), AnyConst(5)
    is_ring = (log_size >= RING_BITS[0]) & (log_size <= RING_BITS[1])
    size = Mux(is_ring, Const(1, 27) << log_size, 0)
    start = Cat(Const(0, 6), base[6:])
    m.d.comb += [
        dut.base.eq(base), dut.log_size.eq(log_size), dut.producer.eq(AnySeq(32)), dut.enable.eq(AnySeq(1)),
        Assume(start + size <= 1 << 40),
    ]
    stall(m, dut.ar, name="ar")
    stall(m, dut.o, name="o")
    front = dut._front
    count, beats = answer_reads(m, dut.ar, dut.r, bursts=BURSTS)
    m.d.comb += Assume(~(dut.ar.valid & (count == BURSTS)) | ~dut.ar.ready)

    address = dut.ar.payload
    end = address.addr + (address.len + 1) * WIDTH
    offset = (dut._position << 5) & (size - 1)
    limit = size - (64 if fault == "smaller ring" else 0)
    with m.If(dut.ar.valid):
        m.d.comb += [
            Assert(is_ring, "a read though there is no ring"),
            Assert((address.addr >= start) & (end <= start + limit), "an address outside the ring"),
            Assert(address.addr == start + offset + (32 if fault == "place" else 0), "a unit is skipped or read twice"),
            Assert((address.addr >> 12) == (end - 1) >> 12, "a burst crosses 4 KiB"),
            Assert((address.addr[:5] == 0) & (address.size == 5) & (address.len <= 1)),
            Assert(~address.len[0] | ~dut._position[0], "two units that make no aligned block"),
        ]
    # Every word asked for has a place.
    under_way = Mux(count > 0, beats[0], 0) + Mux(count > 1, beats[1], 0)
    m.d.comb += [
        Assert(dut._room + dut._queue.level + under_way == dut._depth, "places are lost or made"),
        Assert(~dut.ar.valid | (dut._room >= 2), "a burst for which there is no room"),
        Assert(~dut.r.valid | dut._queue.i.ready, "a word comes for which there is no room"),
        # What the induction must know of the bursts under way, and of the queue at the output.
        Assert(count <= BURSTS),
        Assert((count < 1) | (beats[0] >= 1) & (beats[0] <= 2)),
        Assert((count < 2) | (beats[1] >= 1) & (beats[1] <= 2)),
        Assert((front.level <= 4) & ((front._w_addr - front._r_addr)[:2] == front.level[:2])),
        Cover(dut.ar.valid & (address.len == 1) & dut.o.valid & (log_size == 12)),
    ]
    return m


def test_reader():
    prove(reader(), "zeronic_commandreader", depth=2)


@pytest.mark.parametrize("fault", ["smaller ring", "place"])
def test_reader_fault(fault):
    with pytest.raises(ProofFailed, match="test_zeronic_command_proofs.py"):
        prove(reader(fault), f"zeronic_commandreader_fault_{fault.replace(' ', '_')}", depth=2)


def test_reader_can_read():
    prove(reader(), "zeronic_commandreader_cover", mode="cover", depth=8)
