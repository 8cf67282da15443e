# SPDX-License-Identifier: Apache-2.0
"""The wheel holds what an installation needs; the lock holds what the bounds allow."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

TOP = Path(__file__).parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())

pytestmark = pytest.mark.build


def locked():
    lines = (TOP / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def requirements():
    project = PROJECT["project"]
    for text in (*project["dependencies"], *sum(project["optional-dependencies"].values(), [])):
        requirement = Requirement(text)
        if requirement.name != "rackgate":
            yield requirement


def test_wheel(tmp_path):
    script = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", script, tmp_path]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        names = set(wheel.namelist())
        entry_points = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "rackgate = rackgate_host.cli:main" in entry_points
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"rackgate", "rackgate_boards", "rackgate_host", "rackgate_sim", "rackgate_tb"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    # A device is compiled where the wheel is installed, so the harness must be in it.
    for path in (TOP / "sim" / "rackgate_sim" / "native" / "harness").iterdir():
        assert f"rackgate_sim/native/harness/{path.name}" in names
    # So is the sockets shim.
    for path in (TOP / "sw" / "rackgate_host" / "zeronic" / "shim").glob("*.[ch]"):
        assert f"rackgate_host/zeronic/shim/{path.name}" in names


def test_lock_is_exact():
    lines = [line for line in (TOP / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)]


def test_lock_is_within_the_bounds():
    versions = {canonicalize_name(name): version for name, version in locked().items()}
    for requirement in requirements():
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.lock: make lock"
        assert requirement.specifier.contains(version), f"{requirement} does not allow the locked {version}: make lock"


def test_dependencies_have_bounds_and_reasons():
    for requirement in requirements():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert {">=", "<"} <= operators, f"{requirement} has not both bounds"
        assert not requirement.url
        lowest = next(Version(each.version) for each in requirement.specifier if each.operator == ">=")
        assert requirement.specifier.contains(lowest)
    text = (TOP / "pyproject.toml").read_text()
    lists = re.findall(r'^    "(?!rackgate\[)[a-zA-Z0-9_-]+>=.*$', text, re.MULTILINE)
    assert len(lists) == len(list(requirements()))
    assert not [line for line in re.findall(r'^    "[a-z0-9-]+[><=].*$', text, re.MULTILINE) if "  # " not in line]
