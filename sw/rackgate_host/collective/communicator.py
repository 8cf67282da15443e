# SPDX-License-Identifier: Apache-2.0
"""Communicators with mpi4py's methods for arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rackgate.arith.abi import Function
from rackgate.collective.abi import Scenario
from rackgate.collective.programs.contract import Case

from .calls import Argument, Arguments
from .constants import IN_PLACE, SUM, InPlace, Stream
from .endpoint import Endpoint, size_of
from .groups import create_group, free, split
from .loading import load, plan
from .requests import Kind, Request

__all__ = ["Communicator"]

_Operand = np.ndarray | Stream | InPlace | None


class Communicator(Endpoint):
    """A group of ranks that exchange messages and take part in collectives.

    The methods are mpi4py's for arrays: NumPy arrays of int32, int64, float16, float32 or float64, C-contiguous, or
    buffers from ``device.allocate``, which save the copy to device memory. Those that begin with I return a
    :class:`.Request` at once; arrays must then be left alone until it is over. The others wait.

    All ranks of a communicator must call the same collectives in the same order, with the same count, type, function
    and root. Collectives of one communicator run one after the other, those of several at a time. Messages may be
    received in any order; those that are in the way of others are kept in device memory until then
    (:mod:`.unexpected`).

    The order in which SUM adds floats is that of :mod:`rackgate.collective.programs.shipped`, always the
    same for the same call; so are the bits of the result, and the same at all ranks.

    ``wire="float16"`` sends float32 elements as 16-bit floats, half the bytes; all arithmetic is done at full width.

    Parameters
    ----------
    engine:
        The own node's engine.
    number:
        Of the communicator, 0 to 7, the same at all of its nodes.
    nodes:
        Node of each rank.
    rank:
        The own one.
    credits:
        Packets that each rank may have sent to each other and not seen taken.
    eager:
        Bytes of the largest message that this rank sends without asking, in whole packets of the engine, at least one
        and at most 255; by default as many as there are credits, ``"all"``: none asks. Of a message that asks one
        packet waits at its receiver, and the rest follows when it is received: until then it takes no more than one of
        the credits. Nothing else depends on it, and ranks may differ.

    Raises of all methods: :class:`.CollectiveError` if the call fails, TypeError or ValueError for wrong arguments.
    After a failure the communicator is broken, here at once and at the other ranks when they have waited for too long.
    """

    # Collectives

    def Ibarrier(self) -> Request:
        """Begin what ends when all ranks have begun it."""
        return self._start(Arguments("Barrier", Scenario.BARRIER))

    def Barrier(self) -> None:
        """Wait until all ranks have called it."""
        self.Ibarrier().Wait()

    def Ibcast(self, buf: np.ndarray, root: int = 0, *, wire: str | None = None) -> Request:
        """Begin to bring the root's ``buf`` to all."""
        name = "Bcast"
        peer, told = self._root(name, root)
        is_root = self.rank == root
        return self._start(Arguments(name, Scenario.BCAST, operand=buf if is_root else None,
                                     result=None if is_root else buf, count=size_of(buf), in_place=0, peer=peer,
                                     told=told, wire=wire))

    def Bcast(self, buf: np.ndarray, root: int = 0, *, wire: str | None = None) -> None:
        """:meth:`Ibcast`, and wait."""
        self.Ibcast(buf, root, wire=wire).Wait()

    def Iscatter(self, sendbuf: np.ndarray | None, recvbuf: _Operand, root: int = 0, *,
                 wire: str | None = None) -> Request:
        """Begin to give each rank its part of the root's ``sendbuf``. At the root ``recvbuf`` may be IN_PLACE."""
        name = "Scatter"
        peer, told = self._root(name, root)
        if self.rank != root:
            return self._start(Arguments(name, Scenario.SCATTER, result=_array(name, recvbuf), count=size_of(recvbuf),
                                         peer=peer, told=told, wire=wire))
        count = self._part(name, size_of(sendbuf))
        if recvbuf is IN_PLACE:
            return self._start(Arguments(name, Scenario.SCATTER, operand=sendbuf, count=count,
                                         in_place=self.rank * count, peer=peer, told=told, wire=wire))
        self._equal(name, count, size_of(recvbuf), "a rank's part of the send buffer and the receive buffer differ")
        return self._start(Arguments(name, Scenario.SCATTER, operand=sendbuf, result=_array(name, recvbuf), count=count,
                                     peer=peer, told=told, wire=wire))

    def Scatter(self, sendbuf: np.ndarray | None, recvbuf: _Operand, root: int = 0, *, wire: str | None = None) -> None:
        """:meth:`Iscatter`, and wait."""
        self.Iscatter(sendbuf, recvbuf, root, wire=wire).Wait()

    def Igather(self, sendbuf: _Operand, recvbuf: np.ndarray | None, root: int = 0, *,
                wire: str | None = None) -> Request:
        """Begin to bring all ranks' ``sendbuf`` to the root's ``recvbuf``. At the root ``sendbuf`` may be IN_PLACE."""
        name = "Gather"
        peer, told = self._root(name, root)
        if self.rank != root:
            return self._start(Arguments(name, Scenario.GATHER, operand=_array(name, sendbuf), count=size_of(sendbuf),
                                         peer=peer, told=told, wire=wire))
        return self._gathered(name, Scenario.GATHER, sendbuf, recvbuf, peer=peer, told=told, wire=wire)

    def Gather(self, sendbuf: _Operand, recvbuf: np.ndarray | None, root: int = 0, *, wire: str | None = None) -> None:
        """:meth:`Igather`, and wait."""
        self.Igather(sendbuf, recvbuf, root, wire=wire).Wait()

    def _gathered(self, name: str, scenario: Scenario, sendbuf: _Operand, recvbuf: np.ndarray | None,
                  **others: Any) -> Request:
        """A call whose result has a part for each rank."""
        count = self._part(name, size_of(recvbuf))
        if sendbuf is IN_PLACE:
            return self._start(Arguments(name, scenario, result=recvbuf, count=count, in_place=self.rank * count,
                                         **others))
        operand = _array(name, sendbuf)
        self._equal(name, size_of(operand), count, "the send buffer and a rank's part of the receive buffer differ")
        return self._start(Arguments(name, scenario, operand=operand, result=recvbuf, count=count,
                                     **others))

    def Iallgather(self, sendbuf: _Operand, recvbuf: np.ndarray, *, wire: str | None = None) -> Request:
        """Begin to bring all ranks' ``sendbuf`` to all. IN_PLACE: it is in its place in ``recvbuf``."""
        return self._gathered("Allgather", Scenario.ALLGATHER, sendbuf, recvbuf, wire=wire)

    def Allgather(self, sendbuf: _Operand, recvbuf: np.ndarray, *, wire: str | None = None) -> None:
        """:meth:`Iallgather`, and wait."""
        self.Iallgather(sendbuf, recvbuf, wire=wire).Wait()

    def Ialltoall(self, sendbuf: _Operand, recvbuf: np.ndarray, *, wire: str | None = None) -> Request:
        """Begin to give each rank its part of ``sendbuf``, and get the own part of everybody's. May be IN_PLACE."""
        name = "Alltoall"
        return self._whole(name, Scenario.ALLTOALL, sendbuf, recvbuf, self._part(name, size_of(recvbuf)), wire=wire)

    def Alltoall(self, sendbuf: _Operand, recvbuf: np.ndarray, *, wire: str | None = None) -> None:
        """:meth:`Ialltoall`, and wait."""
        self.Ialltoall(sendbuf, recvbuf, wire=wire).Wait()

    def _whole(self, name: str, scenario: Scenario, sendbuf: _Operand, recvbuf: np.ndarray | Stream, count: int,
               **others: Any) -> Request:
        """A call whose operand and result are of one length."""
        if sendbuf is IN_PLACE:
            return self._start(Arguments(name, scenario, result=recvbuf, count=count, in_place=0, **others))
        operand = _array(name, sendbuf)
        self._equal(name, size_of(operand), size_of(recvbuf), "send and receive buffer differ")
        return self._start(Arguments(name, scenario, operand=operand, result=recvbuf, count=count,
                                     **others))

    def Iallreduce(self, sendbuf: _Operand, recvbuf: np.ndarray | Stream, op: Function = SUM, *,
                   wire: str | None = None) -> Request:
        """Begin to reduce all ranks' ``sendbuf``, to all. May be IN_PLACE."""
        return self._whole("Allreduce", Scenario.ALLREDUCE, sendbuf, recvbuf, size_of(recvbuf), function=op,
                           is_reduced=True, told=f", {_name(op)}", wire=wire)

    def Allreduce(self, sendbuf: _Operand, recvbuf: np.ndarray | Stream, op: Function = SUM, *,
                  wire: str | None = None) -> None:
        """:meth:`Iallreduce`, and wait."""
        self.Iallreduce(sendbuf, recvbuf, op, wire=wire).Wait()

    def Ireduce(self, sendbuf: _Operand, recvbuf: np.ndarray | Stream | None, op: Function = SUM, root: int = 0, *,
                wire: str | None = None) -> Request:
        """Begin to reduce all ranks' ``sendbuf``, to the root. There ``sendbuf`` may be IN_PLACE."""
        name = "Reduce"
        peer, told = self._root(name, root)
        told = f", {_name(op)}{told}"
        if self.rank == root:
            if recvbuf is None:
                raise TypeError(f"{name}: the root must give a receive buffer")
            return self._whole(name, Scenario.REDUCE, sendbuf, recvbuf, size_of(recvbuf), function=op, is_reduced=True,
                               peer=peer, told=told, wire=wire)
        count = size_of(sendbuf)
        contract = self.engine.program(Scenario.REDUCE).contract
        return self._start(Arguments(
            name, Scenario.REDUCE, operand=_array(name, sendbuf), count=count, function=op, is_reduced=True, peer=peer,
            scratch=contract.scratch(Case(self.size, count, root), self.rank), told=told, wire=wire))

    def Reduce(self, sendbuf: _Operand, recvbuf: np.ndarray | Stream | None, op: Function = SUM, root: int = 0, *,
               wire: str | None = None) -> None:
        """:meth:`Ireduce`, and wait."""
        self.Ireduce(sendbuf, recvbuf, op, root, wire=wire).Wait()

    def Ireduce_scatter_block(self, sendbuf: _Operand, recvbuf: np.ndarray, op: Function = SUM, *,
                              wire: str | None = None) -> Request:
        """Begin to reduce all ranks' ``sendbuf``, and give each rank its part.

        IN_PLACE: ``recvbuf`` has the operand, and its beginning gets the result.
        """
        name = "Reduce_scatter_block"
        others: dict[str, Any] = {"function": op, "is_reduced": True, "told": f", {_name(op)}", "wire": wire}
        if sendbuf is IN_PLACE:
            count = self._part(name, size_of(recvbuf))
            return self._start(Arguments(name, Scenario.REDUCE_SCATTER, result=recvbuf, count=count, in_place=0,
                                         **others))
        count = self._part(name, size_of(sendbuf))
        self._equal(name, count, size_of(recvbuf), "a rank's part of the send buffer and the receive buffer differ")
        return self._start(Arguments(name, Scenario.REDUCE_SCATTER, operand=_array(name, sendbuf), result=recvbuf,
                                     count=count, **others))

    def Reduce_scatter_block(self, sendbuf: _Operand, recvbuf: np.ndarray, op: Function = SUM, *,
                             wire: str | None = None) -> None:
        """:meth:`Ireduce_scatter_block`, and wait."""
        self.Ireduce_scatter_block(sendbuf, recvbuf, op, wire=wire).Wait()

    # Local calls

    def Copy(self, source: np.ndarray | Stream, target: np.ndarray | Stream) -> None:
        """Copy within the own node's memory, or between it and the kernel's streams."""
        self._equal("Copy", size_of(source), size_of(target), "source and target differ")
        kind = Kind.SEND if isinstance(source, Stream) or isinstance(target, Stream) else Kind.LOCAL
        self._start(Arguments("Copy", Scenario.COPY, operand=source, result=target, count=size_of(source),
                              kind=kind)).Wait()

    def Combine(self, first: np.ndarray, second: np.ndarray, result: np.ndarray, op: Function = SUM) -> None:
        """Reduce two arrays of the own node."""
        for array in (second, result):
            self._equal("Combine", size_of(first), size_of(array), "arrays differ")
        self._start(Arguments("Combine", Scenario.COMBINE, operand=first, operand_1=second, result=result, function=op,
                              is_reduced=True, count=size_of(first), kind=Kind.LOCAL, told=f", {_name(op)}")).Wait()

    def nop(self) -> int:
        """Make a call that does nothing: the cycles from its last word to its completion."""
        request = self._start(Arguments("Nop", Scenario.NOP, kind=Kind.LOCAL))
        request.Wait()
        assert request.completion is not None
        return request.completion.cycles

    # Collectives that are loaded

    def load_collective(self, collective: Any, name: str | None = None) -> str:
        """Make a collective callable by name at this rank: the name, by default its own.

        Parameters
        ----------
        collective:
            A function with the decorator :func:`rackgate.collective.programs.language.collective`, which
            is checked for all rank counts and compiled, or a program that has been built.
        """
        return load(self.engine, collective, name)

    def Icall(self, name: str, operand: _Operand = None, result: np.ndarray | None = None, *, root: int = 0,
              op: Function = SUM, count: int | None = None, wire: str | None = None) -> Request:
        """Begin a collective that was loaded.

        How long the buffers are at this rank is in its contract; ``count`` follows from them, if one is given.
        """
        peer, _ = self._root(name, root)
        return self._start(plan(self, name, operand, result, root=peer, op=op, count=count, wire=wire))

    def call(self, name: str, operand: _Operand = None, result: np.ndarray | None = None, *, root: int = 0,
             op: Function = SUM, count: int | None = None, wire: str | None = None) -> None:
        """:meth:`Icall`, and wait."""
        self.Icall(name, operand, result, root=root, op=op, count=count, wire=wire).Wait()

    # Communicators

    def Split(self, color: int = 0, key: int = 0, *, eager: int | str | None = None) -> "Communicator | None":
        """Split the ranks by ``color``, ordered by ``key``: the own part, or ``None`` for color UNDEFINED.

        All ranks must call it. It fails at all of them if an engine has no number, or no buffers, for one more.
        ``eager``: of the new communicator, by default as of this one.
        """
        return split(self, color, key, eager)

    def Dup(self, *, eager: int | str | None = None) -> "Communicator":
        """A communicator of the same ranks, whose calls do not get in the way of this one's.

        ``eager``: as for :meth:`Split`.
        """
        new = split(self, 0, self.rank, eager)
        assert new is not None
        return new

    def Create_group(self, ranks: Sequence[int], tag: int = 0) -> "Communicator":
        """A communicator of some ranks, in their order. Only they must call it, with the same ``tag``.

        Its ``eager`` is that of this one.
        """
        return create_group(self, ranks, tag)

    def Free(self) -> None:
        """Give up the communicator. All of its ranks must call it, and have no call under way; one that is broken is
        only forgotten here."""
        free(self)


def _array(name: str, argument: _Operand) -> Argument:
    if isinstance(argument, InPlace):
        raise ValueError(f"{name}: IN_PLACE is only for the buffer, and the rank, that MPI allows it for")
    if argument is None:
        raise TypeError(f"{name}: this rank must give a buffer")
    return argument


def _name(op: Any) -> str:
    return op.name if isinstance(op, Function) else str(op)
