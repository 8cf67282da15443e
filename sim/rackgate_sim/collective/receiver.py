# SPDX-License-Identifier: Apache-2.0
"""Receive side of the engine model: buffers, matching, credits."""

from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rackgate.collective.abi import COMMUNICATORS, HEADER_SIZE, NODES, Counter, Header, HeaderFlag, PacketType
from rackgate.collective.packets.abi import Probe, Probed
from rackgate_sim.collective.sequencer import CommunicatorState

__all__ = ["Communicator", "Key", "Packet", "Posted", "Receiver"]


@dataclass
class Communicator(CommunicatorState):
    """An open communicator, and how its credits stand, by node.

    ``available``: packets that each node may still be sent. ``held``: packets of each node whose credit has not been
    sent back. ``owed``: those of them that have left their buffers.
    """

    available: list[int] = field(init=False)
    held: list[int] = field(default_factory=lambda: [0] * NODES)
    owed: list[int] = field(default_factory=lambda: [0] * NODES)

    def __post_init__(self) -> None:
        self.available = [self.credits] * NODES


@dataclass(frozen=True)
class Packet:
    """A packet in a receive buffer."""

    header: Header
    payload: bytes


@dataclass
class Key:
    """What a receive waits for. What is open is bound by the first packet."""

    communicator: int
    operation: int
    tag: int
    any_tag: bool
    node: int
    any_node: bool

    def matches(self, header: Header) -> bool:
        """Whether a packet is of the message that is waited for."""
        return ((header.communicator, header.operation) == (self.communicator, self.operation)
                and (self.any_tag or header.tag == self.tag) and (self.any_node or header.source == self.node))


@dataclass
class Posted:
    """A receive, and its packets that have come. ``is_complete``: the last one has; it matches no more."""

    key: Key
    packets: deque[Packet] = field(default_factory=deque)
    is_complete: bool = False

    def accept(self, packet: Packet) -> None:
        """Take a packet that matches."""
        key, header = self.key, packet.header
        key.node, key.any_node, key.tag, key.any_tag = header.source, False, header.tag, False
        self.packets.append(packet)
        self.is_complete = bool(header.flags & HeaderFlag.LAST)


class Receiver:
    """Buffers and lists of an engine.

    Parameters
    ----------
    segment, slots:
        The engine's.
    deliver:
        Called with packets for a kernel's stream, which take no buffer.
    clear:
        Called with headers that let a message of this node be sent on.

    Attributes
    ----------
    node:
        Number of this node.
    communicators:
        Those that are open, by number.
    counts:
        The engine's counters.
    """

    def __init__(self, segment: int, slots: int, deliver: Callable[[Packet], None],
                 clear: Callable[[Header], None]):
        self.node = 0
        self.communicators: dict[int, Communicator] = {}
        self.counts: Tally[Counter] = Tally()
        self._segment, self._slots, self._deliver, self._clear = segment, slots, deliver, clear
        self._used = 0
        self._expected = [0] * NODES
        self._unexpected: list[deque[Packet]] = [deque() for _ in range(NODES)]
        self._posted: list[Posted] = []

    @property
    def free_slots(self) -> int:
        """Buffers that are empty."""
        return self._slots - self._used

    def arrive(self, raw: bytes) -> None:
        """A packet from the link."""
        counts = self.counts
        try:
            header = Header.from_bytes(raw)
        except ValueError:
            counts[Counter.BAD_HEADER] += 1
            return
        if (header.type not in list(PacketType) or header.destination != self.node or header.source >= NODES
                or header.communicator >= COMMUNICATORS):
            counts[Counter.BAD_HEADER] += 1
            return
        if header.sequence != self._expected[header.source]:
            counts[Counter.BAD_SEQUENCE] += 1
            return
        self._expected[header.source] = self._expected[header.source] + 1 & 0xFFFF
        counts[Counter.PACKETS_RECEIVED] += 1
        communicator = self.communicators.get(header.communicator)
        if communicator is not None:
            communicator.available[header.source] += header.credit
        if header.type == PacketType.DATA:
            self._data(header, raw[HEADER_SIZE:], communicator)
        elif header.type == PacketType.CLEAR_TO_SEND and communicator is not None:
            self._clear(header)

    def _data(self, header: Header, payload: bytes, communicator: Communicator | None) -> None:
        counts, source = self.counts, header.source
        size = min(self._segment, max(0, header.length - header.offset))
        if len(payload) != size:
            counts[Counter.BAD_LENGTH] += 1
            payload = payload[:size].ljust(size, b"\0")
        counts[Counter.BYTES_RECEIVED] += size
        if communicator is None:
            counts[Counter.NO_COMMUNICATOR] += 1
        elif communicator.held[source] == communicator.credits or not self.free_slots:
            counts[Counter.NO_BUFFER] += 1
        else:
            communicator.held[source] += 1
            self._used += 1
            packet = Packet(header, payload)
            if communicator.is_broken:
                self.free(packet)
            elif header.flags & HeaderFlag.STREAM:
                self._deliver(packet)
                self.free(packet)
            else:
                self._match(packet)

    def _match(self, packet: Packet) -> None:
        for posted in self._posted:
            if not posted.is_complete and posted.key.matches(packet.header):
                posted.accept(packet)
                self.counts[Counter.MATCHED_POSTED] += 1
                return
        self._unexpected[packet.header.source].append(packet)

    def post(self, posted: Posted) -> None:
        """Wait for a message, beginning with what has come of it."""
        sources = range(NODES) if posted.key.any_node else (posted.key.node,)
        for source in sources:
            waiting, self._unexpected[source] = self._unexpected[source], deque()
            for packet in waiting:
                if not posted.is_complete and posted.key.matches(packet.header):
                    posted.accept(packet)
                    self.counts[Counter.MATCHED_LATE] += 1
                else:
                    self._unexpected[source].append(packet)
        self._posted.append(posted)

    def probe(self, probe: Probe) -> Probed | None:
        """The oldest message, of the lowest node, that matches and that no receive waits for."""
        key = Key(probe.communicator, 0, probe.tag or 0, probe.tag is None, probe.node or 0, probe.node is None)
        for waiting in self._unexpected:
            for header in (packet.header for packet in waiting):
                if key.matches(header):
                    return Probed(header.source, header.element, bool(header.flags & HeaderFlag.COMPRESSED),
                                  header.tag, header.length)
        return None

    def withdraw(self, posted: Posted) -> None:
        """Wait no longer; packets that have come are thrown away."""
        self._posted.remove(posted)
        while posted.packets:
            self.free(posted.packets.popleft())

    def free(self, packet: Packet) -> None:
        """Empty a packet's buffer: its credit is owed."""
        self._used -= 1
        communicator = self.communicators.get(packet.header.communicator)
        if communicator is not None and communicator.held[packet.header.source]:
            communicator.owed[packet.header.source] += 1

    def clear(self, number: int) -> None:
        """Throw away what has come for a communicator and is not matched."""
        for source, waiting in enumerate(self._unexpected):
            kept: deque[Packet] = deque()
            for packet in waiting:
                if packet.header.communicator == number:
                    self.free(packet)
                else:
                    kept.append(packet)
            self._unexpected[source] = kept

    def owing(self, threshold: Callable[[int], int]) -> Iterator[tuple[int, int]]:
        """Communicator and node of the credits that are due."""
        for number, communicator in self.communicators.items():
            for node, owed in enumerate(communicator.owed):
                if owed and owed >= threshold(communicator.credits):
                    yield number, node

    def take_owed(self, communicator: int, node: int) -> int:
        """All credits that are owed to a node, to be sent now."""
        entry = self.communicators[communicator]
        count = entry.owed[node]
        entry.owed[node] = 0
        entry.held[node] -= count
        return count
