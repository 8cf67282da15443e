# SPDX-License-Identifier: Apache-2.0
"""Proofs by induction, so for all time: Queue, SkidBuffer, Backlog, Arbiter, Fork.

Each property is also shown to be able to fail: a fault is put into the specification's wiring, and the proof
must find it.
"""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Array, Assert, Cat, Cover, Module, Mux, Signal, Value
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.stream.arbiter import Arbiter
from rackgate.stream.backlog import Backlog
from rackgate.stream.fork import Fork
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer

pytestmark = pytest.mark.formal

WIDTH = 4


class Tracked:
    """Follow one payload, picked at any time, through a block that keeps order.

    ``ahead`` payloads are before it; when none is left, the next to come out must be it. With that for every
    pick, what comes out is what went in: nothing lost, doubled, changed or overtaken.
    """

    def __init__(self, m: Module, dut, level: Value, *, capacity: int, fault: str | None = None):
        put, get, pick = Signal(), Signal(), Signal()
        self.is_inside, self.value, self.ahead = Signal(), Signal(WIDTH), Signal(range(capacity + 1))
        is_got = dut.o.valid & dut.o.ready
        m.d.comb += [
            put.eq(dut.i.valid & dut.i.ready),
            get.eq(dut.o.ready if fault == "counts ready alone" else is_got),
            pick.eq(put & AnySeq(1) & ~self.is_inside),
        ]
        with m.If(pick):
            m.d.sync += [
                self.is_inside.eq(1),
                self.value.eq(~dut.i.payload if fault == "wrong data" else dut.i.payload),
                self.ahead.eq(level if fault == "forgets a get" else level - get),
            ]
        with m.If(self.is_inside & get):
            m.d.sync += self.ahead.eq(self.ahead - 1)
            with m.If(self.ahead == 0):
                m.d.comb += Assert(dut.o.payload == self.value, "what comes out is not what went in")
                m.d.sync += self.is_inside.eq(0)
        m.d.comb += Assert(~self.is_inside | (self.ahead < level), "a payload is lost or doubled")
        m.d.comb += Assert(dut.o.valid | (level == 0) if isinstance(dut, SkidBuffer) else dut.o.valid <= (level != 0),
                           "the level does not fit what is offered")


def queue(depth, block_ram, fault=None):
    m = specification()
    m.submodules.dut = dut = Queue(WIDTH, depth=depth, block_ram=block_ram)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    tracked = Tracked(m, dut, dut.level, capacity=depth, fault=fault)

    lies_in_queue(m, dut, tracked.is_inside, tracked.ahead, tracked.value)
    m.d.comb += Cover((dut.level == depth) & tracked.is_inside & (tracked.ahead == depth - 1))
    return m


def lies_in_queue(m, dut, is_inside, ahead, value):
    """What an induction needs to know of a queue's state: where the tracked payload lies."""
    depth, block_ram = dut.depth, dut.block_ram
    look = dut._memory.read_port(domain="comb")
    leaving = (dut.o.valid + dut._is_fetched) if block_ram else 0  # places after the RAM
    in_ram = dut._stored if block_ram else dut.level
    position = ahead - leaving
    address, expected_w = dut._r_addr + position, dut._r_addr + in_ram
    m.d.comb += [
        look.addr.eq(Mux(address >= depth, address - depth, address)),
        Assert(dut.level <= depth),
        Assert(dut._r_addr < depth),
        Assert(dut._w_addr == Mux(expected_w >= depth, expected_w - depth, expected_w)),
        Assert(dut.level == in_ram + leaving),
    ]
    with m.If(is_inside):
        if block_ram:
            with m.If(dut.o.valid & (ahead == 0)):
                m.d.comb += Assert(dut.o.payload == value)
            with m.Elif(dut._is_fetched & (ahead == dut.o.valid)):
                m.d.comb += Assert(dut._r_port.data == value)
            with m.Else():
                m.d.comb += Assert(look.data == value)
        else:
            m.d.comb += Assert(look.data == value)


QUEUES = [(1, False), (3, False), (4, False), (2, True), (5, True)]


@pytest.mark.parametrize("depth,block_ram", QUEUES)
def test_queue(depth, block_ram):
    prove(queue(depth, block_ram), f"queue_{depth}_{block_ram}", depth=3)


def test_queue_can_be_full():
    prove(queue(3, True), "queue_cover", mode="cover", depth=12)


@pytest.mark.parametrize("fault", ["counts ready alone", "wrong data", "forgets a get"])
def test_queue_fault(fault):
    with pytest.raises(ProofFailed, match="test_stream_proofs.py"):
        prove(queue(3, False, fault), f"queue_fault_{fault.replace(' ', '_')}", mode="bmc", depth=8)


def skid(fault=None):
    m = specification()
    m.submodules.dut = dut = SkidBuffer(WIDTH)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    level = Signal(2)
    m.d.comb += level.eq(dut.o.valid + dut._is_skidded)
    tracked = Tracked(m, dut, level, capacity=2, fault=fault)
    m.d.comb += Assert(dut.o.valid | ~dut._is_skidded)
    with m.If(tracked.is_inside):
        m.d.comb += Assert(tracked.value == Mux(tracked.ahead == 0, dut.o.payload, dut._skidded))
    return m


def test_skid():
    prove(skid(), "skid", depth=3)


@pytest.mark.parametrize("fault", ["counts ready alone", "wrong data", "forgets a get"])
def test_skid_fault(fault):
    with pytest.raises(ProofFailed, match="test_stream_proofs.py"):
        prove(skid(fault), f"skid_fault_{fault.replace(' ', '_')}", mode="bmc", depth=8)


def backlog(depth, fault=None):
    m = specification()
    m.submodules.dut = dut = Backlog(WIDTH, depth=depth)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    capacity = dut.capacity
    held, front, level = Signal(2), Signal(5), Signal(range(capacity + 1))
    m.d.comb += [
        held.eq(dut.o.valid + dut._skid._is_skidded), front.eq(held + dut._front.level),
        level.eq(front + dut._back.level),
    ]
    tracked = Tracked(m, dut, level, capacity=capacity, fault=fault)
    is_held, is_in_front, is_in_back = Signal(), Signal(), Signal()
    m.d.comb += [
        is_held.eq(tracked.is_inside & (tracked.ahead < held)),
        is_in_front.eq(tracked.is_inside & ~is_held & (tracked.ahead < front)),
        is_in_back.eq(tracked.is_inside & ~is_held & ~is_in_front),
        Assert(dut.o.valid | ~dut._skid._is_skidded),
        Assert(dut.is_empty == (level == 0)),
    ]
    lies_in_queue(m, dut._front, is_in_front, (tracked.ahead - held)[:5], tracked.value)
    lies_in_queue(m, dut._back, is_in_back, (tracked.ahead - front)[:3], tracked.value)
    with m.If(is_held):
        m.d.comb += Assert(tracked.value == Mux(tracked.ahead == 0, dut.o.payload, dut._skid._skidded))
    m.d.comb += Cover((level == capacity) & tracked.is_inside & (tracked.ahead == capacity - 1))
    return m


@pytest.mark.parametrize("depth", [2, 5])
def test_backlog(depth):
    prove(backlog(depth), f"backlog_{depth}", depth=4)


def test_backlog_can_be_full():
    prove(backlog(2), "backlog_cover", mode="cover", depth=30)


@pytest.mark.parametrize("fault", ["counts ready alone", "wrong data", "forgets a get"])
def test_backlog_fault(fault):
    with pytest.raises(ProofFailed, match="test_stream_proofs.py"):
        prove(backlog(2, fault), f"backlog_fault_{fault.replace(' ', '_')}", mode="bmc", depth=8)


def arbiter(n, fault=None):
    m = specification()
    m.submodules.dut = dut = Arbiter(WIDTH, n)
    stall(m, dut.o, name="o")
    grants = []
    for k in range(n):
        drive(m, dut.i[k], name=f"i_{k}")
        is_granted = Signal(name=f"is_granted_{k}")
        m.d.comb += is_granted.eq(dut.i[k].valid & dut.i[k].ready)
        grants.append(is_granted)
    m.d.comb += Assert(sum(grants) <= 1, "two grants at a time")
    m.d.comb += Assert(dut.source < n)

    # A grant shows at the output in the next cycle, with its data and its source.
    was_granted, value, source = Signal(), Signal(WIDTH), Signal(range(n))
    m.d.sync += was_granted.eq(Cat(grants).any())
    for k in range(n):
        with m.If(grants[k]):
            m.d.sync += [value.eq(dut.i[k].payload), source.eq((k + 1) % n if fault == "wrong source" else k)]
    with m.If(was_granted):
        m.d.comb += Assert(dut.o.valid & (dut.o.payload == value) & (dut.source == source), "a grant got lost")
    # Nothing comes out that was not granted, and nothing twice.
    pending = Signal()
    m.d.sync += pending.eq(Cat(grants).any() | pending & ~(dut.o.valid & dut.o.ready))
    m.d.comb += Assert(pending == dut.o.valid, "the output is not what was granted")

    # Fairness: while an input waits, the others get at most n - 1 grants; and no cycle is wasted.
    bound = n - 2 if fault == "too small a bound" else n - 1
    for k in range(n):
        passed = Signal(range(n + 2), name=f"passed_{k}")
        with m.If(grants[k] | ~dut.i[k].valid):
            m.d.sync += passed.eq(0)
        with m.Elif(Cat(grants).any()):
            m.d.sync += passed.eq(passed + 1)
        m.d.comb += Assert(passed <= bound, "an input waited too long")
        # Induction: an input that was passed by p grants has as many fewer before it in the round.
        before = Array((k - 1 - last) % n for last in range(n))[dut.source]
        m.d.comb += Assert((passed == 0) | (passed + before <= n - 1))
    is_free = ~dut.o.valid | dut.o.ready
    m.d.comb += Assert(~(is_free & Cat(port.valid for port in dut.i).any()) | Cat(grants).any(), "a cycle is wasted")
    return m


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_arbiter(n):
    prove(arbiter(n), f"arbiter_{n}", depth=3)


@pytest.mark.parametrize("fault", ["wrong source", "too small a bound"])
def test_arbiter_fault(fault):
    with pytest.raises(ProofFailed, match="test_stream_proofs.py"):
        prove(arbiter(3, fault), f"arbiter_fault_{fault.replace(' ', '_')}", mode="bmc", depth=10)


def fork(fault=None):
    """Each output gets each item that is for it, once."""
    m = specification()
    m.submodules.dut = dut = Fork(WIDTH, 3)
    drive(m, dut.i, name="i")
    for k, output in enumerate(dut.o):
        stall(m, output, name=f"o{k}")
        has, takes = Signal(name=f"has_{k}"), Signal(name=f"takes_{k}")
        wanted = dut.i.payload.to[1 if fault == "wrong output" else k]
        m.d.comb += [
            takes.eq(output.valid & output.ready),
            Assert(has == dut._has_taken[k]),
            Assert(~has | dut.i.valid & wanted, "an output has taken an item that is not there"),
            Assert(~takes | dut.i.valid & wanted & ~has, "an item for nobody, or a second time"),
            Assert(~takes | (output.payload == dut.i.payload.item), "another item"),
        ]
        with m.If(dut.i.valid & dut.i.ready):
            m.d.comb += Assert((has | takes) == wanted, "an item goes on that was not taken")
            m.d.sync += has.eq(0)
        with m.Elif(takes):
            m.d.sync += has.eq(1)
    return m


def test_fork():
    prove(fork(), "stream_fork", depth=2)


def test_fork_fault():
    with pytest.raises(ProofFailed, match="test_stream_proofs.py"):
        prove(fork("wrong output"), "stream_fork_fault", mode="bmc", depth=4)
