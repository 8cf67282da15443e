# SPDX-License-Identifier: Apache-2.0
"""Shipped collectives with a root: bcast, scatter, gather and reduce.

See :mod:`rackgate.collective.programs.shipped`.
"""

from rackgate.collective.programs.contract import BCAST, GATHER, REDUCE, SCATTER
from rackgate.collective.programs.expression import Expression
from rackgate.collective.programs.language import Buffer, Piece, Rank, collective

__all__ = ["bcast", "copy_unless_same", "gather", "reduce", "scatter", "whole"]


def copy_unless_same(c: Rank, source: Piece, target: Piece) -> None:
    """Copy ``source`` to ``target`` if they are in different places."""
    with c.when(source.address != target.address):
        c.copy(source, target)


def whole(buffer: Buffer) -> Piece:
    """``c.count`` elements of ``buffer``, as a piece."""
    return buffer.block(0)


@collective(BCAST)
def bcast(c: Rank, *, per_rank: int = 128) -> None:
    """From the root to all; the chain is taken from ``per_rank`` bytes times the size on."""
    v = c.minus(c.rank, c.root)
    with c.when((c.count << c.shift) < c.size * per_rank):
        _binomial_bcast(c, c.let(v))
        c.stop()
    with c.when(v == 0):
        with c.when(c.size > 1):
            c.send(c.operand, to=c.right)
        c.stop()
    with c.when(c.right == c.root):
        c.recv(c.left, into=c.result)
    with c.otherwise():
        c.recv_forward(c.left, into=c.result, to=c.right)


def _binomial_bcast(c: Rank, v: Expression) -> None:
    """v receives from v less its highest bit, and sends to v + m for the greater powers of two m."""
    m = c.variable(1)
    with c.when(v == 0):
        with c.repeat_while(lambda: m.value < c.size):
            c.send(c.operand, to=c.plus(c.rank, m.value))
            m.set(m.value * 2)
        c.stop()
    with c.repeat_while(lambda: m.value <= v):
        m.set(m.value * 2)
    parent = c.minus(c.rank, m.value >> 1)
    with c.when(v + m.value >= c.size):
        c.recv(parent, into=c.result)
        c.stop()
    c.recv_forward(parent, into=c.result, to=c.plus(c.rank, m.value))
    m.set(m.value * 2)
    with c.repeat_while(lambda: v + m.value < c.size):
        c.send(c.result, to=c.plus(c.rank, m.value))
        m.set(m.value * 2)


@collective(SCATTER)
def scatter(c: Rank) -> None:
    """Block r of the root's operand to rank r."""
    with c.when(c.rank != c.root):
        c.recv(c.root, into=c.result)
        c.stop()
    with c.loop(1, c.size) as k:
        rank = c.plus(c.rank, k)
        c.send(c.operand.block(rank), to=rank)
    copy_unless_same(c, c.operand.block(c.rank), whole(c.result))


@collective(GATHER)
def gather(c: Rank) -> None:
    """The operand of rank r to block r of the root's result."""
    with c.when(c.rank != c.root):
        c.send(c.operand, to=c.root)
        c.stop()
    with c.loop(1, c.size) as k:
        rank = c.plus(c.rank, k)
        c.recv(rank, into=c.result.block(rank))
    copy_unless_same(c, whole(c.operand), c.result.block(c.rank))


@collective(REDUCE)
def reduce(c: Rank, *, per_rank: int = 128) -> None:
    """Of all ranks to the root; the chain is taken from ``per_rank`` bytes times the size on, and with streams."""
    v = c.let(c.minus(c.rank, c.root))
    with c.when(((c.count << c.shift) < c.size * per_rank) & (c.streams == 0)):
        _binomial_reduce(c, v)
        c.stop()
    with c.when(v == 0):
        with c.when(c.size > 1):
            c.recv_reduce(c.right, c.operand.or_stream, into=c.result.or_stream)
        with c.otherwise():
            c.copy(c.operand.or_stream, c.result.or_stream)
        c.stop()
    with c.when(c.right == c.root):
        c.send(c.operand.or_stream, to=c.left)
    with c.otherwise():
        c.recv_reduce(c.right, c.operand.or_stream, to=c.left)


def _binomial_reduce(c: Rank, v: Expression) -> None:
    """v receives from v + m for the powers of two m below its lowest bit, and sends to v less that bit."""
    with c.when(v & 1 != 0):
        c.send(c.operand, to=c.left)
        c.stop()
    m = c.variable(2)
    with c.when(v == 0):
        with c.when(c.size == 1):
            copy_unless_same(c, whole(c.operand), whole(c.result))
            c.stop()
        c.recv_reduce(c.right, c.operand, into=c.result)
        with c.repeat_while(lambda: m.value < c.size):
            c.recv_reduce(c.plus(c.rank, m.value), c.result, into=c.result)
            m.set(m.value * 2)
        c.stop()
    lowest = c.let(v ^ (v & (v - 1)))
    reach = c.let(c.minimum(lowest, c.size - v))
    parent = c.minus(c.rank, lowest)
    with c.when(reach == 1):
        c.send(c.operand, to=parent)
        c.stop()
    with c.when(reach <= 2):
        c.recv_reduce(c.right, c.operand, to=parent)
        c.stop()
    c.recv_reduce(c.right, c.operand, into=c.result)
    with c.repeat_while(lambda: m.value * 2 < reach):
        c.recv_reduce(c.plus(c.rank, m.value), c.result, into=c.result)
        m.set(m.value * 2)
    c.recv_reduce(c.plus(c.rank, m.value), c.result, to=parent)
