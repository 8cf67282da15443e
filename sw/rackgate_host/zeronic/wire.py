# SPDX-License-Identifier: Apache-2.0
"""One end of the wire between two NICs, and what a bad wire does to the frames that leave here."""

import heapq
import random
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import UsageError

__all__ = ["Conditions", "Wire", "WireCounts"]

_SO_SNDBUFFORCE = 32
_BUFFER = 8 << 20
#: Bytes of the longest frame.
_FRAME_MOST = 1 << 16
#: A frame that is held back for others to overtake waits for at most so many, and so many seconds.
_OVERTAKEN_BY, _OVERTAKEN_AFTER = 8, 0.01


@dataclass(frozen=True)
class Conditions:
    """What the wire does to frames of one direction: probabilities for each, and seconds of ``delay`` for all."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), 60.0 if field.name == "delay" else 1.0
            if not 0 <= value <= most:
                raise UsageError(f"{field.name} must be 0 to {most:g}, not {value}")


@dataclass
class WireCounts:
    """Frames that left, that came, and what was done to those that were to leave."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0


class Wire:
    """An end of the wire.

    A frame is lost; else, independently, one of its bits is flipped, it is sent twice, and each copy held back until up
    to 8 others have overtaken it. A flipped bit is not marked as the FCS would mark it: the NIC's checksums must find
    it. What is done to the k-th frame depends on ``seed`` and k only.

    Parameters
    ----------
    end:
        A SOCK_SEQPACKET socket to the other end; closed with this.
    conditions:
        Of what leaves.
    seed:
        Of what happens to frames.

    Attributes
    ----------
    tap:
        Called with each frame as it leaves, for a trace.
    counts:
        What happened.
    """

    def __init__(self, end: socket.socket, conditions: Conditions, seed: int):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER)
        self._end = end
        self._conditions = conditions
        self._random = random.Random(seed)
        self.counts = WireCounts()
        self.tap: Callable[[bytes], None] | None = None
        self._ready: deque[bytes] = deque()
        self._delayed: deque[tuple[float, bytes]] = deque()  # one delay for all: in order
        # (number of the frame after which it goes, time when it goes at the latest, order, frame)
        self._held: list[tuple[int, float, int, bytes]] = []
        self._number = 0

    def fileno(self) -> int:
        """The socket's descriptor, to wait for."""
        return self._end.fileno()

    @property
    def backlog(self) -> int:
        """Frames that could leave, but for the other end's being slow."""
        return len(self._ready)

    def send(self, frame: bytes, now: float) -> None:
        """Send a frame (it leaves at the next :meth:`flush`), or do to it what the conditions say."""
        chance, conditions = self._random.random, self._conditions
        if chance() < conditions.loss:
            self.counts.lost += 1
            return
        if chance() < conditions.corrupt:
            self.counts.corrupted += 1
            bit = self._random.randrange(8 * len(frame))
            changed = bytearray(frame)
            changed[bit // 8] ^= 1 << bit % 8
            frame = bytes(changed)
        copies = 1
        if chance() < conditions.duplicate:
            self.counts.duplicated += 1
            copies = 2
        for _ in range(copies):
            if chance() < conditions.reorder:
                self.counts.reordered += 1
                after = self._number + self._random.randint(1, _OVERTAKEN_BY)
                heapq.heappush(self._held, (after, now + _OVERTAKEN_AFTER, self._number, frame))
            else:
                self._leave(frame, now)
            self._number += 1
        while self._held and self._held[0][0] <= self._number:
            self._leave(heapq.heappop(self._held)[3], now)

    def _leave(self, frame: bytes, now: float) -> None:
        if self._conditions.delay:
            self._delayed.append((now + self._conditions.delay, frame))
        else:
            self._ready.append(frame)

    def due(self) -> float | None:
        """When the next frame that is held back may leave."""
        times = [one[1] for one in self._held]
        if self._delayed:
            times.append(self._delayed[0][0])
        return min(times, default=None)

    def flush(self, now: float) -> None:
        """Let go what is due, as far as the other end takes it. Raises ConnectionError when that is gone."""
        late = [one for one in self._held if one[1] <= now]
        if late:
            self._held = [one for one in self._held if one[1] > now]
            heapq.heapify(self._held)
            for *_, frame in sorted(late):
                self._leave(frame, now)
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(self._delayed.popleft()[1])
        while self._ready:
            try:
                self._end.send(self._ready[0])
            except BlockingIOError:
                return
            frame = self._ready.popleft()
            self.counts.sent += 1
            if self.tap:
                self.tap(frame)

    def receive(self, most: int) -> Iterator[bytes]:
        """Up to ``most`` frames that have come. Raises ConnectionError when the other end is gone."""
        for _ in range(most):
            try:
                frame = self._end.recv(_FRAME_MOST)
            except BlockingIOError:
                return
            if not frame:
                raise ConnectionResetError("the other end of the wire is gone")
            self.counts.received += 1
            yield frame

    def statistics(self) -> dict[str, Any]:
        """Counts, and the conditions, by name."""
        return {**asdict(self.counts), "conditions": asdict(self._conditions)}

    def close(self) -> None:
        """Let go of the socket."""
        self._end.close()
