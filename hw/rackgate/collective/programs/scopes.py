# SPDX-License-Identifier: Apache-2.0
"""Blocks and variables of a collective while it is traced.

An expression that was written down before a variable changed must not be used after: it would be computed from what
the variable is then. Every change gives a variable a new version, and so does the beginning of a loop, as the loop may
change it later on; which of the reads in a loop were too late is known at its end.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from rackgate.collective.programs.error import CollectiveError, author_line
from rackgate.collective.programs.expression import VARIABLE, Expression, Number, as_expression, leaves
from rackgate.collective.programs.statements import Let, Statement

__all__ = ["Scopes", "Variable"]


class _Read(Expression):
    """A variable's value as it was when the expression was made."""

    __slots__ = ("version",)

    def __init__(self, number: int, version: int):
        super().__init__(VARIABLE, number)
        self.version = version


class Variable:
    """A number that may change while the program runs: read it as ``value``, change it by :meth:`set`."""

    def __init__(self, scopes: "Scopes", number: int):
        self._scopes = scopes
        self._number = number

    @property
    def value(self) -> Expression:
        """What it is here."""
        return self._scopes.read(self._number)

    def set(self, value: Number) -> None:
        """Make it ``value`` from here on."""
        self._scopes.set(self._number, value)


class Scopes:
    """The statements of a collective so far, and the variables that exist."""

    def __init__(self) -> None:
        self.body: list[Statement] = []
        self._blocks = [self.body]
        self._loops: list[dict[int, int]] = []  # of each loop around: the versions when it was entered
        self._late: list[list[tuple[int, str]]] = []  # and the reads of variables as they were before it
        self._set_in: list[set[int]] = []
        self._versions: dict[int, int] = {}  # of the variables that exist here
        self._fixed: set[int] = set()  # numbers of those that are never set
        self._variables = 0
        self._version = 0

    @property
    def last(self) -> Statement | None:
        """The statement before."""
        return self._blocks[-1][-1] if self._blocks[-1] else None

    def add(self, statement: Statement) -> None:
        """One more statement."""
        self._blocks[-1].append(statement)

    def new(self, is_fixed: bool = False) -> int:
        """Number of a new variable, which exists to the end of the block. ``is_fixed``: it is never set."""
        number = self._variables
        self._variables += 1
        self._declare(number)
        if is_fixed:
            self._fixed.add(number)
        return number

    def _declare(self, number: int) -> None:
        self._version += 1
        self._versions[number] = self._version

    def read(self, number: int) -> Expression:
        """A variable's value here."""
        if number not in self._versions:
            raise CollectiveError(f"{author_line()}: this variable ended with its block")
        return _Read(number, self._versions[number])

    def set(self, number: int, value: Number) -> None:
        """Change a variable."""
        expression = self.used(value)
        if number not in self._versions:
            raise CollectiveError(f"{author_line()}: this variable ended with its block")
        self._declare(number)
        for changed in self._set_in:
            changed.add(number)
        self._blocks[-1].append(Let(author_line(), Expression(VARIABLE, number), expression))

    def used(self, value: Any) -> Expression:
        """The value, if all that it is computed from is still what it was when it was written down."""
        try:
            expression = as_expression(value)
        except (TypeError, ValueError) as error:
            raise CollectiveError(f"{author_line()}: {error}") from error
        for leaf in leaves(expression):
            if not isinstance(leaf, _Read):
                continue
            number = leaf.operands[0]
            if number not in self._versions:
                raise CollectiveError(f"{author_line()}: {expression!r} uses a variable that ended with its block")
            if leaf.version == self._versions[number]:
                continue
            for entered, late in zip(self._loops, self._late, strict=True):
                if entered.get(number) == leaf.version:
                    late.append((number, author_line()))
                    break
            else:
                raise CollectiveError(f"{author_line()}: {expression!r} was written down before variable {number} "
                                      "changed: keep it with c.let, or write it down again")
        return expression

    @contextlib.contextmanager
    def block(self, body: list[Statement], is_loop: bool = False) -> Iterator[None]:
        """Statements go to ``body``; variables that begin in it end with it."""
        outside = dict(self._versions)
        self._set_in.append(set())
        if is_loop:
            self._loops.append(outside)
            self._late.append([])
            for number in outside.keys() - self._fixed:
                self._declare(number)
        self._blocks.append(body)
        yield
        self._blocks.pop()
        changed = self._set_in.pop()
        if is_loop:
            self._loops.pop()
            for number, line in self._late.pop():
                if number in changed:
                    raise CollectiveError(f"{line}: this was written down before the loop, in which variable {number} "
                                          "changes: keep it with c.let, or write it down again")
        self._versions = outside
        for number in changed & set(outside):
            self._declare(number)
