# SPDX-License-Identifier: Apache-2.0
"""The blocks of source bits that the body decoder has under way."""

import operator

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.chain import BLOCKS, COUNT_BITS
from rackgate.inflate.lanes import lookahead_blocks
from rackgate.inflate.symbols import MAX_SYMBOL_BITS

__all__ = ["Blocks"]

# A block that is wanted comes in so many cycles that this many can be on their way unseen.
_UNSEEN = 3


class Blocks(wiring.Component):
    """Ask for blocks of source bits, show them to the lanes, and keep them until their symbols have been read.

    At most :data:`~rackgate.inflate.chain.BLOCKS` - 1 blocks are under way from the one that the chain walks
    through on. A block is shown to the lanes as soon as the bits that its codes can reach have come. Reset asks for
    nothing; the RAM keeps what it holds, and nothing refers to that.

    Members
    -------
    early: ``start`` comes in the next cycle: ask for a block. start: a run begins.
    running: blocks are taken. want: a block is to be taken from the source; it comes two cycles later or later.
    i_valid, i_bits, i_count: it, and how many of its bits are the source's; after one with fewer come ones with none.
    shown: the next block's bits, and what the lanes may look at after them, are in ``ahead``.
    walked: blocks that the chain has walked through.
    known: blocks whose symbols' bits have all come; both modulo 2**COUNT_BITS.
    block: place of a block. bits: of that block and of those that its symbols can reach.
    left: how many of these are the source's, from the first on.
    """

    def __init__(self, lanes: int = 16):
        self.lanes = operator.index(lanes)
        self._ahead = lookahead_blocks(self.lanes)
        self._reach = lookahead_blocks(self.lanes, MAX_SYMBOL_BITS)
        super().__init__({
            "early": In(1),
            "start": In(1),
            "running": In(1),
            "want": Out(1),
            "i_valid": In(1),
            "i_bits": In(self.lanes),
            "i_count": In(range(self.lanes + 1)),
            "shown": Out(1),
            "ahead": Out(self.lanes * self._ahead),
            "walked": In(COUNT_BITS),
            "known": Out(COUNT_BITS),
            "block": In(range(BLOCKS)),
            "bits": Out(self.lanes * self._reach),
            "left": Out(range(self.lanes * self._reach + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        arrived = Signal(COUNT_BITS)
        counts = [Signal.like(self.i_count, name=f"count_{age}") for age in range(1, self._reach)]  # of those before
        filled = Signal(self._reach)  # blocks that have come, as a row of ones
        take, under_way = Signal(), Signal(COUNT_BITS)
        m.d.comb += [take.eq(self.i_valid & self.running), under_way.eq(arrived - self.walked)]
        m.d.sync += [
            self.want.eq(self.early | self.start | (self.running & (under_way < BLOCKS - _UNSEEN))),
            self.shown.eq(take & filled[self._ahead - 2]),
            Assert(~self.running | (under_way < BLOCKS), "more blocks under way than can be kept"),
        ]
        with m.If(take):
            m.d.sync += [
                arrived.eq(arrived + 1),
                filled.eq(Cat(1, filled)),
                self.known.eq(self.known + filled[self._reach - 2]),
                self.ahead.eq(Cat(self.ahead[self.lanes:], self.i_bits)),
                *(older.eq(newer) for older, newer in zip(counts, [self.i_count, *counts], strict=False)),
            ]
        with m.If(self.start):
            m.d.sync += [arrived.eq(0), filled.eq(0), self.known.eq(0), self.shown.eq(0)]

        bits = Memory(shape=self.lanes, depth=BLOCKS, init=[])
        lefts = Memory(shape=len(self.left), depth=BLOCKS, init=[])
        m.submodules.bits, m.submodules.lefts = bits, lefts
        # What is left of a block is known with the last of those that its symbols can reach.
        for ram, age, value in ((bits, 0, self.i_bits), (lefts, self._reach - 1, sum(counts, self.i_count))):
            write = ram.write_port()
            m.d.comb += [write.addr.eq(arrived - age), write.data.eq(value), write.en.eq(take)]
        read = lefts.read_port(domain="comb")
        m.d.comb += [read.addr.eq(self.block), self.left.eq(read.data)]
        for number in range(self._reach):
            read = bits.read_port(domain="comb")
            m.d.comb += [read.addr.eq(self.block + number),
                         self.bits.word_select(number, self.lanes).eq(read.data)]
        return m
