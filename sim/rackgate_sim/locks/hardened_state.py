# SPDX-License-Identifier: Apache-2.0
"""What is explored of the hardened protocol, and what a state of it consists of."""

import enum
from dataclasses import dataclass
from typing import NamedTuple

from rackgate.fisslock.abi import Mode, WordFormat

__all__ = ["DONE", "HOLDING", "IDLE", "LOCK", "WAITING", "Configuration", "Global", "Link", "Network", "Task"]

#: The number of the lock.
LOCK = 0

#: Where a task is in its program.
IDLE, WAITING, HOLDING, DONE = range(4)


class Network(enum.Enum):
    """What order messages keep."""

    #: All from one host to the switch, and all from the switch to one host.
    LINKS = "links"
    #: As LINKS, but what is meant for agents and what is meant for requesters go their own ways.
    FLOWS = "flows"
    #: None.
    UNORDERED = "unordered"


class Task(NamedTuple):
    """A task: on which host, how it asks, whether it waits, and how often it comes."""

    host: int
    mode: Mode
    wait: bool = True
    rounds: int = 1


@dataclass(frozen=True)
class Configuration:
    """What is explored.

    Attributes
    ----------
    tasks:
        The tasks; their hosts are all hosts that there are, numbered from 1 on without gaps.
    network, losses, duplicates:
        What order messages keep, how many may be lost and how many may come twice.
    cancels:
        How many requests may be cancelled while they wait.
    hasty:
        How often a timer may go off while messages are under way. When none is, timers go off freely, if ``timers``.
    timers:
        Whether timers go off at all. Without loss the protocol must come to its end without them.
    word:
        Format of the switch's word.
    memory:
        Whether hosts remember the last epoch of a lock that nobody there wants.
    bypasses:
        Most shared grants to requests that began after an agent had queued an exclusive one; None: any number.
    """

    name: str
    tasks: tuple[Task, ...]
    network: Network = Network.LINKS
    losses: int = 0
    duplicates: int = 0
    cancels: int = 0
    hasty: int = 0
    timers: bool = False
    word: WordFormat = WordFormat(2, 2, 2, 5)
    memory: bool = True
    bypasses: int | None = None

    @property
    def hosts(self) -> tuple[int, ...]:
        """Numbers of the hosts."""
        return tuple(range(1, max(task.host for task in self.tasks) + 1))


class Link(NamedTuple):
    """A way that messages take: to the switch (0) or from it, of a host, by a flow."""

    down: int
    host: int
    flow: int


class Global(NamedTuple):
    """A state."""

    word: int
    #: For each host: the number of its state.
    hosts: tuple[int, ...]
    #: Messages under way by link; without order, sorted.
    under_way: tuple[tuple[Link, tuple[bytes, ...]], ...]
    #: For each task: state, rounds left.
    tasks: tuple[tuple[int, int], ...]
    #: Messages that may still be lost, come twice; requests that may be cancelled; hasty timers.
    budget: tuple[int, int, int, int]
    #: For each task: how many shared grants went past it since an agent queued it (-1: none has), and a bit for each
    #: waiting exclusive task that was queued when this one began.
    passed: tuple[tuple[int, int], ...]
