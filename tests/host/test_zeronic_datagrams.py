# SPDX-License-Identifier: Apache-2.0
"""UDP as a second transport above the NIC: arrays are exact whatever the wire does, and the NIC has placed them."""

import random
import socket
import threading

import numpy as np
import pytest
from zeronic_hosts import Inside, need_hosts

from rackgate_host.errors import UsageError
from rackgate_host.zeronic.datagrams import HEADER, PIECE, PORTS, DatagramReceiver, DatagramSender
from rackgate_host.zeronic.endpoint import Endpoint
from rackgate_host.zeronic.errors import StreamTimeout
from rackgate_host.zeronic.hosts import Hosts, HostsConfig
from rackgate_host.zeronic.wire import Conditions

BAD = Conditions(loss=0.05, duplicate=0.05, reorder=0.2, corrupt=0.01)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    need_hosts()
    return tmp_path_factory.mktemp("zn")


@pytest.fixture(scope="module")
def hosts(directory):
    with Hosts.start(HostsConfig(), directory / "good") as hosts:
        yield hosts


def move(hosts, arrays, port):
    """Send arrays from a to b one after the other: what came, and bytes that were placed and copied."""
    ready, sender_port = threading.Event(), 30000 + port

    def on_b():
        with Endpoint(hosts.socket("b")) as endpoint, \
                DatagramReceiver(endpoint, port, (hosts.address("a"), sender_port)) as receiver:
            ready.set()
            return ([receiver.receive(endpoint.allocate(array.shape, array.dtype)).copy() for array in arrays],
                    receiver.placed, receiver.copied)

    def on_a():
        with Endpoint(hosts.socket("a")) as endpoint:
            assert ready.wait(30)
            with DatagramSender(endpoint, sender_port, (hosts.address("b"), port)) as sender:
                for array in arrays:
                    sender.send(array)

    receiving, sending = Inside(hosts, "b", on_b), Inside(hosts, "a", on_a)
    sending.result(90)
    return receiving.result(90)


def arrays_of(seed, sizes):
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 256, size, np.uint8) for size in sizes]


def test_arrays_are_placed(hosts, seed):
    before = hosts.status("b")["datagrams"]
    arrays = [*arrays_of(seed, (1, PIECE, 3 * PIECE + 5, 200_000)), np.arange(1000, dtype="f4").reshape(10, 100)]
    came, placed, copied = move(hosts, arrays, PORTS[0])
    assert all(map(np.array_equal, came, arrays))
    total = sum(array.nbytes for array in arrays)
    assert placed + copied == total
    after = hosts.status("b")["datagrams"]
    # Pieces that come before their array is posted are not.
    assert placed > 0 and after["headers"] > before["headers"]


def test_arrays_are_exact_on_a_bad_wire(directory, seed):
    arrays = arrays_of(seed, (100_001, 7, 60_000))
    config = HostsConfig(conditions={"a": BAD, "b": BAD}, seed=seed)
    with Hosts.start(config, directory / "bad") as hosts:
        came, placed, copied = move(hosts, arrays, PORTS[-1])
        assert all(map(np.array_equal, came, arrays)) and placed > 0
        assert hosts.status("a")["wire"]["lost"]


def test_no_peer_can_say_that_a_piece_is_placed(hosts, seed):
    """A mark on the wire counts for nothing, nor does a piece of another size, or one that is of no array."""
    content, ready = random.Random(seed).randbytes(2 * PIECE), threading.Event()
    port = PORTS[7]

    def on_b():
        with Endpoint(hosts.socket("b")) as endpoint, \
                DatagramReceiver(endpoint, port, (hosts.address("a"), 40007)) as receiver:
            array = endpoint.allocate(2 * PIECE)
            ready.mark = receiver._mark
            ready.set()
            return receiver.receive(array).tobytes()

    def on_a():
        assert ready.wait(30)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind((hosts.address("a"), 40007))
            one.connect((hosts.address("b"), port))
            end = len(content)
            for lie in (HEADER.pack(1, 0, end, 12345), HEADER.pack(1, 0, end, 0) + content[:10],
                        HEADER.pack(1, PIECE, end, ready.mark), HEADER.pack(1, 1 << 30, end, 0) + content[:PIECE],
                        HEADER.pack(1, 0, end + 5, 0) + bytes(PIECE), b"", b"short", HEADER.pack(2, 0, end, 0)):
                one.send(lie)
            for at in (0, PIECE):
                one.send(HEADER.pack(1, at, end, 99) + content[at:at + PIECE])
            one.settimeout(20)
            while HEADER.unpack_from(one.recv(1 << 16))[1] != end:
                pass

    receiving, sending = Inside(hosts, "b", on_b), Inside(hosts, "a", on_a)
    sending.result(60)
    assert receiving.result(60) == content


def test_what_makes_no_sense(hosts):
    def work():
        with Endpoint(hosts.socket("b")) as endpoint:
            with pytest.raises(UsageError, match="port must be 18176 to 18431, not 99"):
                DatagramReceiver(endpoint, 99, (hosts.address("a"), 5))
            with pytest.raises(UsageError, match="do not go through the NIC"):
                DatagramReceiver(endpoint, PORTS[3], ("10.77.0.2", 5))
            with DatagramReceiver(endpoint, PORTS[4], (hosts.address("a"), 5)) as receiver, pytest.raises(
                    StreamTimeout, match="0 of 2 pieces have come from 10.77.0.1:5 after 0.3 s"):
                receiver.receive(endpoint.allocate(PIECE + 1), timeout=0.3)
            with DatagramSender(endpoint, 40009, (hosts.address("a"), PORTS[5])) as sender, pytest.raises(
                    StreamTimeout, match="has 0 of 1 pieces after 0.3 s"):
                sender.send(np.zeros(4), timeout=0.3)

    Inside(hosts, "b", work).result()
