# SPDX-License-Identifier: Apache-2.0
"""Integer expressions of a collective: what a program computes while it runs, as plain data.

An expression knows its operator and operands, nothing else. The compiler makes instructions of it, the interpreter
Python integers; neither may give an operator a meaning of its own, so the meaning stands here. Values are unsigned
numbers of 40 bits. A program whose value leaves that range is wrong, and :func:`evaluate` says so.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rackgate.collective.isa import REGISTER_BITS, Special

__all__ = ["CALL_ADDRESS", "CALL_WORD", "CONST", "SPECIAL", "VARIABLE", "Expression", "Number", "as_expression",
           "const", "evaluate", "leaves", "operation", "parts"]

CONST, SPECIAL, CALL_WORD, CALL_ADDRESS, VARIABLE = "const", "special", "word", "address", "variable"
_LEAVES = (CONST, SPECIAL, CALL_WORD, CALL_ADDRESS, VARIABLE)
_COMPARISONS = ("<", "<=", "==", "!=", "not")
_COMMUTATIVE = ("+", "*", "&", "|", "^", "min", "max", "==", "!=", "plus")
_LIMIT = 1 << REGISTER_BITS


class Expression:
    """A number that is known when the program runs. The operators make new expressions; ``==`` too.

    ``kind`` is an operator or what a leaf is; ``operands`` expressions, of a leaf: its number. Two expressions with
    equal ``key`` have equal values at the same place.

    ======================  ===================================================================================
    ``+ - * // % << >>``    of numbers from 0 to 2**40 - 1; the result must be one too
    ``& | ^ min max``
    ``plus minus``          modulo the communicator's size; both operands must be smaller than it
    ``< <= == != not``      1 if it is so, else 0
    ======================  ===================================================================================

    Where a program branches, the second operand of ``&`` and ``|`` is computed only if the first does not decide.
    """

    __slots__ = ("key", "kind", "operands")

    def __init__(self, kind: str, *operands: Any):
        self.kind = kind
        self.operands = operands
        self.key: tuple = (kind, *(part.key if isinstance(part, Expression) else part for part in operands))

    __hash__ = object.__hash__

    @property
    def is_condition(self) -> bool:
        """Whether the value is known to be 0 or 1."""
        if self.kind in ("&", "|"):
            return all(part.is_condition for part in self.operands)
        return self.kind in _COMPARISONS

    def __bool__(self) -> bool:
        raise TypeError("a number that is known only when the program runs cannot decide in Python: use "
                        "c.when(...), and & and | between comparisons in brackets")

    def __index__(self) -> int:
        raise TypeError("a number that is known only when the program runs is not an integer of Python: use "
                        "c.loop(...) to repeat, and c.minimum or c.maximum to compare")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("use c.loop(...) to repeat in a collective")

    def __repr__(self) -> str:
        if self.kind == CONST:
            return str(self.operands[0])
        if self.kind == SPECIAL:
            return Special(self.operands[0]).name.lower()
        if self.kind in _LEAVES:
            return f"{self.kind} {self.operands[0]}"
        return f"({f' {self.kind} '.join(map(repr, self.operands))})"

    def __add__(self, other: "Expression | int") -> "Expression":
        return operation("+", self, other)

    def __radd__(self, other: int) -> "Expression":
        return operation("+", other, self)

    def __sub__(self, other: "Expression | int") -> "Expression":
        return operation("-", self, other)

    def __rsub__(self, other: int) -> "Expression":
        return operation("-", other, self)

    def __mul__(self, other: "Expression | int") -> "Expression":
        return operation("*", self, other)

    def __rmul__(self, other: int) -> "Expression":
        return operation("*", other, self)

    def __floordiv__(self, other: "Expression | int") -> "Expression":
        return operation("//", self, other)

    def __rfloordiv__(self, other: int) -> "Expression":
        return operation("//", other, self)

    def __mod__(self, other: "Expression | int") -> "Expression":
        return operation("%", self, other)

    def __rmod__(self, other: int) -> "Expression":
        return operation("%", other, self)

    def __lshift__(self, other: "Expression | int") -> "Expression":
        return operation("<<", self, other)

    def __rlshift__(self, other: int) -> "Expression":
        return operation("<<", other, self)

    def __rshift__(self, other: "Expression | int") -> "Expression":
        return operation(">>", self, other)

    def __rrshift__(self, other: int) -> "Expression":
        return operation(">>", other, self)

    def __and__(self, other: "Expression | int") -> "Expression":
        return operation("&", self, other)

    def __rand__(self, other: int) -> "Expression":
        return operation("&", other, self)

    def __or__(self, other: "Expression | int") -> "Expression":
        return operation("|", self, other)

    def __ror__(self, other: int) -> "Expression":
        return operation("|", other, self)

    def __xor__(self, other: "Expression | int") -> "Expression":
        return operation("^", self, other)

    def __rxor__(self, other: int) -> "Expression":
        return operation("^", other, self)

    def __invert__(self) -> "Expression":
        if not self.is_condition:
            raise TypeError("~ is for comparisons only")
        return operation("not", self)

    def __eq__(self, other: object) -> "Expression":
        return operation("==", self, other)

    def __ne__(self, other: object) -> "Expression":
        return operation("!=", self, other)

    def __lt__(self, other: "Expression | int") -> "Expression":
        return operation("<", self, other)

    def __le__(self, other: "Expression | int") -> "Expression":
        return operation("<=", self, other)

    def __gt__(self, other: "Expression | int") -> "Expression":
        return operation("<", other, self)

    def __ge__(self, other: "Expression | int") -> "Expression":
        return operation("<=", other, self)


#: What a collective computes with.
Number = Expression | int


def const(value: int) -> Expression:
    """A constant. Raises ValueError if it is not a number of 40 bits."""
    if not 0 <= value < _LIMIT:
        raise ValueError(f"a constant must be 0 to 2**{REGISTER_BITS} - 1, not {value}")
    return Expression(CONST, value)


def as_expression(value: Any) -> Expression:
    """``value`` as an expression. Raises TypeError if it is neither an integer nor an expression."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a collective computes with integers and c's own numbers, not with {value!r}")
    return const(value)


_MEANING: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "//": lambda a, b: a // b,
    "%": lambda a, b: a % b, "<<": lambda a, b: a << b, ">>": lambda a, b: a >> b, "&": lambda a, b: a & b,
    "|": lambda a, b: a | b, "^": lambda a, b: a ^ b, "min": min, "max": max, "<": lambda a, b: int(a < b),
    "<=": lambda a, b: int(a <= b), "==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b),
}
_NEUTRAL = {"+": 0, "-": 0, "*": 1, "//": 1, "<<": 0, ">>": 0, "|": 0, "^": 0, "plus": 0, "minus": 0, "max": 0}


def operation(kind: str, *values: Any) -> Expression:
    """``kind`` applied to ``values``, simplified where that is safe. Raises as :func:`as_expression`."""
    operands = [as_expression(value) for value in values]
    # One order for equal sums, constants last; but of conditions the one that is written first is to be asked first.
    if kind in _COMMUTATIVE and not (kind in ("&", "|") and all(part.is_condition for part in operands)):
        operands.sort(key=lambda part: (part.kind == CONST, repr(part.key)))
    if kind == "not":
        inner = operands[0]
        return inner.operands[0] if inner.kind == "not" else Expression(kind, inner)
    last = operands[-1]
    if all(part.kind == CONST for part in operands) and kind in _MEANING:
        first, second = (part.operands[0] for part in operands)
        if kind in ("//", "%") and second == 0:
            raise ValueError("a division by zero")
        return const(_MEANING[kind](first, second))
    if last.kind == CONST:
        number = last.operands[0]
        if _NEUTRAL.get(kind) == number:
            return operands[0]
        if number == 0 and kind in ("*", "&", "min"):
            return const(0)
        if kind in ("//", "%") and number == 0:
            raise ValueError("a division by zero")
        if number & number - 1 == 0 and kind in ("*", "//", "%"):  # a power of two
            if kind == "%":
                return operation("&", operands[0], number - 1)
            return operation("<<" if kind == "*" else ">>", operands[0], number.bit_length() - 1)
        if kind == "+" and operands[0].kind == "+" and operands[0].operands[1].kind == CONST:
            return operation("+", operands[0].operands[0], operands[0].operands[1].operands[0] + number)
    if operands[0].kind == CONST and operands[0].operands[0] == 0 and kind in ("<<", ">>", "//", "%"):
        return const(0)
    return Expression(kind, *operands)


def parts(expression: Expression) -> Iterator[Expression]:
    """The expression and all in it, the outer ones first."""
    yield expression
    if expression.kind not in _LEAVES:
        for operand in expression.operands:
            yield from parts(operand)


def leaves(expression: Expression) -> Iterator[Expression]:
    """What it is computed from."""
    return (part for part in parts(expression) if part.kind in _LEAVES)


def evaluate(expression: Expression, values: Mapping[tuple, int], size: int) -> int:
    """The expression's value. ``values`` has those of its leaves by key. Raises ValueError where the value of a part
    is not a number of 40 bits, at a division by zero, and where ``plus`` and ``minus`` are given no ranks.
    """
    kind = expression.kind
    if kind == CONST:
        return expression.operands[0]
    if kind in _LEAVES:
        return values[expression.key]
    first = evaluate(expression.operands[0], values, size)
    if kind == "not":
        return 1 - first
    second = evaluate(expression.operands[1], values, size)
    if kind in ("plus", "minus"):
        if first >= size or second >= size and not (size == second == 1):
            raise ValueError(f"{expression!r} is modulo the size {size}, but its operands are {first} and {second}")
        return (first + second if kind == "plus" else first - second) % size
    if kind in ("//", "%") and second == 0:
        raise ValueError(f"{expression!r} divides by zero")
    if kind in ("<<", ">>") and second >= 64:
        raise ValueError(f"{expression!r} shifts by {second}")
    value = _MEANING[kind](first, second)
    if not 0 <= value < _LIMIT:
        raise ValueError(f"{expression!r} is {first} {kind} {second}, which is not 0 to 2**{REGISTER_BITS} - 1")
    return value
