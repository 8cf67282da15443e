# SPDX-License-Identifier: Apache-2.0
"""Entries of tables that are filled at run time: their bits, and the places where they stand. Plain Python.

The gateware looks up a key in the places that :meth:`TableImage.places` gives, the first that fits wins; who writes
entries (a host, or the model for itself) chooses places with :meth:`TableImage.insert`. So the places are the same in
all worlds, and whether a table has room for a key too.

``INDEX``: entry k stands in place k. ``TERNARY``: entries stand in the order in which they were put, without gaps, the
first has the highest priority. ``EXACT``: cuckoo hashing. There are two banks of rows with two places each; a key may
stand in one row of each bank, chosen by the lowest and by the highest bits of its CRC-32. To make room, entries are
moved to their other row: written there first, and then overwritten, so that a lookup never misses them.
"""

import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise

from rackgate.pisa.abi import MAX_WORD
from rackgate.pisa.declare import Action, Key, Table
from rackgate.pisa.expr import Expr, crc32

__all__ = ["BANKS", "WAYS", "EntryFormat", "KeyFields", "TableImage", "hash_rows", "key_hash"]

#: Banks of a hash table, and places in each of a bank's rows.
BANKS, WAYS = 2, 2

#: Fewest rows of a bank: block RAM is not smaller, and in a smaller table an unlucky key finds no place.
_FEWEST_ROWS = 64
_MOST_ROWS = 1 << 16

#: A key as it is given: a number, or one for each field; in ternary tables pairs of value and mask.
KeyFields = int | Sequence[int] | Sequence[tuple[int, int]]


def hash_rows(table: Table) -> int:
    """Rows of each bank: a power of two, so that a table that holds ``size`` entries is at most 85 % full."""
    rows = _FEWEST_ROWS
    while BANKS * WAYS * rows * 85 < 100 * table.size:
        rows *= 2
    if rows > _MOST_ROWS:
        raise ValueError(f"table {table.name} must have at most {BANKS * WAYS * _MOST_ROWS * 85 // 100} entries, "
                         f"not {table.size}")
    return rows


def key_hash(table: Table) -> Expr:
    """CRC-32 of a hash table's key, fields as whole bytes: its lowest bits are bank 0's row, its highest bank 1's."""
    return crc32(*(key.resize((key.width + 7) // 8 * 8) for key in table.keys))


class EntryFormat:
    """Bits of a table's entries, from the lowest: valid, number of the action, arguments, key fields, masks.

    An entry whose action the table does not have counts as one that is not valid.

    Raises
    ------
    ValueError
        An entry would be wider than a command carries.
    """

    def __init__(self, table: Table):
        self.table = table
        self.action_width = max(len(table.actions) - 1, 1).bit_length()
        self.arguments_width = max(
            (action.parameters.width if action.parameters else 0 for action in table.actions), default=0)
        self.key_width = 0 if table.kind == Key.INDEX else sum(key.width for key in table.keys)
        self.mask_width = self.key_width if table.kind == Key.TERNARY else 0
        self.arguments_low = 1 + self.action_width
        self.key_low = self.arguments_low + self.arguments_width
        self.mask_low = self.key_low + self.key_width
        self.width = self.mask_low + self.mask_width
        if self.width > MAX_WORD:
            raise ValueError(f"table {table.name}: an entry must have at most {MAX_WORD} bits, not {self.width}")

    def joined(self, values: Sequence[int]) -> int:
        """Key fields as one number, the first in the lowest bits."""
        low = whole = 0
        for value, key in zip(values, self.table.keys, strict=True):
            whole |= value << low
            low += key.width
        return whole

    def split(self, whole: int) -> tuple[int, ...]:
        """Key fields of one number."""
        out = []
        for key in self.table.keys:
            out.append(whole & (1 << key.width) - 1)
            whole >>= key.width
        return tuple(out)

    def pack(self, values: Sequence[int], masks: Sequence[int], action: int, arguments: Sequence[int]) -> int:
        """The bits of a valid entry."""
        word, low = 1 | action << 1, self.arguments_low
        parameters = self.table.actions[action].parameters
        for value, part in zip(arguments, parameters.fields.values() if parameters else (), strict=True):
            word |= value << low
            low += part.width
        if self.key_width:
            word |= self.joined(values) << self.key_low
        if self.mask_width:
            word |= self.joined(masks) << self.mask_low
        return word

    def is_valid(self, word: int) -> bool:
        """Whether a lookup may find the entry."""
        return bool(word & 1) and self.action(word) < len(self.table.actions)

    def action(self, word: int) -> int:
        """Number of the entry's action."""
        return word >> 1 & (1 << self.action_width) - 1

    def arguments(self, word: int) -> list[int]:
        """Arguments of the entry's action."""
        parameters, low, out = self.table.actions[self.action(word)].parameters, self.arguments_low, []
        for part in parameters.fields.values() if parameters else ():
            out.append(word >> low & (1 << part.width) - 1)
            low += part.width
        return out

    def key(self, word: int) -> tuple[int, ...]:
        """Key fields of the entry."""
        return self.split(word >> self.key_low)

    def masks(self, word: int) -> tuple[int, ...]:
        """Masks of the entry."""
        return self.split(word >> self.mask_low)


class TableImage:
    """What stands in a table that is filled at run time: words by place; places that are absent are empty.

    Attributes
    ----------
    capacity:
        Number of places.
    words:
        By place the bits of the entry.
    """

    def __init__(self, table: Table):
        if not table.size:
            raise ValueError(f"table {table.name} has constant entries")
        self.table = table
        self.format = EntryFormat(table)
        self.rows = hash_rows(table) if table.kind == Key.EXACT else 0
        self.capacity = BANKS * WAYS * self.rows if self.rows else table.size
        self.words: dict[int, int] = {}
        # By key the place that a lookup finds, and what stands there; not of ternary tables.
        self._found: dict[tuple[int, ...], tuple[int, tuple[int, list[int]]]] = {}
        self._sizes = [(key.width + 7) // 8 for key in table.keys]

    def __len__(self) -> int:
        return len(self._found) if self.table.kind != Key.TERNARY else len(self.words)

    # Lookups

    def places(self, key: tuple[int, ...]) -> list[int]:
        """Where an entry with this key may stand, in the order of priority. Not for ternary tables."""
        if self.table.kind == Key.INDEX:
            return [key[0]]
        content = b"".join(value.to_bytes(size, "big") for value, size in zip(key, self._sizes, strict=True))
        checksum = zlib.crc32(content)
        bits = self.rows.bit_length() - 1
        rows = (checksum & self.rows - 1, checksum >> 32 - bits)
        return [(bank * self.rows + row) * WAYS + way for bank, row in enumerate(rows) for way in range(WAYS)]

    def find(self, key: tuple[int, ...]) -> tuple[int, list[int]] | None:
        """The entry that matches, as number of its action and arguments, if one does."""
        if self.table.kind != Key.TERNARY:
            found = self._found.get(key)
            return None if found is None else found[1]
        word = next((word for _, word in sorted(self.words.items()) if self._fits(word, key)), None)
        return None if word is None else (self.format.action(word), self.format.arguments(word))

    def _fits(self, word: int, key: tuple[int, ...]) -> bool:
        return self.format.is_valid(word) and all(
            (value ^ want) & mask == 0
            for value, want, mask in zip(key, self.format.key(word), self.format.masks(word), strict=True))

    # Raw access

    def read(self, place: int) -> int:
        """The bits in a place."""
        return self.words.get(self._checked(place), 0)

    def write(self, place: int, word: int) -> None:
        """Put bits into a place, whatever they mean."""
        before = self.words.pop(self._checked(place), 0)
        word &= (1 << self.format.width) - 1
        if word & 1:
            self.words[place] = word
        if self.table.kind == Key.INDEX:
            self._look_again((place,))
        elif self.table.kind == Key.EXACT:
            for bits in (before, word):
                if bits & 1:
                    self._look_again(self.format.key(bits))

    def _checked(self, place: int) -> int:
        if not 0 <= place < self.capacity:
            raise ValueError(f"table {self.table.name} has places 0 to {self.capacity - 1}, not {place}")
        return place

    def _look_again(self, key: tuple[int, ...]) -> None:
        self._found.pop(key, None)
        for place in self.places(key):
            word = self.words.get(place, 0)
            if self.format.is_valid(word) and (self.table.kind == Key.INDEX or self.format.key(word) == key):
                self._found[key] = place, (self.format.action(word), self.format.arguments(word))
                return

    def clear(self) -> None:
        """Empty all places."""
        self.words.clear()
        self._found.clear()

    # Entries

    def insert(self, key: KeyFields, action: Action | str, **arguments: int) -> list[tuple[int, int]]:
        """Put an entry, in place of one with the same key. The (place, word) that were written, in their order.

        Raises
        ------
        ValueError
            The table is full or finds no place, the key or an argument does not fit, or the action is not one of the
            table's or takes other arguments. Nothing has changed then.
        """
        values, masks = self._key(key)
        number, listed = self._action(action, arguments)
        word = self.format.pack(values, masks, number, listed)
        place = self._place_of(values, masks)
        if place is not None:
            writes = [(place, word)]
        elif len(self) >= self.table.size:
            raise ValueError(f"table {self.table.name} is full: it has {self.table.size} entries")
        elif self.table.kind == Key.EXACT:
            writes = self._make_room(values)
            writes.append((writes.pop()[0], word))
        else:
            writes = [(values[0] if self.table.kind == Key.INDEX else self._behind(), word)]
        for place, bits in writes:
            self.write(place, bits)
        return writes

    def remove(self, key: KeyFields) -> list[tuple[int, int]]:
        """Take an entry out. The (place, word) that were written. Raises KeyError if there is none."""
        values, masks = self._key(key)
        place = self._place_of(values, masks)
        if place is None:
            raise KeyError(f"table {self.table.name} has no entry {key}")
        if self.table.kind == Key.TERNARY:  # those behind it move up, each written before it is overwritten
            behind = [at for at in sorted(self.words) if at >= place]
            writes = [(at, self.words[after]) for at, after in pairwise(behind)] + [(behind[-1], 0)]
        else:
            writes = [(place, 0)]
        for at, bits in writes:
            self.write(at, bits)
        return writes

    def _key(self, key: KeyFields) -> tuple[tuple[int, ...], tuple[int, ...]]:
        parts = (key,) if isinstance(key, int) else tuple(key)
        keys = self.table.keys
        if len(parts) != len(keys):
            raise ValueError(f"table {self.table.name}: key {key} must have {len(keys)} values")
        values, masks = [], []
        for part, field in zip(parts, keys, strict=True):
            value = mask = most = (1 << field.width) - 1
            if isinstance(part, int):
                value = part
            elif self.table.kind == Key.TERNARY:
                value, mask = part
            else:
                raise ValueError(f"table {self.table.name} is not ternary: its keys have no masks")
            if not (0 <= value <= most and 0 <= mask <= most):
                raise ValueError(f"table {self.table.name}: key {key} must fit {field.width} bits")
            values.append(value)
            masks.append(mask)
        return tuple(values), tuple(masks)

    def _action(self, action: Action | str, arguments: Mapping[str, int]) -> tuple[int, list[int]]:
        actions = self.table.actions
        number = next((k for k, known in enumerate(actions) if known is action or known.name == action), None)
        if number is None:
            raise ValueError(f"table {self.table.name} has no action {getattr(action, 'name', action)}: it has "
                             f"{', '.join(known.name for known in actions)}")
        parameters = actions[number].parameters
        fields = parameters.fields if parameters else {}
        if set(fields) != set(arguments):
            raise ValueError(f"action {actions[number].name} takes {', '.join(fields) or 'no arguments'}, "
                             f"not {', '.join(arguments) or 'none'}")
        for name, field in fields.items():
            if not 0 <= arguments[name] < 1 << field.width:
                raise ValueError(f"{actions[number].name}.{name} must fit {field.width} bits, not {arguments[name]}")
        return number, [arguments[name] for name in fields]

    def _behind(self) -> int:
        place = max(self.words, default=-1) + 1
        if place >= self.capacity:
            raise ValueError(f"table {self.table.name} has no place left behind its last entry")
        return place

    def _place_of(self, values: tuple[int, ...], masks: tuple[int, ...]) -> int | None:
        if self.table.kind != Key.TERNARY:
            found = self._found.get(values)
            return None if found is None else found[0]
        return next((place for place, word in sorted(self.words.items())
                     if self.format.key(word) == values and self.format.masks(word) == masks), None)

    def _make_room(self, key: tuple[int, ...]) -> list[tuple[int, int]]:
        """Moves that free a place for ``key``, shortest way first; the last write is the key's, with word 0."""
        came_from: dict[int, int | None] = dict.fromkeys(self.places(key))
        waiting = deque(came_from)
        while waiting:
            place = waiting.popleft()
            word = self.words.get(place, 0)
            if not word & 1:
                writes, before = [], came_from[place]
                while before is not None:
                    writes.append((place, self.words[before]))
                    place, before = before, came_from[before]
                return [*writes, (place, 0)]
            for other in self.places(self.format.key(word)):
                if other not in came_from:
                    came_from[other] = place
                    waiting.append(other)
        raise ValueError(f"table {self.table.name} finds no place for key {key}: {len(self)} of {self.table.size} "
                         "entries are taken")
