# SPDX-License-Identifier: Apache-2.0
"""What a collective promises: how long its buffers are, and which elements its result is made of.

The checker holds every program to its contract, for each rank and element. An element of a result is described as the
reduction of one element of each of some ranks' operands; of one rank's, where nothing is reduced.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["ALLGATHER", "ALLREDUCE", "ALLTOALL", "BARRIER", "BCAST", "COMBINE", "COPY", "Case", "Contract", "GATHER",
           "NOTHING", "RECV", "REDUCE", "REDUCE_SCATTER", "SCATTER", "SEND", "STREAM_PUT", "Source"]


class Source(NamedTuple):
    """Element ``index`` of the operand of each of ``ranks``, reduced. ``size + r`` is the second operand of rank r."""

    ranks: Sequence[int]
    index: int


class Case(NamedTuple):
    """A communicator's ``size``, and the ``count`` and ``root`` of a call on it."""

    size: int
    count: int
    root: int = 0


def _none(case: Case, rank: int) -> int:
    return 0


def _count(case: Case, rank: int) -> int:
    return case.count


def _all(case: Case, rank: int) -> int:
    return case.count * case.size


def _at_root(length: Callable[[Case, int], int]) -> Callable[[Case, int], int]:
    return lambda case, rank: length(case, rank) if rank == case.root else 0


def _but_root(length: Callable[[Case, int], int]) -> Callable[[Case, int], int]:
    return lambda case, rank: 0 if rank == case.root else length(case, rank)


def _unshifted(case: Case, rank: int) -> int:
    return 0


class Contract(NamedTuple):
    """Elements of the buffers at a rank, and what each element of the result is.

    ``scratch``: elements at ``result`` that the program may use for itself where it has no result. ``is_rooted``:
    ``root`` matters. ``in_place``: the buffers may overlap, with ``operand`` that many elements behind ``result``;
    None: they must not. ``is_collective``: all ranks run it, and its calls are numbered.
    """

    operand: Callable[[Case, int], int]
    result: Callable[[Case, int], int]
    value: Callable[[Case, int, int], Source]
    operand_1: Callable[[Case, int], int] = _none
    scratch: Callable[[Case, int], int] = _none
    is_rooted: bool = False
    in_place: Callable[[Case, int], int] | None = None
    is_collective: bool = True


def _everyone(case: Case, rank: int, index: int) -> Source:
    return Source(range(case.size), index)


def _own(case: Case, rank: int, index: int) -> Source:
    return Source(range(rank, rank + 1), index)


def _of_root(case: Case, rank: int, index: int) -> Source:
    return _own(case, case.root, index)


def _blocks(case: Case, rank: int, index: int) -> Source:
    return _own(case, index // case.count, index % case.count)


def _own_block(case: Case, rank: int) -> int:
    return rank * case.count


ALLREDUCE = Contract(_count, _count, _everyone, in_place=_unshifted)
REDUCE = Contract(_count, _at_root(_count), _everyone, scratch=_but_root(_count), is_rooted=True, in_place=_unshifted)
REDUCE_SCATTER = Contract(_all, _count, lambda case, rank, index: _everyone(case, rank, rank * case.count + index),
                          in_place=_unshifted)
BCAST = Contract(_at_root(_count), _but_root(_count), _of_root, is_rooted=True)
SCATTER = Contract(_at_root(_all), _count, lambda case, rank, index: _of_root(case, rank, rank * case.count + index),
                   is_rooted=True, in_place=lambda case, rank: -rank * case.count)
GATHER = Contract(_count, _at_root(_all), _blocks, is_rooted=True, in_place=_own_block)
ALLGATHER = Contract(_count, _all, _blocks, in_place=_own_block)
ALLTOALL = Contract(_all, _all, lambda case, rank, index: _own(
    case, index // case.count, rank * case.count + index % case.count), in_place=_unshifted)
BARRIER = Contract(_none, _none, _own)
COPY = Contract(_count, _count, _own, is_collective=False)
COMBINE = Contract(_count, _count, lambda case, rank, index: Source((rank, case.size + rank), index),
                   operand_1=_count, in_place=_unshifted, is_collective=False)
SEND = Contract(_count, _none, _own, is_rooted=True, is_collective=False)
RECV = Contract(_none, _count, _of_root, is_rooted=True, is_collective=False)
STREAM_PUT = SEND
NOTHING = Contract(_none, _none, _own, is_collective=False)
