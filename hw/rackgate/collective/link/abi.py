# SPDX-License-Identifier: Apache-2.0
"""The link over UDP as software and other engines see it: frames, registers, counters.

A packet travels in an Ethernet frame (IEEE 802.3 3.1.1) with IPv4 without options (RFC 791) and UDP (RFC 768), behind
a :class:`LinkHeader` of 6 bytes: 48 bytes of headers in all, a whole number of words. Lost packets are sent again by
go-back-N: each direction between two nodes numbers its packets, and a receiver takes them in their order only.

Plain Python.
"""

import enum
import struct
from typing import NamedTuple

from rackgate.csr.map import Access, Register
from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame

__all__ = [
    "FRAME_HEADER_SIZE", "LINK_REGISTERS", "LINK_SESSIONS", "LINK_VERSION", "MAC_PREFIX", "Link", "LinkCounter",
    "LinkFlag", "LinkHeader", "endpoint", "link_frame", "split_link_frame",
]

#: Version in the first byte behind the UDP header.
LINK_VERSION = 1
#: Sessions are numbered from 1 to this.
LINK_SESSIONS = 15
#: Bytes of a frame before the packet.
FRAME_HEADER_SIZE = 48
#: The first five bytes of the nodes' MAC addresses, locally administered; the sixth is the node.
MAC_PREFIX = 0x0252470000

_HEADER = struct.Struct(">BBHH")


class Link(enum.IntEnum):
    """PARAM_LINK: what is between the engine and its network ports."""

    DIRECT = 0  # nothing: the network loses nothing
    UDP = 1


class LinkFlag(enum.IntFlag):
    """Bits 3:0 of a link header's second byte; the session is in bits 7:4."""

    PACKET = 1  # a packet follows, and ``sequence`` is its number
    MISSING = 2  # what comes from ``acknowledgement`` on was lost: to be sent again
    ERROR = 4  # the packet was damaged before it came to the link


class LinkHeader(NamedTuple):
    """Six bytes between UDP header and packet, big endian.

    ===================  ======  ====================================================================================
    (version)            byte 0  :data:`LINK_VERSION`
    ``flags``            byte 1  :class:`LinkFlag`
    ``session``          byte 1  in bits 7:4: the same at all nodes; frames of another one are dropped
    ``sequence``         2, 3    packets that were sent to that node before, modulo 2**16
    ``acknowledgement``  4, 5    packets that have come from that node in order, modulo 2**16
    ===================  ======  ====================================================================================
    """

    flags: int = 0
    sequence: int = 0
    acknowledgement: int = 0
    session: int = 0

    def to_bytes(self) -> bytes:
        """The six bytes."""
        return _HEADER.pack(LINK_VERSION, self.flags | self.session << 4, self.sequence, self.acknowledgement)

    @classmethod
    def from_bytes(cls, content: bytes) -> "LinkHeader":
        """The header at the start of a datagram. Raises ValueError if it is short or of another version."""
        if len(content) < _HEADER.size:
            raise ValueError(f"a link header has {_HEADER.size} bytes, not {len(content)}")
        version, flags, sequence, acknowledgement = _HEADER.unpack_from(content)
        if version != LINK_VERSION:
            raise ValueError(f"the version of a link header must be {LINK_VERSION}, not {version}")
        return cls(flags & 15, sequence, acknowledgement, flags >> 4)


def endpoint(node: int, *, address: int, port: int) -> Endpoint:
    """Where a node is: LINK_ADDRESS, the node in its last four bits, and LINK_PORT."""
    return Endpoint(MAC_PREFIX << 8 | node, address & ~15 | node, port)


def link_frame(source: Endpoint, destination: Endpoint, header: LinkHeader, packet: bytes = b"") -> bytes:
    """A frame without padding and FCS."""
    return udp_frame(source, destination, header.to_bytes() + packet)


def split_link_frame(frame: bytes) -> tuple[Endpoint, Endpoint, LinkHeader, bytes]:
    """Source, destination, link header and packet of a frame. Raises ValueError if it is damaged or no such frame."""
    source, destination, content = split_udp_frame(frame)
    return source, destination, LinkHeader.from_bytes(content), content[_HEADER.size:]


class LinkCounter(enum.IntEnum):
    """Counters of the link, registers COUNT_LINK_*; each 32 bits, wrapping. All zero without UDP."""

    FRAMES_SENT = 0
    ACKNOWLEDGEMENTS = 1  # of them, frames without a packet
    RETRANSMITTED = 2  # of them, frames with a packet that had been sent before
    TIMEOUTS = 3  # times that an acknowledgement was waited for too long
    FRAMES_RECEIVED = 4  # good ones
    FOREIGN = 5  # dropped: not for this node, of another protocol or session
    DAMAGED = 6  # dropped: a checksum or a length is wrong
    AHEAD = 7  # good frames with a packet before which another one is missing: the packet is dropped
    DUPLICATES = 8  # good frames with a packet that has come already: the packet is dropped


LINK_REGISTERS = (
    Register("LINK_ADDRESS", 0xC0, Access.RW, "UDP: IPv4 address of node 0; bits 3:0 are not looked at.",
             reset=0x0A520000),
    Register("LINK_PORT", 0xC4, Access.RW, "UDP: port of all nodes.", reset=0x5247),
    Register("LINK_SESSION", 0xC8, Access.RW, "UDP: bits 3:0 number the session, the same at all nodes; "
             "0: take no frames."),
    Register("LINK_TIMEOUT", 0xCC, Access.RW, "UDP: cycles after which packets without an acknowledgement are sent "
             "again; 0: never.", reset=20000),
    Register("LINK_ACK_DELAY", 0xD0, Access.RW, "UDP: cycles that an acknowledgement may wait for a packet to go with.",
             reset=256),
    *(Register(f"COUNT_LINK_{counter.name}", 0xE0 + 4 * counter, Access.RO, "Counter.") for counter in LinkCounter),
)
