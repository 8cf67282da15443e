# SPDX-License-Identifier: Apache-2.0
"""Messages that ask before they are sent: what one that nobody receives takes away from others, and what it carries."""

import numpy as np
import pytest
from collective_ranks import make, reduced
from worlds import WORLDS

from rackgate.collective.abi import Cause, Counter
from rackgate.collective.abi import Status as CallStatus
from rackgate_host.collective import (
    ANY_SOURCE,
    ANY_TAG,
    CollectiveError,
    CollectiveTimeout,
    Status,
    open_cluster,
    wait_all,
)
from rackgate_host.collective.endpoint import eager_packets

SEGMENT = 256  # elements of four bytes in a packet
CREDITS = 4
#: Cycles after which the driver would take a message out of the receive buffers.
PATIENCE = 4096


@pytest.fixture(params=WORLDS)
def world(request):
    return request.param


def asked(cluster):
    """Messages that have asked at each rank, and have been answered."""
    return [counts[Counter.CLEARS] for counts in cluster.counters()]


def drains(cluster, monkeypatch):
    """Messages that the drivers take out of the receive buffers, from now on."""
    drained = []
    for engine in cluster.engines:
        unexpected, before = engine.unexpected, engine.unexpected._drain
        monkeypatch.setattr(unexpected, "_drain", lambda *given, before=before: drained.append(given) or before(*given))
    return drained


@pytest.mark.parametrize("eager,are_drained", [(None, False), ("all", True)])
def test_a_message_that_is_received_late_leaves_the_others_their_credits(clusters, world, monkeypatch, eager,
                                                                         are_drained):
    """Collectives on its communicator go on as if it were not there. If it may not ask, they wait for the driver."""
    cluster = clusters.get(world, 3, credits=CREDITS, eager=eager)
    drained, before = drains(cluster, monkeypatch), asked(cluster)
    content = [make(40 * SEGMENT, rank, "int32") for rank in range(3)]

    def program(comm):
        request = comm.Isend(content[comm.rank], (comm.rank + 1) % 3, 7)
        result, spent = np.zeros(2000, np.int32), []
        for turn in range(3):
            began = comm.device.cycles
            comm.Allreduce(make(2000, comm.rank, "int32", turn), result)
            spent.append(comm.device.cycles - began)
            assert np.array_equal(result, reduced([make(2000, rank, "int32", turn) for rank in range(3)]))
        got = np.zeros(40 * SEGMENT, np.int32)
        comm.Recv(got, (comm.rank - 1) % 3, 7)
        request.Wait()
        assert np.array_equal(got, content[comm.rank - 1])
        return max(spent)

    spent = cluster.run(program)
    assert bool(drained) == are_drained
    assert [now - then for now, then in zip(asked(cluster), before, strict=True)] == [int(eager is None)] * 3
    if world == "sim":  # a model's cycles mean nothing
        assert (max(spent) > PATIENCE) == are_drained


@pytest.mark.parametrize("bytes,packets", [(None, CREDITS), (0, 1), (1, 1), (1024, 1), (2047, 1), (2048, 2), (3072, 3)])
def test_the_largest_message_that_does_not_ask(clusters, world, bytes, packets):
    """Its payload counts, as it is on the wire; and it can be sent before anybody receives it."""
    cluster = clusters.get(world, 2, credits=CREDITS, eager=bytes)
    for count, wire, asks in ((packets * SEGMENT, None, False), (packets * SEGMENT + 1, None, True),
                              (2 * packets * SEGMENT, "float16", False), (2 * packets * SEGMENT + 1, "float16", True),
                              (0, None, False)):
        before = asked(cluster)

        def program(comm, count=count, wire=wire, asks=asks):
            content = np.arange(count, dtype=np.float32) % 1000
            if comm.rank == 0:
                request = comm.Isend(content, 1, 3, wire=wire)
                if not asks:
                    request.Wait()
                comm.Barrier()
                comm.engine.world.wait(lambda: False, cycles=2000)
                assert request.Test() is not asks
                comm.Barrier()
                request.Wait()
                return
            got = np.full(count, -1, np.float32)
            comm.Barrier()
            comm.Barrier()
            comm.Recv(got, 0, 3, wire=wire)
            assert np.array_equal(got, content)

        cluster.run(program)
        assert [now - then for now, then in zip(asked(cluster), before, strict=True)] == [0, int(asks)], (count, wire)


@pytest.mark.parametrize("is_early", [False, True])
def test_receives_from_any_source_with_any_tag_and_longer_ones(clusters, world, is_early):
    """All others ask at one rank; it receives whichever it gets, into buffers that are larger."""
    cluster = clusters.get(world, 5, credits=2, eager=0)
    before = asked(cluster)

    def program(comm):
        if comm.rank:
            if is_early:
                comm.engine.world.wait(lambda: False, cycles=3000)
            for turn in range(2):
                comm.Send(make(3 * SEGMENT + comm.rank, comm.rank, "int32", turn), 0, 10 * comm.rank + turn)
            return []
        if not is_early:
            comm.engine.world.wait(lambda: False, cycles=3000)
        seen = []
        for _ in range(8):
            got, status = np.full(5 * SEGMENT, -1, np.int32), Status()
            comm.Recv(got, ANY_SOURCE, ANY_TAG, status)
            rank, turn = status.source, status.tag % 10
            count = 3 * SEGMENT + rank
            assert status.tag == 10 * rank + turn and status.Get_count(np.int32) == count
            assert np.array_equal(got[:count], make(count, rank, "int32", turn)) and (got[count:] == -1).all()
            seen.append((rank, turn))
        return seen

    seen = cluster.run(program)[0]
    assert sorted(seen) == [(rank, turn) for rank in range(1, 5) for turn in range(2)]
    assert all(seen.index((rank, 0)) < seen.index((rank, 1)) for rank in range(1, 5))
    assert [now - then for now, then in zip(asked(cluster), before, strict=True)] == [8, 0, 0, 0, 0]


def test_a_probe_tells_the_whole_length(clusters, world):
    """Of a message of which one packet has come; and a receive for what it tells gets it."""
    cluster = clusters.get(world, 5, credits=2, eager=0)

    def program(comm):
        content = make(7 * SEGMENT + 3, comm.rank, "int32")
        if comm.rank == 1:
            comm.Send(content, 2, 9)
        elif comm.rank == 2:
            status = Status()
            assert comm.Probe(ANY_SOURCE, ANY_TAG, status)
            assert (status.source, status.tag, status.Get_count(np.int32)) == (1, 9, content.size)
            got = np.zeros(status.Get_count(np.int32), np.int32)
            comm.Recv(got, status.source, status.tag)
            assert np.array_equal(got, make(content.size, 1, "int32"))
            assert not comm.Iprobe()

    cluster.run(program)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_everybody_sends_before_anybody_receives(clusters, world, ranks):
    """To the next rank and to itself, all at the same time, and in the order that is worst: last message first."""
    cluster = clusters.get(world, ranks, credits=2, eager=0, timeout=200_000)

    def program(comm):
        requests = [
            comm.Isend(make((turn + 2) * SEGMENT, comm.rank, "int32", turn), (comm.rank + distance) % ranks, turn)
            for turn in range(3) for distance in (0, 1)]
        for turn in reversed(range(3)):
            for distance in (0, 1):
                source = (comm.rank - distance) % ranks
                got = np.zeros((turn + 2) * SEGMENT, np.int32)
                comm.Recv(got, source, turn)
                assert np.array_equal(got, make((turn + 2) * SEGMENT, source, "int32", turn))
        wait_all(requests)

    cluster.run(program)


def test_communicators_may_differ(clusters, world):
    """What is said when one is made holds for it; those that say nothing do as the one that they come from."""
    cluster = clusters.get(world, 2, credits=CREDITS, eager=1024)

    def program(comm, result):
        others = [comm.Dup(), comm.Dup(eager="all"), comm.Split(0, comm.rank, eager=2048), comm.Create_group([0, 1])]
        others.append(others[1].Dup())
        for one in (comm, *others):
            before = comm.device.regs.COUNT_CLEARS.value
            got = np.zeros(2 * SEGMENT, np.int32)
            one.Sendrecv(make(2 * SEGMENT, comm.rank, "int32"), 1 - comm.rank, 0, got, 1 - comm.rank)
            assert np.array_equal(got, make(2 * SEGMENT, 1 - comm.rank, "int32"))
            result.append(comm.device.regs.COUNT_CLEARS.value - before)
        for one in others:
            one.Free()
        return result

    assert cluster.run(lambda comm: program(comm, [])) == [[1, 1, 0, 0, 1, 0]] * 2


@pytest.fixture
def fresh():
    opened = []

    def make(world, ranks, **options):
        opened.append(open_cluster(f"{world}:collective", ranks, link_latency=20, memory=1 << 20, **options))
        return opened[-1]

    yield make
    for cluster in opened:
        cluster.close()


def test_a_message_that_nobody_receives_is_an_error_that_says_so(fresh, world):
    """As soon as for all else; other communicators go on, and this one does when it has been opened anew."""
    cluster = fresh(world, 3, timeout=20_000)

    def program(comm):
        other = comm.Dup()
        if comm.rank == 1:
            with pytest.raises(CollectiveTimeout, match=r"rank 1 of 3: Send .* rank 2 \(node 2\) did not begin to "
                                                        "receive for 20000 cycles") as found:
                comm.Send(make(100 * SEGMENT, 1), 2, 5)
            assert (found.value.cause, found.value.node, found.value.status) == (
                Cause.CLEAR_TO_SEND, 2, CallStatus.TIMEOUT)
        else:
            comm.engine.world.wait(lambda: False, cycles=25_000)
        result = np.zeros(3, np.int32)
        other.Allreduce(np.full(3, comm.rank, np.int32), result)
        return result.tolist()

    # The driver does not take the message: nothing waits at rank 2.
    assert cluster.run(program) == [[3, 3, 3]] * 3
    cluster.reset()

    def again(comm):
        got = np.zeros(100 * SEGMENT, np.float32)
        comm.Sendrecv(make(100 * SEGMENT, comm.rank), (comm.rank + 1) % 3, 5, got, (comm.rank - 1) % 3, 5)
        return np.array_equal(got, make(100 * SEGMENT, (comm.rank - 1) % 3))

    assert cluster.run(again) == [True] * 3


def test_a_receive_that_is_too_short_fails_and_its_sender_does_not(fresh, world):
    """As with a message that does not ask: the receiver is told, what still comes for it is dropped."""
    cluster = fresh(world, 2, timeout=20_000, eager=0)

    def program(comm):
        if comm.rank == 0:
            comm.Send(make(20 * SEGMENT, 0), 1)
            return
        with pytest.raises(CollectiveError, match="longer than what was to be received"):
            comm.Recv(np.zeros(SEGMENT, np.float32), 0)

    cluster.run(program)


@pytest.mark.parametrize("eager", [-1, 1.5, "none", "1K"])
def test_eager_is_bytes(eager):
    with pytest.raises(ValueError, match=f"eager must be bytes, 0 or more, or 'all', not {eager!r}"):
        open_cluster("model", 2, eager=eager)


def test_eager_is_packets_to_an_engine():
    given = {None: 6, "all": 0, 0: 1, 1023: 1, 2047: 1, 2048: 2, 255 << 10: 255, 1 << 40: 255}
    assert {eager: eager_packets(eager, credits=6, segment=1024) for eager in given} == given
