# SPDX-License-Identifier: Apache-2.0
"""Text, statements and words of programs."""

import random

import pytest

from rackgate.collective.isa import Field, Instruction, Opcode, Special
from rackgate.collective.programs.assembler import AssemblyError, Branch, Label, assemble, disassemble


def test_every_instruction():
    """One of each, against the encoding that isa.Instruction gives."""
    text = """
    start:  ; two labels on one place
    again: li r1, -5
        add r2, r1, r15
        subm r3, r2, 1
        beq r1, r2, again
        bge r3, r0, 7
        ldd r4, 15
        lda r5, 0x9
        lds r6, shift
        mv TAG, r6
        mv count, r0, 0x10
        go
        sync 2
        err 3
        ret
        .word 0xFFFFFFFF
    """
    expected = [
        Instruction(Opcode.LI, 1, immediate=-5), Instruction(Opcode.ADD, 2, 1, 15),
        Instruction(Opcode.SUBM | Opcode.IMMEDIATE, 3, 2, immediate=1), Instruction(Opcode.BEQ, 0, 1, 2, 20),
        Instruction(Opcode.BGE, 0, 3, 0, 7), Instruction(Opcode.LDD, 4, immediate=15),
        Instruction(Opcode.LDA, 5, immediate=9), Instruction(Opcode.LDS, 6, immediate=Special.SHIFT),
        Instruction(Opcode.MV, Field.TAG, 6), Instruction(Opcode.MV, Field.COUNT, 0, immediate=16),
        Instruction(Opcode.GO), Instruction(Opcode.SYNC, immediate=2), Instruction(Opcode.ERR, immediate=3),
        Instruction(Opcode.RET),
    ]
    assert assemble(text, origin=20) == [instruction.to_int() for instruction in expected] + [0xFFFFFFFF]


def test_statements():
    program = [Label("top"), Instruction(Opcode.GO), Branch(Opcode.BNE, 1, 2, "top"), Branch(Opcode.BLT, 3, 4, "far")]
    assert assemble(program, origin=5, labels={"far": 100}) == [
        Instruction(Opcode.GO).to_int(), Instruction(Opcode.BNE, 0, 1, 2, 5).to_int(),
        Instruction(Opcode.BLT, 0, 3, 4, 100).to_int()]


def test_disassembly_round_trip(seed):
    """Any words come back, and whatever is an instruction is printed as one."""
    rng = random.Random(seed)
    words = [rng.getrandbits(32) for _ in range(300)]
    for _ in range(500):
        opcode = rng.choice([*Opcode, *(opcode + 32 for opcode in range(1, 15))])
        words.append(opcode << 26 | rng.getrandbits(26) & rng.choice([0x3FFFFFF, 0x3F, 0]))
    for origin in (0, 40, 1000):
        text = disassemble(words, origin=origin)
        assert assemble(text, origin=origin) == words
    plain = assemble("a: li r1, 3\n mv COUNT, r1\n go\n sync 0\n bne r1, r2, a\n ret")
    assert ".word" not in disassemble(plain, origin=0)
    assert "L0:" in disassemble(plain, origin=0)


@pytest.mark.parametrize("text,message", [
    ("jump r1", "line 1: there is no instruction 'jump'"),
    ("illegal", "line 1: there is no instruction 'illegal'"),
    ("ret\nadd r1, r2", "line 2: add must have 3 operands, not 2"),
    ("add r1, r16, r2", "line 1: a register must be r0 to r15, not 'r16'"),
    ("add r1, r2, five", "line 1: an integer is expected, not 'five'"),
    ("mv SIZE, r1", "line 1: there is no Field 'SIZE', but CONTROL"),
    ("lds r1, COUNT", "line 1: there is no Special 'COUNT', but SIZE"),
    ("7: ret", "line 1: a label must be a name, not '7'"),
    (".word 0x100000000", "line 1: a word must be 0 to 4294967295"),
    ("beq r1, r2, nowhere", "there is no label 'nowhere'"),
    ("a: ret\na: ret", "label 'a' is there twice"),
    ("add r1, r2, 8192", "the immediate must be -8192 to 8191"),
    ("li r1, 131072", "the immediate must be -131072 to 131071"),
])
def test_errors(text, message):
    with pytest.raises(AssemblyError) as error:
        assemble(text)
    assert message in str(error.value)


def test_program_too_long():
    with pytest.raises(AssemblyError, match="a program must lie in words 0 to 4095, not 4095 to 4096"):
        assemble("go\nret", origin=4095)
    with pytest.raises(AssemblyError, match="a branch must be one of beq, bne, blt, bge"):
        assemble([Label("a"), Branch(Opcode.ADD, 1, 2, "a")])
