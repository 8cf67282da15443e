# SPDX-License-Identifier: Apache-2.0
"""Proofs that entries stay in their rings, and on nothing that the host has not read.

By induction, so for all time, for rings at any places, and a host that reads in any steps: each place that Rings gives
lies in its ring, in one part; it is as long as it was asked for, or a pad that fills the ring's end; it has nothing
that the host has not read; and nothing is lost that fits its ring. For a ring of 16 KiB and one of 4 KiB, each beside
one that is not there.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Assume, Const, Cover, Mux, Signal
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.zeronic.abi import RINGS
from rackgate.zeronic.rx.rings import LOG_SIZE_LEAST, LOG_SIZE_MOST, Rings

pytestmark = pytest.mark.formal

#: Of the longest entry, in multiples of 8 bytes.
UNITS_MOST = 1166


def rings(logs, fault=None):
    """Rings of these sizes, which do not change, and a host that reads no more than has a place."""
    m = specification()
    m.submodules.dut = dut = Rings()
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    wanted, place = dut.i.payload, dut.o.payload
    bases, sizes, reads = [], [], []
    known, settled = Signal(), Signal()  # sizes are known a cycle after reset, and where rings end another cycle later
    m.d.sync += [known.eq(1), settled.eq(known)]
    m.d.comb += [
        Assume((wanted.units >= 2) & (wanted.units <= UNITS_MOST)),
        Assume(settled | ~dut.i.valid),
    ]
    for ring in range(RINGS):
        base, log = Signal(40, name=f"base_{ring}"), logs[ring]
        size = Const(1 << log if LOG_SIZE_LEAST <= log <= LOG_SIZE_MOST else 0, 32)
        consumer, read, unread = Signal(32, name=f"consumer_{ring}"), Signal(32), Signal(32, name=f"unread_{ring}")
        ends = dut._ends[ring]
        m.d.comb += [
            base.eq(AnyConst(40)), read.eq(AnySeq(32)),
            Assume(base[:6] == 0), Assume(base + size <= 1 << 40),
            dut.base[ring].eq(base), dut.log_size[ring].eq(log), dut.consumer[ring].eq(consumer),
            unread.eq(dut._heads[ring] - consumer),
            Assume((read <= unread) & (read[:3] == 0)),
            Assert(unread <= size, "the host has not read what is overwritten"),
            Assert((dut._heads[ring][:3] == 0) & (consumer[:3] == 0)),
            Assert(known | ~settled),
            Assert(~known | (dut._sizes[ring] == size) & (dut._masks[ring] == (1 << log) - 1)),
            Assert(~settled | (ends.size == size) & (ends.offset == dut._heads[ring] & (size - 1) & dut._masks[ring])
                   & (ends.left == size - ends.offset)),
        ]
        m.d.sync += consumer.eq(consumer + read)
        bases.append(base)
        sizes.append(size)
        reads.append(unread)
    base, size, unread = Array(bases)[place.ring], Array(sizes)[place.ring], Array(reads)[place.ring]
    offset, bytes_ = Signal(41), Signal(16)
    m.d.comb += [
        offset.eq(place.address - base),
        bytes_.eq(place.units << 3),
    ]
    with m.If(dut.o.valid):
        m.d.comb += Assert(place.ring == wanted.ring)
        with m.If(place.lost):
            m.d.comb += Assert(wanted.units << 3 > size, "an entry is lost that fits")
        with m.Else():
            m.d.comb += [
                Assert(offset + bytes_ <= (size >> 1 if fault == "half a ring" else size), "outside the ring"),
                Assert(Mux(place.pad, offset + bytes_ == size, place.units == wanted.units), "of a wrong size"),
                Assert((bytes_ >= 8) & (place.address[:3] == 0)),
                Assert(unread + bytes_ <= size - (8 if fault == "never full" else 0), "no room"),
            ]
    m.d.comb += [
        Cover(dut.o.valid & place.pad & (bytes_ == 8)),
        Cover(dut.o.valid & ~place.lost & (unread != 0) & (unread + bytes_ == size)),
    ]
    # What the state says, for the induction.
    with m.If(dut._is_waiting):
        head = Array(dut._heads)[wanted.ring]
        left = Signal(32)
        m.d.comb += [
            Assert(dut.i.valid & settled),
            left.eq(size - (head & (size - 1))),
            Assert(place.ring == wanted.ring),
            Assert(place.lost == (wanted.units << 3 > size)),
            Assert(place.lost | (offset == head & (size - 1))),
            Assert(place.lost | (place.pad == (left < wanted.units << 3))),
            Assert(place.lost | (bytes_ == Mux(place.pad, left, wanted.units << 3))),
            # What was free a cycle ago: the host has read since, perhaps.
            Assert((Array(dut._spare)[wanted.ring] <= size - unread) & (Array(dut._spare)[wanted.ring][:3] == 0)),
            Assert(~dut._is_granted | place.lost | (unread + bytes_ <= size)),
        ]
    with m.Else():
        m.d.comb += Assert(~dut._is_granted)
    return m


@pytest.mark.parametrize("logs", [(14, 0), (0, 12)])
def test_places(logs):
    prove(rings(logs), f"zeronic_rings_{logs[0]}_{logs[1]}", depth=2)


def test_places_are_reached():
    prove(rings((12, 0)), "zeronic_rings_cover", mode="cover", depth=12)


@pytest.mark.parametrize("fault", ["half a ring", "never full"])
def test_the_proof_can_fail(fault):
    with pytest.raises(ProofFailed):
        prove(rings((12, 0), fault), "zeronic_rings_" + fault.replace(" ", "_"), mode="bmc", depth=12)
