# SPDX-License-Identifier: Apache-2.0
"""The algorithms of ACCL's firmware as programs of this engine, to compare with on the same links.

They are those of https://github.com/Xilinx/ACCL, file ``ccl_offload_control.c``, as far as they are moves. The eager
ones are for few bytes, the others ("rendezvous") for more than its threshold: there a receiver first tells the sender
its address, a message without elements here, and nothing is sent on before all of it has come. Its engine cannot keep
and send on what it receives in one move, so its programs here do not either; a segment is a packet.

Ranks that need memory to receive into use ``operand_1``, and some overwrite ``operand``: see each contract.
"""

from collections.abc import Callable

from rackgate.collective.programs.contract import (
    ALLGATHER,
    ALLREDUCE,
    ALLTOALL,
    BARRIER,
    BCAST,
    GATHER,
    REDUCE,
    REDUCE_SCATTER,
    SCATTER,
    Case,
    Contract,
)
from rackgate.collective.programs.expression import Expression, Number
from rackgate.collective.programs.language import Buffer, Collective, Piece, Rank, collective
from rackgate.collective.programs.symmetric import reduce_scatter as ring_reduce_scatter

__all__ = ["COLLECTIVES", "FLAT_BCAST", "FLAT_REDUCE"]

#: Ranks up to which the root of bcast sends to everyone itself, and that of reduce receives from everyone.
FLAT_BCAST, FLAT_REDUCE = 3, 4


def _with_scratch(contract: Contract, elements: Callable[[Case, int], int]) -> Contract:
    """``contract`` for a program that needs ``operand_1`` to itself, and is never in place."""
    return contract._replace(operand_1=elements, in_place=None)


def _reduce_scratch(parts: Callable[[Case], int]) -> Callable[[Case, int], int]:
    """Room for all messages at once in the flat reduce, and for one in the tree."""
    return lambda case, rank: case.count * parts(case) * (case.size - 1 if case.size <= FLAT_REDUCE else 1)


# A message with the receiver's address before it: `tag` is that of the message, `tag + 1` the address's.


def _offer(c: Rank, source: Number, into: Piece, tag: int) -> None:
    c.signal(source, tag=tag + 1)
    c.recv(source, into=into, tag=tag)


def _answer(c: Rank, piece: Piece, to: Number, tag: int) -> None:
    c.wait_for(to, tag=tag + 1)
    c.sync()
    c.send(piece, to=to, tag=tag)


# Eager


@collective(BCAST)
def bcast_eager(c: Rank) -> None:
    """The root sends each segment to every rank in turn."""
    done = c.variable(0)
    with c.repeat_while(lambda: done.value < c.count):
        length = c.let(c.minimum(c.packet, c.count - done.value))
        with c.when(c.rank == c.root):
            with c.loop(1, c.size) as k:
                c.send(c.operand.part(done.value, length), to=c.plus(c.rank, k), tag=done.value)
        with c.otherwise():
            c.recv(c.root, into=c.result.part(done.value, length), tag=done.value)
        done.set(done.value + length)


@collective(SCATTER._replace(in_place=None))
def scatter_eager(c: Rank) -> None:
    """The root sends to the ranks in their order."""
    with c.when(c.rank != c.root):
        c.recv(c.root, into=c.result)
        c.stop()
    with c.loop(c.size) as rank:
        with c.when(rank == c.rank):
            c.copy(c.operand.block(rank), c.result)
        with c.otherwise():
            c.send(c.operand.block(rank), to=rank)


@collective(GATHER._replace(in_place=None))
def gather_eager(c: Rank) -> None:
    """Messages go to the left, towards the root, from rank to rank."""
    with c.when(c.rank == c.root):
        c.copy(c.operand, c.result.block(c.rank))
        with c.loop(1, c.size) as k:
            rank = c.plus(c.rank, k)
            c.recv(c.right, into=c.result.block(rank), tag=rank)
        c.stop()
    c.send(c.operand, to=c.left, tag=c.rank)
    with c.loop(1, c.size - c.minus(c.rank, c.root)) as k:
        c.recv_forward(c.right, to=c.left, count=c.count, tag=c.plus(c.rank, k))


@collective(REDUCE._replace(in_place=None))
def reduce_eager(c: Rank) -> None:
    """A chain to the left, towards the root."""
    with c.when(c.size == 1):
        c.copy(c.operand, c.result)
        c.stop()
    with c.when(c.rank == c.root):
        c.recv_reduce(c.right, c.operand, into=c.result)
        c.stop()
    with c.when(c.right == c.root):
        c.send(c.operand, to=c.left)
    with c.otherwise():
        c.recv_reduce(c.right, c.operand, to=c.left)


@collective(ALLGATHER._replace(in_place=None))
def allgather_eager(c: Rank) -> None:
    """A ring in which each block is kept, and then read again to be sent on."""
    _store_and_forward(c, has_addresses=False)


def _store_and_forward(c: Rank, has_addresses: bool) -> None:
    c.copy(c.operand, c.result.block(c.rank))
    if has_addresses:
        with c.when(c.size > 1):
            c.signal(c.left, tag=c.size)
            c.wait_for(c.right, tag=c.size)
            c.sync()
    with c.loop(1, c.size) as k:
        sent, received = c.plus(c.minus(c.rank, k), 1), c.minus(c.rank, k)
        c.send(c.result.block(sent), to=c.right, tag=sent)
        c.recv(c.left, into=c.result.block(received), tag=received)
        c.sync()


@collective(REDUCE_SCATTER)
def reduce_scatter_eager(c: Rank) -> None:
    """The ring that this project uses too."""
    ring_reduce_scatter.write(c)


@collective(ALLREDUCE)
def allreduce_eager(c: Rank) -> None:
    """Two rings to the right for each segment, of which every rank has a part."""
    with c.when(c.size == 1):
        c.copy(c.operand, c.result)
        c.stop()
    done = c.variable(0)
    most = c.let(c.packet - c.packet % c.size)
    with c.repeat_while(lambda: done.value < c.count):
        length = c.let(c.minimum(most, c.count - done.value))
        each = c.let((length + c.size - 1) // c.size)

        def chunk(buffer: Buffer, index: Expression) -> Piece:
            first = c.minimum(index * each, length)
            return buffer.part(done.value + first, c.minimum(each, length - first))

        c.send(chunk(c.operand, c.rank), to=c.right, tag=c.rank)
        with c.loop(1, c.size - 1) as k:
            index = c.minus(c.rank, k)
            c.recv_reduce(c.left, chunk(c.operand, index), to=c.right, tag=index)
        c.recv_reduce(c.left, chunk(c.operand, c.right), into=chunk(c.result, c.right), tag=c.right)
        c.sync()
        with c.loop(1, c.size) as k:
            sent = c.plus(c.minus(c.rank, k - 1), 1)
            received = c.minus(sent, 1)
            c.send(chunk(c.result, sent), to=c.right, tag=sent)
            c.recv(c.left, into=chunk(c.result, received), tag=received)
            c.sync()
        done.set(done.value + length)


# Rendezvous


def _bcast(c: Rank, v: Expression, piece: Piece, count: Number, tag: int) -> None:
    """From rank v = 0, which has ``piece``, to all others, into the result; flat or along a binomial tree."""
    kept = c.result.part(0, count)
    with c.when(c.size <= FLAT_BCAST):
        with c.when(v == 0):
            with c.loop(1, c.size) as k:
                _answer(c, piece, c.plus(c.rank, k), tag)
        with c.otherwise():
            _offer(c, c.minus(c.rank, v), kept, tag)
    with c.otherwise():
        m = c.variable(1)
        with c.when(v == 0):
            with c.repeat_while(lambda: m.value < c.size):
                _answer(c, piece, c.plus(c.rank, m.value), tag)
                m.set(m.value * 2)
        with c.otherwise():
            with c.repeat_while(lambda: m.value <= v):
                m.set(m.value * 2)
            _offer(c, c.minus(c.rank, m.value >> 1), kept, tag)
            c.sync()
            with c.repeat_while(lambda: v + m.value < c.size):
                _answer(c, kept, c.plus(c.rank, m.value), tag)
                m.set(m.value * 2)


def _reduce(c: Rank, v: Expression, count: Number, into: Buffer, tag: int) -> None:
    """To rank v = 0, into ``into``, which other ranks use too; flat with all combining at the root, or a tree."""
    own, kept = c.operand.part(0, count), into.part(0, count)
    with c.when(c.size <= FLAT_REDUCE):
        with c.when(v != 0):
            _answer(c, own, c.minus(c.rank, v), tag)
        with c.otherwise():
            with c.loop(1, c.size) as k:
                _offer(c, c.plus(c.rank, k), c.operand_1.part((k - 1) * count, count), tag)
            c.sync()
            with c.when(c.size == 1):
                c.copy(own, kept)
            with c.otherwise():
                c.combine(own, c.operand_1.part(0, count), into=kept)
            with c.loop(2, c.size) as k:
                c.combine(kept, c.operand_1.part((k - 1) * count, count), into=kept)
    with c.otherwise():
        _tree_reduce(c, v, own, kept, c.operand_1.part(0, count), tag)
    c.sync()


def _tree_reduce(c: Rank, v: Expression, own: Piece, kept: Piece, scratch: Piece, tag: int) -> None:
    """v receives from v + m for the powers of two m below its lowest bit, whole messages, and combines them."""
    m = c.variable(1)
    reach = c.variable(c.size)
    with c.when(v != 0):
        reach.set(c.minimum(v ^ (v & (v - 1)), c.size - v))
    parent = c.minus(c.rank, v ^ (v & (c.maximum(v, 1) - 1)))
    with c.when(reach.value == 1):
        _answer(c, own, parent, tag)
    with c.repeat_while(lambda: m.value < reach.value):
        _offer(c, c.plus(c.rank, m.value), scratch, tag)
        c.sync()
        is_last = m.value * 2 >= reach.value
        with c.when(is_last & (v != 0)):
            c.wait_for(parent, tag=tag + 1)
            c.sync()
            with c.when(m.value == 1):
                c.combine(own, scratch, to=parent, tag=tag)
            with c.otherwise():
                c.combine(kept, scratch, to=parent, tag=tag)
        with c.otherwise():
            with c.when(m.value == 1):
                c.combine(own, scratch, into=kept)
            with c.otherwise():
                c.combine(kept, scratch, into=kept)
        m.set(m.value * 2)


@collective(BCAST)
def bcast_rendezvous(c: Rank) -> None:
    """Flat up to FLAT_BCAST ranks, else a binomial tree."""
    _bcast(c, c.let(c.minus(c.rank, c.root)), c.operand.block(0), c.count, 0)


@collective(SCATTER._replace(in_place=None))
def scatter_rendezvous(c: Rank) -> None:
    """The root sends to the ranks in their order."""
    _scatter(c, c.root, 0)


def _scatter(c: Rank, root: Number, tag: int) -> None:
    with c.when(c.rank != root):
        _offer(c, root, c.result.block(0), tag)
        c.stop()
    with c.loop(c.size) as rank:
        with c.when(rank == c.rank):
            c.copy(c.operand.block(rank), c.result)
        with c.otherwise():
            _answer(c, c.operand.block(rank), rank, tag)


@collective(GATHER._replace(in_place=None))
def gather_rendezvous(c: Rank, *, fan_in_bytes: int = 32768) -> None:
    """All send to the root, which lets two do so at a time if they have more than ``fan_in_bytes``."""
    with c.when(c.rank != c.root):
        _answer(c, c.operand.block(0), c.root, 0)
        c.stop()
    c.copy(c.operand, c.result.block(c.rank))
    is_long = c.let((c.count << c.shift) > fan_in_bytes)
    with c.loop(1, c.size) as k:
        rank = c.plus(c.rank, k)
        with c.when(is_long != 0):
            c.sync(2)
        _offer(c, rank, c.result.block(rank), 0)


@collective(_with_scratch(REDUCE, _reduce_scratch(lambda case: 1)))
def reduce_rendezvous(c: Rank) -> None:
    """Flat up to FLAT_REDUCE ranks, else a binomial tree."""
    _reduce(c, c.let(c.minus(c.rank, c.root)), c.count, c.result, 0)


@collective(ALLGATHER._replace(in_place=None))
def allgather_rendezvous(c: Rank) -> None:
    """A ring in which whole blocks are sent on; the neighbours exchange one address."""
    _store_and_forward(c, has_addresses=True)


@collective(_with_scratch(REDUCE_SCATTER, _reduce_scratch(lambda case: case.size)))
def reduce_scatter_rendezvous(c: Rank) -> None:
    """All blocks are reduced to rank 0, in its operand, and scattered from there. Operands are overwritten."""
    _reduce(c, c.rank, c.count * c.size, c.operand, 0)
    _scatter(c, 0, 2)


@collective(_with_scratch(ALLREDUCE, _reduce_scratch(lambda case: 1)))
def allreduce_rendezvous(c: Rank) -> None:
    """Reduce to rank 0, and bcast from there."""
    _reduce(c, c.rank, c.count, c.result, 0)
    _bcast(c, c.rank, c.result.block(0), c.count, 2)


@collective(ALLTOALL._replace(in_place=None))
def alltoall_rendezvous(c: Rank) -> None:
    """All tell all their addresses, and send to the ranks in their order, so that many send to one."""
    c.copy(c.operand.block(c.rank), c.result.block(c.rank))
    with c.loop(c.size) as rank:
        with c.when(rank != c.rank):
            c.signal(rank, tag=1)
    with c.loop(c.size) as rank:
        with c.when(rank != c.rank):
            c.wait_for(rank, tag=1)
            c.send(c.operand.block(rank), to=rank)
            c.recv(rank, into=c.result.block(rank))


@collective(BARRIER)
def barrier_rendezvous(c: Rank) -> None:
    """All tell rank 0, and it tells all."""
    with c.when(c.rank == 0):
        with c.loop(1, c.size) as rank:
            c.wait_for(rank)
        c.sync()
        with c.loop(1, c.size) as rank:
            c.signal(rank)
        c.stop()
    c.signal(0)
    c.wait_for(0)


#: By name: the operation and how it is done.
COLLECTIVES: dict[str, Collective] = {function.name: function for function in (
    bcast_eager, bcast_rendezvous, scatter_eager, scatter_rendezvous, gather_eager, gather_rendezvous, reduce_eager,
    reduce_rendezvous, allgather_eager, allgather_rendezvous, reduce_scatter_eager, reduce_scatter_rendezvous,
    allreduce_eager, allreduce_rendezvous, alltoall_rendezvous, barrier_rendezvous)}
