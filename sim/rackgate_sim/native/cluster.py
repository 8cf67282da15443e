# SPDX-License-Identifier: Apache-2.0
"""Several simulated devices in one process, joined by links."""

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .binding import load
from .errors import SimulationError
from .simulation import FAILURE, Event, Simulation, in_slices
from .streams import InputStream, OutputStream

__all__ = ["Cluster", "History", "LinkInfo", "LinkStatistics"]


@dataclass(frozen=True)
class LinkStatistics:
    """Packets sent into a link, and what became of some."""

    sent: int
    lost: int
    duplicated: int
    reordered: int
    corrupted: int


@dataclass(frozen=True)
class LinkInfo:
    """One direction of a link, as connected; times in cycles."""

    sender: Simulation
    output: str
    receiver: Simulation
    input: str
    latency: int
    seed: int


class History(Protocol):
    """Whoever wants to look in while a cluster runs (see :mod:`.timetravel`)."""

    def pieces(self, run: Callable[[int, int], int], now: Callable[[], int], cycles: int, mask: int) -> int:
        """Call ``run(cycles, mask)`` piece by piece."""
        ...


class Cluster:
    """Simulations with a common time.

    A packet that leaves a device with its last word in cycle t may enter the other one from cycle t + latency on.
    Devices therefore run independently through windows as long as the smallest latency, on one thread or several,
    with the same result.

    Each simulation is still driven by its own methods: while one waits or accesses a register, the others keep
    within a window of it. Close the cluster before its simulations.

    Parameters
    ----------
    simulations:
        The devices, all at the same cycle, and none in another cluster.
    threads:
        Threads to run them on.

    Raises
    ------
    ValueError
        If there are no simulations, or they cannot share a time line.
    """

    def __init__(self, simulations: Sequence[Simulation], *, threads: int = 1):
        self.simulations = tuple(simulations)
        if not self.simulations:
            raise ValueError("a cluster must have at least one simulation")
        if len(set(map(id, self.simulations))) != len(self.simulations):
            raise ValueError("a simulation must not be in a cluster twice")
        if any(s.scheduler is not None for s in self.simulations):
            raise ValueError("a simulation must not be in two clusters")
        if len({s.cycle for s in self.simulations}) != 1 or self.simulations[0].cycle:
            raise ValueError("simulations must be at cycle 0 when they join a cluster")
        if len({s.library.harness for s in self.simulations}) != 1:
            raise ValueError("all libraries of a cluster must be built by the same version of the harness")
        self._lib = load(self.simulations[0].library.path)
        self._handle = self._lib.rg_cluster_new()
        self._finalizer = weakref.finalize(self, self._lib.rg_cluster_free, self._handle)
        self._links: list[LinkInfo] = []
        self.threads = threads
        self.history: History | None = None
        for simulation in self.simulations:
            self._lib.rg_cluster_add(self._handle, simulation.handle)
            simulation.scheduler = self

    def close(self) -> None:
        """Take the cluster apart; its simulations may then be closed."""
        if self._finalizer.alive:
            self._finalizer()
            for simulation in self.simulations:
                simulation.scheduler = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def threads(self) -> int:
        """Threads that run the devices; the result does not depend on it."""
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"threads must be at least 1, not {count}")
        self._threads = count
        self._alive().rg_cluster_threads(self._handle, count)

    def _alive(self) -> ctypes.CDLL:
        if not self._finalizer.alive:
            raise SimulationError("the cluster is closed")
        return self._lib

    def connect(
        self,
        sender: Simulation,
        output: str,
        receiver: Simulation,
        input: str,
        *,
        latency: int,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        corrupt: float = 0.0,
        spread: int | None = None,
        seed: int | None = None,
    ) -> LinkInfo:
        """Join an output stream of one device to an input stream of another, or of the same.

        Parameters
        ----------
        sender, output, receiver, input:
            Devices and names of their streams, both of packets or both of payloads of the same width. Packet
            streams may differ in width.
        latency:
            Cycles from a packet's last word to its first word on the other side, at least 1.
        loss, duplicate, reorder, corrupt:
            Probabilities, a packet: to vanish; to come twice; to come late; to have one bit flipped.
        spread:
            A reordered packet comes up to so many cycles late; by default four latencies.
        seed:
            Seed of the link's own random numbers; by default its number in the cluster.
        """
        lib = self._alive()
        for simulation in (sender, receiver):
            if simulation not in self.simulations:
                raise ValueError("a link must join simulations of this cluster")
        source, sink = sender.stream(output), receiver.stream(input)
        if not isinstance(source, OutputStream):
            raise TypeError(f"{output} must be an output of the sender")
        if not isinstance(sink, InputStream):
            raise TypeError(f"{input} must be an input of the receiver")
        if source.is_packet != sink.is_packet or (not source.is_packet and source.width != sink.width):
            raise TypeError(f"{output} and {input} must carry packets, or payloads of the same width")
        if any(
            link.sender is sender and link.output == output or link.receiver is receiver and link.input == input
            for link in self._links
        ):
            raise ValueError(f"{output} or {input} is already connected")
        if latency < 1:
            raise ValueError(f"latency must be at least 1, not {latency}")
        for name, value in {
            "loss": loss,
            "duplicate": duplicate,
            "reorder": reorder,
            "corrupt": corrupt,
        }.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be a probability, not {value}")
        spread = 4 * latency if spread is None else spread
        info = LinkInfo(sender, output, receiver, input, latency, len(self._links) if seed is None else seed)
        lib.rg_cluster_connect(
            self._handle,
            sender.handle,
            source.index,
            receiver.handle,
            sink.index,
            info.seed & (1 << 64) - 1,
            latency,
            spread,
            loss,
            duplicate,
            reorder,
            corrupt,
        )
        self._links.append(info)
        return info

    def statistics(self, link: LinkInfo) -> LinkStatistics:
        """What a link did so far."""
        values = (ctypes.c_uint64 * 5)()
        self._alive().rg_cluster_link(self._handle, self._links.index(link), values)
        return LinkStatistics(*values)

    @property
    def cycle(self) -> int:
        """Cycle that all devices have reached; some may be ahead within a window."""
        return self._alive().rg_cluster_cycle(self._handle)

    def run(self, cycles: int, until: Event = Event.NONE) -> Event:
        """Let all devices run to the same cycle, ``cycles`` from the one furthest behind.

        Ends early, at the end of a window, if one of the events ``until`` has come at some device; the event
        stays set there, for its own ``run`` or ``wait`` to report. Returns the events, or :attr:`Event.LIMIT`.
        Raises what broke in a device, if anything did.
        """
        if cycles < 0:
            raise ValueError(f"cycles must not be negative, not {cycles}")
        if self.history is not None:
            return Event(self.history.pieces(self._run, lambda: self.cycle, cycles, int(until)))
        return Event(self._run(cycles, int(until)))

    def _run(self, cycles: int, mask: int) -> int:
        lib = self._alive()
        events = in_slices(lambda step: lib.rg_cluster_run(self._handle, step, mask), cycles)
        if events & FAILURE:
            self._raise()
        return events

    def advance(self, simulation: Simulation, cycles: int, mask: int) -> int:
        """Run one of the simulations, the others keeping within a window of it (see :class:`.simulation.Scheduler`)."""
        lib, handle = self._alive(), simulation.handle
        events = in_slices(lambda step: lib.rg_cluster_advance(self._handle, handle, step, mask), cycles)
        if events & FAILURE:
            self._raise()
        return events

    def _raise(self) -> None:
        for simulation in self.simulations:
            simulation.check()

    def log_hash(self) -> int:
        """Hash of everything that crossed any port so far: the same for the same seeds, whatever the threads."""
        return self._alive().rg_cluster_log(self._handle)
