# SPDX-License-Identifier: Apache-2.0
"""Records against the baseline: what was counted, and has changed by more than a per cent."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rackgate.paths import checkout

from ..errors import UsageError
from .record import LESS_IS_BETTER

__all__ = ["Change", "Comparison", "baseline_folder", "compare", "load", "write"]

#: What a figure may change by, as a part of the baseline's.
TOLERANCE = 0.01
_KEYS = ("bench", "seed", "options", "commit", "versions")


@dataclass(frozen=True)
class Change:
    """One figure that is not the baseline's. ``now`` is None if it was not measured."""

    bench: str
    case: str
    metric: str
    was: float
    now: float | None

    @property
    def worse(self) -> bool:
        """Whether the change is for the worse. A figure that is missing is."""
        return self.now is None or (self.now > self.was) == (self.metric in LESS_IS_BETTER)

    @property
    def percent(self) -> float | None:
        """Of the baseline's figure; None if that is 0, or there is none now."""
        return None if self.now is None or not self.was else 100 * (self.now - self.was) / abs(self.was)

    def as_dict(self) -> dict[str, Any]:
        """The change for JSON."""
        return {"bench": self.bench, "case": self.case, "metric": self.metric, "was": self.was, "now": self.now,
                "percent": self.percent, "worse": self.worse}


@dataclass(frozen=True)
class Comparison:
    """What came of one bench.

    Parameters
    ----------
    bench:
        Its name.
    same:
        Figures that are the baseline's, within the tolerance.
    changes:
        Those that are not.
    new:
        Figures that the baseline does not have: case and metric.
    other_data:
        Figures of other input than the baseline's, which are not compared: the bench's data is of this machine.
    why:
        Why nothing was compared, if so.
    """

    bench: str
    same: int = 0
    changes: Sequence[Change] = ()
    new: Sequence[tuple[str, str]] = field(default_factory=tuple)
    other_data: int = 0
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The comparison for JSON."""
        return {"bench": self.bench, "same": self.same, "changes": [change.as_dict() for change in self.changes],
                "new": [list(name) for name in self.new], "other_data": self.other_data, "why": self.why}


def baseline_folder() -> Path:
    """``baseline`` of the checkout. Raises UsageError outside of one."""
    if (top := checkout()) is None:
        raise UsageError("there is no checkout here, so the baseline's folder must be named: --baseline DIR")
    return top / "baseline"


def load(path: Path) -> dict[str, Any] | None:
    """A record or a baseline; None if there is none. Raises UsageError if it is not one."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict) or not {"bench", "seed", "results"} <= set(value):
        raise UsageError(f"{path} is no record of a bench")
    return value


def _data(point: Mapping[str, Any]) -> str | None:
    return point.get("data") or point.get("conditions", {}).get("data")


def _figures(points: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(point["case"], point["metric"]): point for point in points}


def compare(record: Mapping[str, Any], baseline: Mapping[str, Any], *, partly: bool = False) -> Comparison:
    """Compare what was counted in a run with the baseline of the same bench.

    ``partly``: the record holds some of the baseline's units only, so a figure that is missing says nothing.
    """
    bench = baseline["bench"]
    for key in ("seed", "options"):
        if record.get(key) != baseline.get(key):
            return Comparison(bench, why=f"the record's {key} {json.dumps(record.get(key))} are not the baseline's "
                                         f"{json.dumps(baseline.get(key))}: rackgate bench {bench} --quick")
    was = _figures(baseline["results"])
    now = _figures(point for point in record["results"] if point.get("counted"))
    same = other = 0
    changes = []
    for name, old in was.items():
        if name not in now and partly:
            continue
        new = now.get(name, {})
        value = new.get("value")
        if value is not None and _data(old) != _data(new):
            other += 1
        elif value is None or abs(value - old["value"]) > TOLERANCE * abs(old["value"]):
            changes.append(Change(bench, *name, old["value"], value))
        else:
            same += 1
    return Comparison(bench, same, changes, [name for name in now if name not in was], other)


def write(record: Mapping[str, Any], path: Path) -> int:
    """Make a baseline of what a record has counted, a point a line; how many points.

    Raises
    ------
    UsageError
        If a part of the run failed: its figures would be missing.
    """
    if record.get("failed"):
        raise UsageError(f"{record['bench']}: {record['failed'][0]['unit']} failed, so this record is no baseline")
    lines = []
    for point in record["results"]:
        if point.get("counted") and point["value"] is not None:
            kept = {name: point[name] for name in ("case", "metric", "value", "unit")}
            lines.append(json.dumps(kept | ({"data": data} if (data := _data(point)) else {})))
    if not lines:
        return 0
    head = json.dumps({key: record[key] for key in _KEYS if key in record}, indent=1)[:-2]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head},\n "results": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n")
    return len(lines)
