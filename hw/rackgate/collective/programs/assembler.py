# SPDX-License-Identifier: Apache-2.0
"""Programs of the collective engine's sequencer as text, as Python values with labels, and as words. Plain Python.

A line of text is a label (``name:``), an instruction, or both; a comment begins with ``;``. Operands are registers
``r0`` to ``r15``, integers (decimal, or with 0x or 0b), labels, and names of :class:`~rackgate.collective.isa.Field`
and :class:`~rackgate.collective.isa.Special`:

==========================================================  ==============================================
``add sub and or xor shl shr min max mul div mod addm subm``  ``rd, ra, rb`` or ``rd, ra, immediate``
``beq bne blt bge``                                           ``ra, rb, label``
``li``                                                        ``rd, immediate``
``ldd lda``                                                   ``rd, word of the call``
``lds``                                                       ``rd, Special``
``mv``                                                        ``Field, ra, immediate`` (the immediate may be left out)
``go ret``
``sync err``                                                  ``immediate``
``.word``                                                     32 bits as they are
==========================================================  ==============================================
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rackgate.collective.isa import MAX_PROGRAM, Field, Instruction, Opcode, Special

__all__ = ["ALU_OPCODES", "AssemblyError", "Branch", "Label", "Statement", "assemble", "disassemble",
           "parse"]

#: Opcodes that have a form with an immediate in place of register ``rb``.
ALU_OPCODES = tuple(opcode for opcode in Opcode if Opcode.ADD <= opcode <= Opcode.SUBM)
_BRANCHES = (Opcode.BEQ, Opcode.BNE, Opcode.BLT, Opcode.BGE)
_LABEL = re.compile(r"[A-Za-z_]\w*")


class AssemblyError(ValueError):
    """A program cannot be assembled; the text names the line or the statement."""


class Label(NamedTuple):
    """The place of the statement that follows."""

    name: str


class Branch(NamedTuple):
    """A branch to a label. ``opcode``: BEQ, BNE, BLT or BGE."""

    opcode: Opcode
    ra: int
    rb: int
    target: str


class _Word(NamedTuple):
    """32 bits as they are."""

    value: int


#: Part of a program.
Statement = Label | Branch | Instruction | _Word


def assemble(program: str | Iterable[Statement], *, origin: int = 0, labels: Mapping[str, int] | None = None,
             ) -> list[int]:
    """Words of a program that begins at instruction ``origin``.

    Parameters
    ----------
    program:
        Text, or statements: :class:`Label`, :class:`Branch`, :class:`~rackgate.collective.isa.Instruction`.
    origin:
        Address of the first word; branches are absolute.
    labels:
        Addresses of further labels, outside the program.

    Raises
    ------
    AssemblyError
        For text that cannot be read, a label that is missing or there twice, a field that does not fit, or a program
        that ends beyond the largest program memory.
    """
    statements = parse(program) if isinstance(program, str) else list(program)
    places: dict[str, int] = dict(labels or {})
    address = origin
    for statement in statements:
        if isinstance(statement, Label):
            if statement.name in places:
                raise AssemblyError(f"label {statement.name!r} is there twice")
            places[statement.name] = address
        else:
            address += 1
    if origin < 0 or address > MAX_PROGRAM:
        raise AssemblyError(f"a program must lie in words 0 to {MAX_PROGRAM - 1}, not {origin} to {address - 1}")
    return [_encode(statement, places) for statement in statements if not isinstance(statement, Label)]


def _encode(statement: Branch | Instruction | _Word, places: Mapping[str, int]) -> int:
    if isinstance(statement, _Word):
        return statement.value
    if isinstance(statement, Branch):
        if statement.opcode not in _BRANCHES:
            raise AssemblyError(f"a branch must be one of beq, bne, blt, bge, not {statement.opcode!r}")
        if statement.target not in places:
            raise AssemblyError(f"there is no label {statement.target!r}")
        statement = Instruction(statement.opcode, 0, statement.ra, statement.rb, places[statement.target])
    try:
        return statement.to_int()
    except ValueError as error:
        raise AssemblyError(str(error)) from None


def parse(text: str) -> list[Statement]:
    """Statements of a text. Raises AssemblyError, with the number of the line."""
    statements: list[Statement] = []
    for number, line in enumerate(text.splitlines(), 1):
        rest = line.partition(";")[0].strip()
        try:
            while (match := re.match(r"(\w+)\s*:\s*", rest)) is not None:
                if not _LABEL.fullmatch(match[1]):
                    raise AssemblyError(f"a label must be a name, not {match[1]!r}")
                statements.append(Label(match[1]))
                rest = rest[match.end():]
            if rest:
                mnemonic, _, operands = rest.partition(" ")
                statements.append(_parse(mnemonic.lower(), [part.strip() for part in operands.split(",")]
                                         if operands.strip() else []))
        except AssemblyError as error:
            raise AssemblyError(f"line {number}: {error}") from None
    return statements


def _parse(mnemonic: str, operands: list[str]) -> Statement:
    if mnemonic == ".word":
        value = _integer(*_expect(mnemonic, operands, 1))
        if not 0 <= value < 1 << 32:
            raise AssemblyError(f"a word must be 0 to {(1 << 32) - 1}, not {value}")
        return _Word(value)
    opcode = Opcode.__members__.get(mnemonic.upper())
    if opcode is None or opcode in (Opcode.ILLEGAL, Opcode.IMMEDIATE):
        raise AssemblyError(f"there is no instruction {mnemonic!r}")
    if opcode in ALU_OPCODES:
        rd, ra, second = _expect(mnemonic, operands, 3)
        if _is_register(second):
            return Instruction(opcode, _register(rd), _register(ra), _register(second))
        return Instruction(opcode | Opcode.IMMEDIATE, _register(rd), _register(ra), immediate=_integer(second))
    if opcode in _BRANCHES:
        ra, rb, target = _expect(mnemonic, operands, 3)
        if _LABEL.fullmatch(target):
            return Branch(opcode, _register(ra), _register(rb), target)
        return Instruction(opcode, 0, _register(ra), _register(rb), _integer(target))
    match opcode:
        case Opcode.LI | Opcode.LDD | Opcode.LDA:
            rd, immediate = _expect(mnemonic, operands, 2)
            return Instruction(opcode, _register(rd), immediate=_integer(immediate))
        case Opcode.LDS:
            rd, special = _expect(mnemonic, operands, 2)
            return Instruction(opcode, _register(rd), immediate=_named(Special, special))
        case Opcode.MV:
            field, ra, immediate = _expect(mnemonic, operands if len(operands) != 2 else [*operands, "0"], 3)
            return Instruction(opcode, _named(Field, field), _register(ra), immediate=_integer(immediate))
        case Opcode.SYNC | Opcode.ERR:
            return Instruction(opcode, immediate=_integer(*_expect(mnemonic, operands, 1)))
    _expect(mnemonic, operands, 0)
    return Instruction(opcode)


def _expect(mnemonic: str, operands: list[str], count: int) -> list[str]:
    if len(operands) != count:
        raise AssemblyError(f"{mnemonic} must have {count} operands, not {len(operands)}")
    return operands


def _is_register(text: str) -> bool:
    return re.fullmatch(r"[rR]\d+", text) is not None


def _register(text: str) -> int:
    if not _is_register(text) or int(text[1:]) > 15:
        raise AssemblyError(f"a register must be r0 to r15, not {text!r}")
    return int(text[1:])


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise AssemblyError(f"an integer is expected, not {text!r}") from None


def _named(names: type[Field] | type[Special], text: str) -> int:
    member = names.__members__.get(text.upper())
    if member is None:
        raise AssemblyError(f"there is no {names.__name__} {text!r}, but {', '.join(names.__members__)}")
    return int(member)


def disassemble(words: Iterable[int], *, origin: int = 0) -> str:
    """Text of a program, a line a word, that assembles to the same words.

    Targets of branches inside the program become labels; words that are no instruction, or have bits set that theirs
    does not use, become ``.word``.
    """
    words = list(words)
    end = origin + len(words)
    targets = {word & 0x3FFF for word in words if word >> 26 in _BRANCHES and origin <= word & 0x3FFF < end}
    labels = {address: f"L{address}" for address in targets}
    lines = []
    for address, word in enumerate(words, origin):
        if address in labels:
            lines.append(f"{labels[address]}:")
        text = _print(Instruction.from_int(word), labels)
        is_same = text is not None and _encode(_parse_one(text), {name: at for at, name in labels.items()}) == word
        lines.append(f"    {text}" if is_same else f"    .word {word:#010x}")
    return "\n".join(lines) + "\n"


def _parse_one(text: str) -> Branch | Instruction | _Word:
    statement, = parse(text)
    assert not isinstance(statement, Label)
    return statement


def _print(instruction: Instruction, labels: Mapping[int, str]) -> str | None:
    """An instruction as text, or None if it is none."""
    code, rd, ra, rb, immediate = instruction
    has_immediate = code - Opcode.IMMEDIATE in ALU_OPCODES
    try:
        opcode = Opcode(code - Opcode.IMMEDIATE if has_immediate else code)
    except ValueError:
        return None
    name = opcode.name.lower()
    if opcode in ALU_OPCODES:
        return f"{name} r{rd}, r{ra}, {immediate if has_immediate else f'r{rb}'}"
    if opcode in _BRANCHES:
        return f"{name} r{ra}, r{rb}, {labels.get(immediate, immediate)}"
    match opcode:
        case Opcode.LI | Opcode.LDD | Opcode.LDA:
            return f"{name} r{rd}, {immediate}"
        case Opcode.LDS if immediate in list(Special):
            return f"{name} r{rd}, {Special(immediate).name}"
        case Opcode.MV if rd in list(Field):
            return f"{name} {Field(rd).name}, r{ra}, {immediate}"
        case Opcode.SYNC | Opcode.ERR:
            return f"{name} {immediate}"
        case Opcode.GO | Opcode.RET:
            return name
    return None
