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

    In a cycle in which a context jumps, nothing is fetched; in the one in which a call begins neither: its latch is
    cleared instead. Reset: nothing is fetched.

    Members
    -------
    ready:
        Bit per context: its next instruction may be fetched.
    taken:
        Bit per context: it is.
    start, context, address:
        A call begins, with its instruction at ``address``.
    clear:
        It has a latch to clear.
    jump, jump_context, target:
        The next instruction of a context, which is not ready in this cycle.
    pc:
        Address of the instruction that is read in this cycle.
    o:
        What is being read, a cycle later.
    """

    ready: In(CONTEXTS)
    taken: Out(CONTEXTS)
    start: In(1)
    context: In(_CONTEXT)
    address: In(12)
    clear: In(1)
    jump: In(1)
    jump_context: In(_CONTEXT)
    target: In(PC_BITS)
    pc: Out(PC_BITS)
    o: Out(Fetched)

    def elaborate(self, platform):
        m = Module()
        turn, chosen, fetches = Signal(_CONTEXT), Signal(_CONTEXT), Signal()
        with m.Switch(turn):
            for last in _CONTEXT:
                with m.Case(last):
                    m.d.comb += chosen.eq(last)
                    for distance in reversed(range(1, CONTEXTS)):
                        with m.If(self.ready[(last + distance) % CONTEXTS]):
                            m.d.comb += chosen.eq((last + distance) % CONTEXTS)
        pcs = Array(Signal(PC_BITS, name=f"pc_{k}") for k in _CONTEXT)
        m.d.comb += [
            fetches.eq(self.ready.any() & ~self.start & ~self.jump),
            self.taken.eq(Mux(fetches, 1 << chosen, 0)),
            self.pc.eq(pcs[chosen]),
        ]
        # Counted in the cycle after, before which no context is ready again: the choice is late enough.
        with m.If(self.o.valid):
            m.d.sync += pcs[self.o.context].eq(self.o.pc + 1)
        with m.If(self.jump):
            m.d.sync += pcs[self.jump_context].eq(self.target)
        with m.If(self.start):
            m.d.sync += pcs[self.context].eq(self.address)
        m.d.sync += [
            self.o.valid.eq(fetches), self.o.clear.eq(self.start & self.clear),
            self.o.context.eq(Mux(self.start, self.context, chosen)), self.o.pc.eq(self.pc),
        ]
        with m.If(fetches):
            m.d.sync += turn.eq(chosen)
        m.d.sync += Assert(~self.o.valid | ~self.jump | (self.jump_context != self.o.context),
                           "a context jumps while it is fetched for")
        return m
