# SPDX-License-Identifier: Apache-2.0
"""``rackgate sabre corpus``: make contents of memory to measure on, and look at them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from rackgate.paths import build_root, cache_root

from ...output import JsonOption, SeedOption, print_json, table_console
from .corpus import Corpus, make
from .functions import FUNCTIONS

__all__ = ["Accelerator", "Origin", "default_folder", "register"]


class Origin(StrEnum):
    """Values of ``--origin``."""

    AUTO = "auto"
    MICROVM = "microvm"
    PROCESS = "process"


class Accelerator(StrEnum):
    """Values of ``--accelerator``."""

    TCG = "tcg"
    KVM = "kvm"


def default_folder() -> Path:
    """Where a corpus lies if nothing else is said."""
    return build_root() / "sabre" / "corpus"


_Folder = Annotated[Path | None, typer.Argument(metavar="[FOLDER]", show_default=False,
                                                help="Of the corpus; sabre/corpus in the build folder if left out.")]


def _rows(corpus: Corpus) -> list[dict[str, Any]]:
    rows = []
    for name in corpus.names:
        workload = corpus.load(name)
        shares = {key: round(value, 1) for key, value in workload.shares().items()}
        rows.append({**workload.about, "shares": shares,
                     "changed_shares": {key: round(value, 1) for key, value in workload.shares(
                         workload.changed).items()}})
    return rows


def _show(console: Console, folder: Path, rows: list[dict[str, Any]]) -> None:
    caption = "Changed: by a request, since the function was warm."
    table = Table(title=str(folder), title_justify="left", caption=caption, caption_justify="left")
    table.add_column("workload", no_wrap=True)
    table.add_column("origin")
    for name in ("pages", "zero %", "dupl. %", "anon. %", "file %", "changed"):
        table.add_column(name, justify="right")
    for row in rows:
        shares = row["shares"]
        parts = (shares[f"{name}_percent"] for name in ("zero", "duplicate", "anonymous", "file"))
        table.add_row(row["name"], row["origin"], f"{row['pages']:,}", *(f"{share:.1f}" for share in parts),
                      f"{row['pages_changed']:,}")
    console.print(table)
    for why in sorted({row["why"] for row in rows if row.get("why")}):
        console.print(f"No microVM: {why}", markup=False, soft_wrap=True)


def _make(
    folder: _Folder = None,
    functions: Annotated[list[str] | None, typer.Option(
        "--function", metavar="NAME", show_default=False,
        help=f"One of {', '.join(FUNCTIONS)}; all if left out.")] = None,
    origin: Annotated[Origin, typer.Option(
        "--origin", help="auto makes microVMs, and processes where none can be had, saying why.")] = Origin.AUTO,
    accelerator: Annotated[Accelerator, typer.Option("--accelerator", help="QEMU's.")] = Accelerator.TCG,
    megabytes: Annotated[int, typer.Option("--memory", metavar="MB", min=96, help="The guest's memory.")] = 128,
    kernel: Annotated[Path | None, typer.Option(
        "--kernel", exists=True, dir_okay=False, show_default=False,
        help="The guest's; a Debian cloud kernel is looked for or fetched if left out.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1.0,
                                           help="Longest wait for a guest's next word.")] = 300.0,
    as_json: JsonOption = False,
    seed: SeedOption = 1,
) -> None:
    """Boot a microVM for each function, serve a request, and keep the memory with its hashes.

    JSON: folder, workloads (list of name, origin, why, seed, result, qemu, kernel, python, accelerator, megabytes,
    seconds, pages, pages_not_zero, pages_changed, sha256, shares, changed_shares).

    Example: rackgate sabre corpus make --function json --function bfs
    """
    target = folder or default_folder()
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.completed}/{task.total}")
    names = functions or list(FUNCTIONS)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal or as_json) as bar:
        task = bar.add_task("making", total=len(names))
        corpus = make(target, names, origin=origin.value, seed=seed, megabytes=megabytes, accelerator=accelerator.value,
                      kernel=kernel, kernels=cache_root() / "kernels", timeout=timeout,
                      report=lambda line: bar.update(task, description=line),
                      warn=lambda line: bar.console.print(line, markup=False, soft_wrap=True),
                      progress=lambda done, of: bar.update(task, completed=done))
    rows = _rows(corpus)
    if as_json:
        print_json({"folder": str(target), "workloads": rows})
    else:
        _show(table_console(), target, rows)


def _inspect(
    folder: _Folder = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare all files with their hashes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a corpus holds. JSON as of `make`. Exit code 1 if a file differs from its hash.

    Example: rackgate sabre corpus inspect --verify
    """
    target = folder or default_folder()
    corpus = Corpus.open(target)
    if verify:
        for name in corpus.names:
            corpus.load(name, check=True)
    rows = _rows(corpus)
    if as_json:
        print_json({"folder": str(target), "workloads": rows})
    else:
        _show(table_console(), target, rows)


def register(app: typer.Typer) -> None:
    """Add the group to Sabre's group ``app``."""
    group = typer.Typer(name="corpus", no_args_is_help=True,
                        help="Memory of serverless-like functions, to measure snapshots on.")
    group.command("make")(_make)
    group.command("inspect")(_inspect)
    app.add_typer(group)
