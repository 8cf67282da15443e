# SPDX-License-Identifier: Apache-2.0
"""Length-limited Huffman codes, as Deflate writes them (RFC 1951, 3.2.2)."""

from collections.abc import Sequence

__all__ = ["MAX_BITS", "is_complete", "limited_lengths", "reversed_codes"]

#: Bits of the longest literal/length or distance code.
MAX_BITS = 15


def limited_lengths(weights: Sequence[int], limit: int = MAX_BITS) -> list[int]:
    """Code lengths of the best prefix code in which no code is longer than ``limit``, by package-merge.

    A weight of 0 gets no code (length 0). With one or no symbol used there is no complete code: ``ValueError``, as when
    ``limit`` is too small for the number of symbols.
    """
    used = [symbol for symbol, weight in enumerate(weights) if weight]
    if len(used) < 2:
        raise ValueError(f"a complete code needs at least 2 symbols, not {len(used)}")
    if len(used) > 1 << limit:
        raise ValueError(f"{len(used)} symbols do not fit into codes of at most {limit} bits")
    leaves = sorted(((weights[symbol], (symbol,)) for symbol in used), key=lambda item: item[0])
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(limit):
        row = sorted(leaves + packages, key=lambda item: item[0])
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(row[::2], row[1::2], strict=False)]
    lengths = [0] * len(weights)
    for _, symbols in packages[:len(used) - 1]:
        for symbol in symbols:
            lengths[symbol] += 1
    return lengths


def is_complete(lengths: Sequence[int]) -> bool:
    """Whether the codes use up the code space exactly: neither over-subscribed nor with a gap."""
    return sum(1 << MAX_BITS - length for length in lengths if length) == 1 << MAX_BITS


def reversed_codes(lengths: Sequence[int]) -> list[int]:
    """The canonical codes, first bit lowest, as they lie in a Deflate stream; 0 where the length is 0."""
    counts = [0] * (MAX_BITS + 2)
    for length in lengths:
        counts[length] += 1
    counts[0] = 0
    code, following = 0, [0] * (MAX_BITS + 2)
    for bits in range(1, MAX_BITS + 1):
        code = code + counts[bits - 1] << 1
        following[bits] = code
    codes = []
    for length in lengths:
        codes.append(int(f"{following[length]:0{length}b}"[::-1], 2) if length else 0)
        following[length] += 1
    return codes
