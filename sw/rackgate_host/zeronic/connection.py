# SPDX-License-Identifier: Apache-2.0
"""A stream between arrays in NIC memory: see :mod:`.endpoint`."""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from rackgate.zeronic.abi import Direction
from rackgate.zeronic.sidestore import SideStore
from rackgate.zeronic.versions import Reader

from ..errors import UsageError
from .errors import StreamClosed, TooManySegments, ZeronicError
from .link import Refused
from .ports import SO_RCVBUFFORCE
from .request import Request
from .shared import Operation

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["Connection"]

_FIONREAD, _SIOCOUTQ = 0x541B, 0x5411
#: State of a connection that is no more, as the kernel numbers it (TCP_INFO).
_CLOSED = 7
#: Requests that are done are retired so many at a time.
_RETIRE = 8
#: Placeholders that are given to the kernel at once, and tags that are read at once.
_PIECE, _TAGS = 1 << 20, 1 << 16
#: Bytes that the kernel may let come ahead of what was read, in such steps: at least so many, as a window that has been
#: closed is opened by the peer's probes only, and at most what it would take to by itself.
_STEP, _AHEAD_LEAST, _AHEAD_MOST = 1 << 12, 1 << 14, 6 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class Connection:
    """A stream each way. Made by :meth:`.endpoint.Endpoint.connect` and :meth:`.endpoint.Listener.accept`.

    Attributes
    ----------
    socket:
        The kernel's. It may be asked for names, options and :func:`select.poll`; what is read from it are placeholders.
    copied:
        Bytes that the CPU had to copy because they came before their segment was posted, or more than once.
    moved:
        Counts whatever has moved.
    """

    def __init__(self, endpoint: "Endpoint", end: socket.socket, flow: int, generation: int, place: int):
        self._endpoint = endpoint
        self.socket = end
        self._flow = {"flow": flow, "generation": generation}
        self._page = endpoint.link.page(place)
        store = endpoint.link.memory[self._page.store:self._page.store + self._page.store_size]
        self._reader = Reader(SideStore(store.data))
        self._zeros = os.memfd_create("rackgate-zeros", os.MFD_CLOEXEC)
        os.ftruncate(self._zeros, _PIECE)
        self._posted: dict[Direction, deque[Request]] = {direction: deque() for direction in Direction}
        self._retirable = dict.fromkeys(Direction, 0)
        self._received = 0  # positions that do not wrap
        self._handed = self._acknowledged = 0
        self._ended: dict[Direction, str] = {}  # how the stream has ended, each way
        self._is_shut = False
        self._ahead = 0  # bytes that the kernel may let come; 0: as many as it likes
        self.copied = 0
        self.moved = 0

    # Posting

    def post_receive(self, array: np.ndarray) -> Request:
        """Have the next bytes of the stream put into ``array``, which they fill.

        Returns when the NIC knows of it: the peer may then be told to send, and nothing has to be copied. Raises
        ``BadBuffer`` for an array that is not in NIC memory, :class:`TooManySegments` when as many are posted as the
        NIC remembers, :class:`StreamClosed`.
        """
        return self._post(Direction.RECEIVE, array)

    def post_send(self, array: np.ndarray) -> Request:
        """Send what is in ``array``, which must stay as it is until the request is done. Raises as
        :meth:`post_receive`.
        """
        if self._is_shut:
            raise UsageError("the stream was shut: nothing more can be sent")
        request = self._post(Direction.SEND, array)
        self._hand_over()
        return request

    def _post(self, direction: Direction, array: np.ndarray) -> Request:
        region, place = self._endpoint.region_of(array)
        if self.socket.fileno() < 0:
            raise UsageError("the connection is closed")
        posted = self._posted[direction]
        start = posted[-1].end if posted else self._end(direction)
        values = {**self._flow, "direction": int(direction), "position": start % (1 << 32), "length": array.nbytes,
                  "region": region, "place": place}
        for attempt in range(2):
            try:
                self._endpoint.link.ask(Operation.POST, values)
                break
            except Refused as error:
                if error.number == errno.ENOSPC and not attempt and self._retirable[direction]:
                    self._retire(direction)
                elif error.number == errno.ENOSPC:
                    raise TooManySegments(f"{len(posted)} segments are posted, as many as the NIC remembers: wait for "
                                          "the oldest") from None
                elif error.number == errno.ENOENT:
                    raise StreamClosed("the connection is over") from None
                else:
                    raise ZeronicError(f"the segment was refused ({error})") from None
        request = Request(self, direction, start, array)
        posted.append(request)
        if direction is Direction.RECEIVE:
            self._let_come(request.end - self._received)
        return request

    def _let_come(self, size: int) -> None:
        """Have the kernel's window end with what is posted: what came behind that would have to be copied.

        It ends by the kernel's buffer behind what was read, so this goes before a read, and behind a post. Of the
        buffer, which is twice what is asked for, at most all counts for the window.
        """
        ahead = min(max(size, _AHEAD_LEAST), _AHEAD_MOST) // _STEP * _STEP
        if ahead == self._ahead:
            return
        self._ahead = ahead
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ahead // 2)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ahead // 2)

    def _end(self, direction: Direction) -> int:
        return self._received if direction is Direction.RECEIVE else self._handed

    def uses(self, array: np.ndarray) -> bool:
        """Whether a request that is not done has bytes of ``array``."""
        return any(np.may_share_memory(array, request.array) for direction, posted in self._posted.items()
                   if direction not in self._ended for request in posted)

    # Moving on

    def reached(self, direction: Direction) -> int:
        """Position up to which bytes have been received, or acknowledged."""
        return self._received if direction is Direction.RECEIVE else self._acknowledged

    @property
    def interest(self) -> int:
        """What to poll the socket for."""
        wanted = 0
        if self._posted[Direction.RECEIVE] and Direction.RECEIVE not in self._ended:
            wanted |= select.POLLIN
        if self._unhanded() and Direction.SEND not in self._ended:
            wanted |= select.POLLOUT
        return wanted

    def _unhanded(self) -> int:
        posted = self._posted[Direction.SEND]
        return posted[-1].end - self._handed if posted else 0

    def progress(self) -> None:
        """Receive and send what is possible now."""
        if self.socket.fileno() < 0:
            return
        self._hand_over()
        self._take_acknowledged()
        self._receive()

    def _hand_over(self) -> None:
        """Give the kernel placeholders for what is to be sent."""
        while size := self._unhanded():
            try:
                taken = os.sendfile(self.socket.fileno(), self._zeros, 0, min(size, _PIECE))
            except BlockingIOError:
                return
            except ConnectionError as error:
                self._broken(error)
                return
            self._handed += taken
            self._page.written = self._handed % (1 << 32)
            self._page.sent += taken
            self.moved += taken

    def _state(self) -> int:
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]

    def _count(self, what: int) -> int:
        return struct.unpack("i", fcntl.ioctl(self.socket, what, bytes(4)))[0]

    def _take_acknowledged(self) -> None:
        if not self._posted[Direction.SEND]:
            return
        # A FIN that is not acknowledged is counted as well.
        acknowledged = self._handed - max(0, self._count(_SIOCOUTQ) - self._is_shut)
        if acknowledged < self._handed and self._state() == _CLOSED:
            self._ended.setdefault(Direction.SEND, "it was reset")
        if Direction.SEND in self._ended:
            return  # the kernel has thrown its queue away
        self.moved += acknowledged - self._acknowledged
        self._acknowledged = max(self._acknowledged, acknowledged)
        self._done(Direction.SEND, self._acknowledged)

    def _receive(self) -> None:
        posted = self._posted[Direction.RECEIVE]
        oldest = posted[0].end if posted else 0
        while posted and Direction.RECEIVE not in self._ended:
            left = posted[-1].end - self._received
            # What the kernel lets come in any case should be posted; but the oldest request is always gone on with.
            takes = max(oldest - self._received, left - _AHEAD_LEAST)
            if takes <= 0:
                return
            # First how many there are, then whether they are in place: records come before their bytes.
            size = min(self._count(_FIONREAD), takes)
            if size > 0 and self._reader.is_plain(size):
                self._let_come(left - size)
                self._take_plain(size)
            elif size > 0:
                size = min(size, _TAGS)
                self._let_come(left - size)
                self._take_by_tags(size)
            elif not self._is_there():
                return
            self._done(Direction.RECEIVE, self._received)

    def _is_there(self) -> bool:
        """Whether there are bytes now; notes the stream's end."""
        try:
            if self.socket.recv(1, socket.MSG_PEEK):
                return True
            self._ended[Direction.RECEIVE] = "the peer has ended it"
        except BlockingIOError:
            pass
        except ConnectionError as error:
            self._broken(error)
        return False

    def _broken(self, error: ConnectionError) -> None:
        for direction in Direction:
            self._ended.setdefault(direction, error.strerror or str(error))

    def _take_plain(self, size: int) -> None:
        got = _libc.recv(self.socket.fileno(), None, ctypes.c_size_t(size), socket.MSG_TRUNC | socket.MSG_DONTWAIT)
        if got != size:
            raise ZeronicError(f"the kernel had {size} bytes and gave {got}: somebody else reads from the socket")
        self._consume(size)

    def _take_by_tags(self, size: int) -> None:
        tags = self.socket.recv(size)
        try:
            parts = self._reader.resolve(tags)
        except ValueError as error:
            raise ZeronicError(f"the kernel has accepted bytes that are nowhere: {error}") from None
        end = (self._reader.position + len(tags)) % (1 << 32)
        if any(part.content is not None for part in parts):
            # From here on the NIC writes none of these bytes.
            self._endpoint.link.ask(Operation.SETTLE, {**self._flow, "position": end})
        position = self._received
        for part in parts:
            if part.content is not None:
                self._store(position, part.content)
            position += part.size
        self._page.tags_read += len(tags)
        self._consume(len(tags))

    def _store(self, position: int, content: bytes) -> None:
        """Copy late bytes to where they belong."""
        for request in self._posted[Direction.RECEIVE]:
            start, end = max(position, request.position), min(position + len(content), request.end)
            if start < end:
                target = request.array.reshape(-1).view(np.uint8)
                target[start - request.position:end - request.position] = np.frombuffer(
                    content[start - position:end - position], np.uint8)
        self.copied += len(content)
        self._page.copied_received += len(content)

    def _consume(self, size: int) -> None:
        self._reader.consume(size)
        self._received += size
        self._page.received += size
        self.moved += size

    def _done(self, direction: Direction, position: int) -> None:
        posted = self._posted[direction]
        while posted and posted[0].end <= position:
            posted.popleft()
            self._retirable[direction] += 1
        if self._retirable[direction] >= _RETIRE:
            self._retire(direction)

    def _retire(self, direction: Direction) -> None:
        self._retirable[direction] = 0
        values = {**self._flow, "direction": int(direction), "position": self.reached(direction) % (1 << 32)}
        with contextlib.suppress(Refused):  # a flow that is over has none
            self._endpoint.link.ask(Operation.RETIRE, values)

    def wait_for(self, request: Request, timeout: float | None) -> None:
        """Wait for a request of this connection."""
        def is_over() -> bool:
            return request.done or request.direction in self._ended or self.socket.fileno() < 0

        self._endpoint.wait_until(is_over, timeout, request.describe)
        if not request.done:
            why = self._ended.get(request.direction, "it was closed here")
            raise StreamClosed(f"{request.describe()}, then the connection ended: {why}")

    # The end

    def shutdown(self, timeout: float | None = None) -> None:
        """Send no more: the peer sees the end of the stream behind all that was posted.

        Waits until the kernel has taken that; raises :class:`StreamTimeout`.
        """
        if not self._is_shut:
            self._endpoint.wait_until(lambda: not self._unhanded() or Direction.SEND in self._ended, timeout,
                                      lambda: f"{self._unhanded()} bytes were not taken by the kernel")
            self._is_shut = True
            if Direction.SEND not in self._ended:
                self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close it at once; requests that are not done fail. A second call does nothing."""
        if self.socket.fileno() < 0:
            return
        self.socket.close()
        os.close(self._zeros)
        self._endpoint.forget(self)
        with contextlib.suppress(Refused):  # the daemon has taken it back
            self._endpoint.link.ask(Operation.RELEASE, self._flow)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
