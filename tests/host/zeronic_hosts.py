# SPDX-License-Identifier: Apache-2.0
"""Simulated hosts for tests, and a minimal application on them that uses the shared rings without the shim."""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import threading
from ipaddress import IPv4Address

import pytest

from rackgate.zeronic.sidestore import SideStore
from rackgate.zeronic.versions import Reader
from rackgate_host.errors import RackgateError
from rackgate_host.zeronic import namespaces
from rackgate_host.zeronic.shared import VERSION, FlowPage, Operation, Reply, Request

ZEROS = bytes(1 << 16)


def need_hosts():
    """Skip the test where simulated hosts cannot be, and say why."""
    try:
        namespaces.check_possible()
    except RackgateError as error:
        pytest.skip(str(error))


class Inside(threading.Thread):
    """``work`` in a host's network namespace; ``result()`` is what it returned."""

    def __init__(self, hosts, host, work):
        super().__init__(daemon=True)
        self._hosts, self._host, self._work = hosts, host, work
        self._value, self._error = None, None
        self.start()

    def run(self):
        try:
            with self._hosts.control(self._host) as control:
                namespace = control.namespace()
                namespaces.enter(namespace)
                os.close(namespace)
            self._value = self._work()
        except BaseException as error:
            self._error = error

    def result(self, seconds=60):
        self.join(seconds)
        assert not self.is_alive(), f"the work on host {self._host} has not ended after {seconds} s"
        if self._error:
            raise self._error
        return self._value


class Application:
    """A connection to a host's daemon."""

    def __init__(self, hosts, host):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(30)
        self._socket.connect(str(hosts.socket(host)))
        self._socket.send(bytes(Request(operation=Operation.HELLO, length=VERSION)))
        content, files, *_ = socket.recv_fds(self._socket, ctypes.sizeof(Reply), 1)
        reply = Reply.from_buffer_copy(content)
        assert reply.status == 0
        self.memory = memoryview(mmap.mmap(files[0], reply.length))
        self.address = reply.place
        os.close(files[0])

    def ask(self, operation, **fields):
        self._socket.send(bytes(Request(operation=operation, **fields)))
        return Reply.from_buffer_copy(self._socket.recv(ctypes.sizeof(Reply)))

    def stream(self, connection):
        """A connected socket whose flow is claimed, or one that is not split."""
        reply = self.ask(Operation.CLAIM, **ends(connection))
        return Plain(connection) if reply.status == errno.ENOENT else Stream(self, connection, reply)

    def listen(self, address, port, flags=0, backlog=64):
        assert self.ask(Operation.LISTEN, local_port=port, flags=flags).status == 0
        return socket.create_server((address, port), backlog=backlog)

    def connect(self, local, remote, flags=0, timeout=30):
        """Connect a socket of an address to another's (address, port): its stream."""
        connection = socket.socket()
        connection.settimeout(timeout)
        connection.bind((local, 0))
        reply = self.ask(Operation.CONNECT, **{**ends(connection, remote), "flags": flags})
        connection.connect(remote)
        return Plain(connection) if reply.status == errno.ENOSPC else Stream(self, connection, reply)

    def close(self):
        self._socket.close()


def ends(connection, remote=None):
    local, remote = connection.getsockname(), remote or connection.getpeername()
    return {"local_address": int(IPv4Address(local[0])), "local_port": local[1],
            "remote_address": int(IPv4Address(remote[0])), "remote_port": remote[1]}


class Plain:
    """A connection that is not split, with the methods of one that is."""

    def __init__(self, connection):
        self.connection = connection
        self.send = connection.sendall
        self.close = connection.close

    def recv(self, most=1 << 16):
        return self.connection.recv(most)

    def recv_exactly(self, size):
        return _exactly(self, size)


def _exactly(stream, size):
    out = bytearray()
    while len(out) < size:
        part = stream.recv(size - len(out))
        assert part, f"the stream ended after {len(out)} of {size} bytes"
        out += part
    return bytes(out)


class Stream:
    """A connection whose payload goes by the rings: what the shim does, in plain words."""

    def __init__(self, application, connection, reply):
        assert reply.status == 0, os.strerror(reply.status)
        memory = application.memory
        self.application, self.connection, self.reply = application, connection, reply
        self.page = FlowPage.from_buffer(memory[reply.place:reply.place + ctypes.sizeof(FlowPage)])
        self.reader = Reader(SideStore(memory[self.page.store:self.page.store + self.page.store_size]))
        self.memory = memory
        self.from_store = 0  # bytes that had been deferred

    def _ring(self, start, position, size):
        at, length = position % self.page.ring_size, self.page.ring_size
        first = min(size, length - at)
        return self.memory[start + at:start + at + first], self.memory[start:start + size - first]

    def send(self, content):
        """Send all of it."""
        content = memoryview(content)
        while content:
            queued = int.from_bytes(self._ioctl(0x5411), "little")  # SIOCOUTQ
            size = min(len(content), self.page.ring_size - queued, len(ZEROS))
            first, second = self._ring(self.page.send_ring, self.page.written, size)
            first[:] = content[:len(first)]
            second[:] = content[len(first):size]
            taken = self.connection.send(ZEROS[:size])
            self.page.written = (self.page.written + taken) % (1 << 32)
            self.page.sent += taken
            content = content[taken:]

    def _ioctl(self, request):
        return fcntl.ioctl(self.connection, request, bytes(4))

    def recv(self, most=1 << 16):
        """Up to ``most`` bytes; none at the end of the stream."""
        size = self.connection.recv_into(bytearray(1), 1, socket.MSG_PEEK)
        if not size:
            return b""
        size = min(most, int.from_bytes(self._ioctl(0x541B), "little"))  # FIONREAD
        if self.reader.is_plain(size):
            got = self.connection.recv_into(bytearray(1), size, socket.MSG_TRUNC) if size == 1 else self._skip(size)
            assert got == size
            first, second = self._ring(self.page.receive_ring, self.reader.position, size)
            out = bytes(first) + bytes(second)
        else:
            tags = self.connection.recv(size)
            assert len(tags) == size
            out = b""
            for part in self.reader.resolve(tags):
                if part.content is None:
                    first, second = self._ring(self.page.receive_ring, part.position, part.size)
                    out += bytes(first) + bytes(second)
                else:
                    self.from_store += part.size
                    out += part.content
        self.reader.consume(size)
        self.page.received += size
        return out

    def _skip(self, size):
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.recv(self.connection.fileno(), None, ctypes.c_size_t(size), socket.MSG_TRUNC)

    def recv_exactly(self, size):
        return _exactly(self, size)

    def close(self):
        self.connection.close()
        self.application.ask(Operation.RELEASE, flow=self.reply.flow, generation=self.reply.generation)
