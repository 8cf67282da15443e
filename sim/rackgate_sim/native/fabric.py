# SPDX-License-Identifier: Apache-2.0
"""Many devices of one kind, at a crossbar."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import numpy as np

from .build import Library
from .cluster import Cluster
from .crossbar import Route
from .simulation import FAILURE, Event, Simulation

__all__ = ["Fabric"]


class Fabric:
    """Nodes of a network: each reaches each through one crossbar.

    Parameters
    ----------
    simulations:
        The nodes, at cycle 0. The fabric closes them with itself.
    latency, route:
        Of the crossbar (see :meth:`.cluster.Cluster.crossbar`).
    output, input:
        Names of the packet streams that lead into the network and out of it.
    threads:
        Threads to run the nodes on.
    options:
        More of :meth:`.cluster.Cluster.crossbar`: ``cut_through``, faults, ``seed``.

    Attributes
    ----------
    simulations, cluster, crossbar:
        The nodes, their common time, and what joins them.
    memories:
        The memory of each node, if :meth:`of` made it.
    """

    def __init__(
        self,
        simulations: Sequence[Simulation],
        *,
        latency: int,
        route: Route,
        output: str = "net_tx",
        input: str = "net_rx",
        threads: int = 1,
        **options: Any,
    ):
        self.cluster = Cluster(simulations, threads=threads)
        self.simulations = self.cluster.simulations
        self.memories: tuple[np.ndarray, ...] = ()
        try:
            self.crossbar = self.cluster.crossbar(
                [(one, output, input) for one in simulations], latency=latency, route=route, **options
            )
        except BaseException:
            self.cluster.close()
            raise

    @classmethod
    def of(
        cls,
        library: Library,
        nodes: int,
        *,
        memory: int = 0,
        memory_base: int = 0,
        seed: int = 0,
        prepare: Callable[[Simulation, int], None] | None = None,
        **options: Any,
    ) -> Self:
        """Make ``nodes`` nodes of one library, and join them.

        Parameters
        ----------
        library:
            The built device.
        nodes:
            How many.
        memory, memory_base:
            Bytes of memory at each node's port ``mem``, each its own and zero at first, and their first address.
        seed:
            Seed of node 0; the others count up from it.
        prepare:
            Called with each simulation and its number before they are joined.
        options:
            As for the class.
        """
        if nodes < 1:
            raise ValueError(f"nodes must be at least 1, not {nodes}")
        simulations = [Simulation(library, seed=seed + number) for number in range(nodes)]
        memories = tuple(np.zeros(memory, np.uint8) for _ in simulations if memory)
        for one, content in zip(simulations, memories, strict=False):
            one.memory().attach(content, memory_base)
        for number, one in enumerate(simulations):
            if prepare is not None:
                prepare(one, number)
        fabric = cls(simulations, **options)
        fabric.memories = memories
        return fabric

    @property
    def cycle(self) -> int:
        """Cycle that all nodes have reached."""
        return self.cluster.cycle

    def run(
        self, cycles: int, until: Event = Event.IRQ, *, nodes: Iterable[int] | None = None
    ) -> dict[int, Event]:
        """Let all nodes run until an event comes at one of ``nodes`` (all by default), or for so many cycles.

        Returns the events by node, none if the time passed. A node with an event has stopped exactly there, the others
        are within a window of it. An interrupt that is high counts as an event that comes at once. Raises what broke
        in a node.
        """
        if cycles < 0:
            raise ValueError(f"cycles must not be negative, not {cycles}")
        chosen = range(len(self.simulations)) if nodes is None else sorted(set(nodes))
        if until & Event.IRQ and (high := [number for number in chosen if self.simulations[number].irq]):
            return dict.fromkeys(high, Event.IRQ)
        end = self.cycle + cycles
        waits: list[tuple[int, int] | None] = [(end, 0)] * len(self.simulations)
        for number in chosen:
            waits[number] = (end, int(until))
        ended: dict[int, Event] = {}
        while not ended and self.cycle < end:
            found = self.cluster.race(waits)
            for one, events in zip(self.simulations, found, strict=True):
                if (events or 0) & FAILURE:
                    one.check()
            ended = {n: Event(events) for n, events in enumerate(found) if events and events != Event.LIMIT}
            # Who has reached the end must not keep the others from it.
            waits = [None if one.cycle >= end else wait for one, wait in zip(self.simulations, waits, strict=True)]
        return ended

    def wait(
        self, cycles: int, until: Event = Event.IRQ, *, nodes: Iterable[int] | None = None, what: str = ""
    ) -> dict[int, Event]:
        """Run as :meth:`run` does, and raise :class:`.errors.SimulationTimeout` if no event comes."""
        if not (ended := self.run(cycles, until, nodes=nodes)):
            raise self.simulations[0].timeout(what or (until.name or str(until)), cycles)
        return ended

    def close(self) -> None:
        """Free the nodes. A second call does nothing."""
        self.cluster.close()
        for one in self.simulations:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
