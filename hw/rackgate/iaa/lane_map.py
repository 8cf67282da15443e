# SPDX-License-Identifier: Apache-2.0
"""Which lanes work on what, and which lane the next descriptor goes to."""

import operator

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import QUEUES

__all__ = ["LaneMap"]


class LaneMap(wiring.Component):
    """Keep account of the lanes, and find a free one in the engine with fewest lanes busy.

    Lane ``n`` is of engine ``n // contexts``. A lane is busy from ``give`` to ``retired``; it is free if it is ready
    and not busy. A search takes ``engines + 1`` cycles and looks at an engine a cycle; of equal engines the
    first is taken, of its lanes the lowest. Reset makes all lanes not busy.

    Parameters
    ----------
    engines:
        Number of engines, 1 to 8.
    contexts:
        Lanes of an engine, 1 to 8.
    queues:
        Number of queues, 1 to 8.

    Members
    -------
    ready:
        Bit per lane: it would take a descriptor.
    retired:
        Strobe per lane: it is done with its descriptor.
    search:
        Strobe: find a lane in one of ``engines_allowed`` (holds meanwhile). ``found`` falls in the next cycle.
    done, found, lane:
        The search is over; it found a lane; the bit of that lane.
    give, queue:
        Strobe: ``lane`` takes a descriptor of ``queue``.
    has_free:
        Bit per engine: it has a lane free; a cycle late.
    running:
        Bit per queue: a lane is busy with a descriptor of it; one more cycle after the last has retired.
    """

    def __init__(self, *, engines: int, contexts: int, queues: int):
        self.engines = operator.index(engines)
        self.contexts = operator.index(contexts)
        self.queues = operator.index(queues)
        if not 1 <= self.engines <= 8:
            raise ValueError(f"engines must be 1 to 8, not {engines}")
        if not 1 <= self.contexts <= 8:
            raise ValueError(f"contexts must be 1 to 8, not {contexts}")
        if not 1 <= self.queues <= QUEUES:
            raise ValueError(f"queues must be 1 to {QUEUES}, not {queues}")
        self.lanes = self.engines * self.contexts
        super().__init__({
            "ready": In(self.lanes),
            "retired": In(self.lanes),
            "search": In(1),
            "engines_allowed": In(self.engines),
            "done": Out(1, init=1),
            "found": Out(1),
            "lane": Out(self.lanes),
            "give": In(1),
            "queue": In(range(self.queues)),
            "has_free": Out(self.engines),
            "running": Out(self.queues),
        })
        self._busy = Signal(self.lanes)

    def elaborate(self, platform):
        m = Module()
        owners = [Signal(range(self.queues), name=f"owner_{lane}") for lane in range(self.lanes)]
        free = Signal(self.lanes)
        m.d.comb += free.eq(self.ready & ~self._busy)
        m.d.sync += [
            self._busy.eq((self._busy & ~self.retired) | Mux(self.give, self.lane, 0)),
            self.has_free.eq(Cat(self._of_engine(free, engine).any() for engine in range(self.engines))),
            Assert((self.retired & ~self._busy) == 0, "a lane retires what it was not given"),
            Assert(~self.give | ((self.lane & self._busy) == 0), "a lane is given a second descriptor"),
        ]
        for lane, owner in enumerate(owners):
            with m.If(self.give & self.lane[lane]):
                m.d.sync += owner.eq(self.queue)
        for queue in range(self.queues):
            mine = Cat(self._busy[lane] & (owner == queue) for lane, owner in enumerate(owners))
            m.d.sync += self.running[queue].eq(mine.any() | (self.give & (self.queue == queue)))
        self._search(m, free)
        return m

    def _of_engine(self, lanes, engine):
        return lanes[engine * self.contexts:(engine + 1) * self.contexts]

    def _search(self, m, free):
        """First the engine's lanes are fetched, in the next cycle they are judged."""
        engine, judged = Signal(range(self.engines)), Signal(range(self.engines))
        has_fetched, is_allowed = Signal(), Signal()
        here_free, here_busy = Signal(self.contexts), Signal(self.contexts)
        load, least = Signal(range(self.contexts + 1)), Signal(range(self.contexts + 1))
        is_fetching = Signal()
        m.d.sync += [
            has_fetched.eq(is_fetching),
            judged.eq(engine),
            here_free.eq(Array(self._of_engine(free, k) for k in range(self.engines))[engine]),
            here_busy.eq(Array(self._of_engine(self._busy, k) for k in range(self.engines))[engine]),
            is_allowed.eq(Array(self.engines_allowed)[engine]),
        ]
        with m.If(is_fetching):
            m.d.sync += engine.eq(engine + 1)
            with m.If(engine == self.engines - 1):
                m.d.sync += is_fetching.eq(0)
        with m.If(has_fetched & (judged == self.engines - 1)):
            m.d.sync += self.done.eq(1)
        m.d.comb += load.eq(sum(here_busy))
        with m.If(has_fetched & is_allowed & here_free.any() & (~self.found | (load < least))):
            m.d.sync += [self.found.eq(1), least.eq(load)]
            for k in range(self.engines):
                lowest = here_free & (~here_free + 1)
                m.d.sync += self._of_engine(self.lane, k).eq(Mux(judged == k, lowest, 0))
        with m.If(self.search):
            m.d.sync += [engine.eq(0), is_fetching.eq(1), has_fetched.eq(0), self.done.eq(0), self.found.eq(0)]
