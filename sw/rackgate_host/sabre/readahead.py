# SPDX-License-Identifier: Apache-2.0
"""The first stage of a restore: a thread that reads the file's pieces, as far ahead as it has slots."""

import os
import queue
import threading
from collections import deque
from collections.abc import Sequence

from .plan import Read
from .storage import Storage

__all__ = ["ReadAhead"]


class ReadAhead:
    """Reads ``reads`` in their order into slots of ``slot_bytes`` of ``arena``; there are ``slots``.

    :meth:`descriptor` becomes readable when :meth:`take` has something. A slot is used again after :meth:`release`.
    """

    def __init__(self, storage: Storage, reads: Sequence[Read], arena: memoryview, slot_bytes: int, slots: int):
        self.left = len(reads)
        self._storage = storage
        self._reads = reads
        self._arena = arena
        self._slot_bytes = slot_bytes
        self._free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for slot in range(slots):
            self._free.put(slot)
        self._done: deque[tuple[Read, int] | Exception] = deque()
        self._closing = False
        self._signal = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)
        self._thread.start()

    def descriptor(self) -> int:
        """Readable when something is there."""
        return self._signal

    def take(self) -> list[tuple[Read, int]]:
        """(read, slot) of what was read since the last call. Raises the error that ended reading."""
        try:
            os.eventfd_read(self._signal)
        except BlockingIOError:
            return []
        taken = []
        while self._done:
            item = self._done.popleft()
            if isinstance(item, Exception):
                raise item
            self.left -= 1
            taken.append(item)
        return taken

    def release(self, slot: int) -> None:
        """The slot's bytes are needed no more."""
        self._free.put(slot)

    def close(self) -> None:
        """End the thread; a read that is under way ends first."""
        self._closing = True
        self._free.put(None)
        self._thread.join()
        os.close(self._signal)

    def _run(self) -> None:
        try:
            for read in self._reads:
                slot = self._free.get()
                if slot is None or self._closing:
                    return
                start = slot * self._slot_bytes
                self._storage.read(read.offset, self._arena[start:start + read.size], read.needed)
                self._tell((read, slot))
        except Exception as error:
            self._tell(error)

    def _tell(self, item: "tuple[Read, int] | Exception") -> None:
        self._done.append(item)
        os.eventfd_write(self._signal, 1)
