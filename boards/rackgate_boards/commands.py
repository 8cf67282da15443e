# SPDX-License-Identifier: Apache-2.0
"""What ``rackgate board`` calls by name, in plain values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .boards import find
from .build import Figures, bitstream, report_path
from .built import changes, keep, read_record, read_report
from .flow import BuildError
from .pairs import Pair, choose, pairs

__all__ = ["build", "listing", "loader", "record"]


def _figures(pair: Pair, record: Mapping[str, Figures]) -> Figures | None:
    """Of the build here if it can be read, else what is kept with the sources."""
    try:
        return read_report(report_path(pair.name))
    except BuildError:
        return record.get(pair.name)


def _row(board: str, system: str, pair: Pair | Exception, record: Mapping[str, Figures]) -> dict[str, Any]:
    if isinstance(pair, Exception):
        return {"board": board, "system": system, "link": "", "parameters": {}, "memory_bytes": 0, "clock_mhz": None,
                "why_not": str(pair), "figures": None, "changes": ""}
    configuration, figures = pair.configuration, _figures(pair, record)
    return {"board": board, "system": system, "link": pair.link_name, "parameters": dict(configuration.parameters),
            "memory_bytes": configuration.memory, "clock_mhz": configuration.clock_mhz, "why_not": None,
            "figures": asdict(figures) if figures else None, "changes": changes(pair, figures) if figures else ""}


def listing() -> list[dict[str, Any]]:
    """A row for each board and system: how it is built, or why not, its figures if it was built, and what changed."""
    record = read_record()
    return [_row(*found, record) for found in pairs()]


def build(board: str, system: str, *, link: str | None = None, mac: str | None = None, address: str | None = None,
          report: Callable[[str], None] = lambda line: None) -> tuple[Path, dict[str, Any]]:
    """Build a bitstream; return its place and its figures. Errors as with ``choose`` and ``bitstream``."""
    path, figures = bitstream(choose(board, system, link=link, mac=mac, address=address), report=report)
    return path, asdict(figures)


def loader(board: str) -> list[str]:
    """Arguments with which openFPGALoader finds the board."""
    return list(find(board).loader)


def record(folders: Sequence[str]) -> list[dict[str, Any]]:
    """Keep the figures of all reports in ``folders``, those of the builds here if there are none, with the sources.

    Returns the figures that are new. Raises BuildError when a report is wrong or there is none.
    """
    places = [Path(folder) for folder in folders] or [report_path("").parent]
    reports = [report for place in places for report in sorted(place.glob("*.json"))]
    if not reports:
        raise BuildError(f"there is no report in {', '.join(map(str, places))}")
    return [asdict(figures) for figures in keep(reports).values()]
