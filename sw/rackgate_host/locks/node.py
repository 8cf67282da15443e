# SPDX-License-Identifier: Apache-2.0
"""A host in asyncio: it drives a participant by messages and by time, and lets coroutines wait for locks."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rackgate.fisslock.abi import Mode
from rackgate.fisslock.effects import Effect, Granted, Participant, Refused, Send, Why

from ..errors import UsageError

__all__ = ["Counts", "Hold", "Link", "Node"]


class Link(Protocol):
    """How a node's messages travel. It calls what :meth:`attach` was given with each message that comes in."""

    def attach(self, receive: Callable[[bytes, bool], None]) -> None:
        """Deliver what comes in as (message, whether it came to the port for grants)."""
        ...

    def send(self, message: bytes, host: int | None, to_client: bool) -> None:
        """Send to the switch (``host`` None) or to a host's port for grants (``to_client``) or for agents."""
        ...

    async def close(self) -> None:
        """Take leave, and send nothing any more."""
        ...


@dataclass
class Counts:
    """What a node has counted."""

    sent: int = 0
    received: int = 0
    granted: int = 0
    released: int = 0
    refused: int = 0
    cancelled: int = 0


@dataclass(frozen=True)
class Hold:
    """A lock that a task holds. ``token``: the fencing token, see :attr:`~.client.Grant.fencing_token`."""

    lock: int
    task: int
    mode: Mode
    token: int


class Node:
    """One host. To be used in one event loop; coroutines are the tasks that want locks.

    Parameters
    ----------
    participant:
        The host's side of a protocol.
    link:
        How it reaches the others.
    """

    #: Seconds that :meth:`close` waits for what the host still owes to others.
    CLOSE_TIMEOUT = 10.0

    def __init__(self, participant: Participant, link: Link):
        self.participant = participant
        self.link = link
        self.counts = Counts()
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[tuple[int, int], asyncio.Future[Hold | Why]] = {}
        self._held: dict[tuple[int, int], Hold] = {}
        self._next_task = 1
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._is_idle = asyncio.Event()
        self._closed = False
        link.attach(self._receive)
        self._settle()

    @property
    def held(self) -> tuple[Hold, ...]:
        """Locks that tasks of this host hold."""
        return tuple(self._held.values())

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    async def acquire(self, lock: int, mode: Mode, *, wait: bool = True) -> Hold | Why:
        """Ask for a lock: it, or why it was refused.

        If the coroutine is cancelled meanwhile, the request is withdrawn, and a grant that was just about to be
        returned is given back: nothing is held then.

        Raises
        ------
        UsageError
            The node is closed, or the protocol cannot do without waiting.
        """
        if self._closed:
            raise UsageError("this client is closed")
        task, self._next_task = self._next_task, self._next_task % 0x3FFF_FFFF + 1
        key = lock, task
        try:
            self.participant.acquire(lock, task, mode, self._loop.time(), wait=wait)
        except ValueError as error:
            raise UsageError(str(error)) from None
        future = self._waiting[key] = self._loop.create_future()
        self._settle()
        try:
            return await future
        except asyncio.CancelledError:
            self._withdraw(key)
            raise

    def _withdraw(self, key: tuple[int, int]) -> None:
        if key in self._held:
            self.release(self._held[key])
        elif self._waiting.pop(key, None) is not None:
            self.counts.cancelled += 1
            self.participant.cancel(*key, self._loop.time())
            self._settle()

    def release(self, hold: Hold) -> None:
        """Give a lock back. Raises :class:`UsageError` if it was given back before."""
        key = hold.lock, hold.task
        if self._held.get(key) is not hold:
            raise UsageError(f"lock {hold.lock} is not held on this account any more")
        del self._held[key]
        self.counts.released += 1
        self.participant.release(*key, self._loop.time())
        self._settle()

    async def close(self, timeout: float | None = None) -> bool:
        """Give everything back, wait until nothing is owed to others, and let go of the link.

        Returns whether it came to that within ``timeout`` (by default :attr:`CLOSE_TIMEOUT`) seconds. If not, this
        host was still the agent of locks that others hold, or what it sent was not answered: those locks are lost.
        """
        if self._closed:
            return True
        self._closed = True
        for key in list(self._waiting):
            future = self._waiting[key]
            self._withdraw(key)
            future.cancel()
        for hold in self.held:
            self.release(hold)
        try:
            async with asyncio.timeout(self.CLOSE_TIMEOUT if timeout is None else timeout):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await self.link.close()
        return True

    # Driving the participant

    def _receive(self, message: bytes, to_client: bool) -> None:
        self.counts.received += 1
        self.participant.receive(message, to_client, self._loop.time())
        self._settle()

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        self.participant.tick(self._loop.time())
        self._settle()

    def _settle(self) -> None:
        """Carry out effects, and set the clock for what is due next."""
        while effects := self.participant.take():
            for effect in effects:
                self._carry_out(effect)
        due = self.participant.deadline
        if due != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if due is None else self._loop.call_at(due, self._tick)
            self._timer_at = due
        if self.participant.idle:
            self._is_idle.set()
        else:
            self._is_idle.clear()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send():
                self.counts.sent += 1
                self.link.send(effect.payload, effect.host, effect.to_client)
            case Granted():
                key = effect.lock, effect.task
                hold = self._held[key] = Hold(*key, effect.mode, effect.token)
                self.counts.granted += 1
                self._answer(key, hold)
            case Refused():
                self.counts.refused += effect.why != Why.CANCELLED
                self._answer((effect.lock, effect.task), effect.why)

    def _answer(self, key: tuple[int, int], answer: Hold | Why) -> None:
        future = self._waiting.pop(key, None)
        if future is not None and not future.done():
            future.set_result(answer)
