# SPDX-License-Identifier: Apache-2.0
"""The FuseSoC cores parse, and the generators make Verilog that Verilator reads, and projects of boards."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from amaranth_boards.arty_a7 import ArtyA7_100Platform

from rackgate_boards import arty
from rackgate_boards.boards import BOARDS
from rackgate_boards.build import nextpnr_options
from rackgate_boards.cores import sources
from rackgate_boards.pairs import DoesNotFit, pairs

TOP = Path(__file__).parents[2]
CORES = sorted((TOP / "cores").glob("*.core"))
FUSESOC = Path(sys.prefix) / "bin" / "fusesoc"

pytestmark = pytest.mark.build


@pytest.fixture
def fusesoc(tmp_path):
    """FuseSoC with a configuration, cache and home of its own."""
    roots = os.pathsep.join(str(TOP / folder) for folder in ("hw", "sim", "sw", "tb", "boards"))
    path = os.pathsep.join((str(FUSESOC.parent), os.environ["PATH"]))
    home = str(tmp_path)
    environment = {"PATH": path, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "PYTHONPATH": roots,
                   "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments, code=0):
        done = subprocess.run([FUSESOC, "--cores-root", TOP / "cores", *arguments], cwd=tmp_path, env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500)
        assert done.returncode == code, done.stdout
        return done.stdout

    return run


def vlnv(core):
    return re.search(r'^name: "(.*)"$', core.read_text(), re.MULTILINE)[1]


def test_all_cores_parse(fusesoc):
    assert len(CORES) >= 3
    listed = fusesoc("core", "list")  # a core with an error is left out of it
    for core in CORES:
        assert core.read_text().startswith("CAPI=2:\n# SPDX-License-Identifier: Apache-2.0\n")
        assert vlnv(core) in listed


def test_versions_agree():
    version = re.search(r'^version = "(.*)"$', (TOP / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert {vlnv(core).rpartition(":")[2] for core in CORES} == {version}


@pytest.mark.parametrize("device", [
    "inflate", "iaa", "balancer", "collective", pytest.param("fisslock", marks=pytest.mark.thorough),
    pytest.param("zeronic", marks=pytest.mark.thorough), pytest.param("netlock", marks=pytest.mark.soak),
])
def test_generate_and_lint(fusesoc, tmp_path, device):
    fusesoc("run", "--target", "lint", f"rackgate:{device}:{device}")
    made = list(tmp_path.rglob(f"rackgate_{device}.sv"))
    assert made
    text = made[0].read_text()
    assert f"module rackgate_{device}(" in text
    assert "csr__aw__payload" in text


def test_a_bad_request_fails(fusesoc, tmp_path):
    core = tmp_path / "bad.core"
    core.write_text("""CAPI=2:
name: "x:x:bad:0"
filesets: {generators: {depend: ["rackgate:generators:amaranth"]}}
generate:
  device: {generator: amaranth, parameters: {component: "rackgate.stream.packet:NoSuchThing", top: bad}}
targets:
  default: {filesets: [generators], generate: [device], toplevel: bad, flow: lint, flow_options: {tool: verilator}}
""")
    output = fusesoc("--cores-root", tmp_path, "run", "--target", "default", "x:x:bad", code=1)
    assert "NoSuchThing" in output


def core_of(board):
    return yaml.safe_load((TOP / "cores" / f"{board}.core").read_text().partition("\n")[2])


def test_each_engine_and_board_has_a_core():
    """And each board's core a target for each system that fits, with the nextpnr options of our own build."""
    assert {"inflate", "iaa", "collective", "zeronic", "fisslock", "netlock", *BOARDS} <= {core.stem for core in CORES}
    for name, board in BOARDS.items():
        core = core_of(name)
        fits = {system for other, system, pair in pairs() if other == name and not isinstance(pair, DoesNotFit)}
        assert set(core["generate"]) == fits and set(core["targets"]) == {"default", "lint", *fits} - {"echo"}
        assert core["targets"]["default"]["flow_options"]["nextpnr_options"] == nextpnr_options(board)
        for target, its in core["targets"].items():
            (made,) = its["generate"]
            assert made == (target if target in fits else "echo")
            assert core["generate"][made]["parameters"] == {"board": name, "system": made}


def test_pins_of_arty():
    """The constraints put each port where amaranth-boards has it."""
    text, platform = (TOP / "constraints" / f"{arty.NAME}.xdc").read_text(), ArtyA7_100Platform()
    pins = dict(reversed(pair) for pair in re.findall(r"PACKAGE_PIN (\w+) .*get_ports (\w+)\]", text))
    uart = {sub.name: sub.ios[0].names[0] for sub in platform.lookup("uart").ios}
    (clock,), (reset,) = (platform.lookup(name).ios[0].names for name in ("clk100", "rst"))
    assert pins == {"clk100": clock, "ck_rst": reset, "uart_txd_in": uart["rx"], "uart_rxd_out": uart["tx"]}
    assert set(pins) == set(arty.ArtyTop.__annotations__) and platform.lookup("rst").ios[0].invert
    assert platform.default_clk_frequency == 100e6 and "-period 10.000 [get_ports clk100]" in text
    assert platform.package in arty.PART


def some(names, quick):
    """All of ``names``, and in the quick suites only what is in ``quick``: a board takes ten seconds."""
    return [pytest.param(name, marks=pytest.mark.thorough if name in quick else pytest.mark.soak) for name in names]


@pytest.mark.parametrize("board", some([*BOARDS, arty.NAME], ["colorlight_5a75b", arty.NAME]))
def test_lint_of_boards(fusesoc, tmp_path, board):
    fusesoc("run", "--target", "lint", f"rackgate:boards:{board}")
    made = next(tmp_path.rglob("top.sv")).read_text()
    assert ("PLLE2_BASE" if board == arty.NAME else "EHXPLLL") in made
    assert "assert" not in made and "$write" not in made


@pytest.mark.parametrize("board", some([*BOARDS, arty.NAME], [arty.NAME]))
def test_projects_of_boards(fusesoc, tmp_path, board):
    """What FuseSoC sets up has the sources, the constraints and the device."""
    fusesoc("run", "--setup", "--target", "default", f"rackgate:boards:{board}")
    is_arty = board == arty.NAME
    text = "".join(path.read_text() for path in tmp_path.rglob("*.tcl" if is_arty else "Makefile"))
    wanted = [arty.PART, "top.xdc"] if is_arty else [*nextpnr_options(BOARDS[board]), "top.lpf"]
    assert all(word in text for word in wanted)
    assert "top.sv" in text or not is_arty


@pytest.mark.parametrize(("board", "system", "error", "message"), [
    ("nexys", "echo", ValueError, "board must be one of"), ("ulx3s_85", "fisslock", DoesNotFit, "has no Ethernet"),
    (arty.NAME, "deflate", ValueError, "system must be one of"),
])
def test_boards_that_cannot_be(board, system, error, message):
    with pytest.raises(error, match=message):
        sources(board, system)
