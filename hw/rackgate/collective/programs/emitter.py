# SPDX-License-Identifier: Apache-2.0
"""Instructions for expressions and branches, and what is in registers and latch where they stand."""

from rackgate.collective.isa import Field, Instruction, Opcode
from rackgate.collective.programs.allocation import Registers
from rackgate.collective.programs.assembler import Branch, Label
from rackgate.collective.programs.assembler import Statement as Line
from rackgate.collective.programs.error import CollectiveError
from rackgate.collective.programs.expression import (
    CALL_ADDRESS,
    CALL_WORD,
    CONST,
    SPECIAL,
    Expression,
    const,
    operation,
    parts,
)

__all__ = ["Emitter", "cost", "is_small"]

_OPCODES = {"+": Opcode.ADD, "-": Opcode.SUB, "*": Opcode.MUL, "//": Opcode.DIV, "%": Opcode.MOD, "<<": Opcode.SHL,
            ">>": Opcode.SHR, "&": Opcode.AND, "|": Opcode.OR, "^": Opcode.XOR, "min": Opcode.MIN, "max": Opcode.MAX,
            "plus": Opcode.ADDM, "minus": Opcode.SUBM}
_IMMEDIATE = 1 << 13  # an immediate is smaller
_LONG_IMMEDIATE = 1 << 17  # of LI


class Emitter:
    """The instructions so far, and what is known where the next one will stand.

    ``last_use``: of values, by key: the position of the last statement that needs them. ``position`` and ``line`` are
    those of the statement that is being compiled.
    """

    def __init__(self, last_use: dict[tuple, int]) -> None:
        self.lines: list[Line] = []
        self.registers = Registers()
        self.latch: dict[Field, Expression] = {Field.CONTROL: const(0), Field.TAG: const(0)}  # as a call begins
        self.position = 0
        self.line = "?"
        self._last_use = last_use
        self._arrivals: dict[str, list[tuple[dict[int, Expression], dict[Field, Expression]]]] = {}
        self._labels = 0

    def value(self, expression: Expression) -> int:
        """The register that has the value, computed if none has it."""
        register = self.registers.find(expression)
        return self.compute(expression) if register is None else register

    def compute(self, expression: Expression, into: int | None = None) -> int:
        """Compute the value into a register, or into register ``into``; which."""
        kind = expression.kind
        match kind:
            case "const":
                return self._load_constant(expression, into)
            case "special" | "word" | "address":
                opcode = {SPECIAL: Opcode.LDS, CALL_WORD: Opcode.LDD, CALL_ADDRESS: Opcode.LDA}[kind]
                return self._result(expression, into, opcode, immediate=expression.operands[0])
            case "variable":
                register = self.registers.find(expression)
                if register is None:
                    raise CollectiveError(f"{self.line}: {expression!r} has no value here")
                return self._result(expression, into, Opcode.ADD | Opcode.IMMEDIATE, register)
            case "<" | "<=":
                first, second = expression.operands
                if kind == "<=":  # not (second < first)
                    first, second = second, first
                excess = operation("-", second, operation("min", first, second))
                return self._lower(expression, into, excess, kind == "<=")
            case "==" | "!=":
                return self._lower(expression, into, operation("^", *expression.operands), kind == "==")
            case "not":
                return self._with_operand(expression, into, Opcode.XOR, expression.operands[0], 1)
        first, second = expression.operands
        if kind == "<<" and second.key == const(1).key:  # a sum is there at once, a shift is not
            register = self.value(first)
            return self._result(expression, into, Opcode.ADD, register, register)
        if is_small(second):
            return self._with_operand(expression, into, _OPCODES[kind], first, second.operands[0])
        first_register = self.value(first)
        self.registers.lock(first_register)
        second_register = self.value(second)
        self.registers.unlock(first_register)
        return self._result(expression, into, _OPCODES[kind], first_register, second_register)

    def _with_operand(self, expression: Expression, into: int | None, opcode: Opcode, operand: Expression,
                      immediate: int) -> int:
        return self._result(expression, into, opcode | Opcode.IMMEDIATE, self.value(operand), immediate=immediate)

    def _lower(self, expression: Expression, into: int | None, difference: Expression, is_inverted: bool) -> int:
        """A comparison as a number: whether a difference is not 0, or is. No shift: those take a cycle a bit."""
        operand = self.value(difference)
        register = self.registers.take(self.line, self._price) if into is None else into
        self.emit(Opcode.MIN | Opcode.IMMEDIATE, register, operand, immediate=1)
        if is_inverted:
            self.emit(Opcode.XOR | Opcode.IMMEDIATE, register, register, immediate=1)
        if into is None:
            self.registers.hold(register, expression)
        return register

    def _price(self, expression: Expression) -> int:
        """What it costs to forget a value: nothing once it is not needed any more."""
        return 0 if self._last_use.get(expression.key, -1) < self.position else cost(expression)

    def _result(self, expression: Expression, into: int | None, opcode: int, ra: int = 0, rb: int = 0,
                immediate: int = 0) -> int:
        """Emit an instruction for a value that needs a register; it may be that of an operand."""
        register = self.registers.take(self.line, self._price) if into is None else into
        self.emit(opcode, register, ra, rb, immediate)
        if into is None:
            self.registers.hold(register, expression)
        return register

    def _load_constant(self, expression: Expression, into: int | None) -> int:
        value = expression.operands[0]
        if value < _LONG_IMMEDIATE:
            return self._result(expression, into, Opcode.LI, immediate=value)
        high = self.value(const(value >> 13))
        register = self._result(expression, into, Opcode.SHL | Opcode.IMMEDIATE, high, immediate=13)
        if value & 0x1FFF:
            self.emit(Opcode.ADD | Opcode.IMMEDIATE, register, register, immediate=value & 0x1FFF)
        return register

    # Branches

    def branch(self, condition: Expression, label: str, *, is_taken_if: bool) -> None:
        """To ``label`` if ``condition`` is as ``is_taken_if`` says."""
        kind = condition.kind
        if kind == "not":
            self.branch(condition.operands[0], label, is_taken_if=not is_taken_if)
        elif kind in ("&", "|") and condition.is_condition:
            first, second = condition.operands
            if (kind == "|") == is_taken_if:  # either one decides
                self.branch(first, label, is_taken_if=is_taken_if)
                self.branch(second, label, is_taken_if=is_taken_if)
            else:
                past = self.label()
                self.branch(first, past, is_taken_if=not is_taken_if)
                self.branch(second, label, is_taken_if=is_taken_if)
                self.place(past)
        elif kind in ("<", "<=", "==", "!="):
            first, second = condition.operands
            if kind == "<=":
                first, second = second, first
                is_taken_if = not is_taken_if
            ra = self.value(first)
            self.registers.lock(ra)
            rb = self.value(second)
            self.registers.unlock(ra)
            if kind in ("==", "!="):
                opcode = Opcode.BEQ if (kind == "==") == is_taken_if else Opcode.BNE
            else:
                opcode = Opcode.BLT if is_taken_if else Opcode.BGE
            self.emit_branch(opcode, ra, rb, label)
        else:
            self.emit_branch(Opcode.BNE if is_taken_if else Opcode.BEQ, self.value(condition), 0, label)

    def jump(self, label: str) -> None:
        """To ``label``."""
        self.emit_branch(Opcode.BEQ, 0, 0, label)

    def label(self) -> str:
        """A new one."""
        self._labels += 1
        return f"L{self._labels}"

    def emit(self, opcode: int, rd: int = 0, ra: int = 0, rb: int = 0, immediate: int = 0) -> None:
        """An instruction."""
        self.lines.append(Instruction(opcode, rd, ra, rb, immediate))

    def place(self, label: str, is_reached: bool = True) -> None:
        """Put ``label`` here: what is known now is what was known wherever the program comes from."""
        arrivals = self._arrivals.pop(label, [])
        if is_reached:
            arrivals.append((self.registers.snapshot(), self.latch))
        if arrivals:
            (first, self.latch), *others = arrivals
            self.registers.restore(first)
            for holds, latch in others:
                self.registers.meet(holds)
                self.latch = {field: value for field, value in self.latch.items()
                               if field in latch and latch[field].key == value.key}
        self.lines.append(Label(label))

    def emit_branch(self, opcode: Opcode, ra: int, rb: int, label: str) -> None:
        """A branch."""
        self._arrivals.setdefault(label, []).append((self.registers.snapshot(), dict(self.latch)))
        self.lines.append(Branch(opcode, ra, rb, label))


def is_small(expression: Expression) -> bool:
    """Whether it is a constant that fits an immediate."""
    return expression.kind == CONST and expression.operands[0] < _IMMEDIATE


def cost(expression: Expression) -> int:
    """About how many instructions compute it."""
    return sum(40 if part.kind in ("//", "%") else 1 for part in parts(expression) if part.kind != CONST)
