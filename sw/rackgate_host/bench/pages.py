# SPDX-License-Identifier: Apache-2.0
"""Real data to inflate: memory pages of a working process, and a tar of what lies on the machine.

``python -m rackgate_host.bench.pages SEED COUNT`` is that process: it works with NumPy, JSON and SQLite for a moment,
then writes COUNT of its anonymous pages and COUNT of its libraries' code pages to standard output.
"""

import io
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import Unavailable

__all__ = ["PAGE", "process_pages", "tar"]

PAGE = 4096
_MAPPING = re.compile(r"(\w+)-(\w+) (\S{4}) \w+ \S+ (\d+) *(.*)")


def process_pages(seed: int, count: int) -> tuple[list[bytes], list[bytes]]:
    """``count`` anonymous pages and ``count`` library code pages of a fresh process, none of them all zero.

    Which pages follows from ``seed``; their content is the process's own, and addresses in it differ from run to run.

    Raises
    ------
    Unavailable
        If the system does not let a process read its own memory.
    """
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), PYTHONHASHSEED="0")
    command = [sys.executable, "-m", __name__, str(seed), str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    if done.returncode or len(done.stdout) != 2 * count * PAGE:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"pages of a process need /proc/self/mem: {reason[-1] if reason else 'too few pages'}")
    pages = [done.stdout[start:start + PAGE] for start in range(0, len(done.stdout), PAGE)]
    return pages[:count], pages[count:]


def tar(size: int) -> bytes:
    """A tar of about ``size`` bytes: half Python sources, half programs and libraries of this machine, by name."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    programs = [path for path in (Path(sys.executable).resolve(), *sorted(Path("/usr/bin").glob("*")))
                if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for files, end in ((sources, size // 2), (programs, size)):
            for path in files:
                content = path.read_bytes()[:max(0, end - buffer.tell())]
                if buffer.tell() < end:
                    entry = tarfile.TarInfo(path.name)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _work(seed: int) -> list[object]:
    """Objects, arrays, text and a database, so that the heap holds what heaps hold."""
    rng = random.Random(seed)
    rows = [{"id": number, "name": f"user{rng.randrange(10**6)}", "score": rng.random(), "tags": ["a", str(number)]}
            for number in range(20_000)]
    text = json.dumps(rows)
    database = sqlite3.connect(":memory:")
    database.execute("create table t (id integer primary key, name text, score real)")
    database.executemany("insert into t values (:id, :name, :score)", rows)
    array = np.random.default_rng(seed).normal(size=200_000).round(2)
    return [rows, text, json.loads(text), database, array, np.sort(array), np.arange(300_000)]


def _mappings() -> Iterator[tuple[int, int, str]]:
    """Start, end and kind ("anon" or "code") of this process's mappings of interest."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if match := _MAPPING.match(line):
            start, end, access, inode, name = match.groups()
            if access == "rw-p" and inode == "0" and name in ("", "[heap]"):
                yield int(start, 16), int(end, 16), "anon"
            elif access == "r-xp" and ".so" in name:
                yield int(start, 16), int(end, 16), "code"


def _sample(kind: str, seed: int, count: int) -> list[bytes]:
    addresses = [address for start, end, own in _mappings() if own == kind for address in range(start, end, PAGE)]
    random.Random(seed).shuffle(addresses)
    pages: list[bytes] = []
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for address in addresses:
            if len(pages) == count:
                break
            memory.seek(address)
            page = memory.read(PAGE)
            if any(page):
                pages.append(page)
    return pages


def _main() -> None:
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    kept = _work(seed)
    for kind in ("anon", "code"):
        for page in _sample(kind, seed, count):
            sys.stdout.buffer.write(page)
    assert kept


if __name__ == "__main__":
    _main()
