# SPDX-License-Identifier: Apache-2.0
"""Register maps as plain data: the one description that gateware, drivers, models and the manual share.

This module imports no Amaranth, so a host can read a map without it.
"""

import enum
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["IDENTITY_REGISTERS", "MAGIC", "Access", "Field", "Register", "RegisterMap", "device_code"]

#: First register of every device: "RGAT" in ASCII, little endian.
MAGIC = int.from_bytes(b"RGAT", "little")


class Access(enum.Enum):
    """What a host may do with a register.

    ``RO`` the device drives it; ``RW`` the host sets it and reads it back; ``W1C`` the device sets bits
    and the host clears those it writes as one; ``WO`` a write is a strobe with data and reads as zero;
    ``CONST`` fixed when the gateware is built.
    """

    RO = "ro"
    RW = "rw"
    W1C = "w1c"
    WO = "wo"
    CONST = "const"


@dataclass(frozen=True)
class Field:
    """A named group of bits: ``lsb`` is its lowest bit, ``width`` its size in bits."""

    name: str
    lsb: int
    width: int
    doc: str = ""

    @property
    def mask(self) -> int:
        """The field's bits within the register."""
        return ((1 << self.width) - 1) << self.lsb


@dataclass(frozen=True)
class Register:
    """One 32-bit register at byte ``offset``. ``reset`` is its value after reset."""

    name: str
    offset: int
    access: Access
    doc: str
    reset: int = 0
    fields: tuple[Field, ...] = ()

    def __post_init__(self) -> None:
        if self.offset % 4 or self.offset < 0:
            raise ValueError(f"register {self.name}: offset must be a multiple of 4, not {self.offset:#x}")
        if not 0 <= self.reset < 1 << 32:
            raise ValueError(f"register {self.name}: reset must fit 32 bits, not {self.reset:#x}")
        taken = 0
        for bits in self.fields:
            if bits.lsb + bits.width > 32 or bits.width < 1:
                raise ValueError(f"register {self.name}: field {bits.name} must lie in bits 31:0")
            if taken & bits.mask:
                raise ValueError(f"register {self.name}: field {bits.name} overlaps another")
            taken |= bits.mask


def device_code(name: str) -> int:
    """Four ASCII letters as the little-endian code that stands in the DEVICE register."""
    raw = name.encode("ascii")
    if len(raw) != 4:
        raise ValueError(f"a device code must have 4 ASCII letters, not {name!r}")
    return int.from_bytes(raw, "little")


#: Registers that every device starts with. MAGIC, DEVICE, VERSION and MAP_HASH must match the driver's
#: own map; BUILD_LO/HI tell two builds apart and are informative.
IDENTITY_REGISTERS = (
    Register("MAGIC", 0x00, Access.CONST, "Identifier of every Rackgate device: 'RGAT'.", reset=MAGIC),
    Register("DEVICE", 0x04, Access.CONST, "Which device this is: four ASCII letters."),
    Register("VERSION", 0x08, Access.CONST, "Version of this register map.",
             fields=(Field("MINOR", 0, 16, "Compatible additions."), Field("MAJOR", 16, 16, "Incompatible changes."))),
    Register("MAP_HASH", 0x0C, Access.CONST, "CRC-32 of the register map's canonical text."),
    Register("BUILD_LO", 0x10, Access.CONST, "Low word of the hash of the sources and parameters this was built from."),
    Register("BUILD_HI", 0x14, Access.CONST, "High word of the build hash."),
)


@dataclass(frozen=True)
class RegisterMap(Mapping[str, Register]):
    """Registers of one device, by name.

    Parameters
    ----------
    device:
        Four ASCII letters; the value of the DEVICE register.
    version:
        (major, minor) of the map.
    registers:
        The device's own registers; the identity registers are put before them. Own registers start
        at 0x20.
    """

    device: str
    version: tuple[int, int]
    registers: tuple[Register, ...]
    _by_name: dict[str, Register] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        code, version = device_code(self.device), self.version[0] << 16 | self.version[1]
        own = {"DEVICE": code, "VERSION": version}
        for register in self.registers:
            if register.offset < 0x20:
                raise ValueError(f"register {register.name}: offsets below 0x20 are the identity's, "
                                 f"not {register.offset:#x}")
        own["MAP_HASH"] = zlib.crc32(self._text(self.registers).encode())
        identity = [Register(r.name, r.offset, r.access, r.doc, own.get(r.name, r.reset), r.fields)
                    for r in IDENTITY_REGISTERS]
        by_name = {r.name: r for r in (*identity, *self.registers)}
        if len(by_name) != len(identity) + len(self.registers):
            raise ValueError(f"map of {self.device}: two registers have the same name")
        if len({r.offset for r in by_name.values()}) != len(by_name):
            raise ValueError(f"map of {self.device}: two registers have the same offset")
        object.__setattr__(self, "_by_name", by_name)

    def _text(self, registers: tuple[Register, ...]) -> str:
        """Text whose checksum changes whenever the meaning of an address does (constants' values do not count)."""
        lines = [f"{self.device} {self.version[0]}"]
        for r in sorted(registers, key=lambda r: r.offset):
            lines.append(f"{r.offset:#x} {r.name} {r.access.value}")
            lines += [f"  {f.name} {f.lsb} {f.width}" for f in r.fields]
        return "\n".join(lines)

    def __getitem__(self, name: str) -> Register:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def size(self) -> int:
        """Bytes of address space: one past the last register."""
        return max(r.offset for r in self.values()) + 4
