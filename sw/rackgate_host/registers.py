# SPDX-License-Identifier: Apache-2.0
"""Registers of a device by name."""

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rackgate.csr.map import Access, Field, Register

from .errors import RegisterError

if TYPE_CHECKING:
    from .device import Device

__all__ = ["RegisterFile", "RegisterView"]


def _unknown(kind: str, name: str, known: list[str], where: str) -> RegisterError:
    near = difflib.get_close_matches(name.upper(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    return RegisterError(f"{where} has no {kind} {name}: {hint}")


class RegisterView:
    """One register of a device: ``value`` reads and writes it, fields are attributes.

    Writing a field of an RW register keeps the others (a read and a write); writing a field of a W1C or WO
    register writes zeros to the others.
    """

    __slots__ = ("_device", "register")

    def __init__(self, device: "Device", register: Register):
        object.__setattr__(self, "_device", device)
        object.__setattr__(self, "register", register)

    @property
    def value(self) -> int:
        """The register's 32 bits. Raises :class:`RegisterError` on writing what cannot be written."""
        return self._device.read_register(self.register.offset)

    @value.setter
    def value(self, value: int) -> None:
        self._writable()
        self._device.write_register(self.register.offset, value)

    def _writable(self) -> None:
        if self.register.access in (Access.RO, Access.CONST):
            raise RegisterError(f"register {self.register.name} is read-only ({self.register.access.value})")

    @property
    def fields(self) -> dict[str, int]:
        """All fields, from one read."""
        value = self.value
        return {bits.name: (value & bits.mask) >> bits.lsb for bits in self.register.fields}

    def write(self, **fields: int) -> None:
        """Write the register in one go: the fields named, and zeros elsewhere."""
        self._writable()
        value = 0
        for name, content in fields.items():
            value |= self._place(self._field(name), content)
        self._device.write_register(self.register.offset, value)

    def _field(self, name: str) -> Field:
        for bits in self.register.fields:
            if bits.name == name.upper():
                return bits
        raise _unknown("field", name, [bits.name for bits in self.register.fields], f"register {self.register.name}")

    def _place(self, bits: Field, content: int) -> int:
        if not 0 <= content < 1 << bits.width:
            most = (1 << bits.width) - 1
            raise ValueError(f"field {self.register.name}.{bits.name} must be 0 to {most}, not {content}")
        return content << bits.lsb

    def __getattr__(self, name: str) -> int:
        if name.startswith("_"):
            raise AttributeError(name)
        bits = self._field(name)
        return (self.value & bits.mask) >> bits.lsb

    def __setattr__(self, name: str, content: int) -> None:
        if name == "value":
            object.__setattr__(self, name, content)
            return
        bits = self._field(name)
        self._writable()
        others = self.value & ~bits.mask if self.register.access is Access.RW else 0
        self._device.write_register(self.register.offset, others | self._place(bits, content))

    def __repr__(self) -> str:
        return f"<register {self.register.name} at {self.register.offset:#x}, {self.register.access.value}>"


class RegisterFile:
    """All registers of a device: ``regs.CONTROL.value``, ``regs.CONTROL.ENABLE = 1``, ``regs["CONTROL"]``.

    Case does not matter. An unknown name raises :class:`RegisterError` with the nearest names.
    """

    __slots__ = ("_device",)

    def __init__(self, device: "Device"):
        object.__setattr__(self, "_device", device)

    def __getitem__(self, name: str) -> RegisterView:
        known = self._device.map
        register = known.get(name.upper())
        if register is None:
            raise _unknown("register", name, list(known), f"device {self._device.name}")
        return RegisterView(self._device, register)

    def __getattr__(self, name: str) -> RegisterView:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: int) -> None:
        self[name]  # an unknown name is the better error
        raise RegisterError(f"write regs.{name}.value = {value!r}: a register itself cannot be assigned")

    def __iter__(self) -> Iterator[str]:
        return iter(self._device.map)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._device.map]

    def snapshot(self) -> dict[str, int]:
        """Values of all registers that can be read, in address order. Not recorded in transcripts."""
        readable = [r for r in self._device.map.values() if r.access is not Access.WO]
        with self._device.unrecorded():
            return {r.name: self._device.read_register(r.offset) for r in sorted(readable, key=lambda r: r.offset)}

    def dump(self) -> str:
        """The same as text, one register a line, with fields."""
        lines = []
        for name, value in self.snapshot().items():
            fields = [f"{bits.name}={(value & bits.mask) >> bits.lsb:#x}" for bits in self._device.map[name].fields]
            lines.append("  ".join([f"{self._device.map[name].offset:#05x} {name:<16} {value:#010x}", *fields]))
        return "\n".join(lines)
