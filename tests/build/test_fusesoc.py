# SPDX-License-Identifier: Apache-2.0
"""The FuseSoC cores parse, and the generator makes Verilog that Verilator reads."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    listed = fusesoc("core", "list")
    for core in CORES:
        assert core.read_text().startswith("CAPI=2:\n# SPDX-License-Identifier: Apache-2.0\n")
        assert vlnv(core) in listed
        assert vlnv(core) in fusesoc("core", "show", vlnv(core))


def test_versions_agree():
    version = re.search(r'^version = "(.*)"$', (TOP / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert {vlnv(core).rpartition(":")[2] for core in CORES} == {version}


@pytest.mark.parametrize("device", ["inflate", "iaa", "balancer", "collective"])
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
