# SPDX-License-Identifier: Apache-2.0
"""The body decoder: a compressed block's symbols, up to two a cycle, from 16 source bits a cycle."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.assemble import EntryAssembler
from rackgate.inflate.blocks import Blocks
from rackgate.inflate.chain import Chain
from rackgate.inflate.code import CodeTables, SymbolWrite
from rackgate.inflate.entry import Entry, Run, Stop
from rackgate.inflate.lane import LANE_STAGES
from rackgate.inflate.lanes import Lanes
from rackgate.inflate.symbols import SYMBOL_STAGES, SymbolReader

__all__ = ["ENTRIES_IN_FLIGHT", "READ_AHEAD", "BodyDecoder"]

#: Entries that may still come after ``room`` has fallen: the picks, the symbol pipeline, the assembler, the MARK.
ENTRIES_IN_FLIGHT = SYMBOL_STAGES + 4
#: Bits that may have been read beyond the last one that counts, when a run ends.
READ_AHEAD = 384


class BodyDecoder(wiring.Component):
    """Decode compressed blocks of any context, one :class:`Run` at a time.

    Source bits pass in blocks of ``lanes``. All-offset :class:`Lanes` size the symbol at each offset ahead of
    time; the :class:`Chain` then only has to pick, and the :class:`SymbolReader` looks the picks up. So a run
    takes one cycle for each block, one more for each pair of symbols above the first two that begin in one,
    and about 21 cycles from ``i`` to the first entry.

    Results of a run are entries that end with one MARK, then one :class:`Stop`; ``i`` is ready again
    after that. The input buffer has by then been read past the end of the block by at most :data:`READ_AHEAD` bits.

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
    context: whose :class:`~rackgate.inflate.feeder.Feeder` is to be connected: ``want``, ``i_valid``, ``i_bits``,
    ``i_count``.
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
            "want": Out(1),
            "i_valid": In(1),
            "i_bits": In(self.lanes),
            "i_count": In(range(self.lanes + 1)),
            "room": In(1),
            "o": Out(stream.Signature(Entry)),
            "o_stop": Out(stream.Signature(Stop)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.blocks = blocks = Blocks(self.lanes)
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

        abort = Signal()
        m.d.sync += abort.eq(self.fault.bit_select(run.context, 1) & assemble.running)
        put = Signal(LANE_STAGES)  # a block's results are that many stages away
        m.d.sync += put.eq(Mux(start, 0, Cat(blocks.shown, put)))
        m.d.comb += [
            self.want.eq(blocks.want),
            blocks.early.eq(self.i.valid & self.i.ready),
            blocks.start.eq(start),
            blocks.running.eq(assemble.running),
            blocks.i_valid.eq(self.i_valid),
            blocks.i_bits.eq(self.i_bits),
            blocks.i_count.eq(self.i_count),
            blocks.walked.eq(chain.walked),
            blocks.block.eq(chain.block),
            lanes.bits.eq(blocks.ahead),
            lanes.tables.eq(tables),
            *(ours.eq(theirs) for ours, theirs in zip(chain.results, lanes.results, strict=True)),
            *(ours.eq(theirs) for ours, theirs in zip(chain.steps, lanes.steps, strict=True)),
            chain.start.eq(start),
            chain.put.eq(put[-1]),
            chain.known.eq(blocks.known),
            chain.step.eq(assemble.running & self.room),
            symbols.context.eq(run.context),
            symbols.tables.eq(tables),
            *(ours.eq(theirs) for ours, theirs in zip(symbols.picks, chain.picks, strict=True)),
            symbols.bits.eq(blocks.bits),
            symbols.left.eq(blocks.left),
            symbols.writes.eq(self.writes),
            symbols.clear.eq(~assemble.running),
            assemble.start.eq(start),
            assemble.position.eq(run.position),
            assemble.context.eq(run.context),
            assemble.final.eq(run.final),
            assemble.symbols.eq(symbols.symbols),
            assemble.abort.eq(abort),
        ]
        wiring.connect(m, wiring.flipped(self.o), assemble.o)
        with m.If(start):
            m.d.sync += Assert(run.end >= run.position, "a run begins beyond the end of the source")
        return m
