# SPDX-License-Identifier: Apache-2.0
"""Symbol sizes at every bit offset of a block of source bits, without knowing where symbols begin."""

import operator

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.code import MAX_LENGTH, CodeTables
from rackgate.inflate.lane import Lane, LaneResult
from rackgate.inflate.pairs import FirstStep

__all__ = ["Lanes", "lookahead_blocks"]


def lookahead_blocks(lanes: int, bits: int = MAX_LENGTH) -> int:
    """Blocks that hold the next ``bits`` bits of every offset of the first of them."""
    return -(-(lanes - 1 + bits) // lanes)


class Lanes(wiring.Component):
    """Decode the size of the symbol at each of ``lanes`` bit offsets.

    Purely feed-forward: results of the block whose first bit is ``bits[0]`` stand in ``results`` and ``steps``
    ``LANE_STAGES`` cycles later, one block a cycle (see :class:`~rackgate.inflate.lane.Lane`).
    ``tables`` must be stable while blocks that use them are in the pipeline. Reset clears nothing: the user counts
    the stages until the first result is valid.

    Parameters
    ----------
    lanes:
        Bit offsets, 8 or 16.

    Members
    -------
    bits: the next bits of the source, the block's first bit in bit 0.
    tables: the codes in force.
    results, steps: for each offset.
    """

    def __init__(self, lanes: int = 16):
        self.lanes = operator.index(lanes)
        if self.lanes not in (8, 16):
            raise ValueError(f"lanes must be 8 or 16, not {lanes}")
        super().__init__({
            "bits": In(self.lanes * lookahead_blocks(self.lanes)),
            "tables": In(CodeTables),
            "results": Out(LaneResult).array(self.lanes),
            "steps": Out(FirstStep).array(self.lanes),
        })

    def elaborate(self, platform):
        m = Module()
        for offset in range(self.lanes):
            lane = Lane(offset)
            m.submodules[f"lane_{offset}"] = lane
            m.d.comb += [
                # The first bit of a code is its highest, so bits are taken in reverse.
                lane.ahead.eq(Cat(reversed(self.bits[offset:offset + MAX_LENGTH]))),
                lane.tables.eq(self.tables),
                self.results[offset].eq(lane.result),
                self.steps[offset].eq(lane.step),
            ]
        return m
