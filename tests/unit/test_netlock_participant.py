# SPDX-License-Identifier: Apache-2.0
"""A host in NetLock, and under a lock manager in one server."""

import pytest

from rackgate.fisslock.abi import Mode
from rackgate.fisslock.effects import Granted, Refused, Send, Why
from rackgate.netlock.abi import Flag, Message, Op
from rackgate.netlock.participant import Participant
from rackgate.netlock.server import LockTable, Request

S, X = Mode.SHARED, Mode.EXCLUSIVE


def sent(host):
    """What the host sends, as (to whom, message)."""
    effects = host.take()
    assert all(isinstance(effect, Send) for effect in effects)
    return [(effect.host, Message.unpack(effect.payload)) for effect in effects]


def hear(host, op, **fields):
    host.receive(Message(op, **{"mode": 0, "client": host.host, "task": 1, "lock": 7, **fields}).pack(), True, 0)
    return host.take()


def serve(host, op, client=1, flags=0, **fields):
    host.receive(Message(op, **{"mode": 1, "client": client, "task": 1, "lock": 7, "flags": flags, **fields}).pack(),
                 False, 0)
    return sent(host)


def test_a_client_asks_holds_and_gives_back():
    host = Participant(3)
    host.acquire(7, 1, X, 0)
    assert sent(host) == [(None, Message(Op.ACQUIRE, 1, 3, 1, 7, 0))] and not host.idle
    assert hear(host, Op.DIRECT_GRANT, mode=1) == [Granted(7, 1, X, 0)]
    host.release(7, 1, 0)
    assert sent(host) == [(None, Message(Op.RELEASE, 1, 3, 1, 7, 0))] and host.idle


def test_under_one_server_all_goes_there():
    host = Participant(3, server=9)
    host.acquire(7, 1, S, 0)
    assert sent(host)[0][0] == 9
    assert hear(host, Op.GRANT_FROM_SERVER) == [Granted(7, 1, S, 0)]
    host.release(7, 1, 0)
    assert sent(host)[0][0] == 9


def test_misuse_is_refused_and_changes_nothing():
    host = Participant(1)
    host.acquire(7, 1, X, 0)
    for call in (lambda: host.acquire(7, 1, S, 0), lambda: host.release(7, 1, 0), lambda: host.release(8, 1, 0),
                 lambda: host.acquire(8, 1, S, 0, wait=False)):
        before = host.freeze()
        with pytest.raises(ValueError, match="task 1|without waiting"):
            call()
        assert host.freeze() == before
    with pytest.raises(ValueError, match="host must be 1 to 255, not 0"):
        Participant(0)


def test_the_grant_of_a_cancelled_request_is_given_back():
    host = Participant(1)
    host.acquire(7, 1, X, 0)
    host.cancel(7, 1, 0)
    host.acquire(7, 1, X, 0)
    assert host.take()[1] == Refused(7, 1, Why.CANCELLED)
    host.receive(Message(Op.DIRECT_GRANT, 1, 1, 1, 7, 0).pack(), True, 0)
    assert sent(host) == [(None, Message(Op.RELEASE, 1, 1, 1, 7, 0))]
    assert hear(host, Op.DIRECT_GRANT, mode=1, timestamp=1) == [Granted(7, 1, X, 0)]
    host.cancel(7, 1, 0)
    assert sent(host)[0][1].op == Op.RELEASE and host.idle


def test_a_rejected_request_is_over():
    host = Participant(1)
    host.acquire(7, 1, X, 0)
    host.acquire(8, 1, X, 0)
    host.cancel(8, 1, 0)
    host.take()
    assert hear(host, Op.REJECT) == [Refused(7, 1, Why.FULL)]
    assert hear(host, Op.REJECT, lock=8, timestamp=1) == [] and host.idle


def test_other_messages_are_counted():
    host = Participant(1)
    host.acquire(7, 1, X, 0)
    host.take()
    for content, to_client in ((b"", True), (bytes(19), False), (Message(Op.DIRECT_GRANT, 1, 1, 1, 7, 5).pack(), True),
                               (Message(Op.ACQUIRE, 1, 1, 1, 7, 0).pack(), True),
                               (Message(Op.DIRECT_GRANT, 1, 1, 1, 7, 0).pack(), False)):
        host.receive(content, to_client, 0)
    assert (host.take(), host.ignored, host.deadline) == ([], 5, None)


def test_a_server_grants_in_order():
    host = Participant(9)
    assert [m.client for _, m in serve(host, Op.ACQUIRE)] == [1]
    assert serve(host, Op.ACQUIRE, 2, mode=0) == serve(host, Op.ACQUIRE, 3, mode=0) == serve(host, Op.ACQUIRE, 4) == []
    left = serve(host, Op.RELEASE)
    assert [(to, m.op, m.client) for to, m in left] == [(2, Op.GRANT_FROM_SERVER, 2), (3, Op.GRANT_FROM_SERVER, 3)]
    assert serve(host, Op.RELEASE, 3, mode=0) == []
    assert [m.client for _, m in serve(host, Op.RELEASE, 2, mode=0)] == [4]
    assert serve(host, Op.RELEASE, 4) == serve(host, Op.RELEASE, 4) == [] and host.idle


def test_a_server_with_too_many_waiting_rejects():
    host = Participant(9, most_waiting=1)
    serve(host, Op.ACQUIRE, 1)
    assert serve(host, Op.ACQUIRE, 2) == []
    assert serve(host, Op.ACQUIRE, 3) == [(3, Message(Op.REJECT, 1, 3, 1, 7))]


def test_a_server_pushes_back_what_it_keeps():
    host = Participant(9)
    for client in (1, 2, 3):
        assert serve(host, Op.ACQUIRE, client, Flag.OVERFLOW) == []
    notice = {"flags": Flag.OVERFLOW | Flag.EMPTY, "task": 2}
    left = serve(host, Op.RELEASE, timestamp=3, **notice)
    assert [(to, m.op, m.client) for to, m in left] == [(None, Op.PUSH_BACK, 1), (None, Op.PUSH_BACK, 2)]
    assert host.kept == 1
    assert serve(host, Op.RELEASE, timestamp=2, **notice) == [], "one is on its way"
    assert [m.client for _, m in serve(host, Op.RELEASE, timestamp=1, **notice)] == [3]
    assert serve(host, Op.RELEASE, timestamp=0, **notice) == []
    assert [m.client for _, m in serve(host, Op.ACQUIRE, 4, Flag.OVERFLOW | Flag.EMPTY)] == [4]
    assert host.idle and serve(host, Op.PUSH_BACK) == [] and host.ignored == 1


def test_states_can_be_frozen_and_taken_on():
    host, other = Participant(9), Participant(9)
    host.acquire(1, 1, S, 0)
    host.acquire(1, 2, X, 0)
    hear(host, Op.DIRECT_GRANT, lock=1)
    host.cancel(1, 2, 0)
    serve_these = ((Op.ACQUIRE, 1, 0), (Op.ACQUIRE, 2, 0), (Op.ACQUIRE, 3, Flag.OVERFLOW))
    host.take()
    for op, client, flags in serve_these:
        serve(host, op, client, flags)
    state = host.freeze()
    assert hash(state) == hash(host.freeze())
    other.thaw(state)
    assert other.freeze() == state
    assert serve(other, Op.RELEASE) == serve(host, Op.RELEASE) != []


def test_a_lock_table_keeps_order():
    table = LockTable()
    asked = [Request(client, 0, mode, 0) for client, mode in ((1, 0), (2, 0), (3, 1), (4, 0))]
    assert [table.acquire(1, one) for one in asked] == [True, True, False, False]
    assert table.waiting == 2 and table.release(1) == []
    assert table.release(1) == [asked[2]] and table.release(1) == [asked[3]]
    assert table.release(1) == table.release(1) == [] and not len(table)
