# SPDX-License-Identifier: Apache-2.0
"""Sabre's own pair of files: ``NAME.partitions`` and ``NAME.snapshot``.

``NAME.partitions`` is a u64 count and as many packed entries {u64 offset, u64 size, i64 compressed size}, all
little-endian. A run of ``size`` bytes of memory begins ``offset`` bytes above a base that the files do not name.
``NAME.snapshot`` has, back to back,

- scattered: one raw Deflate stream a run, of the compressed size;
- single: one raw Deflate stream of all runs together; every compressed size is -1;
- passthrough: the runs as they are; every compressed size is -1.

Nothing in the files tells the last two apart but the length of ``NAME.snapshot``. There is no magic, version or
checksum: damage that keeps the sizes right goes unseen.
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from . import software
from .errors import SnapshotError
from .format import PAGE, Kind
from .replacing import replacing
from .snapshot import Snapshot
from .tokens import window_bits
from .writer import Region

__all__ = ["LAYOUTS", "Run", "SabrePair", "export_runs", "export_snapshot"]

#: How the bytes of the runs lie in ``NAME.snapshot``.
LAYOUTS = ("scattered", "single", "passthrough")

_ENTRY = np.dtype([("offset", "<u8"), ("size", "<u8"), ("compressed_size", "<i8")])
_MAX_END = 1 << 52  # bytes of memory that page numbers of a snapshot reach
_WINDOW = 4096  # of the decompressor that Sabre uses


@dataclass(frozen=True)
class Run:
    """``data`` belongs ``offset`` bytes above the base."""

    offset: int
    data: bytes | memoryview


@dataclass(frozen=True)
class SabrePair:
    """A pair of files that was read. ``partitions`` has (offset, size, compressed size), checked."""

    name: Path
    layout: str
    partitions: tuple[tuple[int, int, int], ...]
    stored: bytes

    @classmethod
    def read(cls, name: str | os.PathLike[str]) -> "SabrePair":
        """Read both files. :class:`SnapshotError` for sizes and places that cannot be."""
        path = Path(name)
        partitions_path, snapshot_path = _paths(path)
        raw, stored = partitions_path.read_bytes(), snapshot_path.read_bytes()
        count = int.from_bytes(raw[:8], "little")
        if len(raw) < 8 or len(raw) - 8 != count * _ENTRY.itemsize:
            raise SnapshotError(partitions_path, "the file's size", len(raw),
                                f"{8 + count * _ENTRY.itemsize}, for a count of {count}")
        entries = tuple((int(offset), int(size), int(packed)) for offset, size, packed in
                        np.frombuffer(raw, _ENTRY, offset=8).tolist())
        _check(entries, partitions_path)
        total = sum(size for _, size, _ in entries)
        if any(packed != -1 for _, _, packed in entries):
            expected, layout = sum(packed for _, _, packed in entries), "scattered"
        else:
            layout = "passthrough" if len(stored) == total else "single"
            expected = total if layout == "passthrough" or not total else len(stored)
        if len(stored) != expected:
            raise SnapshotError(snapshot_path, "the file's size", len(stored), f"{expected}, the sum of its parts")
        return cls(path, layout, entries, stored)

    @property
    def end(self) -> int:
        """The byte above the base at which the last run ends."""
        return max((offset + size for offset, size, _ in self.partitions), default=0)

    def runs(self) -> Iterator[Run]:
        """The runs in the order of the file, decompressed. :class:`SnapshotError` for a stream that is damaged."""
        path = _paths(self.name)[1]
        view = memoryview(self.stored)
        if self.layout == "single":
            view = memoryview(_inflate(view, sum(size for _, size, _ in self.partitions), path, "the stream"))
        place = 0
        for number, (offset, size, packed) in enumerate(self.partitions):
            if self.layout == "scattered":
                yield Run(offset, _inflate(view[place:place + packed], size, path, f"partition {number}"))
                place += packed
            else:
                yield Run(offset, bytes(view[place:place + size]))
                place += size

    def region(self, size: int | None = None, *, name: str = "memory", address: int = 0) -> Region:
        """All runs in one region of ``size`` bytes (up to the last run if ``None``), to be written as a snapshot.

        Memory between the runs is zero here. Sabre leaves there what was mapped before; for a snapshot of changes, lay
        :meth:`runs` over the memory that they change instead.
        """
        end = -(-self.end // PAGE) * PAGE if size is None else size
        if end < self.end or end % PAGE:
            raise ValueError(f"size must be a multiple of {PAGE} and at least {self.end}, not {end}")
        try:
            memory = np.zeros(end, np.uint8)
        except MemoryError:
            number = max(range(len(self.partitions)), key=lambda one: sum(self.partitions[one][:2]))
            raise SnapshotError(_paths(self.name)[0], f"partition {number}: offset", self.partitions[number][0],
                                f"lower: a region of {end} bytes does not fit this machine's memory") from None
        for run in self.runs():
            memory[run.offset:run.offset + len(run.data)] = np.frombuffer(run.data, np.uint8)
        return Region(name, address, memory)


def _paths(name: Path) -> tuple[Path, Path]:
    return name.with_name(name.name + ".partitions"), name.with_name(name.name + ".snapshot")


def _check(entries: Sequence[tuple[int, int, int]], path: Path) -> None:
    scattered = any(packed != -1 for _, _, packed in entries)
    for number, (offset, size, packed) in enumerate(entries):
        if size == 0 or size > _MAX_END:
            raise SnapshotError(path, f"partition {number}: size", size, f"1 to {_MAX_END}")
        if offset > _MAX_END - size:
            raise SnapshotError(path, f"partition {number}: offset", offset, f"at most {_MAX_END - size}")
        if scattered and packed < 1:
            raise SnapshotError(path, f"partition {number}: compressed size", packed,
                                "at least 1, as other partitions have one")
    order = sorted(range(len(entries)), key=lambda number: entries[number][0])
    for before, after in zip(order, order[1:], strict=False):
        end = entries[before][0] + entries[before][1]
        if entries[after][0] < end:
            raise SnapshotError(path, f"partition {after}: offset", entries[after][0],
                                f"at least {end}, where partition {before} ends")


def _inflate(data: memoryview, size: int, path: Path, what: str) -> bytes:
    if size > 1032 * len(data) + 1032:  # Deflate cannot do better; before so much memory is asked for
        raise SnapshotError(path, f"{what}: size", size, f"at most {1032 * len(data) + 1032}, for {len(data)} bytes")
    try:
        return software.choose("zlib").inflate(data, size)
    except software.InvalidStream as error:
        raise SnapshotError(path, what, f"damaged ({error})", f"a raw Deflate stream of {size} bytes") from None


def export_runs(runs: Iterable[Run], name: str | os.PathLike[str], layout: str = "scattered", level: int = 6) -> int:
    """Write ``runs`` as Sabre's pair of files; the number of bytes of both. Matches reach back less than 4 KiB.

    The files appear when both are whole; those that were there stay if something fails. Raises :class:`UsageError` for
    an unknown layout, ``ValueError`` for runs that are empty or overlap.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    partitions_path, snapshot_path = _paths(Path(name))
    entries: list[tuple[int, int, int]] = []
    together = zlib.compressobj(level, zlib.DEFLATED, -12, 8)
    with replacing(snapshot_path) as file, replacing(partitions_path) as table:
        for run in runs:
            packed = -1
            match layout:
                case "scattered":
                    packer = zlib.compressobj(level, zlib.DEFLATED, -window_bits(len(run.data), _WINDOW), 8)
                    data = packer.compress(run.data) + packer.flush()
                    packed = len(data)
                case "single":
                    data = together.compress(run.data)
                case _:
                    data = run.data
            file.write(data)
            entries.append((run.offset, len(run.data), packed))
        if layout == "single" and entries:
            file.write(together.flush())
        _check(entries, partitions_path)
        table.write(len(entries).to_bytes(8, "little") + np.array(entries, _ENTRY).tobytes())
        return file.tell() + table.tell()


def export_snapshot(snapshot: Snapshot, name: str | os.PathLike[str], layout: str = "scattered",
                    level: int = 6) -> int:
    """Write what ``snapshot`` holds besides zeros as Sabre's pair of files; the number of bytes of both.

    Runs are as long as they can be. Offsets count from the lowest address of a region: Sabre has one base for all.
    """
    return export_runs(_runs(snapshot), name, layout, level)


def _runs(snapshot: Snapshot) -> Iterator[Run]:
    base = min((region.address for region in snapshot.regions), default=0)
    pending: list[bytes] = []
    begin = end = 0
    kept = snapshot.partitions["kind"] != Kind.ZERO
    places = sorted((snapshot.regions[int(entry["region"])].address - base + int(entry["first_page"]) * PAGE, number)
                    for number, entry in zip(np.flatnonzero(kept).tolist(), snapshot.partitions[kept], strict=True))
    for place, number in places:
        if pending and place != end:
            yield Run(begin, b"".join(pending))
            pending = []
        if not pending:
            begin = place
        pending.append(snapshot.content(number))
        end = place + len(pending[-1])
    if pending:
        yield Run(begin, b"".join(pending))
