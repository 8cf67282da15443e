# SPDX-License-Identifier: Apache-2.0
"""Coverage in terms of the Amaranth source: which branches were taken, which bits moved.

A branch was taken if its mark (see :mod:`.instrument`) rose, which Verilator's toggle coverage says. Other signals'
toggles stand for themselves.
"""

import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import amaranth

from rackgate.export import source_name

from .build import Library
from .instrument import MARK

__all__ = ["Coverage", "Tally"]

_ENTRY = re.compile(r"^C '(?P<key>.*)' (?P<count>\d+)$")
_SRC = re.compile(r'^\s*\(\* src = "(?P<file>[^"|]*):(?P<line>\d+)')
_DECLARATION = re.compile(r"^\s*(?:input|output|inout|wire|reg|logic)\b.*?(?P<name>\\\S+|\w+)\s*(?:=.*)?;$")


@dataclass
class Tally:
    """How many of a line's points were reached."""

    hit: int = 0
    total: int = 0


@dataclass
class Coverage:
    """Coverage by source line.

    Attributes
    ----------
    branches:
        For each line that opens a branch: how many of its instances (in a loop, in several modules) were taken.
    toggles:
        For each line that declares a signal: how many of its bits both rose and fell.
    """

    branches: dict[tuple[str, int], Tally] = field(default_factory=dict)
    toggles: dict[tuple[str, int], Tally] = field(default_factory=dict)

    @classmethod
    def read(cls, library: Library, paths: Iterable[Path]) -> "Coverage":
        """Put together what several runs of one library wrote (:meth:`.Simulation.write_coverage`).

        Lines of Amaranth itself and of Python's library are left out.

        Raises
        ------
        ValueError
            If the library is not of the variant ``coverage``, or a file is not Verilator's.
        """
        if library.variant != "coverage":
            raise ValueError(f"library must be of variant 'coverage', not {library.variant!r}")
        counts: dict[str, int] = {}
        for path in paths:
            for key, count in _entries(Path(path)):
                counts[key] = counts.get(key, 0) + count
        lines = _source_lines(library.verilog.read_text())
        result = cls()
        bits: dict[tuple[str, str], tuple[tuple[str, int], list[bool]]] = {}
        for key, count in counts.items():
            fields: dict[str, str] = {}
            for part in filter(None, key.split("\x01")):
                what, _, value = part.partition("\x02")
                fields[what] = value
            source = lines.get(int(fields["l"]))
            name, _, change = fields["o"].rpartition(":")
            if source is None or not change:
                continue
            if name.startswith(MARK):
                if change == "0->1":
                    _count(result.branches, source, bool(count))
            else:
                _, seen = bits.setdefault((fields["h"], name), (source, []))
                seen.append(bool(count))
        for source, seen in bits.values():
            _count(result.toggles, source, all(seen))
        return result

    def missed(self) -> list[tuple[str, int]]:
        """Lines whose branch was never taken, by file and line."""
        return sorted(place for place, tally in self.branches.items() if not tally.hit)

    def ratio(self) -> float:
        """Part of the branch lines that were taken."""
        return 1 - len(self.missed()) / len(self.branches) if self.branches else 1.0

    def lcov(self) -> str:
        """The branches as an lcov trace file, which most viewers and editors read."""
        text = []
        for file in sorted({file for file, _ in self.branches}):
            own = sorted((line, tally.hit) for (name, line), tally in self.branches.items() if name == file)
            text += ["TN:", f"SF:{file}", *(f"DA:{line},{hit}" for line, hit in own)]
            text += [f"LF:{len(own)}", f"LH:{sum(hit > 0 for _, hit in own)}", "end_of_record"]
        return "\n".join(text) + "\n"


def _count(table: dict[tuple[str, int], Tally], source: tuple[str, int], hit: bool) -> None:
    tally = table.setdefault(source, Tally())
    tally.total += 1
    tally.hit += hit


def _entries(path: Path) -> Iterator[tuple[str, int]]:
    with open(path) as file:
        if not file.readline().startswith("# SystemC::Coverage"):
            raise ValueError(f"{path} is not a coverage file of Verilator's")
        for line in file:
            if match := _ENTRY.match(line):
                yield match["key"], int(match["count"])


def _source_lines(verilog: str) -> Mapping[int, tuple[str, int]]:
    """Source line of each line of the Verilog that declares a signal."""
    own, python = str(Path(amaranth.__file__ or "").parent), sysconfig.get_path("stdlib")
    found: dict[int, tuple[str, int]] = {}
    source, name = None, ""
    for number, line in enumerate(verilog.splitlines(), 1):
        if match := _SRC.match(line):
            source, name = (match["file"], int(match["line"])), ""
        elif match := _DECLARATION.match(line):
            # A port is declared twice, the second time without its attributes.
            if source and name in ("", match["name"]):
                name = match["name"]
                file = source[0]
                if not file.startswith(own) and (not file.startswith(python) or "site-packages" in file):
                    found[number] = (source_name(source[0]), source[1])
        elif not line.lstrip().startswith("(*"):
            source = None
    return found
