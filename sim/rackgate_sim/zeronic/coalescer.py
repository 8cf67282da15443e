# SPDX-License-Identifier: Apache-2.0
"""Merging of headers: see :class:`rackgate.zeronic.messages.EntryKind`."""

from dataclasses import dataclass
from typing import NamedTuple

from rackgate.zeronic.messages import Entry

__all__ = ["CONTEXTS", "FRAMES_MOST", "Coalescer", "Item"]

#: Flows whose headers may be merged at a time.
CONTEXTS = 8
#: Frames that one entry may stand for.
FRAMES_MOST = 255

_ACK, _PSH = 0x10, 0x08
_FLAGS = 20 + 13  # of IPv4's and TCP's headers
_SEQUENCE = slice(24, 28)
_CHANGING = (slice(2, 6), slice(10, 12), _SEQUENCE, slice(36, 38))


class Item(NamedTuple):
    """An entry of ring ``ring`` with its content. ``may_merge``: of TCP, of a flow with COALESCE, all placed."""

    ring: int
    entry: Entry
    content: bytes
    may_merge: bool = False


@dataclass
class _Context:
    item: Item
    following: int  # position that the next frame must have
    deadline: int


def _constant(header: bytes) -> bytes:
    """What headers must agree in."""
    kept = bytearray(header)
    for part in _CHANGING:
        kept[part] = bytes(part.stop - part.start)
    kept[_FLAGS] &= ~_PSH
    return bytes(kept)


def _with_push(header: bytes) -> bytes:
    return header[:_FLAGS] + bytes([header[_FLAGS] | _PSH]) + header[_FLAGS + 1:]


class Coalescer:
    """Entries in, entries out, each flow's in order.

    ``cycles``, ``most``: registers COALESCE_CYCLES and COALESCE_BYTES; 0 cycles: nothing is merged.
    """

    def __init__(self) -> None:
        self.cycles = 0
        self.most = 0
        self.merged = 0
        self._contexts: dict[int, _Context] = {}  # by flow, the oldest first

    @property
    def deadline(self) -> int | None:
        """Cycle at which the next header goes up by itself."""
        return min((context.deadline for context in self._contexts.values()), default=None)

    def put(self, item: Item, cycle: int) -> list[Item]:
        """Take an entry of a frame; what goes up now."""
        entry = item.entry
        if not item.may_merge or not self.cycles or item.content[_FLAGS] & ~_PSH != _ACK:
            # That of no flow passes all; none of its number waits.
            return [*self._flush(entry.flow if entry.flags & 1 else None), item]
        pushes = bool(item.content[_FLAGS] & _PSH)
        context = self._contexts.get(entry.flow)
        if context is None or not self._fits(context, item):
            out = self._flush(entry.flow)
            if pushes:
                return [*out, item]
            if len(self._contexts) == CONTEXTS:
                out += self._flush(next(iter(self._contexts)))
            following = int.from_bytes(item.content[_SEQUENCE], "big") + entry.payload
            self._contexts[entry.flow] = _Context(item, following % (1 << 32), cycle + self.cycles)
            return out
        first = context.item
        payload = first.entry.payload + entry.payload
        frames = first.entry.frames + 1
        context.item = first._replace(
            entry=first.entry._replace(payload=payload, placed=payload, frames=frames),
            content=_with_push(first.content) if pushes else first.content)
        context.following = (context.following + entry.payload) % (1 << 32)
        self.merged += 1
        return self._flush(entry.flow) if pushes else []

    def _fits(self, context: _Context, item: Item) -> bool:
        first = context.item
        return (first.ring == item.ring
                and int.from_bytes(item.content[_SEQUENCE], "big") == context.following
                and first.entry.payload + item.entry.payload <= self.most
                and first.entry.frames < FRAMES_MOST
                and _constant(first.content) == _constant(item.content))

    def _flush(self, flow: int | None) -> list[Item]:
        context = self._contexts.pop(flow, None) if flow is not None else None
        return [context.item] if context else []

    def flush_late(self, cycle: int) -> list[Item]:
        """What has waited long enough."""
        late = [flow for flow, context in self._contexts.items() if context.deadline <= cycle]
        return [item for flow in late for item in self._flush(flow)]

    def flush_all(self) -> list[Item]:
        """All that waits, the oldest first."""
        return [item for flow in list(self._contexts) for item in self._flush(flow)]
