# SPDX-License-Identifier: Apache-2.0
"""Memory contents to restore: what a working Python process has in memory, as one image of a stated size.

The image is made of runs of pages: anonymous memory of a process that is started for this and has worked on text,
records and tables; code of the libraries that it has mapped; and zeros, as an allocator leaves them. Linux only:
reads /proc/self/maps and /proc/self/mem.
"""

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import SabreError
from .userfault import PAGE

__all__ = ["make_image", "main"]

_START = "from rackgate_host.sabre.images import main; main()"
_SHARES = {"anonymous": 0.6, "code": 0.2, "zero": 0.2}
_LONGEST_RUN = 64
_PIECE = 1 << 20


def make_image(path: str | os.PathLike[str], pages: int, seed: int = 1) -> None:
    """Write an image of ``pages`` pages to ``path``; the order of its runs follows from ``seed``.

    The contents come from this machine's Python and libraries, so images differ between machines. Raises
    ``ValueError`` for fewer than 1 page, :class:`~rackgate_host.sabre.errors.SabreError` if no image came out.
    """
    if pages < 1:
        raise ValueError(f"pages must be 1 or more, not {pages}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"}
    with open(path, "wb") as output:
        child = subprocess.run([sys.executable, "-c", _START, str(pages), str(seed)], env=environment, stdout=output,
                               stderr=subprocess.PIPE, check=False)
    size = os.stat(path).st_size
    if child.returncode or size != pages * PAGE:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise SabreError(f"no image of {pages} pages: {last[0] if last else f'{size} bytes came out'}")


def _work(size: int) -> list[object]:
    """Hold at least ``size`` bytes of what programs hold: texts, words with counts, records, tables of numbers."""
    held: list[object] = []
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    random = np.random.default_rng(1)
    used, number = 0, 0
    while used < size:
        text = sources[number % len(sources)].read_text(encoding="utf-8", errors="replace")
        words: dict[str, int] = {}
        for word in text.split():
            words[f"{word}{number}"] = words.get(word, 0) + 1
        records = [{"place": place, "word": word, "share": count / len(words)}
                   for place, (word, count) in enumerate(words.items())]
        table = np.cumsum(random.integers(0, 50, (64, 128)), axis=1).astype(np.float32)
        held += [text, records, json.dumps(records[:200]), table]
        used += len(text) + 300 * len(records) + table.nbytes
        number += 1
    return held


def _regions() -> Iterator[tuple[str, int, int]]:
    """(kind, address, end) of what is mapped."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *name = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in span.split("-"))
        if inode == "0" and rights == "rw-p" and (not name or name[0] == "[heap]"):
            yield "anonymous", start, end
        elif inode != "0" and rights == "r-xp":
            yield "code", start, end


def _contents(wanted: int) -> dict[str, np.ndarray]:
    """Pages by kind that are not all zero, up to ``wanted`` of each."""
    found: dict[str, list[np.ndarray]] = {"anonymous": [], "code": []}
    counts = dict.fromkeys(found, 0)
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for kind, start, end in list(_regions()):
            for address in range(start, end, _PIECE):
                if counts[kind] >= wanted:
                    break
                with contextlib.suppress(OSError):  # unmapped meanwhile
                    memory.seek(address)
                    pages = np.frombuffer(memory.read(min(_PIECE, end - address)), np.uint8).reshape(-1, PAGE)
                    pages = pages[pages.any(axis=1)]
                    found[kind].append(pages)
                    counts[kind] += len(pages)
    return {kind: np.concatenate(parts)[:wanted] for kind, parts in found.items()}


def _mixed(pages: int, seed: int) -> np.ndarray:
    """The image."""
    held = _work(pages * PAGE)
    contents = _contents(pages)
    held.clear()
    contents["zero"] = np.zeros((_LONGEST_RUN, PAGE), np.uint8)
    random = np.random.default_rng(seed)
    image = np.zeros((pages, PAGE), np.uint8)
    place = dict.fromkeys(contents, 0)
    kinds, shares = list(_SHARES), list(_SHARES.values())
    position = 0
    while position < pages:
        kind = str(random.choice(kinds, p=shares))
        run = min(int(random.integers(1, _LONGEST_RUN + 1)), pages - position)
        taken = (place[kind] + np.arange(run)) % len(contents[kind])
        image[position:position + run] = contents[kind][taken]
        place[kind] += run
        position += run
    return image


def main() -> None:
    """The started process: arguments are pages and seed; the image goes to standard output."""
    sys.stdout.buffer.write(_mixed(int(sys.argv[1]), int(sys.argv[2])).tobytes())
