# SPDX-License-Identifier: Apache-2.0
"""Datagrams of this machine's sockets as frames of a cable between a host and a board."""

from ipaddress import IPv4Address
from typing import NamedTuple

from rackgate.board.links import Udp
from rackgate.bridge.abi import UDP_PORT
from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame

__all__ = ["HOST_ADDRESS", "HOST_MAC", "Datagram", "Datagrams"]

#: The one host on the cable, as the board sees it.
HOST_MAC = 0x02_52_47_FF_FF_FE
HOST_ADDRESS = 0xC0A8_0101


class Datagram(NamedTuple):
    """What a board has sent: from which of its ports, the data, and the socket that it is for."""

    port: int
    data: bytes
    receiver: tuple[str, int]


class Datagrams:
    """Frames between a host and ports of a board.

    Sockets of this machine are told apart by their ports, which the host on the cable has too. The bridge answers who
    has asked it; the system may send to any socket. What it sends to an address of 127.0.0.0/8 is for that one's
    sockets, whatever the MAC address: so a host that knows nothing of the simulation can tell it of its own sockets.

    Parameters
    ----------
    link:
        What the board answers to.
    """

    def __init__(self, link: Udp):
        self._link = link
        self._senders: dict[int, tuple[str, int]] = {}

    def pack(self, data: bytes, sender: tuple[str, int], port: int = UDP_PORT) -> bytes:
        """The frame in which ``data``, which came from the socket ``sender``, goes to a port of the board."""
        self._senders[sender[1]] = sender
        board = Endpoint(self._link.mac, self._link.address, port)
        return udp_frame(Endpoint(HOST_MAC, HOST_ADDRESS, sender[1]), board, data)

    def unpack(self, frame: bytes) -> Datagram | None:
        """The datagram in a frame of the board for the host; ``None`` for a frame that is for somebody else.

        Raises ``ValueError`` for a frame for the host that is no datagram of the board's.
        """
        is_local = frame[12:14] == b"\x08\0" and frame[30:31] == b"\x7f"
        if not is_local and not frame.startswith(HOST_MAC.to_bytes(6, "big")):
            return None
        source, target, data = split_udp_frame(frame)
        if is_local:
            return Datagram(source.port, data, (str(IPv4Address(target.address)), target.port))
        if source[:2] != (self._link.mac, self._link.address) or target.address != HOST_ADDRESS:
            raise ValueError(f"a datagram from {source} to {target} is not from the board to its host")
        if source.port == UDP_PORT and target.port not in self._senders:
            raise ValueError(f"a datagram from {source} to {target} is none of the bridge's answers")
        return Datagram(source.port, data, self._senders.get(target.port, ("127.0.0.1", target.port)))
