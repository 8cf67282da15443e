# SPDX-License-Identifier: Apache-2.0
"""The sockets shim: a library in C that programs load (LD_PRELOAD), compiled when it is first needed.

What it does stands in ``shim.h``. It is made from this folder's sources and from the layout in
:mod:`rackgate_host.zeronic.shared`, and kept in the cache under a hash of both and of the compiler.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rackgate.paths import cache_root

from ...errors import Unavailable
from ..shared import c_header

__all__ = ["compile_command", "library"]

_SOURCES = Path(__file__).parent
_NAME = "librackgate_zeronic.so"
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread", "-Wall",
          "-Wextra", "-Werror", "-Wl,-z,now", "-Wl,-z,relro")


def _compiler() -> str:
    names = [named] if (named := os.environ.get("RACKGATE_CC")) else ["gcc", "cc"]
    for name in names:
        if path := shutil.which(name):
            return path
    raise Unavailable(f"the sockets shim needs a C compiler, and {' or '.join(names)} is missing: "
                      "sudo apt-get install gcc libc6-dev")


def compile_command(compiler: str, headers: Path, target: Path, flags: Sequence[str] = _FLAGS) -> list[str]:
    """The command that makes ``target`` from the sources; ``headers`` is the folder with ``shared.h``."""
    files = [str(file) for file in sorted(_SOURCES.glob("*.c"))]
    return [compiler, *flags, f"-I{headers}", f"-I{_SOURCES}", *files, "-o", str(target), "-ldl"]


def library() -> Path:
    """The shared library, made now if the cache has none.

    Raises
    ------
    Unavailable
        There is no C compiler or it fails, or this is not Linux; the text says what to do.
    """
    if platform.system() != "Linux":
        raise Unavailable(f"the sockets shim is for Linux, not {platform.system()}")
    compiler = _compiler()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.splitlines()[:1]
    digest = hashlib.sha256(repr((version, _FLAGS, platform.machine(), c_header())).encode())
    for file in sorted([*_SOURCES.glob("*.c"), *_SOURCES.glob("*.h")]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    folder = cache_root() / "zeronic"
    place = folder / digest.hexdigest()[:32] / _NAME
    if place.exists():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="new-") as scratch:
        made = Path(scratch)
        (made / "shared.h").write_text(c_header())
        done = subprocess.run(compile_command(compiler, made, made / _NAME), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise Unavailable(f"{Path(compiler).name} cannot compile the sockets shim (are the headers of the C "
                              f"library and of Linux there? sudo apt-get install libc6-dev):\n{done.stdout[-3000:]}")
        place.parent.mkdir(exist_ok=True)
        # Whole or not at all; who comes second replaces it by the same.
        (made / _NAME).replace(place)
    return place
