# SPDX-License-Identifier: Apache-2.0
"""Checksums and length of what each context puts out."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.checksum.adler32 import Adler32
from rackgate.checksum.crc32 import CRC32
from rackgate.inflate.contexts import ContextStore
from rackgate.inflate.entry import OutputWord, Start, Summary
from rackgate.inflate.steps import check_contexts

__all__ = ["ContextSummary", "OutputChecks"]


class ContextSummary(data.Struct):
    """A :class:`~rackgate.inflate.entry.Summary` and whose it is."""

    context: 3
    summary: Summary


class OutputChecks(wiring.Component):
    """Sum up output words for each context, and report at every ``end``.

    A word of 8 bytes takes one cycle. A word of fewer holds up the ones behind it for up to 2 cycles more, an
    ``end`` until the sums are final, about 13 cycles, a change of context as long; bytes that do not begin
    at the word's byte 0 are moved there by one byte a cycle.

    Parameters
    ----------
    contexts:
        How many contexts, 1 to 8.

    Members
    -------
    i:
        Output words. ``ready`` depends on registers only.
    o:
        One summary for each ``end``, of all bytes since the START that said ``reset_check``.

    Reset forgets the sums: every context needs a START with ``reset_check`` before its first byte.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, contexts):
        self.contexts = check_contexts(contexts)
        super().__init__({
            "i": In(stream.Signature(OutputWord)),
            "o": Out(stream.Signature(ContextSummary)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc32 = crc32 = CRC32()
        m.submodules.adler32 = adler32 = Adler32()
        m.submodules.store = store = ContextStore(Summary.as_shape(), contexts=self.contexts)
        word = Signal(OutputWord)
        has_word = Signal()
        done = Signal()
        context = Signal(3)
        total = Signal(64)
        feed = Signal()
        can_feed = Signal()
        restart = Signal()
        base = Signal(Summary)
        is_final = Signal()
        m.d.comb += [
            self.i.ready.eq(~has_word | done),
            store.old.eq(context),
            store.new.eq(word.context),
            store.i.crc32.eq(crc32.value),
            store.i.adler32.eq(adler32.value),
            store.i.total.eq(total),
        ]
        self._feed(m, crc32, adler32, word, feed, can_feed, restart, base, is_final)
        with m.If(self.i.ready):
            m.d.sync += [has_word.eq(self.i.valid), word.eq(self.i.payload)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM():
            with m.State("FLOW"):
                with m.If(has_word & (word.context != context)):
                    m.next = "SWITCH"
                with m.Elif(has_word & word.start):
                    m.d.comb += [
                        base.adler32.eq(1),
                        restart.eq(1),
                        feed.eq(Start(word.data[:9]).reset_check),
                        done.eq(~feed | can_feed),
                    ]
                    with m.If(feed & can_feed):
                        m.d.sync += total.eq(0)
                with m.Elif(has_word & (word.count != 0) & (word.first != 0)):
                    m.d.sync += [word.data.eq(word.data >> 8), word.first.eq(word.first - 1)]
                with m.Elif(has_word):
                    m.d.comb += [feed.eq(word.count != 0), done.eq(can_feed & ~word.end)]
                    with m.If(can_feed):
                        m.d.sync += total.eq(total + word.count)
                        with m.If(word.end):
                            m.next = "END"
            with m.State("END"):
                with m.If(is_final & ~self.o.valid):
                    m.d.comb += done.eq(1)
                    m.d.sync += [
                        self.o.valid.eq(1),
                        self.o.payload.context.eq(context),
                        self.o.payload.summary.eq(store.i),
                    ]
                    m.next = "FLOW"
            with m.State("SWITCH"):
                with m.If(is_final):
                    m.d.comb += [base.eq(store.o), restart.eq(1), feed.eq(1), store.swap.eq(1)]
                    m.d.sync += [context.eq(word.context), total.eq(store.o.total)]
                    m.next = "FLOW"
        return m

    def _feed(self, m, crc32, adler32, word, feed, can_feed, restart, base, is_final):
        """A register before the two checksums, which take a word in the same cycle."""
        has_fed = Signal()
        crc, adler = crc32.i.payload, adler32.i.payload
        m.d.comb += [
            can_feed.eq(~has_fed | crc32.i.ready),
            crc32.i.valid.eq(has_fed),
            adler32.i.valid.eq(has_fed & crc32.i.ready),
            is_final.eq(~has_fed & ~crc32.busy & ~adler32.busy),
            adler.data.eq(crc.data),
            adler.count.eq(crc.count),
            adler.restart.eq(crc.restart),
        ]
        with m.If(can_feed):
            m.d.sync += [
                has_fed.eq(feed),
                crc.data.eq(word.data),
                crc.count.eq(Mux(restart, 0, word.count)),
                crc.restart.eq(restart),
                crc.value.eq(base.crc32),
                adler.value.eq(base.adler32),
            ]
        m.d.sync += Assert(adler32.i.ready, "Adler-32 stalls")
