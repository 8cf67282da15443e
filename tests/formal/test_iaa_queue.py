# SPDX-License-Identifier: Apache-2.0
"""Proof by induction that the work queues lose, double, reorder and change no descriptor, and count exactly.

Two queues share a storage, their regions are anywhere in it but apart. One descriptor of one queue is picked at any
time, and one of its words; with what holds for every pick, it holds for all. Descriptors have two words of 32 bits.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Mux, Signal
from runner import ProofFailed, prove, specification

from rackgate.iaa.queues import Queues

pytestmark = pytest.mark.formal

ENTRIES = 4


def drive(m, dut, fault):
    """Any use of the queues that their contract allows. Two clears begin; the regions then stay."""
    has_begun, first, last = Signal(), [], []
    for queue in range(2):
        first.append(Signal(range(ENTRIES), name=f"first_{queue}"))
        last.append(Signal(range(ENTRIES), name=f"last_{queue}"))
        m.d.comb += [
            first[queue].eq(AnyConst(len(first[queue]))),
            last[queue].eq(AnyConst(len(last[queue]))),
            Assume(first[queue] <= last[queue]),
            dut.first[queue].eq(first[queue]),
            dut.last[queue].eq(last[queue]),
        ]
    if fault != "regions meet":
        m.d.comb += Assume((last[0] < first[1]) | (last[1] < first[0]))
    m.d.sync += has_begun.eq(1)
    m.d.comb += dut.clear.eq(Mux(has_begun, 0, 0b11))
    for name in ("stage", "put", "take", "queue", "take_queue", "word", "value", "read_entry", "read_word"):
        if len(signal := getattr(dut, name)):
            m.d.comb += signal.eq(AnySeq(len(signal)))
    room = Array(last)[dut.queue] - Array(first)[dut.queue]
    is_full = Array(dut.occupancy)[dut.queue] > room
    m.d.comb += [
        Assume(has_begun | ~(dut.stage | dut.put | dut.take)),
        Assume(~dut.stage | ~is_full),
        Assume(~dut.take | (Array(dut.occupancy)[dut.take_queue] != 0)),
    ]
    if fault != "puts into a full queue":
        m.d.comb += Assume(~dut.put | ~is_full)
    return has_begun, first, last


def queues(fault=None):
    m = specification()
    m.submodules.dut = dut = Queues(2, entries=ENTRIES, words=1)
    has_begun, firsts, lasts = drive(m, dut, fault)
    mine, word = Signal(), Signal()
    m.d.comb += [mine.eq(AnyConst(1)), word.eq(AnyConst(1))]
    first, last = Array(firsts)[mine], Array(lasts)[mine]
    head, tail, occupancy = Array(dut.head)[mine], Array(dut._tail)[mine], Array(dut.occupancy)[mine]
    put, take = Signal(), Signal()
    m.d.comb += [put.eq(dut.put & (dut.queue == mine)), take.eq(dut.take & (dut.take_queue == mine))]

    def entry(distance):
        """Entry that is so far behind the head."""
        end = head + distance
        return Mux(end > last, end - (last - first + 1), end)

    def half(row):
        return Mux(word[0], row[1], row[0])

    # The word as it was last staged, and with a put the descriptor that is followed.
    is_staged, staged = Signal(), Signal(32)
    is_inside, value, ahead = Signal(), Signal(32), Signal(range(ENTRIES + 1))
    pick = Signal()
    m.d.comb += pick.eq(put & is_staged & ~is_inside & AnySeq(1))
    with m.If(put):
        m.d.sync += is_staged.eq(0)
    with m.If(dut.stage & (dut.queue == mine) & (dut.word == word) & ~put):
        m.d.sync += [is_staged.eq(1), staged.eq(~dut.value if fault == "wrong data" else dut.value)]
    m.d.comb += Assume(~(dut.stage & dut.put))  # a portal does one at a time
    with m.If(is_inside & take):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += is_inside.eq(0)
    with m.If(pick):
        m.d.sync += [is_inside.eq(1), value.eq(staged),
                     ahead.eq(occupancy if fault == "forgets a take" else occupancy - take)]

    # What is read at the head's place is the oldest descriptor.
    was_read, expected = Signal(), Signal(32)
    m.d.sync += [
        was_read.eq(is_inside & (ahead == 0) & (dut.read_entry == head) & (dut.read_word == word[1:])),
        expected.eq(value),
    ]
    with m.If(was_read):
        m.d.comb += Assert(Mux(word[0], dut.data[32:], dut.data[:32]) == expected, "what is read is not what was put")

    # Counted apart from the queue.
    count = Signal(8)
    m.d.sync += count.eq(count + put - take)
    m.d.comb += Assert(count == occupancy, "the occupancy is wrong")
    m.d.comb += Assert(Array(dut.has_work)[mine] == (count != 0))

    # What an induction needs to know.
    look, look_staged = dut._memory.read_port(domain="comb"), dut._memory.read_port(domain="comb")
    m.d.comb += [
        look.addr.eq(Cat(word[1:], entry(ahead)[:2])),
        look_staged.addr.eq(Cat(word[1:], tail)),
        Assert(occupancy <= last - first + 1),
        Assert(~is_inside | (ahead < occupancy), "a descriptor is lost or doubled"),
        Assert(~is_inside | (half(look.data) == value), "a descriptor has changed"),
        Assert(~is_staged | (half(look_staged.data) == staged), "what is staged has changed"),
        Assert(~is_staged | (occupancy <= last - first)),
        Assert(has_begun | (~is_inside & ~is_staged & (count == 0))),
    ]
    for queue in range(2):
        # Of either queue: what the other one does must not reach this one.
        end = dut.head[queue] + dut.occupancy[queue]
        size = lasts[queue] - firsts[queue] + 1
        behind = Mux(end > lasts[queue], end - size, end)
        with m.If(has_begun):
            m.d.comb += [
                Assert((firsts[queue] <= dut.head[queue]) & (dut.head[queue] <= lasts[queue])),
                Assert(dut._tail[queue] == behind),
                Assert(dut.occupancy[queue] <= size),
            ]
        with m.Else():
            m.d.comb += Assert(dut.occupancy[queue] == 0)
    m.d.comb += Cover((occupancy == 3) & is_inside & (ahead == 2) & (head != first))
    return m


def test_queues():
    prove(queues(), "iaa_queues", depth=3)


def test_queues_can_be_full():
    prove(queues(), "iaa_queues_cover", mode="cover", depth=12)


@pytest.mark.parametrize("fault", ["regions meet", "puts into a full queue", "wrong data", "forgets a take"])
def test_queues_fault(fault):
    with pytest.raises(ProofFailed, match=r"test_iaa_queue.py|queues.py"):
        prove(queues(fault), f"iaa_queues_fault_{fault.replace(' ', '_')}", mode="bmc", depth=9)
