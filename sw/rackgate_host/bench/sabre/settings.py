# SPDX-License-Identifier: Apache-2.0
"""What the bench ``sabre`` is asked for, and what its flows share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DeviceFault
from ...sabre.cycles import Cycles
from .ledger import Ledger

__all__ = ["RAW", "Settings", "Stored", "checked", "cold", "paced"]

#: Options with which bytes go from the disk to userfaultfd as they are, with no copy between and no CRC, as REAP's do.
RAW: Mapping[str, Any] = {"engine": "rackgate_host.bench.sabre.peers:RawEngine"}


@dataclass(frozen=True)
class Settings:
    """What is measured; storage in GB/s, ``clock`` in MHz; ``guests`` touch what is restored."""

    folder: Path
    storage: Sequence[float]
    engines: Sequence[int]
    headline: int
    codecs: Sequence[str]
    pages: int
    repeats: int
    workers: int
    clock: float
    clock_source: str
    device: str
    sample: int
    seed: int
    report: Callable[[str], None] = lambda line: None
    guests: Sequence[str] = ()
    ledger: Ledger | None = None

    def part(self, name: str, measure: Callable[[], Iterable[dict[str, Any]]]) -> Iterable[dict[str, Any]]:
        """The points that ``measure`` gives, or those that a run that was broken off had of this part."""
        return measure() if self.ledger is None else self.ledger.part(name, measure)


@dataclass(frozen=True)
class Stored:
    """An image in one mode; ``cycles`` are those that the device takes for it, ``None`` if it is raw."""

    file: Path
    ratio: float
    cycles: Cycles | None


def paced(stored: Stored, table: str, engines: int, settings: Settings) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Options of a restore by the paced device whose cycles are in the file ``table``, what its times mean, and its
    conditions."""
    assert stored.cycles is not None
    options = {"engine": "paced", "engine_options": {"clock": settings.clock, "engines": engines, "cycles": table,
                                                     "latency": stored.cycles.latency}}
    timing = f"paced: {engines} engines at {settings.clock:g} MHz, a prediction; the rest is wall time"
    return options, timing, {"engines": engines, "clock_mhz": settings.clock, "clock_source": settings.clock_source,
                             **stored.cycles.conditions}


def checked(result: Mapping[str, Any], what: str) -> None:
    """No figure for memory that came back wrong."""
    if result["equal"] is not True or result.get("wrong"):
        raise DeviceFault(f"{what}: the restored memory differs from the original")


def cold(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the page cache was out of the way."""
    return {"direct": all(report["direct"] for report in reports),
            "cached_before": max(report["cached_before"] for report in reports)}
