# SPDX-License-Identifier: Apache-2.0
"""Ways to reach a device. One class a world; :class:`Transport` is what a :class:`~rackgate_host.device.Device` needs."""

from typing import Protocol

import numpy as np

__all__ = ["DEFAULT_MEMORY", "MEMORY_BASE", "Transport"]

#: First address of device memory. The same everywhere, so that transcripts agree; not 0, so that a null pointer is caught.
MEMORY_BASE = 0x1000_0000

#: Bytes of device memory unless the URL says ``memory=``. The operating system gives pages only as they are touched.
DEFAULT_MEMORY = 256 << 20


class Transport(Protocol):
    """Access to one device.

    ``memory_base`` and ``memory_size`` give the range of device memory that the host may hand out. ``memory`` is
    that range as an array of bytes where host and device share it, else ``None``.
    """

    memory_base: int
    memory_size: int
    memory: np.ndarray | None

    @property
    def cycle(self) -> int:
        """Device clock cycles since the transport was opened."""

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""

    def read_register(self, offset: int) -> int:
        """The 32-bit register at byte ``offset``."""

    def write_register(self, offset: int, value: int) -> None:
        """Write 32 bits to the register at byte ``offset``."""

    def read_memory(self, address: int, size: int) -> bytes:
        """``size`` bytes of device memory."""

    def write_memory(self, address: int, content: bytes) -> None:
        """Store ``content`` in device memory."""

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Let at most ``cycles`` clock cycles pass; with ``until_interrupt`` return as soon as the interrupt is high."""

    def push(self, stream: str, packet: bytes) -> None:
        """Queue a packet into a stream of the device."""

    def pop(self, stream: str) -> bytes | None:
        """The next packet from a stream of the device, or ``None`` when there is none yet."""

    def close(self) -> None:
        """Let go of the device."""
