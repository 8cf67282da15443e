# SPDX-License-Identifier: Apache-2.0
"""The headers of the link's frames in hardware, and the records that its blocks exchange."""

import operator

from amaranth.hdl import Cat, Const, Value
from amaranth.lib import data

from rackgate.collective.abi import HEADER_SIZE
from rackgate.collective.link.abi import FRAME_HEADER_SIZE, LINK_VERSION, MAC_PREFIX
from rackgate.net.headers import ETHER_TYPE_IPV4, PROTOCOL_UDP

__all__ = [
    "BUFFER_BITS", "LENGTH_BITS", "LINK_HEADER_SIZE", "WIDTHS", "Acknowledgement", "Arrival", "Departure",
    "LinkSettings", "StoredPacket", "check_link_width", "frame_header", "most_bytes",
]

#: Legal widths: the headers before a packet are whole words.
WIDTHS = (4, 8, 16)
#: Bits that number a buffer of the store, and that count the bytes of a packet.
BUFFER_BITS, LENGTH_BITS = 9, 13
LINK_HEADER_SIZE = 6


def check_link_width(width: int) -> int:
    """The width; raises ValueError if it is not one of :data:`WIDTHS`."""
    if operator.index(width) not in WIDTHS:
        raise ValueError(f"width of a link over UDP must be one of {WIDTHS} bytes, not {width}")
    return operator.index(width)


def most_bytes(segment: int) -> int:
    """Bytes of the longest packet."""
    return segment + HEADER_SIZE


class LinkSettings(data.Struct):
    """What the host sets: see the LINK registers."""

    address: 32
    port: 16
    session: 4


class StoredPacket(data.Struct):
    """What is known of a packet in the store: bytes, the sum of its 16-bit words, whether it is damaged."""

    length: LENGTH_BITS
    sum: 16
    error: 1


class Departure(data.Struct):
    """A frame to be sent; without a packet if ``length`` is 0."""

    peer: 4
    flags: 4
    sequence: 16
    acknowledgement: 16
    buffer: BUFFER_BITS
    length: LENGTH_BITS
    ipv4_checksum: 16
    udp_checksum: 16


class Arrival(data.Struct):
    """A frame that has come. If it is not good, nothing but ``has_words`` and the reason counts.

    ``has_words``: words that were in the place of a packet have to be taken, or dropped.
    """

    is_foreign: 1
    is_damaged: 1
    has_words: 1
    peer: 4
    flags: 4
    sequence: 16
    acknowledgement: 16


class Acknowledgement(data.Struct):
    """What a peer says of the packets that were sent to it."""

    peer: 4
    acknowledgement: 16
    missing: 1


def _big(value: Value, size: int) -> Value:
    """``size`` bytes, the highest one first."""
    extended = Cat(value, Const(0, 8 * size))[:8 * size]
    return Cat(extended[8 * k:8 * k + 8] for k in reversed(range(size)))


def frame_header(departure: data.View, node: Value, settings: data.View) -> Value:
    """The bytes before a packet, first byte lowest."""
    prefix = Const(MAC_PREFIX, 40)
    own, peer = (Cat(number, settings.address[4:]) for number in (node, departure.peer))
    udp_length = departure.length + 8 + LINK_HEADER_SIZE
    whole = Cat(
        _big(prefix, 5), _big(departure.peer, 1), _big(prefix, 5), _big(node, 1), _big(Const(ETHER_TYPE_IPV4, 16), 2),
        _big(Const(0x4500, 16), 2), _big(udp_length + 20, 2), Const(0, 16), _big(Const(0x4000, 16), 2),
        Const(64, 8), Const(PROTOCOL_UDP, 8), _big(departure.ipv4_checksum, 2), _big(own, 4), _big(peer, 4),
        _big(settings.port, 2), _big(settings.port, 2), _big(udp_length, 2), _big(departure.udp_checksum, 2),
        Const(LINK_VERSION, 8), departure.flags, settings.session,
        _big(departure.sequence, 2), _big(departure.acknowledgement, 2))
    assert len(whole) == 8 * FRAME_HEADER_SIZE
    return whole
