# SPDX-License-Identifier: Apache-2.0
"""Lazy restore by the kernel: memory that is a private mapping of the image, read when it is touched.

A process of its own drops the image from the page cache, maps it, and touches pages as a trace says, or has a virtual
machine do that. How fast storage
is cannot be bounded here: page faults read from the disk as it is.
"""

import contextlib
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
from ...sabre.guests import GuestKind, Original, make_toucher
from ...sabre.storage import drop_cache

__all__ = ["lazy_mmap", "main"]

_START = "from rackgate_host.bench.sabre.lazy import main; main()"


def lazy_mmap(image: Path, trace: Sequence[tuple[int, int]], timeout: float = 120.0,
              guest: GuestKind | str = GuestKind.PROCESS) -> dict[str, Any]:
    """``guest_seconds`` for touching the pages, ``cached_before``, the fraction of the image in the page cache after it
    was dropped, and ``equal``: whether all touched pages and in the end all bytes were right."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    job = json.dumps({"image": str(image), "trace": [list(touch) for touch in trace], "guest": guest,
                      "timeout": timeout})
    done = subprocess.run([sys.executable, "-c", _START], input=job, env=environment, capture_output=True, text=True,
                          check=False, timeout=timeout)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise SabreError(f"the guest with a mapped image failed: {last[0]}")
    return json.loads(done.stdout)


def main() -> None:
    """The guest; its job comes on standard input."""
    job = json.load(sys.stdin)
    data = Path(job["image"]).read_bytes()
    original = Original(job["image"], [len(data) // PAGE])
    trace = [(region, page) for region, page in job["trace"]]
    with tempfile.TemporaryFile(dir=Path(job["image"]).parent) as file, contextlib.closing(make_toucher(
            job["guest"], trace, original, [len(data) // PAGE])) as toucher:
        file.write(data)
        file.flush()
        cached = drop_cache(file.fileno())
        memory = mmap.mmap(file.fileno(), len(data), flags=mmap.MAP_PRIVATE)
        toucher.attach([memory])
        begin = time.monotonic()
        wrong = toucher.follow(job["timeout"])
        seconds = time.monotonic() - begin
        equal = not wrong and original.equal([memory])
    print(json.dumps({"guest_seconds": seconds, "cached_before": cached, "equal": equal}))
