# SPDX-License-Identifier: Apache-2.0
"""What a stream over real TCP costs the host, with payload split off and without."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...zeronic.supervisor import Hosts, HostsConfig
from ...zeronic.wire import Conditions

__all__ = ["MODES", "losses", "streams"]

_MOVER = (sys.executable, "-m", "rackgate_host.bench.zeronic.mover")
_PORT, _LIMIT = 7100, 300.0
#: How a stream may go: through the kernel, by the sockets shim, on posted segments.
MODES = ("unsplit", "shim", "posted")
#: Cycles that a header may wait: more than the 45 frames of a segment of 64 KB take.
_COALESCE = 16384
_LOSSES = (0.0, 0.001, 0.01, 0.02, 0.04, 0.1)


class StreamFailed(RuntimeError):
    """An end of a stream has ended badly, or what came is not what was sent."""


def _stream(hosts: Hosts, mode: str, message: int, count: int) -> dict[str, Any]:
    """Move messages from host a to host b: what their ends say, and what the NICs and the control stacks counted."""
    before = {host: hosts.status(host) for host in "ab"}
    arguments = ("posted" if mode == "posted" else "socket", hosts.address("b"), str(_PORT), str(message), str(count))
    begin, ends = time.monotonic(), {}
    for host, end in (("b", "receive"), ("a", "send")):
        ends[host] = hosts.popen(host, (*_MOVER, end, *arguments), split=mode != "unsplit", stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
    told = {}
    try:
        for host, process in ends.items():
            output, errors = process.communicate(timeout=_LIMIT)
            if process.returncode:
                raise StreamFailed(f"the end on host {host} of a stream ({mode}) ended with {process.returncode}: "
                                   f"{errors.strip()[-300:]}")
            told[host] = json.loads(output.splitlines()[-1])
    finally:
        for process in ends.values():
            process.terminate()
            process.communicate()
    if told["a"]["checksum"] != told["b"]["checksum"]:
        raise StreamFailed(f"what came on a stream ({mode}) is not what was sent")
    after = {host: hosts.status(host) for host in "ab"}
    return {"seconds": time.monotonic() - begin, "cpu": told["a"]["cpu_seconds"] + told["b"]["cpu_seconds"],
            "before": before, "after": after}


def _grown(run: Mapping[str, Any], host: str, *path: str) -> int:
    values = [run["before"][host], run["after"][host]]
    for name in path:
        values = [value[name] for value in values]
    return values[1] - values[0]


def _figures(run: Mapping[str, Any], mode: str, payload: int) -> Iterator[tuple[str, float, str]]:
    """Costs by byte of payload. What an unsplit stream costs is its frames, and one copy by the kernel at each end."""
    if mode == "unsplit":
        up = down = _grown(run, "b", "stack", "whole_bytes")
        copied = 2 * payload
    else:
        up = _grown(run, "b", "costs", "entry_bytes") + _grown(run, "b", "stack", "payload_deferred")
        down = _grown(run, "a", "costs", "command_bytes")
        copied = sum(_grown(run, host, "stack", "applications", name) for host in "ab"
                     for name in ("copied_received", "copied_sent")) + _grown(run, "b", "stack", "payload_deferred")
    yield "host_bytes_received_per_payload_byte", up / payload, "1"
    yield "host_bytes_sent_per_payload_byte", down / payload, "1"
    yield "copied_per_payload_byte", copied / payload, "1"
    yield "cpu_seconds_per_gb", run["cpu"] / payload * 1e9, "s/GB"


def streams(device: str, *, message: int, total: int, seed: int, coalesce: bool = True,
            report: Callable[[str], None]) -> Iterator[tuple[str, str, float, str]]:
    """Costs of a stream in each mode, in one run on the same hosts: mode, metric, value, unit."""
    count = max(2, total // message)
    config = HostsConfig(device, seed=seed, coalesce=_COALESCE if coalesce else 0)
    with tempfile.TemporaryDirectory(prefix="rackgate-") as folder, Hosts.start(config, Path(folder)) as hosts:
        for mode in MODES:
            report(f"{count} messages of {message:,} bytes, {mode}")
            run = _stream(hosts, mode, message, count)
            for metric, value, unit in _figures(run, mode, message * count):
                yield mode, metric, value, unit


def losses(device: str, *, total: int, seed: int, report: Callable[[str], None]) -> Iterator[tuple[float, float]]:
    """How much slower a stream on posted segments gets by loss on the wire: loss, speed by that without."""
    clean = 0.0
    for loss in _LOSSES:
        report(f"loss of {loss:.1%}")
        config = HostsConfig(device, {"a": Conditions(loss=loss)}, seed)
        with tempfile.TemporaryDirectory(prefix="rackgate-") as folder, Hosts.start(config, Path(folder)) as hosts:
            _stream(hosts, "posted", 1 << 16, 2)  # the programs' start does not count
            seconds = _stream(hosts, "posted", 1 << 16, max(2, total >> 16))["seconds"]
        clean = clean or seconds
        yield loss, clean / seconds
