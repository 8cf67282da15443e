# SPDX-License-Identifier: Apache-2.0
"""Streams between arrays in NIC memory: no CPU copies a byte.

A connection is one of the kernel's TCP, which sees headers only. What is received goes from the wire into arrays that
were posted for it, what is sent comes out of arrays; the order of the stream is the order of posting.

>>> with Endpoint() as endpoint:  # doctest: +SKIP
...     connection = endpoint.connect("10.77.0.2", 7000)
...     question, answer = endpoint.allocate(1000, "f4"), endpoint.allocate(1000, "f4")
...     receive = connection.post_receive(answer)
...     question[:] = 1.0
...     connection.post_send(question).wait(10)
...     receive.wait(10)
"""

import contextlib
import ctypes
import errno
import ipaddress
import math
import operator
import select
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadBuffer, OutOfDeviceMemory, UsageError
from .connection import Connection
from .errors import FlowTableFull, StreamTimeout, ZeronicError
from .link import Link, Refused
from .shared import FlowFlag, Operation

__all__ = ["Endpoint", "Listener"]

_POSTED = FlowFlag.POSTED_RECEIVE | FlowFlag.POSTED_SEND
#: Seconds between two looks while something is waited for that no file tells: acknowledgements.
_SOON, _LATER = 0.0001, 0.002


class Endpoint:
    """An application on a simulated host.

    Parameters
    ----------
    path:
        Of the daemon's socket; that of the host this process runs on by default.

    Its connections, requests and arrays are not to be used by two threads at a time. Raises
    :class:`~rackgate_host.zeronic.errors.NoHosts` where there is no simulated host.
    """

    def __init__(self, path: Path | None = None):
        self.link = Link(path)
        self._regions: dict[int, tuple[int, int, int]] = {}  # by number: host address, place, bytes
        self._connections: list[Connection] = []
        self._listeners: list[Listener] = []
        self._start = self.link.memory.__array_interface__["data"][0]

    @property
    def address(self) -> str:
        """The host's address."""
        return str(ipaddress.IPv4Address(self.link.address))

    # Memory

    def allocate(self, shape: int | Sequence[int], dtype: Any = "u1") -> np.ndarray:
        """A NumPy array of zeros in NIC memory. It is given back by :meth:`free`, or when the endpoint is closed.

        Raises :class:`~rackgate_host.errors.OutOfDeviceMemory`.
        """
        dimensions = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        element = np.dtype(dtype)
        if element.hasobject:
            raise TypeError(f"dtype must be plain data, not {element}")
        size = math.prod(operator.index(n) for n in dimensions) * element.itemsize
        if size < 1:
            raise ValueError(f"shape must be of at least one element, not {shape}")
        try:
            reply = self.link.ask(Operation.ALLOCATE, {"length": size})
        except Refused as error:
            raise OutOfDeviceMemory(f"{size} bytes of NIC memory cannot be had ({error}): free an array, or start the "
                                    "hosts with a NIC that has more memory or regions") from None
        array = self.link.memory[reply.place:reply.place + size].view(element).reshape(dimensions)
        self._regions[reply.region] = (self._start + reply.place, reply.place, size)
        return array

    def region_of(self, array: np.ndarray) -> tuple[int, int]:
        """Region and place of an array or a view of one. Raises ``BadBuffer`` for one that is not in NIC memory."""
        if not isinstance(array, np.ndarray) or not array.flags.c_contiguous or not array.nbytes:
            raise BadBuffer("a segment must be a C-contiguous NumPy array of at least one byte")
        pointer = array.__array_interface__["data"][0]
        for region, (start, place, size) in self._regions.items():
            if start <= pointer and pointer + array.nbytes <= start + size:
                return region, place + pointer - start
        raise BadBuffer("this array is not in NIC memory: only what Endpoint.allocate gave, and views of it, can be "
                        "posted")

    def free(self, array: np.ndarray) -> None:
        """Give an array's memory back. Nothing may be posted on it; its views must not be used any more."""
        region, place = self.region_of(array)
        if self._regions[region][1:] != (place, array.nbytes):
            raise BadBuffer("only a whole array can be freed, not a part of it")
        for connection in self._connections:
            if connection.uses(array):
                raise BadBuffer("the array is posted: wait for its requests first")
        del self._regions[region]
        self.link.ask(Operation.FREE, {"region": region})

    # Connections

    def connect(self, address: str, port: int, *, timeout: float = 10.0) -> Connection:
        """Connect to a listener.

        Raises
        ------
        UsageError
            The connection would not go through the NIC.
        FlowTableFull
            The NIC has no flow left.
        StreamTimeout, ConnectionError
            Nobody answers, or it was refused.
        """
        end = self._socket()
        flow = None
        try:
            end.bind((self.address, 0))
            values = {**_ends(end.getsockname(), (address, port)), "flags": int(_POSTED)}
            try:
                flow = self.link.ask(Operation.CONNECT, values)
            except Refused as error:
                if error.number == errno.ENOSPC:
                    raise FlowTableFull("the NIC has no flow left: close connections") from None
                raise UsageError(f"a connection to {address} does not go through the NIC ({error})") from None
            end.settimeout(timeout)
            try:
                end.connect((address, port))
            except TimeoutError:
                raise StreamTimeout(f"{address}:{port} has not answered within {timeout:g} s") from None
            return self._adopt(end, flow)
        except BaseException:
            if flow is not None:
                with contextlib.suppress(Refused):
                    self.link.ask(Operation.RELEASE, {"flow": flow.flow, "generation": flow.generation})
            end.close()
            raise

    def listen(self, port: int, *, backlog: int = 16) -> "Listener":
        """Listen for connections to a port (0: any that is free)."""
        end = self._socket()
        try:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            end.bind((self.address, port))
            self.link.ask(Operation.LISTEN, {"local_port": end.getsockname()[1], "flags": int(_POSTED)})
            end.listen(backlog)
        except BaseException:
            end.close()
            raise
        listener = Listener(self, end)
        self._listeners.append(listener)
        return listener

    @staticmethod
    def _socket() -> socket.socket:
        end = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        leave_to_us(end)
        return end

    def _adopt(self, end: socket.socket, reply: Any) -> Connection:
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, end, reply.flow, reply.generation, reply.place)
        self._connections.append(connection)
        return connection

    def accepted(self, end: socket.socket) -> Connection:
        """The connection of a socket that a listener has accepted."""
        leave_to_us(end)
        try:
            reply = self.link.ask(Operation.CLAIM, _ends(end.getsockname(), end.getpeername()))
            if FlowFlag(reply.flags) & _POSTED != _POSTED:
                raise ZeronicError("the connection came before its port was listened to: it is not split")
        except Refused as error:
            raise ZeronicError(f"the connection does not go through the NIC ({error}): all its flows may be in "
                               "use") from None
        return self._adopt(end, reply)

    def forget(self, connection: Connection) -> None:
        """Take a closed connection off the list."""
        self._connections.remove(connection)

    # Progress

    def progress(self) -> None:
        """Move all connections on as far as that is possible now. Waiting does it, too."""
        for connection in self._connections:
            connection.progress()

    def wait_until(self, event: Callable[[], bool], timeout: float | None, what: Callable[[], str]) -> None:
        """Move connections on until ``event()``.

        Raises :class:`StreamTimeout` after ``timeout`` seconds, with ``what()`` was waited for.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be positive, not {timeout}")
        end = math.inf if timeout is None else time.monotonic() + timeout
        pause = _SOON
        while True:
            before = sum(connection.moved for connection in self._connections)
            self.progress()
            if event():
                return
            left = end - time.monotonic()
            if left <= 0:
                raise StreamTimeout(f"{what()} within {timeout:g} s")
            moved = sum(connection.moved for connection in self._connections) != before
            pause = _SOON if moved else min(2 * pause, _LATER)
            poll = select.poll()
            for connection in self._connections:
                if interest := connection.interest:
                    poll.register(connection.socket, interest)
            poll.poll(1000 * min(left, pause))

    def close(self) -> None:
        """Close all connections and give the memory back. A second call does nothing."""
        for one in [*self._connections, *self._listeners]:
            one.close()
        self._listeners.clear()
        self._regions.clear()
        self.link.close()

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Listener:
    """Waits for connections. Made by :meth:`Endpoint.listen`."""

    def __init__(self, endpoint: Endpoint, end: socket.socket):
        self._endpoint = endpoint
        self._socket = end
        #: The port.
        self.port: int = end.getsockname()[1]

    def accept(self, *, timeout: float | None = None) -> Connection:
        """The next connection.

        Raises :class:`~rackgate_host.zeronic.errors.StreamTimeout`, or ``ZeronicError`` if it is not split.
        """
        self._socket.settimeout(timeout)
        try:
            end, _ = self._socket.accept()
        except TimeoutError:
            raise StreamTimeout(f"nobody has connected to port {self.port} within {timeout:g} s") from None
        try:
            return self._endpoint.accepted(end)
        except BaseException:
            end.close()
            raise

    def close(self) -> None:
        """Listen no more. A second call does nothing."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            with contextlib.suppress(Refused):
                self._endpoint.link.ask(Operation.UNLISTEN, {"local_port": self.port})

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def leave_to_us(end: socket.socket) -> None:
    """If this process has the sockets shim: the shim must let this socket alone."""
    leave = getattr(ctypes.CDLL(None), "rackgate_zeronic_leave", None)
    if leave is not None:
        leave(end.fileno())


def _ends(local: tuple[str, int], remote: tuple[str, int]) -> dict[str, int]:
    try:
        addresses = [int(ipaddress.IPv4Address(name[0])) for name in (local, remote)]
    except ipaddress.AddressValueError:
        raise UsageError(f"an address must be IPv4, as in 10.77.0.2, not {remote[0]!r}") from None
    return {"local_address": addresses[0], "local_port": local[1], "remote_address": addresses[1],
            "remote_port": remote[1]}
