# SPDX-License-Identifier: Apache-2.0
"""Operations of a request, and their results in its response. Plain Python; see :mod:`rackgate.bridge.abi`.

The body of a request is operations one behind the other; one without any is answered at once. An operation is two
words, and the data of a write:

======  ==============================================================================================
word 0  :class:`Opcode` in bits 7:0, flags in bits 15:8, count of 32-bit words in bits 31:16, at least 1
word 1  address in bytes, a multiple of 4
======  ==============================================================================================

Flags: bit 0, FIXED, of register operations: all words go to, or come from, one register. Bits 3:2 and 5:4, of
WRITE_MEMORY: so many bytes at the front of the first word, and at the end of the last one, are not written; at least
one is. All others are 0.

The body of a response has one result for each operation, in their order: a word, and the data of a read.

======  ======================================================================================
word 0  opcode in bits 7:0, :class:`~rackgate.bridge.abi.Status` in bits 15:8, count of words of data in bits 31:16
======  ======================================================================================

**Errors.** A result with another status than OK has no data, and it is the last: the operations behind it are neither
executed nor answered. MALFORMED is an operation with an unknown opcode or flags that it does not have, with count 0 or
an address that is no multiple of 4, which ends behind the end of the body, or whose result would not leave a word of
the longest response free (:data:`DATA_WORDS`). DECERR is one that leaves its space: memory from ``memory_base`` on, the
device's registers, status or identity from 0 on; no word of it is accessed.

A write of several registers writes all of them, whatever the device answers, and its status is that of the last. A read
of several ends at the first error. An error that memory itself answers gives SLVERR for the whole operation.
"""

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .abi import BODY_WORDS, FormatError, Status

__all__ = [
    "DATA_WORDS", "MEMORY_OPCODES", "READS", "REGISTER_OPCODES", "Flag", "Opcode", "Operation", "Result",
    "pack_operations", "pack_results", "read", "unpack_operations", "unpack_results", "write", "write_memory",
]

_HEAD = struct.Struct("<BBHI")
_RESULT = struct.Struct("<BBH")

#: Words of data in the longest operation, read or write: a request's body less the two words of the operation, a
#: response's less the word of the result and one that is kept for the result of a failure behind it.
DATA_WORDS = BODY_WORDS - 2


class Opcode(enum.IntEnum):
    """What an operation does, and in which address space."""

    READ_REGISTERS = 1
    WRITE_REGISTERS = 2
    READ_MEMORY = 3
    WRITE_MEMORY = 4
    READ_STATUS = 5  # :class:`~rackgate.bridge.abi.StatusWord`
    READ_IDENTITY = 6  # :mod:`rackgate.bridge.identity`


class Flag(enum.IntFlag):
    """Flags of an operation; SKIP and OMIT are the lowest bits of numbers of two bits."""

    FIXED = 1
    SKIP = 4
    OMIT = 16


#: Operations whose results have data.
READS = frozenset({Opcode.READ_REGISTERS, Opcode.READ_MEMORY, Opcode.READ_STATUS, Opcode.READ_IDENTITY})
REGISTER_OPCODES = frozenset({Opcode.READ_REGISTERS, Opcode.WRITE_REGISTERS})
MEMORY_OPCODES = frozenset({Opcode.READ_MEMORY, Opcode.WRITE_MEMORY})


class Operation(NamedTuple):
    """An operation; ``data`` of a write has ``count`` words. Made by :func:`read`, :func:`write`, :func:`write_memory`.

    ``skip`` and ``omit`` are the bytes that WRITE_MEMORY leaves out at the front and at the end.
    """

    opcode: int
    address: int
    count: int
    data: bytes = b""
    is_fixed: bool = False
    skip: int = 0
    omit: int = 0

    @property
    def request_words(self) -> int:
        """Words in the body of the request."""
        return 2 + len(self.data) // 4

    @property
    def response_words(self) -> int:
        """Words in the body of the response, if it is executed."""
        return 1 + (self.count if self.opcode in READS else 0)

    def pack(self) -> bytes:
        """As bytes."""
        flags = Flag.FIXED * self.is_fixed + Flag.SKIP * self.skip + Flag.OMIT * self.omit
        return _HEAD.pack(self.opcode, flags, self.count, self.address) + self.data


class Result(NamedTuple):
    """What became of an operation."""

    opcode: int
    status: Status
    data: bytes = b""


def _check(address: int, count: int) -> None:
    if not 0 <= address < 1 << 32 or address % 4:
        raise ValueError(f"address must be a multiple of 4 that fits 32 bits, not {address:#x}")
    if not 1 <= count <= DATA_WORDS:
        raise ValueError(f"an operation must have 1 to {DATA_WORDS} words, not {count}")


def read(opcode: Opcode, address: int, count: int = 1, *, is_fixed: bool = False) -> Operation:
    """An operation that reads ``count`` words. Raises ValueError when a rule is broken."""
    _check(address, count)
    if opcode not in READS:
        raise ValueError(f"opcode must be one that reads, not {opcode!r}")
    if is_fixed and opcode not in REGISTER_OPCODES:
        raise ValueError(f"is_fixed is for registers only, not for {opcode!r}")
    return Operation(opcode, address, count, is_fixed=is_fixed)


def write(address: int, data: bytes, *, is_fixed: bool = False) -> Operation:
    """An operation that writes registers: whole words. Raises ValueError when a rule is broken."""
    if len(data) % 4:
        raise ValueError(f"data must have whole words, not {len(data)} bytes")
    _check(address, len(data) // 4)
    return Operation(Opcode.WRITE_REGISTERS, address, len(data) // 4, bytes(data), is_fixed)


def write_memory(address: int, data: bytes) -> Operation:
    """An operation that writes bytes of memory, at any address. Raises ValueError when a rule is broken."""
    skip, omit = address % 4, -(address + len(data)) % 4
    count = (skip + len(data) + omit) // 4
    if not data:
        raise ValueError("data must not be empty")
    _check(address - skip, count)
    return Operation(Opcode.WRITE_MEMORY, address - skip, count, bytes(skip) + data + bytes(omit), skip=skip, omit=omit)


def pack_operations(operations: Iterable[Operation]) -> bytes:
    """Operations as the body of a request. Raises ValueError when request or response would be too long."""
    listed = list(operations)
    if (words := sum(one.request_words for one in listed)) > BODY_WORDS:
        raise ValueError(f"a request must have at most {BODY_WORDS} words of operations, not {words}")
    if (words := sum(one.response_words for one in listed)) > BODY_WORDS - 1:
        raise ValueError(f"a response must have at most {BODY_WORDS - 1} words of results, not {words}")
    return b"".join(one.pack() for one in listed)


def unpack_operations(body: bytes) -> Iterator[Operation]:
    """The operations of a request, one after the other, as a device must take them.

    Yields each that is well formed. Raises FormatError at the first that is MALFORMED; its ``args[1]`` is the opcode.
    """
    place, room = 0, BODY_WORDS - 1  # a word is kept for the result of a failure
    while place < len(body):
        if len(body) - place < _HEAD.size:
            raise FormatError("an operation must have two words", body[place])
        opcode, flags, count, address = _HEAD.unpack_from(body, place)
        place += _HEAD.size
        allowed = Flag.FIXED if opcode in REGISTER_OPCODES else 0
        if opcode == Opcode.WRITE_MEMORY:
            allowed = 3 * (Flag.SKIP | Flag.OMIT)
        skip, omit = flags // Flag.SKIP % 4, flags // Flag.OMIT % 4
        length = 0 if opcode in READS else 4 * count
        for is_broken, rule in (
            (opcode not in Opcode.__members__.values(), "an operation must have an opcode that there is"),
            (flags & ~allowed, "an operation must have no flags but its own"),
            (count == 0, "an operation must have at least one word"),
            (address % 4, "an address must be a multiple of 4"),
            (skip + omit >= 4 * count, "a write must write a byte"),
            (length > len(body) - place, "an operation must end within the body"),
            (room < 1 + (count if opcode in READS else 0), "an operation's result must fit the response"),
        ):
            if is_broken:
                raise FormatError(rule, opcode)
        one = Operation(opcode, address, count, body[place:place + length], bool(flags & Flag.FIXED), skip, omit)
        yield one
        place += length
        room -= one.response_words


def pack_results(results: Iterable[Result]) -> bytes:
    """Results as the body of a response."""
    return b"".join(_RESULT.pack(one.opcode, one.status, len(one.data) // 4) + one.data for one in results)


def unpack_results(body: bytes) -> list[Result]:
    """The results in the body of a response. Raises FormatError when it is none."""
    results, place = [], 0
    while place < len(body):
        opcode, status, count = _RESULT.unpack_from(body, place)
        place += _RESULT.size
        if status not in Status.__members__.values():
            raise FormatError(f"there is no status {status} of an operation")
        if place + 4 * count > len(body):
            raise FormatError(f"a result of {count} words must end within the body")
        results.append(Result(opcode, Status(status), body[place:place + 4 * count]))
        place += 4 * count
    return results
