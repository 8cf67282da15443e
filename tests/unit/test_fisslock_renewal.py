# SPDX-License-Identifier: Apache-2.0
"""Renewal of epochs in the hardened protocol: readers that overlap without a gap, a count that is full."""

import pytest
from fisslock_world import World

from rackgate.fisslock.abi import Flag, Message, Mode, State, Type
from rackgate.fisslock.effects import Granted, Refused, Why
from rackgate.fisslock.record import Role

S, X = Mode.SHARED, Mode.EXCLUSIVE
SHARED, WRITER = State.SHARED, State.SHARED_WRITER
#: The largest count of an 18-bit word.
FULL = 7


def full(**options):
    """Task 0 of host 1 holds, and as many of host 2 as the switch has numbers."""
    world = World(word=18, **options)
    world.do(1, "acquire", 0, 0, S)
    for task in range(1, FULL + 1):
        assert world.do(2, "acquire", 0, task, S) == [(2, Granted(0, task, S, 1))]
    assert world.word() == (SHARED, 1, FULL, 1)
    return world


def kinds(world, since=0):
    return [Type(item.type) for item in world.sent[since:]]


def release_all(world, *tasks):
    for host, task in tasks:
        assert world.do(host, "release", 0, task) == []


def test_a_full_count_is_renewed():
    """The reader who finds the count full is granted by the agent; those after him by the switch again."""
    world = full()
    before = len(world.sent)
    assert world.do(2, "acquire", 0, 8, S) == [(2, Granted(0, 8, S, 1))]
    assert kinds(world, before) == [Type.ACQUIRE, Type.GRANT_WO_AGENT, Type.RENEW]
    assert world.word() == (SHARED, 1, 0, 2) and world.hosts[1].renewals == 1
    before = len(world.sent)
    assert world.do(3, "acquire", 0, 9, S) == [(3, Granted(0, 9, S, 2))]
    assert kinds(world, before) == [Type.ACQUIRE] and world.word() == (SHARED, 1, 1, 2)
    release_all(world, (1, 0), (3, 9), *((2, task) for task in range(1, 8)))
    assert world.word()[0] == SHARED, "one is left, whom the agent granted before the renewal"
    release_all(world, (2, 8))
    assert world.is_over() and world.word() == (State.FREE, 0, 0, 2)


def test_a_writer_waits_for_the_holders_of_all_epochs():
    world = full()
    world.do(2, "acquire", 0, 8, S)
    world.do(3, "acquire", 0, 9, S)
    assert world.do(3, "acquire", 0, 10, X) == [] and world.word() == (WRITER, 1, 1, 2)
    assert world.do(2, "acquire", 0, 11, S) == []
    release_all(world, (3, 9), (1, 0), *((2, task) for task in range(2, 9)))
    assert world.do(2, "release", 0, 1) == [(3, Granted(0, 10, X, 3))], "a larger token than any reader's"
    assert world.do(3, "release", 0, 10) == [(2, Granted(0, 11, S, 4))]
    release_all(world, (2, 11))
    assert world.is_over()


def test_nothing_is_renewed_while_a_writer_waits():
    world = full()
    world.do(3, "acquire", 0, 9, X)
    before = len(world.sent)
    for task in range(20, 40):
        assert world.do(2, "acquire", 0, task, S) == []
    assert Type.RENEW not in kinds(world, before) and world.word() == (WRITER, 1, FULL, 1)


def test_a_writer_that_gives_up_opens_the_lock_again():
    """The switch keeps readers out on his account until somebody asks; the count is below its largest."""
    world = World(word=18)
    world.do(1, "acquire", 0, 0, S)
    world.do(2, "acquire", 0, 1, S)
    world.do(3, "acquire", 0, 2, X)
    assert world.do(3, "cancel", 0, 2) == [(3, Refused(0, 2, Why.CANCELLED))]
    assert world.word() == (WRITER, 1, 1, 1)
    before = len(world.sent)
    assert world.do(2, "acquire", 0, 3, S) == [(2, Granted(0, 3, S, 1))]
    assert world.word() == (WRITER, 1, 0, 2), "the count might be full: who waits is not passed"
    assert world.do(2, "acquire", 0, 4, S) == [(2, Granted(0, 4, S, 2))]
    assert [item.flags for item in world.sent[before:] if item.type == Type.RENEW] == [0, Flag.CANCEL]
    assert world.word() == (SHARED, 1, 0, 3)
    before = len(world.sent)
    assert world.do(3, "acquire", 0, 5, S) == [(3, Granted(0, 5, S, 3))] and kinds(world, before) == [Type.ACQUIRE]


def test_a_writer_on_its_way_is_not_passed_by_a_renewal():
    """It reaches the switch before the RENEW, and the agent after."""
    world = full()
    world.lose = lambda message: message.type == Type.RENEW
    world.do(2, "acquire", 0, 8, S)
    world.lose = lambda message: False
    assert world.do(3, "acquire", 0, 9, X) == []
    world.run(1.0)
    assert world.word() == (WRITER, 1, 0, 2) and world.do(2, "acquire", 0, 10, S) == []


@pytest.mark.parametrize("kind", [Type.RENEW, Type.ACK])
def test_a_lost_renewal_is_repeated(kind):
    world = full()
    lost = []

    def lose(message):
        lost.extend([message] if message.type == kind and not lost else [])
        return lost == [message]

    world.lose = lose
    world.do(2, "acquire", 0, 8, S)
    assert lost and world.hosts[1].records[0].closing
    assert world.do(2, "acquire", 0, 9, S) == [(2, Granted(0, 9, S, 2 if kind == Type.ACK else 1))]
    world.lose = lambda message: False
    world.run(1.0)
    assert world.word()[3] == 2 and world.hosts[1].records[0].closing is None
    assert world.hosts[1].records[0].epoch == 2 and world.hosts[1].renewals == 1
    release_all(world, (1, 0), *((2, task) for task in range(1, 10)))
    assert world.is_over()


def test_an_answer_that_comes_twice_changes_nothing():
    world = full()
    world.do(2, "acquire", 0, 8, S)
    world.do(3, "acquire", 0, 9, S)
    before = world.hosts[1].freeze()
    answer = Message(Type.ACK, 0, FULL, 0, 1, 0, 1, 2)
    world.hosts[1].receive(answer.to_bytes(), True, 0.0)
    assert world.hosts[1].freeze() == before and world.hosts[1].ignored == 1


def test_grants_of_the_next_epoch_wait_for_the_answer():
    """Notification and RELEASE of a reader of the new epoch are there before the ACK of the RENEW."""
    world = full()
    world.lose = lambda message: message.type == Type.ACK
    world.do(2, "acquire", 0, 8, S)
    world.do(3, "acquire", 0, 9, S)
    world.do(3, "acquire", 0, 10, S)
    release_all(world, (3, 9))
    agent = world.hosts[1].records[0]
    assert (agent.epoch, agent.seen) == (1, (1 << FULL) - 1) and len(agent.early) == 3
    release_all(world, (1, 0), *((2, task) for task in range(1, 9)))
    assert agent.role == Role.OPEN and world.word() == (SHARED, 1, 2, 2), "it cannot end an epoch that is over"
    world.lose = lambda message: False
    world.run(0.1)
    assert (agent.epoch, agent.seen, set(agent.holders)) == (2, 0b11, {(3, 10)})
    release_all(world, (3, 10))
    assert world.is_over()


def test_a_lost_release_of_an_earlier_epoch_is_asked_for():
    world = full()
    world.do(2, "acquire", 0, 8, S)
    world.lose = lambda message: message.type == Type.RELEASE
    release_all(world, (2, 1))
    world.lose = lambda message: False
    release_all(world, (1, 0))
    before = len(world.sent)
    world.run(1.0)
    asked = [item for item in world.sent[before:] if item.type == Type.QUERY]
    assert asked and {(item.machine_id, item.epoch, item.flags) for item in asked} == {(2, 2, 0)}
    reports = [item for item in world.sent[before:] if item.type == Type.REPORT]
    assert {entry.host for item in reports for entry in item.entries} == {0}, "numbers of another epoch say nothing"
    assert len(world.hosts[1].records[0].holders) == FULL
    release_all(world, *((2, task) for task in range(2, 9)))
    assert world.is_over()


def test_a_grant_that_is_not_accounted_for_puts_the_renewal_off():
    """Notification and grant of the last number are lost: the RENEW is refused, all hosts are asked, it is repeated."""
    world = World(word=18)
    world.do(1, "acquire", 0, 0, S)
    for task in range(1, FULL):
        world.do(2, "acquire", 0, task, S)
    world.lose = lambda message: message.count == FULL and message.type in (Type.ACQUIRE, Type.GRANT_WO_AGENT)
    world.call(3, "acquire", 0, 7, S)
    world.call(3, "cancel", 0, 7)
    world.settle()
    world.lose = lambda message: False
    before = len(world.sent)
    world.do(2, "acquire", 0, 8, S)
    assert world.word() == (SHARED, 1, FULL, 1) and world.hosts[1].records[0].gap
    world.run(0.5)
    assert world.word() == (SHARED, 1, 0, 2) and len(world.hosts[1].records[0].holders) == FULL + 1
    assert kinds(world, before).count(Type.RENEW) == 2
    asked = {item.machine_id for item in world.sent[before:] if item.type == Type.QUERY and item.flags & Flag.VOID}
    assert asked == {2, 3}


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_holder_outlasts_so_many_renewals_only(most):
    """Its RELEASE must not meet its epoch's number again."""
    world = World(word=18, most_renewals=most)
    world.do(1, "acquire", 0, 0, S)
    tasks = iter(range(1, 10_000))
    for _ in range(8 * (FULL + 1)):
        task = next(tasks)
        assert len(world.do(2, "acquire", 0, task, S)) == 1
        release_all(world, (2, task))
    assert world.hosts[1].renewals == most and world.word() == (SHARED, 1, FULL, 1 + most)
    if most:
        world.do(2, "acquire", 0, 20_000, S)
        release_all(world, (1, 0))
        assert world.hosts[1].renewals == most + 1, "all who held before are gone"


def test_requests_that_come_late_are_handed_back_in_all_epochs_of_an_agentship():
    world = full()
    world.do(2, "acquire", 0, 8, S)
    release_all(world, (1, 0), *((2, task) for task in range(1, 9)))
    assert world.is_over() and world.hosts[1].idle
    world.hosts[1].receive(Message(Type.ACQUIRE, X, 0, 0, 1, 3, 1, 5, 5).to_bytes(), False, 0.0)
    world.gather(1)
    assert kinds(world)[-1] == Type.ACQUIRE and world.sent[-1].flags == X | Flag.RETRY


def test_frozen_and_thawed():
    world = full()
    for task in range(8, 8 + 2 * FULL):
        world.do(2, "acquire", 0, task, S)
    world.lose = lambda message: message.type == Type.ACK
    for task in range(40, 45):
        world.do(3, "acquire", 0, task, S)
    agent = world.hosts[1].records[0]
    assert agent.renewals == 2 and agent.elders and agent.early and agent.closing
    for host in world.hosts.values():
        frozen = host.freeze()
        host.thaw(frozen)
        assert host.freeze() == frozen and hash(frozen) == hash(host.freeze())


def test_an_epoch_that_comes_again_costs_time_only():
    """After 128 epochs a host takes a grant that it does not want for an old one: the lock stays held by nobody."""
    world = World(word=18)
    world.do(1, "acquire", 0, 0, S)
    release_all(world, (1, 0))
    for task in range(127):
        assert len(world.do(2, "acquire", 0, task, X)) == 1
        release_all(world, (2, task))
    world.call(1, "acquire", 0, 1, X)
    world.call(1, "cancel", 0, 1)
    world.settle()
    world.told.clear()
    assert world.word() == (State.EXCLUSIVE, 1, 0, 1) and world.hosts[1].idle
    assert world.do(3, "acquire", 0, 2, X) == [(3, Granted(0, 2, X, 2))]
    release_all(world, (3, 2))
    assert world.is_over()
