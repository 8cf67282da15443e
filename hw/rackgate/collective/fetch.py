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

    In the cycle in which a call begins nothing is fetched: its latch is cleared instead. Reset: nothing is fetched.

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
        pcs = Array(Signal(PC_BITS, name=f"pc_{number}") for number in _CONTEXT)
        following = Signal(PC_BITS)
        m.d.comb += [
            fetches.eq(self.ready.any() & ~self.start),
            self.pc.eq(pcs[chosen]),
            following.eq(self.pc + 1),
            self.taken.eq(Mux(fetches, 1 << chosen, 0)),
        ]
        m.d.sync += [
            self.o.valid.eq(fetches), self.o.clear.eq(self.start & self.clear),
            self.o.context.eq(Mux(self.start, self.context, chosen)), self.o.pc.eq(self.pc),
        ]
        with m.If(fetches):
            m.d.sync += turn.eq(chosen)
        for number in _CONTEXT:
            with m.If(self.start & (self.context == number)):
                m.d.sync += pcs[number].eq(self.address)
            with m.Elif(self.jump & (self.jump_context == number)):
                m.d.sync += pcs[number].eq(self.target)
            with m.Elif(self.taken[number]):
                m.d.sync += pcs[number].eq(following)
        m.d.sync += Assert(~self.jump | ~self.taken.bit_select(self.jump_context, 1), "a context goes two ways")
        return m
