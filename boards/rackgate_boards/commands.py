# SPDX-License-Identifier: Apache-2.0
"""What ``rackgate board`` calls by name, in plain values."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .boards import find
from .build import bitstream, report_path
from .pairs import Pair, choose, pairs

__all__ = ["build", "listing", "loader"]


def _row(board: str, system: str, pair: Pair | Exception) -> dict[str, Any]:
    if isinstance(pair, Exception):
        return {"board": board, "system": system, "link": "", "parameters": {}, "memory_bytes": 0, "clock_mhz": None,
                "why_not": str(pair), "figures": None}
    configuration, kept = pair.configuration, report_path(pair.name)
    return {"board": board, "system": system, "link": pair.link_name, "parameters": dict(configuration.parameters),
            "memory_bytes": configuration.memory, "clock_mhz": configuration.clock_mhz, "why_not": None,
            "figures": json.loads(kept.read_text()) if kept.is_file() else None}


def listing() -> list[dict[str, Any]]:
    """A row for each board and system: how it is built, or why not, and its figures if it was built here."""
    return [_row(*found) for found in pairs()]


def build(board: str, system: str, *, link: str | None = None,
          report: Callable[[str], None] = lambda line: None) -> tuple[Path, dict[str, Any]]:
    """Build a bitstream; return its place and its figures. Errors as with ``choose`` and ``bitstream``."""
    path, figures = bitstream(choose(board, system, link=link), report=report)
    return path, asdict(figures)


def loader(board: str) -> list[str]:
    """Arguments with which openFPGALoader finds the board."""
    return list(find(board).loader)
