# SPDX-License-Identifier: Apache-2.0
"""The kernel's end of a cable: frames with what the kernel leaves to the NIC, and placeholders instead of payload."""

import errno
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from rackgate.zeronic.abi import HEADER_MOST

__all__ = ["FromKernel", "Port"]

# linux/if_packet.h, linux/if_ether.h
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32

# linux/virtio_net.h: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
_VNET = struct.Struct("<BBHHHH")
_NEEDS_CHECKSUM = 1
_GSO_TCPV4, _GSO_ECN = 1, 0x80
_TCP_CHECKSUM = 16

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


class Port:
    """A packet socket on an interface of the caller's namespace.

    Parameters
    ----------
    interface:
        Its name.

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

    def __init__(self, interface: str):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
        self._socket.bind((interface, _ETH_P_ALL))
        self._head = bytearray(_VNET.size + HEADER_MOST)
        self._whole = bytearray(_VNET.size + _FRAME_MOST)
        self.copied = self.heads = self.placeholders = self.dropped = 0

    def fileno(self) -> int:
        """The socket's descriptor, to wait for."""
        return self._socket.fileno()

    def peek(self) -> FromKernel | None:
        """The next frame that the kernel sends, if there is one: only its beginning is read, and it stays."""
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
            length = size - _VNET.size
            kept = min(len(buffer), size)
            kind, gso, _, segment, start, offset = _VNET.unpack_from(buffer)
            return FromKernel(bytes(memoryview(buffer)[_VNET.size:kept]), length, segment if gso else 0,
                              gso & ~_GSO_ECN == _GSO_TCPV4, (start, offset) if kind & _NEEDS_CHECKSUM else None)

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

    def _send(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        try:
            self._socket.sendmsg(parts)
        except OSError as error:
            if error.errno not in (errno.ENOBUFS, errno.EAGAIN, errno.ENETDOWN, errno.ENXIO):
                raise
            self.dropped += 1

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
