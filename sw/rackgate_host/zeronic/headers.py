# SPDX-License-Identifier: Apache-2.0
"""Headers of frames, as far as control stacks look at them: Ethernet, IPv4 and TCP (IEEE 802.3, RFC 791, RFC 9293)."""

import enum
import struct
from typing import NamedTuple

from rackgate.net.frames import internet_checksum
from rackgate.zeronic.abi import ETHERNET_SIZE

__all__ = ["TcpFlag", "TcpHeader", "finish_tcp", "parse_tcp", "put_checksum"]

_PROTOCOL_TCP = 6
_IPV4 = struct.Struct(">BBHHHBBHII")
_TCP = struct.Struct(">HHIIBBHHH")
_PSEUDO = struct.Struct(">IIHH")


class TcpFlag(enum.IntFlag):
    """Byte 13 of a TCP header."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16
    URG = 32


class TcpHeader(NamedTuple):
    """A frame's TCP header. ``size``: bytes of headers from Ethernet's on; ``payload``: bytes behind them."""

    source: int
    destination: int
    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int
    size: int
    payload: int


def parse_tcp(head: bytes | bytearray | memoryview) -> TcpHeader | None:
    """Headers of a frame that begins with ``head``; ``None`` if it is no unfragmented TCP over IPv4 without options.

    Only the beginning is looked at: the payload need not be there.
    """
    if len(head) < ETHERNET_SIZE + 40 or head[12] != 8 or head[13] != 0 or head[14] != 0x45 or head[23] != 6:
        return None
    _, _, length, _, fragment, _, _, _, source, destination = _IPV4.unpack_from(head, ETHERNET_SIZE)
    source_port, destination_port, sequence, acknowledgement, offset, flags, *_ = _TCP.unpack_from(head, 34)
    size = ETHERNET_SIZE + 20 + (offset >> 4) * 4
    payload = length + ETHERNET_SIZE - size
    if fragment & 0x3FFF or offset < 0x50 or payload < 0:
        return None
    ends = source, destination, source_port, destination_port
    return TcpHeader(*ends, sequence, acknowledgement, flags, size, payload)


def finish_tcp(head: bytearray, payload: int) -> None:
    """Make ``head``, all headers of a TCP frame, right for ``payload`` bytes that the receiver's kernel does not check.

    Sets IPv4's length and checksum; TCP's checksum becomes the pseudo header's sum, as of a frame whose checksum is to
    be completed later. Urgent data is made ordinary (RFC 6093): it would be taken out of the stream's order.
    """
    length = len(head) - ETHERNET_SIZE + payload
    struct.pack_into(">H", head, 16, length)
    struct.pack_into(">H", head, 24, 0)
    struct.pack_into(">H", head, 24, internet_checksum(bytes(head[ETHERNET_SIZE:34])))
    if head[47] & TcpFlag.URG:
        head[47] &= ~TcpFlag.URG & 0xFF
        head[52:54] = b"\0\0"
    source, destination = struct.unpack_from(">II", head, 26)
    pseudo = _PSEUDO.pack(source, destination, _PROTOCOL_TCP, length - 20)
    struct.pack_into(">H", head, 50, internet_checksum(pseudo) ^ 0xFFFF)


def put_checksum(frame: bytearray, start: int, offset: int) -> None:
    """Complete a checksum over ``frame`` from byte ``start`` on, whose field, at ``offset``, has the pseudo header's.

    For UDP a checksum of 0 becomes 0xFFFF, which means the same; so it does for TCP.
    """
    at = start + offset
    value = internet_checksum(bytes(frame[start:])) or 0xFFFF
    struct.pack_into(">H", frame, at, value)
