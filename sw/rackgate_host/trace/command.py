# SPDX-License-Identifier: Apache-2.0
"""``rackgate trace``: what each stage did in each cycle of one job, as a timeline."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rackgate.paths import build_root

from ..errors import UsageError
from ..output import JsonOption, SeedOption, print_json, table_console
from ..transport.timeline import read
from . import collectives, inflate, locks, zeronic
from .job import Job
from .page import page
from .perfetto import trace_events

if TYPE_CHECKING:
    from ..transport.timeline import Row

__all__ = ["register"]

app = typer.Typer(name="trace", no_args_is_help=True, help=(
    "Draw what each stage did in each cycle of one job, from the simulated gateware. The first run of a device builds "
    "it with waves, which takes minutes."))

_Output = Annotated[Path | None, typer.Option(
    "--output", "-o", metavar="FILE", help="Where to write the trace events (.json); by default in build/traces.")]
_Html = Annotated[bool, typer.Option("--html", help="Write a page beside them that needs no viewer and no network.")]


def _device(default: str) -> Any:
    return typer.Option("--device", metavar="URL", help=f"The gateware, with options as in {default}?latency=40.")


@app.command("inflate")
def _inflate(
    file: Annotated[Path | None, typer.Argument(help="Whose first page is compressed and inflated.")] = None,
    size: Annotated[int, typer.Option("--bytes", min=1, max=1 << 16, help="How much of the file.")] = 4096,
    level: Annotated[int, typer.Option("--level", min=0, max=9, help="Of zlib; 0 stores.")] = 6,
    device: Annotated[str, _device("sim:inflate")] = "sim:inflate",
    output: _Output = None,
    html: _Html = False,
    as_json: JsonOption = False,
    seed: SeedOption = 1,
) -> None:
    """One page inflated. Example: rackgate trace inflate README.md --html"""
    if file is not None and not file.is_file():
        raise UsageError(f"there is no file {file}")
    _trace("inflate", lambda progress: inflate.run(device, file, size, level, seed, progress), output, html, as_json)


@app.command("locks")
def _locks(
    packets: Annotated[int, typer.Option("--packets", min=1, max=locks.MOST,
                                         help="How many hosts ask, one behind the other.")] = 1,
    device: Annotated[str, _device("sim:fisslock")] = "sim:fisslock?locks=1024",
    output: _Output = None,
    html: _Html = False,
    as_json: JsonOption = False,
    seed: SeedOption = 1,
) -> None:
    """A request for a lock through FissLock's pipeline. Example: rackgate trace locks --packets 4 --html"""
    _trace("locks", lambda progress: locks.run(device, packets, seed, progress), output, html, as_json)


@app.command("collectives")
def _collectives(
    ranks: Annotated[int, typer.Option("--ranks", min=collectives.RANKS[0], max=collectives.RANKS[1])] = 2,
    size: Annotated[int, typer.Option("--bytes", min=4, max=1 << 16, help="Of each rank's operand; a multiple of 4.")]
    = 1024,
    device: Annotated[str, _device("sim:collective")] = "sim:collective",
    output: _Output = None,
    html: _Html = False,
    as_json: JsonOption = False,
    seed: SeedOption = 1,
) -> None:
    """An allreduce: every rank's engine. Example: rackgate trace collectives --ranks 4 --bytes 4096 --html"""
    if size % 4:
        raise UsageError(f"--bytes must be a multiple of 4, not {size}")
    _trace("collectives", lambda progress: collectives.run(device, ranks, size // 4, seed, progress), output, html,
           as_json)


@app.command("zeronic")
def _zeronic(
    size: Annotated[int, typer.Option("--bytes", min=1, max=zeronic.MOST, help="Payload of the segment.")]
    = zeronic.MOST,
    device: Annotated[str, _device("sim:zeronic")] = "sim:zeronic?flows=64&segments=64",
    output: _Output = None,
    html: _Html = False,
    as_json: JsonOption = False,
    seed: SeedOption = 1,
) -> None:
    """A TCP segment placed in memory by the NIC. Example: rackgate trace zeronic --bytes 512 --html"""
    _trace("zeronic", lambda progress: zeronic.run(device, size, seed, progress), output, html, as_json)


def _trace(system: str, run: Callable[[Callable[[str], None]], Job], output: Path | None, html: bool,
           as_json: bool) -> None:
    """Run the job, read its waves, write and show the timeline."""
    target = output or build_root() / "traces" / f"{system}.json"
    if output is None:
        target.parent.mkdir(parents=True, exist_ok=True)
    elif not target.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {target.absolute().parent}")
    job = run(lambda line: print(line, file=sys.stderr))
    found = read(job.kind, job.parameters, list(job.waves.values()), job.begin, job.end)
    nodes = dict(zip(job.waves, found, strict=True))
    target.write_text(json.dumps(trace_events(job, nodes)))
    page_path = target.with_suffix(".html") if html else None
    if page_path is not None:
        page_path.write_text(page(system, job, nodes))
    summary = _summary(system, job, nodes, target, page_path)
    if as_json:
        print_json(summary)
    else:
        _show(table_console(), summary)


def _summary(system: str, job: Job, nodes: dict[str, Any], target: Path, page_path: Path | None) -> dict[str, Any]:
    """The JSON object of the manual."""

    def row(node: str, one: "Row") -> dict[str, Any]:
        first, last = (one.spans[0].begin, one.spans[-1].end - 1) if one.spans else (None, None)
        return {"node": node, "stage": one.stage, "row": one.name, "place": one.place, "carries": one.carries,
                "first": first, "last": last, "cycles": one.totals()}

    return {
        "system": system, "title": job.title, "device": job.url, "parameters": dict(job.parameters), "build": job.build,
        "begin": job.begin, "end": job.end, "cycles": job.end - job.begin, "reported": dict(job.reported),
        "rows": [row(node, one) for node, rows in nodes.items() for one in rows],
        "trace": str(target), "page": None if page_path is None else str(page_path),
        "waves": [str(path) for path in job.waves.values()],
    }


def _show(console: Console, summary: dict[str, Any]) -> None:
    reported = ", ".join(f"{name} {value}" for name, value in summary["reported"].items())
    caption = f"The driver reports: {reported}. Cycles {summary['begin']} to {summary['end'] - 1} are shown."
    table = Table(title=f"{summary['title']}, on {summary['device']}", caption=caption)
    for name in ("stage", "row"):
        table.add_column(name, overflow="fold")
    for name in ("first", "last"):
        table.add_column(name, justify="right")
    table.add_column("cycles", overflow="fold")
    several = len({row["node"] for row in summary["rows"]}) > 1
    for row in summary["rows"]:
        stage = f"{row['node']} {row['stage']}" if several else row["stage"]
        spent = ", ".join(f"{name} {cycles}" for name, cycles in row["cycles"].items())
        ends = ("" if row[key] is None else str(row[key]) for key in ("first", "last"))
        table.add_row(stage, row["row"], *ends, spent)
    console.print(table)
    lines = [f"{summary['trace']}    open it at ui.perfetto.dev or chrome://tracing: a microsecond there is a cycle"]
    if summary["page"]:
        lines.append(f"{summary['page']}    open it in a browser")
    else:
        lines.append("--html    writes a page that needs no viewer")
    lines.append("rackgate waves    every signal of the same run")
    console.print("What next:", *(f"  {line}" for line in lines), sep="\n", markup=False, highlight=False)


def register(parent: typer.Typer) -> None:
    """Add the commands to ``parent``."""
    parent.add_typer(app)
