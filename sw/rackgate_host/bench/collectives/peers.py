# SPDX-License-Identifier: Apache-2.0
"""ACCL's algorithms on the same engines and links (:mod:`rackgate.collective.programs.peer`)."""

from functools import cache

from rackgate.collective.programs import peer
from rackgate.collective.programs.program import Program, build

__all__ = ["EAGER_BYTES", "SERIAL", "algorithm", "bytes_ratio"]

#: Bytes up to which ACCL sends without asking, by default; its alltoall and barrier always ask.
EAGER_BYTES = 1024
#: Operations that it does in two halves, one after the other: a reduce to rank 0, and from there to all. The bytes into
#: rank 0 and out of it then pass its port one after the other.
SERIAL = ("allreduce", "reduce_scatter")

#: Its bytes, one after the other, over the least that a link must carry, by ranks: allreduce 5n, 6n and 8n over
#: 2 (p - 1) n / p, reduce_scatter 15c, 31c and 79c over (p - 1) c.
_BYTES_RATIOS = {
    "allreduce": {4: 5 / 1.5, 8: 6 / 1.75, 16: 8 / 1.875},
    "reduce_scatter": {4: 15 / 3, 8: 31 / 7, 16: 79 / 15},
}


@cache
def algorithm(operation: str, size: int) -> Program:
    """The program that ACCL's firmware would run for ``size`` bytes; of operations that it has."""
    name = f"{operation}_eager"
    if size > EAGER_BYTES or name not in peer.COLLECTIVES:
        name = f"{operation}_rendezvous"
    return build(peer.COLLECTIVES[name], ())  # the project's tests have checked them


def bytes_ratio(operation: str, ranks: int) -> float | None:
    """How many times the bytes of this project's algorithm its own needs, for many bytes; None: no claim is made."""
    return _BYTES_RATIOS.get(operation, {}).get(ranks)
