# SPDX-License-Identifier: Apache-2.0
"""The ``model:`` world: a golden model at register level. Fast, and right; its times mean nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..devices import DeviceType
from ..errors import DeviceFault, RegisterError, Unavailable, UsageError
from ..url import number
from . import DEFAULT_MEMORY, MEMORY_BASE, SharedMemory, Turns, convert, file_option, parameters

__all__ = ["JoinedModels", "ModelTransport", "connect", "connect_many"]

#: Bytes of memory of each of several joined models, unless asked otherwise.
_JOINED_MEMORY = 64 << 20


def connect(kind: DeviceType, options: dict[str, Any]) -> "ModelTransport":
    """The model of a ``kind`` of device. Options: its parameters, ``memory`` and ``memory_file``."""
    try:
        from rackgate_sim.devices import model
        from rackgate_sim.inflate.model import FlatMemory
    except ModuleNotFoundError as error:
        raise Unavailable(f"model: devices need {error.name}: install rackgate with its simulators") from None
    world = f"model:{kind.name}"
    wanted = convert(world, options, {**parameters(kind), **file_option(kind)})
    memory = SharedMemory(wanted.pop("memory", DEFAULT_MEMORY) if kind.has_memory else None,
                          wanted.pop("memory_file", None))
    try:
        device = model(kind.name, FlatMemory(memory.array, MEMORY_BASE) if kind.has_memory else None, **wanted)
    except ValueError as error:
        raise UsageError(f"{world}: {error}") from None
    return ModelTransport(device, memory)


def connect_many(kind: DeviceType, nodes: int, options: dict[str, Any]) -> "JoinedModels":
    """Models of a ``kind`` of device that are joined. Options: its parameters, ``memory`` of each node, and

    ==================  ===========================================================================
    ``link_latency``    cycles of a link
    ``seed``            other than 0: packets of different nodes overtake each other, by this seed
    ==================  ===========================================================================
    """
    try:
        from rackgate_sim.devices import joined_models
        from rackgate_sim.inflate.model import FlatMemory
    except ModuleNotFoundError as error:
        raise Unavailable(f"model: devices need {error.name}: install rackgate with its simulators") from None
    world = f"model:{kind.name}"
    wanted = convert(world, options, {**parameters(kind), "link_latency": number, "seed": number})
    size = wanted.pop("memory", _JOINED_MEMORY)
    memories = [SharedMemory(size) for _ in range(nodes)]
    try:
        fabric = joined_models(kind.name, [FlatMemory(memory.array, MEMORY_BASE) for memory in memories], **wanted)
    except ValueError as error:
        raise UsageError(f"{world}: {error}") from None
    return JoinedModels(fabric, memories)


class JoinedModels:
    """Models on one time line, that of their fabric, which has ``cycle``, ``run`` and ``traffic``."""

    def __init__(self, fabric: Any, memories: Sequence[SharedMemory]):
        self._fabric = fabric
        self.turns: Turns | None = None  # an access to a model takes no time
        self.transports = [_JoinedTransport(fabric, node, memory)
                           for node, memory in zip(fabric.nodes, memories, strict=True)]

    @property
    def cycle(self) -> int:
        """Cycles of all models so far."""
        return self._fabric.cycle

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Let at most ``cycles`` pass."""
        self._fabric.run(cycles, until_interrupt)

    def traffic(self, source: int, destination: int) -> tuple[int, int]:
        """Packets that one node has sent to another, and their bytes with headers."""
        return self._fabric.traffic(source, destination)

    def close(self) -> None:
        """Nothing to let go of."""


class ModelTransport:
    """Access to a register-level model, which has ``read_register``, ``write_register``, ``run`` and ``irq``."""

    def __init__(self, model: Any, memory: SharedMemory):
        self._model = model
        self._shared = memory
        self._cycle = 0  # the model's own counter starts again when it is reset
        self.memory: np.ndarray | None = memory.array
        self.memory_base = MEMORY_BASE
        self.memory_size = memory.array.size

    @property
    def cycle(self) -> int:
        """Cycles of the model so far."""
        return self._cycle

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return self._model.irq

    def read_register(self, offset: int) -> int:
        """The 32-bit register at byte ``offset``. Raises :class:`DeviceFault` if the model refuses it."""
        value = self._model.read_register(offset)
        if value is None:
            raise DeviceFault(f"read of register {offset:#x}: the device refused it")
        return value

    def write_register(self, offset: int, value: int) -> None:
        """Write 32 bits to the register at byte ``offset``. Raises :class:`DeviceFault` if the model refuses it."""
        if self._model.write_register(offset, value) is False:
            raise DeviceFault(f"write of register {offset:#x}: the device refused it")

    def write_block(self, offset: int, words: Sequence[int]) -> bool:
        """Write consecutive words. Whether the last one was not refused, which a model tells by returning false."""
        answers = [self._model.write_register(offset + 4 * k, word) for k, word in enumerate(words)]
        return answers[-1] is not False

    def read_memory(self, address: int, size: int) -> bytes:
        """``size`` bytes of device memory."""
        return self._shared.part(address, size).tobytes()

    def write_memory(self, address: int, content: bytes) -> None:
        """Store ``content`` in device memory."""
        self._shared.part(address, len(content))[:] = np.frombuffer(content, np.uint8)

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Let at most ``cycles`` pass."""
        self._cycle += self._model.run(cycles, until_interrupt)

    def push(self, stream: str, packet: bytes) -> None:
        """Queue a packet into a stream of the device. Raises :class:`RegisterError` if it has none of that name."""
        self._streams(stream).push(stream, packet)

    def pop(self, stream: str) -> bytes | None:
        """The next packet from a stream of the device, if there is one. Errors as with :meth:`push`."""
        return self._streams(stream).pop(stream)

    def _streams(self, stream: str) -> Any:
        if stream not in getattr(self._model, "streams", ()):
            raise RegisterError(f"the model has no stream {stream}")
        return self._model

    def state(self) -> str:
        """A model has no ports."""
        return ""

    def close(self) -> None:
        """Nothing to let go of."""


class _JoinedTransport(ModelTransport):
    """Access to one of several models: their time passes together."""

    def __init__(self, fabric: Any, model: Any, memory: SharedMemory):
        super().__init__(model, memory)
        self._fabric = fabric

    @property
    def cycle(self) -> int:
        """Cycles of all models so far."""
        return self._fabric.cycle
