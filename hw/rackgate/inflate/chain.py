# SPDX-License-Identifier: Apache-2.0
"""Which offsets symbols really begin at: the one feedback loop of the decoder."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.lane import LaneResult

__all__ = ["PICKS", "Chain", "Pick"]

#: Symbols taken from a block in a cycle.
PICKS = 2


class Pick(data.Struct):
    """A symbol found.

    ``bits`` is its size; ``code`` the size of its code alone. ``is_distance`` tells the alphabet. ``bad``: no
    code of the alphabet matches. ``stop`` is the offset of the bit after it.
    """

    valid: 1
    offset: 4
    stop: 6
    bits: 5
    code: 4
    is_distance: 1
    is_length: 1
    bad: 1


class Chain(wiring.Component):
    """Walk from symbol to symbol through a block of lane results, two symbols a cycle.

    A block takes one cycle for every two symbols that begin in it, and one cycle when none does. ``picks``
    and ``done`` depend combinationally on ``results`` and on ``step``.

    Members
    -------
    start: go to offset 0 and expect a literal/length code.
    step: take symbols in this cycle (``results`` are valid and there is room downstream).
    results: of the block under way.
    picks: symbols taken in this cycle, in order.
    done: no further symbol begins in this block.
    advance: the next cycle's ``results`` are of the next block; only with ``done``.

    Reset is a start.
    """

    def __init__(self, lanes: int = 16):
        self.lanes = operator.index(lanes)
        if self.lanes not in (8, 16):
            raise ValueError(f"lanes must be 8 or 16, not {lanes}")
        super().__init__({
            "start": In(1),
            "step": In(1),
            "results": In(data.ArrayLayout(LaneResult, self.lanes)),
            "picks": Out(data.ArrayLayout(Pick, PICKS)),
            "done": Out(1),
            "advance": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        offset = Signal(6)
        in_match = Signal()

        at, expects_distance = offset, in_match
        for number in range(PICKS):
            pick = self.picks[number]
            lane = Signal(LaneResult, name=f"lane_{number}")
            low = at[:(self.lanes - 1).bit_length()]
            m.d.comb += [
                lane.eq(self.results[low]),
                pick.valid.eq(self.step & (at < self.lanes)),
                pick.offset.eq(low),
                pick.is_distance.eq(expects_distance),
                pick.is_length.eq(~expects_distance & lane.is_length),
                pick.bits.eq(Mux(expects_distance, lane.distance_bits, lane.literal_bits)),
                pick.code.eq(Mux(expects_distance, lane.distance_code, lane.literal_code)),
                pick.bad.eq(Mux(expects_distance, lane.distance_bad, lane.literal_bad)),
                pick.stop.eq(low + pick.bits),
            ]
            after = Signal(6, name=f"after_{number}")
            after_match = Signal(name=f"after_match_{number}")
            m.d.comb += [
                after.eq(Mux(pick.valid, pick.stop, at)),
                after_match.eq(Mux(pick.valid, pick.is_length, expects_distance)),
            ]
            at, expects_distance = after, after_match

        m.d.comb += self.done.eq(at >= self.lanes)
        m.d.sync += [offset.eq(Mux(self.advance, at - self.lanes, at)), in_match.eq(expects_distance)]
        with m.If(self.start):
            m.d.sync += [offset.eq(0), in_match.eq(0)]
        m.d.sync += Assert(~self.advance | self.start | self.done, "chain left a block with symbols in it")
        return m
