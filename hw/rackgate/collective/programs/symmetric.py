# SPDX-License-Identifier: Apache-2.0
"""Shipped collectives in which all ranks are alike: allgather, reduce_scatter, allreduce, alltoall and barrier.

In the rings a message is one packet, and a rank begins the next round with two moves under way at most: a rank that
forwards holds a receive buffer while it waits for one of the next rank, so that longer messages could fill the whole
ring and stop it. That takes :data:`CREDITS` credits; with fewer a rank keeps what it forwards in memory, as in
:mod:`rackgate.collective.programs.frugal`. See :mod:`rackgate.collective.programs.shipped`.
"""

from rackgate.collective.programs.contract import ALLGATHER, ALLREDUCE, ALLTOALL, BARRIER, REDUCE_SCATTER
from rackgate.collective.programs.expression import Expression
from rackgate.collective.programs.frugal import frugal_allgather, frugal_allreduce, frugal_reduce_scatter
from rackgate.collective.programs.language import Buffer, Piece, Rank, collective
from rackgate.collective.programs.rooted import (
    LEAST_BYTES,
    LEAST_SEGMENT,
    MOST_BYTES,
    copy_unless_same,
    each_packet,
    has_fewer_bytes,
    whole,
)

__all__ = ["CREDITS", "allgather", "allreduce", "alltoall", "barrier", "reduce_scatter"]

#: Packets that each rank of a communicator must be able to have on its way to each other for the rings.
CREDITS = 4


@collective(ALLGATHER)
def allgather(c: Rank, *, limit: int = 512, credits: int = CREDITS) -> None:
    """The operand of rank r to block r of all results; the ring is taken from ``limit`` bytes of an operand on."""
    with c.when(has_fewer_bytes(c, limit, few=limit // MOST_BYTES, many=-(-limit // LEAST_BYTES))):
        copy_unless_same(c, whole(c.operand), c.result.block(c.rank))
        with c.when((c.size & (c.size - 1)) == 0):
            _doubling_allgather(c)
        with c.otherwise():
            _bruck_allgather(c)
        c.stop()
    if credits < CREDITS:
        frugal_allgather(c)
        copy_unless_same(c, whole(c.operand), c.result.block(c.rank))
        return
    with c.when(c.size > 2):
        _ring_allgather(c)
    with c.when(c.size == 2):
        c.send(c.operand, to=c.right)
        c.recv(c.right, into=c.result.block(c.right))
    copy_unless_same(c, whole(c.operand), c.result.block(c.rank))


def _ring_allgather(c: Rank) -> None:
    """A packet of each block at a time goes right, all the way round. The own block is not copied."""
    length = c.variable(c.minimum(c.packet, c.count))
    c.send(c.operand.part(0, length.value), to=c.right, tag=c.rank)
    done, tag = c.variable(0), c.variable(0)
    with c.repeat_while(lambda: done.value < c.count):
        with c.loop(1, c.size - 1) as k:
            block = c.minus(c.rank, k)
            c.recv_forward(c.left, into=c.result.part(block * c.count + done.value, length.value), to=c.right,
                           tag=tag.value + block)
        c.recv(c.left, into=c.result.part(c.right * c.count + done.value, length.value), tag=tag.value + c.right)
        done.set(done.value + length.value)
        tag.set(tag.value + c.size)
        with c.when(done.value < c.count):
            length.set(c.minimum(c.packet, c.count - done.value))
            c.sync(2)
            c.send(c.operand.part(done.value, length.value), to=c.right, tag=tag.value + c.rank)


def _doubling_allgather(c: Rank) -> None:
    """Groups of d ranks exchange what they have with the neighbouring group."""
    d = c.variable(1)
    with c.repeat_while(lambda: d.value < c.size):
        partner = c.rank ^ d.value
        first = c.rank - (c.rank & (d.value - 1))
        c.send(c.result.block(first, d.value), to=partner)
        c.recv(partner, into=c.result.block(first ^ d.value, d.value))
        d.set(d.value * 2)


def _bruck_allgather(c: Rank) -> None:
    """A rank that has d blocks from its own on sends them d to the left; they may go round the end of the result."""
    d = c.variable(1)
    with c.repeat_while(lambda: d.value < c.size):
        blocks = c.let(c.minimum(d.value, c.size - d.value))
        head = c.let(c.minimum(blocks, c.size - c.rank))
        target = c.minus(c.rank, d.value)
        c.send(c.result.block(c.rank, head), to=target)
        with c.when(head < blocks):
            c.send(c.result.block(0, blocks - head), to=target, tag=1)
        source = c.let(c.plus(c.rank, d.value))
        head = c.let(c.minimum(blocks, c.size - source))
        c.recv(source, into=c.result.block(source, head))
        with c.when(head < blocks):
            c.recv(source, into=c.result.block(0, blocks - head), tag=1)
        d.set(d.value * 2)


@collective(REDUCE_SCATTER)
def reduce_scatter(c: Rank, *, credits: int = CREDITS) -> None:
    """Block r, of all ranks, to rank r."""
    with c.when((c.size == 1) | (c.count == 0)):
        copy_unless_same(c, whole(c.operand), whole(c.result))
        c.stop()
    if credits < CREDITS:
        frugal_reduce_scatter(c)
    else:
        _ring_reduce_scatter(c)


def _ring_reduce_scatter(c: Rank) -> None:
    """A packet of each block at a time goes right, reduced on its way, to the rank that it is for."""
    length = c.variable(c.minimum(c.packet, c.count))
    c.send(c.operand.part(c.left * c.count, length.value), to=c.right, tag=c.left)
    done, tag = c.variable(0), c.variable(0)
    with c.repeat_while(lambda: done.value < c.count):
        with c.loop(2, c.size) as k:
            block = c.minus(c.rank, k)
            c.recv_reduce(c.left, c.operand.part(block * c.count + done.value, length.value), to=c.right,
                          tag=tag.value + block)
        c.recv_reduce(c.left, c.operand.part(c.rank * c.count + done.value, length.value),
                      into=c.result.part(done.value, length.value), tag=tag.value + c.rank)
        done.set(done.value + length.value)
        tag.set(tag.value + c.size)
        with c.when(done.value < c.count):
            length.set(c.minimum(c.packet, c.count - done.value))
            with c.when(c.size > 2):  # two ranks send nothing on, and hold no buffer
                c.sync(2)
            c.send(c.operand.part(c.left * c.count + done.value, length.value), to=c.right, tag=tag.value + c.left)


@collective(ALLREDUCE)
def allreduce(c: Rank, *, per_rank: int = 256, credits: int = CREDITS) -> None:
    """Of all ranks, to all ranks; the ring is taken from ``per_rank`` bytes times the size, or two packets, on."""
    # Here they are computed while the first branch waits for its operands; few bytes could not wait for them later.
    others, partner = c.let(c.size - 1), c.let(c.rank ^ 1)
    spare = c.let(c.size & others)
    packets = 2 if credits >= CREDITS else 1
    limit = c.minimum(c.size * per_rank, c.segment * packets)
    with c.when(has_fewer_bytes(c, limit, few=min(2 * per_rank, LEAST_SEGMENT) // MOST_BYTES, many=c.segment)):
        _doubling_allreduce(c, others, spare, partner)
        c.stop()
    with c.when(c.size <= 2):
        with c.when(c.size == 2):
            _pair_allreduce(c, is_frugal=credits < CREDITS)
            c.stop()
        copy_unless_same(c, whole(c.operand), whole(c.result))
        c.stop()
    if credits < CREDITS:
        frugal_allreduce(c)
    else:
        _ring_allreduce(c)


def _pair_allreduce(c: Rank, is_frugal: bool) -> None:
    """Two ranks exchange all they have, and add it up: as many bytes as a ring has, whose ranks wait for the sums.

    A packet at a time, because in place what comes waits for what is there to have been sent.
    """
    with each_packet(c) as (first, length):
        piece = c.operand.part(first, length)
        c.send(piece, to=c.right, tag=first)
        c.recv_reduce(c.right, piece, into=c.result.part(first, length), tag=first)
        if is_frugal:
            c.sync()


def _ring_allreduce(c: Rank) -> None:
    """A packet for each rank at a time, reduced on its way to the right, and then given to all on its way to the left.

    As the second half goes the other way, no rank ever waits for two messages with one tag from a neighbour.
    """
    most = c.let(c.packet * c.size)
    each, longer = c.variable(c.packet), c.variable(0)
    done, tag = c.variable(0), c.variable(0)
    with c.repeat_while(lambda: done.value < c.count):
        left_over = c.count - done.value
        with c.when(left_over < most):
            each.set(left_over // c.size)
            longer.set(left_over - each.value * c.size)

        def chunk(buffer: Buffer, rank: Expression) -> Piece:
            first = rank * each.value + c.minimum(rank, longer.value)
            return buffer.part(done.value + first, each.value + (rank < longer.value))

        c.send(chunk(c.operand, c.rank), to=c.right, tag=tag.value + c.rank)
        with c.loop(1, c.size - 1) as k:
            rank = c.minus(c.rank, k)
            c.recv_reduce(c.left, chunk(c.operand, rank), to=c.right, tag=tag.value + rank)
        c.recv_reduce(c.left, chunk(c.operand, c.right), into=chunk(c.result, c.right), to=c.left,
                      tag=tag.value + c.right)
        with c.loop(2, c.size) as k:
            rank = c.plus(c.rank, k)
            c.recv_forward(c.right, into=chunk(c.result, rank), to=c.left, tag=tag.value + rank)
        c.recv(c.right, into=chunk(c.result, c.rank), tag=tag.value + c.rank)
        c.sync(2)
        done.set(done.value + most)
        tag.set(tag.value + c.size)


def _doubling_allreduce(c: Rank, others: Expression, spare: Expression, partner: Expression) -> None:
    """Exchange with rank ^ 1, ^ 2, ^ 4, ...; a rank that has no such partner gives its data to one that has.

    There are as many ranks as ``others`` and one; ``spare`` is 0 if that is a power of two; ``partner`` is rank ^ 1.
    """
    with c.when(spare == 0):
        with c.when(others == 0):
            copy_unless_same(c, whole(c.operand), whole(c.result))
            c.stop()
        c.send(c.operand, to=partner)
        with c.when(c.size == 2):
            c.recv_reduce(partner, c.operand, into=c.result)
            c.stop()
        c.recv_reduce(partner, c.operand, into=c.result, to=c.rank ^ 2)
        last = _exchange(c, 2, c.size >> 1)
        c.recv_reduce(c.rank ^ last, c.result, into=c.result)
        c.stop()
    power = c.variable(2)
    with c.repeat_while(lambda: power.value * 2 < c.size):
        power.set(power.value * 2)
    with c.when(power.value <= c.rank):
        c.send(c.operand, to=c.rank - power.value)
        c.recv(c.rank - power.value, into=c.result)
        c.stop()
    folded = c.let(c.rank + power.value)
    with c.when(folded < c.size):
        c.recv_reduce(folded, c.operand, into=c.result, to=partner)
    with c.otherwise():
        c.copy(c.operand, c.result, to=partner)
    last = _exchange(c, 1, power.value >> 1)
    with c.when(folded < c.size):
        c.recv_reduce(c.rank ^ last, c.result, into=c.result, to=folded)
    with c.otherwise():
        c.recv_reduce(c.rank ^ last, c.result, into=c.result)


def _exchange(c: Rank, first: int, last: Expression) -> Expression:
    """All exchanges but the last one, each together with the sending of the next; ``last`` is returned."""
    mask = c.variable(first)
    with c.repeat_while(lambda: mask.value < last):
        c.recv_reduce(c.rank ^ mask.value, c.result, into=c.result, to=c.rank ^ (mask.value * 2))
        mask.set(mask.value * 2)
    return last


@collective(ALLTOALL)
def alltoall(c: Rank, *, credits: int = CREDITS) -> None:
    """Block s of rank r to block r of rank s."""
    with c.when(c.operand.address == c.result.address):
        _exchange_blocks(c, is_frugal=credits < CREDITS)
        c.stop()
    with c.loop(1, c.size) as k:
        target, source = c.plus(c.rank, k), c.minus(c.rank, k)
        c.send(c.operand.block(target), to=target)
        c.recv(source, into=c.result.block(source))
    c.copy(c.operand.block(c.rank), c.result.block(c.rank))


def _exchange_blocks(c: Rank, is_frugal: bool) -> None:
    """In round t two ranks exchange blocks in place, so many elements at a time as fit a packet.

    They are r and r ^ t if the size is a power of two: nobody idles but in round 0. Else they are r and (t - r) % size,
    and each rank idles once.
    """
    length = c.let(c.packet)
    with c.loop(c.size) as t:
        partner = c.variable(c.minus(t, c.rank))
        with c.when((c.size & (c.size - 1)) == 0):
            partner.set(c.rank ^ t)
        with c.when(partner.value != c.rank):
            done = c.variable(0)
            with c.repeat_while(lambda: done.value < c.count):
                piece = c.result.part(partner.value * c.count + done.value, c.minimum(length, c.count - done.value))
                c.send(piece, to=partner.value, tag=done.value)
                c.recv(partner.value, into=piece, tag=done.value)
                if is_frugal:
                    c.sync()
                done.set(done.value + length)


@collective(BARRIER)
def barrier(c: Rank) -> None:
    """No rank ends it before all have begun it.

    The message of a round is sent by the move that receives that of the round before, as that comes. A move that sends
    is not begun before all messages of earlier rounds have come, as its own message says that they have.
    """
    with c.when(c.size == 1):
        c.stop()
    c.signal(c.right)
    source, distance = c.variable(c.left), c.variable(2)
    with c.repeat_while(lambda: distance.value < c.size):
        c.sync()
        c.wait_for(source.value, to=c.plus(c.rank, distance.value))
        source.set(c.minus(c.rank, distance.value))
        distance.set(distance.value * 2)
    c.wait_for(source.value)
