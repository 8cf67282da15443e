# SPDX-License-Identifier: Apache-2.0
"""Agent and client of FissLock as published: a host's side of the protocol, holes included.

It is a participant that the model checker drives, and only that: it knows no time-outs, loses locks when a packet is
lost, and a cancelled request may hold a lock for ever. Users have the hardened one. What it does is re-expressed from
a description of the authors' library; ids beyond the switch's locks, which their library manages in servers, are left
out.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from rackgate.fisslock.abi import FaithfulMessage, Mode, Type, Waiter
from rackgate.fisslock.effects import Effect, Granted, Send

__all__ = ["FaithfulHost"]

#: Bounces after which an exclusive request is queued though its host does not know of being the agent.
_MOST_BOUNCES = 2

#: Largest number of a host: the switch has multicast groups for grants up to it.
LARGEST_HOST = 63

_Task = tuple[int, int]  # host, task


@dataclass
class _Lock:
    """What a host knows of a lock."""

    mode: Mode = Mode.SHARED
    is_agent: bool = False
    ncnt: int = 0
    holders: set[_Task] = field(default_factory=set)
    queue: list[Waiter] = field(default_factory=list)
    delayed_free: bool = False
    early_release: set[_Task] = field(default_factory=set)
    bounces: dict[_Task, int] = field(default_factory=dict)

    def freeze(self) -> Hashable:
        return (self.mode, self.is_agent, self.ncnt, tuple(sorted(self.holders)), tuple(self.queue), self.delayed_free,
                tuple(sorted(self.early_release)), tuple(sorted(self.bounces.items())))


class FaithfulHost:
    """The host ``number``, 1 to 63.

    Messages go to the switch, those of the switch come back through :meth:`receive`; ``take`` returns what came of the
    calls before it. Time is of no meaning: there is no deadline.
    """

    deadline: float | None = None

    def __init__(self, number: int):
        if not 1 <= number <= LARGEST_HOST:
            raise ValueError(f"number must be 1 to {LARGEST_HOST}, not {number}")
        self.host = number
        self.locks: dict[int, _Lock] = {}
        #: Messages that were none of this protocol.
        self.malformed = 0
        self._effects: list[Effect] = []

    # State

    def freeze(self) -> Hashable:
        """The state as a value. Locks of which nothing is known are left out."""
        nothing = _Lock().freeze()
        return tuple((lock, state) for lock, state in
                     ((lock, record.freeze()) for lock, record in sorted(self.locks.items())) if state != nothing)

    @classmethod
    def thaw(cls, number: int, state: Any) -> "FaithfulHost":
        """The host in a state that :meth:`freeze` returned."""
        host = cls(number)
        for lock, (mode, is_agent, ncnt, holders, queue, delayed, early, bounces) in state:
            host.locks[lock] = _Lock(mode, is_agent, ncnt, set(holders), list(queue), delayed, set(early),
                                     dict(bounces))
        return host

    def record(self, lock: int) -> _Lock:
        """What it knows of a lock."""
        return self.locks.setdefault(lock, _Lock())

    @property
    def idle(self) -> bool:
        """Whether no lock is held or waited for by way of this host, and none is on its way."""
        return not any(record.is_agent or record.holders or record.queue for record in self.locks.values())

    def take(self) -> list[Effect]:
        """What has come of the calls since the last time, in order."""
        effects, self._effects = self._effects, []
        return effects

    def tick(self, now: float = 0) -> None:
        """Nothing is ever due."""

    # Calls of the application

    def acquire(self, lock: int, task: int, mode: Mode, now: float = 0, *, wait: bool = True) -> None:
        """Ask for the lock. Raises ValueError for ``wait`` False: the published protocol knows no refusal."""
        if not wait:
            raise ValueError("wait must be True: a request of the published protocol cannot be refused")
        record = self.record(lock)
        if record.is_agent and record.mode == mode == Mode.SHARED:
            record.holders.add((self.host, task))
            self._granted(lock, task, mode)
        elif record.is_agent:
            record.queue.append(Waiter(mode, task, self.host))
        else:
            self._send(Type.ACQUIRE, lock, task=task, mode=mode)

    def release(self, lock: int, task: int, now: float = 0) -> None:
        """Give the lock back."""
        record = self.record(lock)
        if record.is_agent:
            record.holders.discard((self.host, task))
            self._give_up_if_unheld(lock, record)
        else:
            self._send(Type.RELEASE, lock, task=task)

    def cancel(self, lock: int, task: int, now: float = 0) -> None:
        """Give a request up as the published benchmark does: by a release. It is not taken out of any queue."""
        self.release(lock, task, now)

    # Messages

    def receive(self, content: bytes, to_client: bool = False, now: float = 0) -> None:
        """Take a message that came to the port for grants (``to_client``) or for agents. Malformed ones are counted."""
        try:
            message = FaithfulMessage.from_bytes(content)
        except ValueError:
            self.malformed += 1
            return
        record = self.record(message.id)
        match message.type:
            case Type.ACQUIRE if message.granted:
                self._notified(record, message)
            case Type.ACQUIRE:
                self._asked(record, message)
            case Type.GRANT_W_AGENT:
                self._made_agent(record, message)
            case Type.GRANT_WO_AGENT:
                self._granted(message.id, message.task_id, Mode(message.mode))
            case Type.RELEASE:
                self._released(record, message)
            case Type.TRANSFER | Type.FREE:
                self._bounced(record, message)

    def _notified(self, record: _Lock, message: FaithfulMessage) -> None:
        """The switch has granted a shared lock to somebody."""
        record.ncnt = record.ncnt + 1 & 0xFF
        holder = message.machine_id, message.task_id
        if holder in record.early_release:
            record.early_release.remove(holder)
        else:
            record.holders.add(holder)

    def _asked(self, record: _Lock, message: FaithfulMessage) -> None:
        """The switch has left it to the agent."""
        asker = message.machine_id, message.task_id
        bounces = record.bounces.get(asker, 0)
        if record.is_agent or bounces > _MOST_BOUNCES:
            record.bounces.pop(asker, None)
            record.queue.append(Waiter(message.mode, message.task_id, message.machine_id))
        else:
            if message.mode == Mode.EXCLUSIVE:
                record.bounces[asker] = bounces + 1
            self._send(Type.ACQUIRE, message.id, host=message.machine_id, task=message.task_id, mode=message.mode)

    def _made_agent(self, record: _Lock, message: FaithfulMessage) -> None:
        record.is_agent = True
        record.mode = Mode(message.mode)
        record.holders.add((self.host, message.task_id))
        if not message.transferred:
            record.ncnt = record.ncnt + 1 & 0xFF if message.mode == Mode.SHARED else 0
        self._granted(message.id, message.task_id, record.mode)
        if message.transferred:
            record.queue = [*message.queue, *record.queue]
            if message.mode == Mode.SHARED:
                self._grant_every_reader(message.id, record)

    def _grant_every_reader(self, lock: int, record: _Lock) -> None:
        """Readers first: those behind a writer too."""
        waiting, record.queue = record.queue, []
        for waiter in waiting:
            if waiter.mode == Mode.EXCLUSIVE:
                record.queue.append(waiter)
                continue
            record.holders.add((waiter.host, waiter.task))
            if waiter.host == self.host:
                self._granted(lock, waiter.task, Mode.SHARED)
            else:
                self._send(Type.GRANT_WO_AGENT, lock, host=waiter.host, task=waiter.task)

    def _released(self, record: _Lock, message: FaithfulMessage) -> None:
        holder = message.machine_id, message.task_id
        if holder in record.holders:
            record.holders.remove(holder)
            if not record.is_agent:
                # The lock was given up while the notification was on its way: that will bounce.
                record.delayed_free = record.delayed_free or not record.holders
                return
        else:
            record.early_release.add(holder)
        self._give_up_if_unheld(message.id, record)  # as published: not only the agent comes here

    def _bounced(self, record: _Lock, message: FaithfulMessage) -> None:
        """A shared lock could not be given up, as there are notifications on the way."""
        record.is_agent = True
        record.mode = Mode(message.old_mode)
        record.ncnt = record.ncnt + message.ncnt & 0xFF
        if message.type == Type.TRANSFER:
            first = Waiter(message.mode, message.task_id, message.machine_id)
            record.queue = [first, *message.queue, *record.queue]
        if record.delayed_free:
            record.delayed_free = False
            self._give_up_if_unheld(message.id, record)

    def _give_up_if_unheld(self, lock: int, record: _Lock) -> None:
        if record.holders:
            return
        if record.queue:
            first, *rest = record.queue
            self._send(Type.TRANSFER, lock, host=first.host, task=first.task, mode=first.mode, old_mode=record.mode,
                       ncnt=record.ncnt, queue=tuple(rest))
        else:
            self._send(Type.FREE, lock, old_mode=record.mode, ncnt=record.ncnt)
        record.is_agent, record.mode, record.ncnt, record.queue = False, Mode.SHARED, 0, []

    # Effects

    def _granted(self, lock: int, task: int, mode: Mode) -> None:
        self._effects.append(Granted(lock, task, mode, 0))

    def _send(self, type: Type, lock: int, *, task: int = 0, host: int | None = None, **fields: Any) -> None:
        message = FaithfulMessage(type=type, id=lock, machine_id=self.host if host is None else host, task_id=task,
                                  agent=self.host, **fields)
        self._effects.append(Send(message.to_bytes()))
