# SPDX-License-Identifier: Apache-2.0
"""Datagrams of this machine's sockets as frames of a cable between a host and a board."""

from rackgate.board.links import Udp
from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame

__all__ = ["HOST_ADDRESS", "HOST_MAC", "Datagrams"]

#: The one host on the cable, as the board sees it.
HOST_MAC = 0x02_52_47_FF_FF_FE
HOST_ADDRESS = 0xC0A8_0101


class Datagrams:
    """Frames between a host and a board's bridge.

    Sockets of this machine are told apart by their ports, which the host on the cable has too.

    Parameters
    ----------
    link:
        What the board answers to.
    port:
        UDP port of the bridge.
    """

    def __init__(self, link: Udp, port: int):
        self._board = Endpoint(link.mac, link.address, port)
        self._senders: dict[int, tuple[str, int]] = {}

    def pack(self, message: bytes, sender: tuple[str, int]) -> bytes:
        """The frame in which ``message``, which came from the socket ``sender``, goes to the board."""
        self._senders[sender[1]] = sender
        return udp_frame(Endpoint(HOST_MAC, HOST_ADDRESS, sender[1]), self._board, message)

    def unpack(self, frame: bytes) -> tuple[bytes, tuple[str, int]] | None:
        """The message in a frame of the board, and the socket that it is for; ``None`` for any other frame.

        Raises ``ValueError`` for a datagram of the bridge that is wrong.
        """
        if not frame.startswith(HOST_MAC.to_bytes(6, "big")):
            return None
        source, target, message = split_udp_frame(frame)
        if source != self._board or target.address != HOST_ADDRESS or target.port not in self._senders:
            raise ValueError(f"a datagram from {source} to {target} is none of the bridge's answers")
        return message, self._senders[target.port]
