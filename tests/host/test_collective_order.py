# SPDX-License-Identifier: Apache-2.0
"""Messages that are received in another order than they were sent, whatever their size, and probes."""

import random

import numpy as np
import pytest

from rackgate.collective.abi import Counter
from rackgate.collective.abi import Status as CallStatus
from rackgate_host.collective import (
    ANY_SOURCE,
    ANY_TAG,
    SUM,
    CollectiveError,
    CollectiveTimeout,
    Status,
    Stream,
    open_cluster,
    wait_all,
)
from rackgate_host.collective.engine import DEFAULT_TIMEOUT

#: Elements of a message that has twice as many packets as two ranks have receive buffers.
LONG = 2 * 16 * 256


def content(source, target, tag, count=LONG, dtype=np.int32):
    return np.random.default_rng([source, target, tag]).integers(-(1 << 15), 1 << 15, count).astype(dtype)


@pytest.fixture
def opened():
    clusters = []

    def get(ranks, **options):
        options = {"slots": 16, "memory": 8 << 20, "timeout": 200_000, "credits": "all", **options}
        clusters.append(open_cluster("model", ranks, **options))
        return clusters[-1]

    yield get
    for cluster in clusters:
        cluster.close()


def check_clean(cluster, free):
    """All receive buffers are free, all credits are where they belong, and all copies have been given back."""
    cluster.world.wait(lambda: False, cycles=50_000)
    assert [device.allocator.free_bytes for device in cluster.devices] == free
    receivers = [node.engine.receiver for node in cluster.world._joined._fabric.nodes]
    for number, receiver in enumerate(receivers):
        assert receiver.free_slots == receiver._slots
        assert not receiver._posted and not any(receiver._unexpected)
        for other, peer in enumerate(receivers):
            held = peer.communicators[0].held[number]
            assert receiver.communicators[0].available[other] + held == cluster.comms[0].credits
    assert [count[Counter.NO_BUFFER] for count in cluster.counters()] == [0] * cluster.size
    assert all(not engine.is_busy for engine in cluster.engines)


def free_bytes(cluster):
    return [device.allocator.free_bytes for device in cluster.devices]


def shuffled(tags, order, rng):
    return {"in order": list, "reversed": lambda tags: tags[::-1],
            "random": lambda tags: rng.sample(tags, len(tags))}[order](list(tags))


@pytest.mark.parametrize("at_once", [False, True], ids=["Recv", "Irecv"])
@pytest.mark.parametrize("order", ["in order", "reversed", "random"])
@pytest.mark.parametrize("ranks,messages", [(2, 12), (3, 5), (16, 2)])
def test_any_order(opened, seed, ranks, messages, order, at_once):
    """Each rank sends each other more than fits, and receives in whatever order it likes."""
    cluster = opened(ranks, seed=seed or 1, timeout=DEFAULT_TIMEOUT)
    free = free_bytes(cluster)
    count = LONG // (ranks // 2)

    def program(comm):
        rng = random.Random(f"{seed} {comm.rank}")
        others = [rank for rank in range(comm.size) if rank != comm.rank]
        sends = [comm.Isend(content(comm.rank, other, tag, count), other, tag)
                 for tag in range(messages) for other in others]
        pairs = [(other, tag) for tag in range(messages) for other in others]
        receives = []
        for source, tag in shuffled(pairs, order, rng):
            got = np.zeros(count, np.int32)
            receives.append((comm.Irecv(got, source, tag), got, source, tag))
            if not at_once:
                receives[-1][0].Wait()
        wait_all([request for request, *_ in receives])
        for request, got, source, tag in receives:
            assert np.array_equal(got, content(source, comm.rank, tag, count)), (source, tag)
            assert (request.status.source, request.status.tag, request.status.bytes) == (source, tag, 4 * count)
        wait_all(sends)

    cluster.run(program)
    check_clean(cluster, free)


def test_many_short_messages_are_in_nobody_s_way(opened):
    cluster = opened(2)

    def program(comm):
        if comm.rank == 0:
            wait_all([comm.Isend(np.array([tag]), 1, tag) for tag in range(100)])
        else:
            for tag in reversed(range(100)):
                got = np.zeros(1, np.int64)
                comm.Recv(got, 0, tag)
                assert got == tag

    free = free_bytes(cluster)
    cluster.run(program)
    check_clean(cluster, free)


def test_what_is_received_in_time_is_not_copied(opened):
    """In order nothing goes by way of memory: a call for each message at either side, and no more."""
    cluster = opened(2)

    def program(comm):
        if comm.rank == 0:
            wait_all([comm.Isend(content(0, 1, tag), 1, tag) for tag in range(5)])
        else:
            for tag in range(5):
                comm.Recv(np.zeros(LONG, np.int32), 0, tag)

    before = cluster.counters()
    cluster.run(program)
    assert [count[Counter.CALLS] - old[Counter.CALLS]
            for count, old in zip(cluster.counters(), before, strict=True)] == [5, 5]


def test_a_collective_passes_messages_that_nobody_receives(opened):
    """A message may have all credits that the barrier needs."""
    cluster = opened(2)
    free = free_bytes(cluster)

    def program(comm):
        other = 1 - comm.rank
        request = comm.Isend(content(comm.rank, other, 7), other, 7)
        comm.Barrier()
        total = np.zeros(1, np.int64)
        comm.Allreduce(np.ones(1, np.int64), total, SUM)
        got = np.zeros(LONG, np.int32)
        comm.Recv(got, other, 7)
        request.Wait()
        assert total == 2 and np.array_equal(got, content(other, comm.rank, 7))

    cluster.run(program)
    check_clean(cluster, free)


def test_any_source_and_any_tag_keep_the_order_of_each_source(opened):
    cluster = opened(3)
    free = free_bytes(cluster)

    def program(comm):
        if comm.rank:
            wait_all([comm.Isend(content(comm.rank, 0, tag), 0, tag) for tag in (5, 3, 9, 3)])
            comm.Send(np.zeros(0, np.int32), 0, 100)
            return
        for source in (2, 1):
            comm.Recv(np.zeros(0, np.int32), source, 100)  # behind all the others
        seen = {1: [], 2: []}
        for _ in range(8):
            status, got = Status(), np.zeros(LONG + 8, np.int32)
            got[:] = -1
            comm.Recv(got, ANY_SOURCE, ANY_TAG, status)
            assert np.array_equal(got[:LONG], content(status.source, 0, status.tag)) and (got[LONG:] == -1).all()
            assert status.bytes == 4 * LONG
            seen[status.source].append(status.tag)
        assert seen == {1: [5, 3, 9, 3], 2: [5, 3, 9, 3]}

    cluster.run(program)
    check_clean(cluster, free)


def test_compressed_messages_device_buffers_and_streams(opened):
    cluster = opened(2)
    sent = content(0, 1, 1, dtype=np.float32)

    def program(comm):
        if comm.rank == 0:
            requests = [comm.Isend(sent, 1, 1, wire="float16"), comm.Isend(sent, 1, 2), comm.Isend(sent[:256], 1, 3)]
            requests += [comm.Isend(np.zeros(0, np.float32), 1, 4), comm.Isend(sent, 1, 5)]
            wait_all(requests)
            return
        comm.Recv(np.zeros_like(sent), 0, 5)
        status, target = Status(), comm.device.allocate(LONG, np.float32)
        comm.Recv(target, 0, 2)
        target.sync_from_device()
        assert np.array_equal(target, sent)
        comm.Recv(np.zeros(0, np.float32), 0, 4, status)
        assert status.bytes == 0
        got = np.zeros_like(sent)
        comm.Recv(got, 0, 1, status, wire="float16")
        assert status.bytes == 4 * LONG and np.array_equal(got, sent.astype(np.float16).astype(np.float32))
        comm.Recv(Stream(256, np.float32), 0, 3)
        assert comm.device.pop("kernel_out") == sent[:256].tobytes()

    cluster.run(program)


@pytest.mark.parametrize("wrong", ["too long", "compressed"])
def test_a_message_that_does_not_fit_its_receive(opened, wrong):
    cluster = opened(2)
    free = free_bytes(cluster)

    def program(comm):
        if comm.rank == 0:
            requests = [comm.Isend(np.ones(LONG, np.float32), 1, 1), comm.Isend(np.ones(LONG, np.float32), 1, 2)]
            wait_all(requests)
            return
        got = np.zeros(LONG, np.float32)
        comm.Recv(got, 0, 2)
        with pytest.raises(CollectiveError, match="rank 0.*is longer than.*or not of its kind") as info:
            if wrong == "too long":
                comm.Recv(got[:-1], 0, 1)
            else:
                comm.Recv(got, 0, 1, wire="float16")
        assert info.value.status == CallStatus.RECEIVE_SIZE and (got == 1).all()

    cluster.run(program)
    check_clean(cluster, free)


def test_what_never_comes_is_a_time_out_that_leaves_nothing(opened):
    """Messages that nobody receives are let in, then a receive fails; a reset forgets them all."""
    cluster = opened(2, timeout=50_000)
    free = free_bytes(cluster)

    def program(comm):
        if comm.rank == 0:
            wait_all([comm.Isend(content(0, 1, tag), 1, tag) for tag in range(3)])
            return
        with pytest.raises(CollectiveTimeout, match="no packet came from rank 0"):
            comm.Recv(np.zeros(1, np.int32), 0, 99)
        with pytest.raises(CollectiveError, match="an earlier call on this communicator failed"):
            comm.Recv(np.zeros(LONG, np.int32), 0, 1)

    cluster.run(program)
    assert free_bytes(cluster)[1] == free[1] - 2 * 4 * LONG  # messages 0 and 2
    cluster.reset()
    check_clean(cluster, free)


def test_an_abort_leaves_nothing(opened):
    """A receive of what never comes is aborted while messages are let in; then everything begins anew."""
    cluster = opened(2, timeout=0)
    free = free_bytes(cluster)

    def program(comm):
        if comm.rank == 0:
            for tag in range(6):
                comm.Isend(content(0, 1, tag), 1, tag)
            return
        with pytest.raises(CollectiveTimeout, match="has not ended after 15000 cycles"):
            comm.Irecv(np.zeros(1, np.int32), 0, 99).Wait(cycles=15_000)

    cluster.run(program)
    assert cluster.engines[1].unexpected._messages
    cluster.reset()
    check_clean(cluster, free)
    cluster.run(lambda comm: comm.Barrier())
    check_clean(cluster, free)


def test_a_limit_of_the_caller(opened):
    """A receive that waits for a message on its way to memory can be given up; the message stays."""
    cluster = opened(2, timeout=0)

    def program(comm):
        if comm.rank == 0:
            requests = [comm.Isend(content(0, 1, tag), 1, tag) for tag in range(2)]
            wait_all(requests)
            return
        other = comm.Irecv(np.zeros(LONG, np.int32), 0, 1)
        comm.engine.world.wait(lambda: bool(comm.engine.unexpected._messages), cycles=100_000)
        got = np.zeros(LONG, np.int32)
        first = comm.Irecv(got, 0, 0)
        with pytest.raises(CollectiveTimeout, match="has not ended after 1 cycles"):
            first.Wait(cycles=1)
        comm.Recv(got, 0, 0)
        assert np.array_equal(got, content(0, 1, 0))
        other.Wait()

    free = free_bytes(cluster)
    cluster.run(program)
    check_clean(cluster, free)


def test_without_memory_the_time_out_tells(opened):
    cluster = opened(2, memory=1 << 18, timeout=20_000)

    def program(comm):
        if comm.rank == 0:
            for tag in range(2):
                comm.Isend(content(0, 1, tag), 1, tag)
            return
        keep = comm.device.allocate(comm.device.allocator.largest_hole - 4 * LONG, np.uint8)
        target = comm.device.allocate(LONG, np.int32)
        with pytest.raises(CollectiveTimeout, match="no packet came from rank 0"):
            comm.Recv(target, 0, 1)
        keep.free()

    cluster.run(program)
    assert not cluster.engines[1].unexpected._messages


def test_a_freed_communicator_leaves_no_message(opened):
    cluster = opened(2, slots=64, credits=2)
    free = free_bytes(cluster)

    def program(comm):
        part = comm.Dup()
        if comm.rank == 0:
            part.Send(content(0, 1, 0), 1, 0)
        part.Barrier()
        part.Free()

    cluster.run(program)
    check_clean(cluster, free)


@pytest.mark.parametrize("actions", [12, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.parametrize("ranks", [2, 5])
def test_random_messages_between_collectives(opened, seed, ranks, actions):
    """Messages of all lengths, of which each rank receives what and when it likes, and collectives in between."""
    cluster = opened(ranks, slots=64, seed=seed or 1, timeout=DEFAULT_TIMEOUT)
    free = free_bytes(cluster)
    rng = random.Random(f"{seed} {ranks}")
    rounds = [[(rng.randrange(ranks), rng.randrange(ranks), tag, rng.choice((0, 1, 300, LONG, 3 * LONG)))
               for tag in range(rng.randrange(3 * ranks))] for _ in range(actions)]

    def program(comm):
        own = random.Random(f"{seed} {comm.rank}")
        sends, late = [], []
        for number, messages in enumerate(rounds):
            for source, target, tag, count in messages:
                tag += 100 * number
                if source == comm.rank:
                    sends.append(comm.Isend(content(source, target, tag, count), target, tag))
                if target == comm.rank:
                    late.append((source, tag, count))
            total = np.zeros(1, np.int64)
            comm.Allreduce(np.full(1, comm.rank), total)
            assert total == ranks * (ranks - 1) // 2
            own.shuffle(late)
            for _ in range(own.randrange(len(late) + 1)):
                check_message(comm, *late.pop())
        while late:
            check_message(comm, *late.pop())
        wait_all(sends)

    cluster.run(program)
    check_clean(cluster, free)


def check_message(comm, source, tag, count):
    got = np.zeros(count + 1, np.int32)
    comm.Recv(got, source, tag)
    assert np.array_equal(got[:count], content(source, comm.rank, tag, count)), (source, tag)


@pytest.mark.cosim
@pytest.mark.xdist_group("native")
def test_any_order_on_the_gateware(seed):
    """Messages that are longer than all credits, in both directions, and what a probe and a status say of them."""
    with open_cluster("sim", 2, link_latency=20, memory=16 << 20, timeout=200_000) as cluster:
        count = 256 * 40

        def program(comm):
            other = 1 - comm.rank
            sends = [comm.Isend(content(comm.rank, other, tag, count), other, tag) for tag in range(4)]
            status = Status()
            comm.Probe(tag=3, status=status)
            assert (status.source, status.tag, status.bytes) == (other, 3, 4 * count)
            for tag in random.Random(f"{seed} {comm.rank}").sample(range(4), 3):
                check_message(comm, other, tag, count)
                seen[comm.rank].add(tag)
            got = np.zeros(count, np.int32)
            comm.Recv(got, ANY_SOURCE, ANY_TAG, status)
            assert {status.tag} == set(range(4)) - seen[comm.rank] and status.source == other
            assert np.array_equal(got, content(other, comm.rank, status.tag, count))
            wait_all(sends)
            comm.Barrier()

        seen = [set(), set()]
        cluster.run(program)
        assert [count[Counter.NO_BUFFER] + count[Counter.NO_COMMUNICATOR] for count in cluster.counters()] == [0, 0]


def test_calls_do_not_wait_for_communicators_to_open(opened):
    cluster = opened(2)
    for _ in range(2):
        before = cluster.world.cycle
        requests = [comm.Ibarrier() for comm in cluster.comms]
        assert cluster.world.cycle == before
        wait_all(requests)
        cluster.reset()


# Probes


def test_probe(opened):
    cluster = opened(3)

    def program(comm):
        if comm.rank:
            comm.Barrier()
            comm.Send(np.zeros(10 * comm.rank, np.int64), 0, 40 + comm.rank)
            return
        status = Status()
        assert not comm.Iprobe() and not comm.Iprobe(2, 42, status)
        comm.Barrier()
        assert comm.Probe(2, 42, status)
        assert (status.source, status.tag, status.bytes) == (2, 42, 160)
        assert comm.Probe(ANY_SOURCE, 41, status) and status.source == 1
        assert not comm.Iprobe(1, 42)
        assert comm.Iprobe(2) and comm.Iprobe()
        for _ in range(2):
            comm.Probe(status=status)
            got = np.zeros(status.Get_count(np.int64), np.int64)
            comm.Recv(got, status.source, status.tag)
        assert not comm.Iprobe()

    cluster.run(program)


def test_probe_passes_messages_that_are_in_the_way(opened):
    cluster = opened(2)

    def program(comm):
        if comm.rank == 0:
            wait_all([comm.Isend(content(0, 1, tag), 1, tag) for tag in range(4)])
            return
        status = Status()
        comm.Probe(0, 3, status)
        assert (status.tag, status.bytes) == (3, 4 * LONG)
        assert comm.Iprobe(0, 1) and comm.Iprobe(tag=0)
        for tag in (3, 1, 2, 0):
            got = np.zeros(LONG, np.int32)
            comm.Recv(got, 0, tag)
            assert np.array_equal(got, content(0, 1, tag))

    free = free_bytes(cluster)
    cluster.run(program)
    check_clean(cluster, free)


def test_probe_has_a_limit(opened):
    cluster = opened(2, timeout=3000)
    with pytest.raises(CollectiveTimeout, match="rank 0 of 2: Probe: no message came from rank 1 for 3000 cycles"):
        cluster.comms[0].Probe(1)
    with pytest.raises(ValueError, match="source must be a rank from 0 to 1, not 2"):
        cluster.comms[0].Iprobe(2)
    with pytest.raises(ValueError, match="tag must be"):
        cluster.comms[0].Iprobe(1, -5)
