# SPDX-License-Identifier: Apache-2.0
"""From code lengths to the tables of a block's codes."""

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.code import (
    FIXED_SYMBOLS,
    LENGTHS,
    CodeTables,
    SymbolWrite,
    bucket,
    length_extra_bits,
)
from rackgate.inflate.counts import LengthCounter
from rackgate.inflate.fixed import fixed_symbol, fixed_tables
from rackgate.inflate.logic import at_least, select
from rackgate.inflate.ranked import RankedList
from rackgate.inflate.runs import CodeLength
from rackgate.inflate.sums import SUM_FIELDS, CodeSums

__all__ = ["TableBuilder"]

_FIXED_SIZE = 288
_BUCKETS = (0, *(bucket(length) for length in LENGTHS))


class TableBuilder(wiring.Component):
    """Makes the tables of a block while its code lengths come in, or sets them to the fixed codes.

    Literal/length symbols go to the symbol RAM as they come, as their place in the bucket of their length is the
    number of those before them. Length and distance symbols go into lists (:class:`RankedList`). What remains after
    the last one is a pass over the 15 lengths (:class:`CodeSums`).

    Throughput: a symbol a cycle. ``done`` comes 19 cycles after ``finish``; for the fixed codes 2 cycles after
    ``start``, and 290 cycles the first time after reset, when their symbols are written to the symbol RAM, where they
    stay. Reset leaves the tables as they are.

    Members
    -------
    start, fixed:
        Begins a block, and forgets the lengths of one that has not been finished. With ``fixed`` there is nothing
        more to do but wait for ``done``. Not between ``finish`` and ``done``.
    i:
        A symbol with its code length, in symbol order, distances after literals; not within 17 cycles of ``start``.
    finish:
        There are no more. Not with ``i.valid``.
    done, error:
        The tables hold, until the next start, unless ``error``, an ``abi.ErrorCode``, is not zero.
    tables, o_symbol:
        The tables; writes to the symbol RAM.
    """

    start: In(1)
    fixed: In(1)
    i: In(CodeLength)
    finish: In(1)
    done: Out(1)
    error: Out(8)
    tables: Out(CodeTables)
    o_symbol: Out(SymbolWrite)

    def elaborate(self, platform):
        m = Module()
        fixed = fixed_tables()
        m.submodules.counter = counter = LengthCounter()
        m.submodules.sums = sums = CodeSums()
        m.submodules.lengths = lengths = RankedList(3, preset=fixed["length_extra"])
        m.submodules.distances = distances = RankedList(5, preset=fixed["distance_symbol"])
        load_fixed = Signal()
        for part in (lengths, distances):
            m.d.comb += part.load.eq(load_fixed)
        m.d.comb += [
            counter.clear.eq(self.start), counter.length.eq(sums.length), sums.counts.eq(counter.counts),
            sums.load_fixed.eq(load_fixed),
            *(self.tables[name].eq(sums.tables[name]) for name in SUM_FIELDS),
            self.tables.length_extra.eq(lengths.o), self.tables.distance_symbol.eq(distances.o),
        ]
        self._rank(m, counter, lengths, distances)
        self._check(m, counter.i, sums)

        fixed_rank, has_fixed = Signal(range(_FIXED_SIZE)), Signal()
        with m.FSM():
            with m.State("COLLECT"):
                with m.If(self.start & self.fixed):
                    m.d.sync += fixed_rank.eq(0)
                    m.next = "FIXED"
                with m.Elif(self.finish):
                    m.d.comb += sums.start.eq(1)
                    m.d.sync += Assert(~self.i.valid, "a code length with finish")
                    m.next = "SUMS"
            with m.State("FIXED"):
                m.d.comb += load_fixed.eq(1)
                with m.If(has_fixed):
                    m.next = "FIXED_DONE"
                with m.Else():
                    m.d.sync += [
                        self.o_symbol.enable.eq(1),
                        self.o_symbol.address.eq(FIXED_SYMBOLS + fixed_rank),
                        self.o_symbol.symbol.eq(fixed_symbol(fixed_rank)),
                        fixed_rank.eq(fixed_rank + 1),
                        has_fixed.eq(fixed_rank == _FIXED_SIZE - 1),
                    ]
            with m.State("FIXED_DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "COLLECT"
            with m.State("SUMS"):
                m.d.sync += Assert(~self.start, "start between finish and done")
                with m.If(sums.done):
                    m.next = "SUMS_DONE"
            with m.State("SUMS_DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "COLLECT"
        return m

    def _rank(self, m, counter, lengths, distances):
        """Counts a symbol in the cycle after it came; in the next, writes it where it belongs."""
        item = counter.i
        extra = [length_extra_bits((low - 257) % 32) for low in range(32)]
        m.d.sync += [
            item.eq(self.i),
            self.o_symbol.enable.eq(item.valid & ~item.distance),
            self.o_symbol.address.eq(select(_BUCKETS, item.length) + counter.rank),
            self.o_symbol.symbol.eq(item.symbol),
            lengths.insert.eq(item.valid & ~item.distance & at_least(item.symbol, 257)),
            lengths.place.eq(counter.place),
            lengths.value.eq(select(extra, item.symbol[:5])),
            distances.insert.eq(item.valid & item.distance),
            distances.place.eq(counter.place),
            distances.value.eq(item.symbol),
        ]

    def _check(self, m, item, sums):
        """The verdict on both codes, in zlib's order; a code of one bit may stand alone, and distances be missing."""
        any_literal, any_end, long_literal, long_distance = (Signal(name=name) for name in (
            "any_literal", "any_end", "long_literal", "long_distance"))
        is_long = at_least(item.length, 2)
        with m.If(self.start):
            m.d.sync += [flag.eq(0) for flag in (any_literal, any_end, long_literal, long_distance)]
        with m.Elif(item.valid & item.distance):
            m.d.sync += long_distance.eq(long_distance | is_long)
        with m.Elif(item.valid):
            m.d.sync += [any_literal.eq(1), any_end.eq(any_end | (item.symbol == 256)),
                         long_literal.eq(long_literal | is_long)]
        verdicts = (
            (~any_literal, ErrorCode.NO_LITERAL_CODES),
            (~any_end, ErrorCode.NO_END_OF_BLOCK_CODE),
            (sums.literals.over, ErrorCode.LITERALS_OVERSUBSCRIBED),
            (sums.literals.incomplete & long_literal, ErrorCode.LITERALS_INCOMPLETE),
            (sums.distances.over, ErrorCode.DISTANCES_OVERSUBSCRIBED),
            (sums.distances.incomplete & long_distance, ErrorCode.DISTANCES_INCOMPLETE),
        )
        verdict = Signal(8)
        for wrong, code in reversed(verdicts):
            with m.If(wrong):
                m.d.comb += verdict.eq(code)
        with m.If(sums.done):
            m.d.sync += self.error.eq(verdict)
        with m.If(self.start):
            m.d.sync += self.error.eq(ErrorCode.NONE)
