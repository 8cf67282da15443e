# SPDX-License-Identifier: Apache-2.0
"""Points of hosts: what streams and Redis cost them with payload split off and without, and what loss does."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

from ..record import commit
from .hosts import losses, streams
from .redis import values

__all__ = ["loss_points", "redis_points", "stream_points"]

#: Bytes of messages, and of a stream in all.
_MESSAGES, _QUICK_MESSAGES = (1 << 10, 1 << 14, 1 << 16, 1 << 20), (1 << 16,)
_TOTAL, _QUICK_TOTAL = 64 << 20, 4 << 20
#: Loss by probability: bytes that are sent, which TCP needs some tens of seconds for.
_LOSSES = {0.001: 16 << 20, 0.01: 16 << 20, 0.02: 8 << 20, 0.04: 4 << 20, 0.1: 1 << 20}
_QUICK_LOSSES = {0.01: 4 << 20, 0.04: 2 << 20}
#: Bytes of values, and of all of them.
_VALUES, _QUICK_VALUES = (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20), (1 << 10, 1 << 14, 1 << 16)
#: Targets of zeronic.md 6.4: host bytes by byte of payload with headers merged and without; copies on posted segments.
_MERGED_TARGET, _SINGLE_TARGET, _POSTED_COPIES = 0.0025, 0.05, 0.0
#: The size of messages that the targets are for.
_TARGET_MESSAGE = 1 << 16

#: Table 2 of the paper (OSDI'24), one flow: seconds of a hyperthread by 10**9 bytes, as per cent of a second, at Gb/s.
_PAPER_SPLIT, _PAPER_UNSPLIT = 0.01 * (17.20 + 33.50) / (96.37 / 8), 0.01 * (94.15 + 29.55) / (43.89 / 8)
#: Figure 12, read by eye: goodput of a flow between GPUs, by loss; without loss it is 38.59 Gb/s.
_PAPER_LOSS = {0.001: 38.5 / 38.59, 0.01: 37.5 / 38.59, 0.02: 31.5 / 38.59, 0.04: 7.5 / 38.59, 0.1: 0.5 / 38.59}
#: Of values of 16 KB: 71 % of the server's cycles are the network stack's, and about 1 % of what ZeroNIC leaves.
_PAPER_REDIS = {1 << 14: 0.99 / 0.29}

_COMMON = {"floor": None, "target": None, "paper": None}
_SOURCE = "Linux' TCP in two network namespaces"


def stream_points(device: str, *, seed: int, report: Callable[[str], None], quick: bool) -> Iterator[dict[str, Any]]:
    """One stream by size of its messages, by the sockets shim and on posted segments, beside the same one unsplit."""
    total = _QUICK_TOTAL if quick else _TOTAL
    for message in _QUICK_MESSAGES if quick else _MESSAGES:
        for merged in (True, False) if message == _TARGET_MESSAGE else (True,):
            # A program of small messages calls the kernel for each: fewer do.
            size = min(total, message * 4096)
            conditions = {"device": device, "message": message, "total": size, "merged": merged, "commit": commit()}
            figures: dict[str, dict[str, tuple[float, str]]] = {}
            for mode, metric, value, unit in streams(device, message=message, total=size, seed=seed, coalesce=merged,
                                                     report=report):
                figures.setdefault(mode, {})[metric] = value, unit
            for mode in ("shim", "posted"):
                case = f"tcp-{message}-{mode}" + ("" if merged else "-unmerged")
                for point in _beside(figures[mode], figures["unsplit"]):
                    target = _target(mode, point["metric"], merged) if message == _TARGET_MESSAGE else None
                    yield {**_COMMON, **point, "case": case, "target": target, "conditions": conditions,
                           "source": _SOURCE}


def _beside(split: dict[str, tuple[float, str]], unsplit: dict[str, tuple[float, str]]) -> Iterator[dict[str, Any]]:
    """Figures of a stream, those of the same one unsplit, and how often its processor time is in that."""
    for metric, (value, unit) in split.items():
        paper = {"cpu_seconds_per_gb": (_PAPER_SPLIT, _PAPER_UNSPLIT)}.get(metric, (None, None))
        yield {"metric": metric, "value": value, "unit": unit, "paper": paper[0]}
        yield {"metric": f"{metric}_unsplit", "value": unsplit[metric][0], "unit": unit, "paper": paper[1]}
    spent, spent_unsplit = split["cpu_seconds_per_gb"][0], unsplit["cpu_seconds_per_gb"][0]
    if spent > 0:
        yield {"metric": "cpu_ratio_unsplit_to_split", "value": spent_unsplit / spent, "unit": "1",
               "paper": _PAPER_UNSPLIT / _PAPER_SPLIT}


def _target(mode: str, metric: str, merged: bool) -> float | None:
    if metric == "host_bytes_per_payload_byte":
        return _MERGED_TARGET if merged else _SINGLE_TARGET
    return _POSTED_COPIES if mode == "posted" and metric == "cpu_copied_bytes_per_payload_byte" else None


def loss_points(device: str, *, seed: int, report: Callable[[str], None], quick: bool) -> Iterator[dict[str, Any]]:
    """How much of its goodput without loss a stream on posted segments keeps, and the same TCP unsplit."""
    chosen = _QUICK_LOSSES if quick else _LOSSES
    for mode, transport in (("posted", "tcp"), ("unsplit", "tcp_unsplit")):
        for loss, total, fraction in losses(device, chosen, mode=mode, seed=seed, report=report):
            yield {**_COMMON, "case": f"loss-{100 * loss:g}-{transport}", "metric": "goodput_fraction",
                   "value": fraction, "unit": "1", "paper": _PAPER_LOSS[loss] if mode == "posted" else None,
                   "conditions": {"device": device, "loss": loss, "total": total, "commit": commit()},
                   "source": f"{_SOURCE}, frames lost on the way to the receiver"}


def redis_points(device: str, *, seed: int, report: Callable[[str], None], quick: bool) -> Iterator[dict[str, Any]]:
    """SET and GET by redis-benchmark, four clients with ten commands under way each, by size of values."""
    missing = [program for program in ("redis-server", "redis-benchmark", "redis-cli") if not shutil.which(program)]
    if missing:
        yield {**_COMMON, "case": "redis", "metric": "measured", "value": None, "unit": "1",
               "why": f"{', '.join(missing)} not there: install redis-server and redis-tools"}
        return
    sizes = _QUICK_VALUES if quick else _VALUES
    total = _QUICK_TOTAL if quick else _TOTAL // 2
    for size, operation, figures in values(device, sizes, total=total, seed=seed, report=report):
        for metric, (split, unsplit, unit) in figures.items():
            point = {**_COMMON, "case": f"redis-{operation}-{size}", "unit": unit, "source": "redis-benchmark",
                     "conditions": {"device": device, "value": size, "total": total, "clients": 4, "pipeline": 10,
                                    "commit": commit()}}
            yield {**point, "metric": metric, "value": split}
            yield {**point, "metric": f"{metric}_unsplit", "value": unsplit}
            if metric == "cpu_seconds_per_gb" and split > 0:
                yield {**point, "metric": "cpu_ratio_unsplit_to_split", "value": unsplit / split, "unit": "1",
                       "paper": _PAPER_REDIS.get(size)}
