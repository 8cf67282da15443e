# SPDX-License-Identifier: Apache-2.0
"""The sequencer's first stage: whose instruction comes next."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
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
        m.submodules.pcs = pcs = Memory(shape=PC_BITS, depth=CONTEXTS, init=[])
        m.submodules.entries = entries = Memory(shape=12, depth=CONTEXTS, init=[])
        write, read = pcs.write_port(), pcs.read_port(domain="comb")
        note, entry = entries.write_port(), entries.read_port(domain="comb")
        is_fresh = Signal(CONTEXTS)  # its call's first instruction comes next
        m.d.comb += [
            fetches.eq(self.ready.any() & ~self.start & ~self.jump),
            self.taken.eq(Mux(fetches, 1 << chosen, 0)),
            read.addr.eq(chosen), entry.addr.eq(chosen),
            self.pc.eq(Mux(is_fresh.bit_select(chosen, 1), entry.data, read.data)),
            write.en.eq(1),
            write.addr.eq(Mux(self.jump, self.jump_context, chosen)),
            write.data.eq(Mux(self.jump, self.target, self.pc + fetches)),
            note.addr.eq(self.context), note.data.eq(self.address), note.en.eq(self.start),
        ]
        m.d.sync += is_fresh.eq(is_fresh & ~self.taken | Mux(self.start, 1 << self.context, 0))
        m.d.sync += [
            self.o.valid.eq(fetches), self.o.clear.eq(self.start & self.clear),
            self.o.context.eq(Mux(self.start, self.context, chosen)), self.o.pc.eq(self.pc),
        ]
        with m.If(fetches):
            m.d.sync += turn.eq(chosen)
        m.d.sync += Assert(~self.jump | ~is_fresh.bit_select(self.jump_context, 1), "a context jumps before it begins")
        return m
