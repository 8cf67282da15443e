# SPDX-License-Identifier: Apache-2.0
"""What ``rackgate bench zeronic`` runs."""

from collections.abc import Callable, Iterator
from typing import Any

from ...errors import UsageError
from ...url import number
from ...zeronic import namespaces
from ...zeronic.errors import NoHosts
from ..benches import ALONE, ANYWHERE
from .costs import loss_points, redis_points, stream_points
from .cycles import data_paths

__all__ = ["run", "units"]

_WIDTHS = (8, 16, 32)
#: Parts that are measured on hosts.
_HOSTS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "streams": stream_points, "losses": loss_points, "redis": redis_points}


def _widths(value: Any, quick: bool) -> tuple[int, ...]:
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    widths = tuple(number("widths", item) for item in items if str(item)) or ((8,) if quick else _WIDTHS)
    for width in widths:
        if width not in _WIDTHS:
            raise UsageError(f"widths must be of 8, 16 and 32, not {width}")
    return widths


def _parts(only: str) -> list[str]:
    known = {"": ["cycles", *_HOSTS], "hosts": list(_HOSTS), "cycles": ["cycles"], **{name: [name] for name in _HOSTS}}
    if only not in known:
        raise UsageError(f"only must be cycles, hosts, {', '.join(_HOSTS)}, or nothing, not {only!r}")
    return known[only]


def units(*, quick: bool = False, widths: Any = "", only: str = "",
          **options: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each width of the NIC; streams, losses and Redis, whose processor time and speed are measured."""
    for part in _parts(only):
        if part != "cycles":
            yield part, {**options, "quick": quick, "only": part}, ALONE
            continue
        for width in _widths(widths, quick):
            yield f"width {width}", {**options, "quick": quick, "widths": width, "only": "cycles"}, ANYWHERE


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
        Width 8, three sizes of frames, one of messages, three losses and three sizes of values only, and less of each.
    widths:
        Bytes a cycle of the NICs: a list with commas of 8, 16, 32.
    latency, write_latency:
        Of the simulated memory, in cycles.
    device:
        NICs of the hosts.
    only:
        ``cycles``, ``hosts``, or of the latter ``streams``, ``losses`` or ``redis``; all by default.
    """
    parts = _parts(only)
    if "cycles" in parts:
        for width in _widths(widths, quick):
            yield from data_paths(width, seed=seed, report=report, quick=quick, latency=latency,
                                  write_latency=write_latency)
    hosted = [part for part in parts if part != "cycles"]
    if not hosted:
        return
    try:
        namespaces.check_possible()
    except NoHosts as error:
        for part in hosted:
            yield {"case": part, "metric": "measured", "value": None, "unit": "1", "why": str(error)}
        return
    for part in hosted:
        yield from _HOSTS[part](device, seed=seed, report=report, quick=quick)
