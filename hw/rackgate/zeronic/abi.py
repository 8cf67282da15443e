# SPDX-License-Identifier: Apache-2.0
"""The NIC as software and its blocks see it: commands, ring entries, tables, registers.

Plain Python: gateware, driver, model and manual all read it from here.

A host talks to the NIC by rings in memory. One ring of *commands* goes down: it fills tables, posts segments, and sends
headers. Rings of *entries* come up: headers whose payload has been placed, whole frames whose payload could not be.
Registers are only for rings, doorbells and counters.

**Positions.** A byte of a flow's stream is named by its sequence number, modulo 2**32, as on the wire; "before" and
"after" are told by the sign of the difference, so a stream may be of any length. No window may exceed 2**31 bytes.

**What the NIC promises of received payload.** It writes each byte of a stream to memory at most once: never one before
the flow's *cursor* (the transport has judged it), never one that an earlier frame has placed. It writes only to posted
segments, inside their regions, and only payload of frames whose checksums are right. An entry follows the data it
speaks of. No frame with right checksums is dropped. Hence, what the transport accepts can be told byte by byte: see
:class:`~rackgate.zeronic.messages.EntryKind`, and :mod:`rackgate.zeronic.versions` for how.

**What becomes of a frame.** The first rule that fits:

1. Marked bad by the MAC, shorter than 14 bytes (34 with ethertype 0x0800) or longer than 9,310: dropped, BAD_FRAME.
2. Not IPv4 (ethertype 0x0800 and then a byte 0x45), or a fragment: DEFERRED of no flow, not checked, UNKNOWN_FLOW.
   IPv4 with options and VLAN tags count as other protocols.
3. IPv4's length below 20 or beyond the frame: dropped, BAD_FRAME. Bytes behind it (padding) are no payload.
4. IPv4's header checksum wrong: dropped, BAD_IP_CHECKSUM.
5. No profile matches, or the transport header does not fit IPv4's length or lacks the position, or TCP's data offset is
   below 5, or UDP's length (with ChecksumKind.UDP) is not IPv4's less 20: as 2.
6. The transport's checksum (over a pseudo header with IPv4's length less 20) wrong: dropped, BAD_CHECKSUM.
7. No key, or a flow without FlowFlag.RECEIVE: DEFERRED, UNKNOWN_FLOW.
8. TCP with SYN and payload: DEFERRED, nothing placed. No payload: HEADER.
9. Payload: what is not before the cursor is looked for in segments, from its first byte to one that is in none
   (NO_SEGMENT) or in a piece that its region forbids (BAD_REGION). From this the bytes before the cursor go, those that
   the first remembered range holds if it holds the first, and all from the next range on (CONFLICT). The one range that
   is left is placed, unless it would be one range too many to remember (NO_INTERVAL). HEADER if it is all of the
   payload that is not before the cursor, else DEFERRED. Ranges that touch are one; one that begins at the cursor does
   not count; what is before the cursor is forgotten.
"""

import enum

from rackgate.csr.map import Access, Field, Register, RegisterMap

__all__ = [
    "COMMAND_ALIGNMENT", "ETHERNET_SIZE", "HASH_FOLD", "HASH_TURNS", "HEADER_MOST", "PROFILES", "REGISTERS", "RINGS",
    "WAYS", "Control", "Counter", "Direction", "Right", "StatusFlag", "before", "flow_hash",
]

#: Rings of entries. Frames of no flow go to ring 0; a flow chooses its ring.
RINGS = 2
#: Header profiles.
PROFILES = 4
#: Keys that may stand at one hash value.
WAYS = 4
#: By how much :func:`flow_hash` rotates the upper and lower halves of the addresses, source's first, and the ports.
HASH_TURNS = (7, 8, 11, 1, 0, 15)
#: Places by which it then shifts down what it adds.
HASH_FOLD = 7
#: Commands begin at multiples of so many bytes, and are padded to them.
COMMAND_ALIGNMENT = 32
#: Bytes of headers, from Ethernet's on, of the longest frame that is split: Ethernet 14, IPv4 20, TCP 60.
HEADER_MOST = 94
#: Bytes of Ethernet header, which an entry of kind HEADER leaves out.
ETHERNET_SIZE = 14


def before(a: int, b: int) -> bool:
    """Whether position ``a`` is before position ``b``."""
    return (a - b) & 0x8000_0000 != 0


def flow_hash(source: int, destination: int, source_port: int, destination_port: int, profile: int) -> int:
    """16 bits of a flow's key; its low bits are the set of the flow table.

    The 16-bit halves of the key are rotated by different amounts (:data:`HASH_TURNS`) and added without carry, then the
    upper bits to the lower ones (:data:`HASH_FOLD`). That costs a few gates and spreads ports in a row, also when all
    are odd or all even, as Linux gives them, and addresses in a row. A host that knows it can fill a set; the table
    then refuses, and nothing else suffers.
    """
    value = profile
    halves = (source >> 16, source, destination >> 16, destination, source_port, destination_port)
    for turn, half in zip(HASH_TURNS, halves, strict=True):
        half &= 0xFFFF
        value ^= (half << turn | half >> (16 - turn)) & 0xFFFF
    return value ^ value >> HASH_FOLD


class Direction(enum.IntEnum):
    """Which list of segments of a flow."""

    RECEIVE = 0
    SEND = 1


class Right(enum.IntFlag):
    """What the NIC may do with a memory region."""

    READ = 1  # gather from it
    WRITE = 2  # place into it


# Registers ---------------------------------------------------------------------------------------------------------


class Control(enum.IntFlag):
    """Bits of CONTROL."""

    RECEIVE = 1  # take frames from the wire
    SEND = 2  # take commands
    RESET = 4  # writing one restarts the NIC: rings, tables, frames and counters are forgotten


class StatusFlag(enum.IntFlag):
    """Bits of STATUS."""

    READY = 1  # the tables have been cleared after reset
    RECEIVE_IDLE = 2  # no frame is on its way from the wire to a ring; merged headers may wait
    SEND_IDLE = 4  # no command is under way
    SEND_HALTED = 8  # the memory refused a read of the command ring: no command is taken until a reset


class Counter(enum.IntEnum):
    """Counters, registers COUNT_*; each 32 bits, wrapping. One of frames counts a frame once.

    Each frame received counts one of the causes for a drop, UNKNOWN_FLOW, DEFERRED, or went up as a header.
    """

    FRAMES_RECEIVED = 0  # whole ones, good or not
    BYTES_RECEIVED = 1  # of those that were not dropped, without FCS
    BAD_FRAME = 2  # marked by the MAC, too long, or shorter than its IPv4 length: dropped
    BAD_IP_CHECKSUM = 3  # dropped
    BAD_CHECKSUM = 4  # the transport's: dropped
    UNKNOWN_FLOW = 5  # went up whole: no profile, no key, or not to be split
    PLACED = 6  # frames with payload, all of which this frame put in memory
    BYTES_PLACED = 7  # of frames without WRITE_ERROR
    OLD = 8  # frames that had a byte before the cursor
    DEFERRED = 9  # frames of a flow to be split that went up whole
    NO_SEGMENT = 10  # of those: a byte was in no segment
    CONFLICT = 11  # of those: a byte had been placed before and was not judged
    NO_INTERVAL = 12  # of those: too many holes to remember
    BAD_REGION = 13  # frames, both ways, with a piece outside its region or without the right: not written, not read
    MERGED = 14  # frames that were merged into the entry of another
    ENTRIES = 15  # written, without PAD
    RING_FULL = 16  # cycles in which an entry waited for room in its ring, and entries lost for want of a ring
    WRITE_ERROR = 17  # frames, entries and pads of which the memory refused a write
    FRAMES_SENT = 18
    BYTES_SENT = 19  # of those, without FCS
    UNSENT = 20  # SEND commands that could not be gathered
    COMMANDS = 21  # taken, with PAD and those refused
    BAD_COMMAND = 22  # refused: see each command


def _ring_registers() -> tuple[Register, ...]:
    registers = []
    for ring in range(RINGS):
        at = 0x50 + 0x18 * ring
        registers += [
            Register(f"RING{ring}_BASE_LO", at, Access.RW, "Ring of entries: address, a multiple of 64."),
            Register(f"RING{ring}_BASE_HI", at + 4, Access.RW, "Upper 8 bits of it."),
            Register(f"RING{ring}_SIZE", at + 8, Access.RW, "Its size in bytes is 2 to the power of this, 12 to 26; "
                     "0: there is none. What is longer than its ring is lost (RING_FULL counts it)."),
            Register(f"RING{ring}_PRODUCER", at + 12, Access.RO, "Bytes of entries written so far, modulo 2**32."),
            Register(f"RING{ring}_CONSUMER", at + 16, Access.RW, "Bytes that the host is done with."),
        ]
    return tuple(registers)


REGISTERS = RegisterMap("ZNIC", (1, 0), (
    Register("PARAM_WIDTH", 0x20, Access.CONST, "Bytes a cycle of the data path."),
    Register("PARAM_FLOWS", 0x24, Access.CONST, "Flows; the flow table has as many places as twice that."),
    Register("PARAM_SEGMENTS", 0x28, Access.CONST, "Segments of a flow and direction."),
    Register("PARAM_REGIONS", 0x2C, Access.CONST, "Memory regions."),
    Register("PARAM_INTERVALS", 0x30, Access.CONST, "Ranges of placed bytes that are remembered, a flow."),
    Register("CONTROL", 0x40, Access.RW, "See Control. RESET is one until that is done.",
             fields=(Field("RECEIVE", 0, 1, "Take frames."), Field("SEND", 1, 1, "Take commands."),
                     Field("RESET", 2, 1, "Restart."))),
    Register("STATUS", 0x44, Access.RO, "See StatusFlag.",
             fields=(Field("READY", 0, 1, "Tables are clear."), Field("RECEIVE_IDLE", 1, 1, "No frame is under way."),
                     Field("SEND_IDLE", 2, 1, "No command is under way."),
                     Field("SEND_HALTED", 3, 1, "The memory refused a read of the command ring."))),
    Register("COALESCE_CYCLES", 0x48, Access.RW, "Cycles after its first frame at which a merged header goes up, less "
             "than 2**31; 0: headers are not merged."),
    Register("COALESCE_BYTES", 0x4C, Access.RW, "Payload that a merged header may have at most, up to 65,000.",
             reset=65000),
    *_ring_registers(),
    Register("COMMAND_BASE_LO", 0x80, Access.RW, "Ring of commands: address, a multiple of 64."),
    Register("COMMAND_BASE_HI", 0x84, Access.RW, "Upper 8 bits of it."),
    Register("COMMAND_SIZE", 0x88, Access.RW, "Its size in bytes is 2 to the power of this, 12 to 26."),
    Register("COMMAND_PRODUCER", 0x8C, Access.RW, "Doorbell: bytes of commands written so far, modulo 2**32."),
    Register("COMMAND_CONSUMER", 0x90, Access.RO, "Bytes that the NIC is done reading."),
    Register("IRQ_STATUS", 0x94, Access.W1C, "Causes of the interrupt.",
             fields=(Field("ENTRY", 0, 1, "A ring got an entry."),
                     Field("COMMANDS", 1, 1, "All commands were taken."))),
    Register("IRQ_ENABLE", 0x98, Access.RW, "Which of them raise it.",
             fields=(Field("ENTRY", 0, 1, "A ring got an entry."),
                     Field("COMMANDS", 1, 1, "All commands were taken."))),
    *(Register(f"COUNT_{counter.name}", 0xA0 + 4 * counter, Access.RO, "Counter.") for counter in Counter),
))
