# SPDX-License-Identifier: Apache-2.0
"""What links alone allow: least cycles of each collective, and the bytes of its busiest link.

With ranks p, ``size`` bytes n of the call's count (the whole vector of send, bcast, reduce and allreduce, one rank's
part c of the others), width W bytes a cycle, and hop latency a in cycles, which is from the start of a move at the
sender until its first payload is at its receiver. A packet has a header of 32 bytes, so at most S / (S + 32) of a link
carries payload. One port a node, full duplex.
"""

import math
from typing import NamedTuple

from rackgate.collective.abi import HEADER_SIZE

__all__ = ["OPERATIONS", "Bound", "bound"]


class Bound(NamedTuple):
    """``bytes``: payload that the busiest port must carry. ``latency``: hops that follow each other at least."""

    bytes: int
    hops: int

    def cycles(self, width: int, segment: int, hop: int) -> float:
        """Least cycles: whichever of the two takes longer, and one hop for the last byte."""
        efficiency = segment / (segment + HEADER_SIZE)
        return max(self.bytes / (width * efficiency) + (hop if self.hops else 0), self.hops * hop)


def _log(ranks: int) -> int:
    return math.ceil(math.log2(ranks))


#: Payload bytes of the busiest port, and hops, by operation.
_BOUNDS = {
    "sendrecv": lambda p, n: Bound(n, 1),
    "bcast": lambda p, n: Bound(n, _log(p)),
    "scatter": lambda p, n: Bound((p - 1) * n, 1),
    "gather": lambda p, n: Bound((p - 1) * n, 1),
    "reduce": lambda p, n: Bound(n, _log(p)),
    "allgather": lambda p, n: Bound((p - 1) * n, _log(p)),
    "reduce_scatter": lambda p, n: Bound((p - 1) * n, _log(p)),
    "allreduce": lambda p, n: Bound(math.ceil(2 * (p - 1) * n / p), _log(p)),
    "alltoall": lambda p, n: Bound((p - 1) * n, 1),
    "barrier": lambda p, n: Bound(0, _log(p)),
}
OPERATIONS = tuple(_BOUNDS)


def bound(operation: str, ranks: int, size: int) -> Bound:
    """The bound of ``operation`` with ``size`` bytes, whatever the algorithm. Raises ValueError for an unknown one."""
    if operation not in _BOUNDS:
        raise ValueError(f"operation must be one of {', '.join(_BOUNDS)}, not {operation!r}")
    if ranks < 2:
        return Bound(0, 0)
    return _BOUNDS[operation](ranks, size)
