# SPDX-License-Identifier: Apache-2.0
"""A lock manager in a server's memory: first come, first served. Plain Python."""

from collections import deque
from collections.abc import Hashable
from typing import NamedTuple

__all__ = ["LockTable", "Request"]


class Request(NamedTuple):
    """Who asks for what: host, its task, 0 for shared and 1 for exclusive, and the client's number of the request."""

    client: int
    task: int
    mode: int
    timestamp: int


class _Lock:
    __slots__ = ("exclusive", "holders", "waiting")

    def __init__(self) -> None:
        self.holders = 0
        self.exclusive = False
        self.waiting: deque[Request] = deque()


class LockTable:
    """Locks that are not free, each with the number of its holders and a queue.

    A shared request behind an exclusive one waits, so none starves. Who releases is not checked: the table knows how
    many hold a lock, not who, as NetLock's servers and switch.
    """

    def __init__(self) -> None:
        self._locks: dict[int, _Lock] = {}
        self.waiting = 0

    def __len__(self) -> int:
        return len(self._locks)

    def acquire(self, number: int, request: Request) -> bool:
        """Grant the request, or keep it. Whether it was granted."""
        lock = self._locks.get(number)
        if lock is None:
            lock = self._locks[number] = _Lock()
        if lock.waiting or (lock.holders and (request.mode or lock.exclusive)):
            lock.waiting.append(request)
            self.waiting += 1
            return False
        lock.holders += 1
        lock.exclusive = bool(request.mode)
        return True

    def release(self, number: int) -> list[Request]:
        """One holder less; the requests that are granted now. A lock that nobody holds stays as it is."""
        lock = self._locks.get(number)
        if lock is None:
            return []
        lock.holders -= 1
        granted: list[Request] = []
        if not lock.holders:
            while lock.waiting and (not granted or not (granted[0].mode or lock.waiting[0].mode)):
                granted.append(lock.waiting.popleft())
            if granted:
                lock.holders, lock.exclusive = len(granted), bool(granted[0].mode)
                self.waiting -= len(granted)
            else:
                del self._locks[number]
        return granted

    def freeze(self) -> Hashable:
        """The table's state, for :meth:`thaw`."""
        return tuple(sorted((number, lock.holders, lock.exclusive, tuple(lock.waiting))
                            for number, lock in self._locks.items()))

    def thaw(self, frozen: Hashable) -> None:
        """Take on a state."""
        assert isinstance(frozen, tuple)
        self._locks.clear()
        self.waiting = 0
        for number, holders, exclusive, waiting in frozen:
            lock = self._locks[number] = _Lock()
            lock.holders, lock.exclusive, lock.waiting = holders, exclusive, deque(waiting)
            self.waiting += len(waiting)
