# SPDX-License-Identifier: Apache-2.0
"""The moves that a collective makes at one rank, computed in Python from its statements.

This is what the program's instructions must make too; it is stricter than they are: a number below zero, a rank that
is none or a loop without an end raise :class:`~rackgate.collective.programs.language.CollectiveError` here.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from rackgate.collective.abi import CallFlag
from rackgate.collective.isa import Field, MoveControl, Other, Special
from rackgate.collective.programs.error import CollectiveError
from rackgate.collective.programs.expression import CALL_ADDRESS, CALL_WORD, SPECIAL, Expression, evaluate
from rackgate.collective.programs.statements import (
    BUFFER_WORDS,
    Fail,
    Let,
    Loop,
    Move,
    Statement,
    Stop,
    Sync,
    Trace,
    When,
    While,
)

__all__ = ["MAX_STATEMENTS", "Pause", "Place", "Step", "moves"]

#: A rank's program that goes through more statements is taken to have no end.
MAX_STATEMENTS = 1_000_000


class Place(NamedTuple):
    """A call at a rank: what a program can read.

    ``is_compressed``: elements of 4 bytes travel as 2. ``shift``: binary logarithm of an element's bytes in memory.
    ``operand``, ``operand_1``, ``result``: addresses.
    """

    size: int
    rank: int
    count: int
    root: int = 0
    tag: int = 0
    streams: int = 0
    is_compressed: bool = False
    shift: int = 2
    segment: int = 1024
    operand: int = 0
    operand_1: int = 0
    result: int = 0

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.size}, count {self.count}, root {self.root}"


class Step(NamedTuple):
    """A move of a rank, with numbers. ``index``: how many moves came before it; fields it does not use are 0."""

    index: int
    line: str
    name: str
    control: MoveControl
    count: int
    local: int = 0
    other: int = 0
    result: int = 0
    source: int = 0
    destination: int = 0
    tag: int = 0

    def __str__(self) -> str:
        what = f"step {self.index} ({self.line}, {self.name} of {self.count}"
        if self.control.other == Other.RECEIVE:
            what += f" from {self.source}"
        if self.control.send:
            what += f" to {self.destination}"
        if self.control.send or self.control.other == Other.RECEIVE:
            what += f", tag {self.tag}"
        return what + ")"


class Pause(NamedTuple):
    """Wait until at most ``moves`` are under way."""

    line: str
    moves: int


class _End(Exception):
    pass


class _Run:
    def __init__(self, place: Place):
        self.place = place
        self.values: dict[tuple, int] = {
            (SPECIAL, int(Special.SIZE)): place.size, (SPECIAL, int(Special.RANK)): place.rank,
            (SPECIAL, int(Special.SHIFT)): place.shift, (SPECIAL, int(Special.SEGMENT)): place.segment,
            (CALL_WORD, 1): place.count, (CALL_WORD, 3): place.root, (CALL_WORD, 5): place.tag,
            (CALL_WORD, 7): CallFlag.WIRE if place.is_compressed else 0, (CALL_WORD, 8): place.streams,
            **{(CALL_ADDRESS, word): getattr(place, name) for name, word in BUFFER_WORDS.items()}}
        self.started = 0
        self.done = 0

    def evaluate(self, expression: Expression, line: str) -> int:
        try:
            return evaluate(expression, self.values, self.place.size)
        except ValueError as error:
            raise CollectiveError(f"{line} at {self.place}: {error}") from None

    def block(self, body: list[Statement]) -> Iterator[Step | Pause]:
        for statement in body:
            self.done += 1
            if self.done > MAX_STATEMENTS:
                raise CollectiveError(f"{statement.line} at {self.place}: the program goes on after {MAX_STATEMENTS} "
                                      "statements")
            match statement:
                case Move():
                    yield self.step(statement)
                case Let(line=line, variable=variable, value=value):
                    self.values[variable.key] = self.evaluate(value, line)
                case Loop():
                    start, stop = (self.evaluate(bound, statement.line) for bound in (statement.start, statement.stop))
                    for number in range(start, stop):
                        self.values[statement.variable.key] = number
                        yield from self.block(statement.body)
                case While():
                    while self.evaluate(statement.condition, statement.line):
                        self.done += 1
                        if self.done > MAX_STATEMENTS:
                            raise CollectiveError(f"{statement.line} at {self.place}: the loop has no end")
                        yield from self.block(statement.body)
                case When():
                    holds = self.evaluate(statement.condition, statement.line)
                    yield from self.block(statement.then if holds else statement.otherwise)
                case Sync(line=line, moves=count):
                    yield Pause(line, count)
                case Stop():
                    raise _End
                case Fail():
                    raise CollectiveError(f"{statement.line} at {self.place}: the program ends with error "
                                          f"{statement.cause}")

    def step(self, move: Move) -> Step:
        value = {field: self.evaluate(expression, move.line) for field, expression in move.fields.items()}
        control = MoveControl.from_int(value[Field.CONTROL])
        step = Step(self.started, move.line, move.name, control, value[Field.COUNT],
                    *(value.get(field, 0) for field in (Field.LOCAL, Field.OTHER, Field.RESULT, Field.SOURCE,
                                                        Field.DESTINATION, Field.TAG)))
        if step.count >> 32:
            raise CollectiveError(f"{move.line} at {self.place}: a move has fewer than 2**32 elements, not "
                                  f"{step.count}")
        self.started += 1
        return step


def moves(trace: Trace, place: Place) -> list[Step | Pause]:
    """What the collective does at ``place``, in order. Raises CollectiveError."""
    run = _Run(place)
    steps: list[Step | Pause] = []
    with contextlib.suppress(_End):
        for step in run.block(trace.body):
            steps.append(step)
    return steps
