# SPDX-License-Identifier: Apache-2.0
"""An application's connection to the daemon of its simulated host, and the NIC's memory: see :mod:`.shared`."""

import ctypes
import mmap
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .errors import HostFailed, NoHosts
from .shared import PAGE_SIZE, SOCKET_VARIABLE, VERSION, FlowPage, Operation, Reply, Request

__all__ = ["Link", "Refused"]


class Refused(Exception):
    """The daemon cannot do what was asked; ``number`` is its ``errno``."""

    def __init__(self, operation: Operation, number: int):
        super().__init__(f"{operation.name.lower()}: {os.strerror(number)}")
        self.number = number


class Link:
    """A connection to the daemon.

    Parameters
    ----------
    path:
        Of the daemon's socket; that of the host this process runs on by default (``rackgate zeronic run``).
    timeout:
        Most seconds for an answer.

    Attributes
    ----------
    memory:
        The NIC's memory, as bytes. Places in :mod:`.shared` are indices of it.
    address:
        The host's IPv4 address, as a number.

    Raises :class:`NoHosts` if there is no daemon.
    """

    def __init__(self, path: Path | None = None, timeout: float = 30.0):
        named = path or os.environ.get(SOCKET_VARIABLE)
        if not named:
            raise NoHosts(f"this process runs on no simulated host ({SOCKET_VARIABLE} is not set): start it by "
                          "`rackgate zeronic run`")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(named))
            reply, file = self._exchange(Request(operation=Operation.HELLO, length=VERSION))
            if file < 0:
                raise NoHosts(f"the daemon at {named} gave no memory: it is not of this version of Rackgate")
            with os.fdopen(file, "rb") as opened:
                self._map = mmap.mmap(opened.fileno(), reply.length)
        except (OSError, Refused) as error:
            self._socket.close()
            raise NoHosts(f"no simulated host answers at {named}: {error}") from None
        except BaseException:
            self._socket.close()
            raise
        self.memory = np.frombuffer(self._map, np.uint8)
        self.address = reply.place

    def _exchange(self, request: Request) -> tuple[Reply, int]:
        operation = Operation(request.operation)
        try:
            self._socket.send(bytes(request))
            content, files, *_ = socket.recv_fds(self._socket, ctypes.sizeof(Reply), 1)
        except TimeoutError:
            raise HostFailed(f"the host's daemon has not answered a request to {operation.name.lower()} within "
                             f"{self._socket.gettimeout():g} s") from None
        except ConnectionError:
            content, files = b"", []
        if len(content) != ctypes.sizeof(Reply):
            raise HostFailed("the host's daemon has ended")
        reply = Reply.from_buffer_copy(content)
        if reply.status:
            raise Refused(operation, reply.status)
        return reply, files[0] if files else -1

    def ask(self, operation: Operation, values: Mapping[str, int]) -> Reply:
        """Ask for an operation; ``values`` are fields of the request. Raises :class:`Refused` and ``HostFailed``."""
        return self._exchange(Request(operation=operation, **values))[0]

    def page(self, place: int) -> FlowPage:
        """The page of a flow."""
        return FlowPage.from_buffer(self._map, place)

    def close(self) -> None:
        """Hang up: the daemon takes back all that this application had. Arrays in the memory can still be read."""
        self._socket.close()


assert ctypes.sizeof(FlowPage) <= PAGE_SIZE
