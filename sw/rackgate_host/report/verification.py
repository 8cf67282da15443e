# SPDX-License-Identifier: Apache-2.0
"""The page on the tests' own quality: coverage by engine, and faults that the tests caught."""

from collections.abc import Sequence
from typing import Any

from .coverage import Coverage
from .words import number

__all__ = ["ABOUT", "NAME", "TITLE", "tables"]

NAME = "verification"
TITLE = "Verification"
ABOUT = "What the regression reaches of each engine's Verilog, and what becomes of small faults that are put into it."

_HEADER = ("engine", "lines covered", "bits toggled", "faults made", "caught", "explained", "unexplained",
           "command", "commit")


def tables(coverage: Sequence[Coverage]) -> list[dict[str, Any]]:
    """The page's table: a row an engine."""
    return [{"title": "By engine", "folded": False, "header": _HEADER, "rows": [_row(one) for one in coverage],
             "about": "A fault is one small change of the Verilog. What no test catches is explained, or gets a test.",
             "otherwise": "Not measured here: no file in build/coverage."}]


def _row(one: Coverage) -> Sequence[str]:
    percents = [one.why or "not measured" if value is None else f"{value:.1f} %"
                for value in (one.line_percent, one.toggle_percent)]
    if one.mutants is None:
        faults = ["not measured", "", "", ""]
    else:
        made = one.mutants
        share = f" ({100 * made.caught / made.made:.1f} %)" if made.made else ""
        faults = [number(made.made), f"{number(made.caught)}{share}", number(made.explained), number(made.unexplained)]
    return (one.engine, *percents, *faults, one.command, one.commit)
