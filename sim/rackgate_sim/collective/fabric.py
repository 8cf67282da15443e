# SPDX-License-Identifier: Apache-2.0
"""Nodes, joined by a lossless network, with one time line."""

import heapq
import random
from collections.abc import Callable, Sequence

from rackgate.collective.abi import HEADER_SIZE, NODES
from rackgate_sim.collective.device import CollectiveModel
from rackgate_sim.inflate.model import Memory

__all__ = ["Fabric"]

#: Cycles from a segment's hand-out to its packet's arrival, besides the link's own.
_PASSAGE_CYCLES = 24
#: With a seed: a packet comes up to so many cycles later.
_MOST_JITTER = 400


class Fabric:
    """Engine models whose packets a crossbar takes from any to any.

    Packets from one node to another stay in order; each node sends and receives a word a cycle.

    Parameters
    ----------
    memories:
        One a node, 1 to 16.
    width, segment, slots:
        As for the gateware.
    link_latency:
        Cycles.
    seed:
        Other than 0: packets of different nodes overtake each other at random, by this seed.
    build:
        Value of BUILD_LO and BUILD_HI, 64 bits.

    Attributes
    ----------
    nodes:
        The devices, at their registers.
    cycle:
        Now.
    bytes_sent:
        Payload bytes that each node has sent to each other, by (source, destination).
    """

    def __init__(self, memories: Sequence[Memory], *, width: int = 8, segment: int = 1024, slots: int = 64,
                 link_latency: int = 1, seed: int = 0, build: int = 0):
        if not 1 <= len(memories) <= NODES:
            raise ValueError(f"nodes must be 1 to {NODES}, not {len(memories)}")
        if link_latency < 1:
            raise ValueError(f"link_latency must be at least 1, not {link_latency}")
        self.cycle = 0
        self.bytes_sent: dict[tuple[int, int], int] = {}
        self._traffic: dict[tuple[int, int], tuple[int, int]] = {}
        self._width, self._latency = width, link_latency
        self._random = random.Random(seed) if seed else None
        self._events: list[tuple[int, int, int, Callable[[], None]]] = []
        self._count = 0
        self._leaving = [0] * len(memories)  # cycle from which on a node's port is free
        self._entering = [0] * len(memories)
        self._last: dict[tuple[int, int], int] = {}
        self.nodes = [CollectiveModel(memory, _Port(self, number), width=width, segment=segment, slots=slots,
                                      build=build, run=self.run)
                      for number, memory in enumerate(memories)]

    def at(self, cycle: int, node: int, action: Callable[[], None]) -> None:
        """Call ``action``, which concerns ``node``, in a cycle to come."""
        self._count += 1
        heapq.heappush(self._events, (cycle, self._count, node, action))

    def leaving(self, node: int) -> int:
        """Cycle from which on a node's port is free."""
        return self._leaving[node]

    def send(self, source: int, destination: int, packet: bytes) -> None:
        """Bring a packet to a node. One for a node that does not exist is lost."""
        pair = source, destination
        self.bytes_sent[pair] = self.bytes_sent.get(pair, 0) + len(packet) - HEADER_SIZE
        packets, size = self.traffic(*pair)
        # A header is padded to a word of the link.
        self._traffic[pair] = packets + 1, size + len(packet) + max(0, self._width - HEADER_SIZE)
        if destination >= len(self.nodes):
            return
        beats = -(-len(packet) // self._width)
        start = max(self.cycle, self._leaving[source])
        self._leaving[source] = start + beats
        arrival = start + _PASSAGE_CYCLES + self._latency
        if self._random is not None:
            arrival += self._random.randrange(_MOST_JITTER)
        arrival = max(arrival, self._entering[destination], self._last.get(pair, 0) + 1)
        self._entering[destination] = max(self._entering[destination], start + _PASSAGE_CYCLES + self._latency) + beats
        self._last[pair] = arrival
        self.at(arrival, destination, lambda: self.nodes[destination].engine.arrive(packet))

    def traffic(self, source: int, destination: int) -> tuple[int, int]:
        """Packets that one node has sent to another, and their bytes with headers."""
        return self._traffic.get((source, destination), (0, 0))

    def run(self, cycles: int, until_irq: bool = False) -> int:
        """Let at most ``cycles`` pass, with ``until_irq`` none once an interrupt is high. Returns how many passed."""
        if cycles < 0:
            raise ValueError(f"cycles must not be negative, not {cycles}")
        begin, end = self.cycle, self.cycle + cycles
        while not (until_irq and any(node.irq for node in self.nodes)):
            if not self._events or self._events[0][0] > end:
                self.cycle = end
                break
            self._step()
        return self.cycle - begin

    def _step(self) -> None:
        self.cycle = max(self.cycle, self._events[0][0])
        touched = set()
        while self._events and self._events[0][0] <= self.cycle:
            _, _, node, action = heapq.heappop(self._events)
            action()
            touched.add(node)
        for node in sorted(touched):
            self.nodes[node].advance()


class _Port:
    """The network as a node sees it (:class:`rackgate_sim.collective.engine.Link`)."""

    def __init__(self, fabric: Fabric, number: int):
        self._fabric, self._number = fabric, number

    @property
    def cycle(self) -> int:
        return self._fabric.cycle

    @property
    def idle_at(self) -> int:
        return self._fabric.leaving(self._number)

    def send(self, source: int, destination: int, packet: bytes) -> None:
        self._fabric.send(self._number, destination, packet)

    def after(self, cycles: int, action: Callable[[], None]) -> None:
        self._fabric.at(self._fabric.cycle + max(1, cycles), self._number, action)
