# SPDX-License-Identifier: Apache-2.0
"""Writing snapshots: what is zero, what is a duplicate, how the rest is compressed, and where it goes."""

import collections
import concurrent.futures
import dataclasses
import multiprocessing
import os
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from . import canned, software
from .canned import SAMPLE, CannedTable
from .format import ENTRY, MAX_PARTITION_PAGES, MAX_REGIONS, NAME_SIZE, PAGE, REGION, WINDOWS, Header, Kind, aligned
from .index import zero_crc32
from .packing import MODES, pack
from .replacing import replacing

__all__ = ["MODES", "Region", "Summary", "write"]

_TASK = 1 << 21  # bytes that a process compresses at a time
_ALONE = 1 << 23  # below so many bytes other processes do not pay


@dataclass(frozen=True)
class Region:
    """Memory to be written: whole pages of ``uint8`` that begin at ``address`` in the guest or process."""

    name: str
    address: int
    data: memoryview | bytes | bytearray | npt.NDArray[np.uint8]

    @property
    def pages(self) -> npt.NDArray[np.uint8]:
        """The memory, a page a row."""
        flat = self.data if isinstance(self.data, np.ndarray) else np.frombuffer(self.data, np.uint8)
        return flat.reshape(-1, PAGE)

    def check(self, number: int) -> None:
        """Raise :class:`UsageError` or ``TypeError`` for what no file can hold."""
        if isinstance(self.data, np.ndarray):
            if self.data.dtype != np.uint8 or self.data.ndim != 1 or not self.data.flags.c_contiguous:
                raise TypeError(f"region {number}: data must be a contiguous row of uint8, not {self.data.dtype} of "
                                f"shape {self.data.shape}")
            size = self.data.nbytes
        else:
            size = memoryview(self.data).nbytes
        if size == 0 or size % PAGE:
            raise UsageError(f"region {number}: data must be at least one and only whole pages of {PAGE} bytes, "
                             f"not {size} bytes")
        if self.address % PAGE or not 0 <= self.address <= (1 << 64) - size:
            raise UsageError(f"region {number}: address must be a multiple of {PAGE} and the region end below 2^64, "
                             f"not {self.address:#x}")
        if len(self.name.encode()) > NAME_SIZE or not self.name.isprintable():
            raise UsageError(f"region {number}: name must be printable and at most {NAME_SIZE} bytes of UTF-8, "
                             f"not {self.name!r}")


@dataclass
class Summary:
    """What a snapshot holds. ``bytes_in`` counts all regions, ``bytes_out`` the file, both whole."""

    bytes_in: int
    bytes_out: int
    partitions: int
    working_set: int
    tables: int
    #: By kind: partitions, pages, stored bytes.
    kinds: dict[Kind, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def stored_ratio(self) -> float | None:
        """Bytes of the partitions that have stored bytes, by those stored bytes; ``None`` if there are none."""
        rows = [row for row in self.kinds.values() if row[2]]
        return sum(row[1] for row in rows) * PAGE / sum(row[2] for row in rows) if rows else None

    @property
    def ratio(self) -> float:
        """Bytes of all regions by the file's."""
        return self.bytes_in / self.bytes_out

    @classmethod
    def of(cls, header: Header, index: npt.NDArray[np.void]) -> "Summary":
        """What ``index`` adds up to."""
        kinds = {}
        for kind in Kind:
            rows = index[index["kind"] == kind]
            if len(rows):
                kinds[kind] = (len(rows), int(rows["pages"].sum(dtype=np.int64)), int(rows["size"].sum(dtype=np.int64)))
        return cls(sum(pages for _, pages, _ in kinds.values()) * PAGE, header.file_size, len(index),
                   header.working_set_count, header.table_count, kinds)


def write(path: str | os.PathLike[str], regions: Sequence[Region], *, working_set: Iterable[tuple[int, int]] = (),
          mode: str = "canned", partition_pages: int = 1, window: int = 4096, level: int = 6, tables: int = 1,
          compressor: str = "zlib", deduplicate: bool = True, jobs: int | None = None, seed: int = 1,
          progress: Callable[[int], Any] | None = None) -> Summary:
    """Write a snapshot of ``regions``. The file appears when it is whole, and replaces what was there.

    Parameters
    ----------
    working_set:
        (region, page) in the order of their first touches. The partitions that hold these pages come first in the file.
    mode:
        "canned" (the default), "dynamic", "fixed" or "raw". A partition that would not become shorter is stored raw.
    partition_pages:
        Pages of a partition, 1 to 4096. Bigger ones compress better and cost more when one page is needed.
    window:
        Largest distance of a match: 4096 or 32768.
    level:
        zlib's or libdeflate's level, 1 to 9.
    tables:
        Canned tables to be made, 1 to 256, from up to 400 partitions that ``seed`` picks.
    compressor:
        "zlib" or "libdeflate"; the latter in mode dynamic only, for partitions up to the window.
    deduplicate:
        Store equal partitions once.
    jobs:
        Processes; one for each core if ``None`` and there is enough to do. More than one needs a main module that can
        be imported (``if __name__ == "__main__"``).
    progress:
        Called with the number of restored bytes that each step has done.

    The memory must not change meanwhile: a file with wrong CRCs would come of it. Raises :class:`UsageError` or
    ``TypeError`` for what makes no sense, naming it.
    """
    _check_options(mode, partition_pages, window, level, tables, compressor, jobs)
    if len(regions) > MAX_REGIONS:
        raise UsageError(f"regions must be at most {MAX_REGIONS}, not {len(regions)}")
    for number, region in enumerate(regions):
        region.check(number)
    order = sorted(regions, key=lambda region: region.address)
    for before, after in zip(order, order[1:], strict=False):
        if before.address + len(before.pages) * PAGE > after.address:
            raise UsageError(f"regions {before.name!r} and {after.name!r} must not overlap at {after.address:#x}")
    pages = [region.pages for region in regions]
    index, touched = _cut(pages, working_set, partition_pages)
    _find_equal(index, pages, deduplicate, progress)
    made = _tables(index, pages, tables, window, level, seed) if mode == "canned" else []
    header = Header(window, len(regions), len(made), len(index), touched, 0)
    with replacing(Path(path)) as file:
        header = _write_data(file, header, index, pages, made, mode, level, compressor, jobs, progress)
        sections = _region_bytes(regions), b"".join(table.to_bytes() for table in made), index.tobytes()
        header = dataclasses.replace(header, **{f"{name}_crc32": zlib.crc32(section) for name, section in zip(
            ("regions", "tables", "index"), sections, strict=True)})
        file.seek(0)
        file.write(header.to_bytes() + b"".join(sections))
    return Summary.of(header, index)


def _check_options(mode: str, partition_pages: int, window: int, level: int, tables: int, compressor: str,
                   jobs: int | None) -> None:
    if mode not in MODES:
        raise UsageError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    for name, value, limit in (("partition_pages", partition_pages, MAX_PARTITION_PAGES), ("level", level, 9),
                               ("tables", tables, 256)):
        if not 1 <= value <= limit:
            raise UsageError(f"{name} must be 1 to {limit}, not {value}")
    if window not in WINDOWS:
        raise UsageError(f"window must be {' or '.join(map(str, WINDOWS))}, not {window}")
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be at least 1, not {jobs}")
    if compressor not in ("zlib", "libdeflate"):
        raise UsageError(f"compressor must be zlib or libdeflate, not {compressor!r}")
    if compressor == "libdeflate":
        if mode != "dynamic":
            raise UsageError(f"compressor libdeflate must go with mode dynamic, not {mode}")
        if partition_pages * PAGE > window:
            raise UsageError(f"compressor libdeflate must have partitions up to the window of {window} bytes, "
                             f"not {partition_pages * PAGE}")
        if "libdeflate" not in software.available():
            raise UsageError("compressor libdeflate must be installed: pip install deflate")


def _cut(pages: Sequence[npt.NDArray[np.uint8]], working_set: Iterable[tuple[int, int]],
         partition_pages: int) -> tuple[npt.NDArray[np.void], int]:
    """The index in its final order with regions, pages and zeros filled in; and how many entries the working set has.

    Partitions of zeros that follow each other become one, up to the limit, unless they are of the working set.
    """
    touched: dict[tuple[int, int], None] = {}
    for region, page in working_set:
        if not 0 <= region < len(pages):
            raise UsageError(f"working_set: region must be below {len(pages)}, not {region}")
        if not 0 <= page < len(pages[region]):
            raise UsageError(f"working_set: page of region {region} must be below {len(pages[region])}, not {page}")
        touched[region, page // partition_pages] = None
    parts = []
    for region, rows in enumerate(pages):
        first = np.arange(0, len(rows), partition_pages)
        zero = np.logical_and.reduceat(_zero_pages(rows), first)
        count = np.diff(first, append=len(rows))
        part = np.zeros(len(first), ENTRY.dtype)
        part["region"], part["first_page"], part["pages"] = region, first, count
        part["kind"] = np.where(zero, Kind.ZERO, Kind.RAW)
        parts.append(part)
    working = np.array([parts[region][number] for region, number in touched], ENTRY.dtype)
    taken: dict[int, list[int]] = collections.defaultdict(list)
    for region, number in touched:
        taken[region].append(number)
    kept = []
    for region, part in enumerate(parts):
        free = np.ones(len(part), bool)
        free[taken.get(region, [])] = False
        joined = free & (part["kind"] == Kind.ZERO)
        kept.append(_join(part[free], joined[free]))
    return np.concatenate([working, *kept]), len(working)


def _zero_pages(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    words = rows.view(np.uint64)
    return np.concatenate([~words[start:start + 4096].any(axis=1) for start in range(0, len(words), 4096)])


def _join(part: npt.NDArray[np.void], joined: npt.NDArray[np.bool_]) -> npt.NDArray[np.void]:
    """``part`` with neighbours that are ``joined`` made one."""
    if not len(part):
        return part
    first, count = part["first_page"].astype(np.int64), part["pages"].astype(np.int64)
    same = np.zeros(len(part), bool)
    same[1:] = joined[1:] & joined[:-1] & (first[1:] == first[:-1] + count[:-1])
    begins = np.flatnonzero(~same)
    result = []
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(part)], strict=True):
        if end == begin + 1:
            result.append(part[begin:end])
            continue
        start, stop = int(first[begin]), int(first[end - 1] + count[end - 1])
        run = np.repeat(part[begin:begin + 1], -(-(stop - start) // MAX_PARTITION_PAGES))
        run["first_page"] = np.arange(start, stop, MAX_PARTITION_PAGES)
        run["pages"] = np.minimum(stop - run["first_page"].astype(np.int64), MAX_PARTITION_PAGES)
        result.append(run)
    return np.concatenate(result)


def _content(entry: np.void, pages: Sequence[npt.NDArray[np.uint8]]) -> memoryview:
    first = int(entry["first_page"])
    return memoryview(pages[entry["region"]][first:first + int(entry["pages"])]).cast("B")


def _find_equal(index: npt.NDArray[np.void], pages: Sequence[npt.NDArray[np.uint8]], deduplicate: bool,
                progress: Callable[[int], Any] | None) -> None:
    """Fill in CRCs, mark duplicates."""
    seen: dict[tuple[int, int], list[int]] = {}
    crcs = np.zeros(len(index), np.uint32)
    for number, entry in enumerate(index):
        if entry["kind"] == Kind.ZERO:
            crcs[number] = zero_crc32(int(entry["pages"]))
            if progress is not None:
                progress(int(entry["pages"]) * PAGE)
            continue
        content = _content(entry, pages)
        crc = software.crc32(content)
        crcs[number] = crc
        if not deduplicate:
            continue
        equal = seen.setdefault((crc, len(content)), [])
        found = next((other for other in equal if _content(index[other], pages) == content), None)
        if found is None:
            equal.append(number)
            continue
        index["kind"][number] = Kind.DUPLICATE
        index["duplicate_of"][number] = found
        if progress is not None:
            progress(len(content))
    index["crc32"] = crcs


def _tables(index: npt.NDArray[np.void], pages: Sequence[npt.NDArray[np.uint8]], count: int, window: int, level: int,
            seed: int) -> list[CannedTable]:
    """Tables made from a sample of what has to be stored."""
    numbers = np.flatnonzero(index["kind"] == Kind.RAW).tolist()
    if not numbers:
        return []
    if len(numbers) > SAMPLE:
        numbers = sorted(random.Random(seed).sample(numbers, SAMPLE))
    sample = [bytes(_content(index[number], pages)) for number in numbers]
    return canned.train(sample, min(count, len(sample)), window=window, level=level, seed=seed)


def _write_data(file: BinaryIO, header: Header, index: npt.NDArray[np.void], pages: Sequence[npt.NDArray[np.uint8]],
                tables: Sequence[CannedTable], mode: str, level: int, compressor: str, jobs: int | None,
                progress: Callable[[int], Any] | None) -> Header:
    """Write the data and fill in the index; the header with the data's CRC and the file's size."""
    position, crc = header.data_offset, 0
    file.seek(position)

    def put(data: bytes | memoryview) -> None:
        nonlocal position, crc
        file.write(data)
        crc = software.crc32(data, crc)
        position += len(data)

    numbers = np.flatnonzero(index["kind"] == Kind.RAW).tolist()
    contents = (bytes(_content(index[number], pages)) for number in numbers)
    amount = int(index["pages"][numbers].sum(dtype=np.int64)) * PAGE
    packed = _packed(contents, amount, jobs, (mode, header.window, level, tuple(tables), compressor))
    in_working_set = True
    for number in numbers:
        if in_working_set and number >= header.working_set_count:
            in_working_set = False
            put(bytes(aligned(position) - position))
        kind, table, stored = next(packed)
        content = _content(index[number], pages)
        entry = index[number:number + 1]
        entry["kind"], entry["table"], entry["offset"] = kind, table, position
        put(content if kind is Kind.RAW else stored)
        entry["size"] = position - int(entry["offset"][0])
        if progress is not None:
            progress(len(content))
    put(bytes(aligned(position) - position))
    file.truncate(position)
    return dataclasses.replace(header, file_size=position, data_crc32=crc)


def _packed(contents: Iterable[bytes], amount: int, jobs: int | None,
            how: tuple[str, int, int, tuple[CannedTable, ...], str]) -> Iterator[tuple[Kind, int, bytes]]:
    """Kind, table and stored bytes of each of ``contents``, in order."""
    batches = _batches(contents)
    if jobs is None:
        jobs = (os.cpu_count() or 1) if amount >= _ALONE and how[0] != "raw" else 1
    if jobs == 1:
        for batch in batches:
            yield from pack(batch, *how)
        return
    # Spawned, not forked: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        under_way: collections.deque[concurrent.futures.Future[list[tuple[Kind, int, bytes]]]] = collections.deque()
        try:
            for batch in batches:
                under_way.append(pool.submit(pack, batch, *how))
                if len(under_way) > 2 * jobs:
                    yield from under_way.popleft().result()
            while under_way:
                yield from under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def _batches(contents: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch, size = [], 0
    for content in contents:
        batch.append(content)
        size += len(content)
        if size >= _TASK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _region_bytes(regions: Sequence[Region]) -> bytes:
    entries = np.zeros(len(regions), REGION.dtype)
    for number, region in enumerate(regions):
        entries[number] = (region.address, len(region.pages), region.name.encode())
    return entries.tobytes()
