# SPDX-License-Identifier: Apache-2.0
"""What a host knows of a lock in the hardened protocol."""

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .abi import LARGEST_NUMBER, Entry, Flag, Message, Mode

__all__ = ["WITH_AGENT", "Held", "Record", "Request", "Role", "Timer", "is_newer"]


#: Number of the grant that makes its receiver the agent, in :attr:`Record.voided`: larger than all others.
WITH_AGENT = 256

#: Epochs that are remembered besides the last. It saves messages, nothing depends on it.
REMEMBERED = 8


def is_newer(one: int, other: int) -> bool:
    """Whether attempt ``one`` was made after ``other`` (RFC 1982's comparison, 32 bits)."""
    return 0 < (one - other & LARGEST_NUMBER) < 1 << 31


class Role(enum.IntEnum):
    """Whether a host is the agent of a lock."""

    NONE = 0
    #: It is, and the switch agrees: nobody else can end the epoch.
    OPEN = 1
    #: It has asked the switch to end the epoch, and waits for the answer.
    CLOSING = 2


class Timer(enum.IntEnum):
    """What a host waits for."""

    ASK = 0  # an answer to ACQUIRE
    CLOSE = 1  # the answer to TRANSFER or FREE
    ADOPT = 2  # the grant that would explain why the switch takes this host for the agent
    POLL = 3  # news of holders at other hosts


class Request(NamedTuple):
    """A task that waits."""

    mode: int
    attempt: int
    #: Whether it may wait, or wants to be refused instead.
    wait: bool
    #: Transmissions since the last answer.
    tries: int = 0


class Held(NamedTuple):
    """A task that holds the lock: since which epoch, and by which of the switch's shared grants (0: by none)."""

    mode: int
    attempt: int
    epoch: int
    count: int


@dataclass(slots=True)
class Record:
    """A lock as one host sees it.

    Attributes
    ----------
    host:
        This host.
    pending, held:
        Its tasks, as requester.
    voided:
        By epoch: which of the switch's grants are not accepted any more (numbers up to the first value,
        :data:`WITH_AGENT`: all) for attempts before the second value.
    role, epoch, past, mode:
        Its agentship: the epoch, and some of those before it in which this host was the agent. Outside one ``epoch`` is
        that of the last one, -1: it knows of none.
    holders:
        As agent: (host, task) to attempt, this host's own among them.
    queue:
        As agent: who waits, the next one first.
    seen, known:
        As agent: which of the switch's grants in this epoch are accounted for, bit ``n - 1`` for number ``n``, and the
        largest number heard of.
    asked, answered:
        As agent: hosts that have said that grants up to number ``asked`` which they have not listed are void.
    shut:
        As agent: the switch lets no more readers in in this epoch, and no exclusive request waits that would say why.
    renewals, elders:
        As agent: how often the epoch was renewed since these were all its holders.
    closing:
        The TRANSFER or FREE that is under way; or, of an open agentship, the RENEW.
    early:
        What came for the agent while this host was none, or did not know whether it still was.
    """

    lock: int
    host: int
    pending: dict[int, Request] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)
    voided: dict[int, tuple[int, int]] = field(default_factory=dict)
    role: int = Role.NONE
    epoch: int = -1
    past: tuple[int, ...] = ()
    mode: int = Mode.SHARED
    holders: dict[tuple[int, int], int] = field(default_factory=dict)
    queue: list[Entry] = field(default_factory=list)
    seen: int = 0
    known: int = 0
    asked: int = 0
    answered: frozenset[int] = frozenset()
    shut: bool = False
    renewals: int = 0
    elders: frozenset[tuple[tuple[int, int], int]] = frozenset()
    closing: Message | None = None
    early: list[Message] = field(default_factory=list)
    polls: int = 0
    closes: int = 0

    @property
    def gap(self) -> bool:
        """Whether the switch has made grants in this epoch that are not accounted for."""
        return self.seen != (1 << self.known) - 1

    @property
    def idle(self) -> bool:
        """Whether there is nothing to remember but the last epoch."""
        return not (self.pending or self.held or self.role or self.early)

    def take(self, task: int) -> Request:
        """Take a request out, and with it what is not needed any more to tell what grants are worth."""
        request = self.pending.pop(task)
        if self.voided:
            self.voided = {epoch: value for epoch, value in self.voided.items()
                           if any(is_newer(value[1], item.attempt) for item in self.pending.values())}
        return request

    def void(self, epoch: int, count: int, attempt: int) -> None:
        """Accept no grant of ``epoch`` that the switch made up to number ``count``, for attempts before ``attempt``."""
        if self.pending:
            self.voided[epoch] = max(count, self.voided.get(epoch, (0, 0))[0]), attempt

    def is_void(self, epoch: int, count: int) -> bool:
        """Whether a grant by the switch is not accepted any more."""
        return 0 < count <= self.voided.get(epoch, (0, 0))[0]

    def enqueue(self, entry: Entry) -> bool:
        """Put a request into the queue, in the place of an older one of the same task. False: it is there already."""
        for place, item in enumerate(self.queue):
            if (item.host, item.task) == (entry.host, entry.task):
                if is_newer(entry.attempt, item.attempt):
                    self.queue[place] = entry
                    return True
                return False
        self.queue.append(entry)
        return True

    def see(self, number: int) -> bool:
        """Account for a grant by the switch. False: it was accounted for already, or it is none."""
        if not number or self.seen >> number - 1 & 1:
            return False
        self.seen |= 1 << number - 1
        self.known = max(self.known, number)
        return True

    def hold(self, host: int, task: int, attempt: int) -> None:
        """Take note of a holder, who then waits no more."""
        known = self.holders.get((host, task))
        if known is None or is_newer(attempt, known):
            self.holders[host, task] = attempt
        self.queue = [item for item in self.queue if (item.host, item.task) != (host, task)
                      or is_newer(item.attempt, attempt)]

    def count(self, message: Message) -> bool:
        """Take note of a holder that the switch has let in. False: it is known, or of another epoch."""
        if message.epoch != self.epoch or not self.see(message.count):
            return False
        self.hold(message.machine_id, message.task_id, message.attempt)
        return True

    def drop(self, message: Message) -> None:
        """A RELEASE: the task neither holds nor waits, unless it has asked anew."""
        if message.epoch == self.epoch:
            self.see(message.count)
        key = message.machine_id, message.task_id
        held = self.holders.get(key)
        if held is not None and not is_newer(held, message.attempt):
            del self.holders[key]
        self.queue = [item for item in self.queue
                      if (item.host, item.task) != key or is_newer(item.attempt, message.attempt)]

    def turned_away(self, message: Message) -> None:
        """A request came that the switch has not granted: what that says of the switch.

        It lets in whoever asks for a shared lock for the first time, unless its count is full or an exclusive request
        has been there. Both last as long as the epoch.
        """
        if (message.epoch == self.epoch and self.mode == Mode.SHARED and not self.queue
                and not message.flags & (Flag.EXCLUSIVE | Flag.RETRY)):
            self.shut = True

    def take_in_held(self) -> None:
        """This host's own holders of this epoch are known here."""
        for task, item in self.held.items():
            if item.epoch == self.epoch:
                self.hold(self.host, task, item.attempt)
                self.see(item.count)

    def enter(self, epoch: int) -> None:
        """Be the agent of an epoch, or ask whether this host is."""
        if self.epoch not in (-1, epoch):
            self.past = (*self.past, self.epoch)[-REMEMBERED:]
        self.epoch = epoch

    def was_agent(self, epoch: int) -> bool:
        """Whether it is known that this host is, or was, the agent in an epoch."""
        return epoch == self.epoch or epoch in self.past

    def may_renew(self, most: int) -> bool:
        """Whether the epoch should be renewed, and may be: all grants by the switch are accounted for, and no holder
        has seen ``most`` renewals twice.
        """
        return (self.shut and self.role == Role.OPEN and self.mode == Mode.SHARED and self.closing is None
                and bool(self.holders) and not (self.queue or self.gap)
                and (self.renewals < most or bool(most) and self.elders.isdisjoint(self.holders.items())))

    def renew(self, epoch: int) -> None:
        """Count the switch's grants from the first again. Whoever holds the lock goes on."""
        elders = self.elders.intersection(self.holders.items())
        if elders:
            self.elders, self.renewals = elders, self.renewals + 1
        else:
            self.elders, self.renewals = frozenset(self.holders.items()), 1
        self.enter(epoch)
        self.shut = False
        self.seen = self.known = self.asked = 0
        self.answered = frozenset()

    def freeze(self) -> Hashable:
        """The record as a value. Order of tasks does not matter, so it is left out."""
        return (self.lock, self.host, tuple(sorted(self.pending.items())), tuple(sorted(self.held.items())),
                tuple(sorted(self.voided.items())), self.role, self.epoch, self.past, self.mode,
                tuple(sorted(self.holders.items())), tuple(self.queue), self.seen, self.known, self.asked,
                self.answered, self.shut, self.renewals, self.elders, self.closing, tuple(self.early), self.polls,
                self.closes)

    @classmethod
    def thaw(cls, value: Any) -> "Record":
        """The record that was frozen."""
        (lock, host, pending, held, voided, role, epoch, past, mode, holders, queue, seen, known, asked, answered, shut,
         renewals, elders, closing, early, polls, closes) = value
        return cls(lock, host, dict(pending), dict(held), dict(voided), role, epoch, past, mode, dict(holders),
                   list(queue), seen, known, asked, answered, shut, renewals, elders, closing, list(early), polls,
                   closes)
