# SPDX-License-Identifier: Apache-2.0
"""Ways to reach a device, one class a world: :class:`Transport` is what all of them do."""

import mmap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..devices import DeviceType
from ..errors import UsageError
from ..url import number

__all__ = ["DEFAULT_MEMORY", "MEMORY_BASE", "Joined", "SharedMemory", "Transport", "Turns", "convert",
           "file_option", "parameters"]

#: First address of device memory. The same everywhere, so that transcripts agree; not 0, so that null pointers fail.
MEMORY_BASE = 0x1000_0000

#: Bytes of device memory unless the URL says ``memory=``. The operating system gives pages only as they are touched.
DEFAULT_MEMORY = 256 << 20


class Transport(Protocol):
    """Access to one device.

    In a simulation time passes in :meth:`run`, and with some accesses; behind a cable it passes by itself.
    ``memory_base`` and ``memory_size`` give the range of device memory that the host may hand out. ``memory`` is
    that range as an array of bytes where host and device share it, else ``None``.
    """

    memory_base: int
    memory_size: int
    memory: np.ndarray | None

    @property
    def cycle(self) -> int:
        """Device clock cycles since the transport was opened; behind a cable as of the last look at the device."""
        ...

    @property
    def irq(self) -> bool:
        """Level of the interrupt, in the same way."""
        ...

    def read_register(self, offset: int) -> int:
        """The 32-bit register at byte ``offset``."""
        ...

    def write_register(self, offset: int, value: int) -> None:
        """Write 32 bits to the register at byte ``offset``."""
        ...

    def write_block(self, offset: int, words: Sequence[int]) -> bool:
        """Write 32-bit ``words`` to consecutive places from byte ``offset`` on.

        Whether the last write was answered without an error; the answers of the others do not count.
        """
        ...

    def read_memory(self, address: int, size: int) -> bytes:
        """``size`` bytes of device memory."""
        ...

    def write_memory(self, address: int, content: bytes) -> None:
        """Store ``content`` in device memory, before any later access. An error may be raised by that one."""
        ...

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Let at most ``cycles`` clock cycles pass, with ``until_interrupt`` none once the interrupt is high."""
        ...

    def push(self, stream: str, packet: bytes) -> None:
        """Queue a packet into a stream of the device."""
        ...

    def pop(self, stream: str) -> bytes | None:
        """The next packet from a stream of the device, or ``None`` when there is none yet."""
        ...

    def state(self) -> str:
        """What the world knows of the device's ports, for messages; may be empty."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class Turns(Protocol):
    """Whoever gives the ranks of a program their turns."""

    @property
    def has_turn(self) -> bool:
        """Whether the calling thread is a rank's, whose turn it is."""
        ...

    def wait(self, event: Callable[[], bool], deadline: int) -> bool:
        """Give up the turn until ``event()`` is true; false if cycle ``deadline`` came before."""
        ...


class Joined(Protocol):
    """Several devices that have one time line.

    ``transports``: access to each, in order of their numbers. ``turns``: who gives ranks their turns, if anybody does;
    where an access takes device time, the rank that makes it may wait there.
    """

    transports: Sequence[Transport]
    turns: Turns | None

    @property
    def cycle(self) -> int:
        """Clock cycles that all of them have passed."""
        ...

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Let all pass at most ``cycles``, with ``until_interrupt`` none once an interrupt is high."""
        ...

    def traffic(self, source: int, destination: int) -> tuple[int, int]:
        """Packets that one of them has sent to another, and their bytes with headers."""
        ...

    def close(self) -> None:
        """Let go of all devices."""
        ...


class SharedMemory:
    """Device memory that host and device share: one array of bytes, which is zero at first.

    Without a size there is none, for devices that work on no memory. With ``file``, a descriptor of a file of at least
    ``size`` bytes, it is that file's beginning, for other processes to map as well.
    """

    def __init__(self, size: int | None, file: int | None = None):
        if size is None:
            size = 0
        elif size < 1 << 16 or size % 4096:
            raise UsageError(f"option memory must be at least 64K and a multiple of 4096, not {size}")
        if file is None:
            self.array = np.zeros(size, np.uint8)
        else:
            try:
                self.array = np.frombuffer(mmap.mmap(file, size), np.uint8)
            except (OSError, ValueError) as error:
                raise UsageError(f"option memory_file must be a descriptor of a file of {size} bytes: "
                                 f"{error}") from None

    def part(self, address: int, size: int) -> np.ndarray:
        """The ``size`` bytes at ``address``."""
        start = address - MEMORY_BASE
        if start < 0 or start + size > self.array.size:
            raise UsageError(f"there is no device memory at {address:#x} to {address + size:#x}")
        return self.array[start:start + size]


def file_option(kind: DeviceType) -> dict[str, Callable[[str, Any], Any]]:
    """Kind of the option ``memory_file``, a descriptor, which a device takes that is alone in its world."""
    return {"memory_file": number} if kind.has_memory else {}


def convert(world: str, options: Mapping[str, Any], kinds: Mapping[str, Callable[[str, Any], Any]]) -> dict[str, Any]:
    """``options`` with each value converted as ``kinds`` says. Raises UsageError for one that ``world`` has not."""
    for name in options:
        if name not in kinds:
            raise UsageError(f"unknown option {name!r} of {world}: there are {', '.join(kinds)}")
    return {name: kinds[name](name, value) for name, value in options.items()}


def parameters(kind: DeviceType) -> dict[str, Callable[[str, Any], Any]]:
    """Kinds of the options that a simulated device takes in every world."""
    return {**dict.fromkeys(kind.parameters, number), **({"memory": number} if kind.has_memory else {})}
