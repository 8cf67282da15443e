# SPDX-License-Identifier: Apache-2.0
"""How long a restore takes: the flows, each run in turn with all others so that a busy machine is busy for all."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import Unavailable
from ...sabre import software
from ...sabre.corpora import Workload
from ...sabre.cycles import cycles_of
from ...sabre.snapshot import Region, Snapshot, write
from ...sabre.workload import restore_guest, touch_trace
from . import peers, touching
from .lazy import lazy_mmap
from .ratios import contiguous
from .settings import RAW, Settings, Stored, checked, cold, paced

__all__ = ["PAPER_SAVING", "Flow", "measure"]

#: Per cent of restore time saved at best, by the paper's abstract.
PAPER_SAVING = 55.0
_DEVICE_MODES = ("canned", "dynamic")


@dataclass(frozen=True)
class Flow:
    """One way to restore. ``what`` names its results; ``options`` go to the restorer."""

    what: str
    file: Path
    options: Mapping[str, Any]
    serial: bool
    ratio: float
    timing: str = "wall"
    conditions: Mapping[str, Any] = field(default_factory=dict)


def measure(workload: Workload, settings: Settings, others: bool = True) -> Iterator[dict[str, Any]]:
    """Points of one workload at all speeds of storage; without ``others`` of REAP and the headline's device only."""
    numbers = workload.spread(workload.in_use(), settings.pages)
    image = settings.folder / f"{workload.name}.img"
    data = contiguous(workload, numbers)
    data.tofile(image)
    stored = _stored(workload, data, image, settings)
    flows, missing = _flows(stored, image, settings, others)
    trace = touch_trace([len(numbers)], settings.seed, share=0.9, again=0.0, varied=0.0)
    about = {"pages": len(numbers), "megabytes": round(data.nbytes / 1e6, 1), "repeats": settings.repeats,
             "origin": workload.about.get("origin"), "deduplicated": False, "zero_pages": 0, "cold": True}
    if others:
        yield from settings.part(f"{workload.name} mapped", lambda: [
            _mapped(workload, image, trace, about, settings.repeats)])
    for rate in settings.storage:
        settings.report(f"{workload.name} at {rate:g} GB/s")
        yield from settings.part(f"{workload.name} at {rate:g}", lambda rate=rate: _at(
            workload, flows, trace if others else [], image, rate, about, settings))
        for name, why in missing.items():
            for shape in ("serial", "pipelined"):
                yield {"case": f"{name}-{workload.name}-{rate:g}", "metric": f"milliseconds_{shape}", "value": None,
                       "unit": "ms", "why": why}
    if others and settings.guests:
        yield from touching.points(workload, data, image, stored, about, settings)
    for path in {image, *(flow.file for flow in flows)}:
        path.unlink()


def _stored(workload: Workload, data: np.ndarray, image: Path, settings: Settings) -> dict[str, Stored]:
    """The image in all modes, and what a device needs for those that it knows."""
    stored = {}
    for mode in ("raw", *_DEVICE_MODES):
        settings.report(f"{workload.name}: compressing, {mode}")
        file = image.with_suffix(f".{mode}.rgs")
        summary = write(file, [Region("memory", 0, data)], mode=mode, deduplicate=False, seed=settings.seed)
        cycles = None
        if mode != "raw":
            with Snapshot.open(file) as snapshot:
                cycles = cycles_of(snapshot, device=settings.device, sample=settings.sample, seed=settings.seed,
                                   report=settings.report)
            cycles.save(image.with_suffix(f".{mode}.npy"))
        stored[mode] = Stored(file, summary.stored_ratio or 1.0, cycles)
    return stored


def _flows(stored: Mapping[str, Stored], image: Path, settings: Settings,
           others: bool) -> tuple[list[Flow], dict[str, str]]:
    """The flows, and what cannot be had, with the reason."""
    shapes = (True, False)
    flows = [Flow("reap-raw", stored["raw"].file, RAW, serial, 1.0) for serial in shapes]
    for mode in _DEVICE_MODES:
        for count in settings.engines if mode == "canned" and others else (settings.headline,):
            options, timing, conditions = paced(stored[mode], str(image.with_suffix(f".{mode}.npy")), count, settings)
            name = f"device-x{count}" if mode == "canned" else f"device-x{count}-{mode}"
            flows += [Flow(name, stored[mode].file, options, serial, stored[mode].ratio, timing,
                           {**conditions, "mode": mode}) for serial in shapes]
    missing = {}
    for codec in settings.codecs if others else ():
        engine, file, rate = "software", stored["dynamic"].file, stored["dynamic"].ratio
        try:
            if codec in peers.PEERS:
                engine, file = "rackgate_host.bench.sabre.peers:PeerEngine", image.with_suffix(f".{codec}.rgs")
                rate = peers.write(stored["raw"].file, file, codec).stored_ratio or 1.0
            elif codec not in software.available():
                raise Unavailable(f"{codec} is not installed: pip install 'rackgate[bench]'")
        except Unavailable as error:
            missing[codec] = str(error)
            continue
        options = {"engine": engine, "engine_options": {"workers": settings.workers, "codec": codec}}
        flows += [Flow(codec, file, options, serial, rate, conditions={"workers": settings.workers})
                  for serial in shapes]
    return flows, missing


def _at(workload: Workload, flows: Sequence[Flow], trace: Sequence[tuple[int, int]], image: Path, rate: float,
        about: Mapping[str, Any], settings: Settings) -> Iterator[dict[str, Any]]:
    """All flows at one speed of storage."""
    taken: list[list[dict[str, Any]]] = [[] for _ in flows]
    lazy: list[dict[str, Any]] = []
    raw = next(flow.file for flow in flows if flow.what == "reap-raw")
    for number in range(settings.repeats):
        for place, flow in enumerate(flows):
            settings.report(f"{workload.name} at {rate:g} GB/s, run {number + 1} of {settings.repeats}: {flow.what}")
            result = restore_guest(flow.file, (), image, {**flow.options, "serial": flow.serial,
                                                          "throttle": rate * 1e9, "cold": True})
            checked(result, flow.what)
            taken[place].append(result["report"])
        if trace:
            settings.report(f"{workload.name} at {rate:g} GB/s, run {number + 1} of {settings.repeats}: lazy-uffd")
            result = restore_guest(raw, trace, image, {
                **RAW, "policy": "resume-at-once", "prefetch": "none", "throttle": rate * 1e9, "cold": True})
            checked(result, "lazy userfaultfd")
            lazy.append(result)
    where = {**about, "storage_gb_per_s": rate}
    source = f"memory of {workload.name}, compared byte for byte"
    if lazy:
        yield {"case": f"lazy-uffd-{workload.name}-{rate:g}", "metric": "milliseconds",
               "value": round(min(one["guest_seconds"] for one in lazy) * 1e3, 2), "unit": "ms",
               "conditions": {**where, "timing": "wall", "touched_pages": len(trace), **cold([
                   one["report"] for one in lazy])}, "source": f"{source}; until the trace was done"}
    least = {(flow.what, flow.serial): min(report["seconds"]["total"] for report in reports)
             for flow, reports in zip(flows, taken, strict=True)}
    for flow, reports in zip(flows, taken, strict=True):
        yield from _points(workload, flow, reports, least, where, source, rate, settings.headline)


def _points(workload: Workload, flow: Flow, reports: Sequence[Mapping[str, Any]],
            least: Mapping[tuple[str, bool], float], where: Mapping[str, Any], source: str, rate: float,
            headline: int) -> Iterator[dict[str, Any]]:
    """The points of one flow. What else this machine did makes a restore slower and never quicker, so the quickest
    counts."""
    shape = "serial" if flow.serial else "pipelined"
    own, base = least[flow.what, flow.serial], least["reap-raw", flow.serial]
    totals = [report["seconds"]["total"] * 1e3 for report in reports]
    stages = min(reports, key=lambda report: report["seconds"]["total"])["seconds"]
    conditions = {**where, **flow.conditions, "timing": flow.timing, "compression_ratio": round(flow.ratio, 3),
                  **cold(reports), "median_ms": round(statistics.median(totals), 2), "most_ms": round(max(totals), 2)}
    conditions |= {f"{stage}_ms": round(stages[stage] * 1e3, 2) for stage in ("read", "decompress", "install")}
    case = f"{flow.what}-{workload.name}-{rate:g}"
    yield {"case": case, "metric": f"milliseconds_{shape}", "value": round(own * 1e3, 2), "unit": "ms",
           "conditions": conditions, "source": source}
    if flow.what == "reap-raw":
        return
    paper = PAPER_SAVING if flow.what.startswith("device") else None
    saving = {"metric": f"saving_percent_{shape}", "value": round((1 - own / base) * 100, 1), "unit": "%",
              "conditions": conditions, "source": f"{source}; against REAP-raw, {shape} too"}
    yield {"case": case, "paper": paper, **saving}
    chosen = flow.what == f"device-x{headline}"
    if chosen:
        yield {"case": f"restore-{workload.name}-{rate:g}", "paper": paper, **saving}
    if flow.serial:
        return
    # The flow of the paper, one stage after the other, is what pipelining has to beat.
    yield {"case": f"restore-{workload.name}-{rate:g}" if chosen else case, "metric": "pipelined_speedup",
           "value": round(least[flow.what, True] / own, 3), "unit": "x", "floor": 1.0 if chosen else None,
           "conditions": conditions, "source": f"{source}; serial by pipelined"}


def _mapped(workload: Workload, image: Path, trace: Sequence[tuple[int, int]], about: Mapping[str, Any],
            repeats: int) -> dict[str, Any]:
    """The point of a lazy mapping."""
    results = [lazy_mmap(image, trace) for _ in range(repeats)]
    for result in results:
        checked(result, "lazy mmap")
    return {"case": f"lazy-mmap-{workload.name}", "metric": "milliseconds", "unit": "ms",
            "value": round(min(result["guest_seconds"] for result in results) * 1e3, 2),
            "conditions": {**about, "timing": "wall", "storage": "this machine's disk: faults cannot be slowed down",
                           "touched_pages": len(trace),
                           "cached_before": max(result["cached_before"] for result in results)},
            "source": f"memory of {workload.name}, compared byte for byte; until the trace was done"}
