# SPDX-License-Identifier: Apache-2.0
"""The page on the tests' own quality: coverage by engine, and faults that the tests caught."""

from collections.abc import Mapping, Sequence
from typing import Any

from .coverage import Coverage
from .plots import Axis, Plot, Section, Trace
from .words import number

__all__ = ["ABOUT", "ENGINES", "NAME", "TITLE", "sections", "tables"]

NAME = "verification"
TITLE = "Verification"
ABOUT = "What the regression reaches of each engine's Verilog, and what becomes of small faults that are put into it."

#: What ``python -m rackgate_tb.quality`` measures.
ENGINES = ("collective", "fisslock", "iaa", "inflate", "netlock", "zeronic")

_HEADER = ("engine", "branches taken", "bits toggled", "faults made", "caught", "of them by time-out", "explained",
           "unexplained", "command", "commit")


def sections(coverage: Sequence[Coverage]) -> list[Section]:
    """The page's plots: none without coverage."""
    if not coverage:
        return []
    command = next((one.command for one in coverage if one.command), "make soak")
    plots = [_plot("Coverage", "Of each engine's Verilog.", [
        _bars("branches taken", {one.engine: one.line_percent for one in coverage}),
        _bars("bits toggled", {one.engine: one.toggle_percent for one in coverage})], command)]
    tried = {one.engine: one.mutants for one in coverage if one.mutants is not None and one.mutants.made}
    if tried:
        plots.append(_plot("Faults", "Caught by a test; and, of those that none catches, explained.", [
            _bars("caught", {engine: 100 * one.caught / one.made for engine, one in tried.items()}),
            _bars("explained", {engine: 100 * one.explained / one.made for engine, one in tried.items()})], command))
    return [Section("The regression", "A fault is one small change of the Verilog.", plots)]


def _bars(name: str, shares: Mapping[str, float | None]) -> Trace:
    known = {engine: share for engine, share in shares.items() if share is not None}
    return Trace(name, list(known), list(known.values()), "bar")


def _plot(title: str, about: str, traces: Sequence[Trace], command: str) -> Plot:
    return Plot(title, about, Axis("engine"), Axis("per cent", least=0), traces, command, sideways=True)


def tables(coverage: Sequence[Coverage]) -> list[dict[str, Any]]:
    """The page's table: a row an engine, those of which there is no file, too."""
    known = {one.engine: one for one in coverage}
    missing = {name: Coverage(name, None, None, command=f"python -m rackgate_tb.quality {name}")
               for name in ENGINES if name not in known}
    rows = [_row(one) for _, one in sorted((known | missing).items())]
    return [{"title": "By engine", "folded": False, "header": _HEADER, "rows": rows, "otherwise": "",
             "about": "What no test catches is explained, or gets a test."}]


def _row(one: Coverage) -> Sequence[str]:
    percents = [one.why or "not measured" if value is None else f"{value:.1f} %"
                for value in (one.line_percent, one.toggle_percent)]
    if one.mutants is None:
        faults = ["not measured", "", "", "", ""]
    else:
        made = one.mutants
        share = f" ({100 * made.caught / made.made:.1f} %)" if made.made else ""
        faults = [number(made.made), f"{number(made.caught)}{share}", number(made.timed_out), number(made.explained),
                  number(made.unexplained)]
    return (one.engine, *percents, *faults, one.command, one.commit)
