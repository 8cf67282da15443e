# SPDX-License-Identifier: Apache-2.0
"""Locks for threads, with the habits of :class:`threading.Lock`."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, TypeVar

from .client import Grant, LockClient, ModeName
from .errors import LockTimeout
from .keys import Key

__all__ = ["Lock", "ThreadClient"]

_T = TypeVar("_T")


class ThreadClient:
    """A :class:`~rackgate_host.locks.client.LockClient` in a thread of its own; any thread may use its locks.

    Parameters
    ----------
    address, host, timeout:
        As for :meth:`LockClient.connect`, which raises the same.

    >>> with ThreadClient("127.0.0.1:20000") as client:
    ...     with client.lock("orders/17") as grant:
    ...         store("orders/17", fence=grant.fencing_token)
    """

    def __init__(self, address: str, *, host: int | None = None, timeout: float = 5.0):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rackgate-locks", daemon=True)
        self._thread.start()
        try:
            self.client = self.call(LockClient.connect(address, host=host, timeout=timeout))
        except BaseException:
            self._end()
            raise

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the client's loop and wait for it. An interrupt of the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except (KeyboardInterrupt, CancelledError):
            future.cancel()
            raise

    def lock(self, key: Key, mode: ModeName = "exclusive") -> "Lock":
        """The lock of a key; nothing is asked for yet."""
        return Lock(self, key, mode)

    def close(self) -> None:
        """Give everything back and leave. A second call does nothing."""
        if self._thread.is_alive():
            self.call(self.client.close())
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> "ThreadClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class Lock:
    """A lock of a key. Like :class:`threading.Lock` it is not reentrant, and any thread may release it.

    One that is shared may be acquired several times, by one thread or many; each release ends one of these.
    """

    def __init__(self, client: ThreadClient, key: Key, mode: ModeName):
        self.key = key
        self.mode = mode
        self._client = client
        self._grants: list[Grant] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, and whether that succeeded: True, or False when it was not to be had (in ``timeout`` seconds).

        Raises
        ------
        ValueError
            A timeout is given for a call that does not block, or it is negative and not -1.
        LockRefused
            Too many wait for the lock, or nobody answers.
        """
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError(f"timeout must be positive, or -1 for none, not {timeout}")
        client = self._client.client
        try:
            if not blocking or timeout == 0:
                grant = self._client.call(client.try_lock(self.key, self.mode))
            else:
                limit = None if timeout == -1 else timeout
                grant = self._client.call(client.acquire(self.key, self.mode, limit))
        except LockTimeout:
            return False
        if grant is None:
            return False
        self._grants.append(grant)
        return True

    def release(self) -> None:
        """Give the lock back. Raises RuntimeError if it is not held."""
        try:
            grant = self._grants.pop()
        except IndexError:
            raise RuntimeError("release unlocked lock") from None
        self._client.call(_release(self._client.client, grant))

    def locked(self) -> bool:
        """Whether it is held by way of this object."""
        return bool(self._grants)

    @property
    def fencing_token(self) -> int:
        """That of the last grant, see :class:`~rackgate_host.locks.client.Grant`. RuntimeError if it is not held."""
        if not self._grants:
            raise RuntimeError("the lock is not held: it has no fencing token")
        return self._grants[-1].fencing_token

    def __enter__(self) -> Grant:
        self.acquire()
        return self._grants[-1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.release()


async def _release(client: LockClient, grant: Grant) -> None:
    client.release(grant)
