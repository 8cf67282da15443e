# SPDX-License-Identifier: Apache-2.0
"""Expressions of a pipeline's declaration as Python source: fast enough to explore millions of steps."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rackgate.pisa.declare import Assign
from rackgate.pisa.expr import Const, Expr, Field, Op

__all__ = ["Names", "assignment", "crc32_of", "define", "source"]

#: What a field is called in the generated source: an index expression such as ``p[3]``.
Names = Callable[[Field], str]


def crc32_of(*parts: tuple[int, int]) -> int:
    """CRC-32 of whole bytes given as (value, width) pairs, as the expression ``crc32`` has it."""
    value = width = 0
    for number, bits in parts:
        value, width = value << bits | number, width + bits
    return zlib.crc32(value.to_bytes(width // 8, "big"))


def source(expr: Expr, names: Names) -> str:
    """Python that computes ``expr`` as an int."""
    if isinstance(expr, Const):
        return str(expr.value)
    if isinstance(expr, Field):
        return names(expr)
    assert isinstance(expr, Op)
    parts = [source(operand, names) for operand in expr.operands]
    mask = (1 << expr.width) - 1
    match expr.kind:
        case "&" | "|" | "^":
            return f"({parts[0]} {expr.kind} {parts[1]})"
        case "+" | "-":
            return f"({parts[0]} {expr.kind} {parts[1]} & {mask})"
        case "~":
            return f"({parts[0]} ^ {mask})"
        case "==" | "!=" | "<" | "<=":
            return f"({parts[0]} {expr.kind} {parts[1]})"
        case "mux":
            return f"({parts[1]} if {parts[0]} else {parts[2]})"
        case "slice":
            return f"({parts[0]} >> {expr.low} & {mask})"
        case "cat":
            low, terms = 0, []
            for part, operand in zip(parts, expr.operands, strict=True):
                terms.append(f"{part} << {low}" if low else part)
                low += operand.width
            return f"({' | '.join(terms)})"
        case "sat_add":
            return f"min({parts[0]} + {parts[1]}, {mask})"
        case "crc32":
            pairs = ", ".join(f"({part}, {operand.width})" for part, operand in
                              zip(parts, expr.operands, strict=True))
            return f"crc32_of({pairs})"
    raise ValueError(f"no such operator: {expr.kind!r}")


def assignment(assigns: Sequence[Assign], names: Names, target: str = "") -> str:
    """One statement that computes all values and only then assigns; ``pass`` when there is none.

    ``target`` renames the vector that is written, which is otherwise the one that is read.
    """
    if not assigns:
        return "pass"
    places = [names(item.target) for item in assigns]
    if target:
        places = [target + place[place.index("["):] for place in places]
    values = [source(item.value, names) for item in assigns]
    return f"{', '.join(places)} = {', '.join(values)}"


def define(name: str, arguments: str, lines: Sequence[str], scope: Mapping[str, Any] | None = None) -> Any:
    """Compile a function; ``lines`` is its body with its own indentation."""
    text = f"def {name}({arguments}):\n" + "".join(f"    {line}\n" for line in lines or ["pass"])
    environment: dict[str, Any] = {"crc32_of": crc32_of, **(scope or {})}
    exec(compile(text, f"<pisa {name}>", "exec"), environment)
    return environment[name]
