# SPDX-License-Identifier: Apache-2.0
"""Locks for asyncio: ``async with client.lock(key, mode="exclusive", timeout=1.0) as grant:``."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType

from rackgate.fisslock.abi import Mode
from rackgate.fisslock.effects import Why

from ..errors import UsageError
from .errors import LockRefused, LockTimeout
from .keys import Key, lock_of
from .node import Hold, Node
from .protocols import Protocol
from .udp import join

__all__ = ["Grant", "LockClient", "ModeName"]

#: ``"shared"`` or ``"exclusive"``, or a :class:`~rackgate.fisslock.abi.Mode`.
ModeName = str | Mode

_WHY = {
    Why.FULL: "too many wait for it already",
    Why.UNREACHABLE: "nobody answers: is the lock service still there?",
    Why.BUSY: "it is held",
    Why.CANCELLED: "the request was withdrawn",
}


@dataclass(frozen=True)
class Grant:
    """A lock that was granted.

    Attributes
    ----------
    key, mode:
        What was asked for.
    lock:
        The number of the lock that stands for the key.
    fencing_token:
        A number for what the lock protects, which must refuse a writer whose token is before the newest that it has
        seen, and a reader whose token is before the last *writer's*: these have lost the lock without knowing. It must
        not compare readers' tokens with each other: those that share the lock may have the same, or different ones in
        any order. The number wraps at the width of the switch's epoch, so "before" is modulo that (20 bits; the 7 of
        an 18-bit word are too few to fence with). 0 where the protocol has none. ``docs/locks.md`` has an example.
    waited:
        Seconds from the request to the grant.
    """

    key: Key
    mode: Mode
    lock: int
    fencing_token: int
    waited: float
    hold: Hold


class LockClient:
    """Locks of a service, for any number of coroutines of one event loop. Use :meth:`connect` to get one.

    It has no thread and never blocks the loop. Every request is a task of its own: two coroutines that ask for one key
    exclude each other, and so does a coroutine itself that asks twice.

    >>> async def work():
    ...     async with await LockClient.connect("127.0.0.1:20000") as client:
    ...         async with client.lock("orders/17", mode="exclusive", timeout=1.0) as grant:
    ...             await store("orders/17", fence=grant.fencing_token)
    """

    def __init__(self, node: Node, protocol: Protocol, locks: int):
        self.node = node
        self.protocol = protocol
        self.locks = locks
        self._grants: dict[Hold, Grant] = {}

    @classmethod
    async def connect(cls, address: str, *, host: int | None = None, timeout: float = 5.0) -> "LockClient":
        """Join the service at ``address`` (``IP:PORT``) as ``host``, or as the first number that is free.

        Raises
        ------
        NoService
            Nobody answers within ``timeout`` seconds, or the service does not take this host.
        UsageError
            The address makes no sense.
        """
        joined = await join(address, host=host, timeout=timeout)
        return cls(joined.node, joined.protocol, joined.locks)

    @property
    def host(self) -> int:
        """This host's number."""
        return self.node.participant.host

    @property
    def grants(self) -> tuple[Grant, ...]:
        """What this client holds."""
        return tuple(self._grants.values())

    @contextlib.asynccontextmanager
    async def lock(self, key: Key, mode: ModeName = "exclusive", timeout: float | None = None) -> AsyncIterator[Grant]:
        """Hold a lock within ``async with``. As :meth:`acquire`, and given back in any case."""
        grant = await self.acquire(key, mode, timeout)
        try:
            yield grant
        finally:
            if grant.hold in self._grants:  # the client may have been closed meanwhile
                self.release(grant)

    async def acquire(self, key: Key, mode: ModeName = "exclusive", timeout: float | None = None) -> Grant:
        """Wait for a lock, at most ``timeout`` seconds if that is given.

        On a time-out, and if the coroutine is cancelled, the request is withdrawn: the lock is not held, nor will be.

        Raises
        ------
        LockTimeout
            It was not to be had in time; this is how a deadlock shows.
        LockRefused
            Too many wait for it, or nobody answers.
        UsageError
            The key or the mode makes no sense, or the client is closed.
        """
        lock, wanted = self._lock(key), _mode(mode)
        if timeout is not None and not timeout > 0:
            raise UsageError(f"timeout must be positive, not {timeout}: use try_lock to not wait")
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(timeout):
                answer = await self.node.acquire(lock, wanted)
        except TimeoutError:
            raise LockTimeout(self._late(key, wanted, lock, timeout)) from None
        return self._granted(key, wanted, answer, loop.time() - began)

    async def try_lock(self, key: Key, mode: ModeName = "exclusive", timeout: float = 1.0) -> Grant | None:
        """The lock if it is to be had without waiting for another holder, else None.

        Raises
        ------
        UsageError
            As for :meth:`acquire`; or the protocol has no such request.
        LockRefused, LockTimeout
            Nobody answered, or not within ``timeout`` seconds.
        """
        lock, wanted = self._lock(key), _mode(mode)
        if not timeout > 0:
            raise UsageError(f"timeout must be positive, not {timeout}")
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(timeout):
                answer = await self.node.acquire(lock, wanted, wait=False)
        except TimeoutError:
            raise LockTimeout(f"no answer on lock {key!r} within {timeout:g} s") from None
        return None if answer == Why.BUSY else self._granted(key, wanted, answer, loop.time() - began)

    def release(self, grant: Grant) -> None:
        """Give a lock back. Raises :class:`UsageError` if it was given back before."""
        self.node.release(grant.hold)
        del self._grants[grant.hold]

    async def close(self, timeout: float | None = None) -> bool:
        """Give everything back and leave; see :meth:`Node.close`."""
        self._grants.clear()
        return await self.node.close(timeout)

    async def __aenter__(self) -> "LockClient":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    def _lock(self, key: Key) -> int:
        try:
            return lock_of(key, self.locks)
        except (TypeError, ValueError) as error:
            raise UsageError(f"a key must be a number of 64 bits, a string or bytes: {error}") from None

    def _granted(self, key: Key, mode: Mode, answer: Hold | Why, waited: float) -> Grant:
        if not isinstance(answer, Hold):
            raise LockRefused(f"no {mode.name.lower()} lock of {key!r}: {_WHY[answer]}")
        grant = self._grants[answer] = Grant(key, mode, answer.lock, answer.token, waited, answer)
        return grant

    def _late(self, key: Key, mode: Mode, lock: int, timeout: float | None) -> str:
        text = (f"no {mode.name.lower()} lock of {key!r} (lock {lock}) within {timeout:g} s: another holder is slow, "
                "or this is a deadlock")
        mine = [f"{grant.key!r} ({grant.mode.name.lower()})" for grant in self._grants.values()]
        if mine:
            text += f"; this client holds {', '.join(mine[:8])}{' and more' if len(mine) > 8 else ''}"
        twins = [grant.key for grant in self._grants.values() if grant.lock == lock and grant.key != key]
        if twins:
            text += f"; {twins[0]!r} has the same lock number"
        return text


def _mode(mode: ModeName) -> Mode:
    if isinstance(mode, str):
        try:
            return Mode[mode.upper()]
        except KeyError:
            raise UsageError(f"mode must be shared or exclusive, not {mode!r}") from None
    return Mode(mode)
