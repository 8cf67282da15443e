# SPDX-License-Identifier: Apache-2.0
"""Expressions of a pipeline's declaration: P4's ``bit<W>`` arithmetic as plain data.

An expression knows its width and its operands, nothing else. The gateware lowers it to Amaranth, the reference
model to Python; neither may give an operator a meaning of its own, so the meaning stands here. All values are
unsigned and as wide as their operands; arithmetic wraps. Python integers become constants of the other operand's width.
"""

import operator
from collections.abc import Sequence
from typing import Any

__all__ = ["Const", "Expr", "Field", "Op", "as_expr", "cat", "crc32", "mux", "one_of", "sat_add", "truth"]


def _width(width: Any) -> int:
    number = operator.index(width)
    if number < 1:
        raise ValueError(f"width must be at least 1, not {number}")
    return number


class Expr:
    """A value of ``width`` bits. The operators make new expressions; ``==`` too, so it tells nothing of identity."""

    __hash__ = object.__hash__

    def __init__(self, width: int):
        self.width = _width(width)

    def __bool__(self) -> bool:
        raise TypeError("an expression has no truth value while a pipeline is declared: use mux, &, | and ~")

    def __len__(self) -> int:
        return self.width

    def __add__(self, other: "Expr | int") -> "Expr":
        return _binary("+", self, other)

    def __sub__(self, other: "Expr | int") -> "Expr":
        return _binary("-", self, other)

    def __and__(self, other: "Expr | int") -> "Expr":
        return _binary("&", self, other)

    def __or__(self, other: "Expr | int") -> "Expr":
        return _binary("|", self, other)

    def __xor__(self, other: "Expr | int") -> "Expr":
        return _binary("^", self, other)

    def __invert__(self) -> "Expr":
        return Op("~", (self,), self.width)

    def __eq__(self, other: object) -> "Expr":
        return _binary("==", self, other, 1)

    def __ne__(self, other: object) -> "Expr":
        return _binary("!=", self, other, 1)

    def __lt__(self, other: "Expr | int") -> "Expr":
        return _binary("<", self, other, 1)

    def __le__(self, other: "Expr | int") -> "Expr":
        return _binary("<=", self, other, 1)

    def __gt__(self, other: "Expr | int") -> "Expr":
        return ~(self <= other)

    def __ge__(self, other: "Expr | int") -> "Expr":
        return ~(self < other)

    def __getitem__(self, key: "int | slice") -> "Expr":
        """Bits of the value, bit 0 the least significant: ``x[3]``, ``x[0:8]``."""
        if isinstance(key, slice):
            if key.step is not None:
                raise ValueError("a slice of an expression has no step")
            low = 0 if key.start is None else operator.index(key.start)
            high = self.width if key.stop is None else operator.index(key.stop)
        else:
            low = operator.index(key)
            high = low + 1
        if not 0 <= low < high <= self.width:
            raise ValueError(f"bits {low} to {high - 1} are not in a value of {self.width} bits")
        return self if (low, high) == (0, self.width) else Op("slice", (self,), high - low, low)

    def resize(self, width: int) -> "Expr":
        """The value zero-extended, or cut, to ``width`` bits."""
        width = _width(width)
        if width <= self.width:
            return self[0:width]
        return cat(self, Const(0, width - self.width))


class Const(Expr):
    """A constant ``value`` of ``width`` bits."""

    def __init__(self, value: int, width: int):
        super().__init__(width)
        self.value = operator.index(value)
        if not 0 <= self.value < 1 << self.width:
            raise ValueError(f"constant {value} must fit {width} bits")

    def __repr__(self) -> str:
        return f"{self.width}'d{self.value}"


class Field(Expr):
    """A named value of a header, of metadata, of a register's word or of an action's parameters.

    ``owner`` is what it belongs to; the field of a header that tells whether the packet has it is named ``is_valid``.
    """

    def __init__(self, owner: Any, name: str, width: int):
        super().__init__(width)
        self.owner = owner
        self.name = name

    def __repr__(self) -> str:
        return f"{self.owner.name}.{self.name}"


class Op(Expr):
    """``kind`` applied to ``operands``.

    ==================  ======================================================================================
    ``+ - & | ^ ~``     of operands as wide as the result; arithmetic wraps
    ``== != < <=``      1 bit
    ``mux``             operand 1 where operand 0 (1 bit) is 1, else operand 2
    ``cat``             operand 0 in the lowest bits
    ``slice``           the bits of operand 0 from ``low`` on
    ``sat_add``         the sum, or all ones where it does not fit
    ``crc32``           IEEE 802.3 CRC-32 of the operands as bytes, operand 0 first, each most significant byte first
    ==================  ======================================================================================
    """

    def __init__(self, kind: str, operands: Sequence[Expr], width: int, low: int = 0):
        super().__init__(width)
        self.kind = kind
        self.operands = tuple(operands)
        self.low = low

    def __repr__(self) -> str:
        if self.kind == "slice":
            return f"{self.operands[0]!r}[{self.low}:{self.low + self.width}]"
        return f"({self.kind} {' '.join(map(repr, self.operands))})"


def as_expr(value: "Expr | int", width: int) -> Expr:
    """``value`` as an expression of ``width`` bits; integers become constants.

    Raises
    ------
    ValueError
        An integer does not fit, or an expression has another width.
    TypeError
        It is neither.
    """
    if isinstance(value, Expr):
        if value.width != width:
            raise ValueError(f"{value!r} has {value.width} bits where {width} are wanted: use resize")
        return value
    return Const(value, width)


def _binary(kind: str, left: Expr, right: Any, width: int | None = None) -> Expr:
    return Op(kind, (left, as_expr(right, left.width)), left.width if width is None else width)


def mux(condition: Expr, if_true: Expr | int, if_false: Expr | int) -> Expr:
    """``if_true`` where ``condition`` (1 bit) is 1, else ``if_false``. One of them must be an expression."""
    width = next((value.width for value in (if_true, if_false) if isinstance(value, Expr)), None)
    if width is None:
        raise TypeError("mux needs an expression as one of its outcomes, to know its width")
    return Op("mux", (as_expr(condition, 1), as_expr(if_true, width), as_expr(if_false, width)), width)


def cat(*parts: Expr) -> Expr:
    """The parts as one value, the first in the lowest bits."""
    return Op("cat", parts, sum(part.width for part in parts))


def sat_add(left: Expr, right: Expr | int) -> Expr:
    """P4's ``|+|``: the sum, or all ones where it does not fit."""
    return _binary("sat_add", left, right)


def crc32(*parts: Expr) -> Expr:
    """CRC-32 (IEEE 802.3, as zlib's) of whole bytes: the parts in order, each most significant byte first."""
    if sum(part.width for part in parts) % 8 or not parts:
        raise ValueError("crc32 takes whole bytes, at least one")
    return Op("crc32", parts, 32)


def one_of(value: Expr, numbers: Sequence[int]) -> Expr:
    """Whether ``value`` is one of ``numbers``."""
    found: Expr = Const(0, 1)
    for number in numbers:
        found = found | (value == number)
    return found


def truth(value: Expr | int | bool) -> Expr:
    """A condition: an expression of 1 bit, or a constant."""
    return as_expr(int(value) if isinstance(value, bool) else value, 1)
