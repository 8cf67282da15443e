# SPDX-License-Identifier: Apache-2.0
"""The order of instructions that the sequencer gets through most quickly. Plain Python.

It carries out an instruction a cycle, and waits a cycle more before one that reads the register which the one before
it writes, and before a GO behind an MV (:class:`~rackgate.collective.control.sequencer.Sequencer`).
"""

from rackgate.collective.isa import Instruction, Opcode
from rackgate.collective.programs.assembler import Branch, Statement

__all__ = ["reorder"]

_ALU = range(Opcode.ADD, Opcode.SUBM + 1)
_LOADS = (Opcode.LI, Opcode.LDD, Opcode.LDA, Opcode.LDS)
_WRITERS = (*_ALU, *(Opcode.IMMEDIATE | opcode for opcode in _ALU), *_LOADS)
#: Cycles from an instruction to one that needs what it does, and to any other behind it.
_NEEDS, _FOLLOWS = 2, 1


def reorder(lines: list[Statement]) -> list[Statement]:
    """``lines`` with the same effect, in an order that waits less; labels, branches, GO and the like stay in place."""
    found: list[Statement] = []
    run: list[Instruction] = []
    for line in lines:
        if isinstance(line, Instruction) and (line.opcode in _WRITERS or line.opcode == Opcode.MV):
            run.append(line)
        else:
            found += [*_reordered(run, line), line]
            run = []
    return found + _reordered(run, None)


def _reads(line: Statement) -> set[int]:
    if isinstance(line, Instruction | Branch) and line.opcode not in _LOADS:
        return {line.ra, line.rb} - {0}
    return set()


def _writes(line: Instruction) -> int | None:
    return line.rd if line.opcode in _WRITERS else None


def _distance(first: Instruction, second: Statement) -> int:
    """Cycles that ``second`` must come behind ``first``; 0: they may change places."""
    written = _writes(first)
    if isinstance(second, Instruction) and second.opcode == Opcode.GO:
        return _NEEDS if first.opcode == Opcode.MV else 0
    if written is not None and written in _reads(second):
        return _NEEDS
    if not isinstance(second, Instruction):
        return 0
    later = _writes(second)
    if later is not None and (later in _reads(first) or later == written):
        return _FOLLOWS
    is_same_field = first.opcode == second.opcode == Opcode.MV and first.rd == second.rd
    return _FOLLOWS if is_same_field else 0


def _reordered(run: list[Instruction], end: Statement | None) -> list[Instruction]:
    """A run of instructions before ``end``. The longest chain of those that need each other goes first."""
    behind: list[list[tuple[int, int]]] = [[] for _ in run]  # of each: which must come behind it, how far
    before = [0] * len(run)  # how many it must come behind
    height = [0] * len(run)  # cycles from it to the end
    for first in reversed(range(len(run))):
        height[first] = 0 if end is None else max(_FOLLOWS, _distance(run[first], end))
        for second in range(first + 1, len(run)):
            distance = _distance(run[first], run[second])
            if distance:
                behind[first].append((second, distance))
                before[second] += 1
                height[first] = max(height[first], height[second] + distance)
    earliest = [0] * len(run)
    waiting = {index for index, count in enumerate(before) if not count}
    chosen: list[Instruction] = []
    cycle = 0
    while waiting:
        index = min(waiting, key=lambda each: (max(earliest[each], cycle), -height[each], each))
        cycle = max(earliest[index], cycle)
        waiting.remove(index)
        chosen.append(run[index])
        for second, distance in behind[index]:
            earliest[second] = max(earliest[second], cycle + distance)
            before[second] -= 1
            if not before[second]:
                waiting.add(second)
        cycle += 1
    return chosen
