# SPDX-License-Identifier: Apache-2.0
"""Programs ready to be loaded into an engine: checked, compiled, and movable in the program memory."""

import dataclasses
from collections.abc import Iterable, Sequence

from rackgate.collective.isa import MAX_PROGRAM, Instruction, Opcode
from rackgate.collective.programs.checker import CheckedFor, check
from rackgate.collective.programs.compiler import compile_trace
from rackgate.collective.programs.contract import Contract
from rackgate.collective.programs.error import CollectiveError
from rackgate.collective.programs.language import Collective

__all__ = ["Program", "build"]

_BRANCHES = (Opcode.BEQ, Opcode.BNE, Opcode.BLT, Opcode.BGE)
_VALID = 1 << 31
_COLLECTIVE = 1 << 30


@dataclasses.dataclass(frozen=True)
class Program:
    """A collective as instructions.

    ``words``: as if the program began at instruction 0; it is entered at ``entry``. ``is_collective``: its calls are
    numbered, and all ranks must make them. ``checked_for``: None if it was not checked.
    """

    name: str
    words: tuple[int, ...]
    contract: Contract
    entry: int = 0
    is_collective: bool = True
    checked_for: CheckedFor | None = None

    def placed(self, address: int) -> tuple[int, ...]:
        """The words of the program at instruction ``address``. Raises CollectiveError if it does not fit there."""
        if address < 0 or address + len(self.words) > MAX_PROGRAM:
            raise CollectiveError(f"{self.name} has {len(self.words)} instructions and cannot lie at {address}: the "
                                  f"program memory has at most {MAX_PROGRAM}")
        return tuple(_moved(word, address) for word in self.words)

    def entry_word(self, address: int) -> int:
        """The word of the entry table for the program at ``address``; see abi.ConfigSpace."""
        return _VALID | (_COLLECTIVE if self.is_collective else 0) | address + self.entry


def _moved(word: int, distance: int) -> int:
    instruction = Instruction.from_int(word)
    if instruction.opcode not in _BRANCHES:
        return word
    return instruction._replace(immediate=instruction.immediate + distance).to_int()


def build(collective: Collective, ranks: Iterable[int] = range(1, 17), *, counts: Sequence[int] = (), credits: int = 4,
          **tuning: int) -> Program:
    """Check and compile a collective.

    Parameters
    ----------
    ranks:
        Numbers of ranks to check it for; none: leave the check out.
    counts, credits:
        As for :func:`rackgate.collective.programs.checker.check`. A collective with a keyword ``credits``
        gets them as well.
    tuning:
        Values for the collective's keywords.

    Raises
    ------
    CollectiveError
        With a sentence that names the line, or the ranks and steps, and the rule.
    """
    sizes = tuple(ranks)
    if "credits" in collective.tunables:
        tuning = {"credits": credits, **tuning}
    trace = collective.trace(**tuning)
    words = tuple(compile_trace(trace))
    checked = check(trace, collective.contract, sizes, counts=counts, credits=credits) if sizes else None
    return Program(collective.name, words, collective.contract, is_collective=collective.contract.is_collective,
                   checked_for=checked)
