# SPDX-License-Identifier: Apache-2.0
"""What a stream over real TCP costs the host, with payload split off and without."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...zeronic.hosts import Hosts, HostsConfig
from ...zeronic.wire import Conditions

__all__ = ["COALESCE", "MODES", "StreamFailed", "grown", "losses", "streams"]

_MOVER = (sys.executable, "-m", "rackgate_host.bench.zeronic.mover")
_PORT, _LIMIT = 7100, 300.0
#: How a stream may go: through the kernel, by the sockets shim, on posted segments.
MODES = ("unsplit", "shim", "posted")
#: Cycles that a header may wait: more than the 45 frames of a segment of 64 KB take.
COALESCE = 16384


class StreamFailed(RuntimeError):
    """An end of a stream has ended badly, or what came is not what was sent."""


def _stream(hosts: Hosts, mode: str, message: int, count: int) -> dict[str, Any]:
    """Move messages from host a to host b: what their ends say, and what the NICs and the control stacks counted."""
    before = {host: hosts.status(host) for host in "ab"}
    arguments = ("posted" if mode == "posted" else "socket", hosts.address("b"), str(_PORT), str(message), str(count))
    ends = {}
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
    return {"seconds": told["b"]["seconds"], "cpu": told["a"]["cpu_seconds"] + told["b"]["cpu_seconds"],
            "before": before, "after": after}


def grown(run: Mapping[str, Any], host: str, *path: str) -> int:
    """By how much a count of a host's status has grown from ``run["before"]`` to ``run["after"]``."""
    values = [run["before"][host], run["after"][host]]
    for name in path:
        values = [value[name] for value in values]
    return values[1] - values[0]


def _figures(run: Mapping[str, Any], mode: str, payload: int) -> Iterator[tuple[str, float, str]]:
    """Costs by byte of payload. What an unsplit stream costs is its frames, and one copy by the kernel at each end."""
    if mode == "unsplit":
        up = down = grown(run, "b", "stack", "whole_bytes")
        copied = 2 * payload
    else:
        up = grown(run, "b", "costs", "entry_bytes") + grown(run, "b", "stack", "payload_deferred")
        down = grown(run, "a", "costs", "command_bytes")
        copied = sum(grown(run, host, "stack", "applications", name) for host in "ab"
                     for name in ("copied_received", "copied_sent")) + grown(run, "b", "stack", "payload_deferred")
    yield "host_bytes_per_payload_byte", up / payload, "1"
    yield "host_bytes_sent_per_payload_byte", down / payload, "1"
    yield "cpu_copied_bytes_per_payload_byte", copied / payload, "1"
    yield "cpu_seconds_per_gb", run["cpu"] / payload * 1e9, "s/GB"


def streams(device: str, *, message: int, total: int, seed: int, coalesce: bool = True,
            report: Callable[[str], None]) -> Iterator[tuple[str, str, float, str]]:
    """Costs of a stream in each mode, in one run on the same hosts: mode, metric, value, unit."""
    count = max(2, total // message)
    config = HostsConfig(device, seed=seed, coalesce=COALESCE if coalesce else 0)
    with tempfile.TemporaryDirectory(prefix="rackgate-") as folder, Hosts.start(config, Path(folder)) as hosts:
        for mode in MODES:
            report(f"{count} messages of {message:,} bytes, {mode}")
            run = _stream(hosts, mode, message, count)
            for metric, value, unit in _figures(run, mode, message * count):
                yield mode, metric, value, unit


def losses(device: str, totals: Mapping[float, int], *, mode: str, seed: int,
           report: Callable[[str], None]) -> Iterator[tuple[float, int, float]]:
    """How much of its goodput a stream keeps by loss on the wire: loss, bytes that were sent, fraction of that without.

    The time is that from the first byte's coming to the last's, so neither the programs' start counts nor a SYN that is
    lost. Without loss as many bytes are sent: TCP's slow start is the same in both.
    """
    clean: dict[int, float] = {}
    for loss, total in {**dict.fromkeys([0.0], 0), **totals}.items():
        config = HostsConfig(device, {"a": Conditions(loss=loss)}, seed, coalesce=COALESCE)
        with tempfile.TemporaryDirectory(prefix="rackgate-") as folder, Hosts.start(config, Path(folder)) as hosts:
            for size in [total] if loss else sorted(set(totals.values())):
                report(f"loss of {loss:.1%}, {mode}: {size >> 20} MB")
                seconds = _stream(hosts, mode, 1 << 16, max(2, size >> 16))["seconds"]
                if not loss:
                    clean[size] = seconds
                else:
                    yield loss, size, clean[size] / seconds
