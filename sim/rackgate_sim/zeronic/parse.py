# SPDX-License-Identifier: Apache-2.0
"""What a frame is: rules 1 to 6 of ``rackgate.zeronic.abi``, without any table but the profiles."""

from collections.abc import Sequence
from typing import NamedTuple

from rackgate.net.frames import internet_checksum
from rackgate.zeronic.abi import ETHERNET_SIZE, HEADER_MOST, Counter
from rackgate.zeronic.messages import ChecksumKind, Profile

__all__ = ["FRAME_MOST", "FlowKey", "Verdict", "parse", "transport_checksum"]

#: Bytes of the longest frame.
FRAME_MOST = 9216 + HEADER_MOST
_IPV4_SIZE = 20
_TRANSPORT = ETHERNET_SIZE + _IPV4_SIZE


class FlowKey(NamedTuple):
    """What tells flows apart, as on the wire that comes in."""

    source: int
    destination: int
    source_port: int
    destination_port: int
    profile: int


class Verdict(NamedTuple):
    """A frame that is kept. Without a ``key`` nothing else counts: it goes up whole, unchecked.

    ``position``: of the payload's first byte; ``headers``: bytes before it; ``payload``: its bytes; ``flags``: byte 13
    of a TCP header, else 0.
    """

    key: FlowKey | None = None
    position: int = 0
    headers: int = 0
    payload: int = 0
    flags: int = 0


def transport_checksum(addresses: bytes, protocol: int, content: bytes) -> int:
    """Checksum of a transport's header and payload with the pseudo header of IPv4; 0 over a right one."""
    pseudo = addresses + bytes([0, protocol]) + len(content).to_bytes(2, "big")
    return internet_checksum(pseudo + content)


def _profile(profiles: Sequence[Profile], protocol: int, transport: bytes) -> Profile | None:
    """The lowest profile that matches."""
    port = int.from_bytes(transport[2:4], "big")
    for profile in profiles:
        if protocol and profile.protocol == protocol and not (port ^ profile.port) & profile.mask:
            return profile
    return None


def _header_size(profile: Profile, transport: bytes) -> int | None:
    """Bytes of the transport header; ``None`` if it is not all there, or does not hold the position."""
    size = profile.size
    if not size:
        if len(transport) < 20 or transport[12] >> 4 < 5:
            return None
        size = 4 * (transport[12] >> 4)
    if profile.checksum == ChecksumKind.UDP and int.from_bytes(transport[4:6], "big") != len(transport):
        return None
    return size if profile.position + 4 <= size <= len(transport) else None


def parse(frame: bytes, profiles: Sequence[Profile], is_bad: bool = False) -> Verdict | Counter:
    """The verdict, or the counter of the reason for which the frame is dropped.

    ``frame``: from Ethernet's header on, without FCS. ``is_bad``: the MAC has marked it.
    """
    is_ipv4 = frame[12:14] == b"\x08\x00"
    least = _TRANSPORT if is_ipv4 else ETHERNET_SIZE
    if is_bad or not least <= len(frame) <= FRAME_MOST:
        return Counter.BAD_FRAME
    header = frame[ETHERNET_SIZE:_TRANSPORT]
    if not is_ipv4 or header[0] != 0x45:
        return Verdict()
    if int.from_bytes(header[6:8], "big") & 0x3FFF:  # more fragments, or an offset
        return Verdict()
    length = int.from_bytes(header[2:4], "big")
    if not _IPV4_SIZE <= length <= len(frame) - ETHERNET_SIZE:
        return Counter.BAD_FRAME
    if internet_checksum(header):
        return Counter.BAD_IP_CHECKSUM
    protocol, transport = header[9], frame[_TRANSPORT:ETHERNET_SIZE + length]
    profile = _profile(profiles, protocol, transport)
    size = _header_size(profile, transport) if profile else None
    if profile is None or size is None:
        return Verdict()
    is_unsummed = profile.checksum == ChecksumKind.UDP and transport[6:8] == bytes(2)
    if (profile.checksum != ChecksumKind.NONE and not is_unsummed
            and transport_checksum(header[12:20], protocol, transport)):
        return Counter.BAD_CHECKSUM
    key = FlowKey(int.from_bytes(header[12:16], "big"), int.from_bytes(header[16:20], "big"),
                  int.from_bytes(transport[0:2], "big"), int.from_bytes(transport[2:4], "big"), profile.profile)
    position = int.from_bytes(transport[profile.position:profile.position + 4], "big")
    return Verdict(key, position, _TRANSPORT + size, len(transport) - size, 0 if profile.size else transport[13])
