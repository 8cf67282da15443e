# SPDX-License-Identifier: Apache-2.0
"""The link over UDP in plain Python: go-back-N between nodes, on frames."""

from collections import deque
from typing import NamedTuple

from rackgate.collective.link.abi import LinkCounter, LinkFlag, LinkHeader, endpoint, link_frame, split_link_frame

__all__ = ["Received", "UdpPeer", "UdpReceiver", "UdpSender"]

_NUMBERS = 1 << 16


class Received(NamedTuple):
    """A packet for the engine."""

    packet: bytes
    error: bool


class UdpSender:
    """What was sent to one peer and is not acknowledged, and what is to be sent.

    Attributes
    ----------
    packets:
        Not acknowledged, the oldest first.
    oldest:
        Sequence number of the oldest.
    sent:
        How many of them have been sent, since the sender went back last.
    tried:
        How many of them have been sent at all.
    since:
        Cycle from which on the time-out counts.
    """

    def __init__(self) -> None:
        self.packets: deque[Received] = deque()
        self.oldest, self.sent, self.tried, self.since = 0, 0, 0, 0

    def take(self, now: int) -> tuple[int, Received, bool] | None:
        """The next packet to send: its sequence number, itself, whether it goes again. None if there is none."""
        if self.sent == len(self.packets):
            return None
        number = self.sent
        if number == 0:
            self.since = now
        again = number < self.tried
        self.sent, self.tried = number + 1, max(self.tried, number + 1)
        return (self.oldest + number) % _NUMBERS, self.packets[number], again

    def acknowledge(self, acknowledgement: int, missing: bool, now: int) -> int:
        """What the peer says; how many packets it has. One that says nothing of this list changes nothing."""
        count = (acknowledgement - self.oldest) % _NUMBERS
        if count > len(self.packets):
            return 0
        for _ in range(count):
            self.packets.popleft()
        self.oldest = acknowledgement
        self.sent, self.tried = max(0, self.sent - count), max(0, self.tried - count)
        if count:
            self.since = now
        if missing:
            self.sent = 0
        return count

    def expire(self, now: int, timeout: int) -> bool:
        """Go back if it is time; whether it was."""
        is_late = timeout != 0 and self.sent != 0 and now - self.since >= timeout
        if is_late:
            self.sent = 0
        return is_late


class UdpReceiver:
    """What has come from one peer, and what it has to be told.

    Attributes
    ----------
    expected:
        Sequence number of the next packet.
    waits, due, missing:
        A packet has come that was not acknowledged; that has to be done at once; the peer has to go back.
    """

    def __init__(self) -> None:
        self.expected = 0
        self.waits = self.due = self.missing = self._is_asked = False

    def take(self, sequence: int) -> LinkCounter | None:
        """A packet has come: None if it is the next one, or what is counted when it is dropped."""
        distance = (sequence - self.expected) % _NUMBERS
        self.due |= self.waits or distance != 0
        self.waits = True
        if distance == 0:
            self.expected = (self.expected + 1) % _NUMBERS
            self._is_asked = False
            return None
        if distance >= _NUMBERS // 2:
            return LinkCounter.DUPLICATES
        if not self._is_asked:
            self.missing = self._is_asked = True
        return LinkCounter.AHEAD

    def told(self) -> None:
        """The peer is being told."""
        self.waits = self.due = self.missing = False


class UdpPeer:
    """A node's link.

    Parameters
    ----------
    node:
        Its number.
    address, port, session, timeout, delay:
        As the registers LINK_ADDRESS, LINK_PORT, LINK_SESSION, LINK_TIMEOUT and LINK_ACK_DELAY.

    Attributes
    ----------
    counts:
        By :class:`~rackgate.collective.link.abi.LinkCounter`.
    """

    def __init__(self, node: int, *, address: int = 0x0A520000, port: int = 0x5247, session: int = 1,
                 timeout: int = 20000, delay: int = 256):
        self.node, self.session, self.timeout, self.delay = node, session, timeout, delay
        self._where = {"address": address, "port": port}
        self._senders: dict[int, UdpSender] = {}
        self._receivers: dict[int, UdpReceiver] = {}
        self._delayed = 0  # cycle from which on all that waits is due
        self.counts = dict.fromkeys(LinkCounter, 0)

    def send(self, packet: bytes, *, error: bool = False) -> None:
        """A packet of the engine; its header says where to."""
        self._senders.setdefault(packet[4], UdpSender()).packets.append(Received(packet, error))

    @property
    def waiting(self) -> int:
        """Packets that were not acknowledged."""
        return sum(len(sender.packets) for sender in self._senders.values())

    def arrive(self, frame: bytes, now: int, *, is_damaged: bool = False) -> Received | None:
        """A frame has come: the packet for the engine, if there is one."""
        if (read := self._read(frame, is_damaged)) is None:
            return None
        peer, header, packet = read
        self.counts[LinkCounter.FRAMES_RECEIVED] += 1
        if peer in self._senders:
            self._senders[peer].acknowledge(header.acknowledgement, bool(header.flags & LinkFlag.MISSING), now)
        if not header.flags & LinkFlag.PACKET:
            return None
        dropped = self._receivers.setdefault(peer, UdpReceiver()).take(header.sequence)
        if dropped is not None:
            self.counts[dropped] += 1
            return None
        return Received(packet, bool(header.flags & LinkFlag.ERROR))

    def _read(self, frame: bytes, is_damaged: bool) -> tuple[int, LinkHeader, bytes] | None:
        """Peer, header and packet of a good frame; others are counted."""
        try:
            source, destination, header, packet = split_link_frame(frame)
        except ValueError:
            self.counts[LinkCounter.DAMAGED] += 1
            return None
        peer = source.address & 15
        ours = endpoint(self.node, **self._where)
        theirs = endpoint(peer, **self._where)
        if destination != ours or source[1:] != theirs[1:] or header.session != self.session or not self.session:
            self.counts[LinkCounter.FOREIGN] += 1
            return None
        if is_damaged or bool(packet) != bool(header.flags & LinkFlag.PACKET):
            self.counts[LinkCounter.DAMAGED] += 1
            return None
        return peer, header, packet

    def depart(self, now: int) -> list[bytes]:
        """The frames that leave now."""
        if now >= self._delayed:
            self._delayed = now + self.delay
            for receiver in self._receivers.values():
                receiver.due |= receiver.waits
        frames = []
        for peer in sorted(self._senders.keys() | self._receivers.keys()):
            sender = self._senders.setdefault(peer, UdpSender())
            self.counts[LinkCounter.TIMEOUTS] += sender.expire(now, self.timeout)
            while (taken := sender.take(now)) is not None:
                sequence, (packet, error), again = taken
                self.counts[LinkCounter.RETRANSMITTED] += again
                flags = LinkFlag.PACKET | (LinkFlag.ERROR if error else 0)
                frames.append(self._frame(peer, flags, sequence, packet))
            if self._receivers.setdefault(peer, UdpReceiver()).due:
                self.counts[LinkCounter.ACKNOWLEDGEMENTS] += 1
                frames.append(self._frame(peer, 0, 0, b""))
        return frames

    def _frame(self, peer: int, flags: int, sequence: int, packet: bytes) -> bytes:
        self.counts[LinkCounter.FRAMES_SENT] += 1
        receiver = self._receivers.setdefault(peer, UdpReceiver())
        header = LinkHeader(flags | (LinkFlag.MISSING if receiver.missing else 0), sequence, receiver.expected,
                            self.session)
        receiver.told()
        return link_frame(endpoint(self.node, **self._where), endpoint(peer, **self._where), header, packet)
