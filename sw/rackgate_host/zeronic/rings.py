# SPDX-License-Identifier: Apache-2.0
"""The NIC's rings in memory: commands down, entries up."""

from collections.abc import Callable, Iterator

import numpy as np

from rackgate.zeronic.abi import COMMAND_ALIGNMENT
from rackgate.zeronic.messages import Command, CommandKind, Entry, EntryKind

from ..device import Device
from ..errors import DeviceFault
from ..memory import Buffer

__all__ = ["CommandRing", "EntryRing"]

_MODULUS = 1 << 32
#: Device cycles until the NIC has taken commands that it has room for.
_ROOM_CYCLES = 10_000_000


class _Apart:
    """A ring's bytes where host and device share no memory: each access is one of the device's memory."""

    def __init__(self, buffer: Buffer):
        self._buffer = buffer

    def __getitem__(self, place: slice) -> memoryview:
        part = self._buffer[place]
        part.sync_from_device()
        return part.view(np.ndarray).data

    def __setitem__(self, place: slice, content: bytes) -> None:
        part = self._buffer[place]
        part[:] = np.frombuffer(content, np.uint8)
        part.sync_to_device()


def _ring(device: Device, size: int) -> tuple[Buffer, "memoryview | _Apart"]:
    """``size`` bytes of device memory, and their content; the buffer must be kept with it."""
    if size < 1 << 12 or size > 1 << 26 or size & (size - 1):
        raise ValueError(f"a ring must have a power of two of 4 KiB to 64 MiB, not {size}")
    buffer = device.allocate(size, alignment=4096)
    return buffer, buffer.view(np.ndarray).data if buffer.coherent else _Apart(buffer)


def _set_base(device: Device, name: str, address: int, size: int) -> None:
    device.regs[f"{name}_BASE_LO"].value = address & 0xFFFF_FFFF
    device.regs[f"{name}_BASE_HI"].value = address >> 32
    device.regs[f"{name}_SIZE"].value = size.bit_length() - 1


class CommandRing:
    """Commands on their way to the NIC. They go with :meth:`notify`.

    Parameters
    ----------
    device:
        The NIC.
    size:
        Bytes of the ring; a command may have half of them.
    meanwhile:
        Called while room is waited for, to take what comes up from the NIC.

    Attributes
    ----------
    bytes:
        Bytes of commands so far.
    """

    def __init__(self, device: Device, size: int, meanwhile: Callable[[], None]):
        self._device = device
        self._size = size
        self._meanwhile = meanwhile
        self._buffer, self._memory = _ring(device, size)
        _set_base(device, "COMMAND", self._buffer.device_address, size)
        self._doorbell = device.map["COMMAND_PRODUCER"].offset
        self._consumer = device.map["COMMAND_CONSUMER"].offset
        self._put = self._told = self._taken = device.read_register(self._consumer)
        self.bytes = 0

    @property
    def produced(self) -> int:
        """Bytes put so far, modulo 2**32, as :meth:`is_taken` knows them."""
        return self._put

    def put(self, content: bytes) -> None:
        """Add a command. Raises :class:`~rackgate_host.errors.DeviceTimeout` when the NIC makes no room."""
        size = len(content)
        if size > self._size // 2:
            raise ValueError(f"a command must have at most {self._size // 2} bytes, not {size}")
        at = self._put % self._size
        pad = self._size - at if at + size > self._size else 0
        self._await_room(pad + size)
        if pad:
            head = Command(CommandKind.PAD, units=pad // COMMAND_ALIGNMENT).to_bytes()
            self._memory[at:at + len(head)] = head
            at = 0
        self._memory[at:at + size] = content
        self._put = (self._put + pad + size) % _MODULUS
        self.bytes += size

    def _await_room(self, size: int) -> None:
        if self._room() >= size:
            return
        self._taken = self._device.read_register(self._consumer)
        if self._room() >= size:
            return
        self.notify()

        def is_room(device: Device) -> bool:
            self._meanwhile()
            self._taken = device.read_register(self._consumer)
            return self._room() >= size

        self._device.wait(is_room, cycles=_ROOM_CYCLES, what=f"room for {size} bytes in the ring of commands")

    def _room(self) -> int:
        return self._size - (self._put - self._taken) % _MODULUS

    def notify(self) -> None:
        """Tell the NIC what has been put."""
        if self._told != self._put:
            self._told = self._put
            self._device.write_register(self._doorbell, self._put)

    def is_taken(self, produced: int | None = None) -> bool:
        """Whether the NIC is done with all commands up to ``produced`` (as the property was), or with all."""
        end = self._put if produced is None else produced
        if (self._taken - end) % _MODULUS >= 1 << 31:
            self._taken = self._device.read_register(self._consumer)
        return (self._taken - end) % _MODULUS < 1 << 31


class EntryRing:
    """Entries on their way from the NIC.

    Parameters
    ----------
    device:
        The NIC.
    number:
        Of the ring.
    size:
        Its bytes.

    Attributes
    ----------
    bytes:
        Bytes of entries so far.
    """

    def __init__(self, device: Device, number: int, size: int):
        self._device = device
        self._size = size
        self._number = number
        self._buffer, self._memory = _ring(device, size)
        _set_base(device, f"RING{number}", self._buffer.device_address, size)
        self._producer = device.map[f"RING{number}_PRODUCER"].offset
        self._doorbell = device.map[f"RING{number}_CONSUMER"].offset
        self._at = device.read_register(self._producer)
        device.write_register(self._doorbell, self._at)
        self.bytes = 0

    def take(self) -> Iterator[tuple[Entry, bytes]]:
        """The entries that have come, with their content; the NIC may then use their room.

        Raises :class:`~rackgate_host.errors.DeviceFault` for one that makes no sense.
        """
        end = self._device.read_register(self._producer)
        if end == self._at:
            return
        while (left := (end - self._at) % _MODULUS) > 0:
            place = self._at % self._size
            entry = Entry.from_bytes(self._memory[place:place + Entry.SIZE].tobytes().ljust(Entry.SIZE, b"\0"))
            size = 8 * entry.size
            if not size or size > left or place + size > self._size:
                raise DeviceFault(f"{self._device.url}: ring {self._number} has an entry of {size} bytes at byte "
                                  f"{place}, where {left} were written")
            self._at = (self._at + size) % _MODULUS
            if entry.kind != EntryKind.PAD:
                self.bytes += size
                start = place + Entry.SIZE
                yield entry, self._memory[start:start + entry.content].tobytes()
        self._device.write_register(self._doorbell, self._at)
