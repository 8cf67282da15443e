# SPDX-License-Identifier: Apache-2.0
"""The bridge as a host sees it: messages, sessions, and when a request is executed.

Plain Python: gateware, host, golden model and manual all read it from here. Operations are in
:mod:`rackgate.bridge.operations`, what the device says of itself in :mod:`rackgate.bridge.identity`, frames of a UART
in :mod:`rackgate.bridge.framing`.

**Messages.** All is in 32-bit words, little endian. A message is the payload of one UDP datagram, or one frame of a
UART:

=========  =============================================================================
word 0     :data:`MAGIC` in bits 15:0, :data:`PROTOCOL` in bits 23:16, :class:`Kind` in bits 31:24
word 1     session
word 2     sequence
...        the body, which depends on the kind; at most :data:`BODY_WORDS`
last word  CRC-32 (IEEE 802.3, as ``zlib.crc32``) of all bytes before it
=========  =============================================================================

A device looks at a message only when it has it whole and its CRC is right, so nothing of a damaged one is executed.
Messages that are no whole number of words, shorter than 4 words, longer than :data:`MESSAGE_BYTES`, with another magic
or a wrong CRC are counted and dropped.

**Each request is executed once.** A session gives its requests the sequence numbers 0, 1, 2... modulo 2**32. The device
knows the number it expects. That request it executes, keeps the response, and expects the next. One of the
``window`` numbers before it is executed no more: the kept response is sent again. Any other number is dropped. So a
host may have ``window`` requests under way (the oldest unanswered and those behind it), and when an answer does not
come in time it sends them again in their order.

**Sessions.** A session is opened by OPEN, whose header has the new session's number and whose body is one word, the
session that the host believes is open (0: none, as after reset). Only if that is so, the new one is opened: its
sequence begins at 0, and the responses of the old one are forgotten. An OPEN of the session that is open already
changes nothing and is answered OPENED again. Any other is REFUSED, and the answer says which session is open. Hosts
draw numbers at random, without 0 and never one twice, so neither an OPEN that was sent twice nor one that comes late
can open an old session again, or begin the open one anew. A request of a session that is not open is REFUSED.
What was sent before a reset of the device must have arrived, or be lost, before a host opens a session after it.

**Answers.** Each answer has the session and sequence of what it answers. There is at most one answer to a message, and
answers come in the order of the messages.

=========  ==============================================================
RESPONSE   results (:mod:`rackgate.bridge.operations`)
OPENED     :class:`Terms`
REFUSED    :class:`Refusal`, and the session that is open, 0 for none
=========  ==============================================================

The header is the same in all versions of the protocol. A REQUEST or OPEN of another version is REFUSED. Other kinds are
counted and dropped, and so is an OPEN of session 0 or whose body is not one word.
"""

import enum
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "BODY_WORDS", "HEADER_WORDS", "MAGIC", "MEMORY_BASE", "MESSAGE_BYTES", "MESSAGE_WORDS", "NO_SESSION", "PROTOCOL",
    "UDP_PORT", "WINDOW", "FormatError", "Kind", "Message", "Refusal", "Status", "StatusFlag", "StatusWord", "Terms",
    "VersionError", "pack_message", "pack_words", "unpack_message", "unpack_refusal", "unpack_words",
]

#: "RG" in ASCII, little endian: the first two bytes of a message.
MAGIC = int.from_bytes(b"RG", "little")
#: Version of messages and operations.
PROTOCOL = 1
#: UDP port of the device.
UDP_PORT = 21074
#: First address of device memory; what is below is never memory, so null pointers fail.
MEMORY_BASE = 0x1000_0000

#: Words before the body.
HEADER_WORDS = 3
#: Bytes of the longest message: the payload of the longest UDP datagram in an Ethernet frame of 1500 bytes.
MESSAGE_BYTES = 1472
MESSAGE_WORDS = MESSAGE_BYTES // 4
#: Words of the longest body: less header and CRC.
BODY_WORDS = MESSAGE_WORDS - HEADER_WORDS - 1
#: Most responses that a device keeps; how many it does keep is in :class:`Terms`.
WINDOW = 8
#: Stands for no session.
NO_SESSION = 0

_HEADER = struct.Struct("<HBBII")
_CRC = struct.Struct("<I")


class Kind(enum.IntEnum):
    """What a message is. Hosts send REQUEST and OPEN, devices the others."""

    REQUEST = 1
    RESPONSE = 2
    OPEN = 3
    OPENED = 4
    REFUSED = 5


class Refusal(enum.IntEnum):
    """Why a message is REFUSED."""

    SESSION = 1  # the session is not open; or OPEN named another than is open
    VERSION = 2  # the message is of another version of the protocol than the header of this answer says


class Status(enum.IntEnum):
    """What became of an operation. 0, 2 and 3 are the bus's (AXI4's RESP)."""

    OK = 0
    SLVERR = 2  # the target answered with an error: no such register, or it refuses
    DECERR = 3  # no such address: nothing was accessed
    MALFORMED = 4  # the operation breaks a rule of :mod:`rackgate.bridge.operations`: nothing was accessed
    TIMEOUT = 5  # the bus did not answer in time; what was written so far may be
    HELD = 6  # of a server that shares a device, never of a device: another client writes its registers


class StatusFlag(enum.IntFlag):
    """Bits of StatusWord.FLAGS."""

    INTERRUPT = 1  # level of the device's interrupt


class StatusWord(enum.IntEnum):
    """What READ_STATUS reads: words, at four times these numbers. Counters wrap, and begin at 0 after reset."""

    FLAGS = 0  # :class:`StatusFlag`
    CYCLES_LO = 1  # clock cycles since reset; reading them latches the upper half
    CYCLES_HI = 2
    EXECUTED = 3  # requests executed, this one not included
    REPEATED = 4  # requests answered again with the response that was kept
    REFUSED = 5  # messages answered REFUSED
    STRAY = 6  # messages dropped for their sequence or kind
    DAMAGED = 7  # messages dropped for their length, magic or CRC
    LINK = 8  # what the link dropped: frames, bytes, datagrams


class FormatError(ValueError):
    """Bytes that break the wire format; says which rule."""


class VersionError(FormatError):
    """A message of another version of the protocol, which is ``version``. The rest of a header is the same in all."""

    def __init__(self, version: int, kind: int, session: int, sequence: int):
        self.version, self.kind, self.session, self.sequence = version, kind, session, sequence
        super().__init__(f"the message is of version {version} of the protocol, not {PROTOCOL}")


class Message(NamedTuple):
    """A message without magic, version and CRC. ``body`` has whole words."""

    kind: Kind
    session: int
    sequence: int
    body: bytes = b""


class Terms(NamedTuple):
    """Body of OPENED: five words.

    ``window``: responses that the device keeps, 1 to :data:`WINDOW`. ``message_bytes``: of the longest message it takes
    and sends. ``memory_base``, ``memory_size``: device memory, in bytes; size 0 for none. ``identity_words``: words
    that READ_IDENTITY reads.
    """

    window: int
    message_bytes: int
    memory_base: int
    memory_size: int
    identity_words: int

    def pack(self) -> bytes:
        """The body."""
        return pack_words(self)

    @classmethod
    def unpack(cls, body: bytes) -> "Terms":
        """From a body. Raises FormatError when it is of another length."""
        if len(body) != 4 * len(cls._fields):
            raise FormatError(f"the body of OPENED must have {4 * len(cls._fields)} bytes, not {len(body)}")
        return cls(*unpack_words(body))


def pack_words(words: Sequence[int]) -> bytes:
    """32-bit words as bytes."""
    return struct.pack(f"<{len(words)}I", *words)


def unpack_words(raw: bytes) -> tuple[int, ...]:
    """Bytes, a multiple of 4, as 32-bit words."""
    return struct.unpack(f"<{len(raw) // 4}I", raw)


def pack_message(message: Message, *, protocol: int = PROTOCOL) -> bytes:
    """A message as bytes.

    Raises
    ------
    ValueError
        When the body has no whole number of words or too many, or a number does not fit 32 bits.
    """
    kind, session, sequence, body = message
    if len(body) % 4 or len(body) > 4 * BODY_WORDS:
        raise ValueError(f"body must have whole words, at most {BODY_WORDS}, not {len(body)} bytes")
    for name, value in (("session", session), ("sequence", sequence)):
        if not 0 <= value < 1 << 32:
            raise ValueError(f"{name} must fit 32 bits, not {value:#x}")
    raw = _HEADER.pack(MAGIC, protocol, kind, session, sequence) + body
    return raw + _CRC.pack(zlib.crc32(raw))


def unpack_message(raw: bytes) -> Message:
    """A message from bytes.

    Raises
    ------
    FormatError
        When it must be dropped: its length, CRC, magic or kind is wrong.
    VersionError
        When all else is right, and the version is another one.
    """
    if len(raw) % 4 or not 4 * (HEADER_WORDS + 1) <= len(raw) <= MESSAGE_BYTES:
        raise FormatError(f"a message must have {HEADER_WORDS + 1} to {MESSAGE_WORDS} words, not {len(raw)} bytes")
    if zlib.crc32(raw[:-4]) != _CRC.unpack(raw[-4:])[0]:
        raise FormatError("the CRC of the message is wrong")
    magic, version, kind, session, sequence = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise FormatError(f"the magic of a message must be {MAGIC:#x}, not {magic:#x}")
    if version != PROTOCOL:
        raise VersionError(version, kind, session, sequence)
    if kind not in Kind.__members__.values():
        raise FormatError(f"there is no kind {kind} of message")
    return Message(Kind(kind), session, sequence, bytes(raw[_HEADER.size:-4]))


def unpack_refusal(body: bytes) -> tuple[Refusal, int]:
    """Body of REFUSED: the reason, and the session that is open. Raises FormatError when it is none."""
    if len(body) != 8:
        raise FormatError(f"the body of REFUSED must have 8 bytes, not {len(body)}")
    reason, session = unpack_words(body)
    if reason not in Refusal.__members__.values():
        raise FormatError(f"there is no reason {reason} to refuse a message")
    return Refusal(reason), session
