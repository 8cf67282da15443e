# SPDX-License-Identifier: Apache-2.0
"""The sequencer's first stage: whose instruction comes next."""

from amaranth.hdl import Array, Assert, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CONTEXTS

__all__ = ["PC_BITS", "Fetch", "Fetched"]

#: Bits of a program counter: as many as a branch has, whose target may be outside the program memory.
PC_BITS = 14

_CONTEXT = range(CONTEXTS)


class Fetched(data.Struct):
    """An instruction that is being read. ``clear``: there is none; the latch of ``context`` is to be cleared."""

    valid: 1
    clear: 1
    context: _CONTEXT
    pc: PC_BITS


class Fetch(wiring.Component):
    """Keep the program counters, and choose a ready context in each cycle, the next one after the last.

    When none is ready, the context that was fetched for in the cycle before goes on, if the instruction before that one
    said that it may (``leads``). Should it turn out that it may not (its program was rewritten), what was fetched so is
    dropped. In a cycle in which a context jumps, nothing is fetched; in the one in which a call begins neither: its
    latch is cleared instead, and the word before its first is read for what that says. Reset: nothing is fetched.

    Members
    -------
    ready:
        Bit per context: its next instruction may be fetched.
    running:
        Bit per context: it has a call that goes on.
    taken:
        Bit per context: it is.
    follows:
        It goes on from the cycle before: what the instruction of ``o`` says of it comes too late.
    start, context, address:
        A call begins, with its instruction at ``address``.
    clear:
        It has a latch to clear.
    jump, jump_context, target:
        The next instruction of a context, which is not ready in this cycle.
    pc:
        Address of the instruction that is read in this cycle.
    leads, goes_on:
        Of the instruction that is being read: see :class:`~rackgate.collective.control.programmemory.ProgramMemory` and
        :class:`~rackgate.collective.control.decode.Predecoded`.
    o:
        What is being read, a cycle later.
    """

    ready: In(CONTEXTS)
    running: In(CONTEXTS)
    taken: Out(CONTEXTS)
    follows: Out(1)
    start: In(1)
    context: In(_CONTEXT)
    address: In(12)
    clear: In(1)
    jump: In(1)
    jump_context: In(_CONTEXT)
    target: In(PC_BITS)
    pc: Out(PC_BITS)
    leads: In(1)
    goes_on: In(1)
    o: Out(Fetched)

    def elaborate(self, platform):
        m = Module()
        turn, chosen, context, fetches = Signal(_CONTEXT), Signal(_CONTEXT), Signal(_CONTEXT), Signal()
        with m.Switch(turn):
            for last in _CONTEXT:
                with m.Case(last):
                    m.d.comb += chosen.eq(last)
                    for distance in reversed(range(1, CONTEXTS)):
                        with m.If(self.ready[(last + distance) % CONTEXTS]):
                            m.d.comb += chosen.eq((last + distance) % CONTEXTS)
        pcs = Array(Signal(PC_BITS, name=f"pc_{k}") for k in _CONTEXT)
        is_chosen = self.ready.any()
        m.d.comb += [
            self.follows.eq(self._may_follow(m, chosen) & ~is_chosen & ~self.start & ~self.jump),
            fetches.eq(is_chosen & ~self.start & ~self.jump | self.follows),
            context.eq(Mux(is_chosen, chosen, self.o.context)),
            self.taken.eq(Mux(fetches, 1 << context, 0)),
            self.pc.eq(Mux(is_chosen, pcs[chosen], self.o.pc + 1)),
        ]
        with m.If(self.start):
            m.d.comb += self.pc.eq(self.address - 1)
        # Counted in the cycle after, before which no context is ready again: the choice is late enough.
        with m.If(self.o.valid):
            m.d.sync += pcs[self.o.context].eq(self.o.pc + 1)
        with m.If(self.jump):
            m.d.sync += pcs[self.jump_context].eq(self.target)
        with m.If(self.start):
            m.d.sync += pcs[self.context].eq(self.address)
        self._hold(m, fetches)
        m.d.sync += [
            self.o.clear.eq(self.start & self.clear),
            self.o.context.eq(Mux(self.start, self.context, context)), self.o.pc.eq(self.pc),
        ]
        with m.If(fetches):
            m.d.sync += turn.eq(context)
        m.d.sync += Assert(~self.o.valid | ~self.jump | (self.jump_context != self.o.context),
                           "a context jumps while it is fetched for")
        return m

    def _hold(self, m, fetches):
        """What was fetched, unless the instruction before it says, too late, that it should not have been."""
        is_fetched, is_dropped = Signal(), Signal()
        m.d.sync += [is_fetched.eq(fetches), is_dropped.eq(self.follows & ~self.goes_on)]
        m.d.comb += self.o.valid.eq(is_fetched & ~is_dropped)

    def _may_follow(self, m, chosen):
        """Whether what comes behind the instruction of ``o`` may be fetched at once.

        The instruction before that one says so; it may just be read, in a cycle before, or for another context since.
        """
        leads = Array(Signal(name=f"leads_{k}") for k in _CONTEXT)
        may, began = Signal(), Signal()
        m.d.sync += [
            began.eq(self.start),
            may.eq(Mux(self.follows | began & (chosen == self.o.context), self.leads, leads[chosen])),
        ]
        with m.If(self.o.valid | began):
            m.d.sync += leads[self.o.context].eq(self.leads)
        with m.If(self.jump):
            m.d.sync += leads[self.jump_context].eq(0)
        return may & self.o.valid & self.running.bit_select(self.o.context, 1)
