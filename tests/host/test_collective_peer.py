# SPDX-License-Identifier: Apache-2.0
"""ACCL's test suite (test.cpp, stress.cpp, hls_simulator) on this driver, with data that differs from rank to rank.

Left out is what is about the peer's host only: buffers of the host, peer-to-peer and wrapped ones (tests 3 to 6, 9, 28,
35) are NumPy arrays and device buffers here. Tests with kernels' streams use the device's own.
"""

import numpy as np
import pytest
from collective_ranks import DTYPES, make, reduced

from rackgate.collective.abi import Counter
from rackgate_host.collective import MAX, SUM, Stream

SIZES = (2, 3, 4, 5, 8, 16)
SIMULATED = (2, 3)  # what is run on the gateware as well; more in `make soak`
COUNT = 16  # the peer's default
SEGMENT = 256  # elements of four bytes in a packet
OPS = [SUM, MAX]


@pytest.fixture
def cluster(clusters, request):
    world, size, *options = request.param
    options = dict(options)
    failed = request.session.testsfailed
    yield clusters.get(world, size, **options)
    if request.session.testsfailed > failed:
        clusters.drop(world, size, **options)  # its communicator may be broken


def case(world, size, *others, is_long=False):
    """A parameter: a cluster, and what else there is."""
    marks = [pytest.mark.soak] if is_long else []
    if world == "sim":
        marks += [pytest.mark.cosim, pytest.mark.xdist_group("native")]
        if size not in (1, *SIMULATED):
            marks.append(pytest.mark.soak)
    return pytest.param((world, size), *others, marks=marks, id="-".join(map(str, (world, size, *others))))


def on(*sizes):
    """Clusters of these sizes, on each world."""
    return pytest.mark.parametrize("cluster", [case(world, size) for world in ("model", "sim") for size in sizes],
                                   indirect=True)


#: Two or three ranks whose messages of more than a packet ask before they are sent: ACCL's rendezvous.
asking = pytest.mark.parametrize("cluster", [
    pytest.param((world, size, ("eager", 0)), marks=case(world, size).marks, id=f"{world}-{size}")
    for world in ("model", "sim") for size in SIMULATED], indirect=True)


ranked = on(*SIZES)
#: Every root; of many ranks most in `make soak` only.
rooted = pytest.mark.parametrize(("cluster", "root"), [
    case(world, size, root, is_long=size > 5 and root not in (0, 1, size - 1))
    for world in ("model", "sim") for size in SIZES for root in range(size)], indirect=["cluster"])
reducing = pytest.mark.parametrize("op", OPS)
wires = pytest.mark.parametrize("wire", [None, "float16"])


def numbers(rank, count=COUNT, wire=None, seed=0):
    """Operands; small enough for 16-bit floats to hold them and their sums, if they travel as such."""
    return make(count, rank, "float16" if wire else "float32", seed).astype(np.float32)


@on(1)
@pytest.mark.parametrize("count", [COUNT, 5000])
def test_copy(cluster, count):
    def program(comm):
        source, target = numbers(0, count), np.zeros(count, np.float32)
        comm.Copy(source, target)
        assert np.array_equal(source, target)
        device = [comm.device.allocate(count, np.float32) for _ in range(2)]
        device[0][:] = source
        comm.Copy(*device)
        assert np.array_equal(device[1], source)

    cluster.run(program)


@on(1)
def test_copy_stream(cluster):
    def program(comm):
        source, target = numbers(0), np.zeros(COUNT, np.float32)
        comm.Copy(source, Stream(COUNT, np.float32))
        comm.device.push("kernel", comm.device.pop("kernel_out", cycles=10_000))
        comm.Copy(Stream(COUNT, np.float32), target)
        assert np.array_equal(source, target)

    cluster.run(program)


@on(1)
@reducing
def test_combine(cluster, op):
    def program(comm):
        first, second, result = numbers(0), numbers(1), np.zeros(COUNT, np.float32)
        comm.Combine(first, second, result, op)
        assert np.array_equal(result, reduced([first, second], op))

    cluster.run(program)


@ranked
def test_sendrcv_basic(cluster):
    def program(comm):
        got = np.zeros(COUNT, np.float32)
        partner = comm.rank ^ 1
        if partner >= comm.size:
            return
        if comm.rank % 2 == 0:
            comm.Send(numbers(comm.rank), partner)
            comm.Recv(got, partner)
            assert np.array_equal(got, numbers(comm.rank))
        else:
            comm.Recv(got, partner)
            assert np.array_equal(got, numbers(partner))
            comm.Send(got, partner)

    cluster.run(program)


@ranked
@wires
def test_sendrcv(cluster, wire):
    check_ring(cluster, COUNT, wire)


@on(2, 3)
@pytest.mark.parametrize("count", [k * SEGMENT + offset for k in (1, 2) for offset in (-1, 0, 1)])
def test_sendrcv_segmentation(cluster, count):
    check_ring(cluster, count, None)


@asking
@pytest.mark.parametrize("count", [k * SEGMENT + offset for k in (1, 2) for offset in (-1, 0, 1)])
@wires
def test_sendrcv_rendezvous(cluster, count, wire):
    before = sum(counts[Counter.CLEARS] for counts in cluster.counters())
    check_ring(cluster, count, wire)
    asked = sum(counts[Counter.CLEARS] for counts in cluster.counters()) - before
    assert asked == (2 * cluster.size if count * (2 if wire else 4) > 4 * SEGMENT else 0)


def check_ring(cluster, count, wire):
    def program(comm):
        following, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        got, back = np.zeros(count, np.float32), np.zeros(count, np.float32)
        comm.Isend(numbers(comm.rank, count, wire), following, 0, wire=wire)
        comm.Recv(got, before, 0, wire=wire)
        assert np.array_equal(got, numbers(before, count, wire))
        comm.Isend(got, before, 1, wire=wire)
        comm.Recv(back, following, 1, wire=wire)
        assert np.array_equal(back, numbers(comm.rank, count, wire))
        comm.Barrier()

    cluster.run(program)


@ranked
def test_sendrcv_stream(cluster):
    def program(comm):
        following, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        back = np.zeros(COUNT, np.float32)
        stream = Stream(COUNT, np.float32)
        first = comm.Isend(numbers(comm.rank), following, 0)
        comm.Recv(stream, before, 0)
        first.Wait()
        content = comm.device.pop("kernel_out", cycles=10_000)
        assert np.array_equal(np.frombuffer(content, np.float32), numbers(before))
        comm.device.push("kernel", content)
        second = comm.Isend(stream, before, 1)
        comm.Recv(back, following, 1)
        second.Wait()
        assert np.array_equal(back, numbers(comm.rank))

    cluster.run(program)


@ranked
def test_stream_put(cluster):
    def program(comm):
        following, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        comm.Put(numbers(comm.rank), following, 9)
        comm.Barrier()
        content = comm.device.pop("kernel_out", cycles=10_000)
        assert np.array_equal(np.frombuffer(content, np.float32), numbers(before))
        comm.Barrier()

    cluster.run(program)


@rooted
@wires
def test_bcast(cluster, root, wire):
    def program(comm):
        buffer = numbers(root if comm.rank == root else 99, wire=wire)
        comm.Bcast(buffer, root, wire=wire)
        assert np.array_equal(buffer, numbers(root, wire=wire))

    cluster.run(program)


@rooted
@wires
def test_scatter(cluster, root, wire):
    def program(comm):
        whole = numbers(root, COUNT * comm.size, wire)
        part = np.zeros(COUNT, np.float32)
        comm.Scatter(whole if comm.rank == root else None, part, root, wire=wire)
        assert np.array_equal(part, whole.reshape(comm.size, -1)[comm.rank])

    cluster.run(program)


@rooted
@wires
def test_gather(cluster, root, wire):
    def program(comm):
        whole = np.zeros((comm.size, COUNT), np.float32)
        comm.Gather(numbers(comm.rank, wire=wire), whole if comm.rank == root else None, root, wire=wire)
        if comm.rank == root:
            assert np.array_equal(whole, [numbers(rank, wire=wire) for rank in range(comm.size)])

    cluster.run(program)


@ranked
def test_alltoall(cluster):
    def program(comm):
        got = np.zeros((comm.size, COUNT), np.float32)
        comm.Alltoall(numbers(comm.rank, COUNT * comm.size), got)
        wanted = [numbers(rank, COUNT * comm.size).reshape(comm.size, -1)[comm.rank] for rank in range(comm.size)]
        assert np.array_equal(got, wanted)

    cluster.run(program)


@ranked
@wires
def test_allgather(cluster, wire):
    def program(comm):
        got = np.zeros((comm.size, COUNT), np.float32)
        comm.Allgather(numbers(comm.rank, wire=wire), got, wire=wire)
        assert np.array_equal(got, [numbers(rank, wire=wire) for rank in range(comm.size)])

    cluster.run(program)


@ranked
def test_allgather_comms(cluster):
    def program(comm):
        half = comm.Split(comm.rank >= comm.size // 2, comm.rank)
        got = np.full((comm.size, COUNT), -1, np.float32)
        half.Allgather(numbers(comm.rank), got[:half.size])
        first = comm.rank - half.rank
        assert np.array_equal(got[:half.size], [numbers(first + rank) for rank in range(half.size)])
        assert (got[half.size:] == -1).all()
        half.Free()

    cluster.run(program)


@on(4, 5, 8, 16)
def test_multicomm(cluster):
    def program(comm):
        ranks = [0, 2, 3]
        if comm.rank not in ranks:
            return
        some = comm.Create_group(ranks)
        got = np.zeros(COUNT, np.float32)
        pairs = [(0, 1, 0), (1, 0, 1), (0, 2, 2), (2, 0, 3), (1, 2, 4), (2, 1, 5)]
        for source, target, tag in pairs:
            if some.rank == source:
                some.Send(numbers(source, seed=tag), target, tag)
            elif some.rank == target:
                some.Recv(got, source, tag)
                assert np.array_equal(got, numbers(source, seed=tag))
        some.Allreduce(numbers(some.rank), got)
        assert np.array_equal(got, reduced([numbers(rank) for rank in range(3)]))
        some.Free()

    cluster.run(program)


@rooted
@reducing
@wires
def test_reduce(cluster, root, op, wire):
    def program(comm):
        result = np.zeros(COUNT, np.float32) if comm.rank == root else None
        comm.Reduce(numbers(comm.rank, wire=wire), result, op, root, wire=wire)
        if comm.rank == root:
            assert np.array_equal(result, reduced([numbers(rank, wire=wire) for rank in range(comm.size)], op))

    cluster.run(program)


@ranked
@reducing
@wires
def test_reduce_scatter(cluster, op, wire):
    def program(comm):
        result = np.zeros(COUNT, np.float32)
        comm.Reduce_scatter_block(numbers(comm.rank, COUNT * comm.size, wire), result, op, wire=wire)
        total = reduced([numbers(rank, COUNT * comm.size, wire) for rank in range(comm.size)], op)
        assert np.array_equal(result, total.reshape(comm.size, -1)[comm.rank])

    cluster.run(program)


@ranked
@reducing
@wires
def test_allreduce(cluster, op, wire):
    def program(comm):
        result = np.zeros(COUNT, np.float32)
        comm.Allreduce(numbers(comm.rank, wire=wire), result, op, wire=wire)
        assert np.array_equal(result, reduced([numbers(rank, wire=wire) for rank in range(comm.size)], op))

    cluster.run(program)


@ranked
def test_barrier(cluster):
    entered = []

    def program(comm):
        entered.append(comm.rank)
        comm.Barrier()
        assert len(entered) == comm.size

    cluster.run(program)


@ranked
@pytest.mark.parametrize("rounds", [20, pytest.param(2000, marks=pytest.mark.soak)])
def test_stress_sndrcv(cluster, rounds):
    def program(comm):
        following, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        source, target = (comm.device.allocate(COUNT, np.float32) for _ in range(2))
        for number in range(rounds):
            source[:] = 1000 * comm.rank + number
            request = comm.Isend(source, following, 0)
            comm.Recv(target, before, 0)
            request.Wait()
            assert (target == 1000 * before + number).all()

    cluster.run(program)


@pytest.mark.parametrize(("cluster", "count"), [
    case(world, size, count, is_long=size > 5 and count in (21, 3 * SEGMENT))
    for world in ("model", "sim") for size in SIZES for count in (1, 21, 128, 3 * SEGMENT)], indirect=["cluster"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_and_count(cluster, dtype, count):
    """pyaccl's matrix: each collective, counts 1, 16, 21, 128, four types."""
    def program(comm):
        own = [make(count, rank, dtype) for rank in range(comm.size)]
        whole = [make(count * comm.size, rank, dtype) for rank in range(comm.size)]
        root = comm.size - 1
        result, everything = np.zeros(count, dtype), np.zeros(count * comm.size, dtype)
        comm.Allreduce(own[comm.rank], result)
        assert np.array_equal(result, reduced(own))
        comm.Reduce(own[comm.rank], result, MAX, root)
        if comm.rank == root:
            assert np.array_equal(result, reduced(own, MAX))
        comm.Reduce_scatter_block(whole[comm.rank], result)
        assert np.array_equal(result, reduced(whole).reshape(comm.size, -1)[comm.rank])
        comm.Allgather(own[comm.rank], everything)
        assert np.array_equal(everything, np.concatenate(own))
        comm.Alltoall(whole[comm.rank], everything)
        assert np.array_equal(everything, np.concatenate([w.reshape(comm.size, -1)[comm.rank] for w in whole]))
        comm.Gather(own[comm.rank], everything if comm.rank == root else None, root)
        if comm.rank == root:
            assert np.array_equal(everything, np.concatenate(own))
        comm.Scatter(whole[root] if comm.rank == root else None, result, root)
        assert np.array_equal(result, whole[root].reshape(comm.size, -1)[comm.rank])
        buffer = own[comm.rank].copy()
        comm.Bcast(buffer, root)
        assert np.array_equal(buffer, own[root])

    cluster.run(program)
