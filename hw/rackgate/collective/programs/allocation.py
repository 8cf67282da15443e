# SPDX-License-Identifier: Apache-2.0
"""Registers of a context, while a collective is compiled: which of them holds which value.

A value that can be computed anew may be forgotten when a register is needed; variables and what a loop keeps may not.
"""

from collections.abc import Callable, Collection

from rackgate.collective.programs.error import CollectiveError
from rackgate.collective.programs.expression import CONST, VARIABLE, Expression, leaves

__all__ = ["COUNT", "Registers"]

#: Registers that can hold values: register 0 reads as zero.
COUNT = 15


class Registers:
    """Which register holds which expression, by key."""

    def __init__(self) -> None:
        self._holds: dict[int, Expression] = {}  # the register last used comes last
        self._kept: dict[int, int] = {}  # register: how often it was kept
        self._busy: dict[int, int] = {}  # register: operand of the instruction that is being made

    def find(self, expression: Expression) -> int | None:
        """The register that holds the value."""
        if expression.kind == CONST and expression.operands[0] == 0:
            return 0
        for register, held in self._holds.items():
            if held.key == expression.key:
                self._holds[register] = self._holds.pop(register)
                return register
        return None

    def take(self, line: str, price: Callable[[Expression], int]) -> int:
        """A register for a new value; :meth:`hold` says which.

        If none is free, the value of the least ``price`` is forgotten, the one used longest ago among equals. Raises
        CollectiveError if all are needed.
        """
        for register in range(1, COUNT + 1):
            if register not in self._holds and register not in self._kept and register not in self._busy:
                return register
        candidates = [register for register in self._holds
                      if register not in self._kept and register not in self._busy]
        if not candidates:
            raise CollectiveError(f"{line}: more than {COUNT} values are needed at a time: use fewer variables, or end "
                                  "their blocks earlier")
        register = min(candidates, key=lambda candidate: price(self._holds[candidate]))
        del self._holds[register]
        return register

    def hold(self, register: int, expression: Expression) -> None:
        """From now on ``register`` holds the value."""
        self._holds.pop(register, None)
        self._holds[register] = expression

    def keep(self, register: int) -> None:
        """Do not give ``register`` away until :meth:`release`. Register 0 never is."""
        self._kept[register] = self._kept.get(register, 0) + 1

    def release(self, register: int) -> None:
        """Undo one :meth:`keep`."""
        self._kept[register] -= 1
        if not self._kept[register]:
            del self._kept[register]

    def lock(self, register: int) -> None:
        """As :meth:`keep`, for the operand of an instruction."""
        self._busy[register] = self._busy.get(register, 0) + 1

    def unlock(self, register: int) -> None:
        """Undo one :meth:`lock`."""
        self._busy[register] -= 1
        if not self._busy[register]:
            del self._busy[register]

    def forget(self, variable: tuple) -> None:
        """Variable ``variable`` changes: forget what was computed from it, and itself."""
        for register, held in list(self._holds.items()):
            if any(leaf.key == variable for leaf in leaves(held)):
                del self._holds[register]

    def forget_computed(self, variables: Collection[tuple]) -> None:
        """Forget what was computed from ``variables``, though not themselves."""
        self._holds = {register: held for register, held in self._holds.items()
                       if held.kind == VARIABLE or all(leaf.key not in variables for leaf in leaves(held))}

    def forget_unkept(self) -> None:
        """Forget all that is not kept."""
        self._holds = {register: held for register, held in self._holds.items() if register in self._kept}

    @property
    def free(self) -> int:
        """Registers that are not kept."""
        return COUNT - len(self._kept.keys() - {0})

    def snapshot(self) -> dict[int, Expression]:
        """What they hold."""
        return dict(self._holds)

    def restore(self, holds: dict[int, Expression]) -> None:
        """Hold what they held in a snapshot."""
        self._holds = dict(holds)

    def meet(self, holds: dict[int, Expression]) -> None:
        """Two ways come together: hold what they hold in both."""
        self._holds = {register: held for register, held in self._holds.items()
                       if register in holds and holds[register].key == held.key}
