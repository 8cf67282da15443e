# SPDX-License-Identifier: Apache-2.0
"""What ``rackgate bench collectives`` runs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ...collective.bounds import OPERATIONS
from ...collective.cluster import Cluster, open_cluster
from ...errors import UsageError
from ...url import number
from ..benches import ANYWHERE
from ..record import commit
from .aims import Link, longest_buffer
from .latency import CHAIN_BYTES, half_bandwidth, hops, nop, small
from .points import Bench, measure, points

__all__ = ["run", "units"]

_RANKS = (2, 4, 8, 16)
_SMALL_RANKS = 8
_KB, _MB = 1 << 10, 1 << 20


class _Plan(NamedTuple):
    """Ranks, sizes, and the most bytes that the longest buffer of a rank may have."""

    ranks: Sequence[int]
    sizes: Sequence[int]
    most: int


_QUICK = _Plan((2, 4), (64, 4 * _KB, 64 * _KB), 64 * _KB)
_DEFAULT = _Plan(_RANKS, (64, _KB, 4 * _KB, 16 * _KB, 64 * _KB, 256 * _KB), 256 * _KB)
_PARTS = ("latency", "operations")
_FULL = _Plan(_RANKS, tuple(64 * 4 ** k for k in range(9)), 4 * _MB)


def _numbers(name: str, value: Any, standard: Sequence[int]) -> tuple[int, ...]:
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    return tuple(number(name, item) for item in items if str(item)) or tuple(standard)


def _operations(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    wanted = tuple(str(item) for item in items if str(item)) or OPERATIONS
    for name in wanted:
        if name not in OPERATIONS:
            raise UsageError(f"operations must be of {', '.join(OPERATIONS)}, not {name!r}")
    return wanted


def _plan(quick: bool, full: bool, ranks: Any, sizes: Any, most: Any) -> _Plan:
    """What is asked for, checked."""
    if quick and full:
        raise UsageError("quick and full exclude each other")
    plan = _QUICK if quick else _FULL if full else _DEFAULT
    plan = _Plan(_numbers("ranks", ranks, plan.ranks), _numbers("sizes", sizes, plan.sizes),
                 number("most", most) if str(most) else plan.most)
    for one in plan.ranks:
        if not 2 <= one <= 16:
            raise UsageError(f"ranks must be 2 to 16, not {one}")
    for one in plan.sizes:
        if one <= 0 or one % 4:
            raise UsageError(f"sizes must be multiples of 4, not {one}")
    return plan


def units(*, quick: bool = False, full: bool = False, ranks: Any = "", sizes: Any = "", operations: Any = "",
          most: Any = "", only: str = "", **options: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The latencies, and each operation at each number of ranks."""
    plan = _plan(quick, full, ranks, sizes, most)
    options |= {"quick": quick, "full": full, "sizes": sizes, "most": most}
    for part in _parts(only):
        if part == "latency":
            yield part, {**options, "ranks": list(plan.ranks), "only": part}, ANYWHERE
            continue
        for count in plan.ranks:
            for operation in _operations(operations):
                yield f"{operation}, {count} ranks", {**options, "ranks": count, "operations": operation,
                                                      "only": part}, ANYWHERE


def _parts(only: str) -> tuple[str, ...]:
    if only not in ("", *_PARTS):
        raise UsageError(f"only must be {' or '.join(_PARTS)}, not {only!r}")
    return (only,) if only else _PARTS


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, quick: bool = False, full: bool = False,
        ranks: Any = "", sizes: Any = "", operations: Any = "", most: Any = "", only: str = "",
        device: str = "sim:collective?latency=4&write_latency=2", link_latency: int = 20,
        threads: int = 1) -> Iterator[dict[str, Any]]:
    """Measure and yield the points of ``rackgate bench collectives``.

    All are counts of cycles and bytes in a simulation: they depend neither on the machine nor on its load.

    Parameters
    ----------
    seed:
        Of the operands, and the simulation.
    report:
        Called with a line on what is under way.
    quick, full:
        2 and 4 ranks up to 64 KB, in about a minute; or 2, 4, 8 and 16 ranks up to 4 MB, which takes an hour. Otherwise
        up to 256 KB. The other options go before.
    ranks, sizes, operations:
        Lists with commas between. Sizes are bytes of a call's count.
    most:
        Sizes are left out at which the longest buffer of a rank has more bytes: all ranks' parts, of operations that
        have one of each.
    only:
        ``latency`` or ``operations``; both by default.
    device, link_latency:
        URL of the engines, and cycles of the links between them.
    threads:
        Threads that the simulation runs on.
    """
    plan, wanted, parts = _plan(quick, full, ranks, sizes, most), _operations(operations), _parts(only)

    def opened(count: int, most: int) -> Cluster:
        options: dict[str, Any] = {"progress": report, "seed": seed, "threads": threads}
        return open_cluster(device, count, link_latency=link_latency, credits="all", memory=8 * max(most, 128 * _KB),
                            **(options if device.startswith("sim") else {}))

    if "latency" in parts:
        with opened(2, CHAIN_BYTES) as cluster:
            bench = _bench(cluster, device, link_latency, seed)
            report("latency of calls")
            yield nop(bench, cluster)
            yield half_bandwidth(bench, cluster)
        yield from _latencies(bench, opened, max(plan.ranks), report)
    for count in plan.ranks if "operations" in parts else ():
        with opened(count, plan.most) as cluster:
            bench = _bench(cluster, device, link_latency, seed)
            for operation in wanted:
                cluster.reset()  # the program memory does not hold all of ACCL's algorithms beside the others
                for size in (0,) if operation == "barrier" else plan.sizes:
                    if longest_buffer(operation, count, size) > plan.most:
                        continue
                    report(f"{operation} of {size:,} bytes at {count} ranks")
                    yield from points(bench, cluster, operation, size)


def _bench(cluster: Cluster, device: str, link_latency: int, seed: int) -> Bench:
    parameters = cluster.devices[0].parameters
    link = Link(parameters["width"], parameters["segment"], link_latency)
    known = {name: parameters[name] for name in ("width", "segment", "slots")}
    return Bench(link, seed, {**known, "device": device, "link_latency": link_latency, "commit": commit()})


def _latencies(bench: Bench, opened: Callable[[int, int], Cluster], most: int,
               report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    cycles: dict[str, dict[int, int]] = {"bcast": {}, "reduce": {}, "barrier": {}}
    for count in (2, 4, 8) if most >= _SMALL_RANKS else (2, 4):
        report(f"hops of {count} ranks")
        with opened(count, CHAIN_BYTES) as cluster:
            for operation, found in cycles.items():
                size = 0 if operation == "barrier" else CHAIN_BYTES
                found[count] = measure(cluster, operation, size, seed=bench.seed).elapsed
    measured = list(hops(bench, cycles))
    yield from measured
    if most < _SMALL_RANKS:
        return
    report("few bytes at 8 ranks")
    hop, _, control_hop = (point["value"] for point in measured)
    with opened(_SMALL_RANKS, CHAIN_BYTES) as cluster:
        yield from small(bench, cluster, hop, control_hop)
