# SPDX-License-Identifier: Apache-2.0
"""The nets around the longest path, routed once more when all others have their place."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

__all__ = ["choices", "forget_routes", "signals"]

# What Yosys and nextpnr put behind the name of a signal: cells of ECP5; bits, and numbers that tell copies apart.
_CELL = re.compile(r"(_(LUT4|PFUMX|L6MUX21|CCU2C|TRELLIS|DP16KD|MULT18X18D)|\$(CCU2|nextpnr)).*")
_NUMBER = re.compile(r"(\[\d+\]|\$\d+)+$")


def _signal(name: str) -> str:
    return _NUMBER.sub("", _CELL.sub("", name))


def signals(path: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names of the design's signals that the cells of a path are named for: of logic, that which it makes.

    ``path`` has the segments of one of the ``critical_paths`` in nextpnr's report.
    """
    return {name for segment in path if (name := _signal(segment["to"]["cell"]))}


def choices(path: Sequence[Mapping[str, Any]], names: Set[str]) -> Iterator[Callable[[str], bool]]:
    """What to route again for a shorter ``path``, one way after the other: each tells whether a net belongs to it.

    First all nets of signals of these ``names``; then the nets of the path alone; then these but the first, which is a
    register's and often goes to many places: what it reaches at present may be the better part of it.
    """
    nets = [segment["net"] for segment in path if segment["type"] == "routing" and segment["delay"] > 0]
    yield lambda net: _signal(net) in names
    for some in (nets, nets[1:]):
        if some:
            yield set(some).__contains__


def forget_routes(module: dict[str, Any], is_chosen: Callable[[str], bool]) -> None:
    """Take their routes from the nets that are chosen by their names.

    ``module`` is a routed one as nextpnr's ``--write`` has it, and is changed. Loaded again, those nets are routed and
    the others keep theirs, unless they are in the way. Where there are several global networks, theirs go too: nextpnr
    hands them out anew, in another order, and stops when a net has the network of another one.
    """
    buffers = [cell for cell in module.get("cells", {}).values() if cell["type"] == "DCCA"]
    behind = {bit for cell in buffers for bit in cell["connections"]["CLKO"]} if len(buffers) > 1 else set()
    for net, entry in module["netnames"].items():
        if is_chosen(net) or not behind.isdisjoint(entry.get("bits", ())):
            entry.get("attributes", {}).pop("ROUTING", None)
