# SPDX-License-Identifier: Apache-2.0
"""What the bench compares with: LZ4 and Zstandard in the place of Deflate, and raw pages as REAP restores them.

A peer's file has the layout of snapshots and says DYNAMIC of pages that are no Deflate. It is for this bench only:
nothing but the engine here restores it, and the CRC-32 of each page stops whoever else tries.
"""

import dataclasses
import importlib
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import Unavailable, UsageError
from ...sabre import software
from ...sabre.engines import Arenas, Batch, BatchResult, SoftwareEngine
from ...sabre.format import PAGE, Kind, aligned
from ...sabre.plan import Plan
from ...sabre.snapshot import Snapshot
from ...sabre.software import InvalidStream
from ...sabre.writer import Summary

__all__ = ["PEERS", "PeerEngine", "RawEngine", "load", "write"]

Function = Callable[[bytes], bytes]


def _lz4() -> tuple[Function, Callable[[bytes, int], bytes], Any]:
    library = importlib.import_module("lz4.block")
    return (lambda page: library.compress(page, store_size=False),
            lambda data, size: library.decompress(data, uncompressed_size=size), library.LZ4BlockError)


def _zstd() -> tuple[Function, Callable[[bytes, int], bytes], Any]:
    library = importlib.import_module("zstandard")
    packer, unpacker = library.ZstdCompressor(level=1, write_content_size=False), library.ZstdDecompressor()
    return packer.compress, lambda data, size: unpacker.decompress(data, max_output_size=size), library.ZstdError


#: By name: compression, decompression and its error.
PEERS: dict[str, Callable[[], tuple[Function, Callable[[bytes, int], bytes], Any]]] = {"lz4": _lz4, "zstd": _zstd}


def load(name: str) -> tuple[Function, Callable[[bytes, int], bytes], Any]:
    """A peer's functions. Raises :class:`~rackgate_host.errors.Unavailable` if it is not installed."""
    try:
        return PEERS[name]()
    except ImportError as error:
        raise Unavailable(f"{name} is not installed: pip install 'rackgate[bench]'") from error


class _PeerCodec:
    """Restores single pages, in the place of the engine's own."""

    def __init__(self, name: str):
        self.name = name
        _, self._unpack, self._error = load(name)

    def restore(self, kind: int, table: int, stored: memoryview, target: memoryview) -> int:
        """Write the page to ``target``; its CRC-32."""
        if kind == Kind.RAW:
            target[:] = stored
            return software.crc32(stored)
        try:
            output = self._unpack(bytes(stored), len(target))
        except self._error as error:
            raise InvalidStream(f"{self.name}: {error}") from None
        if len(output) != len(target):
            raise InvalidStream(f"{self.name}: {len(output)} bytes came out, not {len(target)}")
        target[:] = output
        return software.crc32(output)


class PeerEngine(SoftwareEngine):
    """The software engine with a peer's decompressor."""

    def __init__(self, snapshot: Snapshot, plan: Plan, arenas: Arenas, workers: int | None = None,
                 codec: str = "lz4"):
        self._peer = _PeerCodec(codec)
        super().__init__(snapshot, plan, arenas, workers)

    def _start(self, number: int) -> Any:
        self._codec = self._peer  # before the worker is forked
        return super()._start(number)


def write(raw: str | os.PathLike[str], path: str | os.PathLike[str], name: str) -> Summary:
    """Write to ``path`` what the snapshot ``raw``, in mode raw, holds, each page compressed by ``name``."""
    pack = load(name)[0]
    with Snapshot.open(raw) as snapshot:
        index = snapshot.partitions.copy()
        begin = snapshot.header.data_offset
        parts, position = [], begin
        for number in np.flatnonzero(index["kind"] == Kind.RAW).tolist():
            content = snapshot.content(number)
            data = pack(content)
            if len(data) < len(content):
                index["kind"][number] = Kind.DYNAMIC
            else:
                data = content
            index["offset"][number], index["size"][number] = position, len(data)
            parts.append(data)
            position += len(data)
        parts.append(bytes(aligned(position) - position))
        data = b"".join(parts)
        header = dataclasses.replace(snapshot.header, file_size=begin + len(data), data_crc32=zlib.crc32(data),
                                     index_crc32=zlib.crc32(index.tobytes()))
        original = Path(raw).read_bytes()
    before = bytearray(original[:begin])
    before[:PAGE] = header.to_bytes()
    before[header.index_offset:header.index_end] = index.tobytes()
    Path(path).write_bytes(bytes(before) + data)
    return Summary.of(header, index)


class RawEngine:
    """Raw pages as they were read, without a copy and without a check, as REAP installs them."""

    depth = 64

    def __init__(self, snapshot: Snapshot, plan: Plan, arenas: Arenas):
        if (plan.units["kind"] != Kind.RAW).any():
            raise UsageError(f"{snapshot.path} must be of mode raw")
        self._address = np.frombuffer(arenas.source, np.uint8).ctypes.data
        self._done: list[BatchResult] = []

    def submit(self, batch: Batch) -> None:
        """Begin a batch, and end it."""
        addresses = batch.work["source"].astype(np.int64) + self._address
        self._done.append(BatchResult(batch.number, batch.work["crc32"], addresses, 0.0))

    def collect(self) -> list[BatchResult]:
        """What was submitted since the last call."""
        done, self._done = self._done, []
        return done

    def descriptors(self) -> Sequence[int]:
        """None."""
        return ()

    def due(self) -> float | None:
        """At once, if there is something."""
        return 0.0 if self._done else None

    def close(self) -> None:
        """Nothing to end."""
