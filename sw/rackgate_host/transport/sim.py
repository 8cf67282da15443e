# SPDX-License-Identifier: Apache-2.0
"""The ``sim:`` world: the gateware itself, verilated, in this process.

Options of its URLs beside the device's parameters:

==================  ================================================================================
``memory``          bytes of device memory (K, M, G allowed)
``seed``            seed of all random behaviour
``latency``         cycles from a read's address to its first data
``write_latency``   cycles from a write's last data to its answer
``jitter``          up to so many cycles more, drawn for each burst
``outstanding``     bursts accepted and not answered, a direction
``bytes_per_cycle`` bandwidth of each direction; 0 for what the bus carries
``reorder``         1: answer bursts of different ids in any order
``interleave``      1: mix the data of reads with different ids
``stall``           probability that a memory channel pauses in a cycle
``waves``           path of an FST file to write
``variant``         ``fast``, ``brief``, ``debug`` or ``coverage``; ``waves`` makes it ``debug``
==================  ================================================================================

A device without memory has only ``seed``, ``stall`` (of its packet streams), ``waves`` and ``variant``.

A keyword ``progress`` of :func:`rackgate_host.open` is called with a line of text at each long step of a build.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from ..devices import DeviceType
from ..errors import DeviceFault, DeviceTimeout, Unavailable, UsageError
from ..url import flag, fraction, number
from . import DEFAULT_MEMORY, MEMORY_BASE, SharedMemory, convert, parameters

__all__ = ["SimTransport", "connect"]

_MEMORY_OPTIONS: dict[str, Callable[[str, Any], Any]] = {
    "latency": number, "write_latency": number, "jitter": number, "outstanding": number, "bytes_per_cycle": fraction,
    "reorder": flag, "interleave": flag, "stall": fraction,
}


def _as_given(option: str, value: Any) -> Any:
    return value


def connect(kind: DeviceType, options: dict[str, Any]) -> "SimTransport":
    """The simulation of a ``kind`` of device, which is built if the cache does not have it."""
    try:
        from rackgate_sim.devices import component
        from rackgate_sim.native import Simulation, ToolError, build
    except ModuleNotFoundError as error:
        raise Unavailable(f"sim: devices need the package {error.name}: pip install 'rackgate[cosim]'; "
                          "`rackgate doctor` lists what is missing") from None
    world = f"sim:{kind.name}"
    port_options = _MEMORY_OPTIONS if kind.has_memory else {"stall": fraction}
    kinds = {**parameters(kind), **port_options, "seed": number, "waves": _as_given, "variant": _as_given,
             "progress": _as_given}
    wanted = convert(world, options, kinds)
    behaviour = {name: wanted.pop(name) for name in port_options if name in wanted}
    seed, waves, progress = wanted.pop("seed", 0), wanted.pop("waves", None), wanted.pop("progress", None)
    variant = wanted.pop("variant", "debug" if waves else "fast")
    if waves and variant != "debug":
        raise UsageError(f"{world}: waves need variant=debug, not {variant}")
    memory = SharedMemory(wanted.pop("memory", DEFAULT_MEMORY) if kind.has_memory else None)
    try:
        device = component(kind.name, **wanted)
        library = build(device, name=kind.name, variant=variant, key=sorted(wanted.items()), progress=progress)
        simulation = Simulation(library, seed=seed)
        count = wanted.get("ports", 1) if kind.has_memory else 0
        for name in (f"mem__{number}" for number in range(count)) if count > 1 else ("mem",) * count:
            port = simulation.memory(name)
            port.attach(memory.array, MEMORY_BASE)
            port.configure(**behaviour)
        for name in () if kind.has_memory else ("net_rx", "net_tx"):
            simulation.stream(name).stall(behaviour.get("stall", 0))
    except ValueError as error:
        raise UsageError(f"{world}: {error}") from None
    except ToolError as error:
        raise Unavailable(f"{world}: {error}") from None
    if waves:
        simulation.trace(waves)
    return SimTransport(simulation, memory)


class SimTransport:
    """Access to a native simulation. Register accesses take device cycles, memory accesses none.

    Attributes
    ----------
    simulation:
        The :class:`rackgate_sim.native.Simulation`, for what a driver must not know of: its memory's behaviour, errors
        to inject, waves.
    """

    def __init__(self, simulation: Any, memory: SharedMemory):
        from rackgate_sim.native import Event, RegisterError, SimulationTimeout

        self.simulation = simulation
        self._shared = memory
        self._irq = Event.IRQ
        self._refused, self._late = RegisterError, SimulationTimeout
        self.memory: np.ndarray | None = memory.array
        self.memory_base = MEMORY_BASE
        self.memory_size = memory.array.size

    @property
    def cycle(self) -> int:
        """Clock cycles since the end of the device's reset."""
        return self.simulation.cycle

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return self.simulation.irq

    def read_register(self, offset: int) -> int:
        """The 32-bit register at byte ``offset``."""
        return self._access(self.simulation.read_register, offset)

    def write_register(self, offset: int, value: int) -> None:
        """Write 32 bits to the register at byte ``offset``."""
        self._access(self.simulation.write_register, offset, value)

    def write_block(self, offset: int, words: Sequence[int]) -> bool:
        """Write consecutive words. Whether the last one was answered with OKAY."""
        taken = False
        for k, word in enumerate(words):
            try:
                self.simulation.write_register(offset + 4 * k, word)
                taken = True
            except self._refused:
                taken = False
            except self._late as error:
                raise DeviceTimeout(str(error)) from None
        return taken

    def _access(self, method: Callable[..., Any], *arguments: int) -> Any:
        try:
            return method(*arguments)
        except self._refused as error:
            raise DeviceFault(str(error)) from None
        except self._late as error:
            raise DeviceTimeout(str(error)) from None

    def read_memory(self, address: int, size: int) -> bytes:
        """``size`` bytes of device memory."""
        return self._shared.part(address, size).tobytes()

    def write_memory(self, address: int, content: bytes) -> None:
        """Store ``content`` in device memory."""
        self._shared.part(address, len(content))[:] = np.frombuffer(content, np.uint8)

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Let at most ``cycles`` pass. Raises what the simulation raises when a hardware assertion fails."""
        if not until_interrupt:
            self.simulation.run(cycles)
        elif not self.simulation.irq:
            self.simulation.run(cycles, self._irq)

    def push(self, stream: str, packet: bytes) -> None:
        """Queue a packet into a stream of the device."""
        self.simulation.stream(stream).push(packet)

    def pop(self, stream: str) -> bytes | None:
        """The next packet from a stream of the device, if there is one."""
        return self.simulation.stream(stream).pop()

    def state(self) -> str:
        """How the device's ports stand."""
        return self.simulation.state()

    def waves_on_failure(self, path: Path) -> AbstractContextManager[Any]:
        """A context in which an exception leaves waves of the cycles before it at ``path``; needs variant=debug."""
        from rackgate_sim.native import TimeTravel

        return TimeTravel(self.simulation, path)

    def close(self) -> None:
        """Free the simulation, ending its waves."""
        self.simulation.close()
