# SPDX-License-Identifier: Apache-2.0
"""What the sequencer's instructions ask for."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.collective.abi import CALL_WORDS
from rackgate.collective.isa import REGISTER_BITS, Field, Opcode, Special

__all__ = ["Action", "Decode", "Decoded"]


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


class Decode(wiring.Component):
    """Take an instruction apart. There are no registers.

    Members
    -------
    instruction:
        32 bits.
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
        code, has_immediate, word = self.instruction[26:31], self.instruction[31], self.instruction
        immediate, is_long = word[:14], Signal()
        sign = Mux(is_long, word[17], word[13])
        m.d.comb += [
            is_long.eq(code == Opcode.LI),
            self.o.rd.eq(word[22:26]), self.o.immediate.eq(immediate),
            self.ra.eq(word[18:22]), self.rb.eq(word[14:18]), self.is_alone.eq(is_long),
            self.value.eq(Cat(immediate, Mux(is_long, word[14:18], sign.replicate(4)), sign.replicate(22))),
            self.uses_value.eq(has_immediate | is_long | (code == Opcode.MV)),
            self.o.operation.eq(Mux(code[4], Opcode.ADD, code[:4])),
        ]
        action, select = self.o.action, self.o.select
        with m.Switch(word[26:32]):
            for opcode in Opcode:
                if Opcode.ADD <= opcode <= Opcode.SUBM:
                    with m.Case(opcode, opcode | Opcode.IMMEDIATE):
                        self._calculate(m, opcode)
            with m.Case(Opcode.LI):
                m.d.comb += action.eq(Action.ALU)
            with m.Case(Opcode.BEQ, Opcode.BNE, Opcode.BLT, Opcode.BGE):
                m.d.comb += [action.eq(Action.BRANCH), select.eq(code[:2])]
            with m.Case(Opcode.LDD):
                self._limit(m, immediate, exact_log2(CALL_WORDS), Action.LOAD_WORD)
            with m.Case(Opcode.LDA):
                with m.If(immediate[:4] != CALL_WORDS - 1):
                    self._limit(m, immediate, exact_log2(CALL_WORDS), Action.LOAD_ADDRESS)
            with m.Case(Opcode.LDS):
                self._limit(m, immediate, exact_log2(len(Special)), Action.LOAD_SPECIAL)
                m.d.comb += select.eq(immediate)
            with m.Case(Opcode.MV):
                self._limit(m, word[22:26], exact_log2(len(Field)), Action.MOVE_FIELD)
            with m.Case(Opcode.GO):
                m.d.comb += action.eq(Action.GO)
            with m.Case(Opcode.SYNC):
                m.d.comb += action.eq(Action.SYNC)
            with m.Case(Opcode.RET, Opcode.ERR):
                m.d.comb += [action.eq(Action.END), select.eq(code == Opcode.ERR)]
        with m.If(self.is_outside):
            m.d.comb += action.eq(Action.ILLEGAL)
        # By the opcode alone, for that is early: what an illegal instruction writes does not matter any more.
        with m.Switch(code):
            with m.Case(Opcode.LI, Opcode.LDD, Opcode.LDA, Opcode.LDS, Opcode.MV, *_QUICK):
                m.d.comb += self.goes_on.eq(1)
        m.d.comb += self.o.writes.eq((word[22:26] != 0) & (code != Opcode.MV))
        return m

    def _calculate(self, m, opcode):
        m.d.comb += [
            self.o.action.eq(Action.ALU if opcode in _QUICK else Action.LONG),
            self.o.select.eq(opcode in (Opcode.DIV, Opcode.MOD)),
        ]

    def _limit(self, m, operand, bits, action):
        """Illegal if the operand has more than ``bits`` bits."""
        with m.If(~operand[bits:].any()):
            m.d.comb += self.o.action.eq(action)
