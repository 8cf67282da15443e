# SPDX-License-Identifier: Apache-2.0
"""Decompression and CRC-32 on the processor, by the fastest library that is installed."""

import functools
import importlib
import threading
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import UsageError
from .errors import SabreError

__all__ = ["NAMES", "Decompressor", "InvalidStream", "available", "choose", "crc32"]

#: Libraries in the order in which they are taken: libdeflate, ISA-L, zlib.
NAMES = ("libdeflate", "isal", "zlib")


class InvalidStream(SabreError, ValueError):
    """Compressed bytes are no Deflate stream of the expected size."""


class Decompressor(Protocol):
    """Raw Deflate to bytes. May be used by several threads at a time."""

    name: str

    def inflate(self, data: bytes | memoryview, size: int, header: bytes = b"") -> bytes:
        """The ``size`` bytes that ``header + data`` decompress to; :class:`InvalidStream` if it is otherwise.

        ``header`` is that of a canned table; what it costs to read may be paid once.
        """
        ...


def _sized(output: bytes, size: int) -> bytes:
    if len(output) != size:
        raise InvalidStream(f"the stream holds {len(output)} bytes, not {size}")
    return output


class _Zlib:
    """zlib. A canned header is read once and the decoder's state copied for each page."""

    name = "zlib"

    def __init__(self) -> None:
        self._prepared: dict[bytes, Any] = {}
        self._lock = threading.Lock()

    def inflate(self, data: bytes | memoryview, size: int, header: bytes = b"") -> bytes:
        try:
            decoder = self._after(header) if header else zlib.decompressobj(-15)
            output = decoder.decompress(data, size + 1)
        except zlib.error as error:
            raise InvalidStream(str(error)) from None
        if len(output) > size:
            raise InvalidStream(f"the stream holds more than {size} bytes")
        if not decoder.eof:
            raise InvalidStream("the stream is cut short")
        if decoder.unused_data:
            raise InvalidStream(f"{len(decoder.unused_data)} bytes follow the stream")
        return _sized(output, size)

    def _after(self, header: bytes) -> Any:
        prepared = self._prepared.get(header)
        if prepared is None:
            with self._lock:
                prepared = zlib.decompressobj(-15)
                prepared.decompress(header)
                self._prepared[header] = prepared
        return prepared.copy()


class _Whole:
    """A library that takes a whole stream in one call."""

    def __init__(self, name: str, function: Callable[[bytes | memoryview, int], bytes],
                 error: type[Exception] | tuple[type[Exception], ...]):
        self.name = name
        self._function = function
        self._error = error

    def inflate(self, data: bytes | memoryview, size: int, header: bytes = b"") -> bytes:
        try:
            output = self._function(header + data if header else data, size)
        except self._error as error:
            raise InvalidStream(f"{self.name}: {error}") from None
        return _sized(output, size)


def _libdeflate() -> Decompressor:
    library = importlib.import_module("deflate")
    return _Whole("libdeflate", library.deflate_decompress, library.DeflateError)


def _isal() -> Decompressor:
    library = importlib.import_module("isal.isal_zlib")
    return _Whole("isal", lambda data, size: library.decompress(data, -15, size), library.error)


_MAKERS: dict[str, Callable[[], Decompressor]] = {"libdeflate": _libdeflate, "isal": _isal, "zlib": _Zlib}


@functools.cache
def _made(name: str) -> Decompressor | None:
    try:
        return _MAKERS[name]()
    except ImportError:
        return None


def available() -> tuple[str, ...]:
    """Names of the libraries that are installed, the fastest first."""
    return tuple(name for name in NAMES if _made(name) is not None)


def choose(name: str | None = None) -> Decompressor:
    """The library called ``name``, or the fastest that is installed. :class:`UsageError` if there is no such one."""
    if name is not None and name not in NAMES:
        raise UsageError(f"there is no decompressor {name}; there are {', '.join(NAMES)}")
    for candidate in (name,) if name else NAMES:
        found = _made(candidate)
        if found is not None:
            return found
    raise UsageError(f"{name} is not installed; installed are {', '.join(available())}")


@functools.cache
def _crc_function() -> Callable[[bytes | memoryview, int], int]:
    for module in ("deflate", "isal.isal_zlib"):
        try:
            return importlib.import_module(module).crc32
        except ImportError:
            continue
    return zlib.crc32


def crc32(data: bytes | memoryview, start: int = 0) -> int:
    """CRC-32 as zlib's, of ``data`` after data whose CRC is ``start``."""
    return _crc_function()(data, start)
