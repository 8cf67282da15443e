# SPDX-License-Identifier: Apache-2.0
"""Marks for branch coverage.

Amaranth's Verilog no longer knows its ``with m.If(...)`` lines. So each branch gets a register that is set at a
clock edge at which the branch is taken and never cleared; it carries the branch's line.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from amaranth.hdl import Fragment, Signal
from amaranth.hdl._ast import Switch
from amaranth.lib import wiring

__all__ = ["MARK", "Instrumented"]

#: What the marks' names begin with.
MARK = "branch_taken_"


class Instrumented(wiring.Component):
    """A component with a register for each of its branches. Ports and behaviour are the component's own."""

    def __init__(self, component: Any):
        self._component = component
        self._count = 0

    @property
    def signature(self) -> wiring.Signature:
        """The component's own signature."""
        return self._component.signature

    def __getattr__(self, name: str) -> Any:
        return getattr(self._component, name)

    def elaborate(self, platform):
        fragment = Fragment.get(self._component, platform)
        self._mark(fragment)
        return fragment

    def _mark(self, fragment: Any) -> None:
        marks = [(domain, list(self._mirror(statements))) for domain, statements in fragment.statements.items()]
        for domain, statements in marks:
            # Between clock edges conditions may show values that never count: look at the edge, in any case.
            fragment.add_statements("sync" if domain == "comb" else domain, *statements)
        for part, *_ in fragment.subfragments:
            self._mark(part)

    def _mirror(self, statements: Iterable[Any]) -> Iterator[Any]:
        """The statements' branches, with nothing in them but marks."""
        for statement in statements:
            if not isinstance(statement, Switch):
                continue
            cases: Any = []  # the stubs know the public Switch of old
            for patterns, body, location in statement.cases:
                mark = Signal(name=f"{MARK}{self._count}", reset_less=True, attrs={"keep": "true"})
                mark.src_loc = location or statement.src_loc
                self._count += 1
                cases.append((patterns, [mark.eq(1), *self._mirror(body)], location))
            yield Switch(statement.test, cases, src_loc=statement.src_loc)
