# SPDX-License-Identifier: Apache-2.0
"""How far a connection with posted segments reads, and how far it lets the kernel's window reach."""

import fcntl
import socket
import struct
import termios
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rackgate.zeronic.abi import Direction
from rackgate_host.zeronic.connection import Connection
from rackgate_host.zeronic.request import Request

_WINDOW_STEP, _LEAST = 4096, 16384


class _Reader:
    """All bytes are in place."""

    def is_plain(self, size):
        return True

    def consume(self, size):
        pass


@pytest.fixture
def ends():
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def connection(end, sizes):
    """A connection on that socket with such segments posted, whose NIC has placed whatever the kernel says has come."""
    one = object.__new__(Connection)
    one.socket, one._reader, one._flow = end, _Reader(), {}
    one._endpoint = SimpleNamespace(link=SimpleNamespace(ask=lambda *given: None))
    one._page = SimpleNamespace(received=0)
    one._ended, one._retirable = {}, dict.fromkeys(Direction, 0)
    one._received = one._ahead = one.moved = 0
    one._posted = {direction: deque() for direction in Direction}
    at = 0
    for size in sizes:
        one._posted[Direction.RECEIVE].append(Request(one, Direction.RECEIVE, at, np.zeros(size, np.uint8)))
        at += size
    return one


def come(end, sender, size):
    """Send so many bytes, and wait until the kernel has them all."""
    sender.sendall(bytes(size))
    deadline = time.monotonic() + 10
    while struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, bytes(4)))[0] < size:
        assert time.monotonic() < deadline, "the kernel does not get what was sent"
        time.sleep(0.001)


def test_some_of_what_is_posted_is_left_for_the_window(ends):
    """The kernel lets come 16 KB in any case. They stay posted, but for the request that is waited for."""
    ours, theirs = ends
    one = connection(ours, [10_000, 10_000, 30_000])
    come(ours, theirs, 50_000)
    one._receive()
    assert one._received == 50_000 - _LEAST and one._ahead == _LEAST
    assert [request.done for request in one._posted[Direction.RECEIVE]] == [False]
    one._receive()
    assert one._received == 50_000 and not one._posted[Direction.RECEIVE]


def test_nothing_is_read_that_is_not_posted(ends):
    ours, theirs = ends
    one = connection(ours, [10_000])
    come(ours, theirs, 50_000)
    one._receive()
    assert one._received == 10_000
    one._receive()
    assert one._received == 10_000 and one.moved == 10_000


@pytest.mark.parametrize("posted", [1, _LEAST, 100_000, 1 << 20])
def test_the_window_ends_with_what_is_posted(ends, posted):
    """By the kernel's buffer, which is twice what is asked for: in whole steps, and never less than 16 KB."""
    ours, _ = ends
    one = connection(ours, [posted])
    one._let_come(posted)
    wanted = max(posted // _WINDOW_STEP * _WINDOW_STEP, _LEAST)
    buffer, = struct.unpack("i", ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4))
    most = 2 * int(Path("/proc/sys/net/core/rmem_max").read_text())  # unless one may force it
    assert one._ahead == wanted and buffer in (wanted, min(wanted, most))
