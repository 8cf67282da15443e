# SPDX-License-Identifier: Apache-2.0
"""What the driver promises beside right results: errors that say what is wrong, order, in place, communicators."""

import numpy as np
import pytest
from collective_ranks import make, reduced

from rackgate.arith.abi import Function
from rackgate.collective.abi import Cause, Counter, Scenario
from rackgate.collective.abi import Status as CallStatus
from rackgate.collective.programs import schedule
from rackgate.collective.programs.contract import ALLREDUCE
from rackgate.collective.programs.language import collective
from rackgate.collective.programs.shipped import COLLECTIVES
from rackgate_host.collective import (
    ANY_SOURCE,
    ANY_TAG,
    IN_PLACE,
    MAX,
    PROC_NULL,
    SUM,
    UNDEFINED,
    CollectiveError,
    CollectiveTimeout,
    Request,
    Status,
    open_cluster,
    wait_all,
)
from rackgate_host.errors import UsageError
from rackgate_sim.arith import reduce


@pytest.fixture
def four(clusters):
    return clusters.get("model", 4)


@pytest.fixture
def fresh():
    """Clusters of a test's own, which it may break."""
    opened = []

    def get(ranks, **options):
        opened.append(open_cluster("model", ranks, memory=4 << 20, **options))
        return opened[-1]

    yield get
    for cluster in opened:
        cluster.close()


# In place, device buffers


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("root", range(4))
def test_operands_may_be_in_the_result_s_place(four, root, on_device):
    def program(comm):
        def buffer(content):
            if not on_device:
                return content.copy()
            array = comm.device.allocate(content.shape, content.dtype)
            array[:] = content
            return array

        own = [make(100, rank) for rank in range(4)]
        whole = [make(400, rank) for rank in range(4)]
        array = buffer(own[comm.rank])
        comm.Allreduce(IN_PLACE, array)
        assert np.array_equal(array, reduced(own))
        array = buffer(own[comm.rank])
        if comm.rank == root:
            comm.Reduce(IN_PLACE, array, MAX, root)
            assert np.array_equal(array, reduced(own, MAX))
        else:
            comm.Reduce(array, None, MAX, root)
            assert np.array_equal(array, own[comm.rank])
        array = buffer(whole[comm.rank])
        comm.Reduce_scatter_block(IN_PLACE, array)
        assert np.array_equal(array[:100], reduced(whole)[100 * comm.rank:][:100])
        array = buffer(whole[comm.rank])
        comm.Alltoall(IN_PLACE, array)
        assert np.array_equal(array, np.concatenate([w[100 * comm.rank:][:100] for w in whole]))
        array = buffer(np.zeros(400, np.float32))
        array[100 * comm.rank:][:100] = own[comm.rank]
        comm.Allgather(IN_PLACE, array)
        assert np.array_equal(array, np.concatenate(own))
        array[:] = 0
        array[100 * comm.rank:][:100] = own[comm.rank]
        if comm.rank == root:
            comm.Gather(IN_PLACE, array, root)
            assert np.array_equal(array, np.concatenate(own))
        else:
            comm.Gather(own[comm.rank], None, root)
        array = buffer(whole[comm.rank])
        part = buffer(np.zeros(100, np.float32))
        comm.Scatter(array if comm.rank == root else None, IN_PLACE if comm.rank == root else part, root)
        if comm.rank != root:
            assert np.array_equal(part, whole[root][100 * comm.rank:][:100])

    four.run(program)


def test_device_buffers_need_no_room_for_copies(fresh):
    def program(comm):
        free = comm.device.allocator.free_bytes
        source, target = (comm.device.allocate(1000, np.int32) for _ in range(2))
        source[:] = comm.rank
        request = comm.Iallreduce(source, target)
        assert free - comm.device.allocator.free_bytes == 2 * 4000
        request.Wait()
        assert (target == 6).all()
        request = comm.Iallreduce(np.asarray(source), np.zeros(1000, np.int32))
        assert free - comm.device.allocator.free_bytes == 4 * 4000
        request.Wait()
        assert free - comm.device.allocator.free_bytes == 2 * 4000

    fresh(4).run(program)


# Messages


def test_a_status_tells_who_sent_and_how_much(four):
    def program(comm):
        if comm.rank:
            comm.Send(np.full(10 * comm.rank, comm.rank, np.int64), 0, 40 + comm.rank)
            return
        seen = set()
        for _ in range(3):
            status, got = Status(), np.full(50, -1, np.int64)
            comm.Recv(got, ANY_SOURCE, ANY_TAG, status)
            source = status.Get_source()
            assert status.Get_count(np.int64) == 10 * source
            assert (got[:10 * source] == source).all() and (got[10 * source:] == -1).all()
            seen.add(source)
        assert seen == {1, 2, 3}

    four.run(program)


def test_messages_between_two_ranks_keep_their_order(four):
    def program(comm):
        numbers = range(12)
        if comm.rank == 0:
            wait_all([comm.Isend(np.full(700, number, np.int32), 1, number % 3) for number in numbers])
        elif comm.rank == 1:
            got = [np.zeros(700, np.int32) for _ in numbers]
            Request.Waitall([comm.Irecv(array, 0, ANY_TAG) for array in got])
            assert [array[0] for array in got] == list(numbers)
            assert all((array == array[0]).all() for array in got)

    four.run(program)


def test_a_receive_by_tag_passes_over_other_messages(four):
    def program(comm):
        if comm.rank == 0:
            for tag in range(4):
                comm.Send(np.full(9, tag, np.int32), 1, tag)
        elif comm.rank == 1:
            for tag in (2, 0, 3, 1):
                got = np.zeros(9, np.int32)
                comm.Recv(got, 0, tag)
                assert (got == tag).all()

    four.run(program)


def test_many_requests_of_every_kind_are_under_way_at_a_time(four):
    def program(comm):
        following, before = (comm.rank + 1) % 4, (comm.rank - 1) % 4
        got = [np.zeros(300, np.int32) for _ in range(8)]
        total = np.zeros(300, np.int32)
        requests = [comm.Irecv(array, before, tag) for tag, array in enumerate(got)]
        requests += [comm.Isend(np.full(300, 100 * comm.rank + tag, np.int32), following, tag) for tag in range(8)]
        requests += [comm.Iallreduce(np.full(300, comm.rank, np.int32), total), comm.Ibarrier()]
        wait_all(reversed(requests))
        assert [array[-1] for array in got] == [100 * before + tag for tag in range(8)]
        assert (total == 6).all()

    four.run(program)


def test_a_rank_sends_to_itself(four):
    def program(comm):
        got = np.zeros(300, np.int32)
        request = comm.Irecv(got, comm.rank, 5)
        comm.Send(np.full(300, comm.rank, np.int32), comm.rank, 5)
        request.Wait()
        assert (got == comm.rank).all()

    four.run(program)


def test_nobody_sends_nothing(four):
    def program(comm):
        status, got = Status(), np.full(3, 7, np.int32)
        comm.Recv(got, PROC_NULL, status=status)
        comm.Send(got, PROC_NULL)
        assert status.source == PROC_NULL and status.Get_count() == 0 and (got == 7).all()

    four.run(program)


def test_test_does_not_wait(four):
    def program(comm):
        got = np.zeros(1, np.int32)
        if comm.rank == 0:
            request = comm.Irecv(got, 1)
            assert not request.Test()
            comm.Send(got, 1)
            while not request.Test():
                pass
            assert got[0] == 9
        elif comm.rank == 1:
            comm.Recv(got, 0)
            comm.Send(np.full(1, 9, np.int32), 0)

    four.run(program)


def test_empty_messages_and_collectives(four):
    def program(comm):
        nothing = np.zeros(0, np.float32)
        comm.Allreduce(nothing, nothing.copy())
        comm.Bcast(nothing, 3)
        comm.Sendrecv(nothing, (comm.rank + 1) % 4, 1, nothing.copy(), (comm.rank - 1) % 4, 1)

    four.run(program)


# Communicators


def test_split_orders_by_key_and_leaves_out_who_wants(four):
    def program(comm):
        part = comm.Split(UNDEFINED if comm.rank == 2 else 5, -comm.rank)
        if comm.rank == 2:
            assert part is None
            return
        assert (part.rank, part.size, part.nodes) == ({3: 0, 1: 1, 0: 2}[comm.rank], 3, (3, 1, 0))
        total = np.zeros(1, np.int64)
        part.Allreduce(np.full(1, comm.rank), total)
        assert total[0] == 4
        part.Free()

    four.run(program)


def test_parts_work_while_the_whole_waits(four):
    def program(comm):
        part = comm.Split(comm.rank % 2, 0)
        again = comm.Dup()
        total, other, last = (np.zeros(2000, np.int64) for _ in range(3))
        requests = [comm.Iallreduce(np.full(2000, comm.rank), total)]
        if comm.rank % 2:
            requests.insert(0, part.Iallreduce(np.full(2000, comm.rank), other))
        else:
            requests.append(part.Iallreduce(np.full(2000, comm.rank), other))
        requests.append(again.Iallreduce(np.ones(2000, np.int64), last))
        wait_all(requests)
        assert (total == 6).all() and (other == (4 if comm.rank % 2 else 2)).all() and (last == 4).all()
        again.Free()
        part.Free()

    four.run(program)


def test_equal_tags_on_two_communicators_do_not_meet(four):
    def program(comm):
        again = comm.Dup()
        got = np.zeros(1, np.int32)
        if comm.rank == 0:
            comm.Send(np.full(1, 1, np.int32), 1, 8)
            again.Send(np.full(1, 2, np.int32), 1, 8)
        elif comm.rank == 1:
            again.Recv(got, 0, 8)
            assert got[0] == 2
            comm.Recv(got, 0, 8)
            assert got[0] == 1
        again.Free()

    four.run(program)


def test_what_an_engine_has_no_room_for_is_told_to_all(fresh):
    def program(comm):
        made = []
        with pytest.raises(UsageError, match="free one"):
            for _ in range(9):
                made.append(comm.Dup())
        for other in made:
            other.Free()
        assert comm.engine.free_slots == comm.engine.slots - comm.credits * comm.size
        comm.Dup().Free()
        return len(made)

    made = fresh(4).run(program)
    assert set(made) == {made[0]} and made[0] >= 3


def test_a_freed_communicator_is_not_used(four):
    def program(comm):
        part = comm.Dup()
        part.Free()
        with pytest.raises(UsageError, match="freed"):
            part.Barrier()
        with pytest.raises(UsageError, match="freed already"):
            part.Free()

    four.run(program)


# Loaded collectives


@collective(ALLREDUCE)
def backwards(c):
    """All send to rank 0, which reduces and sends to all, the last one first."""
    with c.when(c.rank == 0):
        c.copy(c.operand, c.result)
        with c.loop(1, c.size) as k:
            c.recv_reduce(c.minus(0, k), c.result, into=c.result)
        with c.loop(1, c.size) as k:
            c.sync(0)
            c.send(c.result, to=c.minus(0, k), tag=1)
    with c.otherwise():
        c.send(c.operand, to=0)
        c.recv(0, into=c.result, tag=1)


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_a_collective_is_loaded_into_running_engines(fresh, ranks):
    cluster = fresh(ranks)

    def program(comm):
        result = np.zeros(700, np.float32)
        comm.Allreduce(make(700, comm.rank), result)
        assert np.array_equal(result, reduced([make(700, rank) for rank in range(ranks)]))
        comm.load_collective(backwards)
        result[:] = 0
        comm.call("backwards", make(700, comm.rank), result, op=MAX)
        assert np.array_equal(result, reduced([make(700, rank) for rank in range(ranks)], MAX))

    cluster.run(program)


def test_a_loaded_collective_is_called_with_what_its_contract_says(fresh):
    cluster = fresh(2)
    assert cluster.load_collective(backwards, "mine") == "mine"
    comm = cluster.comms[0]
    with pytest.raises(UsageError, match="no collective 'yours': loaded are mine"):
        comm.Icall("yours")
    with pytest.raises(ValueError, match="mine: rank 0 needs operand of 4 elements, not 3"):
        comm.Icall("mine", np.zeros(3, np.int32), np.zeros(4, np.int32), count=4)


def test_a_program_that_does_not_hold_its_contract_is_not_loaded(fresh):
    @collective(ALLREDUCE)
    def forgets(c):
        """Sends, and nobody receives."""
        c.send(c.operand, to=c.right)

    with pytest.raises(ValueError, match="forgets"):
        fresh(2).load_collective(forgets)


# Errors


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda comm: comm.Send([1, 2], 1), TypeError, "Send: the send buffer must be a NumPy array"),
    (lambda comm: comm.Send(np.zeros(2, np.int8), 1), TypeError, "elements must be int32.*not int8"),
    (lambda comm: comm.Send(np.zeros(2, ">i4"), 1), TypeError, "elements must be int32"),
    (lambda comm: comm.Send(np.zeros((4, 4), np.int32)[:, 1], 1), ValueError, "C-contiguous"),
    (lambda comm: comm.Send(np.zeros(2, np.int32), 4), ValueError, "Send: dest must be a rank from 0 to 3, not 4"),
    (lambda comm: comm.Send(np.zeros(2, np.int32), 1, -1), ValueError, "tag must be 0 to 2147483647, not -1"),
    (lambda comm: comm.Send(np.zeros(2, np.int32), 1, wire="float16"), TypeError, "needs float32 elements, not int32"),
    (lambda comm: comm.Send(np.zeros(2, np.float32), 1, wire="bf16"), ValueError, "wire must be 'float16' or None"),
    (lambda comm: comm.Recv(np.broadcast_to(np.int32(1), (1,)), 1), ValueError, "must be writeable"),
    (lambda comm: comm.Allreduce(np.zeros(2, np.int32), np.zeros(3, np.int32)), ValueError, "2 and 3 elements"),
    (lambda comm: comm.Allreduce(np.zeros(2, np.int32), np.zeros(2, np.int64)), TypeError, "one type"),
    (lambda comm: comm.Allreduce(np.zeros(2, np.int32), np.zeros(2, np.int32), "sum"), ValueError, "SUM, MAX or MIN"),
    (lambda comm: comm.Allreduce(None, np.zeros(2, np.int32)), TypeError, "must give a buffer"),
    (lambda comm: comm.Allgather(np.zeros(2, np.int32), np.zeros(9, np.int32)), ValueError, "all 4 ranks.*not 9"),
    (lambda comm: comm.Gather(IN_PLACE, None, 1), ValueError, "IN_PLACE is only for"),
    (lambda comm: comm.Bcast(np.zeros(2, np.int32), 9), ValueError, "Bcast: root must be a rank from 0 to 3, not 9"),
    (lambda comm: comm.Reduce(np.zeros(2, np.int32), None), TypeError, "root must give a receive buffer"),
    (lambda comm: comm.Split(-3), ValueError, "color must not be negative"),
    (lambda comm: comm.Create_group([1, 2]), ValueError, "rank 0 is not among"),
    (lambda comm: comm.Create_group([0, 0]), ValueError, "different ones"),
])
def test_wrong_arguments_are_told_before_anything_is_sent(four, call, error, said):
    before = four.counters()[0][Counter.PACKETS_SENT]
    with pytest.raises(error, match=said):
        call(four.comms[0])
    assert four.counters()[0][Counter.PACKETS_SENT] == before


def test_buffers_that_overlap_are_refused(four):
    array = np.zeros(8, np.int32)
    with pytest.raises(ValueError, match="overlap: give IN_PLACE"):
        four.comms[0].Allreduce(array[:4], array[2:6])


@pytest.mark.parametrize("dead", range(4))
def test_a_dead_rank_is_an_error_on_every_survivor(fresh, dead):
    cluster = fresh(4, timeout=20_000)

    def program(comm):
        if comm.rank == dead:
            return "dead"
        comm.Allreduce(np.zeros(1000, np.float32), np.zeros(1000, np.float32))

    results = cluster.run(program, return_exceptions=True)
    assert results.pop(dead) == "dead"
    assert all(isinstance(result, CollectiveTimeout) for result in results)
    assert cluster.world.cycle < 200_000
    first = results[0]
    assert first.operation == "Allreduce" and first.status is CallStatus.TIMEOUT
    assert str(first).startswith(f"rank {first.rank} of 4: Allreduce of 1000 float32, SUM: ")
    assert any(f"from rank {dead} (node {dead})" in str(result) or f"rank {dead} (node {dead}) took" in str(result)
               for result in results)


def test_after_a_failure_the_communicator_is_broken_until_a_reset(fresh):
    cluster = fresh(2, timeout=5_000)
    comm = cluster.comms[0]
    with pytest.raises(CollectiveTimeout, match=r"no packet came from rank 1 \(node 1\) for 5000 cycles") as caught:
        comm.Recv(np.zeros(3, np.int32), 1)
    assert (caught.value.cause, caught.value.node, caught.value.rank) == (Cause.PACKET, 1, 0)
    assert caught.value.exit_code == 4
    with pytest.raises(CollectiveError, match="earlier call on this communicator failed"):
        comm.Send(np.zeros(3, np.int32), 1)
    cluster.reset()

    def program(comm):
        result = np.zeros(1, np.int32)
        comm.Allreduce(np.ones(1, np.int32), result)
        return int(result[0])

    assert cluster.run(program) == [2, 2]


def test_a_failure_leaves_other_communicators_alone(fresh):
    cluster = fresh(3, timeout=5_000)

    def program(comm):
        part = comm.Dup()
        if comm.rank == 0:
            with pytest.raises(CollectiveTimeout):
                part.Recv(np.zeros(3, np.int32), 1)
        else:
            comm.engine.world.wait(lambda: False, cycles=8_000)  # else this wait would be too long as well
        comm.Barrier()
        part.Free()
        if comm.rank == 0:
            comm.engine.world.wait(lambda: False, cycles=8_000)
        again = comm.Dup()
        again.Barrier()
        return True

    assert cluster.run(program) == [True] * 3


def test_a_message_that_is_too_long_is_an_error(fresh):
    def program(comm):
        if comm.rank == 0:
            comm.Send(np.zeros(5, np.int32), 1)
        else:
            with pytest.raises(CollectiveError, match="the message from rank 0.*is longer"):
                comm.Recv(np.zeros(4, np.int32), 0)

    fresh(2).run(program)


def test_a_wait_has_its_own_limit(fresh):
    cluster = fresh(2, timeout=0)
    request = cluster.comms[0].Irecv(np.zeros(4, np.int32), 1, 6)
    with pytest.raises(CollectiveTimeout, match="Recv of 4 int32 from rank 1, tag 6: it has not ended after 3000"):
        request.Wait(cycles=3000)
    assert cluster.devices[0].allocator.free_bytes == cluster.devices[1].allocator.free_bytes


def test_a_message_beyond_the_credits_waits_and_is_not_lost(fresh):
    cluster = fresh(2, slots=16, credits=2, timeout=50_000)

    def program(comm):
        if comm.rank == 0:
            comm.Send(np.arange(5000, dtype=np.int32), 1)
        else:
            comm.engine.world.wait(lambda: False, cycles=30_000)
            got = np.zeros(5000, np.int32)
            comm.Recv(got, 0)
            assert np.array_equal(got, np.arange(5000))

    cluster.run(program)
    assert cluster.counters()[1][Counter.NO_BUFFER] == 0


@pytest.mark.parametrize("credits", [1, 2, 3, 4])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_collectives_need_no_more_than_one_credit(fresh, ranks, credits):
    cluster = fresh(ranks, credits=credits, seed=credits)

    def program(comm):
        own, whole = [[make(count, rank, "int32") for rank in range(ranks)] for count in (700, 700 * ranks)]
        result, everything = np.zeros(700, np.int32), np.zeros(700 * ranks, np.int32)
        comm.Allreduce(own[comm.rank], result)
        assert np.array_equal(result, reduced(own, SUM))
        comm.Reduce_scatter_block(whole[comm.rank], result)
        assert np.array_equal(result, reduced(whole).reshape(ranks, -1)[comm.rank])
        comm.Allgather(own[comm.rank], everything)
        assert np.array_equal(everything, np.concatenate(own))
        comm.Alltoall(IN_PLACE, whole[comm.rank])

    cluster.run(program)


def test_all_credits_are_conserved(fresh):
    cluster = fresh(4)

    def program(comm):
        for count in (1, 300, 5000):
            comm.Allreduce(np.zeros(count, np.float32), np.zeros(count, np.float32))
            comm.Barrier()

    cluster.run(program)
    cluster.world.run(10_000, until_interrupt=False)
    receivers = [node.engine.receiver for node in cluster.world._joined._fabric.nodes]
    for number, receiver in enumerate(receivers):
        assert receiver.free_slots == 64
        for other, peer in enumerate(receivers):
            if number != other:
                held = peer.communicators[0].held[number]
                assert receiver.communicators[0].available[other] + held == cluster.comms[0].credits


def test_links_carry_exactly_the_least_bytes(clusters):
    from rackgate_host.collective.bounds import OPERATIONS
    from rackgate_host.collective.trial import Work, run_trial

    for ranks in (2, 4, 5):
        cluster = clusters.get("model", ranks, credits="all")
        for operation in OPERATIONS:
            work = Work(operation, 0 if operation == "barrier" else 4 * 5 * 300, np.dtype(np.float32))
            trial = run_trial(cluster, work)
            assert trial.is_right, operation
            assert trial.busiest_bytes == work.bound(ranks).bytes, (operation, ranks)


def test_ranks_of_one_program_take_turns_in_the_same_order_always(four):
    def trace():
        seen = []

        def program(comm):
            for _ in range(3):
                seen.append(comm.rank)
                comm.Barrier()

        four.run(program)
        return seen

    assert trace() == trace()
    with pytest.raises(ZeroDivisionError):
        four.run(lambda comm: 1 // comm.rank)


def in_order(scenario, operands, function, *, count, root=0):
    """What a shipped collective gives in the order that its author documents, and the bytes of the busiest port."""
    # For 8 bytes a cycle programs() has the sizes that the collectives have by default.
    outcome = schedule.run(COLLECTIVES[scenario], operands, function, count=count, root=root)
    return outcome.results


@pytest.mark.parametrize("count", [3, 40, 400])
@pytest.mark.parametrize("ranks", [2, 3, 4, 5, 8])
def test_floats_are_summed_in_the_documented_order(clusters, ranks, count):
    # Values of very different size: any other order gives other bits.
    whole = [np.random.default_rng(rank).standard_cauchy(count * ranks).astype(np.float32) for rank in range(ranks)]
    own = [array[:count] for array in whole]
    root = ranks - 1
    cluster = clusters.get("model", ranks)

    def program(comm):
        total, kept, part = (np.zeros(count, np.float32) for _ in range(3))
        comm.Allreduce(own[comm.rank], total)
        comm.Reduce(own[comm.rank], kept if comm.rank == root else None, root=root)
        comm.Reduce_scatter_block(whole[comm.rank], part)
        return total, kept, part

    got = cluster.run(program)
    for place, (scenario, operands) in enumerate([(Scenario.ALLREDUCE, own), (Scenario.REDUCE, own),
                                                  (Scenario.REDUCE_SCATTER, whole)]):
        wanted = in_order(scenario, [list(array) for array in operands], lambda a, b: a + b, count=count, root=root)
        for rank in range(ranks):
            if wanted[rank]:
                assert got[rank][place].tobytes() == np.array(wanted[rank], np.float32).tobytes(), (scenario, rank)
    assert all(np.array_equal(got[0][0], total) for total, _, _ in got)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_infinities_and_nans_go_through_reductions(clusters, dtype):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal],
                       dtype)
    cluster = clusters.get("model", 3)

    def program(comm):
        results = []
        for op in (SUM, MAX):
            result = np.zeros(7, dtype)
            comm.Allreduce(np.roll(special, comm.rank), result, op)
            results.append(result)
        return results

    first, *others = cluster.run(program)
    rolled = [np.roll(special, rank) for rank in range(3)]
    for result, op in zip(first, (Function.SUM, Function.MAX), strict=True):
        # Three ranks: rank 2 is folded into rank 0, which then meets rank 1.
        wanted = reduce(op, rolled[1], reduce(op, rolled[2], rolled[0]))
        assert result.tobytes() == wanted.tobytes()
    for other in others:
        assert all(one.tobytes() == same.tobytes() for one, same in zip(first, other, strict=True))
