# SPDX-License-Identifier: Apache-2.0
"""An unmodified Redis on one host, redis-benchmark on the other, with payload split off and without."""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...zeronic.hosts import Hosts, HostsConfig
from .hosts import COALESCE, StreamFailed, grown

__all__ = ["Figures", "values"]

_PORT, _LIMIT, _START_LIMIT = 7200, 600.0, 30.0
_CLIENTS, _PIPELINE = 4, 10
#: The host that values go to, by operation.
_RECEIVER = {"set": "b", "get": "a"}

#: By metric: with payload split off, without, and the unit.
Figures = dict[str, tuple[float, float, str]]


class _Redis:
    """A server on host b, and its clients on host a."""

    def __init__(self, hosts: Hosts, *, split: bool, port: int):
        self.hosts, self.split, self.port = hosts, split, port

    def ask(self, program: str, *arguments: str) -> str:
        """What a client prints. Raises :class:`StreamFailed` if it fails."""
        command = (program, "-h", self.hosts.address("b"), "-p", str(self.port), *arguments)
        process = self.hosts.popen("a", command, split=self.split, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, text=True)
        try:
            output, errors = process.communicate(timeout=_LIMIT)
        finally:
            process.terminate()
            process.communicate()
        if process.returncode:
            raise StreamFailed(f"{program} {' '.join(arguments)} ended with {process.returncode}: "
                               f"{errors.strip()[-300:]}")
        return output

    def spent(self) -> float:
        """Seconds of processor time of the server so far."""
        told = dict(line.split(":", 1) for line in self.ask("redis-cli", "info", "cpu").split() if ":" in line)
        return float(told["used_cpu_sys"]) + float(told["used_cpu_user"])

    def measure(self, operation: str, size: int, count: int) -> dict[str, float]:
        """Costs of ``count`` operations by byte of payload."""
        spent, before = self.spent(), {host: self.hosts.status(host) for host in "ab"}
        self.ask("redis-benchmark", "-t", operation, "-d", str(size), "-n", str(count), "-c", str(_CLIENTS), "-P",
                 str(_PIPELINE), "--csv")
        after, payload, receiver = {host: self.hosts.status(host) for host in "ab"}, size * count, _RECEIVER[operation]
        run = {"before": before, "after": after}
        if self.split:
            up = grown(run, receiver, "costs", "entry_bytes") + grown(run, receiver, "stack", "payload_deferred")
            copied = sum(grown(run, host, "stack", "applications", name) for host in "ab"
                         for name in ("copied_received", "copied_sent"))
        else:
            up, copied = grown(run, receiver, "stack", "whole_bytes"), 2 * payload
        return {"host_bytes_per_payload_byte": up / payload, "cpu_copied_bytes_per_payload_byte": copied / payload,
                "cpu_seconds_per_gb": (self.spent() - spent) / payload * 1e9}


@contextlib.contextmanager
def _serving(hosts: Hosts, *, split: bool, port: int) -> Iterator[_Redis]:
    options = ("--port", str(port), "--bind", hosts.address("b"), "--save", "", "--appendonly", "no",
               "--protected-mode", "no", "--daemonize", "no")
    server = hosts.popen("b", ("redis-server", *options), split=split, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    redis, end = _Redis(hosts, split=split, port=port), time.monotonic() + _START_LIMIT
    try:
        while True:
            with contextlib.suppress(StreamFailed):
                if "PONG" in redis.ask("redis-cli", "ping"):
                    break
            if server.poll() is not None or time.monotonic() > end:
                raise StreamFailed(f"redis-server does not answer within {_START_LIMIT:g} s")
            time.sleep(0.1)
        yield redis
    finally:
        server.terminate()
        server.wait()


def values(device: str, sizes: Sequence[int], *, total: int, seed: int,
           report: Callable[[str], None]) -> Iterator[tuple[int, str, Figures]]:
    """Costs of values by size and operation: of the receiving host, and of the server's processor."""
    units: dict[str, str] = {"cpu_seconds_per_gb": "s/GB"}
    config = HostsConfig(device, seed=seed, coalesce=COALESCE)
    with tempfile.TemporaryDirectory(prefix="rackgate-") as folder, Hosts.start(config, Path(folder)) as hosts, \
            _serving(hosts, split=True, port=_PORT) as split, _serving(hosts, split=False, port=_PORT + 1) as unsplit:
        for size in sizes:
            count = max(_CLIENTS * _PIPELINE, min(total // size, 4096))
            for operation in _RECEIVER:
                report(f"redis: {count} times {operation.upper()} of {size:,} bytes")
                found: list[Any] = [redis.measure(operation, size, count) for redis in (split, unsplit)]
                yield size, operation, {metric: (value, found[1][metric], units.get(metric, "1"))
                                        for metric, value in found[0].items()}
