# SPDX-License-Identifier: Apache-2.0
"""``rackgate bench locks``: FissLock beside NetLock and a lock manager in one server.

The pipelines' gateware is counted in cycles of the native simulation. Workloads run on the simulated cluster of
:mod:`~rackgate_sim.locks.cluster`, all lock managers with the same constants; how the ratios move when these are
halved and doubled is part of the result.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from amaranth.hdl import UnusedElaboratable

from rackgate.netlock.pipeline import bits_per_lock, pipeline
from rackgate.paths import build_root
from rackgate_sim.native.errors import SimulationError, ToolError

from .cores import COPIES_LATENCY, Core, faithful_core, fused_core, measure, netlock_core
from .experiment import PAPER, VARIATIONS, Experiment, Size, core_latency, held_at_once, latencies
from .parameters import Parameters
from .workloads import WORKLOADS

__all__ = ["LOCKS", "clock", "join", "run", "units"]

#: The locks of the published switch.
LOCKS = 3 << 19

_MBIT = 1 << 20
#: Of its 1,200 clients most have done a transaction or two by then.
_FEWEST_TPCC = 20_000
_SAMPLE = ("micro-rm-zipf", "tatp", "tpcc")
_CORES = ("fissfused", "fissfaithful", "netlock")
_SENSITIVITY = "sensitivity-"


def clock(results: Path | None = None) -> tuple[float, str]:
    """The pipelines' clock in MHz, and where it was found: the slowest routed one that `rackgate bench area` has
    recorded of a lock pipeline, else the target."""
    path = (results or build_root() / "results") / "area.json"
    try:
        record = json.loads(path.read_text())
        found = {str(point["case"]): float(point["value"]) for point in record["results"]
                 if point["metric"] == "fmax_mhz" and point["value"] is not None
                 and str(point["case"]).startswith(("fiss", "netlock"))}
    except (OSError, ValueError, KeyError, TypeError):
        found = {}
    if not found:
        return Parameters().clock_mhz, "target, not routed: no record of a lock pipeline by `rackgate bench area`"
    case = min(found, key=lambda name: found[name])
    return found[case], f"routed, {case} of `rackgate bench area` at commit {record.get('commit')}"


def _parts(quick: bool, cases: Any, sensitivity: bool | None, cores: bool, only: str) -> list[str]:
    """What can be measured by itself: a core, all bits, the published number of locks, a workload, its sensitivity."""
    chosen = [name for name in str(cases).split(",") if name] if cases else list(WORKLOADS)
    for name in chosen:
        if name not in WORKLOADS:
            raise ValueError(f"there is no workload {name!r}; there are {', '.join(WORKLOADS)}")
    parts = [*(_CORES if cores else ()), "bits", "many", *chosen]
    if not quick if sensitivity is None else sensitivity:
        parts += [_SENSITIVITY + name for name in _SAMPLE if name in chosen]
    wanted = [name for name in only.split(",") if name] or parts
    for name in wanted:
        if name not in parts:
            raise ValueError(f"only must name parts among {', '.join(parts)}, not {name!r}")
    return [name for name in parts if name in wanted]


def units(*, quick: bool = False, cases: Any = "", sensitivity: bool | None = None, cores: bool = True,
          clock_mhz: float = 0.0, clock_source: str = "", only: str = "",
          **options: Any) -> list[tuple[str, dict[str, Any], str]]:
    """Each part, with the clock of this machine's records."""
    mhz, source = (clock_mhz, clock_source or "asked for") if clock_mhz else clock()
    options |= {"quick": quick, "cases": cases, "sensitivity": sensitivity, "cores": cores, "clock_mhz": mhz,
                "clock_source": source}
    return [(name, {**options, "only": name}, "anywhere") for name in _parts(quick, cases, sensitivity, cores, only)]


def join(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The least and the most of the medians."""
    medians = [point for point in points if point["case"] in WORKLOADS and point["value"] is not None
               and point["metric"] == "median_grant_cut_percent"]
    found = []
    for case, pick, paper in (("micro-least", min, PAPER["micro"][0]), ("micro-most", max, PAPER["micro"][1])):
        if medians:
            point = pick(medians, key=lambda one: one["value"])
            found.append({**point, "case": case, "paper": paper,
                          "conditions": {**point["conditions"], "of": point["case"]}})
    return found


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, quick: bool = False, cases: Any = "",
        operations: int = 0, sensitivity: bool | None = None, cores: bool = True, many: bool = False,
        clock_mhz: float = 0.0, clock_source: str = "", only: str = "") -> Iterator[dict[str, Any]]:
    """Measure and yield the points of ``rackgate bench locks``.

    Parameters
    ----------
    seed:
        Of the traces and of the native simulation.
    report:
        Called with a line on what is under way.
    quick:
        Little of everything, in about two minutes. The other options go before it.
    cases:
        Workloads, with commas between; all by default.
    operations:
        Locks granted in each run at least.
    sensitivity:
        Whether constants are halved and doubled.
    cores:
        Whether the gateware is simulated.
    many:
        Whether 1,572,864 locks are shown in gateware, which takes long to build, and not in the model.
    clock_mhz:
        The pipelines' clock; 0 takes the slowest routed one that `rackgate bench area` has recorded, else the target.
    clock_source:
        Where ``clock_mhz`` was found.
    only:
        Parts, with commas between: ``fissfused``, ``fissfaithful``, ``netlock`` (their gateware), ``bits``, ``many``, a
        workload, ``sensitivity-WORKLOAD``. All of them by default, and what :func:`join` gives.

    Raises
    ------
    ValueError
        There is no such workload, or ``operations`` are so few that no transaction was done.
    """
    parts = _parts(quick, cases, sensitivity, cores, only)
    # Cores are made to ask them for their latency, too, and not elaborated then.
    warnings.simplefilter("ignore", UnusedElaboratable)
    mhz, source = (clock_mhz, clock_source or "asked for") if clock_mhz else clock()
    parameters = Parameters(clock_mhz=mhz)
    count = operations or (4000 if quick else 100_000)
    yield from _cores([name for name in _CORES if name in parts], quick, seed, report)
    if "bits" in parts:
        yield from _bits()
    if "many" in parts:
        yield _many(many, quick, seed, report)
    chosen = [name for name in WORKLOADS if name in parts]
    varied = [name for name in _SAMPLE if _SENSITIVITY + name in parts]
    cycles = latencies(parameters, LOCKS) if chosen or varied else {}
    headlines = []
    for name in chosen:
        done = Experiment(name, parameters, cycles, _size(name, count, quick, parameters), seed).run(report)
        headlines += (own := list(done.headline(name)))
        yield from own
        yield from done.details(source)
    if not only:
        yield from join(headlines)
    yield from _sensitivity(varied, parameters, cycles, max(min(count, 2000), count // 5), seed, report)


def _size(name: str, count: int, quick: bool, parameters: Parameters) -> Size:
    """TPC-C has many clients, so it takes more; and its transactions wait for each other in circles, so it is in
    balance only after time-outs have passed. A quick run ends before the first."""
    if name == "tpcc" and not quick:
        return Size(5 * count, 1.2 * parameters.timeout_ns, 0.5 * parameters.timeout_ns, 2_000_000)
    if not quick:
        return Size(count, 1e6, 0.0, 2_000_000)
    many = max(5 * count, _FEWEST_TPCC) if name == "tpcc" else count
    return Size(many, min(25.0 * count, 100e3), 0.0, min(100 * count, 400_000))


# The gateware -------------------------------------------------------------------------------------------------------


def _bits() -> Iterator[dict[str, Any]]:
    """Register bits of a lock, as declared."""
    declared = {"fissfused": fused_core(1024), "fissfused-36": fused_core(1024, 36),
                "fissfaithful": faithful_core(1024)}
    bits = {case: float(sum(register.width for register in core.pipeline.registers))
            for case, core in declared.items()}
    conditions: dict[str, dict[str, Any]] = {case: {"locks": 1024} for case in bits}
    for case, slots in (("netlock", 10), ("netlock-1", 1), ("netlock-4", 4)):
        bits[case], conditions[case] = bits_per_lock(pipeline(locks=1024, slots=slots)), {"slots": slots}
    for case, value in bits.items():
        yield {"case": case, "metric": "bits_per_lock", "value": value, "unit": "bit", "conditions": conditions[case],
               "source": "registers of the declaration; tables of NetLock's locks not counted"}
        yield {"case": case, "metric": "locks_per_mbit", "value": round(_MBIT / value, 1), "unit": "lock",
               "conditions": conditions[case], "source": "registers of the declaration"}


def _cores(names: Sequence[str], quick: bool, seed: int, report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    size = 1024 if quick else 65536
    wide = 1024 if quick else 8192
    variant = "brief" if quick else "fast"
    packets = 2000 if quick else 20_000
    wanted: dict[str, tuple[Callable[[], Core], float, float, dict[str, Any]]] = {
        "fissfused": (lambda: fused_core(size), 1.0, 8, {"word": 18}),
        "fissfaithful": (lambda: faithful_core(size), 1.0, 24, {}),
        "netlock": (lambda: netlock_core(wide, 8), 1.0, 40, {"slots": 8}),
    }
    for case in names:
        make, rate, cycles, more = wanted[case]
        report(f"{case}: gateware")
        core = make()
        conditions = {"locks": core.locks, "hot_locks": core.hot, "packets": packets, "variant": variant,
                      "copies_cycles": COPIES_LATENCY, **more}
        points = [("packets_per_cycle", "packet/cycle", rate), ("stage_latency_cycles", "cycle", cycles),
                  ("core_latency_cycles", "cycle", None)]
        try:
            found = measure(core, packets, seed=seed, variant=variant, progress=report)
        except (ToolError, SimulationError, OSError, ImportError) as error:
            for metric, unit, floor in points:
                yield {"case": case, "metric": metric, "value": None, "unit": unit, "floor": floor,
                       "why": " ".join(str(error).split())[:300], "conditions": conditions}
            continue
        values = (round(found.packets_per_cycle, 4), found.latency - COPIES_LATENCY,
                  core_latency(core.pipeline))
        for (metric, unit, floor), value in zip(points, values, strict=True):
            yield {"case": case, "metric": metric, "value": value, "unit": unit, "floor": floor, "target": floor,
                   "conditions": conditions, "source": "native simulation of the gateware, back to back on hot locks; "
                   "every output is the model's"}


def _many(native: bool, quick: bool, seed: int, report: Callable[[str], None]) -> dict[str, Any]:
    """The published switch's number of locks: in gateware, or in the pipeline's model."""
    point: dict[str, Any] = {"case": "fissfused", "metric": "locks_simulated", "unit": "lock", "floor": LOCKS,
                             "target": LOCKS}
    if not native:
        report(f"fissfused: model of {LOCKS} locks")
        step = 13 if quick else 1
        return {**point, "value": held_at_once(LOCKS, step), "conditions": {"word": 36, "every": step},
                "source": "the pipeline's model: all held exclusively at a time, refused to others, and given back"}
    report(f"fissfused: gateware of {LOCKS} locks")
    try:
        found = measure(fused_core(LOCKS, hot=64), 20_000, seed=seed, variant="brief", progress=report)
    except (ToolError, SimulationError, OSError, ImportError) as error:
        return {**point, "value": None, "why": " ".join(str(error).split())[:300]}
    return {**point, "value": LOCKS, "source": "native simulation of the gateware; every output is the model's",
            "conditions": {"word": 18, "hot_locks": 64, "packets": found.packets,
                           "packets_per_cycle": round(found.packets_per_cycle, 4),
                           "core_latency_cycles": found.latency}}


# Sensitivity --------------------------------------------------------------------------------------------------------


def _sensitivity(names: Sequence[str], parameters: Parameters, cycles: Mapping[str, int], count: int, seed: int,
                 report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The ratios with constants halved and doubled, and as they are in as short a run, before any time-out."""
    for name in names:
        size = _size(name, count, True, parameters)
        for group, factor in (("as-is", 1.0), *((group, factor) for group in VARIATIONS for factor in (0.5, 2.0))):
            varied, also = parameters, dict(cycles)
            for one in VARIATIONS.get(group, ()):
                if one == "cycles":
                    also = {system: round(number * factor) for system, number in cycles.items()}
                else:
                    varied = varied.scaled(factor, one)
            if group == "server_cores":
                varied = replace(varied, server_cores=round(varied.server_cores))
            done = Experiment(name, varied, also, size, seed).run(
                lambda line, group=group, factor=factor: report(f"{line}, {group} x {factor:g}"))
            case = f"{name}-as-is" if group == "as-is" else f"{name}-{group}-x{factor:g}"
            yield from done.headline(case)
