# SPDX-License-Identifier: Apache-2.0
"""What the parts of a station tell each other."""

from amaranth.hdl import Cat, Value
from amaranth.lib import data, enum

__all__ = [
    "ECHO_SIZE", "ETHER_TYPE_ARP", "IPV4_SIZE", "PARCEL_WIDTH", "PROTOCOL_ICMP", "UDP_SIZE", "Address", "Kind", "Peer",
    "wire_bytes",
]

#: Numbers that the pipelines' headers have no need of (RFC 826, RFC 792).
ETHER_TYPE_ARP, PROTOCOL_ICMP = 0x0806, 1
#: Bytes of the headers of IPv4 and UDP, and of ICMP's up to the checksum.
IPV4_SIZE, UDP_SIZE, ECHO_SIZE = 20, 8, 4

#: Bytes of a word within the station.
PARCEL_WIDTH = 4


class Address(data.Struct):
    """Who a station is, as numbers."""

    mac: 48
    address: 32
    port: 16


class Kind(enum.Enum, shape=2):
    """What the station answers."""

    ARP = 0
    ECHO = 1
    MESSAGE = 2


class Peer(data.Struct):
    """Who is to be answered, in three words: the first words of a *parcel*.

    A parcel is a packet within the station. A message's has its sender, then its bytes. A request's has its sender with
    the ``kind`` in place of a port, then a word with the checksum of ICMP in bits 15:0 and the bytes behind the IPv4
    header in bits 31:16, then for ICMP all that is behind the checksum.
    """

    mac: 48
    port: 16
    address: 32


def wire_bytes(value: Value, size: int) -> list[Value]:
    """``size`` bytes of a number in the order of the wire, the highest first."""
    whole = Cat(value)
    return [whole[8 * place:8 * place + 8] for place in reversed(range(size))]
