# SPDX-License-Identifier: Apache-2.0
"""The language of collectives: a Python function that is traced once becomes a program of the engine.

A collective is a function of one rank's view ``c`` (:class:`Rank`) that says what this rank moves::

    @collective(ALLREDUCE)
    def allreduce(c):
        with c.when(c.size == 1):
            c.copy(c.operand, c.result)
            c.stop()
        first = c.let(c.rank)
        c.send(c.operand.chunk(first), to=c.right, tag=first)
        with c.loop(1, c.size - 1) as k:
            chunk = c.minus(c.rank, k)
            c.recv_reduce(c.left, c.operand.chunk(chunk), to=c.right, tag=chunk)
        ...

Python runs the function once, for no rank in particular: ``c.rank`` and whatever is computed from it are expressions.
Python's own ``if`` and ``for`` therefore decide when the program is made, and :meth:`Rank.when` and :meth:`Rank.loop`
when it runs. A mistake raises :class:`CollectiveError` with the line that has it.

Moves are started in order and run at the same time, four of them; a move waits for those before it whose memory it
shares, and for nothing else. Two messages that may be under way from one rank to another at a time need different
tags.
"""

import functools
import inspect
from collections.abc import Callable

from rackgate.collective.programs.buffers import Buffer, Piece
from rackgate.collective.programs.contract import Contract
from rackgate.collective.programs.error import CollectiveError, line_of
from rackgate.collective.programs.rank import Rank
from rackgate.collective.programs.statements import Trace

__all__ = ["Buffer", "Collective", "CollectiveError", "Piece", "Rank", "collective"]


class Collective:
    """A collective as its author wrote it, with its contract; made by :func:`collective`."""

    def __init__(self, function: Callable[..., None], contract: Contract):
        functools.update_wrapper(self, function)
        self.name: str = function.__name__
        self.contract = contract
        self._function = function
        self.tunables: dict[str, int] = {
            name: parameter.default for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY}

    def write(self, c: Rank, **tuning: int) -> None:
        """Write it into another collective, as a part of that."""
        self._function(c, **tuning)

    def trace(self, **tuning: int) -> Trace:
        """Its statements. ``tuning``: values for its keywords. Raises CollectiveError for a mistake in it."""
        for name in tuning:
            if name not in self.tunables:
                known = ", ".join(self.tunables) or "nothing"
                raise CollectiveError(f"{self.name} has no {name} to tune; it has {known}")
        rank = Rank()
        try:
            self.write(rank, **tuning)
        except (TypeError, ValueError) as error:
            if isinstance(error, CollectiveError):
                raise
            raise CollectiveError(f"{line_of(error)}: {error}") from error
        return Trace(self.name, rank.body)


def collective(contract: Contract) -> Callable[[Callable[..., None]], Collective]:
    """Make a collective of a function ``f(c)``; keyword-only parameters with defaults are tunable."""
    if not isinstance(contract, Contract):
        raise TypeError(f"collective takes a Contract, as in @collective(ALLREDUCE), not {contract!r}")
    return lambda function: Collective(function, contract)
