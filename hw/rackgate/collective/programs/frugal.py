# SPDX-License-Identifier: Apache-2.0
"""Rings for communicators with a single credit: a rank keeps in memory what it sends on, and frees its buffers at once.

Nobody holds a receive buffer while waiting for a credit, and no message overtakes another one, so the ring cannot stop.
It takes more time, and more of the memory, which is read twice for an element that is reduced.
"""

from rackgate.collective.programs.language import Rank
from rackgate.collective.programs.rooted import each_packet

__all__ = ["frugal_allgather", "frugal_allreduce", "frugal_reduce_scatter"]


def frugal_allgather(c: Rank) -> None:
    """Blocks go right. The own one is not copied."""
    with c.when(c.size > 1):
        c.send(c.operand, to=c.right, tag=c.rank)
        with c.loop(1, c.size - 1) as k:
            block = c.minus(c.rank, k)
            c.recv(c.left, into=c.result.block(block), tag=block)
            c.sync()
            c.send(c.result.block(block), to=c.right, tag=block)
        c.recv(c.left, into=c.result.block(c.right), tag=c.right)


def frugal_reduce_scatter(c: Rank) -> None:
    """Blocks go right, a packet at a time. Partial results are kept in the result or, in place, the block; size > 1."""
    stride = c.let((c.operand.address == c.result.address) * c.count)
    with each_packet(c) as (first, length):
        c.send(c.operand.part(c.left * c.count + first, length), to=c.right, tag=c.left)
        with c.loop(2, c.size) as k:
            block = c.minus(c.rank, k)
            partial = c.result.part(block * stride + first, length)
            c.recv_reduce(c.left, c.operand.part(block * c.count + first, length), into=partial, tag=block)
            c.sync()
            c.send(partial, to=c.right, tag=block)
        c.recv_reduce(c.left, c.operand.part(c.rank * c.count + first, length),
                      into=c.result.part(first, length), tag=c.rank)
        c.sync()


def frugal_allreduce(c: Rank) -> None:
    """Chunks go right, and then left; size > 1."""
    c.send(c.operand.chunk(c.rank), to=c.right, tag=c.rank)
    with c.loop(1, c.size - 1) as k:
        chunk = c.minus(c.rank, k)
        c.recv_reduce(c.left, c.operand.chunk(chunk), into=c.result.chunk(chunk), tag=chunk)
        c.sync()
        c.send(c.result.chunk(chunk), to=c.right, tag=chunk)
    c.recv_reduce(c.left, c.operand.chunk(c.right), into=c.result.chunk(c.right), tag=c.right)
    c.sync()
    c.send(c.result.chunk(c.right), to=c.left, tag=c.right)
    with c.loop(2, c.size) as k:
        chunk = c.plus(c.rank, k)
        c.recv(c.right, into=c.result.chunk(chunk), tag=chunk)
        c.sync()
        c.send(c.result.chunk(chunk), to=c.left, tag=chunk)
    c.recv(c.right, into=c.result.chunk(c.rank), tag=c.rank)
