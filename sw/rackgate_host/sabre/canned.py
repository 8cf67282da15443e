# SPDX-License-Identifier: Apache-2.0
"""Canned tables: Deflate codes that many pages share, so that a page is stored without a header of its own.

A canned page is the body of a dynamic block: codes, end-of-block code, zero bits up to a whole byte. ``table.header``
and the page's bytes one after the other are a raw Deflate stream that any decoder reads. For that the header has to
end on a byte boundary: up to three empty fixed blocks stand in front of it, and it may write code-length codes of
length zero that it could leave out.
"""

import functools
import itertools
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import SabreError
from .huffman import MAX_BITS, is_complete, limited_lengths, reversed_codes
from .tokens import (
    DISTANCE_EXTRA,
    DISTANCE_SYMBOLS,
    LENGTH_EXTRA,
    LITERAL_SYMBOLS,
    Tokens,
    fixed_stream,
    tokenise,
)

__all__ = ["SAMPLE", "TABLE_SIZE", "CannedTable", "encode", "train"]

#: Bytes of a table in a file: its code lengths and their CRC-32.
TABLE_SIZE = LITERAL_SYMBOLS + DISTANCE_SYMBOLS + 4
#: Pages that tables are made from at most.
SAMPLE = 400

_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
_EMPTY_FIXED = (0b010, 10)  # not final, type 1, end-of-block code 0000000
_BATCH = 1 << 18  # bytes of pages coded together: what fits into a cache
_ROUNDS = 6


@dataclass(frozen=True)
class CannedTable:
    """Code lengths of all 286 literal/length and all 30 distance symbols, so that any page can be coded.

    ``literal_lengths`` and ``distance_lengths`` have one byte a symbol, each 1 to 15, and make complete codes;
    ``ValueError`` if not.
    """

    literal_lengths: bytes
    distance_lengths: bytes

    def __post_init__(self) -> None:
        for name, size in (("literal_lengths", LITERAL_SYMBOLS), ("distance_lengths", DISTANCE_SYMBOLS)):
            lengths = getattr(self, name)
            if not isinstance(lengths, bytes):
                raise TypeError(f"{name} must be bytes, not {type(lengths).__name__}")
            if len(lengths) != size:
                raise ValueError(f"{name} must have {size} code lengths, not {len(lengths)}")
            bad = next((symbol for symbol, length in enumerate(lengths) if not 1 <= length <= MAX_BITS), None)
            if bad is not None:
                raise ValueError(f"{name}[{bad}] must be 1 to {MAX_BITS}, not {lengths[bad]}")
            if not is_complete(lengths):
                raise ValueError(f"{name} must make a complete code")

    @classmethod
    def from_counts(cls, literals: Sequence[int], distances: Sequence[int]) -> "CannedTable":
        """The best table for symbols that occur so often. Symbols that do not occur get long codes."""
        return cls(*(bytes(limited_lengths([16 * int(count) + 1 for count in counts]))
                     for counts in (literals, distances)))

    @classmethod
    def from_bytes(cls, data: bytes) -> "CannedTable":
        """The table that :meth:`to_bytes` wrote; ``ValueError`` says what is wrong with it."""
        if len(data) != TABLE_SIZE:
            raise ValueError(f"a table must have {TABLE_SIZE} bytes, not {len(data)}")
        lengths, crc = data[:-4], int.from_bytes(data[-4:], "little")
        if zlib.crc32(lengths) != crc:
            raise ValueError(f"the table's crc32 must be {zlib.crc32(lengths):#010x}, not {crc:#010x}")
        return cls(lengths[:LITERAL_SYMBOLS], lengths[LITERAL_SYMBOLS:])

    def to_bytes(self) -> bytes:
        """The table as it lies in a file: code lengths in the order of the symbols, then their CRC-32."""
        lengths = self.literal_lengths + self.distance_lengths
        return lengths + zlib.crc32(lengths).to_bytes(4, "little")

    @functools.cached_property
    def header(self) -> bytes:
        """What stands in front of a canned page's bytes to make them a raw Deflate stream."""
        return _header(self)

    @functools.cached_property
    def codes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Codes of the literal/length and of the distance symbols, first bit lowest."""
        return tuple(reversed_codes(self.literal_lengths)), tuple(reversed_codes(self.distance_lengths))

    @functools.cached_property
    def costs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Bits of each literal/length and each distance symbol, extra bits not counted."""
        literals, distances = (np.frombuffer(lengths, np.uint8).astype(np.int64)
                               for lengths in (self.literal_lengths, self.distance_lengths))
        return literals, distances

    def encode(self, page: bytes | memoryview, *, window: int = 4096, level: int = 6) -> bytes:
        """``page`` as canned bytes. Can be longer than the page."""
        return encode([page], [self], window=window, level=level)[0][1]


def encode(pages: Sequence[bytes | memoryview], tables: Sequence[CannedTable], *, window: int = 4096,
           level: int = 6) -> list[tuple[int, bytes]]:
    """For each page the number of the table that suits it best, and its canned bytes.

    ``window`` is 4096 or 32768, ``level`` zlib's. About 0.2 ms a page of 4 KiB.
    """
    return list(_encoded(pages, tables, window, level))


def train(pages: Sequence[bytes | memoryview], count: int = 1, *, window: int = 4096, level: int = 6,
          seed: int = 1) -> list[CannedTable]:
    """``count`` tables for pages like these, of which at most :data:`SAMPLE`, chosen by ``seed``, are looked at.

    With several tables pages are put together by which table is the shortest for them; fewer tables come back when
    no page would use the others.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    dice = random.Random(seed)
    numbers = range(len(pages)) if len(pages) <= SAMPLE else sorted(dice.sample(range(len(pages)), SAMPLE))
    chosen = [pages[number] for number in numbers]
    literals, distances = tokenise(fixed_stream(page, window, level) for page in chosen).counts()
    tables = [CannedTable.from_counts(literals.sum(0), distances.sum(0))]
    if count == 1 or len(chosen) < 2:
        return tables
    # The pages that the table of all suits least and best begin the classes; then the classes are improved in turn.
    order = np.argsort(_costs(literals, distances, tables)[0] / np.maximum(literals.sum(1), 1))
    for part in np.array_split(order, count):
        if len(part):
            tables.append(CannedTable.from_counts(literals[part].sum(0), distances[part].sum(0)))
    tables = tables[1:]
    for _ in range(_ROUNDS):
        best = _costs(literals, distances, tables).argmin(0)
        members = [np.flatnonzero(best == number) for number in range(len(tables))]
        tables = [CannedTable.from_counts(literals[part].sum(0), distances[part].sum(0))
                  for part in members if len(part)]
    return tables


def _costs(literals: npt.NDArray[np.int64], distances: npt.NDArray[np.int64],
           tables: Sequence[CannedTable]) -> npt.NDArray[np.int64]:
    """Bits of each page (column) with each table (row), extra bits not counted."""
    return np.stack([literals @ table.costs[0] + distances @ table.costs[1] for table in tables])


def _batches(pages: Iterable[bytes | memoryview]) -> Iterator[list[bytes | memoryview]]:
    batch, size = [], 0
    for page in pages:
        batch.append(page)
        size += len(page)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encoded(pages: Sequence[bytes | memoryview], tables: Sequence[CannedTable], window: int,
             level: int) -> Iterator[tuple[int, bytes]]:
    packers = [_Packer(table) for table in tables]
    for batch in _batches(pages):
        tokens = tokenise(fixed_stream(page, window, level) for page in batch)
        if len(tables) == 1:
            yield from zip(itertools.repeat(0), packers[0].pack(tokens))
            continue
        best = _costs(*tokens.counts(), tables).argmin(0)
        packed = {number: packers[number].pack(tokens) for number in set(best.tolist())}
        yield from ((number, packed[number][index]) for index, number in enumerate(best.tolist()))


class _Packer:
    """Writes tokens with a table's codes."""

    def __init__(self, table: CannedTable):
        literals, distances = table.codes
        self._codes = np.array(literals, np.uint64)
        self._sizes = np.frombuffer(table.literal_lengths, np.uint8).astype(np.uint64)
        self._extra = np.zeros(LITERAL_SYMBOLS, np.uint64)
        self._extra[257:] = LENGTH_EXTRA
        # One entry more than there are symbols: a literal's distance, of no bits.
        self._distance_codes = np.array([*distances, 0], np.uint64)
        self._distance_sizes = np.array([*table.distance_lengths, 0], np.uint64)
        self._distance_extra = np.array([*DISTANCE_EXTRA, 0], np.uint64)

    def pack(self, tokens: Tokens) -> list[bytes]:
        """The streams of ``tokens``, each on a byte boundary."""
        symbol, distance = tokens.symbols, tokens.distances
        size = self._sizes[symbol]
        value = self._codes[symbol] | tokens.extra << size
        size = size + self._extra[symbol]
        value |= self._distance_codes[distance] << size
        size = size + self._distance_sizes[distance]
        value |= tokens.distance_extra << size
        size = size + self._distance_extra[distance]

        # Each stream begins at a 64-bit word. A token has at most 48 bits, so one begins in every word but the last of
        # a stream; what begins in one word is disjoint, so its sum is its union; at most one token runs into the next.
        ends = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        bits = np.diff(ends[tokens.starts])
        first = np.concatenate([[0], np.cumsum((bits + 63) // 64)])
        within = ends[:-1] - np.repeat(ends[tokens.starts[:-1]], np.diff(tokens.starts))
        word = np.repeat(first[:-1], np.diff(tokens.starts)) + (within >> 6)
        shift = (within & 63).astype(np.uint64)
        words = np.zeros(first[-1], np.uint64)
        begins = np.flatnonzero(np.diff(word, prepend=-1))
        words[word[begins]] = np.add.reduceat(value << shift, begins)
        over = np.flatnonzero(shift + size > 64)
        words[word[over] + 1] += value[over] >> (64 - shift[over])
        blob = words.astype("<u8").tobytes()
        return [blob[start:start + size] for start, size in zip((first[:-1] * 8).tolist(), ((bits + 7) // 8).tolist(),
                                                               strict=True)]


class _BitWriter:
    """Bits, the first one lowest."""

    def __init__(self) -> None:
        self.value = 0
        self.size = 0

    def put(self, value: int, size: int) -> None:
        self.value |= value << self.size
        self.size += size


def _runs(lengths: bytes, repeats: int) -> list[tuple[int, int, int]]:
    """``lengths`` as (symbol, extra value, extra bits), with the repeating symbol 16 in ``repeats`` runs at most."""
    written = []
    for length, group in itertools.groupby(lengths):
        count = len(list(group)) - 1
        written.append((length, 0, 0))
        if repeats and count >= 3:
            repeats -= 1
            while count >= 3:
                step = min(count, 6)
                written.append((16, step - 3, 2))
                count -= step
        written += [(length, 0, 0)] * count
    return written


def _header(table: CannedTable) -> bytes:
    """The shortest of the headers tried that end on a byte boundary."""
    best: _BitWriter | None = None
    for repeats, limit in itertools.product((99, 8, 7, 6, 5, 4, 3, 2, 1, 0), (7, 6, 5, 4)):
        # Each alphabet on its own: no run crosses from one to the other.
        symbols = _runs(table.literal_lengths, repeats) + _runs(table.distance_lengths, repeats)
        counts = [0] * 19
        for symbol, _, _ in symbols:
            counts[symbol] += 1
        if sum(map(bool, counts)) > 1 << limit:
            continue
        sizes = limited_lengths(counts, limit)
        needed = max(index for index, symbol in enumerate(_ORDER) if sizes[symbol]) + 1
        codes = reversed_codes(sizes)
        for entries, empty in itertools.product(range(max(needed, 4), 20), range(4)):
            writer = _BitWriter()
            for _ in range(empty):
                writer.put(*_EMPTY_FIXED)
            writer.put(0b101, 3)  # final, type 2
            writer.put(LITERAL_SYMBOLS - 257, 5)
            writer.put(DISTANCE_SYMBOLS - 1, 5)
            writer.put(entries - 4, 4)
            for symbol in _ORDER[:entries]:
                writer.put(sizes[symbol], 3)
            for symbol, value, bits in symbols:
                writer.put(codes[symbol], sizes[symbol])
                writer.put(value, bits)
            if writer.size % 8 == 0 and (best is None or writer.size < best.size):
                best = writer
        if best is not None and repeats == 99:  # the rest is for tables whose every header has an odd number of bits
            break
    if best is None:
        raise SabreError("no header of this table ends on a byte boundary")
    return best.value.to_bytes(best.size // 8, "little")
