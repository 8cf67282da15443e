# SPDX-License-Identifier: Apache-2.0
"""The page of the simulators' speed."""

from collections.abc import Sequence

from ..plots import Axis, Plot, Section, Trace, command, dots
from ..records import Results

__all__ = ["sections"]


def sections(results: Results) -> Sequence[Section]:
    """What the page shows."""
    points = results.select("cosim", "cycles_per_second")
    floors = [one for one in points if one.result.floor is not None]
    traces = dots(points, lambda one: "measured", lambda one: one.case)
    if floors:
        traces.append(Trace("floor", [one.case for one in floors], [one.result.floor or 0 for one in floors], "point",
                            1, 1))
    about = "The same engine, jobs and memory on each, one after the other on one machine."
    return [Section("Four simulators", about, [
        Plot("Simulated cycles a second", "pysim: Amaranth's simulator. cocotb-default: as its runner builds a design. "
             "cocotb-tight: only the top's ports public. native: with the host's driver in the loop. More is better.",
             Axis("simulator"), Axis("cycles a second", log=True), traces, command("cosim", points),
             sideways=True)])]
