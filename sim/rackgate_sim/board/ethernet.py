# SPDX-License-Identifier: Apache-2.0
"""A simulated board with Ethernet: its PHY's cable is plugged into this machine's sockets, and into other boards."""

import select
import socket
from collections import deque
from collections.abc import Callable, Iterable

from rackgate.board.links import Udp
from rackgate.board.top import BoardTop
from rackgate.bridge.abi import MESSAGE_BYTES, UDP_PORT
from rackgate_sim.phy import ByteTime, Phy

from .datagrams import Datagrams
from .served import TIMEOUT, ServedBoard, ignore
from .worlds import EthernetWorld

__all__ = ["UdpBoard", "join"]

# Bytes of a datagram: one more than a frame has room for, which the board drops.
_LARGEST = MESSAGE_BYTES + 1


class UdpBoard(ServedBoard):
    """A board whose PHY is joined to UDP sockets: what comes there goes to a port of the board as a datagram.

    Frames that the board sends to others than its host are in :attr:`frames`, unless boards are joined (:func:`join`).

    Parameters
    ----------
    board:
        The board; its link is Ethernet.
    key, variant:
        As for :func:`rackgate_sim.native.build`.
    report:
        Called with a line at each long step.
    phy:
        The cable; a perfect one by default.
    ports:
        UDP ports of the board that have a socket here, beside the bridge's.

    Attributes
    ----------
    addresses:
        Host and port of the socket of each port of the board.
    frames:
        What the board has sent to others than its host, without FCS: to be taken from the left.
    """

    def __init__(self, board: BoardTop, *, key: object = None, variant: str = "fast",
                 report: Callable[[str], None] = ignore, phy: Phy | None = None, ports: Iterable[int] = ()):
        if not isinstance(board.link, Udp):
            raise TypeError(f"board must have Ethernet, not {board.link!r}")
        super().__init__(EthernetWorld(board), "board_udp", key=key, variant=variant, report=report)
        self._phy, self._datagrams = phy or Phy(), Datagrams(board.link)
        self._sockets = {port: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in (UDP_PORT, *ports)}
        for one in self._sockets.values():
            one.bind(("127.0.0.1", 0))
            one.setblocking(False)
        self.addresses: dict[int, tuple[str, int]] = {
            port: one.getsockname() for port, one in self._sockets.items()}
        host, port = self.addresses[UDP_PORT]
        self.url = f"udp:{host}:{port}?timeout={TIMEOUT}"
        self.frames: deque[bytes] = deque()
        self._given: deque[bytes] = deque()
        self._deliver: Callable[[bytes], None] = self.frames.append
        self._thread.start()

    def send(self, frame: bytes) -> None:
        """Send a frame without FCS to the board, from anybody. Any thread may call it."""
        self._given.append(frame)

    def deliver_to(self, receive: Callable[[bytes], None]) -> None:
        """Have ``receive`` called, in the board's thread, with each frame that is not for the host."""
        self._deliver = receive

    def _exchange(self, patience: float) -> bool:
        sent = self._o.pop_all()
        for payload in sent:
            fields = self._o.unpack(int(payload))
            for _ in range(fields["gap"]):
                self._phy.from_mac(ByteTime())
            self._phy.from_mac(ByteTime(fields["data"], bool(fields["valid"]), bool(fields["error"])))
        while self._phy.taken:
            self._leave(self._phy.taken.popleft())
        if patience and not self._given:
            select.select(list(self._sockets.values()), [], [], patience)
        received = sum(self._receive(port, one) for port, one in self._sockets.items())
        while self._given:
            self._phy.send(self._given.popleft())
        self._feed()
        return bool(received or sent or self._i.pending)

    def _receive(self, port: int, one: socket.socket) -> int:
        """Pass on all datagrams that have come for a port: how many. They come at the cable's rate, not the look's."""
        count = 0
        while True:
            try:
                data, sender = one.recvfrom(_LARGEST)
            except BlockingIOError:
                return count
            self._phy.send(self._datagrams.pack(data, sender, port))
            count += 1

    def _leave(self, frame: bytes) -> None:
        """Hand on a frame of the board."""
        datagram = self._datagrams.unpack(frame)
        if datagram is None:
            self._deliver(frame)
        elif datagram.port in self._sockets:
            self._sockets[datagram.port].sendto(datagram.data, datagram.receiver)

    def _feed(self) -> None:
        """Give the simulation what the PHY has to send."""
        times = []
        while self._phy.is_sending:
            times.append(self._phy.to_mac())
        if times:
            self._i.push([{"data": now.data, "valid": int(now.valid), "error": int(now.error)} for now in times])

    def _close(self) -> None:
        for one in self._sockets.values():
            one.close()


def join(one: UdpBoard, other: UdpBoard) -> None:
    """Plug two boards into each other: each gets all that the other one sends, but for what is for the host."""
    one.deliver_to(other.send)
    other.deliver_to(one.send)
