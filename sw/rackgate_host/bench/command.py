# SPDX-License-Identifier: Apache-2.0
"""``rackgate bench``: run benches, show their tables, keep their records, compare them with the baseline."""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from rackgate.paths import build_root

from ..errors import UsageError
from ..output import JsonOption, SeedOption, print_json, table_console
from .apart import Outcome
from .benches import BENCHES, HERE, Bench, Unit, measure, points_of, units_of
from .compare import Comparison, baseline_folder, compare, load, write
from .record import Record
from .spread import Spread
from .store import Store
from .suite import LIMIT, Executor, Pool, Suite, in_turn
from .tables import show_comparisons, show_record

__all__ = ["BENCHES", "Bench", "register", "run_bench"]


class _Group(TyperGroup):
    """What is no subcommand is an argument of ``run``: ``rackgate bench inflate``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


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
    """Run a bench in this process and return its record. What fails in it is raised.

    Raises
    ------
    UsageError
        If there is no such bench, or it has no such option.
    """
    parts, told = [], []
    for unit in units_of(name, seed, options or {}):
        begin = time.monotonic()
        parts.append(measure(unit, report))
        told.append({"unit": unit.name, "seconds": round(time.monotonic() - begin, 1), "where": HERE, "kept": False})
    return Record(name, command or f"rackgate bench {name} --seed {seed} --json", seed,
                  points_of(name, parts, whole=True), options or {}, told)


def _list(as_json: bool) -> None:
    if as_json:
        print_json({"benches": {name: bench.about for name, bench in BENCHES.items()}})
        return
    table = Table("bench", "measures", "options of --quick")
    for name, bench in BENCHES.items():
        table.add_row(name, bench.about, " ".join(f"{key}={value}" for key, value in bench.quick.items()))
    table_console().print(table)


def _requests(names: Iterable[str], quick: bool, setting: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Options by bench."""
    given, requests = _options(setting), {}
    for name in names:
        if name not in BENCHES:
            raise UsageError(f"there is no bench {name!r}; there are {', '.join(sorted(BENCHES))}")
        requests[name] = {**(BENCHES[name].quick if quick else {}), **given}
    if given and len(requests) > 1:
        raise UsageError("--set goes with one bench")
    return requests


def _executors(jobs: int, scheduler: str, limit: float) -> dict[str, Executor]:
    """For what may run anywhere, for what has data of this machine, and for what must have it for itself."""
    count = jobs or len(os.sched_getaffinity(0))
    pool = in_turn if count == 1 else Pool(count, limit)
    return {"spread": Spread(scheduler, limit) if scheduler else pool, "here": pool,
            "alone": in_turn if count == 1 else Pool(1, limit)}


def _run(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Benches; none lists them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All benches.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Little of everything: all benches in ten minutes on two "
                                                        "processors, unless some are named.")] = False,
    setting: Annotated[list[str] | None,
                       typer.Option("--set", metavar="NAME=VALUE", help="An option of the bench.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is there already.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes side by side; as many as processors by default. With 1 "
                                                     "all is done in this process.")] = 0,
    scheduler: Annotated[str, typer.Option("--scheduler", metavar="ADDRESS",
                                           help="Spread the work over the workers of this Dask scheduler.")] = "",
    limit: Annotated[float, typer.Option("--limit", help="Seconds that a unit of work may take.")] = LIMIT,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the records; build/results by default.")] = None,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure, compare with the floors, and keep the record in build/results/NAME.json.

    A run that was interrupted goes on where it was: what is counted in cycles is kept for its commit, options and seed.

    Exit code 0 only when nothing failed and every floor holds. Examples: rackgate bench area --json;
    rackgate bench --quick; rackgate bench collectives --scheduler tcp://host:8786
    """
    if jobs < 0 or limit <= 0:
        raise UsageError("--jobs must be at least 1, and --limit above 0")
    chosen = list(names or ()) or (list(BENCHES) if everything or quick else [])
    if not chosen:
        _list(as_json)
        return
    folder = out or build_root() / "results"
    command = shlex.join(["rackgate", *sys.argv[1:]])
    suite = Suite(_requests(chosen, quick, setting or ()), seed, Store(folder / ".points", fresh=fresh))
    progress, short, records = Console(stderr=True), [], []
    with progress.status(f"bench {', '.join(chosen)}") as status:
        def report(line: str) -> None:
            status.update(f"{suite.done}/{suite.total} {line}")

        def finished(unit: Unit, outcome: Outcome) -> None:
            if outcome.why or not progress.is_terminal:  # there the line above says it
                told = f"failed: {outcome.why}" if outcome.why else f"{outcome.seconds:.1f} s"
                progress.print(f"{suite.done}/{suite.total} {unit.title}: {told}", soft_wrap=True, markup=False)

        for record in suite.run(**_executors(jobs, scheduler, limit), report=report, command=command,
                                finished=finished):
            short.extend(_shortfall(record))
            records.append(_keep(record, folder))
            if not as_json:
                show_record(record, table_console())
                print(f"record: {folder / record.bench}.json", flush=True)
    if as_json:
        print_json(records[0] if len(records) == 1 else {"records": records})
    for line in short:  # again, as the reason of the exit code: tables of many benches are long
        progress.print(line, soft_wrap=True, markup=False)
    raise typer.Exit(suite.exit_code or int(bool(short)))


def _shortfall(record: Record) -> list[str]:
    """In a line why the exit code is not 0, if so."""
    floors, units, said = len(record.missed), len(record.failed), []
    if floors:
        said.append("1 floor does not hold" if floors == 1 else f"{floors} floors do not hold")
    if units:
        said.append("1 unit failed" if units == 1 else f"{units} units failed")
    return [f"{record.bench}: {', '.join(said)}"] if said else []


def _keep(record: Record, folder: Path) -> dict[str, Any]:
    value = record.as_dict()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{record.bench}.json").write_text(json.dumps(value, indent=2) + "\n")
    return value


def _compare(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Benches; all by default.")] = None,
    baseline: Annotated[Path | None, typer.Option("--baseline", metavar="DIR",
                                                  help="Folder of the baseline; baseline/ by default.")] = None,
    results: Annotated[Path | None, typer.Option("--results", metavar="DIR",
                                                 help="Folder of the records; build/results by default.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Make the records the baseline, on purpose.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what was counted in cycles and has changed by more than 1 % against the baseline, better or worse.

    What is measured by a clock on the wall is never compared. The baseline is of the quick run.

    Exit code 1 if anything got worse. Example: rackgate bench --quick && rackgate bench compare
    """
    kept, measured = baseline or baseline_folder(), results or build_root() / "results"
    for name in names or ():
        if name not in BENCHES:
            raise UsageError(f"there is no bench {name!r}; there are {', '.join(sorted(BENCHES))}")
    if update:
        _update(names or list(BENCHES), kept, measured, as_json)
        return
    found = []
    for name in names or list(BENCHES):
        if (old := load(kept / f"{name}.json")) is None:
            continue
        record = load(measured / f"{name}.json")
        found.append(compare(record, old) if record else Comparison(
            name, why=f"there is no record: rackgate bench {name} --quick"))
    if all(one.why for one in found):
        raise UsageError("; ".join(f"{one.bench}: {one.why}" for one in found) or f"there is no baseline in {kept}")
    if as_json:
        print_json({"comparisons": [one.as_dict() for one in found]})
    else:
        show_comparisons(found, table_console())
    raise typer.Exit(int(any(change.worse for one in found for change in one.changes)))


def _update(names: Iterable[str], kept: Path, measured: Path, as_json: bool) -> None:
    written = {}
    for name in names:
        record = load(measured / f"{name}.json")
        if record is None:
            continue
        if record.get("options") != BENCHES[name].quick:
            raise UsageError(f"{measured / name}.json is not of a quick run: rackgate bench {name} --quick")
        if count := write(record, kept / f"{name}.json"):
            written[name] = count
    if as_json:
        print_json({"written": written})
        return
    for name, count in written.items():
        print(f"{kept / name}.json: {count} figures")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(name="bench", cls=_Group, no_args_is_help=False, help="Measure, and compare with the baseline.")
    group.command("run")(_run)
    group.command("compare")(_compare)
    app.add_typer(group)
