# SPDX-License-Identifier: Apache-2.0
"""``python -m rackgate_tb.quality ENGINE``: measure how good an engine's regression is."""

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rackgate.paths import build_root, checkout

from .run import ENGINES, QualityError, coverage, explained, mutate, write_record

__all__ = ["measure"]

#: Where survivors are explained, in the checkout.
EXPLAINED = Path("tests/cosim/explained_faults.json")


def measure(
    engine: Annotated[str, typer.Argument(help=f"One of {', '.join(ENGINES)}.")],
    faults: Annotated[int, typer.Option(min=0, help="How many faults to plant; 0 measures coverage only.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of their choice.")] = 1,
    minutes: Annotated[float | None, typer.Option(
        help="Processor minutes to spend on faults; the record says how many there was time for.")] = None,
    covers: Annotated[bool, typer.Option("--coverage/--no-coverage", help="Measure coverage, too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Plant faults in an engine's Verilog, run its regression with each, and measure what it covers.

    Writes build/coverage/ENGINE.json. Exit code 1 if a fault survives that is not explained in
    tests/cosim/explained_faults.json. Example: python -m rackgate_tb.quality inflate --faults 10 --no-coverage
    """
    console = Console(stderr=True)
    if engine not in ENGINES:
        console.print(f"there is no engine {engine!r}; there are {', '.join(ENGINES)}", markup=False)
        raise typer.Exit(2)
    root = checkout()
    if root is None:
        console.print("the regression is not there: this needs a checkout, not an installed wheel")
        raise typer.Exit(2)
    folder = build_root() / "quality" / engine
    try:
        with console.status(engine) as status:
            verdicts = mutate(ENGINES[engine], root=root, count=faults, seed=seed, folder=folder,
                              budget=math.inf if minutes is None else 60 * minutes,
                              report=lambda line: status.update(f"{engine}: {line}")) if faults else []
            percents = coverage(ENGINES[engine], root=root, folder=folder / "coverage") if covers else (None, None)
    except QualityError as error:
        console.print(f"{engine}: {error}", markup=False)
        raise typer.Exit(1) from None
    record = write_record(engine, verdicts, percents, why=explained(root / EXPLAINED, engine), seed=seed)
    if as_json:
        json.dump(record, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        _show(record, Console())
    if any(one["why"] is None for one in record["survivors"]):
        raise typer.Exit(1)


def _show(record: dict, console: Console) -> None:
    if (mutants := record["mutants"]) is not None:
        console.print(f"{record['engine']}: {mutants['caught']} of {mutants['made']} faults caught, "
                      f"{mutants['timed_out']} by waiting in vain, {mutants['explained']} of the others explained")
    for one in record["survivors"]:
        console.print(f"  {one['fault']}: {one['why'] or 'survives, and nobody knows why'}", markup=False)
    if record["line_percent"] is not None:
        console.print(f"{record['engine']}: {record['line_percent']:.1f} % of branches, "
                      f"{record['toggle_percent']:.1f} % of bits both ways")


if __name__ == "__main__":
    typer.run(measure)
