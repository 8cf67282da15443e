# SPDX-License-Identifier: Apache-2.0
"""What the gateware itself says of its parts: the class at each place of a device, its streams, and its states."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Fragment, Signal, Value
from amaranth.lib import wiring

__all__ = ["Machine", "Part", "Stream", "parts"]


@dataclass(frozen=True)
class Stream:
    """Names of a stream's signals in the waves. ``ready`` is None for one that is always ready."""

    valid: str
    ready: str | None


@dataclass(frozen=True)
class Machine:
    """A state machine: name of its signal in the waves, and its states in the order of their codes."""

    signal: str
    states: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A component at its place in a device.

    Attributes
    ----------
    source:
        Its class, as ``module.Class``.
    meaning:
        The first sentence of the class's docstring.
    streams:
        By name; where they are in arrays or interfaces, the names and numbers joined by two underscores.
    machines:
        By the name that was given to ``m.FSM``, by default "fsm".
    """

    source: str
    meaning: str
    streams: dict[str, Stream]
    machines: dict[str, Machine]


def parts(device: wiring.Component) -> dict[str, Part]:
    """The parts of a device, by their place: names of submodules joined by dots, "" for the device itself.

    The names in the waves are those that the writer of Verilog gives: two signals of the same name in a module get
    different ones, so that they cannot be told from the place alone.
    """
    values = {"__".join(map(str, path)): Value.cast(value) for path, _, value in device.signature.flatten(device)}
    ports = [(name, value, None) for name, value in values.items() if isinstance(value, Signal)]
    design: Any = Fragment.get(device, None).prepare(ports)
    found: dict[str, Part] = {}
    _walk(design, design.fragment, "", found)
    return found


def _walk(design: Any, fragment: Any, place: str, found: dict[str, Part]) -> None:
    info = design.fragments[fragment]

    def named(signal: Signal) -> str:
        return ".".join([*info.name[1:], info.signal_names[signal]])

    # A transformed fragment (ResetInserter) forgets its state machines; those whom it comes from do not.
    origins = fragment.origins or ()
    machines = {name: Machine(named(machine.state), tuple(machine.encoding)) for origin in origins
                for name, machine in getattr(origin, "_generated", {}).items() if machine.state in info.signal_names}
    for origin in origins:
        if isinstance(origin, wiring.Component):
            kind = type(origin)
            streams = {name: Stream(named(valid), named(ready) if isinstance(ready, Signal) else None)
                       for name, valid, ready in _streams(origin) if valid in info.signal_names}
            source, meaning = f"{kind.__module__}.{kind.__qualname__}", _sentence(kind.__doc__ or "")
            found[place] = Part(source, meaning, streams, machines)
    for part, name, *_ in fragment.subfragments:
        if name is not None:
            _walk(design, part, f"{place}.{name}" if place else name, found)


def _streams(component: wiring.Component) -> Iterator[tuple[str, Signal, Any]]:
    """Streams of a component: name, ``valid`` and ``ready``."""
    members = {path: value for path, _, value in component.signature.flatten(component)}
    for path, valid in members.items():
        beside = (*path[:-1], "ready")
        if path[-1] == "valid" and isinstance(valid, Signal) and beside in members:
            yield "__".join(map(str, path[:-1])), valid, members[beside]


def _sentence(text: str) -> str:
    """The first sentence of a docstring, on one line and without its marks."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.sub(r":\w+:|[`~]", "", paragraph.partition(". ")[0].rstrip("."))
