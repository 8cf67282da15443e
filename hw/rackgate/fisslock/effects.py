# SPDX-License-Identifier: Apache-2.0
"""What the host side of any lock protocol takes and gives: plain Python, no clock, no socket, no thread.

A :class:`Participant` is a state machine. Whoever drives it (sockets, a simulated cluster, a model checker) calls it
with what happens and carries out the effects that :meth:`Participant.take` returns, in their order.
"""

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from .abi import Mode

__all__ = ["Effect", "Granted", "Participant", "Refused", "Send", "Why"]


class Why(enum.StrEnum):
    """Why a request was refused."""

    #: It was cancelled by its own task; the lock will not be held on its account.
    CANCELLED = "cancelled"
    #: It was not to wait, and would have had to.
    BUSY = "busy"
    #: Too many wait for the lock already.
    FULL = "full"
    #: Nobody answered, however often it was sent.
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Send:
    """Send a UDP payload.

    ``host`` None: to the switch; else directly to that host. ``to_client``: to the port for grants
    (:data:`~rackgate.fisslock.abi.CLIENT_PORT`), else to the one for agents and servers.
    """

    payload: bytes
    host: int | None = None
    to_client: bool = False


@dataclass(frozen=True, slots=True)
class Granted:
    """The task holds the lock from now on. ``token``: fencing token, 0 where the protocol has none."""

    lock: int
    task: int
    mode: Mode
    token: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The task's request is over, and the lock will not be held on its account."""

    lock: int
    task: int
    why: Why


Effect = Send | Granted | Refused


class Participant(Protocol):
    """The host side of a lock protocol; one for each host. Times are seconds on any clock that does not go back.

    Misuse (a task that asks twice for one lock, or releases what it does not hold) raises ValueError and changes
    nothing. A message that is malformed or not for this host is ignored and counted, never raised on.
    """

    @property
    def host(self) -> int:
        """Number of this host, from 1 on."""
        ...

    def acquire(self, lock: int, task: int, mode: Mode, now: float, *, wait: bool = True) -> None:
        """Ask for a lock. Ends in one :class:`Granted` or :class:`Refused`; ``wait`` False: BUSY instead of waiting."""
        ...

    def release(self, lock: int, task: int, now: float) -> None:
        """Give back a lock that was granted."""
        ...

    def cancel(self, lock: int, task: int, now: float) -> None:
        """Stop waiting: :class:`Refused` at once, and the task does not hold the lock afterwards.

        A grant that is on its way is given back without anybody's doing.
        """
        ...

    def receive(self, message: bytes, to_client: bool, now: float) -> None:
        """Take a UDP payload that came to the port for grants (``to_client``) or to the one for agents."""
        ...

    def tick(self, now: float) -> None:
        """Do whatever is due."""
        ...

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` is wanted next, None: never."""
        ...

    @property
    def idle(self) -> bool:
        """Whether it owes nothing to anybody: no task holds or waits, and nothing is left to hand on."""
        ...

    def take(self) -> list[Effect]:
        """Effects since the last call, in their order."""
        ...

    def freeze(self) -> Hashable:
        """The whole state, times left out, as a value that can be compared and hashed."""
        ...
