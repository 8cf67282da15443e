# SPDX-License-Identifier: Apache-2.0
"""The page of area and clock."""

from collections.abc import Sequence

from ..plots import Axis, Level, Plot, Section, bars, command
from ..records import Results

__all__ = ["sections"]


def sections(results: Results) -> Sequence[Section]:
    """What the page shows."""
    return [
        Section("Clock", "After routing. The table at the end has device, speed grade and critical path of each.",
                [_plot(results, "fmax_mhz", "Routed clock", "More is better.", Axis("MHz", least=0), "target")]),
        Section("Area", "Without the harness that stands in for pins.", [
            _plot(results, "lut4", "Look-up tables", "LUT4. An LFE5U-85F has 83,640.", Axis("LUT4", least=0)),
            _plot(results, "ff", "Flip-flops", "", Axis("flip-flops", least=0)),
            _plot(results, "ebr", "Block memories", "Of 18 kbit. An LFE5U-85F has 208.", Axis("EBR", least=0)),
            _plot(results, "dsp", "Multipliers", "An LFE5U-85F has 156.", Axis("DSP", least=0))], compact=True),
    ]


def _plot(results: Results, metric: str, title: str, about: str, axis: Axis, level: str = "") -> Plot:
    points = results.select("area", metric)
    aims = [one.result.target for one in points if one.result.target is not None]
    return Plot(title, about, Axis("engine"), axis, bars(points, lambda one: "measured", lambda one: one.case),
                command("area", points), [Level(aims[0], level)] if level and aims else [], sideways=True)
