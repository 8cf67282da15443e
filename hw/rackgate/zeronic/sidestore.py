# SPDX-License-Identifier: Apache-2.0
"""Where a control stack keeps payload that the NIC did not place, until the application has read past it. Plain Python.

One writer, the control stack, and one reader, who reads for the application; the store may be in memory that they
share, so its layout is fixed. All numbers are little endian.

==================  ========================================================================================
bytes 0 to 3        ``slots``: how many there are
bytes 4 to 7        ``live``: how many hold a record; 0: there is nothing to look up (written by the writer)
bytes 8 to 11       ``consumed``: the reader is done with all positions before this (written by the reader)
bytes 12 to 15      ``highest``: slots from this on have never held a record (written by the writer)
from byte 64        one descriptor of 8 bytes a slot: ``position`` 32 bits, ``size`` 16 bits, ``version`` 8 bits,
                    ``valid`` 8 bits (0 or 1)
behind them         :data:`SLOT_SIZE` bytes of content a slot
==================  ========================================================================================

A record that is longer than a slot takes several, of one version. The writer stores a slot's content and descriptor
before it sets ``valid``, and that before it hands the frame's placeholders to the transport. It clears ``valid`` only
when the whole slot is before ``consumed``. Hence a reader that the transport has given bytes of positions not before
``consumed`` finds every record of them, and the records stay. (Stores must become visible in order, as on x86-64; on a
machine with a weaker order the hand-over through the kernel is the barrier.)
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from rackgate.zeronic.abi import before

__all__ = ["SLOT_SIZE", "Record", "SideStore", "store_size"]

#: Bytes of content that a slot holds.
SLOT_SIZE = 2048

_DESCRIPTORS = 64
_SLOTS, _LIVE, _CONSUMED, _HIGHEST = range(4)  # words of the header
_DESCRIPTOR = struct.Struct("<IHBB")


def _at(slot: int) -> int:
    return _DESCRIPTORS + _DESCRIPTOR.size * slot


def store_size(slots: int) -> int:
    """Bytes of a store of ``slots`` slots. Raises ``ValueError`` if they are not 1 to 65,536."""
    if not 1 <= slots <= 1 << 16:
        raise ValueError(f"slots must be 1 to 65536, not {slots}")
    return _at(slots) + SLOT_SIZE * slots


class Record(NamedTuple):
    """``content``: the stream's bytes from ``position`` on, as frame ``version`` has them."""

    position: int
    version: int
    content: bytes

    def covers(self, position: int) -> bool:
        """Whether it has the byte at ``position``."""
        return (position - self.position) % (1 << 32) < len(self.content)

    def overlaps(self, position: int, size: int) -> bool:
        """Whether it has one of the ``size`` bytes from ``position`` on."""
        return size > 0 and (self.covers(position) or (self.position - position) % (1 << 32) < size)


class SideStore:
    """A side store in ``buffer``.

    Parameters
    ----------
    buffer:
        At least :func:`store_size` bytes, writable. The last slots of a size that is no store's are not used.
    begin:
        Make an empty store whose reader begins at this position; ``None``: use the store that is there.

    Raises ``ValueError`` if the buffer is too small.
    """

    def __init__(self, buffer: bytearray | memoryview, begin: int | None = None) -> None:
        self._buffer = memoryview(buffer).cast("B")
        slots = (len(self._buffer) - _DESCRIPTORS) // (_DESCRIPTOR.size + SLOT_SIZE)
        if slots < 1:
            raise ValueError(f"buffer must have at least {store_size(1)} bytes, not {len(self._buffer)}")
        slots = min(slots, 1 << 16)
        # A word goes in one piece, as the other side looks at any time. (Struct.pack_into clears its place first: a
        # reader would now and then find that nothing is stored.)
        self._words = self._buffer[:_DESCRIPTORS].cast("I")
        if begin is not None:
            self._buffer[:_at(slots)] = bytes(_at(slots))
            self._words[_SLOTS], self._words[_CONSUMED] = slots, begin
        elif self._words[_SLOTS] != slots:
            raise ValueError(f"buffer must hold a store of {slots} slots, not of {self._words[_SLOTS]}")
        self.slots = slots
        self._free = [slot for slot in reversed(range(slots)) if not self._buffer[_at(slot) + 7]]

    @property
    def live(self) -> int:
        """Slots that hold a record."""
        return self._words[_LIVE]

    @property
    def consumed(self) -> int:
        """The reader is done with all positions before this."""
        return self._words[_CONSUMED]

    @consumed.setter
    def consumed(self, position: int) -> None:
        self._words[_CONSUMED] = position % (1 << 32)

    def _descriptors(self) -> Iterator[tuple[int, int, int, int]]:
        for slot in range(self._words[_HIGHEST]):
            position, size, version, valid = _DESCRIPTOR.unpack_from(self._buffer, _at(slot))
            if valid:
                yield slot, position, size, version

    def _content(self, slot: int) -> int:
        return _at(self.slots) + SLOT_SIZE * slot

    def overlapping(self, position: int, size: int) -> list[Record]:
        """The records that have one of the ``size`` bytes from ``position`` on; long ones in several parts."""
        found = []
        if self.live:
            for slot, start, length, version in self._descriptors():
                content = self._content(slot)
                record = Record(start, version, bytes(self._buffer[content:content + length]))
                if record.overlaps(position, size):
                    found.append(record)
        return found

    def add(self, record: Record, reserve: int = 0) -> bool:
        """Store a record, unless that would leave less than ``reserve`` slots free. By the writer only."""
        self.release()
        parts = range(0, len(record.content), SLOT_SIZE)
        if len(self._free) - len(parts) < reserve:
            return False
        for begin in parts:
            content = record.content[begin:begin + SLOT_SIZE]
            slot = self._free.pop()
            at = self._content(slot)
            self._buffer[at:at + len(content)] = content
            descriptor = (record.position + begin) % (1 << 32), len(content), record.version
            _DESCRIPTOR.pack_into(self._buffer, _at(slot), *descriptor, 0)
            self._buffer[_at(slot) + 7] = 1
            self._words[_HIGHEST] = max(self._words[_HIGHEST], slot + 1)
            self._words[_LIVE] += 1
        return True

    def release(self) -> None:
        """Free the slots that are wholly before ``consumed``. By the writer only."""
        if not self.live:
            return
        consumed = self.consumed
        for slot, position, size, _ in list(self._descriptors()):
            if not before(consumed, (position + size) % (1 << 32)):
                self._buffer[_at(slot) + 7] = 0
                self._words[_LIVE] -= 1
                self._free.append(slot)
