# SPDX-License-Identifier: Apache-2.0
"""Statements of a collective, as :mod:`rackgate.collective.programs.language` traces them. Plain data.

What a program does is a tree of these; :mod:`rackgate.collective.programs.compiler` makes instructions of it and
:mod:`rackgate.collective.programs.schedule` the list of moves of a rank.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rackgate.collective.isa import Field, MoveControl
from rackgate.collective.programs.expression import Expression

__all__ = ["BUFFER_WORDS", "Fail", "Let", "Loop", "Move", "Statement", "Stop", "Sync", "Trace", "When", "While",
           "blocks", "changed", "expressions", "walk"]

#: Word of the call that the address of a buffer begins in.
BUFFER_WORDS = {"operand": 9, "operand_1": 11, "result": 13}


class Move(NamedTuple):
    """One move. ``control`` is its kind, and ``fields`` what it needs besides; CONTROL among them, as its value may
    depend on the call's stream flags. ``name``: what the author called, for messages.
    """

    line: str
    name: str
    control: MoveControl
    fields: dict[Field, Expression]


class Let(NamedTuple):
    """Variable ``variable`` gets a value."""

    line: str
    variable: Expression
    value: Expression


class Loop(NamedTuple):
    """``body`` for ``variable`` from ``start`` up to, without, ``stop``."""

    line: str
    variable: Expression
    start: Expression
    stop: Expression
    body: "list[Statement]"


class While(NamedTuple):
    """``body`` while ``condition`` is not 0."""

    line: str
    condition: Expression
    body: "list[Statement]"


class When(NamedTuple):
    """``then`` if ``condition`` is not 0, else ``otherwise``."""

    line: str
    condition: Expression
    then: "list[Statement]"
    otherwise: "list[Statement]"


class Sync(NamedTuple):
    """Wait until at most ``moves`` moves are under way."""

    line: str
    moves: int


class Stop(NamedTuple):
    """The end of the collective at this rank, when all its moves are done."""

    line: str


class Fail(NamedTuple):
    """The end, with an error."""

    line: str
    cause: int


Statement = Move | Let | Loop | While | When | Sync | Stop | Fail


class Trace(NamedTuple):
    """A collective as statements."""

    name: str
    body: list[Statement]


def blocks(statement: Statement) -> tuple[list[Statement], ...]:
    """The blocks within a statement."""
    match statement:
        case Loop(body=body) | While(body=body):
            return (body,)
        case When(then=then, otherwise=otherwise):
            return (then, otherwise)
    return ()


def walk(body: list[Statement]) -> Iterator[Statement]:
    """All statements in ``body``, inner ones too, in order."""
    for statement in body:
        yield statement
        for block in blocks(statement):
            yield from walk(block)


def expressions(statement: Statement) -> Iterator[Expression]:
    """What a statement itself computes, without its inner ones."""
    match statement:
        case Move(fields=fields):
            yield from fields.values()
        case Let(value=value):
            yield value
        case Loop(start=start, stop=stop):
            yield from (start, stop)
        case While(condition=condition) | When(condition=condition):
            yield condition


def changed(body: list[Statement]) -> set[tuple]:
    """Keys of the variables that get a value in ``body``."""
    return {statement.variable.key for statement in walk(body) if isinstance(statement, Let | Loop)}
