# SPDX-License-Identifier: Apache-2.0
"""Arrays as operands of calls: those in device memory as they are, others by way of a copy there."""

from typing import Any

import numpy as np

from rackgate.arith.abi import ElementType

from ..device import Device
from ..memory import Buffer

__all__ = ["ELEMENT_TYPES", "Operands", "element_type"]

#: Element types by NumPy's name.
ELEMENT_TYPES = {element.dtype: element for element in ElementType}


def element_type(dtype: np.dtype) -> ElementType:
    """The engine's type for ``dtype``. Raises TypeError if there is none."""
    if dtype.name not in ELEMENT_TYPES or not dtype.isnative:
        raise TypeError(f"elements must be {', '.join(ELEMENT_TYPES)}, not {dtype}")
    return ELEMENT_TYPES[dtype.name]


def check_array(name: str, array: Any, *, is_written: bool) -> np.ndarray:
    """``array``, if it can be an operand. Raises TypeError or ValueError."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array or a device's buffer, not {type(array).__name__}")
    element_type(array.dtype)
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous: make it so with numpy.ascontiguousarray")
    if is_written and not array.flags.writeable:
        raise ValueError(f"{name} must be writeable")
    return array


class Operands:
    """Device addresses of the arrays of one call, and what is to be copied when it ends.

    Parameters
    ----------
    device:
        Where they have to be.
    """

    def __init__(self, device: Device):
        self._device = device
        self._staged: list[Buffer] = []
        self._back: list[tuple[Buffer, np.ndarray | None]] = []  # what the device writes, and where it belongs

    def _is_here(self, array: np.ndarray) -> bool:
        return isinstance(array, Buffer) and array._place().device is self._device

    def place(self, array: np.ndarray, *, is_read: bool, is_written: bool) -> int:
        """Address of ``array``'s elements in device memory; what is there before matters only if ``is_read``.

        Buffers of the device need no copy; nor does memory that host and device share.
        """
        if self._is_here(array):
            assert isinstance(array, Buffer)
            buffer, home = array, None
            if is_read:
                buffer.sync_to_device()
        else:
            buffer, home = self.scratch(array.size, array.dtype), array
            if is_read:
                buffer[:] = array.reshape(-1)
                buffer.sync_to_device()
        if is_written and array.size:
            self._back.append((buffer, home))
        return buffer.device_address

    def scratch(self, count: int, dtype: np.dtype) -> Buffer:
        """Room for ``count`` elements in device memory, until the call has ended."""
        buffer = self._device.allocate(count, dtype)
        self._staged.append(buffer)
        return buffer

    def fetch(self, size: int | None = None) -> None:
        """Bring what the device wrote to where it belongs; only the first ``size`` bytes if given."""
        for buffer, home in self._back:
            buffer.sync_from_device()
            if home is not None:
                raw, there = buffer._bytes(), home.reshape(-1).view(np.uint8)
                there[:size] = raw[:size]

    def release(self) -> None:
        """Give the copies' memory back."""
        for buffer in self._staged:
            buffer.free()
        self._staged.clear()
        self._back.clear()
