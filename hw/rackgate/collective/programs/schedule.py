# SPDX-License-Identifier: Apache-2.0
"""A collective carried out in Python: the golden results of the engine, bit for bit, and what its links carry."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rackgate.collective.programs.contract import Case, Contract
from rackgate.collective.programs.error import CollectiveError
from rackgate.collective.programs.interpreter import Pause, Place, Step, moves
from rackgate.collective.programs.language import Collective
from rackgate.collective.programs.machine import Machine, Region
from rackgate.collective.programs.statements import Trace

__all__ = ["Buffers", "Outcome", "Pause", "Place", "Step", "lay_out", "moves", "result_in", "run"]

#: Elements between the buffers that :func:`lay_out` places, so that a step beyond one is noticed.
_GAP = 64
_OPERAND_1 = 1 << 36
_RESULT = 1 << 37


class Buffers(NamedTuple):
    """A rank's call with the addresses of its buffers, and its memory."""

    place: Place
    memory: list[Region]


def lay_out(contract: Contract, place: Place, *, operand: Sequence[Any], operand_1: Sequence[Any] = (),
            in_place: bool = False) -> Buffers:
    """Give a rank its buffers, with ``operand`` and ``operand_1`` in them and ``None`` elsewhere.

    ``in_place``: operand and result share memory as the contract allows it. Raises CollectiveError if it does not.
    """
    case = Case(place.size, place.count, place.root)
    cells = contract.result(case, place.rank) or contract.scratch(case, place.rank)
    element = 1 << place.shift
    place = place._replace(operand=_GAP * element, operand_1=_OPERAND_1, result=_RESULT)
    second = Region("operand_1", _OPERAND_1, list(operand_1))
    if not in_place or not operand or not contract.result(case, place.rank):
        return Buffers(place, [Region("operand", place.operand, list(operand)), second,
                               Region("result", _RESULT, [None] * cells)])
    if contract.in_place is None:
        raise CollectiveError("this collective must not have its operand and result in one place")
    behind = contract.in_place(case, place.rank)
    first = min(0, behind)
    shared = [None] * (max(cells, behind + len(operand)) - first)
    shared[behind - first:behind - first + len(operand)] = operand
    place = place._replace(operand=_RESULT + behind * element)
    return Buffers(place, [Region("result", _RESULT + first * element, shared), second])


@dataclasses.dataclass
class Outcome:
    """What a collective did.

    ``results``: of each rank; elements that nothing has written are None. ``bytes_sent``, ``packets_sent``: payload
    bytes and packets, by source and destination.
    """

    results: list[list[Any]]
    bytes_sent: dict[tuple[int, int], int]
    packets_sent: dict[tuple[int, int], int]

    def out(self, rank: int) -> int:
        """Payload bytes that ``rank`` sends."""
        return sum(count for (source, _), count in self.bytes_sent.items() if source == rank)

    def into(self, rank: int) -> int:
        """Payload bytes that ``rank`` receives."""
        return sum(count for (_, destination), count in self.bytes_sent.items() if destination == rank)

    @property
    def busiest(self) -> int:
        """Payload bytes on the busiest direction of a rank's port."""
        ranks = range(len(self.results))
        return max(max(self.out(rank), self.into(rank)) for rank in ranks)


def run(collective: Collective | Trace, operands: Sequence[Sequence[Any]], function: Callable[[Any, Any], Any], *,
        contract: Contract | None = None, count: int, root: int = 0, shift: int = 2, wire_shift: int | None = None,
        segment: int = 1024, credits: int | None = None, operands_1: Sequence[Sequence[Any]] | None = None,
        in_place: bool = False, choose: Callable[[list[int]], None] | None = None) -> Outcome:
    """Carry out a collective at all ranks.

    Parameters
    ----------
    collective:
        As its author wrote it, or traced (with tunables of its own; then ``contract`` is needed).
    operands, operands_1:
        Elements of each rank's buffers, as the contract says; their number is the communicator's size.
    function:
        ``function(received, local)`` of two elements.
    count, root:
        Of the call.
    shift, wire_shift:
        Binary logarithm of an element's bytes, in memory and on the wire.
    segment, credits, choose:
        As for :class:`rackgate.collective.programs.machine.Machine`; the results depend on none of them.
    in_place:
        Operand and result share memory.

    Raises
    ------
    CollectiveError
        If the collective breaks a rule of the engine on the way.
    """
    if isinstance(collective, Collective):
        contract, collective = contract or collective.contract, collective.trace()
    if contract is None:
        raise TypeError("run needs the contract of a collective that is already traced")
    size = len(operands)
    call = Place(size, 0, count, root, shift=shift, segment=segment)
    ranks = [lay_out(contract, call._replace(rank=rank), operand=operands[rank], in_place=in_place,
                     operand_1=() if operands_1 is None else operands_1[rank]) for rank in range(size)]
    machine = Machine([moves(collective, rank.place) for rank in ranks], [rank.memory for rank in ranks], function,
                      shift=shift, wire_shift=wire_shift, segment=segment, credits=credits, choose=choose)
    machine.run()
    case = Case(size, count, root)
    results = [result_in(buffers.memory, buffers.place, contract.result(case, rank))
               for rank, buffers in enumerate(ranks)]
    return Outcome(results, machine.bytes_sent, machine.packets_sent)


def result_in(memory: Sequence[Region], place: Place, length: int) -> list[Any]:
    """The first ``length`` elements at the address of a rank's result."""
    region = next(region for region in memory if region.name == "result")
    first = (place.result - region.address) >> place.shift
    return region.cells[first:first + length]
