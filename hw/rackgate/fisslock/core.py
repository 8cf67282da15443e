# SPDX-License-Identifier: Apache-2.0
"""The plumbing that the two roles of a host share: records, effects, timers, attempts."""

import heapq
import math
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any

from .abi import LARGEST_HOST, LARGEST_NUMBER, Message
from .effects import Effect, Send
from .record import Record, Timer

__all__ = ["Core"]


class Core:
    """Records, effects, timers and attempts of one host. The roles are built upon it.

    Parameters
    ----------
    host:
        Number of this host.
    hosts:
        Numbers of all hosts that use the locks. Those that are missing may hold a lock that another one is given.
    timeout, longest:
        Seconds until what was not answered is sent again, doubled each time up to ``longest``.
    retries:
        Transmissions without an answer after which a request is refused as unreachable; None: never.
    most_waiters:
        Tasks that a host queues for one lock as its agent; others are refused.
    first_attempt:
        Where this host's attempts begin. After a restart they must go on where they ended, or far from there.
    most_renewals:
        Renewals of an epoch after which those who held the lock before them must have gone before there are more; 0:
        no epoch is renewed. A holder outlasts twice as many. That, and what the network keeps back, must stay below the
        number of epochs that the switch's word tells apart.
    memory:
        Locks of which the last epoch is remembered though nobody here wants them. It saves messages, nothing depends
        on it.

    Raises
    ------
    ValueError
        A parameter is out of its range.
    """

    def __init__(self, host: int, hosts: Iterable[int], *, timeout: float = 0.002, longest: float = 0.25,
                 retries: int | None = 12, most_waiters: int = 4096, first_attempt: int = 1,
                 most_renewals: int = 32, memory: int = 4096):
        self._host = host
        self.hosts = frozenset(hosts) | {host}
        for number in self.hosts:
            if not 1 <= number <= LARGEST_HOST:
                raise ValueError(f"hosts must be 1 to {LARGEST_HOST}, not {number}")
        if not 0 < timeout <= longest:
            raise ValueError(f"timeout must be positive and at most longest, not {timeout} and {longest}")
        if retries is not None and retries < 1:
            raise ValueError(f"retries must be at least 1, not {retries}")
        if most_waiters < 1 or memory < 0:
            raise ValueError(f"most_waiters must be at least 1 and memory at least 0, not {most_waiters} and {memory}")
        if most_renewals < 0:
            raise ValueError(f"most_renewals must be at least 0, not {most_renewals}")
        if not 1 <= first_attempt <= LARGEST_NUMBER:
            raise ValueError(f"first_attempt must be 1 to 2**32 - 1, not {first_attempt}")
        self.timeout, self.longest, self.retries, self.most_waiters = timeout, longest, retries, most_waiters
        self.memory, self.most_renewals = memory, most_renewals
        #: Doublings after which waits are as long as they get.
        self.most_doublings = math.ceil(math.log2(longest / timeout))
        self.next_attempt = first_attempt
        #: Messages that were malformed, or that made no sense here.
        self.malformed = self.ignored = 0
        #: Epochs that this host has renewed.
        self.renewals = 0
        self.records: dict[int, Record] = {}
        self._past: OrderedDict[int, tuple[int, tuple[int, ...]]] = OrderedDict()
        self._effects: list[Effect] = []
        self._due: dict[tuple[int, int, int], float] = {}
        self._heap: list[tuple[float, tuple[int, int, int]]] = []

    @property
    def host(self) -> int:
        """Number of this host."""
        return self._host

    @property
    def idle(self) -> bool:
        """Whether it owes nothing to anybody."""
        return not self.records

    def take(self) -> list[Effect]:
        """Effects since the last call, in their order."""
        effects, self._effects = self._effects, []
        return effects

    # Records

    def record(self, lock: int) -> Record:
        """The record of a lock, a new one if nothing is known of it."""
        found = self.records.get(lock)
        if found is None:
            epoch, past = self._past.pop(lock, (-1, ()))
            found = self.records[lock] = Record(lock, self.host, epoch=epoch, past=past)
        return found

    def tidy(self, record: Record) -> None:
        """Forget a record that says nothing but epochs."""
        if record.idle and self.records.get(record.lock) is record:
            del self.records[record.lock]
            if self.memory and record.epoch >= 0:
                self._past[record.lock] = record.epoch, record.past
                self._past.move_to_end(record.lock)
                if len(self._past) > self.memory:
                    self._past.popitem(last=False)

    def freeze(self) -> Hashable:
        """The whole state, times left out."""
        return (self.next_attempt, tuple(self.records[lock].freeze() for lock in sorted(self.records)),
                tuple(sorted(self._past.items())), tuple(sorted(self._due)))

    def thaw(self, value: Any) -> None:
        """Become what was frozen. What is to be done at some time is due now."""
        self.next_attempt, records, past, due = value
        self.records = {item[0]: Record.thaw(item) for item in records}
        self._past = OrderedDict(past)
        self._due, self._heap = dict.fromkeys(due, 0.0), [(0.0, key) for key in due]
        self._effects = []

    # Sending

    def new_attempt(self) -> int:
        """A number that tells this host's requests apart, never 0."""
        attempt = self.next_attempt
        self.next_attempt = attempt + 1 & LARGEST_NUMBER or 1
        return attempt

    def send(self, message: Message) -> None:
        """To the switch."""
        self._effects.append(Send(message.to_bytes()))

    def effect(self, effect: Effect) -> None:
        """Have something done by whoever drives this."""
        self._effects.append(effect)

    # Timers

    def arm(self, record: Record, timer: Timer, now: float, tries: int, task: int = 0) -> None:
        """Have a timer go off, the later the more ``tries`` there were; in place of what it was set to."""
        key = (record.lock, int(timer), task)
        due = now + min(self.timeout * 2.0 ** min(tries, 40), self.longest)
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))

    def is_armed(self, record: Record, timer: Timer) -> bool:
        """Whether a timer is set."""
        return (record.lock, int(timer), 0) in self._due

    def disarm(self, record: Record, timer: Timer, task: int = 0) -> None:
        """Have it not go off."""
        self._due.pop((record.lock, int(timer), task), None)

    @property
    def deadline(self) -> float | None:
        """When a timer goes off next."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    @property
    def armed(self) -> list[tuple[int, int, int]]:
        """Timers that are set, as (lock, timer, task)."""
        return sorted(self._due)
