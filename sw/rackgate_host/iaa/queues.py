# SPDX-License-Identifier: Apache-2.0
"""A work queue as the driver sees it."""

from collections import deque
from dataclasses import dataclass

from rackgate.iaa.abi import DESCRIPTOR_SIZE, GROUPS, PORTAL_SIZE, PORTALS

from .jobs import Handle
from .pager import Pager

__all__ = ["FIRST_DELAY", "LAST_DELAY", "Queue", "QueueConfig"]

#: Cycles until a full queue is tried again: at first, and at most.
FIRST_DELAY, LAST_DELAY = 16, 4096


@dataclass(frozen=True)
class QueueConfig:
    """A work queue.

    ``size`` descriptors; a shared queue refuses more than ``threshold`` (all, if ``None``), a ``dedicated`` one is
    never given more. ``priority`` 1 to 15 among the queues of ``group``. Transfers have at most
    ``2**max_transfer_shift`` bytes. With a ``pager`` its addresses are virtual, and jobs wait for pages that are not
    there.
    """

    size: int
    threshold: int | None = None
    dedicated: bool = False
    priority: int = 8
    group: int = 0
    max_transfer_shift: int = 21
    pager: Pager | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.priority <= 15:
            raise ValueError(f"priority must be 1 to 15, not {self.priority}")
        if not 0 <= self.group < GROUPS:
            raise ValueError(f"group must be 0 to {GROUPS - 1}, not {self.group}")
        if not 1 <= self.size:
            raise ValueError(f"size must be at least 1, not {self.size}")


class Queue:
    """A queue as the driver sees it: jobs that it has not taken yet, and when to try again."""

    def __init__(self, number: int, config: QueueConfig):
        self.number = number
        self.config = config
        self.backlog: deque[Handle] = deque()
        self.running = 0
        self.delay = FIRST_DELAY
        self.retry_at = 0
        self.place = 0
        self.is_waiting = False  # for room for the first of the backlog: nobody else may submit that

    @property
    def has_credit(self) -> bool:
        """Whether a dedicated queue has room; it drops what it has no room for."""
        return not self.config.dedicated or self.running < self.config.size

    def portal(self) -> int:
        """Where the next descriptor goes: another place each time, so that none waits for another."""
        self.place = (self.place + DESCRIPTOR_SIZE) % PORTAL_SIZE
        return PORTALS + PORTAL_SIZE * self.number + self.place
