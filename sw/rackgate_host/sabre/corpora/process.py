# SPDX-License-Identifier: Apache-2.0
"""Memory of a process that runs one function: contents to fall back to where no microVM can be had.

Its anonymous memory and the code of its libraries stand for a guest's; a guest's kernel and free memory are missing.
Linux only: reads /proc/self/maps and /proc/self/mem.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import Unavailable
from ..userfault import PAGE
from . import functions

__all__ = ["capture_process", "main"]

_START = "from rackgate_host.sabre.corpora.process import main; main()"
_NO_RANDOMIZE = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)
_AGAIN = "RACKGATE_CORPUS_LAID_OUT"
_PIECE = 1 << 20


def capture_process(name: str, seed: int = 1) -> tuple[np.ndarray, np.ndarray, str]:
    """Pages of a new process after a request, a letter a page (a: anonymous, f: file), and the function's result.

    Addresses and hashes are the same in each run where the system allows, so that contents differ little. Raises
    :class:`~rackgate_host.errors.Unavailable` if a process's memory cannot be read here.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"}
    environment.pop(_AGAIN, None)
    child = subprocess.run([sys.executable, "-c", _START, name, str(seed)], env=environment, capture_output=True,
                           check=False, timeout=300)
    if child.returncode:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise Unavailable(f"there is no memory of {name}: {last[0]}")
    head, _, data = child.stdout.partition(b"\n")
    result, count = head.decode().rsplit(" ", 1)
    kinds = np.frombuffer(data, np.uint8, int(count))
    return np.frombuffer(data, np.uint8, offset=int(count)).reshape(-1, PAGE), kinds, result


def _regions() -> Iterator[tuple[int, int, int]]:
    """(letter, address, end) of what is mapped."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *name = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in span.split("-"))
        if inode == "0" and rights == "rw-p" and (not name or name[0] == "[heap]" or name[0].startswith("[anon")):
            yield ord("a"), start, end
        elif inode != "0" and rights == "r-xp":
            yield ord("f"), start, end


def _pages() -> Iterator[tuple[int, bytes]]:
    """(letter, page) of all that is mapped and not zero. What is not resident reads as zero and is left out."""
    regions = list(_regions())
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for kind, start, end in regions:
            for address in range(start, end, _PIECE):
                with contextlib.suppress(OSError):  # unmapped meanwhile
                    memory.seek(address)
                    chunk = memory.read(min(_PIECE, end - address))
                    for offset in range(0, len(chunk), PAGE):
                        page = chunk[offset:offset + PAGE]
                        if page.strip(b"\0"):
                            yield kind, page


def main() -> None:
    """The started process: arguments are the function and the seed; result, letters and pages go to standard
    output."""
    name, seed = sys.argv[1], int(sys.argv[2])
    if _AGAIN not in os.environ and ctypes.CDLL(None).personality(_NO_RANDOMIZE) >= 0:
        os.execve(sys.executable, [sys.executable, "-c", _START, *sys.argv[1:]], {**os.environ, _AGAIN: "1"})
    functions.run(name, seed)
    held, result = functions.run(name, seed + 1)
    found = list(_pages())
    sys.stdout.buffer.write(f"{result} {len(found)}\n".encode() + bytes(kind for kind, _ in found))
    for _, page in found:
        sys.stdout.buffer.write(page)
    del held
