# SPDX-License-Identifier: Apache-2.0
"""The part of the inflate engine that contexts share: body decoder, entry queue, copier, output stage."""

import operator

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.body import ENTRIES_IN_FLIGHT, BodyDecoder
from rackgate.inflate.code import CodeTables, SymbolWrite
from rackgate.inflate.copier import Copier
from rackgate.inflate.entry import Entry, Options, Result, Run, Stop, Summary
from rackgate.inflate.output import OutputStage
from rackgate.stream.aligner import pieces_layout
from rackgate.stream.queue import Queue

__all__ = ["ENTRY_QUEUE_DEPTH", "Pipe"]

#: Entries between the decoders and the copier.
ENTRY_QUEUE_DEPTH = 32


class Pipe(wiring.Component):
    """Lend the decoder and the way out to one context at a time.

    A context that wants the pipe gets it when the one before it lets go, round robin; it may then send
    entries and runs. Entries enter one queue in the order in which they are made, so a context can have
    let go while its last entries still wait there, and the next one's follow without a gap.

    Parameters
    ----------
    contexts, window, lanes:
        As for ``Inflate``.
    extended:
        As for ``Engine``.

    Members
    -------
    Arrays with an element a context: want, grant, fault, i_entry, i_run, o_stop, o_outcome, o_summary, tables,
    writes, options, want_block, has_block, block, block_count. o: to the writer.

    Reset drops everything in it.
    """

    def __init__(self, *, contexts: int = 2, window: int = 32768, lanes: int = 16, extended: bool = False):
        self.contexts = operator.index(contexts)
        self._body = BodyDecoder(contexts=contexts, lanes=lanes)
        self._copier = Copier(contexts=contexts, window=window)
        self._output = OutputStage(contexts=contexts, extended=extended)
        super().__init__({
            "want": In(self.contexts),
            "grant": Out(self.contexts),
            "fault": Out(self.contexts),
            "i_entry": In(stream.Signature(Entry)).array(self.contexts),
            "i_run": In(stream.Signature(Run)).array(self.contexts),
            "o_stop": Out(stream.Signature(Stop)).array(self.contexts),
            "o_outcome": Out(stream.Signature(Result)).array(self.contexts),
            "o_summary": Out(stream.Signature(Summary)).array(self.contexts),
            "tables": In(data.ArrayLayout(CodeTables, self.contexts)),
            "writes": In(data.ArrayLayout(SymbolWrite, self.contexts)),
            "options": In(data.ArrayLayout(Options, self.contexts)),
            "want_block": Out(self.contexts),
            "has_block": In(self.contexts),
            "block": In(lanes).array(self.contexts),
            "block_count": In(range(lanes + 1)).array(self.contexts),
            "o": Out(stream.Signature(pieces_layout(8))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.body = body = self._body
        m.submodules.queue = queue = Queue(Entry, depth=ENTRY_QUEUE_DEPTH)
        m.submodules.near = near = Queue(Entry, depth=2)  # the copier's ready comes too late for the long one
        m.submodules.copier = copier = self._copier
        m.submodules.output = output = self._output
        wiring.connect(m, queue.o, near.i)
        wiring.connect(m, near.o, copier.i)
        wiring.connect(m, copier.o, output.i)
        wiring.connect(m, output.o, wiring.flipped(self.o))
        m.d.comb += [self.fault.eq(copier.fault), output.options.eq(self.options)]

        holder = self._lock(m)
        self._enter(m, body, queue, holder)
        self._decode(m, body)
        _route(m, self.o_stop, body.o_stop, body.context, body.o_stop.payload)
        _route(m, self.o_outcome, copier.o_result, copier.o_result.p.context, copier.o_result.p.result)
        _route(m, self.o_summary, output.o_summary, output.o_summary.p.context, output.o_summary.p.summary)
        return m

    def _lock(self, m):
        """Grant the pipe; returns the number of the last context that had it."""
        holder = Signal(range(self.contexts))
        held = (self.want & self.grant).any()
        with m.If(~held):
            m.d.sync += self.grant.eq(0)
            # The holder's successor comes first, so the last assignment has to be its.
            with m.Switch(holder):
                for last in range(self.contexts):
                    with m.Case(last):
                        for step in reversed(range(1, self.contexts + 1)):
                            context = (last + step) % self.contexts
                            with m.If(self.want[context]):
                                m.d.sync += [self.grant.eq(1 << context), holder.eq(context)]
        m.d.sync += Assert((self.grant & (self.grant - 1)[:self.contexts]) == 0, "two contexts hold the pipe")
        return holder

    def _enter(self, m, body, queue, holder):
        """Entries of the body decoder while it is busy, else of the front that holds the pipe."""
        front = Array(self.i_entry)[holder]
        m.d.comb += [
            body.room.eq(queue.level <= ENTRY_QUEUE_DEPTH - ENTRIES_IN_FLIGHT),
            body.o.ready.eq(queue.i.ready),
            queue.i.payload.eq(Mux(body.busy, body.o.payload, front.payload)),
            queue.i.valid.eq(Mux(body.busy, body.o.valid, front.valid & self.grant.any())),
        ]
        for context in range(self.contexts):
            m.d.comb += self.i_entry[context].ready.eq(queue.i.ready & ~body.busy & self.grant[context])

    def _decode(self, m, body):
        """Connect the body decoder to the context whose run it has, or will have."""
        m.d.comb += [
            body.tables.eq(self.tables),
            body.writes.eq(self.writes),
            body.fault.eq(self.fault),
            body.i_valid.eq(self.has_block.bit_select(body.context, 1)),
            body.i_bits.eq(Array(self.block)[body.context]),
            body.i_count.eq(Array(self.block_count)[body.context]),
            body.i.valid.eq(Cat(run.valid for run in self.i_run).any()),
        ]
        for context, run in enumerate(self.i_run):
            m.d.comb += [
                run.ready.eq(body.i.ready),
                self.want_block[context].eq(body.want & (body.context == context)),
            ]
            with m.If(run.valid):
                m.d.comb += body.i.payload.eq(run.payload)
        m.d.sync += Assert(Cat(run.valid for run in self.i_run) & ~self.grant == 0, "a run without the pipe")


def _route(m, outputs, source, context, payload):
    """Give ``payload`` to the output of ``context``."""
    for number, output in enumerate(outputs):
        m.d.comb += [output.valid.eq(source.valid & (context == number)), output.payload.eq(payload)]
    m.d.comb += source.ready.eq(Array(output.ready for output in outputs)[context])
