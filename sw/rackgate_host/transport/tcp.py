# SPDX-License-Identifier: Apache-2.0
"""The ``tcp:`` world: a board that a ``rackgate server`` shares."""

import json
import socket
import time
from typing import Any, NoReturn

from ..errors import DeviceFault, DeviceTimeout, Unavailable
from ..sharing.hello import PORT, VERSION, Broken, frame, proof, read_frame, read_line, read_token, write_line
from ..url import number
from .remote import TIMEOUT, RemoteTransport, remote_options
from .udp import split_address

__all__ = ["TcpLink", "attach"]

#: Seconds: more than a server's own time-out, which says more.
_TIMEOUT = TIMEOUT + 2


def attach(place: str, options: dict[str, Any]) -> RemoteTransport:
    """The device that a server at ``place`` shares.

    Takes out of ``options``: ``memory`` (bytes wanted; by default half of what is left), ``token_file``, ``timeout``.
    """
    host, port = split_address(place, PORT, "localhost or localhost:21075")
    timeout, token = remote_options(options, _TIMEOUT), read_token(options.pop("token_file", None))
    memory = number("memory", options.pop("memory")) if "memory" in options else None
    return RemoteTransport(TcpLink(host, port, token, memory, timeout), timeout)


class TcpLink:
    """A connection to a server. Nothing is lost on it."""

    bytes_per_second = 0.0
    is_reliable = True

    def __init__(self, host: str, port: int, token: str, memory: int | None, timeout: float):
        self.name = f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
        self._raw = bytearray()
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise Unavailable(f"{self.name}: no server answers ({error.strerror or error}): start one with "
                              "`rackgate server`") from None
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._greet(token, memory)
        except BaseException as error:
            self._socket.close()
            if isinstance(error, TimeoutError):
                raise DeviceTimeout(f"{self.name}: no greeting of the server within {timeout:g} s") from None
            if isinstance(error, (Broken, OSError)):
                raise Unavailable(f"{self.name}: what answers is no rackgate server: {error}") from None
            raise

    def _greet(self, token: str, memory: int | None) -> None:
        hello = read_line(self._socket)
        if hello.get("rackgate") != VERSION:
            raise Unavailable(f"{self.name}: the server speaks version {hello.get('rackgate')}, this package "
                              f"{VERSION}: use the same version of rackgate")
        if hello.get("token") and not token:
            raise Unavailable(f"{self.name}: the server wants a token: set RACKGATE_TOKEN, or the option token_file")
        write_line(self._socket, {"rackgate": VERSION, "proof": proof(token, str(hello.get("challenge"))),
                                  "memory": memory})
        answer = read_line(self._socket)
        if "error" in answer:
            raise Unavailable(f"{self.name}: {answer['error']}")

    def send(self, message: bytes) -> None:
        """Send a message."""
        try:
            self._socket.settimeout(None)
            self._socket.sendall(frame(message))
        except OSError:
            self._lost("the connection is over")

    def receive(self, seconds: float) -> bytes | None:
        """The next message."""
        end = time.monotonic() + seconds
        try:
            while (message := read_frame(self._raw)) is None:
                self._socket.settimeout(max(0.0, end - time.monotonic()))
                part = self._socket.recv(1 << 16)
                if not part:
                    self._lost("the server has gone")
                self._raw += part
        except (BlockingIOError, TimeoutError):
            return None
        except Broken as error:
            self._lost(str(error))
        except OSError as error:
            self._lost(f"the connection is over: {error.strerror or error}")
        if message.startswith(b"{"):
            self._told(message)
        return message

    def _told(self, message: bytes) -> NoReturn:
        """The server has nothing but a sentence."""
        try:
            said = json.loads(message)
            sentence = str(said["error"])
        except (ValueError, KeyError, TypeError):
            self._lost("it says what nobody understands")
        raise (DeviceTimeout if said.get("timeout") else DeviceFault)(f"{self.name}: {sentence}")

    def _lost(self, why: str) -> NoReturn:
        raise DeviceFault(f"{self.name}: {why}: open the device again")

    def hint(self) -> str:
        """Why nothing comes."""
        return "the server is there, and has not got an answer from the board"

    def close(self) -> None:
        """Close the connection, which gives the memory back."""
        self._socket.close()
