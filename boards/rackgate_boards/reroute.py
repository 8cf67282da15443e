# SPDX-License-Identifier: Apache-2.0
"""The nets around the longest path, routed once more when all others have their place."""

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["forget_routes", "signals"]

# What Yosys and nextpnr put behind the name of a signal: cells of ECP5; bits, and numbers that tell copies apart.
_CELL = re.compile(r"(_(LUT4|PFUMX|L6MUX21|CCU2C|TRELLIS|DP16KD|MULT18X18D)|\$(CCU2|nextpnr)).*")
_NUMBER = re.compile(r"(\[\d+\]|\$\d+)+$")


def _signal(name: str) -> str:
    return _NUMBER.sub("", _CELL.sub("", name))


def signals(cells: Iterable[str]) -> set[str]:
    """Names of the design's signals that cells of a path are named for: of logic, that which it makes."""
    return {name for name in map(_signal, cells) if name}


def forget_routes(module: dict[str, Any], names: set[str]) -> None:
    """Take their routes from the nets that belong to signals of these names.

    ``module`` is a routed one as nextpnr's ``--write`` has it, and is changed. Loaded again, those nets are routed and
    the others keep theirs, unless they are in the way.
    """
    for net, entry in module["netnames"].items():
        if _signal(net) in names:
            entry.get("attributes", {}).pop("ROUTING", None)
