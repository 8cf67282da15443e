# SPDX-License-Identifier: Apache-2.0
"""Snapshots of memory: reading what :func:`~rackgate_host.sabre.writer.write` wrote.

>>> import numpy as np
>>> from rackgate_host.sabre import snapshot
>>> memory = np.frombuffer(bytes(4096) + b"page" * 1024, np.uint8)
>>> _ = snapshot.write("example.rgs", [snapshot.Region("ram", 0x10000, memory)], working_set=[(0, 1)])
>>> with snapshot.Snapshot.open("example.rgs") as opened:
...     [(partition.first_page, partition.kind.name) for partition in opened]
[(1, 'CANNED'), (0, 'ZERO')]
"""

import os
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import software
from .canned import TABLE_SIZE, CannedTable
from .errors import SnapshotError
from .format import ENTRY, PAGE, REGION, Header, Kind, RegionInfo
from .index import check_index, parse_regions
from .writer import Region, Summary, write

__all__ = ["PAGE", "Kind", "Partition", "Region", "RegionInfo", "Snapshot", "Summary", "write"]

_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Partition:
    """An entry of the index. ``offset`` and ``size`` say where the stored bytes are; ``duplicate_of`` is a number."""

    number: int
    region: int
    first_page: int
    pages: int
    kind: Kind
    table: int
    offset: int
    size: int
    crc32: int
    duplicate_of: int | None

    @property
    def nbytes(self) -> int:
        """Bytes of the restored partition."""
        return self.pages * PAGE

    @property
    def start(self) -> int:
        """Byte of the region at which the partition begins."""
        return self.first_page * PAGE


class Snapshot:
    """An open snapshot file. Made by :meth:`open`; a context manager. All methods may be called by several threads.

    Attributes
    ----------
    path, header, regions, tables:
        What the file says, checked.
    partitions:
        The index as a read-only structured array with the fields of :data:`~rackgate_host.sabre.format.ENTRY`: first
        the working set in the order of its first touches, then the rest in the order of the regions and pages.
    """

    def __init__(self, path: Path, descriptor: int, header: Header, regions: tuple[RegionInfo, ...],
                 tables: tuple[CannedTable, ...], partitions: npt.NDArray[np.void]):
        self.path = path
        self.header = header
        self.regions = regions
        self.tables = tables
        self.partitions = partitions
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Snapshot":
        """Open and check ``path``: header, regions, tables and index with their CRCs, sizes, bounds and overlaps.

        The data is not read; :meth:`decompress` checks what it returns, :meth:`verify_file` all bytes. Raises
        :class:`SnapshotError` for a file that is damaged in any way, ``OSError`` if there is none.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cls(Path(path), descriptor, *_parts(descriptor, Path(path)))
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. A second time does nothing."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def fileno(self) -> int:
        """The file's descriptor. ``ValueError`` when closed."""
        if self._descriptor < 0:
            raise ValueError(f"{self.path} is closed")
        return self._descriptor

    def __len__(self) -> int:
        return len(self.partitions)

    def __iter__(self) -> Iterator[Partition]:
        return (self.partition(number) for number in range(len(self)))

    @property
    def working_set(self) -> npt.NDArray[np.void]:
        """The part of ``partitions`` that is the working set, in the order of its first touches."""
        return self.partitions[:self.header.working_set_count]

    @property
    def size(self) -> int:
        """Bytes of all regions."""
        return sum(region.size for region in self.regions)

    def partition(self, number: int) -> Partition:
        """Entry ``number`` of the index."""
        first, offset, size, crc, pages, region, kind, _, table, duplicate_of, _ = self.partitions[number].item()
        if number < 0:
            number += len(self)
        kind = Kind(kind)
        return Partition(number, region, first, pages, kind, table, offset, size, crc,
                         duplicate_of if kind is Kind.DUPLICATE else None)

    def source(self, partition: Partition | int) -> Partition:
        """The partition that has the stored bytes: another one for a DUPLICATE, else ``partition`` itself."""
        found = self.partition(partition) if isinstance(partition, int) else partition
        return found if found.duplicate_of is None else self.partition(found.duplicate_of)

    def read(self, partition: Partition | int) -> bytes:
        """Stored bytes of ``partition``, of a DUPLICATE those of its source. None for ZERO."""
        source = self.source(partition)
        stored = _read(self.fileno(), source.offset, source.size)
        if len(stored) != source.size:
            raise SnapshotError(self.path, f"partition {source.number}: stored bytes", f"{len(stored)} long",
                                f"{source.size} long: the file has become shorter")
        return stored

    def decompress(self, partition: Partition | int, stored: bytes | memoryview,
                   decompressor: software.Decompressor | None = None) -> bytes:
        """The bytes of ``partition`` that ``stored`` stands for, by software, with their CRC-32 checked.

        ``decompressor`` is the fastest that is installed if none is given. Raises :class:`SnapshotError` rather than
        return wrong bytes.
        """
        source = self.source(partition)
        if len(stored) != source.size:
            raise SnapshotError(self.path, f"partition {source.number}: stored bytes", f"{len(stored)} long",
                                f"{source.size} long")
        match source.kind:
            case Kind.ZERO:
                return bytes(source.nbytes)  # its CRC-32 is checked when the file is opened
            case Kind.RAW:
                content = bytes(stored)
            case kind:
                header = self.tables[source.table].header if kind is Kind.CANNED else b""
                try:
                    content = (decompressor or software.choose()).inflate(stored, source.nbytes, header)
                except software.InvalidStream as error:
                    raise SnapshotError(self.path, f"partition {source.number}: stored bytes", f"damaged ({error})",
                                        f"a {kind.name} stream of {source.nbytes} bytes") from None
        crc = software.crc32(content)
        if crc != source.crc32:
            raise SnapshotError(self.path, f"partition {source.number}: CRC-32 of the restored bytes", f"{crc:#010x}",
                                f"{source.crc32:#010x}")
        return content

    def content(self, partition: Partition | int, decompressor: software.Decompressor | None = None) -> bytes:
        """The bytes of ``partition``: :meth:`read` and :meth:`decompress`."""
        return self.decompress(partition, self.read(partition), decompressor)

    def restore(self, region: int, decompressor: software.Decompressor | None = None) -> npt.NDArray[np.uint8]:
        """All bytes of a region, by software, one partition after the other."""
        memory = np.zeros(self.regions[region].size, np.uint8)
        for number in np.flatnonzero(self.partitions["region"] == region).tolist():
            partition = self.partition(number)
            if partition.kind is not Kind.ZERO:
                memory[partition.start:partition.start + partition.nbytes] = np.frombuffer(
                    self.content(partition, decompressor), np.uint8)
        return memory

    def data_extents(self) -> list[tuple[int, int]]:
        """What to read of the file for a restore, in order: (offset, size), both multiples of 4096.

        First the stored bytes of the working set, if there are any, then those of the rest. What both would read is
        in the first only.
        """
        extents: list[tuple[int, int]] = []
        stored = self.partitions["size"] > 0
        border = self.header.working_set_count
        for part in (slice(0, border), slice(border, None)):
            entries = self.partitions[part][stored[part]]
            if not len(entries):
                continue
            begin = int(entries["offset"][0]) // PAGE * PAGE
            end = -(-int(entries["offset"][-1] + entries["size"][-1]) // PAGE) * PAGE
            if extents:
                begin = max(begin, sum(extents[-1]))
            if end > begin:
                extents.append((begin, end - begin))
        return extents

    def verify_file(self, progress: Callable[[int], Any] | None = None) -> None:
        """Check every byte of the file against its CRCs. ``progress`` is called with the bytes of each step."""
        crc, offset, end = 0, self.header.data_offset, self.header.file_size
        while offset < end:
            chunk = _read(self.fileno(), offset, min(_CHUNK, end - offset))
            if not chunk:
                raise SnapshotError(self.path, "the file's size", offset, f"{end}: the file has become shorter")
            crc = software.crc32(chunk, crc)
            offset += len(chunk)
            if progress is not None:
                progress(len(chunk))
        if crc != self.header.data_crc32:
            raise SnapshotError(self.path, "header.data_crc32", f"{self.header.data_crc32:#010x}",
                                f"that of the data, {crc:#010x}")

    def verify(self, progress: Callable[[int], Any] | None = None) -> None:
        """Check every byte of the file, then decompress every partition and check its CRC-32.

        zlib decompresses, as it is the strictest about how a stream ends. ``progress`` is called with the number of
        bytes of each step, in all ``header.file_size - header.data_offset`` and ``size``.
        """
        self.verify_file(progress)
        zlib_ = software.choose("zlib")
        for partition in self:
            if partition.kind not in (Kind.ZERO, Kind.DUPLICATE):
                self.content(partition, zlib_)
            if progress is not None:
                progress(partition.nbytes)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    """Up to ``size`` bytes; less only at the end of the file."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _parts(descriptor: int, path: Path) -> tuple[Header, tuple[RegionInfo, ...], tuple[CannedTable, ...],
                                                  npt.NDArray[np.void]]:
    """Header, regions, tables and index of a file, all checked before any is believed."""
    header = Header.from_bytes(_read(descriptor, 0, PAGE), path, os.fstat(descriptor).st_size)

    def section(name: str, offset: int, size: int) -> bytes:
        data = _read(descriptor, offset, size)
        crc, expected = zlib.crc32(data), getattr(header, f"{name}_crc32")
        if crc != expected:
            raise SnapshotError(path, f"header.{name}_crc32", f"{expected:#010x}", f"that of the section, {crc:#010x}")
        return data

    regions = section("regions", header.regions_offset, header.region_count * REGION.size)
    tables = section("tables", header.tables_offset, header.table_count * TABLE_SIZE)
    index = section("index", header.index_offset, header.partition_count * ENTRY.size)
    gap = _read(descriptor, header.index_end, header.data_offset - header.index_end)
    if any(gap):
        raise SnapshotError(path, f"bytes {header.index_end} to {header.data_offset - 1}", "not all zero", "zero")
    known = parse_regions(regions, path)
    parsed = []
    for number in range(header.table_count):
        try:
            parsed.append(CannedTable.from_bytes(tables[number * TABLE_SIZE:(number + 1) * TABLE_SIZE]))
        except ValueError as error:
            raise SnapshotError(path, f"table {number}", "damaged", f"a canned table: {error}") from None
    partitions = np.frombuffer(index, ENTRY.dtype)
    check_index(partitions, header, known, path)
    return header, known, tuple(parsed), partitions
