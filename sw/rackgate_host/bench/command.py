# SPDX-License-Identifier: Apache-2.0
"""``rackgate bench``: run a bench, show its table, keep its record."""

import importlib
import inspect
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rackgate.paths import build_root

from ..errors import UsageError
from ..output import JsonOption, SeedOption, print_json
from .record import Record, Result

__all__ = ["BENCHES", "Bench", "register", "run_bench"]

#: A bench takes ``seed``, ``report`` (called with a line on what is under way) and options of its own as keywords, and
#: returns points as mappings with the names of :class:`Result`.
Runner = Callable[..., Iterable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Bench:
    """Where a bench is, as "module:function", and what it measures.

    Named and not imported: a bench lives where its tools are, and the host depends on none of them.
    """

    place: str
    about: str

    def load(self) -> Runner:
        """Import the bench. Raises ImportError when the packages it needs are not installed."""
        module, _, function = self.place.partition(":")
        return getattr(importlib.import_module(module), function)


BENCHES: Mapping[str, Bench] = {
    "inflate": Bench("rackgate_host.bench.inflate:run", "output bytes a cycle of the inflate engine on real data"),
    "iaa": Bench("rackgate_host.bench.iaa:run", "output bytes a cycle, latency and scaling of the accelerator"),
    "sabre": Bench("rackgate_host.bench.sabre:run", "ratios of functions' memory, and how long restoring it takes"),
    "locks": Bench("rackgate_sim.locks.bench:run", "FissLock, NetLock and one server: grants, throughput, cycles"),
    "collectives": Bench("rackgate_host.bench.collectives:run",
                         "cycles of collectives against what links allow, and against ACCL's algorithms"),
    "zeronic": Bench("rackgate_host.bench.zeronic:run", "cycles of the NIC, and what TCP through it costs a host"),
    "cosim": Bench("rackgate_tb.speed:run", "simulated cycles a second of the inflate engine on four simulators"),
    "area": Bench("rackgate_boards.bench:run", "routed ECP5 clock and area of the engines"),
}


def _options(texts: Iterable[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--set must look like name=value, not {text!r}")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return options


def run_bench(name: str, *, seed: int = 1, options: Mapping[str, Any] | None = None,
              report: Callable[[str], None] = lambda line: None, command: str = "") -> Record:
    """Run a bench and return its record.

    Raises
    ------
    UsageError
        If there is no such bench, or it has no such option.
    """
    if name not in BENCHES:
        raise UsageError(f"there is no bench {name!r}; there are {', '.join(sorted(BENCHES))}")
    runner, options = BENCHES[name].load(), options or {}
    known = [key for key in inspect.signature(runner).parameters if key not in ("seed", "report")]
    for key in options:
        if key not in known:
            raise UsageError(f"bench {name} has no option {key!r}; it has {', '.join(known) or 'none'}")
    points = [Result(**point) for point in runner(seed=seed, report=report, **options)]
    return Record(name, command or f"rackgate bench {name} --seed {seed} --json", seed, points)


def _show(record: Record, console: Console) -> None:
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


def _list(as_json: bool) -> None:
    if as_json:
        print_json({"benches": {name: bench.about for name, bench in BENCHES.items()}})
        return
    table = Table("bench", "measures")
    for name, bench in BENCHES.items():
        table.add_row(name, bench.about)
    Console().print(table)


def _bench(
    name: Annotated[str | None, typer.Argument(help="The bench to run; none lists them.")] = None,
    setting: Annotated[list[str] | None,
                       typer.Option("--set", metavar="NAME=VALUE", help="An option of the bench.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the record; build/results by default.")] = None,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure, compare with the floors, and keep the record in build/results/NAME.json.

    Exit code 0 only when every floor holds. Example: rackgate bench area --json
    """
    if name is None:
        _list(as_json)
        return
    progress = Console(stderr=True)
    command = shlex.join(["rackgate", *sys.argv[1:]])
    with progress.status(f"bench {name}") as status:
        record = run_bench(name, seed=seed, options=_options(setting or ()), report=status.update, command=command)
    value = record.as_dict()
    folder = out or build_root() / "results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
    if as_json:
        print_json(value)
    else:
        _show(record, Console())
        print(f"record: {folder / name}.json")
    raise typer.Exit(1 if record.missed else 0)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("bench")(_bench)
