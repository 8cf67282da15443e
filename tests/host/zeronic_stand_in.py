# SPDX-License-Identifier: Apache-2.0
"""A control stack without a NIC, for tests of the sockets shim: it relays placeholders and carries payload itself.

A connection to ``port + RELAY`` of 127.0.0.1 is split, and so is the one on to ``port`` that the relay makes for it.
Each piece of payload is either put in the receiver's ring or, with probability ``deferred``, in part or whole in its
side store; now and then versions are stored that the receiver must not use.
"""

import contextlib
import ctypes
import errno
import ipaddress
import mmap
import os
import random
import socket
import threading
from pathlib import Path

from rackgate.zeronic.sidestore import SideStore, store_size
from rackgate.zeronic.versions import Tagger
from rackgate_host.zeronic.shared import PAGE_SIZE, VERSION, FlowPage, FlowState, Operation, Reply, Request

RELAY = 1000
#: More than send and receive buffers hold.
RING_SIZE = 16 << 20
_SLOTS = 512
_STORE_SIZE = -(-store_size(_SLOTS) // PAGE_SIZE) * PAGE_SIZE
_FLOW_SIZE = PAGE_SIZE + 2 * RING_SIZE + _STORE_SIZE
_HOST, _SERVER = "127.0.0.2", "127.0.0.1"
Ends = tuple[int, int, int, int]


def _number(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


class _Flow:
    """A flow's page, rings and side store."""

    def __init__(self, memory: mmap.mmap, index: int, ends: Ends):
        self.index = index
        self.begin = index * _FLOW_SIZE
        self.page = FlowPage.from_buffer(memory, self.begin)
        ctypes.memset(ctypes.addressof(self.page), 0, ctypes.sizeof(FlowPage))
        page = self.page
        page.generation, page.flow, page.state = index + 1, index, FlowState.OPEN
        page.local_address, page.local_port, page.remote_address, page.remote_port = ends
        page.ring_size, page.store_size = RING_SIZE, _STORE_SIZE
        page.receive_ring = self.begin + PAGE_SIZE
        page.send_ring = page.receive_ring + RING_SIZE
        page.store = page.send_ring + RING_SIZE
        view = memoryview(memory)
        self.receive_ring = view[page.receive_ring:page.receive_ring + RING_SIZE]
        self.send_ring = view[page.send_ring:page.send_ring + RING_SIZE]
        self.store = SideStore(view[page.store:page.store + _STORE_SIZE], begin=0)
        self.tagger = Tagger(self.store)

    @staticmethod
    def parts(position: int, size: int) -> list[tuple[int, int, int]]:
        """(offset in the bytes, offset in the ring, size) of the pieces that a ring cuts bytes into."""
        at = position % RING_SIZE
        first = min(size, RING_SIZE - at)
        return [(0, at, first)] + ([(first, 0, size - first)] if size > first else [])


class StandIn:
    """The stand-in as a context: ``environment`` is what programs need to be split.

    Parameters
    ----------
    folder:
        Where the control socket goes.
    library:
        The shim.
    deferred:
        Probability that a piece does not go to the ring.
    seed:
        Of all random choices.
    """

    def __init__(self, folder: Path, library: Path, deferred: float = 0.0, seed: int = 0):
        self._flows: dict[Ends, _Flow] = {}
        self._count = 24
        fd = os.memfd_create("stand-in")
        os.ftruncate(fd, self._count * _FLOW_SIZE)
        self._file = fd
        self._memory = mmap.mmap(fd, self._count * _FLOW_SIZE)
        self._deferred, self._seed = deferred, seed
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.errors: list[str] = []
        self.requests: list[int] = []
        path = folder / "control"
        self._control = self._keep(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self._control.bind(str(path))
        self._control.listen(64)
        self.environment = {**os.environ, "RACKGATE_ZERONIC_SOCKET": str(path), "LD_PRELOAD": str(library),
                            "RACKGATE_ZERONIC_STRICT": "1"}
        self._start(self._accept)

    def __enter__(self) -> "StandIn":
        return self

    def __exit__(self, *error: object) -> None:
        while self._sockets:
            one = self._sockets.pop()
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes its thread
            one.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        os.close(self._file)

    def statistics(self) -> dict[str, int]:
        """Sums over all flows of the counters in their pages."""
        names = ("received", "sent", "copied_received", "copied_sent", "tags_read")
        return {name: sum(getattr(flow.page, name) for flow in self._flows.values()) for name in names}

    def _start(self, work, *arguments) -> None:
        thread = threading.Thread(target=self._guarded, args=(work, *arguments), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _keep(self, one: socket.socket) -> socket.socket:
        self._sockets.append(one)
        return one

    def _guarded(self, work, *arguments) -> None:
        try:
            work(*arguments)
        except OSError:
            pass  # a connection or the stand-in has ended
        except Exception as error:  # told by the test, which otherwise would only time out
            self.errors.append(repr(error))
            raise

    # Control socket

    def _accept(self) -> None:
        while True:
            self._start(self._serve, self._keep(self._control.accept()[0]))

    def _serve(self, connection: socket.socket) -> None:
        while content := connection.recv(ctypes.sizeof(Request)):
            request = Request.from_buffer_copy(content)
            self.requests.append(request.operation)
            reply = Reply(operation=request.operation)
            files = []
            if request.operation == Operation.HELLO:
                reply.status = 0 if request.length == VERSION else errno.EPROTO
                reply.length, reply.place = self._count * _FLOW_SIZE, _number(_HOST)
                files = [self._file]
            elif request.operation == Operation.LISTEN:
                self._listen(request.local_port)
            elif request.operation in (Operation.CONNECT, Operation.CLAIM):
                ends = (request.local_address, request.local_port, request.remote_address, request.remote_port)
                flow = self._flow(ends, make=request.operation == Operation.CONNECT)
                if flow is None:
                    reply.status = errno.ENOENT
                else:
                    reply.flow, reply.generation, reply.place = flow.index, flow.page.generation, flow.begin
            socket.send_fds(connection, [bytes(reply)], files)

    def _flow(self, ends: Ends, make: bool) -> _Flow | None:
        with self._lock:
            if make:
                self._flows[ends] = _Flow(self._memory, len(self._flows), ends)
            return self._flows.get(ends)

    # Relay

    def _listen(self, port: int) -> None:
        relay = self._keep(socket.socket())
        relay.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        relay.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        try:
            relay.bind((_SERVER, port + RELAY))
        except OSError:
            return  # another process listens with the same socket
        relay.listen(64)
        self._start(self._relay, relay, port)

    def _relay(self, listener: socket.socket, port: int) -> None:
        while True:
            client, name = listener.accept()
            self._keep(client)
            ends = (_number(name[0]), name[1], _number(_SERVER), port + RELAY)
            near = self._flows[ends]
            server = self._keep(socket.socket())
            server.bind((_HOST, 0))
            local = server.getsockname()
            far = self._flow((_number(_SERVER), port, _number(local[0]), local[1]), make=True)
            assert far is not None
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
            server.connect((_SERVER, port))
            self._start(self._pump, client, near, server, far)
            self._start(self._pump, server, far, client, near)

    def _pump(self, source: socket.socket, sender: _Flow, sink: socket.socket, receiver: _Flow) -> None:
        choice = random.Random(f"{self._seed} {sender.index} {receiver.index}")
        position = 0
        try:
            while tags := source.recv(choice.choice([1, 100, 1448, 9000, 65536])):
                assert not any(tags), "the kernel was given something that is no placeholder"
                content = b"".join(bytes(sender.send_ring[at:at + size])
                                   for _, at, size in sender.parts(position, len(tags)))
                sink.sendall(self._place(choice, receiver, position, content))
                position += len(content)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # What was reset on one side is reset on the other.
            for end in (source, sink):
                ctypes.CDLL(None).connect(end.fileno(), bytes(16), 16)  # to AF_UNSPEC

    def _place(self, choice: random.Random, flow: _Flow, position: int, content: bytes) -> bytes:
        size = len(content)
        while (position + size - flow.store.consumed) % (1 << 32) > RING_SIZE:
            threading.Event().wait(0.001)
        begin, end = 0, size
        tags = bytes(size)
        if choice.random() < self._deferred:
            begin, end = sorted((choice.randrange(size + 1), choice.randrange(size + 1)))
            if choice.random() < 0.3:
                # A frame with other bytes that the transport does not take.
                flow.tagger.deferred(position, bytes(byte ^ 0xFF for byte in content), expected=position)
            while (found := flow.tagger.deferred(position, content, begin, end - begin, position)) is None:
                threading.Event().wait(0.001)
            tags = found
        for offset, at, n in flow.parts((position + begin) % (1 << 32), end - begin):
            flow.receive_ring[at:at + n] = content[begin + offset:begin + offset + n]
        return tags
