# SPDX-License-Identifier: Apache-2.0
"""Plant faults in an engine, run its regression with each, and say which were caught.

The regression is that of the whole engine in the native simulation: benches of single blocks run on Amaranth's
simulator, which has no Verilog to put a fault into. So a fault that a block's own bench would catch can survive here.
"""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackgate.paths import build_root
from rackgate_sim.native import Coverage

from .faults import VARIABLE, Fault, choose, find
from .plugin import SETTING

__all__ = ["ENGINES", "Engine", "QualityError", "Verdict", "coverage", "mutate", "write_record"]

#: A run with a fault may take so many times as long as one without, and at least so many seconds.
_PATIENCE, _LEAST_PATIENCE = 4.0, 60.0


class QualityError(Exception):
    """The regression does not pass without a fault, so nothing can be said of it with one."""


@dataclass(frozen=True)
class Engine:
    """The name that an engine's models are built by, and the tests of it: paths, and options of pytest."""

    model: str
    tests: tuple[str, ...]


ENGINES: Mapping[str, Engine] = {
    "inflate": Engine("inflate", ("tests/cosim/test_inflate_gateware.py",)),
    "iaa": Engine("iaa", ("tests/cosim/test_iaa_gateware.py", "tests/cosim/test_iaa_resume_gateware.py",
                          "tests/cosim/test_iaa_traffic.py")),
    "fisslock": Engine("core_fisslock_hardened_18", ("tests/cosim/test_fisslock_hardened_core.py",)),
    "netlock": Engine("core_netlock", ("tests/cosim/test_netlock_core.py",)),
    "collective": Engine("collective", ("tests/host/test_collective_order.py",
                                        "tests/host/test_collective_defects.py")),
    "zeronic": Engine("zeronic", ("tests/cosim/test_zeronic_differential.py", "tests/cosim/test_zeronic_races.py")),
}


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: ``caught``, and by what, in a few words."""

    fault: Fault
    caught: bool
    by: str


def _pytest(engine: Engine, root: Path, setting: Mapping[str, Any], folder: Path, *, fault: int = 0,
            limit: float | None = None) -> tuple[bool, str, float]:
    """Whether the tests passed, the first that did not, and seconds."""
    place = folder / "setting.json" if not fault else folder / f"setting-{fault}.json"
    place.write_text(json.dumps({"engine": engine.model, **setting}))
    environment = dict(os.environ, **{SETTING: str(place), VARIABLE: str(fault)})
    command = [sys.executable, "-m", "pytest", "-p", "rackgate_tb.quality.plugin", "-p", "no:cacheprovider", "-n0",
               "-x", "-q", "-m", "not soak", *engine.tests]
    start = time.monotonic()
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=limit,
                              check=False)
    except subprocess.TimeoutExpired:
        return False, f"no end within {limit:.0f} s", time.monotonic() - start
    seconds = time.monotonic() - start
    if done.returncode == 0:
        return True, "", seconds
    named = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return False, (named[0] if named else (done.stdout + done.stderr).strip()[-300:]), seconds


def mutate(engine: Engine, *, root: Path, count: int, seed: int, folder: Path,
           report: Callable[[str], None] = lambda line: None) -> list[Verdict]:
    """Plant ``count`` faults, drawn by ``seed``, and run the tests with each.

    Raises
    ------
    QualityError
        The tests do not pass as they are, or not with the faults asleep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    verilog = folder / "engine.sv"
    verilog.unlink(missing_ok=True)
    report("the regression as it is")
    passed, by, _ = _pytest(engine, root, {"record": str(verilog)}, folder)
    if not passed:
        raise QualityError(f"the tests do not pass without a fault: {by}")
    if not verilog.exists():
        raise QualityError(f"the tests build no model named {engine.model}")
    faults = choose(find(verilog.read_text()), count, seed)
    setting = {"faults": [dataclasses.asdict(fault) for fault in faults]}
    report(f"the regression with {len(faults)} faults asleep")
    passed, by, seconds = _pytest(engine, root, setting, folder)
    if not passed:
        raise QualityError(f"the tests do not pass with all faults asleep: {by}")
    limit, verdicts = max(_LEAST_PATIENCE, _PATIENCE * seconds), []
    for number, fault in enumerate(faults, start=1):
        passed, by, _ = _pytest(engine, root, setting, folder, fault=number, limit=limit)
        verdicts.append(Verdict(fault, not passed, by))
        caught = sum(verdict.caught for verdict in verdicts)
        report(f"{number} of {len(faults)} faults, {caught} caught")
    return verdicts


def coverage(engine: Engine, *, root: Path, folder: Path) -> tuple[float, float]:
    """Percent of the branches that the tests take, and of the bits that they move both ways.

    Raises
    ------
    QualityError
        The tests do not pass, or simulate nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.dat"):
        old.unlink()
    passed, by, _ = _pytest(engine, root, {"coverage": str(folder)}, folder)
    if not passed:
        raise QualityError(f"the tests do not pass with coverage: {by}")
    runs: dict[Path, tuple[Any, list[Path]]] = {}
    for place in sorted(folder.glob("*.dat")):
        library = pickle.loads(place.with_suffix(".library").read_bytes())
        runs.setdefault(library.path, (library, []))[1].append(place)
    if not runs:
        raise QualityError(f"the tests simulate nothing named {engine.model}")
    branches: dict[tuple[str, int], bool] = {}
    hit = total = 0
    for library, paths in runs.values():
        one = Coverage.read(library, paths)
        for line, tally in one.branches.items():
            branches[line] = branches.get(line, False) or tally.hit > 0
        hit += sum(tally.hit for tally in one.toggles.values())
        total += sum(tally.total for tally in one.toggles.values())
    return 100 * sum(branches.values()) / max(1, len(branches)), 100 * hit / max(1, total)


def explained(path: Path, name: str) -> dict[str, str]:
    """Why faults of an engine that survive change nothing that can be seen, by their text."""
    return json.loads(path.read_text()).get(name, {}) if path.exists() else {}


def write_record(name: str, verdicts: Sequence[Verdict], percents: tuple[float | None, float | None], *,
                 why: Mapping[str, str], seed: int, folder: Path | None = None) -> dict[str, Any]:
    """Write ``build/coverage/NAME.json``, which the report shows; returns what it says."""
    survivors = [str(verdict.fault) for verdict in verdicts if not verdict.caught]
    record = {
        "engine": name, "line_percent": percents[0], "toggle_percent": percents[1],
        "mutants": {"made": len(verdicts), "caught": len(verdicts) - len(survivors),
                    "explained": sum(text in why for text in survivors)} if verdicts else None,
        "survivors": [{"fault": text, "why": why.get(text)} for text in survivors],
        "seed": seed, "command": f"python -m rackgate_tb.quality {name} --faults {len(verdicts)} --seed {seed}",
        "why": "" if percents[0] is not None else "not asked for",
    }
    folder = folder or build_root() / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    return record
