# SPDX-License-Identifier: Apache-2.0
"""Real data to measure decompressors on: memory pages of a process, library code, a tar file.

The pages come from a Python process that is started for this and has worked with NumPy, JSON and SQLite. Its
address space is laid out the same each time where the system allows, so pages differ little between
runs; between machines they differ. Linux only: reads /proc/self/mem.

``python -m rackgate_sim.inflate.pages KIND COUNT`` writes them to standard output, KIND being anonymous, code, made, or
tar (COUNT is then in bytes). Made pages are the same on every machine.
"""

import collections
import ctypes
import functools
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

__all__ = ["PAGE_SIZE", "anonymous_pages", "code_pages", "made_pages", "tar_bytes"]

PAGE_SIZE = 4096
_CHUNK = 256 * PAGE_SIZE
_NO_RANDOMIZE = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)
_AGAIN = "RACKGATE_PAGES_LAID_OUT"


def anonymous_pages(count: int) -> list[bytes]:
    """``count`` anonymous pages that are not all zero, spread evenly over those of the process.

    Raises ``ValueError`` for a count below 1, ``RuntimeError`` if the process has fewer pages.
    """
    return _ask("anonymous", count)


def code_pages(count: int) -> list[bytes]:
    """``count`` pages of executable library code as mapped, spread evenly; errors as :func:`anonymous_pages`."""
    return _ask("code", count)


def made_pages(count: int) -> list[bytes]:
    """``count`` pages that are the same on every machine: words of a skewed distribution, records with numbers that
    count up, and a little noise, in turn."""
    draw = random.Random(PAGE_SIZE)
    words = [bytes(draw.randrange(97, 123) for _ in range(draw.randrange(2, 11))) for _ in range(500)]

    def text() -> bytes:
        return b" ".join(words[int(len(words) * draw.random() ** 3)] for _ in range(PAGE_SIZE // 3))

    def records() -> bytes:
        first = draw.getrandbits(20)
        return b"".join((first + 24 * number).to_bytes(8, "little") + draw.getrandbits(8 * (number % 3)).to_bytes(
            8, "little") for number in range(PAGE_SIZE // 16))

    def noise() -> bytes:
        return draw.randbytes(PAGE_SIZE // 4) + bytes(PAGE_SIZE // 4) + text()[:PAGE_SIZE // 2]

    makers = (text, records, text, noise)
    return [makers[number % len(makers)]()[:PAGE_SIZE] for number in range(count)]


def tar_bytes(size: int = 10_000_000) -> bytes:
    """The first ``size`` bytes of a tar file: in turn a module of Python's library and a program of /usr/bin.

    Raises ``RuntimeError`` if the machine has not so much of both.
    """
    library = Path(sysconfig.get_path("stdlib"))
    texts = sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)
    programs = sorted(path for path in Path("/usr/bin").iterdir() if path.is_file() and not path.is_symlink())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for pair in zip(texts, programs, strict=False):
            for kind, path in zip(("text", "program"), pair, strict=True):
                entry = tarfile.TarInfo(f"{kind}/{path.name}")
                content = path.read_bytes()
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            if buffer.tell() >= size:
                return buffer.getvalue()[:size]
    raise RuntimeError(f"there are no {size} bytes of Python modules and programs on this machine")


@functools.cache
def _ask(kind: str, count: int) -> list[bytes]:
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"}
    environment.pop(_AGAIN, None)
    child = subprocess.run([sys.executable, "-m", __name__, kind, str(count)], env=environment, check=False,
                           capture_output=True)
    if child.returncode:
        raise RuntimeError(f"no pages: {child.stderr.decode(errors='replace').strip().splitlines()[-1]}")
    return [child.stdout[start:start + PAGE_SIZE] for start in range(0, len(child.stdout), PAGE_SIZE)]


def _work() -> list[object]:
    """What a small data service holds in memory: text, its index, records, a database, matrices."""
    words: collections.Counter[str] = collections.Counter()
    records, sources = [], []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:120]:
        source = path.read_text(encoding="utf-8", errors="replace")
        sources.append(compile(source, path.name, "exec"))
        names = re.findall(r"[A-Za-z_]\w+", source)
        words.update(names)
        records += [{"file": path.name, "line": number, "name": name, "score": len(name) / (number + 1)}
                    for number, name in enumerate(names[:400])]
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE names (file TEXT, line INTEGER, name TEXT, score REAL)")
    database.executemany("INSERT INTO names VALUES (:file, :line, :name, :score)", records)
    database.execute("CREATE INDEX by_name ON names (name, line)")
    top = database.execute("SELECT name, COUNT(*) FROM names GROUP BY name ORDER BY 2 DESC").fetchall()
    text = json.dumps(records)
    random = np.random.default_rng(1)
    matrix = random.integers(0, 100, (400, 400)).astype(np.float64)
    scores = np.array([record["score"] for record in records], np.float32)
    return [words, records, sources, database, top, json.loads(text), text, matrix @ matrix.T, np.sort(scores),
            np.cumsum(scores), np.arange(200_000, dtype=np.int32)]


def _regions(kind: str) -> Iterator[tuple[int, int]]:
    """Address ranges of the own process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *name = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in span.split("-"))
        anonymous = inode == "0" and (not name or name[0] == "[heap]" or name[0].startswith("[anon"))
        if (kind == "anonymous" and anonymous and rights == "rw-p") or (
                kind == "code" and inode != "0" and rights == "r-xp"):
            yield start, end


def _pages(kind: str) -> Iterator[bytes]:
    """Pages that are not all zero, in the order of their addresses. What is not resident reads as zero."""
    regions = list(_regions(kind))
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for start, end in regions:
            for address in range(start, end, _CHUNK):
                memory.seek(address)
                try:
                    chunk = memory.read(min(_CHUNK, end - address))
                except OSError:  # given back to the system meanwhile
                    break
                for offset in range(0, len(chunk), PAGE_SIZE):
                    page = chunk[offset:offset + PAGE_SIZE]
                    if page.strip(b"\0"):
                        yield page


def _main(kind: str, count: int) -> None:
    """The started process: work, then write pages to standard output."""
    if kind == "tar":
        sys.stdout.buffer.write(tar_bytes(count))
        return
    if kind == "made":
        sys.stdout.buffer.write(b"".join(made_pages(count)))
        return
    library = ctypes.CDLL(None)
    if _AGAIN not in os.environ and library.personality(_NO_RANDOMIZE) >= 0:
        os.execve(sys.executable, [sys.executable, "-m", "rackgate_sim.inflate.pages", kind, str(count)],
                  {**os.environ, _AGAIN: "1"})
    held = _work()
    pages = list(_pages(kind))
    if len(pages) < count:
        raise RuntimeError(f"the process has {len(pages)} {kind} pages, not {count}")
    for index in range(count):
        sys.stdout.buffer.write(pages[index * len(pages) // count])
    held.clear()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
