# SPDX-License-Identifier: Apache-2.0
"""Lazy restore by the kernel: memory that is a private mapping of the image, read when it is touched.

A process of its own drops the image from the page cache, maps it, and touches pages as a trace says. How fast storage
is cannot be bounded here: page faults read from the disk as it is.
"""

import hashlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...sabre.errors import SabreError
from ...sabre.format import PAGE
from ...sabre.storage import drop_cache

__all__ = ["lazy_mmap", "main"]

_START = "from rackgate_host.bench.sabre.lazy import main; main()"


def lazy_mmap(image: Path, trace: Sequence[tuple[int, int]], timeout: float = 120.0) -> dict[str, Any]:
    """``guest_seconds`` for touching the pages, ``cached_before``, the fraction of the image in the page cache after it
    was dropped, and ``equal``: whether all touched pages and in the end all bytes were right."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    job = json.dumps({"image": str(image), "pages": [page for _, page in trace]})
    done = subprocess.run([sys.executable, "-c", _START], input=job, env=environment, capture_output=True, text=True,
                          check=False, timeout=timeout)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise SabreError(f"the guest with a mapped image failed: {last[0]}")
    return json.loads(done.stdout)


def _digest(page: Any) -> bytes:
    return hashlib.blake2b(page, digest_size=16).digest()


def main() -> None:
    """The guest; its job comes on standard input."""
    job = json.load(sys.stdin)
    original = Path(job["image"]).read_bytes()
    digests = [_digest(original[page * PAGE:(page + 1) * PAGE]) for page in job["pages"]]
    with tempfile.TemporaryFile(dir=Path(job["image"]).parent) as file:
        file.write(original)
        file.flush()
        cached = drop_cache(file.fileno())
        with mmap.mmap(file.fileno(), len(original), flags=mmap.MAP_PRIVATE) as memory:
            view = memoryview(memory)
            begin = time.monotonic()
            wrong = sum(_digest(view[page * PAGE:(page + 1) * PAGE]) != digest
                        for page, digest in zip(job["pages"], digests, strict=True))
            seconds = time.monotonic() - begin
            equal = not wrong and view == original
            view.release()
    print(json.dumps({"guest_seconds": seconds, "cached_before": cached, "equal": equal}))
