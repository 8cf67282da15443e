# SPDX-License-Identifier: Apache-2.0
"""Records and comparisons as tables."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .compare import Comparison
from .record import Record

__all__ = ["show_comparisons", "show_record"]


def show_record(record: Record, console: Console) -> None:
    """The points of a record, what does not hold, and what failed."""
    table = Table(title=f"rackgate bench {record.bench}", title_justify="left")
    table.add_column("case", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    bounds = [name for name in ("floor", "target", "paper")
              if any(getattr(point, name) is not None for point in record.results)]
    for heading in ("value", *bounds):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    for point in record.results:
        limits = ["" if getattr(point, name) is None else f"{getattr(point, name):g}" for name in bounds]
        value = f"not measured: {point.why}" if point.value is None else f"{point.value:.6g}"
        style = "bold red" if not point.holds else None if point.reaches else "yellow"
        table.add_row(point.case, point.metric, value, *limits, point.unit, style=style)
    console.print(table)
    aimed = [point for point in record.results if point.target is not None]
    if short := [point for point in aimed if not point.reaches]:
        console.print(f"{len(short)} of {len(aimed)} targets are not reached (yellow)", soft_wrap=True, markup=False)
    for point in record.missed:
        console.print(f"{point.case} {point.metric}: floor {point.floor:g} does not hold", soft_wrap=True, markup=False)
    for failure in record.failed:
        console.print(f"{record.bench} {failure['unit']} failed: {failure['why']}", soft_wrap=True, markup=False)


def show_comparisons(found: Sequence[Comparison], console: Console) -> None:
    """What has changed, and what could not be compared."""
    changes = [change for one in found for change in one.changes]
    if changes:
        table = Table(title="changed by more than 1 % against the baseline", title_justify="left")
        for heading in ("bench", "case", "metric"):
            table.add_column(heading, no_wrap=True)
        for heading in ("baseline", "now", "%"):
            table.add_column(heading, justify="right")
        table.add_column("")
        for change in sorted(changes, key=lambda change: not change.worse):
            now = "none" if change.now is None else f"{change.now:.6g}"
            percent = "" if change.percent is None else f"{change.percent:+.1f}"
            table.add_row(change.bench, change.case, change.metric, f"{change.was:.6g}", now, percent,
                          "worse" if change.worse else "better", style="bold red" if change.worse else "green")
        console.print(table)
    for one in found:
        if one.why:
            text = f"not compared: {one.why}"
        else:
            text = f"{one.same} as the baseline, {len(one.changes)} changed, {len(one.new)} new"
            text += f", {one.other_data} of other data than the baseline's" if one.other_data else ""
        console.print(f"{one.bench}: {text}", soft_wrap=True, markup=False)
