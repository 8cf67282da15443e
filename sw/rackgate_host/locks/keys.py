# SPDX-License-Identifier: Apache-2.0
"""From keys to the numbers of locks."""

import hashlib
import operator

__all__ = ["Key", "lock_of"]

#: What names a lock: a number of up to 64 bits, a string or bytes.
Key = int | str | bytes


def lock_of(key: Key, locks: int) -> int:
    """The lock, 0 to ``locks`` - 1, that stands for ``key``.

    A number below ``locks`` is its own lock. A larger number, as 8 bytes (the lowest first), bytes, and a string as
    UTF-8 are spread by BLAKE2b of 8 bytes, read as a number with the lowest byte first, modulo ``locks``. Keys may so
    share a lock: that costs time, not safety, but for a client that wants two such keys at a time; it waits for itself.

    Raises
    ------
    TypeError
        The key is of another type.
    ValueError
        A number is negative, or has more than 64 bits.
    """
    if isinstance(key, str):
        content = key.encode()
    elif isinstance(key, bytes):
        content = key
    else:
        number = operator.index(key)
        if not 0 <= number < 1 << 64:
            raise ValueError(f"key must be 0 to 2**64 - 1, not {key}")
        if number < locks:
            return number
        content = number.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") % locks
