# SPDX-License-Identifier: Apache-2.0
"""The ``sim:`` world: the gateware itself, verilated, in this process.

Options of its URLs beside the device's parameters:

==================  ================================================================================
``memory``          bytes of device memory (K, M, G allowed)
``memory_file``     descriptor of a file whose beginning is device memory; not for devices that are joined
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

Several devices that are joined (:func:`rackgate_host.world.open_world`) have these as well:

==================  ================================================================================
``link_latency``    cycles from a word's leaving a node to its reaching another, at least 1
``cut_through``     0: the crossbar sends a packet on when it is whole, not word by word
``link_loss``       probability that a packet is lost
``link_duplicate``  that it comes twice
``link_reorder``    that it comes late, so that others overtake it
``link_corrupt``    that one of its bits is flipped
``threads``         threads that the simulation runs on; the result does not depend on it
==================  ================================================================================

Node k of them has the seed ``seed`` + k, and its waves go to a file with ``-k`` before the suffix.

A keyword ``progress`` of :func:`rackgate_host.open` is called with a line of text at each long step of a build.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..devices import DeviceType
from ..errors import DeviceFault, DeviceTimeout, Unavailable, UsageError
from ..url import flag, fraction, number
from . import DEFAULT_MEMORY, MEMORY_BASE, SharedMemory, convert, file_option, parameters

if TYPE_CHECKING:
    from .fabric import JoinedSimulations

__all__ = ["SimTransport", "connect", "connect_many"]

#: Bytes of memory of each of several joined devices, unless asked otherwise.
_JOINED_MEMORY = 64 << 20

_MEMORY_OPTIONS: dict[str, Callable[[str, Any], Any]] = {
    "latency": number, "write_latency": number, "jitter": number, "outstanding": number, "bytes_per_cycle": fraction,
    "reorder": flag, "interleave": flag, "stall": fraction,
}
_LINK_OPTIONS: dict[str, Callable[[str, Any], Any]] = {
    "link_latency": number, "link_loss": fraction, "link_duplicate": fraction, "link_reorder": fraction,
    "link_corrupt": fraction, "cut_through": flag, "threads": number,
}


def _as_given(option: str, value: Any) -> Any:
    return value


def _native() -> Any:
    """The simulator."""
    try:
        from rackgate_sim import native
    except ModuleNotFoundError as error:
        raise Unavailable(f"sim: devices need the package {error.name}: pip install 'rackgate[cosim]'; "
                          "`rackgate doctor` lists what is missing") from None
    return native


@contextmanager
def _host_errors(world: str) -> Iterator[None]:
    """Raise what the simulator refuses as this package's errors."""
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{world}: {error}") from None
    except _native().ToolError as error:
        raise Unavailable(f"{world}: {error}") from None


class _Plan(NamedTuple):
    """What the options of a URL ask for."""

    world: str
    kind: DeviceType
    parameters: Mapping[str, Any]
    variant: str
    behaviour: Mapping[str, Any]
    seed: int
    waves: str | None
    memory: int
    memory_file: int | None
    links: Mapping[str, Any]
    progress: Any

    def library(self) -> Any:
        """The device, which is built if the cache does not have it."""
        from rackgate_sim.devices import component

        device = component(self.kind.name, **self.parameters)
        return _native().build(device, name=self.kind.name, variant=self.variant, key=sorted(self.parameters.items()),
                               progress=self.progress)

    def simulation(self, library: Any, number: int = 0) -> tuple[Any, SharedMemory]:
        """One simulation with its memory."""
        simulation = _native().Simulation(library, seed=self.seed + number)
        memory = SharedMemory(self.memory if self.kind.has_memory else None, self.memory_file)
        for name in (port.name for port in library.ports if port.kind == "memory"):
            port = simulation.memory(name)
            port.attach(memory.array, MEMORY_BASE)
            port.configure(**self.behaviour)
        for name in () if self.kind.has_memory else ("net_rx", "net_tx"):
            simulation.stream(name).stall(self.behaviour.get("stall", 0))
        return simulation, memory


def _plan(kind: DeviceType, options: dict[str, Any], links: Mapping[str, Callable[[str, Any], Any]],
          memory: int) -> _Plan:
    _native()
    world = f"sim:{kind.name}"
    ports = _MEMORY_OPTIONS if kind.has_memory else {"stall": fraction}
    files = {} if links else file_option(kind)  # joined devices have a memory each
    kinds = {**parameters(kind), **ports, **links, **files, "seed": number, "waves": _as_given, "variant": _as_given,
             "progress": _as_given}
    wanted = convert(world, options, kinds)
    behaviour, link_options = ({name: wanted.pop(name) for name in names if name in wanted} for names in (ports, links))
    waves = wanted.pop("waves", None)
    variant = wanted.pop("variant", "debug" if waves else "fast")
    if waves and variant != "debug":
        raise UsageError(f"{world}: waves need variant=debug, not {variant}")
    seed, progress, memory = wanted.pop("seed", 0), wanted.pop("progress", None), wanted.pop("memory", memory)
    file = wanted.pop("memory_file", None)
    return _Plan(world, kind, wanted, variant, behaviour, seed, waves, memory, file, link_options, progress)


def connect(kind: DeviceType, options: dict[str, Any]) -> "SimTransport":
    """The simulation of a ``kind`` of device, which is built if the cache does not have it."""
    plan = _plan(kind, options, {}, DEFAULT_MEMORY)
    with _host_errors(plan.world):
        simulation, memory = plan.simulation(plan.library())
    if plan.waves:
        simulation.trace(plan.waves)
    return SimTransport(simulation, memory)


def connect_many(kind: DeviceType, nodes: int, options: dict[str, Any]) -> "JoinedSimulations":
    """Simulations of ``nodes`` devices of a ``kind`` whose streams ``net_tx`` and ``net_rx`` a crossbar joins."""
    from .fabric import JoinedSimulations

    plan = _plan(kind, options, _LINK_OPTIONS, _JOINED_MEMORY)
    links = {name.removeprefix("link_"): value for name, value in plan.links.items()}
    with _host_errors(plan.world):
        from rackgate_sim.devices import route

        library = plan.library()
        simulations, memories = zip(*(plan.simulation(library, node) for node in range(nodes)), strict=True)
        way = route(kind.name, **plan.parameters)
        fabric = _native().Fabric(simulations, route=way, seed=plan.seed, **{"latency": 1, **links})
    if plan.waves:
        path = Path(plan.waves)
        for number, simulation in enumerate(simulations):
            simulation.trace(path.with_stem(f"{path.stem}-{number}"))
    return JoinedSimulations(fabric, memories)


class SimTransport:
    """Access to a native simulation. Register accesses take device cycles, memory accesses none.

    Attributes
    ----------
    simulation:
        The :class:`rackgate_sim.native.Simulation`, for what a driver must not know of: its memory's behaviour, errors
        to inject, waves.
    """

    def __init__(self, simulation: Any, memory: SharedMemory):
        native = _native()
        self.simulation = simulation
        self._shared = memory
        self._irq = native.Event.IRQ
        self._refused, self._late = native.RegisterError, native.SimulationTimeout
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
                self.write_register(offset + 4 * k, word)
                taken = True
            except DeviceFault:
                taken = False
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
        return _native().TimeTravel(self.simulation, path)

    def close(self) -> None:
        """Free the simulation, ending its waves."""
        self.simulation.close()
