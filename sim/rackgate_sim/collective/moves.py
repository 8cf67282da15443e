# SPDX-License-Identifier: Apache-2.0
"""Moves of the engine model: what a segment of one reads, computes and writes."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from rackgate.arith.abi import ElementType, Function
from rackgate.collective.abi import Cause, Header, HeaderFlag, PacketType, Status
from rackgate.collective.isa import Local, MoveControl, Other, Target
from rackgate_sim.arith import compress, expand, reduce
from rackgate_sim.collective.receiver import Key, Packet, Posted
from rackgate_sim.collective.sequencer import Move
from rackgate_sim.inflate.model import BusError, Memory

__all__ = ["MoveState", "Segment", "SegmentError"]


class SegmentError(Exception):
    """A segment that fails its call."""

    def __init__(self, status: Status, cause: Cause = Cause.NONE, node: int = 0):
        super().__init__(status.name)
        self.status, self.cause, self.node = status, cause, node


@dataclass(frozen=True)
class Segment:
    """What one segment came to.

    ``size``: bytes in memory, for its time. ``header`` and ``payload``: the packet to send, if there is one; the header
    lacks source, sequence and credit. ``stream``: bytes for the kernel's stream.
    """

    size: int
    header: Header | None
    payload: bytes
    stream: bytes
    is_last: bool


@dataclass
class MoveState:
    """A move under way.

    Attributes
    ----------
    waits_for:
        Moves of its context that have to end before.
    in_lane:
        Segments that have been handed out and not retired.
    progress:
        Cycle of the last segment, or of the beginning.
    place:
        Its number in the engine, 0 to 15.
    asks, waits_clear:
        Only its first packet is sent before it has been answered; it has been sent, and has not.
    alarm:
        Cycle of the next look at whether it is late.
    """

    move: Move
    progress: int
    place: int = 0
    waits_for: "list[MoveState]" = field(default_factory=list)
    in_lane: int = 0
    is_handed_out: bool = False
    alarm: int = 0
    posted: Posted | None = None
    asks: bool = False
    waits_clear: bool = False

    def __post_init__(self) -> None:
        move = self.move
        self.control = MoveControl.from_int(move.control)
        self.element = ElementType(move.element)
        self.wire_size = 2 if move.compressed else self.element.size
        self._remaining, self._done = move.count, 0
        self._offset = 0
        self._is_begun = False
        if self.control.other == Other.RECEIVE:
            self.posted = Posted(Key(move.communicator, move.operation, move.tag, bool(move.any_tag), move.source,
                                     bool(move.any_source)))

    @property
    def uses_send_lane(self) -> bool:
        """Whether its segments go through the send lane."""
        control = self.control
        return control.send and control.other == Other.NONE and control.target == Target.NONE

    @property
    def length(self) -> int:
        """Payload bytes of what it sends or expects."""
        return self.move.count * self.wire_size

    @property
    def may_ask(self) -> bool:
        """Whether it is a message of send, which nobody may ever receive."""
        return self.uses_send_lane and not self.control.put and not self.move.operation

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return self.is_handed_out and not self.in_lane

    def ranges(self) -> list[tuple[int, int, bool]]:
        """Memory that it touches: first address, one past the last, and whether it writes."""
        size, control = self.move.count * self.element.size, self.control
        touched = ((control.local == Local.MEMORY, self.move.local, False),
                   (control.other == Other.MEMORY, self.move.other, False),
                   (control.target == Target.MEMORY, self.move.result, True))
        return [(start, start + size, writes) for used, start, writes in touched if used and size]

    def conflicts(self, other: "MoveState") -> bool:
        """Whether both touch a place, and one writes it."""
        return any(first < other_last and other_first < last and (writes or other_writes)
                   for first, last, writes in self.ranges()
                   for other_first, other_last, other_writes in other.ranges())

    def stream_bytes(self, segment: int) -> int:
        """Bytes that the next segment takes from the kernel's stream."""
        if self.control.local != Local.STREAM:
            return 0
        if self.posted is not None:
            packet = self.posted.packets[0] if self.posted.packets else None
            return len(packet.payload) // self.wire_size * self.element.size if packet else 0
        return min(self._remaining, segment // self.wire_size) * self.element.size

    def hand_out(self, segment: int, memory: Memory, kernel: deque[int], packet: Packet | None) -> Segment:
        """Do the next segment. Raises :class:`SegmentError`."""
        move, control = self.move, self.control
        count, is_last = self._cut(segment, packet)
        first = self._operand(control.local, move.local, count, memory, kernel)
        second = self._second(packet, count, memory)
        if second is None or first is None:
            result = first if second is None else second
        else:
            result = reduce(Function(move.function), second, first) if control.reduce else second
        content = np.zeros(count, self.element.dtype) if result is None else result
        wire = content
        if move.compressed and control.send:
            wire = compress(content)
            content = expand(wire)
        header = self._header(count, is_last) if control.send else None
        if control.target == Target.MEMORY and count:
            try:
                memory.write(move.result + self._done * self.element.size, content.tobytes())
            except BusError:
                raise SegmentError(Status.WRITE_ERROR) from None
        self._remaining -= count
        self._done += count
        self._offset += count * self.wire_size
        self.waits_clear = self.asks and not self._is_begun
        self._is_begun, self.is_handed_out = True, is_last
        return Segment(count * self.element.size, header, wire.tobytes() if control.send else b"",
                       content.tobytes() if control.target == Target.STREAM else b"", is_last)

    def _cut(self, segment: int, packet: Packet | None) -> tuple[int, bool]:
        """Elements of the next segment, and whether it is the last one."""
        if packet is None:
            most = segment // self.wire_size
            return min(self._remaining, most), self._remaining <= most
        header = packet.header
        count = len(packet.payload) // self.wire_size
        is_bad = False
        if not self._is_begun:
            is_bad = (header.length > self.move.count * self.wire_size
                      or bool(header.flags & HeaderFlag.COMPRESSED) != bool(self.move.compressed))
            self._remaining = header.length // self.wire_size
        if is_bad or count > self._remaining:
            raise SegmentError(Status.RECEIVE_SIZE, Cause.PACKET, header.source)
        return count, bool(header.flags & HeaderFlag.LAST)

    def _operand(self, local: Local, address: int, count: int, memory: Memory, kernel: deque[int]) -> np.ndarray | None:
        size = count * self.element.size
        if local == Local.NONE:
            return None
        if local == Local.STREAM:
            raw = bytes(kernel.popleft() for _ in range(size))
        else:
            raw = self._read(memory, address, size)
        return np.frombuffer(raw, self.element.dtype)

    def _read(self, memory: Memory, address: int, size: int) -> bytes:
        try:
            return memory.read(address + self._done * self.element.size, size) if size else b""
        except BusError:
            raise SegmentError(Status.READ_ERROR) from None

    def _second(self, packet: Packet | None, count: int, memory: Memory) -> np.ndarray | None:
        if self.control.other == Other.MEMORY:
            return np.frombuffer(self._read(memory, self.move.other, count * self.element.size), self.element.dtype)
        if packet is None:
            return None
        if self.move.compressed:
            return expand(np.frombuffer(packet.payload, np.float16))
        return np.frombuffer(packet.payload[:count * self.element.size], self.element.dtype)

    def _header(self, count: int, is_last: bool) -> Header:
        move = self.move
        asks = self.asks and not self._is_begun
        flags = ((0 if self._is_begun else HeaderFlag.FIRST) | (HeaderFlag.LAST if is_last else 0)
                 | (HeaderFlag.STREAM if self.control.put else 0) | (HeaderFlag.COMPRESSED if move.compressed else 0)
                 | (HeaderFlag.REQUEST_TO_SEND if asks else 0))
        return Header(PacketType.DATA, int(flags), move.communicator, destination=move.destination,
                      operation=move.operation, tag=move.tag, length=self.length, offset=self._offset,
                      element=move.element, handle=self.place if asks else 0)
