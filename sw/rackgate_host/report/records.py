# SPDX-License-Identifier: Apache-2.0
"""The records of ``rackgate bench`` as the report reads them: every file of a folder, joined by bench."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..bench.record import Result
from ..errors import UsageError

__all__ = ["Measured", "Origin", "Results", "read_objects", "read_results"]

_FIELDS = frozenset(one.name for one in fields(Result))


@dataclass(frozen=True)
class Origin:
    """The run that a point comes from: its file's name and what the record says of it.

    ``failed`` has a sentence on each part of the run that failed, whose points are missing. ``is_quick``: it was a
    quick run, of less than the bench can measure.
    """

    file: str
    bench: str
    command: str
    seed: int | None
    version: str
    commit: str
    machine: str
    failed: tuple[str, ...] = ()
    is_quick: bool = False


@dataclass(frozen=True)
class Measured:
    """A point and the run that it comes from."""

    result: Result
    origin: Origin

    @property
    def case(self) -> str:
        """The point's case."""
        return self.result.case

    @property
    def metric(self) -> str:
        """The point's metric."""
        return self.result.metric

    @property
    def value(self) -> float | None:
        """The point's value."""
        return self.result.value

    def condition(self, name: str) -> Any:
        """A condition of the point; None where the record does not tell it."""
        return self.result.conditions.get(name)

    def amount(self, name: str) -> float:
        """A condition that is a number; 0 where the record does not tell it, or it is none."""
        found = self.condition(name)
        return found if _is_number(found) else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass
class Results:
    """All that was found.

    Attributes
    ----------
    points:
        By bench, then by case and metric.
    origins:
        The runs, in the order in which their records were written.
    problems:
        A sentence on each file that could not be used, or only in part.
    """

    points: dict[str, dict[tuple[str, str], Measured]] = field(default_factory=dict)
    origins: list[Origin] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def of(self, bench: str) -> list[Measured]:
        """All points of a bench, in the order of its record."""
        return list(self.points.get(bench, {}).values())

    def find(self, bench: str, case: str, metric: str) -> Measured | None:
        """One point; None if it is not there or has no value."""
        found = self.points.get(bench, {}).get((case, metric))
        return None if found is None or found.value is None else found

    def select(self, bench: str, metric: str, prefix: str = "") -> list[Measured]:
        """Points of a metric whose case begins with ``prefix`` and that have a value."""
        return [one for one in self.of(bench)
                if one.metric == metric and one.case.startswith(prefix) and one.value is not None]


def read_objects(folder: Path, problems: list[str]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """JSON objects in the files of a folder, the file that was written last at the end.

    What cannot be read, or is no object, is told in ``problems``.
    """
    files = [path for path in folder.glob("*.json") if path.is_file()]
    for path in sorted(files, key=lambda path: (path.stat().st_mtime, path.name)):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"{path.name} cannot be read: {error}")
            continue
        if isinstance(value, dict):
            yield path, value
        else:
            problems.append(f"{path.name} is not a JSON object")


def _origin(path: Path, record: Mapping[str, Any]) -> Origin:
    bench, machine, seed = str(record["bench"]), record.get("machine"), record.get("seed")
    about = machine if isinstance(machine, dict) else {}
    options, command = record.get("options"), str(record.get("command") or f"rackgate bench {bench}")
    where = ", ".join(f"{about[name]}{unit}" for name, unit in (("cpu", ""), ("cores", " cores")) if name in about)
    return Origin(path.name, bench, command, seed if isinstance(seed, int) else None,
                  str(record.get("version") or "unknown"), str(record.get("commit") or "unknown"), where or "unknown",
                  tuple(_failed(record)),
                  isinstance(options, dict) and options.get("quick") is True or "quick=true" in command.lower())


def _result(point: Any) -> Result:
    """The point that stands in a record. Raises ValueError that says what does not fit."""
    if not isinstance(point, dict):
        raise ValueError(f"a point must be an object, not {point!r}")
    known = {name: value for name, value in point.items() if name in _FIELDS}
    for name, kind in (("case", str), ("metric", str), ("unit", str), ("source", str), ("why", str),
                       ("conditions", dict)):
        if not isinstance(known.setdefault(name, kind()), kind):
            raise ValueError(f"{name} must be {kind.__name__}, not {known[name]!r}")
    for name in ("case", "metric"):
        if not known[name]:
            raise ValueError(f"there is no {name}")
    for name in ("floor", "target", "paper"):
        if known.get(name) is not None and not _is_number(known[name]):
            raise ValueError(f"{name} must be a finite number or null, not {known[name]!r}")
    series = known.get("series")
    if series is not None and not (isinstance(series, dict) and all(
            isinstance(column, list) and all(map(_is_number, column)) for column in series.values())):
        raise ValueError("series must be an object of lists of finite numbers")
    return Result(**{"value": None, **known})


def _failed(record: Mapping[str, Any]) -> Iterator[str]:
    units = record.get("failed")
    for one in units if isinstance(units, list) else ():
        yield f"{one.get('unit')}: {one.get('why')}" if isinstance(one, dict) else str(one)


def read_results(folder: Path) -> Results:
    """Read all records of a folder. Files without the key ``bench`` are none and are left out.

    Several records of one bench are joined; of a point that two of them have, the one written last counts.

    Raises
    ------
    UsageError
        If ``folder`` is there and is no folder. One that is missing has no records.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder of records")
    results = Results()
    for path, record in read_objects(folder, results.problems):
        if "bench" not in record:
            continue
        points = record.get("results")
        if not isinstance(points, list):
            results.problems.append(f"{path.name} has no list of results")
            continue
        origin = _origin(path, record)
        results.origins.append(origin)
        kept = results.points.setdefault(origin.bench, {})
        for number, point in enumerate(points):
            try:
                result = _result(point)
            except ValueError as error:
                results.problems.append(f"{path.name}: point {number} cannot be used: {error}")
                continue
            kept[result.case, result.metric] = Measured(result, origin)
    return results
