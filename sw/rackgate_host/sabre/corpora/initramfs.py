# SPDX-License-Identifier: Apache-2.0
"""An initramfs with a Python interpreter and one program, made of files of this machine; no tool and no root needed.

The archive has the cpio format "newc" that the Linux kernel reads (Documentation/driver-api/early-userspace).
Everything in it follows from the files: the same files give the same archive.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import Unavailable

__all__ = ["archive", "python_files"]

_DIRECTORY, _FILE, _LINK, _CHARACTER_DEVICE = 0o40755, 0o100000, 0o120777, 0o20600
_LIST = """
import sys
sys.path.insert(0, {folder!r})
import {modules}
found = {{module.__spec__.origin for module in list(sys.modules.values()) if getattr(module, "__spec__", None)}}
print(sys.base_prefix, sys.version_info[0], sys.version_info[1], sys.executable, sep="\\n")
print(*sorted(path for path in found if path and path.startswith("/")), sep="\\n")
"""


def _entry(name: str, mode: int, data: bytes = b"", number: int = 0, device: tuple[int, int] = (0, 0)) -> bytes:
    """One file of the archive."""
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def archive(files: Iterable[tuple[str, bytes, int]], links: Iterable[tuple[str, str]] = ()) -> bytes:
    """The archive of ``files``, each (path from the root, content, permissions), and of ``links``, (path, target); a
    console is always in it."""
    entries: dict[str, tuple[int, bytes, tuple[int, int]]] = {}

    def folders(path: str) -> None:
        parts = path.split("/")[:-1]
        for end in range(1, len(parts) + 1):
            entries.setdefault("/".join(parts[:end]), (_DIRECTORY, b"", (0, 0)))

    for path, content, rights in files:
        folders(path)
        entries[path] = _FILE | rights, content, (0, 0)
    for path, target in links:
        folders(path)
        entries[path] = _LINK, target.encode(), (0, 0)
    folders("dev/console")
    entries["dev/console"] = _CHARACTER_DEVICE, b"", (5, 1)
    made = b"".join(_entry(path, mode, data, number, device) for number, (path, (mode, data, device)) in enumerate(
        sorted(entries.items()), 1))  # a folder's name sorts before what is in it
    return made + _entry("TRAILER!!!", 0)


def _libraries(paths: Iterable[str]) -> Iterator[str]:
    """What the loader loads for programs and libraries, with the loader itself."""
    for path in paths:
        done = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
        yield from re.findall(r"(/\S+) \(0x", done.stdout)


def python_files(folder: Path, modules: Iterable[str]) -> tuple[list[tuple[str, bytes, int]], str]:
    """This machine's Python with what ``modules``, which lie in ``folder``, import: files for :func:`archive`, and
    the interpreter's path. Raises :class:`~rackgate_host.errors.Unavailable` if there is no such interpreter."""
    interpreter = os.path.realpath(sys.executable)
    script = _LIST.format(folder=str(folder), modules=", ".join(("encodings.ascii", "encodings.utf_8", *modules)))
    done = subprocess.run([interpreter, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise Unavailable(f"{interpreter} cannot be put into a guest: {last[0]}")
    prefix, major, minor, _, *found = done.stdout.splitlines()
    library = Path(prefix) / "lib" / f"python{major}.{minor}"
    own = [path for path in found if not path.startswith(str(folder))]
    paths = {interpreter, str(library / "os.py"), *own}
    binaries = [path for path in paths if path == interpreter or ".so" in Path(path).name]
    paths.update(_libraries(binaries))
    files = [(path.lstrip("/"), Path(path).read_bytes(), 0o755 if path in binaries or ".so" in path else 0o644)
             for path in sorted(paths)]
    return files, interpreter
