# SPDX-License-Identifier: Apache-2.0
"""What clients of a lock service have seen, and whether a service may show them that."""

import enum
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from rackgate.fisslock.abi import Mode

__all__ = ["Event", "History", "Kind", "check"]


class Kind(enum.Enum):
    """What happens to a request. Each begins with REQUEST and ends with RELEASE, WITHDRAWN or REFUSED."""

    REQUEST = "request"
    SEEN = "seen"  # the switch has it, or an agent; optional
    GRANT = "grant"
    RELEASE = "release"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"


class Event(NamedTuple):
    """An event of a request. ``token``: of a GRANT, 0 for none."""

    time: float
    kind: Kind
    request: int
    token: int = 0


@dataclass
class _Request:
    lock: int
    mode: Mode
    events: dict[Kind, int] = field(default_factory=dict)  # to the place in the history
    token: int = 0


class History:
    """Events in the order in which they happened."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.requests: list[_Request] = []

    def request(self, time: float, lock: int, mode: Mode) -> int:
        """A client asks. Returns the request's number."""
        self.requests.append(_Request(lock, mode))
        number = len(self.requests) - 1
        self.add(time, Kind.REQUEST, number)
        return number

    def add(self, time: float, kind: Kind, request: int, token: int = 0) -> None:
        """Something happens to a request. What is SEEN twice is seen the first time.

        Raises ValueError for an event that cannot follow on those before it: the recorder is wrong, not the service.
        """
        known = self.requests[request].events
        over = {Kind.RELEASE, Kind.WITHDRAWN, Kind.REFUSED} & known.keys()
        if kind == Kind.SEEN and (known.keys() & {Kind.SEEN, Kind.GRANT} or over):
            return
        fits = {Kind.REQUEST: not known, Kind.RELEASE: Kind.GRANT in known}.get(kind, Kind.GRANT not in known)
        if over or not fits:
            raise ValueError(f"request {request}: {kind.value} cannot follow on "
                             f"{', '.join(item.value for item in known)}")
        known[kind] = len(self.events)
        self.events.append(Event(time, kind, request, token))
        if kind == Kind.GRANT:
            self.requests[request].token = token


def check(history: History, *, most_bypasses: int | None = None, token_bits: int = 0) -> list[str]:
    """Everything that is wrong with a history that is over, in words; nothing is wrong with an empty list.

    Looks for: tasks that hold a lock together though one holds it exclusively; requests that never ended and locks that
    were never given back; with ``token_bits`` (fencing tokens have so many, and wrap) exclusive holders whose token is
    not larger than all before, and shared ones whose token is not larger than those of exclusive ones before; and with
    ``most_bypasses`` exclusive requests that more than so many shared ones overtook: of those that were made after the
    exclusive one was SEEN (or, if that is not known, made).
    """
    wrong: list[str] = []
    by_lock: dict[int, list[int]] = defaultdict(list)
    for number, request in enumerate(history.requests):
        by_lock[request.lock].append(number)
        if not request.events.keys() & {Kind.RELEASE, Kind.WITHDRAWN, Kind.REFUSED}:
            what = "was never given back" if Kind.GRANT in request.events else "waits for ever"
            wrong.append(f"request {number} of lock {request.lock} {what}")
    for lock, numbers in sorted(by_lock.items()):
        wrong += _exclusion(history, lock, numbers, token_bits)
        if most_bypasses is not None:
            wrong += _bypasses(history, numbers, most_bypasses)
    return wrong


def _is_newer(token: int, other: int, bits: int) -> bool:
    return 0 < (token - other & (1 << bits) - 1) <= 1 << bits >> 1


def _exclusion(history: History, lock: int, numbers: Iterable[int], token_bits: int) -> list[str]:
    wrong: list[str] = []
    mine = set(numbers)
    holders: set[int] = set()
    newest: int | None = None
    writer: int | None = None
    for event in history.events:
        if event.request not in mine:
            continue
        request = history.requests[event.request]
        if event.kind == Kind.GRANT:
            for other in sorted(holders):
                if Mode.EXCLUSIVE in (request.mode, history.requests[other].mode):
                    wrong.append(f"lock {lock} was granted to request {event.request} ({request.mode.name.lower()}) at "
                                 f"{event.time:g} while request {other} held it "
                                 f"({history.requests[other].mode.name.lower()})")
            # Readers that share a lock come after each other in any order of their tokens.
            is_writer = request.mode == Mode.EXCLUSIVE
            before = newest if is_writer else writer
            if token_bits and before is not None and not _is_newer(event.token, before, token_bits):
                wrong.append(f"lock {lock}: request {event.request} got fencing token {event.token} after {before}")
            if newest is None or _is_newer(event.token, newest, token_bits):
                newest = event.token
            if is_writer:
                writer = event.token
            holders.add(event.request)
        elif event.kind == Kind.RELEASE:
            holders.discard(event.request)
    return wrong


def _bypasses(history: History, numbers: Iterable[int], most: int) -> list[str]:
    wrong: list[str] = []
    shared: list[tuple[int, int]] = []  # grants of shared requests: place of the grant, place of the request
    numbers = list(numbers)
    for number in numbers:
        one = history.requests[number]
        if one.mode == Mode.SHARED and Kind.GRANT in one.events:
            shared.append((one.events[Kind.GRANT], one.events[Kind.REQUEST]))
    for number in numbers:
        one = history.requests[number]
        if one.mode != Mode.EXCLUSIVE or Kind.GRANT not in one.events:
            continue
        begin, end = one.events.get(Kind.SEEN, one.events[Kind.REQUEST]), one.events[Kind.GRANT]
        passed = sum(begin < request < granted < end for granted, request in shared)
        if passed > most:
            wrong.append(f"request {number} of lock {one.lock} was overtaken by {passed} later ones, {most} may")
    return wrong
