# SPDX-License-Identifier: Apache-2.0
"""What a collective should take, and what its links should carry.

Times are those of the best algorithms on these links, with ranks p, bytes n of a vector or c of a rank's part, and a
payload of S bytes in a packet, of which eta = S / (S + 32) of the link's words carry payload:

===================================  =====================================================================
sendrecv                             n / (W eta) + a
bcast, reduce                        chain n / (W eta) + (p - 1) a, or binomial tree log2 p (a + n / W)
scatter, gather                      (p - 1) c / (W eta) + a
allgather                            ring (p - 1) max(c / (W eta), a) + a, or doubling log2 p a + (p - 1) c / W
reduce_scatter, alltoall             (p - 1) max(c / (W eta), a) + a
allreduce                            ring 2 (p - 1) max(n / (p W eta), a) + a, or doubling log2 p (a + n / W)
barrier                              log2 p a
===================================  =====================================================================

The hop latency a is the one aimed at, not the one measured: 32 cycles and the link's, 40 with a reduction on the way,
24 for a message without payload.
"""

import math
from typing import NamedTuple

from rackgate.collective.abi import HEADER_SIZE

__all__ = ["BLOCKS", "CONTROL_HOP", "HOP", "NOP", "REDUCE_HOP", "REDUCING", "Link", "aimed_cycles",
           "fraction_goals", "is_long", "longest_buffer"]

#: Cycles that are aimed at: from the start of a move to its first payload at the receiver, besides the link's latency.
HOP, REDUCE_HOP, CONTROL_HOP = 32, 40, 24
#: From a call's last word to its end, if it does nothing.
NOP = 24
REDUCING = ("reduce", "reduce_scatter", "allreduce")
#: Operations whose bytes are those of one rank's part.
BLOCKS = ("scatter", "gather", "allgather", "reduce_scatter", "alltoall")
#: Chunks of so many hops and more are long: there the fraction of the bound has a target and a floor.
_LONG_CHUNK_HOPS = 4


class Link(NamedTuple):
    """Bytes a cycle, payload bytes of the largest packet, and cycles of latency."""

    width: int
    segment: int
    latency: int

    def hop(self, operation: str) -> int:
        """The hop latency that is aimed at."""
        if operation == "barrier":
            return CONTROL_HOP + self.latency
        return (REDUCE_HOP if operation in REDUCING else HOP) + self.latency

    def time(self, size: float) -> float:
        """Cycles of ``size`` bytes in packets."""
        return size * (self.segment + HEADER_SIZE) / (self.segment * self.width)


def _rounds(ranks: int) -> int:
    return math.ceil(math.log2(ranks))


def aimed_cycles(operation: str, ranks: int, size: int, link: Link, *, is_separate: bool = False) -> float:
    """Cycles of the best algorithm.

    ``is_separate``: operand and result are apart, and each rank's own part is copied as well, so that all of the result
    passes the port that writes the memory.
    """
    hop, time, steps, rounds = link.hop(operation), link.time, ranks - 1, _rounds(ranks)
    exchange = rounds * (hop + size / link.width)  # of all bytes, in each round
    ring = steps * max(time(size), hop) + hop
    match operation:
        case "sendrecv":
            found = time(size) + hop
        case "bcast" | "reduce":
            found = min(time(size) + steps * hop, exchange)
        case "scatter" | "gather":
            found = steps * time(size) + hop
        case "allgather":
            found = min(ring, rounds * hop + steps * size / link.width)
        case "allreduce":
            found = min(2 * steps * max(time(size / ranks), hop) + hop, exchange)
        case "reduce_scatter" | "alltoall":
            found = ring
        case _:
            found = rounds * hop
    if is_separate and operation in ("allgather", "alltoall"):
        return max(found, ranks * size / link.width + hop)
    return found


def longest_buffer(operation: str, ranks: int, size: int) -> int:
    """Bytes of the longest buffer of a rank."""
    return ranks * size if operation in BLOCKS else size


def is_long(operation: str, ranks: int, size: int, link: Link) -> bool:
    """Whether chunks are so long that the links should be busy almost all of the time."""
    chunk = size / ranks if operation == "allreduce" else size
    return operation != "barrier" and chunk / link.width >= _LONG_CHUNK_HOPS * link.hop(operation)


def fraction_goals(operation: str) -> tuple[float, float]:
    """Floor and target of the fraction of the bound, where chunks are long."""
    return (0.8, 0.9) if operation == "alltoall" else (0.9, 0.95)
