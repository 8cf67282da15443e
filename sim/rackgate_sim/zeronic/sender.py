# SPDX-License-Identifier: Apache-2.0
"""From a SEND command to frames: cutting, gathering, editing of headers, checksums."""

from collections import deque

from rackgate.net.frames import internet_checksum
from rackgate.zeronic.abi import ETHERNET_SIZE, HEADER_MOST, Counter, Direction, Right
from rackgate.zeronic.messages import Entry, EntryFlag, EntryKind, Send, SendFlag
from rackgate_sim.inflate.model import BusError, Memory
from rackgate_sim.zeronic.coalescer import Item
from rackgate_sim.zeronic.parse import transport_checksum
from rackgate_sim.zeronic.receiver import item
from rackgate_sim.zeronic.tables import Tables

__all__ = ["FRAME_PAYLOAD_MOST", "PAYLOAD_MOST", "Sender", "is_valid"]

#: Payload bytes of a command, and of a frame.
PAYLOAD_MOST = 65535 - 40
FRAME_PAYLOAD_MOST = 9216

_TCP = ETHERNET_SIZE + 20
_FIN, _PSH, _ACK, _CWR = 0x01, 0x08, 0x10, 0x80


def is_valid(send: Send, room: int) -> bool:
    """Whether the NIC takes a command, whose units have ``room`` bytes for header and inline payload."""
    header, flags = send.header, SendFlag(send.flags)
    inline = 0 if SendFlag.GATHER in flags else send.payload
    if not ETHERNET_SIZE <= len(header) <= HEADER_MOST or len(header) + inline > room:
        return False
    if send.payload > PAYLOAD_MOST or min(send.payload, send.segment or send.payload) > FRAME_PAYLOAD_MOST:
        return False
    if SendFlag.OFFLOAD not in flags:
        return not flags and not send.segment
    return len(header) >= _TCP + 20 and len(header) == _TCP + 4 * (header[_TCP + 12] >> 4)


def _edited(header: bytes, payload: bytes, done: int, number: int, is_last: bool) -> bytes:
    """The frame of a piece of payload, ``done`` bytes behind the first, in frame ``number`` of a command."""
    ethernet, ip, tcp = header[:ETHERNET_SIZE], bytearray(header[ETHERNET_SIZE:_TCP]), bytearray(header[_TCP:])
    ip[2:4] = (len(ip) + len(tcp) + len(payload)).to_bytes(2, "big")
    ip[4:6] = ((int.from_bytes(ip[4:6], "big") + number) % (1 << 16)).to_bytes(2, "big")
    ip[10:12] = bytes(2)
    ip[10:12] = internet_checksum(bytes(ip)).to_bytes(2, "big")
    tcp[4:8] = ((int.from_bytes(tcp[4:8], "big") + done) % (1 << 32)).to_bytes(4, "big")
    if not is_last:
        tcp[13] &= ~(_FIN | _PSH)
    if number:
        tcp[13] &= ~_CWR
    tcp[16:18] = bytes(2)
    tcp[16:18] = transport_checksum(bytes(ip[12:20]), 6, bytes(tcp + payload)).to_bytes(2, "big")
    return bytes(ethernet + ip + tcp + payload)


class Sender:
    """Makes frames.

    Attributes
    ----------
    frames:
        Those made, oldest first.
    """

    def __init__(self, memory: Memory, tables: Tables, counts: dict[Counter, int]) -> None:
        self.frames: deque[bytes] = deque()
        self._memory, self._tables, self._counts = memory, tables, counts

    def send(self, send: Send) -> Item | None:
        """Do a valid command; its entry, if it could not be sent whole."""
        flags = SendFlag(send.flags)
        if SendFlag.OFFLOAD not in flags:
            self._emit(send.header + send.inline)
            return None
        flow = self._tables.flows[send.flow]
        tcp = send.header[_TCP:]
        if SendFlag.SNOOP in flags and tcp[13] & _ACK:
            flow.guard.advance(int.from_bytes(tcp[8:12], "big"))
        sequence = int.from_bytes(tcp[4:8], "big")
        step = send.segment or send.payload or 1
        for number, done in enumerate(range(0, max(send.payload, 1), step)):
            size = min(step, send.payload - done)
            if SendFlag.GATHER in flags:
                payload = self._gathered(send.flow, (sequence + done) % (1 << 32), size)
            else:
                payload = send.inline[done:done + size]
            if payload is None:
                self._counts[Counter.UNSENT] += 1
                return item(flow.ring, Entry(EntryKind.UNSENT, EntryFlag.FLOW, flow=send.flow))
            self._emit(_edited(send.header, payload, done, number, done + size == send.payload))
        return None

    def _gathered(self, number: int, position: int, size: int) -> bytes | None:
        segments = self._tables.flows[number].segments[Direction.SEND]
        covered = segments.cover(self._tables.regions, number, position, size, Right.READ)
        self._counts[Counter.BAD_REGION] += covered.bad_region
        if covered.size < size:
            return None
        try:
            return b"".join(self._memory.read(piece.address, piece.size) for piece in covered.pieces)
        except BusError:
            return None

    def _emit(self, frame: bytes) -> None:
        self._counts[Counter.FRAMES_SENT] += 1
        self._counts[Counter.BYTES_SENT] += len(frame)
        self.frames.append(frame)
