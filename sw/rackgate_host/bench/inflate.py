# SPDX-License-Identifier: Apache-2.0
"""The bench ``inflate``: output bytes a cycle on real memory pages and on a tar, every byte compared."""

import hashlib
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rackgate.inflate.abi import Flag, Format, Status

from ..device import open_device
from ..errors import DeviceFault, Unavailable, UsageError
from ..inflate.driver import InflateDriver, Job
from .benches import ANYWHERE, HERE

__all__ = ["chosen", "digest", "measure", "page_samples", "run", "units"]

# Case: floor and target. Targets: sabre.md's table of what a design of this kind can reach, where it has one.
_GOALS: dict[str, tuple[float | None, float | None]] = {
    "anon-4k-dynamic": (3.4, 5.0),
    "anon-4k-fixed": (4.0, 5.4),
    "code-4k-dynamic": (1.65, 2.35),
    "code-4k-fixed": (None, None),
    "tar-10m": (2.5, None),
    "made-4k-dynamic": (None, None),
}
_TAR_SIZE = 10_000_000
_PAGE = 4096
# A program of the simulators' package, run and not imported: a host that drives a board needs none of them.
_DATA = "rackgate_sim.inflate.pages"


def _data(kind: str, count: int) -> bytes:
    """``count`` pages of memory ("anonymous" or "code") or bytes of a tar ("tar")."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), PYTHONHASHSEED="0")
    done = subprocess.run([sys.executable, "-m", _DATA, kind, str(count)], env=environment, capture_output=True,
                          check=False, timeout=300)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise Unavailable(f"there is no data of the kind {kind} to measure on: {reason[-1]}")
    return done.stdout


def page_samples(kind: str, count: int) -> list[bytes]:
    """``count`` pages of this machine's memory: ``anonymous`` ones of a process, or ``code`` of its libraries; or
    ``made`` ones, which are the same on every machine."""
    content = _data(kind, count)
    return [content[start:start + _PAGE] for start in range(0, len(content), _PAGE)]


def digest(streams: Sequence[bytes]) -> str:
    """What tells whether two runs had the same input."""
    return hashlib.sha256(b"".join(hashlib.sha256(stream).digest() for stream in streams)).hexdigest()[:16]


def _deflate(content: bytes, strategy: int, window: int) -> bytes:
    """Raw Deflate, level 6, with distances that fit ``window`` bytes."""
    encoder = zlib.compressobj(6, zlib.DEFLATED, -(window.bit_length() - 1), strategy=strategy)
    return encoder.compress(content) + encoder.flush()


def measure(driver: InflateDriver, contents: Sequence[bytes],
            strategy: int = zlib.Z_DEFAULT_STRATEGY) -> tuple[list[bytes], int]:
    """Compress ``contents``, each by itself, have the device inflate them all, and compare.

    Returns the compressed streams, and cycles from the start of the first job to the end of the last one.

    Raises
    ------
    DeviceFault
        If a byte or a status is not what it must be.
    """
    device = driver.device
    window = device.parameters["window"]
    jobs, streams = [], [_deflate(content, strategy, window) for content in contents]
    for stream, content in zip(streams, contents, strict=True):
        source, destination = device.allocate(len(stream)), device.allocate(len(content))
        source[:] = np.frombuffer(stream, np.uint8)
        jobs.append(Job(source, destination, Format.RAW, Flag.LAST))
    completions = [handle.wait() for handle in driver.submit(*jobs)]
    for number, (job, content, completion) in enumerate(zip(jobs, contents, completions, strict=True)):
        assert job.source is not None and job.destination is not None
        if completion.status != Status.SUCCESS or job.destination.tobytes() != content:
            raise DeviceFault(f"input {number} did not come out as it went in: status {completion.status:#x}, "
                              f"error {completion.error}")
        job.source.free()
        job.destination.free()
    begin = min(completion.started for completion in completions)
    return streams, max(completion.finished for completion in completions) - begin


def chosen(only: str, cases: Iterable[str]) -> list[str]:
    """The cases that the option ``only`` of a bench names, of those there are; all of them if it names none."""
    known = list(cases)
    wanted = [name for name in only.split(",") if name] or known
    for name in wanted:
        if name not in known:
            raise UsageError(f"only must name cases among {', '.join(known)}, not {name!r}")
    return wanted


def units(*, only: str = "", **options: Any) -> list[tuple[str, dict[str, Any], str]]:
    """A case each."""
    return [(name, {**options, "only": name}, ANYWHERE if name.startswith("made") else HERE)
            for name in chosen(only, _GOALS)]


def _contents(case: str, pages: int) -> tuple[list[bytes], str]:
    """What is compressed, and a word on it."""
    whole = f"{pages} pages of 4 KB, each compressed alone by zlib -6"
    match case.split("-"):
        case "anon", *_:
            return page_samples("anonymous", pages), f"anonymous memory of a Python process, {whole}"
        case "code", *_:
            return page_samples("code", pages), f"code of the libraries of a Python process, {whole}"
        case "made", *_:
            return page_samples("made", pages), f"made-up text, records and noise, {whole}"
    return [_data("tar", _TAR_SIZE)], "tar of Python sources and programs, zlib -6 with the engine's window, one stream"


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, device: str = "sim:inflate",
        pages: int = 256, only: str = "") -> Iterator[dict[str, Any]]:
    """Measure and yield the points of ``rackgate bench inflate``.

    Parameters
    ----------
    seed:
        Seeds the simulation; the data is the same each time.
    report:
        Called with a line on what is under way.
    device:
        URL of the device.
    pages:
        Pages of each kind.
    only:
        Cases, with commas between; all by default.
    """
    cases = chosen(only, _GOALS)
    options = {"seed": seed, "progress": report} if device.startswith("sim:") else {}
    with open_device(device, **options) as opened:
        driver = InflateDriver.of(opened)
        for case in cases:
            report(f"{case} on {device}")
            contents, source = _contents(case, pages)
            is_fixed = case.endswith("fixed")
            size = sum(map(len, contents))
            streams, cycles = measure(driver, contents, zlib.Z_FIXED if is_fixed else zlib.Z_DEFAULT_STRATEGY)
            floor, target = _GOALS[case]
            conditions = {**opened.parameters, "device": device, "bytes_in": sum(map(len, streams)),
                          "bytes_out": size, "cycles": cycles, "data": digest(streams)}
            yield {"case": case, "metric": "bytes_per_cycle", "value": round(size / cycles, 3), "unit": "byte/cycle",
                   "floor": floor, "target": target, "conditions": conditions,
                   "source": source + ", fixed codes" * is_fixed}
