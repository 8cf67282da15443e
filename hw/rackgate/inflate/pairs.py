# SPDX-License-Identifier: Apache-2.0
"""Where up to two symbols lead from every bit offset of a block, worked out before anyone knows where they begin."""

import operator

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.logic import select

__all__ = ["PAIR_STAGES", "STOP_BITS", "FirstStep", "Pairs", "jump_layout"]

#: Registers between the end of a symbol and the pair's.
PAIR_STAGES = 1
#: Of an offset up to 15 and 28 bits of a symbol.
STOP_BITS = 6


class FirstStep(data.Struct):
    """Where one symbol leads that begins at an offset, for each alphabet.

    ``*_stop`` is the offset of the bit after it; ``is_length`` says that a distance follows the literal/length symbol.
    """

    literal_stop: STOP_BITS
    is_length: 1
    distance_stop: STOP_BITS


def jump_layout(lanes: int) -> data.StructLayout:
    """Where the symbols lead that begin at one offset, two of them if the second begins in the same block.

    ``done``: no further symbol begins in the block. ``low``: the offset after them, modulo ``lanes``; ``skip``: blocks
    to pass over first, beyond this one. ``match``: a distance is expected there. ``has_second``, ``second`` and
    ``second_match``: is there a second symbol, at which offset, and is it a distance.
    """
    low = (lanes - 1).bit_length()
    return data.StructLayout({
        "low": low, "skip": STOP_BITS - 1 - low, "done": 1, "match": 1, "has_second": 1, "second": low,
        "second_match": 1,
    })


class Pairs(wiring.Component):
    """Put two steps together at each of ``lanes`` bit offsets.

    Purely feed-forward, one block a cycle, latency :data:`PAIR_STAGES` cycles. Reset clears nothing.

    Members
    -------
    steps: of the block, for each offset.
    literal, distance: the jump from each offset where a literal/length code is expected, or a distance code.
    """

    def __init__(self, lanes: int = 16):
        self.lanes = operator.index(lanes)
        if self.lanes not in (8, 16):
            raise ValueError(f"lanes must be 8 or 16, not {lanes}")
        jumps = Out(jump_layout(self.lanes)).array(self.lanes)
        super().__init__({"steps": In(FirstStep).array(self.lanes), "literal": jumps, "distance": jumps})

    def elaborate(self, platform):
        m = Module()
        for offset, step in enumerate(self.steps):
            m.d.sync += [
                *self._jump(m, self.literal[offset], offset, step.literal_stop, step.is_length),
                *self._jump(m, self.distance[offset], offset, step.distance_stop, Const(0, 1)),
            ]
        return m

    def _jump(self, m, jump, offset, stop, match):
        """Assignments of the jump from ``offset``, whose first symbol ends before ``stop``."""
        low = (self.lanes - 1).bit_length()
        # A symbol has a bit at least, so the second one can only begin after the offset.
        later = [self.steps[max(place, offset + 1) if offset + 1 < self.lanes else offset]
                 for place in range(self.lanes)]
        index, past = stop[:low], stop[low:].any()
        second = select([step.distance_stop for step in later], index)
        literal = select([step.literal_stop for step in later], index)
        length = select([step.is_length for step in later], index)
        if isinstance(match, Const):
            second, second_match = literal, length
        else:
            second, second_match = Mux(match, second, literal), ~match & length
        after = Signal(STOP_BITS, name=f"after_{offset}")
        m.d.comb += after.eq(Mux(past, stop, second))
        blocks = after[low:]
        return [
            jump.low.eq(after[:low]),
            jump.done.eq(blocks.any()),
            jump.skip.eq(Mux(blocks.any(), blocks - 1, 0)),
            jump.match.eq(Mux(past, match, second_match)),
            jump.has_second.eq(~past),
            jump.second.eq(index),
            jump.second_match.eq(match),
        ]
