# SPDX-License-Identifier: Apache-2.0
"""The collective engine as software and other engines see it: calls, completions, registers, packets.

Plain Python: gateware, drivers, models and the manual all read it from here. The instructions of the engine's
sequencer are in :mod:`rackgate.collective.isa`.

A host writes the 16 words of a call, one after the other, to CALL_WORD. A free context of the sequencer takes the call
and runs the program that the entry table names for its scenario. When it has ended, a completion can be read at
COMPLETION_*, and the interrupt is raised.
"""

import binascii
import enum
import struct
from typing import NamedTuple

from rackgate.collective.link.abi import LINK_REGISTERS
from rackgate.collective.packets.abi import PROBE_REGISTERS
from rackgate.csr.map import Access, Field, Register, RegisterMap

__all__ = [
    "CALL_WORDS", "COMMUNICATORS", "CONTEXTS", "HEADER_SIZE", "MOVES", "NODES", "REGISTERS", "VERSION", "Call",
    "CallFlag", "Cause", "Completion", "ConfigSpace", "Control", "Counter", "Header", "HeaderFlag", "PacketType",
    "Scenario", "Status", "StreamFlag", "crc16",
]

#: Nodes that an engine can talk to, itself included; ranks of the largest communicator.
NODES = 16
#: Communicators that an engine knows at a time.
COMMUNICATORS = 8
#: Calls under way at a time.
CONTEXTS = 4
#: Moves under way at a time: four a context.
MOVES = 16
#: 32-bit words of a call.
CALL_WORDS = 16


# Calls -------------------------------------------------------------------------------------------------------------


class Scenario(enum.IntEnum):
    """First word of a call: which entry of the table to run. ACCL's numbers; from USER on for loaded collectives."""

    CONFIG = 0
    COPY = 1
    COMBINE = 2
    SEND = 3
    RECV = 4
    BCAST = 5
    SCATTER = 6
    GATHER = 7
    REDUCE = 8
    ALLGATHER = 9
    ALLREDUCE = 10
    REDUCE_SCATTER = 11
    BARRIER = 12
    ALLTOALL = 13
    STREAM_PUT = 14
    USER = 32
    NOP = 255


class CallFlag(enum.IntFlag):
    """Compression flags of a call; ACCL's numbers. Only WIRE is implemented: others end in Status.BAD_FLAGS."""

    OPERAND_0 = 1
    OPERAND_1 = 2
    RESULT = 4
    WIRE = 8  # 32-bit floats travel as 16-bit floats; arithmetic is done on 32 bits


class StreamFlag(enum.IntFlag):
    """Stream flags of a call: that operand comes from, or goes to, a kernel's stream instead of memory."""

    OPERAND_0 = 1
    RESULT = 2


_CALL = struct.Struct("<9I3Q")


class Call(NamedTuple):
    """A call: ACCL's 15 words and one more, 64 bytes, little endian.

    ==================  =====  ======================================================================================
    ``scenario``        word 0   :class:`Scenario`
    ``count``           word 1   elements; of the whole vector for bcast, reduce and allreduce, of one rank's part else
    ``communicator``    word 2   0 to 7 (ACCL has an address here)
    ``peer``            word 3   root, source or destination: a rank of the communicator
    ``function``        word 4   :class:`rackgate.arith.abi.Function`
    ``tag``             word 5   of send and recv; ANY_TAG matches all
    ``element``         word 6   :class:`rackgate.arith.abi.ElementType` (ACCL has an address here)
    ``compression``     word 7   :class:`CallFlag`
    ``streams``         word 8   :class:`StreamFlag`; ACCL's host flags in bits 15:8 are ignored: there is one memory
    ``operand_0``       9, 10    address
    ``operand_1``       11, 12   address
    ``result``          13, 14   address
    ``id``              word 15  bits 15:0 come back in the completion; bits 31:16 are reserved, 0
    ==================  =====  ======================================================================================
    """

    scenario: int
    count: int = 0
    communicator: int = 0
    peer: int = 0
    function: int = 0
    tag: int = 0
    element: int = 0
    compression: int = 0
    streams: int = 0
    operand_0: int = 0
    operand_1: int = 0
    result: int = 0
    id: int = 0

    ANY_TAG = 0xFFFFFFFF
    #: ``peer`` of a recv from whoever sends first.
    ANY_SOURCE = 0xFFFFFFFF

    def words(self) -> tuple[int, ...]:
        """The 16 words of 32 bits."""
        raw = _CALL.pack(*self[:12]) + struct.pack("<I", self.id)
        return struct.unpack("<16I", raw)

    @classmethod
    def from_words(cls, words: tuple[int, ...]) -> "Call":
        """The call in 16 words. Raises ValueError if there are not 16."""
        if len(words) != CALL_WORDS:
            raise ValueError(f"a call has {CALL_WORDS} words, not {len(words)}")
        raw = struct.pack("<16I", *words)
        return cls(*_CALL.unpack_from(raw), *struct.unpack_from("<I", raw, _CALL.size))


class Status(enum.IntEnum):
    """How a call ended."""

    SUCCESS = 0
    NO_SUCH_SCENARIO = 1  # its entry of the table is empty
    NO_SUCH_COMMUNICATOR = 2
    BAD_PEER = 3  # a rank outside the communicator
    BAD_TYPE = 4  # an element type, function or conversion that this engine was not built with
    BAD_FLAGS = 5
    PROGRAM_ERROR = 6  # an illegal instruction, or an address outside the program memory
    TIMEOUT = 7  # a move made no progress for TIMEOUT cycles: see Cause
    RECEIVE_SIZE = 8  # a message was longer than the receive expected, or than it said, or not of its kind
    READ_ERROR = 9  # the memory answered a read with an error, or the payload of a packet was damaged, or cut off
    WRITE_ERROR = 10
    ABORTED = 11
    COMMUNICATOR_BROKEN = 12  # an earlier call on it failed; the host has to write the communicator anew
    PROGRAM_RAISED = 13  # the program ended with ERR


class Cause(enum.IntEnum):
    """What a move was waiting for when its time was up."""

    NONE = 0
    PACKET = 1  # one from the node in the completion
    CREDIT = 2  # one of the node in the completion
    LANE = 3  # the data path: memory, or a kernel's stream
    CLEAR_TO_SEND = 4  # that the node in the completion receives its message


class Completion(NamedTuple):
    """What the engine says of a call that has ended: COMPLETION_0 to COMPLETION_3."""

    id: int
    status: int
    cause: int
    node: int
    cycles: int
    bytes: int
    tag: int = 0

    def words(self) -> tuple[int, int, int, int]:
        """As registers. ``bytes``: payload received (of recv: the message's), modulo 2**32.

        ``node``: of the cause; of a call that has ended well, the node of the last packet that it received, or 0.
        ``tag``: of that packet, or 0.
        """
        return (self.id | self.status << 16 | self.cause << 24 | self.node << 28,
                self.cycles & 0xFFFFFFFF, self.bytes & 0xFFFFFFFF, self.tag)

    @classmethod
    def from_words(cls, words: tuple[int, ...]) -> "Completion":
        """From the registers' values."""
        first, cycles, received, tag = words
        return cls(first & 0xFFFF, first >> 16 & 0xFF, first >> 24 & 0xF, first >> 28, cycles, received, tag)


# Packets -----------------------------------------------------------------------------------------------------------

#: Version in every packet's first byte.
VERSION = 1
_HEADER = struct.Struct("<BBBBHHHHIIIIBBH")
#: Bytes of a packet's header. On a link of 64 bytes a word it is padded to one word.
HEADER_SIZE = _HEADER.size


class PacketType(enum.IntEnum):
    """Low four bits of the first byte."""

    DATA = 0  # a segment of a message; needs a credit
    CREDIT = 1  # nothing but the credit field; needs none
    CLEAR_TO_SEND = 2  # a receive has begun to take the message whose first packet had this `handle`; needs none


class HeaderFlag(enum.IntFlag):
    """Second byte of a header."""

    FIRST = 1  # first packet of its message
    LAST = 2  # last packet of its message
    STREAM = 4  # for the kernel's stream `tag`, not for a receive
    COMPRESSED = 8  # elements are 16-bit floats on the wire
    REQUEST_TO_SEND = 16  # a first packet; those behind it come once a CLEAR_TO_SEND has answered


def crc16(content: bytes) -> int:
    """CRC-16/CCITT-FALSE: polynomial 0x1021, initial value 0xFFFF, most significant bit first, no final inversion."""
    return binascii.crc_hqx(content, 0xFFFF)


class Header(NamedTuple):
    """The header of a packet, 32 bytes, little endian; the payload follows.

    ================  =======  ====================================================================================
    ``type``          byte 0   :class:`PacketType` in bits 3:0, :data:`VERSION` in bits 7:4
    ``flags``         byte 1   :class:`HeaderFlag`
    ``communicator``  byte 2
    ``credit``        byte 3   packets of this communicator that the receiver may send more than before
    ``destination``   4, 5     node
    ``source``        6, 7     node
    ``operation``     8, 9     number of the collective on its communicator, modulo 2**16, never 0; 0: send and recv
    ``sequence``      10, 11   packets that the source has sent the destination before, modulo 2**16
    ``tag``           12-15    of send and recv; of collectives: the step
    ``length``        16-19    payload bytes of the whole message
    ``offset``        20-23    place of this packet's payload in the message
    ``address``       24-27    reserved, 0
    ``element``       byte 28  :class:`rackgate.arith.abi.ElementType` in memory
    ``handle``        byte 29  the sender's number for a message that asks, in REQUEST_TO_SEND and its answer; else 0
    (``crc``)         30, 31   :func:`crc16` of the 30 bytes before
    ================  =======  ====================================================================================
    """

    type: int
    flags: int = 0
    communicator: int = 0
    credit: int = 0
    destination: int = 0
    source: int = 0
    operation: int = 0
    sequence: int = 0
    tag: int = 0
    length: int = 0
    offset: int = 0
    address: int = 0
    element: int = 0
    handle: int = 0

    def to_bytes(self) -> bytes:
        """The 32 bytes, with version and CRC."""
        raw = _HEADER.pack(self.type | VERSION << 4, *self[1:], 0)[:-2]
        return raw + crc16(raw).to_bytes(2, "little")

    @classmethod
    def from_bytes(cls, content: bytes) -> "Header":
        """The header at the start of a packet. Raises ValueError if it is short, damaged or of another version."""
        if len(content) < HEADER_SIZE:
            raise ValueError(f"a packet has a header of {HEADER_SIZE} bytes, not {len(content)} in all")
        kind, *rest, crc = _HEADER.unpack_from(content)
        if crc != crc16(content[:HEADER_SIZE - 2]):
            raise ValueError("the CRC of a packet's header is wrong")
        if kind >> 4 != VERSION:
            raise ValueError(f"the version of a packet must be {VERSION}, not {kind >> 4}")
        return cls(kind & 15, *rest)


# Registers ---------------------------------------------------------------------------------------------------------


class Control(enum.IntFlag):
    """Bits of CONTROL."""

    ENABLE = 1 << 0  # take calls
    RESET = 1 << 1  # writing one restarts the engine: calls, packets, communicators and counters are forgotten


class ConfigSpace(enum.IntEnum):
    """Word addresses for CONFIG_ADDRESS.

    PROGRAM: instructions. ENTRY + scenario: bit 31 the entry is valid, bit 30 it is a collective (gets an operation
    number), bits 11:0 its first instruction. COMMUNICATOR + 32 * c: size (bits 4:0, 1 to 16), own rank (bits 11:8),
    bit 31 valid; then in bits 7:0 credits, the packets that each other rank may have sent and not yet seen taken (1 to
    255), and in bits 15:8 the packets of the largest message of send that does not ask before it is sent, 0 if none
    does: writing this word opens the communicator with all credits and no failure; from 16 on the nodes of the ranks.
    """

    PROGRAM = 0x0000
    ENTRY = 0x1000
    COMMUNICATOR = 0x1100


class Counter(enum.IntEnum):
    """Counters, registers COUNT_*; each 32 bits, wrapping."""

    PACKETS_SENT = 0  # of all types
    BYTES_SENT = 1  # payload
    PACKETS_RECEIVED = 2  # with a good header
    BYTES_RECEIVED = 3
    CREDIT_PACKETS = 4  # sent
    MATCHED_POSTED = 5  # packets that a receive waited for
    MATCHED_LATE = 6  # packets that waited for a receive
    BAD_HEADER = 7  # damaged, foreign version or type, not for this node: dropped
    BAD_SEQUENCE = 8  # dropped
    NO_BUFFER = 9  # a packet without a credit: dropped
    NO_COMMUNICATOR = 10  # for a communicator that is not open: dropped
    BAD_LENGTH = 11  # payload of another length than the header says
    STALLED_CREDIT = 12  # cycles in which a move could not go on for want of credit
    CALLS = 13  # ended
    CLEARS = 14  # CLEAR_TO_SEND packets sent


REGISTERS = RegisterMap("COLL", (1, 2), (
    Register("PARAM_WIDTH", 0x20, Access.CONST, "Bytes a cycle of the data path."),
    Register("PARAM_SEGMENT", 0x24, Access.CONST, "Payload bytes of the largest packet."),
    Register("PARAM_SLOTS", 0x28, Access.CONST, "Receive buffers, of a segment each."),
    Register("PARAM_TYPES", 0x2C, Access.CONST, "Bit k: element type k can be reduced; bit 31: floats convert."),
    Register("PARAM_PROGRAM", 0x30, Access.CONST, "Words of program memory."),
    Register("PARAM_LINK", 0x34, Access.CONST, "How packets travel: 0 as they are, 1 over UDP."),
    Register("CONTROL", 0x40, Access.RW, "Engine control.",
             fields=(Field("ENABLE", 0, 1, "Take calls."), Field("RESET", 1, 1, "Restart; one until that is done."))),
    Register("NODE", 0x44, Access.RW, "Number of this node, 0 to 15."),
    Register("TIMEOUT", 0x48, Access.RW, "Cycles without progress after which a move fails its call; 0: never."),
    Register("CONFIG_ADDRESS", 0x4C, Access.RW, "Word address for CONFIG_DATA, see ConfigSpace."),
    Register("CONFIG_DATA", 0x50, Access.WO, "Write a word there; the address then counts up, as seen by later "
             "writes (CONFIG_ADDRESS keeps what the host wrote)."),
    Register("CALL_WORD", 0x54, Access.WO, "The next word of a call; the 16th completes it."),
    Register("CALL_SPACE", 0x58, Access.RO, "Calls that can be written now."),
    Register("ABORT", 0x5C, Access.WO, "Id of a call to end with ABORTED; nothing if it has ended or not begun."),
    Register("COMPLETIONS", 0x60, Access.RO, "Completions that wait to be read."),
    Register("COMPLETION_0", 0x64, Access.RO, "Of the oldest: what ended and how.",
             fields=(Field("ID", 0, 16, "Of the call."), Field("STATUS", 16, 8, "Status."),
                     Field("CAUSE", 24, 4, "Cause."), Field("NODE", 28, 4, "Node the cause is about."))),
    Register("COMPLETION_1", 0x68, Access.RO, "Cycles from the call's last word to its end, modulo 2**32."),
    Register("COMPLETION_2", 0x6C, Access.RO, "Payload bytes received, modulo 2**32."),
    Register("COMPLETION_POP", 0x70, Access.WO, "Forget the oldest completion."),
    Register("IRQ_STATUS", 0x74, Access.W1C, "Causes of the interrupt.",
             fields=(Field("COMPLETION", 0, 1, "A call has ended."),)),
    Register("IRQ_ENABLE", 0x78, Access.RW, "Which of them raise it.",
             fields=(Field("COMPLETION", 0, 1, "A call has ended."),)),
    Register("COMPLETION_3", 0x7C, Access.RO, "Tag of the last packet received, 0 if there was none."),
    *(Register(f"COUNT_{counter.name}", 0x80 + 4 * counter, Access.RO, "Counter.") for counter in Counter),
    *LINK_REGISTERS,
    *PROBE_REGISTERS,
))
