# SPDX-License-Identifier: Apache-2.0
"""The guest's memory as its monitor sees it: which page is where, which are there, and how to put them there.

Pages of all regions have one numbering: region after region, with an unused number between two so that a run of
numbers never spans both. All sizes are in pages of 4096 bytes unless they say bytes.
"""

import bisect
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .channel import SabreTimeout
from .errors import SabreError
from .userfault import PAGE, Event, EventKind, Feature, Progress, Userfault, UserfaultError

__all__ = ["GONE", "GuestGone", "GuestMemory", "MISSING", "POISONED", "PRESENT", "REMOVED"]

MISSING, PRESENT, REMOVED, GONE, POISONED = range(5)
"""States of a page. REMOVED was given back with madvise(2) and reads as zero from then on; GONE is unmapped."""

_PATIENCE = 10.0
_REPEATS = 10_000


class GuestGone(SabreError):
    """The process whose memory was served has ended."""


class GuestMemory:
    """Regions of a guest, registered with ``userfault``; ``regions`` gives (address, pages) of each.

    ``faults`` collects (page number, time in ns) of the faults that :meth:`drain` read and nobody has served yet.
    ``busy`` is the time spent in ioctls. ``strict`` makes it an error that a page is there which was not installed
    from here: its content is not the one wanted.
    """

    def __init__(self, userfault: Userfault, regions: Sequence[tuple[int, int]], strict: bool = True):
        self.userfault = userfault
        self.strict = strict
        self.addresses = [address for address, _ in regions]
        self.sizes = [pages for _, pages in regions]
        self.first = first_pages(self.sizes)
        self.state = bytearray(sum(self.sizes) + len(self.sizes))
        for first, pages in zip(self.first, self.sizes, strict=True):
            self.state[first + pages] = GONE
        self.faults: list[tuple[int, int]] = []
        self.busy = 0.0
        self.repeated = 0
        self.removed = 0
        self.foreign = 0
        self._again: dict[int, int] = {}

    def missing(self) -> int:
        """How many pages are not there yet."""
        return self.state.count(MISSING)

    def region(self, page: int) -> tuple[int, int]:
        """Region and page in it of a page number."""
        index = bisect.bisect_right(self.first, page) - 1
        return index, page - self.first[index]

    def address(self, page: int) -> int:
        """Where a page is in the guest now."""
        index, inside = self.region(page)
        return self.addresses[index] + inside * PAGE

    def page(self, address: int) -> int | None:
        """The page number at an address, ``None`` if no region is there."""
        for first, start, pages in zip(self.first, self.addresses, self.sizes, strict=True):
            if start <= address < start + pages * PAGE:
                return first + (address - start) // PAGE
        return None

    def runs(self, state: int = MISSING) -> Iterator[tuple[int, int]]:
        """(first, count) of each run of pages in ``state``."""
        edges = np.flatnonzero(np.diff(np.frombuffer(bytes(self.state), np.uint8) == state, prepend=False,
                                       append=False))
        for first, end in edges.reshape(-1, 2).tolist():
            yield first, end - first

    def drain(self) -> int:
        """Read all events that are there: faults go to ``faults``, changes of the mappings are taken over."""
        count = 0
        while events := self.userfault.events():
            now = time.monotonic_ns()
            for event in events:
                if event.kind is EventKind.PAGEFAULT:
                    self._fault(event, now)
                else:
                    self._change(event)
            count += len(events)
        return count

    def copy(self, page: int, count: int, source: int) -> int:
        """Install pages from the address ``source`` here where they are missing; how many that were."""
        return self._install(page, count, lambda first, length, address: self.userfault.copy(
            address, source + (first - page) * PAGE, length))

    def zero(self, page: int, count: int) -> int:
        """Install zero pages where pages are missing; how many that were."""
        return self._install(page, count, lambda first, length, address: self.userfault.zero(address, length))

    def zero_again(self, page: int) -> None:
        """Give a page that was removed back as zero; it may be removed any number of times."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            stopped = self._call(self.userfault.zero, self.address(page), PAGE).stopped
            if stopped != errno.EAGAIN:
                break
            self._change_of_mappings(deadline)
        if stopped == errno.EEXIST:
            self.wake(page)

    def wake(self, page: int) -> None:
        """Let those go on who wait for a page that is there. The text of an error says that it keeps faulting."""
        times = self._again[page] = self._again.get(page, 0) + 1
        self.repeated += 1
        if times > _REPEATS:
            raise SabreError(f"the page at {self.address(page):#x} was installed and has faulted {times} times since")
        self._call(self.userfault.wake, self.address(page), PAGE)

    def poison(self) -> int:
        """Give up and end the registrations: whoever touches a missing page gets SIGBUS, who waits for one too.

        How many are missing. Where the kernel has no UFFDIO_POISON missing pages read as zero instead.
        """
        lost = self.missing()
        if Feature.POISON in self.userfault.features:
            for first, count in list(self.runs()):
                try:
                    self._install(first, count, lambda page, length, address: self.userfault.poison(address, length),
                                  POISONED)
                except SabreError:
                    continue  # the guest is gone, or this part of it: nobody waits there
        self.release()
        return lost

    def release(self) -> None:
        """End the registrations. Missing pages read as zero from then on."""
        for address, pages in zip(self.addresses, self.sizes, strict=True):
            try:
                self.userfault.unregister(address, pages * PAGE)
            except UserfaultError as error:
                if error.errno not in (errno.EINVAL, errno.ENOMEM, errno.ESRCH, errno.ENOENT):
                    raise  # those say that the guest unmapped it, or is gone

    def _call(self, call: Callable[..., Any], *values: int) -> Any:
        start = time.monotonic()
        try:
            return call(*values)
        except UserfaultError as error:
            if error.memory_gone:
                raise GuestGone("the guest has ended: its memory is gone") from error
            raise
        finally:
            self.busy += time.monotonic() - start

    def _install(self, page: int, count: int, ioctl: Callable[[int, int, int], Progress],
                 becomes: int = PRESENT) -> int:
        state, end, limit = self.state, page + count, count
        new, deadline = 0, 0.0
        while page < end:
            run = self._missing_from(page, end)
            if not run:
                page += 1
                continue
            run = min(run, limit)
            address = self.address(page)
            done, stopped = self._call(ioctl, page, run * PAGE, address)
            if done:
                whole = done // PAGE
                state[page:page + whole] = bytes([becomes]) * whole
                page, new, deadline = page + whole, new + whole, 0.0
            elif stopped == errno.EAGAIN:
                deadline = deadline or time.monotonic() + _PATIENCE
                self._change_of_mappings(deadline)
            elif stopped == errno.EEXIST:
                self._found(page)
                page += 1
            elif run > 1:
                limit = 1  # the mapping is in pieces now: page by page each piece is found
            else:
                state[page] = GONE
                page += 1
        return new

    def _missing_from(self, page: int, end: int) -> int:
        """Length of the run of missing pages that begins at ``page``."""
        if self.state.count(MISSING, page, end) == end - page:
            return end - page
        part = self.state[page:end]
        return len(part) - len(part.lstrip(b"\0"))

    def _found(self, page: int) -> None:
        """A page is there that nobody here has installed."""
        self.foreign += 1
        self.state[page] = PRESENT
        if self.strict:
            raise SabreError(f"the page at {self.address(page):#x} was there before it was restored: "
                             "its content is unknown")
        self._call(self.userfault.wake, self.address(page), PAGE)

    def _change_of_mappings(self, deadline: float) -> None:
        """The guest is changing its mappings and waits until its event is read."""
        self.userfault.wait(0.001)
        self.drain()
        if time.monotonic() > deadline:
            raise SabreTimeout(f"waited {_PATIENCE:g} s for the guest to end a change of its mappings")

    def _fault(self, event: Event, now: int) -> None:
        page = self.page(event.start)
        if page is None:
            raise SabreError(f"the guest waits for a page at {event.start:#x}, which is in none of the regions")
        self.faults.append((page, now))

    def _change(self, event: Event) -> None:
        match event.kind:
            case EventKind.REMOVE | EventKind.UNMAP:
                self._mark(event.start, event.end, REMOVED if event.kind is EventKind.REMOVE else GONE)
            case EventKind.REMAP:
                self._move(event)
            case _:
                raise SabreError(f"the guest did what cannot be served: {event.kind.name}")

    def _mark(self, start: int, end: int, state: int) -> None:
        for first, address, pages in zip(self.first, self.addresses, self.sizes, strict=True):
            low = max(start - address, 0) // PAGE
            high = min(end - address, pages * PAGE) // PAGE
            if low < high:
                self.state[first + low:first + high] = bytes([state]) * (high - low)
                self.removed += high - low

    def _move(self, event: Event) -> None:
        for index, (address, pages) in enumerate(zip(self.addresses, self.sizes, strict=True)):
            if address == event.start and event.end - event.start == pages * PAGE:
                self.addresses[index] = event.target
                return
        raise SabreError(f"the guest moved a part of a region, {event.start:#x} to {event.end:#x}: only whole regions "
                         "can move")


def first_pages(sizes: Sequence[int]) -> list[int]:
    """Page number of each region's first page, for regions of ``sizes`` pages."""
    first, position = [], 0
    for pages in sizes:
        first.append(position)
        position += pages + 1
    return first
