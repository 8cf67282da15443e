# SPDX-License-Identifier: Apache-2.0
"""Compression of partitions. A module without state, so that other processes can do it."""

import importlib
import zlib
from collections.abc import Sequence

from .canned import CannedTable, encode
from .format import Kind
from .tokens import fixed_stream, window_bits

__all__ = ["MODES", "pack"]

#: How partitions are compressed.
MODES = ("canned", "dynamic", "fixed", "raw")


def pack(contents: Sequence[bytes], mode: str, window: int, level: int, tables: Sequence[CannedTable],
         compressor: str) -> list[tuple[Kind, int, bytes]]:
    """Kind, table number and stored bytes of each of ``contents``; for kind RAW no bytes, as they are known."""
    match mode:
        case "raw":
            return [(Kind.RAW, 0, b"")] * len(contents)
        case "canned":
            packed = [(Kind.CANNED, table, data)
                      for table, data in encode(contents, tables, window=window, level=level)]
        case "fixed":
            packed = [(Kind.FIXED, 0, fixed_stream(content, window, level)) for content in contents]
        case "dynamic" if compressor == "libdeflate":
            library = importlib.import_module("deflate")
            packed = [(Kind.DYNAMIC, 0, bytes(library.deflate_compress(content, level))) for content in contents]
        case _:
            packed = [(Kind.DYNAMIC, 0, _dynamic(content, window, level)) for content in contents]
    return [result if len(result[2]) < len(content) else (Kind.RAW, 0, b"")
            for content, result in zip(contents, packed, strict=True)]


def _dynamic(content: bytes, window: int, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -window_bits(len(content), window), 8)
    return packer.compress(content) + packer.flush()
