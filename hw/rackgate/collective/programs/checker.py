# SPDX-License-Identifier: Apache-2.0
"""Proof by trial that a collective keeps the engine's rules and its contract, before it is loaded.

For every number of ranks that is asked for, and for counts and roots that differ in kind, all ranks are carried out
with names of the operands' elements in place of numbers. Checked are: every send has its receive, of the same length;
no two messages that may be under way from one rank to another have the same tag; nobody waits in a circle, with as few
credits as asked for and with several orders of events; nothing is read that was not written, or outside the buffers;
and every element of the result is made of what the contract says, each operand's element once.
"""

import functools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rackgate.collective.isa import Other
from rackgate.collective.programs.contract import Case, Contract, Source
from rackgate.collective.programs.error import CollectiveError
from rackgate.collective.programs.interpreter import Pause, Place, Step, moves
from rackgate.collective.programs.machine import Machine
from rackgate.collective.programs.schedule import Buffers, lay_out, result_in
from rackgate.collective.programs.statements import Trace

__all__ = ["CheckedFor", "check"]

_SHIFT = 2
#: Payload bytes of a packet that programs are checked with: the fewest that an engine can have, as a program may take
#: what fits them for one packet without asking; so that short vectors have many.
_SEGMENT = 256


class CheckedFor(NamedTuple):
    """What a program was checked for: numbers of ranks, counts that were added to the usual ones, least credits."""

    ranks: tuple[int, ...]
    counts: tuple[int, ...]
    credits: int


#: An element while it is checked: its index above, and the ranks whose elements are reduced in it as bits below.
_RANKS = 40


@functools.lru_cache(maxsize=1024)
def _bits(ranks: Sequence[int]) -> int:
    return sum(1 << rank for rank in ranks)


def _number(source: Source) -> int:
    ranks = source.ranks
    return source.index << _RANKS | _bits(ranks if isinstance(ranks, range) else tuple(ranks))


def _combine(received: int, local: int) -> int:
    if (received ^ local) >> _RANKS:
        raise CollectiveError(f"{_text(received)} is reduced with {_text(local)}")
    if received & local & (1 << _RANKS) - 1:
        raise CollectiveError(f"{_text(received)} is reduced with {_text(local)}: an element counts twice")
    return received | local


def _newest(order: list[int]) -> None:
    order.reverse()


#: Orders of events that programs are tried with.
_ORDERS: Sequence[Callable[[list[int]], None] | None] = (None, _newest, random.Random(1).shuffle)


def _counts(size: int, contract: Contract, more: Sequence[int]) -> list[int]:
    """Counts that differ in kind: the last is several packets for each rank."""
    packets = 3 * (_SEGMENT >> _SHIFT) + 5
    case = Case(size, 1)
    is_each = max(contract.operand(case, 0), contract.result(case, 0)) > 1
    return sorted({0, 1, size - 1, size, size + 1, packets if is_each else packets * size, *more})


def _roots(case_size: int, contract: Contract) -> Iterable[int]:
    if not contract.is_rooted:
        return (0,)
    return range(case_size) if case_size <= 5 else (0, 1, case_size // 2, case_size - 1)


def check(trace: Trace, contract: Contract, ranks: Iterable[int] = range(1, 17), *, counts: Sequence[int] = (),
          credits: int = 4) -> CheckedFor:
    """Check a collective. Raises CollectiveError with a sentence that names ranks, step and rule.

    Parameters
    ----------
    ranks:
        Numbers of ranks to check it for, each 1 to 16.
    counts:
        Counts to try besides 0, 1, about as many as there are ranks, and several packets for each. A program that
        chooses by the count needs some on either side.
    credits:
        Packets that a rank may have on its way to another one: the fewest that it will be run with.
    """
    sizes = tuple(ranks)
    if any(size not in range(1, 17) for size in sizes):
        raise CollectiveError(f"a collective is checked for 1 to 16 ranks, not {sizes}")
    if credits < 1:
        raise CollectiveError(f"a collective needs at least 1 credit, not {credits}")
    for size in sizes:
        for count in _counts(size, contract, counts):
            for root in _roots(size, contract):
                for in_place in (False, True) if contract.in_place is not None else (False,):
                    is_long = count > size + 1 and root == 0 and not in_place
                    orders = _ORDERS if is_long else _ORDERS[1:2]
                    _check_case(trace, contract, Case(size, count, root), in_place, credits, orders)
    return CheckedFor(sizes, tuple(counts), credits)


def _check_case(trace: Trace, contract: Contract, case: Case, in_place: bool, credits: int,
                orders: Sequence[Callable[[list[int]], None] | None]) -> None:
    where = f"{trace.name} of {case.size} ranks, count {case.count}"
    where += (f", root {case.root}" if contract.is_rooted else "") + (", in place" if in_place else "")
    first_results: list[list[int | None]] = []
    try:
        ranks = [_buffers(contract, case, rank, in_place) for rank in range(case.size)]
        steps = [moves(trace, buffers.place) for buffers in ranks]
        for rank, own in enumerate(steps):
            _check_steps(rank, own, case.size)
        for choose in orders:
            memories = [[region._replace(cells=list(region.cells)) for region in buffers.memory] for buffers in ranks]
            Machine(steps, memories, _combine, shift=_SHIFT, segment=_SEGMENT, credits=credits,
                    choose=choose).run()
            results = [result_in(memory, buffers.place, contract.result(case, rank))
                       for rank, (memory, buffers) in enumerate(zip(memories, ranks, strict=True))]
            if results != first_results:
                _check_results(contract, case, results)
                first_results = first_results or results
    except CollectiveError as error:
        raise CollectiveError(f"{where}: {error}") from None


def _buffers(contract: Contract, case: Case, rank: int, in_place: bool) -> Buffers:
    def elements(length: int, owner: int) -> list[int]:
        return [index << _RANKS | 1 << owner for index in range(length)]

    place = Place(case.size, rank, case.count, case.root, shift=_SHIFT, segment=_SEGMENT)
    return lay_out(contract, place, operand=elements(contract.operand(case, rank), rank), in_place=in_place,
                   operand_1=elements(contract.operand_1(case, rank), case.size + rank))


def _check_steps(rank: int, steps: Sequence[Step | Pause], size: int) -> None:
    """Peers are ranks, and what may be under way at a time is told apart by its tag."""
    received: dict[tuple[int, int], Step] = {}
    sent: dict[tuple[int, int], Step] = {}
    for step in steps:
        if isinstance(step, Pause):
            if not step.moves:
                received.clear()
                sent.clear()
            continue
        ends = [("receives from", step.source, received)] if step.control.other == Other.RECEIVE else []
        ends += [("sends to", step.destination, sent)] if step.control.send else []
        for what, peer, known in ends:
            if peer >= size:
                raise CollectiveError(f"rank {rank} {what} rank {peer} in {step}, and there are {size} ranks")
            if peer == rank:
                raise CollectiveError(f"rank {rank} {what} itself in {step}: use copy")
            earlier = known.setdefault((peer, step.tag), step)
            if earlier is not step:
                raise CollectiveError(f"rank {rank} {what} rank {peer} with tag {step.tag} in {step} while {earlier} "
                                      "may still be under way: give it another tag, or sync before it")


def _check_results(contract: Contract, case: Case, results: Sequence[Sequence[int | None]]) -> None:
    for rank, result in enumerate(results):
        for index, found in enumerate(result):
            wanted = _number(contract.value(case, rank, index))
            if found != wanted:
                raise CollectiveError(f"element {index} of rank {rank}'s result is {_text(found)} and must be "
                                      f"{_text(wanted)}")


def _text(number: int | None) -> str:
    if number is None:
        return "never written"
    ranks = [rank for rank in range(_RANKS) if number >> rank & 1]
    shown = ", ".join(map(str, ranks[:4])) + (", ..." if len(ranks) > 4 else "")
    whose = f"rank {shown}'s" if len(ranks) == 1 else f"the reduction of ranks {shown}'s"
    return f"{whose} element {number >> _RANKS}"
