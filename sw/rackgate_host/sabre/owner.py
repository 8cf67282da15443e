# SPDX-License-Identifier: Apache-2.0
"""Memory whose pages a monitor is to install, in the process that owns it."""

import ctypes
import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .userfault import PAGE, Userfault

__all__ = ["OwnedMemory", "anonymous"]

_NORESERVE = 0x4000
_DONTNEED, _DONTFORK, _DOFORK = 4, 10, 11

_library = ctypes.CDLL(None, use_errno=True)
_library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def anonymous(pages: int) -> mmap.mmap:
    """A private anonymous mapping of so many pages. No memory or swap is set aside for it: what is never touched
    costs nothing, however large the mapping is."""
    if pages < 1:
        raise ValueError(f"pages must be 1 or more, not {pages}")
    return mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)


class OwnedMemory:
    """Regions of this process; ``buffers`` are writable, page-aligned, whole pages of private anonymous memory.

    Whatever the regions hold is thrown away by :meth:`register`. While they are registered a forked child does not
    get them: it would read zeros where pages are missing.
    """

    def __init__(self, buffers: Sequence[Any]):
        self.arrays: list[np.ndarray] = []
        self.regions: list[tuple[int, int]] = []
        for number, buffer in enumerate(buffers):
            view = memoryview(buffer)
            if view.readonly:
                raise ValueError(f"region {number} must be writable memory")
            array = np.frombuffer(view, np.uint8)
            address = array.ctypes.data
            if address % PAGE or array.size % PAGE or not array.size:
                raise ValueError(f"region {number} must be whole pages of {PAGE} bytes, not {array.size} bytes at "
                                 f"{address:#x}")
            self.arrays.append(array)
            self.regions.append((address, array.size // PAGE))

    @classmethod
    def allocate(cls, sizes: Sequence[int]) -> "OwnedMemory":
        """New regions of ``sizes`` pages."""
        return cls([anonymous(pages) for pages in sizes])

    def register(self, userfault: Userfault) -> None:
        """Empty the regions and have faults in them reported."""
        for address, pages in self.regions:
            self._advise(address, pages, _DONTNEED)
            self._advise(address, pages, _DONTFORK)
            userfault.register(address, pages * PAGE)

    def settle(self) -> None:
        """After the end of the registrations: forked children get the regions again."""
        for address, pages in self.regions:
            _library.madvise(address, pages * PAGE, _DOFORK)  # fails where it is unmapped by now, which is as well

    @staticmethod
    def _advise(address: int, pages: int, advice: int) -> None:
        if _library.madvise(address, pages * PAGE, advice):
            number = ctypes.get_errno()
            raise OSError(number, f"madvise of {pages} pages at {address:#x}: {os.strerror(number)}")
