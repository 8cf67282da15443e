# SPDX-License-Identifier: Apache-2.0
"""The device's checksums in software, a byte at a time by tables."""

import functools

import numpy as np

__all__ = ["crc32c", "crc64", "xor16"]

_WORD = (1 << 64) - 1
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes | memoryview | np.ndarray, start: int = 0) -> int:
    """CRC-32C (Castagnoli) of ``data`` after data whose CRC is ``start``."""
    value = start ^ 0xFFFFFFFF
    for byte in bytes(data):
        value = value >> 8 ^ _CRC32C[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def xor16(data: bytes | memoryview | np.ndarray, start: int = 0) -> int:
    """Exclusive-or of the halfwords of ``data``, low byte first, a last byte alone as the low one, and ``start``."""
    raw = np.frombuffer(data, np.uint8)
    low, high = (int(np.bitwise_xor.reduce(raw[first::2], initial=0)) for first in (0, 1))
    return start ^ low ^ high << 8


@functools.lru_cache(maxsize=16)
def _crc64_table(polynomial: int) -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 56
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value >> 63 else 0)) & _WORD
        table.append(value)
    return tuple(table)


def crc64(data: bytes | memoryview, polynomial: int, *, invert: bool = False, big_endian: bool = False) -> int:
    """What the device's CRC64 answers.

    ``polynomial`` stands in 64 bits from bit 63 down, without its highest term. ``invert`` begins with ones and inverts
    the result, in as many bits as the polynomial has. ``big_endian``: bit 0 of a byte is the first, and the result is
    reversed as well (as in gzip); otherwise bit 7 is.
    """
    if not 0 <= polynomial <= _WORD:
        raise ValueError(f"polynomial must fit 64 bits, not be {polynomial:#x}")
    table = _crc64_table(polynomial)
    ones = (polynomial | -polynomial) & _WORD
    value = ones if invert else 0
    raw = bytes(data)
    for byte in raw.translate(_REVERSED) if big_endian else raw:
        value = value << 8 & _WORD ^ table[value >> 56 ^ byte]
    if invert:
        value ^= ones
    return int(f"{value:064b}"[::-1], 2) if big_endian else value
