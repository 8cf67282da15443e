# SPDX-License-Identifier: Apache-2.0
"""Shipped collectives with a root: bcast, scatter, gather and reduce.

See :mod:`rackgate.collective.programs.shipped`.
"""

import contextlib
from collections.abc import Iterator

from rackgate.collective.abi import NODES
from rackgate.collective.programs.contract import BCAST, GATHER, REDUCE, SCATTER
from rackgate.collective.programs.expression import Expression, Number
from rackgate.collective.programs.language import Buffer, Piece, Rank, collective

__all__ = ["LEAST_BYTES", "LEAST_SEGMENT", "MOST_BYTES", "bcast", "copy_unless_same", "each_packet", "gather",
           "has_fewer_bytes", "reduce", "scatter", "whole"]

#: Of an element.
LEAST_BYTES, MOST_BYTES = 2, 8
#: Payload bytes of the largest packet, of engines in which that is shortest.
LEAST_SEGMENT = 256
#: Ranks up to which a root receives from one after the other: each has credits enough to go on while it waits.
_FEW_RANKS = 4


def copy_unless_same(c: Rank, source: Piece, target: Piece) -> None:
    """Copy ``source`` to ``target`` if they are in different places."""
    with c.when(source.address != target.address):
        c.copy(source, target)


def has_fewer_bytes(c: Rank, limit: Number, *, few: int, many: Number) -> Expression:
    """Whether the call has fewer bytes than ``limit``.

    ``few``, ``many``: below ``few`` elements it must be so, whatever their type and the number of ranks, and from
    ``many`` on it cannot be. Then nothing is computed: a shift takes as long as five other instructions or more, and
    the first move would wait for it.
    """
    return (c.count < few) | ((c.count < many) & ((c.count << c.shift) < limit))


@contextlib.contextmanager
def each_packet(c: Rank) -> Iterator[tuple[Expression, Expression]]:
    """The block for each packet of ``c.count`` elements: its first element, and how many there are."""
    done = c.variable(0)
    with c.repeat_while(lambda: done.value < c.count):
        length = c.let(c.minimum(c.packet, c.count - done.value))
        yield done.value, length
        done.set(done.value + length)


def whole(buffer: Buffer) -> Piece:
    """``c.count`` elements of ``buffer``, as a piece."""
    return buffer.block(0)


def _is_few(c: Rank, per_rank: int) -> Expression:
    """Whether there are fewer bytes than ``per_rank`` times the size. A single rank may take either way."""
    return has_fewer_bytes(c, c.size * per_rank, few=2 * per_rank // MOST_BYTES, many=NODES * per_rank // LEAST_BYTES)


@collective(BCAST)
def bcast(c: Rank, *, per_rank: int = 128) -> None:
    """From the root to all; the chain is taken from ``per_rank`` bytes times the size on."""
    with c.when(_is_few(c, per_rank)):
        _binomial_bcast(c)
        c.stop()
    with c.when(c.right == c.root):  # the last rank, or the only one
        with c.when(c.rank != c.root):
            c.recv(c.left, into=c.result)
        c.stop()
    with c.when(c.rank == c.root):
        c.send(c.operand, to=c.right)
        c.stop()
    c.recv_forward(c.left, into=c.result, to=c.right)


def _binomial_bcast(c: Rank) -> None:
    """v = rank - root receives from v less its highest bit, and sends to v + m for the greater powers of two m."""
    m = c.variable(1)
    with c.when(c.rank == c.root):
        with c.repeat_while(lambda: m.value < c.size):
            c.send(c.operand, to=c.plus(c.rank, m.value))
            m.set(m.value * 2)
        c.stop()
    v = c.let(c.minus(c.rank, c.root))
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
    is_one_packet = has_fewer_bytes(c, c.segment + 1, few=LEAST_SEGMENT // MOST_BYTES + 1, many=c.segment)
    with c.when((c.size <= _FEW_RANKS) | is_one_packet):
        with c.when(c.rank != c.root):
            c.send(c.operand, to=c.root)
            c.stop()
        with c.loop(1, c.size) as k:
            rank = c.plus(c.rank, k)
            c.recv(rank, into=c.result.block(rank))
    with c.otherwise():
        _gather_by_packets(c)
    copy_unless_same(c, whole(c.operand), c.result.block(c.rank))


def _gather_by_packets(c: Rank) -> None:
    """A packet of each rank in turn, as they come: a whole operand of one keeps the others' packets in the buffers.

    A rank sends one after the other. With more sends under way later ones could take all credits before the one that
    the root waits for; and the root's link is busy with the other ranks meanwhile.
    """
    with c.when(c.rank != c.root):
        with each_packet(c) as (first, length):
            c.send(c.operand.part(first, length), to=c.root, tag=first)
            c.sync()
        c.stop()
    with each_packet(c) as (first, length):
        with c.loop(1, c.size) as k:
            rank = c.plus(c.rank, k)
            c.recv(rank, into=c.result.part(rank * c.count + first, length), tag=first)


@collective(REDUCE)
def reduce(c: Rank, *, per_rank: int = 128) -> None:
    """Of all ranks to the root; the chain is taken from ``per_rank`` bytes times the size on, and with streams."""
    with c.when(_is_few(c, per_rank) & (c.streams == 0)):
        _binomial_reduce(c, c.let(c.minus(c.rank, c.root)))
        c.stop()
    with c.when(c.right == c.root):  # the last rank, or the only one
        with c.when(c.rank != c.root):
            c.send(c.operand.or_stream, to=c.left)
            c.stop()
        c.copy(c.operand.or_stream, c.result.or_stream)
        c.stop()
    with c.when(c.rank == c.root):
        c.recv_reduce(c.right, c.operand.or_stream, into=c.result.or_stream)
        c.stop()
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
