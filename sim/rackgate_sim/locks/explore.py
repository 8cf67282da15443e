# SPDX-License-Identifier: Apache-2.0
"""Explicit-state model checking: visit every state that a system can reach, and hold each to what must be true.

A system is its initial states and a function to the successors of a state. States are hashable values. The search is
breadth-first and depends on nothing but the system, so a counterexample is as short as there is one, and the same
every time.
"""

import time
from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["HOLDS", "NOT_FINISHED", "VIOLATED", "Outcome", "explore", "replay"]

#: Verdicts: everything was visited and nothing is wrong; something is; a limit was met before either was known.
HOLDS, VIOLATED, NOT_FINISHED = "holds", "violated", "not finished"

#: A state to its successors, each with the label of the step. Equal states must give equal successors in equal order.
Successors = Callable[[Any], Iterable[tuple[Any, Hashable]]]

#: A state to what is wrong with it, or None.
Invariant = Callable[[Any], str | None]

_NO_PARENT = 0xFFFF_FFFF
_CHECK_CLOCK_EVERY = 256


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes
    ----------
    verdict:
        :data:`HOLDS`, :data:`VIOLATED` or :data:`NOT_FINISHED`.
    kind:
        Of a violation ``"invariant"``; ``"stuck"``: a state without successors that is no good end; ``"lost"``: a
        state from which no good end can be reached any more although steps go on. Else empty.
    message:
        What is wrong, or which limit was met.
    states, transitions, depth:
        Distinct states visited, steps between them (to known states too), and steps to the furthest.
    ends:
        Good ends among the states.
    seconds:
        How long it took.
    trace:
        Labels of the steps to the state that is wrong, from an initial one.
    state:
        The state that is wrong.
    """

    verdict: str
    kind: str
    message: str
    states: int
    transitions: int
    depth: int
    ends: int
    seconds: float
    trace: tuple[Any, ...] = ()
    state: Any = None

    @property
    def holds(self) -> bool:
        """Whether everything was visited and nothing is wrong."""
        return self.verdict == HOLDS


class _Search:
    """The states met so far, in the order of their discovery, each with the one that it was first reached from."""

    def __init__(self, successors: Successors, keep_edges: bool):
        self.successors = successors
        self.number: dict[Hashable, int] = {}
        self.states: list[Any] = []
        self.parent = array("I")
        self.depth = array("I")
        self.keep_edges = keep_edges
        self.edge_from, self.edge_to = array("I"), array("I")
        self.transitions = 0
        self.good: list[int] = []
        self.start = time.monotonic()

    def add(self, state: Any, parent: int) -> tuple[int, bool]:
        """The number of ``state``, and whether it is new."""
        fresh = len(self.states)
        found = self.number.setdefault(state, fresh)
        if found == fresh:
            self.states.append(state)
            self.parent.append(parent)
            self.depth.append(0 if parent == _NO_PARENT else self.depth[parent] + 1)
        return found, found == fresh

    def trace(self, number: int) -> tuple[Any, ...]:
        """Labels from an initial state to that one. They were not kept: the steps are made again."""
        way = [number]
        while self.parent[way[-1]] != _NO_PARENT:
            way.append(self.parent[way[-1]])
        labels = []
        for before, after in zip(way[:0:-1], way[-2::-1], strict=True):
            target = self.states[after]
            labels.append(next(label for label, state in self.successors(self.states[before]) if state == target))
        return tuple(labels)

    def outcome(self, verdict: str, kind: str = "", message: str = "", number: int | None = None) -> Outcome:
        return Outcome(verdict, kind, message, len(self.states), self.transitions, max(self.depth, default=0),
                       len(self.good), time.monotonic() - self.start,
                       () if number is None else self.trace(number),
                       None if number is None else self.states[number])

    def first_lost(self) -> int | None:
        """The first state, in the order of discovery, from which no good end can be reached."""
        count = len(self.states)
        begin = array("I", bytes(array("I").itemsize * (count + 1)))
        for target in self.edge_to:
            begin[target + 1] += 1
        for place in range(count):
            begin[place + 1] += begin[place]
        free, before = begin[:-1], array("I", self.edge_from)
        for source, target in zip(self.edge_from, self.edge_to, strict=True):
            before[free[target]] = source
            free[target] += 1
        saved = bytearray(count)
        todo = list(self.good)
        for place in todo:
            saved[place] = 1
        while todo:
            place = todo.pop()
            for source in before[begin[place]:begin[place + 1]]:
                if not saved[source]:
                    saved[source] = 1
                    todo.append(source)
        lost = saved.find(0)
        return None if lost < 0 else lost


def explore(initial: Iterable[Hashable], successors: Successors, *, invariants: Sequence[Invariant] = (),
            good_end: Callable[[Any], bool] | None = None, most_states: int = 5_000_000,
            most_seconds: float = 3600.0, progress: Callable[[int, int, int], None] | None = None,
            progress_every: int = 50_000) -> Outcome:
    """Visit every state that can be reached, breadth-first.

    Parameters
    ----------
    initial:
        States to begin with.
    successors:
        Steps out of a state, as (label, state).
    invariants:
        Each is called once for each state, and returns what is wrong or None.
    good_end:
        Says of a state whether everything has come to its end as it should. If given, from every state such a one
        must remain reachable: this finds deadlocks and livelocks, on the assumption that no step that stays possible
        is put off for ever.
    most_states, most_seconds:
        Limits. The outcome is :data:`NOT_FINISHED` when one is met.
    progress:
        Called every ``progress_every`` states with states, transitions and depth.

    Raises
    ------
    ValueError
        There is no initial state, or a limit is not positive.
    """
    for name, value in (("most_states", most_states), ("most_seconds", most_seconds),
                        ("progress_every", progress_every)):
        if value <= 0:
            raise ValueError(f"{name} must be positive, not {value}")
    search = _Search(successors, keep_edges=good_end is not None)

    def wrong(state: Any) -> str | None:
        return next((message for message in (check(state) for check in invariants) if message is not None), None)

    for state in initial:
        number, new = search.add(state, _NO_PARENT)
        if new and (message := wrong(state)) is not None:
            return search.outcome(VIOLATED, "invariant", message, number)
    if not search.states:
        raise ValueError("there must be at least one initial state")
    place = 0
    while place < len(search.states):
        if place % _CHECK_CLOCK_EVERY == 0 and time.monotonic() - search.start > most_seconds:
            return search.outcome(NOT_FINISHED, message=f"{most_seconds:g} seconds went by")
        if progress is not None and place and place % progress_every == 0:
            progress(len(search.states), search.transitions, search.depth[place])
        state, steps = search.states[place], 0
        for _label, after in successors(state):
            steps += 1
            number, new = search.add(after, place)
            if search.keep_edges:
                search.edge_from.append(place)
                search.edge_to.append(number)
            if new and (message := wrong(after)) is not None:
                search.transitions += steps
                return search.outcome(VIOLATED, "invariant", message, number)
        search.transitions += steps
        if good_end is not None:
            if good_end(state):
                search.good.append(place)
            elif not steps:
                return search.outcome(VIOLATED, "stuck", "nothing can happen any more, and it is no good end", place)
        if len(search.states) > most_states:
            return search.outcome(NOT_FINISHED, message=f"there are more than {most_states} states")
        place += 1
    if good_end is not None and (lost := search.first_lost()) is not None:
        return search.outcome(VIOLATED, "lost", "no good end can be reached any more", lost)
    return search.outcome(HOLDS)


def replay(initial: Hashable, successors: Successors, trace: Iterable[Any]) -> list[Any]:
    """The states along a trace, the initial one first.

    Raises
    ------
    ValueError
        The system has no step of that label there.
    """
    states: list[Any] = [initial]
    for place, wanted in enumerate(trace):
        for label, state in successors(states[-1]):
            if label == wanted:
                states.append(state)
                break
        else:
            raise ValueError(f"step {place} of the trace cannot be made: {wanted!r}")
    return states
