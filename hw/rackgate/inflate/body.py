# SPDX-License-Identifier: Apache-2.0
"""The body decoder: a compressed block's symbols, up to two a cycle, from 16 source bits a cycle."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.assemble import EntryAssembler
from rackgate.inflate.chain import Chain
from rackgate.inflate.code import CodeTables, SymbolWrite
from rackgate.inflate.entry import Entry, Run, Stop
from rackgate.inflate.lane import LANE_STAGES
from rackgate.inflate.lanes import Lanes, lookahead_blocks
from rackgate.inflate.symbols import MAX_SYMBOL_BITS, SYMBOL_STAGES, SymbolReader

__all__ = ["ENTRIES_IN_FLIGHT", "BodyDecoder"]

#: Entries that may still come after ``room`` has fallen: the symbol pipeline, the assembler, the MARK.
ENTRIES_IN_FLIGHT = SYMBOL_STAGES + 3


class BodyDecoder(wiring.Component):
    """Decode compressed blocks of any context, one :class:`Run` at a time.

    Source bits pass in blocks of ``lanes``. All-offset :class:`Lanes` size the symbol at each offset ahead of
    time; the :class:`Chain` then only has to pick, and the :class:`SymbolReader` looks the picks up. So a run
    takes one cycle for each block, one more for each pair of symbols above the first two that begin in one,
    and about 17 cycles from ``i`` to the first entry.

    Results of a run are entries that end with one MARK, then one :class:`Stop`; ``i`` is ready again
    after that. The input buffer has by then been read past the end of the block by at most 256 bits.

    Parameters
    ----------
    contexts:
        Contexts it can serve, 1 to 8.
    lanes:
        Bits of a block, 8 or 16.

    Members
    -------
    i: runs; ``i.ready`` does not depend on ``i.valid``.
    tables: every context's codes; taken at the start of a run.
    writes: every context's symbol RAM writes; not for the context of a run under way.
    fault: per context, the copier drops this run: stop soon, with Mark.ABORT.
    context: whose input buffer is to be connected: ``window``, ``level``, ``exhausted``, ``consume``.
    room: ``o`` can take :data:`ENTRIES_IN_FLIGHT` entries. o: entries, never refused.
    o_stop: the end of each run. busy: a run is under way, from its acceptance to ``o_stop``'s.

    Reset ends any run without MARK or Stop.
    """

    def __init__(self, *, contexts: int = 2, lanes: int = 16):
        self.contexts = operator.index(contexts)
        self.lanes = operator.index(lanes)
        if not 1 <= self.contexts <= 8:
            raise ValueError(f"contexts must be 1 to 8, not {contexts}")
        super().__init__({
            "i": In(stream.Signature(Run)),
            "tables": In(data.ArrayLayout(CodeTables, self.contexts)),
            "writes": In(data.ArrayLayout(SymbolWrite, self.contexts)),
            "fault": In(self.contexts),
            "context": Out(3),
            "window": In(32),
            "level": In(6),
            "exhausted": In(1),
            "consume": Out(6),
            "room": In(1),
            "o": Out(stream.Signature(Entry)),
            "o_stop": Out(stream.Signature(Stop)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.lanes = lanes = Lanes(self.lanes)
        m.submodules.chain = chain = Chain(self.lanes)
        m.submodules.symbols = symbols = SymbolReader(contexts=self.contexts, lanes=self.lanes)
        m.submodules.assemble = assemble = EntryAssembler()

        run = Signal(Run)
        start = Signal()
        tables = Signal(CodeTables)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += run.eq(self.i.payload)
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += start.eq(1)
                m.d.sync += tables.eq(self.tables[run.context])
                m.next = "RUN"
            with m.State("RUN"):
                with m.If(assemble.stopped):
                    m.next = "STOP"
            with m.State("STOP"):
                m.d.comb += self.o_stop.valid.eq(1)
                with m.If(self.o_stop.ready):
                    m.next = "IDLE"
        m.d.comb += [
            self.busy.eq(~fsm.ongoing("IDLE")),
            self.context.eq(run.context),
            self.o_stop.payload.eq(assemble.stop),
        ]

        # Blocks under way: the newest enters at the top, lanes see the newest ones, the chain the oldest.
        ahead = lookahead_blocks(self.lanes)
        depth = ahead + LANE_STAGES
        blocks = Signal(self.lanes * depth)
        filled = Signal(depth)
        at_chain = filled[-1]
        left = Signal(32)  # source bits from the first bit of the chain's block on
        available = (self.level >= self.lanes) | self.exhausted
        move = Signal()
        m.d.comb += [
            move.eq(assemble.running & available & (~at_chain | chain.done)),
            self.consume.eq(Mux(move, Mux(self.level < self.lanes, self.level, self.lanes), 0)),
        ]
        with m.If(move):
            m.d.sync += [
                blocks.eq(Cat(blocks[self.lanes:], self.window[:self.lanes])),
                filled.eq(Cat(1, filled)),
            ]
            with m.If(at_chain):
                m.d.sync += left.eq(Mux(left < self.lanes, 0, left - self.lanes))
        with m.If(start):
            m.d.sync += [filled.eq(0), left.eq(run.end - run.position)]

        seen = self.lanes * (depth - ahead)
        m.d.comb += [
            lanes.enable.eq(move),
            lanes.bits.eq(blocks[seen:]),
            lanes.tables.eq(tables),
            chain.start.eq(start),
            chain.step.eq(assemble.running & at_chain & self.room),
            chain.results.eq(lanes.results),
            chain.advance.eq(move & at_chain),
            symbols.context.eq(run.context),
            symbols.tables.eq(tables),
            symbols.picks.eq(chain.picks),
            symbols.bits.eq(blocks[:self.lanes * lookahead_blocks(self.lanes, MAX_SYMBOL_BITS)]),
            symbols.left.eq(Mux(left > 63, 63, left)),
            symbols.writes.eq(self.writes),
            symbols.clear.eq(~assemble.running),
            assemble.start.eq(start),
            assemble.position.eq(run.position),
            assemble.context.eq(run.context),
            assemble.final.eq(run.final),
            assemble.symbols.eq(symbols.symbols),
            assemble.abort.eq(self.fault.bit_select(run.context, 1)),
        ]
        wiring.connect(m, wiring.flipped(self.o), assemble.o)
        with m.If(start):
            m.d.sync += Assert(run.end >= run.position, "a run begins beyond the end of the source")
        return m
