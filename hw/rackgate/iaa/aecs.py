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
"""

import struct
from dataclasses import dataclass

__all__ = ["ACCUMULATOR_OFFSET", "ACCUMULATOR_SIZE", "AECS_SIZE", "FULL_AECS_SIZE", "HISTORY_SIZE", "STATE_OFFSET",
           "Aecs", "ParserState"]

#: Bytes of an AECS without history, and with it.
AECS_SIZE, FULL_AECS_SIZE, HISTORY_SIZE = 0x4E0, 0x1500, 4096
#: The input accumulator: 32 words of 8 bytes, then for each the number of its bits that count.
ACCUMULATOR_OFFSET, ACCUMULATOR_SIZE = 184, 256
_COUNTS_OFFSET = ACCUMULATOR_OFFSET + ACCUMULATOR_SIZE
#: The parser's state, 16 bits.
STATE_OFFSET = 1076
_WORD_BITS = 64


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
