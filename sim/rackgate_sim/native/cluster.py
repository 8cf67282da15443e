# SPDX-License-Identifier: Apache-2.0
"""Several simulated devices in one process, joined by links."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .binding import freed_with, load
from .crossbar import Crossbar, Route
from .errors import SimulationError
from .simulation import FAILURE, Event, Simulation, in_slices
from .streams import InputStream, OutputStream

__all__ = ["Cluster", "History", "LinkInfo", "LinkStatistics"]

# Neighbouring seeds must not share random numbers between their ports.
_SPREADING = 0x9E3779B97F4A7C15
# Cycles between two looks for ^C.
_SLICE = 1 << 18


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
    cut_through: bool
    number: int


class History(Protocol):
    """Whoever wants to look in while a cluster runs (see :mod:`.timetravel`)."""

    def pieces(self, run: Callable[[int, int], int], now: Callable[[], int], cycles: int, mask: int) -> int:
        """Call ``run(cycles, mask)`` piece by piece."""
        ...


def _faults(latency: int, spread: int | None, **faults: float) -> tuple[float, ...]:
    """The probabilities in order, checked with the times."""
    if latency < 1:
        raise ValueError(f"latency must be at least 1, not {latency}")
    if spread is not None and spread < 0:
        raise ValueError(f"spread must not be negative, not {spread}")
    for name, value in faults.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be a probability, not {value}")
    return tuple(faults.values())


class Cluster:
    """Simulations with a common time.

    A packet that leaves a device with its last word in cycle t may enter the other one from cycle t + latency on, and
    with cut-through each of its words by itself. Devices therefore run independently through windows as long as the
    smallest latency, on one thread or several, with the same result.

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
        self._finalizer = freed_with(self, self._lib.rg_cluster_free, self._handle)
        self._taken: set[tuple[int, str]] = set()  # streams that lead somewhere, by device
        self._count = 0  # links, a crossbar's ports among them
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
        cut_through: bool = False,
    ) -> LinkInfo:
        """Join an output stream of one device to an input stream of another, or of the same.

        Parameters
        ----------
        sender, output, receiver, input:
            Devices and names of their streams, both of packets or both of payloads of the same width. Packet
            streams may differ in width, without cut-through.
        latency:
            Cycles from a packet's last word to its first word on the other side, at least 1.
        loss, duplicate, reorder, corrupt:
            Probabilities, a packet: to vanish; to come twice; to come late; to have one bit flipped.
        spread:
            A reordered packet comes up to so many cycles late; by default four latencies.
        seed:
            Seed of the link's own random numbers; by default its number in the cluster.
        cut_through:
            Each word of a packet may enter the other side ``latency`` cycles after it left. A corrupted packet is
            hit in a word that is drawn as for the longest packet before it, because its length is not known yet.
        """
        source, sink = self._ends(sender, output, receiver, input)
        if source.is_packet != sink.is_packet or (not source.is_packet and source.width != sink.width):
            raise TypeError(f"{output} and {input} must carry packets, or payloads of the same width")
        if cut_through and not (source.is_packet and source.width == sink.width):
            raise TypeError(f"{output} and {input} must carry packets in words of the same width for cut-through")
        faults = _faults(latency, spread, loss=loss, duplicate=duplicate, reorder=reorder, corrupt=corrupt)
        self._take((sender, output), (receiver, input))
        seed = self._count if seed is None else seed
        number = self._link(sender, source, seed, latency, spread, faults, cut_through)
        self._lib.rg_cluster_receiver(self._handle, number, receiver.handle, sink.index)
        return LinkInfo(sender, output, receiver, input, latency, seed, cut_through, number)

    def crossbar(
        self,
        ports: Sequence[tuple[Simulation, str, str]],
        *,
        latency: int,
        route: Route,
        cut_through: bool = True,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        corrupt: float = 0.0,
        spread: int | None = None,
        seed: int | None = None,
    ) -> Crossbar:
        """Join devices so that each packet goes to the port that it names.

        A port sends its device one packet after another, without a gap if the words are there, in the order in which
        they arrive; of those that arrive at once, the one from the lowest port goes first. What waits for a port is
        kept, however much it is, and does not hold up what waits for another. A packet that names no port, or ends
        before its destination, is dropped and counted.

        Parameters
        ----------
        ports:
            Devices, and names of their output and input stream, all of packets in words of the same width. A packet
            may go to the port that it came from.
        latency:
            Cycles from a packet's last word out of the sender to its first word into the receiver, at least 1, if
            nothing is in its way. With cut-through, from each word to the same word; words in front of the one with
            which the destination is known count as if they had left with that one.
        route:
            Where a packet names its port.
        cut_through:
            Send a packet on before it is whole. Its words are never mixed with others': when one is late, the port
            waits for it.
        loss, duplicate, reorder, corrupt, spread:
            As with :meth:`connect`, on the way from a device into the crossbar, behind the choice of the port: a
            damaged packet goes where the undamaged one would have gone, a broadcast is lost for all.
        seed:
            Seed of all that is random here; by default the number of links and ports before it in the cluster.
        """
        if not ports:
            raise ValueError("a crossbar must have at least one port")
        if self.cycle:
            raise ValueError(f"a crossbar must be made at cycle 0, not {self.cycle}")
        ends = [self._ends(device, output, device, input) for device, output, input in ports]
        widths = {stream.width if stream.is_packet else 0 for pair in ends for stream in pair}
        if len(widths) != 1 or 0 in widths:
            raise TypeError("the streams of a crossbar must all carry packets in words of the same width")
        for destination in () if route.map is None else route.map.values():
            if not 0 <= destination < len(ports):
                raise ValueError(f"a port in map must be 0 to {len(ports) - 1}, not {destination}")
        faults = _faults(latency, spread, loss=loss, duplicate=duplicate, reorder=reorder, corrupt=corrupt)
        self._take(*((device, name) for device, *names in ports for name in names))
        seed = self._count if seed is None else seed
        links = [
            self._link(device, source, seed * _SPREADING + 8 * number, latency, spread, faults, cut_through)
            for number, ((device, _, _), (source, _)) in enumerate(zip(ports, ends, strict=True))
        ]
        return Crossbar(
            self._alive, self._handle, ports, links, latency=latency, route=route, cut_through=cut_through, seed=seed
        )

    def _ends(
        self, sender: Simulation, output: str, receiver: Simulation, input: str
    ) -> tuple[OutputStream, InputStream]:
        """The streams to be joined."""
        self._alive()
        for simulation in (sender, receiver):
            if simulation not in self.simulations:
                raise ValueError("a link must join simulations of this cluster")
        source, sink = sender.stream(output), receiver.stream(input)
        if not isinstance(source, OutputStream):
            raise TypeError(f"{output} must be an output of the sender")
        if not isinstance(sink, InputStream):
            raise TypeError(f"{input} must be an input of the receiver")
        return source, sink

    def _take(self, *streams: tuple[Simulation, str]) -> None:
        """Note that streams are connected; none may be so twice."""
        wanted: set[tuple[int, str]] = set()
        for simulation, name in streams:
            key = (id(simulation), name)
            if key in self._taken or key in wanted:
                raise ValueError(f"{name} of device {self.simulations.index(simulation)} is already connected")
            wanted.add(key)
        self._taken |= wanted

    def _link(
        self,
        sender: Simulation,
        source: OutputStream,
        seed: int,
        latency: int,
        spread: int | None,
        faults: tuple[float, ...],
        cut_through: bool,
    ) -> int:
        """Let a link take away what an output delivers; returns its number. It has no receiver yet."""
        number = self._lib.rg_cluster_connect(
            self._handle,
            sender.handle,
            source.index,
            seed & (1 << 64) - 1,
            latency,
            4 * latency if spread is None else spread,
            *faults,
            cut_through,
        )
        self._count += 1
        return number

    def statistics(self, link: LinkInfo) -> LinkStatistics:
        """What a link did so far."""
        values = (ctypes.c_uint64 * 8)()
        self._alive().rg_cluster_link(self._handle, link.number, values)
        return LinkStatistics(*values[:5])

    @property
    def cycle(self) -> int:
        """Cycle that all devices have reached; some may be ahead within a window."""
        return self._alive().rg_cluster_cycle(self._handle)

    @property
    def horizon(self) -> int:
        """Cycle up to which any device may run by itself, with the same result: all that reaches it before is known."""
        return self._alive().rg_cluster_horizon(self._handle)

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
        events = in_slices(
            lambda step: lib.rg_cluster_run(self._handle, step, mask), cycles, devices=len(self.simulations)
        )
        if events & FAILURE:
            self._raise()
        return events

    def advance(self, simulation: Simulation, cycles: int, mask: int) -> int:
        """Run one of the simulations, the others keeping within a window of it (see :class:`.simulation.Scheduler`)."""
        lib, handle = self._alive(), simulation.handle
        events = in_slices(
            lambda step: lib.rg_cluster_advance(self._handle, handle, step, mask),
            cycles,
            devices=len(self.simulations),
        )
        if events & FAILURE:
            self._raise()
        return events

    def race(self, waits: Sequence[tuple[int, int] | None]) -> list[int | None]:
        """Let each device run until an event that somebody waits for there, and stop at it exactly.

        Other devices go on to the end of the window at most. This is how the drivers of several devices wait at the
        same time.

        Parameters
        ----------
        waits:
            For each device the cycle to wait until at most and a mask of :class:`Event`, or ``None`` if nobody waits.

        Returns
        -------
        list
            For each device the events that ended its wait, ``Event.LIMIT`` if its cycle was reached, ``None`` if it
            still waits. At least one has ended. A device that broke has the event :data:`.simulation.FAILURE`,
            awaited or not.
        """
        if len(waits) != len(self.simulations):
            raise ValueError(f"waits must be given for {len(self.simulations)} devices, not {len(waits)}")
        if not any(waits):
            raise ValueError("waits must have at least one that is not None")
        if self.history is not None:
            raise SimulationError("a race cannot be followed by time travel: its drivers are threads")
        count, never = len(waits), (1 << 64) - 1
        ends = (ctypes.c_uint64 * count)(*(never if wait is None else wait[0] for wait in waits))
        masks = (ctypes.c_uint32 * count)(*(0 if wait is None else wait[1] for wait in waits))
        found = (ctypes.c_uint32 * count)()
        while True:
            pause = self.cycle + _SLICE // count
            self._alive().rg_cluster_race(self._handle, ends, masks, found, pause)
            results: list[int | None] = [
                events if events != Event.LIMIT or wait is not None and one.cycle >= wait[0] else None
                for events, wait, one in zip(found, waits, self.simulations, strict=True)
            ]
            if any(events is not None for events in results):
                return results

    def _raise(self) -> None:
        for simulation in self.simulations:
            simulation.check()

    def log_hash(self) -> int:
        """Hash of everything that crossed any port so far: the same for the same seeds, whatever the threads."""
        return self._alive().rg_cluster_log(self._handle)
