# SPDX-License-Identifier: Apache-2.0
"""The page of the inflate engine, the accelerator and Sabre's restores."""

from collections.abc import Sequence
from dataclasses import replace

from ..papers import HEADLINES
from ..plots import Axis, Level, Plot, Section, Trace, bars, command, lines
from ..records import Measured, Results

__all__ = ["sections"]

_PAPER = {one.key: one.value for one in HEADLINES}
_RATE = Axis("output bytes a cycle", least=0)
#: What software is shown beside.
_HEADLINE = ("reap-raw", "device-x4")
_GUESTS = {"process": "A process", "kvm": "A virtual machine"}
_POLICIES = {"eager": "eager", "working_set_first": "working set first", "resume_at_once": "resume at once"}


def sections(results: Results) -> Sequence[Section]:
    """What the page shows."""
    return [
        Section("Engines", "Bytes that come out a clock cycle, headers of blocks and time between jobs included.",
                [_rates(results, "inflate", "The inflate engine"),
                 _rates(results, "iaa", "The accelerator, one engine"), _scaling(results), _lone(results)]),
        Section("Compression", "Pages that a request of a function has changed.", [_ratios(results)]),
        Section("Restoring", "Until all memory is there, by the speed of storage. A time of the device joins real "
                "reading and installing with decompression that is counted in simulated cycles, at the clock in the "
                "conditions: it is a prediction. reap-raw reads pages as they are.", _restores(results), compact=True),
        Section("Until a guest is done", "A guest touches what a request touches, while its memory is restored: all "
                "before it runs (eager), what was recorded before it runs, or while it runs.",
                [_guest(results, guest, what, policy) for guest, what in _GUESTS.items() for policy in _POLICIES],
                compact=True),
    ]


def _rates(results: Results, bench: str, what: str) -> Plot:
    points = results.select(bench, "bytes_per_cycle")
    goals = [Trace(label, [one.case for one in points if getattr(one.result, label) is not None],
                   [getattr(one.result, label) for one in points if getattr(one.result, label) is not None], "point",
                   colour=number, dash=number) for number, label in ((1, "floor"), (2, "target"))]
    measured = bars(points, lambda one: "measured", lambda one: one.case)
    return Plot(f"{what}: bytes a cycle", "Floor: what must hold. Target: what is aimed at.", Axis("input"), _RATE,
                [*measured, *(goal for goal in goals if goal.x)], command(bench, points), sideways=True)


def _scaling(results: Results) -> Plot:
    points = [one for one in results.select("iaa", "scaling", "engines-") if one.amount("engines")
              and one.amount("ports") == one.amount("engines")]
    single = [one.amount("one_engine") for one in points if one.amount("one_engine")]
    traces = lines(points, lambda one: "scaling", lambda one: one.amount("engines"))
    made = []
    if traces and single:
        counts = [1, *traces[0].x]
        made = [Trace("measured", counts, [single[0], *(one.amount("bytes_per_cycle") for one in
                                                       sorted(points, key=lambda one: one.amount("engines")))]),
                Trace("as many times one engine", counts, [single[0] * count for count in counts])]
    return Plot("Several engines: bytes a cycle", "A memory port for each engine.", Axis("engines", ticks=(1, 2, 4, 8)),
                _RATE, made, command("iaa", points))


def _lone(results: Results) -> Plot:
    points = results.select("iaa", "cycles", "lone-page-")
    floors = [one.result.floor for one in points if one.result.floor is not None]
    return Plot("A lone page: cycles from queue to record", "One page of 4 KB at a time. Less is better.",
                Axis("codes"), Axis("cycles", least=0),
                bars(points, lambda one: "measured", lambda one: one.case.removeprefix("lone-page-")),
                command("iaa", points), [Level(floors[0], "at most")] if floors else [], sideways=True)


def _ratios(results: Results) -> Plot:
    metrics = {"compression_ratio": "canned codes", "compression_ratio_dynamic": "dynamic codes",
               "compression_ratio_fixed": "fixed codes"}
    points = [one for metric in metrics for one in results.select("sabre", metric, "ratio-")]
    return Plot("Compression ratio by function", "Bytes of memory by bytes of the whole file. Canned codes are shared "
                "by all pages of a snapshot.", Axis("function"), Axis("ratio", least=0),
                bars(points, lambda one: metrics[one.metric], lambda one: one.case.removeprefix("ratio-")),
                command("sabre", points), [Level(_PAPER["sabre-ratio"] or 0, "paper's best")], sideways=True)


def _storage(one: Measured) -> float:
    return one.amount("storage_gb_per_s")


def _workloads(results: Results) -> list[str]:
    """Workloads that were restored: of cases restore-WORKLOAD-GB/s."""
    return list(dict.fromkeys(one.case.removeprefix("restore-").rpartition("-")[0]
                              for one in results.select("sabre", "saving_percent_serial", "restore-") if _storage(one)
                              and one.case not in ("restore-best", "restore-worst")))


def _flow(one: Measured, workload: str) -> str:
    """What restored, of a case FLOW-WORKLOAD-GB/s; empty if it is of another workload."""
    flow, _, rest = one.case.rpartition(f"-{workload}-")
    return flow if rest else ""


def _restores(results: Results) -> list[Plot]:
    """By workload and shape: the device beside REAP, software beside it where it was measured, and what is saved."""
    plots = []
    for workload in _workloads(results) or ("",):
        what = f"Restoring {workload}" if workload else "Restoring"
        for shape in ("pipelined", "serial"):
            times = _flows(results, workload, f"milliseconds_{shape}")
            device = [one for one in times if _flow(one, workload).startswith(("reap", "device"))]
            software = [one for one in times if one not in device]
            known = list(dict.fromkeys(_flow(one, workload) for one in device))
            plots.append(_plot(results, workload, f"{what}, {shape}: the device", device, known))
            if software:
                beside = [one for one in device if "dynamic" not in one.case and _flow(one, workload) in _HEADLINE]
                plots.append(_plot(results, workload, f"{what}, {shape}: software", [*beside, *software], known))
            plots.append(_savings(results, workload, shape, f"{what}, {shape}: saved by the device", known))
    return plots


def _flows(results: Results, workload: str, metric: str) -> list[Measured]:
    return [one for one in results.select("sabre", metric)
            if _storage(one) and _flow(one, workload)
            and not one.case.startswith(("restore-", *(f"{guest}-" for guest in _GUESTS)))]


def _rates_of(points: Sequence[Measured]) -> Axis:
    return Axis("storage, GB/s", ticks=sorted({_storage(one) for one in points}))


def _plot(results: Results, workload: str, title: str, points: Sequence[Measured], known: Sequence[str]) -> Plot:
    return Plot(title, "Milliseconds until all is there.", _rates_of(points), Axis("ms", least=0),
                _told_apart(lines(points, lambda one: _flow(one, workload), _storage), known),
                command("sabre", points))


def _told_apart(traces: Sequence[Trace], known: Sequence[str]) -> list[Trace]:
    """Traces of which those of ``known`` are drawn alike in each plot, and the others as none of these."""
    numbers = {name: number for number, name in enumerate(known)}
    free = iter(number for number in range(len(known) + len(traces))
                if number not in [numbers.get(trace.name) for trace in traces])
    chosen = [numbers[trace.name] if trace.name in numbers else next(free) for trace in traces]
    return [replace(trace, colour=number, dash=number) for trace, number in zip(traces, chosen, strict=True)]


def _savings(results: Results, workload: str, shape: str, title: str, known: Sequence[str]) -> Plot:
    points = [one for one in _flows(results, workload, f"saving_percent_{shape}") if "device" in one.case]
    traces = _told_apart(lines(points, lambda one: _flow(one, workload), _storage), known)
    return Plot(title, "Of what reap-raw takes. Below zero compression costs time.", _rates_of(points),
                Axis("per cent saved"), traces, command("sabre", points),
                [Level(_PAPER["sabre-restore"] or 0, "paper's best")])


def _guest(results: Results, guest: str, what: str, policy: str) -> Plot:
    workload = next(iter(_workloads(results)), "")
    points = results.select("sabre", f"milliseconds_{policy}", f"{guest}-")
    traces = lines(points, lambda one: _flow(one, workload).removeprefix(f"{guest}-"), _storage)
    return Plot(f"{what}, {_POLICIES[policy]}", "Milliseconds until it was done.", _rates_of(points),
                Axis("ms", least=0), traces, command("sabre", points))
