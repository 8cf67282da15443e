# SPDX-License-Identifier: Apache-2.0
"""Values of chosen signals, cycle by cycle, from the FST files that a simulation writes.

An FST file keeps the changes of each signal by themselves, so the signals of a timeline are read without the others.
Read are files as :meth:`rackgate_sim.native.Simulation.trace` writes them: two-valued signals, block types 0, 3, 6
and 8 of the format, with time 2n for the low phase of cycle n and 2n+1 for the state after its rising edge.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import lz4.block
import numpy as np

__all__ = ["Waves", "WavesError"]

_HEADER, _GEOMETRY, _HIERARCHY, _CHANGES = 0, 3, 6, 8
_OTHER_HIERARCHIES, _OTHER_CHANGES = (4, 7), (1, 5)
_ATTRIBUTE, _ATTRIBUTE_END, _SCOPE, _UPSCOPE = 252, 253, 254, 255
_WIDEST = 64


class WavesError(ValueError):
    """A file that is no FST file, is cut short, or lacks a signal that was asked for."""


class _Bytes:
    """A place in a block of bytes, and what can be read there."""

    def __init__(self, data: bytes, place: int = 0):
        self.data, self.place = data, place

    @property
    def is_end(self) -> bool:
        return self.place >= len(self.data)

    def take(self, count: int) -> bytes:
        self.place += count
        return self.data[self.place - count:self.place]

    def byte(self) -> int:
        return self.take(1)[0]

    def text(self) -> str:
        end = self.data.index(0, self.place)
        found = self.data[self.place:end].decode(errors="replace")
        self.place = end + 1
        return found

    def number(self) -> int:
        """An unsigned number in base 128, lowest digit first."""
        value = shift = 0
        while True:
            digit = self.byte()
            value |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return value

    def signed(self) -> int:
        """As :meth:`number`, in two's complement."""
        begin = self.place
        value, bits = self.number(), 7 * (self.place - begin)
        return value - (1 << bits) if value >> (bits - 1) else value


@dataclass(frozen=True)
class _Changes:
    """A stretch of time: the values at its begin, where each signal's changes lie, and the times they count."""

    initial: bytes
    waves: bytes
    places: tuple[tuple[int, int] | None, ...]
    times: np.ndarray


def _uint64(data: bytes, place: int) -> int:
    return struct.unpack_from(">Q", data, place)[0]


def _inflated(data: bytes, size: int) -> bytes:
    return data if len(data) == size else zlib.decompress(data, bufsize=size)


class Waves:
    """An FST file of one simulation.

    Parameters
    ----------
    path:
        The file, closed by its simulation.

    Attributes
    ----------
    first, cycles:
        The first cycle in the file, and how many there are.

    Raises
    ------
    WavesError
        If it is no such file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._stretches: list[_Changes] = []
        self._widths: list[int] = []
        self._signals: dict[str, tuple[int, int]] = {}
        self._values: dict[str, np.ndarray] = {}
        data = self.path.read_bytes()
        with self._understood():
            self._read(data)
        if not self._stretches:
            raise WavesError(f"{self.path} holds no values: the simulation did not pass a cycle")
        with self._understood():
            self._offsets = [0, *accumulate(self._widths)]
            self.first = int(self._stretches[0].times[0]) // 2
            self.cycles = int(self._stretches[-1].times[-1]) // 2 - self.first + 1

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Raise what a damaged file leads to as :class:`WavesError`."""
        try:
            yield
        except (IndexError, ValueError, OverflowError, MemoryError, struct.error, zlib.error,
                lz4.block.LZ4BlockError) as error:
            raise WavesError(f"{self.path} is no FST file of a simulation that has ended: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._signals

    @property
    def names(self) -> list[str]:
        """All signals, as their place in the hierarchy and their name, joined by dots; without the top's own name."""
        return list(self._signals)

    def __getitem__(self, name: str) -> np.ndarray:
        """Value of a signal in each cycle, from :attr:`first` on, as it stood before the cycle's rising edge."""
        if name not in self._values:
            if name not in self._signals:
                raise WavesError(f"{self.path} has no signal {name}")
            handle, width = self._signals[name]
            if width > _WIDEST:
                raise WavesError(f"signal {name} has {width} bits, more than the {_WIDEST} that can be read")
            with self._understood():
                self._values[name] = self._signal(handle - 1, width)
        return self._values[name]

    # ---- the file ----

    def _read(self, data: bytes) -> None:
        place = 0
        while place < len(data):
            kind, size = data[place], _uint64(data, place + 1)
            body = data[place + 9:place + 1 + size]
            if len(body) != size - 8:
                raise ValueError("a block is cut short")
            if place == 0 and (kind != _HEADER or size < 329):
                raise ValueError("it does not begin with a header")
            if kind == _GEOMETRY:
                self._read_widths(_inflated(body[16:], _uint64(body, 0)))
            elif kind == _HIERARCHY:
                self._read_names(lz4.block.decompress(body[8:], uncompressed_size=_uint64(body, 0)))
            elif kind == _CHANGES:
                self._stretches.append(self._changes(body))
            elif kind in _OTHER_HIERARCHIES or kind in _OTHER_CHANGES:
                raise ValueError(f"a block of type {kind} is in it, which no simulation here writes")
            place += 1 + size

    def _read_widths(self, body: bytes) -> None:
        reader = _Bytes(body)
        while not reader.is_end:
            self._widths.append(reader.number())

    def _read_names(self, body: bytes) -> None:
        reader, scopes, handles = _Bytes(body), [], 0
        while not reader.is_end:
            match reader.byte():
                case kind if kind == _SCOPE:
                    reader.byte()
                    scopes.append(reader.text())
                    reader.text()
                case kind if kind == _UPSCOPE:
                    scopes.pop()
                case kind if kind == _ATTRIBUTE:
                    reader.take(2)
                    reader.text()
                    reader.number()
                case kind if kind == _ATTRIBUTE_END:
                    pass
                case _:
                    reader.byte()
                    name, width, alias = reader.text().partition(" ")[0], reader.number(), reader.number()
                    handles += not alias
                    self._signals[".".join([*scopes[2:], name])] = alias or handles, width

    @staticmethod
    def _changes(body: bytes) -> _Changes:
        times = _uint64(body, len(body) - 8)
        size = _uint64(body, len(body) - 16)
        reader = _Bytes(_inflated(body[-24 - size:-24], _uint64(body, len(body) - 24)))
        deltas = [reader.number() for _ in range(times)]
        positions_end = len(body) - 24 - size - 8
        positions = body[positions_end - _uint64(body, positions_end):positions_end]
        reader = _Bytes(body, 24)
        plain, packed = reader.number(), reader.number()
        reader.number()
        initial = _inflated(reader.take(packed), plain)
        count = reader.number()
        if (pack := reader.byte()) != ord("4"):
            raise ValueError(f"its changes are packed by method {pack}, which no simulation here uses")
        waves = body[reader.place - 1:positions_end - len(positions)]
        return _Changes(initial, waves, _places(positions, count, len(waves)),
                        np.array(list(accumulate(deltas)), np.int64))

    def _signal(self, index: int, width: int) -> np.ndarray:
        values = np.zeros(self.cycles, np.uint64)
        for stretch in self._stretches:
            start = int(stretch.times[0])
            text = stretch.initial[self._offsets[index]:self._offsets[index] + width]
            at, now = [start], [int(bytes(text).translate(_TWO_VALUED) or b"0", 2)]
            where = stretch.places[index]
            if where is not None:
                for time, value in _decoded(stretch.waves, *where, width):
                    at.append(int(stretch.times[time]))
                    now.append(value)
            # A value that a rising edge of cycle n leaves, at 2n+1, is cycle n+1's.
            cycles = (np.array(at) + 1) // 2 - self.first
            ends = np.append(cycles[1:], self.cycles)
            values[cycles[0]:] = np.repeat(np.array(now, np.uint64), np.maximum(ends - cycles, 0))
        return values


#: What was never driven counts as 0.
_TWO_VALUED = bytes(ord("1") if code == ord("1") else ord("0") for code in range(256))


def _places(positions: bytes, count: int, end: int) -> tuple[tuple[int, int] | None, ...]:
    """Begin and end of each signal's changes; ``None`` for a signal that does not change."""
    reader, begins, aliases, last, repeated = _Bytes(positions), {}, {}, 0, 0
    number = 0
    while number < count:
        digit = positions[reader.place]
        if digit & 1:
            value = reader.signed() >> 1
            if value > 0:
                last += value
                begins[number] = last
            else:
                repeated = value or repeated
                aliases[number] = -repeated - 1
            number += 1
        else:
            number += reader.number() >> 1
    ordered = [*begins.values(), end]
    places = {number: (begin, following) for number, begin, following in
              zip(begins, ordered, ordered[1:], strict=False)}
    return tuple(places.get(aliases.get(k, k)) for k in range(count))


def _decoded(waves: bytes, begin: int, end: int, width: int) -> list[tuple[int, int]]:
    """Changes of one signal: index of the time, and value."""
    reader = _Bytes(waves[begin:end])
    plain = reader.number()
    packed = reader.data[reader.place:]
    reader = _Bytes(lz4.block.decompress(packed, uncompressed_size=plain) if plain else packed)
    found, time, size = [], 0, -(-width // 8)
    while not reader.is_end:
        code = reader.number()
        if width == 1:
            shift, value = (2, code >> 1 & 1) if not code & 1 else (4, 0)
        else:
            if code & 1:
                raise ValueError("a signal has values other than 0 and 1")
            shift, value = 1, int.from_bytes(reader.take(size), "big") >> (8 * size - width)
        time += code >> shift
        found.append((time, value))
    return found
