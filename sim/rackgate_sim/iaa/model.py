# SPDX-License-Identifier: Apache-2.0
"""Golden model of what the IAA-style device does with a descriptor, as ``rackgate.iaa.abi`` has it.

Written for being right by inspection. It knows nothing of time, queues or registers: see
``rackgate_sim.iaa.device`` for these. Data is decoded by ``rackgate_sim.inflate.model``, with strict code lengths.

Checks
------
In this order; the first that fails gives the status. Nothing is read or written before all have passed.

1. COMPLETION_MISALIGNED: the completion address, if it is valid, is no multiple of 64. There is no record then.
2. BAD_OPCODE: unknown; within a list also DRAIN and LIST.
3. BAD_FLAGS, the bits in question in the low word of ``invalid_flags``: a general flag that the operation does not have
   (all have BLOCK_ON_FAULT, COMPLETION_ADDRESS_VALID, REQUEST_COMPLETION, REQUEST_INTERRUPT and CACHE_CONTROL,
   DECOMPRESS also READ_SOURCE2_AECS, WRITE_SOURCE2, AECS_TOGGLE and CRC32C); a WriteSource2 of 3; AECS_TOGGLE without
   WRITE_SOURCE2; REQUEST_COMPLETION without COMPLETION_ADDRESS_VALID; BLOCK_ON_FAULT if
   the queue does not allow it; CRC32C with gzip framing, whose trailer needs the one CRC there is.
4. BAD_OPERATION_FLAGS, the bits in the high word: DECOMPRESS without ENABLE; flags it does not have (BIG_ENDIAN,
   INDEXING, bit 15); framing 3; framing with IGNORE_END_BITS (those bits) or with an AECS (the FRAMING bits); with
   WRITE_SOURCE2 also SUPPRESS_OUTPUT, and STOP_ON_EOB without EOB_IS_BFINAL (STOP_ON_EOB). CRC64: others than
   INVERT and BIG_ENDIAN.
5. RESERVED_NONZERO: ``pasid_priv`` (of a queue with PASID_ENABLE only bits 30:20); ``interrupt_handle`` without
   REQUEST_INTERRUPT; and every field that the operation does not have. NOOP, DRAIN: all. DECOMPRESS: ``filter_flags``,
   ``elements``, and without an AECS ``source2`` and ``source2_size``. CRC64: ``destination``, ``destination_size``,
   ``source2``, ``source2_size``. LIST: all but the source. FILL: all but the destination and ``source2``. Operations
   without flags: ``operation_flags``.
6. BAD_INTERRUPT_HANDLE: another than 0.
7. BAD_SIZE: source (DECOMPRESS, CRC64, LIST) or destination (DECOMPRESS without SUPPRESS_OUTPUT, FILL) of 0 bytes or of
   more than ``2**max_transfer_shift``; an AECS of another size than that with the window's history or, if it is only
   read, 0x4E0; a LIST that is no multiple of 64.
8. AECS_MISALIGNED: an AECS at no multiple of 32, or a LIST at no multiple of 64.
9. OVERLAP: the destination of DECOMPRESS, unless it is suppressed, has bytes of the source or the AECS; with
   WRITE_SOURCE2 the source has bytes of the AECS. These are two then, one behind the other.
10. READ_ERROR: source or AECS reach beyond ``2**48``, which no address can, translated or not. Then WRITE_ERROR: the
    destination does.

DECOMPRESS
----------
A final block ends the stream, whatever the flags: IAA without STOP_ON_EOB would take what follows for a next block.
STOP_ON_EOB without EOB_IS_BFINAL ends it after the first block. Once it has ended the position is rounded up to whole
bytes.

If the source ends before the stream does: without CHECK_FOR_EOB that is a success. With CHECK_FOR_EOB it is the error
HEADER_TRUNCATED in a block header (all of a dynamic one, and LEN and NLEN), END_OF_BLOCK_MISSING in a block; but
without EOB_IS_BFINAL it is a success at a block header of which less than 8 bits are there. ``completed``,
``unused_bits`` and the output say what was done.

With framing, the end of the stream is that of the last block and its trailer, STOP_ON_EOB or not. A gzip file has
only its first member taken with STOP_ON_EOB, else all that follow each other. ``crc`` is that of the last member's
output, ``xor_checksum`` that of all of the output.

SUPPRESS_OUTPUT: the destination is not looked at; ``output_size`` counts what would have been written. FLUSH has
no effect, as all output is whole bytes.

AECS: its accumulator is decoded first. It has to hold whole blocks, then the header of a final compressed block, and
nothing else; another is an ANALYTICS_ERROR, with the error of the header, or BAD_AECS. An empty accumulator is none.
From one that the device has written the stream goes on where it was left.

WRITE_SOURCE2: behind the work the state goes to the AECS that is not read (the second, with AECS_TOGGLE the first of
the two), ALWAYS after SUCCESS, OUTPUT_OVERFLOW and a PAGE_FAULT at the source, ON_OVERFLOW after OUTPUT_OVERFLOW. Then
``completed`` says where the next source begins, which may have bits in its first byte that the AECS knows to be done
with, and ``unused_bits`` is zero; of what would go beyond the destination, nothing is put out of the symbol, or in the
gateware of the step of several symbols, that does not fit. So with a destination of 260 bytes something gets done. If
the AECS cannot be written, that is the PAGE_FAULT or WRITE_ERROR of the record, which tells nothing else.

Faults
------
Pages are asked for as they are needed, never ahead: the source's in order until the stream has ended, the
destination's as bytes come for them, the completion record's last. PAGE_FAULT tells the page's address, and what
was done before it: for a page of the destination, how many bytes were written before it; for one of the source, what
that gives up to there. READ_ERROR (anywhere in the source, whether the stream goes so far or not) and WRITE_ERROR tell
nothing but an address.

LIST
----
The descriptors are carried out as if each had been submitted, with completion records of their own; in what order they
begin and end is open, so none may need what another writes. Its record comes when all of theirs have: SUCCESS,
``completed`` the number of descriptors, ``error`` 1 if one of them had another status than SUCCESS. After a fault
``completed`` are those in the pages before.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rackgate.iaa.abi import (
    AECS_ALIGNMENT,
    COMPLETION_SIZE,
    DESCRIPTOR_SIZE,
    PAGE_SIZE,
    WRITE_FAULT,
    Completion,
    Crc64Flag,
    DecompressFlag,
    Descriptor,
    ErrorCode,
    Flag,
    Framing,
    Opcode,
    Status,
    WriteSource2,
)
from rackgate.iaa.aecs import (
    AECS_SIZE,
    FORMAT_OFFSET,
    HISTORY_OFFSET,
    SAVED_FORMAT,
    Aecs,
    ParserState,
    SavedState,
    saved_size,
)
from rackgate.inflate import abi as inflate
from rackgate_sim.iaa.crc64 import crc64
from rackgate_sim.inflate.model import ENTRY_BITS, BusError, Engine, JobMemory, Memory

__all__ = [
    "ADDRESS_BITS", "LIST_MEMBER_FAILED", "STEP_BYTES", "Fault", "Outcome", "Rules", "Translate", "check", "crc32c",
    "difference", "identity", "is_record_due", "is_saved", "perform", "run", "xor16",
]

#: Addresses of the memory have so many bits.
ADDRESS_BITS = 48
#: Value of ``error`` in the record of a LIST of which a descriptor failed.
LIST_MEMBER_FAILED = 1
#: Where a page is: ``translate(address, write)`` gives the memory's address of the page at ``address``, a multiple of
#: 4096, or ``None`` if it is not there or, with ``write``, not to be written.
Translate = Callable[[int, bool], int | None]

_COMMON = (Flag.BLOCK_ON_FAULT | Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION | Flag.REQUEST_INTERRUPT
           | Flag.CACHE_CONTROL)
_DECOMPRESS_FLAGS = (
    DecompressFlag.ENABLE | DecompressFlag.FLUSH | DecompressFlag.STOP_ON_EOB | DecompressFlag.CHECK_FOR_EOB
    | DecompressFlag.EOB_IS_BFINAL | DecompressFlag.IGNORE_END_BITS | DecompressFlag.SUPPRESS_OUTPUT
    | DecompressFlag.FRAMING)
_FRAMING_SHIFT, _IGNORE_SHIFT = 13, 6
_FORMATS = {Framing.RAW: inflate.Format.RAW, Framing.ZLIB: inflate.Format.ZLIB, Framing.GZIP: inflate.Format.GZIP}
_NO_FIELDS = ("source", "source_size", "destination", "destination_size", "source2", "source2_size", "filter_flags",
              "elements", "operation_flags")
_RESERVED = {
    Opcode.NOOP: _NO_FIELDS,
    Opcode.DRAIN: _NO_FIELDS,
    Opcode.DECOMPRESS: ("filter_flags", "elements"),
    Opcode.CRC64: ("destination", "destination_size", "source2", "source2_size"),
    Opcode.LIST: _NO_FIELDS[2:],
    Opcode.FILL: ("source", "source_size", "source2_size", "filter_flags", "elements", "operation_flags"),
}
_RESERVED_PASID = 0x7FF00000
_HAVE_SOURCE = (Opcode.DECOMPRESS, Opcode.CRC64, Opcode.LIST)


def identity(address: int, write: bool) -> int:
    """The translation of a queue without one: every page is where its address says."""
    return address


@dataclass(frozen=True)
class Rules:
    """What besides the descriptor decides: the device's window, and the limits of the queue.

    ``has_pasid``: the queue puts its own PASID and privilege into the descriptor.
    """

    window: int = 32768
    max_transfer_shift: int = 21
    may_block: bool = True
    within_list: bool = False
    has_pasid: bool = False


@dataclass(frozen=True)
class Fault:
    """An access that failed: PAGE_FAULT, READ_ERROR or WRITE_ERROR at the page at ``address``."""

    status: Status
    address: int
    write: bool

    def record(self, **progress: int) -> Completion:
        """The completion record that tells it."""
        is_write_fault = self.status == Status.PAGE_FAULT and self.write
        return Completion(status=self.status | (WRITE_FAULT if is_write_fault else 0), fault_address=self.address,
                          **progress)


@dataclass(frozen=True)
class Outcome:
    """What a descriptor comes to: its record, what is written (address in memory, bytes), the page it lacks.

    ``members`` are a LIST's descriptors, which have not been carried out; its record does not know of their errors.
    """

    completion: Completion
    writes: tuple[tuple[int, bytes], ...] = ()
    fault: Fault | None = None
    members: tuple[Descriptor, ...] = ()


def _framing(descriptor: Descriptor) -> int:
    return (descriptor.operation_flags & DecompressFlag.FRAMING) >> _FRAMING_SHIFT


def _general_flags(descriptor: Descriptor, rules: Rules) -> int:
    """The general flags to refuse."""
    known = _COMMON
    if descriptor.opcode == Opcode.DECOMPRESS:
        known |= (Flag.READ_SOURCE2_AECS | Flag.WRITE_SOURCE2_ALWAYS | Flag.WRITE_SOURCE2_ON_OVERFLOW
                  | Flag.AECS_TOGGLE | Flag.CRC32C)
    invalid = descriptor.flags & ~int(known)
    if _write_source2(descriptor) not in tuple(WriteSource2):
        invalid |= descriptor.flags & (Flag.WRITE_SOURCE2_ALWAYS | Flag.WRITE_SOURCE2_ON_OVERFLOW)
    if not _write_source2(descriptor):
        invalid |= descriptor.flags & Flag.AECS_TOGGLE
    if not descriptor.flags & Flag.COMPLETION_ADDRESS_VALID:
        invalid |= descriptor.flags & Flag.REQUEST_COMPLETION
    if not rules.may_block:
        invalid |= descriptor.flags & Flag.BLOCK_ON_FAULT
    if descriptor.opcode == Opcode.DECOMPRESS and _framing(descriptor) == Framing.GZIP:
        invalid |= descriptor.flags & Flag.CRC32C
    return invalid


def _operation_flags(descriptor: Descriptor) -> int:
    """The operation's flags to refuse."""
    flags = descriptor.operation_flags
    if descriptor.opcode == Opcode.CRC64:
        return flags & ~int(Crc64Flag.INVERT | Crc64Flag.BIG_ENDIAN)
    if descriptor.opcode != Opcode.DECOMPRESS:
        return 0
    invalid = flags & ~int(_DECOMPRESS_FLAGS) | ~flags & int(DecompressFlag.ENABLE)
    framing = _framing(descriptor)
    if framing == 3 or framing != Framing.RAW and _has_aecs(descriptor):
        invalid |= flags & DecompressFlag.FRAMING
    if _write_source2(descriptor):
        invalid |= flags & DecompressFlag.SUPPRESS_OUTPUT
        if not flags & DecompressFlag.EOB_IS_BFINAL:
            invalid |= flags & DecompressFlag.STOP_ON_EOB
    if framing != Framing.RAW:
        invalid |= flags & DecompressFlag.IGNORE_END_BITS
    return invalid


def _has_reserved(descriptor: Descriptor, rules: Rules) -> bool:
    names = [*_RESERVED[Opcode(descriptor.opcode)]]
    if descriptor.opcode == Opcode.DECOMPRESS and not _has_aecs(descriptor):
        names += ["source2", "source2_size"]
    if not descriptor.flags & Flag.REQUEST_INTERRUPT:
        names.append("interrupt_handle")
    pasid = descriptor.pasid_priv & (_RESERVED_PASID if rules.has_pasid else 0xFFFFFFFF)
    return pasid != 0 or any(getattr(descriptor, name) for name in names)


def _has_destination(descriptor: Descriptor) -> bool:
    if descriptor.opcode == Opcode.DECOMPRESS:
        return not descriptor.operation_flags & DecompressFlag.SUPPRESS_OUTPUT
    return descriptor.opcode == Opcode.FILL


def _reads_aecs(descriptor: Descriptor) -> bool:
    return descriptor.opcode == Opcode.DECOMPRESS and bool(descriptor.flags & Flag.READ_SOURCE2_AECS)


def _write_source2(descriptor: Descriptor) -> int:
    """When the AECS is written: a WriteSource2, or 3."""
    return descriptor.flags >> 18 & 3 if descriptor.opcode == Opcode.DECOMPRESS else WriteSource2.NEVER


def _has_aecs(descriptor: Descriptor) -> bool:
    return _reads_aecs(descriptor) or bool(_write_source2(descriptor))


def _aecs_room(descriptor: Descriptor) -> int:
    """Bytes of the AECS, or of both."""
    return descriptor.source2_size * (2 if _write_source2(descriptor) else 1)


def _aecs_place(descriptor: Descriptor, write: bool) -> int:
    """Address of the AECS that is read, or of the one that is written."""
    is_second = bool(descriptor.flags & Flag.AECS_TOGGLE) != write
    return descriptor.source2 + (descriptor.source2_size if is_second else 0)


def _is_size_bad(descriptor: Descriptor, rules: Rules) -> bool:
    sizes = [descriptor.source_size] if descriptor.opcode in _HAVE_SOURCE else []
    if _has_destination(descriptor):
        sizes.append(descriptor.destination_size)
    if any(not 0 < size <= 1 << rules.max_transfer_shift for size in sizes):
        return True
    if descriptor.opcode == Opcode.LIST and descriptor.source_size % DESCRIPTOR_SIZE:
        return True
    sizes = {saved_size(rules.window)} | (set() if _write_source2(descriptor) else {AECS_SIZE})
    return _has_aecs(descriptor) and descriptor.source2_size not in sizes


def _is_misaligned(descriptor: Descriptor) -> bool:
    if descriptor.opcode == Opcode.LIST:
        return descriptor.source % DESCRIPTOR_SIZE != 0
    return _has_aecs(descriptor) and descriptor.source2 % AECS_ALIGNMENT != 0


def _overlap(one: int, size: int, other: int, other_size: int) -> bool:
    """Whether two ranges have a byte in common; addresses go round at 2**64."""
    return (other - one) % (1 << 64) < size or (one - other) % (1 << 64) < other_size


def _has_overlap(descriptor: Descriptor) -> bool:
    if descriptor.opcode != Opcode.DECOMPRESS or not _has_destination(descriptor):
        return False
    destination, source = ((descriptor.destination, descriptor.destination_size),
                           (descriptor.source, descriptor.source_size))
    aecs = descriptor.source2, _aecs_room(descriptor)
    return (_overlap(*destination, *source) or _has_aecs(descriptor) and _overlap(*destination, *aecs)
            or bool(_write_source2(descriptor)) and _overlap(*source, *aecs))


def _is_beyond(address: int, size: int) -> bool:
    return address + size > 1 << ADDRESS_BITS


def check(descriptor: Descriptor, rules: Rules | None = None) -> Completion | None:
    """The record of a descriptor that is refused, ``None`` for one that can be carried out. See the module's text."""
    rules = rules or Rules()
    if descriptor.flags & Flag.COMPLETION_ADDRESS_VALID and descriptor.completion % COMPLETION_SIZE:
        return Completion(Status.COMPLETION_MISALIGNED)
    unknown = descriptor.opcode not in tuple(Opcode)
    if unknown or rules.within_list and descriptor.opcode in (Opcode.DRAIN, Opcode.LIST):
        return Completion(Status.BAD_OPCODE)
    if invalid := _general_flags(descriptor, rules):
        return Completion(Status.BAD_FLAGS, invalid_flags=invalid)
    if invalid := _operation_flags(descriptor):
        return Completion(Status.BAD_OPERATION_FLAGS, invalid_flags=invalid << 32)
    if _has_reserved(descriptor, rules):
        return Completion(Status.RESERVED_NONZERO)
    if descriptor.interrupt_handle:
        return Completion(Status.BAD_INTERRUPT_HANDLE)
    if _is_size_bad(descriptor, rules):
        return Completion(Status.BAD_SIZE)
    if _is_misaligned(descriptor):
        return Completion(Status.AECS_MISALIGNED)
    if _has_overlap(descriptor):
        return Completion(Status.OVERLAP)
    if descriptor.opcode in _HAVE_SOURCE and _is_beyond(descriptor.source, descriptor.source_size):
        return Completion(Status.READ_ERROR)
    if _has_aecs(descriptor) and _is_beyond(descriptor.source2, _aecs_room(descriptor)):
        return Completion(Status.READ_ERROR)
    if _has_destination(descriptor) and _is_beyond(descriptor.destination, descriptor.destination_size):
        return Completion(Status.WRITE_ERROR)
    return None


class _View:
    """Memory as a job sees it."""

    def __init__(self, memory: Memory, translate: Translate) -> None:
        self._memory = memory
        self._translate = translate

    def _pages(self, address: int, size: int, write: bool) -> Iterator[tuple[int, int | None, int]]:
        """For each page: its own address, the address in memory of its part of the range or ``None``, bytes of it."""
        end = address + size
        while address < end:
            page = address & -PAGE_SIZE
            count = min(end, page + PAGE_SIZE) - address
            found = self._translate(page, write)
            yield page, None if found is None else found + address - page, count
            address += count

    def read(self, address: int, size: int) -> tuple[bytes, Fault | None]:
        """What can be read, up to a fault if there is one."""
        data = b""
        for page, place, count in self._pages(address, size, False):
            if place is None:
                return data, Fault(Status.PAGE_FAULT, page, False)
            try:
                data += self._memory.read(place, count)
            except BusError:
                return data, Fault(Status.READ_ERROR, page, False)
        return data, None

    def room(self, address: int, size: int) -> tuple[int, Fault | None]:
        """How much of a range can be written, up to a fault if there is one."""
        room = 0
        for page, place, count in self._pages(address, size, True):
            if place is None:
                return room, Fault(Status.PAGE_FAULT, page, True)
            room += count
        return room, None

    def writes(self, address: int, data: bytes) -> tuple[tuple[int, bytes], ...]:
        """``data`` in pieces with addresses in memory; its pages must be there."""
        pieces, begin = [], 0
        for _, place, count in self._pages(address, len(data), True):
            assert place is not None
            pieces.append((place, data[begin:begin + count]))
            begin += count
        return tuple(pieces)


def perform(descriptor: Descriptor, memory: Memory, translate: Translate = identity,
            rules: Rules | None = None) -> Outcome:
    """Carry out a descriptor but for its writes, which are left to the caller.

    Accesses that the memory refuses when it is written are the caller's to answer with WRITE_ERROR.
    """
    rules = rules or Rules()
    refusal = check(descriptor, rules)
    if refusal is not None:
        return Outcome(refusal)
    view = _View(memory, translate)
    if descriptor.opcode == Opcode.DECOMPRESS:
        return _decompress(descriptor, view, rules)
    if descriptor.opcode == Opcode.CRC64:
        return _crc64(descriptor, view)
    if descriptor.opcode == Opcode.FILL:
        return _fill(descriptor, view)
    if descriptor.opcode == Opcode.LIST:
        return _list(descriptor, view)
    return Outcome(Completion(Status.SUCCESS))


def _crc64(descriptor: Descriptor, view: _View) -> Outcome:
    data, fault = view.read(descriptor.source, descriptor.source_size)
    if fault is not None:
        return _failed(fault, completed=len(data))
    result = crc64(data, descriptor.polynomial, invert=bool(descriptor.operation_flags & Crc64Flag.INVERT),
                   big_endian=bool(descriptor.operation_flags & Crc64Flag.BIG_ENDIAN))
    return Outcome(Completion(Status.SUCCESS, completed=len(data), maximum=result & 0xFFFFFFFF, sum=result >> 32))


def _fill(descriptor: Descriptor, view: _View) -> Outcome:
    size = descriptor.destination_size
    room, fault = view.room(descriptor.destination, size)
    pattern = descriptor.source2.to_bytes(8, "little") * (size // 8 + 1)
    writes = view.writes(descriptor.destination, pattern[:room])
    if fault is not None:
        return _failed(fault, writes, output_size=room)
    return Outcome(Completion(Status.SUCCESS, output_size=size), writes)


def _list(descriptor: Descriptor, view: _View) -> Outcome:
    data, fault = view.read(descriptor.source, descriptor.source_size)
    members = tuple(Descriptor.unpack(data[at:at + DESCRIPTOR_SIZE]) for at in range(0, len(data), DESCRIPTOR_SIZE))
    if fault is not None:
        return Outcome(fault.record(completed=len(members)), (), fault if fault.status == Status.PAGE_FAULT else None,
                       members)
    return Outcome(Completion(Status.SUCCESS, completed=len(members)), members=members)


def _failed(fault: Fault, writes: tuple[tuple[int, bytes], ...] = (), **progress: int) -> Outcome:
    """An outcome that a fault brought about. Only page faults tell progress."""
    if fault.status == Status.PAGE_FAULT:
        return Outcome(fault.record(**progress), writes, fault)
    return Outcome(fault.record())


def _decompress(descriptor: Descriptor, view: _View, rules: Rules) -> Outcome:
    engine, start = Engine(1, rules.window), _Start(Aecs())
    if _reads_aecs(descriptor):
        start = _begin(descriptor, view, engine, rules)
        if isinstance(start, Outcome):
            return start
    source, source_fault = view.read(descriptor.source, descriptor.source_size)
    if source_fault is not None and source_fault.status != Status.PAGE_FAULT:
        return _failed(source_fault)
    room, room_fault = inflate.MAX_DESTINATION_SIZE, None
    if _has_destination(descriptor):
        room, room_fault = view.room(descriptor.destination, descriptor.destination_size)
    result, output = _decode(engine, descriptor, source, room, start, source_fault is not None)
    is_overflow = result.status == inflate.Status.OUTPUT_OVERFLOW
    if _write_source2(descriptor) and is_overflow and room_fault is None:
        output = output[:len(output) - engine.first.skip]
    writes = view.writes(descriptor.destination, output) if _has_destination(descriptor) else ()
    if is_overflow and room_fault is not None:
        return _failed(room_fault, writes, output_size=len(output))
    progress = _progress(descriptor, start, result, output)
    if result.status == inflate.Status.NEED_INPUT and source_fault is not None:
        outcome = _failed(source_fault, writes, **progress)
    else:
        outcome = Outcome(Completion(*_verdict(descriptor, result), **progress), writes)
    if not is_saved(descriptor, outcome.completion.status):
        return outcome
    completion = replace(outcome.completion, completed=result.consumed, unused_bits=0)
    saved = _saved(engine, start, result, completion, (start.history + output)[-rules.window:])
    for offset, content in saved.parts(rules.window):
        place = _aecs_place(descriptor, write=True) + offset
        _, fault = view.room(place, len(content))
        if fault is not None:
            return Outcome(fault.record(), writes, fault)
        writes += view.writes(place, content)
    return replace(outcome, completion=completion, writes=writes)


@dataclass(frozen=True)
class _Start:
    """Where a job begins: the AECS it was given, with ``resume`` that the engine has something to go on with."""

    aecs: Aecs
    history: bytes = b""
    start_bit: int = 0
    resume: bool = False


def _begin(descriptor: Descriptor, view: _View, engine: Engine, rules: Rules) -> _Start | Outcome:
    """Prepare the engine as the AECS says."""
    place, is_full = _aecs_place(descriptor, write=False), descriptor.source2_size != AECS_SIZE
    raw, fault = view.read(place, HISTORY_OFFSET if is_full else AECS_SIZE)
    if fault is not None:
        return _failed(fault)
    bad = Outcome(Completion(Status.ANALYTICS_ERROR, ErrorCode.BAD_AECS))
    try:
        if raw[FORMAT_OFFSET] == 0:
            aecs = Aecs.unpack(raw)
            error = _tables(engine, aecs.header) if aecs.header else ErrorCode.NONE
            return Outcome(Completion(Status.ANALYTICS_ERROR, error)) if error else _Start(aecs)
        if raw[FORMAT_OFFSET] != SAVED_FORMAT:
            return bad
        saved = SavedState.unpack(raw, rules.window)
    except ValueError:
        return bad
    if descriptor.source_size == 1 and saved.start_bit + _ignored_bits(descriptor.operation_flags) > 8:
        return bad
    history, fault = view.read(place + HISTORY_OFFSET, len(saved.history))
    if fault is not None:
        return _failed(fault)
    flags = inflate.Flag.STRICT_LENGTHS
    if history:
        engine.run(inflate.Descriptor(0, len(history), 0, 0, 0, inflate.Opcode.LOAD, flags=0), JobMemory(history))
        flags |= inflate.Flag.RESUME
    if saved.header:
        result = engine.run(
            inflate.Descriptor(0, len(saved.header), 0, 0, 0, flags=flags, start_bit=saved.first_bit),
            JobMemory(saved.header), ignored_bits=-saved.header_bits % 8)
        if result.status == inflate.Status.ANALYTICS_ERROR:
            return Outcome(Completion(Status.ANALYTICS_ERROR, ErrorCode(result.error)))
        position = 8 * result.consumed + result.consumed_bit
        if (result.status != inflate.Status.NEED_INPUT or not result.flags & inflate.ResultFlag.BLOCK
                or position != saved.header_bits):
            return bad
    return _Start(Aecs(b"", saved.crc, saved.xor_checksum), history, saved.start_bit,
                  bool(history or saved.header))


def is_saved(descriptor: Descriptor, status: int) -> bool:
    """Whether the state is written to an AECS."""
    always = status in (Status.SUCCESS, Status.OUTPUT_OVERFLOW, Status.PAGE_FAULT)
    return {WriteSource2.NEVER: False, WriteSource2.ALWAYS: always,
            WriteSource2.ON_OVERFLOW: status == Status.OUTPUT_OVERFLOW}[WriteSource2(_write_source2(descriptor))]


def _saved(engine: Engine, start: _Start, result: inflate.Completion, completion: Completion,
           history: bytes) -> SavedState:
    """What the job leaves."""
    context = engine.first
    state, header, first, end = ParserState.HEADER, b"", 0, 0
    if result.flags & inflate.ResultFlag.END:
        state = ParserState.ENDED
    elif result.flags & inflate.ResultFlag.BLOCK and context.state.name == "STORED":
        state = ParserState.FINAL_STORED if context.final else ParserState.STORED
        header = struct.pack("<BHH3x", context.final, context.left, context.left ^ 0xFFFF)  # a word is written
        end = 8 * 5
    elif result.flags & inflate.ResultFlag.BLOCK:
        state = ParserState.FINAL_LITERAL_LENGTH if context.final else ParserState.LITERAL_LENGTH
        header, first, end = context.header, context.header_begin, context.header_end
        if not header:
            header, end = start.aecs.header, 8 * len(start.aecs.header)
    return SavedState(state, history, header, first, end, result.consumed_bit, completion.crc, completion.xor_checksum)


def _tables(engine: Engine, header: bytes) -> ErrorCode:
    """Let the engine keep the codes of an AECS. The error, if there is one."""
    flags = inflate.Flag.LAST | inflate.Flag.STRICT_LENGTHS
    result = engine.run(inflate.Descriptor(0, len(header), 0, 0, 0, inflate.Opcode.TABLES, flags=flags),
                        JobMemory(header))
    if result.status != inflate.Status.SUCCESS:
        # Output in the accumulator: there is no place for it.
        return ErrorCode(result.error) if result.error else ErrorCode.BAD_AECS
    is_whole = (result.consumed, result.consumed_bit) == (len(header), 0)
    return ErrorCode.NONE if is_whole else ErrorCode.BAD_AECS


def _decode(engine: Engine, descriptor: Descriptor, source: bytes, room: int, start: _Start,
            is_cut: bool) -> tuple[inflate.Completion, bytes]:
    """Decode ``source``, of which with ``is_cut`` there is more behind a page that is not there."""
    operation = DecompressFlag(descriptor.operation_flags)
    framing = Framing(_framing(descriptor))
    stops, checks, wants_last = (bool(operation & flag) for flag in (
        DecompressFlag.STOP_ON_EOB, DecompressFlag.CHECK_FOR_EOB, DecompressFlag.EOB_IS_BFINAL))
    flags = inflate.Flag.STRICT_LENGTHS
    if checks and not is_cut and (wants_last or framing != Framing.RAW):
        flags |= inflate.Flag.LAST
    if start.aecs.header:
        flags |= inflate.Flag.CANNED
    if start.resume:
        flags |= inflate.Flag.RESUME
    if framing == Framing.GZIP and not stops:
        flags |= inflate.Flag.MULTI
    memory = JobMemory(source)
    result = engine.run(
        inflate.Descriptor(0, len(source), 0, room, 0, format=_FORMATS[framing], flags=flags,
                           start_bit=start.start_bit), memory,
        ignored_bits=0 if is_cut else _ignored_bits(operation),
        one_block=framing == Framing.RAW and stops and not wants_last)
    return result, memory.written


def _ignored_bits(operation: int) -> int:
    return (operation & DecompressFlag.IGNORE_END_BITS) >> _IGNORE_SHIFT


def _verdict(descriptor: Descriptor, result: inflate.Completion) -> tuple[Status, ErrorCode]:
    """Status and error of a job whose pages were all there."""
    if result.status != inflate.Status.NEED_INPUT:
        return Status(result.status), ErrorCode(result.error)
    operation = descriptor.operation_flags
    # With LAST the engine has found the error itself; what is left is a check for any end of a block.
    if not operation & DecompressFlag.CHECK_FOR_EOB:
        return Status.SUCCESS, ErrorCode.NONE
    if result.flags & inflate.ResultFlag.BLOCK:
        return Status.ANALYTICS_ERROR, ErrorCode.END_OF_BLOCK_MISSING
    left = 8 * descriptor.source_size - _ignored_bits(operation) - (8 * result.consumed + result.consumed_bit)
    if left < 8:
        return Status.SUCCESS, ErrorCode.NONE
    return Status.ANALYTICS_ERROR, ErrorCode.HEADER_TRUNCATED


def _progress(descriptor: Descriptor, start: _Start, result: inflate.Completion, output: bytes) -> dict[str, int]:
    """The fields of a record that tell what was done."""
    aecs = start.aecs
    framing = _framing(descriptor)
    completed = result.consumed + (result.consumed_bit > 0)
    if framing == Framing.GZIP:
        crc = result.crc32
    else:
        crc = crc32c(output, aecs.crc) if descriptor.flags & Flag.CRC32C else zlib.crc32(output, aecs.crc)
    return {
        "completed": completed,
        "unused_bits": 8 * completed - 8 * result.consumed - result.consumed_bit,
        "output_size": len(output),
        "xor_checksum": xor16(output, aecs.xor_checksum),
        "crc": crc,
        "members": result.members & 0xFFFF if framing == Framing.GZIP else 0,
        "adler32": result.adler32 if framing == Framing.ZLIB else 0,
    }


def _make_crc32c() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C = _make_crc32c()


def crc32c(data: bytes, start: int = 0) -> int:
    """CRC-32C (Castagnoli) of ``data`` after data whose CRC is ``start``."""
    value = start ^ 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC32C[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def xor16(data: bytes, start: int = 0) -> int:
    """Exclusive-or of the halfwords of ``data``, low byte first, a last byte alone as the low one, and ``start``."""
    low = high = 0
    for byte in data[::2]:
        low ^= byte
    for byte in data[1::2]:
        high ^= byte
    return start ^ (low | high << 8)


def is_record_due(descriptor: Descriptor, completion: Completion) -> bool:
    """Whether a record is written: with an address to write it to, and always unless a success was not asked about."""
    if not descriptor.flags & Flag.COMPLETION_ADDRESS_VALID or completion.status == Status.COMPLETION_MISALIGNED:
        return False
    return bool(descriptor.flags & Flag.REQUEST_COMPLETION) or completion.status != Status.SUCCESS


def run(descriptor: Descriptor, memory: Memory, translate: Translate = identity,
        rules: Rules | None = None) -> Completion:
    """Carry out a descriptor with all its writes, a LIST's members in order before the list's own record.

    Returns the record, written or not; COMPLETION_FAULT if it was to be written and could not be.
    """
    rules = rules or Rules()
    outcome = perform(descriptor, memory, translate, rules)
    completion = outcome.completion
    member_rules = replace(rules, within_list=True)
    records = [run(member, memory, translate, member_rules) for member in outcome.members]
    if completion.status == Status.SUCCESS and any(record.status != Status.SUCCESS for record in records):
        completion = Completion(completion.status, LIST_MEMBER_FAILED, completed=completion.completed)
    try:
        for address, data in outcome.writes:
            memory.write(address, data)
    except BusError:
        completion = Fault(Status.WRITE_ERROR, descriptor.destination & -PAGE_SIZE, True).record()
    if is_record_due(descriptor, completion):
        is_beyond = _is_beyond(descriptor.completion, COMPLETION_SIZE)
        place = None if is_beyond else translate(descriptor.completion & -PAGE_SIZE, True)
        try:
            if place is None:
                return Completion(Status.COMPLETION_FAULT)
            memory.write(place + descriptor.completion % PAGE_SIZE, completion.pack())
        except BusError:
            return Completion(Status.COMPLETION_FAULT)
    return completion


def _difference_of_faults(expected: Completion, actual: Completion) -> str:
    """The same for page faults on reads."""
    if expected.fault_address != actual.fault_address:
        return f"fault_address: expected {expected.fault_address:#x}, got {actual.fault_address:#x}"
    for name in ("completed", "output_size"):
        want, got = getattr(expected, name), getattr(actual, name)
        if got > want:
            return f"{name}: expected {want:#x} or less, got {got:#x}"
    return ""


#: Output of a step of the gateware at most, less one: a match and two literals.
STEP_BYTES = 259
_NO_PROGRESS = (Status.READ_ERROR, Status.WRITE_ERROR)


def _difference_of_saved(expected: Completion, actual: Completion) -> str:
    """The same for records of jobs that wrote their state: how many symbols a step of the gateware has is open."""
    if expected.status == Status.OUTPUT_OVERFLOW:
        size, most = actual.output_size, expected.output_size
        if not most - STEP_BYTES <= size <= most:
            return f"output_size: expected {most:#x} or up to {STEP_BYTES} less, got {size:#x}"
        if actual.completed > expected.completed or actual.unused_bits:
            return f"completed: expected {expected.completed} at most, got {actual.completed}"
        return ""
    for name in ("error", "output_size", "completed", "unused_bits", "xor_checksum", "crc"):
        if getattr(expected, name) != getattr(actual, name):
            return f"{name}: expected {getattr(expected, name):#x}, got {getattr(actual, name):#x}"
    return ""


def difference(expected: Completion, actual: Completion, *, saved: bool = False) -> str:
    """What tells ``actual`` (gateware) from ``expected`` (this model), or an empty text if nothing that matters.

    ``cycles`` never matters; after a bus error nothing but the status does. After an overflow or an error the position
    may be before the model's, by as much as ``rackgate_sim.inflate.model.ENTRY_BITS``: the gateware takes several
    symbols in a step. After a page fault on a read it may be anywhere before, and the output with it.
    With ``saved`` the state was written: of an output that overflows a step may be missing.
    """
    if expected.status != actual.status:
        return f"status: expected {expected.status:#x}, got {actual.status:#x}"
    if expected.status in _NO_PROGRESS:
        return ""
    if expected.status == Status.PAGE_FAULT:
        return _difference_of_faults(expected, actual)
    if saved and expected.status in (Status.SUCCESS, Status.OUTPUT_OVERFLOW):
        return _difference_of_saved(expected, actual)
    names = ["error", "invalid_flags", "output_size", "output_bits", "xor_checksum", "crc", "minimum", "maximum", "sum",
             "members", "adler32"]
    if expected.status & 0x3F == Status.PAGE_FAULT:
        names.append("fault_address")
    for name in names:
        want, got = getattr(expected, name), getattr(actual, name)
        if want != got:
            return f"{name}: expected {want:#x}, got {got:#x}"
    want, got = (8 * record.completed - record.unused_bits for record in (expected, actual))
    slack = ENTRY_BITS if expected.status in (Status.OUTPUT_OVERFLOW, Status.ANALYTICS_ERROR) else 0
    if not want - slack <= got <= want:
        return f"completed: expected bit {want}" + (f" or up to {slack} before" if slack else "") + f", got {got}"
    return ""
