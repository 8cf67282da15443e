# SPDX-License-Identifier: Apache-2.0
"""Device cycles for the partitions of a snapshot, counted in the simulated gateware on its own pages."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rackgate.paths import build_root

from ..errors import Unavailable
from .counting import Counted, Page, count, takes_tables
from .engines import CycleModel
from .format import Kind
from .plan import Plan
from .snapshot import Snapshot
from .tokens import fixed_stream

__all__ = ["Cycles", "clock", "cycles_of"]

_DEFAULT_MHZ = 80.0
_LEVEL = 6


@dataclass(frozen=True)
class Cycles:
    """``of`` each partition, in the order of the index, while others follow; ``conditions`` say how they came about.
    ``latency`` is how many more a page takes until it is there, during which the engine works on others already."""

    of: np.ndarray
    conditions: Mapping[str, Any]
    latency: float = 0.0

    def save(self, path: Path) -> str:
        """Write them for :class:`~rackgate_host.sabre.engines.PacedEngine`; the file's name."""
        np.save(path, self.of)
        return str(path)


def clock(results: Path | None = None) -> tuple[float, str]:
    """The engine's clock in MHz, and where it was found: the routed one that `rackgate bench area` has recorded, of the
    accelerator with one engine or, where there is none, of the inflate engine in it, with a window of 32 KB or the 4 KB
    that pages need; else 80 MHz, which is assumed."""
    path = (results or build_root() / "results") / "area.json"
    try:
        record = json.loads(path.read_text())
        found = {str(point["case"]): float(point["value"]) for point in record["results"]
                 if point["metric"] == "fmax_mhz" and point["value"] is not None}
        commit = record.get("commit")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found, commit = {}, None
    alone = "; the accelerator itself was not routed"
    for prefix, note in (("iaa-1", ""), ("inflate-2x32k", alone), ("inflate-2x4k", alone)):
        for case in sorted(case for case in found if case.startswith(prefix)):
            return found[case], f"routed, {case} of `rackgate bench area` at commit {commit}{note}"
    return _DEFAULT_MHZ, "assumed: no record of `rackgate bench area`"


def cycles_of(snapshot: Snapshot, *, device: str = "sim:iaa", sample: int = 512, seed: int = 1,
              report: Callable[[str], None] = lambda line: None) -> Cycles:
    """Cycles of all partitions of ``snapshot``: ``sample`` of them counted on ``device``, spread evenly; the others by
    a line through those, over the stored bytes. An ``inflate`` device knows no canned tables: there CANNED ones are
    counted with fixed codes, which need no header either. ``device`` "model" takes the model that the paced engine has
    by default, as does a machine that cannot simulate; the conditions then say so.
    """
    plan = Plan.of(snapshot)
    cycles = np.zeros(len(snapshot.partitions))
    numbers = plan.units["partition"].astype(np.int64)
    model, why = CycleModel(), "asked for"
    cycles[numbers] = model.cycles(plan.units)
    packed = np.flatnonzero(plan.units["kind"] != Kind.RAW)
    if device != "model" and len(packed):
        chosen = packed[np.unique(np.linspace(0, len(packed) - 1, min(sample, len(packed))).astype(np.int64))]
        try:
            tables = takes_tables(device)
            counted = count([_page(snapshot, int(numbers[unit]), tables) for unit in chosen.tolist()], device, seed,
                            report)
        except (Unavailable, ImportError, OSError) as error:
            why = " ".join(str(error).split())
        else:
            is_canned = bool((plan.units["kind"] == Kind.CANNED).any())
            canned = "canned tables, in the device's memory" if tables else \
                "fixed codes: the same tokens, and no header"
            return _fitted(plan, cycles, packed, chosen, counted, int(plan.units["size"][chosen[0]]), {
                "cycles": f"counted on {device}, {counted.how}", "device_parameters": counted.parameters,
                "canned_counted_as": canned if is_canned else None})
    return Cycles(cycles, {"cycles": f"modelled: {model.per_page:g} a page and {model.per_stored:g} a stored byte",
                           "why_modelled": why})


def _page(snapshot: Snapshot, number: int, tables: bool) -> Page:
    """A partition for the device, with its canned table if it takes one."""
    partition = snapshot.partition(number)
    stored = snapshot.read(partition)
    content = snapshot.decompress(partition, stored)
    if partition.kind is not Kind.CANNED:
        return Page(stored, content)
    if tables:
        return Page(stored, content, snapshot.tables[partition.table].header)
    return Page(fixed_stream(content, snapshot.header.window, _LEVEL), content)


def _fitted(plan: Plan, cycles: np.ndarray, packed: np.ndarray, chosen: np.ndarray, counted: Counted, size: int,
            conditions: dict[str, Any]) -> Cycles:
    """The counted ones as they are, the others by their line."""
    stored = plan.units["stored"].astype(np.float64)
    terms = np.stack([np.ones(len(stored)), stored], axis=1)
    line, *_ = np.linalg.lstsq(terms[chosen], counted.cycles, rcond=None)
    numbers = plan.units["partition"].astype(np.int64)
    cycles[numbers[packed]] = np.maximum(terms[packed] @ line, size / 16)
    error = np.abs(terms[chosen] @ line - counted.cycles).mean() / counted.cycles.mean()
    cycles[numbers[chosen]] = counted.cycles
    latency = max(counted.alone - float(counted.cycles.mean()), 0.0) if counted.alone else 0.0
    return Cycles(cycles, {
        **conditions, "pages_counted": len(chosen), "pages_in_all": len(plan.units),
        "bytes_per_cycle": round(size * len(chosen) / float(counted.cycles.sum()), 3),
        "cycles_a_page": round(float(cycles[numbers].mean()), 1), "mean_error_of_line": round(float(error), 3),
        "cycles_of_a_page_alone": round(counted.alone, 1) or None}, latency)
