# SPDX-License-Identifier: Apache-2.0
"""Several benches at once: their units side by side, what is there already taken over, a record for each."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from .apart import Outcome, measure_apart, measure_here
from .benches import ALONE, ANYWHERE, HERE, Unit, points_of, units_of
from .record import Record
from .store import Kept, Store

__all__ = ["LIMIT", "Executor", "Pool", "Suite", "in_turn"]

#: Seconds that a unit may take.
LIMIT = 2 * 3600.0
Report = Callable[[str], None]
#: Runs units, and yields the place of each among them and its outcome, in any order.
Executor = Callable[[Sequence[Unit], Report], Iterator[tuple[int, Outcome]]]


def in_turn(units: Sequence[Unit], report: Report) -> Iterator[tuple[int, Outcome]]:
    """Run units in this process, one after the other."""
    for place, unit in enumerate(units):
        yield place, measure_here(unit, lambda line, unit=unit: report(f"{unit.title}: {line}"))


class Pool:
    """Runs units side by side in ``jobs`` processes, each in one of its own.

    A process that dies takes nothing with it but its unit, which is run once more. The first unit of a bench goes
    before its others: most often it builds the model that they would wait for.
    """

    def __init__(self, jobs: int, limit: float = LIMIT):
        if jobs < 1:
            raise UsageError(f"jobs must be at least 1, not {jobs}")
        self.jobs, self.limit = jobs, limit

    def __call__(self, units: Sequence[Unit], report: Report) -> Iterator[tuple[int, Outcome]]:
        stop = threading.Event()

        def one(unit: Unit) -> Outcome:
            def tell(line: str) -> None:
                report(f"{unit.title}: {line}")

            outcome = measure_apart(unit, tell, limit=self.limit, stop=stop)
            if outcome.died and not stop.is_set():
                tell("its process died; once more")
                return measure_apart(unit, tell, limit=self.limit, stop=stop)
            return outcome

        behind: dict[str, list[int]] = {}
        with ThreadPoolExecutor(self.jobs) as threads:
            running: dict[Future[Outcome], int] = {}
            for place, unit in enumerate(units):
                if unit.bench in behind:
                    behind[unit.bench].append(place)
                else:
                    behind[unit.bench] = []
                    running[threads.submit(one, unit)] = place
            try:
                while running:
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        place = running.pop(done)
                        for other in behind.pop(units[place].bench, ()):
                            running[threads.submit(one, units[other])] = other
                        yield place, done.result()
            finally:  # also of an interrupt: no process is left behind
                stop.set()
                threads.shutdown(cancel_futures=True)


@dataclass
class _Part:
    """A bench of the run: its units, and what has come of them by now."""

    name: str
    options: Mapping[str, Any]
    units: list[Unit]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    kept: set[int] = field(default_factory=set)
    why: str = ""
    exit_code: int = 0

    @property
    def is_done(self) -> bool:
        return len(self.outcomes) == len(self.units)

    def record(self, command: str, seed: int) -> Record:
        failed = [{"unit": "", "why": self.why}] if self.why else []
        told, parts = [], []
        for place, unit in enumerate(self.units):
            outcome = self.outcomes[place]
            told.append({"unit": unit.name, "seconds": round(outcome.seconds, 1), "where": outcome.where,
                         "kept": place in self.kept})
            if outcome.points is None:
                failed.append({"unit": unit.name, "why": outcome.why})
            else:
                parts.append(outcome.points)
        return Record(self.name, command, seed, points_of(self.name, parts, whole=not failed), self.options, told,
                      failed)

    @property
    def exit_codes(self) -> set[int]:
        codes = {outcome.exit_code for outcome in self.outcomes.values() if outcome.points is None}
        return codes | {self.exit_code} if self.why else codes


class Suite:
    """A run of several benches.

    Parameters
    ----------
    requests:
        Options by bench.
    seed:
        Of all.
    store:
        Where points of units are found and kept; None: nowhere.

    Raises
    ------
    UsageError
        If an option makes no sense.
    """

    def __init__(self, requests: Mapping[str, Mapping[str, Any]], seed: int, store: Store | None = None):
        self.seed, self._store = seed, store
        self.parts = [self._plan(name, options, alone=len(requests) == 1) for name, options in requests.items()]
        self.done = 0

    def _plan(self, name: str, options: Mapping[str, Any], alone: bool) -> _Part:
        try:
            return _Part(name, options, units_of(name, self.seed, options))
        except UsageError:
            raise
        except Exception as error:  # a package that is missing ends one bench, not all
            if alone:
                raise
            from ..cli import exit_code, sentence  # which imports the bench's command

            return _Part(name, options, [], why=sentence(error), exit_code=exit_code(error))

    @property
    def total(self) -> int:
        """Units of all benches."""
        return sum(len(part.units) for part in self.parts)

    def run(self, spread: Executor, alone: Executor, report: Report = lambda line: None, command: str = "",
            finished: Callable[[Unit, Outcome], None] = lambda unit, outcome: None,
            here: Executor | None = None) -> Iterator[Record]:
        """Run what was not kept, and yield the record of each bench as soon as it is whole.

        Counts may be spread over processes and machines by ``spread``; those of this machine's data are for ``here``,
        which is ``spread`` by default. What is measured by a clock on the wall comes after all of them, by ``alone``,
        one at a time. ``report`` is called with a line on what is under way, ``finished`` with each unit that was run.
        """
        told: set[str] = set()
        waiting = self._take()
        yield from self._whole(told, command)
        stages = [((ANYWHERE, HERE), spread)] if here in (None, spread) else [((ANYWHERE,), spread), ((HERE,), here)]
        for places, executor in (*stages, ((ALONE,), alone)):
            chosen = [item for item in waiting if item[0].units[item[1]].where in places]
            if not chosen:
                continue
            for place, outcome in executor([part.units[number] for part, number in chosen], report):
                part, number = chosen[place]
                self._keep(part, number, outcome)
                finished(part.units[number], outcome)
                yield from self._whole(told, command)

    def _take(self) -> list[tuple[_Part, int]]:
        """Take over what was kept; what was not."""
        waiting = []
        for part in self.parts:
            for number, unit in enumerate(part.units):
                if self._store and (kept := self._store.find(unit)):
                    part.outcomes[number] = Outcome(kept.points, kept.seconds)
                    part.kept.add(number)
                    self.done += 1
                else:
                    waiting.append((part, number))
        return waiting

    def _keep(self, part: _Part, number: int, outcome: Outcome) -> None:
        part.outcomes[number] = outcome
        self.done += 1
        if self._store and outcome.points is not None:
            with suppress(OSError):  # a disk that is full loses the kept points, not the record
                self._store.keep(part.units[number], Kept(outcome.points, outcome.seconds))

    def _whole(self, told: set[str], command: str) -> Iterator[Record]:
        for part in self.parts:
            if part.is_done and part.name not in told:
                told.add(part.name)
                yield part.record(command, self.seed)
                for unit in part.units:
                    # A clock on the wall is looked at anew each time; only an interrupted run goes on.
                    if self._store and not unit.counted:
                        self._store.drop(unit)

    @property
    def exit_code(self) -> int:
        """0 if no unit failed; the code that all failures share, else 1."""
        codes = {code for part in self.parts for code in part.exit_codes}
        return codes.pop() if len(codes) == 1 else int(bool(codes))
