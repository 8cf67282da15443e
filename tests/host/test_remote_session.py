# SPDX-License-Identifier: Apache-2.0
"""Sessions with a bridge: each request is executed once, whatever happens on the way."""

from collections import deque
from unittest import mock

import pytest
from bridged import golden_bridge
from hypothesis import given, settings
from hypothesis import strategies as st

from rackgate.bridge import abi
from rackgate.bridge.abi import Kind, Message, Refusal, Terms, pack_message, pack_words, unpack_message
from rackgate.bridge.operations import Opcode, pack_operations, read, unpack_results, write
from rackgate_host import DeviceFault, DeviceMismatch, DeviceTimeout
from rackgate_host.transport import session as session_module
from rackgate_host.transport.session import Session
from rackgate_sim.bridge import GoldenBridge
from rackgate_sim.bridge_links import Faults, serve

SCRATCH = 0x20
PASS, LOSE, DOUBLE, DAMAGE, LATE, BOTH = range(6)


class Clock:
    """Time that passes only while a link is waited for."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Counter:
    """A device that remembers every write."""

    irq, cycle = False, 0

    def __init__(self):
        self.writes = []

    def read_register(self, offset):
        return offset

    def write_register(self, offset, value):
        self.writes.append(value)
        return True

    def run(self, cycles):
        self.cycle += cycles


class ScheduledLink:
    """Both directions between a session and a bridge, where each message has its fate, in order; at last all pass.

    ``LATE`` messages come when others have passed, or nothing else is under way; ``BOTH`` come now and late.
    """

    name, bytes_per_second, is_reliable = "link", 0.0, False

    def __init__(self, bridge, fates, clock):
        self.bridge, self.clock = bridge, clock
        self.fates = deque(fates)
        self.late, self.arrived = deque(), deque()
        self.closed = False

    def _pass_on(self, message, take):
        fate = self.fates.popleft() if self.fates else (PASS, 0)
        kind, detail = fate
        if kind == DAMAGE:
            place = detail % len(message)
            message = message[:place] + bytes([message[place] ^ 1 + detail % 255]) + message[place + 1 :]
        if kind in (LATE, BOTH):
            self.late.append([1 + detail % 12, message, take])
        for _ in range({LOSE: 0, LATE: 0, DOUBLE: 2}.get(kind, 1)):
            take(message)
        for one in list(self.late):
            one[0] -= 1
        self._release(lambda one: one[0] <= 0)

    def _release(self, is_due):
        due = [one for one in self.late if is_due(one)]
        for one in due:
            self.late.remove(one)
        for _, message, take in due:
            take(message)

    def _to_bridge(self, message):
        answer = self.bridge.answer(message)
        if answer is not None:
            self._pass_on(answer, self.arrived.append)

    def send(self, message):
        self._pass_on(message, self._to_bridge)

    def receive(self, seconds):
        if not self.arrived:
            self.clock.now += seconds + 1e-6
            if self.late:
                self._release(lambda one: one is self.late[0])
        return self.arrived.popleft() if self.arrived else None

    def hint(self):
        return "no hint"

    def close(self):
        self.closed = True


def counting_bridge(window=8):
    bridge = golden_bridge(memory=4096, window=window)
    bridge.device = Counter()
    return bridge


def request(*values):
    return pack_operations([write(SCRATCH, pack_words([value])) for value in values])


FATE = st.tuples(st.sampled_from([PASS, LOSE, DOUBLE, DAMAGE, LATE, BOTH]), st.integers(0, 1000))
FATES = st.lists(FATE, max_size=60)


@settings(deadline=None, max_examples=150)
@given(fates=FATES, sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4), window=st.integers(1, 8))
def test_each_request_is_executed_once(fates, sizes, window):
    clock = Clock()
    with mock.patch.object(session_module, "time", clock):
        bridge = counting_bridge(window)
        link = ScheduledLink(bridge, fates, clock)
        session = Session(link, timeout=1e6)
        sent = []
        for size in sizes:
            bodies = [request(len(sent) + k) for k in range(size)]
            sent += range(len(sent), len(sent) + size)
            responses = session.exchange(bodies, "writes")
            assert len(responses) == size and all(len(unpack_results(body)) == 1 for body in responses)
            assert bridge.device.writes == sent
        while link.late:  # what is still on the way changes nothing any more
            link.receive(0)
        assert bridge.device.writes == sent
        assert bridge.session == session.number and bridge.expected == len(sent)


@settings(deadline=None, max_examples=100)
@given(fates=FATES, silences=st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_what_was_given_up_is_executed_once_or_never(fates, silences):
    """The cable is cut in the middle, and later mended: what follows is executed once and in order."""
    clock = Clock()
    with mock.patch.object(session_module, "time", clock):
        bridge = counting_bridge()
        link = ScheduledLink(bridge, [], clock)
        session = Session(link, timeout=5)
        link.fates.extend(fates)
        groups = []
        for silence in silences:
            group = [100 * len(groups) + k for k in range(silence)]
            groups.append(group)
            link.fates.extend([(LOSE, 0), (LATE, 3)] * 40)
            try:
                session.exchange([request(value) for value in group], "writes")
            except DeviceTimeout as error:
                assert "link: no answer to" in str(error) and "no hint" in str(error)
            link.fates.clear()
        session.exchange([request(9999)], "a write")
        while link.late:
            link.receive(0)
        writes = bridge.device.writes
        assert writes == sorted(set(writes)) and writes[-1] == 9999
        for group in groups:
            done = [value for value in writes if value in group]
            assert done == group[: len(done)]


def test_a_late_open_of_an_old_session_is_harmless():
    clock = Clock()
    with mock.patch.object(session_module, "time", clock):
        bridge = counting_bridge()
        link = ScheduledLink(bridge, [], clock)
        sent, plain = [], link.send
        link.send = lambda message: (sent.append(message), plain(message))[1]
        session = Session(link, timeout=5)
        session.exchange([request(1)], "a write")
        for message in sent:  # all again: the OPEN of the session, and the request
            bridge.answer(message)
        session.exchange([request(2)], "a write")
        old = list(sent)
        Session(ScheduledLink(bridge, [], clock), timeout=5).exchange([request(3)], "a write")
        for message in old:
            bridge.answer(message)
        assert bridge.device.writes == [1, 2, 3]


def test_sequence_numbers_wrap():
    clock = Clock()
    with mock.patch.object(session_module, "time", clock):
        bridge = counting_bridge()
        session = Session(ScheduledLink(bridge, [], clock), timeout=5)
        session._next = bridge.expected = 0xFFFFFFFD
        session.exchange([request(k) for k in range(20)], "writes")
        assert bridge.device.writes == list(range(20)) and bridge.expected == 17


def test_another_host_or_a_reset_ends_a_session():
    clock = Clock()
    with mock.patch.object(session_module, "time", clock):
        bridge = counting_bridge()
        first = Session(ScheduledLink(bridge, [], clock), timeout=5)
        second = Session(ScheduledLink(bridge, [], clock), timeout=5)
        for _ in range(2):
            with pytest.raises(DeviceFault, match=f"link: .* another host has opened it .*{second.number:#010x}"):
                first.exchange([request(1)], "a write")
        bridge.session = abi.NO_SESSION
        with pytest.raises(DeviceFault, match="was reset or programmed anew: open it again"):
            second.exchange([request(2)], "a write")
        assert bridge.device.writes == []


def test_a_reset_while_the_cable_was_cut_is_seen():
    clock = Clock()
    with mock.patch.object(session_module, "time", clock):
        bridge = counting_bridge()
        link = ScheduledLink(bridge, [], clock)
        session = Session(link, timeout=1)
        link.fates.extend([(LOSE, 0)] * 200)
        with pytest.raises(DeviceTimeout, match="no answer to a write .request 0 of the session. for 1 s: no hint"):
            session.exchange([request(1)], "a write")
        link.fates.clear()
        bridge.session = abi.NO_SESSION
        with pytest.raises(DeviceFault, match="was reset or programmed anew"):
            session.exchange([request(2)], "a write")


# Answers that a bridge does not give


class Script:
    """A link whose answers a function makes of the messages."""

    name, bytes_per_second, is_reliable = "link", 0.0, False

    def __init__(self, clock, answer):
        self.clock, self.answer, self.arrived = clock, answer, deque()

    def send(self, message):
        self.arrived += [one for one in self.answer(unpack_message(message)) if one is not None]

    def receive(self, seconds):
        if not self.arrived:
            self.clock.now += seconds + 1e-6
        return self.arrived.popleft() if self.arrived else None

    def hint(self):
        return "no hint"

    def close(self):
        pass


TERMS = Terms(8, 1472, abi.MEMORY_BASE, 4096, 30)


def opened(message, terms=TERMS):
    return pack_message(Message(Kind.OPENED, message.session, message.sequence, terms.pack()))


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (lambda m: pack_message(Message(Kind.OPENED, m.session, 0, b"")), DeviceFault, "no bridge.*must have 20 bytes"),
        (lambda m: opened(m, TERMS._replace(window=0)), DeviceFault, "it offers Terms.window=0"),
        (lambda m: opened(m, TERMS._replace(window=9)), DeviceFault, "it offers Terms.window=9"),
        (lambda m: opened(m, TERMS._replace(message_bytes=16)), DeviceFault, "it offers"),
        (lambda m: opened(m, TERMS._replace(memory_base=0xFFFF_F000, memory_size=8192)), DeviceFault, "it offers"),
        (lambda m: pack_message(Message(Kind.REFUSED, m.session, m.sequence, b"")), DeviceFault, "no bridge, or is"),
        (lambda m: pack_message(Message(Kind.OPENED, m.session, 0, TERMS.pack()), protocol=7), DeviceMismatch,
         "speaks version 7 of the protocol, this package 1"),
        (lambda m: pack_message(Message(Kind.REFUSED, m.session, m.sequence, pack_words([Refusal.SESSION, 77]))),
         DeviceTimeout, "attempts to open a session"),
        (lambda m: opened(m._replace(session=m.session ^ 1)), DeviceTimeout, "open a session within 2 s: no hint"),
        (lambda m: b"noise" * 40, DeviceTimeout, "attempts to open a session"),
        (lambda m: None, DeviceTimeout, "attempts to open a session"),
    ],
)  # fmt: skip
def test_strange_answers_to_open(answer, error, text):
    clock = Clock()

    def slowly(message):
        clock.now += 0.01
        return [answer(message)]

    with mock.patch.object(session_module, "time", clock), pytest.raises(error, match=text):
        Session(Script(clock, slowly), timeout=2)
    assert clock.now < 5


@pytest.mark.parametrize("kind", [Kind.OPENED, Kind.REQUEST, Kind.OPEN])
def test_answers_to_something_else_are_stray(kind):
    clock = Clock()
    wrong = [(0, -1), (0, 8), (1, 0)]  # session and sequence, off by so much

    def answer(message):
        if message.kind == Kind.OPEN:
            return [opened(message)]
        strangers = [Message(Kind.RESPONSE, message.session ^ one, message.sequence + two & 0xFFFFFFFF, b"\1\2\3\4")
                     for one, two in wrong]  # fmt: skip
        strangers.append(message._replace(kind=kind))
        right = Message(Kind.RESPONSE, message.session, message.sequence, message.body[:4])
        return [*map(pack_message, strangers), pack_message(right)]

    with mock.patch.object(session_module, "time", clock):
        session = Session(Script(clock, answer), timeout=2)
        body = pack_operations([read(Opcode.READ_REGISTERS, 4)])
        assert session.exchange([body] * 3, "reads") == [body[:4]] * 3
        assert session.counts.stray >= 12


def test_the_golden_bridge_drops_what_it_should(seed):
    bridge = counting_bridge()
    assert isinstance(bridge, GoldenBridge)
    first = Message(Kind.OPEN, 5, 0, pack_words([0]))
    assert unpack_message(bridge.answer(pack_message(first))).kind == Kind.OPENED
    for message in (
        Message(Kind.OPEN, 6, 0, b""),
        Message(Kind.OPEN, 0, 0, pack_words([5])),
        Message(Kind.RESPONSE, 5, 0, b""),
        Message(Kind.REQUEST, 5, 1, request(1)),
        Message(Kind.REQUEST, 5, 0xFFFFFFFF, request(1)),
    ):
        assert bridge.answer(pack_message(message)) is None
    assert bridge.counters[abi.StatusWord.STRAY] == 5
    damaged = bytearray(pack_message(Message(Kind.REQUEST, 5, 0, request(1))))
    damaged[9] ^= 4
    for raw in (bytes(damaged), b"", b"RG", bytes(1476)):
        assert bridge.answer(raw) is None
    assert bridge.counters[abi.StatusWord.DAMAGED] == 4
    other = unpack_message(bridge.answer(pack_message(Message(Kind.REQUEST, 5, 0, request(1)), protocol=9)))
    assert (other.kind, abi.unpack_refusal(other.body)) == (Kind.REFUSED, (Refusal.VERSION, 5))
    assert bridge.answer(pack_message(Message(Kind.REFUSED, 5, 0, bytes(8)), protocol=9)) is None
    assert bridge.device.writes == [] and bridge.expected == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: golden_bridge(window=9), "window must be 1 to 8, not 9"),
        (lambda: golden_bridge(cycles_per_message=0), "cycles_per_message must be at least 1, not 0"),
        (lambda: Faults(loss=1), "loss must be from 0 to below 1, not 1"),
        (lambda: Faults(corrupt=-0.1), "corrupt must be from 0 to below 1, not -0.1"),
        (lambda: serve("inflate", "usb", {}, print), "link must be one of udp, uart, not 'usb'"),
        (lambda: Session(ScheduledLink(counting_bridge(), [], Clock()), timeout=0), "timeout must be positive, not 0"),
    ],
)
def test_values_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
