# SPDX-License-Identifier: Apache-2.0
"""What a plot of the report shows, apart from how it is drawn: traces, axes, levels, and its table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .records import Measured
from .words import number, slug

__all__ = ["Axis", "Kind", "Level", "Plot", "Section", "Trace", "bars", "command", "dots", "lines"]

#: Kinds of traces: points joined by lines; steps that hold until the next point; bars; points alone.
Kind = str
KINDS = ("line", "step", "bar", "point")


@dataclass(frozen=True)
class Axis:
    """An axis: its title with the unit, whether it is logarithmic, and the values that get a label (all if none)."""

    title: str
    log: bool = False
    ticks: Sequence[float] = ()
    least: float | None = None


@dataclass(frozen=True)
class Trace:
    """A series. ``colour`` and ``dash`` number what tells it from the others; both default to its place."""

    name: str
    x: Sequence[Any]
    y: Sequence[float]
    kind: Kind = "line"
    colour: int | None = None
    dash: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if len(self.x) != len(self.y):
            raise ValueError(f"{self.name}: x and y must be of one length, not {len(self.x)} and {len(self.y)}")


@dataclass(frozen=True)
class Level:
    """A line across the plot, or with ``upper`` a band, that values are compared with."""

    value: float
    label: str
    upper: float | None = None

    @property
    def text(self) -> str:
        """The label with the value."""
        upper = "" if self.upper is None else f" to {number(self.upper)}"
        return f"{self.label}: {number(self.value)}{upper}"


@dataclass(frozen=True)
class Plot:
    """One plot. With ``sideways`` bars lie, so that long names can be read on a small screen."""

    title: str
    about: str
    x: Axis
    y: Axis
    traces: Sequence[Trace]
    command: str
    levels: Sequence[Level] = ()
    sideways: bool = False

    @property
    def name(self) -> str:
        """Name of its place in the page."""
        return slug(self.title)

    @property
    def has_categories(self) -> bool:
        """Whether places are names: bars stand at names, and so does what lies sideways."""
        return self.sideways or any(trace.kind == "bar" for trace in self.traces)

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Everything that is drawn as headings and rows: a row a value of x, a column a trace."""
        header = [self.x.title, *(f"{trace.name}" for trace in self.traces)]
        values = [dict(zip(trace.x, trace.y, strict=True)) for trace in self.traces]
        if all(trace.kind == "step" for trace in self.traces):  # the steps of a distribution are at any place
            return self._steps()
        places = list(dict.fromkeys(place for trace in self.traces for place in trace.x))
        if all(isinstance(place, int | float) for place in places):
            places.sort()
        rows = [[number(place), *(number(one[place]) if place in one else "" for one in values)] for place in places]
        return header, rows

    def _steps(self) -> tuple[list[str], list[list[str]]]:
        """Of distributions: a row a share, a column a trace."""
        values = [dict(zip(trace.y, trace.x, strict=True)) for trace in self.traces]
        shares = sorted({share for one in values for share in one})
        return ([self.y.title, *(f"{trace.name}, {self.x.title}" for trace in self.traces)],
                [[number(share), *(number(one[share]) if share in one else "" for one in values)] for share in shares])


@dataclass(frozen=True)
class Section:
    """Plots under one heading; ``compact`` ones stand beside each other where there is room."""

    title: str
    about: str
    plots: Sequence[Plot] = field(default_factory=tuple)
    compact: bool = False


def command(bench: str, points: Iterable[Measured]) -> str:
    """What measured these points, or would if there are none."""
    found = next(iter(points), None)
    return f"rackgate bench {bench}" if found is None else found.origin.command


def _split(points: Iterable[Measured], name: Callable[[Measured], str],
           x: Callable[[Measured], Any]) -> Mapping[str, dict[Any, float]]:
    found: dict[str, dict[Any, float]] = {}
    for one in points:
        if one.value is not None:
            found.setdefault(name(one), {})[x(one)] = one.value
    return found


def lines(points: Iterable[Measured], name: Callable[[Measured], str],
          x: Callable[[Measured], Any]) -> list[Trace]:
    """Points as lines, one for each name, each from the least x to the greatest."""
    return [Trace(label, sorted(values), [values[place] for place in sorted(values)])
            for label, values in _split(points, name, x).items()]


def dots(points: Iterable[Measured], name: Callable[[Measured], str], x: Callable[[Measured], Any]) -> list[Trace]:
    """As :func:`bars`, for logarithmic axes, on which no bar has a beginning."""
    return [replace(trace, kind="point") for trace in bars(points, name, x)]


def bars(points: Iterable[Measured], name: Callable[[Measured], str], x: Callable[[Measured], Any]) -> list[Trace]:
    """Points as bars, a colour for each name, in the order in which they come."""
    return [Trace(label, list(values), list(values.values()), "bar")
            for label, values in _split(points, name, x).items()]
