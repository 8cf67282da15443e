# SPDX-License-Identifier: Apache-2.0
"""One end of a stream, as an application.

``python -m rackgate_host.bench.zeronic.mover END MODE ADDRESS PORT MESSAGE COUNT``: END is ``receive`` (it listens) or
``send``; MODE is ``socket``, plain sockets and messages that are copied by the kernel or the sockets shim, or
``posted``, arrays in NIC memory. Prints JSON when the stream is through: the seconds of processor time that it took of
this process, the seconds from when it could begin to its end, and a checksum of the message.
"""

import json
import resource
import socket
import sys
import time
import zlib
from collections import deque
from contextlib import closing
from typing import NamedTuple

import numpy as np

from ...zeronic.connection import Connection
from ...zeronic.endpoint import Endpoint

__all__ = ["main"]

_LIMIT = 120.0
#: Segments posted at a time: of those that are sent, and of those received, which must hold all that TCP's window lets
#: come, or what is beyond them has to be copied.
_SENT, _RECEIVED = 8, 24


class _Spent(NamedTuple):
    """Seconds of processor time of this process, and on the clock."""

    cpu: float
    clock: float

    def __sub__(self, begin: "_Spent") -> "_Spent":
        return _Spent(self.cpu - begin.cpu, self.clock - begin.clock)


def _spent() -> _Spent:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return _Spent(used.ru_utime + used.ru_stime, time.monotonic())


def _connected(address: str, port: int) -> socket.socket:
    end = time.monotonic() + _LIMIT
    while True:
        try:
            return socket.create_connection((address, port), _LIMIT)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _content(message: int) -> np.ndarray:
    return np.random.default_rng(message).integers(0, 256, message, np.uint8)


def _send_socket(address: str, port: int, message: int, count: int) -> tuple[_Spent, int]:
    content = _content(message).tobytes()
    with _connected(address, port) as stream:
        begin = _spent()
        for _ in range(count):
            stream.sendall(content)
        stream.shutdown(socket.SHUT_WR)
        stream.recv(1)
        return _spent() - begin, zlib.crc32(content)


def _receive_socket(address: str, port: int, message: int, count: int) -> tuple[_Spent, int]:
    with socket.create_server((address, port)) as listener:
        stream, _ = listener.accept()
        with stream:
            stream.settimeout(_LIMIT)
            content, begin = bytearray(message), _spent()
            for _ in range(count):
                got = 0
                while got < message:
                    size = stream.recv_into(memoryview(content)[got:])
                    if not size:
                        raise SystemExit(f"the stream ended {message - got} bytes before a message")
                    got += size
            return _spent() - begin, zlib.crc32(content)


def _connect_posted(endpoint: Endpoint, address: str, port: int) -> Connection:
    end = time.monotonic() + _LIMIT
    while True:
        try:
            return endpoint.connect(address, port)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _send_posted(address: str, port: int, message: int, count: int) -> tuple[_Spent, int]:
    with Endpoint() as endpoint, closing(_connect_posted(endpoint, address, port)) as connection:
        array = endpoint.allocate(message)
        array[:] = _content(message)
        connection.post_receive(endpoint.allocate(1)).wait(_LIMIT)  # the other end has posted
        begin, under_way = _spent(), deque()
        for _ in range(count):
            if len(under_way) == _SENT:
                under_way.popleft().wait(_LIMIT)
            under_way.append(connection.post_send(array))
        for request in under_way:
            request.wait(_LIMIT)
        spent = _spent() - begin
        connection.shutdown(_LIMIT)
        return spent, zlib.crc32(array.tobytes())


def _receive_posted(address: str, port: int, message: int, count: int) -> tuple[_Spent, int]:
    with Endpoint() as endpoint, endpoint.listen(port) as listener, closing(listener.accept(timeout=_LIMIT)) as stream:
        arrays = [endpoint.allocate(message) for _ in range(_RECEIVED)]
        under_way = deque(stream.post_receive(array) for array in arrays[:count])
        stream.post_send(endpoint.allocate(1)).wait(_LIMIT)
        begin, last = _spent(), arrays[0]
        for k in range(count):
            last = under_way.popleft().wait(_LIMIT)
            if k + _RECEIVED < count:
                under_way.append(stream.post_receive(last))
        return _spent() - begin, zlib.crc32(last.tobytes())


def main() -> None:
    """Be the end that the command line says."""
    end, mode, address, port, message, count = sys.argv[1:]
    ends = {("send", "socket"): _send_socket, ("receive", "socket"): _receive_socket,
            ("send", "posted"): _send_posted, ("receive", "posted"): _receive_posted}
    spent, checksum = ends[end, mode](address, int(port), int(message), int(count))
    print(json.dumps({"cpu_seconds": spent.cpu, "seconds": spent.clock, "checksum": checksum}))


if __name__ == "__main__":
    main()
