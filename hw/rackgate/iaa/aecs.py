# SPDX-License-Identifier: Apache-2.0
"""Analytics engine configuration and state (AECS) for decompression, as QPL lays it out.

Plain Python: driver, model and manual read it from here; the gateware knows the offsets.

The part that Rackgate's device reads is what canned tables need. IAA goes on where an earlier job stopped: bits that
this job had fetched and not used stand in the AECS' input accumulator and come before the bits of source 1, and the
parser state says what comes next. So an AECS whose accumulator holds the header of a dynamic block, with the parser in
front of a block header, makes any number of jobs start behind that header: their sources are block bodies in its
codes, and none of them carries it. That is how Rackgate's canned tables are handed to the device; it keeps the tables
it made of an accumulator, by the AECS' address and AECS_GENERATION, and reads neither again. An AECS that holds
finished tables (the parser within a block, as QPL makes it for its canned mode) is refused with ErrorCode.BAD_AECS.

An AECS that the device has written is of a format of its own, since the layout of finished tables is nowhere
described: :data:`SAVED_FORMAT` stands at :data:`FORMAT_OFFSET`. Checksums, the parser's state, the history and its
write offset stand where IAA has them. In the place of the tables are the bits of the block's header, from which the
device makes the tables again; of a stored block under way, a header with the length that is left. The history
is as large as the device's window, and its oldest byte comes first. Bytes that are not named here are not written.
"""

import struct
from dataclasses import dataclass

__all__ = [
    "ACCUMULATOR_OFFSET", "ACCUMULATOR_SIZE", "AECS_SIZE", "FORMAT_OFFSET", "HEADER_OFFSET", "HEADER_SIZE",
    "HISTORY_OFFSET", "HISTORY_WRITE_OFFSET", "POSITION_OFFSET", "SAVED_FORMAT", "STATE_OFFSET", "Aecs", "ParserState",
    "SavedState", "saved_size",
]

#: Bytes of an AECS without history.
AECS_SIZE = 0x4E0
#: The input accumulator: 32 words of 8 bytes, then for each the number of its bits that count.
ACCUMULATOR_OFFSET, ACCUMULATOR_SIZE = 184, 256
_COUNTS_OFFSET = ACCUMULATOR_OFFSET + ACCUMULATOR_SIZE
#: The parser's state, 16 bits.
STATE_OFFSET = 1076
_WORD_BITS = 64
#: Format of the tables: 0, or what the device writes.
FORMAT_OFFSET, SAVED_FORMAT = 477, 0x80
#: Ours: the block's header, in whole bytes.
HEADER_OFFSET, HEADER_SIZE = 480, 304
#: Ours, 32 bits: in bits 2:0 bits of the next source's first byte that are done with; in bits 10:8 bits in front of the
#: header, in bits 31:16 all bits up to its end, none if the parser is not within a block.
POSITION_OFFSET = 1072
#: Where the next byte of history goes, in bits 14:0, and in bit 15 whether it is full.
HISTORY_WRITE_OFFSET = 1252
HISTORY_OFFSET = 1256
_WRAPPED = 1 << 15


def saved_size(window: int) -> int:
    """Bytes of an AECS that a device with this window writes: 0x1500, as IAA's, for 4096."""
    return -(-(HISTORY_OFFSET + window) // 32) * 32


class ParserState:
    """Values of the field at :data:`STATE_OFFSET`."""

    LITERAL_LENGTH = 0  # within a compressed block
    HEADER = 1  # at a block header
    STORED = 2
    FINAL_LITERAL_LENGTH = 4
    FINAL_STORED = 6
    ENDED = 8


@dataclass(frozen=True)
class Aecs:
    """What Rackgate uses of an AECS.

    ``crc`` and ``xor_checksum`` are the values that the output's checksums go on from. ``header`` is the block
    header in whole bytes, at most 256 (:mod:`rackgate_host.sabre.canned` makes headers that end on a byte
    boundary).
    """

    header: bytes = b""
    crc: int = 0
    xor_checksum: int = 0

    def __post_init__(self) -> None:
        if len(self.header) > ACCUMULATOR_SIZE:
            raise ValueError(f"header must be at most {ACCUMULATOR_SIZE} bytes, not {len(self.header)}")
        for name, bits in (("crc", 32), ("xor_checksum", 16)):
            if not 0 <= getattr(self, name) < 1 << bits:
                raise ValueError(f"{name} must fit {bits} bits, not {getattr(self, name):#x}")

    def pack(self) -> bytes:
        """The :data:`AECS_SIZE` bytes in memory."""
        raw = bytearray(AECS_SIZE)
        struct.pack_into("<II", raw, 0, self.crc, self.xor_checksum)
        raw[ACCUMULATOR_OFFSET:ACCUMULATOR_OFFSET + len(self.header)] = self.header
        for word in range(-(-len(self.header) // 8)):
            raw[_COUNTS_OFFSET + word] = min(_WORD_BITS, 8 * (len(self.header) - 8 * word))
        struct.pack_into("<H", raw, STATE_OFFSET, ParserState.HEADER)
        return bytes(raw)

    @classmethod
    def unpack(cls, raw: bytes) -> "Aecs":
        """Read an AECS.

        Raises
        ------
        ValueError
            If it is too short, the parser is not at a block header, or words of the accumulator before the last one
            in use are not full.
        """
        if len(raw) < AECS_SIZE:
            raise ValueError(f"an AECS has at least {AECS_SIZE} bytes, not {len(raw)}")
        state, = struct.unpack_from("<H", raw, STATE_OFFSET)
        if state != ParserState.HEADER:
            raise ValueError(f"the parser must be at a block header ({ParserState.HEADER}), not in state {state}")
        counts = raw[_COUNTS_OFFSET:_COUNTS_OFFSET + ACCUMULATOR_SIZE * 8 // _WORD_BITS]
        size, rest = divmod(sum(counts), 8)
        if rest or any(count != min(_WORD_BITS, max(0, 8 * size - _WORD_BITS * word))
                       for word, count in enumerate(counts)):
            raise ValueError(f"the accumulator's words must be full up to the last one in use, not {list(counts)}")
        crc, xor_checksum = struct.unpack_from("<II", raw)
        return cls(bytes(raw[ACCUMULATOR_OFFSET:ACCUMULATOR_OFFSET + size]), crc, xor_checksum & 0xFFFF)


@dataclass(frozen=True)
class SavedState:
    """What a job leaves in an AECS for another to go on with.

    ``state`` is a :class:`ParserState`. ``header`` holds the header of the block under way, from bit ``first_bit`` to
    before bit ``header_bits``. ``start_bit``: so many bits of the next source's first byte are done with.
    """

    state: int
    history: bytes = b""
    header: bytes = b""
    first_bit: int = 0
    header_bits: int = 0
    start_bit: int = 0
    crc: int = 0
    xor_checksum: int = 0

    def parts(self, window: int) -> list[tuple[int, bytes]]:
        """What is written, in that order: offset in the AECS, bytes."""
        count = len(self.history)
        offset = count % window | (_WRAPPED if count == window else 0)
        position = self.start_bit | self.first_bit << 8 | self.header_bits << 16
        return [
            (HISTORY_OFFSET, self.history), (HEADER_OFFSET, self.header),
            (0, struct.pack("<II", self.crc, self.xor_checksum)),
            (FORMAT_OFFSET - 5, bytes([0, 0, 0, 0, 0, SAVED_FORMAT, 0, 0])),
            (POSITION_OFFSET, struct.pack("<IHH", position, self.state, 0)),
            (HISTORY_WRITE_OFFSET - 4, struct.pack("<IHH", 0, offset, 0)),
        ]

    @classmethod
    def unpack(cls, raw: bytes, window: int) -> "SavedState":
        """Read an AECS but for its history, of which ``history`` has the length.

        Raises
        ------
        ValueError
            If nothing can go on from it.
        """
        if len(raw) < HISTORY_OFFSET:
            raise ValueError(f"a saved AECS has at least {HISTORY_OFFSET} bytes, not {len(raw)}")
        crc, xor_checksum = struct.unpack_from("<II", raw)
        position, state = struct.unpack_from("<IH", raw, POSITION_OFFSET)
        offset, = struct.unpack_from("<H", raw, HISTORY_WRITE_OFFSET)
        count = window if offset & _WRAPPED else offset
        bits = position >> 16
        within = state in (ParserState.LITERAL_LENGTH, ParserState.STORED, ParserState.FINAL_LITERAL_LENGTH,
                           ParserState.FINAL_STORED)
        if not within and state != ParserState.HEADER:
            raise ValueError(f"nothing goes on from the parser's state {state}")
        first = position >> 8 & 7
        if within and not first < bits <= 8 * HEADER_SIZE:
            raise ValueError(f"header_bits must be {first + 1} to {8 * HEADER_SIZE}, not {bits}")
        if count > window:
            raise ValueError(f"the history must have at most {window} bytes, not {count}")
        size = -(-bits // 8) if within else 0
        return cls(state, bytes(count), raw[HEADER_OFFSET:HEADER_OFFSET + size], first,
                   bits if within else 0, position & 7, crc, xor_checksum & 0xFFFF)
