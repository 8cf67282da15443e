# SPDX-License-Identifier: Apache-2.0
"""A host in NetLock, or under a lock manager in one server: both roles, without sockets, clocks or threads.

The role of a client asks, gives back, and hears of grants. The role of a server manages the locks that the switch has
not, and keeps requests that found no slot in the switch until it is asked for them.

Links are first in, first out, and lose nothing: NetLock sends nothing twice. A request that is lost waits for ever,
and a release that is lost leaves the lock held; a client's time-out then is :meth:`Participant.cancel`. To give up a
request that waits, there is no message: it stays in its queue, and its grant is given back when it comes. Nor is there
one to ask without waiting.
"""

import operator
from collections import deque
from collections.abc import Hashable

from rackgate.fisslock.abi import LARGEST_HOST, Mode
from rackgate.fisslock.effects import Effect, Granted, Refused, Send, Why

from .abi import Flag, Message, Op
from .server import LockTable, Request

__all__ = ["Participant"]


class Participant:
    """One host; a :class:`rackgate.fisslock.effects.Participant`.

    Parameters
    ----------
    host:
        The host's number, 1 to 255.
    server:
        Under a lock manager in one server, the number of that host; all is then sent there, and nothing to the switch.
        None: NetLock.
    most_waiting:
        How many requests the role of a server lets wait, over all locks that it manages; others are rejected.

    Attributes
    ----------
    deadline:
        None: nothing is ever due.
    ignored:
        Messages that were no such, or told nothing that was waited for.
    """

    deadline: float | None = None

    def __init__(self, host: int, *, server: int | None = None, most_waiting: int = 1 << 20):
        self.host = operator.index(host)
        if not 1 <= self.host <= LARGEST_HOST:
            raise ValueError(f"host must be 1 to {LARGEST_HOST}, not {host}")
        self.server = server
        self.most_waiting = most_waiting
        self.ignored = 0
        # The client's requests by lock and task: mode and timestamp, of those that wait and of those that hold.
        self._waiting: dict[tuple[int, int], tuple[int, int]] = {}
        self._held: dict[tuple[int, int], tuple[int, int]] = {}
        # Requests that were given up, as (lock, task, timestamp): their grants are given back.
        self._cancelled: dict[tuple[int, int, int], int] = {}
        self._next = 0
        # The server's locks, and the requests that it keeps for the switch, by lock.
        self._table = LockTable()
        self._kept: dict[int, deque[Request]] = {}
        self._effects: list[Effect] = []

    def take(self) -> list[Effect]:
        """Effects since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    # The client

    def acquire(self, lock: int, task: int, mode: Mode, now: float, *, wait: bool = True) -> None:
        """Ask for ``lock``. Raises ValueError if the task holds it or waits for it, and if it must not wait."""
        key = lock, task
        if not wait:
            raise ValueError("under NetLock and one server a request cannot be made without waiting")
        if key in self._waiting or key in self._held:
            raise ValueError(f"task {task} holds lock {lock} or waits for it")
        self._waiting[key] = int(mode), self._next
        self._send(Message(Op.ACQUIRE, int(mode), self.host, task, lock, self._next))
        self._next += 1

    def release(self, lock: int, task: int, now: float) -> None:
        """Give ``lock`` back. Raises ValueError if the task does not hold it."""
        if (lock, task) not in self._held:
            raise ValueError(f"task {task} does not hold lock {lock}")
        self._give_back(lock, task, *self._held.pop((lock, task)))

    def cancel(self, lock: int, task: int, now: float) -> None:
        """See to it that the task does not hold ``lock`` nor will. A request that waits is refused as cancelled."""
        key = lock, task
        if key in self._held:
            self.release(lock, task, now)
        elif key in self._waiting:
            mode, timestamp = self._waiting.pop(key)
            self._cancelled[(*key, timestamp)] = mode
            self._effects.append(Refused(lock, task, Why.CANCELLED))

    def tick(self, now: float) -> None:
        """Nothing is ever due."""

    def receive(self, message: bytes, to_client: bool, now: float) -> None:
        """Take a message, from the port of the client's role or of the server's."""
        header = Message.unpack(message)
        if header is None:
            self.ignored += 1
        elif to_client:
            self._hear(header)
        else:
            self._serve(header)

    def _send(self, message: Message) -> None:
        self._effects.append(Send(message.pack(), self.server, False))

    def _give_back(self, lock: int, task: int, mode: int, timestamp: int) -> None:
        self._send(Message(Op.RELEASE, mode, self.host, task, lock, timestamp))

    def _hear(self, message: Message) -> None:
        key = message.lock, message.task
        given_up = *key, message.timestamp
        granted = message.op in (Op.DIRECT_GRANT, Op.GRANT_FROM_SERVER)
        known = self._waiting.get(key)
        if known is not None and known[1] == message.timestamp and granted:
            self._held[key] = self._waiting.pop(key)
            self._effects.append(Granted(*key, Mode(known[0]), 0))
        elif known is not None and known[1] == message.timestamp and message.op == Op.REJECT:
            del self._waiting[key]
            self._effects.append(Refused(*key, Why.FULL))
        elif given_up in self._cancelled and (granted or message.op == Op.REJECT):
            mode = self._cancelled.pop(given_up)
            if granted:
                self._give_back(*key, mode, message.timestamp)
        else:
            self.ignored += 1

    # The server

    def _serve(self, message: Message) -> None:
        request = Request(message.client, message.task, message.mode & 1, message.timestamp)
        if message.flags & Flag.OVERFLOW:
            self._keep(message, request)
        elif message.op == Op.ACQUIRE:
            if self._table.waiting >= self.most_waiting:
                self._answer(Op.REJECT, message.lock, request)
            elif self._table.acquire(message.lock, request):
                self._answer(Op.GRANT_FROM_SERVER, message.lock, request)
        elif message.op == Op.RELEASE:
            for one in self._table.release(message.lock):
                self._answer(Op.GRANT_FROM_SERVER, message.lock, one)
        else:
            self.ignored += 1

    def _answer(self, op: Op, lock: int, request: Request) -> None:
        content = Message(op, request.mode, request.client, request.task, lock, request.timestamp).pack()
        self._effects.append(Send(content, request.client, True))

    def _keep(self, message: Message, request: Request) -> None:
        kept = self._kept.setdefault(message.lock, deque())
        if message.op == Op.ACQUIRE:
            kept.append(request)
            # The switch's queue is empty and nothing is on its way there: its slots are closed to newcomers.
            many = 1 if message.flags & Flag.EMPTY else 0
        elif message.op == Op.RELEASE and message.timestamp <= len(kept):
            many = min(message.task, len(kept))
        else:
            many = 0  # some that were pushed back are on their way: their release will ask again
        for _ in range(many):
            one = kept.popleft()
            self._effects.append(Send(Message(Op.PUSH_BACK, one.mode, one.client, one.task, message.lock,
                                              one.timestamp).pack(), None, False))
        if not kept:
            del self._kept[message.lock]

    # State

    @property
    def kept(self) -> int:
        """Requests that the role of a server keeps for the switch."""
        return sum(map(len, self._kept.values()))

    @property
    def idle(self) -> bool:
        """Whether neither role has anything to do: no request, no lock held, no lock managed."""
        return not (self._waiting or self._held or self._cancelled or self._kept or len(self._table))

    def freeze(self) -> Hashable:
        """All state but the effects not taken, for :meth:`thaw`."""
        return (tuple(sorted(self._waiting.items())), tuple(sorted(self._held.items())),
                tuple(sorted(self._cancelled.items())), self._next, self._table.freeze(),
                tuple(sorted((lock, tuple(kept)) for lock, kept in self._kept.items())))

    def thaw(self, frozen: Hashable) -> None:
        """Take on a state."""
        assert isinstance(frozen, tuple)
        waiting, held, cancelled, self._next, table, kept = frozen
        self._waiting, self._held, self._cancelled = dict(waiting), dict(held), dict(cancelled)
        self._table.thaw(table)
        self._kept = {lock: deque(requests) for lock, requests in kept}
        self._effects = []
