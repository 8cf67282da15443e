# SPDX-License-Identifier: Apache-2.0
"""How ranks agree on a communicator: its number, and the buffers that they give each other.

Each rank tells which numbers and how many receive buffers it has left. The lowest number that all have left is taken,
and half of the buffers that the poorest has, so that there are some for the next one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rackgate.collective.abi import COMMUNICATORS, Scenario

from ..errors import UsageError
from .calls import Arguments
from .constants import MAX_TAG, UNDEFINED
from .errors import CollectiveError
from .requests import Claim, Kind, Request

if TYPE_CHECKING:
    from .communicator import Communicator

__all__ = ["credits_for", "create_group", "free", "split"]

_MOST_CREDITS = 64
_INTERNAL_TAG = 1 << 31  # above the users' tags


def credits_for(slots: int, size: int) -> int:
    """Credits for a communicator of ``size`` ranks if ``slots`` buffers are left. Raises UsageError if there are none.

    Each rank may have so many packets of each, itself included, in its buffers.
    """
    if slots < size:
        raise UsageError(f"{slots} receive buffers are left, a communicator of {size} ranks needs {size}: free one, or "
                         "build the engine with more slots")
    return max(1, min(_MOST_CREDITS, slots // 2 // size))


def _agree(left: np.ndarray) -> tuple[int, int]:
    """Number and credits, from the numbers and buffers that each rank has left."""
    numbers = int(np.bitwise_and.reduce(left[:, 0]))
    if not numbers:
        raise UsageError(f"no number is left that all {len(left)} ranks could give a communicator: an engine knows "
                         f"{COMMUNICATORS} at a time; free one")
    return (numbers & -numbers).bit_length() - 1, credits_for(int(left[:, 1].min()), len(left))


def split(comm: "Communicator", color: int, key: int, eager: int | str | None) -> "Communicator | None":
    """:meth:`.Communicator.Split`."""
    if color < 0 and color != UNDEFINED:
        raise ValueError(f"Split: color must not be negative, or UNDEFINED, not {color}")
    engine = comm.engine
    everyone = np.empty((comm.size, 4), np.int64)
    comm.Allgather(np.array([color, key, engine.free_ids, engine.free_slots], np.int64), everyone)
    agreed = {}
    for group in sorted({int(value) for value in everyone[:, 0]} - {UNDEFINED}):
        ranks = sorted((int(row[1]), rank) for rank, row in enumerate(everyone) if row[0] == group)
        members = [rank for _, rank in ranks]
        agreed[group] = members, *_agree(everyone[members, 2:])
    new = None
    if color != UNDEFINED:
        members, number, credits = agreed[color]
        new = type(comm)(engine, number, [comm.nodes[rank] for rank in members], members.index(comm.rank), credits,
                         comm.eager if eager is None else eager)
    comm.Barrier()  # nobody may send before all have opened it
    return new


def create_group(comm: "Communicator", ranks: Sequence[int], tag: int) -> "Communicator":
    """:meth:`.Communicator.Create_group`. The first rank asks the others, and tells them."""
    members = [int(rank) for rank in ranks]
    if len(set(members)) != len(members) or not all(0 <= rank < comm.size for rank in members):
        raise ValueError(f"Create_group: ranks must be different ones from 0 to {comm.size - 1}, not {members}")
    if comm.rank not in members:
        raise ValueError(f"Create_group: rank {comm.rank} is not among {members}: only they may call it")
    if not 0 <= tag <= MAX_TAG:
        raise ValueError(f"Create_group: tag must be 0 to {MAX_TAG}, not {tag}")
    engine, first, others = comm.engine, members[0], members[1:]
    left = np.zeros((len(members), 2), np.int64)
    left[members.index(comm.rank)] = engine.free_ids, engine.free_slots
    agreed = np.empty(2, np.int64)
    if comm.rank == first:
        for place, rank in enumerate(others, 1):
            _message(comm, left[place], rank, tag, is_sent=False).Wait()
        try:
            agreed[:] = _agree(left)
        except UsageError:
            agreed[:] = -1
        for rank in others:
            _message(comm, agreed, rank, tag, is_sent=True).Wait()
    else:
        _message(comm, left[members.index(comm.rank)], first, tag, is_sent=True).Wait()
        _message(comm, agreed, first, tag, is_sent=False).Wait()
    if agreed[0] < 0:
        raise UsageError(f"Create_group: the ranks {members} have no number or no buffers left for one more: free one")
    new = type(comm)(engine, int(agreed[0]), [comm.nodes[rank] for rank in members], members.index(comm.rank),
                     int(agreed[1]), comm.eager)
    # Nobody may send before all have opened it.
    word = np.zeros(1, np.int64)
    if comm.rank == first:
        for is_sent in (False, True):
            for rank in others:
                _message(comm, word, rank, tag, is_sent=is_sent).Wait()
    else:
        for is_sent in (True, False):
            _message(comm, word, first, tag, is_sent=is_sent).Wait()
    return new


def _message(comm: "Communicator", array: np.ndarray, rank: int, tag: int, *, is_sent: bool) -> Request:
    """A message with a tag that is none of the users'."""
    number = _INTERNAL_TAG | tag
    if is_sent:
        return comm._start(Arguments("Create_group", Scenario.SEND, operand=array, count=array.size, peer=rank,
                                     tag=number, kind=Kind.SEND, claim=Claim(Kind.SEND, comm.number, rank)))
    return comm._start(Arguments("Create_group", Scenario.RECV, result=array, count=array.size, peer=rank, tag=number,
                                 kind=Kind.RECEIVE, claim=Claim(Kind.RECEIVE, comm.number, rank, number)))


def free(comm: "Communicator") -> None:
    """:meth:`.Communicator.Free`."""
    if not comm.is_open:
        raise UsageError("Free: the communicator has been freed already")
    try:
        comm.Barrier()  # nobody may forget it before all have done with it
    except CollectiveError:
        pass  # it is broken: there is nobody to wait for
    comm.is_open = False
    comm.engine.close(comm.number, comm.size, comm.credits)
