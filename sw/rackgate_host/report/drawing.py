# SPDX-License-Identifier: Apache-2.0
"""Plots as Plotly figures. Colours are numbers here: the page has them, a set for light and one for dark."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import Unavailable
from .plots import Axis, Plot, Trace
from .words import number

__all__ = ["COLOURS", "figure", "legend", "plotly_script"]

#: How many colours the page has.
COLOURS = 8
# What tells traces apart beside their colour, by number.
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
_PATTERNS = ("", "/", ".", "x", "\\", "-", "+", "|")
_HEIGHT, _BAR, _AROUND = 320, 22, 70  # pixels
_MOST_MARKERS = 30


def _plotly() -> Any:
    try:
        import plotly.graph_objects
        import plotly.offline
    except ModuleNotFoundError as error:
        raise Unavailable("the report is drawn by Plotly, which is not installed: run `make test`, or "
                          "pip install 'rackgate[report]'") from error
    return plotly


def plotly_script() -> str:
    """Plotly's own script, as its package has it. Raises Unavailable when it is not installed."""
    return _plotly().offline.get_plotlyjs()


def _numbers(place: int, trace: Trace) -> tuple[int, int]:
    """Numbers of a trace's colour, and of what tells it apart beside that."""
    colour = place if trace.colour is None else trace.colour
    dash = place if trace.dash is None else trace.dash
    return colour % COLOURS, dash % len(_DASHES)


def legend(plot: Plot) -> list[Mapping[str, Any]]:
    """What stands above the plot: a mapping for each trace, and for each level, of how it is drawn."""
    entries: list[Mapping[str, Any]] = []
    for place, trace in enumerate(plot.traces):
        colour, dash = _numbers(place, trace)
        has_markers = trace.kind == "point" or (trace.kind != "bar" and len(trace.x) <= _MOST_MARKERS)
        entries.append({"name": trace.name, "kind": trace.kind, "colour": colour, "dash": _DASHES[dash],
                        "symbol": _SYMBOLS[dash] if has_markers else "", "pattern": _PATTERNS[dash]})
    return entries + [{"name": level.text, "kind": "level" if level.upper is None else "band"}
                      for level in plot.levels]


def _finite(values: Iterable[float]) -> list[float | None]:
    return [one if math.isfinite(one) else None for one in values]


def _trace(place: int, trace: Trace, plot: Plot) -> dict[str, Any]:
    colour, dash = _numbers(place, trace)
    category, value = ("y", "%{x}") if plot.sideways else ("x", "%{y}")
    # What is scaled may get too large to be a number; it is left out, and stands in the table.
    y = _finite(trace.y)
    x = [str(one) for one in trace.x] if plot.has_categories else _finite(trace.x)
    places = {"x": y, "y": x} if plot.sideways else {"x": x, "y": y}
    made = {"name": trace.name, **places, "meta": {"colour": colour},
            "hovertemplate": f"%{{{category}}}: {value}<extra>{trace.name}</extra>"}
    if trace.kind == "bar":
        return {"type": "bar", **made, "orientation": "h" if plot.sideways else "v",
                "marker": {"pattern": {"shape": _PATTERNS[dash], "solidity": 0.25}}}
    mode = "markers" if trace.kind == "point" else "lines+markers" if len(x) <= _MOST_MARKERS else "lines"
    shape = {"shape": "hv"} if trace.kind == "step" else {}
    return {"type": "scatter", **made, "mode": mode, "line": {"dash": _DASHES[dash], "width": 2.5, **shape},
            "marker": {"symbol": _SYMBOLS[dash], "size": 10 if trace.kind == "point" else 9}}


def _logarithmic(values: Iterable[float]) -> dict[str, Any]:
    """Range and ticks of a logarithmic axis: powers of ten, over few of them their double and half as well."""
    logs = [math.log10(one) for one in values if 0 < one < math.inf] or [0.0]
    least, most = min(logs), max(logs)
    room = 0.05 * (most - least) or 0.3
    factors = (1, 2, 5) if most - least < 2.5 else (1,)
    ticks = [factor * 10.0 ** power for power in range(math.floor(least), math.ceil(most) + 1) for factor in factors]
    return {"type": "log", "range": [least - room, most + room], "tickvals": ticks,
            "ticktext": [number(one) for one in ticks]}


def _axis(axis: Axis, values: Iterable[float], *, is_category: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"automargin": True, "fixedrange": True, "showline": True}
    if is_category:
        return {**made, "type": "category", "showgrid": False, "zeroline": False}
    made |= {"title": {"text": axis.title, "standoff": 10}, "zeroline": not axis.log}
    if axis.log:
        made |= _logarithmic(values)
    if axis.ticks:
        made |= {"tickvals": list(axis.ticks), "ticktext": [_tick(one) for one in axis.ticks]}
    if axis.least is not None:
        made["rangemode"] = "tozero"
    return made


def _tick(value: float) -> str:
    """A size with its binary prefix, where it is one."""
    for unit, size in (("M", 1 << 20), ("K", 1 << 10)):
        if value >= size and value % size == 0:
            return f"{value // size:g}{unit}"
    return f"{value:g}"


def _levels(plot: Plot) -> list[dict[str, Any]]:
    """Lines and bands across the plot."""
    along, across = ("y", "x") if plot.sideways else ("x", "y")
    return [{"type": "line" if level.upper is None else "rect", "layer": "below",
             f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1,
             f"{across}ref": across, f"{across}0": level.value,
             f"{across}1": level.value if level.upper is None else level.upper} for level in plot.levels]


def _height(plot: Plot) -> int:
    if not plot.sideways:
        return _HEIGHT
    rows = len({str(place) for trace in plot.traces for place in trace.x})
    bars = max(1, sum(trace.kind == "bar" for trace in plot.traces))
    return _AROUND + rows * _BAR * max(1, bars)


def figure(plot: Plot) -> Mapping[str, Any]:
    """The figure for Plotly's script. Plotly checks every name in it.

    Raises Unavailable when Plotly is not installed.
    """
    x = _axis(plot.x, [] if plot.has_categories else [place for trace in plot.traces for place in trace.x],
              is_category=plot.has_categories)
    y = _axis(plot.y, [*(value for trace in plot.traces for value in trace.y), *(level.value for level in plot.levels)])
    if plot.sideways:
        x, y = y, {**x, "autorange": "reversed"}
    layout = {"height": _height(plot), "margin": {"l": 8, "r": 16, "t": 8, "b": 8}, "xaxis": x, "yaxis": y,
              "shapes": _levels(plot), "hovermode": "closest", "showlegend": False, "barmode": "group", "bargap": 0.25}
    made = _plotly().graph_objects.Figure(
        {"data": [_trace(*each, plot) for each in enumerate(plot.traces)], "layout": layout})
    value = made.to_plotly_json()
    value["layout"].pop("template", None)
    return {"data": list(value["data"]), "layout": value["layout"]}
