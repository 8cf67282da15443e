# SPDX-License-Identifier: Apache-2.0
"""Reading a snapshot file past the page cache, and making sure that it is cold."""

import contextlib
import ctypes
import errno
import mmap
import os
import time

from .errors import SabreError
from .throttle import Throttle
from .userfault import PAGE

__all__ = ["BLOCK", "Storage", "drop_cache", "resident_fraction"]

BLOCK = 4096
"""Offsets and sizes of direct reads are multiples of this many bytes."""

_library = ctypes.CDLL(None, use_errno=True)
_library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_library.mmap.restype = ctypes.c_void_p
_library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def resident_fraction(descriptor: int) -> float:
    """The part of the file that is in the page cache, 0 to 1, by mincore(2); 0 of an empty file."""
    size = os.fstat(descriptor).st_size
    if not size:
        return 0.0
    address = _library.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        flags = (ctypes.c_ubyte * -(-size // PAGE))()
        if _library.mincore(address, size, flags):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return bytes(flags).translate(bytes(value & 1 for value in range(256))).count(1) / len(flags)
    finally:
        _library.munmap(address, size)


def drop_cache(descriptor: int) -> float:
    """Take the file out of the page cache; the fraction that is still there (0.0 where it worked).

    What is mapped or under writing stays, and file systems that are memory themselves keep all.
    """
    os.fdatasync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return resident_fraction(descriptor)


class Storage:
    """A file opened for reading: directly (O_DIRECT) where the file system can and ``direct`` is true.

    Every read goes through ``throttle``. Buffers must begin at a multiple of :data:`BLOCK` in memory, as mappings do,
    and so must offsets and sizes; the last block of the file may come short. ``busy`` is the time spent in reads with
    the throttle's waits, ``bytes_read`` what they gave.
    """

    def __init__(self, path: str | os.PathLike[str], throttle: Throttle | None = None, direct: bool = True):
        self.path = os.fspath(path)
        self.throttle = throttle or Throttle()
        self.busy = 0.0
        self.bytes_read = 0
        self.direct = False
        self._descriptor = -1
        if direct:
            with contextlib.suppress(OSError):  # EINVAL: not on this file system
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
                self.direct = True
        if not self.direct:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, offset: int, target: memoryview, needed: int) -> None:
        """Fill ``target`` from ``offset``; at least ``needed`` bytes must come.

        Raises :class:`~rackgate_host.sabre.errors.SabreError` if the file ends before that, or the read fails.
        """
        start = time.monotonic()
        ready = self.throttle.reserve(len(target))
        done = 0
        while done < needed:
            try:
                count = os.preadv(self._descriptor, [target[done:]], offset + done)
            except OSError as error:
                if error.errno == errno.EINVAL and self.direct:
                    self._give_up_direct()
                    continue
                raise SabreError(f"{self.path}: cannot read {len(target)} bytes at {offset}: {error.strerror}") \
                    from error
            if not count:
                raise SabreError(f"{self.path}: the file ends at {offset + done}, {needed - done} bytes short")
            done += count
            if done % BLOCK and done < needed and self.direct:
                self._give_up_direct()  # the rest would not be aligned
        self.throttle.wait(ready)
        self.busy += time.monotonic() - start
        self.bytes_read += done

    def _give_up_direct(self) -> None:
        """Some file systems open with O_DIRECT and then refuse to read."""
        buffered = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(buffered, self._descriptor, inheritable=False)
        os.close(buffered)
        self.direct = False
