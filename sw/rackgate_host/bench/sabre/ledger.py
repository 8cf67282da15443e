# SPDX-License-Identifier: Apache-2.0
"""What a run has measured so far, kept in a file: a run that was broken off goes on from there."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Ledger"]

_FORGOTTEN_AFTER = 30 * 24 * 3600  # Seconds.


class Ledger:
    """Points of the finished parts of one run, a part a line of a file of its own in ``folder``.

    ``about`` is everything that points depend on: it names the file, so that parts that were kept with another are not
    taken, and runs beside each other leave each other's alone. Without ``resume`` what is there is thrown away. A
    damaged line counts as a part that was not finished. Files that nobody has written to for a month go.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], resume: bool):
        key = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:32]
        self.path = folder / f"{key}.jsonl"
        self._kept: dict[str, list[dict[str, Any]]] = {}
        if resume:
            self._load()
        else:
            self.path.unlink(missing_ok=True)
        self.taken = 0
        for path in folder.glob("*.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _FORGOTTEN_AFTER:
                    path.unlink()

    def _load(self) -> None:
        try:
            lines = self.path.read_text().splitlines()
        except (OSError, ValueError):
            return
        for line in lines:
            try:
                entry = json.loads(line)
                self._kept[entry["part"]] = list(entry["points"])
            except (ValueError, KeyError, TypeError):
                continue

    def part(self, name: str, measure: Callable[[], Iterable[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        """The points of the part ``name``: those that were kept, or what ``measure`` gives, which is kept then."""
        if name in self._kept:
            self.taken += 1
            yield from self._kept[name]
            return
        points = list(measure())
        yield from points
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"part": name, "points": points}) + "\n")
