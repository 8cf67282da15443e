# SPDX-License-Identifier: Apache-2.0
"""Random programs of mixed collectives on two communicators, compared with Open MPI bit for bit."""

import collective_mpi
import numpy as np
import pytest
from collective_mixes import COLLECTIVES, Library, perform, random_program

import rackgate_host.collective as driver

SIZES = (1, 2, 3, 4, 5, 8, 16)
PROGRAMS = 5  # of each size
LONG = pytest.param(40, marks=pytest.mark.soak)

pytestmark = pytest.mark.xdist_group("mpi")


def idle(comm, cycles):
    """Come late."""
    if cycles:
        comm.engine.world.wait(lambda: False, cycles=cycles)


OURS = Library(driver, idle=idle)


def programs_of(seed, number):
    return [(size, random_program(seed * 1000 + k, size)) for size in SIZES for k in range(number)]


def check(clusters, world, programs, sizes):
    """Run programs of these sizes and compare: elements compared."""
    wanted = collective_mpi.results(programs)
    compared = 0
    for k, ((size, program), of_ranks) in enumerate(zip(programs, wanted, strict=True)):
        if size not in sizes:
            continue
        # In every program packets overtake each other in another way, and long messages ask, or all, or none.
        cluster = clusters.get(world, size, seed=1 + k % 3, eager=(None, 0, "all")[k % 3])
        got = cluster.run(perform, program, OURS)
        for rank, (ours, theirs) in enumerate(zip(got, of_ranks, strict=True)):
            assert len(ours) == len(theirs)
            for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                assert one.tobytes() == other.tobytes(), f"program {k} of {size} ranks, rank {rank}, array {place}"
                compared += one.size
    return compared


@pytest.mark.parametrize("number", [PROGRAMS, LONG])
def test_programs_give_what_mpi_gives(clusters, seed, number):
    programs = programs_of(seed, number)
    names = {operation["name"] for _, program in programs for step in program["steps"] for operation in step}
    assert names == set(COLLECTIVES)
    assert check(clusters, "model", programs, SIZES) > 10_000


@pytest.mark.cosim
@pytest.mark.parametrize("sizes", [(2, 3, 4), pytest.param((5, 8, 16), marks=pytest.mark.soak)])
def test_the_gateware_gives_what_mpi_gives(clusters, seed, sizes):
    assert check(clusters, "sim", programs_of(seed, PROGRAMS), sizes) > 1000


def test_floats_are_near_what_mpi_gives_whatever_the_order(clusters):
    # The order of the sum is this engine's own, so the last bits may differ.
    def program(comm):
        result = np.empty(500, np.float32)
        comm.Allreduce(np.random.default_rng(comm.rank).standard_normal(500).astype(np.float32), result)
        return result

    first, *others = clusters.get("model", 5).run(program)
    exact = sum(np.random.default_rng(rank).standard_normal(500) for rank in range(5))
    assert np.allclose(first, exact, rtol=1e-5, atol=1e-5)
    assert all(np.array_equal(first, other) for other in others)
