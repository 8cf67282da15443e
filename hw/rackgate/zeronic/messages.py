# SPDX-License-Identifier: Apache-2.0
"""What goes through the rings of the NIC: commands down, entries up. Plain Python.

All numbers are little endian, but those in headers of packets.
"""

import enum
import struct
from typing import NamedTuple

from rackgate.zeronic.abi import COMMAND_ALIGNMENT

__all__ = [
    "TCP_PROFILE", "ChecksumKind", "Command", "CommandKind", "Cursor", "Entry", "EntryFlag", "EntryKind", "Fence",
    "Flow", "FlowFlag", "Key", "Post", "Profile", "Region", "Retire", "Send", "SendFlag",
]

# Commands ----------------------------------------------------------------------------------------------------------


class CommandKind(enum.IntEnum):
    """First byte of a command."""

    PAD = 0  # skip ``units``: a command never runs past the end of its ring
    POST = 1
    RETIRE = 2
    CURSOR = 3
    FENCE = 4
    FLOW = 5
    KEY = 6
    REGION = 7
    PROFILE = 8
    SEND = 16


_HEAD = struct.Struct("<BBHHH")


class Command(NamedTuple):
    """First eight bytes of every command, little endian.

    Refused (counter BAD_COMMAND) are: an unknown ``kind``; ``units`` of 0, which count as 1; a flow, region, place or
    profile that the NIC has not; and what each command names. Bytes that no command names must be 0.

    ``kind`` byte 0; ``flags`` byte 1; ``units`` bytes 2, 3: size of the command in multiples of
    :data:`COMMAND_ALIGNMENT`, 1 but for SEND and PAD; ``flow`` bytes 4, 5; ``argument`` bytes 6, 7.
    """

    kind: int
    flags: int = 0
    units: int = 1
    flow: int = 0
    argument: int = 0

    def to_bytes(self) -> bytes:
        """The eight bytes."""
        return _HEAD.pack(*self)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Command":
        """From the first eight bytes of ``content``."""
        return cls(*_HEAD.unpack_from(content))


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % COMMAND_ALIGNMENT)


class Post(NamedTuple):
    """Append a segment to a flow's list: stream bytes ``start`` to ``start + length - 1`` are at ``offset`` of
    ``region``.

    ``argument`` is the :class:`Direction`. Bytes 8 to 11 ``start``; 12 to 15 ``length``, 1 to 2**31 - 1; 16 to 20
    ``offset`` (40 bits); 22, 23 ``region``. Segments of a list must be posted in the order of the stream and must not
    overlap; there may be gaps. Refused: one when the list is full, of length 0 or from 2**31 on, or that begins before
    the end of the last of its list. Bounds and rights are checked at each use.
    """

    flow: int
    direction: int
    start: int
    length: int
    region: int
    offset: int

    def to_bytes(self) -> bytes:
        """The command."""
        head = Command(CommandKind.POST, flow=self.flow, argument=self.direction).to_bytes()
        return _padded(head + struct.pack("<II", self.start, self.length) + self.offset.to_bytes(6, "little")
                       + struct.pack("<H", self.region))


class Retire(NamedTuple):
    """Take the oldest segments from a flow's list. ``argument``: :class:`Direction` in bit 0, ``count`` in bits 15:8.

    Retiring more than there are empties the list.
    """

    flow: int
    direction: int
    count: int

    def to_bytes(self) -> bytes:
        """The command."""
        argument = self.direction | self.count << 8
        return _padded(Command(CommandKind.RETIRE, flow=self.flow, argument=argument).to_bytes())


class Cursor(NamedTuple):
    """The transport has judged all bytes before ``position`` (bytes 8 to 11): none is written from now on.

    A cursor only goes forward: a position before it changes nothing. For frames placed before, see :class:`Fence`.
    """

    flow: int
    position: int

    def to_bytes(self) -> bytes:
        """The command."""
        return _padded(Command(CommandKind.CURSOR, flow=self.flow).to_bytes() + struct.pack("<I", self.position))


class Fence(NamedTuple):
    """Answer with an entry of kind FENCE and ``cookie`` (argument, 16 bits) in ring ``ring`` (flags, bit 0).

    The entry comes when every write of a frame that was looked up before the commands ahead of this one took effect has
    reached the memory: after it, nothing is written that those commands forbid. Headers that wait to be merged go up
    first, the oldest first.
    """

    ring: int
    cookie: int

    def to_bytes(self) -> bytes:
        """The command."""
        return _padded(Command(CommandKind.FENCE, flags=self.ring, argument=self.cookie).to_bytes())


class FlowFlag(enum.IntFlag):
    """``flags`` of a FLOW command."""

    RECEIVE = 1  # split what is received: else its frames are DEFERRED, whole
    RING_1 = 2  # entries go to ring 1
    COALESCE = 4  # headers may be merged: see EntryKind


class Flow(NamedTuple):
    """Begin (or end) a flow: empty its lists, forget what was placed, and set its ``cursor`` (bytes 8 to 11)."""

    flow: int
    flags: int
    cursor: int

    def to_bytes(self) -> bytes:
        """The command."""
        head = Command(CommandKind.FLOW, self.flags, flow=self.flow).to_bytes()
        return _padded(head + struct.pack("<I", self.cursor))


class Key(NamedTuple):
    """Write a place of the flow table: frames with this key, as they are on the wire that comes in, belong to ``flow``.

    ``flags`` bit 0: the place is valid; ``argument``: way in bits 1:0, set above. Bytes 8 to 11 source address, 12 to
    15 destination address, 16, 17 source port, 18, 19 destination port, 20 profile. The driver computes the set by
    :func:`flow_hash` and chooses the way; a key must stand once.
    """

    flow: int
    place: int
    valid: bool
    source: int = 0
    destination: int = 0
    source_port: int = 0
    destination_port: int = 0
    profile: int = 0

    def to_bytes(self) -> bytes:
        """The command."""
        head = Command(CommandKind.KEY, int(self.valid), flow=self.flow, argument=self.place).to_bytes()
        return _padded(head + struct.pack("<IIHHB", *self[3:]))


class Region(NamedTuple):
    """Register memory: ``base`` (bytes 8 to 12) and ``length`` (16 to 20), 40 bits each; flags: :class:`Right`.

    ``argument``: number of the region. ``owner`` (bytes 14, 15): 0, or the only flow + 1 that may use it. A region with
    no right is none. A region must not run past the end of the address space: that is refused (BAD_COMMAND).
    """

    region: int
    rights: int
    base: int
    length: int
    owner: int = 0

    def to_bytes(self) -> bytes:
        """The command."""
        head = Command(CommandKind.REGION, self.rights, argument=self.region).to_bytes()
        return _padded(head + self.base.to_bytes(6, "little") + struct.pack("<H", self.owner)
                       + self.length.to_bytes(6, "little"))


class ChecksumKind(enum.IntEnum):
    """How the transport's checksum is made."""

    NONE = 0
    TCP = 1  # must be there
    UDP = 2  # 0: none was sent


class Profile(NamedTuple):
    """A kind of transport header over IPv4 without options; ``argument`` is its number. Profile 0 is TCP after reset.

    Bytes 8: ``protocol`` of IPv4 (0: the profile is off); 9: :class:`ChecksumKind`; 10: ``position``, bytes from the
    transport header's first to the stream position (32 bits, big endian, a multiple of 2, within it); 11: ``size``,
    bytes of the transport header (8 to 60), or 0 for TCP's rule (data offset in the upper
    half of byte 12, flags in byte 13); 12, 13: ``port``
    and 14, 15 ``mask``: the destination port must equal ``port`` where ``mask`` has ones. The lowest profile that
    matches wins. Frames that none matches belong to no flow.
    """

    profile: int
    protocol: int
    checksum: int
    position: int
    size: int
    port: int = 0
    mask: int = 0

    def to_bytes(self) -> bytes:
        """The command."""
        head = Command(CommandKind.PROFILE, argument=self.profile).to_bytes()
        return _padded(head + struct.pack("<BBBBHH", *self[1:7]))


#: What profile 0 is after reset.
TCP_PROFILE = Profile(0, protocol=6, checksum=ChecksumKind.TCP, position=4, size=0)


class SendFlag(enum.IntFlag):
    """``flags`` of a SEND command."""

    GATHER = 1  # payload comes from the flow's segments of direction SEND; else it follows the header
    OFFLOAD = 2  # headers are IPv4 without options and TCP: cut into segments, edit, and make both checksums
    SNOOP = 4  # the acknowledgement in the header moves the cursor of the flow


class Send(NamedTuple):
    """Send one frame or, with OFFLOAD, as many as ``payload`` bytes need at ``segment`` bytes each.

    ``argument``: bytes of ``header``, 14 to :data:`HEADER_MOST`, from Ethernet's on. Bytes 8 to 11: ``payload``, bytes
    (up to 65,535 - 40); 12, 13: ``segment``, payload bytes of a frame (0: all in one). The header stands at byte 16,
    the payload that is not gathered right behind it. Payload is gathered by the sequence number in the header.

    With OFFLOAD each frame gets its IPv4 length, identification (of the header, counting up), checksum; sequence
    number; FIN and PSH on the last only, CWR on the first only; TCP checksum. Without it the frame goes out as it is.
    If a byte to be gathered is in no segment, outside its region, or cannot be read, its frame and those behind it of
    this command are not sent, an entry of kind UNSENT goes to the flow's ring, and the counter UNSENT counts.

    Refused: GATHER, SNOOP or ``segment`` without OFFLOAD; with it, headers that are not 14 + 20 bytes and TCP's data
    offset; more than 9,216 bytes of payload in a frame; fewer ``units`` than header and inline payload take.
    """

    flow: int
    flags: int
    header: bytes
    payload: int = 0
    segment: int = 0
    inline: bytes = b""

    def to_bytes(self) -> bytes:
        """The command."""
        body = struct.pack("<IHH", self.payload, self.segment, 0) + self.header + self.inline
        units = -(-(_HEAD.size + len(body)) // COMMAND_ALIGNMENT)
        return _padded(Command(CommandKind.SEND, self.flags, units, self.flow, len(self.header)).to_bytes() + body)


# Entries -----------------------------------------------------------------------------------------------------------


class EntryKind(enum.IntEnum):
    """First byte of an entry.

    HEADER: every byte of the payload either was placed by this frame, or is before the cursor (so the transport will
    not take it). The headers follow, from IPv4's on. With COALESCE, it may stand for several frames, all placed, each
    of which goes on where the one before it ended, with only ACK and perhaps PSH set, and headers equal but for IPv4's
    length, identification and checksum, TCP's sequence number and checksum, and PSH (so a transport judges them alike).
    Then it has the headers of the first (lengths and checksums are of no use) with PSH of the last, which ends it. What
    is not merged goes up behind what waits of its flow.

    DEFERRED: the whole frame follows. Of its payload, the ``placed`` bytes from ``placed_offset`` on are in
    memory (perhaps none), the others were not written. A host that hands such a frame to a transport must be able to
    tell later which of two frames with the same bytes was accepted: give the transport placeholders whose value names
    the frame.
    """

    PAD = 0  # skip ``size``: an entry never runs past the end of its ring
    HEADER = 1
    DEFERRED = 2
    FENCE = 3
    UNSENT = 4


class EntryFlag(enum.IntFlag):
    """Second byte of an entry."""

    FLOW = 1  # ``flow`` is valid
    CHECKED = 2  # IPv4's checksum is right, and the transport's, if its profile asks for one; and a profile matched
    WRITE_ERROR = 4  # the memory refused a write of the payload: ``placed`` cannot be relied on


_ENTRY_SIZE = 16


class Entry(NamedTuple):
    """First 16 bytes of an entry, little endian; ``content`` bytes follow, then padding to a multiple of 8.

    ``kind`` byte 0; ``flags`` byte 1; ``size`` bytes 2, 3: of the whole entry, in multiples of 8 bytes; ``flow``
    bytes 4, 5 (of FENCE: the cookie); ``content`` bytes 6, 7: bytes that follow (before padding); then 64 bits:
    ``payload`` in bits 16:0, payload bytes of the frame, or of all frames merged; ``placed_offset`` in bits 31:17,
    bytes of payload before those placed; ``placed`` in bits 48:32; ``headers`` in bits 55:49, bytes of headers from
    Ethernet's on; ``frames`` in bits 63:56, frames that were merged. Without FLOW the first four are 0.
    """

    kind: int
    flags: int = 0
    size: int = 2
    flow: int = 0
    content: int = 0
    payload: int = 0
    placed_offset: int = 0
    placed: int = 0
    headers: int = 0
    frames: int = 0

    SIZE = _ENTRY_SIZE

    def to_bytes(self) -> bytes:
        """The 16 bytes."""
        counts = (self.payload | self.placed_offset << 17 | self.placed << 32 | self.headers << 49 | self.frames << 56)
        return struct.pack("<BBHHHQ", self.kind, self.flags, self.size, self.flow, self.content, counts)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Entry":
        """From the first 16 bytes of ``content``."""
        *head, counts = struct.unpack_from("<BBHHHQ", content)
        return cls(*head, counts & 0x1FFFF, counts >> 17 & 0x7FFF, counts >> 32 & 0x1FFFF, counts >> 49 & 0x7F,
                   counts >> 56)
