# SPDX-License-Identifier: Apache-2.0
"""What the sequencer's instructions ask for."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.collective.abi import CALL_WORDS
from rackgate.collective.isa import REGISTER_BITS, Field, Opcode, Special

__all__ = ["Action", "Decode", "Decoded", "Predecoded", "predecode"]


#: Arithmetic that takes one cycle.
_QUICK = (Opcode.ADD, Opcode.SUB, Opcode.AND, Opcode.OR, Opcode.XOR, Opcode.MIN, Opcode.MAX, Opcode.ADDM, Opcode.SUBM)


class Action(enum.Enum, shape=4):
    """What executing an instruction is."""

    ILLEGAL = 0
    ALU = 1  # also LI
    LONG = 2  # what takes more than a cycle
    BRANCH = 4
    LOAD_WORD = 5
    LOAD_ADDRESS = 6
    LOAD_SPECIAL = 7
    MOVE_FIELD = 8
    GO = 9
    SYNC = 10
    END = 11  # RET and ERR


class Decoded(data.Struct):
    """An instruction.

    ``operation``: of the ALU, or what takes longer. ``writes``: its result, if it has one, goes to a register.
    ``immediate``: as it is. ``select``: which special, branch or end; or that it is a division.
    """

    action: Action
    operation: 4
    writes: 1
    rd: 4
    immediate: 14
    select: 2


class Predecoded(data.Struct):
    """What of an instruction is found out when it is written, as it would be late when it is read.

    ``is_legal``: there is such an opcode, and its operands. ``sign``: of its immediate. ``uses_value``, ``goes_on``: as
    of :class:`Decode`.
    """

    is_legal: 1
    sign: 1
    uses_value: 1
    goes_on: 1


def predecode(m, word):
    """The :class:`Predecoded` of an instruction of 32 bits."""
    found, code, immediate = Signal(Predecoded), word[26:31], word[:14]
    is_long = word[26:32] == Opcode.LI
    m.d.comb += [
        found.sign.eq(Mux(is_long, word[17], word[13])),
        found.uses_value.eq(word[31] | is_long | (code == Opcode.MV)),
    ]
    with m.Switch(word[26:32]):
        for opcode in Opcode:
            with m.Case(opcode, *([opcode | Opcode.IMMEDIATE] if Opcode.ADD <= opcode <= Opcode.SUBM else [])):
                m.d.comb += found.is_legal.eq(opcode not in (Opcode.ILLEGAL, Opcode.IMMEDIATE))
                if opcode == Opcode.LDD:
                    m.d.comb += found.is_legal.eq(_fits(immediate, CALL_WORDS))
                elif opcode == Opcode.LDA:
                    m.d.comb += found.is_legal.eq(_fits(immediate, CALL_WORDS) & ~immediate[:4].all())
                elif opcode == Opcode.LDS:
                    m.d.comb += found.is_legal.eq(_fits(immediate, len(Special)))
                elif opcode == Opcode.MV:
                    m.d.comb += found.is_legal.eq(_fits(word[22:26], len(Field)))
    # By the opcode alone: what an illegal instruction writes does not matter any more.
    with m.Switch(code):
        with m.Case(Opcode.LI, Opcode.LDD, Opcode.LDA, Opcode.LDS, Opcode.MV, *_QUICK):
            m.d.comb += found.goes_on.eq(1)
    return found


def _fits(operand, count):
    """It is below ``count``, a power of two."""
    return ~operand[exact_log2(count):].any()


class Decode(wiring.Component):
    """Take an instruction apart. There are no registers.

    Members
    -------
    instruction, predecoded:
        32 bits, and what is known of them.
    is_outside:
        They come from outside the program memory.
    o:
        What to do.
    ra, rb:
        Registers to read.
    is_alone:
        The first operand is not ``ra`` but 0; so that the registers can be read before that is known.
    uses_value, value:
        The second operand is not ``rb`` but this.
    goes_on:
        The context's next instruction may be fetched before this one is executed; also if an operand does not exist,
        so that it is known early.
    """

    instruction: In(32)
    predecoded: In(Predecoded)
    is_outside: In(1)
    o: Out(Decoded)
    ra: Out(4)
    rb: Out(4)
    is_alone: Out(1)
    uses_value: Out(1)
    value: Out(REGISTER_BITS)
    goes_on: Out(1)

    def elaborate(self, platform):
        m = Module()
        code, word, sign = self.instruction[26:31], self.instruction, self.predecoded.sign
        immediate, is_long = word[:14], Signal()
        m.d.comb += [
            is_long.eq(code == Opcode.LI),
            self.o.rd.eq(word[22:26]), self.o.immediate.eq(immediate),
            self.ra.eq(word[18:22]), self.rb.eq(word[14:18]), self.is_alone.eq(is_long),
            self.value.eq(Cat(immediate, Mux(is_long, word[14:18], sign.replicate(4)), sign.replicate(22))),
            self.uses_value.eq(self.predecoded.uses_value), self.goes_on.eq(self.predecoded.goes_on),
            self.o.operation.eq(Mux(code[4], Opcode.ADD, code[:4])),
            self.o.writes.eq((word[22:26] != 0) & (code != Opcode.MV)),
        ]
        action, select = Signal(Action), self.o.select
        with m.Switch(code):
            with m.Case(*_QUICK, Opcode.LI):
                m.d.comb += action.eq(Action.ALU)
            with m.Case(Opcode.MUL, Opcode.SHL, Opcode.SHR):
                m.d.comb += action.eq(Action.LONG)
            with m.Case(Opcode.DIV, Opcode.MOD):
                m.d.comb += [action.eq(Action.LONG), select.eq(1)]
            with m.Case(Opcode.BEQ, Opcode.BNE, Opcode.BLT, Opcode.BGE):
                m.d.comb += [action.eq(Action.BRANCH), select.eq(code[:2])]
            with m.Case(Opcode.LDD):
                m.d.comb += action.eq(Action.LOAD_WORD)
            with m.Case(Opcode.LDA):
                m.d.comb += action.eq(Action.LOAD_ADDRESS)
            with m.Case(Opcode.LDS):
                m.d.comb += [action.eq(Action.LOAD_SPECIAL), select.eq(immediate)]
            with m.Case(Opcode.MV):
                m.d.comb += action.eq(Action.MOVE_FIELD)
            with m.Case(Opcode.GO):
                m.d.comb += action.eq(Action.GO)
            with m.Case(Opcode.SYNC):
                m.d.comb += action.eq(Action.SYNC)
            with m.Case(Opcode.RET, Opcode.ERR):
                m.d.comb += [action.eq(Action.END), select.eq(code == Opcode.ERR)]
        with m.If(self.predecoded.is_legal & ~self.is_outside):
            m.d.comb += self.o.action.eq(action)
        return m
