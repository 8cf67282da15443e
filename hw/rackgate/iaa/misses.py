# SPDX-License-Identifier: Apache-2.0
"""What becomes of an access whose page is not at hand: TLB, walk, page request, fault."""

import operator

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.pagerequest import PageAnswer, PageQuestion
from rackgate.iaa.tlb import TLB, Translation
from rackgate.iaa.walker import WALK_BUS, Walker
from rackgate.iaa.work import Space
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["Fault", "Misses"]


class Fault(data.Struct):
    """The first access of a context that could not be translated: the address of its first byte, if ``valid``.

    ``timeout``: the page request was not answered in time.
    """

    valid: 1
    write: 1
    timeout: 1
    address: ADDR_WIDTH


class Misses(wiring.Component):
    """Find translations for the contexts of an engine, one after the other.

    Each context can want one for reading and one for writing. It comes from the TLB (3 cycles after its turn),
    or from a walk. Where that finds no page the context has a fault, unless its space blocks: then the page is asked
    for, others are served in the meantime, and the answer decides: another walk, or the fault.

    Parameters
    ----------
    contexts: contexts. entries: of the TLB.

    Members
    -------
    want, address: of reads (0) and writes (1). select: the context whose address is to be shown.
    hold: contexts that are being served or wait for the host.
    space: of each context. fault: of each context, until ``clear``. cut: contexts that are to be served no more.
    fill_valid, fill_context, fill_write, fill: a translation that was wanted.
    o_question, i_answer: page requests; there is at most one for each context and direction.
    ar, r: read channels of the walks. invalidate: forget all translations.
    miss: a walk begins. faulted: a walk found no page. found: the TLB had the translation.
    """

    def __init__(self, *, contexts: int, entries: int = 64):
        self.contexts = operator.index(contexts)
        self._tlb = TLB(entries=entries)
        number = range(self.contexts)
        super().__init__({
            "want": In(self.contexts).array(2), "address": In(ADDR_WIDTH).array(2), "select": Out(number),
            "hold": Out(self.contexts).array(2),
            "space": In(data.ArrayLayout(Space, self.contexts)),
            "clear": In(self.contexts), "cut": In(self.contexts), "fault": Out(data.ArrayLayout(Fault, self.contexts)),
            "fill_valid": Out(1), "fill_context": Out(number), "fill_write": Out(1), "fill": Out(Translation),
            "o_question": Out(stream.Signature(PageQuestion)), "i_answer": In(PageAnswer),
            "ar": WALK_BUS.members["ar"], "r": WALK_BUS.members["r"],
            "invalidate": In(1), "miss": Out(1), "faulted": Out(1), "found": Out(1),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._write, self._context, self._is_busy = Signal(), Signal(number), Signal()
        self._address = Signal(ADDR_WIDTH)
        names = ("read", "write")
        self._waits = [Signal(self.contexts, name=f"waits_{name}") for name in names]
        self._asked = [Array(Signal(ADDR_WIDTH, name=f"asked_{name}_{k}") for k in number) for name in names]
        self._is_stale = Signal()  # what is being looked up was invalidated

    def elaborate(self, platform):
        m = Module()
        m.submodules.tlb = tlb = self._tlb
        m.submodules.walker = walker = Walker()
        for name in ("ar", "r"):
            wiring.connect(m, getattr(walker, name), wiring.flipped(getattr(self, name)))
        failed = Cat(fault.valid for fault in (self.fault[k] for k in range(self.contexts))) | self.cut
        space, walked, has_walked = self.space[self._context], walker.o.payload, Signal()
        is_failed = failed.bit_select(self._context, 1)

        turn = Signal(range(2 * self.contexts))  # write above context
        turn_write, turn_context = Signal(), Signal(range(self.contexts))
        m.d.sync += turn.eq(Mux(turn == 2 * self.contexts - 1, 0, turn + 1))
        m.d.comb += [
            turn_write.eq(turn >= self.contexts),
            turn_context.eq(Mux(turn_write, turn - self.contexts, turn)),
            self.select.eq(turn_context),
            tlb.page.eq(self._address[12:]),
            tlb.queue.eq(space.queue),
            tlb.invalidate.eq(self.invalidate),
            walker.i.payload.table.eq(space.table),
            walker.i.payload.page.eq(self._address[12:]),
            self.fill_context.eq(self._context),
            self.fill_write.eq(self._write),
            tlb.translation.eq(self.fill),
            self.fill.page.eq(self._address[12:]),
            self.fill.queue.eq(space.queue),
            self.fill.frame.eq(Mux(has_walked, walked.frame, tlb.found.frame)),
            self.fill.writable.eq(Mux(has_walked, walked.writable, tlb.found.writable)),
            self.o_question.payload.page.eq(self._address[12:]),
            self.o_question.payload.write.eq(self._write),
            self.o_question.payload.queue.eq(space.queue),
            self.o_question.payload.context.eq(self._context),
        ]
        wanted = Array(self.want[k] & ~self._waits[k] & ~failed for k in range(2))[turn_write]
        with m.If(self.invalidate):
            m.d.sync += self._is_stale.eq(1)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [
                    self._write.eq(turn_write), self._context.eq(turn_context),
                    self._address.eq(Array(self.address)[turn_write]),
                ]
                with m.If(wanted.bit_select(turn_context, 1)):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.sync += self._is_stale.eq(self.invalidate)
                m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "WALK"
                with m.If(tlb.is_found & (tlb.found.writable | ~self._write)):
                    m.d.comb += [self.fill_valid.eq(1), self.found.eq(1)]
                    m.next = "IDLE"
            with m.State("WALK"):
                m.d.comb += [walker.i.valid.eq(1), self.miss.eq(walker.i.ready)]
                with m.If(walker.i.ready):
                    m.next = "AWAIT"
            with m.State("AWAIT"):
                m.d.comb += [walker.o.ready.eq(1), has_walked.eq(1)]
                with m.If(walker.o.valid & self._is_stale):
                    m.next = "ASK"
                with m.Elif(walker.o.valid & walked.present & (walked.writable | ~self._write)):
                    m.d.comb += [self.fill_valid.eq(1), tlb.insert.eq(1)]
                    m.next = "IDLE"
                with m.Elif(walker.o.valid):
                    m.d.comb += self.faulted.eq(1)
                    m.next = "IDLE"
                    with m.If(space.block & ~is_failed):
                        m.next = "REQUEST"
                    with m.Else():
                        self._fail(m, self._context, self._write, self._address, 0)
            with m.State("REQUEST"):
                m.d.comb += self.o_question.valid.eq(1)
                with m.If(self.o_question.ready):
                    m.next = "IDLE"
        m.d.comb += self._is_busy.eq(~fsm.ongoing("IDLE"))
        self._wait(m)
        return m

    def _wait(self, m):
        """Contexts that wait for the host; and its answers."""
        answer = self.i_answer
        for write, waits in enumerate(self._waits):
            for k in range(self.contexts):
                is_mine = answer.valid & (answer.context == k) & (answer.write == write)
                is_served = self._is_busy & (self._context == k) & (self._write == write)
                m.d.comb += self.hold[write][k].eq(is_served | waits[k])
                with m.If(is_mine):
                    m.d.sync += waits[k].eq(0)
                    with m.If(~answer.success):
                        self._fail(m, k, write, self._asked[write][k], answer.timeout)
                with m.Elif(is_served & self.o_question.valid & self.o_question.ready):
                    m.d.sync += [waits[k].eq(1), self._asked[write][k].eq(self._address)]
        for k in range(self.contexts):
            with m.If(self.clear[k]):
                m.d.sync += self.fault[k].valid.eq(0)

    def _fail(self, m, context, write, address, timeout):
        """The context's fault, unless it has one."""
        fault = self.fault[context]
        with m.If(~fault.valid):
            m.d.sync += [fault.valid.eq(1), fault.write.eq(write), fault.timeout.eq(timeout),
                         fault.address.eq(address)]
