# SPDX-License-Identifier: Apache-2.0
"""What a cluster's crossbar is told, and what it counts."""

import ctypes
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .simulation import Simulation

__all__ = ["Crossbar", "PortStatistics", "Route", "Traffic"]


@dataclass(frozen=True)
class Route:
    """Where in a packet its destination stands, and what its values mean.

    The destination is the little-endian number of ``width`` bytes from byte ``offset`` on, and with ``mask``: the
    number of a port. With ``map`` it is one of the map's keys, whose value is the port. The value ``broadcast`` means
    every port but the sender's; it is looked for before the map.

    Raises
    ------
    ValueError
        If ``offset`` is negative, ``width`` is not 1 to 8, or ``mask``, ``broadcast`` or a key does not fit it.
    """

    offset: int
    width: int = 1
    mask: int | None = None
    map: Mapping[int, int] | None = None
    broadcast: int | None = None

    def __post_init__(self) -> None:
        if operator.index(self.offset) < 0:
            raise ValueError(f"offset must not be negative, not {self.offset}")
        if not 1 <= operator.index(self.width) <= 8:
            raise ValueError(f"width must be 1 to 8 bytes, not {self.width}")
        if self.map is not None and not self.map:
            raise ValueError("map must not be empty")
        values = {"mask": self.mask, "broadcast": self.broadcast}
        for name, value in [*values.items(), *(("a key of map", key) for key in self.map or ())]:
            if value is not None and not 0 <= operator.index(value) < 1 << 8 * self.width:
                raise ValueError(f"{name} must fit {self.width} bytes, not {value:#x}")


@dataclass(frozen=True)
class PortStatistics:
    """Counters of one port since the cluster began; ``in`` is from the device into the crossbar.

    ``packets_in`` counts packets at their first word with cut-through, ``bytes_in`` and ``words_in`` at their last.
    ``lost``, ``duplicated``, ``reordered`` and ``corrupted`` tell what became of packets that came in here,
    ``unrouted`` how many were dropped because no such port exists or they ended before their destination. ``busy``
    counts cycles in which a word was offered to the device, ``words_out`` those in which it took one; ``deepest`` is
    the most words that were due and not taken at a time.
    """

    packets_in: int
    lost: int
    duplicated: int
    reordered: int
    corrupted: int
    bytes_in: int
    words_in: int
    unrouted: int
    packets_out: int
    bytes_out: int
    words_out: int
    busy: int
    deepest: int


@dataclass(frozen=True)
class Traffic:
    """Packets that one port sent to another, and their valid bytes, whatever became of them."""

    packets: int
    bytes: int


class Crossbar:
    """Ports of simulated devices that send packets to each other by address (see :meth:`.cluster.Cluster.crossbar`).

    Attributes
    ----------
    ports:
        Devices, and names of their output and input stream.
    latency, route, cut_through, seed:
        As asked for.
    """

    def __init__(
        self,
        library: Callable[[], ctypes.CDLL],
        cluster: int,
        ports: Sequence[tuple[Simulation, str, str]],
        links: Sequence[int],
        *,
        latency: int,
        route: Route,
        cut_through: bool,
        seed: int,
    ):
        self._library, self._cluster, self._links = library, cluster, tuple(links)
        self.ports = tuple(ports)
        self.latency, self.route, self.cut_through, self.seed = latency, route, cut_through, seed
        lib = library()
        inputs = [(simulation.handle, simulation.stream(name).index) for simulation, _, name in ports]
        for port, link in enumerate(self._links):
            for handle, index in inputs:
                lib.rg_cluster_receiver(cluster, link, handle, index)
            mask = (1 << 64) - 1 if route.mask is None else route.mask
            broadcasts = route.broadcast is not None
            lib.rg_cluster_route(
                cluster, link, port, route.offset, route.width, mask, broadcasts, route.broadcast or 0
            )
            for value, destination in (route.map or {}).items():
                lib.rg_cluster_map(cluster, link, value, destination)

    def _port(self, port: int) -> int:
        if not 0 <= operator.index(port) < len(self._links):
            raise ValueError(f"port must be 0 to {len(self._links) - 1}, not {port}")
        return self._links[port]

    def statistics(self, port: int) -> PortStatistics:
        """What a port did so far."""
        link, lib = self._port(port), self._library()
        sent, taken = (ctypes.c_uint64 * 8)(), (ctypes.c_uint64 * 5)()
        lib.rg_cluster_link(self._cluster, link, sent)
        lib.rg_cluster_port(self._cluster, link, taken)
        return PortStatistics(*sent, *taken)

    def traffic(self, source: int, destination: int) -> Traffic:
        """What one port has sent to another: packets whose last word has left the device, faulty ones as well."""
        self._port(destination)
        values = (ctypes.c_uint64 * (2 * len(self._links)))()
        self._library().rg_cluster_traffic(self._cluster, self._port(source), values)
        return Traffic(*values[2 * destination : 2 * destination + 2])
