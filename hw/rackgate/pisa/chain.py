# SPDX-License-Identifier: Apache-2.0
"""A row of stages between two streams."""

import operator
from collections.abc import Callable, Sequence

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.queue import BLOCK_RAM_DEPTH, Queue

from .compute import ComputeStage
from .declare import Access, Compute, Stage, Table
from .layout import carried_layout, fill, packet_layout
from .liveness import Carried, reads_of, stage_writes
from .matchaction import MatchAction
from .registerarray import RegisterArray

__all__ = ["Chain", "MakeTable", "stage_component"]

#: Makes the component of a table that is filled at run time, of the table, and what goes in and out of it.
MakeTable = Callable[[Table, data.StructLayout, data.StructLayout], wiring.Component]


def stage_component(stage: Stage, i_layout: data.StructLayout, o_layout: data.StructLayout,
                    make_table: MakeTable | None = None, known_ahead: int = 0) -> wiring.Component:
    """The component of a stage: members ``i`` and ``o``, streams that are never stalled, and ``latency`` in cycles.

    ``known_ahead`` is for a :class:`.RegisterArray`.
    """
    if isinstance(stage, Compute):
        return ComputeStage(stage, i_layout, o_layout)
    if isinstance(stage, Access):
        return RegisterArray(stage, i_layout, o_layout, known_ahead=known_ahead)
    if isinstance(stage, Table):
        if not stage.size:
            return MatchAction(stage, i_layout, o_layout)
        if make_table is None:
            raise ValueError(f"table {stage.name} is filled at run time: make_table must be given")
        return make_table(stage, i_layout, o_layout)
    raise TypeError(f"no such stage: {stage!r}")


class Chain(wiring.Component):
    """Stages one behind the other, which nothing stalls: a packet enters only if there is room for it at the end.

    Fields that the stages have no use for wait in a queue beside them, and join the packet again at the end. One
    packet a cycle; order is kept; ``latency`` cycles from ``i`` to ``o`` while ``o`` is not stalled. ``i.ready`` and
    ``o.valid`` come from registers and depend on neither side. Reset empties it.

    Parameters
    ----------
    stages:
        The declarations.
    carry:
        Fields before, in, beside and behind the stages.
    extras:
        Members that a packet has beside its fields and ``is_control``, with their widths; all go past the stages.
    make_table:
        See :data:`MakeTable`.
    depth:
        Packets that fit in. By default enough to never wait for room while ``o`` is not stalled.

    Members
    -------
    i, o:
        Packets.
    level:
        Packets inside.

    Attributes
    ----------
    components:
        Those of the stages, in order.
    """

    def __init__(self, stages: Sequence[Stage], carry: Carried, extras: dict[str, int], *,
                 make_table: MakeTable | None = None, depth: int | None = None):
        layouts = [carried_layout(fields) for fields in carry.at]
        self.stages, self.carry = tuple(stages), carry
        self.components = []
        for number, stage in enumerate(stages):
            self.components.append(stage_component(stage, layouts[number], layouts[number + 1], make_table,
                                                   self._known_ahead(number)))
        self.depth = _enough(sum(component.latency for component in self.components)) if depth is None else \
            operator.index(depth)
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        in_queue = 3 if self.depth > BLOCK_RAM_DEPTH else 1
        self.latency = sum(component.latency for component in self.components) + in_queue
        super().__init__({
            "i": In(stream.Signature(packet_layout(carry.before, extras))),
            "o": Out(stream.Signature(packet_layout(carry.behind, extras))),
            "level": Out(range(self.depth + 1)),
        })
        self._results = Queue(layouts[-1], depth=self.depth)
        self._aside = Queue(data.StructLayout({
            **{name: shape for name, shape in packet_layout(carry.aside, extras).members.items()
               if name != "is_control"}}), depth=self.depth)

    def _known_ahead(self, number):
        """Cycles before a stage from which on its index is known, if it is an access."""
        stage, cycles = self.stages[number], 0
        if isinstance(stage, Access):
            fields = reads_of(stage.index)
            while number and not fields & stage_writes(self.stages[number - 1]):
                number -= 1
                cycles += self.components[number].latency
        return cycles

    def elaborate(self, platform):
        m = Module()
        m.submodules.results = results = self._results
        m.submodules.aside = aside = self._aside
        enters, leaves = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(self.level != self.depth),
            enters.eq(self.i.valid & self.i.ready),
            self.o.valid.eq(results.o.valid & aside.o.valid),
            leaves.eq(self.o.valid & self.o.ready),
            results.o.ready.eq(leaves),
            aside.o.ready.eq(leaves),
            aside.i.valid.eq(enters),
        ]
        m.d.sync += self.level.eq(self.level + enters - leaves)

        valid, packet = enters, self.i.payload
        for number, (stage, component) in enumerate(zip(self.stages, self.components, strict=True)):
            m.submodules[stage.name] = component
            m.d.comb += [component.i.valid.eq(valid), *fill(component.i.payload, packet)]
            if getattr(component, "lead", 0):
                self._announce(m, number, component)
            valid, packet = component.o.valid, component.o.payload
        m.d.comb += [results.i.valid.eq(valid), *fill(results.i.payload, packet)]
        m.d.comb += [*fill(aside.i.payload, self.i.payload), *fill(self.o.payload, aside.o.payload, results.o.payload)]
        m.d.sync += [
            Assert(~valid | results.i.ready, "a packet finds no room behind the stages"),
            Assert(~enters | aside.i.ready, "a packet's other fields find no room"),
            Assert(results.level <= self.level, "more packets have come out than went in"),
            Assert(aside.level == self.level, "a packet and its other fields are not together"),
        ]
        return m

    def _announce(self, m, number, array):
        """Give a register array what its index is made of, as it came to a stage before, so many cycles ahead."""
        cycles = -array.lead
        while cycles < 0:
            number -= 1
            cycles += self.components[number].latency
        source, name = self.components[number].i, f"{array.stage.name}_ahead"
        valid, fields = source.valid, Signal(array.ahead.payload.shape(), name=name)
        m.d.comb += fill(fields, source.payload)
        for cycle in range(cycles):
            later_valid = Signal(name=f"{name}_valid_{cycle}")
            later = Signal(array.ahead.payload.shape(), name=f"{name}_{cycle}")
            m.d.sync += [later_valid.eq(valid), later.eq(fields)]
            valid, fields = later_valid, later
        m.d.comb += [array.ahead.valid.eq(valid), array.ahead.payload.eq(fields)]


def _enough(latency):
    """Room for all that enters before the first has left, in whole columns of LUT RAM."""
    return -(-(latency + 6) // 16) * 16
