# SPDX-License-Identifier: Apache-2.0
"""The rules that the regions and the index of a snapshot keep, checked on arrays."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import SnapshotError
from .format import MAX_FIRST_PAGE, MAX_PARTITION_PAGES, NAME_SIZE, PAGE, REGION, Header, Kind, RegionInfo
from .software import crc32

__all__ = ["check_index", "parse_regions", "zero_crc32"]

_STORED = (Kind.RAW, Kind.FIXED, Kind.DYNAMIC, Kind.CANNED)


_zero_crcs = [0]


def zero_crc32(pages: int) -> int:
    """CRC-32 of so many pages of zeros."""
    page = bytes(PAGE)
    while len(_zero_crcs) <= pages:
        _zero_crcs.append(crc32(page, _zero_crcs[-1]))
    return _zero_crcs[pages]


def parse_regions(data: bytes, path: str | Path) -> tuple[RegionInfo, ...]:
    """The regions section, checked."""
    regions = []
    for number, entry in enumerate(np.frombuffer(data, REGION.dtype)):
        address, pages, raw = int(entry["address"]), int(entry["pages"]), bytes(entry["name"])
        field = f"region {number}"
        if address % PAGE:
            raise SnapshotError(path, f"{field}: address", f"{address:#x}", f"a multiple of {PAGE}")
        if not 1 <= pages <= MAX_FIRST_PAGE:
            raise SnapshotError(path, f"{field}: pages", pages, f"1 to {MAX_FIRST_PAGE}")
        if address + pages * PAGE > 1 << 64:
            raise SnapshotError(path, f"{field}: pages", pages,
                                f"at most {((1 << 64) - address) // PAGE} above {address:#x}")
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise SnapshotError(path, f"{field}: name", repr(raw), "UTF-8") from None
        if not name.isprintable():
            raise SnapshotError(path, f"{field}: name", repr(name), f"printable, at most {NAME_SIZE} bytes")
        regions.append(RegionInfo(name, address, pages))
    order = sorted(range(len(regions)), key=lambda number: regions[number].address)
    for before, after in zip(order, order[1:], strict=False):
        end = regions[before].address + regions[before].size
        if regions[after].address < end:
            raise SnapshotError(path, f"region {after}: address", f"{regions[after].address:#x}",
                                f"at least {end:#x}, where region {before} ends")
    return tuple(regions)


def check_index(index: npt.NDArray[np.void], header: Header, regions: Sequence[RegionInfo], path: str | Path) -> None:
    """Raise :class:`SnapshotError` for the first entry that breaks a rule."""
    def check(right: npt.NDArray[np.bool_], name: str, rule: str | Callable[[int], str]) -> None:
        if not right.all():
            number = int(np.argmin(right))
            raise SnapshotError(path, f"partition {number}: {name}", int(index[name][number]),
                                rule if isinstance(rule, str) else rule(number))

    kind, pages, size = index["kind"], index["pages"].astype(np.int64), index["size"].astype(np.int64)
    check(kind <= max(Kind), "kind", f"0 to {max(Kind)}")
    for name in ("reserved", "reserved2"):
        check(index[name] == 0, name, "0")
    check(index["region"] < len(regions), "region", f"below the {len(regions)} of header.region_count")
    check((pages >= 1) & (pages <= MAX_PARTITION_PAGES), "pages", f"1 to {MAX_PARTITION_PAGES}")
    check(index["first_page"] < MAX_FIRST_PAGE, "first_page", f"below {MAX_FIRST_PAGE}")
    region = index["region"].astype(np.int64)
    first = index["first_page"].astype(np.int64)
    region_pages = np.array([info.pages for info in regions], np.int64)
    check(first + pages <= region_pages[region], "first_page",
          lambda n: f"at most {region_pages[region[n]] - pages[n]}, for {pages[n]} pages to end in region {region[n]}")
    _check_cover(region, first, pages, region_pages, header, path)

    plain = pages * PAGE
    stored = np.isin(kind, _STORED)
    check((kind != Kind.RAW) | (size == plain), "size", lambda n: f"{plain[n]}, as a RAW partition of {pages[n]} pages")
    packed = stored & (kind != Kind.RAW)
    check(~packed | ((size >= 1) & (size < plain)), "size",
          lambda n: f"1 to {plain[n] - 1}, as a compressed partition of {pages[n]} pages")
    for name in ("size", "offset"):
        check(stored | (index[name] == 0), name, lambda n: f"0, as {Kind(int(kind[n])).name} stores no bytes")
    check(~stored | (index["offset"] >= header.data_offset), "offset",
          f"at least header.data_offset, {header.data_offset}")
    check(index["offset"] <= header.file_size, "offset", f"at most header.file_size, {header.file_size}")
    offset = index["offset"].astype(np.int64)
    check(offset + size <= header.file_size, "offset",
          lambda n: f"at most {header.file_size - size[n]}, for {size[n]} bytes to end in the file")
    numbers = np.flatnonzero(stored)
    behind = np.zeros(len(index), np.int64)
    behind[numbers[1:]] = offset[numbers[:-1]] + size[numbers[:-1]]
    check(offset >= behind, "offset", lambda n: f"at least {behind[n]}, where the stored bytes before it end")

    check((kind == Kind.CANNED) | (index["table"] == 0), "table",
          lambda n: f"0, as {Kind(int(kind[n])).name} uses no canned table")
    check((kind != Kind.CANNED) | (index["table"] < header.table_count), "table",
          f"below the {header.table_count} of header.table_count")
    _check_duplicates(index, kind, pages, check)
    zeros = np.flatnonzero(kind == Kind.ZERO)
    expected = np.zeros(len(index), np.int64)
    for count in np.unique(pages[zeros]).tolist():
        expected[zeros[pages[zeros] == count]] = zero_crc32(count)
    check((kind != Kind.ZERO) | (index["crc32"] == expected), "crc32",
          lambda n: f"{expected[n]}, that of {pages[n]} pages of zeros")


def _check_duplicates(index: npt.NDArray[np.void], kind: np.ndarray, pages: np.ndarray,
                      check: Callable[[npt.NDArray[np.bool_], str, str | Callable[[int], str]], None]) -> None:
    duplicate = kind == Kind.DUPLICATE
    target = index["duplicate_of"].astype(np.int64)
    check(duplicate | (target == 0), "duplicate_of", lambda n: f"0, as {Kind(int(kind[n])).name} stands for itself")
    check(~duplicate | (target < np.arange(len(index))), "duplicate_of", "the number of an earlier partition")
    target = np.where(duplicate, target, 0)
    check(~duplicate | np.isin(kind[target], _STORED), "duplicate_of", "the number of a partition with stored bytes")
    check(~duplicate | (pages[target] == pages), "duplicate_of",
          lambda n: f"the number of a partition of {pages[n]} pages")
    check(~duplicate | (index["crc32"][target] == index["crc32"]), "duplicate_of",
          lambda n: f"the number of a partition with crc32 {index['crc32'][n]}")


def _check_cover(region: np.ndarray, first: np.ndarray, pages: np.ndarray, region_pages: np.ndarray, header: Header,
                 path: str | Path) -> None:
    """Each page of each region is in exactly one partition, and those behind the working set are in order."""
    rest = slice(header.working_set_count, None)
    later = (np.diff(region[rest]) > 0) | ((np.diff(region[rest]) == 0) & (np.diff(first[rest]) > 0))
    if not later.all():
        number = header.working_set_count + int(np.argmin(later)) + 1
        raise SnapshotError(path, f"partition {number}: first_page", int(first[number]),
                            f"behind that of partition {number - 1}: behind the working set the index is sorted")
    order = np.lexsort((first, region))
    due = {number: 0 for number in range(len(region_pages))}
    if len(order):
        begins = first[order]
        ends = begins + pages[order]
        new = np.diff(region[order], prepend=-1) != 0
        expected = np.where(new, 0, np.roll(ends, 1))
        wrong = np.flatnonzero(begins != expected)
        if len(wrong):
            place = int(wrong[0])
            number = int(order[place])
            what = f"the page behind partition {order[place - 1]}" if not new[place] else "the region's first page"
            fault = "overlap" if begins[place] < expected[place] else "leave a gap"
            raise SnapshotError(path, f"partition {number}: first_page", int(first[number]),
                                f"{expected[place]}, {what}: partitions must not {fault}")
        last = np.flatnonzero(np.append(new[1:], True))
        due.update(zip(region[order][last].tolist(), ends[last].tolist(), strict=True))
    for number, covered in due.items():
        if covered != region_pages[number]:
            raise SnapshotError(path, f"region {number}: pages", int(region_pages[number]),
                                f"{covered}, as many as there are in its partitions")
