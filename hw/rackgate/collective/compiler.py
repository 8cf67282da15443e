# SPDX-License-Identifier: Apache-2.0
"""From a collective's statements to instructions of the sequencer.

Values live in registers from when they are first needed until a register is wanted for another; variables, and what
stays the same in a loop, keep theirs. A field of the move latch is written only if it does not hold the value yet, and
before a loop if the loop never changes it. A division is made where it stands, or before a loop if its divisor cannot
be zero.
"""

from collections.abc import Iterator

from rackgate.collective.allocation import Registers
from rackgate.collective.assembler import AssemblyError, Branch, Label, assemble
from rackgate.collective.assembler import Statement as Line
from rackgate.collective.expression import (
    CALL_ADDRESS,
    CALL_WORD,
    CONST,
    SPECIAL,
    VARIABLE,
    Expression,
    const,
    leaves,
    operation,
    parts,
)
from rackgate.collective.isa import MAX_PROGRAM, Field, Instruction, Opcode, Special
from rackgate.collective.language import CollectiveError
from rackgate.collective.statements import (
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
    changed,
    expressions,
    walk,
)

__all__ = ["compile_trace"]

_OPCODES = {"+": Opcode.ADD, "-": Opcode.SUB, "*": Opcode.MUL, "//": Opcode.DIV, "%": Opcode.MOD, "<<": Opcode.SHL,
            ">>": Opcode.SHR, "&": Opcode.AND, "|": Opcode.OR, "^": Opcode.XOR, "min": Opcode.MIN, "max": Opcode.MAX,
            "plus": Opcode.ADDM, "minus": Opcode.SUBM}
_IMMEDIATE = 1 << 13  # an immediate is smaller
_LONG_IMMEDIATE = 1 << 17  # of LI
#: Registers that a loop leaves for what it computes anew each time.
_SPARE = 4
_ORDER = (Field.COUNT, Field.LOCAL, Field.OTHER, Field.RESULT, Field.SOURCE, Field.DESTINATION, Field.TAG,
          Field.CONTROL)
_CALL_FIRST = {Field.CONTROL: 0, Field.TAG: 0}  # what the latch holds when a call begins


def compile_trace(trace: Trace) -> list[int]:
    """The words of a program that begins at instruction 0. Raises CollectiveError if it does not fit the engine."""
    lines = _Compiler().compile(trace)
    try:
        return assemble(lines)
    except AssemblyError as error:
        length = sum(not isinstance(line, Label) for line in lines)
        if length > MAX_PROGRAM:
            raise CollectiveError(f"{trace.name} has {length} instructions; the program memory has at most "
                                  f"{MAX_PROGRAM}") from None
        raise CollectiveError(f"{trace.name}: {error}") from None


class _Compiler:
    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._registers = Registers()
        self._latch: dict[Field, Expression] = {field: const(value) for field, value in _CALL_FIRST.items()}
        self._arrivals: dict[str, list[tuple[dict[int, Expression], dict[Field, Expression]]]] = {}
        self._labels = 0
        self._positions: dict[int, int] = {}  # of statements, by id
        self._last_use: dict[tuple, int] = {}  # of a value: the position of the last statement that needs it
        self._position = 0
        self._line = "?"

    def compile(self, trace: Trace) -> list[Line]:
        for position, statement in enumerate(walk(trace.body)):
            self._positions[id(statement)] = position
            for expression in expressions(statement):
                self._last_use.update(dict.fromkeys((part.key for part in parts(expression)), position))
        if not self._block(trace.body):
            self._emit(Opcode.RET)
        return self._lines

    # Statements

    def _block(self, body: list[Statement]) -> bool:
        """Compile ``body``; whether it always ends the program. Its variables end with it."""
        kept: list[int] = []
        has_ended = False
        for statement in body:
            if has_ended:
                raise CollectiveError(f"{statement.line}: nothing comes here, as the collective has ended before")
            self._line = statement.line
            self._position = self._positions[id(statement)]
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
                    self._emit(Opcode.SYNC, immediate=moves)
                case Stop():
                    self._emit(Opcode.RET)
                    has_ended = True
                case Fail(cause=cause):
                    self._emit(Opcode.ERR, immediate=cause)
                    has_ended = True
        for register in kept:
            self._registers.release(register)
        return has_ended

    def _move(self, move: Move) -> None:
        for field in _ORDER:
            if field in move.fields:
                self._set_field(field, move.fields[field])
        self._emit(Opcode.GO)

    def _set_field(self, field: Field, value: Expression) -> None:
        held = self._latch.get(field)
        if held is not None and held.key == value.key:
            return
        immediate = 0
        source = value
        if self._registers.find(value) is None:
            if value.kind == CONST and value.operands[0] < _IMMEDIATE:
                source, immediate = const(0), value.operands[0]
            elif value.kind in ("+", "-") and _small(value.operands[1]):
                source, immediate = value.operands[0], value.operands[1].operands[0]
                immediate = -immediate if value.kind == "-" else immediate
        self._emit(Opcode.MV, int(field), self._value(source), immediate=immediate)
        self._latch[field] = value

    def _let(self, variable: Expression, value: Expression, kept: list[int]) -> None:
        register = self._registers.find(variable)
        if register is None:
            register = self._own(value)
            kept.append(register)
        else:
            self._compute(value, register)
        self._changed(variable)
        self._registers.hold(register, variable)

    def _copy(self, value: Expression) -> int:
        register = self._registers.take(self._line, self._price)
        found = self._registers.find(value)
        self._emit(Opcode.ADD | Opcode.IMMEDIATE, register, 0 if found is None else found)
        return register

    def _changed(self, variable: Expression) -> None:
        self._registers.forget(variable.key)
        self._latch = {field: value for field, value in self._latch.items()
                       if all(leaf.key != variable.key for leaf in leaves(value))}

    def _when(self, when: When) -> bool:
        otherwise, end = self._label(), self._label()
        self._branch(when.condition, otherwise, is_taken_if=False)
        then_ends = self._block(when.then)
        if not when.otherwise:
            self._place(otherwise, is_reached=not then_ends)
            return False
        if not then_ends:
            self._jump(end)
        self._place(otherwise, is_reached=False)
        else_ends = self._block(when.otherwise)
        if then_ends and else_ends:
            return True
        self._place(end, is_reached=not else_ends)
        return False

    def _loop(self, loop: Loop) -> None:
        top, end = self._label(), self._label()
        is_fixed = loop.start.kind == loop.stop.kind == CONST
        if is_fixed and loop.start.operands[0] >= loop.stop.operands[0]:
            return
        varying = changed(loop.body)
        register = self._own(loop.start)
        stop = self._own(loop.stop) if loop.stop.key in varying else self._value(loop.stop)
        self._registers.keep(stop)
        self._changed(loop.variable)
        self._registers.hold(register, loop.variable)
        if not is_fixed:
            self._emit_branch(Opcode.BGE, register, stop, end)
        kept = self._before_loop(loop.body, varying | {loop.variable.key})
        self._lines.append(Label(top))
        has_ended = self._block(loop.body)
        if not has_ended:
            self._emit(Opcode.ADD | Opcode.IMMEDIATE, register, register, immediate=1)
            self._changed(loop.variable)
            self._emit_branch(Opcode.BLT, register, stop, top)
        self._place(end, is_reached=not has_ended)
        self._changed(loop.variable)
        for kept_register in (*kept, register, stop):
            self._registers.release(kept_register)

    def _while(self, loop: While) -> None:
        top, end = self._label(), self._label()
        kept = self._before_loop(loop.body, changed(loop.body), loop.condition)
        self._branch(loop.condition, end, is_taken_if=False)
        self._registers.forget_unkept()
        self._lines.append(Label(top))
        has_ended = self._block(loop.body)
        if not has_ended:
            self._line = loop.line
            self._branch(loop.condition, top, is_taken_if=True)
        self._place(end, is_reached=not has_ended)
        for register in kept:
            self._registers.release(register)

    def _own(self, value: Expression) -> int:
        """A register with the value that is kept, and that nothing else reads."""
        register = self._compute(value) if self._registers.find(value) is None else self._copy(value)
        self._registers.keep(register)
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
                self._latch.pop(field, None)
        wanted: dict[tuple, tuple[int, Expression]] = {}
        for expression in _in_loop(body, constant, condition):
            for part in _unchanging(expression, varying):
                uses = wanted.get(part.key, (0, part))[0] + _cost(part)
                wanted[part.key] = uses, part
        kept: list[int] = []
        for _, part in sorted(wanted.values(), key=lambda item: -item[0]):
            if self._registers.free <= _SPARE:
                break
            kept.append(self._value(part))
            self._registers.keep(kept[-1])
        self._registers.forget_unkept()
        return kept

    # Expressions

    def _value(self, expression: Expression) -> int:
        """The register that has the value, computed if none has it."""
        register = self._registers.find(expression)
        return self._compute(expression) if register is None else register

    def _compute(self, expression: Expression, into: int | None = None) -> int:
        kind = expression.kind
        match kind:
            case "const":
                return self._load_constant(expression, into)
            case "special" | "word" | "address":
                opcode = {SPECIAL: Opcode.LDS, CALL_WORD: Opcode.LDD, CALL_ADDRESS: Opcode.LDA}[kind]
                return self._result(expression, into, opcode, immediate=expression.operands[0])
            case "variable":
                register = self._registers.find(expression)
                if register is None:
                    raise CollectiveError(f"{self._line}: {expression!r} has no value here")
                return self._result(expression, into, Opcode.ADD | Opcode.IMMEDIATE, register)
            case "<" | "<=":
                first, second = expression.operands
                if kind == "<=":  # not (second < first)
                    first, second = second, first
                return self._lower(expression, into, Opcode.SHR, ("-", first, second), 39, kind == "<=")
            case "==" | "!=":
                return self._lower(expression, into, Opcode.MIN, ("^", *expression.operands), 1, kind == "==")
            case "not":
                return self._with_operand(expression, into, Opcode.XOR, expression.operands[0], 1)
        first, second = expression.operands
        if _small(second):
            return self._with_operand(expression, into, _OPCODES[kind], first, second.operands[0])
        first_register = self._value(first)
        self._registers.lock(first_register)
        second_register = self._value(second)
        self._registers.unlock(first_register)
        return self._result(expression, into, _OPCODES[kind], first_register, second_register)

    def _with_operand(self, expression: Expression, into: int | None, opcode: Opcode, operand: Expression,
                      immediate: int) -> int:
        return self._result(expression, into, opcode | Opcode.IMMEDIATE, self._value(operand), immediate=immediate)

    def _lower(self, expression: Expression, into: int | None, opcode: Opcode, inner: tuple, immediate: int,
               is_inverted: bool) -> int:
        """A comparison as a number: of a difference, its sign or whether it is 0. The difference may wrap."""
        difference = self._value(operation(*inner))
        register = self._registers.take(self._line, self._price) if into is None else into
        self._emit(opcode | Opcode.IMMEDIATE, register, difference, immediate=immediate)
        if is_inverted:
            self._emit(Opcode.XOR | Opcode.IMMEDIATE, register, register, immediate=1)
        if into is None:
            self._registers.hold(register, expression)
        return register

    def _price(self, expression: Expression) -> int:
        """What it costs to forget a value: nothing once it is not needed any more."""
        return 0 if self._last_use.get(expression.key, -1) < self._position else _cost(expression)

    def _result(self, expression: Expression, into: int | None, opcode: int, ra: int = 0, rb: int = 0,
                immediate: int = 0) -> int:
        """Emit an instruction for a value that needs a register; it may be that of an operand."""
        register = self._registers.take(self._line, self._price) if into is None else into
        self._emit(opcode, register, ra, rb, immediate)
        if into is None:
            self._registers.hold(register, expression)
        return register

    def _load_constant(self, expression: Expression, into: int | None) -> int:
        value = expression.operands[0]
        if value < _LONG_IMMEDIATE:
            return self._result(expression, into, Opcode.LI, immediate=value)
        if value < _LONG_IMMEDIATE << 13:
            high = self._value(const(value >> 13))
            register = self._result(expression, into, Opcode.SHL | Opcode.IMMEDIATE, high, immediate=13)
            if value & 0x1FFF:
                self._emit(Opcode.ADD | Opcode.IMMEDIATE, register, register, immediate=value & 0x1FFF)
            return register
        raise CollectiveError(f"{self._line}: a constant must be less than 2**30, not {value}")

    # Branches

    def _branch(self, condition: Expression, label: str, *, is_taken_if: bool) -> None:
        """To ``label`` if ``condition`` is as ``is_taken_if`` says."""
        kind = condition.kind
        if kind == "not":
            self._branch(condition.operands[0], label, is_taken_if=not is_taken_if)
        elif kind in ("&", "|") and condition.is_condition:
            first, second = condition.operands
            if (kind == "|") == is_taken_if:  # either one decides
                self._branch(first, label, is_taken_if=is_taken_if)
                self._branch(second, label, is_taken_if=is_taken_if)
            else:
                past = self._label()
                self._branch(first, past, is_taken_if=not is_taken_if)
                self._branch(second, label, is_taken_if=is_taken_if)
                self._place(past)
        elif kind in ("<", "<=", "==", "!="):
            first, second = condition.operands
            if kind == "<=":
                first, second = second, first
                is_taken_if = not is_taken_if
            ra = self._value(first)
            self._registers.lock(ra)
            rb = self._value(second)
            self._registers.unlock(ra)
            if kind in ("==", "!="):
                opcode = Opcode.BEQ if (kind == "==") == is_taken_if else Opcode.BNE
            else:
                opcode = Opcode.BLT if is_taken_if else Opcode.BGE
            self._emit_branch(opcode, ra, rb, label)
        else:
            self._emit_branch(Opcode.BNE if is_taken_if else Opcode.BEQ, self._value(condition), 0, label)

    def _jump(self, label: str) -> None:
        self._emit_branch(Opcode.BEQ, 0, 0, label)

    def _label(self) -> str:
        self._labels += 1
        return f"L{self._labels}"

    def _emit(self, opcode: int, rd: int = 0, ra: int = 0, rb: int = 0, immediate: int = 0) -> None:
        self._lines.append(Instruction(opcode, rd, ra, rb, immediate))

    def _place(self, label: str, is_reached: bool = True) -> None:
        """Put ``label`` here: what is known now is what was known wherever the program comes from."""
        arrivals = self._arrivals.pop(label, [])
        if is_reached:
            arrivals.append((self._registers.snapshot(), self._latch))
        if arrivals:
            (first, self._latch), *others = arrivals
            self._registers.restore(first)
            for holds, latch in others:
                self._registers.meet(holds)
                self._latch = {field: value for field, value in self._latch.items()
                               if field in latch and latch[field].key == value.key}
        self._lines.append(Label(label))

    def _emit_branch(self, opcode: Opcode, ra: int, rb: int, label: str) -> None:
        self._arrivals.setdefault(label, []).append((self._registers.snapshot(), dict(self._latch)))
        self._lines.append(Branch(opcode, ra, rb, label))


def _small(expression: Expression) -> bool:
    return expression.kind == CONST and expression.operands[0] < _IMMEDIATE


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


def _cost(expression: Expression) -> int:
    return sum(40 if part.kind in ("//", "%") else 1 for part in parts(expression) if part.kind != CONST)
