# SPDX-License-Identifier: Apache-2.0
"""Messages between a guest, its monitor and those who wait for them: JSON and file descriptors over a UNIX socket.

A message is a 4-byte little-endian length, a 4-byte count of descriptors and that many bytes of JSON (an object with
a ``kind``). Descriptors travel with the first byte (SCM_RIGHTS). Every wait has a time limit, and a closed socket is
:class:`ChannelClosed`, never an endless wait.
"""

import json
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

from .errors import SabreError

__all__ = ["Channel", "ChannelClosed", "SabreTimeout"]

_HEAD = struct.Struct("<II")
_LIMIT = 1 << 28


class ChannelClosed(SabreError):
    """The other side has closed the channel, or has died."""


class SabreTimeout(SabreError, TimeoutError):
    """A wait ended without its event; the text says what was waited for and how long."""

    exit_code = 4


class Channel:
    """One end. Not for several threads at once."""

    def __init__(self, endpoint: socket.socket):
        self._socket = endpoint
        self._pending = bytearray()
        self._descriptors: list[int] = []

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Two connected ends."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(first), cls(second)

    @classmethod
    def adopt(cls, descriptor: int) -> "Channel":
        """The end behind an inherited descriptor."""
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        """The descriptor, to wait for with others."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end, and descriptors that came and were not taken."""
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = (), timeout: float = 60.0) -> None:
        """Send ``message``, with ``descriptors`` duplicated to the other side.

        Raises :class:`ChannelClosed`, or :class:`SabreTimeout` if the other side does not read.
        """
        text = json.dumps(message, separators=(",", ":")).encode()
        data = memoryview(_HEAD.pack(len(text), len(descriptors)) + text)
        self._socket.settimeout(timeout)
        try:
            sent = socket.send_fds(self._socket, [data], list(descriptors)) if descriptors else 0
            self._socket.sendall(data[sent:])
        except TimeoutError as error:
            raise SabreTimeout(f"sent a {message.get('kind')} message for {timeout:g} s: nobody reads") from error
        except OSError as error:
            raise ChannelClosed(f"cannot send {message.get('kind')}: {error.strerror}") from error

    def tell(self, message: dict[str, Any]) -> bool:
        """Send ``message`` if there is room for it; false if it was dropped. Never waits.

        A socket is writable while a quarter of its buffer is used at most, so that a short message fits.
        """
        if not select.select((), [self._socket], (), 0)[1]:
            return False
        self.send(message)
        return True

    def receive(self, timeout: float, what: str) -> tuple[dict[str, Any], list[int]]:
        """The next message and its descriptors, which now belong to the caller; ``what`` names it in errors.

        Raises :class:`SabreTimeout` after ``timeout`` seconds, :class:`ChannelClosed` at the end.
        """
        deadline = time.monotonic() + timeout
        while (message := self.take()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SabreTimeout(f"waited {timeout:g} s for {what}")
            self._socket.settimeout(left)
            try:
                self._read(what)
            except TimeoutError:
                continue
        return message

    def take(self) -> tuple[dict[str, Any], list[int]] | None:
        """A message that is wholly there already; ``None`` if there is none."""
        if len(self._pending) < _HEAD.size:
            return None
        length, count = _HEAD.unpack_from(self._pending)
        if length > _LIMIT:
            raise SabreError(f"a message of {length} bytes came; at most {_LIMIT} are allowed")
        if len(self._pending) < _HEAD.size + length:
            return None
        if len(self._descriptors) < count:
            raise SabreError(f"{count} descriptors were announced, {len(self._descriptors)} came")
        message = json.loads(bytes(self._pending[_HEAD.size:_HEAD.size + length]))
        del self._pending[:_HEAD.size + length]
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return message, taken

    def read_ready(self, what: str) -> None:
        """Read what is there now, after the descriptor became readable; :meth:`take` then gives the messages."""
        self._socket.settimeout(0)
        try:
            self._read(what)
        except BlockingIOError:
            return

    def _read(self, what: str) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 16, 16)
        except (BlockingIOError, TimeoutError):
            raise
        except OSError as error:
            raise ChannelClosed(f"waiting for {what}: {error.strerror}") from error
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # recv_fds drops flags such as MSG_CMSG_CLOEXEC
        self._descriptors += descriptors
        if not data:
            raise ChannelClosed(f"the other side closed the channel; {what} was awaited")
        self._pending += data
