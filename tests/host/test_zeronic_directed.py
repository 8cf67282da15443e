# SPDX-License-Identifier: Apache-2.0
"""Frames of a malicious or unlucky peer, one by one, against Linux' TCP above the NIC.

The peer's timestamps tell its segments apart that TCP must reject (PAWS, RFC 7323): whatever the order in which true
and false bytes come, the application gets the true ones.
"""

import errno
import random
import socket
import threading
import time

import pytest
from scapy.layers.inet import IP, TCP, IPOption_NOP, fragment
from scapy.layers.l2 import Ether
from zeronic_hosts import Application, Inside, ends, need_hosts
from zeronic_lone import LoneHost, Peer

from rackgate.zeronic.abi import Direction
from rackgate_host.zeronic.packets import Packets
from rackgate_host.zeronic.shared import FlowFlag, FlowState, Operation

WRAPPING = 0xFFFF_FC00  # an initial sequence number after which the stream soon wraps


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    need_hosts()
    host = LoneHost(tmp_path_factory.mktemp("zn"))
    yield host
    host.close()


class Connection:
    """A connection of the peer, accepted by an application on the host."""

    ports = iter(range(6000, 7000))

    def __init__(self, host, isn=7_000_000, flags=0, split=True, syns=1, **options):
        port, sport = next(self.ports), next(self.ports)
        self.host, listening, self.done = host, threading.Event(), threading.Event()
        self.stream, self.application = None, Application(host.hosts, "b")

        def accept():
            with (self.application.listen("10.77.0.2", port, flags) if split
                  else socket.create_server(("10.77.0.2", port))) as listener:
                listening.set()
                listener.settimeout(30)
                connection, _ = listener.accept()
            connection.settimeout(30)
            return connection

        accepting = Inside(host.hosts, "b", accept)
        assert listening.wait(30)
        self.peer = Peer(host, port, sport, isn, **options).connect(syns)
        self.socket = accepting.result()
        if split:
            self.stream = self.application.stream(self.socket)

    def close(self):
        if self.done.is_set():
            return
        self.done.set()
        if self.stream:
            self.stream.close()
        else:
            self.socket.close()
        self.application.close()


@pytest.fixture
def connect(host):
    made = []

    def connect(**options):
        made.append(Connection(host, **options))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def stack(host):
    return host.hosts.status("b")["stack"]


def nic(host):
    return host.hosts.status("b")["nic"]


DATA = random.Random(5).randbytes(20_000)
LIES = random.Random(6).randbytes(20_000)


@pytest.mark.parametrize("isn", [7_000_000, WRAPPING, 0xFFFF_FFFF])
def test_data_in_order_and_an_answer(host, connect, isn):
    one = connect(isn=isn)
    for at in range(0, 5000, 1000):
        one.peer.send(at, DATA[at:at + 1000])
    assert one.stream.recv_exactly(5000) == DATA[:5000] and one.stream.from_store == 0
    one.peer.until_acked(5000)
    one.stream.send(LIES[:3000])
    one.peer.until(lambda: len(one.peer.received) == 3000, "the host's data")
    assert one.peer.received == LIES[:3000]


def test_old_segments_are_acknowledged_again(host, connect):
    one = connect()
    one.peer.send(0, DATA[:1000])
    one.peer.until_acked(1000)
    one.peer.acked = 0  # as if the acknowledgement were lost
    one.peer.send(0, LIES[:1000])
    one.peer.until_acked(1000)
    one.peer.send(500, LIES[500:1000] + DATA[1000:1500])  # partly old
    one.peer.until_acked(1500)
    assert one.stream.recv_exactly(1500) == DATA[:1500]


@pytest.mark.parametrize("first", ["true", "false"])
@pytest.mark.parametrize("burst", [False, True])
def test_rejected_segments_leave_no_byte(host, connect, first, burst):
    one = connect()
    peer = one.peer
    peer.send(0, DATA[:1000])
    peer.until_acked(1000)
    true = peer.frame(2000, DATA[2000:3000])  # behind a hole
    false = peer.frame(2000, LIES[2000:3000], clock=peer.clock - 500)  # PAWS rejects it
    for frame in (true, false) if first == "true" else (false, true):
        peer.push(frame)
        if not burst:
            assert peer.take(2.0) is not None  # each is answered, with a SACK or a challenge
    peer.send(1000, DATA[1000:2000])
    peer.until_acked(3000)
    assert one.stream.recv_exactly(3000) == DATA[:3000]
    assert (one.stream.from_store > 0) == (first == "false")


def test_retransmissions_with_other_bytes_and_edges(host, connect, seed):
    rng = random.Random(seed)
    one = connect(isn=WRAPPING)
    peer, size = one.peer, 12_000
    for _ in range(150):
        start = rng.randrange(1, size)  # byte 0 comes last: nothing can be read before
        end = min(size, start + rng.randrange(1, 1448))
        if rng.random() < 0.5:
            peer.send(start, DATA[start:end])
        else:
            peer.send(start, LIES[start:end], clock=peer.clock - rng.randrange(1, 900))
    for at in range(1, size, 1000):
        peer.send(at, DATA[at:min(size, at + 1000)])
    peer.send(0, DATA[:1])
    peer.until_acked(size)
    assert one.stream.recv_exactly(size) == DATA[:size]
    assert one.stream.from_store > 0


def test_one_byte_segments_and_odd_pieces(host, connect):
    one = connect(isn=WRAPPING)
    order = list(range(0, 300))
    random.Random(1).shuffle(order)
    for at in order:
        one.peer.send(at, DATA[at:at + 1])
    one.peer.send(300, DATA[300:1301])
    one.peer.until_acked(1301)
    assert one.stream.recv_exactly(1301) == DATA[:1301]


def test_syn_is_repeated(host, connect):
    before = stack(host)["flows"]
    one = connect(syns=3)
    one.peer.send(0, DATA[:100])
    assert one.stream.recv_exactly(100) == DATA[:100]
    one.peer.send(-1, flags="S", ack=0)  # to an established connection: it is answered, and changes nothing
    one.peer.send(100, DATA[100:200])
    assert one.stream.recv_exactly(100) == DATA[100:200] and stack(host)["flows"] == before + 1


def test_a_connection_that_is_not_split_stays_so(host, connect):
    one = connect(split=False)
    one.peer.send(0, DATA[:100])
    # Only now somebody wants connections to this port split; then a copy of the SYN comes.
    assert one.application.ask(Operation.LISTEN, local_port=one.peer.port).status == 0
    one.peer.last = None
    one.peer.send(-1, flags="S", ack=0, options=[("MSS", 1460), ("SAckOK", b"")])
    one.peer.until(lambda: one.peer.last is not None, "answer to the SYN")
    one.peer.send(100, DATA[100:200])
    got = b""
    while len(got) < 200:
        got += one.socket.recv(200)
    assert got == DATA[:200]
    assert one.application.ask(Operation.CLAIM, **ends(one.socket)).status == errno.ENOENT


def test_the_last_syn_that_was_answered_counts(host, connect):
    port, sport = next(Connection.ports), next(Connection.ports)
    application = Application(host.hosts, "b")
    listening = threading.Event()

    def accept():
        with application.listen("10.77.0.2", port) as listener:
            listening.set()
            listener.settimeout(30)
            return listener.accept()[0]

    accepting = Inside(host.hosts, "b", accept)
    assert listening.wait(30)
    first = Peer(host, port, sport, 1000)
    first.send(-1, flags="S", ack=0)
    assert first.take() is not None
    first.send(0, flags="R", ack=0)  # it gives up, and begins anew with another number
    peer = Peer(host, port, sport, 0xFFFF_FFF0, timestamps=False).connect()
    with accepting.result() as connection:
        connection.settimeout(30)
        stream = application.stream(connection)
        peer.send(0, DATA[:1000])
        assert stream.recv_exactly(1000) == DATA[:1000]
        stream.close()
    application.close()


def test_zero_window_and_its_probes(host, connect):
    one = connect()
    peer, sent, content = one.peer, 0, random.Random(7).randbytes(300_000)
    while peer.last.window and sent < len(content):  # until it is closed, as the application does not read
        size = min(1448, peer.last.window)
        peer.send(sent, content[sent:sent + size])
        sent += size
        peer.until_acked(sent)
    assert 0 < sent < len(content)
    for probe in (b"P", b""):  # a byte beyond the window, which is rejected, and one before it
        peer.last = None
        peer.send(sent if probe else sent - 1, probe, flags="A")
        peer.until(lambda: peer.last is not None, "answer to a probe")
        assert peer.acked == sent and peer.last.window == 0
    assert one.stream.recv_exactly(sent) == content[:sent]
    peer.until(lambda: peer.last.window > 1448, "window")
    peer.send(sent, b"Q" * 1448)
    assert one.stream.recv_exactly(1448) == b"Q" * 1448


def test_keepalive_probes(host, connect):
    one = connect()
    one.peer.send(0, DATA[:10])
    one.peer.until_acked(10)
    for probe in (b"", b"\xff"):  # both are in use
        one.peer.acked = 0
        one.peer.send(9, probe, flags="A")
        one.peer.until_acked(10)
    one.peer.send(10, DATA[10:20])
    assert one.stream.recv_exactly(20) == DATA[:20]


def test_fin_with_data_then_the_hosts_end(host, connect):
    one = connect()
    one.peer.send(0, DATA[:700], flags="FPA")
    assert one.stream.recv_exactly(700) == DATA[:700] and one.stream.recv() == b""
    one.peer.until_acked(701)
    one.stream.send(b"bye")
    one.socket.shutdown(socket.SHUT_WR)
    one.peer.until(lambda: one.peer.received == b"bye" and "F" in one.peer.last.flags, "FIN")
    one.peer.send(701, flags="A", ack=one.peer.irs + 5)
    one.peer.until(lambda: one.stream.page.state == FlowState.CLOSED, "end of the flow")


def test_reset(host, connect):
    one = connect()
    one.peer.send(0, DATA[:100])
    one.peer.until_acked(100)
    one.peer.send(5000, flags="R")  # not where the host expects it: not believed
    one.peer.send(100, DATA[100:200])
    assert one.stream.recv_exactly(200) == DATA[:200]
    one.peer.until_acked(200)
    one.peer.send(200, flags="R")
    with pytest.raises(ConnectionResetError):
        one.stream.recv()
    assert one.stream.page.state == FlowState.CLOSED


def test_an_orphan_whose_reset_was_not_believed_sends_no_placeholders(host, connect):
    """After a reset that it does not believe the kernel goes on, seconds later: what leaves is data, or nothing."""
    one = connect()
    one.stream.send(DATA[:3000])
    one.peer.until(lambda: len(one.peer.received) == 3000, "the host's data")
    before, last = stack(host)["refused"], time.monotonic()
    one.close()
    # Nothing is acknowledged: retransmissions come further and further apart.
    pause, end = 0.0, time.monotonic() + 30
    while pause < 1.7:
        assert time.monotonic() < end, "no such pause"
        if one.peer.take(0.1) is not None:
            pause, last = time.monotonic() - last, time.monotonic()
    one.peer.send(1 << 20, flags="R")  # far beyond the window
    frames, end = [], time.monotonic() + 20
    while time.monotonic() < end and not frames and stack(host)["refused"] == before:
        frame = one.peer.take(0.5)
        if frame is not None and bytes(frame[TCP].payload):
            frames.append(frame)
    for frame in frames:
        at = frame[TCP].seq - one.peer.irs - 1
        payload = bytes(frame[TCP].payload)
        assert payload == DATA[at:at + len(payload)], "placeholders have left for data"
    assert stack(host)["refused"] > before


def test_ip_options(host, connect):
    one = connect()
    options = {"options": [IPOption_NOP()] * 4}
    for at in (1000, 0):
        one.peer.send(at, DATA[at:at + 1000], ip=options)
    one.peer.send(2000, DATA[2000:3000])
    bad = bytearray(bytes(one.peer.frame(3000, LIES[3000:3500], ip=options)))
    bad[-1] ^= 1  # its checksum is wrong, and the NIC does not look
    one.peer.push(bad)
    one.peer.send(3000, DATA[3000:4000], ip=options)
    assert one.stream.recv_exactly(4000) == DATA[:4000] and one.stream.from_store == 3000


@pytest.mark.parametrize("order", [1, -1])
def test_fragments(host, connect, order):
    one = connect()
    for piece in fragment(one.peer.frame(0, DATA[:4000]), 1200)[::order]:
        one.peer.push(piece)
    one.peer.send(4000, DATA[4000:5000])
    assert one.stream.recv_exactly(5000) == DATA[:5000] and one.stream.from_store == 4000


def test_fragments_of_what_is_not_split(host, connect):
    one = connect(split=False)
    for piece in fragment(one.peer.frame(0, DATA[:4000]), 1200):
        one.peer.push(piece)
    got = b""
    while len(got) < 4000:
        got += one.socket.recv(4000)
    assert got == DATA[:4000]


def test_packets_are_made_whole(seed):
    rng = random.Random(seed)
    packets = Packets()
    frame = Ether() / IP(src="1.2.3.4", dst="5.6.7.8", id=9) / TCP(sport=1, dport=2, flags="A") / DATA[:3000]
    for _ in range(20):
        pieces = [bytes(piece) for piece in fragment(frame, rng.randrange(60, 1400))]
        rng.shuffle(pieces)
        found = [packets.take(piece, 0.0) for piece in pieces]
        assert found[:-1] == [None] * (len(pieces) - 1)
        assert found[-1].frames == tuple(pieces) and Ether(found[-1].plain)[TCP].payload == frame[TCP].payload
    # Overlapping fragments never become whole, and go out of mind.
    first, second, *rest = (bytes(piece) for piece in fragment(frame, 1000))
    wrong = Ether(second)
    wrong[IP].frag -= 1
    del wrong[IP].chksum
    assert [packets.take(piece, 0.0) for piece in (first, bytes(wrong), *rest)] == [None] * (len(rest) + 2)
    assert packets.take(second, 40.0) is None and len(packets._waiting) == 1
    damaged = bytearray(bytes(frame))
    damaged[100] ^= 4
    assert packets.take(bytes(damaged), 0.0).plain is None


def test_corrupt_frames_are_dropped_by_the_nic(host, connect):
    one = connect()
    before = nic(host)
    for k, place in enumerate((22, 40, 60, 100)):  # IPv4, ports, options, payload
        frame = bytearray(bytes(one.peer.frame(0, LIES[:1000])))
        frame[place] ^= 1 << k
        one.peer.push(frame)
    one.peer.send(0, DATA[:1000])
    assert one.stream.recv_exactly(1000) == DATA[:1000]
    after = nic(host)
    dropped = sum(after[name] - before[name] for name in ("bad_checksum", "bad_ip_checksum"))
    assert dropped == 4


def test_a_damaged_ethernet_header_does_not_matter(host, connect, monkeypatch):
    push = Peer.push

    def damaged(self, frame):
        changed = bytearray(bytes(frame))
        changed[self.rng.randrange(12)] ^= 1 << self.rng.randrange(8)
        push(self, changed)

    with monkeypatch.context() as patch:
        patch.setattr(Peer, "push", damaged)
        # What the flow is known by comes in such frames as well. The kernel gets them as they came, and takes those
        # that are still for its own MAC: half of them.
        one = connect(syns=12)
        one.peer.send(0, DATA[:1000])
        one.peer.send(2000, DATA[2000:3000])
        one.peer.send(1500, DATA[1500:2500])
    one.peer.send(1000, DATA[1000:2000])
    assert one.stream.recv_exactly(3000) == DATA[:3000]


def test_urgent_bytes_stay_in_the_stream(host, connect):
    one = connect()
    one.peer.send(0, DATA[:1000], flags="PAU", urgptr=500)
    one.peer.send(1000, DATA[1000:1100])
    assert one.stream.recv_exactly(1100) == DATA[:1100]


def test_segments_that_straddle_what_is_posted(host, connect):
    one = connect(flags=FlowFlag.POSTED_RECEIVE)
    ask, reply = one.application.ask, one.stream.reply
    flow = {"flow": reply.flow, "generation": reply.generation, "direction": Direction.RECEIVE}
    memory = ask(Operation.ALLOCATE, length=1 << 16)
    post = {**flow, "region": memory.region}
    for position, length in ((100, 1), (101, 399), (700, 800)):  # with gaps before, between and behind
        assert ask(Operation.POST, **post, position=position, length=length, place=memory.place + position).status == 0
    before = nic(host)
    one.peer.send(0, DATA[:1000])
    one.peer.send(1000, DATA[1000:2000])
    one.peer.until_acked(2000)
    tags = one.socket.recv(2000)
    parts = one.stream.reader.resolve(tags)
    one.stream.reader.consume(2000)
    got = b"".join(part.content or bytes(one.stream.memory[memory.place + part.position:][:part.size])
                   for part in parts)
    assert got == DATA[:2000] and {part.content is None for part in parts} == {True, False}
    after = nic(host)
    assert after["no_segment"] - before["no_segment"] == 2
    assert 0 < after["bytes_placed"] - before["bytes_placed"] < 1200
    assert ask(Operation.SETTLE, flow=reply.flow, generation=reply.generation, position=2000).status == 0
    assert ask(Operation.RETIRE, **flow, position=1500).status == 0
    assert ask(Operation.POST, **post, position=2000, length=100, place=memory.place).status == 0
    assert ask(Operation.POST, **post, position=1999, length=100, place=memory.place).status != 0
    assert ask(Operation.POST, **post, position=3000, length=100, place=memory.place + (1 << 16) - 99).status != 0


def test_segments_run_out(host, connect):
    one = connect(flags=FlowFlag.POSTED_RECEIVE)
    ask, reply = one.application.ask, one.stream.reply
    flow = {"flow": reply.flow, "generation": reply.generation, "direction": Direction.RECEIVE}
    memory = ask(Operation.ALLOCATE, length=4096)
    post = {**flow, "region": memory.region, "place": memory.place}
    for k in range(32):
        assert ask(Operation.POST, **post, position=10 * k, length=10).status == 0
    assert ask(Operation.POST, **post, position=320, length=10).status == 28  # ENOSPC
    assert ask(Operation.RETIRE, **flow, position=10).status == 0
    assert ask(Operation.POST, **post, position=320, length=10).status == 0
    # Another application has nothing to say about this flow and this memory.
    other = Application(host.hosts, "b")
    assert other.ask(Operation.POST, **post, position=400, length=10).status == 2  # ENOENT
    other.close()


def test_the_same_ends_connect_anew(host, connect):
    one = connect()
    peer = one.peer
    peer.send(0, DATA[:500])
    assert one.stream.recv_exactly(500) == DATA[:500]
    peer.until_acked(500)
    peer.send(500, flags="R")
    with pytest.raises(ConnectionResetError):
        one.stream.recv()
    # The first connection is still claimed.
    listening = threading.Event()

    def accept():
        with one.application.listen("10.77.0.2", peer.port) as listener:
            listening.set()
            return listener.accept()[0]

    accepting = Inside(host.hosts, "b", accept)
    assert listening.wait(30)
    again = Peer(host, peer.port, peer.sport, 99).connect()
    connection = accepting.result()
    connection.settimeout(30)
    stream = one.application.stream(connection)
    again.send(0, LIES[:500])
    assert stream.recv_exactly(500) == LIES[:500] and stream.reply.flow != one.stream.reply.flow
    stream.close()
