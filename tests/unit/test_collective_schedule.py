# SPDX-License-Identifier: Apache-2.0
"""Collectives carried out in Python: results, the documented order of reduction, and bytes on links."""

import math
import random

import pytest

from rackgate.collective.isa import Local, MoveControl, Target
from rackgate.collective.programs import shipped
from rackgate.collective.programs.contract import Case
from rackgate.collective.programs.interpreter import Pause, Step
from rackgate.collective.programs.language import CollectiveError
from rackgate.collective.programs.machine import Machine
from rackgate.collective.programs.schedule import Place, lay_out, moves, run

SIZES = (1, 2, 3, 4, 5, 8, 13, 16)
#: Elements of 4 bytes for which a collective takes the way for few bytes, and the one for many.
FEW, MANY = 16, 1600


def operands(function, case, rng):
    """Distinct numbers on every rank."""
    return [[rng.randrange(1 << 20) for _ in range(function.contract.operand(case, rank))]
            for rank in range(case.size)]


def carry_out(name, case, given, function=lambda received, local: received + local, **options):
    return run(getattr(shipped, name), given, function, count=case.count, root=case.root, **options)


def reference(name, case, given):
    """What MPI says."""
    size, count, root = case
    match name:
        case "bcast":
            return [[] if rank == root else given[root] for rank in range(size)]
        case "scatter":
            return [given[root][rank * count:(rank + 1) * count] for rank in range(size)]
        case "gather" | "allgather":
            everything = [element for one in given for element in one]
            return [everything if name == "allgather" or rank == root else [] for rank in range(size)]
        case "reduce" | "allreduce":
            total = [sum(column) for column in zip(*given, strict=True)]
            return [total if name == "allreduce" or rank == root else [] for rank in range(size)]
        case "reduce_scatter":
            total = [sum(column) for column in zip(*given, strict=True)]
            return [total[rank * count:(rank + 1) * count] for rank in range(size)]
        case "alltoall":
            return [[element for one in given for element in one[rank * count:(rank + 1) * count]]
                    for rank in range(size)]
    raise AssertionError(name)


NAMES = ("bcast", "scatter", "gather", "reduce", "allgather", "allreduce", "reduce_scatter", "alltoall")


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_results(name, in_place, seed):
    rng = random.Random(f"{seed} {name}")
    contract = getattr(shipped, name).contract
    if in_place and contract.in_place is None:
        with pytest.raises(CollectiveError, match="must not have its operand and result in one place"):
            lay_out(contract, Place(1, 0, 1), operand=[1], in_place=True) if name != "bcast" else _refuse_bcast()
        return
    for size in SIZES:
        for count in (0, 1, size - 1, size + 1, rng.randrange(40), rng.randrange(300, 700)):
            case = Case(size, count, rng.randrange(size))
            given = operands(getattr(shipped, name), case, rng)
            found = carry_out(name, case, given, in_place=in_place, segment=256, credits=4)
            assert found.results == reference(name, case, given), case


def _refuse_bcast():
    """No rank of bcast has both buffers, so it is never in place; a contract with both would be refused."""
    lay_out(shipped.copy.contract, Place(1, 0, 1), operand=[1], in_place=True)


def fold(received, local):
    """A function that shows in which order it was applied."""
    return f"f({received},{local})"


def names(case, function):
    return [[f"{rank}.{index}" for index in range(function.contract.operand(case, rank))]
            for rank in range(case.size)]


def chain(ranks, index):
    """f(f(first, second), ...)."""
    value = f"{ranks[0]}.{index}"
    for rank in ranks[1:]:
        value = fold(value, f"{rank}.{index}")
    return value


@pytest.mark.parametrize("size", SIZES)
def test_order_of_reduce_chain(size):
    case = Case(size, MANY, size // 2)
    found = carry_out("reduce", case, names(case, shipped.reduce), fold)
    ranks = [(case.root + v) % size for v in reversed(range(size))]
    assert found.results[case.root] == [chain(ranks, index) for index in range(MANY)]


@pytest.mark.parametrize("size", SIZES)
def test_order_of_reduce_tree(size):
    case = Case(size, FEW, size - 1)
    found = carry_out("reduce", case, names(case, shipped.reduce), fold)

    def tree(v, index):
        value, m = f"{(v + case.root) % size}.{index}", 1
        while (m < size if v == 0 else not v & m) and v + m < size:
            value = fold(tree(v + m, index), value)
            m *= 2
        return value

    assert found.results[case.root] == [tree(0, index) for index in range(FEW)]


@pytest.mark.parametrize("size", SIZES)
def test_order_of_reduce_scatter(size):
    case = Case(size, 21)
    found = carry_out("reduce_scatter", case, names(case, shipped.reduce_scatter), fold)
    for rank, result in enumerate(found.results):
        ranks = [(rank + 1 + k) % size for k in range(size)]
        assert result == [chain(ranks, rank * 21 + index) for index in range(21)]


@pytest.mark.parametrize("size", SIZES)
def test_order_of_allreduce_ring(size):
    """Chunk b of a round, of a packet for each rank, begins at rank b; of two ranks each adds its own last."""
    segment, element = 256, 4
    case = Case(size, 600)
    found = carry_out("allreduce", case, names(case, shipped.allreduce), fold, segment=segment)
    each = segment // element
    expected = []
    for begin in range(0, 600, each * size):
        length = min(600 - begin, each * size)
        for b in range(size):
            count = length // size + (b < length % size)
            ranks = [(b + k) % size for k in range(size)]
            expected += [chain(ranks, len(expected) + index) for index in range(count)]
    if size == 2:
        expected = [[chain([1 - rank, rank], index) for index in range(600)] for rank in range(2)]
        assert found.results == expected
    elif size > 1:
        assert found.results == [expected] * size
    else:
        assert found.results == names(case, shipped.allreduce)


@pytest.mark.parametrize("size", SIZES)
def test_order_of_allreduce_by_doubling(size):
    case = Case(size, FEW)
    found = carry_out("allreduce", case, names(case, shipped.allreduce), fold)
    power = 1 << size.bit_length() - 1

    def value(rank, mask, index):
        if mask == 1:
            own = f"{rank}.{index}"
            return fold(f"{rank + power}.{index}", own) if rank + power < size else own
        return fold(value(rank ^ mask // 2, mask // 2, index), value(rank, mask // 2, index))

    for rank, result in enumerate(found.results):
        if rank < power:
            assert result == [value(rank, power, index) for index in range(FEW)]
        else:
            assert result == found.results[rank - power]


def test_results_do_not_depend_on_the_order_of_events(seed):
    for name in NAMES:
        case = Case(6, 333, 2)
        given = names(case, getattr(shipped, name))
        first = carry_out(name, case, given, fold, segment=256)
        for number in range(4):
            choose = random.Random(f"{seed} {number}").shuffle
            again = carry_out(name, case, given, fold, segment=256, credits=4, choose=choose)
            assert again == first, name


# Bytes on links: the table in accl.md 8.6, for counts that all ranks share alike.

POWERS = (2, 4, 8, 16)


def bytes_of(name, size, count, **options):
    case = Case(size, count)
    return carry_out(name, case, [[0] * getattr(shipped, name).contract.operand(case, rank) for rank in range(size)],
                     lambda received, local: 0, **options)


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("count", [300, 1500])
def test_bytes_of_large_collectives(size, count):
    """With n the bytes of the vector, c of a rank's part: bytes on the busiest direction of any port."""
    count *= size
    n = c = 4 * count
    assert bytes_of("bcast", size, count).busiest == n
    assert bytes_of("reduce", size, count).busiest == n
    assert bytes_of("allreduce", size, count).busiest * size == 2 * (size - 1) * n
    count //= size
    c //= size
    for name in ("scatter", "gather", "allgather", "reduce_scatter", "alltoall"):
        assert bytes_of(name, size, count).busiest == (size - 1) * c, name


@pytest.mark.parametrize("size", SIZES[1:])
def test_all_ranks_of_the_symmetric_ones_carry_the_same(size):
    for name, share in (("allreduce", 2 * (size - 1) / size), ("allgather", size - 1), ("reduce_scatter", size - 1),
                        ("alltoall", size - 1)):
        count = 48 * size * 4
        found = bytes_of(name, size, count)
        ports = {bytes_in_direction for rank in range(size)
                 for bytes_in_direction in (found.out(rank), found.into(rank))}
        assert ports == {round(share * count * 4)}, name


@pytest.mark.parametrize("size", SIZES)
def test_allreduce_of_counts_that_do_not_divide(size):
    """Chunks differ by one element at most, so that no rank's port carries more than two elements too many."""
    for count in (1601, 1999, 4093):
        found = bytes_of("allreduce", size, count)
        assert sum(found.bytes_sent.values()) == (2 * (size - 1) * 4 * count if size > 1 else 0)
        exact = 2 * (size - 1) * 4 * count / size
        assert all(abs(found.out(rank) - exact) <= 2 * 4 for rank in range(size))


@pytest.mark.parametrize("size", SIZES)
def test_steps_of_small_collectives(size):
    """Messages that wait for one another, and their bytes."""
    rounds = math.ceil(math.log2(size))
    n = 4 * FEW
    if size in (1, *POWERS):
        assert bytes_of("allreduce", size, FEW).busiest == rounds * n
    assert bytes_of("bcast", size, FEW).busiest == rounds * n
    assert bytes_of("reduce", size, FEW).busiest == rounds * n
    assert bytes_of("allgather", size, FEW).busiest == (size - 1) * n
    # A signal; a sync and a wait_for in each round but the last one; a wait_for.
    assert len(moves(shipped.barrier.trace(), Place(size, 0, 0))) == 2 * rounds


@pytest.mark.parametrize("size", SIZES[1:])
def test_nobody_passes_the_barrier_before_all_have_come(size, seed):
    """With one rank that does not come none gets beyond it, in any order of events; with it, all do."""
    steps = [moves(shipped.barrier.trace(), Place(size, rank, 0)) for rank in range(size)]
    beyond = [Pause("behind the barrier", 0),
              Step(0, "behind the barrier", "copy", MoveControl(Local.STREAM, target=Target.STREAM), 1)]
    for missing in (None, *range(size)):
        machine = Machine([[] if rank == missing else [*own, *beyond] for rank, own in enumerate(steps)],
                          [[] for _ in steps], max, credits=1, choose=random.Random(f"{seed} {missing}").shuffle)
        for rank, stream in enumerate(machine.kernel_in):
            stream.append(rank)
        if missing is None:
            machine.run()
            assert machine.kernel_out == [[rank] for rank in range(size)]
        else:
            with pytest.raises(CollectiveError, match=f"rank {missing} has ended"):
                machine.run()
            assert not any(machine.kernel_out)


@pytest.mark.parametrize("size", SIZES)
def test_compressed_bytes(size):
    for name in NAMES:
        plain, compressed = (bytes_of(name, size, 2000, wire_shift=shift) for shift in (2, 1))
        assert compressed.bytes_sent == {link: count // 2 for link, count in plain.bytes_sent.items()}


def test_packets_are_full():
    found = bytes_of("allreduce", 4, 4 * 1024)
    assert sum(found.packets_sent.values()) == sum(found.bytes_sent.values()) / 1024


def test_trace_needs_a_contract():
    with pytest.raises(TypeError, match="needs the contract"):
        run(shipped.nop.trace(), [[]], fold, count=0)
