# SPDX-License-Identifier: Apache-2.0
"""CRC64 with any polynomial, a bit at a time."""

__all__ = ["crc64", "width_of"]


def width_of(polynomial: int) -> int:
    """Bits of the CRC of a polynomial that is written from bit 63 down without its highest term; 0 for no terms."""
    return next((64 - bit for bit in range(64) if polynomial >> bit & 1), 0)


def crc64(raw: bytes, polynomial: int, *, invert: bool = False, big_endian: bool = False) -> int:
    """What the operation CRC64 answers (QPL, developer guide, "CRC-64").

    Parameters
    ----------
    raw:
        The bytes.
    polynomial:
        Its highest term (left out) stands for ``x**64`` or less: the next one is bit 63. The lowest bit that is set
        is the term 1, and tells the width.
    invert:
        Begin with ones rather than zeros, and invert the result, both in as many bits as the CRC has.
    big_endian:
        Bit 0 of a byte is the first, and stands for the highest power; the result's bit 0 is its highest power too.
        Otherwise bit 7 is the first, and the result stands in the high bits of the 64.
    """
    ones = (1 << 64) - (1 << 64 - width_of(polynomial))
    register = ones if invert else 0
    for byte in raw:
        for place in range(8) if big_endian else reversed(range(8)):
            is_over = register >> 63 ^ byte >> place & 1
            register = register << 1 & (1 << 64) - 1
            if is_over:
                register ^= polynomial
    if invert:
        register ^= ones
    return int(f"{register:064b}"[::-1], 2) if big_endian else register
