# SPDX-License-Identifier: Apache-2.0
"""All ranks of a simulated cluster in one process."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rackgate.collective.abi import HEADER_SIZE, Counter

from ..device import Device
from ..ranks import run_ranks
from ..world import World, open_world
from .communicator import Communicator
from .engine import DEFAULT_TIMEOUT, Engine
from .groups import credits_for

__all__ = ["Cluster", "open_cluster"]


class Cluster:
    """Engines that are joined, each a rank of one communicator. Use :func:`open_cluster`.

    Parameters
    ----------
    world:
        The devices. Closed with the cluster.
    timeout:
        Cycles without progress after which a call fails; 0: never.
    credits:
        Of the communicator; by default half of the receive buffers are given to it, with ``"all"`` all of them: then
        there can be no other.
    eager:
        Bytes of the largest message that is sent without asking (:class:`.Communicator`).

    Attributes
    ----------
    engines, comms:
        The engine of each rank, and its view of the communicator of all.

    >>> import numpy as np
    >>> from rackgate_host.collective import open_cluster
    >>> def program(comm):
    ...     total = np.empty(4, np.int32)
    ...     comm.Allreduce(np.full(4, comm.rank, np.int32), total)
    ...     return total.tolist()
    >>> with open_cluster("model", ranks=3) as cluster:
    ...     cluster.run(program)
    [[3, 3, 3, 3], [3, 3, 3, 3], [3, 3, 3, 3]]
    """

    def __init__(self, world: World, *, timeout: int = DEFAULT_TIMEOUT, credits: int | str | None = None,
                 eager: int | str | None = None):
        self.world = world
        self.engines = [Engine(device, world, node, timeout=timeout) for node, device in enumerate(world.devices)]
        self._credits, self._eager = credits, eager
        self._open()

    def _open(self) -> None:
        nodes = list(range(len(self.engines)))
        most = min(engine.slots for engine in self.engines)
        credits = credits_for(most, len(nodes)) if self._credits is None else self._credits
        if credits == "all":
            credits = min(255, most // len(nodes))
        if not isinstance(credits, int) or not 1 <= credits <= 255 or credits * len(nodes) > most:
            raise ValueError(f"credits must be 1 to {min(255, most // len(nodes))} for {len(nodes)} ranks and {most} "
                             f"receive buffers, or 'all', not {credits!r}")
        self.comms = [Communicator(engine, 0, nodes, rank, credits, self._eager)
                      for rank, engine in enumerate(self.engines)]

    @property
    def size(self) -> int:
        """Ranks."""
        return len(self.engines)

    @property
    def devices(self) -> tuple[Device, ...]:
        """The device of each rank."""
        return self.world.devices

    def run(self, program: Callable[..., Any], *arguments: Any, return_exceptions: bool = False) -> list[Any]:
        """Run ``program(comm, *arguments)`` at all ranks: their results.

        One runs at a time; it gives up its turn when it waits. See :func:`rackgate_host.ranks.run_ranks`.
        """
        return run_ranks(self.world, [lambda comm=comm: program(comm, *arguments) for comm in self.comms],
                         return_exceptions=return_exceptions)

    def load_collective(self, collective: Any, name: str | None = None) -> str:
        """Make a collective callable by name at all ranks (:meth:`.Communicator.load_collective`)."""
        return [comm.load_collective(collective, name) for comm in self.comms][0]

    def reset(self) -> None:
        """Begin anew after a failure: all calls and communicators are forgotten, ``comms`` are new."""
        for engine in self.engines:
            engine.reset()
        self._open()

    def counters(self) -> list[dict[Counter, int]]:
        """What each engine has counted."""
        return [{counter: device.regs[f"COUNT_{counter.name}"].value for counter in Counter} for device in self.devices]

    def payload(self) -> np.ndarray:
        """Payload bytes that each rank has sent to each other so far, as the network counted them."""
        header = max(HEADER_SIZE, self.engines[0].width)  # padded to a word
        moved = np.zeros((self.size, self.size), np.int64)
        for source, destination in np.ndindex(moved.shape):
            packets, size = self.world.traffic(source, destination)
            moved[source, destination] = size - packets * header
        return moved

    def close(self) -> None:
        """Let go of all devices."""
        self.world.close()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_cluster(device: str = "model", ranks: int = 8, *, timeout: int = DEFAULT_TIMEOUT,
                 credits: int | str | None = None, eager: int | str | None = None, **options: Any) -> Cluster:
    """A cluster of ``ranks`` engines, 1 to 16.

    Parameters
    ----------
    device:
        ``model``, ``sim``, or a device URL with options, such as ``sim:collective?width=16``.
    timeout, credits, eager:
        As for :class:`Cluster`.
    options:
        Of the devices and their links (:func:`rackgate_host.world.open_world`).
    """
    world = open_world(device if ":" in device else f"{device}:collective", ranks, **options)
    try:
        return Cluster(world, timeout=timeout, credits=credits, eager=eager)
    except BaseException:
        world.close()
        raise
