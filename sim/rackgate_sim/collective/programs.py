# SPDX-License-Identifier: Apache-2.0
"""Random programs for the sequencer, and calls for them."""

import random
from collections.abc import Iterable, Sequence

from rackgate.collective.abi import Call
from rackgate.collective.isa import Field, Instruction, Local, MoveControl, Opcode, Other, Special, Target
from rackgate.collective.programs.assembler import Branch, Label, Statement, assemble
from rackgate_sim.collective.sequencer import End, Execution, Move

__all__ = ["ProgramMaker", "place", "random_call", "run_alone"]

_ID = 15  # register with the call's id
_COUNTER = 14  # of loops
_ALU = [Opcode.ADD, Opcode.SUB, Opcode.AND, Opcode.OR, Opcode.XOR, Opcode.SHL, Opcode.SHR, Opcode.MIN, Opcode.MAX,
        Opcode.MUL, Opcode.ADDM, Opcode.SUBM]
_BRANCHES = [Opcode.BEQ, Opcode.BNE, Opcode.BLT, Opcode.BGE]


class ProgramMaker:
    """Make programs of all instructions; each ends.

    All moves of a program have the call's id as their ``result``, so that one sees whose they are.

    Parameters
    ----------
    rng:
        Source of everything random.
    ranks:
        Of the smallest communicator that the programs are for.
    errors:
        How often something is wrong with a program, 0 to 1.
    """

    def __init__(self, rng: random.Random, ranks: int, errors: float = 0):
        self.rng, self.ranks, self.errors = rng, ranks, errors
        self.labels = 0

    def program(self, length: int) -> list[Statement]:
        """A program of about ``length`` instructions after those that set the registers."""
        rng = self.rng
        out = [Instruction(Opcode.LI, k, immediate=rng.choice([rng.randrange(16), rng.randrange(-1 << 17, 1 << 17)]))
               for k in range(1, _COUNTER)]
        out += [Instruction(Opcode.LDD, _ID, immediate=15), Instruction(Opcode.MV, Field.RESULT, _ID),
                *(Instruction(Opcode.MV, field, 0, immediate=rng.randrange(self.ranks))
                  for field in (Field.SOURCE, Field.DESTINATION))]
        while length > 0:
            size = rng.randrange(1, 8)
            length -= size
            match rng.randrange(4):
                case 0:
                    out += self._loop([self._one() for _ in range(size)])
                case 1:
                    out += self._skip([self._one() for _ in range(size)])
                case _:
                    out += [self._one() for _ in range(size)]
        if rng.random() < self.errors:
            return [*out, rng.choice([Instruction(Opcode.ERR, immediate=rng.randrange(-8, 100)), Instruction(0),
                                      Instruction(Opcode.BEQ, immediate=rng.randrange(2048, 1 << 14)),
                                      Instruction(Opcode.MOD + 32, 1, 1, immediate=0)])]
        return [*out, Instruction(Opcode.RET)]

    def _label(self):
        self.labels += 1
        return Label(f"label_{self.labels}")

    def _loop(self, body):
        label = self._label()
        return [Instruction(Opcode.LI, _COUNTER, immediate=self.rng.randrange(1, 4)), label, *body,
                Instruction(Opcode.SUB + 32, _COUNTER, _COUNTER, immediate=1),
                Branch(Opcode.BNE, _COUNTER, 0, label.name)]

    def _skip(self, body):
        label, rng = self._label(), self.rng
        branch = Branch(rng.choice(_BRANCHES), rng.randrange(_COUNTER), rng.randrange(_COUNTER), label.name)
        return [branch, *body, label]

    def _one(self):
        rng = self.rng
        rd, ra, rb = (rng.randrange(_COUNTER) for _ in range(3))
        immediate = rng.choice([rng.randrange(-4, 64), rng.randrange(-1 << 13, 1 << 13)])
        kind = rng.random()
        if rng.random() < self.errors / 20:
            return rng.choice([
                Instruction(Opcode.LDD, rd, immediate=16), Instruction(Opcode.LDA, rd, immediate=15),
                Instruction(Opcode.LDS, rd, immediate=4), Instruction(Opcode.MV, 8, ra), Instruction(29),
                Instruction(Opcode.DIV, rd, ra, 0),
                Instruction(Opcode.MV, Field.CONTROL, 0, immediate=rng.getrandbits(9)),
                Instruction(Opcode.MV, Field.SOURCE, ra), Instruction(Opcode.MV, Field.DESTINATION, ra)])
        if kind < 0.3:
            opcode = rng.choice(_ALU)
            return (Instruction(opcode, rd, ra, rb) if rng.random() < 0.5
                    else Instruction(opcode + 32, rd, ra, immediate=immediate))
        if kind < 0.35:
            return Instruction(rng.choice([Opcode.DIV, Opcode.MOD]) + 32, rd, ra, immediate=immediate or 1)
        if kind < 0.5:
            return rng.choice([
                Instruction(Opcode.LDD, rd, immediate=rng.randrange(16)),
                Instruction(Opcode.LDA, rd, immediate=rng.randrange(15)),
                Instruction(Opcode.LDS, rd, immediate=rng.choice(list(Special))),
                Instruction(Opcode.LI, rd, immediate=rng.randrange(-1 << 17, 1 << 17))])
        if kind < 0.75:
            return self._field(ra, immediate)
        return Instruction(Opcode.GO) if rng.random() < 0.75 else Instruction(Opcode.SYNC, immediate=rng.randrange(5))

    def _field(self, ra, immediate):
        rng = self.rng
        match rng.randrange(4):
            case 0:
                control = MoveControl(rng.choice(list(Local)), rng.choice(list(Other)), rng.choice(list(Target)),
                                      *(rng.random() < 0.5 for _ in range(3)))
                return Instruction(Opcode.MV, Field.CONTROL, 0, immediate=control.to_int())
            case 1:
                return Instruction(Opcode.MV, rng.choice([Field.SOURCE, Field.DESTINATION]), 0,
                                   immediate=rng.randrange(self.ranks))
            case 2 if rng.random() < 0.3:
                return Instruction(Opcode.MV, Field.TAG, 0, immediate=-1)
        return Instruction(Opcode.MV, rng.choice([Field.COUNT, Field.LOCAL, Field.OTHER, Field.TAG]), ra,
                           immediate=immediate)


def run_alone(execution: Execution) -> tuple[list[Move], End]:
    """Moves and end of a program whose moves end at once."""
    moves = []
    while isinstance(found := execution.advance(0), Move):
        moves.append(found)
    assert isinstance(found, End)
    return moves, found


def random_call(rng: random.Random, **fields: int) -> Call:
    """A call that passes the checks, with ``fields`` as they are given."""
    values = {name: rng.getrandbits(32) for name in ("count", "peer", "tag")}
    values |= {name: rng.getrandbits(64) for name in ("operand_0", "operand_1", "result")}
    values |= {"function": rng.randrange(3), "element": rng.randrange(4), "streams": rng.choice([0, 1, 3, 0xFF02])}
    if values["element"] == 3:
        values["compression"] = rng.choice([0, 8])
    return Call(**values | fields)


def place(programs: Iterable[Sequence[Statement]]) -> tuple[list[int], list[int]]:
    """Words of several programs one after the other, and where each begins."""
    words: list[int] = []
    origins: list[int] = []
    for program in programs:
        origins.append(len(words))
        words += assemble(program, origin=len(words))
    return words, origins
