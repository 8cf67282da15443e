# SPDX-License-Identifier: Apache-2.0
"""NetLock's switch as a model: queues, grants, recirculation, overflow."""

import random
from collections import deque

import pytest
from netlock_switch import SERVER_HOST, Bench, configure

from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame
from rackgate.net.hosts import TO_HOST
from rackgate.netlock.abi import PORT, SIZE, Flag, Message, Op
from rackgate.netlock.pipeline import bits_per_lock, pipeline
from rackgate.netlock.placement import Demand, place, uniform
from rackgate_sim.pisa.model import PipelineModel

S, X = 0, 1


def granted(left):
    """(client, task) of the grants, which must be all that leaves."""
    for host, to_client, message in left:
        assert (message.op, message.flags, host, to_client) == (Op.DIRECT_GRANT, 0, message.client, True), left
    return [(message.client, message.task) for _, _, message in left]


def test_exclusive_requests_wait_in_order():
    bench = Bench()
    assert granted(bench.acquire(X, 1, 10)) == [(1, 10)] and bench.passes == 1
    assert bench.acquire(X, 2, 20) == bench.acquire(X, 3, 30) == []
    assert granted(bench.release(X, 1, 10)) == [(2, 20)] and bench.passes == 2
    assert granted(bench.release(X, 2, 20)) == [(3, 30)]
    assert bench.release(X, 3, 30) == [] and bench.passes == 1
    assert bench.queued() == 0


def test_shared_requests_hold_together_and_do_not_pass_an_exclusive_one():
    bench = Bench(slots=6)
    assert granted(bench.acquire(S, 1)) == [(1, 0)] and granted(bench.acquire(S, 2)) == [(2, 0)]
    assert bench.acquire(X, 3) == bench.acquire(S, 4) == bench.acquire(S, 1, 5) == []
    assert bench.release(S, 1) == [] and bench.passes == 1
    assert granted(bench.release(S, 2)) == [(3, 0)]
    assert granted(bench.release(X, 3)) == [(4, 0), (1, 5)] and bench.passes == 3
    assert granted(bench.acquire(S, 2, 6)) == [(2, 6)]


def test_the_run_of_shared_grants_ends_before_the_next_exclusive_request():
    bench = Bench(slots=6)
    bench.acquire(X, 1)
    for mode, client in ((S, 2), (S, 3), (X, 4), (S, 1)):
        assert bench.acquire(mode, client, 7) == []
    assert granted(bench.release(X, 1)) == [(2, 7), (3, 7)] and bench.passes == 4
    assert bench.release(S, 3, 7) == []
    assert granted(bench.release(S, 2, 7)) == [(4, 7)]
    assert granted(bench.release(X, 4, 7)) == [(1, 7)]


def test_a_grant_tells_the_request_it_answers():
    bench = Bench()
    bench.acquire(X, 1)
    bench.acquire(S, 2, 0xDEADBEEF, timestamp=0x0123456789ABCDEF)
    (_, _, message), = bench.release(X, 1)
    assert message == Message(Op.DIRECT_GRANT, S, 2, 0xDEADBEEF, 0, 0x0123456789ABCDEF, 0)


def test_what_finds_no_slot_goes_to_the_server_and_comes_back():
    bench = Bench(slots=2)
    bench.acquire(X, 1, 1)
    bench.acquire(X, 2, 2)
    sent = [bench.acquire(X, client, 3) for client in (3, 4)]
    assert sent == [[(SERVER_HOST, False, Message(Op.ACQUIRE, X, client, 3, 0, 0, Flag.OVERFLOW))] for client in (3, 4)]
    assert granted(bench.release(X, 1, 1)) == [(2, 2)]
    (_, _, kept), = bench.acquire(S, 1, 4)
    assert kept.flags == Flag.OVERFLOW, "a slot is free, but others came before"
    assert bench.release(X, 2, 2) == [
        (SERVER_HOST, False, Message(Op.RELEASE, X, 2, 2, 0, 3, Flag.OVERFLOW | Flag.EMPTY))]
    assert granted(bench.send(Op.PUSH_BACK, X, 3, 3)) == [(3, 3)]
    assert bench.send(Op.PUSH_BACK, X, 4, 3) == []
    assert granted(bench.release(X, 3, 3)) == [(4, 3)]
    assert bench.release(X, 4, 3)[0][2].timestamp == 1
    assert granted(bench.send(Op.PUSH_BACK, S, 1, 4)) == [(1, 4)]
    assert bench.read("spaces") == {"empty": 1, "server": 0}
    assert granted(bench.acquire(S, 2, 9)) == [(2, 9)], "nothing overflows any more"


def test_a_lock_that_is_closed_to_newcomers_serves_them_through_the_server():
    bench = Bench()
    bench.switch.model.write("bounds", 0, shrink=1)
    (host, _, message), = bench.acquire(X, 1)
    assert (host, message.flags) == (SERVER_HOST, Flag.OVERFLOW | Flag.EMPTY)
    (host, _, message), = bench.acquire(X, 2)
    assert (host, message.flags) == (SERVER_HOST, Flag.OVERFLOW), "one is on its way already"
    assert granted(bench.send(Op.PUSH_BACK, X, 1)) == [(1, 0)]


def test_locks_that_the_switch_has_not_are_the_servers():
    bench = Bench()
    for op in (Op.ACQUIRE, Op.RELEASE):
        assert bench.send(op, X, 1, 5, lock=77) == [(SERVER_HOST, False, Message(op, X, 1, 5, 77))]
    assert bench.send(Op.PUSH_BACK, X, 1, 5, lock=77) == [(SERVER_HOST, False, Message(Op.ACQUIRE, X, 1, 5, 77))]


@pytest.mark.parametrize("op", [Op.GRANT_FROM_SERVER, Op.REJECT, Op.DIRECT_GRANT, 6, 255])
def test_other_operations_do_nothing(op):
    bench = Bench()
    before = {name: dict(words) for name, words in bench.switch.model.registers.items()}
    assert bench.send(op, X, 1) == bench.send(op, X, 1, lock=77) == []
    assert bench.switch.model.registers == before


def test_releases_and_push_backs_that_must_not_be():
    bench = Bench(slots=1)
    assert bench.release(X, 1) == bench.release(S, 1) == []
    assert bench.read("counts") == {"shared": 0, "exclusive": 0, "granting": 0} and bench.queued() == 0
    bench.acquire(X, 1)
    (host, _, message), = bench.send(Op.PUSH_BACK, S, 2)
    assert (host, message.op, message.flags) == (SERVER_HOST, Op.ACQUIRE, Flag.OVERFLOW)
    assert bench.release(S, 3) == [], "counted off by what was in the queue"
    assert bench.read("counts") == {"shared": 0, "exclusive": 0, "granting": 0}


def test_short_messages_do_not_enter():
    assert Bench().switch.enter(bytes(SIZE - 1), PORT) is None
    assert Message.unpack(bytes(SIZE - 1)) is None


def test_slices_of_different_sizes():
    bench = Bench(locks=3, slots=2)
    bench.switch.model.tables["locks"].clear()
    slices = place([Demand(5, 90.0, 4), Demand(6, 10.0, 1), Demand(7, 8.0, 4)], 3, 6)
    assert [(one.lock, one.left, one.right) for one in slices] == [(5, 0, 3), (6, 4, 4), (7, 5, 5)]
    configure(bench.switch.model, slices)
    bench.acquire(X, 1, lock=5)
    for wave in range(5):  # round the ring more than once
        for client in (2, 3, 4):
            assert bench.acquire(X, client, wave, lock=5) == []
        for before, after in (((1, wave), (2, wave)), ((2, wave), (3, wave)), ((3, wave), (4, wave))):
            assert granted(bench.release(X, *before, lock=5)) == [after]
        bench.acquire(X, 1, wave + 1, lock=5)
        assert granted(bench.release(X, 4, wave, lock=5)) == [(1, wave + 1)]
    assert len(place([Demand(k, 1.0, 1) for k in range(9)], 4, 100)) == 4


def test_random_traffic_matches_a_queue(seed):
    """FIFO, compatibility, conservation: everything that was queued is granted, in its order, and nothing else."""
    chance, bench, slots = random.Random(seed), Bench(locks=2, slots=5), 5
    for index in (0, 1):
        holders, waiting, kept, task = [], deque(), deque(), 0
        enqueued = grants = 0

        def expected(holders=holders, waiting=waiting):
            out = []
            while waiting and (not holders or not (waiting[0][0] or holders[0][0])):
                holders.append(waiting.popleft())
                out.append(holders[-1][1:])
            return out

        for _ in range(4000):
            if chance.random() < 0.5:
                request = chance.randrange(2), chance.randrange(1, 5), (task := task + 1)
                left = bench.acquire(*request, lock=index)
                if kept or len(holders) + len(waiting) == slots:
                    kept.append(request)
                    assert [one[2].flags for one in left] == [Flag.OVERFLOW]
                    continue
                enqueued += 1
                waiting.append(request)
                now = expected()
            elif holders:
                request = holders.pop(chance.randrange(len(holders)))
                left = bench.release(*request, lock=index)
                now = expected()
                if kept and not holders:
                    (_, _, notice), = left
                    assert (notice.task, notice.timestamp) == (slots, len(kept))
                    left = []
                    for _ in range(min(slots, len(kept))):
                        waiting.append(kept.popleft())
                        left += bench.send(Op.PUSH_BACK, *waiting[-1], lock=index)
                        now += expected()
                        enqueued += 1
            else:
                continue
            assert granted(left) == now
            grants += len(now)
            assert enqueued == grants + len(waiting) and bench.queued(index) == len(holders) + len(waiting)
            shared = [one for one in holders if one[0] == S]
            assert bench.read("counts", index)["shared"] == len(shared)


def test_frames_go_in_and_out():
    model = PipelineModel(pipeline(locks=2, slots=2))
    configure(model, uniform([40], 2))
    model.tables["hosts"].insert(3, TO_HOST, mac=0x33, address=0x0A000003, server_port=1003, client_port=2003)
    switch, host = Endpoint(0xAA, 0x0A0000FE, PORT), Endpoint(0x33, 0x0A000003, 2003)
    (_, frame), = model.process(udp_frame(host, switch, Message(Op.ACQUIRE, X, 3, 5, 40).pack()))
    source, target, data = split_udp_frame(frame)
    assert (source, target, Message.unpack(data)) == (switch, host, Message(Op.DIRECT_GRANT, X, 3, 5, 40))
    assert model.process(udp_frame(host, switch._replace(port=PORT + 1), data)) == []


def test_bits_of_a_lock():
    for slots in (1, 4, 8):
        assert bits_per_lock(pipeline(locks=16, slots=slots)) == 257 + 144 * slots


@pytest.mark.parametrize(("parameters", "error", "text"), [
    ({"locks": 0}, ValueError, "locks must be 1 to 131072, not 0"),
    ({"slots": 1 << 18}, ValueError, "slots must be 1 to 131072, not 262144"),
    ({"locks": 1.5}, TypeError, "integer"),
])
def test_parameters_are_checked(parameters, error, text):
    with pytest.raises(error, match=text):
        pipeline(**parameters)
