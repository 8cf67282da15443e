# SPDX-License-Identifier: Apache-2.0
"""What the register-level models have in common: their registers' values, and time."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

from rackgate.csr.map import Access, RegisterMap

__all__ = ["WORD", "RegisterModel"]

#: Mask of a register.
WORD = 0xFFFFFFFF


class RegisterModel(ABC):
    """A software device at its registers. Time passes only in :meth:`run`.

    On the register side it answers as ``rackgate.csr.bank.Bank`` does: what that answers with SLVERR is refused.

    Parameters
    ----------
    registers:
        The map. It has CYCLES_LO, CYCLES_HI and BUSY_CYCLES.
    constants:
        Values of CONST registers that are not those of the map.
    absent:
        Names of registers that this device does not have.
    """

    def __init__(self, registers: RegisterMap, constants: Mapping[str, int], absent: Collection[str] = ()) -> None:
        self._map = registers
        self._constants = dict(constants)
        self._names = {register.offset: name for name, register in registers.items() if name not in absent}
        self._registers: dict[str, int] = {}
        self._cycle = 0
        self._reset_registers()

    def _reset_registers(self) -> None:
        """Give all registers their values after reset, and begin to count cycles."""
        self._registers = {name: self._constants.get(name, register.reset) for name, register in self._map.items()}
        self._cycle = 0

    @property
    def cycle(self) -> int:
        """Clock cycles since reset."""
        return self._cycle

    @property
    @abstractmethod
    def irq(self) -> bool:
        """Level of the interrupt."""

    @property
    def busy(self) -> bool:
        """Whether anything will happen without the host doing something."""
        return self._next_event() is not None

    @abstractmethod
    def _next_event(self) -> int | None:
        """The cycle at which something happens next."""

    @abstractmethod
    def _step(self) -> None:
        """What happens in this cycle."""

    @abstractmethod
    def _is_working(self) -> bool:
        """Whether the cycles that pass count as busy ones."""

    @abstractmethod
    def _value(self, name: str) -> int:
        """What a register shows."""

    @abstractmethod
    def _write(self, name: str, value: int) -> None:
        """Write a register that a host may write."""

    # Registers

    def _name(self, offset: int) -> str | None:
        """The register at ``offset``, if there is one."""
        if offset % 4 or offset < 0:
            raise ValueError(f"offset must be a multiple of 4, not {offset:#x}")
        return self._names.get(offset)

    def read_register(self, offset: int) -> int | None:
        """The register at byte ``offset``; ``None`` if the bus answers with SLVERR.

        Raises ``ValueError`` if ``offset`` is no multiple of 4.
        """
        name = self._name(offset)
        if name is None:
            return None
        if name == "CYCLES_LO":
            self._registers["CYCLES_HI"] = self._cycle >> 32
            return self._cycle & WORD
        return 0 if self._map[name].access == Access.WO else self._value(name)

    def write_register(self, offset: int, value: int) -> bool:
        """Write the register at byte ``offset``. Whether the bus answered OKAY.

        Raises ``ValueError`` for a bad offset or value.
        """
        if not 0 <= value <= WORD:
            raise ValueError(f"value must fit 32 bits, not be {value:#x}")
        name = self._name(offset)
        if name is None or self._map[name].access in (Access.RO, Access.CONST):
            return False
        self._write(name, value)
        return True

    def _count(self, name: str, amount: int = 1) -> None:
        self._registers[name] = (self._registers[name] + amount) & WORD

    # Time

    def run(self, cycles: int, until_irq: bool = False) -> int:
        """Let at most ``cycles`` clock cycles pass, with ``until_irq`` none once the interrupt is high.

        Returns how many passed.
        """
        if cycles < 0:
            raise ValueError(f"cycles must not be negative, not {cycles}")
        begin, end = self._cycle, self._cycle + cycles
        while not (until_irq and self.irq):
            event = self._next_event()
            if event is None or event > end:
                self._pass(end)
                break
            self._pass(event)
            self._step()
        return self._cycle - begin

    def _pass(self, cycle: int) -> None:
        if self._is_working():
            self._count("BUSY_CYCLES", cycle - self._cycle)
        self._cycle = cycle
