# SPDX-License-Identifier: Apache-2.0
"""Gzip files read through an inflate device, as :mod:`gzip` reads them."""

import builtins
import io
import os
from typing import IO, Any

from rackgate.inflate.abi import ErrorCode, Format

from ..device import Device
from .driver import InflateDriver
from .errors import InflateError, InvalidInput
from .objects import driver_of
from .stream import Stream

__all__ = ["GzipReader", "open"]

_CHUNK = 1 << 17

#: What :mod:`gzip` calls a bad file rather than bad data.
_FRAMING = (ErrorCode.GZIP_MAGIC, ErrorCode.GZIP_METHOD, ErrorCode.CRC_MISMATCH, ErrorCode.LENGTH_MISMATCH)


class GzipReader(io.RawIOBase):
    """The uncompressed bytes of a gzip file of one or more members, with zero padding between or after them.

    Use :func:`open`, which adds a buffer. Seeking backwards starts the file again.

    Parameters
    ----------
    file:
        The compressed file, readable, and seekable if this one shall be.
    device:
        Device, driver or URL; the default device if ``None``.
    close_file:
        Whether closing this closes ``file`` too.

    Reads raise ``EOFError`` when the file ends early, :class:`~rackgate_host.inflate.InvalidInput` (a
    ``gzip.BadGzipFile``) for damaged framing and :class:`~rackgate_host.inflate.InflateError` for damaged data.
    """

    def __init__(self, file: IO[bytes], *, device: Device | InflateDriver | str | None = None,
                 close_file: bool = False):
        super().__init__()
        self._file = file
        self._driver = driver_of(device)
        self._close_file = close_file
        self._restart()

    def _restart(self) -> None:
        self._stream: Stream | None = None
        self._pending = memoryview(b"")  # compressed bytes that were read and are not used yet
        self._first = True
        self._position = 0

    @property
    def name(self) -> str:
        """Name of the compressed file, or an empty text."""
        return str(getattr(self._file, "name", ""))

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Whether the compressed file is seekable."""
        return self._file.seekable()

    def tell(self) -> int:
        """Uncompressed bytes read so far."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to an uncompressed offset by reading up to there, from the start if it lies behind."""
        if whence == io.SEEK_END:
            while self.read(_CHUNK):
                pass
        target = offset + (0 if whence == io.SEEK_SET else self._position)
        if target < 0:
            raise ValueError(f"offset must lead to 0 or more, not {target}")
        if target < self._position:
            self._release()
            self._file.seek(0)
            self._restart()
        while self._position < target and self.read(min(_CHUNK, target - self._position)):
            pass
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer`` with some of the next bytes; 0 at the end of the file."""
        room = memoryview(buffer).cast("B")
        while len(room):
            if self._stream is None and not self._next_member():
                break
            output = self._advance(len(room))
            if output:
                room[:len(output)] = output
                self._position += len(output)
                return len(output)
        return 0

    def _advance(self, limit: int) -> bytes:
        stream = self._stream
        assert stream is not None
        if not len(self._pending):
            self._pending = memoryview(self._file.read(_CHUNK))
            if not len(self._pending):
                if stream.taken < 2:  # gzip looks at the first two bytes before all else
                    raise InvalidInput(-3, "incorrect header check", error=ErrorCode.GZIP_MAGIC, position=0)
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
        try:
            output, rest = stream.advance(self._pending, limit)
        except InflateError as error:
            if error.error in _FRAMING:
                raise InvalidInput(-3, error.reason, status=error.status, error=error.error,
                                   position=error.position) from None
            raise
        self._pending = self._pending[len(self._pending) - rest:]
        if stream.ended:
            self._stream = None
        return output

    def _next_member(self) -> bool:
        """Begin the next member, or find that there is none."""
        while True:
            if not self._first:
                rest = bytes(self._pending).lstrip(b"\0")
                self._pending = memoryview(rest)
            if not len(self._pending):
                self._pending = memoryview(self._file.read(_CHUNK))
                if not len(self._pending):
                    return False
                continue
            break
        self._first = False
        self._stream = Stream(self._driver, Format.GZIP)
        return True

    def _release(self) -> None:
        if self._stream is not None:
            self._stream.release()
            self._stream = None

    def close(self) -> None:
        """Give back the context, and close the compressed file if that was asked for."""
        if not self.closed:
            self._release()
            if self._close_file:
                self._file.close()
        super().close()


def open(filename: str | os.PathLike[str] | IO[bytes], mode: str = "rb", *, encoding: str | None = None,
         errors: str | None = None, newline: str | None = None,
         device: Device | InflateDriver | str | None = None) -> io.BufferedIOBase | io.TextIOBase:
    """Open a gzip file for reading through a device: :func:`gzip.open` for the modes ``r``, ``rb`` and ``rt``.

    ``filename`` is a path or an open binary file (which stays open when the result is closed). Raises ``ValueError``
    for other modes.
    """
    if mode not in ("r", "rb", "rt"):
        raise ValueError(f"mode must be 'r', 'rb' or 'rt', not {mode!r}")
    if mode != "rt" and (encoding, errors, newline) != (None, None, None):
        raise ValueError("encoding, errors and newline need mode 'rt'")
    owned = isinstance(filename, (str, os.PathLike))
    file = builtins.open(filename, "rb") if owned else filename
    try:
        reader = io.BufferedReader(GzipReader(file, device=device, close_file=owned), 1 << 16)
    except BaseException:
        if owned:
            file.close()
        raise
    return io.TextIOWrapper(reader, encoding, errors, newline) if mode == "rt" else reader
