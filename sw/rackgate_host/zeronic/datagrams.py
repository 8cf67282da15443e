# SPDX-License-Identifier: Apache-2.0
"""Arrays over UDP: a sender cuts them into datagrams, the NIC puts these into the receiver's array in any order.

The transport is this module, in user space: pieces, reports of what is missing, and repetition. It shows that the NIC's
interface is not TCP's; it has no congestion control and is meant for simulated hosts.

A datagram begins with :data:`HEADER`: kind, position of its first byte in the stream, end of the array that it is of,
and a mark, which is 0 on the wire. A receiver's :data:`REPORT` has the position that all before has come, and a bit for
each piece from there on that has.
"""

import contextlib
import errno
import ipaddress
import select
import socket
import struct
import time
from types import TracebackType
from typing import Self

import numpy as np

from rackgate.zeronic.abi import Direction

from ..errors import UsageError
from .endpoint import Endpoint, leave_to_us
from .errors import FlowTableFull, StreamTimeout
from .link import Refused
from .shared import FlowFlag, Operation

__all__ = ["HEADER", "MARK", "PIECE", "PORTS", "PORT_MASK", "DatagramReceiver", "DatagramSender"]

#: Kind, nothing; stream position; end of the array; mark: 16 bytes.
HEADER = struct.Struct(">B3xIII")
#: The last field of it.
MARK = struct.Struct(">I")
#: Ports of receivers, whose datagrams are split.
PORTS, PORT_MASK = range(0x4700, 0x4800), 0xFF00
#: Bytes of an array in a datagram.
PIECE = 1400
_DATA, _REPORT = 1, 2
#: Pieces under way, and those after which a report is due.
_WINDOW, _REPORT_EVERY = 128, 16
#: Seconds without news after which pieces are sent again, or a report; and without datagrams before a receiver leaves.
_AGAIN, _LINGER = 0.05, 0.3
_MODULUS = 1 << 32
_BUFFER = 4 << 20


class _End:
    """A UDP socket between two given ends."""

    def __init__(self, endpoint: Endpoint, port: int, peer: tuple[str, int]):
        self._endpoint, self._peer = endpoint, peer
        self._position = 0  # of the next array
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        leave_to_us(self._socket)
        try:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            self._socket.bind((endpoint.address, port))
            self._socket.connect(peer)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    @property
    def port(self) -> int:
        """The port of this end."""
        return self._socket.getsockname()[1]

    def _wait(self, seconds: float) -> bool:
        """Whether a datagram has come within that time."""
        return bool(select.select([self._socket], [], [], max(0.0, seconds))[0])

    def _give(self, content: bytes) -> None:
        """A datagram to the peer. It is lost if the peer's port is not there yet, or a queue is full."""
        with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
            self._socket.send(content)

    def close(self) -> None:
        """Let go of the socket. A second call does nothing."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class DatagramSender(_End):
    """Sends arrays to a :class:`DatagramReceiver`, from ``port`` of the endpoint's host.

    Payload goes out through the host, and is copied: the NIC gathers for TCP only.
    """

    def send(self, array: np.ndarray, timeout: float = 30.0) -> None:
        """Send an array; done when the receiver has it all.

        Raises :class:`~rackgate_host.zeronic.errors.StreamTimeout`, which says how far it came.
        """
        content = array.tobytes()
        count, limit = -(-len(content) // PIECE), time.monotonic() + timeout
        end = (self._position + len(content)) % _MODULUS
        missing, sent_at = set(range(count)), dict.fromkeys(range(count), 0.0)
        while missing:
            now = time.monotonic()
            if now > limit:
                raise StreamTimeout(f"the receiver at {self._peer[0]}:{self._peer[1]} has {count - len(missing)} of "
                                    f"{count} pieces after {timeout:g} s")
            for k in [k for k in sorted(missing)[:_WINDOW] if now - sent_at[k] >= _AGAIN]:
                at = k * PIECE
                self._give(HEADER.pack(_DATA, (self._position + at) % _MODULUS, end, 0) + content[at:at + PIECE])
                sent_at[k] = now
            if self._wait(_AGAIN / 4):
                self._reported(missing, end)
        self._position = end

    def _reported(self, missing: set[int], end: int) -> None:
        with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
            while report := self._socket.recv(1 << 16):
                kind, position, about, _ = HEADER.unpack_from(report)
                if kind != _REPORT or about != end:
                    continue
                first = -(-((position - self._position) % _MODULUS) // PIECE)
                bits = int.from_bytes(report[HEADER.size:], "little")
                missing.difference_update([k for k in missing if k < first or bits >> (k - first) & 1])


class DatagramReceiver(_End):
    """Receives arrays of the endpoint's memory from one sender, whose end is ``peer``.

    Parameters
    ----------
    endpoint:
        Of the host.
    port:
        One of :data:`PORTS`.
    peer:
        Address and port of the sender.

    Attributes
    ----------
    placed, copied:
        Bytes that the NIC has put into arrays, and that were copied there.

    Raises
    ------
    UsageError
        The port is none of :data:`PORTS`, or the peer is not reached through the NIC.
    FlowTableFull
        The NIC has no flow left.
    """

    def __init__(self, endpoint: Endpoint, port: int, peer: tuple[str, int]):
        if port not in PORTS:
            raise UsageError(f"port must be {PORTS.start} to {PORTS.stop - 1}, not {port}")
        super().__init__(endpoint, port, peer)
        self.placed = self.copied = 0
        self._last = 0  # end of the last array
        ends = {"local_address": int(ipaddress.IPv4Address(endpoint.address)), "local_port": port,
                "remote_address": int(ipaddress.IPv4Address(peer[0])), "remote_port": peer[1]}
        try:
            reply = endpoint.link.ask(Operation.CONNECT,
                                      {**ends, "flags": int(FlowFlag.DATAGRAM | FlowFlag.POSTED_RECEIVE)})
        except Refused as error:
            self._socket.close()
            if error.number == errno.ENOSPC:
                raise FlowTableFull("the NIC has no flow left: close connections") from None
            raise UsageError(f"datagrams of {peer[0]}:{peer[1]} do not go through the NIC ({error})") from None
        self._flow = {"flow": reply.flow, "generation": reply.generation}
        self._mark = endpoint.link.page(reply.place).mark

    def receive(self, array: np.ndarray, timeout: float = 30.0) -> np.ndarray:
        """Receive an array of the endpoint's memory, of just the size that is sent; it is returned.

        Raises :class:`~rackgate_host.zeronic.errors.StreamTimeout`, which says how far it came; ``BadBuffer`` for an
        array elsewhere.
        """
        link, size, begin, limit = self._endpoint.link, array.nbytes, self._position, time.monotonic() + timeout
        region, place = self._endpoint.region_of(array)
        link.ask(Operation.POST, {**self._flow, "direction": int(Direction.RECEIVE), "position": begin, "length": size,
                                  "region": region, "place": place})
        have, kept, news = bytearray(-(-size // PIECE)), {}, 0
        end, told = (begin + size) % _MODULUS, time.monotonic()
        while not all(have):
            now = time.monotonic()
            if now > limit:
                raise StreamTimeout(f"{sum(have)} of {len(have)} pieces have come from {self._peer[0]}:{self._peer[1]} "
                                    f"after {timeout:g} s")
            if self._wait(_AGAIN / 2):
                news += self._take(begin, end, have, kept)
            if news >= _REPORT_EVERY or news and now - told > _AGAIN / 4 or now - told > _AGAIN:
                self._report(begin, end, have)
                news, told = 0, now
        # Now the NIC may write nothing there any more; what it could not place goes in.
        link.ask(Operation.SETTLE, {**self._flow, "position": end})
        target = array.reshape(-1).view(np.uint8)
        for piece, content in kept.items():
            target[piece * PIECE:piece * PIECE + len(content)] = np.frombuffer(content, np.uint8)
            self.copied += len(content)
        self.placed += size - sum(map(len, kept.values()))
        link.ask(Operation.RETIRE, {**self._flow, "direction": int(Direction.RECEIVE), "position": end})
        self._position = self._last = end
        self._report(begin, end, have)
        return array

    def _take(self, begin: int, end: int, have: bytearray, kept: dict[int, bytes]) -> int:
        """Take datagrams that are there: what of them is placed is not read. How many pieces are new."""
        new, head = 0, bytearray(HEADER.size)
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                size = self._socket.recv_into(head, 0, socket.MSG_PEEK | socket.MSG_TRUNC) - HEADER.size
                kind, position, about, mark = HEADER.unpack(head)
                piece, rest = divmod((position - begin) % _MODULUS, PIECE)
                is_wanted = (size == min(PIECE, (end - position) % _MODULUS) > 0 and kind == _DATA and about == end
                             and not rest and piece < len(have) and not have[piece])
                is_placed = mark == self._mark
                # A datagram that is read short is dropped behind its header: what is placed is not copied.
                content = self._socket.recv(HEADER.size if is_placed or not is_wanted else 1 << 16)
                if kind == _DATA and about == self._last != end:  # its sender has missed that all has come
                    self._give(HEADER.pack(_REPORT, about, about, 0))
                if is_wanted:
                    if not is_placed:
                        kept[piece] = content[HEADER.size:]
                    have[piece] = 1
                    new += 1
        return new

    def _report(self, begin: int, end: int, have: bytearray) -> None:
        first = have.find(0)
        if first < 0:
            self._give(HEADER.pack(_REPORT, end, end, 0))
            return
        bits = sum(1 << k for k, one in enumerate(have[first:first + 8 * PIECE]) if one)
        position = (begin + first * PIECE) % _MODULUS
        self._give(HEADER.pack(_REPORT, position, end, 0) + bits.to_bytes((bits.bit_length() + 7) // 8, "little"))

    def close(self) -> None:
        """Tell the sender once more that all has come, as long as it asks, and let go of the flow."""
        if self._socket.fileno() < 0:
            return
        while self._wait(_LINGER):
            self._take(self._position, self._last, bytearray(), {})
            self._give(HEADER.pack(_REPORT, self._last, self._last, 0))
        super().close()
        with contextlib.suppress(Refused):
            self._endpoint.link.ask(Operation.RELEASE, self._flow)
