# SPDX-License-Identifier: Apache-2.0
"""Queues at a simulated device's streams."""

import ctypes
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .ports import PortInfo

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["InputStream", "OutputStream", "Packet"]


class Packet(bytes):
    """A packet's bytes, with its ``error`` mark and the ``cycle`` of its last word."""

    error: bool
    cycle: int

    def __new__(cls, data: bytes, *, error: bool = False, cycle: int = 0) -> "Packet":
        packet = super().__new__(cls, data)
        packet.error, packet.cycle = error, cycle
        return packet


class _Stream:
    def __init__(self, simulation: "Simulation", index: int, info: PortInfo):
        self._simulation, self.index, self.name = simulation, index, info.name
        self.is_packet = info.streams[""].is_packet
        self.width, self.fields = info.streams[""].width, info.streams[""].fields
        self._stride = (self.width + 63) // 64 * 8

    def _stall(self, function: str, probability: float) -> None:
        if not 0 <= probability < 1:
            raise ValueError(f"probability must be at least 0 and below 1, not {probability}")
        self._simulation._call(function, self.index, probability)


class InputStream(_Stream):
    """Queue that feeds one of the device's input streams, as fast as the device takes it."""

    def push(
        self, items: bytes | bytearray | memoryview | Iterable[int | Mapping[str, int]], *, error: bool = False
    ) -> None:
        """Queue one packet, or on a stream that carries no packets a sequence of payloads.

        A payload is an integer or a mapping of its fields. A packet must not be empty; ``error`` marks it as
        damaged.
        """
        if self.is_packet:
            if not isinstance(items, bytes | bytearray | memoryview):
                raise TypeError(f"{self.name}: a packet must be bytes, not {type(items).__name__}")
            packet = bytes(items)
            if not packet:
                raise ValueError("a packet must have at least one byte")
            self._simulation._call("push", self.index, packet, len(packet), error)
            return
        payloads = [self._payload(item) for item in items]
        self._simulation._call("push_elements", self.index, b"".join(payloads), self._stride, len(payloads))

    def _payload(self, item: int | Mapping[str, int]) -> bytes:
        if isinstance(item, Mapping):
            value = 0
            for name, part in item.items():
                lsb, width = self.fields[name]
                if not 0 <= part < 1 << width:
                    raise ValueError(f"{self.name}: field {name} must fit {width} bits, not {part}")
                value |= part << lsb
        else:
            value = item
        if not 0 <= value < 1 << self.width:
            raise ValueError(f"{self.name}: a payload must fit {self.width} bits, not {value}")
        return value.to_bytes(self._stride, "little")

    @property
    def pending(self) -> int:
        """Packets or payloads that the device has not wholly taken."""
        return self._simulation._call("input_size", self.index)

    def stall(self, probability: float) -> None:
        """Pause in a cycle with this probability."""
        self._stall("stall_input", probability)


class OutputStream(_Stream):
    """Queue of what one of the device's output streams delivered."""

    @property
    def available(self) -> int:
        """Packets or payloads to pop."""
        return self._simulation._call("output_size", self.index)

    def pop(self) -> Packet | int | None:
        """Return the oldest packet or payload, or ``None`` if there is none. No time passes."""
        cycle, error = ctypes.c_uint64(), ctypes.c_int()
        size = self._simulation._call("front", self.index, ctypes.byref(cycle), ctypes.byref(error))
        if size < 0:
            return None
        raw = ctypes.create_string_buffer(size)
        self._simulation._call("pop", self.index, raw)
        if self.is_packet:
            return Packet(raw.raw, error=bool(error.value), cycle=cycle.value)
        return int.from_bytes(raw.raw, "little")

    def pop_all(self) -> list[Packet | int]:
        """Return all packets or payloads there are, oldest first."""
        return [item for _ in range(self.available) if (item := self.pop()) is not None]

    def unpack(self, payload: int) -> dict[str, int]:
        """A payload's fields by name."""
        return {name: payload >> lsb & (1 << width) - 1 for name, (lsb, width) in self.fields.items()}

    def stall(self, probability: float) -> None:
        """Be unready in a cycle with this probability."""
        self._stall("stall_output", probability)
