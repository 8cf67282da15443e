# SPDX-License-Identifier: Apache-2.0
"""The collectives that every engine is loaded with, for ACCL's scenarios.

Each chooses its algorithm itself, when it runs, by the bytes of the call and the size of the communicator:

==============  ==========================================  ===================================================
collective      few bytes                                   many bytes
==============  ==========================================  ===================================================
bcast           binomial tree                               chain: a rank sends on what comes while it comes
scatter         the root sends to the ranks behind it in order
gather          the root receives from the ranks behind it in order
reduce          binomial tree                               chain towards the root
allgather       recursive doubling; Bruck if the size is    ring
                no power of two
reduce_scatter  ring
allreduce       recursive doubling                          ring, reducing rightwards, gathering leftwards
alltoall        rotated: in step k to rank + k, from rank - k; in place: pairwise, a segment at a time
barrier         dissemination
==============  ==========================================  ===================================================

Order of reduction, with ``f(received, local)``, ``x[r]`` the operand of rank r, and v = (r - root) % size:

* reduce, few bytes: ``a[v] = x[v]``, and then for m = 1, 2, 4, ... below the lowest bit of v (at the root: below the
  size), as long as v + m is a rank: ``a[v] = f(a[v + m], a[v])``.
* reduce, many bytes: ``a[v] = f(a[v + 1], x[v])`` from the last v down to the root; ``a[last] = x[last]``.
* reduce_scatter: block b begins as ``x[b + 1]`` and goes right: ``a[r] = f(a[r - 1], x[r])``, to rank b.
* allreduce, many bytes: chunk b begins as ``x[b]`` and goes right in the same way, to rank b - 1.
* allreduce, few bytes: with P the greatest power of two that is not greater than the size, ranks r below size - P
  first make ``a[r] = f(x[r + P], x[r])``; then for m = 1, 2, 4, ... below P ``a[r] = f(a[r ^ m], a[r])`` at all ranks
  below P. All ranks have the same bits if f gives the same bits with its operands exchanged, as SUM, MAX and MIN do.

Each names its buffers as its :class:`~rackgate.collective.contract.Contract` does. bcast sends ``operand`` at the root
and receives into ``result`` elsewhere. reduce, few bytes, uses ``result`` as scratch at the other ranks.
"""

import functools

from rackgate.collective.abi import Scenario
from rackgate.collective.contract import (
    ALLGATHER,
    ALLREDUCE,
    ALLTOALL,
    BARRIER,
    BCAST,
    COMBINE,
    COPY,
    GATHER,
    NOTHING,
    RECV,
    REDUCE,
    REDUCE_SCATTER,
    SCATTER,
    SEND,
    STREAM_PUT,
)
from rackgate.collective.expression import Expression
from rackgate.collective.language import Buffer, Collective, Piece, Rank, collective
from rackgate.collective.program import Program, build

__all__ = ["COLLECTIVES", "allgather", "allreduce", "alltoall", "barrier", "bcast", "combine", "copy", "gather", "nop", "programs",
           "recv", "reduce", "reduce_scatter", "scatter", "send", "stream_put"]


def _copy_unless_same(c: Rank, source: Piece, target: Piece) -> None:
    with c.when(source.address != target.address):
        c.copy(source, target)


def _whole(buffer: Buffer) -> Piece:
    return buffer.block(0)


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


@collective(BCAST)
def bcast(c: Rank, *, per_rank: int = 96) -> None:
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
    _copy_unless_same(c, c.operand.block(c.rank), _whole(c.result))


@collective(GATHER)
def gather(c: Rank) -> None:
    """The operand of rank r to block r of the root's result."""
    with c.when(c.rank != c.root):
        c.send(c.operand, to=c.root)
        c.stop()
    with c.loop(1, c.size) as k:
        rank = c.plus(c.rank, k)
        c.recv(rank, into=c.result.block(rank))
    _copy_unless_same(c, _whole(c.operand), c.result.block(c.rank))


@collective(REDUCE)
def reduce(c: Rank, *, per_rank: int = 96) -> None:
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
            _copy_unless_same(c, _whole(c.operand), _whole(c.result))
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


@collective(ALLGATHER)
def allgather(c: Rank, *, limit: int = 384) -> None:
    """The operand of rank r to block r of all results; the ring is taken from ``limit`` bytes of an operand on."""
    with c.when((c.count << c.shift) < limit):
        _copy_unless_same(c, _whole(c.operand), c.result.block(c.rank))
        with c.when((c.size & (c.size - 1)) == 0):
            _doubling_allgather(c)
        with c.otherwise():
            _bruck_allgather(c)
        c.stop()
    done, tag = c.variable(0), c.variable(0)
    with c.when(c.size > 1):
        with c.repeat_while(lambda: done.value < c.count):
            length = c.let(c.minimum(c.packet, c.count - done.value))
            c.send(c.operand.part(done.value, length), to=c.right, tag=tag.value + c.rank)
            with c.loop(1, c.size - 1) as k:
                block = c.minus(c.rank, k)
                c.recv_forward(c.left, into=c.result.part(block * c.count + done.value, length), to=c.right,
                               tag=tag.value + block)
            c.recv(c.left, into=c.result.part(c.right * c.count + done.value, length), tag=tag.value + c.right)
            c.sync(2)
            done.set(done.value + length)
            tag.set(tag.value + c.size)
    _copy_unless_same(c, _whole(c.operand), c.result.block(c.rank))


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
def reduce_scatter(c: Rank) -> None:
    """Block r, of all ranks, to rank r."""
    with c.when(c.size == 1):
        _copy_unless_same(c, _whole(c.operand), _whole(c.result))
        c.stop()
    done, tag = c.variable(0), c.variable(0)
    with c.repeat_while(lambda: done.value < c.count):
        length = c.let(c.minimum(c.packet, c.count - done.value))
        c.send(c.operand.part(c.left * c.count + done.value, length), to=c.right, tag=tag.value + c.left)
        with c.loop(2, c.size) as k:
            block = c.minus(c.rank, k)
            c.recv_reduce(c.left, c.operand.part(block * c.count + done.value, length), to=c.right,
                          tag=tag.value + block)
        c.recv_reduce(c.left, c.operand.part(c.rank * c.count + done.value, length),
                      into=c.result.part(done.value, length), tag=tag.value + c.rank)
        c.sync(2)
        done.set(done.value + length)
        tag.set(tag.value + c.size)


@collective(ALLREDUCE)
def allreduce(c: Rank, *, base: int = 480, per_rank: int = 128) -> None:
    """Of all ranks, to all ranks; the ring is taken from ``base + per_rank * size`` bytes on."""
    with c.when((c.count << c.shift) < c.minimum(c.size * per_rank + base, c.segment * 2)):
        _doubling_allreduce(c)
        c.stop()
    with c.when(c.size == 1):
        _copy_unless_same(c, _whole(c.operand), _whole(c.result))
        c.stop()
    _ring_allreduce(c)


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


def _doubling_allreduce(c: Rank) -> None:
    """Exchange with rank ^ 1, ^ 2, ^ 4, ...; a rank that has no such partner gives its data to one that has."""
    with c.when((c.size & (c.size - 1)) == 0):
        with c.when(c.size == 1):
            _copy_unless_same(c, _whole(c.operand), _whole(c.result))
            c.stop()
        c.send(c.operand, to=c.rank ^ 1)
        with c.when(c.size == 2):
            c.recv_reduce(c.rank ^ 1, c.operand, into=c.result)
            c.stop()
        c.recv_reduce(c.rank ^ 1, c.operand, into=c.result, to=c.rank ^ 2)
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
        c.recv_reduce(folded, c.operand, into=c.result, to=c.rank ^ 1)
    with c.otherwise():
        c.copy(c.operand, c.result, to=c.rank ^ 1)
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
def alltoall(c: Rank) -> None:
    """Block s of rank r to block r of rank s."""
    with c.when(c.operand.address == c.result.address):
        _exchange_blocks(c)
        c.stop()
    with c.loop(1, c.size) as k:
        target, source = c.plus(c.rank, k), c.minus(c.rank, k)
        c.send(c.operand.block(target), to=target)
        c.recv(source, into=c.result.block(source))
    c.copy(c.operand.block(c.rank), c.result.block(c.rank))


def _exchange_blocks(c: Rank) -> None:
    """In round t ranks r and (t - r) % size exchange blocks in place, so many elements at a time as fit a packet."""
    length = c.let(c.packet)
    with c.loop(c.size) as t:
        partner = c.let(c.minus(t, c.rank))
        with c.when(partner != c.rank):
            done = c.variable(0)
            with c.repeat_while(lambda: done.value < c.count):
                piece = c.result.part(partner * c.count + done.value, c.minimum(length, c.count - done.value))
                c.send(piece, to=partner, tag=done.value)
                c.recv(partner, into=piece, tag=done.value)
                done.set(done.value + length)


@collective(BARRIER)
def barrier(c: Rank) -> None:
    """No rank ends it before all have begun it."""
    distance = c.variable(1)
    with c.repeat_while(lambda: distance.value < c.size):
        c.signal(c.plus(c.rank, distance.value))
        c.wait_for(c.minus(c.rank, distance.value))
        c.sync()
        distance.set(distance.value * 2)


#: By scenario. CONFIG is not among them: an engine is configured by its registers.
COLLECTIVES: dict[Scenario, Collective] = {
    Scenario.COPY: copy, Scenario.COMBINE: combine, Scenario.SEND: send, Scenario.RECV: recv, Scenario.BCAST: bcast,
    Scenario.SCATTER: scatter, Scenario.GATHER: gather, Scenario.REDUCE: reduce, Scenario.ALLGATHER: allgather,
    Scenario.ALLREDUCE: allreduce, Scenario.REDUCE_SCATTER: reduce_scatter, Scenario.BARRIER: barrier,
    Scenario.ALLTOALL: alltoall, Scenario.STREAM_PUT: stream_put, Scenario.NOP: nop,
}


@functools.cache
def programs(width: int = 8, hop: int = 48) -> dict[Scenario, Program]:
    """All of them, compiled. They are not checked again here: the tests have done that, for 4 credits.

    Parameters
    ----------
    width:
        Bytes a cycle of the link.
    hop:
        Cycles from where a rank starts a move until its first payload is at the receiver. With these the sizes are
        set at which the algorithms change: for trees and chains where ``bytes / width`` is a quarter of ``hop * size``,
        and so on.
    """
    product = width * hop
    tuning = {Scenario.BCAST: {"per_rank": product // 4}, Scenario.REDUCE: {"per_rank": product // 4},
              Scenario.ALLGATHER: {"limit": product},
              Scenario.ALLREDUCE: {"base": product * 5 // 4, "per_rank": product // 3}}
    return {scenario: build(function, (), **tuning.get(scenario, {})) for scenario, function in COLLECTIVES.items()}
