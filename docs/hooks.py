# SPDX-License-Identifier: Apache-2.0
"""Tables of the manual that are made from the contracts when it is built: ``<!-- table: NAME -->``."""

import re
from collections.abc import Callable, Iterable, Sequence

from rackgate.csr.map import IDENTITY_REGISTERS, Register
from rackgate.inflate import abi

__all__ = ["on_page_markdown"]


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _registers(registers: Iterable[Register]) -> str:
    rows: list[tuple[object, ...]] = []
    for register in registers:
        rows.append((f"`{register.offset:#05x}`", f"`{register.name}`", register.access.value, register.doc))
        for bits in register.fields:
            place = f"{bits.lsb + bits.width - 1}:{bits.lsb}" if bits.width > 1 else str(bits.lsb)
            rows.append(("", f"`.{bits.name}` [{place}]", "", bits.doc))
    return _table(("offset", "register", "access", "meaning"), rows)


def _codes(kind: Iterable) -> str:
    return _table(("code", "name"), ((f"`{member.value:#04x}`", f"`{member.name}`") for member in kind))


_TABLES: dict[str, Callable[[], str]] = {
    "identity": lambda: _registers(IDENTITY_REGISTERS),
    "inflate-registers": lambda: _registers(abi.REGISTERS[name] for name in abi.REGISTERS
                                            if abi.REGISTERS[name].offset >= 0x20),
    "inflate-status": lambda: _codes(abi.Status),
    "inflate-errors": lambda: _codes(abi.ErrorCode),
    "inflate-flags": lambda: _codes(abi.Flag),
}


def on_page_markdown(markdown: str, **page: object) -> str:
    """Put the tables in their places. An unknown name stops the build."""
    return re.sub(r"<!-- table: (\S+) -->", lambda match: _TABLES[match[1]](), markdown)
