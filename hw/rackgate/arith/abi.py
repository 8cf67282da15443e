# SPDX-License-Identifier: Apache-2.0
"""Numbers of element types and functions, and what their results are to the last bit.

Plain Python: gateware, drivers and models read it from here.

Integers are two's complement and wrap. Floats are IEEE 754-2019 with round to nearest, ties to even, and with
denormals. A NaN that is computed is always the quiet NaN of :attr:`FloatFormat.quiet_nan`, whatever the operands.
MAX and MIN are the standard's ``maximum`` and ``minimum`` (section 9.6): a NaN wins, and -0 is below +0; so no
function depends on the order of its two operands.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ELEMENT_TYPE_BITS", "FUNCTION_BITS", "WIDTHS", "ElementType", "FloatFormat", "Function",
           "types_mask"]

#: Bits of a field that holds an :class:`ElementType`.
ELEMENT_TYPE_BITS = 4
#: Bits of a field that holds a :class:`Function`.
FUNCTION_BITS = 4
#: Legal widths of a word of elements, in bytes.
WIDTHS = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class FloatFormat:
    """A binary interchange format of IEEE 754: sign, ``exponent`` bits, ``mantissa`` bits, from the top."""

    exponent: int
    mantissa: int

    @property
    def bits(self) -> int:
        """Size in bits."""
        return 1 + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        """What is added to the exponent."""
        return (1 << self.exponent - 1) - 1

    @property
    def infinity(self) -> int:
        """Encoding of plus infinity."""
        return (1 << self.exponent) - 1 << self.mantissa

    @property
    def quiet_nan(self) -> int:
        """Encoding of the only NaN that is ever computed: positive, quiet, no payload."""
        return self.infinity | 1 << self.mantissa - 1


class ElementType(enum.IntEnum):
    """Type of an element of a vector; elements are little-endian. Numbers up to 15 are kept for more."""

    INT32 = 0
    INT64 = 1
    FLOAT16 = 2
    FLOAT32 = 3
    FLOAT64 = 4

    @property
    def dtype(self) -> str:
        """NumPy's name of the type."""
        return self.name.lower()

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return int("".join(filter(str.isdigit, self.name))) // 8

    @property
    def format(self) -> FloatFormat | None:
        """Fields of a float, or ``None`` for an integer."""
        return _FORMATS.get(self)


_FORMATS = {
    ElementType.FLOAT16: FloatFormat(5, 10),
    ElementType.FLOAT32: FloatFormat(8, 23),
    ElementType.FLOAT64: FloatFormat(11, 52),
}


class Function(enum.IntEnum):
    """What becomes of two operands a and b. Numbers up to 14 are kept for more."""

    SUM = 0
    MAX = 1
    MIN = 2
    PASS = 15  # b as it is, to the last bit of a NaN


def types_mask(types: Iterable[ElementType]) -> int:
    """A set of types as a number for a register: bit n is set for type n."""
    mask = 0
    for element_type in types:
        mask |= 1 << ElementType(element_type)
    return mask
