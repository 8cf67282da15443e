# SPDX-License-Identifier: Apache-2.0
"""The inflate device as software sees it: registers, job descriptors, completion records, codes.

Plain Python: gateware, drivers, models and the manual all read it from here.

A host puts 64-byte job descriptors into a ring in memory and writes RING_TAIL. The device reads them in
order, works on up to CONTEXTS of them at a time (one a context), writes a 64-byte completion record for
each, then counts it in COMPLETED and raises the interrupt if the job asked for it.
"""

import enum
import struct
from dataclasses import dataclass

from rackgate.csr.map import Access, Field, Register, RegisterMap

__all__ = [
    "COMPLETION_SIZE", "DESCRIPTOR_SIZE", "REGISTERS", "Completion", "Control", "Descriptor", "ErrorCode", "Flag",
    "Format", "MAX_SOURCE_SIZE", "MAX_DESTINATION_SIZE", "Opcode", "ResultFlag", "Status",
]

DESCRIPTOR_SIZE = 64
COMPLETION_SIZE = 64
#: Largest source of one job, in bytes. Bit positions in it fit 32 bits.
MAX_SOURCE_SIZE = (1 << 29) - 16
#: Largest destination of one job, in bytes.
MAX_DESTINATION_SIZE = (1 << 32) - 16


class Control(enum.IntFlag):
    """Bits of CONTROL."""

    ENABLE = 1 << 0  # take descriptors from the ring; when cleared, jobs that have begun still end
    RESET = 1 << 1  # writing one restarts the device: jobs in flight are lost, rings and counters clear


class Opcode(enum.IntEnum):
    """What a job does."""

    INFLATE = 1  # decompress
    LOAD = 2  # copy the source into the context's window and write nothing: a preset dictionary
    TABLES = 3  # decode up to the first symbol of a compressed final block, and keep its codes: see Flag.CANNED


class Format(enum.IntEnum):
    """Framing around the Deflate data."""

    RAW = 0  # RFC 1951
    ZLIB = 1  # RFC 1950
    GZIP = 2  # RFC 1952


class Flag(enum.IntFlag):
    """Job flags."""

    RESUME = 1 << 0  # go on where the context's last job stopped (NEED_INPUT, NEED_DICTIONARY or OUTPUT_OVERFLOW)
    LAST = 1 << 1  # the source holds the end of the input: running dry is then an error
    MULTI = 1 << 2  # go on with the next gzip member, skipping zero padding
    INTERRUPT = 1 << 3  # raise the interrupt when the completion record is in memory
    STRICT_LENGTHS = 1 << 4  # code lengths must not run across the literal/distance border (as IAA wants)
    CANNED = 1 << 5  # the source has no block header: it is a final block in the codes that TABLES has kept


class Status(enum.IntEnum):
    """First byte of the result; IAA's numbers where IAA has one (sabre.md 1.5)."""

    IN_PROGRESS = 0x00
    SUCCESS = 0x01
    ANALYTICS_ERROR = 0x0A  # the data is wrong: see ErrorCode
    OUTPUT_OVERFLOW = 0x0B  # the destination is full and there is more; resumable
    BAD_OPCODE = 0x10
    BAD_FLAGS = 0x11
    RESERVED_NONZERO = 0x12
    BAD_SIZE = 0x13
    READ_ERROR = 0x1F  # an AXI error response to a read of the source
    WRITE_ERROR = 0x20  # an AXI error response to a write of the destination
    NEED_INPUT = 0x38  # ran dry without Flag.LAST; resumable with the unconsumed bytes and more
    NEED_DICTIONARY = 0x39  # a zlib stream with FDICT: LOAD the dictionary, then RESUME


class ErrorCode(enum.IntEnum):
    """Second byte of the result when the status is ANALYTICS_ERROR. Below 0x80 as IAA numbers them."""

    NONE = 0
    HEADER_TRUNCATED = 1  # the input ends within a block header
    UNDEFINED_CODE_LENGTH_CODE = 2
    FIRST_LITERAL_LENGTH_REPEATS = 3
    FIRST_DISTANCE_LENGTH_REPEATS = 4  # only with STRICT_LENGTHS
    NO_LITERAL_CODES = 5
    LITERAL_LENGTHS_OVERRUN = 6  # only with STRICT_LENGTHS
    DISTANCE_LENGTHS_OVERRUN = 7
    CODE_LENGTHS_OVERSUBSCRIBED = 8
    LITERALS_OVERSUBSCRIBED = 9
    DISTANCES_OVERSUBSCRIBED = 10
    BAD_LITERAL_CODE = 11
    BAD_DISTANCE_CODE = 12
    BAD_BLOCK_TYPE = 13
    STORED_LENGTH_MISMATCH = 14
    END_OF_BLOCK_MISSING = 15  # the input ends within a block
    DISTANCE_TOO_LARGE = 17  # farther than the window
    DISTANCE_BEFORE_START = 18  # farther than the output so far
    BAD_AECS = 22  # TABLES found a stored final block; or a CANNED job, and no codes have been kept
    TOO_MANY_LITERAL_CODES = 35
    TOO_MANY_DISTANCE_CODES = 36
    ZLIB_HEADER_CHECK = 0x80  # CMF and FLG are no multiple of 31
    ZLIB_METHOD = 0x81
    ZLIB_WINDOW = 0x82  # CINFO above 7
    GZIP_MAGIC = 0x83
    GZIP_METHOD = 0x84
    GZIP_FLAGS = 0x85  # a reserved flag is set
    GZIP_HEADER_CRC = 0x86
    CRC_MISMATCH = 0x87
    LENGTH_MISMATCH = 0x88
    ADLER_MISMATCH = 0x89
    NO_END_OF_BLOCK_CODE = 0x8A
    LITERALS_INCOMPLETE = 0x8B
    DISTANCES_INCOMPLETE = 0x8C
    CODE_LENGTHS_INCOMPLETE = 0x8D
    FRAME_TRUNCATED = 0x8E  # the input ends within a zlib or gzip header or trailer


class ResultFlag(enum.IntFlag):
    """Flags of a completion record."""

    END = 1 << 0  # the stream (with MULTI: its last member) has ended
    BLOCK = 1 << 1  # the consumed position is inside a block, not at a header


REGISTERS = RegisterMap("INFL", (1, 0), (
    Register("PARAM_CONTEXTS", 0x20, Access.CONST, "Contexts: jobs that may be under way at a time."),
    Register("PARAM_WINDOW", 0x24, Access.CONST, "Window size in bytes."),
    Register("PARAM_LANES", 0x28, Access.CONST, "Bit offsets decoded at a time."),
    Register("CONTROL", 0x40, Access.RW, "Device control.",
             fields=(Field("ENABLE", 0, 1, "Take descriptors from the ring."),
                     Field("RESET", 1, 1, "Restart the device; reads as zero."))),
    Register("RING_BASE_LO", 0x44, Access.RW, "Address of the descriptor ring, a multiple of 64; low word."),
    Register("RING_BASE_HI", 0x48, Access.RW, "High word of the ring's address."),
    Register("RING_SIZE", 0x4C, Access.RW, "Descriptors in the ring, a power of two up to 32768."),
    Register("RING_TAIL", 0x50, Access.RW, "Doorbell: descriptors ever put into the ring.",
             fields=(Field("COUNT", 0, 16, "Modulo 65536."),)),
    Register("RING_HEAD", 0x54, Access.RO, "Descriptors ever taken from the ring, modulo 65536."),
    Register("COMPLETED", 0x58, Access.RO, "Completion records ever written, modulo 2**32."),
    Register("IRQ_STATUS", 0x5C, Access.W1C, "Causes of the interrupt.",
             fields=(Field("COMPLETION", 0, 1, "A job with Flag.INTERRUPT has completed."),
                     Field("FAULT", 1, 1, "A descriptor could not be read, or a completion record not be written."))),
    Register("IRQ_ENABLE", 0x60, Access.RW, "Causes that raise the interrupt; bits as in IRQ_STATUS.",
             fields=(Field("COMPLETION", 0, 1), Field("FAULT", 1, 1))),
    Register("FAULT_ADDR_LO", 0x64, Access.RO, "Address of the last FAULT; low word."),
    Register("FAULT_ADDR_HI", 0x68, Access.RO, "Address of the last FAULT; high word."),
    Register("CYCLES_LO", 0x6C, Access.RO, "Clock cycles since reset; reading it latches CYCLES_HI."),
    Register("CYCLES_HI", 0x70, Access.RO, "High word of the cycle counter as last latched."),
    Register("BUSY_CYCLES", 0x74, Access.RO, "Cycles in which a job was under way, modulo 2**32."),
    Register("BYTES_IN", 0x78, Access.RO, "Source bytes consumed, modulo 2**32."),
    Register("BYTES_OUT", 0x7C, Access.RO, "Destination bytes written, modulo 2**32."),
))

_DESCRIPTOR = struct.Struct("<BBBBIQQIIQIIQQ")
_COMPLETION = struct.Struct("<IIIIIIQQQIIIBBH")


@dataclass(frozen=True)
class Descriptor:
    """A job. Sizes in bytes; addresses are device addresses, of any alignment unless said otherwise.

    ``start_bit`` (0 to 7) skips bits of the first source byte. ``context`` says which of the device's
    contexts does the job; jobs of one context run in order, jobs of different contexts overlap.
    ``completion`` must be a multiple of 64.
    """

    source: int
    source_size: int
    destination: int
    destination_size: int
    completion: int
    opcode: int = Opcode.INFLATE
    format: int = Format.RAW
    flags: int = Flag.LAST
    context: int = 0
    tag: int = 0
    start_bit: int = 0

    def pack(self) -> bytes:
        """The 64 bytes as they stand in the ring."""
        return _DESCRIPTOR.pack(self.opcode, self.format, self.flags, self.context, self.tag, self.source,
                                self.destination, self.source_size, self.destination_size, self.completion,
                                self.start_bit, 0, 0, 0)

    @classmethod
    def unpack(cls, raw: bytes) -> "Descriptor":
        """The descriptor in 64 bytes of a ring; reserved bytes are not looked at."""
        (opcode, fmt, flags, context, tag, source, destination, ssize, dsize, completion,
         start, *_) = _DESCRIPTOR.unpack(raw)
        return cls(source, ssize, destination, dsize, completion, opcode, fmt, flags, context, tag, start)


@dataclass(frozen=True)
class Completion:
    """A result.

    ``consumed`` counts whole source bytes that the job is done with, ``consumed_bit`` (0 to 7) further
    bits of the next byte: a resumed job gets the source from that byte on, with that ``start_bit``.
    ``produced`` counts destination bytes written. ``crc32`` and ``adler32`` are of the current (or last)
    member's output so far, ``total`` its length so far. ``dictionary`` is the DICTID of a zlib header.
    ``started`` and ``finished`` are values of the cycle counter. On an error, output before the bad
    symbol has been written, and ``consumed`` points at that symbol.
    """

    produced: int
    consumed: int
    consumed_bit: int
    crc32: int
    adler32: int
    members: int
    total: int
    started: int
    finished: int
    dictionary: int
    tag: int
    status: int
    error: int
    flags: int

    def pack(self) -> bytes:
        """The 64 bytes as the device writes them; the status comes last."""
        return _COMPLETION.pack(self.produced, self.consumed, self.consumed_bit, self.crc32, self.adler32,
                                self.members, self.total, self.started, self.finished, self.dictionary, 0, self.tag,
                                self.status, self.error, self.flags)

    @classmethod
    def unpack(cls, raw: bytes) -> "Completion":
        """The record in 64 bytes of memory."""
        (produced, consumed, bit, crc, adler, members, total, started, finished, dictionary, _,
         tag, status, error, flags) = _COMPLETION.unpack(raw)
        return cls(produced, consumed, bit, crc, adler, members, total, started, finished, dictionary, tag, status,
                   error, flags)
