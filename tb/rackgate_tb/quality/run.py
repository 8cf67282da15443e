# SPDX-License-Identifier: Apache-2.0
"""Plant faults in an engine, run its regression with each, and say which were caught.

The regression is that of the whole engine in the native simulation: benches of single blocks run on Amaranth's
simulator, which has no Verilog to put a fault into. So a fault that a block's own bench would catch can survive here.
"""

import dataclasses
import json
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackgate.paths import build_root
from rackgate_host.bench.record import commit
from rackgate_sim.native import Coverage

from .faults import VARIABLE, Fault, choose, find
from .plugin import SETTING

__all__ = ["ENGINES", "Engine", "QualityError", "Verdict", "coverage", "explained", "mutate", "stable",
           "write_record"]

# An exception of the simulation or of a driver that says what it waited for.
_WAITED = re.compile(r": [\w.]*Timeout\w*: ")


class QualityError(Exception):
    """The regression does not pass without a fault, so nothing can be said of it with one."""


@dataclass(frozen=True)
class Engine:
    """The name that an engine's models are built by, and the tests of it: paths, and options of pytest.

    No faults are planted in the instance ``apart`` and what is in it: it is an engine that is measured by itself.
    """

    model: str
    tests: tuple[str, ...]
    apart: str = ""

    def owns(self, fault: Fault) -> bool:
        """Whether a fault is in what is measured here."""
        return not self.apart or fault.module != self.apart and not fault.module.startswith(f"{self.apart}.")


ENGINES: Mapping[str, Engine] = {
    "inflate": Engine("inflate", ("tests/cosim/test_inflate_gateware.py",)),
    "iaa": Engine("iaa", ("tests/cosim/test_iaa_gateware.py", "tests/cosim/test_iaa_resume_gateware.py",
                          "tests/cosim/test_iaa_traffic.py"), apart=r"\iaa.engine_0.inflate"),
    "fisslock": Engine("core_fisslock_hardened_18", ("tests/cosim/test_fisslock_hardened_core.py",
                                                     "-k", "hot_locks and 18")),
    "netlock": Engine("core_netlock", ("tests/cosim/test_netlock_core.py", "-k", "hot_locks")),
    # Without tests of many ranks, which take long: with a fault that survives all are run.
    "collective": Engine("collective", ("tests/host/test_collective_gateware.py", "tests/host/test_collective_order.py",
                                        *(f"tests/host/test_collective_defects.py::test_{name}" for name in (
                                            "129_bcast_from_the_last_rank_in_several_segments",
                                            "ranks_with_buffers_in_different_memories",
                                            "nothing_is_written_beside_the_buffers",
                                            "more_messages_under_way_than_any_queue_holds",
                                            "calls_that_interleave_do_not_take_each_others_completions",
                                            "two_communicators_with_equal_ranks_and_tags_at_a_time")),
                                        "-k", "gateware or sim")),
    "zeronic": Engine("zeronic", ("tests/cosim/test_zeronic_differential.py", "tests/cosim/test_zeronic_races.py",
                                  "-k", "not in_the_model")),
}


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: ``caught``, and by what in a few words.

    ``timed_out``: by a test that waited in vain for the device, or that was ended as too slow. ``seconds`` of processor
    time were spent.
    """

    fault: Fault
    caught: bool
    by: str
    timed_out: bool = False
    seconds: float = 0.0


def _pytest(engine: Engine, root: Path, setting: Mapping[str, Any], folder: Path,
            watch: Callable[[], None] = lambda: None) -> tuple[bool, str]:
    """Whether pytest was content, and the first test that was not."""
    place = folder / "setting.json"
    place.write_text(json.dumps({"engine": engine.model, **setting}))
    environment = dict(os.environ, **{SETTING: str(place), VARIABLE: "0"})
    command = [sys.executable, "-m", "pytest", "-p", "rackgate_tb.quality.plugin", "-p", "no:cacheprovider", "-n0",
               "--timeout=0", "-x", "-q", "-m", "not soak", *engine.tests]
    log = folder / "pytest.log"
    with log.open("w") as output, subprocess.Popen(command, cwd=root, env=environment, stdout=output,
                                                   stderr=subprocess.STDOUT) as running:
        while True:
            try:
                code = running.wait(1.0)
                break
            except subprocess.TimeoutExpired:
                watch()
    watch()
    said = log.read_text(errors="replace")
    named = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return code == 0, "" if code == 0 else named[0] if named else said.strip()[-300:]


def mutate(engine: Engine, *, root: Path, count: int, seed: int, folder: Path, budget: float = math.inf,
           report: Callable[[str], None] = lambda line: None) -> list[Verdict]:
    """Plant ``count`` faults, drawn by ``seed``, and run the tests with each.

    Without what the ``budget`` of processor seconds does not reach: then there are fewer verdicts.

    Raises
    ------
    QualityError
        The tests do not pass with the faults asleep, or build no such engine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    verilog, file = folder / "engine.sv", folder / "verdicts.jsonl"
    for old in (verilog, file):
        old.unlink(missing_ok=True)
    report("writing Verilog")
    passed, by = _pytest(engine, root, {"record": str(verilog)}, folder)
    if not passed:
        raise QualityError(f"the tests do not pass without a fault: {by}")
    if not verilog.exists():
        raise QualityError(f"the tests build no model named {engine.model}")
    faults = choose([fault for fault in find(verilog.read_text()) if engine.owns(fault)], count, seed)
    setting = {"faults": [dataclasses.asdict(fault) for fault in faults], "verdicts": str(file),
               "budget": budget}

    def told() -> list[dict[str, Any]]:
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def watch() -> None:
        if known := told():
            report(f"{len(known) - 1} of {len(faults)} faults, {sum(one['caught'] for one in known[1:])} caught")

    report(f"the regression with {len(faults)} faults asleep")
    passed, by = _pytest(engine, root, setting, folder, watch)
    found = told()
    if not passed or not found or found[0]["caught"]:
        raise QualityError(f"the tests do not pass with all faults asleep: {found[0]['by'] if found else by}")
    return [Verdict(fault, one["caught"], one["by"], one["timed_out"] or bool(_WAITED.search(one["by"])),
                    one["seconds"])
            for fault, one in zip(faults, found[1:], strict=budget == math.inf)]


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
    passed, by = _pytest(engine, root, {"coverage": str(folder)}, folder)
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
    """Why faults of an engine that survive change nothing that can be seen, by their :func:`stable` text."""
    known = json.loads(path.read_text()).get(name, {}) if path.exists() else {}
    return {stable(text): why for text, why in known.items()}


def stable(text: str) -> str:
    """A fault's text without the numbers that end names in Verilog: any other part of a design may change them."""
    return re.sub(r"\$\d+", "$", text)


def write_record(name: str, verdicts: Sequence[Verdict], percents: tuple[float | None, float | None], *,
                 why: Mapping[str, str], seed: int, folder: Path | None = None) -> dict[str, Any]:
    """Write ``build/coverage/NAME.json``, which the report shows; returns what it says.

    Without verdicts, or without percents, that half stays as the record has it, if it is of the same commit.
    """
    place = (folder or build_root() / "coverage") / f"{name}.json"
    now, record = commit() or "", _empty(name)
    if place.exists() and (before := json.loads(place.read_text())).get("commit") == now:
        record |= before
    if verdicts:
        survivors = [str(verdict.fault) for verdict in verdicts if not verdict.caught]
        record |= {
            "mutants": {"made": len(verdicts), "caught": len(verdicts) - len(survivors),
                        "timed_out": sum(verdict.timed_out for verdict in verdicts),
                        "explained": sum(stable(text) in why for text in survivors)},
            "survivors": [{"fault": text, "why": why.get(stable(text))} for text in survivors],
            "processor_seconds": round(sum(verdict.seconds for verdict in verdicts)),
            "seed": seed, "command": f"python -m rackgate_tb.quality {name} --faults {len(verdicts)} --seed {seed}",
        }
    if percents[0] is not None:
        record |= {"line_percent": percents[0], "toggle_percent": percents[1], "why": ""}
    record["commit"] = now
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(record, indent=2) + "\n")
    return record


def _empty(name: str) -> dict[str, Any]:
    """A record of nothing."""
    return {"engine": name, "line_percent": None, "toggle_percent": None, "mutants": None, "survivors": [],
            "processor_seconds": 0, "seed": None, "command": f"python -m rackgate_tb.quality {name}",
            "why": "not measured", "commit": ""}
