# SPDX-License-Identifier: Apache-2.0
"""Expressions that read a register's word, turned so that little is left to do once the word is known: plain Python.

The word comes late, and what is made of it must be ready for the next packet. All that depends on the packet alone can
be worked out before.
"""

from collections.abc import Collection, Iterable, MutableMapping
from functools import reduce

from .expr import Const, Expr, Field, Op, mux
from .liveness import reads_of

__all__ = ["early_parts", "regroup"]


def _extended(expr: Expr) -> Expr | None:
    """What ``expr`` is with zeros before it, if it is that."""
    is_it = isinstance(expr, Op) and expr.kind == "cat" and len(expr.operands) == 2 \
        and isinstance(expr.operands[1], Const) and expr.operands[1].value == 0
    return expr.operands[0] if is_it else None


def regroup(expr: Expr, late: Collection[Field], known: MutableMapping[int, Expr] | None = None) -> Expr:
    """An expression of the same value in which what does not read the fields ``late`` stands together.

    ``known`` keeps what was done, by ``id``, so that expressions with parts in common have them after it too.
    """
    known = {} if known is None else known
    if id(expr) not in known:
        known[id(expr)] = _regroup(expr, late, known)
    return known[id(expr)]


def _regroup(expr: Expr, late: Collection[Field], known: MutableMapping[int, Expr]) -> Expr:
    if not isinstance(expr, Op) or not _is_late(expr, late):
        return expr
    if expr.kind in ("&", "|", "^"):
        return _row(expr, late, known)
    parts = tuple(regroup(operand, late, known) for operand in expr.operands)
    if expr.kind in ("==", "!="):
        for part, other in (parts, parts[::-1]):
            if (inner := _extended(part)) is not None:
                # Bits that the one has not are compared by themselves.
                low, high = other[0:inner.width] == inner, other[inner.width:other.width] == 0
                equal = _row(low & high, late, known)
                return equal if expr.kind == "==" else ~equal
    if expr.kind == "+":
        for part, other in (parts, parts[::-1]):
            if (inner := _extended(part)) is not None and inner.width == 1:
                # A bit that comes late need not go through the carries.
                return mux(inner, other + 1, other)
    return Op(expr.kind, parts, expr.width, expr.low)


def _is_late(expr: Expr, late: Collection[Field]) -> bool:
    return not reads_of(expr).isdisjoint(late)


def _row(expr: Op, late: Collection[Field], known: MutableMapping[int, Expr]) -> Expr:
    """A row of one operator: first the operands that are early, then the others."""
    operands: list[Expr] = []
    left: list[Expr] = [expr]
    while left:
        one = left.pop()
        if not isinstance(one, Op) or one.kind != expr.kind:
            again = regroup(one, late, known)
            if again is one or not isinstance(again, Op) or again.kind != expr.kind:
                operands.append(again)
                continue
            one = again
        left += reversed(one.operands)
    early = [one for one in operands if not _is_late(one, late)]
    rest = [one for one in operands if _is_late(one, late)]
    groups = [reduce(lambda a, b: Op(expr.kind, (a, b), expr.width), group) for group in (early, rest) if group]
    return groups[0] if len(groups) == 1 else Op(expr.kind, tuple(groups), expr.width)


def early_parts(expressions: Iterable[Expr], late: Collection[Field]) -> list[Expr]:
    """The largest parts of ``expressions`` that do not read the fields ``late``, other than fields and constants."""
    found: dict[int, Expr] = {}
    seen: set[int] = set()

    def walk(expr: Expr) -> None:
        if id(expr) in seen or not isinstance(expr, Op):
            return
        seen.add(id(expr))
        if _is_late(expr, late):
            for operand in expr.operands:
                walk(operand)
        else:
            found[id(expr)] = expr

    for expr in expressions:
        walk(expr)
    return list(found.values())
