# SPDX-License-Identifier: Apache-2.0
"""x86-64's 4-level translation tables in simulated memory: make them, and walk them."""

from dataclasses import dataclass

from rackgate.iaa.abi import PAGE_SIZE, PageTableEntry

__all__ = ["LARGE_SIZE", "PageTable", "Walked", "walk"]

#: Bytes of a large page.
LARGE_SIZE = 512 * PAGE_SIZE
_ADDRESS = (1 << 52) - PAGE_SIZE


@dataclass(frozen=True)
class Walked:
    """Where a virtual address lies, and whether it may be written."""

    physical: int
    writable: bool


def _entry(memory: bytearray | memoryview, place: int) -> int:
    return int.from_bytes(memory[place:place + 8], "little")


def walk(memory: bytearray | memoryview, table: int, virtual: int) -> Walked | None:
    """Translate as the hardware must; None where there is no page. ``table`` is the level-4 table's address."""
    writable = True
    for level in (4, 3, 2, 1):
        place = table + 8 * (virtual >> 12 + 9 * (level - 1) & 511)
        if place + 8 > len(memory):
            return None  # the bus answers with an error
        entry = _entry(memory, place)
        if not entry & PageTableEntry.PRESENT or entry & _ADDRESS >= 1 << 48:
            return None
        if entry & PageTableEntry.LARGE and level > 2:
            return None
        writable = writable and bool(entry & PageTableEntry.WRITABLE)
        table = entry & _ADDRESS
        if level == 2 and entry & PageTableEntry.LARGE:
            return Walked(table // LARGE_SIZE * LARGE_SIZE + virtual % LARGE_SIZE, writable)
    return Walked(table + virtual % PAGE_SIZE, writable)


class PageTable:
    """Tables of an address space.

    Parameters
    ----------
    memory:
        All of memory, from address 0 on.
    frames:
        Addresses of free pages for the tables, taken from the end.
    """

    def __init__(self, memory: bytearray | memoryview, frames: list[int]):
        self.memory, self._frames = memory, frames
        #: Address of the level-4 table, as in the registers TABLE_LO and TABLE_HI.
        self.root = self._new()

    def _new(self) -> int:
        table = self._frames.pop()
        self.memory[table:table + PAGE_SIZE] = bytes(PAGE_SIZE)
        return table

    def place_of(self, virtual: int, level: int = 1) -> int:
        """Address of the entry of a virtual address at a level, tables above it made as needed."""
        table = self.root
        for above in range(4, level, -1):
            place = table + 8 * (virtual >> 12 + 9 * (above - 1) & 511)
            entry = _entry(self.memory, place)
            if not entry & PageTableEntry.PRESENT:
                entry = self._new() | PageTableEntry.PRESENT | PageTableEntry.WRITABLE
                self.write(place, entry)
            elif entry & PageTableEntry.LARGE and above == 2:
                raise ValueError(f"{virtual:#x} lies in a large page")
            table = entry & _ADDRESS
        return table + 8 * (virtual >> 12 + 9 * (level - 1) & 511)

    def write(self, place: int, entry: int) -> None:
        """Write an entry as it is."""
        self.memory[place:place + 8] = entry.to_bytes(8, "little")

    def map(self, virtual: int, physical: int, *, writable: bool = True, large: bool = False) -> None:
        """Map a page, of 2 MiB if ``large``. Raises ValueError where an address is not a multiple of its size."""
        size = LARGE_SIZE if large else PAGE_SIZE
        if virtual % size or physical % size:
            raise ValueError(f"{virtual:#x} and {physical:#x} must be multiples of {size}")
        entry = physical | PageTableEntry.PRESENT
        if writable:
            entry |= PageTableEntry.WRITABLE
        if large:
            entry |= PageTableEntry.LARGE
        self.write(self.place_of(virtual, 2 if large else 1), entry)

    def unmap(self, virtual: int) -> None:
        """Take a page of 4 KiB away."""
        self.write(self.place_of(virtual), 0)
