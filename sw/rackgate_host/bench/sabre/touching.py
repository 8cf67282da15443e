# SPDX-License-Identifier: Apache-2.0
"""How long until a guest that is restored has touched what a request touches: a process (rig R1) and a virtual machine
under KVM (rig R2), with each policy of the restorer."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import Unavailable
from ...sabre import kvm
from ...sabre.corpora import Workload
from ...sabre.cycles import cycles_of
from ...sabre.guests import GuestKind, kvm_module
from ...sabre.restorer import Policy
from ...sabre.snapshot import Region, Snapshot, write
from ...sabre.workload import restore_guest, touch_trace
from .lazy import lazy_mmap
from .settings import RAW, Settings, Stored, checked, cold, paced

__all__ = ["points"]

_SHARE = 0.3  # of the pages that a request touches, all of which were recorded
_LAZY = {"policy": "resume-at-once", "prefetch": "none"}
_BASE = "reap-raw"


@dataclass(frozen=True)
class _Way:
    """One way to restore; ``timing`` says what its times mean."""

    file: Path
    options: Mapping[str, Any]
    timing: str
    conditions: Mapping[str, Any]


def points(workload: Workload, data: np.ndarray, image: Path, stored: Mapping[str, Stored], about: Mapping[str, Any],
           settings: Settings) -> Iterator[dict[str, Any]]:
    """Points ``<guest>-<flow>-<workload>-<GB/s>`` of all guests; a guest that cannot be had has its reason."""
    trace = touch_trace([len(data) // 4096], settings.seed, share=_SHARE)
    ways = _ways(workload, data, image, stored, list(dict.fromkeys(trace)), settings)
    for guest in settings.guests:
        about_guest = {**about, "guest": guest, "touches": len(trace), "touched_pages": len(set(trace))}
        if guest == GuestKind.KVM:
            try:
                kvm.supported()
            except Unavailable as error:
                settings.report(f"no guest in KVM: {error}")
                yield from _missing(workload, ways, settings, str(error))
                continue
            about_guest["kvm"] = kvm_module()
        yield from settings.part(f"{guest} {workload.name} mapped", lambda about=about_guest: [
            _mapped(workload, image, trace, about, settings)])
        for rate in settings.storage:
            yield from settings.part(f"{guest} {workload.name} at {rate:g}", lambda rate=rate, about=about_guest: _at(
                workload, image, trace, ways, rate, about, settings))
    for way in ways.values():
        way.file.unlink()


def _ways(workload: Workload, data: np.ndarray, image: Path, stored: Mapping[str, Stored],
          order: list[tuple[int, int]], settings: Settings) -> dict[str, _Way]:
    """REAP, the device, and software if some is compared with; files that begin with the working set."""
    files = {}
    for mode in stored:
        settings.report(f"{workload.name}: compressing, {mode}, the working set first")
        files[mode] = image.with_suffix(f".{mode}.first.rgs")
        write(files[mode], [Region("memory", 0, data)], working_set=order, mode=mode, deduplicate=False,
              seed=settings.seed)
    # The order of the pages decides which of them make the canned table: its cycles are its own.
    with Snapshot.open(files["canned"]) as snapshot:
        cycles = cycles_of(snapshot, device=settings.device, sample=settings.sample, seed=settings.seed,
                           report=settings.report)
    table = cycles.save(image.with_suffix(".first.npy"))
    first = Stored(files["canned"], stored["canned"].ratio, cycles)
    options, timing, conditions = paced(first, table, settings.headline, settings)
    ways = {_BASE: _Way(files["raw"], RAW, "wall", {}),
            f"device-x{settings.headline}": _Way(files["canned"], options, timing, conditions)}
    codec = "libdeflate" if "libdeflate" in settings.codecs else None
    if codec:
        ways[codec] = _Way(files["dynamic"], {"engine_options": {"workers": settings.workers, "codec": codec}}, "wall",
                           {"workers": settings.workers})
    else:
        files["dynamic"].unlink()
    return ways


def _missing(workload: Workload, ways: Mapping[str, _Way], settings: Settings, why: str) -> Iterator[dict[str, Any]]:
    for rate in settings.storage:
        for name in ways:
            for policy in Policy:
                yield {"case": f"kvm-{name}-{workload.name}-{rate:g}", "metric": _metric(policy), "value": None,
                       "unit": "ms", "why": why}


def _metric(policy: str) -> str:
    return f"milliseconds_{policy.replace('-', '_')}"


def _mapped(workload: Workload, image: Path, trace: list[tuple[int, int]], about: Mapping[str, Any],
            settings: Settings) -> dict[str, Any]:
    results = [lazy_mmap(image, trace, guest=about["guest"]) for _ in range(settings.repeats)]
    for result in results:
        checked(result, "lazy mmap")
    return {"case": f"{about['guest']}-lazy-mmap-{workload.name}", "metric": "milliseconds", "unit": "ms",
            "value": round(min(result["guest_seconds"] for result in results) * 1e3, 2),
            "conditions": {**about, "timing": "wall", "storage": "this machine's disk: faults cannot be slowed down",
                           "cached_before": max(result["cached_before"] for result in results)},
            "source": f"memory of {workload.name}, compared byte for byte; until the guest was done"}


def _at(workload: Workload, image: Path, trace: list[tuple[int, int]], ways: Mapping[str, _Way], rate: float,
        about: Mapping[str, Any], settings: Settings) -> Iterator[dict[str, Any]]:
    """All ways and policies at one speed of storage, in turn."""
    guest = about["guest"]
    runs = [(name, policy.value, {"policy": policy.value}) for name in ways for policy in Policy]
    runs.append(("lazy-uffd", "lazy", _LAZY))
    taken: dict[tuple[str, str], list[dict[str, Any]]] = {(name, policy): [] for name, policy, _ in runs}
    for number in range(settings.repeats):
        for name, policy, options in runs:
            settings.report(f"{workload.name} at {rate:g} GB/s, {guest}, run {number + 1} of {settings.repeats}: "
                            f"{name} {policy}")
            way = ways.get(name, ways[_BASE])
            result = restore_guest(way.file, trace, image, {**way.options, **options, "throttle": rate * 1e9,
                                                            "cold": True}, guest=guest)
            checked(result, f"{guest} {name} {policy}")
            taken[name, policy].append(result)
    least = {key: min(one["guest_seconds"] for one in results) * 1e3 for key, results in taken.items()}
    for (name, policy), results in taken.items():
        way = ways.get(name, ways[_BASE])
        seconds = [one["guest_seconds"] * 1e3 for one in results]
        reports = [one["report"] for one in results]
        conditions = {**about, **way.conditions, "storage_gb_per_s": rate, "timing": way.timing, **cold(reports),
                      "median_ms": round(statistics.median(seconds), 2), "most_ms": round(max(seconds), 2),
                      "until_it_ran_ms": round(min(one["resume_seconds"] for one in results) * 1e3, 2),
                      "faults": statistics.median(report["demand"]["faults"] for report in reports)}
        point = {"case": f"{guest}-{name}-{workload.name}-{rate:g}", "conditions": conditions,
                 "source": f"memory of {workload.name}, compared byte for byte; until the guest was done"}
        if name == "lazy-uffd":
            yield {**point, "metric": "milliseconds", "value": round(least[name, policy], 2), "unit": "ms"}
            continue
        yield {**point, "metric": _metric(policy), "value": round(least[name, policy], 2), "unit": "ms"}
        if name != _BASE:
            saving = (1 - least[name, policy] / least[_BASE, policy]) * 100
            yield {**point, "metric": f"saving_percent_{policy.replace('-', '_')}", "value": round(saving, 1),
                   "unit": "%", "source": f"{point['source']}; against REAP-raw with the same policy"}
