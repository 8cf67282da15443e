# SPDX-License-Identifier: Apache-2.0
"""What is known of the tests' own quality: coverage of an engine's Verilog, and faults that were put into it.

One JSON object an engine, in ``build/coverage/ENGINE.json``: ``engine``; ``line_percent`` and ``toggle_percent``, 0 to
100, or null and ``why``; ``mutants``, null or an object of ``made``, ``caught``, ``explained`` and, if wanted,
``timed_out``; and, if wanted, ``command`` and ``commit``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .records import read_objects

__all__ = ["Coverage", "Mutants", "read_coverage"]


@dataclass(frozen=True)
class Mutants:
    """Faults that were put into an engine: how many, how many the tests caught, how many of the others are
    explained, and how many of those caught were so because a test waited in vain."""

    made: int
    caught: int
    explained: int
    timed_out: int = 0

    def __post_init__(self) -> None:
        for name in ("made", "caught", "explained", "timed_out"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"mutants: {name} must be a count, not {value!r}")
        if self.caught + self.explained > self.made:
            raise ValueError(f"mutants: caught and explained must not be more than made, not {self.caught} and "
                             f"{self.explained} of {self.made}")
        if self.timed_out > self.caught:
            raise ValueError(f"mutants: timed_out must not be more than caught, not {self.timed_out} of {self.caught}")

    @property
    def unexplained(self) -> int:
        """Those that no test caught and nobody has explained."""
        return self.made - self.caught - self.explained


@dataclass(frozen=True)
class Coverage:
    """Of one engine."""

    engine: str
    line_percent: float | None
    toggle_percent: float | None
    mutants: Mutants | None = None
    why: str = ""
    command: str = ""
    commit: str = ""

    @classmethod
    def from_object(cls, value: Mapping[str, Any]) -> "Coverage":
        """Of a JSON object. Raises ValueError that says what does not fit."""
        engine = value.get("engine")
        if not isinstance(engine, str) or not engine:
            raise ValueError(f"engine must be a name, not {engine!r}")
        percents: list[float | None] = []
        for name in ("line_percent", "toggle_percent"):
            percent = value.get(name)
            if percent is not None and (isinstance(percent, bool) or not isinstance(percent, int | float)
                                        or not 0 <= percent <= 100):
                raise ValueError(f"{name} must be 0 to 100 or null, not {percent!r}")
            percents.append(percent)
        mutants = value.get("mutants")
        if mutants is not None and not isinstance(mutants, dict):
            raise ValueError(f"mutants must be an object or null, not {mutants!r}")
        counts: list[Any] = [] if mutants is None else [
            *(mutants.get(name) for name in ("made", "caught", "explained")), mutants.get("timed_out", 0)]
        return cls(engine, percents[0], percents[1], Mutants(*counts) if counts else None,
                   *(str(value.get(name) or "") for name in ("why", "command", "commit")))


def read_coverage(folder: Path, problems: list[str]) -> list[Coverage]:
    """Coverage of all engines in a folder, by name; what does not fit is told in ``problems``."""
    found: dict[str, Coverage] = {}
    for path, value in read_objects(folder, problems):
        try:
            one = Coverage.from_object(value)
        except ValueError as error:
            problems.append(f"coverage {path.name}: {error}")
            continue
        found[one.engine] = one
    return [found[name] for name in sorted(found)]
