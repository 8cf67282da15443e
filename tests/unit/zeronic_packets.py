# SPDX-License-Identifier: Apache-2.0
"""Packets for the NIC's tests, with arithmetic of their own."""

from dataclasses import dataclass, replace

__all__ = ["ACK", "CWR", "ECE", "FIN", "PSH", "RST", "SYN", "TIMESTAMPS", "URG", "Tcp", "ones_complement", "udp_frame"]

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << k for k in range(8))

#: Two NOPs and a timestamp option, as kernels send it.
TIMESTAMPS = bytes([1, 1, 8, 10]) + bytes(range(8))

_ETHERNET = bytes.fromhex("020000000001020000000002 0800")


def ones_complement(content: bytes) -> int:
    """RFC 1071's checksum as arithmetic modulo 65535; 0 over content that has a right one."""
    total = int.from_bytes(content + bytes(len(content) % 2), "big")
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


@dataclass(frozen=True)
class Tcp:
    """A TCP segment over IPv4 over Ethernet. ``options``: of TCP, a multiple of 4 bytes."""

    payload: bytes = b""
    seq: int = 0
    ack: int = 0
    flags: int = ACK
    window: int = 1000
    options: bytes = b""
    source: int = 0x0A4D0002
    destination: int = 0x0A4D0001
    sport: int = 5001
    dport: int = 80
    identification: int = 7
    tos: int = 0
    fragment: int = 0x4000
    padding: int = 0

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Addresses and ports."""
        return self.source, self.destination, self.sport, self.dport

    def but(self, **changes) -> "Tcp":
        """The same with some fields changed."""
        return replace(self, **changes)

    def header(self) -> bytes:
        """All headers, with right checksums."""
        return self.frame()[:54 + len(self.options)]

    def frame(self) -> bytes:
        """The frame without FCS, with right checksums."""
        addresses = self.source.to_bytes(4, "big") + self.destination.to_bytes(4, "big")
        offset = 5 + len(self.options) // 4
        tcp = (self.sport.to_bytes(2, "big") + self.dport.to_bytes(2, "big") + (self.seq % 2**32).to_bytes(4, "big")
               + (self.ack % 2**32).to_bytes(4, "big") + bytes([offset << 4, self.flags])
               + self.window.to_bytes(2, "big") + bytes(4) + self.options + self.payload)
        total = ones_complement(addresses + bytes([0, 6]) + len(tcp).to_bytes(2, "big") + tcp)
        tcp = tcp[:16] + total.to_bytes(2, "big") + tcp[18:]
        ip = (bytes([0x45, self.tos]) + (20 + len(tcp)).to_bytes(2, "big") + self.identification.to_bytes(2, "big")
              + self.fragment.to_bytes(2, "big") + bytes([64, 6, 0, 0]) + addresses)
        ip = ip[:10] + ones_complement(ip).to_bytes(2, "big") + ip[12:]
        return _ETHERNET + ip + tcp + bytes(self.padding)


def udp_frame(payload: bytes, tcp: Tcp, has_checksum: bool = True) -> bytes:
    """A UDP datagram with the addresses and ports of ``tcp``."""
    addresses = tcp.source.to_bytes(4, "big") + tcp.destination.to_bytes(4, "big")
    size = (8 + len(payload)).to_bytes(2, "big")
    udp = tcp.sport.to_bytes(2, "big") + tcp.dport.to_bytes(2, "big") + size + bytes(2) + payload
    if has_checksum:
        total = ones_complement(addresses + bytes([0, 17]) + size + udp) or 0xFFFF
        udp = udp[:6] + total.to_bytes(2, "big") + udp[8:]
    ip = bytes([0x45, 0]) + (20 + len(udp)).to_bytes(2, "big") + bytes([0, 0, 0x40, 0, 64, 17, 0, 0]) + addresses
    ip = ip[:10] + ones_complement(ip).to_bytes(2, "big") + ip[12:]
    return _ETHERNET + ip + udp
