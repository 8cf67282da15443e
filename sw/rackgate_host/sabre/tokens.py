# SPDX-License-Identifier: Apache-2.0
"""Literals and matches of Deflate streams, many at a time.

zlib does the search: with its Z_FIXED strategy it finds the same matches as without, and writes them with the one code
that needs no table. Here the length of the token at *every* bit offset is looked up at once, the true beginnings
are picked by hopping from token to token, and the fields of all tokens are cut out at once.
"""

import functools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .huffman import reversed_codes

__all__ = ["DISTANCE_EXTRA", "DISTANCE_SYMBOLS", "END_OF_BLOCK", "LENGTH_EXTRA", "LITERAL_SYMBOLS", "NO_DISTANCE",
           "Tokens", "fixed_stream", "tokenise", "window_bits"]

LITERAL_SYMBOLS = 286
DISTANCE_SYMBOLS = 30
END_OF_BLOCK = 256
#: Stands for the distance symbol of a literal.
NO_DISTANCE = DISTANCE_SYMBOLS
#: Extra bits of literal/length symbols 257 to 285, and of distance symbols (RFC 1951, 3.2.5).
LENGTH_EXTRA = (0,) * 8 + tuple(bits for bits in range(1, 6) for _ in range(4)) + (0,)
DISTANCE_EXTRA = (0, 0) + tuple(bits for bits in range(14) for _ in range(2))

_PEEK = 18  # bits that tell how long a token is: 8 of the length code, 5 of its extra bits, 5 of the distance code
_BAD, _END = 64, 128  # marks in the table of token lengths
_PADDING = 16
_ONE = np.uint64(1)
_ROWS = 1 << 15  # bytes of streams looked at together: what fits into a cache


@dataclass(frozen=True)
class Tokens:
    """The tokens of several streams, one after the other; each stream ends with its one end-of-block symbol.

    ``symbols`` are literal/length symbols, ``distances`` distance symbols (:data:`NO_DISTANCE` for a literal),
    ``extra`` and ``distance_extra`` the values of their extra bits. ``starts`` has the first token of each stream
    and, as its last entry, the number of tokens.
    """

    symbols: npt.NDArray[np.intp]
    extra: npt.NDArray[np.uint64]
    distances: npt.NDArray[np.intp]
    distance_extra: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def counts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """How often each stream (row) has each literal/length and each distance symbol (column)."""
        row = np.repeat(np.arange(len(self)), np.diff(self.starts))
        size = NO_DISTANCE + 1
        literals = np.bincount(row * LITERAL_SYMBOLS + self.symbols, minlength=len(self) * LITERAL_SYMBOLS)
        distances = np.bincount(row * size + self.distances, minlength=len(self) * size)
        return literals.reshape(-1, LITERAL_SYMBOLS), distances.reshape(-1, size)[:, :DISTANCE_SYMBOLS]


def window_bits(size: int, window: int) -> int:
    """zlib's ``wbits`` for the smallest window that ``size`` bytes cannot outgrow, or for ``window``.

    zlib never reaches back the last 262 bytes of its window, so a page is given more than 4 KiB of it.
    """
    largest = 12 if window == 4096 else 15
    if size > window:
        return largest
    return next((bits for bits in range(10, 15) if (1 << bits) - 262 >= size), 15)


def fixed_stream(data: bytes | memoryview, window: int, level: int = 6) -> bytes:
    """``data`` as raw Deflate with fixed codes, or stored where that is shorter. ``window`` is 4096 or 32768."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -window_bits(len(data), window), 8, zlib.Z_FIXED)
    return packer.compress(data) + packer.flush()


def tokenise(streams: Iterable[bytes]) -> Tokens:
    """Tokens of raw Deflate streams of fixed and stored blocks, as :func:`fixed_stream` makes them.

    Stored bytes become literals. Several blocks of a stream become one run of tokens. Raises ``ValueError`` for a
    dynamic block or a damaged stream.
    """
    lengths, symbols, sizes, extra_bits, distance_symbols, distance_bits = _tables()
    pieces = list(streams)
    blob = b"".join(pieces) + bytes(_PADDING)
    data = np.frombuffer(blob, np.uint8).astype(np.uint32)
    words = data[:-3] | data[1:-2] << 8 | data[2:-1] << 16 | data[3:] << 24
    shifts = np.arange(8, dtype=np.uint32)
    steps = b"".join(lengths[words[row:row + _ROWS, None] >> shifts & ((1 << _PEEK) - 1)].tobytes()
                     for row in range(0, len(words), _ROWS))

    places: list[int] = []  # bit offset of a token, or the complement of the byte offset of a stored byte
    starts, base = [0], 0
    for piece in pieces:
        _walk(blob, steps, base, base + len(piece), places)
        places.append((len(blob) - 8) * 8)  # zeros: the fixed end-of-block code
        base += len(piece)
        starts.append(len(places))

    place = np.array(places, np.int64)
    stored = place < 0
    at = np.where(stored, 0, place)
    index = at >> 3
    shift = (at & 7).astype(np.uint64)
    peek = (words[index].astype(np.uint64) | words[index + 4].astype(np.uint64) << np.uint64(32)) >> shift
    code = (peek & 511).astype(np.intp)
    symbol = np.where(stored, data[np.where(stored, ~place, 0)], symbols[code])
    match = symbol > END_OF_BLOCK
    peek = peek >> np.where(stored, 0, sizes[code]).astype(np.uint64)
    bits = np.where(match, extra_bits[symbol], 0).astype(np.uint64)
    extra = (peek & (_ONE << bits) - _ONE).astype(np.uint64)
    peek = peek >> bits
    distance = np.where(match, distance_symbols[(peek & 31).astype(np.intp)], NO_DISTANCE)
    distance_extra = (peek >> np.uint64(5) & (_ONE << distance_bits[distance]) - _ONE).astype(np.uint64)
    return Tokens(symbol.astype(np.intp), extra, distance.astype(np.intp), distance_extra, np.array(starts, np.intp))


def _walk(blob: bytes, steps: bytes, begin: int, end: int, places: list[int]) -> None:
    """Append the places of the tokens of the stream in bytes ``begin`` to ``end``, without its end-of-block symbols."""
    position, limit = begin * 8, end * 8
    add = places.append
    final = False
    while not final:
        if position + 3 > limit:
            raise ValueError("the stream has no final block")
        header = int.from_bytes(blob[position >> 3:(position >> 3) + 2], "little") >> (position & 7)
        final = bool(header & 1)
        position += 3
        match header >> 1 & 3:
            case 0:
                start = (position + 7 >> 3) + 4
                size = int.from_bytes(blob[start - 4:start - 2], "little")
                if start + size > end or size ^ int.from_bytes(blob[start - 2:start], "little") != 0xFFFF:
                    raise ValueError("a stored block is damaged")
                places.extend(range(~start, ~(start + size), -1))
                position = (start + size) * 8
            case 1:
                step = steps[position]
                while step < _BAD:
                    add(position)
                    position += step
                    step = steps[position]
                if step == _BAD:
                    raise ValueError("a code of the stream is in no fixed code")
                position += step - _END
                if position > limit:
                    raise ValueError("the stream ends inside a block")
            case kind:
                raise ValueError(f"a block of type {kind} has no fixed codes")


@functools.cache
def _tables() -> tuple[np.ndarray, ...]:
    """By the next bits: token lengths, symbols, code sizes. By symbol: extra bits. By the next bits: distance symbols.
    By distance symbol: extra bits."""
    code_lengths = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8
    symbols, sizes = np.zeros(512, np.intp), np.zeros(512, np.uint8)
    for symbol, (length, code) in enumerate(zip(code_lengths, reversed_codes(code_lengths), strict=True)):
        symbols[code::1 << length] = symbol
        sizes[code::1 << length] = length
    extra_bits = np.zeros(288, np.uint8)
    extra_bits[257:286] = LENGTH_EXTRA
    distance_symbols = np.array(reversed_codes([5] * 32), np.intp)  # reversing is its own inverse
    distance_bits = np.zeros(32, np.uint64)
    distance_bits[:DISTANCE_SYMBOLS] = DISTANCE_EXTRA

    peek = np.arange(1 << _PEEK)
    symbol = symbols[peek & 511]
    before = sizes[peek & 511].astype(np.intp) + extra_bits[symbol]
    distance = distance_symbols[peek >> before & 31]
    lengths = np.where(symbol > END_OF_BLOCK, before + 5 + distance_bits[distance].astype(np.intp), before)
    lengths[symbol == END_OF_BLOCK] += _END
    lengths[(symbol >= LITERAL_SYMBOLS) | ((symbol > END_OF_BLOCK) & (distance >= DISTANCE_SYMBOLS))] = _BAD
    return lengths.astype(np.uint8), symbols, sizes, extra_bits, distance_symbols, distance_bits
