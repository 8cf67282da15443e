# SPDX-License-Identifier: Apache-2.0
"""What ``rackgate bench zeronic`` runs."""

from collections.abc import Callable, Iterator
from typing import Any

from ...errors import UsageError
from ...url import number
from ...zeronic import namespaces
from ...zeronic.errors import NoHosts
from ..record import commit
from .datapath import Bed, orders, receive_rate, reorder_rate, response, send_rate
from .hosts import losses, streams

__all__ = ["run"]

#: Payload bytes of frames: one byte, a full minimum frame, memcached-like, MTU 1500, MTU 9000.
_PAYLOADS = (1, 64, 256, 512, 1448, 8948)
_QUICK_PAYLOADS = (1, 256, 1448)
_WIDTHS = (8, 16, 32)
_WINDOW = 64
_WINDOW_PAYLOAD = 1448
#: Cycles from the last word in to the first one at memory (zeronic.md 6.3).
_RESPONSE_TARGET = 24
_MESSAGE, _TOTAL, _QUICK_TOTAL = 1 << 16, 64 << 20, 4 << 20
#: Targets of zeronic.md 6.4: host bytes by byte of payload with headers merged and without; copies on posted segments.
_MERGED_TARGET, _SINGLE_TARGET, _POSTED_COPIES = 0.0025, 0.05, 0.0


def _widths(value: Any) -> tuple[int, ...]:
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    widths = tuple(number("widths", item) for item in items if str(item)) or _WIDTHS
    for width in widths:
        if width not in _WIDTHS:
            raise UsageError(f"widths must be of 8, 16 and 32, not {width}")
    return widths


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, quick: bool = False, widths: Any = "",
        latency: int = 20, write_latency: int = 4, device: str = "model:zeronic",
        only: str = "") -> Iterator[dict[str, Any]]:
    """Measure and yield the points of ``rackgate bench zeronic``.

    Those in cycles are counts in a simulation and depend neither on the machine nor on its load. Those of hosts are of
    Linux' TCP between two network namespaces of this machine: ratios, and the processor time of the applications
    alone, since the processes of the hosts simulate the NICs.

    Parameters
    ----------
    seed:
        Of payload and orders.
    report:
        Called with a line on what is under way.
    quick:
        Width 8 and three frame sizes only, short streams, and no losses.
    widths:
        Bytes a cycle of the NICs: a list with commas of 8, 16, 32.
    latency, write_latency:
        Of the simulated memory, in cycles.
    device:
        NICs of the hosts.
    only:
        ``cycles`` or ``hosts``; both by default.
    """
    if only not in ("", "cycles", "hosts"):
        raise UsageError(f"only must be cycles or hosts, not {only!r}")
    if only != "hosts":
        yield from _data_paths(seed, report, quick, widths, latency, write_latency)
    if only != "cycles":
        yield from _hosts(device, seed, report, _QUICK_TOTAL if quick else _TOTAL, with_losses=not quick)


def _data_paths(seed: int, report: Callable[[str], None], quick: bool, widths: Any, latency: int,
                write_latency: int) -> Iterator[dict[str, Any]]:
    for width in (8,) if quick and not str(widths) else _widths(widths):
        conditions = {"width": width, "memory_latency": latency, "memory_write_latency": write_latency,
                      "commit": commit()}
        report(f"NIC of {width} bytes a cycle: building")
        with Bed(f"sim:zeronic?width={width}", latency=latency, write_latency=write_latency, seed=seed,
                 progress=report) as bed:
            for point in _cycles(bed, seed, report, _QUICK_PAYLOADS if quick else _PAYLOADS):
                yield {**point, "conditions": {**conditions, **point["conditions"]}, "source": "made-up TCP frames"}


def _cycles(bed: Bed, seed: int, report: Callable[[str], None], payloads: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for payload in payloads:
        for case, measure in (("receive", lambda size: receive_rate(bed, size, seed=seed)),
                              ("send", lambda size: send_rate(bed, size))):
            report(f"{case}: {payload} bytes of payload")
            for metric, value, unit in measure(payload):
                yield {"case": f"{case}-{payload}", "metric": metric, "value": value, "unit": unit, "floor": None,
                       "target": 1 if metric == "bubbles_per_packet" else None, "paper": None,
                       "conditions": {"payload": payload}}
    report("latency of a lone frame")
    for what, value in response(bed, _WINDOW_PAYLOAD, seed=seed):
        yield {"case": what, "metric": "cycles", "value": value, "unit": "cycle", "floor": None,
               "target": _RESPONSE_TARGET if "write" in what else None, "paper": None,
               "conditions": {"payload": _WINDOW_PAYLOAD}}
    in_order = 0.0
    for name, order in orders(_WINDOW, seed).items():
        report(f"a window of {_WINDOW} frames {name}")
        cycles = reorder_rate(bed, _WINDOW_PAYLOAD, order, seed=seed)
        in_order = in_order or cycles
        yield {"case": f"window {name}", "metric": "ratio_to_in_order", "value": in_order / cycles, "unit": "1",
               "floor": None, "target": 0.99, "paper": None,
               "conditions": {"payload": _WINDOW_PAYLOAD, "frames": _WINDOW, "cycles_per_frame": cycles}}


def _hosts(device: str, seed: int, report: Callable[[str], None], total: int, *,
           with_losses: bool) -> Iterator[dict[str, Any]]:
    common = {"floor": None, "target": None, "paper": None, "source": "Linux' TCP in two network namespaces"}
    try:
        namespaces.check_possible()
    except NoHosts as error:
        yield {**common, "case": "hosts", "metric": "ratio", "value": None, "unit": "1", "why": str(error)}
        return
    for merged in (True, False):
        conditions = {"device": device, "message": _MESSAGE, "total": total, "merged": merged, "commit": commit()}
        for mode, metric, value, unit in streams(device, message=_MESSAGE, total=total, seed=seed, coalesce=merged,
                                                 report=report):
            case = f"stream {mode}" + ("" if merged else ", headers one by one")
            yield {**common, "case": case, "metric": metric, "value": value, "unit": unit, "conditions": conditions,
                   "target": _target(mode, metric, merged)}
    if not with_losses:  # so few bytes take less time than their programs' start
        return
    for loss, speed in losses(device, total=total // 8, seed=seed, report=report):
        yield {**common, "case": f"loss {loss:.1%}", "metric": "speed_to_lossless", "value": speed, "unit": "1",
               "conditions": {"device": device, "loss": loss, "total": total // 8, "commit": commit()}}


def _target(mode: str, metric: str, merged: bool) -> float | None:
    if mode != "unsplit" and metric == "host_bytes_received_per_payload_byte":
        return _MERGED_TARGET if merged else _SINGLE_TARGET
    return _POSTED_COPIES if mode == "posted" and metric == "copied_per_payload_byte" else None
