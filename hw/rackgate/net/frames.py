# SPDX-License-Identifier: Apache-2.0
"""UDP datagrams as Ethernet frames, and back: what stands between sockets and a switch. Plain Python.

Sources: IEEE 802.3 3.1.1, RFC 791 3.1, RFC 768, RFC 1071.
"""

import struct
from typing import NamedTuple

__all__ = ["Endpoint", "internet_checksum", "split_udp_frame", "udp_frame"]

_ETHERNET = struct.Struct(">6s6sH")
_IPV4 = struct.Struct(">BBHHHBBHII")
_UDP = struct.Struct(">HHHH")
_ETHER_TYPE_IPV4, _PROTOCOL_UDP = 0x0800, 17
_DONT_FRAGMENT = 0x4000

#: Bytes of data in the longest datagram.
_MOST_DATA = 65535 - _IPV4.size - _UDP.size


class Endpoint(NamedTuple):
    """One end of a datagram's way: MAC address, IPv4 address and UDP port, as numbers."""

    mac: int
    address: int
    port: int


def internet_checksum(content: bytes) -> int:
    """RFC 1071's checksum, 16 bits; an odd last byte counts as the upper half of a word. Over right content it is 0."""
    padded = content + b"\0" if len(content) % 2 else content
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def udp_frame(source: Endpoint, destination: Endpoint, data: bytes) -> bytes:
    """A frame, without padding and FCS, with right checksums. Raises ValueError if ``data`` is too long for one."""
    if len(data) > _MOST_DATA:
        raise ValueError(f"a datagram has at most {_MOST_DATA} bytes of data, not {len(data)}")
    length = _UDP.size + len(data)
    pseudo = struct.pack(">IIHH", source.address, destination.address, _PROTOCOL_UDP, length)
    sent = _UDP.pack(source.port, destination.port, length, 0) + data
    sent = sent[:6] + (internet_checksum(pseudo + sent) or 0xFFFF).to_bytes(2, "big") + sent[8:]
    fields = (0x45, 0, _IPV4.size + length, 0, _DONT_FRAGMENT, 64, _PROTOCOL_UDP)
    head = _IPV4.pack(*fields, 0, source.address, destination.address)
    head = _IPV4.pack(*fields, internet_checksum(head), source.address, destination.address)
    return _ETHERNET.pack(destination.mac.to_bytes(6, "big"), source.mac.to_bytes(6, "big"),
                          _ETHER_TYPE_IPV4) + head + sent


def split_udp_frame(frame: bytes) -> tuple[Endpoint, Endpoint, bytes]:
    """Source, destination and data of a datagram in one frame; padding is cut off.

    Raises
    ------
    ValueError
        It is no whole UDP datagram over IPv4 without options, or a checksum is wrong.
    """
    start = _ETHERNET.size
    if len(frame) < start + _IPV4.size + _UDP.size:
        raise ValueError(f"a frame of {len(frame)} bytes is too short for UDP")
    target_mac, source_mac, ether_type = _ETHERNET.unpack_from(frame)
    version, _, length, _, fragment, _, protocol, _, source, target = _IPV4.unpack_from(frame, start)
    if ether_type != _ETHER_TYPE_IPV4 or version != 0x45 or protocol != _PROTOCOL_UDP or fragment & ~_DONT_FRAGMENT:
        raise ValueError("the frame is no UDP over IPv4 without options and fragments")
    if internet_checksum(frame[start:start + _IPV4.size]):
        raise ValueError("the checksum of the IPv4 header is wrong")
    datagram = frame[start + _IPV4.size:start + length]
    if length < _IPV4.size + _UDP.size or len(datagram) != length - _IPV4.size:
        raise ValueError(f"the IPv4 header counts {length} bytes, the frame has {len(frame) - start}")
    source_port, target_port, udp_length, checksum = _UDP.unpack_from(datagram)
    if udp_length != len(datagram):
        raise ValueError(f"the UDP header counts {udp_length} bytes, there are {len(datagram)}")
    pseudo = struct.pack(">IIHH", source, target, _PROTOCOL_UDP, udp_length)
    if checksum and internet_checksum(pseudo + datagram):
        raise ValueError("the checksum of the datagram is wrong")
    return (Endpoint(int.from_bytes(source_mac, "big"), source, source_port),
            Endpoint(int.from_bytes(target_mac, "big"), target, target_port), datagram[_UDP.size:])
