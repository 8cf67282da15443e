# SPDX-License-Identifier: Apache-2.0
"""Packets that the NIC does not parse: IPv4 with options, and in fragments (RFC 791 3.1, 3.2; RFC 815).

Their payload must not reach a transport that works on placeholders. So those of TCP are brought into the form that the
NIC would have parsed, whole and without options, and their checksums are verified, as the NIC would have.
"""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from rackgate.net.frames import internet_checksum
from rackgate.zeronic.abi import ETHERNET_SIZE

__all__ = ["Packet", "Packets"]

_TCP = 6
_MORE, _OFFSET = 0x2000, 0x1FFF
#: Packets whose fragments are waited for, at most, and for how many seconds.
_WAITING_MOST, _WAITING_LIMIT = 64, 30.0


class Packet(NamedTuple):
    """A packet. ``frames``: as they came; ``plain``: one frame that says the same, for TCP with right checksums."""

    frames: tuple[bytes, ...]
    plain: bytes | None = None


@dataclass
class _Waiting:
    """A packet of which fragments are missing. ``parts``: payload by its offset."""

    since: float
    frames: list[bytes] = field(default_factory=list)
    head: bytes = b""  # of the first fragment, Ethernet and IPv4 without options
    parts: dict[int, bytes] = field(default_factory=dict)
    size: int | None = None

    def whole(self) -> bytes | None:
        """All payload, if it is there. Fragments that overlap never become whole."""
        content = b""
        for offset, part in sorted(self.parts.items()):
            if offset != len(content):
                return None
            content += part
        return content if len(content) == self.size else None


class Packets:
    """Puts fragments together. Those that never become whole are forgotten after half a minute."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, _Waiting] = {}

    def take(self, frame: bytes, now: float) -> Packet | None:
        """The packet that ``frame`` is, or completes; ``None`` if there must come more."""
        ip = frame[ETHERNET_SIZE:]
        if len(ip) < 20 or frame[12:14] != b"\x08\0" or ip[0] >> 4 != 4 or ip[9] != _TCP:
            return Packet((frame,))
        size, (length, _, fragment) = (ip[0] & 15) * 4, struct.unpack_from(">HHH", ip, 2)
        if size < 20 or not size <= length <= len(ip) or internet_checksum(ip[:size]):
            return Packet((frame,))
        payload = ip[size:length]
        head = frame[:ETHERNET_SIZE] + b"\x45" + ip[1:20]
        if not fragment & (_MORE | _OFFSET):
            return Packet((frame,), _plain(head, payload))
        return self._fragment(frame, head, payload, fragment, now)

    def _fragment(self, frame: bytes, head: bytes, payload: bytes, fragment: int, now: float) -> Packet | None:
        self._waiting = {key: one for key, one in self._waiting.items() if now - one.since < _WAITING_LIMIT}
        key = head[18:20] + head[26:34]  # identification and addresses
        waiting = self._waiting.get(key)
        if waiting is None:
            if len(self._waiting) == _WAITING_MOST:
                del self._waiting[next(iter(self._waiting))]
            waiting = self._waiting[key] = _Waiting(now)
        offset = (fragment & _OFFSET) * 8
        waiting.frames.append(frame)
        waiting.parts[offset] = payload
        if not offset:
            waiting.head = head
        if not fragment & _MORE:
            waiting.size = offset + len(payload)
        content = waiting.whole()
        if content is None:
            return None
        del self._waiting[key]
        return Packet(tuple(waiting.frames), _plain(waiting.head, content))


def _plain(head: bytes, segment: bytes) -> bytes | None:
    """A frame of TCP, if the checksum is right and it can be one; IPv4's length and checksum are made anew."""
    if len(segment) < 20 or not 20 <= (segment[12] >> 4) * 4 <= len(segment) or 20 + len(segment) > 0xFFFF:
        return None
    if internet_checksum(head[26:34] + struct.pack(">HH", _TCP, len(segment)) + segment):
        return None
    made = bytearray(head)
    struct.pack_into(">H", made, 16, 20 + len(segment))
    made[20:22], made[24:26] = b"\0\0", b"\0\0"
    struct.pack_into(">H", made, 24, internet_checksum(bytes(made[ETHERNET_SIZE:])))
    return bytes(made) + segment
