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

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rackgate.collective.abi import StreamFlag
from rackgate.collective.contract import Contract
from rackgate.collective.expression import (
    CALL_ADDRESS,
    CALL_WORD,
    SPECIAL,
    VARIABLE,
    Expression,
    as_expression,
    leaves,
    operation,
)
from rackgate.collective.isa import Field, Local, MoveControl, Other, Special, Target
from rackgate.collective.statements import (
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

__all__ = ["Buffer", "Collective", "CollectiveError", "Piece", "Rank", "Variable", "collective"]

Number = Expression | int


class CollectiveError(ValueError):
    """A collective that cannot work: the message says where, at which ranks, and which rule it breaks."""


class _Read(Expression):
    """A variable's value as it was when the expression was made."""

    __slots__ = ("version",)

    def __init__(self, number: int, version: int):
        super().__init__(VARIABLE, number)
        self.version = version


class Variable:
    """A number that may change while the program runs: read it as ``value``, change it by :meth:`set`."""

    def __init__(self, rank: "Rank", number: int):
        self._rank = rank
        self._number = number

    @property
    def value(self) -> Expression:
        """What it is here."""
        return self._rank._read(self._number)

    def set(self, value: Number) -> None:
        """Make it ``value`` from here on."""
        self._rank._set(self._number, value)


class Piece(NamedTuple):
    """``count`` elements of a buffer from element ``first`` on."""

    buffer: "Buffer"
    first: Expression
    count: Expression

    @property
    def address(self) -> Expression:
        """Of its first element."""
        return operation("+", operation("<<", self.first, self.buffer.shift), self.buffer.address)


class Buffer:
    """A buffer that the call names. Where a move takes a piece it stands for its first ``c.count`` elements."""

    def __init__(self, rank: "Rank", name: str, is_stream: bool = False):
        self._rank = rank
        self.name = name
        self.is_stream = is_stream
        self.shift = rank.shift
        self.address = Expression(CALL_ADDRESS, BUFFER_WORDS[name])

    @property
    def or_stream(self) -> "Buffer":
        """``operand`` or ``result``, or the kernel's stream in its place if the call's stream flags say so.

        A stream must be used whole, by one move of the rank.
        """
        if self.name == "operand_1":
            raise CollectiveError(f"{_line()}: only operand and result can be streams")
        return Buffer(self._rank, self.name, is_stream=True)

    def part(self, first: Number, count: Number) -> Piece:
        """``count`` elements from ``first`` on."""
        return Piece(self, as_expression(first), as_expression(count))

    def block(self, index: Number, blocks: Number = 1) -> Piece:
        """Block ``index`` of blocks of ``c.count`` elements each, or so many blocks from it on."""
        count = self._rank.count
        return Piece(self, operation("*", count, index), operation("*", count, blocks))

    def chunk(self, index: Number) -> Piece:
        """Chunk ``index`` of ``c.count`` elements split among ``c.size`` chunks: the first ``count % size`` of them
        have one element more than the others.
        """
        size = self._rank.size
        index = as_expression(index)
        each = self._rank.count // size
        longer = self._rank.count - each * size
        return Piece(self, index * each + operation("min", index, longer), each + (index < longer))


class Rank:
    """What a collective is written over: one rank, its numbers, its buffers and its moves.

    ``rank``, ``size``, ``count``, ``root`` (the call's peer) and ``tag`` are numbers of the call; ``shift`` the binary
    logarithm of an element's bytes, ``segment`` a packet's payload bytes, ``packet`` the elements that fit it, and
    ``streams`` the call's stream flags; ``left`` and ``right`` the neighbours in the ring. ``operand``, ``operand_1``
    and ``result`` are buffers.
    """

    def __init__(self) -> None:
        self.rank = Expression(SPECIAL, int(Special.RANK))
        self.size = Expression(SPECIAL, int(Special.SIZE))
        self.shift = Expression(SPECIAL, int(Special.SHIFT))
        self.segment = Expression(SPECIAL, int(Special.SEGMENT))
        self.count = Expression(CALL_WORD, 1)
        self.root = Expression(CALL_WORD, 3)
        self.tag = Expression(CALL_WORD, 5)
        self.streams = Expression(CALL_WORD, 8)
        self.packet = (self.segment >> self.shift) << (Expression(CALL_WORD, 7) >> 3)
        self.right = self.plus(self.rank, 1)
        self.left = self.minus(self.rank, 1)
        self.operand = Buffer(self, "operand")
        self.operand_1 = Buffer(self, "operand_1")
        self.result = Buffer(self, "result")
        self.body: list[Statement] = []
        self._blocks = [self.body]
        self._loops: list[dict[int, int]] = []  # of each loop around: the versions when it was entered
        self._late: list[list[tuple[int, str]]] = []  # and the reads of variables as they were before it
        self._set_in: list[set[int]] = []
        self._versions: dict[int, int] = {}  # of the variables that exist here
        self._fixed: set[int] = set()  # numbers of those that are never set
        self._variables = 0
        self._version = 0

    # Numbers

    def plus(self, first: Number, second: Number) -> Expression:
        """The sum modulo ``size``; both must be smaller than it."""
        return operation("plus", first, second)

    def minus(self, first: Number, second: Number) -> Expression:
        """The difference modulo ``size``; both must be smaller than it."""
        return operation("minus", first, second)

    def minimum(self, first: Number, second: Number) -> Expression:
        """The smaller one."""
        return operation("min", first, second)

    def maximum(self, first: Number, second: Number) -> Expression:
        """The greater one."""
        return operation("max", first, second)

    def let(self, value: Number) -> Expression:
        """Compute ``value`` here, once, and keep it in a register to the end of the block."""
        return self._read(self._new(value, is_fixed=True))

    def variable(self, value: Number) -> Variable:
        """A number that can be set anew; it lives to the end of the block."""
        return Variable(self, self._new(value))

    # Order of things

    @contextlib.contextmanager
    def loop(self, start: Number, stop: Number | None = None) -> Iterator[Expression]:
        """Repeat the block for a number from ``start`` (0 if only one bound is given) up to, without, ``stop``."""
        if stop is None:
            start, stop = 0, start
        line = _line()
        first, last = self._used(start), self._used(stop)
        number = self._variables
        self._variables += 1
        body: list[Statement] = []
        with self._block(body, is_loop=True):
            self._declare(number)
            self._fixed.add(number)
            yield self._read(number)
        self._blocks[-1].append(Loop(line, Expression(VARIABLE, number), first, last, body))

    @contextlib.contextmanager
    def repeat_while(self, condition: Callable[[], Expression]) -> Iterator[None]:
        """Repeat the block while ``condition()`` holds; it is asked before each time."""
        line = _line()
        body: list[Statement] = []
        with self._block(body, is_loop=True):
            if not callable(condition):
                raise CollectiveError(f"{line}: repeat_while takes a function, as in "
                                      "c.repeat_while(lambda: x.value < 4)")
            asked = self._condition(condition())
            yield
        self._blocks[-1].append(While(line, asked, body))

    @contextlib.contextmanager
    def when(self, condition: Expression) -> Iterator[None]:
        """The block only if ``condition`` holds."""
        line = _line()
        asked = self._condition(condition)
        then: list[Statement] = []
        with self._block(then):
            yield
        self._blocks[-1].append(When(line, asked, then, []))

    @contextlib.contextmanager
    def otherwise(self) -> Iterator[None]:
        """The block only if the condition of the ``when`` just before does not hold."""
        last = self._blocks[-1][-1] if self._blocks[-1] else None
        if not isinstance(last, When) or last.otherwise:
            raise CollectiveError(f"{_line()}: otherwise must follow the block of a when")
        with self._block(last.otherwise):
            yield

    def sync(self, moves: int = 0) -> None:
        """Wait until at most ``moves`` of this rank's moves are under way."""
        if moves not in range(4):
            raise CollectiveError(f"{_line()}: sync takes 0 to 3 moves, not {moves!r}")
        self._blocks[-1].append(Sync(_line(), moves))

    def stop(self) -> None:
        """This rank starts no more moves. The call ends when those under way are done."""
        self._blocks[-1].append(Stop(_line()))

    def fail(self, cause: int = 0) -> None:
        """End the call with Status.PROGRAM_RAISED and ``cause``, 0 to 15."""
        if cause not in range(16):
            raise CollectiveError(f"{_line()}: the cause of fail must be 0 to 15, not {cause!r}")
        self._blocks[-1].append(Fail(_line(), cause))

    # Moves

    def signal(self, to: Number, tag: Number = 0) -> None:
        """Send rank ``to`` a message without elements."""
        self._start("signal", MoveControl(Local.MEMORY, send=True), {Field.COUNT: 0, Field.DESTINATION: to,
                                                                    Field.TAG: tag})

    def wait_for(self, source: Number, tag: Number = 0) -> None:
        """Receive a :meth:`signal`. What follows does not wait for it but with :meth:`sync`."""
        self._start("wait_for", MoveControl(other=Other.RECEIVE, target=Target.MEMORY),
                    {Field.COUNT: 0, Field.SOURCE: source, Field.TAG: tag})

    def send(self, piece: Piece | Buffer, to: Number, tag: Number = 0) -> None:
        """Send ``piece`` to rank ``to``."""
        self._move("send", local=piece, to=to, tag=tag)

    def put(self, piece: Piece | Buffer, to: Number, tag: Number) -> None:
        """Send ``piece`` to the kernel's stream ``tag`` of rank ``to``."""
        self._move("put", local=piece, to=to, tag=tag, put=True)

    def recv(self, source: Number, into: Piece | Buffer, tag: Number = 0) -> None:
        """Receive what rank ``source`` sends into ``into``."""
        self._move("recv", source=source, into=into, tag=tag)

    def recv_forward(self, source: Number, to: Number, into: Piece | Buffer | None = None, tag: Number = 0, *,
                     count: Number | None = None) -> None:
        """Send on to rank ``to`` what rank ``source`` sends, as it comes, and keep it in ``into``.

        Without ``into``, ``count`` says how many elements there are.
        """
        self._move("recv_forward", source=source, to=to, into=into, tag=tag, count=count)

    def recv_reduce(self, source: Number, local: Piece | Buffer, into: Piece | Buffer | None = None,
                    to: Number | None = None, tag: Number = 0) -> None:
        """``function(what rank source sends, local)``, as it comes, into ``into``, to rank ``to``, or both."""
        self._move("recv_reduce", source=source, local=local, into=into, to=to, tag=tag, reduce=True)

    def copy(self, piece: Piece | Buffer, into: Piece | Buffer, to: Number | None = None, tag: Number = 0) -> None:
        """Copy ``piece`` into ``into``, and send it to rank ``to`` if there is one."""
        self._move("copy", local=piece, into=into, to=to, tag=tag)

    def combine(self, first: Piece | Buffer, second: Piece | Buffer, into: Piece | Buffer | None = None,
                to: Number | None = None, tag: Number = 0) -> None:
        """``function(second, first)`` of two pieces of memory into ``into``, to rank ``to``, or both."""
        self._move("combine", local=first, other=second, into=into, to=to, tag=tag, reduce=True)

    def _move(self, name: str, *, local: Piece | Buffer | None = None, other: Piece | Buffer | None = None,
              source: Number | None = None, into: Piece | Buffer | None = None, to: Number | None = None,
              tag: Number = 0, count: Number | None = None, reduce: bool = False, put: bool = False) -> None:
        line = _line()
        if into is None and to is None:
            raise CollectiveError(f"{line}: {name} needs into=, to=, or both")
        fields: dict[Field, Number] = {}
        pieces = {}
        for field, what in ((Field.LOCAL, local), (Field.OTHER, other), (Field.RESULT, into)):
            if what is not None:
                pieces[field] = self._piece(what, name, line)
                fields[field] = pieces[field].address
        counts = [piece.count for piece in pieces.values()]
        if count is not None:
            counts.append(as_expression(count))
        if not counts:
            raise CollectiveError(f"{line}: {name} without into= needs count=")
        if any(number.key != counts[0].key for number in counts):
            raise CollectiveError(f"{line}: the pieces of a {name} must have the same count, not "
                                  f"{' and '.join(dict.fromkeys(map(repr, counts)))}")
        control = MoveControl(
            Local.NONE if local is None else Local.MEMORY,
            Other.RECEIVE if source is not None else Other.MEMORY if other is not None else Other.NONE,
            Target.NONE if into is None else Target.MEMORY, to is not None, reduce, put)
        fields[Field.COUNT] = counts[0]
        if source is not None:
            fields[Field.SOURCE] = source
        if to is not None:
            fields[Field.DESTINATION] = to
        if source is not None or to is not None:
            fields[Field.TAG] = tag
        self._start(name, control, fields, pieces)

    def _start(self, name: str, control: MoveControl, fields: dict[Field, Number],
               pieces: dict[Field, Piece] | None = None) -> None:
        used = {field: self._used(value) for field, value in fields.items()}
        used[Field.CONTROL] = self._used(self._control(control, pieces or {}))
        self._blocks[-1].append(Move(_line(), name, control, used))

    def _control(self, control: MoveControl, pieces: dict[Field, Piece]) -> Expression:
        """The field's value: with streams, the call's flags change memory into stream."""
        value = as_expression(control.to_int())
        for field, shift in ((Field.LOCAL, 0), (Field.RESULT, 3)):
            if field in pieces and pieces[field].buffer.is_stream:
                flag = StreamFlag.OPERAND_0 if field == Field.LOCAL else StreamFlag.RESULT
                if pieces[field].buffer.name != ("operand" if field == Field.LOCAL else "result"):
                    raise CollectiveError(f"{_line()}: only operand can come from a stream, and only result go to one")
                value = ((self.streams & int(flag)) << shift) + value
        return value

    def _piece(self, what: Piece | Buffer, name: str, line: str) -> Piece:
        if isinstance(what, Buffer):
            return what.part(0, self.count)
        if not isinstance(what, Piece):
            raise CollectiveError(f"{line}: {name} takes c.operand, c.operand_1, c.result or a part of them, not "
                                  f"{what!r}")
        return what

    # Variables and blocks

    def _new(self, value: Number, is_fixed: bool = False) -> int:
        number = self._variables
        self._variables += 1
        expression = self._used(value)
        self._declare(number)
        if is_fixed:
            self._fixed.add(number)
        self._blocks[-1].append(Let(_line(), Expression(VARIABLE, number), expression))
        return number

    def _declare(self, number: int) -> None:
        self._version += 1
        self._versions[number] = self._version

    def _read(self, number: int) -> Expression:
        if number not in self._versions:
            raise CollectiveError(f"{_line()}: this variable ended with its block")
        return _Read(number, self._versions[number])

    def _set(self, number: int, value: Number) -> None:
        expression = self._used(value)
        if number not in self._versions:
            raise CollectiveError(f"{_line()}: this variable ended with its block")
        self._declare(number)
        for changed in self._set_in:
            changed.add(number)
        self._blocks[-1].append(Let(_line(), Expression(VARIABLE, number), expression))

    def _condition(self, condition: Any) -> Expression:
        if not isinstance(condition, Expression):
            raise CollectiveError(f"{_line()}: a condition compares numbers of c; {condition!r} is Python's")
        return self._used(condition)

    def _used(self, value: Any) -> Expression:
        """The value, if all that it is computed from is still what it was when it was written down."""
        try:
            expression = as_expression(value)
        except (TypeError, ValueError) as error:
            raise CollectiveError(f"{_line()}: {error}") from error
        for leaf in leaves(expression):
            if not isinstance(leaf, _Read):
                continue
            number = leaf.operands[0]
            if number not in self._versions:
                raise CollectiveError(f"{_line()}: {expression!r} uses a variable that ended with its block")
            if leaf.version == self._versions[number]:
                continue
            for entered, late in zip(self._loops, self._late, strict=True):
                if entered.get(number) == leaf.version:
                    late.append((number, _line()))
                    break
            else:
                raise CollectiveError(f"{_line()}: {expression!r} was written down before variable {number} changed: "
                                      "keep it with c.let, or write it down again")
        return expression

    @contextlib.contextmanager
    def _block(self, body: list[Statement], is_loop: bool = False) -> Iterator[None]:
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


_HERE = os.path.dirname(os.path.abspath(__file__))
#: Files whose lines are not the author's.
_LANGUAGE = {__file__, contextlib.__file__, os.path.join(_HERE, "expression.py")}


def _line() -> str:
    """Where the author is: the innermost line outside the language."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in _LANGUAGE:
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


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

    def trace(self, **tuning: int) -> Trace:
        """Its statements. ``tuning``: values for its keywords. Raises CollectiveError for a mistake in it."""
        for name in tuning:
            if name not in self.tunables:
                known = ", ".join(self.tunables) or "nothing"
                raise CollectiveError(f"{self.name} has no {name} to tune; it has {known}")
        rank = Rank()
        try:
            self._function(rank, **tuning)
        except (TypeError, ValueError) as error:
            if isinstance(error, CollectiveError):
                raise
            raise CollectiveError(f"{_where(error)}: {error}") from error
        return Trace(self.name, rank.body)


def _where(error: BaseException) -> str:
    """The innermost line of the author's in an error's traceback."""
    place, here = "?", error.__traceback__
    while here is not None:
        name = here.tb_frame.f_code.co_filename
        if name not in _LANGUAGE:
            place = f"{os.path.basename(name)}:{here.tb_lineno}"
        here = here.tb_next
    return place


def collective(contract: Contract) -> Callable[[Callable[..., None]], Collective]:
    """Make a collective of a function ``f(c)``; keyword-only parameters with defaults are tunable."""
    if not isinstance(contract, Contract):
        raise TypeError(f"collective takes a Contract, as in @collective(ALLREDUCE), not {contract!r}")
    return lambda function: Collective(function, contract)
