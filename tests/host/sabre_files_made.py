# SPDX-License-Identifier: Apache-2.0
"""Snapshot files with something changed and all checksums right again: what a hostile writer would make."""

import dataclasses
import zlib
from pathlib import Path

import numpy as np

from rackgate_host.sabre.canned import TABLE_SIZE
from rackgate_host.sabre.format import ENTRY, HEADER, PAGE, REGION, Header

__all__ = ["Parts", "changed", "sealed"]


class Parts:
    """A snapshot file taken apart; :meth:`write` puts it together with checksums and counts made right."""

    def __init__(self, path):
        data = Path(path).read_bytes()
        self.header = Header.from_bytes(data[:PAGE], path, len(data))
        header = self.header
        self.regions = np.frombuffer(data[header.regions_offset:header.tables_offset], REGION.dtype).copy()
        self.tables = bytearray(data[header.tables_offset:header.index_offset])
        self.index = np.frombuffer(data[header.index_offset:header.index_end], ENTRY.dtype).copy()
        self.data = bytearray(data[header.data_offset:])
        self.fields = {}

    def write(self, path):
        """Write the file; ``fields`` overrides fields of the header."""
        sections = self.regions.tobytes(), bytes(self.tables), self.index.tobytes()
        header = dataclasses.replace(
            self.header, region_count=len(self.regions), table_count=len(self.tables) // TABLE_SIZE,
            partition_count=len(self.index), data_crc32=zlib.crc32(self.data),
            **{f"{name}_crc32": zlib.crc32(section) for name, section in zip(("regions", "tables", "index"), sections,
                                                                            strict=True)})
        header = dataclasses.replace(header, file_size=header.data_offset + len(self.data))
        page = changed(header.to_bytes(), **self.fields)
        body = b"".join(sections)
        gap = bytes(header.data_offset - PAGE - len(body))
        Path(path).write_bytes(page + body + gap + bytes(self.data))
        return path


def changed(page, **fields):
    """A header's page with other fields and the right checksum."""
    page = bytearray(page)
    view = np.frombuffer(page, HEADER.dtype)
    for name, value in fields.items():
        view[name] = value
    return sealed(bytes(page))


def sealed(page):
    """A header's page with its checksum made right."""
    return page[:-4] + zlib.crc32(page[:-4]).to_bytes(4, "little")
