# SPDX-License-Identifier: Apache-2.0
"""The programs of the collective engine, and where each begins."""

import operator

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.collective.abi import ConfigSpace
from rackgate.collective.control.decode import Predecoded, predecode
from rackgate.collective.isa import MAX_PROGRAM, Opcode
from rackgate.collisions import ATTRIBUTE

__all__ = ["EntryFields", "ProgramMemory"]

_ENTRIES, _ROW = 256, 16
_VALID, _COLLECTIVE = 31, 30


class EntryFields(data.Struct):
    """Where the program of a scenario begins."""

    address: 12
    is_collective: 1
    is_valid: 1


class ProgramMemory(wiring.Component):
    """Program words and entry table, which the host may write at any time.

    What is read is there in the next cycle; a word that is written in the cycle in which it is read may come as the
    old one, the new one, or neither. Writes to other addresses than these two tables' do nothing. Reset makes all
    entries invalid; words of programs stay.

    Parameters
    ----------
    words:
        Instructions, a power of two from 64 to 4096.

    Members
    -------
    address, value, write:
        A word of :class:`~rackgate.collective.abi.ConfigSpace`.
    fetch, instruction, predecoded:
        Read an instruction, and what is known of it since it was written.
    leads:
        The next instruction goes on, and the one behind it needs nothing that it does: that one can be fetched in the
        cycle after. Known only of words that were written in order; of others it is 0.
    scenario, entry:
        Read an entry.
    """

    def __init__(self, *, words: int = 2048):
        self.words = operator.index(words)
        if self.words not in (64, 128, 256, 512, 1024, 2048, MAX_PROGRAM):
            raise ValueError(f"words must be a power of two from 64 to {MAX_PROGRAM}, not {words}")
        super().__init__({
            "address": In(13), "value": In(32), "write": In(1),
            "fetch": In(range(self.words)), "instruction": Out(32), "predecoded": Out(Predecoded), "leads": Out(1),
            "scenario": In(8), "entry": Out(EntryFields),
        })

    def elaborate(self, platform):
        m = Module()
        # Bits that a byte of block RAM has beyond its eight are there anyway.
        m.submodules.program = program = Memory(shape=data.StructLayout({"instruction": 32, "predecoded": Predecoded}),
                                                depth=self.words, init=[], attrs={ATTRIBUTE: 1})
        m.submodules.entries = entries = Memory(shape=13, depth=_ENTRIES, init=[], attrs={ATTRIBUTE: 1})
        write, read = program.write_port(), program.read_port()
        predecoded = predecode(m, self.value)
        m.d.comb += [
            write.addr.eq(self.address), write.data.instruction.eq(self.value),
            write.data.predecoded.eq(predecoded),
            write.en.eq(self.write & (self.address < ConfigSpace.PROGRAM + self.words)),
            read.addr.eq(self.fetch),
            self.instruction.eq(read.data.instruction), self.predecoded.eq(read.data.predecoded),
        ]
        self._lead(m, predecoded, write.en)
        is_entry = self.write & (self.address[8:] == ConfigSpace.ENTRY >> 8)
        write, read = entries.write_port(), entries.read_port()
        m.d.comb += [
            write.addr.eq(self.address), write.data.eq(Cat(self.value[:12], self.value[_COLLECTIVE])),
            write.en.eq(is_entry),
            read.addr.eq(self.scenario),
            self.entry.address.eq(read.data[:12]), self.entry.is_collective.eq(read.data[12]),
        ]
        self._validate(m, is_entry)
        return m

    def _lead(self, m, predecoded, is_written):
        """A bit for each instruction, of the two behind it: what is written last of these decides.

        A word is the second of the two for the instruction two before it, and the first for the one before: whose bit
        waits for the next word. One is even and one odd; each half has its own memory, so that both are written.
        """
        word, before = self.value, Signal(data.StructLayout({"may": 1, "is_move": 1, "rd": 4, "address": 13}))
        may, is_needed, number = Signal(), Signal(), self.address[1:exact_log2(self.words)]
        m.d.comb += [
            is_needed.eq(Mux(before.is_move, word[26:32] == Opcode.GO,
                             (before.rd != 0) & ((word[18:22] == before.rd) | (word[14:18] == before.rd)))),
            may.eq(before.may & (self.address == before.address + 1) & ~is_needed),
        ]
        with m.If(is_written):
            m.d.sync += [
                before.may.eq(predecoded.is_legal & predecoded.goes_on), before.is_move.eq(word[26:32] == Opcode.MV),
                before.rd.eq(word[22:26]), before.address.eq(self.address),
            ]
        is_odd, found = Signal(), []
        m.d.sync += is_odd.eq(self.fetch[0])
        for half, name in enumerate(("even", "odd")):
            m.submodules[name] = memory = Memory(shape=1, depth=self.words // 2, init=[], attrs={ATTRIBUTE: 1})
            write, read = memory.write_port(), memory.read_port()
            is_second = self.address[0] == half
            m.d.comb += [
                write.addr.eq(number - (is_second | (half == 1))), write.data.eq(may & is_second),
                write.en.eq(is_written), read.addr.eq(self.fetch[1:]),
            ]
            found.append(read.data)
        m.d.comb += self.leads.eq(Mux(is_odd, found[1], found[0]))

    def _validate(self, m, is_entry):
        """A bit of each entry. A row of them is written at a time, and counts from its first write after reset on."""
        m.submodules.valid = valid = Memory(shape=_ROW, depth=_ENTRIES // _ROW, init=[])
        write, old, asked = valid.write_port(), valid.read_port(domain="comb"), valid.read_port(domain="comb")
        is_written = Array(Signal(name=f"is_written_{row}") for row in range(_ENTRIES // _ROW))
        row, column = self.address[4:8], self.address[:4]
        mask, kept = Signal(_ROW), Signal(_ROW)
        m.d.comb += [
            old.addr.eq(row), write.addr.eq(row), write.en.eq(is_entry), asked.addr.eq(self.scenario[4:]),
            mask.eq(1 << column), kept.eq(old.data & ~mask & is_written[row].replicate(_ROW)),
            write.data.eq(kept | mask & self.value[_VALID].replicate(_ROW)),
        ]
        with m.If(is_entry):
            m.d.sync += is_written[row].eq(1)
        # The scenario comes late in its cycle: what was written then is kept, and looked up in the next.
        found, scenario, was_written = Signal(_ROW), Signal(8), Signal(_ENTRIES // _ROW)
        m.d.sync += [found.eq(asked.data), scenario.eq(self.scenario), was_written.eq(Cat(is_written))]
        m.d.comb += self.entry.is_valid.eq(found.bit_select(scenario[:4], 1)
                                           & was_written.bit_select(scenario[4:], 1))
