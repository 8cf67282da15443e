# SPDX-License-Identifier: Apache-2.0
"""``rackgate report``: the records of all benches as pages."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rackgate.paths import build_root

from ..errors import UsageError
from ..output import JsonOption, print_json

__all__ = ["register"]


def _shown(path: Path) -> str:
    """A path as it is told on a page: from the current folder if it is below it."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)


def _report(
    results: Annotated[Path | None,
                       typer.Option("--results", help="Folder of the records; build/results by default.")] = None,
    coverage: Annotated[Path | None,
                        typer.Option("--coverage", help="Folder of coverage; build/coverage by default.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the pages; build/report by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn the records of `rackgate bench` into pages: build/report/index.html.

    The front page has each paper's headline beside our figure. What was not measured is said, with the command that
    does. Exit code 1 if a record could not be used; the pages are written all the same, and name it.

    Example: rackgate bench inflate && rackgate report
    """
    from .coverage import read_coverage
    from .records import read_results
    from .site import write_site

    for given in (results, coverage):
        if given is not None and not given.is_dir():
            raise UsageError(f"there is no folder {given}")
    source = results or build_root() / "results"
    found = read_results(source)
    covered = read_coverage(coverage or build_root() / "coverage", found.problems)
    site = write_site(found, covered, out or build_root() / "report", source=_shown(source))
    if as_json:
        print_json({
            "index": str(site.folder / "index.html"), "written": list(site.written),
            "records": [origin.file for origin in found.origins], "problems": found.problems,
            "headlines": [{"key": one.headline.key, "published": one.headline.figure, "verdict": one.verdict,
                           "measured": None if one.ours is None else one.ours.figure} for one in site.headlines],
            "coverage": [one.engine for one in covered],
        })
    else:
        console = Console(soft_wrap=True, markup=False, highlight=False)
        measured = sum(one.ours is not None for one in site.headlines)
        console.print(f"{len(found.origins)} records, {measured} of {len(site.headlines)} headlines with a figure")
        for problem in found.problems:
            console.print(problem)
        console.print(f"report: {site.folder / 'index.html'}")
    raise typer.Exit(1 if found.problems else 0)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("report")(_report)
