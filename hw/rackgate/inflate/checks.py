# SPDX-License-Identifier: Apache-2.0
"""Checksums and length of what each context puts out."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.checksum.adler32 import Adler32
from rackgate.checksum.crc32 import CASTAGNOLI, CRC32
from rackgate.inflate.contexts import ContextStore
from rackgate.inflate.entry import Options, OutputWord, Start, Summary
from rackgate.inflate.steps import check_contexts

__all__ = ["ContextSummary", "OutputChecks"]


class ContextSummary(data.Struct):
    """A :class:`~rackgate.inflate.entry.Summary` and whose it is."""

    context: 3
    summary: Summary


class _Halves(data.Struct):
    """Exclusive-or of halfwords; ``is_odd``: the next byte is a high one."""

    xor_checksum: 16
    is_odd: 1


class _State(data.Struct):
    """What is kept of a context."""

    summary: Summary
    is_odd: 1


class OutputChecks(wiring.Component):
    """Sum up output words for each context, and report at every ``end``.

    A word of 8 bytes takes one cycle. A word of fewer holds up the ones behind it for up to 2 cycles more, an
    ``end`` until the sums are final, about 13 cycles, a change of context as long; bytes that do not begin
    at the word's byte 0 are moved there by one byte a cycle.

    Parameters
    ----------
    contexts:
        How many contexts, 1 to 8.
    extended:
        Do what ``options`` ask for. Without it there is no CRC-32C, and ``xor_checksum`` is zero.

    Members
    -------
    options:
        Of each context's job, stable while it is under way.
    i:
        Output words. ``ready`` depends on registers only.
    o:
        One summary for each ``end``, of all bytes since the START that said ``reset_check``; ``xor_checksum`` since
        that which said ``new_job``: the exclusive-or of halfwords, the first byte lowest, a last one alone low.

    Reset forgets the sums: every context needs a START with ``reset_check`` before its first byte.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, contexts, extended=False):
        self.contexts = check_contexts(contexts)
        self.extended = bool(extended)
        super().__init__({
            "options": In(data.ArrayLayout(Options, self.contexts)),
            "i": In(stream.Signature(OutputWord)),
            "o": Out(stream.Signature(ContextSummary)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc32 = crc32 = CRC32()
        m.submodules.adler32 = adler32 = Adler32()
        m.submodules.store = store = ContextStore(_State.as_shape(), contexts=self.contexts)
        word = Signal(OutputWord)
        has_word = Signal()
        is_other, is_high = Signal(), Signal()  # it is of another context; it has bytes, but not from byte 0 on
        done = Signal()
        context = Signal(3)
        total = Signal(64)
        feed = Signal()
        can_feed = Signal()
        restart = Signal()
        base = Signal(Summary)
        halves = Signal(_Halves)
        is_final = Signal()
        m.d.comb += [
            self.i.ready.eq(~has_word | done),
            store.old.eq(context),
            store.new.eq(word.context),
            store.i.summary.crc32.eq(crc32.value),
            store.i.summary.adler32.eq(adler32.value),
            store.i.summary.total.eq(total),
            store.i.summary.xor_checksum.eq(halves.xor_checksum),
            store.i.is_odd.eq(halves.is_odd),
        ]
        if self.extended:
            m.submodules.crc32c = crc32c = CRC32(polynomial=CASTAGNOLI)
            m.d.comb += [crc32c.i.payload.eq(crc32.i.payload), crc32c.i.valid.eq(crc32.i.valid)]
            with m.If(self.options[context].crc32c):
                m.d.comb += store.i.summary.crc32.eq(crc32c.value)
        self._feed(m, crc32, adler32, word, feed, can_feed, restart, base, is_final)
        with m.If(self.i.ready):
            m.d.sync += [
                has_word.eq(self.i.valid), word.eq(self.i.payload),
                is_other.eq(self.i.payload.context != context),
                is_high.eq((self.i.payload.count != 0) & (self.i.payload.first != 0)),
            ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM():
            with m.State("FLOW"):
                with m.If(has_word & is_other):
                    m.next = "SWITCH"
                with m.Elif(has_word & word.start):
                    m.d.comb += [
                        base.adler32.eq(1),
                        base.crc32.eq(self.options[word.context].crc if self.extended else 0),
                        restart.eq(1),
                        feed.eq(Start(word.data[:9]).reset_check),
                        done.eq(~feed | can_feed),
                    ]
                    with m.If(feed & can_feed):
                        m.d.sync += total.eq(0)
                    with m.If(Start(word.data[:9]).new_job):
                        m.d.sync += [halves.xor_checksum.eq(self.options[word.context].xor_checksum),
                                     halves.is_odd.eq(0)]
                with m.Elif(has_word & is_high):
                    m.d.sync += [word.data.eq(word.data >> 8), word.first.eq(word.first - 1),
                                 is_high.eq(word.first != 1)]
                with m.Elif(has_word):
                    m.d.comb += [feed.eq(word.count != 0), done.eq(can_feed & ~word.end)]
                    with m.If(can_feed):
                        m.d.sync += total.eq(total + word.count)
                        if self.extended:
                            m.d.sync += halves.eq(_after(halves, word))
                        with m.If(word.end):
                            m.next = "END"
            with m.State("END"):
                with m.If(is_final & ~self.o.valid):
                    m.d.comb += done.eq(1)
                    m.d.sync += [
                        self.o.valid.eq(1),
                        self.o.payload.context.eq(context),
                        self.o.payload.summary.eq(store.i.summary),
                    ]
                    m.next = "FLOW"
            with m.State("SWITCH"):
                with m.If(is_final):
                    m.d.comb += [base.eq(store.o.summary), restart.eq(1), feed.eq(1), store.swap.eq(1)]
                    m.d.sync += [context.eq(word.context), is_other.eq(0), total.eq(store.o.summary.total),
                                 halves.xor_checksum.eq(store.o.summary.xor_checksum),
                                 halves.is_odd.eq(store.o.is_odd)]
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
            adler.data.eq(crc.data),
            adler.count.eq(crc.count),
            adler.restart.eq(crc.restart),
        ]
        # A register, as `is_final` decides who takes the next word: without it a whole checksum stands before that.
        m.d.sync += is_final.eq(~feed & ~has_fed & ~crc32.busy & ~adler32.busy)
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


def _after(halves, word):
    """``halves`` after the low ``count`` bytes of ``word``."""
    parts = [Mux(k < word.count, word.data[8 * k:8 * k + 8], 0) for k in range(8)]
    low, high = parts[0] ^ parts[2] ^ parts[4] ^ parts[6], parts[1] ^ parts[3] ^ parts[5] ^ parts[7]
    return Cat(halves.xor_checksum ^ Mux(halves.is_odd, Cat(high, low), Cat(low, high)),
               halves.is_odd ^ word.count[0])
