# SPDX-License-Identifier: Apache-2.0
"""From a collective's statements to instructions of the sequencer.

Values live in registers from when they are first needed until a register is wanted for another; variables, and what
stays the same in a loop, keep theirs. A field of the move latch is written only if it does not hold the value yet, and
before a loop if the loop never changes it; those of a move behind a sync before the sync. A division is made where it
stands, or before a loop if its divisor cannot be zero.
"""

from collections.abc import Iterator
from itertools import zip_longest

from rackgate.collective.isa import MAX_PROGRAM, Field, Opcode, Special
from rackgate.collective.programs.assembler import AssemblyError, Label, assemble
from rackgate.collective.programs.assembler import Statement as Line
from rackgate.collective.programs.emitter import Emitter, cost, is_small
from rackgate.collective.programs.error import CollectiveError
from rackgate.collective.programs.expression import (
    CALL_ADDRESS,
    CALL_WORD,
    CONST,
    SPECIAL,
    VARIABLE,
    Expression,
    const,
    leaves,
    parts,
)
from rackgate.collective.programs.ordering import reorder
from rackgate.collective.programs.statements import (
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
    blocks,
    changed,
    expressions,
    walk,
)

__all__ = ["compile_trace"]

#: Registers that a loop leaves for what it computes anew each time.
_SPARE = 4
_ORDER = (Field.COUNT, Field.LOCAL, Field.OTHER, Field.RESULT, Field.SOURCE, Field.DESTINATION, Field.TAG,
          Field.CONTROL)


def compile_trace(trace: Trace) -> list[int]:
    """The words of a program that begins at instruction 0. Raises CollectiveError if it does not fit the engine."""
    lines = reorder(_Compiler(trace).compile(trace))
    try:
        return assemble(lines)
    except AssemblyError as error:
        length = sum(not isinstance(line, Label) for line in lines)
        if length > MAX_PROGRAM:
            raise CollectiveError(f"{trace.name} has {length} instructions; the program memory has at most "
                                  f"{MAX_PROGRAM}") from None
        raise CollectiveError(f"{trace.name}: {error}") from None


class _Compiler(Emitter):
    def __init__(self, trace: Trace) -> None:
        last_use: dict[tuple, int] = {}
        self._positions: dict[int, int] = {}  # of statements, by id
        for position, statement in enumerate(walk(trace.body)):
            self._positions[id(statement)] = position
            for expression in expressions(statement):
                last_use.update(dict.fromkeys((part.key for part in parts(expression)), position))
        super().__init__(last_use)

    def compile(self, trace: Trace) -> list[Line]:
        if not self._block(trace.body):
            self.emit(Opcode.RET)
        return self.lines

    # Statements

    def _block(self, body: list[Statement]) -> bool:
        """Compile ``body``; whether it always ends the program. Its variables end with it."""
        kept: list[int] = []
        has_ended = False
        for statement, following in zip_longest(body, body[1:]):
            if has_ended:
                raise CollectiveError(f"{statement.line}: nothing comes here, as the collective has ended before")
            self.line = statement.line
            self.position = self._positions[id(statement)]
            match statement:
                case Move():
                    self._move(statement)
                case Let(variable=variable, value=value):
                    self._let(variable, value, kept)
                case Loop():
                    self._loop(statement)
                case While():
                    self._while(statement)
                case When():
                    has_ended = self._when(statement)
                case Sync(moves=moves):
                    if isinstance(following, Move):  # so that it starts at once then
                        self._set_fields(following)
                    self.emit(Opcode.SYNC, immediate=moves)
                case Stop():
                    self.emit(Opcode.RET)
                    has_ended = True
                case Fail(cause=cause):
                    self.emit(Opcode.ERR, immediate=cause)
                    has_ended = True
        for register in kept:
            self.registers.release(register)
        return has_ended

    def _move(self, move: Move) -> None:
        self._set_fields(move)
        self.emit(Opcode.GO)

    def _set_fields(self, move: Move) -> None:
        for field in _ORDER:
            if field in move.fields:
                self._set_field(field, move.fields[field])

    def _set_field(self, field: Field, value: Expression) -> None:
        held = self.latch.get(field)
        if held is not None and held.key == value.key:
            return
        immediate = 0
        source = value
        if self.registers.find(value) is None:
            if is_small(value):
                source, immediate = const(0), value.operands[0]
            elif value.kind in ("+", "-") and is_small(value.operands[1]):
                source, immediate = value.operands[0], value.operands[1].operands[0]
                immediate = -immediate if value.kind == "-" else immediate
        self.emit(Opcode.MV, int(field), self.value(source), immediate=immediate)
        self.latch[field] = value

    def _let(self, variable: Expression, value: Expression, kept: list[int]) -> None:
        register = self.registers.find(variable)
        if register is None:
            register = self._own(value)
            kept.append(register)
        else:
            self.compute(value, register)
        self._changed(variable)
        self.registers.hold(register, variable)

    def _copy(self, value: Expression) -> int:
        register = self.registers.take(self.line, self._price)
        found = self.registers.find(value)
        self.emit(Opcode.ADD | Opcode.IMMEDIATE, register, 0 if found is None else found)
        return register

    def _changed(self, variable: Expression) -> None:
        self.registers.forget(variable.key)
        self.latch = {field: value for field, value in self.latch.items()
                       if all(leaf.key != variable.key for leaf in leaves(value))}

    def _when(self, when: When) -> bool:
        otherwise, end = self.label(), self.label()
        self.branch(when.condition, otherwise, is_taken_if=False)
        then_ends = self._block(when.then)
        if not when.otherwise:
            self.place(otherwise, is_reached=not then_ends)
            return False
        if not then_ends:
            self.jump(end)
        self.place(otherwise, is_reached=False)
        else_ends = self._block(when.otherwise)
        if then_ends and else_ends:
            return True
        self.place(end, is_reached=not else_ends)
        return False

    def _loop(self, loop: Loop) -> None:
        top, end = self.label(), self.label()
        is_fixed = loop.start.kind == loop.stop.kind == CONST
        if is_fixed and loop.start.operands[0] >= loop.stop.operands[0]:
            return
        varying = changed(loop.body)
        register = self._own(loop.start)
        stop = self._own(loop.stop) if loop.stop.key in varying else self.value(loop.stop)
        self.registers.keep(stop)
        self._changed(loop.variable)
        self.registers.hold(register, loop.variable)
        if not is_fixed:
            self.emit_branch(Opcode.BGE, register, stop, end)
        kept = self._before_loop(loop.body, varying | {loop.variable.key})
        self.lines.append(Label(top))
        has_ended = self._block(loop.body)
        if not has_ended:
            self.emit(Opcode.ADD | Opcode.IMMEDIATE, register, register, immediate=1)
            self._changed(loop.variable)
            self.emit_branch(Opcode.BLT, register, stop, top)
        self.place(end, is_reached=not has_ended)
        self._changed(loop.variable)
        for kept_register in (*kept, register, stop):
            self.registers.release(kept_register)

    def _while(self, loop: While) -> None:
        top, end = self.label(), self.label()
        kept = self._before_loop(loop.body, changed(loop.body), loop.condition)
        self.branch(loop.condition, end, is_taken_if=False)
        self.registers.forget_unkept()
        self.lines.append(Label(top))
        has_ended = self._block(loop.body)
        if not has_ended:
            self.line = loop.line
            self.branch(loop.condition, top, is_taken_if=True)
        self.place(end, is_reached=not has_ended)
        for register in kept:
            self.registers.release(register)

    def _reserve(self, body: list[Statement]) -> int:
        """Registers that variables and loops in ``body`` will keep at a time."""
        variables = {statement.variable.key for statement in body if isinstance(statement, Let)
                     and self.registers.find(statement.variable) is None}
        inner = [self._reserve(block) + 2 * isinstance(statement, Loop) for statement in body
                 for block in blocks(statement)]
        return len(variables) + max(inner, default=0)

    def _own(self, value: Expression) -> int:
        """A register with the value that is kept, and that nothing else reads."""
        register = self.compute(value) if self.registers.find(value) is None else self._copy(value)
        self.registers.keep(register)
        return register

    def _before_loop(self, body: list[Statement], varying: set[tuple],
                     condition: Expression | None = None) -> list[int]:
        """Write and compute what stays the same in the loop; the registers that are kept for it."""
        moves = [statement for statement in walk(body) if isinstance(statement, Move)]
        constant: set[Field] = set()
        for field in _ORDER:
            values = {value.key: value for move in moves if (value := move.fields.get(field)) is not None}
            if len(values) == 1 and all(_is_same(value, varying) for value in values.values()):
                self._set_field(field, *values.values())
                constant.add(field)
            elif values:
                self.latch.pop(field, None)
        wanted: dict[tuple, tuple[int, Expression]] = {}
        for expression in _in_loop(body, constant, condition):
            for part in _unchanging(expression, varying):
                uses = wanted.get(part.key, (0, part))[0] + cost(part)
                wanted[part.key] = uses, part
        kept: list[int] = []
        reserve = _SPARE + self._reserve(body)
        for _, part in sorted(wanted.values(), key=lambda item: -item[0]):
            if self.registers.free <= reserve:
                break
            kept.append(self.value(part))
            self.registers.keep(kept[-1])
        self.registers.forget_unkept()
        # What is kept for an outer loop holds now, and not when this one comes round again.
        self.registers.forget_computed(varying)
        return kept


def _is_same(expression: Expression, varying: set[tuple]) -> bool:
    """Whether it has one value throughout a loop, and can be computed before it."""
    return (all(leaf.key not in varying for leaf in leaves(expression))
            and all(part.kind not in ("//", "%") or _is_positive(part.operands[1]) for part in parts(expression)))


def _is_positive(expression: Expression) -> bool:
    return (expression.kind == CONST and expression.operands[0] > 0
            or expression.kind == SPECIAL and expression.operands[0] in (Special.SIZE, Special.SEGMENT))


def _in_loop(body: list[Statement], constant: set[Field], condition: Expression | None) -> Iterator[Expression]:
    """What has to be computed each time."""
    if condition is not None:
        yield condition
    for statement in walk(body):
        if isinstance(statement, Move):
            yield from (value for field, value in statement.fields.items() if field not in constant)
        else:
            yield from expressions(statement)


def _unchanging(expression: Expression, varying: set[tuple]) -> Iterator[Expression]:
    """The greatest parts of it that stay the same and need an instruction."""
    if expression.kind in (CONST, VARIABLE):
        return
    if _is_same(expression, varying):
        yield expression
    elif expression.kind not in (SPECIAL, CALL_WORD, CALL_ADDRESS):
        for operand in expression.operands:
            yield from _unchanging(operand, varying)
