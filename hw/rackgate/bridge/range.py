# SPDX-License-Identifier: Apache-2.0
"""Which memory the bridge may access."""

import operator
from typing import NamedTuple

__all__ = ["MemoryRange"]


class MemoryRange(NamedTuple):
    """``size`` bytes from ``base`` on. Made by :meth:`of`."""

    base: int
    size: int

    @classmethod
    def of(cls, base: int, size: int, *, addr_width: int) -> "MemoryRange":
        """A range on a bus with so many bits of address.

        Raises
        ------
        ValueError
            When base or size is no multiple of 8, or the range leaves the bus's addresses, or those of operations,
            which have 32 bits.
        """
        base, size, bits = operator.index(base), operator.index(size), min(32, operator.index(addr_width))
        for name, value in (("base", base), ("size", size)):
            if value < 0 or value % 8:
                raise ValueError(f"{name} must be a multiple of 8, not {value:#x}")
        if base + size > 1 << bits:
            raise ValueError(f"memory must end within {bits} bits of address, not at {base + size:#x}")
        return cls(base, size)
