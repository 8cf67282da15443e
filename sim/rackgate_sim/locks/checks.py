# SPDX-License-Identifier: Apache-2.0
"""The model checker's table: protocols, configurations, what must come of each, and what does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rackgate.fisslock.abi import Mode

from .check import CASES as HARDENED
from .explore import HOLDS, NOT_FINISHED, VIOLATED, Outcome, explore
from .netlock_system import NetLockSystem, Task
from .traces import FINDINGS, SAFE, describe

__all__ = ["PROTOCOLS", "Case", "cases", "run"]

#: FissLock as published and hardened, and what it is compared with.
PROTOCOLS = ("published", "fisslock", "netlock", "server")

_S, _X = Mode.SHARED, Mode.EXCLUSIVE


@dataclass(frozen=True)
class Case:
    """A line of the table.

    Parameters
    ----------
    protocol, name, network:
        What is explored: whose hosts and switch, which tasks, what the network may do.
    search:
        Explores it; takes the limits of :func:`~rackgate_sim.locks.explore.explore`.
    broken:
        The property that must turn out to be broken, or empty.
    is_long:
        Whether it takes more than some seconds.
    story:
        The trace for people.
    """

    protocol: str
    name: str
    network: str
    search: Callable[..., Outcome]
    broken: str = ""
    is_long: bool = False
    story: Callable[[], list[str]] = list

    @property
    def expected(self) -> str:
        """The verdict that must come."""
        return VIOLATED if self.broken else HOLDS


def _published() -> Iterator[Case]:
    for safe in SAFE:
        yield Case("published", safe.name, "ordered", safe.search, is_long=safe.states > 100_000)
    for finding in FINDINGS:
        if finding.states:
            yield Case("published", finding.name, finding.name.partition("-")[0], finding.search, finding.broken,
                       finding.states > 50_000, lambda finding=finding: describe(finding))


def _hardened() -> Iterator[Case]:
    for case in HARDENED:
        tasks, _, network = case.name.partition("; ")
        yield Case("fisslock", tasks, network, case.explore, is_long=not case.is_quick)


def _others() -> Iterator[Case]:
    def case(protocol: str, name: str, tasks: tuple[Task, ...], slots: int) -> Case:
        def search(**limits: Any) -> Outcome:
            system = NetLockSystem(tasks, slots, one_server=protocol == "server")
            return explore([system.initial], system.successors, good_end=system.good_end,
                           invariants=[system.mutual_exclusion, system.one_round], **limits)

        return Case(protocol, name, "ordered", search)

    for slots in (0, 1, 2):
        yield case("netlock", f"2 hosts, 2 readers, 2 writers, {slots} slots",
                   (Task(1, _X), Task(2, _S), Task(1, _S), Task(2, _X)), slots)
    yield case("netlock", "2 hosts, 2 readers, 1 writer that may cancel, 1 slot",
               (Task(1, _S), Task(2, _S), Task(1, _X, may_cancel=True)), 1)
    yield case("server", "2 hosts, 2 readers, 2 writers", (Task(1, _X), Task(2, _S), Task(1, _S), Task(2, _X)), 0)


def cases() -> list[Case]:
    """All lines of the table."""
    return [*_published(), *_hardened(), *_others()]


def run(*, protocols: tuple[str, ...] = PROTOCOLS, long: bool = False, most_seconds: float = 600.0,
        report: Callable[[str], None] = lambda line: None) -> Iterator[dict[str, Any]]:
    """Explore, and give each line of the table as soon as it is there.

    Parameters
    ----------
    protocols:
        Those of :data:`PROTOCOLS` that are wanted.
    long:
        Whether lines that take minutes are wanted as well.
    most_seconds:
        For one line.
    report:
        Called with what is under way.

    Raises
    ------
    ValueError
        There is no such protocol.
    """
    for name in protocols:
        if name not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {name!r}")
    for case in cases():
        if case.protocol not in protocols or case.is_long and not long:
            continue
        title = f"{case.protocol}, {case.name}, {case.network}"
        report(title)

        def progress(states: int, transitions: int, depth: int, title: str = title) -> None:
            report(f"{title}: {states} states, depth {depth}")

        outcome = case.search(most_seconds=most_seconds, progress=progress, progress_every=20_000)
        yield {
            "protocol": case.protocol, "configuration": case.name, "network": case.network,
            "expected": case.expected, "verdict": outcome.verdict, "broken": case.broken if outcome.trace else "",
            "message": outcome.message, "states": outcome.states, "transitions": outcome.transitions,
            "depth": outcome.depth, "steps": len(outcome.trace), "seconds": round(outcome.seconds, 3),
            "as_expected": outcome.verdict == case.expected, "not_finished": outcome.verdict == NOT_FINISHED,
            "trace": (case.story() if case.broken and outcome.verdict == VIOLATED else list(map(str, outcome.trace))),
        }
