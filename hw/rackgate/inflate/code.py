# SPDX-License-Identifier: Apache-2.0
"""Canonical prefix codes as the decoders hold them: no filled tables, only what comparators need.

RFC 1951 3.2.2: codes of one length are consecutive, in symbol order. So with ``x`` the next bits of the
source, first bit highest, and ``x[:L]`` the top L of them, the code's length is the smallest L with
``x[:L] < limit[L]``, where ``limit[L] = first_code[L] + count[L]``.
"""

from amaranth.lib import data

__all__ = ["FIXED_SYMBOLS", "LENGTHS", "MAX_LENGTH", "SYMBOL_RAM_DEPTH", "CodeTables", "SymbolWrite", "bucket",
           "distance_extra_bits", "length_extra_bits"]

MAX_LENGTH = 15
LENGTHS = range(1, MAX_LENGTH + 1)


def bucket(length: int) -> int:
    """First address, in the symbol RAM, of the literal/length codes of ``length`` bits.

    A length has at most ``2 ** length`` codes, and at most 288 (the fixed code's alphabet), so the symbol of
    rank r within its length can be written at ``bucket + r`` as soon as its code length is read.
    """
    return sum(min(1 << shorter, 288) for shorter in range(1, length))


#: First address, in the symbol RAM, of the fixed code's symbols, in code order; blocks do not overwrite them.
FIXED_SYMBOLS = bucket(MAX_LENGTH + 1)
SYMBOL_RAM_DEPTH = FIXED_SYMBOLS + 288


def length_extra_bits(index: int) -> int:
    """Extra bits of length symbol ``257 + index`` (RFC 1951 3.2.5); 0 for the invalid 286 and 287."""
    return 0 if index < 4 or index >= 28 else (index - 4) // 4


def distance_extra_bits(symbol: int) -> int:
    """Extra bits of a distance symbol (RFC 1951 3.2.5); 0 for the invalid 30 and 31."""
    return 0 if symbol < 2 or symbol >= 30 else (symbol - 2) // 2


def _per_length(width):
    return data.StructLayout({str(length): width(length) for length in LENGTHS})


_LIMIT = _per_length(lambda length: length + 1)


class CodeTables(data.Struct):
    """The literal/length code and the distance code of one block, as registers.

    Fields indexed by a code length are named by it (``tables.literal_limit["7"]``).

    ``literal_limit``, ``distance_limit``: the limits above. ``literal_split``: first code of each length
    whose symbol is above 256, so a code from there on is a match length. ``literal_base``: symbol RAM
    address minus code, modulo 4096. ``length_index``: modulo 32, added to a code at or above the split, gives
    the rank of its symbol among all length symbols in code order; ``length_extra`` is indexed by that.
    ``distance_index`` likewise for distance codes; ``distance_symbol`` is indexed by that, and tells the extra bits.
    """

    literal_limit: _LIMIT
    literal_split: _LIMIT
    literal_base: _per_length(lambda length: 12)
    length_index: _per_length(lambda length: 5)
    length_extra: data.ArrayLayout(3, 32)
    distance_limit: _LIMIT
    distance_index: _per_length(lambda length: 5)
    distance_symbol: data.ArrayLayout(5, 32)


class SymbolWrite(data.Struct):
    """A write into a context's symbol RAM."""

    enable: 1
    address: 12
    symbol: 9
