# SPDX-License-Identifier: Apache-2.0
"""Instructions of the collective engine's sequencer, and of its moves. Plain Python.

Each of the four contexts has 16 registers of 40 bits (register 0 reads as zero; the others hold anything when a call
begins), a program counter, and a latch that holds the fields of its next move. Arithmetic is unsigned modulo 2**40.
An operand that an instruction does not have (field 8, word 16 of the call, ...), an operand or target of CONTROL that
does not exist, and an instruction outside the program memory end the call with PROGRAM_ERROR.
"""

import enum
from typing import NamedTuple

__all__ = ["MAX_PROGRAM", "REGISTER_BITS", "Field", "Instruction", "Local", "MoveControl", "Opcode", "Other", "Special",
           "Target"]

REGISTER_BITS = 40
#: Greatest number of instructions in the program memory.
MAX_PROGRAM = 4096


class Opcode(enum.IntEnum):
    """Bits 31:26 of an instruction.

    ``rd`` is in bits 25:22, ``ra`` in 21:18, ``rb`` in 17:14, the immediate in 13:0, two's complement, but for LI where
    it is in 17:0. Opcodes from ADD to SUBM with IMMEDIATE added take the immediate in place of register ``rb``.
    """

    ILLEGAL = 0  # ends the call with PROGRAM_ERROR, as all codes that are not here
    ADD = 1
    SUB = 2
    AND = 3
    OR = 4
    XOR = 5
    SHL = 6  # by the low 6 bits of the second operand; by 40 and more: 0
    SHR = 7
    MIN = 8
    MAX = 9
    MUL = 10  # low 40 bits
    DIV = 11  # quotient; by zero: PROGRAM_ERROR
    MOD = 12  # remainder; by zero: PROGRAM_ERROR
    ADDM = 13  # low 5 bits of ra and second: their sum, less the communicator's size if that is not smaller
    SUBM = 14  # low 5 bits of ra and second: their difference, plus the communicator's size if ra is smaller; 6 bits
    BEQ = 16  # to instruction `immediate` if ra == rb
    BNE = 17
    BLT = 18
    BGE = 19
    LI = 20  # rd = immediate of 18 bits
    LDD = 21  # rd = word `immediate` of the call
    LDA = 22  # rd = words `immediate` and the next of the call as an address
    LDS = 23  # rd = Special `immediate`
    MV = 24  # Field rd of the latch = ra + immediate
    GO = 25  # start a move with the latch's fields; waits while four of the context are under way
    SYNC = 26  # wait until at most `immediate` moves of the context are under way
    RET = 27  # wait for all moves, end the call
    ERR = 28  # wait for all moves, end the call with Status.PROGRAM_RAISED, and `immediate` as its cause
    IMMEDIATE = 32


class Special(enum.IntEnum):
    """What LDS loads."""

    SIZE = 0  # ranks of the call's communicator
    RANK = 1  # own rank in it
    SHIFT = 2  # binary logarithm of the bytes of an element of the call
    SEGMENT = 3  # payload bytes of the largest packet


class Field(enum.IntEnum):
    """Fields of the latch. They keep their values from move to move; when a call begins they are 0.

    At GO, ranks of a source or destination that the move has must be in the communicator, else the call ends with
    BAD_PEER; and the element type of a reduction must be one that the engine reduces, else with BAD_TYPE.
    """

    CONTROL = 0  # MoveControl
    COUNT = 1  # elements
    LOCAL = 2  # address of the first operand
    OTHER = 3  # address of the second one, if it is in memory
    RESULT = 4  # address of the result
    SOURCE = 5  # rank that the second operand comes from; all ones in the low 32 bits: any, but in a collective
    DESTINATION = 6  # rank that the result goes to
    TAG = 7  # of what is received and sent, 32 bits; all ones: any to a receive, but in a collective


class Local(enum.IntEnum):
    """Bits 1:0 of CONTROL: the first operand."""

    NONE = 0
    MEMORY = 1
    STREAM = 2  # a kernel's stream


class Other(enum.IntEnum):
    """Bits 3:2 of CONTROL: the second operand."""

    NONE = 0
    RECEIVE = 1  # a message
    MEMORY = 2


class Target(enum.IntEnum):
    """Bits 5:4 of CONTROL: where the result stays."""

    NONE = 0
    MEMORY = 1
    STREAM = 2


class MoveControl(NamedTuple):
    """What a move does, as a value for Field.CONTROL.

    The result is ``function(received or second operand, first operand)`` if ``reduce``, else whichever operand there
    is. It may be kept (``target``) and sent (``send``) at a time. ``put``: what is sent is for the kernel's stream
    of number TAG over there.
    """

    local: Local = Local.NONE
    other: Other = Other.NONE
    target: Target = Target.NONE
    send: bool = False
    reduce: bool = False
    put: bool = False

    def to_int(self) -> int:
        """The bits."""
        return self.local | self.other << 2 | self.target << 4 | self.send << 6 | self.reduce << 7 | self.put << 8

    @classmethod
    def from_int(cls, value: int) -> "MoveControl":
        """Raises ValueError for an operand or target that does not exist."""
        return cls(Local(value & 3), Other(value >> 2 & 3), Target(value >> 4 & 3), bool(value >> 6 & 1),
                   bool(value >> 7 & 1), bool(value >> 8 & 1))


class Instruction(NamedTuple):
    """An instruction; ``opcode`` may have :attr:`Opcode.IMMEDIATE` added."""

    opcode: int
    rd: int = 0
    ra: int = 0
    rb: int = 0
    immediate: int = 0

    def to_int(self) -> int:
        """The 32 bits. Raises ValueError if a field does not fit."""
        if not (0 <= self.rd < 16 and 0 <= self.ra < 16 and 0 <= self.rb < 16):
            raise ValueError(f"registers must be 0 to 15 in {self}")
        bits = 18 if self.opcode == Opcode.LI else 14
        low, high = -(1 << bits - 1), 1 << (bits if self.opcode in range(Opcode.BEQ, Opcode.LI) else bits - 1)
        if not low <= self.immediate < high:
            raise ValueError(f"the immediate must be {low} to {high - 1} in {self}")
        return (self.opcode << 26 | self.rd << 22 | (0 if bits == 18 else self.ra << 18 | self.rb << 14)
                | self.immediate & (1 << bits) - 1)

    @classmethod
    def from_int(cls, word: int) -> "Instruction":
        """Decode 32 bits."""
        opcode = word >> 26
        bits = 18 if opcode == Opcode.LI else 14
        immediate = word & (1 << bits) - 1
        if immediate >> bits - 1 and opcode not in range(Opcode.BEQ, Opcode.LI):
            immediate -= 1 << bits
        if bits == 18:
            return cls(opcode, word >> 22 & 15, immediate=immediate)
        return cls(opcode, word >> 22 & 15, word >> 18 & 15, word >> 14 & 15, immediate)
