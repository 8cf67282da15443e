# SPDX-License-Identifier: Apache-2.0
"""The collectives that every engine is loaded with, for ACCL's scenarios.

Each chooses its algorithm itself, when it runs, by the bytes of the call and the size of the communicator:

==============  ==========================================  ===================================================
collective      few bytes                                   many bytes
==============  ==========================================  ===================================================
bcast           binomial tree                               chain: a rank sends on what comes while it comes
scatter         the root sends to the ranks behind it in order
gather          the root receives from the ranks behind it  the same with 4 ranks and fewer; else a packet of
                in order                                    each in turn
reduce          binomial tree                               chain towards the root
allgather       recursive doubling; Bruck if the size is    ring; two ranks exchange their operands
                no power of two
reduce_scatter  ring
allreduce       recursive doubling                          ring, reducing rightwards, gathering leftwards;
                                                            two ranks exchange a packet at a time
alltoall        rotated: in step k to rank + k, from rank - k; in place: pairwise, a segment at a time
barrier         dissemination
==============  ==========================================  ===================================================

Order of reduction, with ``f(received, local)``, ``x[r]`` the operand of rank r, and v = (r - root) % size:

* reduce, few bytes: ``a[v] = x[v]``, and then for m = 1, 2, 4, ... below the lowest bit of v (at the root: below the
  size), as long as v + m is a rank: ``a[v] = f(a[v + m], a[v])``.
* reduce, many bytes: ``a[v] = f(a[v + 1], x[v])`` from the last v down to the root; ``a[last] = x[last]``.
* reduce_scatter: block b begins as ``x[b + 1]`` and goes right: ``a[r] = f(a[r - 1], x[r])``, to rank b.
* allreduce, many bytes: chunk b begins as ``x[b]`` and goes right in the same way, to rank b - 1. Of two ranks, rank r
  makes ``f(x[1 - r], x[r])`` of all chunks.
* allreduce, few bytes: with P the greatest power of two that is not greater than the size, ranks r below size - P
  first make ``a[r] = f(x[r + P], x[r])``; then for m = 1, 2, 4, ... below P ``a[r] = f(a[r ^ m], a[r])`` at all ranks
  below P. All ranks have the same bits if f gives the same bits with its operands exchanged, as SUM, MAX and MIN do.

Each names its buffers as its :class:`~rackgate.collective.programs.contract.Contract` does. bcast sends
``operand`` at the root and receives into ``result`` elsewhere. reduce, few bytes, uses ``result`` as scratch
at the other ranks.
"""

import functools
import math

from rackgate.collective.abi import Scenario
from rackgate.collective.programs.contract import COMBINE, COPY, NOTHING, RECV, SEND, STREAM_PUT
from rackgate.collective.programs.language import Collective, Rank, collective
from rackgate.collective.programs.program import Program, build
from rackgate.collective.programs.rooted import bcast, gather, reduce, scatter
from rackgate.collective.programs.symmetric import CREDITS, allgather, allreduce, alltoall, barrier, reduce_scatter

__all__ = ["COLLECTIVES", "CREDITS", "allgather", "allreduce", "alltoall", "barrier", "bcast", "combine", "copy",
           "gather", "nop", "programs", "recv", "reduce", "reduce_scatter", "scatter", "send", "stream_put"]


@collective(NOTHING)
def nop(c: Rank) -> None:
    """Nothing: how long a call takes."""
    c.stop()


@collective(COPY)
def copy(c: Rank) -> None:
    """``operand`` to ``result``."""
    c.copy(c.operand.or_stream, c.result.or_stream)


@collective(COMBINE)
def combine(c: Rank) -> None:
    """``f(operand_1, operand)`` to ``result``."""
    c.combine(c.operand.or_stream, c.operand_1, into=c.result.or_stream)


@collective(SEND)
def send(c: Rank) -> None:
    """Send ``operand`` to the peer."""
    c.send(c.operand.or_stream, to=c.root, tag=c.tag)


@collective(RECV)
def recv(c: Rank) -> None:
    """Receive ``result`` from the peer."""
    c.recv(c.root, into=c.result.or_stream, tag=c.tag)


@collective(STREAM_PUT)
def stream_put(c: Rank) -> None:
    """Send ``operand`` to the kernel's stream ``tag`` of the peer."""
    c.put(c.operand.or_stream, to=c.root, tag=c.tag)


#: By scenario. CONFIG is not among them: an engine is configured by its registers.
COLLECTIVES: dict[Scenario, Collective] = {
    Scenario.COPY: copy, Scenario.COMBINE: combine, Scenario.SEND: send, Scenario.RECV: recv, Scenario.BCAST: bcast,
    Scenario.SCATTER: scatter, Scenario.GATHER: gather, Scenario.REDUCE: reduce, Scenario.ALLGATHER: allgather,
    Scenario.ALLREDUCE: allreduce, Scenario.REDUCE_SCATTER: reduce_scatter, Scenario.BARRIER: barrier,
    Scenario.ALLTOALL: alltoall, Scenario.STREAM_PUT: stream_put, Scenario.NOP: nop,
}


@functools.cache
def programs(width: int = 8, hop: int = 48, credits: int = CREDITS) -> dict[Scenario, Program]:
    """All of them, compiled. They are not checked again here, as the project's tests do that.

    Parameters
    ----------
    width:
        Bytes a cycle of the link.
    hop:
        Cycles from where a rank starts a move until its first payload is at the receiver. These two set the bytes at
        which algorithms change.
    credits:
        Least packets that each rank of a communicator may have on its way to each other. With fewer than
        :data:`~rackgate.collective.programs.symmetric.CREDITS`
        the programs are other ones: slower, and safe with a single credit.
    """
    product = 1 << round(math.log2(width * hop))  # a power of two, as programs then shift and do not multiply
    tree, ring = {"per_rank": max(1, product // 4)}, {"per_rank": max(1, product // 2)}
    tuning = {Scenario.BCAST: tree, Scenario.REDUCE: tree, Scenario.ALLREDUCE: ring,
              Scenario.ALLGATHER: {"limit": product}}
    found = {}
    for scenario, function in COLLECTIVES.items():
        credit = {"credits": credits} if "credits" in function.tunables else {}
        found[scenario] = build(function, (), **tuning.get(scenario, {}), **credit)
    return found
