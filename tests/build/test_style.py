# SPDX-License-Identifier: Apache-2.0
"""What holds for every file: lint, types, the architecture's arrows, headers, public names."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
ROOTS = {"rackgate": "hw", "rackgate_sim": "sim", "rackgate_host": "sw", "rackgate_tb": "tb",
         "rackgate_boards": "boards"}
PYTHON = sorted(path for folder in (*ROOTS.values(), "tests", "cores") for path in (TOP / folder).rglob("*.py"))
MODULES = [path for path in PYTHON if path.relative_to(TOP).parts[0] in ROOTS.values()]
SPDX = "# SPDX-License-Identifier: Apache-2.0"
# Benches run inside a simulator that cocotb has started.
INSIDE_A_SIMULATOR = re.compile(r"rackgate_tb\.bench_")

pytestmark = pytest.mark.build


def run(*command, top=TOP, code=0):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(str(top / folder) for folder in ROOTS.values()))
    done = subprocess.run([str(word) for word in command], cwd=top, env=environment, capture_output=True, text=True,
                          timeout=550)  # a minute, but for a machine that builds models meanwhile
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def relative(path):
    return str(path.relative_to(TOP))


def test_there_is_something_to_check():
    assert len(PYTHON) > 20
    assert {path.relative_to(TOP).parts[0] for path in PYTHON} >= {*ROOTS.values(), "tests"}


def test_lint():
    run(sys.executable, "-m", "ruff", "check")


def test_types():
    run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable)


# import-linter has no `python -m`; this is what its command calls.
ARROWS = (sys.executable, "-c", "from importlinter.cli import lint_imports_command as go; go()", "--no-cache")


def test_architecture_arrows():
    run(*ARROWS)


@pytest.mark.parametrize(("path", "statement", "contract"), [
    ("hw/rackgate/export.py", "import rackgate_sim", "gateware knows of no host"),
    ("sim/rackgate_sim/__init__.py", "import rackgate_host.url", "models and the native simulation"),
    ("sw/rackgate_host/url.py", "import rackgate.stream.packet", "the host reads contracts"),
    ("sw/rackgate_host/url.py", "import rackgate_sim", "the host reads contracts"),
    ("hw/rackgate/inflate/abi.py", "import amaranth", "contracts are plain Python"),
    ("boards/rackgate_boards/__init__.py", "import rackgate_sim", "boards take gateware only"),
])
def test_a_wrong_arrow_is_found(tmp_path, path, statement, contract):
    for folder in ROOTS.values():
        shutil.copytree(TOP / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    wrong = tmp_path / path
    wrong.write_text(f"{wrong.read_text()}\n{statement}\n")
    report = run(*ARROWS, top=tmp_path, code=1)
    assert re.search(rf"{contract}.* BROKEN", report), report


def test_public_names_resolve():
    wrong = []
    for path in MODULES:
        parts = path.relative_to(TOP).with_suffix("").parts[1:]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if INSIDE_A_SIMULATOR.match(name):
            continue
        module = importlib.import_module(name)
        if path.name != "__init__.py" and not hasattr(module, "__all__"):
            wrong.append(f"{name} has no __all__")
        wrong += [f"{name}.{public}" for public in getattr(module, "__all__", ()) if not hasattr(module, public)]
    assert not wrong


def test_headers():
    wrong = [relative(path) for path in PYTHON if SPDX not in path.read_text().splitlines()[:3]]
    assert not wrong, f"no SPDX line on top of {wrong}"


def test_no_future_imports():
    wrong = [relative(path) for path in PYTHON for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert not wrong, f"annotations of the future make data.Struct zero bits wide: {wrong}"


def test_no_lint_is_switched_off_in_place():
    marks = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:\s*ignore|ruff:)")
    found = [f"{relative(path)}:{number}" for path in PYTHON if path != Path(__file__)
             for number, line in enumerate(path.read_text().splitlines(), 1) if marks.search(line)]
    assert not found, f"exceptions belong into pyproject.toml: {found}"


@pytest.mark.parametrize("statement", ["import rackgate_host", "from rackgate_host.cli import app",
                                       "import rackgate_host; rackgate_host.open('model:inflate')"])
def test_host_runs_without_amaranth(statement):
    script = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(sys.executable, "-c", script).splitlines()[-1])
    assert "rackgate_host" in loaded
    for package in ("amaranth", "cocotb", "rackgate_tb", "rackgate_boards"):
        assert package not in loaded, f"`{statement}` loads {package}"
