# SPDX-License-Identifier: Apache-2.0
"""Which pages a guest touched, in the order of the first touch, and how stable that is over several runs."""

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import SabreError

__all__ = ["Stability", "Touches", "working_set"]

_VERSION = 1


@dataclass(frozen=True)
class Touches:
    """First touches of one run, in their order: ``regions`` and ``pages`` say what, ``times`` when, in nanoseconds
    since the run began. ``repeated`` counts faults on pages that were there by then (two threads, one page),
    ``removed`` the pages that the guest gave back."""

    regions: np.ndarray
    pages: np.ndarray
    times: np.ndarray
    repeated: int = 0
    removed: int = 0

    def __len__(self) -> int:
        return len(self.pages)

    @property
    def order(self) -> list[tuple[int, int]]:
        """(region, page) in the order of the first touch."""
        return list(zip(self.regions.tolist(), self.pages.tolist(), strict=True))

    def as_json(self) -> dict[str, Any]:
        """The run as one JSON object."""
        return {"touches": [list(row) for row in zip(self.regions.tolist(), self.pages.tolist(), self.times.tolist(),
                                                     strict=True)],
                "repeated": self.repeated, "removed": self.removed}

    @classmethod
    def from_json(cls, value: Any) -> "Touches":
        """The inverse of :meth:`as_json`. Raises :class:`SabreError` where ``value`` is none."""
        try:
            rows = np.array(value["touches"], np.int64).reshape(-1, 3)
            if (rows < 0).any():
                raise ValueError("a number is below 0")
            return cls(rows[:, 0], rows[:, 1], rows[:, 2], int(value["repeated"]), int(value["removed"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SabreError(f"no recorded run: {error}") from error

    @staticmethod
    def save(path: str | os.PathLike[str], runs: Sequence["Touches"]) -> None:
        """Write runs to a JSON file that :meth:`load` reads."""
        Path(path).write_text(json.dumps({"rackgate-touches": _VERSION, "runs": [run.as_json() for run in runs]}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> list["Touches"]:
        """The runs of a file. Raises :class:`SabreError` if it is none of ours."""
        try:
            value = json.loads(Path(path).read_text())
        except ValueError as error:
            raise SabreError(f"{os.fspath(path)}: no JSON: {error}") from error
        if not isinstance(value, dict) or value.get("rackgate-touches") != _VERSION:
            raise SabreError(f"{os.fspath(path)}: no record of touches of version {_VERSION}")
        return [cls.from_json(run) for run in value.get("runs", [])]


@dataclass(frozen=True)
class Stability:
    """How much runs agree on the pages they touch. The Jaccard index of two sets is the size of their intersection
    divided by that of their union; ``mean`` and ``least`` are over all pairs of runs (1.0 for one run)."""

    runs: int
    union: int
    intersection: int
    mean: float
    least: float

    @classmethod
    def of(cls, runs: Sequence[Touches]) -> "Stability":
        """Of at least one run. Raises ``ValueError`` for none."""
        if not runs:
            raise ValueError("runs must hold at least one run")
        sets = [set(run.order) for run in runs]
        pairs = [len(a & b) / len(a | b) if a | b else 1.0 for a, b in itertools.combinations(sets, 2)] or [1.0]
        return cls(len(runs), len(set.union(*sets)), len(set.intersection(*sets)), sum(pairs) / len(pairs), min(pairs))

    def as_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {"runs": self.runs, "union": self.union, "intersection": self.intersection,
                "jaccard_mean": round(self.mean, 4), "jaccard_least": round(self.least, 4)}


def working_set(runs: Sequence[Touches], at_least: int = 1) -> list[tuple[int, int]]:
    """The pages that at least ``at_least`` of the runs touched, by their mean rank among first touches.

    A run that did not touch a page counts as if it had done so last. This is what a snapshot is written with.
    """
    if not runs:
        return []
    if not 1 <= at_least <= len(runs):
        raise ValueError(f"at_least must be 1 to {len(runs)}, the number of runs, not {at_least}")
    ranks: dict[tuple[int, int], list[int]] = {}
    for run in runs:
        for rank, page in enumerate(run.order):
            ranks.setdefault(page, []).append(rank)
    last = max(len(run) for run in runs)
    key = {page: (sum(seen) + last * (len(runs) - len(seen)), page) for page, seen in ranks.items()
           if len(seen) >= at_least}
    return sorted(key, key=key.__getitem__)
