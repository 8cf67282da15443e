# SPDX-License-Identifier: Apache-2.0
"""The published lock switch, every row of its table, and its header, bit for bit."""

import itertools

import pytest
from fisslock_table import (
    ACQUIRE,
    AGENT,
    CLIENT,
    EXCLUSIVE,
    FREE,
    GRANT_W_AGENT,
    GRANT_WO_AGENT,
    RELEASE,
    SHARED,
    TRANSFER,
    Packet,
    Words,
    row,
)

from rackgate.fisslock.abi import FaithfulMessage, Waiter
from rackgate.fisslock.faithful import FAITHFUL, LOCKS, lock, pipeline
from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame
from rackgate.net.hosts import TO_HOST
from rackgate_sim.pisa.model import PipelineModel

LOCK, OUT_OF_RANGE = 5, 16
SWITCH, SENDER = 0x0A0000FE, 0x0A00004D


def switch(locks=16, hosts=range(1, 256), **parameters):
    model = PipelineModel(pipeline(locks, **parameters))
    for number in hosts:
        model.tables["hosts"].insert(number, TO_HOST, mac=0x020000000000 | number, address=0x0A000100 | number,
                                     server_port=AGENT, client_port=CLIENT)
    return model


def put(model, words, place=LOCK):
    model.write("counter", place, count=words.count)
    model.write("free", place, acquired=words.acquired)
    model.write("mode", place, exclusive=words.mode)
    model.write("agent", place, host=words.agent)


def words_of(model, place=LOCK):
    return Words(model.read("counter", place)["count"], model.read("free", place)["acquired"],
                 model.read("mode", place)["exclusive"], model.read("agent", place)["host"])


def header(packet, number):
    return FaithfulMessage(**packet._asdict(), id=number, task_id=0x01020304,
                           queue=(Waiter(EXCLUSIVE, 77, 9),)).to_bytes()


def send(model, packet, port=AGENT, number=LOCK):
    """What comes of a packet, as (host, port, packet); everything else in the answers is looked at here."""
    frame = udp_frame(Endpoint(0x02000000004D, SENDER, 4000), Endpoint(0x0200000000FE, SWITCH, port),
                      header(packet, number))
    out = []
    for _, sent in model.process(frame):
        source, target, content = split_udp_frame(sent)
        host = target.address & 0xFF
        assert target[:2] == (0x020000000000 | host, 0x0A000100 | host)
        assert source == (0x0200000000FE, SWITCH, port)
        got = FaithfulMessage.from_bytes(content)
        answer = Packet(**{name: getattr(got, name) for name in Packet._fields})
        assert content == header(answer, number), "id, task, waiters or reserved bits have changed"
        out.append((host, target.port, answer))
    return out


COUNTS = (0, 3)
#: Machine and agent: groups that exist and that do not.
HOSTS = ((9, 12), (0, 127), (63, 0), (64, 130), (255, 192), (9, 128))
ALL_WORDS = [Words(*values) for values in itertools.product(COUNTS, (0, 1), (0, 1), (0, 7))]


@pytest.mark.parametrize("kind", range(11))
@pytest.mark.parametrize("number", [LOCK, OUT_OF_RANGE])
def test_every_row(kind, number):
    model = switch()
    answers = set()
    cases = itertools.product(ALL_WORDS, (0, 1), (0, 1), HOSTS, COUNTS, (0, 1), (AGENT, CLIENT))
    for words, mode, old_mode, (machine, agent), ncnt, marked, port in cases:
        put(model, words)
        packet = Packet(kind, mode, old_mode, machine, agent, ncnt, marked, transferred=marked)
        after, out = row(words, packet, port, number == LOCK)
        assert send(model, packet, port, number) == out, (words, packet, port)
        assert words_of(model) == after, (words, packet, port)
        answers.add(len(out))
    assert 0 in answers and 1 in answers
    assert (2 in answers) == (kind == ACQUIRE and number == LOCK)


def test_the_story_of_a_lock():
    """The rows in the order in which they come, with answers written out."""
    model = switch()
    ask = Packet(ACQUIRE, machine_id=3, agent=3)
    assert send(model, ask) == [(3, CLIENT, ask._replace(type=GRANT_W_AGENT))]
    second = Packet(ACQUIRE, machine_id=4, agent=4)
    assert send(model, second) == [
        (3, AGENT, Packet(ACQUIRE, machine_id=4, agent=3, multicasted=1, granted=1)),
        (4, CLIENT, Packet(GRANT_WO_AGENT, machine_id=4, agent=3, multicasted=1)),
    ]
    assert words_of(model) == Words(2, 1, SHARED, 3)
    writer = Packet(ACQUIRE, EXCLUSIVE, machine_id=5, agent=5)
    assert send(model, writer) == [(3, AGENT, writer._replace(agent=3))]
    early = Packet(TRANSFER, EXCLUSIVE, SHARED, machine_id=5, agent=3, ncnt=1)
    assert send(model, early) == [(3, AGENT, early)], "a notification is on its way: it bounces"
    assert send(model, early._replace(ncnt=2)) == [
        (5, CLIENT, Packet(GRANT_W_AGENT, EXCLUSIVE, SHARED, machine_id=5, agent=5, ncnt=2, transferred=1))]
    assert words_of(model) == Words(0, 1, EXCLUSIVE, 5)
    assert send(model, Packet(RELEASE, machine_id=4, agent=4)) == [(5, AGENT, Packet(RELEASE, machine_id=4, agent=5))]
    assert send(model, Packet(FREE, old_mode=EXCLUSIVE, machine_id=5, agent=5, ncnt=99)) == []
    assert words_of(model) == Words() and model.dropped == 1


def test_a_release_of_a_free_lock_locks_it_for_ever():
    model = switch()
    stray = Packet(RELEASE, machine_id=4, agent=4)
    assert send(model, stray) == [(4, AGENT, stray)]
    assert words_of(model) == Words(acquired=1)
    assert send(model, Packet(ACQUIRE, EXCLUSIVE, machine_id=6, agent=6)) == [], "agent 0 gets it: nobody"
    assert send(model, Packet(ACQUIRE, SHARED, machine_id=6, agent=6)) == [
        (6, CLIENT, Packet(GRANT_WO_AGENT, machine_id=6, multicasted=1))]


def test_a_host_that_is_not_in_the_table_gets_nothing():
    model = switch(hosts=[3])
    send(model, Packet(ACQUIRE, machine_id=3, agent=3))
    (host, _, _), = send(model, Packet(ACQUIRE, machine_id=4, agent=4))
    assert host == 3 and model.dropped == 1


def test_the_counter_wraps():
    model = switch()
    for number in range(256):
        send(model, Packet(ACQUIRE, machine_id=3, agent=3))
        assert words_of(model).count == (number + 1) % 256
    narrow = switch(count_width=2)
    for number in range(5):
        send(narrow, Packet(ACQUIRE, machine_id=3, agent=3))
        assert words_of(narrow).count == (number + 1) % 4
    assert send(narrow, Packet(FREE, machine_id=3, agent=3, ncnt=5)) == [], "5 is 1 modulo 4"


def test_the_published_shape():
    assert LOCKS == 1_572_864 and all(register.depth == LOCKS for register in FAITHFUL.registers)
    assert sum(register.width for register in FAITHFUL.registers) == 18
    model = switch(LOCKS)
    ask = Packet(ACQUIRE, EXCLUSIVE, machine_id=3, agent=9)
    for number in (0, (1 << 19) - 1, 1 << 19, LOCKS - 1):
        assert send(model, ask, number=number) == [(3, CLIENT, ask._replace(type=GRANT_W_AGENT, agent=3))]
    assert len(model.registers["agent"]) == 4, "each id has a word of its own"
    for number in (LOCKS, (1 << 32) - 1):
        assert send(model, ask, number=number) == [(9, AGENT, ask)]


def test_the_header_bit_for_bit():
    assert lock.size == 17
    values = {"type": 0x12, "multicasted": 1, "granted": 0, "transferred": 1, "reserved": 2, "old_mode": 0, "mode": 1,
              "id": 0x3456789A, "machine_id": 0xBC, "task_id": 0xDEF01234, "agent": 0x56, "wq_size": 0x789ABCDE,
              "ncnt": 0xF0}
    model = switch()
    phv = model.vector({lock[name]: value for name, value in values.items()}, [lock])
    content = bytes.fromhex("12 a9 3456789a bc def01234 56 789abcde f0")
    assert model.codec.bytes_of(lock, phv) == content
    back = model.vector()
    model.codec.extract(lock, content, back)
    assert {name: model.get(back, lock[name]) for name in values} == values


def test_reserved_bits_pass():
    model = switch()
    sent = bytearray(header(Packet(ACQUIRE, machine_id=3, agent=3), LOCK))
    sent[1] |= 0x1C
    frame = udp_frame(Endpoint(1, 2, 3), Endpoint(4, 5, AGENT), bytes(sent))
    (_, out), = model.process(frame)
    assert split_udp_frame(out)[2][1] == 0x1C


@pytest.mark.parametrize(("parameters", "message"), [
    ({"locks": 0}, "locks must be 1 to 2\\*\\*32, not 0"),
    ({"locks": (1 << 32) + 1}, "locks must be 1 to 2\\*\\*32"),
    ({"count_width": 0}, "count_width must be 1 to 8, not 0"),
    ({"count_width": 9}, "count_width must be 1 to 8, not 9"),
])
def test_parameters_out_of_range(parameters, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**parameters)


def test_all_ids_may_be_locks():
    model = switch(1 << 32)
    ask = Packet(ACQUIRE, machine_id=3, agent=9)
    assert send(model, ask, number=(1 << 32) - 1) == [(3, CLIENT, ask._replace(type=GRANT_W_AGENT, agent=3))]
    assert send(model, Packet(GRANT_WO_AGENT, machine_id=3, agent=9), number=(1 << 32) - 1)[0][0] == 3
