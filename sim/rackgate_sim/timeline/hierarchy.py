# SPDX-License-Identifier: Apache-2.0
"""What the gateware itself says of its parts: the class at each place of a device, and the names of its states."""

import re
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Fragment
from amaranth.lib import wiring

__all__ = ["Part", "parts"]


@dataclass(frozen=True)
class Part:
    """A component at its place in a device.

    Attributes
    ----------
    source:
        Its class, as ``module.Class``.
    meaning:
        The first sentence of the class's docstring.
    states:
        For each state machine, by the name of its signal: the states' names, in the order of their codes.
    """

    source: str
    meaning: str
    states: dict[str, tuple[str, ...]]


def parts(device: wiring.Component) -> dict[str, Part]:
    """The parts of a device, by their place: names of submodules joined by dots, "" for the device itself."""
    found: dict[str, Part] = {}
    _walk(Fragment.get(device, None), "", found)
    return found


def _walk(fragment: Any, place: str, found: dict[str, Part]) -> None:
    # A transformed fragment (ResetInserter) forgets its state machines; those whom it comes from do not.
    origins = fragment.origins or ()
    states = {f"{name}_state": tuple(machine.encoding) for origin in origins
              for name, machine in getattr(origin, "_generated", {}).items()}
    for origin in origins:
        if isinstance(origin, wiring.Component):
            kind = type(origin)
            found[place] = Part(f"{kind.__module__}.{kind.__qualname__}", _sentence(kind.__doc__ or ""), states)
    for part, name, *_ in fragment.subfragments:
        if name is not None:
            _walk(part, f"{place}.{name}" if place else name, found)


def _sentence(text: str) -> str:
    """The first sentence of a docstring, on one line and without its marks."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.sub(r":\w+:|[`~]", "", paragraph.partition(". ")[0].rstrip("."))
