# SPDX-License-Identifier: Apache-2.0
"""The record that every bench prints and keeps: one JSON object with fixed names."""

import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rackgate.paths import checkout

__all__ = ["Record", "Result", "commit", "machine"]

#: Metrics of which less is better: their floor and target are upper bounds.
LESS_IS_BETTER = frozenset({"cycles", "lut4", "ff", "ebr", "dsp", "stage_latency_cycles", "bits_per_lock",
                            "busiest_link_bytes", "half_bandwidth_bytes", "fraction_of_limit", "bubbles_per_packet",
                            "cpu_seconds_per_gb", "host_bytes_received_per_payload_byte",
                            "host_bytes_sent_per_payload_byte", "copied_per_payload_byte"})


@dataclass(frozen=True)
class Result:
    """One measured point.

    Parameters
    ----------
    case, metric:
        What was measured; stable names.
    value:
        The figure of this run. None if it could not be measured; then ``why`` says why not.
    unit:
        Unit of ``value``, singular ("byte/cycle").
    floor, target, paper:
        What must hold, what is aimed at, and what was published; None where there is none.
    conditions:
        Parameters that the figure depends on.
    source:
        What it was measured on, in a few words.
    """

    case: str
    metric: str
    value: float | None
    unit: str
    floor: float | None = None
    target: float | None = None
    paper: float | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        if self.value is None and not self.why:
            raise ValueError(f"{self.case} {self.metric}: a point without a value must say why")
        if self.value is not None and (not isinstance(self.value, int | float) or isinstance(self.value, bool)
                                       or not math.isfinite(self.value)):
            raise ValueError(f"{self.case} {self.metric}: value must be a finite number or None, not {self.value!r}")

    @property
    def holds(self) -> bool:
        """Whether the floor holds; a point with a floor that was not measured does not hold it."""
        return self._meets(self.floor)

    @property
    def reaches(self) -> bool:
        """Whether the target is reached, in the same way."""
        return self._meets(self.target)

    def _meets(self, limit: float | None) -> bool:
        if limit is None:
            return True
        if self.value is None:
            return False
        return self.value <= limit if self.metric in LESS_IS_BETTER else self.value >= limit

    def as_dict(self) -> dict[str, Any]:
        """The point as it stands in the record."""
        point: dict[str, Any] = {
            "case": self.case, "metric": self.metric, "value": self.value, "unit": self.unit, "floor": self.floor,
            "target": self.target, "paper": self.paper, "conditions": dict(self.conditions), "source": self.source,
        }
        if self.value is None:
            point["why"] = self.why
        return point


def machine() -> dict[str, Any]:
    """The processor's name and the cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux: the platform's own name stands
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


def commit(folder: Path | None = None) -> str | None:
    """The checkout's commit, with "-dirty" behind it if tracked files have changed; None outside a checkout."""
    folder = folder or checkout()
    if folder is None:
        return None
    try:
        done = subprocess.run(["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"],
                              capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@dataclass(frozen=True)
class Record:
    """Everything that one run of a bench says."""

    bench: str
    command: str
    seed: int
    results: Sequence[Result]

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for result in self.results:
            if (result.case, result.metric) in seen:
                raise ValueError(f"bench {self.bench}: {result.case} {result.metric} stands twice")
            seen.add((result.case, result.metric))

    @property
    def missed(self) -> list[Result]:
        """Points whose floor does not hold."""
        return [result for result in self.results if not result.holds]

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return {
            "bench": self.bench, "command": self.command, "seed": self.seed,
            "version": importlib.metadata.version("rackgate"), "commit": commit(), "machine": machine(),
            "results": [result.as_dict() for result in self.results],
        }
