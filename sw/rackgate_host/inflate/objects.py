# SPDX-License-Identifier: Apache-2.0
"""zlib's names and argument meanings, carried out by an inflate device."""

import contextlib
import os
from collections.abc import Iterator

from rackgate.inflate.abi import Format, Status

from ..device import Device, open_device
from .driver import InflateDriver
from .errors import InflateError
from .stream import Stream

__all__ = ["DEF_BUF_SIZE", "MAX_WBITS", "Buffers", "Decompress", "decompress", "decompressobj", "default_device",
           "driver_of", "set_default_device"]

MAX_WBITS = 15
DEF_BUF_SIZE = 16384

Buffers = bytes | bytearray | memoryview

#: URL of the process-wide device where RACKGATE_DEVICE is not set.
_DEFAULT_URL = "sim:inflate"

_default: list[Device] = []


def default_device() -> Device:
    """The device of calls that name none: the one set, else that at RACKGATE_DEVICE, else ``sim:inflate``.

    Opened at the first call, for the rest of the process.
    """
    if not _default or _default[0].closed:
        _default[:] = [open_device(os.environ.get("RACKGATE_DEVICE", _DEFAULT_URL))]
    return _default[0]


def set_default_device(device: Device | str | None) -> None:
    """Make ``device`` (or the one at that URL) the one of calls that name none; ``None`` goes back to the start."""
    _default[:] = [] if device is None else [open_device(device) if isinstance(device, str) else device]


def driver_of(device: Device | InflateDriver | str | None) -> InflateDriver:
    """The driver behind ``device=``: a device, a driver, a URL (opened, and kept open by what uses it), or ``None``."""
    if isinstance(device, InflateDriver):
        return device
    if device is None:
        device = default_device()
    elif isinstance(device, str):
        device = open_device(device)
    elif not isinstance(device, Device):
        raise TypeError(f"device must be a Device, an InflateDriver, a URL or None, not {type(device).__name__}")
    return InflateDriver.of(device)


class _Framing:
    """What ``wbits`` stands for. ``format`` is ``None`` where the first bytes decide; ``window`` 0 means that the
    stream's header does. Raises ``ValueError`` for values that zlib refuses."""

    def __init__(self, wbits: int):
        size = wbits & 15 if wbits >= 0 else -wbits
        if wbits > 47 or (size != 0 and not 8 <= size <= 15) or (wbits < 0 and size == 0):
            raise ValueError("Invalid initialization option")
        self.window = size
        self.format: Format | None
        if wbits < 0:
            self.format = Format.RAW
        elif wbits < 16:
            self.format = Format.ZLIB
        else:
            self.format = Format.GZIP if wbits < 32 else None

    @property
    def needed(self) -> int:
        """Bytes to look at before the first job."""
        return 2 if self.format is None or (self.format == Format.ZLIB and 0 < self.window < 15) else 0

    def decide(self, head: bytes) -> Format:
        """The format of a stream that begins with ``head``, which has :attr:`needed` bytes."""
        if self.format is None:
            self.format = Format.GZIP if head == b"\x1f\x8b" else Format.ZLIB
        if self.format == Format.ZLIB and 0 < self.window < 15:
            good = int.from_bytes(head, "big") % 31 == 0 and head[0] & 15 == 8
            if good and (head[0] >> 4) + 8 > self.window:
                raise InflateError(-3, "invalid window size", position=0)
        return self.format


def _view(data: Buffers) -> memoryview:
    """``data`` as bytes. Raises TypeError or BufferError as zlib does."""
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not {type(data).__name__!r}") from None
    if not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    return view.cast("B") if view.nbytes else memoryview(b"")


def decompress(data: Buffers, /, wbits: int = MAX_WBITS, bufsize: int = DEF_BUF_SIZE, *,
               device: Device | InflateDriver | str | None = None, timeout: float | None = None) -> bytes:
    """Decompress ``data`` at once: :func:`zlib.decompress` on a device.

    ``wbits`` is zlib's: 8 to 15 (or 0) zlib framing, -8 to -15 raw Deflate, 16 more gzip, 32 more either of both.
    Bytes after the end of the stream are ignored. ``bufsize`` is accepted and makes no difference.
    ``timeout`` is in seconds for each job.

    Raises
    ------
    InflateError
        The data is wrong or incomplete.
    DeviceTimeout
        The device gave no answer in time.
    """
    view = _view(data)
    if bufsize < 0:
        raise ValueError("bufsize must be non-negative")
    try:
        framing = _Framing(wbits)
    except ValueError:
        raise InflateError(-2, "inconsistent stream state", doing="while preparing to decompress data") from None
    if len(view) < max(1, framing.needed):
        raise InflateError.truncated(8 * len(view))
    format = framing.decide(bytes(view[:framing.needed]))
    return Stream(driver_of(device), format, timeout=timeout).advance(view, last=True)[0]


def decompressobj(wbits: int = MAX_WBITS, zdict: Buffers | None = None, *,
                  device: Device | InflateDriver | str | None = None, timeout: float | None = None) -> "Decompress":
    """An object for a stream that comes in pieces: :func:`zlib.decompressobj` on a device. See :func:`decompress`."""
    return Decompress(wbits, zdict, device=device, timeout=timeout)


class Decompress:
    """A stream that comes in pieces. Made by :func:`decompressobj`.

    Any number may be alive. One with work under way holds one of the device's contexts; when there are more of them
    than contexts, the one not used for longest loses its context and repeats its input when it goes on
    (:class:`~rackgate_host.inflate.stream.Stream` says what that costs).

    Attributes
    ----------
    unused_data:
        Bytes after the end of the stream.
    unconsumed_tail:
        Bytes of the last call that were not needed because of ``max_length``. Offer them again, first.
    eof:
        Whether the end of the stream was reached.
    """

    def __init__(self, wbits: int = MAX_WBITS, zdict: Buffers | None = None, *,
                 device: Device | InflateDriver | str | None = None, timeout: float | None = None):
        self._framing = _Framing(wbits)
        try:
            self._dictionary = None if zdict is None else bytes(memoryview(zdict))
        except TypeError:
            raise TypeError("zdict argument must support the buffer protocol") from None
        self._driver = driver_of(device)
        self._timeout = timeout
        self._head = b""  # input before there is enough to know the format
        self._stream: Stream | None = None
        self._error: InflateError | None = None
        self._flushed_end = False
        self.unused_data = b""
        self.unconsumed_tail = b""
        self.eof = False

    def decompress(self, data: Buffers, /, max_length: int = 0) -> bytes:
        """Decompress ``data`` and return what comes out, at most ``max_length`` bytes unless that is 0.

        Raises
        ------
        InflateError
            The data is wrong; output of this call is lost, and further calls fail in the same way.
        """
        if max_length < 0:
            raise ValueError("max_length must be non-negative")
        view = _view(data)
        if self._flushed_end:
            raise InflateError(-2, "inconsistent stream state")
        if self._error is not None:
            raise self._error
        if self.eof:
            self.unused_data += view
            return b""
        with self._noting_errors():
            return self._advance(view, max_length or None)
        raise AssertionError("an error is never swallowed")

    def flush(self, length: int = DEF_BUF_SIZE, /) -> bytes:
        """Decompress :attr:`unconsumed_tail` without limit and return the rest of the output there is.

        As in zlib, neither wrong data nor an early end raises here: look at :attr:`eof`.
        """
        if length <= 0:
            raise ValueError("length must be greater than zero")
        output = b""
        if not self.eof and self._error is None:
            with contextlib.suppress(InflateError), self._noting_errors():
                output = self._advance(memoryview(self.unconsumed_tail), None)
        self._flushed_end = self.eof
        return output

    def copy(self) -> "Decompress":
        """An independent object at the same point. It repeats the input so far on the device when it is used.

        Raises ``ValueError`` after more than 16 MiB of input, or after the stream failed.
        """
        if self._error is not None or self._flushed_end:
            raise ValueError("Inconsistent stream state")
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._framing = object.__new__(_Framing)
        twin._framing.__dict__.update(self._framing.__dict__)
        twin._stream = self._stream and self._stream.copy()
        return twin

    __copy__ = copy

    def __deepcopy__(self, memo: object) -> "Decompress":
        return self.copy()

    @contextlib.contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except InflateError as error:
            self._error = error
            raise

    def _advance(self, view: memoryview, limit: int | None) -> bytes:
        if self._stream is None:
            view = memoryview(self._head + bytes(view)) if self._head else view
            if len(view) < max(1, self._framing.needed):
                self._head = bytes(view)
                return b""
            self._head = b""
            format = self._framing.decide(bytes(view[:self._framing.needed]))
            self._stream = Stream(self._driver, format, self._dictionary, self._timeout)
        output, rest = self._stream.advance(view, limit)
        tail = bytes(view[len(view) - rest:])
        self.eof = self._stream.ended
        if self.eof:
            self.unused_data, self.unconsumed_tail = tail, b""
        else:
            self.unconsumed_tail = tail
        return output

    @property
    def status(self) -> Status:
        """How far the stream is, in the device's words."""
        if self._error is not None:
            return self._error.status or Status.ANALYTICS_ERROR
        if self.eof:
            return Status.SUCCESS
        return Status.OUTPUT_OVERFLOW if self.unconsumed_tail else Status.NEED_INPUT
