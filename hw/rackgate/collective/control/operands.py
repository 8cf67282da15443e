# SPDX-License-Identifier: Apache-2.0
"""The sequencer's second stage: decode an instruction and read its operands."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.collective.abi import CALL_WORDS, CONTEXTS
from rackgate.collective.control.decode import Decode, Predecoded
from rackgate.collective.control.execute import Issued
from rackgate.collective.control.fetch import PC_BITS, Fetched
from rackgate.collective.isa import REGISTER_BITS
from rackgate.collective.records import CallInfo

__all__ = ["Operands"]

_CONTEXT = range(CONTEXTS)
_REGISTERS = 16


class Operands(wiring.Component):
    """Hold the registers of all contexts and what is known of their calls.

    A register written in one cycle can be read in the next. Reset: no instruction is there; registers keep what they
    have.

    Parameters
    ----------
    words:
        Instructions in the program memory, a power of two.
    slots:
        Calls in the store.

    Members
    -------
    fetched, instruction, predecoded:
        What has been read.
    load_slot, load_word:
        Words of the call to be read, if the instruction loads any.
    resume:
        Bit per context: its next instruction can be fetched in the next cycle.
    valid, issued, clear, pc:
        The instruction with its operands, or the latch to be cleared, a cycle later.
    write, value:
        Result of ``issued``.
    start, context, info:
        A call begins.
    """

    def __init__(self, *, words: int, slots: int):
        self.words, self.slots = operator.index(words), operator.index(slots)
        super().__init__({
            "fetched": In(Fetched), "instruction": In(32), "predecoded": In(Predecoded),
            "load_slot": Out(range(self.slots)), "load_word": Out(range(CALL_WORDS)),
            "resume": Out(CONTEXTS),
            "valid": Out(1), "issued": Out(Issued), "clear": Out(1), "pc": Out(PC_BITS),
            "write": In(1), "value": In(REGISTER_BITS),
            "start": In(1), "context": In(_CONTEXT), "info": In(CallInfo),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.decode = decode = Decode()
        m.submodules.registers = registers = Memory(shape=REGISTER_BITS, depth=_REGISTERS * CONTEXTS, init=[])
        m.submodules.infos = infos = Memory(shape=CallInfo, depth=CONTEXTS, init=[])
        fetched, issued = self.fetched, self.issued
        write, ra, rb = registers.write_port(), registers.read_port(domain="comb"), registers.read_port(domain="comb")
        note, info = infos.write_port(), infos.read_port(domain="comb")
        m.d.comb += [
            decode.instruction.eq(self.instruction), decode.predecoded.eq(self.predecoded),
            decode.is_outside.eq(fetched.pc[exact_log2(self.words):].any()),
            ra.addr.eq(Cat(decode.ra, fetched.context)), rb.addr.eq(Cat(decode.rb, fetched.context)),
            # Register 0 is never written, and so it is 0.
            write.addr.eq(Cat(issued.decoded.rd, issued.context)), write.data.eq(self.value), write.en.eq(self.write),
            note.addr.eq(self.context), note.data.eq(self.info), note.en.eq(self.start),
            info.addr.eq(fetched.context),
            self.load_slot.eq(info.data.slot), self.load_word.eq(decode.o.immediate),
            self.resume.eq(Mux(fetched.valid & decode.goes_on, 1 << fetched.context, 0)),
        ]
        m.d.sync += [
            self.valid.eq(fetched.valid), self.clear.eq(fetched.clear), self.pc.eq(fetched.pc),
            issued.context.eq(fetched.context), issued.decoded.eq(decode.o), issued.info.eq(info.data),
            issued.a.eq(ra.data), issued.b.eq(Mux(decode.uses_value, decode.value, rb.data)),
        ]
        with m.If(decode.is_alone):
            m.d.sync += issued.a.eq(0)
        is_late = self.write & (issued.context == fetched.context)
        for uses, register in ((~decode.is_alone, decode.ra), (~decode.uses_value, decode.rb)):
            m.d.sync += Assert(~(fetched.valid & uses & is_late & (register == issued.decoded.rd)),
                               "a register is read before it is written")
        return m
