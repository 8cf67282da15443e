# SPDX-License-Identifier: Apache-2.0
"""The kernel's end of a cable: frames with what the kernel leaves to the NIC, and placeholders instead of payload."""

import errno
import fcntl
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from rackgate.net.frames import internet_checksum
from rackgate.zeronic.abi import HEADER_MOST

__all__ = ["SO_RCVBUFFORCE", "FromKernel", "PacketPort", "Port", "TapPort"]

# linux/if_packet.h, linux/if_ether.h
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 3
#: Beyond what the machine lets programs ask for; root may.
SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32

# linux/if_tun.h
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x4004_54CA, 0x4004_54D0, 0x4004_54D8
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO_ECN = 0x01, 0x02, 0x08

# linux/virtio_net.h: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
_VNET = struct.Struct("<BBHHHH")
_NEEDS_CHECKSUM = 1
_GSO_TCPV4, _GSO_ECN = 1, 0x80
_TCP_CHECKSUM, _UDP_CHECKSUM = 16, 6

#: Bytes of what waits to be read: a window of each of many flows.
_RECEIVE_BUFFER = 64 << 20
_SEND_BUFFER = 8 << 20
#: Longest frame that the kernel may give, with segmentation left to the NIC.
_FRAME_MOST = 1 << 17


class FromKernel(NamedTuple):
    """A frame that the kernel sends.

    ``head`` is its beginning, or all of it; ``length`` counts it whole. ``segment``: payload bytes that each frame on
    the wire may have, if it is to be cut up, else 0. ``checksum``: where the checksum's range begins and the offset of
    its field in it, if it is to be completed.
    """

    head: bytes
    length: int
    segment: int
    is_tcp: bool
    checksum: tuple[int, int] | None


class Port(ABC):
    """What the kernel sends and is given at an interface, with what it leaves to a NIC.

    Attributes
    ----------
    copied:
        Bytes of frames that were read or written whole, payload included.
    heads:
        Bytes of those of which only the headers were.
    placeholders:
        Placeholder bytes that were written.
    dropped:
        Frames that the kernel did not take, for want of memory or because the interface is down.
    """

    def __init__(self) -> None:
        self.copied = self.heads = self.placeholders = self.dropped = 0

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor to wait for."""

    @abstractmethod
    def peek(self) -> FromKernel | None:
        """The next frame that the kernel sends, if there is one: its beginning at least. It stays."""

    @abstractmethod
    def skip(self) -> None:
        """Drop the frame that was peeked at."""

    @abstractmethod
    def read(self) -> FromKernel | None:
        """The frame that was peeked at, whole."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the interface."""

    @abstractmethod
    def _put(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write a frame behind its virtio_net_hdr."""

    def write(self, frame: bytes | bytearray) -> None:
        """Hand a frame to the kernel as it is, checksums and all."""
        self.copied += len(frame)
        self._send([_VNET.pack(0, 0, 0, 0, 0, 0), frame])

    def write_tcp(self, head: bytes | bytearray, placeholders: Sequence[bytes | memoryview], size: int,
                  segment: int) -> None:
        """Hand a TCP frame to the kernel: its headers, and ``size`` bytes in the place of payload.

        The kernel takes its checksum for right. ``segment``: payload bytes of the frames that it stands for.
        """
        self.heads += len(head)
        self.placeholders += size
        merged = size > segment > 0
        vnet = _VNET.pack(_NEEDS_CHECKSUM, _GSO_TCPV4 if merged else 0, len(head), segment if merged else 0, 34,
                          _TCP_CHECKSUM)
        self._send([vnet, head, *placeholders])

    def write_udp(self, head: bytearray, payload: Sequence[bytes | memoryview], size: int) -> None:
        """Hand a UDP datagram to the kernel: its headers, right but for the checksum, and ``size`` bytes behind them.

        The kernel takes its checksum for right.
        """
        self.heads += len(head)
        self.placeholders += size
        length = len(head) - 34 + size
        pseudo = internet_checksum(bytes(head[26:34]) + struct.pack(">HH", 17, length)) ^ 0xFFFF
        struct.pack_into(">H", head, 34 + _UDP_CHECKSUM, pseudo)
        self._send([_VNET.pack(_NEEDS_CHECKSUM, 0, len(head), 0, 34, _UDP_CHECKSUM), head, *payload])

    def _send(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        try:
            self._put(parts)
        except OSError as error:
            if error.errno not in (errno.ENOBUFS, errno.EAGAIN, errno.ENETDOWN, errno.ENXIO, errno.EIO):
                raise
            self.dropped += 1


def _from_kernel(buffer: bytearray, size: int) -> FromKernel:
    """A frame of which ``size`` bytes were to be read behind its virtio_net_hdr, as far as it is in the buffer."""
    kind, gso, _, segment, start, offset = _VNET.unpack_from(buffer)
    return FromKernel(bytes(memoryview(buffer)[_VNET.size:min(len(buffer), size)]), size - _VNET.size,
                      segment if gso else 0, gso & ~_GSO_ECN == _GSO_TCPV4,
                      (start, offset) if kind & _NEEDS_CHECKSUM else None)


class PacketPort(Port):
    """A packet socket on an interface of the caller's namespace: payload that is not asked for is never copied.

    Parameters
    ----------
    interface:
        Its name.
    """

    def __init__(self, interface: str):
        super().__init__()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
        self._socket.bind((interface, _ETH_P_ALL))
        self._head = bytearray(_VNET.size + HEADER_MOST)
        self._whole = bytearray(_VNET.size + _FRAME_MOST)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def peek(self) -> FromKernel | None:
        """The beginning of the next frame."""
        return self._read(self._head, socket.MSG_PEEK)

    def skip(self) -> None:
        """Drop the frame that was peeked at, without reading its payload."""
        self._socket.recv_into(self._head, 0, socket.MSG_TRUNC)

    def read(self) -> FromKernel | None:
        """The frame that was peeked at, whole."""
        frame = self._read(self._whole, 0)
        if frame is not None:
            self.copied += frame.length
        return frame

    def _read(self, buffer: bytearray, flags: int) -> FromKernel | None:
        while True:
            try:
                size = self._socket.recv_into(buffer, 0, flags | socket.MSG_TRUNC)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                continue  # told once, when the interface goes down
            return _from_kernel(buffer, size)

    def _put(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        self._socket.sendmsg(parts)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


class TapPort(Port):
    """An interface of its own in the caller's namespace, of the kernel's TUN/TAP driver, as long as the port is open.

    What can be had where virtual Ethernet or packet sockets cannot. The driver has no way to look at a frame and leave
    it, so placeholders are read along with headers: one copy more by the CPU, of bytes that say nothing.

    Parameters
    ----------
    interface:
        Its name.

    Raises OSError if there is no TUN/TAP.
    """

    def __init__(self, interface: str):
        super().__init__()
        self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self._file, _TUNSETIFF, struct.pack("16sH22x", interface.encode(),
                                                            _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
            fcntl.ioctl(self._file, _TUNSETVNETHDRSZ, struct.pack("i", _VNET.size))
            fcntl.ioctl(self._file, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO_ECN)
        except OSError:
            os.close(self._file)
            raise
        self._next: FromKernel | None = None
        self._buffer = bytearray(_VNET.size + _FRAME_MOST)

    def fileno(self) -> int:
        """The driver's descriptor."""
        return self._file

    def peek(self) -> FromKernel | None:
        """The next frame, whole."""
        if self._next is None:
            try:
                size = os.readv(self._file, [self._buffer])
            except BlockingIOError:
                return None
            self._next = _from_kernel(self._buffer, size)
        return self._next

    def skip(self) -> None:
        """Drop the frame that was peeked at."""
        self._next = None

    def read(self) -> FromKernel | None:
        """The frame that was peeked at."""
        frame, self._next = self.peek(), None
        if frame is not None:
            self.copied += frame.length
        return frame

    def _put(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        os.writev(self._file, parts)

    def close(self) -> None:
        """Let go of the interface: it is gone."""
        os.close(self._file)
