# SPDX-License-Identifier: Apache-2.0
"""Device cycles for the partitions of a snapshot, counted in the simulated gateware on its own pages."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rackgate.inflate.abi import Flag, Format, Status
from rackgate.paths import build_root, cache_root

from ..device import open_device
from ..errors import DeviceFault, Unavailable
from ..inflate.driver import InflateDriver, Job
from .engines import CycleModel
from .format import Kind
from .plan import Plan
from .snapshot import Snapshot
from .tokens import fixed_stream

__all__ = ["Cycles", "clock", "count", "cycles_of"]

_IN_FLIGHT = 64
_DEFAULT_MHZ = 80.0
_LEVEL = 6


@dataclass(frozen=True)
class Cycles:
    """``of`` each partition, in the order of the index; ``conditions`` say how they came about."""

    of: np.ndarray
    conditions: Mapping[str, Any]

    def save(self, path: Path) -> str:
        """Write them for :class:`~rackgate_host.sabre.engines.PacedEngine`; the file's name."""
        np.save(path, self.of)
        return str(path)


def clock(results: Path | None = None) -> tuple[float, str]:
    """The engine's clock in MHz, and where it was found: the routed one that `rackgate bench area` has recorded, else
    80, which is the floor of that bench's target."""
    path = (results or build_root() / "results") / "area.json"
    try:
        points = json.loads(path.read_text())["results"]
        found = {point["case"]: float(point["value"]) for point in points
                 if point["metric"] == "fmax_mhz" and point["value"] is not None}
    except (OSError, ValueError, KeyError, TypeError):
        found = {}
    for case in ("iaa-1", "inflate-2x32k"):
        if case in found:
            return found[case], f"routed, {case} of `rackgate bench area`"
    return _DEFAULT_MHZ, "assumed: no record of `rackgate bench area`"


def count(streams: Sequence[bytes], contents: Sequence[bytes], device: str = "sim:inflate", seed: int = 1,
          report: Callable[[str], None] = lambda line: None) -> tuple[np.ndarray, dict[str, Any]]:
    """Cycles from one completion to the next when an engine is given raw Deflate ``streams`` back to back, and the
    device's parameters; the sum of a batch is the time that the batch took. Every byte is compared with ``contents``.

    What was counted once on the same build is kept by content. Raises
    :class:`~rackgate_host.errors.DeviceFault` for wrong output.
    """
    options = {"seed": seed, "progress": report} if device.startswith("sim:") else {}
    digest = hashlib.sha256(b"".join(hashlib.sha256(stream).digest() for stream in streams))
    with open_device(device, **options) as opened:
        driver = InflateDriver.of(opened)
        digest.update(f"{device} {seed} {opened.build} {dict(opened.parameters)}".encode())
        kept = cache_root() / "sabre-cycles" / f"{digest.hexdigest()[:32]}.npy"
        if kept.is_file():
            return np.load(kept, allow_pickle=False), dict(opened.parameters)
        cycles = np.zeros(len(streams), np.int64)
        for low in range(0, len(streams), _IN_FLIGHT):
            high = min(low + _IN_FLIGHT, len(streams))
            report(f"counting cycles: {low} of {len(streams)} pages")
            cycles[low:high] = _batch(driver, streams[low:high], contents[low:high], low)
        parameters = dict(opened.parameters)
    _keep(kept, cycles)
    return cycles, parameters


def _keep(path: Path, cycles: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(dir=path.parent)
    with open(descriptor, "wb") as file:
        np.save(file, cycles)
    os.replace(part, path)


def _batch(driver: InflateDriver, streams: Sequence[bytes], contents: Sequence[bytes], first: int) -> np.ndarray:
    device, jobs = driver.device, []
    for stream, content in zip(streams, contents, strict=True):
        source, destination = device.allocate(len(stream)), device.allocate(len(content))
        source[:] = np.frombuffer(stream, np.uint8)
        jobs.append(Job(source, destination, Format.RAW, Flag.LAST))
    completions = [handle.wait() for handle in driver.submit(*jobs)]
    for number, (job, content, completion) in enumerate(zip(jobs, contents, completions, strict=True), first):
        assert job.source is not None and job.destination is not None
        if completion.status != Status.SUCCESS or job.destination.tobytes() != content:
            raise DeviceFault(f"page {number} did not come out as it went in: status {completion.status:#x}, "
                              f"error {completion.error}")
        job.source.free()
        job.destination.free()
    finished = np.array([completion.finished for completion in completions], np.int64)
    order = np.argsort(finished, kind="stable")
    cycles = np.zeros(len(streams), np.int64)
    cycles[order] = np.diff(finished[order], prepend=min(completion.started for completion in completions))
    return cycles


def cycles_of(snapshot: Snapshot, *, device: str = "sim:inflate", sample: int = 512, seed: int = 1,
              report: Callable[[str], None] = lambda line: None) -> Cycles:
    """Cycles of all partitions of ``snapshot``: ``sample`` of them counted on ``device``, spread evenly; the others by
    a line through those, over the stored bytes. CANNED ones are counted with fixed codes: there is no header either.
    ``device`` "model" takes the model that the paced engine has by default, as does a machine that cannot simulate; the
    conditions then say so.
    """
    plan = Plan.of(snapshot)
    cycles = np.zeros(len(snapshot.partitions))
    numbers = plan.units["partition"].astype(np.int64)
    model, why = CycleModel(), "asked for"
    cycles[numbers] = model.cycles(plan.units)
    packed = np.flatnonzero(plan.units["kind"] != Kind.RAW)
    if device != "model" and len(packed):
        chosen = packed[np.unique(np.linspace(0, len(packed) - 1, min(sample, len(packed))).astype(np.int64))]
        streams, contents = [], []
        for unit in chosen.tolist():
            partition = snapshot.partition(int(numbers[unit]))
            stored = snapshot.read(partition)
            contents.append(snapshot.decompress(partition, stored))
            # A canned table that is there needs no header, as fixed codes need none; the tokens are the same.
            streams.append(fixed_stream(contents[-1], snapshot.header.window, _LEVEL)
                           if partition.kind is Kind.CANNED else stored)
        try:
            counted, parameters = count(streams, contents, device, seed, report)
        except (Unavailable, ImportError, OSError) as error:
            why = " ".join(str(error).split())
        else:
            return _fitted(plan, cycles, packed, chosen, counted, len(contents[0]), {
                "cycles": f"counted on {device}", "device_parameters": parameters,
                "canned_counted_as": "fixed codes: the same tokens, and no header" if (
                    plan.units["kind"] == Kind.CANNED).any() else None})
    return Cycles(cycles, {"cycles": f"modelled: {model.per_page:g} a page and {model.per_stored:g} a stored byte",
                           "why_modelled": why})


def _fitted(plan: Plan, cycles: np.ndarray, packed: np.ndarray, chosen: np.ndarray, counted: np.ndarray, size: int,
            conditions: dict[str, Any]) -> Cycles:
    """The counted ones as they are, the others by their line."""
    stored = plan.units["stored"].astype(np.float64)
    terms = np.stack([np.ones(len(stored)), stored], axis=1)
    line, *_ = np.linalg.lstsq(terms[chosen], counted, rcond=None)
    numbers = plan.units["partition"].astype(np.int64)
    cycles[numbers[packed]] = np.maximum(terms[packed] @ line, size / 16)
    error = np.abs(terms[chosen] @ line - counted).mean() / counted.mean()
    cycles[numbers[chosen]] = counted
    return Cycles(cycles, {
        **conditions, "pages_counted": len(chosen), "pages_in_all": len(plan.units),
        "bytes_per_cycle": round(size * len(chosen) / float(counted.sum()), 3),
        "cycles_a_page": round(float(cycles[numbers].mean()), 1), "mean_error_of_line": round(float(error), 3)})
