# SPDX-License-Identifier: Apache-2.0
"""The IAA-style device as software sees it: descriptors, completion records, codes, registers, portals.

Plain Python: gateware, drivers, models and the manual all read it from here. Names, layouts and codes are those of
Intel's In-Memory Analytics Accelerator as the QPL library and Linux' idxd driver have them; where they differ, QPL's.
What Rackgate adds stands in opcodes from 0x80 on, in status codes from 0x38 on, and in the registers below 0x1000.

Address space of ``csr``, 64 KiB: the registers below from 0; Intel's BAR0 registers from :data:`BAR0` on, at Intel's
offsets; a portal of 4 KiB for each work queue from :data:`PORTALS` on. A descriptor is submitted by writing its 16
words in order to any 64-byte-aligned place in a portal; the write of the last word submits it. That write is answered
with SLVERR if the queue does not take the descriptor: a shared queue at its threshold (``ENQCMD``'s "retry"), or one
that is full when the first word comes. A dedicated queue that is full when the first word comes drops the
descriptor, answers OKAY and says so in SWERR. Every write to a queue that is not enabled, or is draining, is answered
with SLVERR.

A word out of order, or not all of its bytes, is refused with SLVERR, and what was begun at its place is forgotten:
begin again with word 0. Words of one descriptor go to one place. Clients that share a queue should use different
places: the one that began last wins, the others' words are refused. At one place two clients whose words mix are both
refused, as far as the device can tell them apart.
"""

import enum
import struct
from dataclasses import dataclass

from rackgate.csr.map import Access, Field, Register, RegisterMap
from rackgate.inflate.abi import ErrorCode

__all__ = [
    "AECS_ALIGNMENT", "BAR0", "COMPLETION_SIZE", "DESCRIPTOR_SIZE", "GROUPS", "PAGE_SIZE", "PORTALS", "PORTAL_SIZE",
    "QUEUES", "REGISTERS", "Capability", "Command", "CommandError", "Completion", "Crc64Flag", "DecompressFlag",
    "Descriptor", "DeviceState", "ErrorCode", "Flag", "Framing", "InterruptCause", "Opcode", "PageResponse",
    "PageTableEntry", "QueueMode", "QueueState", "ReadSource2", "Status", "WriteSource2", "queue_register",
]

DESCRIPTOR_SIZE = 64
COMPLETION_SIZE = 64
AECS_ALIGNMENT = 32
#: Bytes of a page of the translation.
PAGE_SIZE = 4096
#: Where Intel's BAR0 registers begin.
BAR0 = 0x1000
#: Where the portals begin, and the size of each; queue ``n`` has the ``n``-th.
PORTALS, PORTAL_SIZE = 0x8000, 0x1000
#: Most work queues and groups of a device.
QUEUES, GROUPS = 8, 4


class Opcode(enum.IntEnum):
    """What a descriptor asks for. Others are answered with BAD_OPCODE."""

    NOOP = 0x00
    DRAIN = 0x02  # completes when every descriptor submitted to the queue before it has
    DECOMPRESS = 0x42
    CRC64 = 0x44
    LIST = 0x80  # source 1 is an array of descriptors, which are carried out as if each had been submitted
    FILL = 0x81  # the destination is filled with the 8 bytes in the place of the source-2 address


class Flag(enum.IntFlag):
    """General flags, bits 23:0."""

    FENCE = 1 << 0  # reserved: only batches know it
    BLOCK_ON_FAULT = 1 << 1
    COMPLETION_ADDRESS_VALID = 1 << 2
    REQUEST_COMPLETION = 1 << 3
    REQUEST_INTERRUPT = 1 << 4
    CACHE_CONTROL = 1 << 8  # a hint; without effect here
    READ_SOURCE2_AECS = 1 << 16
    READ_SOURCE2 = 2 << 16
    WRITE_SOURCE2_ALWAYS = 1 << 18
    WRITE_SOURCE2_ON_OVERFLOW = 2 << 18
    CRC32C = 1 << 21  # the completion's CRC is CRC-32C
    AECS_TOGGLE = 1 << 22


class ReadSource2(enum.IntEnum):
    """Bits 17:16 of the general flags."""

    NONE = 0
    AECS = 1
    SECOND_OPERAND = 2


class WriteSource2(enum.IntEnum):
    """Bits 19:18 of the general flags."""

    NEVER = 0
    ALWAYS = 1
    ON_OVERFLOW = 2


class DecompressFlag(enum.IntFlag):
    """Decompression flags, 16 bits. From FRAMING on they are Rackgate's, and reserved in IAA."""

    ENABLE = 1 << 0
    FLUSH = 1 << 1
    STOP_ON_EOB = 1 << 2
    CHECK_FOR_EOB = 1 << 3
    EOB_IS_BFINAL = 1 << 4  # the EOB that is stopped on or checked for is that of a block with BFINAL
    BIG_ENDIAN = 1 << 5  # bit order; not supported here
    IGNORE_END_BITS = 7 << 6  # how many bits of the last source byte are not looked at
    SUPPRESS_OUTPUT = 1 << 9
    INDEXING = 7 << 10  # mini-blocks; not supported here
    FRAMING = 3 << 13  # a Framing; RAW is Intel's


class Framing(enum.IntEnum):
    """Bits 14:13 of the decompression flags."""

    RAW = 0  # RFC 1951
    ZLIB = 1  # RFC 1950
    GZIP = 2  # RFC 1952


class Crc64Flag(enum.IntFlag):
    """CRC64 flags. The names are QPL's, and so is what they mean: see BIG_ENDIAN."""

    INVERT = 1 << 14  # seed and result; the width follows from the lowest set bit of the polynomial
    BIG_ENDIAN = 1 << 15  # the first bit of a byte is its lowest, which counts as its highest power, as in gzip


class Status(enum.IntEnum):
    """Bits 5:0 of the first byte of a completion record; :data:`WRITE_FAULT` may be added to PAGE_FAULT."""

    IN_PROGRESS = 0x00
    SUCCESS = 0x01
    PAGE_FAULT = 0x03
    ANALYTICS_ERROR = 0x0A  # see ErrorCode
    OUTPUT_OVERFLOW = 0x0B
    BAD_OPCODE = 0x10
    BAD_FLAGS = 0x11
    RESERVED_NONZERO = 0x12
    BAD_SIZE = 0x13
    OVERLAP = 0x16
    BAD_INTERRUPT_HANDLE = 0x19
    COMPLETION_FAULT = 0x1A  # in SWERR only: there is no record to write it to
    COMPLETION_MISALIGNED = 0x1B  # in SWERR only
    AECS_MISALIGNED = 0x1C
    READ_ERROR = 0x1F
    WRITE_ERROR = 0x20
    PAGE_REQUEST_TIMEOUT = 0x23
    BAD_OPERATION_FLAGS = 0x30
    NEED_DICTIONARY = 0x39  # a zlib stream with FDICT
    ABORTED = 0x3A  # by an abort command, before it began or in its course
    QUEUE_FULL = 0x3B  # in SWERR only: a dedicated queue had no place for a descriptor


#: Bit 7 of the status byte: the access that faulted was a write.
WRITE_FAULT = 0x80


class Command(enum.IntEnum):
    """Bits 24:20 of CMD. The operand is a bit mask of queues for DRAIN_WQ, ABORT_WQ, DISABLE_WQ and RESET_WQ (bits
    15:0, of the 16 queues from 16 times bits 19:16 on), a queue number for ENABLE_WQ.

    A write to CMD while CMDSTS.ACTIVE is not carried out, but for RESET_DEVICE, which ends what waits. DRAIN and
    ABORT leave queues enabled, but they take no descriptors until the command is done. RESET_WQ aborts and disables.
    RESET_DEVICE stops everything at once, gives no completion records, and gives all registers their values after
    reset.
    """

    ENABLE_DEVICE = 1
    DISABLE_DEVICE = 2
    DRAIN_ALL = 3
    ABORT_ALL = 4
    RESET_DEVICE = 5
    ENABLE_WQ = 6
    DISABLE_WQ = 7
    DRAIN_WQ = 8
    ABORT_WQ = 9
    RESET_WQ = 10


class CommandError(enum.IntEnum):
    """Bits 7:0 of CMDSTS, as idxd's registers.h has them; QUEUE_IN_NO_GROUP is Rackgate's.

    The checks are made in this order, the first that fails is told: a command that there is; the state of the
    device; the operand; the state of the queues; the queue's group, size, priority, mode and limits.
    """

    NONE = 0x00
    UNKNOWN_COMMAND = 0x01
    BAD_QUEUE = 0x02  # the operand names a queue that there is not, or none at all
    DEVICE_ENABLED = 0x10  # ENABLE_DEVICE
    NO_GROUPS = 0x15  # ENABLE_DEVICE: no group has both a queue and an engine
    DEVICE_NOT_ENABLED = 0x20  # ENABLE_WQ
    QUEUE_ENABLED = 0x21
    BAD_QUEUE_SIZE = 0x22  # 0, or the sizes of the queues up to this one are more than the entries, or it meets an
    # enabled queue: places are given out in the order of the queues, by the sizes as they are at each ENABLE_WQ
    BAD_QUEUE_PRIORITY = 0x23  # 0
    BAD_QUEUE_MODE = 0x24  # shared, and the threshold is 0 or more than the size
    BAD_TRANSFER_SIZE = 0x28  # beyond GENCAP's
    DEVICE_DISABLED = 0x31  # DISABLE_DEVICE, DRAIN_ALL, ABORT_ALL
    QUEUE_NOT_ENABLED = 0x32  # DRAIN_WQ, ABORT_WQ, DISABLE_WQ: one of them is not; with RESET_WQ: the device is not
    QUEUE_IN_NO_GROUP = 0x60  # or its groups have no engine


class DeviceState(enum.IntEnum):
    """Bits 1:0 of GENSTS."""

    DISABLED = 0
    ENABLED = 1
    DRAINING = 2
    HALTED = 3


class QueueState(enum.IntEnum):
    """Bits 31:30 of a queue's STATE register."""

    DISABLED = 0
    ENABLED = 1
    DRAINING = 2


class QueueMode(enum.IntEnum):
    """Bit 0 of a queue's MODE register."""

    SHARED = 0
    DEDICATED = 1


class InterruptCause(enum.IntFlag):
    """Bits of INTCAUSE; from COMPLETION on Rackgate's."""

    SOFTWARE_ERROR = 1 << 0
    COMMAND_DONE = 1 << 1
    OCCUPANCY = 1 << 2
    COMPLETION = 1 << 16
    PAGE_REQUEST = 1 << 17


class Capability(enum.IntFlag):
    """Bits of GENCAP's low word."""

    BLOCK_ON_FAULT = 1 << 0
    OVERLAP = 1 << 1
    COMMANDS = 1 << 4
    CONFIGURABLE = 1 << 31


class PageResponse(enum.IntEnum):
    """Bits 3:0 of PAGE_RESPONSE; PCI Express' response codes."""

    SUCCESS = 0
    INVALID = 1
    FAILURE = 15


class PageTableEntry(enum.IntFlag):
    """Bits of an entry of the translation tables, which are x86-64's 4-level tables (Intel SDM 3A 4.5)."""

    PRESENT = 1 << 0
    WRITABLE = 1 << 1
    LARGE = 1 << 7  # in a page directory: maps 2 MiB


def queue_register(queue: int, name: str) -> str:
    """Name of a work queue's register, as ``queue_register(2, "MODE")`` gives ``WQ2_MODE``."""
    if not 0 <= queue < QUEUES:
        raise ValueError(f"queue must be 0 to {QUEUES - 1}, not {queue}")
    return f"WQ{queue}_{name}"


def _queue_registers(queue: int) -> tuple[Register, ...]:
    def at(name: str, offset: int, access: Access, doc: str, **more: tuple[Field, ...]) -> Register:
        return Register(queue_register(queue, name), BAR0 + 0x500 + 0x40 * queue + offset, access, doc, **more)

    return (
        at("SIZE", 0, Access.RW, "Entries of the queue; fixed while it is enabled.", fields=(Field("SIZE", 0, 16),)),
        at("THRESHOLD", 4, Access.RW, "Shared: a submission is refused when the queue holds as many descriptors.",
           fields=(Field("THRESHOLD", 0, 16),)),
        at("MODE", 8, Access.RW, "Mode and priority.",
           fields=(Field("DEDICATED", 0, 1), Field("BOF", 1, 1, "Descriptors may block on a page fault."),
                   Field("PRIORITY", 4, 4, "15 is served first; 0 is refused."),
                   Field("PASID", 8, 20, "What a descriptor's PASID is set to, if PASID_ENABLE."),
                   Field("PASID_ENABLE", 28, 1, "Addresses are virtual: translated with the queue's tables."),
                   Field("PRIVILEGED", 29, 1))),
        at("LIMITS", 12, Access.RW, "Largest transfer.",
           fields=(Field("MAX_TRANSFER_SHIFT", 0, 5, "Sizes are at most 2**this bytes."),)),
        at("OCCUPANCY_LIMIT", 20, Access.RW, "Raises OCCUPANCY when fewer descriptors are left, if enabled.",
           fields=(Field("LIMIT", 0, 16), Field("ENABLE", 16, 1))),
        at("STATE", 24, Access.RO, "Descriptors in the queue, and its state.",
           fields=(Field("OCCUPANCY", 0, 16), Field("STATE", 30, 2))),
        at("TABLE_LO", 56, Access.RW, "Address of the queue's level-4 translation table, a multiple of 4096; low."),
        at("TABLE_HI", 60, Access.RW, "High word of the translation table's address."),
    )


def _group_registers(group: int) -> tuple[Register, ...]:
    base = BAR0 + 0x400 + 0x40 * group
    return (
        Register(f"GRP{group}_WQS", base, Access.RW, "Bit mask of the group's work queues.",
                 fields=(Field("MASK", 0, QUEUES),)),
        Register(f"GRP{group}_ENGINES", base + 32, Access.RW, "Bit mask of the group's engines.",
                 fields=(Field("MASK", 0, 8),)),
    )


REGISTERS = RegisterMap("IAA ", (1, 0), (
    Register("PARAM_ENGINES", 0x20, Access.CONST, "Engines."),
    Register("PARAM_QUEUES", 0x24, Access.CONST, "Work queues."),
    Register("PARAM_ENTRIES", 0x28, Access.CONST, "Entries that the queues share."),
    Register("PARAM_CONTEXTS", 0x2C, Access.CONST, "Descriptors that an engine works on at a time."),
    Register("PARAM_WINDOW", 0x30, Access.CONST, "History of a context in bytes."),
    Register("PARAM_LANES", 0x34, Access.CONST, "Bit offsets that an engine decodes at a time."),
    Register("PARAM_PORTS", 0x38, Access.CONST, "Memory ports that the engines share."),
    Register("IRQ_ENABLE", 0x40, Access.RW, "Causes in INTCAUSE that raise the interrupt."),
    Register("CYCLES_LO", 0x44, Access.RO, "Clock cycles since reset; reading it latches CYCLES_HI."),
    Register("CYCLES_HI", 0x48, Access.RO, "High word of the cycle counter as last latched."),
    Register("COMPLETED", 0x4C, Access.RO, "Descriptors ever completed, modulo 2**32."),
    Register("BUSY_CYCLES", 0x50, Access.RO, "Cycles in which any engine was busy, modulo 2**32."),
    Register("BYTES_IN", 0x54, Access.RO, "Source bytes consumed, modulo 2**32."),
    Register("BYTES_OUT", 0x58, Access.RO, "Destination bytes written, modulo 2**32."),
    Register("AECS_GENERATION", 0x5C, Access.RW, "Tables from an AECS are kept and not read again at the same "
             "address until this changes."),
    Register("PAGE_REQUEST", 0x64, Access.RO, "The oldest page request; PAGE_RESPONSE answers it.",
             fields=(Field("VALID", 0, 1), Field("WRITE", 1, 1), Field("ENGINE", 4, 4), Field("QUEUE", 8, 4),
                     Field("PASID", 12, 20))),
    Register("PAGE_ADDRESS_LO", 0x68, Access.RO, "Virtual address of the page asked for; low word."),
    Register("PAGE_ADDRESS_HI", 0x6C, Access.RO, "High word of the address of the page asked for."),
    Register("PAGE_RESPONSE", 0x70, Access.WO, "Answers the page request shown in PAGE_REQUEST.",
             fields=(Field("CODE", 0, 4, "A PageResponse."),)),
    Register("PAGE_TIMEOUT", 0x74, Access.RW, "Cycles after which an unanswered page request ends its descriptor; 0: "
             "never."),
    Register("TLB_INVALIDATE", 0x78, Access.WO, "A write forgets all translations."),
    Register("TLB_HITS", 0x7C, Access.RO, "Translations found, modulo 2**32."),
    Register("TLB_MISSES", 0x80, Access.RO, "Translations that needed a walk of the tables, modulo 2**32."),
    Register("PAGE_FAULTS", 0x84, Access.RO, "Walks that found no page, modulo 2**32."),
    Register("VER", BAR0 + 0x00, Access.CONST, "Version of Intel's interface that is followed.", reset=0x100),
    Register("GENCAP_LO", BAR0 + 0x10, Access.CONST, "General capabilities.",
             reset=int(Capability.BLOCK_ON_FAULT | Capability.COMMANDS | Capability.CONFIGURABLE) | 21 << 16,
             fields=(Field("BLOCK_ON_FAULT", 0, 1), Field("OVERLAP", 1, 1), Field("COMMANDS", 4, 1),
                     Field("MAX_TRANSFER_SHIFT", 16, 5), Field("CONFIGURABLE", 31, 1))),
    Register("GENCAP_HI", BAR0 + 0x14, Access.CONST, "General capabilities, high word.", reset=1 << 8,
             fields=(Field("DECOMPRESS", 8, 1), Field("INDEXING", 9, 1))),
    Register("WQCAP_LO", BAR0 + 0x20, Access.CONST, "Work queue capabilities.",
             fields=(Field("ENTRIES", 0, 16), Field("QUEUES", 16, 8), Field("CONFIG_SIZE", 24, 4))),
    Register("WQCAP_HI", BAR0 + 0x24, Access.CONST, "Work queue capabilities, high word.", reset=0x3B << 16,
             fields=(Field("SHARED", 16, 1), Field("DEDICATED", 17, 1), Field("PRIORITY", 19, 1),
                     Field("OCCUPANCY", 20, 1), Field("OCCUPANCY_INTERRUPT", 21, 1))),
    Register("GRPCAP", BAR0 + 0x30, Access.CONST, "Groups.", reset=GROUPS, fields=(Field("GROUPS", 0, 8),)),
    Register("ENGCAP", BAR0 + 0x38, Access.CONST, "Engines.", fields=(Field("ENGINES", 0, 8),)),
    *(Register(f"OPCAP{n}", BAR0 + 0x40 + 4 * n, Access.CONST, f"Operations {32 * n} to {32 * n + 31} that there are.",
               reset=sum(1 << opcode - 32 * n for opcode in Opcode if opcode // 32 == n)) for n in range(8)),
    Register("OFFSETS", BAR0 + 0x60, Access.CONST, "Places of the tables in BAR0, in units of 256 bytes.",
             reset=0x0005_0004, fields=(Field("GRPCFG", 0, 16), Field("WQCFG", 16, 16))),
    Register("GENSTS", BAR0 + 0x90, Access.RO, "A DeviceState.", fields=(Field("STATE", 0, 2),)),
    Register("INTCAUSE", BAR0 + 0x98, Access.W1C, "Causes of the interrupt, as InterruptCause has them."),
    Register("CMD", BAR0 + 0xA0, Access.RW, "A write carries out a command.",
             fields=(Field("OPERAND", 0, 20), Field("COMMAND", 20, 5), Field("REQUEST_INTERRUPT", 31, 1))),
    Register("CMDSTS", BAR0 + 0xA8, Access.RO, "How the last command stands.",
             fields=(Field("ERROR", 0, 8), Field("ACTIVE", 31, 1))),
    Register("SWERR0", BAR0 + 0xC0, Access.W1C, "The first error that no completion record tells; clear VALID to see "
             "another.",
             fields=(Field("VALID", 0, 1), Field("OVERFLOW", 1, 1), Field("DESCRIPTOR_VALID", 2, 1),
                     Field("QUEUE_VALID", 3, 1), Field("FAULT_WRITE", 5, 1), Field("ERROR", 8, 8),
                     Field("QUEUE", 16, 8))),
    Register("SWERR1", BAR0 + 0xC4, Access.RO, "Opcode and PASID of the descriptor.",
             fields=(Field("OPERATION", 0, 8), Field("PASID", 8, 20))),
    Register("SWERR_ADDRESS_LO", BAR0 + 0xD0, Access.RO, "Address that the error is about; low word."),
    Register("SWERR_ADDRESS_HI", BAR0 + 0xD4, Access.RO, "High word of the address that the error is about."),
    Register("IAACAP", BAR0 + 0x180, Access.CONST, "Capabilities of the second generation: none of them."),
    *(register for group in range(GROUPS) for register in _group_registers(group)),
    *(register for queue in range(QUEUES) for register in _queue_registers(queue)),
))

_DESCRIPTOR = struct.Struct("<IIQQQIHHQIIII")
_COMPLETION = struct.Struct("<BBBBIQQIBBHIIIIBBHIII")


@dataclass(frozen=True)
class Descriptor:
    """A job, 64 bytes. Sizes in bytes.

    ``pasid_priv`` is bits 31:0 of the descriptor, zero in what a user submits. ``interrupt_handle`` is zero without
    Flag.REQUEST_INTERRUPT. ``operation_flags`` are DecompressFlag or Crc64Flag. ``source2`` is the address of the AECS
    or of the second source; for CRC64 it is reserved, and the polynomial stands in ``filter_flags`` (low word) and
    ``elements`` (high word); for FILL it is the pattern.
    """

    opcode: int = Opcode.NOOP
    flags: int = Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION
    completion: int = 0
    source: int = 0
    destination: int = 0
    source_size: int = 0
    interrupt_handle: int = 0
    operation_flags: int = 0
    source2: int = 0
    destination_size: int = 0
    source2_size: int = 0
    filter_flags: int = 0
    elements: int = 0
    pasid_priv: int = 0

    def pack(self) -> bytes:
        """The 64 bytes as they are written to a portal."""
        return _DESCRIPTOR.pack(
            self.pasid_priv, self.flags | self.opcode << 24, self.completion, self.source, self.destination,
            self.source_size, self.interrupt_handle, self.operation_flags, self.source2, self.destination_size,
            self.source2_size, self.filter_flags, self.elements)

    @classmethod
    def unpack(cls, raw: bytes) -> "Descriptor":
        """The descriptor in 64 bytes."""
        (pasid, flags, completion, source, destination, source_size, handle, operation, source2, destination_size,
         source2_size, filter_flags, elements) = _DESCRIPTOR.unpack(raw)
        return cls(flags >> 24, flags & 0xFFFFFF, completion, source, destination, source_size, handle, operation,
                   source2, destination_size, source2_size, filter_flags, elements, pasid)

    @property
    def polynomial(self) -> int:
        """CRC64: the polynomial, without its highest term."""
        return self.filter_flags | self.elements << 32


@dataclass(frozen=True)
class Completion:
    """A completion record, 64 bytes. The device writes its first 8 bytes last.

    ``completed`` counts source bytes consumed: whole ones, and the last one if any bit of it was. ``fault_address``
    belongs to PAGE_FAULT, READ_ERROR and WRITE_ERROR. ``invalid_flags`` has the bits of the flags that were
    refused, the general flags in the low word and those of the operation in the high one. ``output_size`` counts
    destination bytes. ``xor_checksum`` and ``crc`` are of the output: the exclusive-or of its halfwords, and CRC-32 or
    CRC-32C. CRC64 puts its result in the place of ``maximum`` and ``sum``: see :attr:`crc64`.

    Rackgate's own, in bytes that IAA reserves: ``unused_bits``, how many bits of the last source byte counted by
    ``completed`` are not consumed; ``members`` of a gzip file; ``cycles`` from taking the descriptor off its queue to
    this record; ``adler32`` of a zlib stream.
    """

    status: int = 0
    error: int = 0
    fault_info: int = 0
    completed: int = 0
    fault_address: int = 0
    invalid_flags: int = 0
    output_size: int = 0
    output_bits: int = 0
    xor_checksum: int = 0
    crc: int = 0
    minimum: int = 0
    maximum: int = 0
    sum: int = 0
    unused_bits: int = 0
    members: int = 0
    cycles: int = 0
    adler32: int = 0

    def pack(self) -> bytes:
        """The 64 bytes as the device writes them."""
        return _COMPLETION.pack(
            self.status, self.error, self.fault_info, 0, self.completed, self.fault_address, self.invalid_flags,
            self.output_size, self.output_bits, 0, self.xor_checksum, self.crc, self.minimum, self.maximum, self.sum,
            self.unused_bits, 0, self.members, self.cycles, self.adler32, 0)

    @classmethod
    def unpack(cls, raw: bytes) -> "Completion":
        """The record in 64 bytes of memory."""
        (status, error, info, _, completed, address, invalid, size, bits, _, xor, crc, minimum, maximum, total,
         unused, _, members, cycles, adler, _) = _COMPLETION.unpack(raw)
        return cls(status, error, info, completed, address, invalid, size, bits, xor, crc, minimum, maximum, total,
                   unused, members, cycles, adler)

    @property
    def crc64(self) -> int:
        """Result of CRC64."""
        return self.maximum | self.sum << 32
