# SPDX-License-Identifier: Apache-2.0
"""The checker: it lets the shipped collectives pass, and finds each kind of fault."""

import random

import pytest

from rackgate.collective.programs import checker, shipped
from rackgate.collective.programs.checker import check
from rackgate.collective.programs.contract import (
    ALLGATHER,
    ALLREDUCE,
    BCAST,
    COPY,
    NOTHING,
    REDUCE_SCATTER,
    Case,
    Contract,
    Source,
)
from rackgate.collective.programs.language import CollectiveError, collective
from rackgate.collective.programs.program import build

#: With one rank's program at all ranks; send, recv and stream_put need different ones.
TOGETHER = [function for function in shipped.COLLECTIVES.values()
            if function.name not in ("send", "recv", "stream_put")]


def check_shipped(function, ranks, credits, counts):
    tuning = {"credits": credits} if "credits" in function.tunables else {}
    found = check(function.trace(**tuning), function.contract, ranks, counts=counts, credits=credits)
    assert found == (tuple(ranks), tuple(counts), credits)


@pytest.mark.thorough
@pytest.mark.parametrize("credits", [1, 4])
@pytest.mark.parametrize("function", TOGETHER, ids=lambda function: function.name)
def test_shipped(function, credits):
    check_shipped(function, (1, 2, 3, 4, 6, 7), credits, (150,))


@pytest.mark.soak
@pytest.mark.parametrize("credits", [1, 3, 4])
@pytest.mark.parametrize("function", TOGETHER, ids=lambda function: function.name)
def test_shipped_everywhere(function, credits):
    check_shipped(function, range(1, 17), credits, (130,))


@pytest.mark.soak
@pytest.mark.parametrize("credits", [1, 4])
@pytest.mark.parametrize("name", ["allgather", "allreduce", "alltoall", "gather", "reduce_scatter"])
def test_rings_in_many_orders(name, credits, seed, monkeypatch):
    orders = [random.Random(f"{seed} {number}").shuffle for number in range(20)]
    monkeypatch.setattr(checker, "_ORDERS", orders)
    check_shipped(getattr(shipped, name), (2, 3, 4, 5, 7), credits, ())


@pytest.mark.thorough
@pytest.mark.parametrize("credits", [1, 4])
@pytest.mark.parametrize("name,size", [("allreduce", 2), ("reduce_scatter", 2), ("alltoall", 2), ("gather", 6)])
def test_packets_of_one_rank_in_many_orders(name, size, credits, monkeypatch):
    """Whichever of a rank's sends takes a credit, one that was passed over again and again does not stop all."""
    for number in range(60):
        monkeypatch.setattr(checker, "_ORDERS", [random.Random(number).shuffle] * 2)
        check_shipped(getattr(shipped, name), (size,), credits, (150,))


def fault(contract, ranks=(2, 3, 4), **options):
    """The checker's sentence about a collective; to be used as a decorator."""
    def told(function):
        with pytest.raises(CollectiveError) as error:
            build(collective(contract)(function), ranks, **options)
        return str(error.value)
    return told


def test_no_receive():
    @fault(ALLREDUCE)
    def sentence(c):
        c.send(c.operand, to=c.right, tag=4)
    assert "rank 1 sends rank 0 a message with tag 4 that it never receives (1 packets are left)" in sentence


def test_no_receive_of_nothing():
    @fault(NOTHING)
    def sentence(c):
        c.signal(c.right, tag=4)
    assert sentence.startswith("sentence of 2 ranks, count 0: rank ")
    assert "a message with tag 4 that it never receives (1 packets are left)" in sentence


def test_no_send():
    @fault(NOTHING)
    def sentence(c):
        with c.when(c.rank == 1):
            c.wait_for(c.left, tag=3)
    assert "rank 1 waits in step 0 (test_collective_checker.py:" in sentence
    assert "wait_for of 0 from 0, tag 3) for a packet with tag 3 of rank 0; rank 0 has ended" in sentence


def test_other_length():
    @fault(BCAST, ranks=(2,))
    def sentence(c):
        with c.when(c.rank == c.root):
            c.send(c.operand, to=c.right)
        with c.otherwise():
            c.recv(c.left, into=c.result.part(0, c.count // 2))
    assert "rank 1 expects 0 elements of rank 0 in a segment of step 0" in sentence and "gets 1" in sentence


def test_circle():
    @fault(NOTHING, ranks=(3,))
    def sentence(c):
        c.wait_for(c.left)
        c.sync()
        c.signal(c.right)
    assert "ranks 0, 2, 1 wait for each other in a circle" in sentence
    assert "rank 1 waits in step 0 (" in sentence


def ring(c):
    """An allgather whose messages are longer than the credits of the ring."""
    c.copy(c.operand, c.result.block(c.rank))
    with c.when(c.size > 1):
        c.send(c.operand, to=c.right, tag=c.rank)
        with c.loop(1, c.size - 1) as k:
            block = c.minus(c.rank, k)
            c.recv_forward(c.left, into=c.result.block(block), to=c.right, tag=block)
        c.recv(c.left, into=c.result.block(c.right), tag=c.right)


def test_circle_for_want_of_credits():
    sentence = fault(ALLGATHER, credits=3)(ring)
    assert sentence.startswith("ring of 3 ranks, count 197: ranks ") and "for a credit of rank" in sentence
    build(collective(ALLGATHER)(ring), (2, 3, 4), credits=9)


def test_same_tag():
    @fault(NOTHING, ranks=(2,))
    def sentence(c):
        c.signal(c.right)
        c.signal(c.right)
        c.wait_for(c.left)
        c.wait_for(c.left)
    assert "rank 0 sends to rank 1 with tag 0 in step 1" in sentence
    assert "may still be under way: give it another tag, or sync before it" in sentence


def test_same_tag_after_sync():
    @collective(NOTHING)
    def twice(c):
        with c.loop(2):
            c.signal(c.right)
            c.wait_for(c.left)
            c.sync()
    assert build(twice, (2, 3)).checked_for == ((2, 3), (), 4)


def test_itself():
    @fault(NOTHING)
    def sentence(c):
        c.signal(c.rank)
    assert "rank 0 sends to itself in step 0" in sentence and "use copy" in sentence


def test_no_rank():
    @fault(NOTHING)
    def sentence(c):
        c.signal(c.size)
    assert "rank 0 sends to rank 2 in step 0" in sentence and "there are 2 ranks" in sentence


def test_outside_a_buffer():
    @fault(COPY, ranks=(1,))
    def sentence(c):
        c.copy(c.operand, c.result.part(1, c.count))
    assert "rank 0 in step 0" in sentence and "element 1 of result: outside its buffers" in sentence


def test_read_of_nothing():
    @fault(COPY, ranks=(1,))
    def sentence(c):
        c.copy(c.result, c.result)
    assert "reads element 0 of its operand, which nothing has written" in sentence


def test_wrong_result():
    @fault(BCAST, ranks=(3,))
    def sentence(c):
        with c.when(c.rank == c.root):
            c.send(c.operand, to=c.right)
        with c.when(c.left == c.root):
            c.recv(c.left, into=c.result)
    assert "rank 2's result is never written and must be rank 0's element 0" in sentence


def test_counted_twice():
    @fault(ALLREDUCE, ranks=(3,))
    def sentence(c):
        c.send(c.operand, to=c.right)
        c.recv_reduce(c.left, c.operand, into=c.result, to=c.left)
        c.recv_reduce(c.right, c.result, into=c.result)
    assert "the reduction of ranks" in sentence


def test_other_elements():
    contract = Contract(lambda case, rank: 2 * case.count, lambda case, rank: case.count,
                        lambda case, rank, index: Source(range(1), index))

    @fault(contract, ranks=(1,))
    def sentence(c):
        c.combine(c.operand, c.operand.block(1), into=c.result)
    assert "rank 0's element 1 is reduced with rank 0's element 0" in sentence


def test_not_in_place():
    @fault(REDUCE_SCATTER, ranks=(2,), credits=8)
    def sentence(c):
        c.copy(c.operand.block(c.rank), c.result)
        c.send(c.operand.block(c.left), to=c.right)
        c.recv_reduce(c.left, c.result, into=c.result)
    assert "in place: " in sentence


def test_no_rank_count():
    with pytest.raises(CollectiveError, match="checked for 1 to 16 ranks, not \\(0, 1\\)"):
        build(shipped.nop, (0, 1))
    with pytest.raises(CollectiveError, match="at least 1 credit, not 0"):
        build(shipped.nop, credits=0)


def test_case_is_what_contracts_see():
    assert ALLGATHER.result(Case(5, 3), 0) == 15 and BCAST.operand(Case(5, 3, 2), 1) == 0
