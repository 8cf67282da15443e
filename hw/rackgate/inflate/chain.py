# SPDX-License-Identifier: Apache-2.0
"""Which offsets symbols really begin at: the one feedback loop of the decoder."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.lane import LaneResult
from rackgate.inflate.logic import select
from rackgate.inflate.pairs import FirstStep, Pairs, jump_layout

__all__ = ["BLOCKS", "COUNT_BITS", "PICKS", "Chain", "Pick"]

#: Symbols taken from a block in a cycle.
PICKS = 2
#: Blocks that can be kept at a time.
BLOCKS = 16
#: Of a count of blocks, twice as many as can be kept, so that differences tell full from empty.
COUNT_BITS = 5


class Pick(data.Struct):
    """A symbol found.

    ``bits`` is its size; ``code`` the size of its code alone. ``is_distance`` tells the alphabet. ``bad``: no
    code of the alphabet matches.
    """

    valid: 1
    offset: 4
    bits: 5
    code: 4
    is_distance: 1
    bad: 1


class Chain(wiring.Component):
    """Keep the lanes' results and walk through them from symbol to symbol, two symbols a cycle.

    A block takes one cycle for every two symbols that begin in it, and one cycle when none does. As
    :class:`~rackgate.inflate.pairs.Pairs` has put the steps together, the loop is nothing but a look-up of the
    next place from this one; what the symbols there are is read in the cycle after. A block can be walked through
    two cycles after it has been put in.

    Up to :data:`BLOCKS` blocks are kept, in LUT RAM; whoever puts them in counts them against ``walked``, less one for
    the picks that are still being read. Reset is a start; the RAM keeps what it holds, and nothing refers to that.

    Members
    -------
    start: forget all blocks; go to offset 0 and expect a literal/length code.
    put, steps, results: keep another block.
    known: blocks whose symbols may be taken, as their last bits are known too; modulo 2**COUNT_BITS.
    step: symbols may be taken in this cycle.
    walked: blocks walked through, modulo 2**COUNT_BITS.
    picks, block: symbols, in order, and the place among :data:`BLOCKS` of the block that they begin in.
    """

    def __init__(self, lanes: int = 16):
        self.lanes = operator.index(lanes)
        if self.lanes not in (8, 16):
            raise ValueError(f"lanes must be 8 or 16, not {lanes}")
        super().__init__({
            "start": In(1),
            "put": In(1),
            "steps": In(FirstStep).array(self.lanes),
            "results": In(LaneResult).array(self.lanes),
            "known": In(COUNT_BITS),
            "step": In(1),
            "walked": Out(COUNT_BITS),
            "picks": Out(Pick).array(PICKS),
            "block": Out(range(BLOCKS)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.pairs = pairs = Pairs(self.lanes)
        shape = jump_layout(self.lanes)
        count, stored = Signal(COUNT_BITS), Signal(COUNT_BITS)  # results kept; jumps kept
        ready = Signal(COUNT_BITS)  # of these, those that may be used
        has_jumps = Signal()
        m.d.comb += [ours.eq(theirs) for ours, theirs in zip(pairs.steps, self.steps, strict=True)]
        m.d.sync += [has_jumps.eq(self.put), count.eq(count + self.put), stored.eq(stored + has_jumps)]
        with m.If((has_jumps | (stored != ready)) & (ready != self.known)):
            m.d.sync += ready.eq(ready + 1)

        low, skip, match = (Signal(shape[name].shape, name=name) for name in ("low", "skip", "match"))
        rows = self._rows(m, "jumps", [Cat(pair) for pair in zip(pairs.literal, pairs.distance, strict=True)],
                          has_jumps, stored, [self.walked])
        jump = Signal(shape)
        halves = [half for (row,) in rows for half in (row[:len(row) // 2], row[len(row) // 2:])]
        m.d.comb += jump.eq(select(halves, Cat(match, low)))
        go = Signal()
        m.d.comb += go.eq(self.step & (self.walked != ready))
        with m.If(go):
            m.d.sync += self.walked.eq(self.walked + (skip.any() | jump.done))
            with m.If(skip.any()):
                m.d.sync += skip.eq(skip - 1)
            with m.Else():
                m.d.sync += [low.eq(jump.low), skip.eq(jump.skip), match.eq(jump.match)]
        with m.If(self.start):
            m.d.sync += [has_jumps.eq(0), *(signal.eq(0) for signal in (
                count, stored, ready, self.walked, low, skip, match))]

        at = [(go & ~skip.any(), low, match), (go & ~skip.any() & jump.has_second, jump.second, jump.second_match)]
        self._pick(m, at, count)
        m.d.sync += [self.block.eq(self.walked),
                     Assert((count - self.walked)[:COUNT_BITS] < BLOCKS, "a block that is in use was overwritten")]
        return m

    def _rows(self, m, name, values, enable, address, reads):
        """Keep a value for each offset; returns what stands at the addresses ``reads``, for each offset."""
        rows = []
        for offset, value in enumerate(values):
            ram = Memory(shape=len(value), depth=BLOCKS, init=[])
            m.submodules[f"{name}_{offset}"] = ram
            write = ram.write_port()
            m.d.comb += [write.addr.eq(address), write.data.eq(value), write.en.eq(enable)]
            row = []
            for at in reads:
                read = ram.read_port(domain="comb")
                m.d.comb += read.addr.eq(at)
                row.append(read.data)
            rows.append(row)
        return rows

    def _pick(self, m, at, count):
        """Drive ``picks``: the details at (valid, offset, is a distance), as they are a cycle later."""
        rows = self._rows(m, "results", [result.as_value() for result in self.results], self.put, count, [self.block])
        for pick, (valid, offset, is_distance) in zip(self.picks, at, strict=True):
            place = Signal.like(offset, name="place")
            m.d.sync += [pick.valid.eq(valid), place.eq(offset), pick.is_distance.eq(is_distance)]
            result = data.View(LaneResult, select([row[0] for row in rows], place))
            m.d.comb += [
                pick.offset.eq(place),
                pick.bits.eq(Mux(pick.is_distance, result.distance_bits, result.literal_bits)),
                pick.code.eq(Mux(pick.is_distance, result.distance_code, result.literal_code)),
                pick.bad.eq(Mux(pick.is_distance, result.distance_bad, result.literal_bad)),
            ]
        with m.If(self.start):
            m.d.sync += [pick.valid.eq(0) for pick in self.picks]
