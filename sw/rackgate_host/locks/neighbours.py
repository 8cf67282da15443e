# SPDX-License-Identifier: Apache-2.0
"""Hardware addresses of hosts on this machine's networks, as its kernel knows them. Linux only."""

import asyncio
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from .control import Address, show_address
from .errors import NoService

__all__ = ["check_network", "find", "hardware_address", "is_loopback"]

# linux/sockios.h: address, and hardware address, of an interface. A request has the interface's name in 16 bytes.
_GET_ADDRESS, _GET_HARDWARE_ADDRESS = 0x8915, 0x8927
_REQUEST = struct.Struct("16s24x")
# linux/if_arp.h: an entry of the table of neighbours that has an address.
_COMPLETE = 2
_TABLE = Path("/proc/net/arp")
# Seconds between two looks, and the most looks.
_AGAIN, _LOOKS = 0.05, 40


def is_loopback(address: str) -> bool:
    """Whether an IPv4 address, or a name, is one of this machine that others cannot reach."""
    try:
        return ipaddress.IPv4Address(address).is_loopback
    except ValueError:
        return address == "localhost"


def check_network(listen: Address, board: Address | None) -> None:
    """Raise :class:`NoService` if hosts that reach ``listen`` could not send to the board from where they do."""
    if board is not None and is_loopback(listen[0]) and not is_loopback(board[0]):
        raise NoService(f"{show_address(listen)}: hosts send to the board at {board[0]} from the address by which they "
                        "reach the service: listen in the board's network")


def _own(address: str) -> int | None:
    """The hardware address of the interface that has ``address``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            request = _REQUEST.pack(name.encode())
            try:
                found = fcntl.ioctl(sock, _GET_ADDRESS, request)
                if socket.inet_ntoa(found[20:24]) == address:
                    return int.from_bytes(fcntl.ioctl(sock, _GET_HARDWARE_ADDRESS, request)[18:24], "big")
            except OSError:  # it has no address, or has gone
                continue
    return None


def hardware_address(address: str, table: Path = _TABLE) -> int | None:
    """The MAC address of the host with an IPv4 address, this one included; ``None`` if the kernel has none.

    The kernel learns that of a neighbour when it sends something there.
    """
    if (own := _own(address)) is not None:
        return own
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:  # address, kind of hardware, flags, hardware address, mask, interface
        fields = line.split()
        if fields[0] == address and int(fields[2], 16) & _COMPLETE:
            return int(fields[3].replace(":", ""), 16)
    return None


async def find(address: str, send: Callable[[], None]) -> int | None:
    """As :func:`hardware_address`, but ``send()`` is called again and again, which sends something there."""
    for _ in range(_LOOKS):
        if (found := hardware_address(address)) is not None:
            return found
        send()
        await asyncio.sleep(_AGAIN)
    return None
