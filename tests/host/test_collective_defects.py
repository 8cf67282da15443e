# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in ACCL+, by its authors' issue numbers or by reading its source, and must not here."""

import numpy as np
import pytest
from collective_ranks import make, reduced
from worlds import WORLDS

from rackgate.collective.abi import Counter
from rackgate_host.collective import MAX, SUM, open_cluster, wait_all

SEGMENT = 256  # elements of four bytes in a packet


@pytest.fixture(params=WORLDS)
def world(request):
    """Nodes are joined in one simulation, which no cable leads to."""
    return request.param


def late(comm, cycles):
    """Come late."""
    comm.engine.world.wait(lambda: False, cycles=cycles)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_129_bcast_from_the_last_rank_in_several_segments(clusters, world, ranks):
    def program(comm):
        for count in (3 * SEGMENT, 3 * SEGMENT + 1):
            buffer = make(count, ranks - 1 if comm.rank == ranks - 1 else 50)
            comm.Bcast(buffer, ranks - 1)
            assert np.array_equal(buffer, make(count, ranks - 1))

    clusters.get(world, ranks).run(program)


@pytest.mark.parametrize("ranks", [3, 4, 5])
def test_gather_to_every_root_with_large_parts(clusters, world, ranks):
    def program(comm):
        for root in range(ranks):
            whole = np.zeros((ranks, 9 * SEGMENT), np.float32)
            comm.Gather(make(9 * SEGMENT, comm.rank), whole if comm.rank == root else None, root)
            if comm.rank == root:
                assert np.array_equal(whole, [make(9 * SEGMENT, rank) for rank in range(ranks)])

    clusters.get(world, ranks).run(program)


@pytest.mark.parametrize("ranks", [4, 8, 16])
def test_tree_reduce_of_a_power_of_two_ends_at_its_destination(clusters, world, ranks):
    def program(comm):
        for root in (0, ranks - 1):
            result = np.full(12, -1, np.float32)
            comm.Reduce(make(12, comm.rank), result if comm.rank == root else None, SUM, root)
            if comm.rank == root:
                assert np.array_equal(result, reduced([make(12, rank) for rank in range(ranks)]))

    clusters.get(world, ranks).run(program)


def test_ranks_with_buffers_in_different_memories(clusters, world):
    def program(comm):
        for on_device in range(4):
            def buffer(count, on_device=on_device):
                return comm.device.allocate(count, np.int32) if comm.rank == on_device else np.zeros(count, np.int32)

            for root in range(4):
                array = buffer(300)
                array[:] = 77 if comm.rank == root else 0
                comm.Bcast(array, root)
                assert (array == 77).all()
                got = buffer(1200)
                comm.Alltoall(np.full(1200, comm.rank, np.int32), got)
                assert np.array_equal(got, np.repeat(np.arange(4), 300))

    clusters.get(world, 4).run(program)


@pytest.mark.parametrize(("ranks", "counts"), [
    (4, (1, 2, 5)), (8, (*range(1, 7), *range(9, 14), *range(17, 21), *range(25, 28), 33, 34, 41)),
    (3, (1, 2, 4, 7)), (5, (1, 4, 6, 21))])
def test_allreduce_of_counts_that_do_not_divide(clusters, world, ranks, counts):
    def program(comm):
        for count in counts:
            for scale in (1, 97):  # short and long: each has its own algorithm
                result = np.full(scale * count, -1, np.int32)
                comm.Allreduce(make(scale * count, comm.rank, "int32"), result)
                assert np.array_equal(result, reduced([make(scale * count, rank, "int32") for rank in range(ranks)]))

    clusters.get(world, ranks).run(program)


@pytest.mark.parametrize("count", [5, 2000])
def test_nothing_is_written_beside_the_buffers(clusters, world, count):
    def program(comm):
        memory = comm.device.allocate(16 * count + 4096, np.int32)
        memory[:] = 0x5A5A5A5A
        parts = [memory[1000:][:count], memory[2000 + count:][:4 * count], memory[3000 + 6 * count:][:4 * count]]
        own, whole, result = parts
        own[:], whole[:] = make(count, comm.rank, "int32"), make(4 * count, comm.rank, "int32")
        comm.Allreduce(own, result[:count])
        comm.Reduce(own, result[:count] if comm.rank == 1 else None, MAX, 1)
        comm.Reduce_scatter_block(whole, result[:count])
        comm.Allgather(own, result)
        comm.Alltoall(whole, result)
        comm.Gather(own, result if comm.rank == 2 else None, 2)
        comm.Scatter(whole if comm.rank == 3 else None, result[:count], 3)
        assert np.array_equal(own, make(count, comm.rank, "int32"))
        assert np.array_equal(whole, make(4 * count, comm.rank, "int32"))
        for part in parts:
            part[:] = 0x5A5A5A5A
        assert (memory == 0x5A5A5A5A).all()

    clusters.get(world, 4).run(program)


def test_a_nop_does_nothing(clusters, world):
    cluster = clusters.get(world, 2)

    def program(comm):
        result = np.zeros(4, np.int32)
        comm.Allreduce(np.ones(4, np.int32), result)
        sent = comm.device.regs.COUNT_BYTES_SENT.value
        assert comm.nop() < 100
        assert comm.device.regs.COUNT_BYTES_SENT.value == sent

    cluster.run(program)


def test_180_copies_of_more_than_eight_megabytes():
    with open_cluster("model", 1, memory=32 << 20) as cluster:
        comm = cluster.comms[0]
        source, target = (comm.device.allocate(9 << 18, np.int32) for _ in range(2))
        source[:] = np.arange(9 << 18)
        comm.Copy(source, target)
        assert np.array_equal(source, target)


def test_more_messages_under_way_than_any_queue_holds(clusters, world):
    def program(comm):
        got = [np.zeros(20, np.int32) for _ in range(3 * 12)]
        others = [rank for rank in range(4) if rank != comm.rank]
        receives = [comm.Irecv(got[12 * place + tag], rank, tag) for place, rank in enumerate(others)
                    for tag in range(12)]
        sends = [comm.Isend(np.full(20, 100 * comm.rank + tag, np.int32), rank, tag) for tag in range(12)
                 for rank in others]
        wait_all(sends + receives)
        assert [array[0] for array in got] == [100 * rank + tag for rank in others for tag in range(12)]

    clusters.get(world, 4).run(program)


def test_messages_both_ways_at_a_time(clusters, world):
    def program(comm):
        got = np.zeros(20 * SEGMENT, np.int32)
        request = comm.Isend(np.full(20 * SEGMENT, comm.rank, np.int32), 1 - comm.rank)
        comm.Recv(got, 1 - comm.rank)
        request.Wait()
        assert (got == 1 - comm.rank).all()

    clusters.get(world, 2).run(program)


def test_calls_that_interleave_do_not_take_each_others_completions(clusters, world):
    def program(comm):
        whole, got = np.zeros(4 * 900, np.int32), np.zeros(5, np.int32)
        gathering = comm.Iallgather(np.full(900, comm.rank, np.int32), whole)
        receiving = comm.Irecv(got, (comm.rank + 1) % 4, 3)
        comm.Send(np.full(5, comm.rank, np.int32), (comm.rank - 1) % 4, 3)
        receiving.Wait()
        assert (got == (comm.rank + 1) % 4).all()
        gathering.Wait()
        assert np.array_equal(whole, np.repeat(np.arange(4), 900))

    clusters.get(world, 4).run(program)


def test_139_196_repeated_runs_of_the_same(clusters, world):
    def program(comm):
        for turn in range(15):
            result = np.zeros(512, np.float32)
            comm.Allreduce(make(512, comm.rank, seed=turn), result)
            assert np.array_equal(result, reduced([make(512, rank, seed=turn) for rank in range(3)]))

    clusters.get(world, 3).run(program)


def test_130_compressed_scatter(clusters, world):
    def program(comm):
        whole = make(4 * 700, 1, "float16").astype(np.float32)
        part = np.zeros(700, np.float32)
        comm.Scatter(whole if comm.rank == 1 else None, part, 1, wire="float16")
        assert np.array_equal(part, whole[700 * comm.rank:][:700])

    clusters.get(world, 4).run(program)


@pytest.mark.parametrize("count", [384, 1024])
def test_160_messages_of_a_packet_and_more(clusters, world, count):
    def program(comm):
        got = np.zeros(count, np.float32)
        comm.Sendrecv(make(count, comm.rank), 1 - comm.rank, 0, got, 1 - comm.rank, 0)
        assert np.array_equal(got, make(count, 1 - comm.rank))

    clusters.get(world, 2).run(program)


def test_200_allreduce_after_alltoall(clusters, world):
    def program(comm):
        got, total = np.zeros(4 * 50, np.int32), np.zeros(50, np.int32)
        for _ in range(3):
            comm.Alltoall(np.full(4 * 50, comm.rank, np.int32), got)
            comm.Allreduce(np.full(50, comm.rank, np.int32), total)
            assert (total == 6).all() and np.array_equal(got, np.repeat(np.arange(4), 50))

    clusters.get(world, 4).run(program)


@pytest.mark.parametrize("ranks", [2, 5])
def test_198_gather_in_the_right_order_however_late_ranks_come(clusters, world, ranks):
    draw = np.random.default_rng(ranks)
    delays = [[int(cycles) for cycles in draw.integers(0, 10_000, ranks)] for _ in range(4)]

    def program(comm):
        for delay in delays:
            late(comm, delay[comm.rank])
            whole = np.zeros((ranks, 24), np.int32)
            comm.Gather(make(24, comm.rank, "int32"), whole if comm.rank == 0 else None)
            if comm.rank == 0:
                assert np.array_equal(whole, [make(24, rank, "int32") for rank in range(ranks)])

    clusters.get(world, ranks).run(program)


def test_107_a_message_larger_than_all_buffers(clusters):
    cluster = clusters.get("model", 2, slots=16)

    def program(comm):
        if comm.rank == 0:
            comm.Send(np.arange(100 * SEGMENT, dtype=np.int32), 1)
        else:
            late(comm, 5_000)
            got = np.zeros(100 * SEGMENT, np.int32)
            comm.Recv(got, 0)
            assert np.array_equal(got, np.arange(100 * SEGMENT))

    cluster.run(program)
    assert cluster.counters()[1][Counter.NO_BUFFER] == 0


def test_two_communicators_with_equal_ranks_and_tags_at_a_time(clusters, world):
    def program(comm):
        again = comm.Dup()
        first, second = np.zeros(400, np.int32), np.zeros(400, np.int32)
        requests = [again.Irecv(second, (comm.rank + 1) % 3, 0), comm.Irecv(first, (comm.rank + 1) % 3, 0),
                    comm.Isend(np.full(400, comm.rank, np.int32), (comm.rank - 1) % 3, 0),
                    again.Isend(np.full(400, 100 + comm.rank, np.int32), (comm.rank - 1) % 3, 0)]
        wait_all(requests)
        assert (first == (comm.rank + 1) % 3).all() and (second == 100 + (comm.rank + 1) % 3).all()
        again.Free()

    clusters.get(world, 3).run(program)
