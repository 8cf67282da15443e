# SPDX-License-Identifier: Apache-2.0
"""The bench ``wire``: how quickly a host reaches a board's memory and registers over a cable.

The board is the golden model, in a process of its own on this machine: what is measured is the host's software, with
that of the model in its way, and the machine's own network. A real board answers sooner, over a slower cable.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from ..device import Device, open_device
from ..errors import DeviceFault, Unavailable, UsageError

__all__ = ["LINKS", "measure", "run"]

#: Ways to a board: over UDP, a serial line's pseudo-terminal, and over UDP and a server that shares it.
LINKS = ("udp", "uart", "server")

_TARGET = 10e6  # bytes a second over UDP
_ROUND_TRIPS = 200
_STARTING = 60.0
_COMMAND = "from rackgate_host.cli import main; main()"


@contextmanager
def _process(*arguments: str) -> Iterator[str]:
    """A ``rackgate`` command that runs on: the URL that it prints first."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    with subprocess.Popen([sys.executable, "-c", _COMMAND, *arguments], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise Unavailable(f"rackgate {' '.join(arguments)}: ended with code {process.wait(_STARTING)}")
            yield url
        finally:
            process.terminate()


def measure(device: Device, size: int, repeats: int, seed: int) -> dict[str, float]:
    """Bytes a second of both directions, a register's round trip, and processor time of this process: medians.

    Raises
    ------
    DeviceFault
        What was read is not what was written.
    """
    buffer = device.allocate(size)
    rng = np.random.default_rng(seed)
    figures: dict[str, list[float]] = {"write": [], "read": [], "cpu": []}
    for _ in range(repeats):
        content = rng.integers(0, 256, size, np.uint8)
        buffer[:] = content
        begin, cpu = time.perf_counter(), time.process_time()
        buffer.sync_to_device()
        device.read_register(0)  # what was written is there now
        middle = time.perf_counter()
        buffer[:] = 0
        cleared = time.perf_counter()
        buffer.sync_from_device()
        figures["read"].append(size / (time.perf_counter() - cleared))
        figures["write"].append(size / (middle - begin))
        figures["cpu"].append((time.process_time() - cpu) / (2 * size) * 1e9)
        if not np.array_equal(buffer, content):
            raise DeviceFault(f"{device.url}: memory has other bytes than were written")
    trips = []
    for _ in range(_ROUND_TRIPS):
        begin = time.perf_counter()
        device.read_register(0)
        trips.append(1e6 * (time.perf_counter() - begin))
    buffer.free()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    return {"write_bytes_per_second": medians["write"], "read_bytes_per_second": medians["read"],
            "round_trip_us": statistics.median(trips), "cpu_seconds_per_gb": medians["cpu"]}


_UNITS = {"write_bytes_per_second": "byte/s", "read_bytes_per_second": "byte/s", "round_trip_us": "us",
          "cpu_seconds_per_gb": "s/GB"}


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, only: str = ",".join(LINKS),
        size: int = 4 << 20, repeats: int = 5) -> list[Mapping[str, Any]]:
    """Measure each way; ``size`` is the bytes that are moved at a time."""
    wanted = only.split(",")
    if unknown := [name for name in wanted if name not in LINKS]:
        raise UsageError(f"bench wire has no case {unknown[0]!r}; it has {', '.join(LINKS)}")
    if size < 4096 or size % 4096 or repeats < 1:
        raise UsageError(f"size must be a multiple of 4096 and repeats at least 1, not {size} and {repeats}")
    points: list[Mapping[str, Any]] = []
    for link in wanted:
        report(f"wire: {link}")
        with ExitStack() as stack:
            url = stack.enter_context(_process("board", "simulate", "inflate", "--link",
                                               "uart" if link == "uart" else "udp", "--set", f"memory={4 * size}"))
            if link == "server":
                url = stack.enter_context(_process("server", url, "--listen", "127.0.0.1:0"))
            device = stack.enter_context(open_device(url, timeout=10))
            figures = measure(device, size, repeats, seed)
            counts = device.transport.session.counts
        points += ({"case": link, "metric": metric, "value": value, "unit": _UNITS[metric],
                    "target": _TARGET if link == "udp" and metric.endswith("per_second") else None,
                    "conditions": {"bytes": size, "repeats": repeats, "requests": counts.requests,
                                   "sent_again": counts.resent, "load": round(os.getloadavg()[0], 1)},
                    "source": "golden model in another process of this machine"}
                   for metric, value in figures.items())
    return points
