# SPDX-License-Identifier: Apache-2.0
"""Named Deflate streams with a known result: the negative list of IAA's library, and corner cases.

The negative list has the names of the cases that Intel's QPL tests by (sabre.md 3) and the code that IAA
answers with; the streams are our own. :data:`CORNERS` holds streams at the edges of what zlib takes.
"""

import random
from dataclasses import dataclass

from rackgate.inflate.abi import ErrorCode, Format
from rackgate_sim.inflate.assembler import Assembler, Bits, Match, Symbol, Token, gzip_frame, run_lengths, zlib_frame
from rackgate_sim.inflate.model import DISTANCE_BASE, LENGTH_BASE

__all__ = ["CORNERS", "NEGATIVES", "Corner", "Negative"]


@dataclass(frozen=True)
class Negative:
    """A raw Deflate stream with a mistake.

    ``iaa`` are the error codes that IAA may give. ``error`` is ours with RFC 1951's rules (as zlib), None
    where they allow the stream; ``strict`` is ours with Flag.STRICT_LENGTHS. ``small_window`` is ours with
    a 4 KB window where that makes a difference.
    """

    name: str
    iaa: tuple[int, ...]
    data: bytes
    error: ErrorCode | None
    strict: ErrorCode | None
    small_window: ErrorCode | None


@dataclass(frozen=True)
class Corner:
    """A complete input: what it holds if it is right (``output``), or its error.

    ``consumed`` bytes of ``data`` belong to the stream if it is right. ``output`` of a wrong one is what
    comes before the mistake.
    """

    name: str
    format: Format
    data: bytes
    output: bytes = b""
    error: ErrorCode = ErrorCode.NONE
    consumed: int = 0


#: A literal/length code with bytes 0 and 1, the end of the block and match length 3; all codes of 2 bits.
_LITERALS = [2, 2, *[0] * 254, 2, 2]
#: A distance code with distances 1 and 2, of one bit each.
_DISTANCES = [1, 1]
#: A code-length code: 0 to 4, 16, 17 and 18, of 3 bits each.
_CODE_LENGTHS = [3, 3, 3, 3, 3, *[0] * 11, 3, 3, 3]
#: The literals above in symbols of that code.
_LITERAL_SYMBOLS = [(2, 0), (2, 0), (18, 127), (18, 105), (2, 0), (2, 0)]
_END_CODE = Bits(0b01, 2)  # of those literals


def _header(symbols: list[tuple[int, int]], hlit: int = 1, hdist: int = 1) -> Assembler:
    return Assembler().dynamic_header(_LITERALS, _DISTANCES, True, code_lengths=_CODE_LENGTHS, symbols=symbols,
                                      hlit=hlit, hdist=hdist)


def _header_mistakes() -> dict[str, Assembler]:
    """Streams with a mistake in a dynamic header; where zlib sees none, with an end of the block."""
    end = _END_CODE
    return {
        # HCLEN is 0, so the code-length code has lengths for 4 symbols, and all are zero.
        "undefined_code_length_code": Assembler().header(2, True).bits(0, 14).bits(0, 12).bits(~0, 32),
        "first_literal_lengths_code_is_16": _header([(16, 0), *_LITERAL_SYMBOLS]),
        "first_distance_code_is_16": _header([*_LITERAL_SYMBOLS, (16, 1)], hdist=3).bits(end.value, end.count),
        "no_literal_lengths_code": _header([(1, 0), (1, 0), (18, 127), (18, 106), (1, 0), (1, 0)], hlit=0),
        "all_zero_literal_lengths_code": _header([(18, 127), (18, 108), (1, 0), (1, 0)], hlit=0),
        "strading_code_length_codes":
            _header([*_LITERAL_SYMBOLS, (17, 0), (1, 0), (1, 0)], hlit=3, hdist=2).bits(end.value, end.count),
        "many_literal_length_codes_declared": _header(_LITERAL_SYMBOLS, hlit=30),
        "big_count_repeating_literal_length_codes": _header([(2, 0), (2, 0), (18, 127), (18, 127)]),
        "many_distance_codes": _header([*_LITERAL_SYMBOLS, (1, 0), (16, 3)]),
        "many_distance_codes_declared": _header(_LITERAL_SYMBOLS, hdist=30),
        "large_count_repeating_distance_codes": _header([*_LITERAL_SYMBOLS, (1, 0), (18, 0)]),
        "oversubscribed_code_length_code":
            Assembler().dynamic_header(_LITERALS, _DISTANCES, True, code_lengths=[3] * 6 + [0] * 10 + [3] * 3),
        "oversubscribed_literal_length_code":
            _header([(2, 0), (2, 0), (2, 0), (18, 127), (18, 104), (2, 0), (2, 0), (1, 0), (1, 0)]),
        "oversubscribed_distance_code": _header([*_LITERAL_SYMBOLS, (1, 0), (1, 0), (1, 0)], hdist=2),
    }


def _body_mistakes() -> dict[str, Assembler]:
    return {
        "using_reserved_literal_length_code": Assembler().fixed([65, Symbol(286)], True),
        "using_reserved_distance_length_code": Assembler().fixed([65, Match(257, 0, 30, 0)], True),
        "invalid_block_type": Assembler().header(3, True),
        "invalid_stored_length": Assembler().stored(b"abc", True, complement=0x1234),
        "bad_distance": Assembler().stored(bytes(5000)).fixed([(3, 4097)], True),
        "buffer_over_reading_via_distance": Assembler().fixed([65, (3, 2)], True),
    }


#: Codes of each case: IAA's, and ours (with RFC 1951's rules, with STRICT_LENGTHS, with a 4 KB window).
_CODES: dict[str, tuple[tuple[int, ...], tuple[ErrorCode | None, ...]]] = {
    "undefined_code_length_code": ((2,), (ErrorCode.UNDEFINED_CODE_LENGTH_CODE,) * 3),
    "first_literal_lengths_code_is_16": ((3,), (ErrorCode.FIRST_LITERAL_LENGTH_REPEATS,) * 3),
    "first_distance_code_is_16": ((4,), (None, ErrorCode.FIRST_DISTANCE_LENGTH_REPEATS, None)),
    "no_literal_lengths_code": ((5, 11), (ErrorCode.NO_END_OF_BLOCK_CODE,) * 3),
    "all_zero_literal_lengths_code": ((5,), (ErrorCode.NO_LITERAL_CODES,) * 3),
    "strading_code_length_codes": ((6,), (None, ErrorCode.LITERAL_LENGTHS_OVERRUN, None)),
    "many_literal_length_codes_declared": ((35, 6), (ErrorCode.TOO_MANY_LITERAL_CODES,) * 3),
    "big_count_repeating_literal_length_codes":
        ((6,), (ErrorCode.DISTANCE_LENGTHS_OVERRUN, ErrorCode.LITERAL_LENGTHS_OVERRUN,
                ErrorCode.DISTANCE_LENGTHS_OVERRUN)),
    "many_distance_codes": ((7,), (ErrorCode.DISTANCE_LENGTHS_OVERRUN,) * 3),
    "many_distance_codes_declared": ((36, 7), (ErrorCode.TOO_MANY_DISTANCE_CODES,) * 3),
    "large_count_repeating_distance_codes": ((7,), (ErrorCode.DISTANCE_LENGTHS_OVERRUN,) * 3),
    "oversubscribed_code_length_code": ((8,), (ErrorCode.CODE_LENGTHS_OVERSUBSCRIBED,) * 3),
    "oversubscribed_literal_length_code": ((9,), (ErrorCode.LITERALS_OVERSUBSCRIBED,) * 3),
    "oversubscribed_distance_code": ((10,), (ErrorCode.DISTANCES_OVERSUBSCRIBED,) * 3),
    "using_reserved_literal_length_code": ((11,), (ErrorCode.BAD_LITERAL_CODE,) * 3),
    "using_reserved_distance_length_code": ((12,), (ErrorCode.BAD_DISTANCE_CODE,) * 3),
    "invalid_block_type": ((13,), (ErrorCode.BAD_BLOCK_TYPE,) * 3),
    "invalid_stored_length": ((14,), (ErrorCode.STORED_LENGTH_MISMATCH,) * 3),
    "bad_distance": ((17,), (None, None, ErrorCode.DISTANCE_TOO_LARGE)),
    "buffer_over_reading_via_distance": ((18,), (ErrorCode.DISTANCE_BEFORE_START,) * 3),
}

#: The 20 cases. The padding at the end is so that the mistake, not the end of the input, stops a decoder.
NEGATIVES = tuple(Negative(name, _CODES[name][0], asm.data() + bytes(8), *_CODES[name][1])
                  for name, asm in {**_header_mistakes(), **_body_mistakes()}.items())


def _chain(count: int) -> list[int]:
    """Lengths 1, 2, ... of a complete code for ``count`` symbols, the last two equal."""
    return [*range(1, count), count - 1]


def _right(name: str, asm: Assembler, output: bytes) -> Corner:
    data = asm.data()
    return Corner(name, Format.RAW, data + b"\xff\x00rest", output, consumed=len(data))


def _wrong(name: str, asm: Assembler, error: ErrorCode, output: bytes = b"", padding: int = 8) -> Corner:
    return Corner(name, Format.RAW, asm.data() + bytes(padding), output, error)


def _right_blocks() -> tuple[Corner, ...]:
    """Right raw streams."""
    block = bytes(i * 7 & 255 for i in range(32768))
    ten = bytes(range(10))
    return (
        _right("empty fixed", Assembler().fixed((), True), b""),
        _right("empty stored", Assembler().stored(b"", True), b""),
        _right("empty dynamic", Assembler().dynamic((), True), b""),
        _right("longest stored", Assembler().stored(bytes(65535), True), bytes(65535)),
        _right("stored with padding bits set", Assembler().stored(b"pad", True, fill=0x7F), b"pad"),
        _right("all kinds of blocks", Assembler().fixed(b"one").stored(b"two").dynamic([*b"ten", (6, 3)])
               .stored().fixed([(5, 14)], True), b"onetwotententennetwo"),
        _right("every byte", Assembler().fixed(bytes(range(256)), True), bytes(range(256))),
        _right("longest match", Assembler().fixed([0, (258, 1)], True), bytes(259)),
        _right("258 as symbol 284", Assembler().fixed([7, Match(284, 31, 0, 0)], True), b"\x07" * 259),
        *(_right(f"distance {distance}", Assembler().fixed([*ten, (20, distance)], True),
                 ten + (ten[-distance:] * 20)[:20]) for distance in range(1, 10)),
        _right("farthest distance", Assembler().stored(block).fixed([(258, 32768)], True), block + block[:258]),
        _right("distance across blocks", Assembler().stored(block).stored(b"x").fixed([(3, 32768)], True),
               block + b"x" + block[1:4]),
        *(_right(f"length {length}", Assembler().fixed([9, 8, (length, 2)], True), (b"\t\x08" * 130)[:length + 2])
          for length in LENGTH_BASE),
    )


def _right_codes() -> tuple[Corner, ...]:
    """Right raw streams with unusual codes."""
    deep = [*_chain(16)[:15], *[0] * 241, 15]
    text = [1, 0, 1, 1, (3, 1)]
    full = [[8, 9][value >= 226] for value in range(286)]  # 226 / 256 + 60 / 512 = 1
    return (
        _right("codes of 15 bits", Assembler().dynamic(bytes(range(15)), True, literals=deep, distances=[0]),
               bytes(range(15))),
        _right("distance codes of 15 bits",
               Assembler().dynamic([65, (258, 1), *[(3, base) for base in DISTANCE_BASE[:16]]], True,
                                   distances=_chain(16)), b"A" * 307),
        _right("all codes in use",
               Assembler().dynamic([0, (258, 1)], True, literals=full, distances=[5] * 28 + [4] * 2), bytes(259)),
        _right("lone end-of-block code", Assembler().dynamic((), True, literals=[*[0] * 256, 1], distances=[0]), b""),
        _right("lone distance code", Assembler().dynamic([66, (4, 1)], True, distances=[1]), b"BBBBB"),
        _right("lone distance code in the middle", Assembler().dynamic([66, 67, 68, (4, 3)], True, distances=[0, 0, 1]),
               b"BCDBCDB"),
        _right("no distance code", Assembler().dynamic(b"abcab", True, distances=[0]), b"abcab"),
        _right("run across the border", Assembler().dynamic([*[1] * 7, (3, 7)], True, literals=_LITERALS + [0] * 5,
                                                            distances=[*[0] * 5, 1, 1], across=True, trim=False),
               b"\x01" * 10),
        _right("no runs", Assembler().dynamic(text, True, literals=_LITERALS, distances=_DISTANCES,
                                              symbols=run_lengths(_LITERALS + _DISTANCES, runs=False)),
               b"\x01\0" + b"\x01" * 5),
        _right("all code-length codes declared", Assembler().dynamic(text, True, hclen=15), b"\x01\0" + b"\x01" * 5),
        _right("code-length codes of 7 bits",
               Assembler().dynamic(text, True, literals=_LITERALS, distances=_DISTANCES,
                                   code_lengths=[3, 2, 1, 4, 5, 6, 7, *[0] * 11, 7]), b"\x01\0" + b"\x01" * 5),
        _right("a new code each block", Assembler().dynamic([1, 2, 3]).dynamic([4, 5, (3, 4)]).dynamic([(5, 1)], True),
               bytes([1, 2, 3, 4, 5, 2, 3, 4, 4, 4, 4, 4, 4])),
        _every_code_at_every_offset(),
    )


def _every_code_at_every_offset() -> Corner:
    """Codes of every length, the first of each length among them, at every bit offset of a decoder's block.

    Each length from 2 on has one literal and, behind it, one match length. So the first code of a length is what
    all shorter ones end at, and the second is what the literals of its own length end at.
    """
    rng, lengths = random.Random(1), [*range(2, 16), 15]
    literals, matches = [0] * 286, range(257, 257 + len(lengths))
    for symbol, length in zip([*range(14), 256], lengths, strict=True):
        literals[symbol] = length
    literals[matches.start:matches.stop] = lengths
    output = bytearray(rng.randrange(14) for _ in range(DISTANCE_BASE[16]))
    tokens: list[Token] = list(output)
    for number in range(4000):
        if number % 2:
            output.append(rng.randrange(14))
            tokens.append(output[-1])
        else:
            length, distance = LENGTH_BASE[rng.choice(matches) - 257], DISTANCE_BASE[rng.randrange(16)]
            tokens.append((length, distance))
            for _ in range(length):
                output.append(output[-distance])
    return _right("every code at every offset",
                  Assembler().dynamic(tokens, True, literals=literals, distances=_chain(16)), bytes(output))


def _wrong_blocks() -> tuple[Corner, ...]:
    """Wrong raw streams that the negative list does not have."""
    code = ErrorCode
    block = bytes(32767)
    dynamic = Assembler().dynamic([1, 2, (5, 1)], True).data()
    stored = Assembler().stored(b"stored", True).data()
    return (
        _wrong("nothing", Assembler(), code.HEADER_TRUNCATED, padding=0),
        _wrong("block type 3 alone", Assembler().header(3), code.BAD_BLOCK_TYPE, padding=0),
        _wrong("no length of a stored block", Assembler().raw(stored[:3]), code.HEADER_TRUNCATED, padding=0),
        _wrong("half a stored block", Assembler().raw(stored[:-2]), code.END_OF_BLOCK_MISSING, b"stor", padding=0),
        _wrong("half a dynamic header", Assembler().raw(dynamic[:6]), code.HEADER_TRUNCATED, padding=0),
        _wrong("half a body", Assembler().raw(dynamic[:-1]), code.END_OF_BLOCK_MISSING, b"\1\2\2\2\2\2\2", padding=0),
        _wrong("no final block", Assembler().stored(b"x").stored(b"y"), code.HEADER_TRUNCATED, b"xy", padding=0),
        _wrong("stored length inverted by one bit", Assembler().stored(b"x", complement=~1 ^ 0x8000),
               code.STORED_LENGTH_MISMATCH),
        _wrong("symbol 287", Assembler().fixed([3, Symbol(287)]), code.BAD_LITERAL_CODE, b"\x03"),
        _wrong("distance symbol 31", Assembler().fixed([3, Match(260, 0, 31, 0)]), code.BAD_DISTANCE_CODE, b"\x03"),
        _wrong("distance symbol 30 at the very end", Assembler().fixed([3, Match(260, 0, 30, 0)], end=False),
               code.BAD_DISTANCE_CODE, b"\x03", padding=0),
        _wrong("match at the start", Assembler().fixed([(3, 1)]), code.DISTANCE_BEFORE_START),
        _wrong("distance one too far", Assembler().stored(block).fixed([(3, 32768)]), code.DISTANCE_BEFORE_START,
               block),
        _wrong("other code than the lone end-of-block code",
               Assembler().dynamic([Bits(1, 1)], literals=[*[0] * 256, 1], distances=[0]), code.BAD_LITERAL_CODE),
        _wrong("other code than the lone distance code",
               Assembler().dynamic([66, Symbol(258), Bits(1, 1)], literals=[*[0] * 66, 2, *[0] * 189, 2, 0, 1],
                                   distances=[1]), code.BAD_DISTANCE_CODE, b"B"),
        _wrong("match without distance code",
               Assembler().dynamic([66, Symbol(258)], literals=[*[0] * 66, 2, *[0] * 189, 2, 0, 1], distances=[0]),
               code.BAD_DISTANCE_CODE, b"B"),
    )


def _wrong_codes() -> tuple[Corner, ...]:
    """Raw streams with bad code sets, alone and together."""
    code = ErrorCode
    both = [1, 1, 1, *[0] * 253, 0, 1]  # oversubscribed, and no end of the block
    return (
        _wrong("incomplete literals", Assembler().dynamic((), literals=[2, 2, *[0] * 254, 2], distances=[1, 1]),
               code.LITERALS_INCOMPLETE),
        _wrong("lone end-of-block code of 2 bits", Assembler().dynamic((), literals=[*[0] * 256, 2], distances=[1]),
               code.LITERALS_INCOMPLETE),
        _wrong("incomplete distances", Assembler().dynamic((), literals=_LITERALS, distances=[2, 2, 2]),
               code.DISTANCES_INCOMPLETE),
        _wrong("lone distance code of 2 bits", Assembler().dynamic((), literals=_LITERALS, distances=[2]),
               code.DISTANCES_INCOMPLETE),
        _wrong("one code-length code", Assembler().dynamic((), literals=_LITERALS, distances=_DISTANCES,
                                                           code_lengths=[1] + [0] * 18),
               code.CODE_LENGTHS_INCOMPLETE),
        _wrong("incomplete code-length code", Assembler().dynamic((), literals=_LITERALS, distances=_DISTANCES,
                                                                  code_lengths=[3] * 4 + [0] * 12 + [3] * 3),
               code.CODE_LENGTHS_INCOMPLETE),
        _wrong("run one too long", _header([*_LITERAL_SYMBOLS, (1, 0), (1, 0), (17, 0)], hdist=3)
               .bits(_END_CODE.value, _END_CODE.count), code.DISTANCE_LENGTHS_OVERRUN),
        _wrong("too many of both codes", Assembler().dynamic_header([1] * 257, [1], hlit=31, hdist=31),
               code.TOO_MANY_LITERAL_CODES),
        _wrong("no end of block before oversubscribed", Assembler().dynamic((), literals=both, distances=[1, 1, 1]),
               code.NO_END_OF_BLOCK_CODE),
        _wrong("literals before distances", Assembler().dynamic((), literals=[1, *[0] * 255, 2], distances=[1, 1, 1]),
               code.LITERALS_INCOMPLETE),
    )


def _frames() -> tuple[Corner, ...]:
    """zlib and gzip framing, right and wrong."""
    text = b"framed"
    raw = Assembler().fixed(text, True).data()
    code, zlib_, gzip = ErrorCode, Format.ZLIB, Format.GZIP

    def right(name: str, format: Format, data: bytes) -> Corner:
        return Corner(name, format, data + b"\0\x1ftrailing", text, consumed=len(data))

    return (
        right("zlib", zlib_, zlib_frame(raw, text)),
        right("zlib with a window of 256", zlib_, zlib_frame(raw, text, cmf=0x08)),
        Corner("zlib header check", zlib_, zlib_frame(raw, text, flg=0x9D), error=code.ZLIB_HEADER_CHECK),
        Corner("zlib method", zlib_, zlib_frame(raw, text, cmf=0x77), error=code.ZLIB_METHOD),
        Corner("zlib window", zlib_, zlib_frame(raw, text, cmf=0x88), error=code.ZLIB_WINDOW),
        Corner("zlib method before window", zlib_, zlib_frame(raw, text, cmf=0x97), error=code.ZLIB_METHOD),
        Corner("zlib check before method", zlib_, zlib_frame(raw, text, cmf=0x97, flg=0), error=code.ZLIB_HEADER_CHECK),
        Corner("zlib header cut", zlib_, b"\x78", error=code.FRAME_TRUNCATED),
        Corner("zlib dictionary cut", zlib_, zlib_frame(b"", b"", dictionary=b"dict")[:5], error=code.FRAME_TRUNCATED),
        Corner("adler", zlib_, zlib_frame(raw, text, adler=1), text, code.ADLER_MISMATCH),
        Corner("zlib trailer cut", zlib_, zlib_frame(raw, text)[:-1], text, code.FRAME_TRUNCATED),
        right("gzip", gzip, gzip_frame(raw, text)),
        right("gzip with everything", gzip, gzip_frame(raw, text, flags=1, extra=b"xx\4\0abcd", name=b"name",
                                                       comment=b"comment", header_crc=True)),
        right("gzip with empty fields", gzip, gzip_frame(raw, text, extra=b"", name=b"", comment=b"")),
        right("gzip with a long extra field", gzip, gzip_frame(raw, text, extra=bytes(65535))),
        Corner("gzip magic", gzip, gzip_frame(raw, text, magic=b"\x1f\x8c"), error=code.GZIP_MAGIC),
        Corner("zlib for gzip", gzip, zlib_frame(raw, text), error=code.GZIP_MAGIC),
        Corner("gzip method", gzip, gzip_frame(raw, text, method=7, flags=0x80), error=code.GZIP_METHOD),
        *(Corner(f"gzip flag {bit}", gzip, gzip_frame(raw, text, flags=1 << bit), error=code.GZIP_FLAGS)
          for bit in (5, 6, 7)),
        Corner("gzip header crc", gzip, gzip_frame(raw, text, name=b"n", header_crc=0x1234),
               error=code.GZIP_HEADER_CRC),
        Corner("gzip header cut", gzip, gzip_frame(raw, text)[:9], error=code.FRAME_TRUNCATED),
        Corner("gzip name without end", gzip, gzip_frame(b"", b"", flags=8)[:10] + b"name", error=code.FRAME_TRUNCATED),
        Corner("gzip crc", gzip, gzip_frame(raw, text, crc=1), text, code.CRC_MISMATCH),
        Corner("gzip crc before length", gzip, gzip_frame(raw, text, crc=1, length=1)[:-4], text, code.CRC_MISMATCH),
        Corner("gzip length", gzip, gzip_frame(raw, text, length=7), text, code.LENGTH_MISMATCH),
        Corner("gzip length cut", gzip, gzip_frame(raw, text)[:-1], text, code.FRAME_TRUNCATED),
    )


CORNERS = (*_right_blocks(), *_right_codes(), *_wrong_blocks(), *_wrong_codes(), *_frames())
