# SPDX-License-Identifier: Apache-2.0
"""Golden model of the inflate device's contexts: one call a job, results as ``rackgate.inflate.abi`` has them.

Written for being right by inspection. Sources: RFC 1951, 1950, 1952; what to do with input that those leave
open (incomplete codes, order of checks) is as zlib's ``inflate`` does, unless said otherwise here.

Resume points
-------------
A job that stops reports the last point from which a later job can go on, and the context remembers what
lies before it:

- in a zlib or gzip header: the start of that header;
- in a block header, all of a dynamic one and a stored block's LEN and NLEN included: its first bit;
- in a stored block: the byte after the last one delivered;
- in a compressed block: the first literal/length symbol that is not completely carried out; a match whose
  distance is not all there, or of which some bytes did not fit, counts from its length symbol;
- in a trailer: its first byte;
- between gzip members: the end of the last member. Zero padding counts as consumed only when another
  member follows it.

After the end the position is rounded up to whole bytes, as zlib counts. ``start_bit`` says nothing when the
source is empty.

Several things wrong at a time
------------------------------
Input is read in order, and an error is reported as soon as the bits that show it are there:

- zlib header, all from its two bytes: check (multiple of 31), method, window;
- gzip header: magic (2 bytes), method, reserved flags (4 bytes), header CRC;
- dynamic block: HLIT, then HDIST (17 bits with the block header); the code-length code (none at all counts
  as undefined, then oversubscribed, then incomplete); each code length as it comes; when all are there: no
  literal/length codes at all, no end-of-block code, literals oversubscribed, incomplete, distances
  oversubscribed, incomplete;
- a match: literal/length code, extra bits, distance code, extra bits, then its distance against the window
  and then against the output so far, before any byte of it is delivered and before asking for room;
- gzip trailer: CRC (4 bytes), then length (8 bytes).

A byte that is there but finds no room is an OUTPUT_OVERFLOW; a byte that is not there is never one. A full
destination alone is no overflow: the stream may end without another byte.
"""

import enum
import zlib
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import numpy as np

from rackgate.inflate.abi import (
    MAX_DESTINATION_SIZE,
    MAX_SOURCE_SIZE,
    Completion,
    Descriptor,
    ErrorCode,
    Flag,
    Format,
    Opcode,
    ResultFlag,
    Status,
)

__all__ = [
    "CODE_LENGTH_ORDER", "DISTANCE_BASE", "DISTANCE_EXTRA", "ENTRY_BITS", "FIXED_DISTANCES", "FIXED_LITERALS",
    "LENGTH_BASE", "LENGTH_EXTRA", "BusError", "Engine", "FlatMemory", "JobMemory", "Memory", "check", "difference",
    "inflate", "same",
]

#: Order of the code-length code's lengths in a dynamic header (RFC 1951 3.2.7).
CODE_LENGTH_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
#: Extra bits and smallest match length of the symbols 257 to 285 (RFC 1951 3.2.5).
LENGTH_EXTRA = (0,) * 8 + (1,) * 4 + (2,) * 4 + (3,) * 4 + (4,) * 4 + (5,) * 4 + (0,)
LENGTH_BASE = (3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163,
               195, 227, 258)
#: Extra bits and smallest distance of the distance symbols 0 to 29.
DISTANCE_EXTRA = (0, 0, *(n for n in range(14) for _ in range(2)))
DISTANCE_BASE = (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
                 4097, 6145, 8193, 12289, 16385, 24577)
#: Code lengths of the fixed codes (RFC 1951 3.2.6), with the symbols that must not occur.
FIXED_LITERALS = (8,) * 144 + (9,) * 112 + (7,) * 24 + (8,) * 8
FIXED_DISTANCES = (5,) * 32
#: Most source bits in one step of the gateware: a match of 48 bits and two literals of 15.
ENTRY_BITS = 78


class BusError(Exception):
    """A memory refused an access: the model's form of an AXI error response."""


class Memory(Protocol):
    """What the device reads and writes. Addresses and sizes in bytes."""

    def read(self, address: int, size: int) -> bytes:
        """The ``size`` bytes from ``address`` on. Raises :class:`BusError`."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store ``data`` from ``address`` on. Raises :class:`BusError`."""
        ...


class FlatMemory:
    """``array`` (NumPy, uint8, one dimension) as memory from address ``base`` on.

    Raises ``TypeError`` for another kind of array; accesses outside raise :class:`BusError`.
    """

    def __init__(self, array: np.ndarray, base: int = 0) -> None:
        if array.dtype != np.uint8 or array.ndim != 1:
            raise TypeError(f"array must be one-dimensional of uint8, not {array.ndim}-dimensional of {array.dtype}")
        self.array = array
        self.base = base

    def _slice(self, address: int, size: int) -> slice:
        start = address - self.base
        if start < 0 or start + size > len(self.array):
            raise BusError(f"no memory at {address:#x} to {address + size:#x}")
        return slice(start, start + size)

    def read(self, address: int, size: int) -> bytes:
        """The ``size`` bytes from ``address`` on."""
        return self.array[self._slice(address, size)].tobytes()

    def write(self, address: int, data: bytes) -> None:
        """Store ``data`` from ``address`` on."""
        self.array[self._slice(address, len(data))] = np.frombuffer(data, np.uint8)


class _State(enum.Enum):
    """What the next source bit belongs to."""

    HEADER = enum.auto()
    BLOCK = enum.auto()  # a block header
    STORED = enum.auto()
    CODES = enum.auto()
    TRAILER = enum.auto()
    GAP = enum.auto()  # after a gzip member
    DONE = enum.auto()


_TRUNCATED = {
    _State.HEADER: ErrorCode.FRAME_TRUNCATED,
    _State.BLOCK: ErrorCode.HEADER_TRUNCATED,
    _State.STORED: ErrorCode.END_OF_BLOCK_MISSING,
    _State.CODES: ErrorCode.END_OF_BLOCK_MISSING,
    _State.TRAILER: ErrorCode.FRAME_TRUNCATED,
}


class _Stop(Exception):
    """Ends a job."""

    def __init__(self, status: Status, error: ErrorCode = ErrorCode.NONE) -> None:
        super().__init__(status, error)
        self.status = status
        self.error = error


class _Dry(Exception):
    """The source ends before what has to be read."""


def _wrong(error: ErrorCode) -> _Stop:
    return _Stop(Status.ANALYTICS_ERROR, error)


class _Source:
    """The bits of a source, lowest bit of the first byte first. The last ``ignored`` bits are not there."""

    def __init__(self, data: bytes, position: int, ignored: int = 0) -> None:
        self.data = data
        self.position = position
        self.end = 8 * len(data) - ignored

    def peek(self) -> int:
        """At least the next 57 bits, lowest first; zeros past the end."""
        byte = self.position >> 3
        return int.from_bytes(self.data[byte:byte + 8], "little") >> (self.position & 7)

    def skip(self, count: int) -> None:
        """Go on by ``count`` bits, or raise :class:`_Dry` and stay."""
        if self.position + count > self.end:
            raise _Dry
        self.position += count

    def bits(self, count: int) -> int:
        """Take ``count`` (at most 32) bits."""
        value = self.peek() & ((1 << count) - 1)
        self.skip(count)
        return value

    def align(self) -> None:
        """Go on to the next whole byte."""
        self.position = (self.position + 7) & ~7

    def take(self, count: int) -> bytes:
        """Take ``count`` bytes; the position must be at a whole byte."""
        start = self.position >> 3
        self.skip(8 * count)
        return self.data[start:start + count]

    def text(self) -> bytes:
        """Take bytes up to the next zero byte, and that."""
        start = self.position >> 3
        end = self.data.find(0, start)
        if end < 0:
            raise _Dry
        return self.take(end + 1 - start)


class _Code:
    """A canonical prefix code (RFC 1951 3.2.2), with a table over all values of its longest code."""

    def __init__(self, lengths: tuple[int, ...] | list[int]) -> None:
        self.longest = max(lengths, default=0)
        counts = [0] * 16
        for length in lengths:
            counts[length] += 1
        counts[0] = 0
        space, self.oversubscribed = 1, False
        for length in range(1, 16):
            space = 2 * space - counts[length]
            self.oversubscribed |= space < 0
        self.empty = self.longest == 0
        self.incomplete = space > 0
        if not self.oversubscribed:
            self._fill(lengths, counts)

    def _fill(self, lengths: tuple[int, ...] | list[int], counts: list[int]) -> None:
        code, next_code = 0, [0] * 16
        for length in range(1, 16):
            code = (code + counts[length - 1]) << 1
            next_code[length] = code
        size = 1 << self.longest
        self.mask = size - 1
        self.table = [0] * size  # 16 * symbol + length, or 0 where no code matches
        for symbol, length in enumerate(lengths):
            if length:
                first_bit_lowest = int(f"{next_code[length]:0{length}b}"[::-1], 2)
                next_code[length] += 1
                self.table[first_bit_lowest::1 << length] = [symbol << 4 | length] * (size >> length)

    def take(self, source: _Source, error: ErrorCode) -> int:
        """Take a symbol. One bit is enough to see that no code matches: raises ``error`` then."""
        entry = self.table[source.peek() & self.mask]
        if not entry:
            source.skip(1)
            raise _wrong(error)
        source.skip(entry & 15)
        return entry >> 4


_FIXED = (_Code(FIXED_LITERALS), _Code(FIXED_DISTANCES))
_NO_CODES = (_Code(()), _Code(()))


@dataclass
class _Context:
    """What a context keeps from job to job.

    ``history`` ends with what can be referred to. ``skip`` bytes of the symbol at the resume point are
    already delivered. ``left`` counts the bytes to come in a stored block. ``header`` is the last block header that
    was read, from bit ``header_begin`` to before bit ``header_end`` of these bytes, and ``header_at`` where these were
    in the source, -1 if there is none.
    """

    state: _State = _State.DONE
    history: bytes = b""
    codes: tuple[_Code, _Code] = _FIXED
    final: bool = False
    skip: int = 0
    left: int = 0
    header: bytes = b""
    header_at: int = -1
    header_begin: int = 0
    header_end: int = 0
    crc32: int = 0
    adler32: int = 1
    total: int = 0
    members: int = 0
    dictionary: int = 0

    def begin_member(self) -> None:
        """Nothing of what came before can be referred to or is checked."""
        self.history = b""
        self.crc32, self.adler32, self.total = 0, 1, 0


@dataclass
class _Job:
    """A job under way. ``out`` holds the history, up to ``begin``, then the bytes delivered.

    Bytes from ``reach`` on can be referred to; bytes up to ``checked`` are in the checksums. ``commit``
    is the resume point, a bit position in the source. With ``one_block`` every block is the last.
    """

    descriptor: Descriptor
    source: _Source
    out: bytearray
    begin: int
    one_block: bool = False
    limit: int = field(init=False)
    reach: int = 0
    commit: int = 0
    checked: int = field(init=False)

    def __post_init__(self) -> None:
        self.limit = self.begin + self.descriptor.destination_size
        self.checked = self.begin


def check(descriptor: Descriptor, contexts: int = 2, reserved: bytes = b"") -> Status:
    """SUCCESS if a device with ``contexts`` contexts takes the descriptor, else the status it answers with.

    Checked in this order: an unknown opcode is BAD_OPCODE; an unknown format, another than RAW with TABLES or CANNED,
    an unknown flag or a context that the device has not is BAD_FLAGS; a size above the maximum, or ``start_bit``
    above 7 (for LOAD: above 0), is BAD_SIZE; a nonzero byte in ``reserved``, bytes 44 to 63 of the descriptor, is
    RESERVED_NONZERO.
    """
    if descriptor.opcode not in tuple(Opcode):
        return Status.BAD_OPCODE
    known = descriptor.flags & ~sum(Flag) == 0
    formats = tuple(Format)
    if descriptor.opcode == Opcode.TABLES or descriptor.flags & Flag.CANNED:
        formats = (Format.RAW,)
    if descriptor.format not in formats or not known or descriptor.context >= contexts:
        return Status.BAD_FLAGS
    start_limit = 0 if descriptor.opcode == Opcode.LOAD else 7
    if (descriptor.source_size > MAX_SOURCE_SIZE or descriptor.destination_size > MAX_DESTINATION_SIZE
            or descriptor.start_bit > start_limit):
        return Status.BAD_SIZE
    return Status.RESERVED_NONZERO if any(reserved) else Status.SUCCESS


class Engine:
    """The device's contexts, without its ring and registers.

    Parameters
    ----------
    contexts:
        How many contexts, 1 to 8.
    window:
        Size of the history in bytes, 4096 or 32768. Distances above it are DISTANCE_TOO_LARGE.

    Jobs of one context go on from one another as :class:`~rackgate.inflate.abi.Flag` says: RESUME after
    NEED_INPUT, NEED_DICTIONARY, OUTPUT_OVERFLOW or LOAD goes on at the resume point, with the format and
    flags of the resuming descriptor, which should be those of the first. RESUME with nothing to resume (after
    reset, the end, an error) starts anew. RESUME after NEED_DICTIONARY without LOAD goes on with an empty
    window. LOAD empties the window, fills it with its source (what does not fit falls out at the front) and
    leaves the context before a block header: a RESUME job of any format then goes on there.

    TABLES decodes as INFLATE does up to the first symbol of a compressed final block; then it succeeds and keeps
    the block's codes until the context reads another block header. A CANNED job that begins anew begins in the
    body of a final block in these codes.

    MULTI matters only for gzip. Between members the checksums, ``total`` and the window are kept until
    the next member's header is complete. ``members`` counts the members that have ended since the last
    job without RESUME.
    """

    def __init__(self, contexts: int = 2, window: int = 32768) -> None:
        if not 1 <= contexts <= 8:
            raise ValueError(f"contexts must be 1 to 8, not {contexts}")
        if window not in (4096, 32768):
            raise ValueError(f"window must be 4096 or 32768, not {window}")
        self.contexts = contexts
        self.window = window
        self._contexts = [_Context() for _ in range(contexts)]
        self._kept: list[tuple[_Code, _Code] | None] = [None] * contexts

    def run(self, descriptor: Descriptor, memory: Memory, *, ignored_bits: int = 0,
            one_block: bool = False) -> Completion:
        """Do a job: read its source from ``memory``, write its output there, and return the result.

        For the device with IAA's interface: the last ``ignored_bits`` (0 to 7) of the source are as if they were not
        there; with ``one_block`` every block counts as the last one.

        The completion record is not written, and its times are zero. A :class:`BusError` while reading gives
        READ_ERROR, while writing WRITE_ERROR, with nothing consumed and nothing to resume.
        """
        status = check(descriptor, self.contexts)
        if status != Status.SUCCESS:
            return _refusal(descriptor, status)
        context = self._contexts[descriptor.context]
        try:
            source = memory.read(descriptor.source, descriptor.source_size) if descriptor.source_size else b""
        except BusError:
            context.state = _State.DONE
            return _refusal(descriptor, Status.READ_ERROR)
        if descriptor.opcode == Opcode.LOAD:
            return self._load(context, descriptor, source)
        if not descriptor.flags & Flag.RESUME or context.state == _State.DONE:
            context = self._contexts[descriptor.context] = _Context(
                _State.BLOCK if descriptor.format == Format.RAW else _State.HEADER)
            if descriptor.flags & Flag.CANNED and descriptor.opcode == Opcode.INFLATE:
                context.state, context.final = _State.CODES, True
                context.codes = self._kept[descriptor.context] or _NO_CODES
        out = bytearray(context.history)
        bits = _Source(source, descriptor.start_bit if source else 0, ignored_bits if source else 0)
        job = _Job(descriptor, bits, out, len(out), one_block)
        stop, inside = self._decode(context, job)
        produced = bytes(out[job.begin:])
        try:
            if produced:
                memory.write(descriptor.destination, produced)
        except BusError:
            context.state = _State.DONE
            return _refusal(descriptor, Status.WRITE_ERROR)
        context.history = bytes(out[max(job.reach, len(out) - self.window):])
        flags = ResultFlag.BLOCK if inside else 0
        if stop.status == Status.SUCCESS:
            flags = 0 if descriptor.opcode == Opcode.TABLES else ResultFlag.END
        return self._result(context, descriptor, len(produced), job.commit, stop, flags)

    def forget(self, context: int) -> None:
        """Leave nothing to resume in ``context``."""
        self._contexts[context].state = _State.DONE

    @property
    def first(self) -> _Context:
        """What the first context keeps."""
        return self._contexts[0]

    def _load(self, context: _Context, descriptor: Descriptor, source: bytes) -> Completion:
        context.begin_member()
        context.history = source[-self.window:]
        context.state, context.final, context.skip, context.members = _State.BLOCK, False, 0, 0
        return self._result(context, descriptor, 0, 8 * len(source), _Stop(Status.SUCCESS), 0)

    @staticmethod
    def _result(context: _Context, descriptor: Descriptor, produced: int, position: int, stop: _Stop,
                flags: int) -> Completion:
        return Completion(produced, position >> 3, position & 7, context.crc32, context.adler32, context.members,
                          context.total, 0, 0, context.dictionary, descriptor.tag, stop.status, stop.error, flags)

    def _decode(self, context: _Context, job: _Job) -> tuple[_Stop, bool]:
        """Go on until something ends the job: why, and whether the resume point is inside a block."""
        steps = {
            _State.HEADER: _header, _State.BLOCK: _block, _State.STORED: _stored,
            _State.CODES: self._codes, _State.TRAILER: _trailer, _State.GAP: _gap,
        }
        try:
            while context.state != _State.DONE:
                job.commit = job.source.position
                if context.state == _State.BLOCK:
                    self._kept[job.descriptor.context] = None
                steps[context.state](context, job)
                if job.descriptor.opcode == Opcode.TABLES and context.final and context.state != _State.BLOCK:
                    job.commit = job.source.position
                    self._keep(context, job)
            stop = _Stop(Status.SUCCESS)
            job.commit = job.source.position
        except _Dry:
            stop = _Stop(Status.NEED_INPUT)
            if job.descriptor.flags & Flag.LAST:
                stop = _wrong(_TRUNCATED[context.state])
        except _Stop as reason:
            stop = reason
        inside = context.state in (_State.STORED, _State.CODES)
        _account(context, job)
        if stop.status == Status.ANALYTICS_ERROR:
            context.state = _State.DONE
        return stop, inside

    def _keep(self, context: _Context, job: _Job) -> NoReturn:
        """End a TABLES job behind the header of the final block."""
        if context.state == _State.STORED:
            raise _wrong(ErrorCode.BAD_AECS)
        self._kept[job.descriptor.context] = context.codes
        context.state = _State.DONE
        raise _Stop(Status.SUCCESS)

    def _codes(self, context: _Context, job: _Job) -> None:
        """Carry out the symbols of a compressed block."""
        source, out = job.source, job.out
        if context.codes is _NO_CODES:
            raise _wrong(ErrorCode.BAD_AECS)
        literals, distances = context.codes
        while True:
            job.commit = source.position
            symbol = literals.take(source, ErrorCode.BAD_LITERAL_CODE)
            if symbol < 256:
                if len(out) == job.limit:
                    raise _Stop(Status.OUTPUT_OVERFLOW)
                out.append(symbol)
            elif symbol == 256:
                _end_block(context, job)
                return
            else:
                length = _match_length(source, symbol)
                self._copy(context, job, length, _match_distance(source, distances))

    def _copy(self, context: _Context, job: _Job, length: int, distance: int) -> None:
        """Carry out a match, except what of it is already delivered."""
        out = job.out
        if distance > self.window:
            raise _wrong(ErrorCode.DISTANCE_TOO_LARGE)
        if distance > len(out) - job.reach:
            raise _wrong(ErrorCode.DISTANCE_BEFORE_START)
        wanted = max(0, length - context.skip)
        count = min(wanted, job.limit - len(out))
        pattern = bytes(out[len(out) - distance:len(out) - distance + count])
        out += (pattern * (count // distance + 1))[:count]
        if count < wanted:
            context.skip += count
            raise _Stop(Status.OUTPUT_OVERFLOW)
        context.skip = 0


def _match_length(source: _Source, symbol: int) -> int:
    if symbol > 285:
        raise _wrong(ErrorCode.BAD_LITERAL_CODE)
    return LENGTH_BASE[symbol - 257] + source.bits(LENGTH_EXTRA[symbol - 257])


def _match_distance(source: _Source, code: _Code) -> int:
    symbol = code.take(source, ErrorCode.BAD_DISTANCE_CODE)
    if symbol > 29:
        raise _wrong(ErrorCode.BAD_DISTANCE_CODE)
    return DISTANCE_BASE[symbol] + source.bits(DISTANCE_EXTRA[symbol])


def _account(context: _Context, job: _Job) -> None:
    """Put the bytes delivered since the last call into the checksums."""
    fresh = bytes(job.out[job.checked:])
    context.crc32 = zlib.crc32(fresh, context.crc32)
    context.adler32 = zlib.adler32(fresh, context.adler32)
    context.total += len(fresh)
    job.checked = len(job.out)


def _begin_member(context: _Context, job: _Job) -> None:
    context.begin_member()
    job.reach = len(job.out)
    context.state = _State.BLOCK


def _header(context: _Context, job: _Job) -> None:
    job.source.align()
    if job.descriptor.format == Format.ZLIB:
        _zlib_header(context, job)
    else:
        _gzip_header(job.source)
        _begin_member(context, job)


def _zlib_header(context: _Context, job: _Job) -> None:
    cmf, flg = job.source.take(2)
    if (256 * cmf + flg) % 31:
        raise _wrong(ErrorCode.ZLIB_HEADER_CHECK)
    if cmf & 15 != 8:
        raise _wrong(ErrorCode.ZLIB_METHOD)
    if cmf >> 4 > 7:
        raise _wrong(ErrorCode.ZLIB_WINDOW)
    dictionary = int.from_bytes(job.source.take(4), "big") if flg & 0x20 else None
    _begin_member(context, job)
    if dictionary is not None:
        context.dictionary = dictionary
        job.commit = job.source.position
        raise _Stop(Status.NEED_DICTIONARY)


def _gzip_header(source: _Source) -> None:
    start = source.position >> 3
    if source.take(2) != b"\x1f\x8b":
        raise _wrong(ErrorCode.GZIP_MAGIC)
    method, flags = source.take(2)
    if method != 8:
        raise _wrong(ErrorCode.GZIP_METHOD)
    if flags & 0xE0:
        raise _wrong(ErrorCode.GZIP_FLAGS)
    source.take(6)  # time, extra flags, operating system
    if flags & 4:
        source.take(int.from_bytes(source.take(2), "little"))
    if flags & 8:
        source.text()  # name
    if flags & 16:
        source.text()  # comment
    if flags & 2:
        crc = zlib.crc32(source.data[start:source.position >> 3]) & 0xFFFF
        if int.from_bytes(source.take(2), "little") != crc:
            raise _wrong(ErrorCode.GZIP_HEADER_CRC)


def _block(context: _Context, job: _Job) -> None:
    """Read a block header. The context changes only when all of it is there."""
    source = job.source
    begin = source.position
    header = source.bits(3)
    kind = header >> 1
    if kind == 3:
        raise _wrong(ErrorCode.BAD_BLOCK_TYPE)
    if kind == 0:
        source.align()
        sizes = source.bits(32)
        if sizes & 0xFFFF != sizes >> 16 ^ 0xFFFF:
            raise _wrong(ErrorCode.STORED_LENGTH_MISMATCH)
        context.left = sizes & 0xFFFF
        context.state = _State.STORED
    else:
        strict = bool(job.descriptor.flags & Flag.STRICT_LENGTHS)
        context.codes = _FIXED if kind == 1 else _dynamic(source, strict)
        context.state = _State.CODES
    context.final = bool(header & 1) or job.one_block
    first, last = begin >> 3, source.position + 7 >> 3
    context.header = source.data[first:last]
    context.header_at, context.header_begin, context.header_end = first, begin & 7, source.position - 8 * first


def _dynamic(source: _Source, strict: bool) -> tuple[_Code, _Code]:
    """The two codes of a dynamic block (RFC 1951 3.2.7), the source being after the block type."""
    counts = source.bits(14)
    literals, distances = 257 + (counts & 31), 1 + (counts >> 5 & 31)
    if literals > 286:
        raise _wrong(ErrorCode.TOO_MANY_LITERAL_CODES)
    if distances > 30:
        raise _wrong(ErrorCode.TOO_MANY_DISTANCE_CODES)
    code_lengths = [0] * 19
    for index in CODE_LENGTH_ORDER[:4 + (counts >> 10)]:
        code_lengths[index] = source.bits(3)
    code = _Code(code_lengths)
    if code.empty:
        raise _wrong(ErrorCode.UNDEFINED_CODE_LENGTH_CODE)
    if code.oversubscribed:
        raise _wrong(ErrorCode.CODE_LENGTHS_OVERSUBSCRIBED)
    if code.incomplete:
        raise _wrong(ErrorCode.CODE_LENGTHS_INCOMPLETE)
    lengths = _code_lengths(source, code, literals, literals + distances, strict)
    return _checked_codes(lengths[:literals], lengths[literals:])


def _code_lengths(source: _Source, code: _Code, literals: int, total: int, strict: bool) -> list[int]:
    lengths: list[int] = []
    while len(lengths) < total:
        symbol = code.take(source, ErrorCode.UNDEFINED_CODE_LENGTH_CODE)
        if symbol < 16:
            lengths.append(symbol)
            continue
        extra, least = {16: (2, 3), 17: (3, 3), 18: (7, 11)}[symbol]
        count = least + source.bits(extra)
        if symbol == 16 and not lengths:
            raise _wrong(ErrorCode.FIRST_LITERAL_LENGTH_REPEATS)
        if strict and symbol == 16 and len(lengths) == literals:
            raise _wrong(ErrorCode.FIRST_DISTANCE_LENGTH_REPEATS)
        if strict and len(lengths) < literals < len(lengths) + count:
            raise _wrong(ErrorCode.LITERAL_LENGTHS_OVERRUN)
        if len(lengths) + count > total:
            raise _wrong(ErrorCode.DISTANCE_LENGTHS_OVERRUN)
        lengths += [lengths[-1] if symbol == 16 else 0] * count
    return lengths


def _checked_codes(literal_lengths: list[int], distance_lengths: list[int]) -> tuple[_Code, _Code]:
    """Both codes. Incomplete ones pass only with a single code of one bit, or for distances with none."""
    if not any(literal_lengths):
        raise _wrong(ErrorCode.NO_LITERAL_CODES)
    if not literal_lengths[256]:
        raise _wrong(ErrorCode.NO_END_OF_BLOCK_CODE)
    literals = _Code(literal_lengths)
    if literals.oversubscribed:
        raise _wrong(ErrorCode.LITERALS_OVERSUBSCRIBED)
    if literals.incomplete and literals.longest != 1:
        raise _wrong(ErrorCode.LITERALS_INCOMPLETE)
    distances = _Code(distance_lengths)
    if distances.oversubscribed:
        raise _wrong(ErrorCode.DISTANCES_OVERSUBSCRIBED)
    if distances.incomplete and distances.longest > 1:
        raise _wrong(ErrorCode.DISTANCES_INCOMPLETE)
    return literals, distances


def _stored(context: _Context, job: _Job) -> None:
    """Deliver what is there and fits of a stored block."""
    if context.left == 0:
        _end_block(context, job)
        return
    source = job.source
    there = (source.end - source.position) >> 3
    if there <= 0:
        raise _Dry
    room = job.limit - len(job.out)
    if room == 0:
        raise _Stop(Status.OUTPUT_OVERFLOW)
    data = source.take(min(context.left, there, room))
    job.out += data
    context.left -= len(data)


def _end_block(context: _Context, job: _Job) -> None:
    if not context.final:
        context.state = _State.BLOCK
        return
    job.source.align()
    context.state = _State.TRAILER


def _trailer(context: _Context, job: _Job) -> None:
    _account(context, job)
    source = job.source
    if job.descriptor.format == Format.ZLIB and int.from_bytes(source.take(4), "big") != context.adler32:
        raise _wrong(ErrorCode.ADLER_MISMATCH)
    if job.descriptor.format == Format.GZIP:
        if int.from_bytes(source.take(4), "little") != context.crc32:
            raise _wrong(ErrorCode.CRC_MISMATCH)
        if int.from_bytes(source.take(4), "little") != context.total & 0xFFFFFFFF:
            raise _wrong(ErrorCode.LENGTH_MISMATCH)
    context.members += 1
    multi = job.descriptor.format == Format.GZIP and job.descriptor.flags & Flag.MULTI
    context.state = _State.GAP if multi else _State.DONE


def _gap(context: _Context, job: _Job) -> None:
    """Find out whether another gzip member follows: zeros, then its magic."""
    source = job.source
    start = source.position >> 3
    rest = source.data[start:].lstrip(b"\0")
    last = job.descriptor.flags & Flag.LAST
    if len(rest) < 2 and rest in (b"", b"\x1f") and not last:
        raise _Dry
    if rest[:2] == b"\x1f\x8b":
        source.position = 8 * (len(source.data) - len(rest))
        context.state = _State.HEADER
    else:
        context.state = _State.DONE


def _refusal(descriptor: Descriptor, status: Status) -> Completion:
    return Completion(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, descriptor.tag, status, 0, 0)


_REFUSALS = (Status.BAD_OPCODE, Status.BAD_FLAGS, Status.RESERVED_NONZERO, Status.BAD_SIZE, Status.READ_ERROR,
             Status.WRITE_ERROR)


def difference(expected: Completion, actual: Completion) -> str:
    """What tells ``actual`` (gateware) from ``expected`` (this model), or an empty text if nothing that matters.

    Times never matter, ``dictionary`` only with NEED_DICTIONARY, and of a refused job or a bus error only tag
    and status. The gateware groups up to :data:`ENTRY_BITS` bits of symbols in one step, so after an overflow
    or an error its position may be up to that much before the model's; elsewhere it must be equal.
    """
    names = ["tag", "status"]
    if expected.status not in _REFUSALS:
        names += ["error", "flags", "produced", "crc32", "adler32", "total", "members"]
    if expected.status == Status.NEED_DICTIONARY:
        names.append("dictionary")
    for name in names:
        want, got = getattr(expected, name), getattr(actual, name)
        if want != got:
            return f"{name}: expected {want:#x}, got {got:#x}"
    if expected.status in _REFUSALS:
        return ""
    want = 8 * expected.consumed + expected.consumed_bit
    got = 8 * actual.consumed + actual.consumed_bit
    slack = ENTRY_BITS if expected.status in (Status.OUTPUT_OVERFLOW, Status.ANALYTICS_ERROR) else 0
    if not want - slack <= got <= want:
        return f"consumed: expected bit {want}" + (f" or up to {slack} before" if slack else "") + f", got {got}"
    return ""


def same(expected: Completion, actual: Completion) -> bool:
    """Whether ``actual`` (gateware) says what ``expected`` (this model) does; see :func:`difference`."""
    return not difference(expected, actual)


def inflate(source: bytes, format: int = Format.RAW, flags: int = Flag.LAST, room: int = 1 << 24,
            window: int = 32768, start_bit: int = 0) -> tuple[Completion, bytes]:
    """One job with a fresh context: its result and the bytes it wrote (at most ``room``)."""
    memory = JobMemory(source)
    completion = Engine(1, window).run(
        Descriptor(0, len(source), 0, room, 0, format=format, flags=flags, start_bit=start_bit), memory)
    return completion, memory.written


class JobMemory:
    """Memory for one job: ``source`` is read at address 0; ``written`` is what the job wrote, at whatever address."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.written = b""

    def read(self, address: int, size: int) -> bytes:
        """The ``size`` bytes from ``address`` on."""
        return self.source[address:address + size]

    def write(self, address: int, data: bytes) -> None:
        """Keep ``data``."""
        self.written = data
