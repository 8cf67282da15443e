# SPDX-License-Identifier: Apache-2.0
"""The echo device at its registers, on memory."""

from rackgate.csr.map import Access
from rackgate.echo.abi import REGISTERS, WORD_BYTES, Cause
from rackgate_sim.inflate.model import BusError, Memory
from rackgate_sim.registermodel import WORD, RegisterModel

__all__ = ["EchoModel"]

_ADDR_WIDTH = 40
_ALL = int(Cause.DONE | Cause.FAULT | Cause.REFUSED)
_START_CYCLES = 40  # what a copy takes besides its words


class EchoModel(RegisterModel):
    """A software device with the registers of ``rackgate.echo.abi.REGISTERS``.

    A copy is made when it ends, after plausible cycles that mean nothing. One that meets an error of the memory
    writes nothing.

    Parameters
    ----------
    memory:
        What the device sees at its memory port.
    build:
        Value of BUILD_LO and BUILD_HI, 64 bits.
    """

    def __init__(self, memory: Memory, *, build: int = 0) -> None:
        self._memory = memory
        self._end: int | None = None
        super().__init__(REGISTERS, {"BUILD_LO": build & WORD, "BUILD_HI": build >> 32})

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return bool(self._registers["IRQ_STATUS"] & self._registers["IRQ_ENABLE"])

    def _value(self, name: str) -> int:
        return int(self._end is not None) if name == "STATUS" else self._registers[name]

    def _write(self, name: str, value: int) -> None:
        if name == "START":
            self._start()
        elif REGISTERS[name].access == Access.W1C:
            self._registers[name] &= ~value
        else:
            self._registers[name] = value

    def _address(self, end: str) -> int:
        return self._registers[f"{end}_HI"] << 32 | self._registers[f"{end}_LO"]

    def _start(self) -> None:
        if self._end is not None:
            return
        source, destination, size = self._address("SOURCE"), self._address("DESTINATION"), self._registers["SIZE"]
        if (source | destination | size) % WORD_BYTES or (source | destination) >> _ADDR_WIDTH:
            self._registers["IRQ_STATUS"] |= Cause.REFUSED
            return
        self._end = self._cycle + _START_CYCLES + size // WORD_BYTES

    def _next_event(self) -> int | None:
        return self._end

    def _is_working(self) -> bool:
        return self._end is not None

    def _step(self) -> None:
        self._end = None
        cause = Cause.DONE
        try:
            self._copy(self._registers["SIZE"])
        except BusError:
            cause |= Cause.FAULT
        self._registers["IRQ_STATUS"] |= cause
        self._count("COPIES")

    def _copy(self, size: int) -> None:
        if not size:
            return
        change = self._registers["CHANGE"].to_bytes(4, "little") * (size // 4)
        old = int.from_bytes(self._memory.read(self._address("SOURCE"), size), "little")
        new = (old ^ int.from_bytes(change, "little")).to_bytes(size, "little")
        self._memory.write(self._address("DESTINATION"), new)
