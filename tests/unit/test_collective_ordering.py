# SPDX-License-Identifier: Apache-2.0
"""Instructions in another order: the same moves, in no more cycles."""

import random

from collective_control_bench import TYPES

from rackgate.collective.isa import Field, Instruction, Opcode
from rackgate.collective.programs.assembler import Branch, Label, assemble, parse
from rackgate.collective.programs.ordering import reorder
from rackgate_sim.collective.programs import ProgramMaker, random_call, run_alone
from rackgate_sim.collective.sequencer import CommunicatorState, Entry, Execution

_LOADS = (Opcode.LI, Opcode.LDD, Opcode.LDA, Opcode.LDS)
_WRITERS = (*_LOADS, *range(Opcode.ADD, Opcode.SUBM + 1),
            *range(Opcode.IMMEDIATE | Opcode.ADD, (Opcode.IMMEDIATE | Opcode.SUBM) + 1))


def waits(lines):
    """Cycles that instructions wait for the one before them."""
    count = 0
    for first, second in zip(lines, lines[1:], strict=False):
        if isinstance(first, Label) or isinstance(second, Label) or isinstance(first, Branch):
            continue
        reads = set() if second.opcode in _LOADS else {second.ra, second.rb}
        if first.opcode in _WRITERS:
            count += first.rd != 0 and first.rd in reads
        elif isinstance(second, Instruction):
            count += first.opcode == Opcode.MV and second.opcode == Opcode.GO
    return count


def test_random_programs_have_the_same_moves(seed):
    """Programs with loops, and straight runs with so few registers that these are written again and again."""
    rng = random.Random(seed)
    gained = 0
    for _ in range(150):
        lines = (parse(program_text(rng)) if rng.random() < 0.5
                 else ProgramMaker(rng, 4, errors=0).program(rng.randrange(60)))
        ordered = reorder(lines)
        assert sorted(map(repr, ordered)) == sorted(map(repr, lines))
        assert waits(ordered) <= waits(lines)
        gained += waits(lines) - waits(ordered)
        for _ in range(3):
            call = random_call(rng, scenario=1, communicator=0, id=1, element=2, function=0)
            state = CommunicatorState(4, 1, [3, 5, 7, 9], 1)
            runs = [run_alone(Execution(assemble(each), call, Entry(0), state, 0, TYPES, strict=False))
                    for each in (lines, ordered)]
            assert runs[0] == runs[1]
    assert gained > 100


def test_what_a_move_does_not_wait_for_comes_before_it():
    """A load between the last field and GO; a chain of operands before what stands alone."""
    lines = parse("lda r1, 9\nmv COUNT, r2\ngo\nlds r3, SIZE\nsub r4, r3, 1\nlda r5, 13\nbne r4, r0, 0\n")
    assert (waits(lines), waits(reorder(lines))) == (2, 1)
    assert [line.opcode for line in reorder(lines)[:3]] == [Opcode.MV, Opcode.LDA, Opcode.GO]


def program_text(rng):
    """Straight runs of instructions with moves, branches and labels between them."""
    text = "mv CONTROL, r0, 65\nmv DESTINATION, r0, 1\n" + "".join(f"li r{k}, {k}\n" for k in range(1, 5))
    for block in range(rng.randrange(1, 6)):
        for _ in range(rng.randrange(12)):
            rd, ra, rb = (rng.randrange(1, 5) for _ in range(3))
            field = rng.choice([Field.COUNT, Field.LOCAL, Field.RESULT, Field.TAG]).name
            text += rng.choice([
                f"ldd r{rd}, {rng.randrange(16)}", f"lda r{rd}, {rng.randrange(15)}", f"li r{rd}, {rng.randrange(99)}",
                f"add r{rd}, r{ra}, r{rb}", f"xor r{rd}, r{ra}, {rng.randrange(9)}", f"mul r{rd}, r{ra}, r{rb}",
                f"mv {field}, r{ra}, {rng.randrange(5)}"]) + "\n"
        text += rng.choice([f"blt r1, r2, L{block}\ngo\nL{block}:\n", "go\n", "sync 2\ngo\n", f"L{block}:\ngo\n"])
    return text + "ret\n"
