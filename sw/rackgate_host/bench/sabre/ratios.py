# SPDX-License-Identifier: Apache-2.0
"""How well the memory of functions compresses, page by page, in each mode."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...sabre.corpora import Workload
from ...sabre.snapshot import Region, Snapshot, write
from ..inflate import digest

__all__ = ["PAPER_RATIO", "contiguous", "ratios"]

#: The best of the paper's workloads.
PAPER_RATIO = 4.5
_MODES = ("canned", "dynamic", "fixed")


def contiguous(workload: Workload, numbers: np.ndarray) -> np.ndarray:
    """Bytes of these pages, back to back."""
    return np.ascontiguousarray(workload.memory[numbers]).reshape(-1)


def _one(path: Path, data: np.ndarray, mode: str, seed: int) -> tuple[float, float]:
    """Bytes of the memory by bytes of the whole file, and of pages that are stored by their stored bytes; the file is
    read back and compared."""
    summary = write(path, [Region("memory", 0, data)], mode=mode, seed=seed)
    with Snapshot.open(path) as snapshot:
        if not np.array_equal(snapshot.restore(0), data):
            raise AssertionError(f"{path} does not hold what was written to it")
    path.unlink()
    return summary.ratio, summary.stored_ratio or 1.0


def ratios(workload: Workload, folder: Path, pages: int, seed: int) -> Iterator[dict[str, Any]]:
    """Points of ``ratio-<workload>``: of the pages that a request has changed, up to ``pages`` of them."""
    numbers = workload.spread(workload.changed.astype(np.int64), pages)
    about = {key: workload.about[key] for key in ("origin", "why", "qemu", "kernel", "python", "seed", "megabytes")
             if workload.about.get(key)}
    conditions = {**about, "pages": len(numbers), "pages_changed": len(workload.changed), "partition_pages": 1,
                  "window": 4096, "level": 6}
    shared = {"case": f"ratio-{workload.name}", "conditions": conditions}
    where = "microVM" if workload.about.get("origin") == "microvm" else "process"
    source = f"pages of a {where} that a request of {workload.name} has changed"
    if not len(numbers):
        yield {**shared, "metric": "compression_ratio", "value": None, "unit": "byte/byte",
               "why": "no page has changed"}
        return
    data = contiguous(workload, numbers)
    conditions["data"] = digest([data.tobytes()])
    for mode in _MODES:
        whole, stored = _one(folder / f"{workload.name}-{mode}.rgs", data, mode, seed)
        tail = "" if mode == "canned" else f"_{mode}"
        yield {**shared, "metric": f"compression_ratio{tail}", "value": round(whole, 3), "unit": "byte/byte",
               "paper": PAPER_RATIO, "source": f"{source}, mode {mode}; the file, zeros and duplicates not stored"}
        yield {**shared, "metric": f"stored_ratio{tail}", "value": round(stored, 3), "unit": "byte/byte",
               "paper": PAPER_RATIO, "source": f"{source}, mode {mode}; pages that are neither zero nor duplicate"}
    for name, value in workload.shares(numbers).items():
        yield {**shared, "metric": name, "value": round(value, 2), "unit": "%", "source": source}
