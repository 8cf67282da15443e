# SPDX-License-Identifier: Apache-2.0
"""The golden model of the IAA-style device's operations."""

import random
import zlib
from dataclasses import replace

import numpy as np
import pytest

from rackgate.iaa.abi import (
    PAGE_SIZE,
    WRITE_FAULT,
    Completion,
    Crc64Flag,
    DecompressFlag,
    Descriptor,
    Flag,
    Framing,
    Opcode,
    Status,
)
from rackgate.iaa.aecs import AECS_SIZE, Aecs, saved_size
from rackgate.inflate.abi import ErrorCode
from rackgate_sim.iaa import model
from rackgate_sim.iaa.crc64 import crc64
from rackgate_sim.iaa.model import Rules, check, crc32c, difference, perform, run, xor16
from rackgate_sim.inflate.assembler import Assembler, gzip_frame, lengths_for, zlib_frame
from rackgate_sim.inflate.model import ENTRY_BITS, FlatMemory
from rackgate_sim.inflate.streams import NEGATIVES

BASE, SIZE = 0x10000, 1 << 20
RECORD, AECS, ITEMS, SOURCE, TARGET = BASE, BASE + 0x1000, BASE + 0x2000, BASE + 0x10000, BASE + 0x80000
TEXT = b"the quick brown fox jumps over the lazy dog " * 200
PLAIN = DecompressFlag.ENABLE | DecompressFlag.STOP_ON_EOB | DecompressFlag.CHECK_FOR_EOB | DecompressFlag.EOB_IS_BFINAL
ASKED = Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION
WITH_AECS = ASKED | Flag.READ_SOURCE2_AECS
#: Two AECS that may be written, and flags for it.
STATES = SOURCE + 0x20000
WRITES = (Flag.WRITE_SOURCE2_ALWAYS, Flag.WRITE_SOURCE2_ALWAYS | Flag.AECS_TOGGLE, Flag.WRITE_SOURCE2_ON_OVERFLOW)


def deflate(data, level=9, **options):
    compressor = zlib.compressobj(level, wbits=-15, **options)
    return compressor.compress(data) + compressor.flush()


class Bench:
    """Memory of which pages can be missing."""

    def __init__(self):
        self.memory = FlatMemory(np.zeros(SIZE, np.uint8), BASE)
        self.missing = set()
        self.read_only = set()

    def translate(self, page, write):
        return None if page in self.missing or write and page in self.read_only else page

    def run(self, descriptor, **rules):
        """The record in memory, after a check that nothing else was written than it and the destination."""
        before = self.memory.array.copy()
        self.memory.write(RECORD, bytes(64))
        completion = run(descriptor, self.memory, self.translate, Rules(**rules))
        record = Completion.unpack(self.memory.read(RECORD, 64))
        if completion.status not in (Status.COMPLETION_FAULT, Status.COMPLETION_MISALIGNED):
            assert record == completion
        after = self.memory.array.copy()
        for begin, size in ((RECORD, 64), (TARGET, completion.output_size)):
            before[begin - BASE:begin - BASE + size] = after[begin - BASE:begin - BASE + size] = 0
        assert np.array_equal(before, after)
        return completion

    def decompress(self, data, operation=PLAIN, room=0x20000, flags=ASKED, **rules):
        self.memory.write(SOURCE, data)
        aecs = {"source2": AECS, "source2_size": AECS_SIZE} if flags & Flag.READ_SOURCE2_AECS else {}
        completion = self.run(Descriptor(Opcode.DECOMPRESS, flags, RECORD, SOURCE, TARGET, len(data), 0, operation,
                                         destination_size=room, **aecs), **rules)
        return completion, self.memory.read(TARGET, min(completion.output_size, SIZE - TARGET + BASE))


@pytest.fixture
def bench():
    return Bench()


def job(**fields):
    """A descriptor that decompresses and can be carried out, as far as ``fields`` let it."""
    return replace(Descriptor(Opcode.DECOMPRESS, ASKED, RECORD, SOURCE, TARGET, 100, 0, PLAIN, destination_size=4096),
                   **fields)


OTHERS = {
    Opcode.NOOP: Descriptor(Opcode.NOOP, ASKED, RECORD),
    Opcode.DRAIN: Descriptor(Opcode.DRAIN, ASKED, RECORD),
    Opcode.DECOMPRESS: job(),
    Opcode.CRC64: Descriptor(Opcode.CRC64, ASKED, RECORD, SOURCE, 0, 100, filter_flags=1),
    Opcode.LIST: Descriptor(Opcode.LIST, ASKED, RECORD, SOURCE, 0, 128),
    Opcode.FILL: Descriptor(Opcode.FILL, ASKED, RECORD, 0, TARGET, source2=0x1122334455667788, destination_size=100),
}


# Checks


@pytest.mark.parametrize("opcode", Opcode)
def test_good_descriptors_pass(opcode):
    assert check(OTHERS[opcode]) is None


def test_every_unknown_opcode():
    for opcode in set(range(256)) - set(Opcode):
        assert check(Descriptor(opcode, ASKED, RECORD)) == Completion(Status.BAD_OPCODE)


@pytest.mark.parametrize("opcode", Opcode)
@pytest.mark.parametrize("bit", range(24))
def test_every_general_flag(opcode, bit):
    flags = ASKED ^ 1 << bit
    sizes = {16: AECS_SIZE, 18: saved_size(32768), 19: saved_size(32768)} if opcode == Opcode.DECOMPRESS else {}
    fields = {"source2": AECS, "source2_size": sizes[bit]} if bit in sizes else {}
    # Behind what is read and written otherwise there is room for two AECS.
    fields |= {"source2": BASE + SIZE - 2 * sizes[bit]} if bit in (18, 19) and bit in sizes else {}
    refusal = check(replace(OTHERS[opcode], flags=flags, **fields))
    allowed = {1, 3, 4, 8} | ({16, 18, 19, 21} if opcode == Opcode.DECOMPRESS else set())
    if bit == 2:  # a record is asked for, and there is no address for it
        assert refusal == Completion(Status.BAD_FLAGS, invalid_flags=Flag.REQUEST_COMPLETION)
    elif bit in allowed:
        assert refusal is None
    else:
        assert refusal == Completion(Status.BAD_FLAGS, invalid_flags=1 << bit)


def test_flags_that_depend():
    assert check(job(flags=ASKED | Flag.BLOCK_ON_FAULT), Rules(may_block=False)) == Completion(
        Status.BAD_FLAGS, invalid_flags=Flag.BLOCK_ON_FAULT)
    gzip = PLAIN | Framing.GZIP << 13
    assert check(job(flags=ASKED | Flag.CRC32C, operation_flags=gzip)) == Completion(
        Status.BAD_FLAGS, invalid_flags=Flag.CRC32C)
    assert check(job(flags=ASKED | Flag.CRC32C, operation_flags=PLAIN | Framing.ZLIB << 13)) is None


@pytest.mark.parametrize("bit", range(16))
def test_every_decompression_flag(bit):
    refusal = check(job(operation_flags=PLAIN ^ 1 << bit))
    if bit in (0, 5, 10, 11, 12, 15):
        assert refusal == Completion(Status.BAD_OPERATION_FLAGS, invalid_flags=1 << 32 + bit)
    else:
        assert refusal is None


def test_framing_excludes():
    for framing in (Framing.ZLIB, Framing.GZIP):
        operation = PLAIN | framing << 13
        assert check(job(operation_flags=operation | 5 << 6)) == Completion(
            Status.BAD_OPERATION_FLAGS, invalid_flags=5 << 6 + 32)
        refusal = check(job(operation_flags=operation, flags=WITH_AECS, source2=AECS, source2_size=AECS_SIZE))
        assert refusal == Completion(Status.BAD_OPERATION_FLAGS, invalid_flags=framing << 13 + 32)
    assert check(job(operation_flags=PLAIN | 3 << 13)).invalid_flags == 3 << 13 + 32


@pytest.mark.parametrize("bit", range(16))
def test_every_crc64_flag(bit):
    refusal = check(replace(OTHERS[Opcode.CRC64], operation_flags=1 << bit))
    if bit >= 14:
        assert refusal is None
    else:
        assert refusal == Completion(Status.BAD_OPERATION_FLAGS, invalid_flags=1 << 32 + bit)


FIELDS = {"pasid_priv": (32, 0), "source": (64, 128), "destination": (64, 192), "source_size": (32, 256),
          "interrupt_handle": (16, 288), "operation_flags": (16, 304), "source2": (64, 320),
          "destination_size": (32, 384), "source2_size": (32, 416), "filter_flags": (32, 448), "elements": (32, 480)}
USED = {
    Opcode.NOOP: set(),
    Opcode.DRAIN: set(),
    Opcode.DECOMPRESS: {"source", "destination", "source_size", "operation_flags", "destination_size"},
    Opcode.CRC64: {"source", "source_size", "operation_flags", "filter_flags", "elements"},
    Opcode.LIST: {"source", "source_size"},
    Opcode.FILL: {"destination", "destination_size", "source2"},
}


@pytest.mark.parametrize("opcode", Opcode)
def test_every_reserved_bit(opcode):
    good = int.from_bytes(OTHERS[opcode].pack(), "little")
    for name, (width, offset) in FIELDS.items():
        if name in USED[opcode]:
            continue
        for bit in range(offset, offset + width):
            descriptor = Descriptor.unpack((good ^ 1 << bit).to_bytes(64, "little"))
            assert check(descriptor) == Completion(Status.RESERVED_NONZERO), (name, bit)


def test_pasid_of_a_queue():
    for bit in range(32):
        refusal = check(job(pasid_priv=1 << bit), Rules(has_pasid=True))
        assert refusal == (Completion(Status.RESERVED_NONZERO) if 20 <= bit <= 30 else None)


def test_interrupt_handle():
    for handle in (1, 0x8000, 0xFFFF):
        assert check(job(flags=ASKED | Flag.REQUEST_INTERRUPT, interrupt_handle=handle)) == Completion(
            Status.BAD_INTERRUPT_HANDLE)
    assert check(job(flags=ASKED | Flag.REQUEST_INTERRUPT)) is None


@pytest.mark.parametrize("size", [0, 1, 1 << 12, (1 << 12) + 1, 0xFFFFFFFF])
def test_sizes(size):
    rules, bad = Rules(max_transfer_shift=12), not 0 < size <= 1 << 12
    far = 1 << 40
    for descriptor in (job(source_size=size, destination=far), job(destination_size=size, destination=far),
                       replace(OTHERS[Opcode.CRC64], source_size=size),
                       replace(OTHERS[Opcode.FILL], destination_size=size)):
        assert check(descriptor, rules) == (Completion(Status.BAD_SIZE) if bad else None)
    suppressed = job(operation_flags=PLAIN | DecompressFlag.SUPPRESS_OUTPUT, destination_size=size)
    assert check(suppressed, rules) is None
    listed = replace(OTHERS[Opcode.LIST], source_size=size)
    assert check(listed, rules) == (Completion(Status.BAD_SIZE) if bad or size % 64 else None)


def test_aecs_size_and_place():
    for size in (0, 0x20, AECS_SIZE - 1, AECS_SIZE + 32, 0x1500):
        assert check(job(flags=WITH_AECS, source2=AECS, source2_size=size)) == Completion(Status.BAD_SIZE)
    for shift in range(1, 32):
        assert check(job(flags=WITH_AECS, source2=AECS + shift, source2_size=AECS_SIZE)) == Completion(
            Status.AECS_MISALIGNED)
    assert check(replace(OTHERS[Opcode.LIST], source=SOURCE + 32)) == Completion(Status.AECS_MISALIGNED)


@pytest.mark.parametrize("at, overlaps", [(-4096, False), (-4095, True), (0, True), (99, True), (100, False)])
def test_overlap(at, overlaps):
    expected = Completion(Status.OVERLAP) if overlaps else None
    for source in (SOURCE, 0, (1 << 64) - 50):
        destination = (source + at) % (1 << 64)
        refusal = check(job(source=source, destination=destination))
        assert refusal == expected or not overlaps and refusal.status in (Status.READ_ERROR, Status.WRITE_ERROR)
        refusal = check(job(source=source, destination=destination,
                            operation_flags=PLAIN | DecompressFlag.SUPPRESS_OUTPUT))
        assert refusal is None or refusal.status == Status.READ_ERROR
    aecs = {"flags": WITH_AECS, "source2": AECS, "source2_size": AECS_SIZE}
    assert check(job(destination=AECS - 4095, **aecs)) == Completion(Status.OVERLAP)
    assert check(job(destination=AECS + AECS_SIZE - 1, **aecs)) == Completion(Status.OVERLAP)
    assert check(job(destination=AECS + AECS_SIZE, **aecs)) is None


def test_addresses_have_48_bits():
    top = (1 << 48) - 4096
    aecs = {"flags": WITH_AECS, "source2_size": AECS_SIZE}
    for fields, status in (
            ({"source": top + 3996}, None), ({"source": top + 3997}, Status.READ_ERROR),
            ({"source": (1 << 64) - 50}, Status.READ_ERROR), ({"destination": top}, None),
            ({"destination": top + 1}, Status.WRITE_ERROR), ({"destination": 1 << 48}, Status.WRITE_ERROR),
            ({"source2": top, **aecs}, None), ({"source2": (1 << 48) - 32, **aecs}, Status.READ_ERROR),
            ({"source": 1 << 48, "destination": 1 << 49}, Status.READ_ERROR)):
        assert check(job(**fields)) == (None if status is None else Completion(status)), fields


def test_order_of_checks():
    """Each mistake hides the ones after it."""
    mistakes = [
        (Status.READ_ERROR, {"source": 1 << 50}),
        (Status.OVERLAP, {"destination": 1 << 50}),
        (Status.AECS_MISALIGNED, {"source2": SOURCE + 1}),
        (Status.BAD_SIZE, {"source_size": 0}),
        (Status.BAD_INTERRUPT_HANDLE, {"interrupt_handle": 1}),
        (Status.RESERVED_NONZERO, {"elements": 1}),
        (Status.BAD_OPERATION_FLAGS, {"operation_flags": PLAIN | DecompressFlag.BIG_ENDIAN}),
        (Status.BAD_FLAGS, {"flags": WITH_AECS | Flag.REQUEST_INTERRUPT | Flag.FENCE}),
        (Status.BAD_OPCODE, {"opcode": 0x43}),
        (Status.COMPLETION_MISALIGNED, {"completion": RECORD + 1}),
    ]
    fields = {"flags": WITH_AECS | Flag.REQUEST_INTERRUPT, "source2": AECS, "source2_size": AECS_SIZE}
    for status, mistake in mistakes:
        fields |= mistake
        refusal = check(job(**fields))
        assert refusal is not None and refusal.status == status


def test_nothing_is_touched_by_what_is_refused(bench):
    bench.missing = {page for page in range(BASE, BASE + SIZE, PAGE_SIZE) if page != RECORD}
    for descriptor in (job(elements=1), job(source_size=0), job(opcode=0x43)):
        assert bench.run(descriptor).status in (Status.RESERVED_NONZERO, Status.BAD_SIZE, Status.BAD_OPCODE)


# Records


@pytest.mark.parametrize("flags, good, bad", [
    (ASKED, True, True), (Flag.COMPLETION_ADDRESS_VALID, False, True), (Flag(0), False, False)])
def test_when_a_record_is_written(flags, good, bad):
    for opcode, due in ((Opcode.NOOP, good), (0x43, bad)):
        memory = FlatMemory(np.zeros(SIZE, np.uint8), BASE)
        completion = run(Descriptor(opcode, flags, RECORD if flags else 0), memory)
        assert memory.array.any() == due
        if due:
            assert Completion.unpack(memory.read(RECORD, 64)) == completion


def test_records_without_a_place(bench):
    assert bench.run(Descriptor(Opcode.NOOP, ASKED, 1)).status == Status.COMPLETION_MISALIGNED
    assert bench.run(Descriptor(Opcode.NOOP, ASKED, 0x100)).status == Status.COMPLETION_FAULT
    assert bench.run(Descriptor(Opcode.NOOP, ASKED, 1 << 63)).status == Status.COMPLETION_FAULT
    bench.read_only = {RECORD}
    assert bench.run(Descriptor(Opcode.NOOP, ASKED, RECORD)).status == Status.COMPLETION_FAULT


# Decompression


@pytest.mark.parametrize("negative", NEGATIVES, ids=lambda negative: negative.name)
@pytest.mark.parametrize("window", [4096, 32768])
def test_negative_list(bench, negative, window):
    completion, output = bench.decompress(negative.data, window=window)
    expected = negative.strict or (negative.small_window if window == 4096 else None)
    if expected:
        assert (completion.status, completion.error) == (Status.ANALYTICS_ERROR, expected)
    else:
        assert (completion.status, completion.error) == (Status.SUCCESS, 0)
    assert completion.crc == zlib.crc32(output)


def test_success(bench):
    data = deflate(TEXT)
    completion, output = bench.decompress(data + b"rest")
    assert output == TEXT
    assert completion == Completion(Status.SUCCESS, completed=len(data), output_size=len(TEXT), crc=zlib.crc32(TEXT),
                                    xor_checksum=xor16(TEXT))
    completion, _ = bench.decompress(data, flags=ASKED | Flag.CRC32C)
    assert completion.crc == crc32c(TEXT)


def test_checksums():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"6789", crc32c(b"12345")) == 0xE3069283
    assert xor16(b"\x01\x02\x10\x20\x05") == 0x2214 and xor16(b"", 7) == 7


@pytest.mark.parametrize("framing, frame", [(Framing.ZLIB, zlib_frame), (Framing.GZIP, gzip_frame)])
def test_framing(bench, framing, frame):
    data = frame(deflate(TEXT), TEXT)
    operation = PLAIN | framing << 13
    completion, output = bench.decompress(data + b"rest", operation)
    assert output == TEXT
    assert completion == Completion(
        Status.SUCCESS, completed=len(data), output_size=len(TEXT), crc=zlib.crc32(TEXT), xor_checksum=xor16(TEXT),
        members=framing == Framing.GZIP, adler32=zlib.adler32(TEXT) if framing == Framing.ZLIB else 0)
    damaged = data[:-8] + bytes([data[-8] ^ 1]) + data[-7:] if framing == Framing.GZIP else data[:-1] + b"?"
    completion, _ = bench.decompress(damaged, operation)
    expected = ErrorCode.CRC_MISMATCH if framing == Framing.GZIP else ErrorCode.ADLER_MISMATCH
    assert (completion.status, completion.error) == (Status.ANALYTICS_ERROR, expected)
    completion, _ = bench.decompress(data[:-1], operation)
    assert completion.error == ErrorCode.FRAME_TRUNCATED
    # Stopping on any end of a block does not tear the trailer off.
    both = deflate(b"", 0) + b""
    completion, _ = bench.decompress(frame(both, b""), operation & ~DecompressFlag.EOB_IS_BFINAL)
    assert completion.status == Status.SUCCESS and completion.completed == len(frame(both, b""))


def test_members(bench):
    one, two = gzip_frame(deflate(TEXT), TEXT), gzip_frame(deflate(b"two"), b"two")
    operation = PLAIN | Framing.GZIP << 13
    first, output = bench.decompress(one + two, operation)
    assert (first.members, first.completed, output) == (1, len(one), TEXT)
    both, output = bench.decompress(one + two + b"\0\0?", operation & ~DecompressFlag.STOP_ON_EOB)
    assert (both.members, both.completed, output) == (2, len(one + two), TEXT + b"two")
    assert (both.crc, both.xor_checksum) == (zlib.crc32(b"two"), xor16(TEXT + b"two"))


def test_dictionary(bench):
    compressor = zlib.compressobj(9, zdict=b"quick brown fox")
    completion, _ = bench.decompress(compressor.compress(TEXT) + compressor.flush(), PLAIN | Framing.ZLIB << 13)
    assert completion.status == Status.NEED_DICTIONARY and completion.output_size == 0


def blocks():
    """Three blocks, and the bit after each."""
    asm, ends = Assembler(), []
    for number, tokens in enumerate((b"first", b"second", b"third")):
        asm.fixed([*tokens], final=number == 2)
        ends.append(len(asm))
    return asm.data(), ends


STOP, CHECK, FINAL = DecompressFlag.STOP_ON_EOB, DecompressFlag.CHECK_FOR_EOB, DecompressFlag.EOB_IS_BFINAL


@pytest.mark.parametrize("stop", [0, STOP])
@pytest.mark.parametrize("check_eob", [0, CHECK])
@pytest.mark.parametrize("final", [0, FINAL])
def test_stop_and_check_rules(bench, stop, check_eob, final):
    data, ends = blocks()
    operation = DecompressFlag.ENABLE | stop | check_eob | final
    whole, output = bench.decompress(data + b"\xff" * 4, operation)
    assert whole.status == Status.SUCCESS
    if stop and not final:
        assert output == b"first" and whole.completed == -(-ends[0] // 8)
    else:
        assert output == b"firstsecondthird" and whole.completed == len(data)
    # The source ends in the header of the second block, in its body, and in the body of the last one.
    for cut, text, inside in ((ends[0] + 2, b"first", False), (ends[1] - 3, b"firstsecond", True),
                              (ends[2] - 8, b"firstsecondthir", True)):
        size = -(-cut // 8)
        part, output = bench.decompress(data[:size], operation | (8 * size - cut) << 6)
        if stop and not final:
            assert (part.status, output) == (Status.SUCCESS, b"first")
            continue
        assert output == text
        if not check_eob or not final and not inside:
            assert (part.status, part.error) == (Status.SUCCESS, 0)
            assert 8 * part.completed - part.unused_bits <= cut
        else:
            error = ErrorCode.END_OF_BLOCK_MISSING if inside else ErrorCode.HEADER_TRUNCATED
            assert (part.status, part.error) == (Status.ANALYTICS_ERROR, error)


def test_truncated_header_of_a_later_block(bench):
    """A header of which a byte or more is there counts as begun even where any end of a block will do."""
    asm = Assembler().fixed([*b"first"])
    asm.dynamic([*b"second"], True)
    data = asm.data()
    cut = -(-len(Assembler().fixed([*b"first"])) // 8) + 3
    completion, _ = bench.decompress(data[:cut], DecompressFlag.ENABLE | CHECK)
    assert (completion.status, completion.error) == (Status.ANALYTICS_ERROR, ErrorCode.HEADER_TRUNCATED)


@pytest.mark.parametrize("left, error", [(7, 0), (8, ErrorCode.HEADER_TRUNCATED)])
def test_bits_behind_an_end_of_block(bench, left, error):
    """Where any end of a block will do, less than a byte behind it is padding."""
    asm = Assembler().fixed([*b"first"])
    end = len(asm)
    data = asm.dynamic([*b"second"], True).data()
    size = -(-(end + left) // 8)
    completion, output = bench.decompress(data[:size], DecompressFlag.ENABLE | CHECK | (8 * size - end - left) << 6)
    assert (completion.error, output) == (error, b"first")


def test_ignored_bits_are_not_looked_at(bench):
    asm = Assembler().fixed([*b"some"], True)
    bits, data = len(asm), bytearray(asm.data())
    spare = 8 * len(data) - bits
    assert spare
    for ignored in range(8):
        data[-1] |= 0xFF << 8 - ignored & 0xFF if ignored <= spare else 0
        completion, output = bench.decompress(bytes(data), PLAIN | ignored << 6)
        if ignored <= spare:
            assert (completion.status, output) == (Status.SUCCESS, b"some")
        else:
            assert completion.error == ErrorCode.END_OF_BLOCK_MISSING


def test_overflow_and_suppressed_output(bench):
    data = deflate(TEXT)
    completion, output = bench.decompress(data, room=1000)
    assert (completion.status, output, completion.crc) == (Status.OUTPUT_OVERFLOW, TEXT[:1000], zlib.crc32(TEXT[:1000]))
    assert completion.xor_checksum == xor16(TEXT[:1000])
    completion, output = bench.decompress(data, room=len(TEXT))
    assert (completion.status, output) == (Status.SUCCESS, TEXT)
    before = bench.memory.read(TARGET, 64)
    bench.memory.write(TARGET, bytes(64))
    completion, _ = bench.decompress(data, PLAIN | DecompressFlag.SUPPRESS_OUTPUT, room=0)
    assert (completion.status, completion.output_size, completion.crc) == (
        Status.SUCCESS, len(TEXT), zlib.crc32(TEXT))
    assert bench.memory.read(TARGET, 64) == bytes(64) != before


# Canned


def canned():
    """A header that ends on a byte boundary, and ``TEXT`` in its codes."""
    codes = lengths_for([*range(256), *TEXT, (3, 1)])
    for empty in range(4):
        for entries in (15, 14):  # in front empty blocks of 10 bits, or 3 bits less for a length that does not occur
            asm = Assembler()
            for _ in range(empty):
                asm.fixed()
            asm.dynamic_header(*codes, True, hclen=entries)
            if len(asm) % 8 == 0:
                return asm.data(), Assembler().tokens([*TEXT], *codes).data()
    raise AssertionError("no header ends on a byte boundary")


def test_canned(bench):
    header, body = canned()
    assert zlib.decompress(header + body, -15) == TEXT
    seed = zlib.crc32(b"before")
    for aecs, crc, xor in ((Aecs(header), 0, 0), (Aecs(header, seed, 0x1234), seed, 0x1234)):
        bench.memory.write(AECS, aecs.pack())
        completion, output = bench.decompress(body, flags=WITH_AECS)
        assert (completion.status, output, completion.completed) == (Status.SUCCESS, TEXT, len(body))
        assert (completion.crc, completion.xor_checksum) == (zlib.crc32(TEXT, crc), xor16(TEXT, xor))
    completion, output = bench.decompress(body, flags=WITH_AECS, room=100)
    assert (completion.status, output) == (Status.OUTPUT_OVERFLOW, TEXT[:100])


def test_aecs_without_tables_seeds_the_checksums(bench):
    bench.memory.write(AECS, Aecs(crc=zlib.crc32(b"a"), xor_checksum=9).pack())
    completion, output = bench.decompress(deflate(TEXT), flags=WITH_AECS)
    assert (output, completion.crc, completion.xor_checksum) == (TEXT, zlib.crc32(b"a" + TEXT), xor16(TEXT, 9))


def test_bad_aecs(bench):
    header, body = canned()
    wrong = bytearray(Aecs(header).pack())
    wrong[1076] = 0
    bad = [bytes(wrong)]
    bad += [Aecs(raw).pack() for raw in (header + body[:8], header + b"\0", deflate(b"x", 0), deflate(b"all"))]
    for raw in bad:
        bench.memory.write(AECS, raw)
        completion, _ = bench.decompress(body, flags=WITH_AECS)
        assert (completion.status, completion.error, completion.output_size) == (
            Status.ANALYTICS_ERROR, ErrorCode.BAD_AECS, 0)
    bench.memory.write(AECS, Aecs(header[:-8]).pack())
    completion, _ = bench.decompress(body, flags=WITH_AECS)
    assert (completion.status, completion.error) == (Status.ANALYTICS_ERROR, ErrorCode.HEADER_TRUNCATED)


# Other operations


def test_crc64(bench):
    bench.memory.write(SOURCE, TEXT)
    polynomial = 0x42F0E1EBA9EA3693
    for flags in (0, Crc64Flag.INVERT, Crc64Flag.BIG_ENDIAN, Crc64Flag.INVERT | Crc64Flag.BIG_ENDIAN):
        completion = bench.run(Descriptor(
            Opcode.CRC64, ASKED, RECORD, SOURCE, 0, len(TEXT), 0, flags, filter_flags=polynomial & 0xFFFFFFFF,
            elements=polynomial >> 32))
        assert completion.status == Status.SUCCESS and completion.completed == len(TEXT)
        assert completion.crc64 == crc64(TEXT, polynomial, invert=bool(flags & Crc64Flag.INVERT),
                                         big_endian=bool(flags & Crc64Flag.BIG_ENDIAN))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 4096, 5000])
def test_fill(bench, size):
    descriptor = replace(OTHERS[Opcode.FILL], destination_size=size)
    assert bench.run(descriptor) == Completion(Status.SUCCESS, output_size=size)
    assert bench.memory.read(TARGET, size + 1) == (descriptor.source2.to_bytes(8, "little") * size)[:size] + b"\0"


def test_list():
    memory = FlatMemory(np.zeros(SIZE, np.uint8), BASE)
    data = deflate(TEXT)
    memory.write(SOURCE, data)

    def member(number, **fields):
        return job(**{"completion": RECORD + 64 * number, "source_size": len(data),
                      "destination": TARGET + 0x4000 * number, "destination_size": 0x4000, **fields})

    for members, error in (([member(1), member(2)], 0), ([member(1), member(2, elements=1), member(3)], 1),
                           ([member(1, opcode=Opcode.LIST), member(2, opcode=Opcode.DRAIN)], 1)):
        memory.write(RECORD, bytes(1024))
        memory.write(ITEMS, b"".join(descriptor.pack() for descriptor in members))
        done = run(Descriptor(Opcode.LIST, ASKED, RECORD, ITEMS, 0, 64 * len(members)), memory)
        assert done == Completion(Status.SUCCESS, error, completed=len(members))
        for number, descriptor in enumerate(members, 1):
            record = Completion.unpack(memory.read(RECORD + 64 * number, 64))
            if descriptor.opcode != Opcode.DECOMPRESS:
                assert record == Completion(Status.BAD_OPCODE)
            elif descriptor.elements:
                assert record == Completion(Status.RESERVED_NONZERO)
            else:
                assert record.status == Status.SUCCESS and record.crc == zlib.crc32(TEXT)
                assert memory.read(descriptor.destination, len(TEXT)) == TEXT


# Faults


def test_a_page_of_the_destination(bench):
    bench.read_only = {TARGET + PAGE_SIZE}
    completion, output = bench.decompress(deflate(TEXT))
    assert completion.status == Status.PAGE_FAULT | WRITE_FAULT
    assert output == TEXT[:PAGE_SIZE]
    assert completion == Completion(Status.PAGE_FAULT | WRITE_FAULT, output_size=PAGE_SIZE,
                                    fault_address=TARGET + PAGE_SIZE)
    # Room that is not needed is not asked for.
    bench.read_only = {TARGET + 3 * PAGE_SIZE}
    assert bench.decompress(deflate(TEXT))[0].status == Status.SUCCESS


def test_a_page_of_the_source(bench, seed):
    text = random.Random(seed).randbytes(10000)
    data = deflate(text)
    bench.missing = {SOURCE + 2 * PAGE_SIZE}
    completion, output = bench.decompress(data)
    assert (completion.status, completion.fault_address) == (Status.PAGE_FAULT, SOURCE + 2 * PAGE_SIZE)
    assert 8000 < len(output) and text.startswith(output) and completion.completed <= 2 * PAGE_SIZE
    assert completion.crc == zlib.crc32(output)
    # A stream that ends before the page does not need it.
    completion, output = bench.decompress(deflate(TEXT) + bytes(10000))
    assert (completion.status, output) == (Status.SUCCESS, TEXT)


def test_pages_of_other_operands(bench):
    header, body = canned()
    bench.memory.write(AECS, Aecs(header).pack())
    bench.missing = {AECS}
    completion, _ = bench.decompress(body, flags=WITH_AECS)
    assert completion == Completion(Status.PAGE_FAULT, fault_address=AECS)
    bench.missing, bench.read_only = {SOURCE + PAGE_SIZE}, {TARGET + PAGE_SIZE}
    completion = bench.run(replace(OTHERS[Opcode.CRC64], source=SOURCE + 4000, source_size=200))
    assert completion == Completion(Status.PAGE_FAULT, completed=96, fault_address=SOURCE + PAGE_SIZE)
    completion = bench.run(replace(OTHERS[Opcode.FILL], destination_size=5000))
    assert completion == Completion(Status.PAGE_FAULT | WRITE_FAULT, output_size=4096,
                                    fault_address=TARGET + PAGE_SIZE)


def test_list_behind_a_missing_page(bench):
    noop = Descriptor(Opcode.NOOP, Flag(0)).pack()
    bench.memory.write(SOURCE, noop * 128)
    bench.missing = {SOURCE + PAGE_SIZE}
    completion = bench.run(replace(OTHERS[Opcode.LIST], source_size=64 * 100))
    assert completion == Completion(Status.PAGE_FAULT, completed=64, fault_address=SOURCE + PAGE_SIZE)


def test_bus_errors(bench):
    last = BASE + SIZE - 100
    bench.memory.write(last, deflate(TEXT))
    for descriptor in (job(source=last, source_size=101), replace(OTHERS[Opcode.CRC64], source=last, source_size=101)):
        assert bench.run(descriptor) == Completion(Status.READ_ERROR, fault_address=BASE + SIZE)
    for descriptor in (job(source=0x100), job(source=1 << 50), replace(OTHERS[Opcode.CRC64], source=0x100)):
        assert bench.run(descriptor).status == Status.READ_ERROR
    bench.memory.write(SOURCE, deflate(TEXT[:64]))
    for target in (0x100, 1 << 50):
        assert bench.run(job(destination=target)).status == Status.WRITE_ERROR
        assert bench.run(replace(OTHERS[Opcode.FILL], destination=target)).status == Status.WRITE_ERROR


# Random


def writes_aecs(descriptor):
    """Whether it may write to an AECS."""
    return descriptor.opcode == Opcode.DECOMPRESS and descriptor.flags >> 18 & 3 in (1, 2)


def random_descriptor(rng, window=32768):
    """Near to something that makes sense, with some of it broken."""
    opcode = rng.choice([*Opcode, Opcode.DECOMPRESS, Opcode.DECOMPRESS, rng.randrange(256)])
    fields = {
        "opcode": opcode,
        "flags": rng.choice([ASKED, ASKED, WITH_AECS, ASKED | Flag.REQUEST_INTERRUPT, rng.getrandbits(24),
                             rng.choice([ASKED, WITH_AECS]) | rng.choice(WRITES)]),
        "completion": rng.choice([RECORD, RECORD, RECORD, RECORD + rng.randrange(64), rng.getrandbits(64)]),
        "source": SOURCE + rng.choice([0, 0, 64, rng.randrange(8192)]),
        "destination": rng.choice([TARGET, TARGET, TARGET, SOURCE + rng.randrange(8192), rng.getrandbits(64)]),
        "source_size": rng.choice([64, 640, rng.randrange(9000), rng.getrandbits(32)]),
        "operation_flags": rng.choice([PLAIN, PLAIN, PLAIN | rng.getrandbits(16), rng.getrandbits(16)]),
        "destination_size": rng.choice([4096, rng.randrange(9000), rng.getrandbits(32)]),
    }
    if fields["flags"] & Flag.READ_SOURCE2_AECS and rng.random() < 0.9:
        fields |= {"source2": AECS, "source2_size": AECS_SIZE}
    if writes_aecs(Descriptor(**fields)) and rng.random() < 0.9:
        fields |= {"source2": STATES, "source2_size": saved_size(window), "operation_flags": rng.choice([
            PLAIN, PLAIN & ~DecompressFlag.CHECK_FOR_EOB, fields["operation_flags"]])}
    descriptor = Descriptor(**fields)
    used = USED.get(opcode, set())
    cleared = {name: 0 for name in FIELDS if name not in used and name not in ("pasid_priv", "interrupt_handle")
               and not (name.startswith("source2") and opcode == Opcode.DECOMPRESS)}
    if rng.random() < 0.9:
        descriptor = replace(descriptor, **cleared)
    if rng.random() < 0.1:
        raw = bytearray(descriptor.pack())
        raw[rng.randrange(64)] ^= 1 << rng.randrange(8)
        descriptor = Descriptor.unpack(bytes(raw))
    return descriptor


def _random_descriptors(seed, count):
    rng = random.Random(seed)
    header, body = canned()
    memory = FlatMemory(np.zeros(SIZE, np.uint8), BASE)
    sources = [deflate(TEXT), body, deflate(rng.randbytes(6000)), *(negative.data for negative in NEGATIVES),
               b"".join(job(completion=RECORD + 64).pack() for _ in range(10)), rng.randbytes(9000)]
    seen = set()
    for _ in range(count):
        memory.array[:] = 0
        memory.write(AECS, Aecs(header).pack())
        for place in (STATES, STATES + saved_size(32768)):
            memory.write(place, Aecs(rng.choice([header, b""])).pack())
        memory.write(SOURCE, rng.choice(sources))
        missing = {BASE + PAGE_SIZE * rng.randrange(SIZE // PAGE_SIZE) for _ in range(rng.choice([0, 0, 40]))}
        before = memory.array.copy()
        descriptor = random_descriptor(rng)
        translate = {page: None for page in missing}
        completion = run(descriptor, memory, lambda page, write, found=translate: found.get(page, page),
                         Rules(may_block=rng.random() < 0.9))
        seen.add(completion.status)
        if descriptor.opcode == Opcode.LIST:
            continue
        changed = np.flatnonzero(before != memory.array) + BASE
        # Without a place for the state nothing counts as done, though the output may have been written.
        is_stateless = (completion.status == Status.PAGE_FAULT | WRITE_FAULT and writes_aecs(descriptor)
                        and 0 <= completion.fault_address - descriptor.source2 < 2 * descriptor.source2_size)
        untold = is_stateless or completion.status in (Status.COMPLETION_FAULT, Status.WRITE_ERROR)
        assert not is_stateless or (completion.completed, completion.output_size) == (0, 0)
        written = descriptor.destination_size if untold else completion.output_size
        ranges = [(descriptor.completion, 64), (descriptor.destination, written)]
        if writes_aecs(descriptor):
            ranges.insert(0, (descriptor.source2, 2 * descriptor.source2_size))
        if descriptor.opcode == Opcode.DECOMPRESS and descriptor.operation_flags & DecompressFlag.SUPPRESS_OUTPUT:
            ranges.pop()
        elif completion.output_size:
            assert completion.output_size <= descriptor.destination_size
        inside = np.zeros(changed.shape, bool)
        for begin, size in ranges:
            inside |= (changed >= begin) & (changed < begin + size)
        assert inside.all(), descriptor
    return seen


def test_random_descriptors(seed):
    seen = _random_descriptors(seed, 3000)
    assert len(seen) >= 16, seen


@pytest.mark.soak
def test_many_random_descriptors(seed):
    _random_descriptors(seed + 1000, 60_000)


# Comparison


def test_difference():
    good = Completion(Status.SUCCESS, completed=10, unused_bits=3, output_size=5, crc=7)
    assert not difference(good, good) and not difference(good, replace(good, cycles=100))
    for change in ({"status": 3}, {"crc": 8}, {"output_size": 6}, {"completed": 9}, {"unused_bits": 2}, {"error": 1}):
        assert difference(good, replace(good, **change))
    assert difference(replace(good, status=Status.PAGE_FAULT), replace(good, status=Status.PAGE_FAULT, fault_address=1))
    assert not difference(replace(good, status=Status.READ_ERROR), Completion(Status.READ_ERROR))
    fault = replace(good, status=Status.PAGE_FAULT, fault_address=4096)
    assert not difference(fault, replace(fault, completed=3, output_size=0, crc=0))
    assert difference(fault, replace(fault, completed=11)) and difference(fault, replace(fault, output_size=6))
    fault = replace(fault, status=Status.PAGE_FAULT | WRITE_FAULT)
    assert difference(fault, replace(fault, output_size=4))
    wrong = replace(good, status=Status.ANALYTICS_ERROR, completed=100, unused_bits=0)
    earlier = 800 - ENTRY_BITS
    assert not difference(wrong, replace(wrong, completed=-(-earlier // 8), unused_bits=-earlier % 8))
    earlier -= 1
    assert difference(wrong, replace(wrong, completed=-(-earlier // 8), unused_bits=-earlier % 8))


def test_perform_leaves_memory_alone(bench):
    bench.memory.write(SOURCE, deflate(TEXT))
    before = bench.memory.array.copy()
    outcome = perform(job(source_size=2000, destination=TARGET + 5, destination_size=len(TEXT)), bench.memory)
    assert np.array_equal(before, bench.memory.array)
    assert b"".join(data for _, data in outcome.writes) == TEXT and outcome.writes[0][0] == TARGET + 5
    assert outcome.fault is None and model.is_record_due(job(), outcome.completion)
