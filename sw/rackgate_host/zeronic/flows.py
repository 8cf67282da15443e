# SPDX-License-Identifier: Apache-2.0
"""Flows that the NIC splits: their memory, which applications share, and their segments."""

import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from rackgate.zeronic.abi import Direction, Right
from rackgate.zeronic.messages import FlowFlag as NicFlag
from rackgate.zeronic.sidestore import SideStore, store_size
from rackgate.zeronic.versions import Tagger

from .errors import FlowTableFull, TooManySegments
from .keys import FlowKey
from .nic import Nic
from .shared import PAGE_SIZE, FlowFlag, FlowPage, FlowState

__all__ = ["FIRST_FREE_REGION", "RING_SIZE", "STORE_SLOTS", "End", "Flow", "Flows", "memory_needed", "unwrap"]

#: Bytes of a flow's ring, each way: more than a window of the kernel (see namespaces.SYSCTLS), and a piece.
RING_SIZE = 2 << 20
#: A ring is posted in pieces that end at multiples of this.
_PIECE = RING_SIZE // 8
#: Slots of a flow's side store: a window of full frames, and some.
STORE_SLOTS = 1024
_STORE_SIZE = -(-store_size(STORE_SLOTS) // PAGE_SIZE) * PAGE_SIZE

_RECEIVE_REGION, _SEND_REGION = 0, 1
#: Regions from this on are the applications'.
FIRST_FREE_REGION = 2

_MODULUS = 1 << 32
_APPLICATION_COUNTS = ("received", "sent", "copied_received", "copied_sent", "tags_read")


def memory_needed(flows: int) -> int:
    """Bytes of device memory that so many flows take."""
    return flows * (2 * RING_SIZE + PAGE_SIZE + _STORE_SIZE)


def unwrap(position: int, near: int) -> int:
    """The number that is ``position`` modulo 2**32 and closest to ``near``."""
    return near + (position - near + (1 << 31)) % _MODULUS - (1 << 31)


class End(enum.IntFlag):
    """What is over of a connection."""

    NONE = 0
    SENT = 1  # our FIN has left
    ACKNOWLEDGED = 2  # and the peer has it
    RECEIVED = 4  # the peer's FIN has come
    RESET = 8


@dataclass
class _Segments:
    """Segments of one direction that the NIC has: their ends, as positions that do not wrap, oldest first."""

    ends: deque[int] = field(default_factory=deque)
    end: int = 0  # of the newest


@dataclass
class Flow:
    """A connection that is split. Positions here do not wrap: 0 is the first byte of data."""

    index: int
    generation: int
    key: FlowKey
    page: FlowPage
    store: SideStore
    tagger: Tagger
    flags: FlowFlag
    changed: float
    offered: int | None = None  # what receive_begin will be, if the SYN that has come is answered
    receive_begin: int | None = None  # sequence numbers of position 0
    send_begin: int | None = None
    receive: _Segments = field(default_factory=_Segments)
    send: _Segments = field(default_factory=_Segments)
    consumed: int = 0
    expected: int = 0  # what our transport has acknowledged
    sent: int = 0  # end of the last byte that has left for the first time
    fin: int | None = None  # position of our FIN
    end: End = End.NONE
    is_established: bool = False
    claims: set[int] = field(default_factory=set)  # connections of applications that use it
    was_claimed: bool = False
    is_detached: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the transport needs the flow no more."""
        return bool(self.end & End.RESET) or self.end & 7 == 7


class Flows:
    """All flows of a host, in the memory of its NIC.

    Parameters
    ----------
    nic:
        The NIC. Its regions 0 and 1 are used.
    coalesce:
        Whether headers may be merged.

    Raises :class:`~rackgate_host.errors.OutOfDeviceMemory`.
    """

    def __init__(self, nic: Nic, coalesce: bool = True):
        self.nic = nic
        count = nic.flows
        device = nic.device
        self._pages = device.allocate(count * PAGE_SIZE, alignment=PAGE_SIZE)
        self._stores = device.allocate(count * _STORE_SIZE, alignment=PAGE_SIZE)
        self._receive = device.allocate(count * RING_SIZE, alignment=PAGE_SIZE)
        self._send = device.allocate(count * RING_SIZE, alignment=PAGE_SIZE)
        for region, rights, buffer in ((_RECEIVE_REGION, Right.WRITE, self._receive),
                                       (_SEND_REGION, Right.READ, self._send)):
            nic.set_region(region, rights, buffer.device_address, buffer.nbytes)
        self._counted = dict.fromkeys(_APPLICATION_COUNTS, 0)
        self._flags = NicFlag.RECEIVE | (NicFlag.COALESCE if coalesce else 0)
        self._free = deque(range(count))
        self._generations = [0] * count
        self._by_index: list[Flow | None] = [None] * count
        self._by_key: dict[FlowKey, Flow] = {}

    def __iter__(self) -> Iterator[Flow]:
        return (flow for flow in self._by_index if flow is not None)

    def application_counts(self) -> dict[str, int]:
        """What applications have counted in the pages of all flows so far."""
        return {name: self._counted[name] + sum(getattr(flow.page, name) for flow in self)
                for name in _APPLICATION_COUNTS}

    def find(self, key: FlowKey) -> Flow | None:
        """The flow whose incoming frames have ``key``."""
        return self._by_key.get(key)

    def at(self, index: int) -> Flow | None:
        """The flow that has this number in the NIC, if it has not been detached."""
        flow = self._by_index[index] if index < len(self._by_index) else None
        return None if flow is None or flow.is_detached else flow

    def claimable(self, index: int, generation: int) -> Flow | None:
        """The flow that an application means by this number and generation."""
        flow = self._by_index[index] if index < len(self._by_index) else None
        return flow if flow is not None and flow.generation == generation else None

    def place(self, flow: Flow) -> int:
        """Of a flow's page, in the memory's file."""
        return self._pages.device_address - self.nic.device.transport.memory_base + flow.index * PAGE_SIZE

    def make(self, key: FlowKey, flags: FlowFlag, now: float) -> Flow:
        """A new flow. The NIC knows its key, but does not split it yet.

        Raises :class:`FlowTableFull` when there is none left, or no place for its key.
        """
        if not self._free:
            raise FlowTableFull(f"all {self.nic.flows} flows of the NIC are in use")
        self.nic.insert_key(key, self._free[0])
        index = self._free.popleft()
        self._generations[index] += 1
        base = self.nic.device.transport.memory_base
        memory = self._pages.view(np.ndarray).data[index * PAGE_SIZE:(index + 1) * PAGE_SIZE]
        memory[:] = bytes(PAGE_SIZE)
        page = FlowPage.from_buffer(memory)
        content = self._stores.view(np.ndarray).data[index * _STORE_SIZE:(index + 1) * _STORE_SIZE]
        content = content[:store_size(STORE_SLOTS)]
        store = SideStore(content, begin=0)
        page.generation, page.flow, page.flags = self._generations[index], index, flags
        page.remote_address, page.local_address, page.remote_port, page.local_port = key[:4]
        page.ring_size = RING_SIZE
        page.receive_ring = self._receive.device_address - base + index * RING_SIZE
        page.send_ring = self._send.device_address - base + index * RING_SIZE
        page.store = self._stores.device_address - base + index * _STORE_SIZE
        page.store_size = len(content)
        page.state = FlowState.OPENING
        flow = Flow(index, page.generation, key, page, store, Tagger(store), flags, now)
        self._by_index[index] = self._by_key[key] = flow
        return flow

    def begin_receive(self, flow: Flow, sequence: int) -> None:
        """Split what comes in: ``sequence`` is that of position 0."""
        flow.receive_begin = flow.page.receive_begin = sequence
        flow.receive, flow.send = _Segments(), _Segments()
        self.nic.begin_flow(flow.index, self._flags, sequence)
        self.opened(flow)
        self.post_receive(flow)

    def begin_send(self, flow: Flow, sequence: int) -> None:
        """``sequence`` is that of position 0 of what is sent."""
        flow.send_begin = flow.page.send_begin = sequence
        self.opened(flow)

    def opened(self, flow: Flow) -> None:
        """If it is known where both directions begin, the flow is open."""
        if flow.receive_begin is not None and flow.send_begin is not None:
            flow.page.state = FlowState.OPEN

    def post_receive(self, flow: Flow) -> None:
        """Post the ring as far as the application has read, and retire what it has read."""
        if flow.flags & FlowFlag.POSTED_RECEIVE or flow.receive_begin is None:
            return
        flow.consumed = unwrap(flow.store.consumed, flow.consumed)
        self._retire(flow, Direction.RECEIVE, flow.receive, flow.consumed)
        while True:
            end = (flow.receive.end // _PIECE + 1) * _PIECE
            if end > flow.consumed + RING_SIZE:
                return
            self._post_ring(flow, Direction.RECEIVE, flow.receive, flow.receive_begin, end)

    def post_send(self, flow: Flow, end: int) -> None:
        """Post the ring so that bytes before ``end`` can be gathered, and retire what it has no more."""
        flow.sent = max(flow.sent, end)
        if flow.flags & FlowFlag.POSTED_SEND or flow.send_begin is None or flow.receive_begin is None:
            return
        self._retire(flow, Direction.SEND, flow.send, flow.sent - RING_SIZE)
        while flow.send.end < end:
            self._post_ring(flow, Direction.SEND, flow.send, flow.send_begin, (flow.send.end // _PIECE + 1) * _PIECE)

    def _post_ring(self, flow: Flow, direction: Direction, segments: _Segments, begin: int, end: int) -> None:
        start, region = segments.end, _SEND_REGION if direction == Direction.SEND else _RECEIVE_REGION
        self.nic.post(flow.index, direction, begin + start, end - start, region,
                      flow.index * RING_SIZE + start % RING_SIZE)
        segments.ends.append(end)
        segments.end = end

    def _retire(self, flow: Flow, direction: Direction, segments: _Segments, before: int) -> None:
        count = 0
        while segments.ends and segments.ends[0] <= before:
            segments.ends.popleft()
            count += 1
        self.nic.retire(flow.index, direction, count)

    # Segments that applications post

    def post(self, flow: Flow, direction: Direction, position: int, length: int, region: int, offset: int) -> None:
        """Post an application's segment, at a position as it names it.

        Raises ValueError for one that is not behind the others, and :class:`TooManySegments`.
        """
        segments = flow.send if direction == Direction.SEND else flow.receive
        begin = flow.send_begin if direction == Direction.SEND else flow.receive_begin
        start = unwrap(position, segments.end)
        if begin is None or start < segments.end or not 0 < length < 1 << 31:
            raise ValueError(f"a segment must begin at position {segments.end} or behind it, not at {start}")
        if not self.nic.room(flow.index, direction):
            raise TooManySegments(f"flow {flow.index} has {self.nic.segments} segments posted")
        self.nic.post(flow.index, direction, begin + start, length, region, offset)
        segments.end = start + length
        segments.ends.append(segments.end)

    def retire(self, flow: Flow, direction: Direction, position: int) -> None:
        """Retire an application's segments that end at ``position`` or before."""
        segments = flow.send if direction == Direction.SEND else flow.receive
        self._retire(flow, direction, segments, unwrap(position, segments.end))

    # The end

    def detach(self, flow: Flow) -> None:
        """Take a flow from the NIC, so that another may have its ends. Applications still have its memory."""
        if flow.is_detached:
            return
        flow.is_detached = True
        del self._by_key[flow.key]
        self.nic.remove_key(flow.key)
        self.nic.begin_flow(flow.index, 0, 0)

    def close(self, flow: Flow) -> None:
        """Forget a flow. Its memory is used again when nothing can be written there any more."""
        self.detach(flow)
        self._by_index[flow.index] = None
        flow.page.state = FlowState.FREE
        for name in _APPLICATION_COUNTS:
            self._counted[name] += getattr(flow.page, name)
        self.nic.fence(lambda: self._free.append(flow.index))
