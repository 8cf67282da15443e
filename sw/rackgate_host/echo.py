# SPDX-License-Identifier: Apache-2.0
"""Driver of the echo device, which copies memory: the first thing to try on a board.

>>> import rackgate_host
>>> from rackgate_host.echo import EchoDriver
>>> with rackgate_host.open("model:echo") as device:
...     EchoDriver(device).echo(b"a wire works!!!!")
b'a wire works!!!!'
"""

from rackgate.echo.abi import WORD_BYTES, Cause

from .device import Device
from .errors import DeviceFault, UsageError
from .memory import Buffer

__all__ = ["EchoDriver"]

_LIMIT = 10_000  # cycles of a copy besides its words, with a memory that is slow


class EchoDriver:
    """Drives an echo device.

    Parameters
    ----------
    device:
        An opened echo device.
    """

    def __init__(self, device: Device):
        if device.kind.name != "echo":
            raise UsageError(f"{device.url} is no echo device")
        self.device = device
        device.driver = self
        device.regs.IRQ_ENABLE.value = int(Cause.DONE | Cause.REFUSED)
        device.regs.IRQ_STATUS.value = int(Cause.DONE | Cause.FAULT | Cause.REFUSED)

    def copy(self, source: int, destination: int, size: int, *, change: int = 0) -> None:
        """Let the device copy ``size`` bytes of its memory, each 32-bit word changed by an exclusive or.

        Addresses and size are multiples of 8.

        Raises
        ------
        UsageError
            The device refused the range.
        DeviceFault
            Its memory answered with an error.
        DeviceTimeout
            The copy did not end.
        """
        regs = self.device.regs
        for end, address in (("SOURCE", source), ("DESTINATION", destination)):
            regs[f"{end}_LO"].value, regs[f"{end}_HI"].value = address & 0xFFFFFFFF, address >> 32
        regs.SIZE.value, regs.CHANGE.value, regs.START.value = size, change, 1
        self.device.wait(cycles=_LIMIT + 100 * size, what="end of the copy")
        causes = Cause(regs.IRQ_STATUS.value)
        regs.IRQ_STATUS.value = int(causes)
        if causes & Cause.REFUSED:
            raise UsageError(f"{self.device.url} copies multiples of {WORD_BYTES} bytes at addresses of 40 bits, not "
                             f"{size} bytes from {source:#x} to {destination:#x}")
        if causes & Cause.FAULT:
            raise DeviceFault(f"{self.device.url}: the memory answered with an error to a copy of {size} bytes from "
                              f"{source:#x} to {destination:#x}")

    def echo(self, content: bytes, *, change: int = 0) -> bytes:
        """``content``, a multiple of 8 bytes, through the device's memory and back. Errors as with :meth:`copy`."""
        if not content:
            return b""
        source, destination = self._buffer(content), self._buffer(bytes(len(content)))
        try:
            self.copy(source.device_address, destination.device_address, len(content), change=change)
            destination.sync_from_device()
            return destination.tobytes()
        finally:
            source.free()
            destination.free()

    def _buffer(self, content: bytes) -> Buffer:
        buffer = self.device.allocate(len(content))
        buffer[:] = memoryview(content)
        buffer.sync_to_device()
        return buffer
