# SPDX-License-Identifier: Apache-2.0
"""A record of the bench ``sabre`` as tables for the manual: ``python -m rackgate_host.bench.sabre.table RECORD``."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "tables"]

_POLICIES = ("eager", "working_set_first", "resume_at_once")
_RATIOS = ("compression_ratio", "compression_ratio_dynamic", "compression_ratio_fixed", "stored_ratio", "zero_percent",
           "duplicate_percent")


def tables(record: Mapping[str, Any]) -> str:
    """Markdown: how it was made, ratios, restore times and savings, guests that touch."""
    points = {(point["case"], point["metric"]): point for point in record["results"]}
    restored = list(dict.fromkeys(case.rsplit("-", 1)[0][len("restore-"):] for case, metric in points
                                  if case.startswith("restore-") and metric == "saving_percent_serial"
                                  and case not in ("restore-best", "restore-worst")))
    rates = list(dict.fromkeys(case.rsplit("-", 1)[1] for case, _ in points
                               if case.startswith(tuple(f"restore-{name}-" for name in restored))))
    parts = [_made(record, points), _ratios(points)]
    for number, name in enumerate(restored):
        parts.append(_restores(points, name, rates))
        if not number:
            parts += [_lazy(points, name, rates), _guests(points, name, rates)]
    parts.append(_extremes(points))
    return "\n\n".join(part for part in parts if part) + "\n"


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _value(points: Mapping[tuple[str, str], Any], case: str, metric: str, digits: int = 1) -> str:
    point = points.get((case, metric))
    return "" if point is None or point["value"] is None else f"{point['value']:.{digits}f}"


def _made(record: Mapping[str, Any], points: Mapping[tuple[str, str], Any]) -> str:
    end = points["conditions", "seconds"]
    how, machine = end["conditions"], record["machine"]
    text = (f"Made by `{record['command']}` at commit {record['commit']}, seed {record['seed']}, on {machine['cores']} "
            f"cores ({machine['cpu']}), load {how['load_before']} before and {how['load_after']} after, nice "
            f"{how['nice']}, in {end['value'] / 60:.0f} minutes. Clock of the device: {how['clock_mhz']:g} MHz, "
            f"{how['clock_source']}. Points not measured: {how['points_not_measured']}.")
    device = [point["conditions"] for (case, _), point in points.items() if case.startswith("device-x")]
    if device and "bytes_per_cycle" in device[0]:
        text += (f" Cycles: {device[0]['cycles']}, {device[0]['bytes_per_cycle']} bytes/cycle (canned, the first "
                 "workload).")
    return text


def _ratios(points: Mapping[tuple[str, str], Any]) -> str:
    names = [case[len("ratio-"):] for case, metric in points if case.startswith("ratio-") and metric == _RATIOS[0]]
    rows = [[name, *(_value(points, f"ratio-{name}", metric, 2 if "ratio" in metric else 1) for metric in _RATIOS)]
            for name in names]
    return "Compression ratios (the paper's best: 4.5).\n\n" + _grid(
        ("workload", "canned", "dynamic", "fixed", "canned, stored pages", "zero %", "repeated %"), rows)


def _restores(points: Mapping[tuple[str, str], Any], name: str, rates: Sequence[str]) -> str:
    flows = list(dict.fromkeys(case[:-len(f"-{name}-{rate}")] for case, metric in points for rate in rates
                               if metric == "milliseconds_serial" and case.endswith(f"-{name}-{rate}")))
    shapes = ("serial", "pipelined")
    rows = []
    for flow in flows:
        row = [f"`{flow}`"]
        for rate in rates:
            case = f"{flow}-{name}-{rate}"
            times = " / ".join(_value(points, case, f"milliseconds_{shape}") or "-" for shape in shapes)
            saved = " / ".join(_value(points, case, f"saving_percent_{shape}", 0) for shape in shapes)
            row.append(times if flow == "reap-raw" else f"{times} ({saved} %)")
        rows.append(row)
    about = next(point["conditions"] for (case, _), point in points.items() if case.startswith(f"reap-raw-{name}-"))
    text = (f"Restoring `{name}` ({about['megabytes']} MB, {about['origin']}): milliseconds until everything is there, "
            "serial / pipelined, and the saving against REAP-raw of the same shape, by the speed of storage.")
    return text + "\n\n" + _grid(("flow", *(f"{rate} GB/s" for rate in rates)), rows)


def _lazy(points: Mapping[tuple[str, str], Any], name: str, rates: Sequence[str]) -> str:
    row = ["`lazy-uffd`", *(_value(points, f"lazy-uffd-{name}-{rate}", "milliseconds") for rate in rates)]
    mapped = _value(points, f"lazy-mmap-{name}", "milliseconds")
    return ("Milliseconds until 90 % of the pages were touched, each when it is needed; `lazy-mmap` on this machine's "
            f"own disk: {mapped}.\n\n") + _grid(("flow", *(f"{rate} GB/s" for rate in rates)), [row])


def _guests(points: Mapping[tuple[str, str], Any], name: str, rates: Sequence[str]) -> str:
    guests = [guest for guest in ("process", "kvm") if (f"{guest}-lazy-mmap-{name}", "milliseconds") in points]
    if not guests:
        return ""
    rows = []
    for flow in dict.fromkeys(case[len(guests[0]) + 1:-len(f"-{name}-{rates[0]}")] for case, metric in points
                              if metric == "milliseconds_eager" and case.startswith(f"{guests[0]}-")
                              and case.endswith(f"-{name}-{rates[0]}")):
        for policy in _POLICIES:
            row = [f"`{flow}`", policy.replace("_", "-")]
            for rate in rates:
                row.append(" / ".join(_value(points, f"{guest}-{flow}-{name}-{rate}", f"milliseconds_{policy}") or "-"
                                      for guest in guests))
            rows.append(row)
    rows.append(["`lazy-uffd`", "resume-at-once, no prefetch",
                 *(" / ".join(_value(points, f"{guest}-lazy-uffd-{name}-{rate}", "milliseconds") for guest in guests)
                   for rate in rates)])
    mapped = " / ".join(_value(points, f"{guest}-lazy-mmap-{name}", "milliseconds") for guest in guests)
    about = points[f"{guests[-1]}-lazy-mmap-{name}", "milliseconds"]["conditions"]
    module = f" ({about['kvm']})" if "kvm" in about else ""
    text = (f"Milliseconds until a guest was done that touches {about['touched_pages']:,} pages, {about['touches']:,} "
            f"touches: {' / '.join(guests)}{module}. `lazy-mmap` on this machine's own disk: {mapped}.")
    return text + "\n\n" + _grid(("flow", "policy", *(f"{rate} GB/s" for rate in rates)), rows)


def _extremes(points: Mapping[tuple[str, str], Any]) -> str:
    lines = []
    for case, word in (("restore-best", "Best"), ("restore-worst", "Worst")):
        for shape in ("serial", "pipelined"):
            point = points.get((case, f"saving_percent_{shape}"))
            if point is not None and point["value"] is not None:
                lines.append(f"{word} saving, {shape}: {point['value']:.1f} % ({point['conditions']['of']}).")
    return "\n".join(lines)


def main() -> None:
    """Print the tables of the record that the argument names."""
    print(tables(json.loads(Path(sys.argv[1]).read_text())), end="")


if __name__ == "__main__":
    main()
