# SPDX-License-Identifier: Apache-2.0
"""Deflate streams put together by hand, right or deliberately wrong (RFC 1951, 1950, 1952).

    asm = Assembler()
    asm.fixed([65, (3, 1)], final=True)
    asm.data()                              # four times "A"

A token is a byte (0 to 255), a match ``(length, distance)``, or one of :class:`Symbol`, :class:`Bits`
and :class:`Match` to write what no compressor would.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rackgate_sim.inflate.model import (
    CODE_LENGTH_ORDER,
    DISTANCE_BASE,
    DISTANCE_EXTRA,
    FIXED_DISTANCES,
    FIXED_LITERALS,
    LENGTH_BASE,
    LENGTH_EXTRA,
)

__all__ = [
    "END", "Assembler", "Bits", "Match", "Symbol", "Token", "canonical_codes", "distance_symbol", "gzip_frame",
    "length_symbol", "lengths_for", "limited_lengths", "run_lengths", "zlib_frame",
]


@dataclass(frozen=True)
class Symbol:
    """A symbol of the literal/length code, or with ``distance`` of the distance code, and no extra bits."""

    value: int
    distance: bool = False


@dataclass(frozen=True)
class Bits:
    """``count`` bits of ``value``, lowest first, as they are."""

    value: int
    count: int


@dataclass(frozen=True)
class Match:
    """A match with the given symbols and extra-bit values, however odd; extra-bit counts follow the symbols."""

    length: int
    length_extra: int
    distance: int
    distance_extra: int


#: The end of a block.
END = Symbol(256)

Token = int | tuple[int, int] | Symbol | Bits | Match


def length_symbol(length: int) -> tuple[int, int, int]:
    """Symbol, extra bits and their count for a match length of 3 to 258."""
    if not 3 <= length <= 258:
        raise ValueError(f"match length must be 3 to 258, not {length}")
    index = 28 if length == 258 else max(i for i in range(28) if LENGTH_BASE[i] <= length)
    return 257 + index, length - LENGTH_BASE[index], LENGTH_EXTRA[index]


def distance_symbol(distance: int) -> tuple[int, int, int]:
    """Symbol, extra bits and their count for a distance of 1 to 32768."""
    if not 1 <= distance <= 32768:
        raise ValueError(f"distance must be 1 to 32768, not {distance}")
    index = max(i for i in range(30) if DISTANCE_BASE[i] <= distance)
    return index, distance - DISTANCE_BASE[index], DISTANCE_EXTRA[index]


def canonical_codes(lengths: Sequence[int]) -> list[int]:
    """The code of each symbol, first bit highest (RFC 1951 3.2.2). Codes of impossible sets are cut to size."""
    counts = [0] * 17
    for length in lengths:
        counts[length] += length > 0
    code, following = 0, [0] * 17
    for length in range(1, 17):
        code = (code + counts[length - 1]) << 1
        following[length] = code
    codes = []
    for length in lengths:
        codes.append(following[length] & ((1 << length) - 1))
        following[length] += 1
    return codes


def limited_lengths(frequencies: Sequence[int], limit: int = 15) -> list[int]:
    """Best code lengths of at most ``limit`` bits (package-merge); a lone symbol gets one bit.

    Raises ``ValueError`` when there are more than ``2 ** limit`` symbols.
    """
    used = sorted((count, (symbol,)) for symbol, count in enumerate(frequencies) if count)
    if len(used) > 1 << limit:
        raise ValueError(f"limit must allow for {len(used)} symbols, not be {limit}")
    lengths = [0] * len(frequencies)
    if len(used) == 1:
        lengths[used[0][1][0]] = 1
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(limit):
        merged = sorted(used + packages)
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(merged[::2], merged[1::2], strict=False)]
    for _, symbols in packages[:len(used) - 1]:
        for symbol in symbols:
            lengths[symbol] += 1
    return lengths


def _symbols(tokens: Iterable[Token]) -> Iterable[tuple[int | None, int | None]]:
    """The literal/length and the distance symbol of each token."""
    for token in tokens:
        if isinstance(token, Symbol):
            yield (None, token.value) if token.distance else (token.value, None)
        elif isinstance(token, Match):
            yield token.length, token.distance
        elif isinstance(token, tuple):
            yield length_symbol(token[0])[0], distance_symbol(token[1])[0]
        elif isinstance(token, int):
            yield token, None


def lengths_for(tokens: Iterable[Token], limit: int = 15) -> tuple[list[int], list[int]]:
    """Code lengths, 286 and 30 of them, that suit ``tokens`` and the end of the block."""
    literals, distances = [0] * 286, [0] * 30
    literals[256] = 1
    for literal, distance in _symbols(tokens):
        if literal is not None:
            literals[literal] += 1
        if distance is not None:
            distances[distance] += 1
    if sum(map(bool, literals)) == 1:
        literals[0] += 1
    return limited_lengths(literals, limit), limited_lengths(distances, limit)


def run_lengths(lengths: Sequence[int], runs: bool = True) -> list[tuple[int, int]]:
    """Code lengths as symbols of the code-length code with their extra bits' values, longest runs first.

    With ``runs`` false each length has its own symbol. Runs go across the border between literals and
    distances when both stand in ``lengths``.
    """
    symbols, index = [], 0
    while index < len(lengths):
        value, run = lengths[index], 1
        while index + run < len(lengths) and lengths[index + run] == value:
            run += 1
        if not runs:
            symbols.append((value, 0))
            index += 1
        elif value == 0 and run >= 3:
            run = min(run, 138)
            symbols.append((18, run - 11) if run >= 11 else (17, run - 3))
            index += run
        elif index and lengths[index - 1] == value and run >= 3:
            run = min(run, 6)
            symbols.append((16, run - 3))
            index += run
        else:
            symbols.append((value, 0))
            index += 1
    return symbols


class Assembler:
    """A growing stream of bits. Every method returns the assembler itself unless it says otherwise."""

    def __init__(self) -> None:
        self._value = 0
        self._count = 0
        self._bytes = bytearray()

    def __len__(self) -> int:
        """Bits so far."""
        return 8 * len(self._bytes) + self._count

    def data(self) -> bytes:
        """The stream so far, filled up with zero bits to a whole byte."""
        return bytes(self._bytes) + self._value.to_bytes((self._count + 7) // 8, "little")

    def bits(self, value: int, count: int) -> "Assembler":
        """Append the low ``count`` bits of ``value``, lowest first."""
        self._value |= (value & ((1 << count) - 1)) << self._count
        self._count += count
        whole = self._count // 8
        self._bytes += (self._value & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
        self._value >>= 8 * whole
        self._count -= 8 * whole
        return self

    def code(self, code: int, length: int) -> "Assembler":
        """Append a prefix code, highest bit first."""
        return self.bits(int(f"{code:0{length}b}"[::-1], 2), length) if length else self

    def align(self, fill: int = 0) -> "Assembler":
        """Fill up to a whole byte with the low bits of ``fill``."""
        return self.bits(fill, -self._count % 8)

    def raw(self, data: bytes) -> "Assembler":
        """Append bytes, from where the stream stands."""
        return self.bits(int.from_bytes(data, "little"), 8 * len(data))

    def header(self, kind: int, final: bool = False) -> "Assembler":
        """Append the three bits that a block begins with."""
        return self.bits(kind << 1 | final, 3)

    def stored(self, data: bytes = b"", final: bool = False, *, length: int | None = None,
               complement: int | None = None, fill: int = 0) -> "Assembler":
        """Append a stored block, with LEN and NLEN as given where they shall not be right."""
        length = len(data) if length is None else length
        complement = ~length if complement is None else complement
        return self.header(0, final).align(fill).bits(length, 16).bits(complement, 16).raw(data)

    def fixed(self, tokens: Iterable[Token] = (), final: bool = False, *, end: bool = True) -> "Assembler":
        """Append a block with the fixed codes; without its end if ``end`` is false."""
        self.header(1, final)
        return self.tokens(tokens, FIXED_LITERALS, FIXED_DISTANCES, end)

    def dynamic(self, tokens: Iterable[Token] = (), final: bool = False, *, literals: Sequence[int] | None = None,
                distances: Sequence[int] | None = None, end: bool = True, **header: Any) -> "Assembler":
        """Append a block with its own codes; ``header`` goes to :meth:`dynamic_header`.

        Code lengths that are not given are made to suit the tokens.
        """
        tokens = list(tokens)
        suited = lengths_for(tokens) if literals is None or distances is None else ((), ())
        literals = suited[0] if literals is None else literals
        distances = suited[1] if distances is None else distances
        self.dynamic_header(literals, distances, final, **header)
        return self.tokens(tokens, literals, distances, end)

    def dynamic_header(self, literals: Sequence[int], distances: Sequence[int], final: bool = False, *,
                       hlit: int | None = None, hdist: int | None = None, hclen: int | None = None,
                       code_lengths: Sequence[int] | None = None, symbols: Sequence[tuple[int, int]] | None = None,
                       across: bool = False, trim: bool = True) -> "Assembler":
        """Append the header of a dynamic block.

        Parameters
        ----------
        literals, distances:
            Code lengths. Zeros at their ends are left out as far as allowed, unless ``trim`` is false.
        hlit, hdist, hclen:
            The fields as they stand in the stream, if they shall not follow from the lengths.
        code_lengths:
            The 19 lengths of the code-length code; made to suit the symbols if not given.
        symbols:
            Symbols of the code-length code and their extra bits' values, in place of the lengths.
        across:
            Let runs go from the literals' lengths into the distances'.
        """
        if trim:
            literals, distances = _trimmed(literals, 257), _trimmed(distances, 1)
        if symbols is None:
            symbols = (run_lengths([*literals, *distances]) if across
                       else run_lengths(literals) + run_lengths(distances))
        if code_lengths is None:
            code_lengths = _code_length_lengths(symbols)
        if hclen is None:
            hclen = max([4, *(i + 1 for i, s in enumerate(CODE_LENGTH_ORDER) if code_lengths[s])]) - 4
        self.header(2, final)
        self.bits(len(literals) - 257 if hlit is None else hlit, 5)
        self.bits(len(distances) - 1 if hdist is None else hdist, 5)
        self.bits(hclen, 4)
        for symbol in CODE_LENGTH_ORDER[:hclen + 4]:
            self.bits(code_lengths[symbol], 3)
        codes = canonical_codes(code_lengths)
        for symbol, extra in symbols:
            self.code(codes[symbol], code_lengths[symbol])
            self.bits(extra, {16: 2, 17: 3, 18: 7}.get(symbol, 0))
        return self

    def tokens(self, tokens: Iterable[Token], literals: Sequence[int], distances: Sequence[int],
               end: bool = True) -> "Assembler":
        """Append tokens with the codes of the given lengths, then the end of the block if ``end``."""
        literal_codes, distance_codes = canonical_codes(literals), canonical_codes(distances)

        def literal(symbol: int) -> None:
            self.code(literal_codes[symbol], literals[symbol])

        def distance(symbol: int) -> None:
            self.code(distance_codes[symbol], distances[symbol])

        for token in (*tokens, END) if end else tokens:
            if isinstance(token, Bits):
                self.bits(token.value, token.count)
            elif isinstance(token, Symbol):
                (distance if token.distance else literal)(token.value)
            elif isinstance(token, int):
                literal(token)
            else:
                match = token if isinstance(token, Match) else _match(*token)
                literal(match.length)
                self.bits(match.length_extra, (*LENGTH_EXTRA, 0, 0)[match.length - 257])
                distance(match.distance)
                self.bits(match.distance_extra, (*DISTANCE_EXTRA, 0, 0)[match.distance])
        return self


def _match(length: int, distance: int) -> Match:
    symbol, extra, _ = length_symbol(length)
    return Match(symbol, extra, *distance_symbol(distance)[:2])


def _trimmed(lengths: Sequence[int], least: int) -> Sequence[int]:
    size = len(lengths)
    while size > least and not lengths[size - 1]:
        size -= 1
    return lengths[:size]


def _code_length_lengths(symbols: Iterable[tuple[int, int]]) -> list[int]:
    counts = [0] * 19
    for symbol, _ in symbols:
        counts[symbol] += 1
    if sum(map(bool, counts)) < 2:  # a code with one symbol is incomplete, and zlib refuses it
        counts[0 if counts[18] else 18] += 1
    return limited_lengths(counts, 7)


def zlib_frame(deflate: bytes, content: bytes, *, cmf: int = 0x78, flg: int | None = None,
               dictionary: bytes | None = None, adler: int | None = None) -> bytes:
    """A zlib stream around ``deflate``, which stands for ``content``. FLG is made right unless it is given."""
    if flg is None:
        flg = 0x20 if dictionary is not None else 0
        flg += -(256 * cmf + flg) % 31
    adler = zlib.adler32(content) if adler is None else adler
    dictid = b"" if dictionary is None else struct.pack(">I", zlib.adler32(dictionary))
    return bytes((cmf, flg)) + dictid + deflate + struct.pack(">I", adler)


def gzip_frame(deflate: bytes, content: bytes, *, magic: bytes = b"\x1f\x8b", method: int = 8, flags: int = 0,
               extra: bytes | None = None, name: bytes | None = None, comment: bytes | None = None,
               header_crc: int | bool | None = None, crc: int | None = None, length: int | None = None) -> bytes:
    """A gzip member around ``deflate``, which stands for ``content``.

    ``flags`` are set besides those that follow from the other arguments. ``header_crc`` true puts the right
    one there, a number puts that one. ``crc`` and ``length`` replace the trailer's right values.
    """
    flags |= (4 * (extra is not None) | 8 * (name is not None) | 16 * (comment is not None)
              | 2 * (header_crc is not None and header_crc is not False))
    header = magic + bytes((method, flags)) + struct.pack("<IBB", 0, 0, 255)
    if extra is not None:
        header += struct.pack("<H", len(extra)) + extra
    for text in (name, comment):
        if text is not None:
            header += text + b"\0"
    if flags & 2:
        value = zlib.crc32(header) if header_crc is True else header_crc or 0
        header += struct.pack("<H", value & 0xFFFF)
    crc = zlib.crc32(content) if crc is None else crc
    return header + deflate + struct.pack("<II", crc, (len(content) if length is None else length) & 0xFFFFFFFF)
