# SPDX-License-Identifier: Apache-2.0
"""One rank's view of a collective: the numbers, buffers, blocks and moves that its author writes with."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rackgate.collective.abi import StreamFlag
from rackgate.collective.isa import Field, Local, MoveControl, Other, Special, Target
from rackgate.collective.programs.buffers import COUNT, SHIFT, SIZE, Buffer, Piece
from rackgate.collective.programs.error import CollectiveError, author_line
from rackgate.collective.programs.expression import (
    CALL_WORD,
    SPECIAL,
    VARIABLE,
    Expression,
    Number,
    as_expression,
    operation,
)
from rackgate.collective.programs.scopes import Scopes, Variable
from rackgate.collective.programs.statements import Fail, Let, Loop, Move, Statement, Stop, Sync, When, While

__all__ = ["Rank"]


class Rank:
    """What a collective is written over: one rank, its numbers, its buffers and its moves.

    ``rank``, ``size``, ``count``, ``root`` (the call's peer) and ``tag`` are numbers of the call; ``shift`` the binary
    logarithm of an element's bytes, ``segment`` a packet's payload bytes, ``packet`` the elements that fit it, and
    ``streams`` the call's stream flags; ``left`` and ``right`` the neighbours in the ring. ``operand``, ``operand_1``
    and ``result`` are buffers.
    """

    def __init__(self) -> None:
        self.rank = Expression(SPECIAL, int(Special.RANK))
        self.size = SIZE
        self.shift = SHIFT
        self.segment = Expression(SPECIAL, int(Special.SEGMENT))
        self.count = COUNT
        self.root = Expression(CALL_WORD, 3)
        self.tag = Expression(CALL_WORD, 5)
        self.streams = Expression(CALL_WORD, 8)
        self.packet = (self.segment >> self.shift) << (Expression(CALL_WORD, 7) >> 3)
        self.right = self.plus(self.rank, 1)
        self.left = self.minus(self.rank, 1)
        self.operand = Buffer("operand")
        self.operand_1 = Buffer("operand_1")
        self.result = Buffer("result")
        self._scopes = Scopes()

    @property
    def body(self) -> list[Statement]:
        """The statements."""
        return self._scopes.body

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
        return self._scopes.read(self._let(value, is_fixed=True))

    def variable(self, value: Number) -> Variable:
        """A number that can be set anew; it lives to the end of the block."""
        return Variable(self._scopes, self._let(value))

    def _let(self, value: Number, is_fixed: bool = False) -> int:
        expression = self._scopes.used(value)
        number = self._scopes.new(is_fixed)
        self._scopes.add(Let(author_line(), Expression(VARIABLE, number), expression))
        return number

    # Order of things

    @contextlib.contextmanager
    def loop(self, start: Number, stop: Number | None = None) -> Iterator[Expression]:
        """Repeat the block for a number from ``start`` (0 if only one bound is given) up to, without, ``stop``."""
        if stop is None:
            start, stop = 0, start
        line = author_line()
        first, last = self._scopes.used(start), self._scopes.used(stop)
        body: list[Statement] = []
        with self._scopes.block(body, is_loop=True):
            number = self._scopes.new(is_fixed=True)
            yield self._scopes.read(number)
        self._scopes.add(Loop(line, Expression(VARIABLE, number), first, last, body))

    @contextlib.contextmanager
    def repeat_while(self, condition: Callable[[], Expression]) -> Iterator[None]:
        """Repeat the block while ``condition()`` holds; it is asked before each time."""
        line = author_line()
        body: list[Statement] = []
        with self._scopes.block(body, is_loop=True):
            if not callable(condition):
                raise CollectiveError(f"{line}: repeat_while takes a function, as in "
                                      "c.repeat_while(lambda: x.value < 4)")
            asked = self._condition(condition())
            yield
        self._scopes.add(While(line, asked, body))

    @contextlib.contextmanager
    def when(self, condition: Expression) -> Iterator[None]:
        """The block only if ``condition`` holds."""
        line = author_line()
        asked = self._condition(condition)
        then: list[Statement] = []
        with self._scopes.block(then):
            yield
        self._scopes.add(When(line, asked, then, []))

    @contextlib.contextmanager
    def otherwise(self) -> Iterator[None]:
        """The block only if the condition of the ``when`` just before does not hold."""
        last = self._scopes.last
        if not isinstance(last, When) or last.otherwise:
            raise CollectiveError(f"{author_line()}: otherwise must follow the block of a when")
        with self._scopes.block(last.otherwise):
            yield

    def sync(self, moves: int = 0) -> None:
        """Wait until at most ``moves`` of this rank's moves are under way."""
        if moves not in range(4):
            raise CollectiveError(f"{author_line()}: sync takes 0 to 3 moves, not {moves!r}")
        self._scopes.add(Sync(author_line(), moves))

    def stop(self) -> None:
        """This rank starts no more moves. The call ends when those under way are done."""
        self._scopes.add(Stop(author_line()))

    def fail(self, cause: int = 0) -> None:
        """End the call with Status.PROGRAM_RAISED and ``cause``, 0 to 15."""
        if cause not in range(16):
            raise CollectiveError(f"{author_line()}: the cause of fail must be 0 to 15, not {cause!r}")
        self._scopes.add(Fail(author_line(), cause))

    # Moves

    def signal(self, to: Number, tag: Number = 0) -> None:
        """Send rank ``to`` a message without elements."""
        self._start("signal", MoveControl(Local.MEMORY, send=True), {Field.COUNT: 0, Field.DESTINATION: to,
                                                                    Field.TAG: tag})

    def wait_for(self, source: Number, tag: Number = 0, *, to: Number | None = None) -> None:
        """Receive a :meth:`signal`, and then send one to rank ``to`` if there is one, which has the same tag.

        What follows does not wait for it but with :meth:`sync`.
        """
        fields = {Field.COUNT: 0, Field.SOURCE: source, Field.TAG: tag}
        if to is not None:
            fields[Field.DESTINATION] = to
        self._start("wait_for", MoveControl(other=Other.RECEIVE, target=Target.MEMORY, send=to is not None), fields)

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
        line = author_line()
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
        used = {field: self._scopes.used(value) for field, value in fields.items()}
        used[Field.CONTROL] = self._scopes.used(self._control(control, pieces or {}))
        self._scopes.add(Move(author_line(), name, control, used))

    def _control(self, control: MoveControl, pieces: dict[Field, Piece]) -> Expression:
        """The field's value: with streams, the call's flags change memory into stream."""
        value = as_expression(control.to_int())
        for field, shift in ((Field.LOCAL, 0), (Field.RESULT, 3)):
            if field in pieces and pieces[field].buffer.is_stream:
                flag = StreamFlag.OPERAND_0 if field == Field.LOCAL else StreamFlag.RESULT
                if pieces[field].buffer.name != ("operand" if field == Field.LOCAL else "result"):
                    raise CollectiveError(f"{author_line()}: only operand can come from a stream, and only result "
                                          "go to one")
                value = ((self.streams & int(flag)) << shift) + value
        return value

    def _piece(self, what: Piece | Buffer, name: str, line: str) -> Piece:
        if isinstance(what, Buffer):
            return what.part(0, self.count)
        if not isinstance(what, Piece):
            raise CollectiveError(f"{line}: {name} takes c.operand, c.operand_1, c.result or a part of them, not "
                                  f"{what!r}")
        return what

    def _condition(self, condition: Any) -> Expression:
        if not isinstance(condition, Expression):
            raise CollectiveError(f"{author_line()}: a condition compares numbers of c; {condition!r} is Python's")
        return self._scopes.used(condition)
