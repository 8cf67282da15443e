# SPDX-License-Identifier: Apache-2.0
"""Version tags: how a control stack tells which frame's bytes a transport has accepted. Plain Python.

A transport that sits above the NIC never sees payload. For each entry it gets the headers and, in the payload's place,
placeholders: one *tag* a byte, whose value names where that byte is.

=================  ===============================================================================================
:data:`IN_PLACE`   in the posted segment: the NIC writes each byte of a stream there at most once
1 to 254           in the side store: the byte at this position of the frame with this *version*
:data:`NEVER`      nowhere: the byte is before the cursor, or has been read; a transport that delivers it is broken
=================  ===============================================================================================

The transport drops, keeps, cuts and joins placeholders as it would payload. Whoever reads for the application gets the
tags of exactly what was accepted, byte by byte, whatever has arrived: retransmissions with other bytes, segments that
the transport rejected, before or after the true ones.

Writer and reader may be different processes; they share a :class:`~rackgate.zeronic.sidestore.SideStore`. What keeps
this right:

- Entries of a flow are tagged in the order in which they come out of the ring.
- The writer calls :meth:`Tagger.deferred` before it hands the frame to the transport, as this stores the record.
- The reader first learns how many bytes the transport has for it, then looks in the store (:meth:`Reader.is_plain`),
  then takes at most so many bytes: a record is always stored before its bytes can be there.
- Bytes from the side store are copied into a *segment* only after CURSOR of the position that has been read and a FENCE
  that was answered: then the NIC writes there no more. Copied elsewhere, they need neither.
"""

from typing import NamedTuple

from rackgate.zeronic.sidestore import Record, SideStore

__all__ = ["IN_PLACE", "NEVER", "Part", "Reader", "Tagger"]

#: Tag of a byte that the NIC has placed.
IN_PLACE = 0
#: Tag of a byte that no transport may accept.
NEVER = 255

_MODULUS = 1 << 32


def _distance(position: int, other: int) -> int:
    """From ``other`` to ``position``; negative if ``position`` is before."""
    return (position - other + (1 << 31)) % _MODULUS - (1 << 31)


class Tagger:
    """The writer's side for one flow: entries to placeholders.

    Parameters
    ----------
    store:
        The flow's side store.
    reserve:
        Slots that only a frame with the byte that the transport expects next may take. They keep a store full of
        records from far ahead from stopping the stream.

    Attributes
    ----------
    refused:
        Frames that got no placeholders, because the store was full or all versions were taken: to the transport they
        are lost. Identical retransmissions need no room, so this takes a peer that sends different bytes again and
        again, or a store smaller than the window.
    """

    def __init__(self, store: SideStore, reserve: int = 8) -> None:
        if not 0 <= reserve < store.slots:
            raise ValueError(f"reserve must be 0 to {store.slots - 1}, less than there are slots, not {reserve}")
        self._store = store
        self._reserve = reserve
        self.refused = 0

    def header(self, payload: int, placed_offset: int, placed: int) -> bytes:
        """Placeholders for the ``payload`` bytes of an entry of kind HEADER.

        One with WRITE_ERROR must not be handed on: it is lost, and its retransmission will be DEFERRED.
        """
        return bytes([NEVER]) * placed_offset + bytes(placed) + bytes([NEVER]) * (payload - placed_offset - placed)

    def deferred(self, position: int, payload: bytes, placed_offset: int = 0, placed: int = 0,
                 expected: int | None = None) -> bytes | None:
        """Placeholders for an entry of kind DEFERRED, whose payload's first byte is at ``position``.

        With WRITE_ERROR give ``placed`` as 0. ``expected``: the position that the transport expects next, if known.
        ``None``: there is no room; treat the frame as lost.
        """
        size = len(payload)
        tags = bytearray([NEVER]) * size
        tags[placed_offset:placed_offset + placed] = bytes(placed)
        unread = max(0, min(size, _distance(self._store.consumed, position)))
        around = (unread, placed_offset), (max(unread, placed_offset + placed), size)
        needed = [(begin, end) for begin, end in around if begin < end]
        if needed:
            low, high = needed[0][0], needed[-1][1]
            start = (position + low) % _MODULUS
            shifted = [(begin - low, end - low) for begin, end in needed]
            version = self._version(Record(start, 0, payload[low:high]), shifted, expected)
            if version is None:
                self.refused += 1
                return None
            for begin, end in needed:
                tags[begin:end] = bytes([version]) * (end - begin)
        return bytes(tags)

    def _version(self, new: Record, needed: list[tuple[int, int]], expected: int | None) -> int | None:
        """A version whose records have the ``needed`` parts of ``new``, which is stored if there is none."""
        size = len(new.content)
        known: dict[int, tuple[bytearray, bytearray]] = {}  # content, and where it is known
        for record in self._store.overlapping(new.position, size):
            offset = _distance(record.position, new.position)
            low, high = max(0, offset), min(size, offset + len(record.content))
            content, there = known.setdefault(record.version, (bytearray(size), bytearray(size)))
            content[low:high] = record.content[low - offset:high - offset]
            there[low:high] = b"\1" * (high - low)
        for version, (content, there) in known.items():
            if all(content[begin:end] == new.content[begin:end] and all(there[begin:end]) for begin, end in needed):
                return version
        version = next((version for version in range(1, NEVER) if version not in known), None)
        if version is None:
            return None
        is_expected = expected is not None and new.covers(expected)
        stored = self._store.add(new._replace(version=version), 0 if is_expected else self._reserve)
        return version if stored else None


class Part(NamedTuple):
    """``size`` bytes of the stream from ``position`` on; ``content`` is ``None`` where they are in the segments."""

    position: int
    size: int
    content: bytes | None


class Reader:
    """The reader's side for one flow: tags to bytes. ``store`` as for :class:`Tagger`."""

    def __init__(self, store: SideStore) -> None:
        self._store = store

    @property
    def position(self) -> int:
        """Of the next byte that is read."""
        return self._store.consumed

    def is_plain(self, size: int) -> bool:
        """Whether the next ``size`` bytes, which the transport has, all are in place: then their tags need no look."""
        return not self._store.overlapping(self.position, size)

    def resolve(self, tags: bytes) -> list[Part]:
        """Where the next bytes are, whose ``tags`` have been read. Reads no further: see :meth:`consume`.

        Raises ``ValueError`` for a tag that no byte may have there: the transport, or one that hands it frames, is
        broken.
        """
        parts: list[Part] = []
        records = self._store.overlapping(self.position, len(tags))
        k = 0
        while k < len(tags):
            tag, position = tags[k], (self.position + k) % _MODULUS
            end = k + 1
            if tag == IN_PLACE:
                while end < len(tags) and tags[end] == tag:
                    end += 1
                content = None
            else:
                record = next((one for one in records if one.version == tag and one.covers(position)), None)
                if record is None:
                    raise ValueError(f"tag must be of a record that has position {position:#x}, not {tag}")
                offset = _distance(position, record.position)
                while end < len(tags) and tags[end] == tag and offset + end - k < len(record.content):
                    end += 1
                content = record.content[offset:offset + end - k]
            parts.append(Part(position, end - k, content))
            k = end
        return parts

    def consume(self, size: int) -> None:
        """The next ``size`` bytes have been read and copied: their records may go."""
        self._store.consumed = self.position + size
