# SPDX-License-Identifier: Apache-2.0
"""Device memory: who owns which part of it, and NumPy arrays that lie in it."""

import operator
import weakref
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import BadBuffer, OutOfDeviceMemory

if TYPE_CHECKING:
    from .device import Device

__all__ = ["ALIGNMENT", "Allocator", "Buffer"]

#: Alignment of a buffer unless asked otherwise: a descriptor, and a cache line of most hosts.
ALIGNMENT = 64


class Allocator:
    """First fit over one range of addresses, with neighbouring holes joined.

    The same calls give the same addresses, so transcripts of two backends agree.

    Parameters
    ----------
    base:
        First address.
    size:
        Bytes in the range; 0 for a device without memory.
    """

    def __init__(self, base: int, size: int):
        self.base = operator.index(base)
        self.size = operator.index(size)
        if self.base < 0:
            raise ValueError(f"base must not be negative, not {base}")
        if self.size < 0:
            raise ValueError(f"size must not be negative, not {size}")
        # (address, size), sorted, never adjacent
        self._holes: list[tuple[int, int]] = [(self.base, self.size)] if self.size else []
        self._taken: dict[int, int] = {}

    @property
    def free_bytes(self) -> int:
        """Bytes that nobody owns, in pieces of any size."""
        return sum(size for _, size in self._holes)

    @property
    def largest_hole(self) -> int:
        """Bytes of the largest piece that nobody owns."""
        return max((size for _, size in self._holes), default=0)

    def allocate(self, size: int, alignment: int = ALIGNMENT) -> int:
        """Take ``size`` bytes and return their address, a multiple of ``alignment`` (a power of two).

        Raises :class:`OutOfDeviceMemory`, which says how much was left.
        """
        size, alignment = operator.index(size), operator.index(alignment)
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        if alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"alignment must be a power of two, not {alignment}")
        for at, (start, room) in enumerate(self._holes):
            address = -(-start // alignment) * alignment
            end, hole_end = address + size, start + room
            if end <= hole_end:
                rest = [(start, address - start), (end, hole_end - end)]
                self._holes[at:at + 1] = [hole for hole in rest if hole[1]]
                self._taken[address] = size
                return address
        raise OutOfDeviceMemory(
            f"{size} bytes of device memory were asked for: {self.free_bytes} of {self.size} are left, the largest "
            f"piece has {self.largest_hole}; free a buffer, or open the device with memory=<bytes>")

    def free(self, address: int) -> None:
        """Give back what :meth:`allocate` returned. Raises :class:`BadBuffer` for any other address."""
        size = self._taken.pop(address, None)
        if size is None:
            raise BadBuffer(f"address {address:#x} is not that of an allocation (freed twice?)")
        at = bisect_left(self._holes, (address, 0))
        start, end = address, address + size
        first = last = at
        if at and sum(self._holes[at - 1]) == start:
            first, start = at - 1, self._holes[at - 1][0]
        if at < len(self._holes) and self._holes[at][0] == end:
            last, end = at + 1, sum(self._holes[at])
        self._holes[first:last] = [(start, end - start)]


class _Allocation:
    """What a buffer and all its views share. Freed by hand, or when the last of them is gone."""

    def __init__(self, device: "Device", address: int, size: int, pointer: int):
        self.device = device
        self.address = address
        self.size = size
        self.pointer = pointer  # host address of the first byte
        self._finalizer = weakref.finalize(self, device.allocator.free, address)
        self._finalizer.atexit = False

    @property
    def alive(self) -> bool:
        return self._finalizer.alive

    def free(self) -> None:
        if not self.alive:
            raise BadBuffer(f"the buffer at {self.address:#x} was freed already")
        self._finalizer()


class Buffer(np.ndarray):
    """A NumPy array in device memory. Made by :meth:`Device.allocate`, not by its constructor.

    Slices and views are Buffers with their own :attr:`device_address`; results of arithmetic and copies are not
    in device memory. ``with device.allocate(...) as buffer`` frees it at the end, as :meth:`free` does;
    otherwise it is freed when the last view of it is gone. Contents after allocation are not defined.

    Call :meth:`sync_to_device` after writing what the device will read and :meth:`sync_from_device` before
    reading what it wrote. Where host and device share the memory neither copies anything, but a transcript
    records them.
    """

    _allocation: _Allocation | None

    if TYPE_CHECKING:
        def __getitem__(self, key: Any) -> Any: ...

    @classmethod
    def _make(cls, device: "Device", address: int, shape: tuple[int, ...], dtype: np.dtype) -> "Buffer":
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        memory = device.transport.memory
        if memory is None:
            raw = memoryview(bytearray(size))
        else:
            start = address - device.transport.memory_base
            # A memoryview as base: NumPy would shorten a chain of arrays past the Buffer, which must stay alive.
            raw = memory.data[start:start + size]
        buffer = super().__new__(cls, shape, dtype, raw)
        buffer._allocation = _Allocation(device, address, max(size, 1), buffer.__array_interface__["data"][0])
        return buffer

    def __array_finalize__(self, obj: Any) -> None:
        self._allocation = getattr(obj, "_allocation", None)

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:
            return array
        return array[()] if return_scalar else array.view(np.ndarray)

    def _place(self) -> _Allocation:
        allocation = self._allocation
        offset = -1 if allocation is None else self.__array_interface__["data"][0] - allocation.pointer
        if allocation is None or not 0 <= offset <= allocation.size or offset + self.nbytes > allocation.size:
            raise BadBuffer("this array is a copy in host memory: only buffers from Device.allocate and their views "
                            "have a device address")
        if not allocation.alive:
            raise BadBuffer(f"the buffer at {allocation.address:#x} is used after it was freed")
        return allocation

    @property
    def device_address(self) -> int:
        """Address of the first byte as the device sees it. Raises :class:`BadBuffer` after the buffer was freed."""
        allocation = self._place()
        return allocation.address + self.__array_interface__["data"][0] - allocation.pointer

    @property
    def coherent(self) -> bool:
        """Whether host and device see the same bytes without :meth:`sync_to_device` and :meth:`sync_from_device`."""
        return self._place().device.transport.memory is not None

    def _bytes(self) -> np.ndarray:
        if not self.flags.c_contiguous:
            raise BadBuffer("only C-contiguous buffers can be synchronised: take the whole buffer, or rows of it")
        return self.view(np.ndarray).reshape(-1).view(np.uint8)

    def sync_to_device(self) -> None:
        """Make the device see what the host wrote."""
        allocation = self._place()
        allocation.device.push_memory(self.device_address, self._bytes())

    def sync_from_device(self, *, volatile: Sequence[tuple[int, int]] = ()) -> None:
        """Make the host see what the device wrote.

        ``volatile`` gives byte ranges (first, one past the last) that may differ from run to run, such as time
        stamps: a transcript leaves them out of its comparison.
        """
        allocation = self._place()
        allocation.device.pull_memory(self.device_address, self._bytes(), volatile=volatile)

    def free(self) -> None:
        """Give the memory back. The array and its views must not be used any more."""
        allocation = self._allocation
        if allocation is None:
            raise BadBuffer("this array is not in device memory")
        allocation.free()

    def __enter__(self) -> "Buffer":
        return self

    def __exit__(self, *error: object) -> None:
        if self._allocation is not None and self._allocation.alive:
            self.free()
