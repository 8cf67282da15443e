# SPDX-License-Identifier: Apache-2.0
"""Links between a host and a board, and where a bridge has what in its register space. Plain Python."""

from dataclasses import dataclass

__all__ = ["CSR_WIDTH", "MAC_BASE", "STATION_BASE", "Uart", "Udp", "address_text"]

#: Address bits of the bridge's register space on a board with Ethernet: the system's registers are at 0.
CSR_WIDTH = 17
#: Registers of the Ethernet station (:mod:`rackgate.net.station.abi`).
STATION_BASE = 0x1_0000
#: Registers of the MAC (:mod:`rackgate.mac.abi`).
MAC_BASE = 0x1_1000


@dataclass(frozen=True)
class Uart:
    """A serial line: ``baud`` bits a second, 8 data bits, no parity, 1 stop bit."""

    baud: int = 1_000_000


@dataclass(frozen=True)
class Udp:
    """An Ethernet port: what the station answers to until its registers say otherwise.

    ``mac`` is of 48 bits, the first byte on the wire highest; ``address`` is the IPv4 address.
    """

    mac: int = 0x02_52_47_00_00_01
    address: int = 0xC0A8_0132

    def __post_init__(self) -> None:
        if not 0 <= self.mac < 1 << 48 or self.mac >> 40 & 1:
            raise ValueError(f"mac must be the address of one station, of 48 bits, not {self.mac:#x}")
        if not 0 < self.address < 0xE000_0000:
            raise ValueError(f"address must be the IPv4 address of one station, not {address_text(self.address)}")


def address_text(address: int) -> str:
    """An IPv4 address as it is written."""
    return ".".join(str(byte) for byte in (address & 0xFFFF_FFFF).to_bytes(4, "big"))
