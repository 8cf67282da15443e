# SPDX-License-Identifier: Apache-2.0
"""Layout of a snapshot file, version 1.

The file holds, in this order and without gaps: the header (one page), the regions, the canned tables, the index, zero
bytes up to a page boundary, and the data. All numbers are little-endian. The tables of docs/sabre/format.md are made
from the definitions here.
"""

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from .canned import TABLE_SIZE
from .errors import SnapshotError

__all__ = ["ENTRY", "HEADER", "MAGIC", "MAX_FIRST_PAGE", "MAX_PARTITION_PAGES", "MAX_REGIONS", "MAX_TABLES",
           "NAME_SIZE", "PAGE", "REGION", "VERSION", "WINDOWS", "Field", "Header", "Kind", "Layout", "RegionInfo",
           "aligned"]

#: Bytes of a page, of the header, and the alignment of data groups.
PAGE = 4096
#: The first bytes of every snapshot. Not UTF-8, and damaged by a change of line ends.
MAGIC = b"\x8fRGSNAP\n"
#: The version that is described here.
VERSION = 1
#: Largest distances of matches that a file may use.
WINDOWS = (4096, 32768)
#: Pages of the largest partition: 16 MiB.
MAX_PARTITION_PAGES = 4096
#: Page numbers are below this.
MAX_FIRST_PAGE = 1 << 40
MAX_REGIONS = 1 << 16
MAX_TABLES = 1 << 16
#: Bytes of a region's name in UTF-8.
NAME_SIZE = 48


class Kind(IntEnum):
    """How a partition is stored."""

    ZERO = 0
    RAW = 1
    FIXED = 2
    DYNAMIC = 3
    CANNED = 4
    DUPLICATE = 5


@dataclass(frozen=True)
class Field:
    """A field of a structure: its name, NumPy's name of its type, and what it means."""

    name: str
    type: str
    doc: str


class Layout:
    """A structure of ``size`` bytes: fields one after the other, zero bytes behind."""

    def __init__(self, name: str, size: int, fields: Sequence[Field]):
        self.name = name
        self.fields = tuple(fields)
        self.size = size
        self.offsets: list[int] = []
        end = 0
        for field in self.fields:
            self.offsets.append(end)
            end += np.dtype(field.type).itemsize
        if end > size:
            raise ValueError(f"{name}: the fields take {end} bytes, more than {size}")
        #: The structure for NumPy.
        self.dtype = np.dtype({"names": [field.name for field in self.fields],
                               "formats": [field.type for field in self.fields],
                               "offsets": self.offsets, "itemsize": size})


#: The header, but for its own CRC-32, which is in its last four bytes.
HEADER = Layout("header", PAGE, (
    Field("magic", "S8", "`8f 52 47 53 4e 41 50 0a`"),
    Field("version", "<u2", "1"),
    Field("reserved", "<u2", "0"),
    Field("page_size", "<u4", "bytes of a page: 4096"),
    Field("window", "<u4", "no match of the data reaches back further: 4096 or 32768 bytes"),
    Field("region_count", "<u4", "entries of the regions section, at most 65536"),
    Field("table_count", "<u4", "entries of the tables section, at most 65536"),
    Field("partition_count", "<u4", "entries of the index"),
    Field("working_set_count", "<u4", "entries at the index's begin that are the working set"),
    Field("flags", "<u4", "0: all checksums are CRC-32 as zlib computes it"),
    Field("regions_offset", "<u8", "place of the regions: 4096"),
    Field("tables_offset", "<u8", "place of the canned tables: right behind the regions"),
    Field("index_offset", "<u8", "place of the index: right behind the tables"),
    Field("data_offset", "<u8", "place of the data: behind the index, at the next multiple of 4096"),
    Field("file_size", "<u8", "bytes of the file: a multiple of 4096"),
    Field("regions_crc32", "<u4", "of the regions section"),
    Field("tables_crc32", "<u4", "of the tables section"),
    Field("index_crc32", "<u4", "of the index"),
    Field("data_crc32", "<u4", "of all bytes from `data_offset` to the end of the file"),
))

#: An entry of the regions section.
REGION = Layout("region", 64, (
    Field("address", "<u8", "address of the first byte in the guest or process: a multiple of 4096"),
    Field("pages", "<u8", "pages of the region, 1 to 2^40"),
    Field("name", f"S{NAME_SIZE}", "UTF-8, printable, zero bytes behind; may be empty"),
))

#: An entry of the index.
ENTRY = Layout("partition", 40, (
    Field("first_page", "<u8", "page of the region at which the partition begins, below 2^40"),
    Field("offset", "<u8", "place of the stored bytes in the file; 0 for kinds without stored bytes"),
    Field("size", "<u4", "stored bytes; 0 for kinds without"),
    Field("crc32", "<u4", "of the restored bytes, whatever the kind"),
    Field("pages", "<u2", "pages of the partition, 1 to 4096"),
    Field("region", "<u2", "number of the region"),
    Field("kind", "u1", "see Kinds"),
    Field("reserved", "u1", "0"),
    Field("table", "<u2", "number of the canned table; 0 for other kinds"),
    Field("duplicate_of", "<u4", "number of the partition with the same bytes; 0 for other kinds"),
    Field("reserved2", "<u4", "0"),
))


def aligned(offset: int) -> int:
    """The next multiple of a page."""
    return -(-offset // PAGE) * PAGE


_OFFSETS = ("regions_offset", "tables_offset", "index_offset", "data_offset")


@dataclass(frozen=True)
class RegionInfo:
    """A region as the file describes it. ``address`` and ``size`` are bytes."""

    name: str
    address: int
    pages: int

    @property
    def size(self) -> int:
        """Bytes of the region."""
        return self.pages * PAGE


@dataclass(frozen=True)
class Header:
    """The header's numbers; the fields that can have one value only are not among them."""

    window: int
    region_count: int
    table_count: int
    partition_count: int
    working_set_count: int
    file_size: int
    regions_crc32: int = 0
    tables_crc32: int = 0
    index_crc32: int = 0
    data_crc32: int = 0

    @property
    def regions_offset(self) -> int:
        """Place of the regions."""
        return PAGE

    @property
    def tables_offset(self) -> int:
        """Place of the tables."""
        return self.regions_offset + self.region_count * REGION.size

    @property
    def index_offset(self) -> int:
        """Place of the index."""
        return self.tables_offset + self.table_count * TABLE_SIZE

    @property
    def index_end(self) -> int:
        """The byte behind the index."""
        return self.index_offset + self.partition_count * ENTRY.size

    @property
    def data_offset(self) -> int:
        """Place of the data."""
        return aligned(self.index_end)

    def to_bytes(self) -> bytes:
        """The header's page."""
        page = bytearray(PAGE)  # NumPy may leave anything in the bytes behind the fields of its own arrays
        values = np.frombuffer(page, HEADER.dtype)
        fixed = {"magic": MAGIC, "version": VERSION, "page_size": PAGE}
        places = {name: getattr(self, name) for name in _OFFSETS}
        for name, value in {**fixed, **places, **asdict(self)}.items():
            values[name] = value
        page[-4:] = zlib.crc32(page[:-4]).to_bytes(4, "little")
        return bytes(page)

    @classmethod
    def from_bytes(cls, page: bytes, path: str | Path, size: int) -> "Header":
        """The header in the first ``page`` of the file at ``path``, which has ``size`` bytes.

        All is checked that can be without reading on; :class:`SnapshotError` names the first field that is wrong.
        """
        def check(right: bool, name: str, value: object, rule: str) -> None:
            if not right:
                raise SnapshotError(path, name, value, rule)

        check(page[:len(MAGIC)] == MAGIC, "header.magic", page[:len(MAGIC)].hex(" ") or "missing",
              f"{MAGIC.hex(' ')}: a Rackgate snapshot")
        check(len(page) == PAGE, "the file's size", size, f"at least {PAGE} bytes")
        values = np.frombuffer(page, HEADER.dtype)[0]
        raw = {field.name: int(values[field.name]) for field in HEADER.fields if field.name != "magic"}
        check(raw["version"] == VERSION, "header.version", raw["version"],
              f"{VERSION}: other versions need another reader")
        crc = int.from_bytes(page[-4:], "little")
        check(crc == zlib.crc32(page[:-4]), "header.header_crc32", f"{crc:#010x}", f"{zlib.crc32(page[:-4]):#010x}")
        check(raw["page_size"] == PAGE, "header.page_size", raw["page_size"], str(PAGE))
        check(raw["window"] in WINDOWS, "header.window", raw["window"], " or ".join(map(str, WINDOWS)))
        for name in ("reserved", "flags"):
            check(raw[name] == 0, f"header.{name}", raw[name], "0")
        end = HEADER.offsets[-1] + 4
        check(not any(page[end:-4]), f"header bytes {end} to {PAGE - 5}", "not all zero", "zero")
        for name, limit in (("region_count", MAX_REGIONS), ("table_count", MAX_TABLES)):
            check(raw[name] <= limit, f"header.{name}", raw[name], f"at most {limit}")
        check(raw["working_set_count"] <= raw["partition_count"], "header.working_set_count", raw["working_set_count"],
              f"at most the {raw['partition_count']} of header.partition_count")
        header = cls(**{name: raw[name] for name in cls.__dataclass_fields__})
        for name in _OFFSETS:
            check(raw[name] == getattr(header, name), f"header.{name}", raw[name],
                  f"{getattr(header, name)} by the counts before it")
        check(raw["file_size"] % PAGE == 0, "header.file_size", raw["file_size"], f"a multiple of {PAGE}")
        check(raw["file_size"] >= header.data_offset, "header.file_size", raw["file_size"],
              f"at least header.data_offset, {header.data_offset}")
        check(size >= raw["file_size"], "the file's size", size,
              f"the {raw['file_size']} bytes of header.file_size: the file is cut short")
        check(size == raw["file_size"], "the file's size", size,
              f"the {raw['file_size']} bytes of header.file_size: something was appended")
        return header
