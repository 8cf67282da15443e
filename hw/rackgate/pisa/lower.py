# SPDX-License-Identifier: Apache-2.0
"""Expressions of a pipeline's declaration as Amaranth values."""

import zlib
from collections.abc import Callable, MutableMapping, Sequence

from amaranth.hdl import Cat, Mux, Value
from amaranth.hdl import Const as Constant

from .expr import Const, Expr, Field, Op

__all__ = ["crc32_of", "first_of", "lower"]


def lower(expr: Expr, value_of: Callable[[Field], Value], known: MutableMapping[int, Value] | None = None) -> Value:
    """``expr`` as combinational logic, as wide as it.

    Parameters
    ----------
    expr:
        The expression.
    value_of:
        What a field is: a value of the field's width.
    known:
        Values of expressions, by ``id``, that are taken as they are; what is lowered is added. Pass the same mapping
        for expressions that share parts, or to have a part come from a register.
    """
    known = {} if known is None else known
    if id(expr) not in known:
        known[id(expr)] = _lower(expr, value_of, known)
    return known[id(expr)]


def _lower(expr: Expr, value_of: Callable[[Field], Value], known: MutableMapping[int, Value]) -> Value:
    if isinstance(expr, Const):
        return Constant(expr.value, expr.width)
    if isinstance(expr, Field):
        value = Value.cast(value_of(expr))
        if len(value) != expr.width:
            raise ValueError(f"{expr!r} has {expr.width} bits, but the value given for it has {len(value)}")
        return value
    if not isinstance(expr, Op):
        raise TypeError(f"no such expression: {expr!r}")
    parts = [lower(operand, value_of, known) for operand in expr.operands]
    width = expr.width
    match expr.kind:
        case "&":
            return parts[0] & parts[1]
        case "|":
            return parts[0] | parts[1]
        case "^":
            return parts[0] ^ parts[1]
        case "~":
            return ~parts[0]
        case "+":
            return (parts[0] + parts[1])[:width]
        case "-":
            return (parts[0] - parts[1])[:width]
        case "==":
            return parts[0] == parts[1]
        case "!=":
            return parts[0] != parts[1]
        case "<":
            return parts[0] < parts[1]
        case "<=":
            return parts[0] <= parts[1]
        case "mux":
            return Mux(parts[0], parts[1], parts[2])
        case "cat":
            return Cat(*parts)
        case "slice":
            return parts[0][expr.low:expr.low + width]
        case "sat_add":
            total = parts[0] + parts[1]
            return total[:width] | total[width].replicate(width)
        case "crc32":
            return crc32_of(parts)
    raise ValueError(f"no such operator: {expr.kind!r}")


def crc32_of(parts: Sequence[Value]) -> Value:
    """CRC-32 of whole bytes, as the expression ``crc32`` has it: for each of its bits an exclusive-or of message bits.

    The CRC is affine over GF(2): each bit of the message flips what it flips in a message of zeros.
    """
    message = Cat(*reversed(parts))  # its highest byte comes first
    size = len(message) // 8
    base = zlib.crc32(bytes(size))
    columns = [zlib.crc32((1 << place).to_bytes(size, "big")) ^ base for place in range(8 * size)]
    return Cat(Cat(*(message[place] for place, column in enumerate(columns) if column >> bit & 1)).xor()
               ^ (base >> bit & 1) for bit in range(32))


def first_of(conditions: Sequence[Value]) -> list[Value]:
    """The conditions, each only where none before it holds: at most one is 1."""
    chosen: list[Value] = []
    for number, condition in enumerate(conditions):
        chosen.append(condition & ~Cat(*conditions[:number]).any() if number else condition)
    return chosen
