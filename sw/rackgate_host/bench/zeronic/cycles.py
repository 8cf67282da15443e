# SPDX-License-Identifier: Apache-2.0
"""Points that are counts of cycles of the gateware."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..record import commit
from .bench_frames import HEADER
from .datapath import Bed, orders, receive_rate, reorder_rate, response, send_rate

__all__ = ["data_paths"]

#: Payload bytes of frames: one byte, a full minimum frame, memcached-like, MTU 1500, MTU 9000.
_PAYLOADS = (1, 64, 256, 512, 1448, 8948)
_QUICK_PAYLOADS = (1, 256, 1448)
#: Of the lone frames whose way to memory is timed.
_LONE_PAYLOADS = (1, 64, 256, 1448)
_WINDOW = 64
#: Of its frames: MTU 1500, and with their size in the case's name a full minimum frame.
_WINDOW_PAYLOADS = {1448: "", 64: f"{HEADER + 64}-"}
#: Cycles from the last word in to the first one at memory, for frames of this payload and more (zeronic.md 6.3).
_RESPONSE_TARGET, _RESPONSE_PAYLOAD = 24, 256


def data_paths(width: int, *, seed: int, report: Callable[[str], None], quick: bool, latency: int,
               write_latency: int) -> Iterator[dict[str, Any]]:
    """Of a NIC of ``width`` bytes a cycle: rates by size of frames, ways of lone frames, windows in any order."""
    conditions = {"width": width, "memory_latency": latency, "memory_write_latency": write_latency,
                  "commit": commit()}
    report(f"NIC of {width} bytes a cycle: building")
    with Bed(f"sim:zeronic?width={width}", latency=latency, write_latency=write_latency, seed=seed,
             progress=report) as bed:
        for points in (_rates(bed, seed, report, _QUICK_PAYLOADS if quick else _PAYLOADS), _lone(bed, seed, report),
                       _windows(bed, seed, report)):
            for point in points:
                yield {"floor": None, "target": None, "paper": None, **point, "source": "made-up TCP frames",
                       "conditions": {**conditions, **point["conditions"]}}


def _rates(bed: Bed, seed: int, report: Callable[[str], None], payloads: Sequence[int]) -> Iterator[dict[str, Any]]:
    for payload in payloads:
        for way, measure in (("rx", lambda size: receive_rate(bed, size, seed=seed)),
                             ("tx", lambda size: send_rate(bed, size))):
            report(f"{way}: {payload} bytes of payload")
            for metric, value, unit in measure(payload):
                yield {"case": f"{way}-w{bed.width}-{HEADER + payload}", "metric": metric, "value": value, "unit": unit,
                       "target": 1 if metric == "bubbles_per_packet" else None,
                       "conditions": {"payload": payload, "frame": HEADER + payload}}


def _lone(bed: Bed, seed: int, report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    report("latency of a lone frame")
    for payload in _LONE_PAYLOADS:
        beat, entry = (value for _, value in response(bed, payload, seed=seed))
        for event, value in (("first-write", beat), ("entry", entry)):
            aims = event == "first-write" and payload >= _RESPONSE_PAYLOAD
            yield {"case": f"lone-w{bed.width}-{HEADER + payload}-{event}", "metric": "cycles", "value": value,
                   "unit": "cycle", "target": _RESPONSE_TARGET if aims else None,
                   "conditions": {"payload": payload, "frame": HEADER + payload, "from": "the last word in"}}


def _windows(bed: Bed, seed: int, report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    for payload, prefix in _WINDOW_PAYLOADS.items():
        in_order = 0.0
        for name, order in orders(_WINDOW, seed).items():
            report(f"a window of {_WINDOW} frames {name}: {payload} bytes of payload")
            cycles = reorder_rate(bed, payload, order, seed=seed)
            in_order = in_order or cycles
            yield {"case": f"window-w{bed.width}-{prefix}{name.replace(' ', '-')}",
                   "metric": "ratio_to_in_order", "value": in_order / cycles, "unit": "1", "target": 0.99,
                   "conditions": {"payload": payload, "frames": _WINDOW, "cycles_per_frame": cycles}}
