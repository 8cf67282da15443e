# SPDX-License-Identifier: Apache-2.0
"""The pages, written: a static site that needs neither a server nor a network."""

import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import Unavailable
from . import verification
from .coverage import Coverage
from .drawing import figure, legend, plotly_script
from .headlines import Beside, beside
from .pages import PAGES, Page
from .papers import PAPERS
from .plots import Section
from .records import Measured, Results
from .words import conditions_of, number

__all__ = ["Site", "write_site"]

_VERDICTS = {"reached": "reaches the paper's", "within": "within the paper's range",
             "short": "short of the paper's", "other": "another measure",
             "missing": "not measured", "beyond": "out of reach here"}


@dataclass(frozen=True)
class Site:
    """What was written."""

    folder: Path
    written: Sequence[str]
    headlines: Sequence[Beside]


def _environment() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise Unavailable("the report's pages are written by Jinja2, which is not installed: run `make test`, or "
                          "pip install 'rackgate[report]'") from error
    return jinja2.Environment(loader=jinja2.PackageLoader(__package__ or "", "templates"), autoescape=True,
                              undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _drawn(section: Section) -> dict[str, Any]:
    """A section with the JSON of its plots, which may stand in a script: no ``<`` is left in it."""
    from markupsafe import Markup

    plots = []
    for plot in section.plots:
        shown: dict[str, Any] = {"plot": plot, "json": "", "height": 0, "legend": legend(plot)}
        if plot.traces:
            value = figure(plot)
            text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=_plain)
            shown |= {"json": Markup(text.replace("<", "\\u003c")), "height": value["layout"]["height"]}
        plots.append(shown)
    return {"title": section.title, "about": section.about, "compact": section.compact, "plots": plots}


def _plain(value: Any) -> Any:
    """Arrays of Plotly's as lists."""
    return list(value)


def _status(one: Measured) -> str:
    result = one.result
    if result.value is None:
        return f"not measured: {result.why}"
    if not result.holds:
        return "floor missed"
    if not result.reaches:
        return "target missed"
    return "holds" if result.floor is not None or result.target is not None else ""


def _limit(value: float | None) -> str:
    return "" if value is None else number(value)


def _points(results: Results, bench: str) -> dict[str, Any]:
    rows = [(one.case, one.metric, _limit(one.value), one.result.unit, _limit(one.result.floor),
             _limit(one.result.target), _limit(one.result.paper), _status(one), one.result.source,
             "; ".join(f"{name} {value}" for name, value in conditions_of(one.result.conditions)))
            for one in results.of(bench)]
    own = [one for one in results.origins if one.bench == bench]
    told = [", ".join((one.command, f"commit {one.commit}", one.machine)) for one in own]
    told += [f"failed: {why}" for one in own for why in one.failed]
    return {"title": f"All points of {bench}", "folded": True, "rows": rows, "about": "; ".join(told),
            "header": ("case", "metric", "value", "unit", "floor", "target", "paper", "", "measured on", "conditions"),
            "otherwise": f"Not measured here: run rackgate bench {bench}"}


def _records(results: Results) -> dict[str, Any]:
    header = ("record", "command", "commit", "version", "seed", "machine", "points", "floors that hold",
              "targets reached", "parts that failed")
    rows: list[tuple[str, ...]] = []
    for origin in results.origins:
        own = [one.result for one in results.of(origin.bench) if one.origin == origin]
        floors = [one.holds for one in own if one.floor is not None]
        targets = [one.reaches for one in own if one.target is not None]
        rows.append((origin.file, origin.command, origin.commit, origin.version,
                     "" if origin.seed is None else str(origin.seed), origin.machine, str(len(own)),
                     _held(floors), _held(targets), "; ".join(origin.failed)))
    missing = [bench for page in PAGES.values() for bench in page.benches if not results.of(bench)]
    rows += [(f"{bench}.json", f"not measured here: run rackgate bench {bench}", *[""] * 8) for bench in missing]
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return {"header": header, "rows": rows}


def _held(held: Sequence[bool]) -> str:
    return f"{sum(held)} of {len(held)}" if held else ""


def _groups(headlines: Iterable[Beside]) -> list[dict[str, Any]]:
    """Headlines by paper, each with its page."""
    pages = {page.paper: page.name for page in PAGES.values() if page.paper}
    every = list(headlines)
    return [{"paper": paper, "page": pages[key], "headlines": [one for one in every if one.headline.paper == key]}
            for key, paper in PAPERS.items()]


def _system(page: Page, results: Results, headlines: Sequence[Beside]) -> dict[str, Any]:
    sections = [_drawn(section) for section in page.sections(results)]
    return {"page": page, "here": page.name, "sections": sections,
            "has_plots": any(one["json"] for section in sections for one in section["plots"]),
            "missing": [bench for bench in page.benches if not results.of(bench)],
            "headlines": [one for one in headlines if page.paper and one.headline.paper == page.paper],
            "tables": [_points(results, bench) for bench in page.benches]}


def write_site(results: Results, coverage: Sequence[Coverage], folder: Path, *, source: str,
               command: str = "rackgate report") -> Site:
    """Write the site to ``folder``, which is made where it is missing. Other files there are left alone.

    Parameters
    ----------
    results, coverage:
        What the pages show.
    folder:
        Where they go; ``index.html`` is the front page.
    source, command:
        Where the records were found, and what made the site: told at the foot of each page.

    Raises
    ------
    Unavailable
        If Plotly or Jinja2 is not installed.
    """
    environment = _environment()
    headlines = beside(results)
    tests = {"name": verification.NAME, "title": verification.TITLE, "about": verification.ABOUT}
    navigation = [{"name": "index", "title": "Headlines"},
                  *({"name": page.name, "title": page.title} for page in PAGES.values()), tests]
    shared = {"navigation": navigation, "version": importlib.metadata.version("rackgate"), "folder": source,
              "command": command, "verdicts": _VERDICTS}
    texts: dict[str, str] = {}

    def render(name: str, template: str, values: Mapping[str, Any]) -> None:
        texts[f"{name}.html"] = environment.get_template(template).render(**shared, **values)

    others = [page for page in PAGES.values() if page.paper is None]
    render("index", "index.html", {"here": "index", "problems": results.problems, "groups": _groups(headlines),
                                   "others": [*others, tests], "records": _records(results)})
    for page in PAGES.values():
        render(page.name, "page.html", _system(page, results, headlines))
    sections = [_drawn(section) for section in verification.sections(coverage)]
    render(tests["name"], "page.html", {
        "page": tests, "here": tests["name"], "sections": sections, "has_plots": bool(sections), "missing": [],
        "headlines": [], "tables": verification.tables(coverage)})
    for path in files(__package__ or "").joinpath("static").iterdir():
        texts[path.name] = path.read_text(encoding="utf-8")
    texts["plotly.min.js"] = plotly_script()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return Site(folder, list(texts), headlines)
