# SPDX-License-Identifier: Apache-2.0
"""Points that were measured, kept by content: a run that was interrupted goes on with those that it lacks."""

import hashlib
import importlib.util
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from .benches import Points, Unit
from .record import commit, versions

__all__ = ["Kept", "Store", "code", "identity"]

_PACKAGES = ("rackgate", "rackgate_sim", "rackgate_host", "rackgate_tb", "rackgate_boards")
_SOURCES = (".py", ".c", ".cpp", ".h", ".hpp")


def code() -> str:
    """A hash of all source files of this project's packages that are installed."""
    total = hashlib.sha256()
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            for path in sorted(path for path in Path(folder).rglob("*") if path.suffix in _SOURCES):
                total.update(f"{package}/{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:32]


def identity() -> dict[str, Any]:
    """What two machines must have in common so that they measure the same thing."""
    return {"code": code(), "versions": versions()}


class Kept(NamedTuple):
    """Points of a unit, and the seconds that they took."""

    points: Points
    seconds: float


class Store:
    """Files in ``folder``, one a unit, named by a hash of the unit, the commit, the code and the tools.

    ``fresh``: what is there is not looked at. A damaged file counts as none. Files appear whole, so that several runs
    may share a folder.
    """

    def __init__(self, folder: Path, *, fresh: bool = False):
        self._folder, self._fresh = folder, fresh
        self._about = {"commit": commit(), **identity()}

    def _path(self, unit: Unit) -> Path:
        text = json.dumps([unit.as_dict(), self._about], sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def find(self, unit: Unit) -> Kept | None:
        """What was kept of ``unit``."""
        if self._fresh:
            return None
        try:
            entry = json.loads(self._path(unit).read_text())
            return Kept(list(entry["points"]), float(entry["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, unit: Unit, kept: Kept) -> None:
        """Keep the points of ``unit``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self._folder, suffix=".part", delete=False) as fresh:
            json.dump({"unit": unit.as_dict(), "seconds": kept.seconds, "points": kept.points}, fresh)
        os.replace(fresh.name, self._path(unit))

    def drop(self, unit: Unit) -> None:
        """Keep nothing of ``unit`` any more."""
        self._path(unit).unlink(missing_ok=True)
