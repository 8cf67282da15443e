# SPDX-License-Identifier: Apache-2.0
"""The fixed codes (RFC 1951 3.2.6) as tables."""

from amaranth.hdl import Mux

from rackgate.inflate.code import FIXED_SYMBOLS, LENGTHS, length_extra_bits
from rackgate.inflate.logic import at_least

__all__ = ["fixed_symbol", "fixed_tables"]

_LITERALS = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8
_DISTANCES = [5] * 32


def _in_code_order(lengths):
    return sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol))


def fixed_symbol(rank):
    """Literal/length symbol of that rank (0 to 287, a ``Value``) in the order of the codes."""
    # 256..279 of 7 bits, 0..143 and 280..287 of 8 bits, 144..255 of 9 bits
    offset = Mux(at_least(rank, 176), -32, Mux(at_least(rank, 168), 112, Mux(at_least(rank, 24), -24, 256)))
    return (rank + offset)[:9]


def fixed_tables() -> dict:
    """Fields of :class:`~rackgate.inflate.code.CodeTables`; literal symbols are at ``FIXED_SYMBOLS``."""
    tables = {name: {} for name in ("literal_limit", "literal_split", "literal_base", "length_index",
                                    "distance_limit", "distance_index")}
    code = distance = rank = length_rank = distance_rank = 0
    for length in LENGTHS:
        own = [symbol for symbol, bits in enumerate(_LITERALS) if bits == length]
        lengths = sum(symbol > 256 for symbol in own)
        code, distance = 2 * code, 2 * distance
        split, name = code + len(own) - lengths, str(length)
        tables["literal_base"][name] = (FIXED_SYMBOLS + rank - code) % 4096
        tables["literal_split"][name] = split
        tables["length_index"][name] = (length_rank - split) % 32
        tables["distance_index"][name] = (distance_rank - distance) % 32
        code, distance = code + len(own), distance + _DISTANCES.count(length)
        tables["literal_limit"][name], tables["distance_limit"][name] = code, distance
        rank, length_rank = rank + len(own), length_rank + lengths
        distance_rank += _DISTANCES.count(length)
    order = [symbol - 257 for symbol in _in_code_order(_LITERALS) if symbol > 256]
    tables["length_extra"] = [length_extra_bits(index) for index in order] + [0]
    tables["distance_symbol"] = _in_code_order(_DISTANCES)
    return tables
