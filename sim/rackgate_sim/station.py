# SPDX-License-Identifier: Apache-2.0
"""Golden model of a board's station: what it does with a frame. Simple, and without time.

Sources: RFC 826, RFC 791 3.1, RFC 792, RFC 768, RFC 1071; RFC 1122 3.2.1.3 and 3.2.2.6.
"""

import struct
from dataclasses import dataclass

from rackgate.bridge.abi import UDP_PORT
from rackgate.net.frames import Endpoint, internet_checksum, udp_frame
from rackgate.net.station.abi import DEFAULT_ADDRESS, DEFAULT_MAC

__all__ = ["Dropped", "ForSystem", "Message", "Reply", "StationModel"]

_EVERYONE = b"\xFF" * 6
_ARP, _IPV4 = b"\x08\x06", b"\x08\x00"
_REQUEST = bytes.fromhex("0001 0800 06 04 0001")
_ICMP, _UDP = 1, 17


@dataclass(frozen=True)
class ForSystem:
    """The frame goes to the system behind the station."""


@dataclass(frozen=True)
class Dropped:
    """The frame is for the station, and bad."""


@dataclass(frozen=True)
class Reply:
    """The station answers with a frame, without padding."""

    frame: bytes


@dataclass(frozen=True)
class Message:
    """The bridge gets a message; the answer goes to ``sender``."""

    sender: Endpoint
    content: bytes


@dataclass(frozen=True)
class StationModel:
    """A station with these addresses."""

    mac: int = DEFAULT_MAC
    address: int = DEFAULT_ADDRESS
    port: int = UDP_PORT

    def receive(self, frame: bytes, *, is_damaged: bool = False) -> ForSystem | Dropped | Reply | Message:
        """What becomes of a frame without FCS; ``is_damaged``: the MAC says so."""
        mac, address = self.mac.to_bytes(6, "big"), self.address.to_bytes(4, "big")
        kind = frame[12:14]
        if len(frame) < 42:
            return ForSystem()
        if kind == _ARP:
            if frame[:6] not in (mac, _EVERYONE) or frame[14:22] != _REQUEST or frame[38:42] != address:
                return ForSystem()
            sender, sender_address = frame[22:28], frame[28:32]
            if is_damaged or _is_group(sender, sender_address):
                return Dropped()
            return Reply(sender + mac + _ARP + _REQUEST[:7] + b"\x02" + mac + address + sender + sender_address)
        is_plain = frame[14] == 0x45 and not int.from_bytes(frame[20:22], "big") & ~0x4000
        if kind != _IPV4 or frame[:6] != mac or not is_plain or frame[30:34] != address:
            return ForSystem()
        protocol, start = frame[23], frame[34:38]
        is_echo = protocol == _ICMP and start[:2] == b"\x08\x00"
        if not is_echo and not (protocol == _UDP and start[2:] == self.port.to_bytes(2, "big")):
            return ForSystem()
        total = int.from_bytes(frame[16:18], "big")
        content = frame[34:14 + total]
        if (is_damaged or internet_checksum(frame[14:34]) or len(frame) < 14 + total or total < 28
                or _is_group(frame[6:12], frame[26:30])):
            return Dropped()
        return self._echo(frame, content) if is_echo else self._message(frame, content)

    def _echo(self, frame: bytes, content: bytes) -> Reply | Dropped:
        if internet_checksum(content):
            return Dropped()
        reply = b"\0\0\0\0" + content[4:]
        reply = reply[:2] + internet_checksum(reply).to_bytes(2, "big") + reply[4:]
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(reply), 0, 0x4000, 64, _ICMP, 0)
        ends = frame[30:34] + frame[26:30]
        head = head[:10] + internet_checksum(head + ends).to_bytes(2, "big") + ends
        return Reply(frame[6:12] + frame[:6] + _IPV4 + head + reply)

    def _message(self, frame: bytes, content: bytes) -> Message | Dropped:
        source, _, length, checksum = struct.unpack_from(">HHHH", content)
        pseudo = frame[26:34] + struct.pack(">HH", _UDP, length)
        if length != len(content) or length == 8 or checksum and internet_checksum(pseudo + content):
            return Dropped()
        sender = Endpoint(int.from_bytes(frame[6:12], "big"), int.from_bytes(frame[26:30], "big"), source)
        return Message(sender, content[8:])

    def answer(self, sender: Endpoint, content: bytes) -> bytes:
        """The frame that carries the bridge's answer to a message, without padding."""
        return udp_frame(Endpoint(self.mac, self.address, self.port), sender, content)


def _is_group(mac: bytes, address: bytes) -> bool:
    """Whether a sender's address is one of a group, or of all."""
    return bool(mac[0] & 1) or address[0] >= 224
