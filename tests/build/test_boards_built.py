# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Figures of bitstreams that were built: kept with the sources, and told from those of other parameters or gateware."""

import importlib.util
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rackgate.paths import checkout
from rackgate_boards import built, commands
from rackgate_boards.build import Figures, gateware
from rackgate_boards.built import changes, keep, read_record, read_report
from rackgate_boards.flow import BuildError
from rackgate_boards.pairs import DoesNotFit, choose, pairs
from rackgate_host.cli import app

pytestmark = pytest.mark.build


@pytest.fixture
def pair():
    return choose("ulx3s", "echo")


@pytest.fixture
def figures(pair):
    """As a build of now would leave them."""
    identity = gateware(pair).identity
    return Figures(
        board=pair.board.name, system=pair.system, link="uart", mac="", address="", parameters={}, memory=pair.memory,
        device="LFE5U-85F-6", clock_mhz=pair.configuration.clock_mhz, fmax_mhz=64.0,
        clocks={"clk": {"achieved_mhz": 64.0, "constraint_mhz": 50}}, lut4=9125, ff=3904, ebr=43, dsp=0,
        available={"lut4": 83640, "ff": 83640, "ebr": 208, "dsp": 156}, seed=1, seconds=2286.0, tools=("yosys 1",),
        build=identity.build.hex(), commit="abc1234", python=built.python_version(), date="2026-11-28T16:00:00+00:00")


@pytest.fixture
def report(tmp_path):
    """Write a report into a folder of reports."""
    def write(figures, name="ulx3s_85-echo"):
        folder = tmp_path / "reports"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(figures if isinstance(figures, dict) else asdict(figures)))
        return folder / f"{name}.json"

    return write


def test_what_is_kept_is_of_pairs_that_there_are():
    """A pair of the file that was renamed or taken away would be a row that nobody sees."""
    names = {pair.name for *_, pair in pairs() if not isinstance(pair, DoesNotFit)}
    assert set(read_record()) <= names


def test_nothing_has_changed(pair, figures):
    assert changes(pair, figures) == ""


@pytest.mark.parametrize(("change", "message"), [
    ({"memory": 16 << 10}, "built with memory 16 KB"), ({"clock_mhz": 37.5}, "built with 37.5 MHz"),
    ({"link": "udp"}, "built with link udp"), ({"device": "LFE5U-45F-6"}, "built with device LFE5U-45F-6"),
    ({"mac": "02:00:00:00:00:05"}, "built with MAC 02:00:00:00:00:05"),
    ({"address": "10.1.2.3"}, "built with address 10.1.2.3"),
    ({"parameters": {"depth": 4}, "memory": 0}, "built with depth 4, memory 0 KB"),
    ({"build": "00" * 32}, "gateware has changed since"),
])
def test_what_has_changed(pair, figures, change, message):
    assert changes(pair, replace(figures, **change)) == message


def test_a_parameter_that_is_new(figures):
    assert changes(choose("ecpix5", "inflate"), figures).startswith("built with contexts not given, lanes not given, ")


def test_hashes_of_another_python_are_not_compared(pair, figures):
    other = replace(figures, build="00" * 32)
    assert changes(pair, replace(other, python="3.99.1")) == ""
    major, minor, _ = built.python_version().split(".")
    assert changes(pair, replace(other, python=f"{major}.{minor}.99")) == "gateware has changed since"


def test_a_report_takes_the_place_of_an_older_one(tmp_path, figures, report):
    record = tmp_path / "built.json"
    assert read_record(record) == {}
    assert keep([report(figures)], record) == {"ulx3s_85-echo": figures} == read_record(record)
    older, newer = (replace(figures, date=f"2026-11-{day}T00:00:00+00:00", lut4=day) for day in (27, 29))
    assert keep([report(older)], record) == {} and read_record(record) == {"ulx3s_85-echo": figures}
    other = replace(figures, board="ecpix5_85", link="udp")
    assert set(keep([report(newer), report(other, "other")], record)) == {"ulx3s_85-echo", "ecpix5_85-echo-udp"}
    assert list(read_record(record)) == ["ecpix5_85-echo-udp", "ulx3s_85-echo"]
    assert read_record(record)["ulx3s_85-echo"] == newer


@pytest.mark.parametrize(("change", "message"), [
    ({"commit": None}, "figures must have commit: build it again"), ({"more": 1}, "figures must not have more"),
    ({"board": "nexys"}, "board must be one of"), ({"system": "deflate"}, "system must be one of"),
])
def test_a_report_that_is_wrong(tmp_path, figures, report, change, message):
    wrong = {name: value for name, value in {**asdict(figures), **change}.items() if value is not None}
    with pytest.raises(BuildError, match=f"ulx3s_85-echo.json: {message}"):
        keep([report(figures, "good"), report(wrong)], tmp_path / "built.json")
    assert not (tmp_path / "built.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_report_that_is_none(tmp_path, text):
    path = tmp_path / "x.json"
    with pytest.raises(BuildError, match="x.json"):
        read_report(path)
    path.write_text(text)
    with pytest.raises(BuildError, match="x.json"):
        read_report(path)


def test_a_pair_that_fits_no_more_is_read(figures, report):
    once = replace(figures, board="colorlight_5a75b", system="iaa")
    assert read_report(report(once)) == once


def test_figures_are_kept_in_a_checkout(monkeypatch, figures, report):
    monkeypatch.setattr(built, "checkout", lambda: None)
    with pytest.raises(BuildError, match="work in a checkout"):
        keep([report(figures)])


def test_command(tmp_path, monkeypatch, figures, report):
    monkeypatch.setattr(commands, "keep", lambda reports: keep(reports, tmp_path / "built.json"))
    folder = str(report(figures).parent)
    run = CliRunner().invoke
    done = run(app, ["board", "record", folder, "--json"])
    assert json.loads(done.stdout)["kept"] == [{**asdict(figures), "tools": ["yosys 1"]}]
    assert run(app, ["board", "record", folder]).stdout == "nothing is newer than what is kept\n"
    report(replace(figures, date="2027-01-01T00:00:00+00:00"))
    said = run(app, ["board", "record", folder]).stdout
    assert said == "ulx3s_85 echo: 64.0 MHz, 9125 LUT4, 43 block RAMs, as of abc1234\n"
    nothing = run(app, ["board", "record", str(tmp_path / "empty")])
    assert nothing.exit_code == 1 and f"there is no report in {tmp_path / 'empty'}" in str(nothing.exception)


def test_listing(tmp_path, monkeypatch, figures, report):
    """What was built here comes before what is kept; what is wrong here does not count."""
    folder = report({"wrong": 1}).parent
    monkeypatch.setattr(commands, "report_path", lambda name: folder / f"{name}.json")
    monkeypatch.setattr(commands, "read_record", lambda: {"ulx3s_85-echo": replace(figures, lut4=1, memory=0)})

    def row():
        return next(row for row in commands.listing() if (row["board"], row["system"]) == ("ulx3s_85", "echo"))

    assert (row()["figures"]["lut4"], row()["changes"]) == (1, "built with memory 0 KB")
    report(figures)
    assert (row()["figures"]["lut4"], row()["changes"]) == (9125, "")


def test_list(monkeypatch, figures):
    """The table is as wide as a terminal; below it stands what its figures are of."""
    state = {}
    monkeypatch.setattr(commands, "report_path", lambda name: Path("/nowhere") / name)
    monkeypatch.setattr(commands, "read_record", lambda: state)

    def run():
        return CliRunner().invoke(app, ["board", "list"], env={"COLUMNS": "80"}).stdout

    first = run()
    assert "not built yet: colorlight_5a75b echo, " in first and "as of" not in first
    state["ulx3s_85-echo"] = replace(figures, memory=16 << 10)
    text = run()
    assert re.search(r"ulx3s_85 +echo +uart +64K +50 +64\.0 +9125 +43", text)
    assert "\n  as of abc1234, built with memory 16 KB: ulx3s_85 echo\n" in text
    state["ulx3s_85-echo"] = figures
    assert "\n  as of abc1234: ulx3s_85 echo\n" in run()


def test_the_manual_tells_what_is_measured_from_what_is_not(monkeypatch, pair, figures):
    spec = importlib.util.spec_from_file_location("hooks", checkout() / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)

    def row(record):
        monkeypatch.setattr(hooks, "read_record", lambda: record)
        lines = hooks.on_page_markdown("<!-- table: board-pairs -->").splitlines()
        return next(line for line in lines if line.startswith("| `ulx3s_85` | `echo` |"))

    assert row({}) == "| `ulx3s_85` | `echo` | memory 64 KB | 50 | not built yet |  |  |  |  |"
    known = "| `ulx3s_85` | `echo` | memory 64 KB | 50 | 64.0 | 9,125 (11%) | 43 (21%) | 2,286 | `abc1234`, 2026-11-28"
    assert row({pair.name: figures}) == f"{known} |"
    assert row({pair.name: replace(figures, build="00" * 32)}) == f"{known}: gateware has changed since |"
