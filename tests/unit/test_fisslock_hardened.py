# SPDX-License-Identifier: Apache-2.0
"""The hardened lock switch row by row, and its hosts in the cases that have to be seen one by one."""

import random

import pytest
from fisslock_world import HOSTS, World

from rackgate.fisslock.abi import (
    AGENT_PORT,
    WORD_FORMATS,
    Entry,
    FaithfulMessage,
    Flag,
    Listed,
    Message,
    Mode,
    State,
    Type,
    Waiter,
    WordFormat,
)
from rackgate.fisslock.effects import Granted, Refused, Why
from rackgate.fisslock.hardened import lock, pipeline
from rackgate.fisslock.participant import HardenedParticipant
from rackgate.fisslock.record import Record, Role, is_newer
from rackgate_sim.locks.messages import MessageSwitch

S, X = Mode.SHARED, Mode.EXCLUSIVE


# Messages


def test_messages_survive_the_wire(seed):
    rng = random.Random(seed)
    for _ in range(200):
        entries = tuple(Entry(rng.getrandbits(1), rng.getrandbits(8), rng.getrandbits(32), rng.getrandbits(32))
                        for _ in range(rng.choice([0, 0, 1, 5, Entry.MOST])))
        message = Message(rng.getrandbits(8), rng.getrandbits(8), rng.getrandbits(8), rng.getrandbits(32),
                          rng.getrandbits(32), rng.getrandbits(8), rng.getrandbits(8), rng.getrandbits(32),
                          rng.getrandbits(32), entries)
        content = message.to_bytes()
        assert len(content) == 24 + 10 * len(entries) <= 1472
        assert Message.from_bytes(content) == message == Message.from_bytes(content + b"padding")
        queue = tuple(Waiter(rng.getrandbits(2), rng.getrandbits(30), rng.getrandbits(8)) for _ in range(4))
        faithful = FaithfulMessage(*(rng.getrandbits(width) for width in (8, 1, 1, 1, 1, 1, 32, 8, 32, 8, 8)), queue)
        assert FaithfulMessage.from_bytes(faithful.to_bytes()) == faithful
        assert len(faithful.to_bytes()) == 17 + 5 * 4


def test_the_header_is_the_pipeline_s():
    message = Message(Type.TRANSFER, Flag.WRITER | Flag.EXCLUSIVE, 3, 0x01020304, 0x05060708, 9, 10, 0x0B0C0D0E,
                      0x0F101112, (Entry(1, 2, 3, 4),))
    switch = MessageSwitch(pipeline(1), lock, HOSTS)
    vector = switch.enter(message.to_bytes(), AGENT_PORT).vector
    found = {name: switch.model.get(vector, item) for name, item in lock.fields.items()}
    assert found == {"version": 2, "type": 5, "void": 0, "granted": 0, "transferred": 0, "retry": 0, "no_wait": 0,
                     "writer": 1, "cancel": 0, "exclusive": 1, "count": 3, "id": 0x01020304, "epoch": 0x05060708,
                     "machine_id": 9, "agent": 10, "waiters": 1, "task_id": 0x0B0C0D0E, "attempt": 0x0F101112}


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Message.from_bytes(bytes(23)), "24 bytes, not 23"),
    (lambda: Message.from_bytes(bytes(24)), "version of a lock header must be 2, not 0"),
    (lambda: Message.from_bytes(Message(1, entries=(Entry(0, 0, 0, 0),)).to_bytes()[:-1]), "need 10 bytes, not 9"),
    (lambda: Message(1, entries=(Entry(0, 0, 0, 0),) * 145).to_bytes(), "room for 144 entries, not 145"),
    (lambda: FaithfulMessage.from_bytes(bytes(16)), "17 bytes, not 16"),
    (lambda: FaithfulMessage.from_bytes(FaithfulMessage(1, queue=(Waiter(0, 0, 0),)).to_bytes()[:-1]), "not 4"),
    (lambda: FaithfulMessage(1, queue=(Waiter(0, 0, 0),) * 292).to_bytes(), "room for 291 waiters, not 292"),
    (lambda: pipeline(0), "locks must be 1 to 2"),
    (lambda: pipeline(word=20), "word must be one of 18, 36, not 20"),
    (lambda: pipeline(word=WordFormat(2, 9, 1, 1)), "word must have 2 bits of state"),
    (lambda: HardenedParticipant(0, HOSTS), "hosts must be 1 to 255, not 0"),
    (lambda: HardenedParticipant(1, HOSTS, timeout=0), "timeout must be positive"),
    (lambda: HardenedParticipant(1, HOSTS, timeout=2, longest=1), "timeout must be positive and at most longest"),
    (lambda: HardenedParticipant(1, HOSTS, retries=0), "retries must be at least 1"),
    (lambda: HardenedParticipant(1, HOSTS, most_waiters=0), "most_waiters must be at least 1"),
    (lambda: HardenedParticipant(1, HOSTS, most_renewals=-1), "most_renewals must be at least 0, not -1"),
    (lambda: HardenedParticipant(1, HOSTS, first_attempt=0), "first_attempt must be 1 to"),
    (lambda: HardenedParticipant(1, HOSTS).acquire(1 << 32, 1, S, 0.0), "lock must fit 32 bits"),
    (lambda: HardenedParticipant(1, HOSTS).release(1, 1, 0.0), "task 1 does not hold lock 1"),
    (lambda: HardenedParticipant(1, HOSTS).cancel(1, 1, 0.0), "task 1 does not wait for lock 1"),
])
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# The switch


FREE, SHARED, WRITER, EXCLUSIVE = State.FREE, State.SHARED, State.SHARED_WRITER, State.EXCLUSIVE
ROWS = [
    # word before (state, agent, count, epoch), message, word after, what leaves (host, to clients, type, fields)
    ((FREE, 0, 0, 4), Message(1, 0), (SHARED, 1, 0, 5), [(1, True, 2, {"epoch": 5, "agent": 1, "count": 0})]),
    ((FREE, 0, 0, 4), Message(1, 1), (EXCLUSIVE, 1, 0, 5), [(1, True, 2, {"epoch": 5, "flags": 1})]),
    ((FREE, 0, 0, 4), Message(1, Flag.RETRY), (SHARED, 1, 0, 5), [(1, True, 2, {"epoch": 5})]),
    ((SHARED, 2, 1, 4), Message(1, 0), (SHARED, 2, 2, 4),
     [(1, True, 3, {"epoch": 4, "agent": 2, "count": 2}), (2, False, 1, {"flags": Flag.GRANTED, "count": 2})]),
    ((SHARED, 2, 7, 4), Message(1, 0), (SHARED, 2, 7, 4), [(2, False, 1, {"flags": 0, "count": 0, "epoch": 4})]),
    ((SHARED, 2, 1, 4), Message(1, Flag.RETRY), (SHARED, 2, 1, 4), [(2, False, 1, {"flags": Flag.RETRY})]),
    ((SHARED, 2, 1, 4), Message(1, 1), (WRITER, 2, 1, 4), [(2, False, 1, {"flags": 1, "epoch": 4})]),
    ((SHARED, 2, 1, 4), Message(1, 1 | Flag.TRY), (SHARED, 2, 1, 4), [(2, False, 1, {"flags": 1 | Flag.TRY})]),
    ((WRITER, 2, 1, 4), Message(1, 0), (WRITER, 2, 1, 4), [(2, False, 1, {"flags": 0})]),
    ((EXCLUSIVE, 2, 0, 4), Message(1, 0), (EXCLUSIVE, 2, 0, 4), [(2, False, 1, {"flags": 0})]),
    ((EXCLUSIVE, 2, 0, 4), Message(1, 1), (EXCLUSIVE, 2, 0, 4), [(2, False, 1, {"flags": 1})]),
    ((SHARED, 2, 1, 4), Message(4, count=1, epoch=4), (SHARED, 2, 1, 4), [(2, False, 4, {"count": 1, "epoch": 4})]),
    ((SHARED, 2, 1, 4), Message(4, count=1, epoch=3), (SHARED, 2, 1, 4), [(2, False, 4, {"count": 0, "epoch": 4})]),
    ((SHARED, 2, 1, 4), Message(4, Flag.CANCEL), (SHARED, 2, 1, 4), [(2, False, 4, {"epoch": 4})]),
    ((FREE, 0, 0, 4), Message(4, Flag.CANCEL, epoch=4), (FREE, 0, 0, 4), []),
    ((SHARED, 2, 1, 4), Message(6, count=1, epoch=4, agent=2), (FREE, 0, 0, 4), [(2, True, 9, {"epoch": 4})]),
    ((SHARED, 2, 2, 4), Message(6, count=1, epoch=4, agent=2), (SHARED, 2, 2, 4), [(2, True, 10, {"count": 2})]),
    ((SHARED, 2, 1, 4), Message(6, count=1, epoch=3, agent=2), (SHARED, 2, 1, 4), [(2, True, 9, {"epoch": 3})]),
    ((SHARED, 2, 1, 4), Message(6, count=1, epoch=4, agent=3), (SHARED, 2, 1, 4), [(3, True, 9, {})]),
    ((FREE, 0, 0, 4), Message(6, count=0, epoch=4, agent=0), (FREE, 0, 0, 4), []),
    ((EXCLUSIVE, 2, 0, 4), Message(5, 1, epoch=4, agent=2, entries=(Entry(1, 3, 7, 8),)), (EXCLUSIVE, 1, 0, 5),
     [(1, True, 2, {"epoch": 5, "agent": 1, "flags": 1 | Flag.TRANSFERRED, "entries": (Entry(1, 3, 7, 8),)}),
      (2, True, 9, {"epoch": 4, "entries": ()})]),
    ((SHARED, 2, 3, 4), Message(5, 0, 3, epoch=4, agent=2), (SHARED, 1, 0, 5),
     [(1, True, 2, {"count": 0}), (2, True, 9, {})]),
    ((SHARED, 2, 3, 4), Message(5, Flag.WRITER, 3, epoch=4, agent=2), (WRITER, 1, 0, 5),
     [(1, True, 2, {}), (2, True, 9, {})]),
    ((SHARED, 2, 3, 4), Message(5, 0, 2, epoch=4, agent=2), (SHARED, 2, 3, 4), [(2, True, 10, {"count": 3})]),
    ((EXCLUSIVE, 2, 0, 127), Message(5, 1, epoch=127, agent=2), (EXCLUSIVE, 1, 0, 0),
     [(1, True, 2, {"epoch": 0}), (2, True, 9, {})]),
    ((SHARED, 2, 7, 4), Message(15, count=7, epoch=4, agent=2), (SHARED, 2, 0, 5), [(2, True, 9, {"epoch": 4})]),
    ((SHARED, 2, 0, 127), Message(15, epoch=127, agent=2), (SHARED, 2, 0, 0), [(2, True, 9, {"epoch": 127})]),
    ((WRITER, 2, 7, 4), Message(15, count=7, epoch=4, agent=2), (WRITER, 2, 0, 5), [(2, True, 9, {})]),
    ((WRITER, 2, 0, 4), Message(15, Flag.CANCEL, epoch=4, agent=2), (SHARED, 2, 0, 5), [(2, True, 9, {})]),
    ((WRITER, 2, 1, 4), Message(15, Flag.CANCEL, epoch=4, agent=2), (WRITER, 2, 1, 4), [(2, True, 10, {"count": 1})]),
    ((EXCLUSIVE, 2, 0, 4), Message(15, Flag.CANCEL, epoch=4, agent=2), (EXCLUSIVE, 2, 0, 5), [(2, True, 9, {})]),
    ((SHARED, 2, 7, 4), Message(15, count=6, epoch=4, agent=2), (SHARED, 2, 7, 4), [(2, True, 10, {"count": 7})]),
    ((SHARED, 2, 0, 5), Message(15, count=7, epoch=4, agent=2), (SHARED, 2, 0, 5), [(2, True, 9, {"epoch": 4})]),
    ((SHARED, 2, 7, 4), Message(15, count=7, epoch=4, agent=3), (SHARED, 2, 7, 4), [(3, True, 9, {})]),
    ((FREE, 0, 0, 4), Message(15, epoch=4, agent=2), (FREE, 0, 0, 4), [(2, True, 9, {})]),
    ((FREE, 0, 0, 4), Message(3), (FREE, 0, 0, 4), [(1, True, 3, {})]),
    ((FREE, 0, 0, 4), Message(11), (FREE, 0, 0, 4), [(1, True, 11, {})]),
    ((FREE, 0, 0, 4), Message(12), (FREE, 0, 0, 4), [(1, True, 12, {})]),
    ((FREE, 0, 0, 4), Message(13), (FREE, 0, 0, 4), [(1, False, 13, {})]),
    ((FREE, 0, 0, 4), Message(14, entries=(Entry(0, 0, 1, 1),)), (FREE, 0, 0, 4),
     [(1, False, 14, {"entries": (Entry(0, 0, 1, 1),)})]),
    *[((FREE, 0, 0, 4), Message(kind), (FREE, 0, 0, 4), []) for kind in (0, 2, 7, 8, 9, 10, 16, 255)],
    ((FREE, 0, 0, 4), Message(1, lock=5), (FREE, 0, 0, 4), []),
]


@pytest.mark.parametrize("place", range(len(ROWS)))
def test_the_switch_by_rows(place):
    before, message, after, leaves = ROWS[place]
    switch = MessageSwitch(pipeline(4, 18), lock, HOSTS)
    names = ("state", "agent", "count", "epoch")
    switch.model.write("locks", 0, **dict(zip(names, before, strict=True)))
    left = switch.send(message._replace(machine_id=1, task_id=77, attempt=88).to_bytes(), AGENT_PORT)
    assert tuple(switch.model.read("locks", 0).values()) == after
    assert len(left) == len(leaves)
    for item, (host, to_client, kind, fields) in zip(left, leaves, strict=True):
        found = Message.from_bytes(item.message)
        task = after[3] if kind == Type.ACK else 77
        assert (item.host, item.to_client, found.type, found.task_id, found.attempt) == (
            host, to_client, kind, task, 88)
        assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize("number", [0, 64, 65, 255])
@pytest.mark.parametrize("kind", [Type.ACQUIRE, Type.TRANSFER])
def test_hosts_that_the_word_has_no_room_for_are_dropped(kind, number):
    switch = MessageSwitch(pipeline(1, 18), lock, (*HOSTS, 63, 64, 65, 255))
    assert WORD_FORMATS[18].hosts == 63
    switch.model.write("locks", 0, **({} if kind == Type.ACQUIRE else {"state": State.EXCLUSIVE, "agent": 1}))
    word = switch.model.read("locks", 0)
    assert switch.send(Message(kind, 1, machine_id=number, agent=1).to_bytes(), AGENT_PORT) == []
    assert switch.model.read("locks", 0) == word


# Hosts


def test_hand_over_and_tokens():
    world = World()
    assert world.do(1, "acquire", 0, 10, X) == [(1, Granted(0, 10, X, 1))]
    for host, task, mode in ((2, 20, X), (3, 30, S), (2, 21, S)):
        assert world.do(host, "acquire", 0, task, mode) == []
    assert world.do(1, "release", 0, 10) == [(2, Granted(0, 20, X, 2))]
    assert world.do(2, "release", 0, 20) == [(3, Granted(0, 30, S, 3)), (2, Granted(0, 21, S, 3))]
    assert world.do(3, "release", 0, 30) == []
    assert world.do(2, "release", 0, 21) == []
    assert world.is_over() and world.word() == (FREE, 0, 0, 3)


def test_who_asks_during_a_hand_over_within_a_host_keeps_his_place():
    """The ACK may overtake the grant. The next agent is this host: it has the requests."""
    world = World()
    world.do(1, "acquire", 0, 10, X)
    world.do(1, "acquire", 0, 11, X)
    world.call(1, "release", 0, 10)
    world.call(2, "acquire", 0, 20, X)
    world.up.reverse()  # the request is before the TRANSFER
    to_1 = [left for message in world.up for left in world.switch.send(message, AGENT_PORT)]
    world.up.clear()
    assert [Message.from_bytes(left.message).type for left in to_1] == [Type.ACQUIRE, Type.GRANT_W_AGENT, Type.ACK]
    before = len(world.sent)
    world.down += [to_1[0], to_1[2]]
    world.settle()
    world.down.append(to_1[1])
    assert world.do(3, "acquire", 0, 30, X) == [(1, Granted(0, 11, X, 2))]
    assert [item.machine_id for item in world.sent[before:]] == [3], "nobody's request goes round"
    assert world.do(1, "release", 0, 11) == [(2, Granted(0, 20, X, 3))]
    assert world.do(2, "release", 0, 20) == [(3, Granted(0, 30, X, 4))]
    world.do(3, "release", 0, 30)
    assert world.is_over()


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_grant_within_a_host_that_is_missed_costs_time(cancelled):
    """Requests are kept for a grant to this host that is lost, or that nobody wants any more."""
    world = World()
    world.do(1, "acquire", 0, 10, X)
    world.do(1, "acquire", 0, 11, X)
    world.call(1, "release", 0, 10)
    world.call(2, "acquire", 0, 20, X)
    world.up.reverse()
    to_1 = [left for message in world.up for left in world.switch.send(message, AGENT_PORT)]
    world.up.clear()
    world.down += [to_1[0], to_1[2]]
    world.settle()
    if cancelled:
        world.do(1, "cancel", 0, 11)
        world.down.append(to_1[1])
    served = []
    while (world.run(1.0), world.told)[1]:
        (host, granted), = world.told
        world.told.clear()
        served.append(granted.task)
        world.call(host, "release", 0, granted.task)
    assert sorted(served) == ([20] if cancelled else [11, 20]) and world.is_over()


def test_messages_without_contention():
    """Shared by three hosts: two packets for the first, three for each other, one and two for the releases."""
    world = World()
    world.do(1, "acquire", 0, 1, S)
    assert [item.type for item in world.sent] == [Type.ACQUIRE]
    world.do(1, "acquire", 0, 2, S)
    world.do(1, "release", 0, 2)
    assert len(world.sent) == 1, "the agent shares with its own tasks without a word"
    world.do(2, "acquire", 0, 1, S)
    world.do(2, "release", 0, 1)
    assert [item.type for item in world.sent[1:]] == [Type.ACQUIRE, Type.RELEASE]
    world.do(1, "release", 0, 1)
    assert [item.type for item in world.sent[3:]] == [Type.FREE]
    assert world.is_over()


def test_misuse():
    world = World()
    world.do(1, "acquire", 0, 1, X)
    for host, what, *arguments in ((1, "acquire", 0, 1, S), (1, "cancel", 0, 1), (2, "release", 0, 1)):
        before = world.hosts[host].freeze()
        with pytest.raises(ValueError, match="task 1"):
            world.do(host, what, *arguments)
        assert world.hosts[host].freeze() == before


def test_not_waiting():
    world = World()
    world.do(1, "acquire", 0, 1, S)
    assert world.do(2, "acquire", 0, 2, S, wait=False) == [(2, Granted(0, 2, S, 1))]
    assert world.do(3, "acquire", 0, 3, X, wait=False) == [(3, Refused(0, 3, Why.BUSY))]
    assert world.do(1, "acquire", 0, 4, X, wait=False) == [(1, Refused(0, 4, Why.BUSY))]
    assert world.word()[0] == SHARED, "a request that does not wait keeps nobody out"
    world.do(2, "release", 0, 2)
    world.do(1, "release", 0, 1)
    assert world.do(3, "acquire", 0, 3, X, wait=False) == [(3, Granted(0, 3, X, 2))]


def test_a_full_queue():
    world = World(most_waiters=2)
    world.do(1, "acquire", 0, 1, X)
    assert world.do(2, "acquire", 0, 1, X) == world.do(3, "acquire", 0, 1, X) == []
    assert world.do(3, "acquire", 0, 2, X) == [(3, Refused(0, 2, Why.FULL))]
    assert world.do(1, "acquire", 0, 3, S) == [(1, Refused(0, 3, Why.FULL))]


def test_cancelled():
    world = World()
    world.do(1, "acquire", 0, 1, X)
    world.do(2, "acquire", 0, 2, X)
    assert world.do(2, "cancel", 0, 2) == [(2, Refused(0, 2, Why.CANCELLED))]
    assert world.hosts[1].records[0].queue == []
    assert world.do(1, "release", 0, 1) == [] and world.is_over()


def test_cancelled_while_the_grant_is_on_its_way():
    world = World()
    world.do(1, "acquire", 0, 1, X)
    world.do(2, "acquire", 0, 2, X)
    world.do(3, "acquire", 0, 3, X)
    world.call(1, "release", 0, 1)
    world.call(2, "cancel", 0, 2)
    world.run(1.0)
    assert world.told == [(2, Refused(0, 2, Why.CANCELLED)), (3, Granted(0, 3, X, 3))]
    world.do(3, "release", 0, 3)
    assert world.is_over()


@pytest.mark.parametrize("waiters", [Entry.MOST + 1, Entry.MOST + 2, 180])
def test_more_waiters_than_a_packet_has_room_for(waiters):
    """Those that do not fit ask the switch anew: all are served."""
    world = World()
    world.do(1, "acquire", 0, 0, X)
    for task in range(1, waiters + 1):
        assert world.do(1 + task % 3, "acquire", 0, task, X) == []
    served = []
    told = world.do(1, "release", 0, 0)
    while told:
        assert len(told) == 1
        (host, granted), = told
        served.append(granted.task)
        assert max(len(item.entries) for item in world.sent) <= Entry.MOST
        told = world.do(host, "release", 0, granted.task)
    assert sorted(served) == list(range(1, waiters + 1)) and world.is_over()
    assert max(len(item.entries) for item in world.sent) == Entry.MOST


def test_unreachable():
    world = World(retries=4)
    world.lose = lambda message: True
    world.call(1, "acquire", 0, 1, X)
    world.run(0.0139)
    assert world.told == [] and len(world.sent) == 3
    world.run(60.0)
    assert world.told == [(1, Refused(0, 1, Why.UNREACHABLE))]
    assert [item.type for item in world.sent] == [Type.ACQUIRE] * 4 + [Type.RELEASE]
    assert [item.flags & Flag.RETRY for item in world.sent[:4]] == [0, Flag.RETRY, Flag.RETRY, Flag.RETRY]
    assert world.hosts[1].deadline is None and world.hosts[1].idle


def test_waiting_long_is_not_unreachable():
    world = World(retries=3, timeout=0.01, longest=0.1)
    world.do(1, "acquire", 0, 1, X)
    world.call(2, "acquire", 0, 2, X)
    world.run(20.0)
    assert world.told == []
    assert world.do(1, "release", 0, 1) == [(2, Granted(0, 2, X, 2))]


@pytest.mark.parametrize("kind", [Type.ACQUIRE, Type.GRANT_W_AGENT, Type.GRANT_WO_AGENT, Type.RELEASE, Type.FREE,
                                  Type.TRANSFER, Type.ACK, Type.REJECT])
@pytest.mark.parametrize("which", range(3))
def test_any_one_message_may_be_lost(kind, which):
    """Two readers and two writers: whichever message of a kind is lost, everybody is served."""
    world = World()
    seen = []

    def lose(message):
        if message.type == kind:
            seen.append(message)
            return len(seen) == which + 1
        return False

    world.lose = lose
    for host, task, mode in ((1, 1, S), (2, 2, S), (3, 3, X), (1, 4, X)):
        world.call(host, "acquire", 0, task, mode)
    holding = set()
    for _ in range(300):
        world.run(0.005)
        for host, effect in world.told:
            assert isinstance(effect, Granted)
            holding.add((host, effect.task, effect.mode))
        world.told.clear()
        assert len(holding) <= 1 or all(mode == S for _, _, mode in holding)
        if holding and world.now > 0.02:
            host, task, _ = holding.pop()
            world.call(host, "release", 0, task)
    world.run(5.0)
    assert world.is_over() and world.word()[3] >= 1


def test_a_grant_that_both_ends_lost_is_written_off():
    """Notification and grant of a reader are lost, and the reader goes away: all hosts are asked, then it is free."""
    world = World()
    world.do(1, "acquire", 0, 1, S)
    world.lose = lambda message: message.type == Type.GRANT_WO_AGENT or (
        message.type == Type.ACQUIRE and message.flags & Flag.GRANTED)
    world.call(2, "acquire", 0, 2, S)
    world.call(2, "cancel", 0, 2)
    world.settle()
    world.lose = lambda message: False
    assert world.word()[2] == 1 and not world.hosts[1].records[0].known
    world.do(1, "release", 0, 1)
    assert world.hosts[1].records[0].gap
    world.run(1.0)
    asked = [item.machine_id for item in world.sent if item.type == Type.QUERY]
    assert asked == [2, 3] and world.is_over()


def test_a_void_grant_is_not_taken():
    """A host that has said that it does not hold is not let in by a grant that comes late."""
    host = HardenedParticipant(2, HOSTS)
    host.acquire(0, 5, S, 0.0)
    attempt = Message.from_bytes(host.take()[0].payload).attempt
    host.receive(Message(Type.QUERY, Flag.VOID, 1, 0, 9, 2, 1).to_bytes(), False, 0.0)
    report = Message.from_bytes(host.take()[0].payload)
    assert report.entries == (Entry(Listed.WAITING, 0, 5, attempt),) and report.attempt == attempt + 1
    host.receive(Message(Type.GRANT_WO_AGENT, 0, 1, 0, 9, 2, 1, 5, attempt).to_bytes(), True, 0.0)
    assert host.take() == []
    host.receive(Message(Type.GRANT_WO_AGENT, 0, 2, 0, 9, 2, 1, 5, attempt).to_bytes(), True, 0.0)
    assert host.take() == [Granted(0, 5, S, 9)]


def test_an_old_reject_says_nothing():
    """A REJECT of an earlier FREE does not make a host the agent of an epoch that it has only asked about."""
    host = HardenedParticipant(1, HOSTS)
    grant = Message(Type.GRANT_W_AGENT, 1, 0, 0, 9, 1, 1, 5, 3)
    host.receive(grant.to_bytes(), True, 0.0)
    free, = (Message.from_bytes(effect.payload) for effect in host.take())
    assert free.type == Type.FREE and free.attempt
    old = free._replace(type=Type.REJECT, attempt=0, count=1)
    host.receive(old.to_bytes(), False, 0.0)
    assert host.records[0].role == Role.CLOSING
    host.receive(old._replace(attempt=free.attempt).to_bytes(), False, 0.0)
    assert host.records[0].role == Role.OPEN


def test_a_host_with_more_holders_than_a_report_has_room_for_is_silent():
    host = HardenedParticipant(2, HOSTS)
    for task in range(Entry.MOST + 1):
        host.acquire(0, task, S, 0.0)
    host.take()
    host.receive(Message(Type.QUERY, 0, 0, 0, 9, 2, 1).to_bytes(), False, 0.0)
    assert host.take() == []
    host.cancel(0, 0, 0.0)
    host.take()
    host.receive(Message(Type.QUERY, 0, 0, 0, 9, 2, 1).to_bytes(), False, 0.0)
    assert len(Message.from_bytes(host.take()[0].payload).entries) == Entry.MOST


def test_what_is_not_for_this_host_is_counted():
    host = HardenedParticipant(1, HOSTS)
    for message in (b"", bytes(24), b"\2" * 23):
        host.receive(message, False, 0.0)
    assert (host.malformed, host.ignored) == (3, 0)
    for message in (Message(Type.GRANT_W_AGENT, machine_id=2), Message(Type.ACQUIRE, agent=2), Message(99),
                    Message(Type.ACK, agent=1), Message(Type.REJECT, agent=1), Message(Type.FREE, agent=1)):
        host.receive(message.to_bytes(), False, 0.0)
    assert host.ignored == 6 and host.idle and host.take() == []


@pytest.mark.parametrize("memory", [0, 2])
def test_memory_is_bounded(memory):
    world = World(memory=memory)
    for number in range(5):
        world.do(1, "acquire", number, 1, X)
        world.do(1, "release", number, 1)
    assert world.hosts[1].idle and len(world.hosts[1]._past) == memory


def test_frozen_and_thawed():
    world = World()
    world.do(1, "acquire", 0, 1, S)
    world.do(2, "acquire", 0, 2, X)
    world.do(1, "acquire", 3, 1, X)
    for host in world.hosts.values():
        frozen = host.freeze()
        other = HardenedParticipant(host.host, HOSTS)
        other.thaw(frozen)
        assert other.freeze() == frozen and hash(frozen) == hash(other.freeze())
        assert all(Record.thaw(record.freeze()) == record for record in host.records.values())


def test_attempts_wrap():
    assert is_newer(1, 0xFFFF_FFFF) and not is_newer(0xFFFF_FFFF, 1) and not is_newer(5, 5)
    host = HardenedParticipant(1, HOSTS, first_attempt=0xFFFF_FFFF)
    assert [host.new_attempt(), host.new_attempt()] == [0xFFFF_FFFF, 1]
