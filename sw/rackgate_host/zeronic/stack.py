# SPDX-License-Identifier: Apache-2.0
"""Control stacks: what stands between the NIC's rings and a transport. The first one's transport is Linux' TCP.

The kernel sees a stream of placeholders (:mod:`rackgate.zeronic.versions`) with the headers of the real one. Payload of
a flow that is split never goes through it, nor through this process, save what the NIC could not place.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rackgate.zeronic.abi import ETHERNET_SIZE, HEADER_MOST
from rackgate.zeronic.messages import Entry, EntryFlag, EntryKind, Send, SendFlag
from rackgate.zeronic.versions import NEVER

from .flows import Flow, Flows
from .headers import TcpFlag, TcpHeader, finish_tcp, parse_tcp, put_checksum
from .lifetimes import Lifetimes, incoming_key, outgoing_key
from .nic import Nic
from .packets import Packets
from .ports import FromKernel, Port

__all__ = ["ControlStack", "KernelStack", "StackCounts"]

#: Longest frame that goes out without being cut, less its headers.
_PAYLOAD_MOST = 9216
#: Payload of a frame on the wire, as the kernel is told of a segment that came in fragments and is longer.
_SEGMENT = 1400
_ZEROS = memoryview(bytes(1 << 17))
_NEVERS = memoryview(bytes([NEVER]) * (1 << 16))


class ControlStack(Protocol):
    """One transport above the NIC. All calls are made by one thread, and none waits."""

    def from_nic(self, entry: Entry, content: bytes, now: float) -> bool:
        """Take an entry, of kind HEADER, DEFERRED or UNSENT: whether it is this transport's."""
        ...

    def to_nic(self, most: int, now: float) -> bool:
        """Send up to ``most`` of the frames that the transport has for the NIC: whether there may be more."""
        ...

    def tick(self, now: float) -> None:
        """Time has passed."""
        ...

    def statistics(self) -> dict[str, Any]:
        """Counts by name."""
        ...


@dataclass
class StackCounts:
    """What a control stack has counted. Payload is of flows that are split, both ways, repetitions included."""

    headers: int = 0  # entries that were placed
    frames: int = 0  # frames that they stood for
    deferred: int = 0  # entries of split flows whose payload came up
    payload_up: int = 0
    payload_deferred: int = 0  # of payload_up: bytes that came up and were kept in a side store
    payload_down: int = 0
    whole_up: int = 0  # frames of flows that are not split
    whole_down: int = 0
    whole_bytes: int = 0  # their bytes, both ways
    lost: int = 0  # entries that could not be handed on: the side store was full, or a write had failed
    unsent: int = 0  # frames that the NIC could not gather
    unsendable: int = 0  # frames of the kernel that the NIC cannot send
    refused: int = 0  # whose payload would have been placeholders: their flow had been forgotten


class KernelStack:
    """Linux' TCP, in the namespace behind a port.

    Parameters
    ----------
    nic, flows, port:
        What it works on.
    address:
        The host's, as a number: of frames to others the source, which applications name.
    mac:
        Its MAC, 6 bytes. Headers of split flows get it as destination: the NIC hands up no Ethernet header with them,
        and that of any one frame may have been damaged.

    Attributes
    ----------
    lifetimes:
        When flows begin and end; which ports' connections are to be split.
    """

    def __init__(self, nic: Nic, flows: Flows, port: Port, address: int, mac: bytes):
        self.nic = nic
        self.flows = flows
        self.port = port
        self.address = address
        self._ethernet = mac + bytes(6) + b"\x08\0"
        self.lifetimes = Lifetimes(flows, address)
        self.counts = StackCounts()
        self._packets = Packets()

    # From the NIC

    def from_nic(self, entry: Entry, content: bytes, now: float) -> bool:
        """Hand an entry to the kernel. All frames that are nobody else's are the kernel's."""
        if entry.kind == EntryKind.UNSENT:
            self.counts.unsent += 1
        elif entry.kind == EntryKind.HEADER:
            self._header(entry, content, now)
        else:
            self._deferred(entry, content, now)
        return True

    def _header(self, entry: Entry, content: bytes, now: float) -> None:
        flow = self.flows.at(entry.flow)
        if flow is None or entry.flags & EntryFlag.WRITE_ERROR:
            self.counts.lost += 1
            return
        head = bytearray(self._ethernet + content)
        finish_tcp(head, entry.payload)
        tcp = parse_tcp(head)
        if tcp is None:
            self.counts.lost += 1
            return
        if tcp.flags & (TcpFlag.SYN | TcpFlag.RST) == TcpFlag.SYN:
            flow = self.lifetimes.syn_received(flow, tcp, now)
        self.counts.headers += 1
        self.counts.frames += entry.frames
        self.counts.payload_up += entry.payload
        if flow is not None:
            self.lifetimes.received(flow, tcp, now)
        after = entry.payload - entry.placed_offset - entry.placed
        tags = [_NEVERS[:entry.placed_offset], _ZEROS[:entry.placed], _NEVERS[:after]]
        segment = -(-entry.payload // entry.frames) if entry.frames else 0
        self.port.write_tcp(head, tags, entry.payload, segment)

    def _deferred(self, entry: Entry, content: bytes, now: float) -> None:
        if entry.flags & EntryFlag.CHECKED and (tcp := parse_tcp(content)) is not None:
            is_wrong = entry.flags & EntryFlag.WRITE_ERROR
            self._came_whole((content,), content, tcp, entry.placed_offset, 0 if is_wrong else entry.placed, now)
            return
        packet = self._packets.take(content, now)
        if packet is None:
            return
        tcp = parse_tcp(packet.plain) if packet.plain else None
        if packet.plain is None or tcp is None:
            for frame in packet.frames:
                self._whole_up(frame)
        else:
            self._came_whole(packet.frames, packet.plain, tcp, 0, 0, now)

    def _came_whole(self, frames: Sequence[bytes], plain: bytes, tcp: TcpHeader, placed_offset: int, placed: int,
                    now: float) -> None:
        """A TCP segment, ``plain``, whose payload has come up, save what was placed. ``frames``: as it came."""
        flow = self.flows.find(incoming_key(tcp))
        if tcp.flags & (TcpFlag.SYN | TcpFlag.RST) == TcpFlag.SYN:
            flow = self.lifetimes.syn_received(flow, tcp, now)
        if flow is None or flow.receive_begin is None:
            for frame in frames:
                self._whole_up(frame)
            return
        payload = plain[tcp.size:tcp.size + tcp.payload]
        first = tcp.sequence + bool(tcp.flags & TcpFlag.SYN) - flow.receive_begin
        tags = flow.tagger.deferred(first % (1 << 32), payload, placed_offset, placed, flow.expected % (1 << 32))
        if tags is None:
            self.counts.lost += 1
            return
        self.counts.deferred += 1
        self.counts.payload_up += tcp.payload
        self.counts.payload_deferred += tcp.payload - placed
        self.lifetimes.received(flow, tcp, now)
        head = bytearray(self._ethernet + plain[ETHERNET_SIZE:tcp.size])
        finish_tcp(head, tcp.payload)
        self.port.write_tcp(head, [tags], tcp.payload, _SEGMENT if len(frames) > 1 else 0)

    def _whole_up(self, frame: bytes) -> None:
        self.counts.whole_up += 1
        self.counts.whole_bytes += len(frame)
        self.port.write(frame)

    # To the NIC

    def to_nic(self, most: int, now: float) -> bool:
        """Send what the kernel sends."""
        for _ in range(most):
            frame = self.port.peek()
            if frame is None:
                return False
            tcp = parse_tcp(frame.head)
            flow = self.flows.find(outgoing_key(tcp)) if tcp else None
            if tcp is None:
                self._whole_down()
            elif tcp.flags & TcpFlag.SYN:
                self.lifetimes.syn_sent(flow, tcp)
                self._whole_down()
            elif flow is None:
                if self.lifetimes.refuses(tcp, now):
                    self.port.skip()
                    self.counts.refused += 1
                else:
                    self._whole_down()
            elif flow.receive_begin is None or flow.send_begin is None:
                self._whole_down()
            else:
                self.port.skip()
                self._split_down(flow, tcp, frame, now)
        return True

    def _split_down(self, flow: Flow, tcp: TcpHeader, frame: FromKernel, now: float) -> None:
        head = bytearray(frame.head[:tcp.size])
        self.port.heads += tcp.size
        self.lifetimes.sent(flow, tcp, now)
        flags = SendFlag.OFFLOAD
        if tcp.flags & TcpFlag.ACK:
            flags |= SendFlag.SNOOP
        if tcp.payload:
            flags |= SendFlag.GATHER
            self.counts.payload_down += tcp.payload
        if min(tcp.payload, frame.segment or tcp.payload) > _PAYLOAD_MOST:
            self.counts.unsendable += 1
            return
        self.nic.send(Send(flow.index, flags, bytes(head), tcp.payload, frame.segment))

    def _whole_down(self) -> None:
        frame = self.port.read()
        if frame is None:
            return
        tcp = parse_tcp(frame.head)
        size, flags, content = HEADER_MOST, SendFlag(0), frame.head
        if tcp is not None:
            size, flags = tcp.size, SendFlag.OFFLOAD
        elif frame.checksum is not None:
            changed = bytearray(content)
            put_checksum(changed, *frame.checksum)
            content = bytes(changed)
        payload = max(0, len(content) - size)
        is_cut = bool(frame.segment) and payload > frame.segment
        if len(content) < ETHERNET_SIZE or (frame.segment if is_cut else payload) > _PAYLOAD_MOST \
                or is_cut and tcp is None:
            self.counts.unsendable += 1
            return
        self.counts.whole_down += 1
        self.counts.whole_bytes += len(content)
        self.nic.send(Send(0, flags, content[:size], payload, frame.segment if is_cut else 0, content[size:]))

    # Time

    def tick(self, now: float) -> None:
        """Forget flows that are over, and post what applications have made room for."""
        self.lifetimes.tick(now)

    def statistics(self) -> dict[str, Any]:
        """Counts, and those of the port and of the flows that are there now."""
        lifetimes = self.lifetimes
        return {**asdict(self.counts), "flows": lifetimes.begun, "unsplit": lifetimes.unsplit,
                "flows_now": len(list(self.flows)), "listening": sorted(lifetimes.listening),
                "applications": self.flows.application_counts(), "header_bytes": self.port.heads,
                "placeholder_bytes": self.port.placeholders, "dropped_by_kernel": self.port.dropped}
