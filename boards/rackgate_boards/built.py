# SPDX-License-Identifier: Apache-2.0
"""Figures of bitstreams that were built, kept with the sources: what the manual says of boards comes from here."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from platform import python_version

from rackgate.paths import checkout

from .build import Figures, gateware
from .flow import BuildError
from .pairs import DoesNotFit, Pair, choose, name_of

__all__ = ["RECORD", "changes", "keep", "read_record", "read_report"]

#: The file.
RECORD = Path(__file__).with_name("built.json")


def read_record(path: Path = RECORD) -> dict[str, Figures]:
    """Figures of the pairs that were built and kept, by the pair's name."""
    if not path.is_file():
        return {}
    return {name: Figures.from_dict(figures) for name, figures in json.loads(path.read_text()).items()}


def read_report(path: Path) -> Figures:
    """Figures that :func:`~rackgate_boards.build.bitstream` left.

    Raises
    ------
    BuildError
        The file has none, or of no pair that there is; the text says which file.
    """
    try:
        figures = Figures.from_dict(json.loads(path.read_text()))
        choose(figures.board, figures.system, link=figures.link)
    except DoesNotFit:
        return figures  # it did once
    except (OSError, TypeError, ValueError) as error:
        raise BuildError(f"{path}: {error}") from None
    return figures


def keep(reports: Iterable[Path], path: Path = RECORD) -> dict[str, Figures]:
    """Put what ``reports`` say into the record, in place of what is older there. Return what was put.

    Raises
    ------
    BuildError
        A report is wrong, or this is no checkout; then nothing is kept.
    """
    if path == RECORD and checkout() is None:
        raise BuildError("figures are kept with the sources: work in a checkout")
    record, fresh = read_record(path), {}
    for report in reports:
        figures = read_report(report)
        name = name_of(figures.board, figures.system, figures.link)
        if name not in record or record[name].date < figures.date:
            record[name] = fresh[name] = figures
    path.write_text(json.dumps({name: asdict(record[name]) for name in sorted(record)}, indent=1) + "\n")
    return fresh


def _same_python(version: str) -> bool:
    """Whether it hashes sources as this one does: the hash is of a syntax tree, which minor versions write anew."""
    return version.split(".")[:2] == python_version().split(".")[:2]


def _differences(built: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    return [f"{name} {built.get(name, 'not given')}" for name in sorted({*built, *now})
            if built.get(name) != now.get(name)]


def changes(pair: Pair, figures: Figures) -> str:
    """What has changed since ``figures`` of ``pair`` were measured; nothing if a build now would be of the same.

    Parameters and clocks are compared, then the hash of the gateware's sources, in which comments and docstrings do not
    count; the latter only in the same minor version of Python, whose hash it is.
    """
    configuration = pair.configuration
    device = f"{pair.board.fpga.name}-{pair.board.fpga.speed}"
    said = _differences(figures.parameters, configuration.parameters)
    said += [text for text, is_other in (
        (f"memory {figures.memory >> 10} KB", figures.memory != configuration.memory),
        (f"{figures.clock_mhz:g} MHz", figures.clock_mhz != configuration.clock_mhz),
        (f"link {figures.link}", figures.link != pair.link_name),
        (f"MAC {figures.mac or 'none'}", figures.mac != pair.mac),
        (f"address {figures.address or 'none'}", figures.address != pair.address),
        (f"device {figures.device}", figures.device != device),
    ) if is_other]
    if said:
        return f"built with {', '.join(said)}"
    if not _same_python(figures.python) or figures.build == gateware(pair).identity.build.hex():
        return ""
    return "gateware has changed since"
