# SPDX-License-Identifier: Apache-2.0
"""Collectives over UDP on a network that loses, doubles and reorders frames: results as NumPy has them."""

import numpy as np
import pytest
from collective_ranks import make, reduced

from rackgate.collective.abi import Counter
from rackgate.collective.link.abi import LinkCounter
from rackgate_host.collective import MAX, SUM, open_cluster
from rackgate_host.errors import UsageError

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("native")]

#: Small, and quick to build.
DEVICE = "sim:collective?link=1&segment=256&slots=16&variant=brief"
RANKS = 4
FAULTS = {"link_loss": 0.01, "link_duplicate": 0.01, "link_reorder": 0.01}


@pytest.fixture(scope="module")
def cluster():
    with open_cluster(DEVICE, ranks=RANKS, link_latency=20, memory=1 << 20, eager=0, **FAULTS) as one:
        yield one


def total(cluster, counter):
    """A counter of the links, summed over the nodes."""
    return sum(device.regs[f"COUNT_LINK_{counter.name}"].value for device in cluster.devices)


def every_collective(comm, count, dtype, root):
    """Each once; each result is compared."""
    own = [make(count, rank, dtype) for rank in range(comm.size)]
    whole = [make(count * comm.size, rank, dtype, seed=1) for rank in range(comm.size)]
    mine, parts = comm.rank, [one.reshape(comm.size, -1) for one in whole]
    result, everything = np.zeros(count, dtype), np.zeros(count * comm.size, dtype)
    comm.Allreduce(own[mine], result, op=SUM)
    assert np.array_equal(result, reduced(own))
    comm.Reduce(own[mine], result, MAX, root)
    assert mine != root or np.array_equal(result, reduced(own, MAX))
    comm.Reduce_scatter_block(whole[mine], result)
    assert np.array_equal(result, reduced(whole).reshape(comm.size, -1)[mine])
    comm.Allgather(own[mine], everything)
    assert np.array_equal(everything, np.concatenate(own))
    comm.Alltoall(whole[mine], everything)
    assert np.array_equal(everything, np.concatenate([part[mine] for part in parts]))
    comm.Gather(own[mine], everything if mine == root else None, root)
    assert mine != root or np.array_equal(everything, np.concatenate(own))
    comm.Scatter(whole[root] if mine == root else None, result, root)
    assert np.array_equal(result, parts[root][mine])
    buffer = own[mine].copy()
    comm.Bcast(buffer, root)
    assert np.array_equal(buffer, own[root])
    comm.Barrier()
    comm.Sendrecv(own[mine], (mine + 1) % comm.size, 3, result, (mine - 1) % comm.size, 3)
    assert np.array_equal(result, own[(mine - 1) % comm.size])


@pytest.mark.parametrize("count,dtype,root", [(3, "int32", 0), (150, "float32", 3), (400, "int64", 1)])
def test_every_collective(cluster, count, dtype, root):
    cluster.run(every_collective, count, dtype, root)
    assert total(cluster, LinkCounter.DAMAGED) == total(cluster, LinkCounter.FOREIGN) == 0


def test_frames_were_lost_and_came_again(cluster):
    """The network was as bad as it was asked to be, and the engines have not noticed."""
    for _ in range(2):
        cluster.run(every_collective, 200, "int32", 2)
    for counter in (LinkCounter.RETRANSMITTED, LinkCounter.DUPLICATES, LinkCounter.AHEAD):
        assert total(cluster, counter) > 0, counter
    for counts in cluster.counters():
        assert counts[Counter.CLEARS] >= 2  # messages have asked, and were answered
        assert not any(number for counter, number in counts.items() if counter.name.startswith(("BAD_", "NO_")))


def test_a_reset_begins_a_new_session(cluster):
    """Frames that the last session left on the network do no harm."""
    for _ in range(2):
        cluster.run(every_collective, 5, "int32", 0)
        before = [device.regs.LINK_SESSION.value for device in cluster.devices]
        cluster.reset()
        after = [device.regs.LINK_SESSION.value for device in cluster.devices]
        assert len(set(after)) == 1 and after[0] == before[0] % 15 + 1
    cluster.run(every_collective, 5, "int32", 0)


def test_parameters():
    with pytest.raises(UsageError, match="width of a link over UDP must be one of"):
        open_cluster("sim:collective?link=1&width=32", ranks=2)
    with pytest.raises(UsageError, match=r"link must be one of 0 \(DIRECT\), 1 \(UDP\), not 3"):
        open_cluster("sim:collective?link=3", ranks=2)


def test_the_model_takes_the_link_as_perfect():
    with open_cluster("model:collective?link=1", ranks=3) as model:
        model.run(every_collective, 20, "int32", 1)
        assert total(model, LinkCounter.FRAMES_SENT) == 0
