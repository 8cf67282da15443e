# SPDX-License-Identifier: Apache-2.0
"""What is known of a parser before any packet comes: its ways, where headers lie, which are always there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rackgate.pisa.declare import ACCEPT, REJECT, Access, Assign, Compute, Header, Parser, Pipeline, Table
from rackgate.pisa.expr import Field

__all__ = ["Node", "always_valid", "emitted_sizes", "extracted_always", "nodes", "payload_starts"]


@dataclass(frozen=True, eq=False)
class Node:
    """A state on one way from the start.

    Attributes
    ----------
    way:
        Names of the states before it and its own.
    offset:
        Byte of the frame where its header begins.
    end:
        Byte behind its header.
    places:
        By header that was extracted up to here its offset; the last one, where there are several.
    """

    way: tuple[str, ...]
    offset: int
    end: int
    places: dict[Header, int]

    @property
    def name(self) -> str:
        """The state's name."""
        return self.way[-1]


def nodes(parser: Parser) -> list[Node]:
    """All states on all ways, each behind the one that it is reached from."""

    def walk(name: str, way: tuple[str, ...], offset: int, places: dict[Header, int]) -> Iterator[Node]:
        if name in (ACCEPT, REJECT):
            return
        state = parser.states[name]
        here = Node((*way, name), offset, offset + state.header.size, {**places, state.header: offset})
        yield here
        for target in dict.fromkeys((*state.transitions.values(), state.default)):
            yield from walk(target, here.way, here.end, here.places)

    return list(walk(parser.start, (), 0, {}))


def _accepts(parser: Parser, node: Node) -> bool:
    state = parser.states[node.name]
    return ACCEPT in (*state.transitions.values(), state.default)


def payload_starts(parser: Parser) -> list[int]:
    """Bytes of the frame where a payload may begin."""
    return sorted({node.end for node in nodes(parser) if _accepts(parser, node)})


def _assigns(pipeline: Pipeline) -> Iterator[Assign]:
    for stage in (*pipeline.ingress, *pipeline.egress):
        if isinstance(stage, Compute):
            yield from stage.assigns
        elif isinstance(stage, Table):
            for action in stage.all_actions:
                yield from action.assigns
        elif isinstance(stage, Access):
            for action in stage.actions:
                yield from action.out
    for copy in pipeline.copies:
        yield from copy.assigns


def extracted_always(parser: Parser) -> set[Header]:
    """Headers that every packet has when it leaves the parser."""
    ends = [node.places for node in nodes(parser) if _accepts(parser, node)]
    return {header for header in ends[0] if all(header in places for places in ends)} if ends else set()


def always_valid(pipeline: Pipeline) -> set[Header]:
    """Headers that every packet has wherever it is: extracted on every way, and never taken away."""
    written: set[Field] = {item.target for item in _assigns(pipeline)}
    return {header for header in extracted_always(pipeline.parser) if header.is_valid not in written}


def emitted_sizes(pipeline: Pipeline, headers: Sequence[Header] | None = None) -> list[int]:
    """Bytes that ``headers`` (those that the deparser emits) may have together."""
    always, sizes = always_valid(pipeline), {0}
    for header in pipeline.emit if headers is None else headers:
        sizes = {size + header.size for size in sizes} | (set() if header in always else sizes)
    return sorted(sizes)
