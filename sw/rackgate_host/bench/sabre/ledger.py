# SPDX-License-Identifier: Apache-2.0
"""What a run has measured so far, kept in a file: a run that was broken off goes on from there."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Ledger"]


class Ledger:
    """Points of the finished parts of one run, a part a line of the file at ``path``.

    ``about`` is everything that points depend on: parts that were kept with another are not taken. Without
    ``resume`` what is there is thrown away. A damaged line counts as a part that was not finished.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], resume: bool):
        self._path = path
        self._key = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:32]
        self._kept: dict[str, list[dict[str, Any]]] = {}
        if resume:
            self._load()
        else:
            path.unlink(missing_ok=True)
        self.taken = 0

    def _load(self) -> None:
        try:
            lines = self._path.read_text().splitlines()
        except (OSError, ValueError):
            return
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["key"] == self._key:
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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"key": self._key, "part": name, "points": points}) + "\n")
