# SPDX-License-Identifier: Apache-2.0
"""Which fields of a packet a pipeline still needs where: plain Python.

Only what later stages need goes through the stages; what none of them looks at waits beside them. A field lives at a
place if something behind that place may read it before it is surely overwritten.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .declare import Access, Assign, Compute, Copy, Metadata, Pipeline, Stage, Table, standard
from .expr import Const, Expr, Field, Op

__all__ = ["Carried", "carried", "deparsed", "live_before", "live_behind_ingress", "reads_of", "stage_reads",
           "stage_writes"]

Fields = frozenset[Field]


def reads_of(*expressions: Expr) -> Fields:
    """Every field that the expressions read."""
    found: set[Field] = set()
    seen: set[int] = set()
    left: list[Expr] = list(expressions)
    while left:
        expr = left.pop()
        if id(expr) in seen:
            continue
        seen.add(id(expr))
        if isinstance(expr, Field):
            found.add(expr)
        elif isinstance(expr, Op):
            left += expr.operands
    return frozenset(found)


def _assigns_of(stage: Stage) -> list[Assign]:
    if isinstance(stage, Compute):
        return list(stage.assigns)
    if isinstance(stage, Table):
        return [item for action in stage.all_actions for item in action.assigns]
    if isinstance(stage, Access):
        return [item for action in stage.actions for item in action.out]
    raise TypeError(f"no such stage: {stage!r}")


def stage_reads(stage: Stage) -> Fields:
    """Fields of the packet that a stage reads."""
    read: list[Expr] = [item.value for item in _assigns_of(stage)]
    own: Fields = frozenset()
    if isinstance(stage, Compute):
        read.append(stage.when)
    elif isinstance(stage, Table):
        read += [stage.when, *stage.keys]
        own = frozenset(item for action in stage.all_actions if action.parameters
                        for item in action.parameters.fields.values())
    elif isinstance(stage, Access):
        read += [stage.when, stage.index, *(action.when for action in stage.actions)]
        read += [value for action in stage.actions for value in stage.new_word(action).values()]
        own = frozenset(stage.register.word.fields.values())
    return reads_of(*read) - own


def stage_writes(stage: Stage) -> Fields:
    """Fields that a stage may write."""
    return frozenset(item.target for item in _assigns_of(stage))


def _surely_writes(stage: Stage) -> Fields:
    is_sure = isinstance(stage, Compute) and isinstance(stage.when, Const) and stage.when.value
    return stage_writes(stage) if is_sure else frozenset()


def live_before(stages: Sequence[Stage], behind: Iterable[Field]) -> Fields:
    """What lives before ``stages`` when ``behind`` lives behind them."""
    live = frozenset(behind)
    for stage in reversed(stages):
        live = (live - _surely_writes(stage)) | stage_reads(stage)
    return live


def deparsed(pipeline: Pipeline) -> Fields:
    """What is read of a packet that leaves: the deparser's headers, what its checksums cover, where it goes."""
    live = {standard.egress_port, standard.drop}
    for header in pipeline.emit:
        live |= {header.is_valid, *header.fields.values()}
    for item in pipeline.checksums:
        live |= set(item.pseudo)
        for header in item.headers:
            live |= {header.is_valid, *header.fields.values()}
    return frozenset(live)


def _copy_reads(copy: Copy) -> Fields:
    return reads_of(copy.when, *(item.value for item in copy.assigns))


def live_behind_ingress(pipeline: Pipeline) -> Fields:
    """What lives where the copies are made."""
    live = live_before(pipeline.egress, deparsed(pipeline)).union(*map(_copy_reads, pipeline.copies))
    if any(copy.recirculate for copy in pipeline.copies):
        before: Fields = frozenset()
        while before != live:
            before, live = live, live | live_before(pipeline.ingress, live)
    return live


@dataclass(frozen=True)
class Carried:
    """How fields get past a row of stages.

    ``at[k]`` go into stage k, the last of them out of the last stage. ``aside`` do not go through the stages at all:
    those that live behind them and that none of them writes. ``before`` and ``behind`` are all that live there.
    """

    before: Fields
    at: tuple[Fields, ...]
    aside: Fields
    behind: Fields


def carried(stages: Sequence[Stage], behind: Iterable[Field], *, clears_metadata: bool = False) -> Carried:
    """What each of ``stages`` must hand on when ``behind`` lives behind them.

    ``clears_metadata``: all metadata but :data:`~.declare.standard` is 0 before the first stage, so that none of it
    need be carried before something writes it. Fields that are not in ``at`` where they are read are 0 there.
    """
    behind = frozenset(behind)
    written: Fields = frozenset().union(*map(stage_writes, stages))
    live = behind & written
    at = [live]
    for stage in reversed(stages):
        live = (live - _surely_writes(stage)) | stage_reads(stage)
        at.append(live)
    at.reverse()
    before, aside = live_before(stages, behind), behind - written
    if clears_metadata:
        known: Fields = frozenset()
        for number, stage in enumerate((None, *stages)):
            known |= stage_writes(stage) if stage else frozenset()
            at[number] = frozenset(item for item in at[number] if item in known or not _is_cleared(item))
        before = frozenset(item for item in before if not _is_cleared(item))
        aside = frozenset(item for item in aside if not _is_cleared(item))
    return Carried(before, tuple(at), aside, behind)


def _is_cleared(item: Field) -> bool:
    return isinstance(item.owner, Metadata) and item.owner is not standard
