# SPDX-License-Identifier: Apache-2.0
"""Rings in memory: entries up, commands down."""

from collections import deque
from dataclasses import dataclass

from rackgate.zeronic.abi import COMMAND_ALIGNMENT, RINGS, Counter
from rackgate.zeronic.messages import Command, Entry, EntryKind
from rackgate_sim.inflate.model import BusError, Memory
from rackgate_sim.zeronic.coalescer import Item

__all__ = ["CommandRing", "EntryWriter", "Ring"]

_LEAST, _MOST = 12, 26


@dataclass
class Ring:
    """A ring: its memory, and bytes written and read so far, modulo 2**32."""

    base: int = 0
    log_size: int = 0
    producer: int = 0
    consumer: int = 0

    @property
    def size(self) -> int:
        """Its bytes; 0: there is none."""
        return 1 << self.log_size if _LEAST <= self.log_size <= _MOST else 0

    @property
    def used(self) -> int:
        """Bytes that the other side is not done with."""
        return (self.producer - self.consumer) % (1 << 32)


class EntryWriter:
    """Writes entries into their rings, all in one order; one that has no room stops those behind it."""

    def __init__(self, memory: Memory, counts: dict[Counter, int]) -> None:
        self.rings = [Ring() for _ in range(RINGS)]
        self.has_news = False
        self._memory = memory
        self._counts = counts
        self._waiting: deque[Item] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether no entry waits for room."""
        return not self._waiting

    def put(self, items: list[Item]) -> None:
        """Take entries to write."""
        self._waiting.extend(items)

    def write(self) -> bool:
        """Write what there is room for. Whether that was anything."""
        count = len(self._waiting)
        while self._waiting and self._is_done(self._waiting[0]):
            self._waiting.popleft()
        return len(self._waiting) < count

    def _is_done(self, item: Item) -> bool:
        ring = self.rings[item.ring]
        content = item.entry.to_bytes() + item.content
        content += bytes(-len(content) % 8)
        if len(content) > ring.size:  # or there is no ring
            self._counts[Counter.RING_FULL] += 1
            return True
        to_end = ring.size - ring.producer % ring.size
        if to_end < len(content):
            # A pad may have less than an entry's 16 bytes: the first 8 have all of it.
            if not self._store(ring, Entry(EntryKind.PAD, size=to_end // 8).to_bytes()[:8], to_end):
                return False
        if not self._store(ring, content, len(content)):
            return False
        self._counts[Counter.ENTRIES] += 1
        self.has_news = True
        return True

    def _store(self, ring: Ring, content: bytes, size: int) -> bool:
        """Store ``content``, which takes ``size`` bytes of a ring, if they are free."""
        if ring.size - ring.used < size:
            self._counts[Counter.RING_FULL] += 1
            return False
        try:
            self._memory.write(ring.base + ring.producer % ring.size, content)
        except BusError:
            self._counts[Counter.WRITE_ERROR] += 1  # the ring goes on without it
        ring.producer = (ring.producer + size) % (1 << 32)
        return True


class CommandRing(Ring):
    """The ring of commands. One that runs past the end goes on at the beginning.

    Attributes
    ----------
    is_halted:
        The memory refused a read: nothing is taken any more.
    """

    is_halted = False

    def take(self, memory: Memory) -> tuple[Command, bytes] | None:
        """The next command, if all of it is there, and its bytes. One with 0 units keeps them and has the bytes of 1.
        """
        if not self.size or not self.used or self.is_halted:
            return None
        try:
            return self._taken(memory)
        except BusError:
            self.is_halted = True
            return None

    def _taken(self, memory: Memory) -> tuple[Command, bytes] | None:
        command = Command.from_bytes(self._read(memory, COMMAND_ALIGNMENT))
        size = max(1, command.units) * COMMAND_ALIGNMENT
        if self.used < size:
            return None
        content = self._read(memory, size)
        self.consumer = (self.consumer + size) % (1 << 32)
        return command, content

    def _read(self, memory: Memory, size: int) -> bytes:
        at = self.consumer % self.size
        first = min(size, self.size - at)
        return memory.read(self.base + at, first) + memory.read(self.base, size - first)
