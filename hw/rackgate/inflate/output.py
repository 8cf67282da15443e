# SPDX-License-Identifier: Apache-2.0
"""From the copier to memory: output words go to the writer and into the checksums."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.checks import ContextSummary, OutputChecks
from rackgate.inflate.entry import Options, OutputWord, Start
from rackgate.inflate.steps import check_contexts
from rackgate.stream.aligner import pieces_layout
from rackgate.stream.queue import Queue

__all__ = ["OutputStage"]

#: Enough for the checksums to end one segment and change context while words go on at full speed.
_DEPTH = 32


class OutputStage(wiring.Component):
    """Pass output words on to a writer, and report checksums and length at the end of every segment.

    One word a cycle, latency one cycle to the writer. The checksums may be up to 32 words behind; only when
    they fall back farther do they hold up the words. Each segment costs them about 14 cycles (see
    ``OutputChecks``), which they make up for whenever fewer than 8 bytes a cycle come.

    Parameters
    ----------
    contexts:
        How many contexts, 1 to 8.
    extended:
        See ``OutputChecks``.

    Members
    -------
    options:
        Of each context's job, stable while it is under way.
    i:
        Output words. ``ready`` depends on ``o.ready``, not on ``valid``.
    o:
        Pieces for :class:`~rackgate.dma.writer.Writer`: ``begin`` for a START of a new job, ``flush`` for an
        ``end``.
    o_summary:
        One for each ``end``, when the sums are final. The bytes need not be in memory by then.

    Reset drops what is under way and forgets the sums.
    """

    i: stream.Interface
    o: stream.Interface
    o_summary: stream.Interface

    def __init__(self, *, contexts=2, extended=False):
        self.contexts = check_contexts(contexts)
        self._checks = OutputChecks(contexts=contexts, extended=extended)
        super().__init__({
            "options": In(data.ArrayLayout(Options, self.contexts)),
            "i": In(stream.Signature(OutputWord)),
            "o": Out(stream.Signature(pieces_layout(8))),
            "o_summary": Out(stream.Signature(ContextSummary)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Queue(OutputWord, depth=_DEPTH)
        m.submodules.near = near = Queue(OutputWord, depth=2)  # the checksums' ready comes too late for the long one
        m.submodules.checks = checks = self._checks
        wiring.connect(m, queue.o, near.i)
        wiring.connect(m, near.o, checks.i)
        wiring.connect(m, checks.o, wiring.flipped(self.o_summary))

        # A word is taken when both the queue and the register before the writer have room.
        word, piece = self.i.payload, self.o.payload
        has_room = Signal()
        begin = Signal()
        count = Signal(4)
        m.d.comb += [
            checks.options.eq(self.options),
            count.eq(Mux(self.options[word.context].discard, 0, word.count)),
            has_room.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(has_room & queue.i.ready),
            queue.i.payload.eq(word),
            queue.i.valid.eq(self.i.valid & has_room),
            begin.eq(word.start & Start(word.data[:9]).new_job),
        ]
        with m.If(has_room):
            m.d.sync += [
                self.o.valid.eq(self.i.valid & queue.i.ready & (begin | word.end | (count != 0))),
                piece.data.eq(word.data),
                piece.first.eq(word.first),
                piece.count.eq(count),
                piece.context.eq(word.context),
                piece.begin.eq(begin),
                piece.flush.eq(word.end),
            ]
        return m
