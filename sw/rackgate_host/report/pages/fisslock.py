# SPDX-License-Identifier: Apache-2.0
"""The page of locks."""

from collections.abc import Sequence

from ..papers import HEADLINES
from ..plots import Axis, Level, Plot, Section, Trace, bars, command, dots
from ..records import Measured, Results

__all__ = ["sections"]

_PAPER = {one.key: one for one in HEADLINES}
#: Lock managers, by what cases end with.
_SYSTEMS = {"fisslock": "FissLock", "netlock": "NetLock", "server": "one server"}


def sections(results: Results) -> Sequence[Section]:
    """What the page shows."""
    return [
        Section("Against NetLock", "Three lock managers on one simulated cluster, with the same constants and traces.",
                [_cuts(results, "median", "Median"), _cuts(results, "p99", "99th percentile of the"),
                 _transactions(results)]),
        Section("How long a lock is waited for", "Shares of the requests that were granted within a time, a curve for "
                "each lock manager.", _distributions(results), compact=True),
        Section("Throughput", "At the same number of clients.",
                [_by_system(results, "operations_per_us", "Locks granted a microsecond", Axis("1/us", least=0)),
                 _by_system(results, "packets_per_operation", "Packets on the links for each lock",
                            Axis("packets", least=0))]),
        Section("If a constant were another", "The ratios with constants of the cluster halved and doubled, in shorter "
                "runs.", [_sensitivity(results, case) for case in ("tatp", "tpcc")]),
        Section("Pipelines", "The switches' gateware, packets back to back on four hot locks.",
                [_pipelines(results, "core_latency_cycles", "Cycles from a packet's entry to its copy's exit",
                            Axis("cycles", least=0)),
                 _pipelines(results, "bits_per_lock", "Bits of a lock", Axis("bits", log=True))]),
    ]


def _cuts(results: Results, which: str, what: str) -> Plot:
    points = [one for one in results.select("locks", f"{which}_grant_cut_percent", "micro-")
              if one.case in _micro(results)]
    published = _PAPER["fisslock-median"]
    levels = [Level(published.value or 0, "paper", published.upper)] if which == "median" else []
    return Plot(f"{what} time to a grant, less than NetLock's", "Per cent. Mixes: half (uh), a tenth (rm), none (ro) "
                "of the requests are exclusive; keys uniform or by Zipf's law. Below zero FissLock is slower.",
                Axis("mix"), Axis("per cent less"), bars(points, lambda one: "measured", lambda one: one.case),
                command("locks", points), levels, sideways=True)


def _micro(results: Results) -> list[str]:
    """Microbenchmarks, without variations of constants and without extremes."""
    return [one.case for one in results.select("locks", "median_grant_cut_percent", "micro-")
            if len(one.case.split("-")) == 3]


def _transactions(results: Results) -> Plot:
    over = {"throughput_ratio_netlock": "over NetLock", "throughput_ratio_server": "over one server"}
    points = [one for metric in over for one in results.select("locks", metric) if one.case in ("tatp", "tpcc")]
    traces = bars(points, lambda one: over[one.metric], lambda one: one.case)
    if traces:
        cases = list(traces[0].x)
        published = {case: _PAPER[f"fisslock-{case}"].value or 0.0 for case in cases}
        traces.append(Trace("the paper's, over NetLock", cases, [published[case] for case in cases], "point", 2, 2))
    return Plot("Transactions a second, FissLock's over the others'", "Times as many.", Axis("workload"),
                Axis("times", least=0), traces, command("locks", points), [Level(1, "as many")], sideways=True)


def _system(one: Measured) -> tuple[str, str]:
    """Workload and lock manager of a case WORKLOAD-SYSTEM."""
    workload, _, system = one.case.rpartition("-")
    return workload, system


def _distributions(results: Results) -> list[Plot]:
    points = [one for one in results.select("locks", "grant_median_us")
              if one.result.series and {"grant_us", "percent"} <= set(one.result.series)]
    made = []
    for workload in dict.fromkeys(_system(one)[0] for one in points) or ("",):
        of = [one for one in points if _system(one)[0] == workload]
        traces = []
        for one in of:
            series = one.result.series or {}
            traces.append(Trace(_SYSTEMS.get(_system(one)[1], one.case), list(series["grant_us"]),
                                list(series["percent"]), "step"))
        made.append(Plot(f"Time to a grant, {workload}" if workload else "Time to a grant", "", Axis("us", log=True),
                         Axis("per cent of requests", least=0), traces, command("locks", of)))
    return made


def _by_system(results: Results, metric: str, title: str, axis: Axis) -> Plot:
    points = [one for one in results.select("locks", metric) if _system(one)[1] in _SYSTEMS]
    return Plot(title, "", Axis("workload"), axis,
                bars(points, lambda one: _SYSTEMS[_system(one)[1]], lambda one: _system(one)[0]),
                command("locks", points), sideways=True)


def _sensitivity(results: Results, case: str) -> Plot:
    over = {"throughput_ratio_netlock": "over NetLock", "throughput_ratio_server": "over one server"}
    points = [one for metric in over for one in results.select("locks", metric, f"{case}-")]
    traces = dots(points, lambda one: over[one.metric], lambda one: one.case.removeprefix(f"{case}-"))
    return Plot(f"{case.upper()}: transactions a second, FissLock's over the others'", "Each row changes one group of "
                "constants.", Axis("constants"), Axis("times", least=0), traces, command("locks", points),
                [Level(1, "as many")], sideways=True)


def _pipelines(results: Results, metric: str, title: str, axis: Axis) -> Plot:
    points, draw = results.select("locks", metric), dots if axis.log else bars
    return Plot(title, "Less is better.", Axis("pipeline"), axis,
                draw(points, lambda one: "measured", lambda one: one.case), command("locks", points), sideways=True)
