# SPDX-License-Identifier: Apache-2.0
"""Linux' TCP above the model of the NIC: streams are exact whatever the wire does, and flows come and go."""

import errno
import os
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from zeronic_hosts import Application, Inside, need_hosts

from rackgate.zeronic.abi import Direction
from rackgate_host.errors import UsageError
from rackgate_host.zeronic import namespaces
from rackgate_host.zeronic.cable import plug_in
from rackgate_host.zeronic.errors import NoHosts
from rackgate_host.zeronic.hosts import Hosts, HostsConfig
from rackgate_host.zeronic.shared import FlowFlag, FlowState, Operation
from rackgate_host.zeronic.wire import Conditions

BAD = Conditions(loss=0.03, duplicate=0.05, reorder=0.2, corrupt=0.01)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    need_hosts()
    return tmp_path_factory.mktemp("zn")


@pytest.fixture(scope="module")
def hosts(directory):
    """Hosts on a good wire."""
    with Hosts.start(HostsConfig(), directory / "good") as hosts:
        yield hosts


@pytest.fixture
def started(directory):
    """Start hosts of a configuration; they end with the test."""
    made = []

    def start(**config):
        made.append(Hosts.start(HostsConfig(**config), directory / f"n{len(os.listdir(directory))}"))
        return made[-1]

    yield start
    for one in made:
        one.stop()


def pair(hosts, port, serve, ask, flags_a=0, flags_b=0):
    """Connect from a to b: results of ``serve(stream)`` on b and ``ask(stream)`` on a, and what b counted meanwhile."""
    listening = threading.Event()
    before = hosts.status("b")["stack"]

    def on_b():
        application = Application(hosts, "b")
        try:
            with application.listen(hosts.address("b"), port, flags_b) as listener:
                listening.set()
                listener.settimeout(30)
                connection, _ = listener.accept()
            connection.settimeout(30)
            stream = application.stream(connection)
            out = serve(stream)
            stream.close()
            return out
        finally:
            listening.set()
            application.close()

    def on_a():
        application = Application(hosts, "a")
        assert listening.wait(30)
        stream = application.connect(hosts.address("a"), (hosts.address("b"), port), flags_a)
        out = ask(stream)
        stream.close()
        application.close()
        return out

    server, client = Inside(hosts, "b", on_b), Inside(hosts, "a", on_a)
    out = client.result(), server.result()
    after = hosts.status("b")["stack"]
    return out, {name: after[name] - before[name] for name in before if isinstance(before[name], int)}


def echo(size, seed):
    """A server that answers with what it got, backwards, and a client that checks it."""
    content = random.Random(seed).randbytes(size)

    def serve(stream):
        got = stream.recv_exactly(size)
        stream.send(got[::-1])
        assert stream.recv() == b""
        return got == content

    def ask(stream):
        stream.send(content)
        right = stream.recv_exactly(size) == content[::-1]
        stream.connection.shutdown(socket.SHUT_WR)
        return right

    return serve, ask


def test_streams_are_exact_and_payload_is_placed(hosts, seed):
    (right_a, right_b), counts = pair(hosts, 5000, *echo(3_000_001, seed))
    assert right_a and right_b
    assert counts["flows"] == 1 and counts["payload_up"] >= 3_000_001 and counts["payload_down"] >= 3_000_001
    # Only the handshake is not split, and nothing had to be deferred.
    assert counts["payload_deferred"] == 0 and counts["whole_bytes"] < 200


@pytest.mark.parametrize("mtu, coalesce", [(1500, 4096), (9000, 0)])
def test_streams_are_exact_on_a_bad_wire(started, seed, mtu, coalesce):
    hosts = started(conditions={"a": BAD, "b": BAD}, seed=seed, mtu=mtu, coalesce=coalesce)
    for port in (5001, 5002):
        (right_a, right_b), _ = pair(hosts, port, *echo(150_000, seed))
        assert right_a and right_b
    wire, nic = hosts.status("a")["wire"], hosts.status("b")["nic"]
    assert wire["lost"] and wire["duplicated"] and wire["reordered"] and wire["corrupted"]
    assert nic["placed"] and nic["deferred"] and nic["bad_checksum"] and not nic["bad_command"]


def test_a_tap_does_as_well(started, seed):
    """Where there is no virtual Ethernet: the same streams, the kernel's placeholders being read along."""
    hosts = started(conditions={"a": BAD}, seed=seed, cable="tap")
    assert [hosts.status(host)["cable"] for host in "ab"] == ["tap", "tap"]
    (right_a, right_b), counts = pair(hosts, 5009, *echo(150_000, seed))
    assert right_a and right_b and counts["flows"] == 1 and counts["payload_up"] >= 150_000


def test_a_tap_when_virtual_ethernet_cannot_be_had(monkeypatch):
    """The kernel's refusal of one, then of both, which is told."""
    need_hosts()
    interface = namespaces.Interface("eth0", "02:00:00:00:77:09", "10.78.0.9/24", 1500, {})

    def refuse(*arguments, **options):
        raise NoHosts("ip link add: Operation not supported")

    def work():
        monkeypatch.setattr(namespaces, "connect", refuse)
        os.close(namespaces.make())  # of this thread, which ends
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        port, cable = plug_in(own, interface)
        port.close()
        monkeypatch.setattr("rackgate_host.zeronic.cable.TapPort", tap)
        for wanted, said in (("", "not supported; no TAP"), ("tap", "no TAP interface can be had"),
                             ("veth", "no virtual Ethernet can be had")):
            with pytest.raises(NoHosts, match=said):
                plug_in(own, interface, wanted)
        os.close(own)
        return cable

    def tap(name):
        raise OSError(errno.ENODEV, "No such device")

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(work).result() == "tap"
    with pytest.raises(UsageError, match="cable must be veth or tap, not 'wet'"):
        HostsConfig(cable="wet")


def test_applications_share_the_host_with_what_is_not_split(hosts, seed):
    content = random.Random(seed).randbytes(500_000)
    listening = threading.Event()

    def plain_server():
        with socket.create_server((hosts.address("b"), 5003)) as listener:
            listening.set()
            connection, _ = listener.accept()
            with connection:
                got = b""
                while part := connection.recv(1 << 16):
                    got += part
                return got

    def plain_client():
        listening.wait(30)
        with socket.create_connection((hosts.address("b"), 5003), 30) as connection:
            connection.sendall(content)

    before = hosts.status("b")["stack"]["flows"]
    server, client = Inside(hosts, "b", plain_server), Inside(hosts, "a", plain_client)
    split = pair(hosts, 5004, *echo(200_000, seed))[0]
    client.result()
    assert server.result() == content and split == (True, True)
    assert hosts.status("b")["stack"]["flows"] == before + 1


def test_udp_passes(hosts):
    with_b = threading.Event()

    def server():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind((hosts.address("b"), 7))
            one.settimeout(20)
            with_b.set()
            content, source = one.recvfrom(2000)
            one.sendto(content[::-1], source)

    def client():
        with_b.wait(20)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(20)
            one.sendto(b"hello" * 200, (hosts.address("b"), 7))
            return one.recv(2000)

    server, client = Inside(hosts, "b", server), Inside(hosts, "a", client)
    assert client.result() == (b"hello" * 200)[::-1]
    server.result()


def test_a_flow_can_be_used_anew_when_it_is_over(hosts, seed):
    for _ in range(3):
        assert pair(hosts, 5005, *echo(1000, seed))[0] == (True, True)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        now = [hosts.status(host)["stack"]["flows_now"] for host in "ab"]
        if not any(now):
            break
        time.sleep(0.05)
    assert now == [0, 0]


def test_requests_that_cannot_be_done(hosts):
    application = Application(hosts, "a")
    here, there = application.address, application.address + 1
    ask = application.ask
    connect = {"local_address": here, "local_port": 9, "remote_address": there, "remote_port": 9}
    assert ask(Operation.CONNECT, **{**connect, "remote_address": here}).status == errno.EADDRNOTAVAIL
    assert ask(Operation.CONNECT, **{**connect, "remote_address": 0x7F000001}).status == errno.EADDRNOTAVAIL
    assert ask(Operation.CONNECT, **{**connect, "local_port": 0}).status == errno.EADDRNOTAVAIL
    assert ask(Operation.CLAIM, **connect).status == errno.ENOENT
    assert ask(Operation.RELEASE, flow=1, generation=77).status == errno.ENOENT
    assert ask(Operation.LISTEN).status == errno.EINVAL
    assert ask(Operation.FREE, region=9).status == errno.ENOENT
    assert ask(Operation.ALLOCATE).status == errno.EINVAL
    assert ask(Operation.ALLOCATE, length=1 << 29).status == errno.ENOMEM
    assert ask(99).status == errno.ENOSYS
    assert ask(Operation.HELLO, length=99).status == errno.EPROTO
    first = ask(Operation.CONNECT, **connect, flags=FlowFlag.POSTED_RECEIVE)
    assert first.status == 0 and first.flags == FlowFlag.POSTED_RECEIVE
    post = {"flow": first.flow, "generation": first.generation, "length": 10}
    assert ask(Operation.POST, **post).status == errno.ENOTCONN
    assert ask(Operation.POST, **post, direction=Direction.SEND).status == errno.EINVAL
    assert ask(Operation.POST, **post, direction=7).status == errno.EINVAL
    # A connection that was never made can be asked for again.
    again = ask(Operation.CONNECT, **connect)
    assert again.status == 0 and (again.flow, again.generation) != (first.flow, first.generation)
    assert ask(Operation.RELEASE, flow=again.flow, generation=again.generation).status == 0
    application.close()


def test_what_an_application_had_is_given_back(hosts):
    for _ in range(3):
        applications = [Application(hosts, "a") for _ in range(2)]
        regions = []
        while (reply := applications[0].ask(Operation.ALLOCATE, length=1 << 20)).status == 0:
            regions.append(reply.region)
        assert reply.status == errno.ENOSPC and len(regions) == 62
        assert applications[1].ask(Operation.ALLOCATE, length=1).status == errno.ENOSPC
        for application in applications:
            application.close()
        end = time.monotonic() + 10
        while hosts.status("a")["applications"] and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.1)


def test_posted_segments_receive_and_send(hosts, seed):
    content = random.Random(seed).randbytes(1_000_000)
    size = len(content)

    def allocate(stream):
        reply = stream.application.ask(Operation.ALLOCATE, length=size)
        assert reply.status == 0
        return reply.region, reply.place

    def post(stream, direction, region, place, position, length):
        reply = stream.reply
        got = stream.application.ask(Operation.POST, flow=reply.flow, generation=reply.generation, direction=direction,
                                     position=position, length=length, region=region, place=place + position)
        assert got.status == 0, os.strerror(got.status)

    def serve(stream):
        region, place = allocate(stream)
        post(stream, Direction.RECEIVE, region, place, 0, size // 2)
        post(stream, Direction.RECEIVE, region, place, size // 2, size - size // 2)
        stream.send(b"g")  # all is posted: go
        got = 0
        while got < size:
            available = len(stream.connection.recv(size, socket.MSG_PEEK))
            assert available and stream.reader.is_plain(available)
            assert stream._skip(available) == available
            stream.reader.consume(available)
            got += available
        return bytes(stream.memory[place:place + size]) == content

    def ask(stream):
        region, place = allocate(stream)
        stream.memory[place:place + size] = content
        post(stream, Direction.SEND, region, place, 0, size)
        assert stream.recv() == b"g"
        sent = 0
        while sent < size:
            sent += stream.connection.send(bytes(min(1 << 16, size - sent)))
        while int.from_bytes(stream._ioctl(0x5411), "little"):  # SIOCOUTQ: all is acknowledged
            time.sleep(0.005)
        reply = stream.reply
        assert stream.application.ask(Operation.RETIRE, flow=reply.flow, generation=reply.generation,
                                      direction=Direction.SEND, position=size).status == 0
        return stream.page.state

    (state, right), counts = pair(hosts, 5006, serve, ask, FlowFlag.POSTED_SEND, FlowFlag.POSTED_RECEIVE)
    assert right and state == FlowState.OPEN
    assert counts["payload_deferred"] == 0 and counts["payload_up"] >= size


def talk(hosts, count, size, seed):
    """Open so many connections from a to b, and send both ways on all of them at a time: whether all is right."""
    contents = [random.Random(seed + k).randbytes(size) for k in range(count)]
    listening = threading.Event()

    def on_b():
        application = Application(hosts, "b")
        streams = []
        with application.listen(hosts.address("b"), 5100, backlog=count) as listener:
            listening.set()
            listener.settimeout(60)
            for _ in range(count):
                connection, _ = listener.accept()
                connection.settimeout(60)
                streams.append(application.stream(connection))
        for stream in streams:
            stream.send(stream.recv_exactly(size)[::-1])
        for stream in streams:
            assert stream.recv() == b""
            stream.close()
        application.close()

    def on_a():
        application = Application(hosts, "a")
        assert listening.wait(30)
        streams = [application.connect(hosts.address("a"), (hosts.address("b"), 5100), timeout=60)
                   for _ in range(count)]
        half = size // 2
        for part in (slice(half), slice(half, size)):
            for stream, content in zip(streams, contents, strict=True):
                stream.send(content[part])
        right = [stream.recv_exactly(size) == content[::-1] for stream, content in zip(streams, contents, strict=True)]
        for stream in streams:
            stream.close()
        application.close()
        return right

    server, client = Inside(hosts, "b", on_b), Inside(hosts, "a", on_a)
    right = client.result(300)
    server.result(300)
    return right


def test_many_flows(hosts, seed):
    before = hosts.status("b")["stack"]
    assert all(talk(hosts, 40, 6001, seed))
    after = hosts.status("b")["stack"]
    assert after["flows"] - before["flows"] == 40 and after["unsplit"] == before["unsplit"]


@pytest.mark.soak
def test_256_flows_on_a_bad_wire(started, seed):
    hosts = started(conditions={"a": BAD, "b": BAD}, seed=seed)
    # A key for which the flow table has no place is not split; that is rare, and is counted.
    assert all(talk(hosts, 256, 20_001, seed))
    status = hosts.status("b")["stack"]
    assert status["flows"] + status["unsplit"] >= 256
