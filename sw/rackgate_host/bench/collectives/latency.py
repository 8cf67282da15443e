# SPDX-License-Identifier: Apache-2.0
"""Latencies: of a call, of a hop, and of collectives with few bytes."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...collective.cluster import Cluster
from .aims import CONTROL_HOP, HOP, NOP, REDUCE_HOP
from .points import Bench, measure

__all__ = ["half_bandwidth", "hops", "nop", "small"]

#: Bytes of the chains whose slope over the ranks is the hop latency; enough for the chain to be chosen at 8 ranks.
CHAIN_BYTES = 4096
_SMALL_RANKS, _SMALL_BYTES = 8, 64
#: Sizes between which the half of the bandwidth is looked for.
_SIZES = tuple(64 * k for k in (1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64))
_ALLOWANCE, _BARRIER_ALLOWANCE = 1.3, 1.2


def nop(bench: Bench, cluster: Cluster) -> dict[str, Any]:
    """A call that does nothing, from its last word to its end."""
    found = max(cluster.run(lambda comm: [comm.nop() for _ in range(3)][-1]))
    return bench.point("nop", "cycles", found, "cycle", target=NOP, source="from a call's last word to its end")


def _slope(cycles: Mapping[int, int], steps: Callable[[int], float]) -> float:
    first, last = min(cycles), max(cycles)
    return (cycles[last] - cycles[first]) / (steps(last) - steps(first))


def hops(bench: Bench, found: Mapping[str, Mapping[int, int]]) -> Iterator[dict[str, Any]]:
    """Hop latencies, as what one rank more in a chain, or one round more of the barrier, takes more.

    ``found``: cycles by operation and ranks, of bcast and reduce with CHAIN_BYTES, and of barrier.
    """
    for case, operation, aim, steps, what in (
            ("hop", "bcast", HOP, lambda p: p - 1, f"chain of bcast, {CHAIN_BYTES} bytes: cycles a rank more"),
            ("hop-reduce", "reduce", REDUCE_HOP, lambda p: p - 1,
             f"chain of reduce, {CHAIN_BYTES} bytes: cycles a rank more"),
            ("hop-control", "barrier", CONTROL_HOP, math.log2, "barrier: cycles a round more")):
        cycles = found[operation]
        yield bench.point(case, "cycles", round(_slope(cycles, steps), 2), "cycle", target=aim + bench.link.latency,
                          source=what, ranks=[min(cycles), max(cycles)])


def small(bench: Bench, cluster: Cluster, hop: float, control_hop: float) -> Iterator[dict[str, Any]]:
    """Few bytes at 8 ranks, against 1.3 (3 a + 24), with the hop that is aimed at and with the one measured."""
    rounds = math.ceil(math.log2(_SMALL_RANKS))
    for operation in ("bcast", "allreduce", "barrier"):
        is_barrier = operation == "barrier"
        size = 0 if is_barrier else _SMALL_BYTES
        cycles = measure(cluster, operation, size, seed=bench.seed).elapsed

        def limit(hop: float, is_barrier: bool = is_barrier) -> float:
            return _BARRIER_ALLOWANCE * rounds * hop + NOP if is_barrier else _ALLOWANCE * (rounds * hop + NOP)

        aimed = limit((CONTROL_HOP if is_barrier else HOP) + bench.link.latency)
        measured = limit(control_hop if is_barrier else hop)
        case = f"small-{operation}-p{cluster.size}-{size}"
        yield bench.point(case, "cycles", cycles, "cycle", target=round(aimed, 1), ranks=cluster.size, bytes=size,
                          source="with the hop that is aimed at")
        yield bench.point(case, "fraction_of_limit", round(cycles / measured, 4), "1", target=1.0, ranks=cluster.size,
                          bytes=size, source="cycles over the limit with the hop that was measured",
                          limit_cycles=round(measured, 1))


def half_bandwidth(bench: Bench, cluster: Cluster) -> dict[str, Any]:
    """Bytes of a message at which half of the link is used, by straight lines between the sizes measured."""
    before = (0, 0.0)
    found = None
    for size in _SIZES:
        fraction = size / bench.link.width / measure(cluster, "sendrecv", size, seed=bench.seed).elapsed
        if fraction >= 0.5:
            found = before[0] + (size - before[0]) * (0.5 - before[1]) / (fraction - before[1])
            break
        before = (size, fraction)
    target = 2 * bench.link.width * (HOP + bench.link.latency)
    point = bench.point("sendrecv-half-bandwidth", "half_bandwidth_bytes", None if found is None else round(found, 1),
                        "byte", target=target, source="two ranks that send to each other", ranks=cluster.size)
    return point if found is not None else {**point, "why": f"not reached with {_SIZES[-1]} bytes"}
