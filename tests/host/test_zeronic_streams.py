# SPDX-License-Identifier: Apache-2.0
"""Streams between arrays in NIC memory."""

import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zeronic_allreduce
import zeronic_peer
from test_zeronic_apps import BAD, hosts_up
from zeronic_hosts import Inside

from rackgate_host.errors import BadBuffer, OutOfDeviceMemory, UsageError
from rackgate_host.zeronic.connection import Connection
from rackgate_host.zeronic.endpoint import Endpoint
from rackgate_host.zeronic.errors import NoHosts, StreamClosed, StreamTimeout, TooManySegments
from rackgate_host.zeronic.hosts import Hosts
from rackgate_host.zeronic.ports import SO_RCVBUFFORCE
from rackgate_host.zeronic.ring import Ring
from rackgate_host.zeronic.shared import SOCKET_VARIABLE
from rackgate_host.zeronic.wire import Conditions

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(1500)]


@pytest.mark.parametrize(("device", "size", "conditions"), [
    ("model:zeronic", 2, None), ("model:zeronic", 4, BAD),
    pytest.param("sim:zeronic", 2, None, marks=[pytest.mark.cosim, pytest.mark.xdist_group("zeronic")]),
    pytest.param("sim:zeronic", 4, BAD, marks=[pytest.mark.cosim, pytest.mark.soak]),
])
def test_ring_allreduce(tmp_path: Path, device: str, size: int, conditions: Conditions | None) -> None:
    seed = int.from_bytes(os.urandom(3), "little")
    print(f"values' seed {seed}")
    with hosts_up(tmp_path, device, conditions) as hosts:
        ranks = []
        for rank in range(size):
            arguments = [rank, size, hosts.address("ba"[rank % 2]), 7100, 50_000, seed]
            ranks.append(hosts.popen("ab"[rank % 2], [sys.executable, zeronic_allreduce.__file__, *map(str, arguments)],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        told = [rank.communicate(timeout=1300) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0] * size, told
        print(told)
        if conditions is None:
            assert [int(out) for out, _ in told] == [0] * size


def with_peer(hosts: Hosts, work: Callable[[Endpoint, Connection], None]) -> None:
    """``work`` on host a, with a connection to a process on b that sends back what it gets."""
    peer = hosts.popen("b", [sys.executable, zeronic_peer.__file__, "7200"], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)

    def connect() -> None:
        with Endpoint(hosts.socket("a")) as endpoint, endpoint.connect(hosts.address("b"), 7200) as connection:
            work(endpoint, connection)

    try:
        assert peer.stdout is not None
        assert peer.stdout.readline() == "listening\n"
        Inside(hosts, "a", connect).result()
    finally:
        peer.terminate()
        out, err = peer.communicate(timeout=20)
        assert "Traceback" not in err, err


def test_streams_between_arrays(tmp_path: Path) -> None:
    def work(endpoint: Endpoint, connection: Connection) -> None:
        sent = endpoint.allocate((4, zeronic_peer.SIZE // 4), "i4")
        back = endpoint.allocate(sent.shape, "i4")
        sent[:] = np.random.default_rng(1).integers(-1 << 31, 1 << 31, sent.shape)
        # Segments of several sizes and offsets, posted ahead; a byte belongs to one.
        flat, bytes_sent = back.reshape(-1).view(np.uint8), sent.reshape(-1).view(np.uint8)
        bounds = [0, 1, 3, 4096, 4097, 9000, 16384]
        receives = [connection.post_receive(flat[begin:end]) for begin, end in zip(bounds, bounds[1:], strict=False)]
        sends = [connection.post_send(bytes_sent[begin:end]) for begin, end in zip(bounds, bounds[1:], strict=False)]
        with pytest.raises(BadBuffer, match="the array is posted: wait"):
            endpoint.free(back)
        receives[-1].wait(30)
        assert all(request.done for request in receives) and np.array_equal(back, sent)
        sends[-1].wait(30)
        assert connection.copied == 0
        # What comes before its segment is posted is kept, and copied.
        late = endpoint.allocate(zeronic_peer.SIZE)
        connection.post_send(bytes_sent[:4096]).wait(30)
        assert select.select([connection.socket], [], [], 30)[0]
        request = connection.post_receive(late)
        assert np.array_equal(request.wait(30), bytes_sent[:4096]) and 0 < connection.copied <= 4096
        connection.shutdown(10)
        with pytest.raises(UsageError, match="the stream was shut"):
            connection.post_send(late)
        with pytest.raises(StreamClosed, match="0 of 4096 bytes were received, then the connection ended: the peer"):
            connection.post_receive(late).wait(30)
        endpoint.free(late)
        with pytest.raises(BadBuffer, match="not in NIC memory"):
            connection.post_receive(late)

    with hosts_up(tmp_path, "model:zeronic") as hosts:
        with_peer(hosts, work)


_FAST_SENDER = """
import socket, sys
with socket.create_server(("", 7300)) as server:
    print("listening", flush=True)
    stream, _ = server.accept()
    with stream:
        stream.recv(1)
        stream.sendall(bytes(range(256)) * (int(sys.argv[1]) // 256))
        stream.recv(1)
"""


class _Unprivileged:
    """A socket of a program that may not ask for more than the machine lets it."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner, self.asked = inner, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if (level, option) == (socket.SOL_SOCKET, SO_RCVBUFFORCE):
            raise PermissionError
        self.asked += option == socket.SO_RCVBUF
        self._inner.setsockopt(level, option, value)


@pytest.mark.parametrize("is_root", [True, False], ids=["root", "anyone"])
def test_a_sender_that_is_faster_waits_for_what_is_posted(tmp_path: Path, is_root: bool) -> None:
    """TCP's window ends with the posted segments, so that nothing comes that has to be copied."""
    size, count, posted = 1 << 15, 150, 12
    content = np.resize(np.arange(256, dtype=np.uint8), size)

    def receive(hosts: Hosts) -> int:
        with Endpoint(hosts.socket("a")) as endpoint, endpoint.connect(hosts.address("b"), 7300) as connection:
            plain = _Unprivileged(connection.socket)
            if not is_root:
                vars(connection)["socket"] = plain
            arrays = [endpoint.allocate(size) for _ in range(posted)]
            under_way = deque(connection.post_receive(array) for array in arrays)
            go = endpoint.allocate(1)
            connection.post_send(go).wait(30)
            for k in range(count):
                array = under_way.popleft().wait(30)
                assert np.array_equal(array, content)
                array[:] = 0
                if k % 20 == 1:
                    time.sleep(0.05)  # all that had come has been seen, and nothing posted for more
                if k + posted < count:
                    under_way.append(connection.post_receive(array))
                if k % 20 == 0:
                    time.sleep(0.05)  # meanwhile the window fills
            connection.post_send(go).wait(30)
            assert is_root or plain.asked > count
            return connection.copied

    with hosts_up(tmp_path, "model:zeronic") as hosts:
        sender = hosts.popen("b", [sys.executable, "-c", _FAST_SENDER, str(size * count)], stdout=subprocess.PIPE,
                             text=True)
        try:
            assert sender.stdout is not None and sender.stdout.readline() == "listening\n"
            assert Inside(hosts, "a", lambda: receive(hosts)).result() == 0
            assert sender.wait(20) == 0
        finally:
            sender.kill()
            sender.communicate()


def test_what_streams_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    with pytest.raises(NoHosts, match="runs on no simulated host"):
        Endpoint()
    with pytest.raises(NoHosts, match="no simulated host answers at"):
        Endpoint(tmp_path / "nothing")

    def work(endpoint: Endpoint, connection: Connection) -> None:
        array = endpoint.allocate((8, 8), "f4")
        for wrong in (np.zeros(4), array[:, 1], array[:0]):
            with pytest.raises(BadBuffer):
                connection.post_receive(wrong)
        with pytest.raises(BadBuffer, match="only a whole array"):
            endpoint.free(array[1:])
        with pytest.raises(TypeError, match="plain data"):
            endpoint.allocate(4, object)
        with pytest.raises(ValueError, match="at least one element"):
            endpoint.allocate((4, 0))
        with pytest.raises(OutOfDeviceMemory, match="cannot be had"):
            endpoint.allocate(1 << 29)
        with pytest.raises(ValueError, match="timeout must be positive"):
            connection.post_receive(array[0]).wait(-1)
        with pytest.raises(StreamTimeout, match="0 of 32 bytes were received within 0.2 s"):
            connection.post_receive(array[1]).wait(0.2)
        with pytest.raises(TooManySegments, match="wait for the oldest"):
            for _ in range(100):
                connection.post_receive(array[2])
        with pytest.raises(ConnectionRefusedError):
            endpoint.connect("10.77.0.2", 7299)
        for address in ("127.0.0.1", endpoint.address):
            with pytest.raises(UsageError, match="does not go through the NIC"):
                endpoint.connect(address, 7200)
        with pytest.raises(UsageError, match="must be IPv4"):
            endpoint.connect("there", 7200)
        with endpoint.listen(0) as listener, pytest.raises(StreamTimeout, match="nobody has connected"):
            listener.accept(timeout=0.1)
        with pytest.raises(UsageError, match="rank must be"):
            Ring(endpoint, 2, 2, connection, connection)
        with pytest.raises(UsageError, match="an element for each"):
            Ring(endpoint, 0, 100, connection, connection).allreduce(array)
        connection.close()
        connection.close()
        with pytest.raises(UsageError, match="is closed"):
            connection.post_send(array)

    with hosts_up(tmp_path, "model:zeronic") as hosts:
        with_peer(hosts, work)


def test_a_stream_that_is_reset_fails(tmp_path: Path) -> None:
    """Its peer is killed, with data unread: what was sent and is not acknowledged fails, and does not hang."""
    with hosts_up(tmp_path, "model:zeronic") as hosts:
        script = ("import sys, time\nfrom rackgate_host.zeronic.endpoint import Endpoint\nendpoint = Endpoint()\n"
                  "listener = endpoint.listen(7300)\nprint('listening', flush=True)\nlistener.accept(timeout=60)\n"
                  "time.sleep(60)\n")
        peer = hosts.popen("b", [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)

        def work() -> None:
            with Endpoint(hosts.socket("a")) as endpoint, endpoint.connect(hosts.address("b"), 7300) as connection:
                # More than the peer's kernel takes for an application that does not read.
                array = endpoint.allocate(4 << 20)
                request = connection.post_send(array)
                with pytest.raises(StreamTimeout, match="of 4194304 bytes were acknowledged within 3 s"):
                    request.wait(3)
                peer.terminate()
                with pytest.raises(StreamClosed, match="of 4194304 bytes were acknowledged, then the connection ended"):
                    request.wait(30)
                endpoint.free(array)

        try:
            assert peer.stdout is not None and peer.stdout.readline() == "listening\n"
            Inside(hosts, "a", work).result()
        finally:
            peer.terminate()
            peer.communicate(timeout=20)
