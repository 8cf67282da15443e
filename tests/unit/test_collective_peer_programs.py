# SPDX-License-Identifier: Apache-2.0
"""ACCL's algorithms: they are right, and their bytes are those of the comparison."""

import pytest
from collective_microcode import interpreted_steps, microcode_steps

from rackgate.collective.programs import peer
from rackgate.collective.programs.checker import check
from rackgate.collective.programs.contract import Case
from rackgate.collective.programs.interpreter import Place
from rackgate.collective.programs.program import build
from rackgate.collective.programs.schedule import run

CALL = Place(1, 0, 0, segment=256, operand=0x10_0000, operand_1=0x20_0000, result=0x30_0000)


@pytest.mark.thorough
@pytest.mark.parametrize("name", peer.COLLECTIVES)
def test_is_right(name):
    function = peer.COLLECTIVES[name]
    check(function.trace(), function.contract, (1, 2, 3, 4, 5, 8))


@pytest.mark.soak
@pytest.mark.parametrize("name", peer.COLLECTIVES)
def test_is_right_for_all_sizes(name):
    function = peer.COLLECTIVES[name]
    check(function.trace(), function.contract, range(1, 17), counts=(150,))


@pytest.mark.parametrize("name", peer.COLLECTIVES)
def test_instructions(name):
    function = peer.COLLECTIVES[name]
    program, trace = build(function, ()), function.trace()
    for size in (1, 2, 3, 4, 5, 8, 16):
        for rank in {0, 1 % size, size - 1}:
            for count in (0, 5, 300):
                root = (rank + 2) % size if function.contract.is_rooted else 0
                place = CALL._replace(size=size, rank=rank, root=root, count=count)
                assert microcode_steps(program, place) == interpreted_steps(trace, place), place


def outcome(name, size, count):
    function = peer.COLLECTIVES[name]
    case = Case(size, count)
    one, other = ([[0] * length(case, rank) for rank in range(size)]
                  for length in (function.contract.operand, function.contract.operand_1))
    return run(function, one, lambda received, local: 0, count=count, operands_1=other)


COUNT = 48 * 8
N = 4 * COUNT


@pytest.mark.parametrize("size,eager,rendezvous", [(4, 3, 2), (8, 7, 3), (16, 15, 4)])
def test_bytes_of_bcast(size, eager, rendezvous):
    assert outcome("bcast_eager", size, COUNT).out(0) == eager * N
    assert outcome("bcast_rendezvous", size, COUNT).out(0) == rendezvous * N


@pytest.mark.parametrize("size,reduce,allreduce", [(4, 3, 5), (8, 3, 6), (16, 4, 8)])
def test_bytes_of_reduce_and_allreduce(size, reduce, allreduce):
    """Bytes that rank 0 receives, and then sends: its port carries them one after the other."""
    assert outcome("reduce_rendezvous", size, COUNT).into(0) == reduce * N
    found = outcome("allreduce_rendezvous", size, COUNT)
    assert found.into(0) + found.out(0) == allreduce * N


@pytest.mark.parametrize("size,parts", [(4, 15), (8, 31), (16, 79)])
def test_bytes_of_reduce_scatter(size, parts):
    found = outcome("reduce_scatter_rendezvous", size, 16)
    assert found.into(0) + found.out(0) == parts * 16 * 4


@pytest.mark.parametrize("size", [2, 4, 8])
def test_bytes_that_are_ours_too(size):
    for name in ("scatter_eager", "scatter_rendezvous", "gather_eager", "gather_rendezvous", "allgather_eager",
                 "allgather_rendezvous", "reduce_scatter_eager", "alltoall_rendezvous"):
        assert outcome(name, size, COUNT).busiest == (size - 1) * N, name
