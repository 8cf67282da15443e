# SPDX-License-Identifier: Apache-2.0
"""From the place and size of a symbol to its meaning."""

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.chain import PICKS, Pick
from rackgate.inflate.code import (
    LENGTHS,
    MAX_LENGTH,
    SYMBOL_RAM_DEPTH,
    CodeTables,
    SymbolWrite,
    distance_extra_bits,
    length_extra_bits,
)
from rackgate.inflate.lanes import lookahead_blocks
from rackgate.inflate.logic import at_least, select

__all__ = ["MAX_SYMBOL_BITS", "SYMBOL_STAGES", "Symbol", "SymbolKind", "SymbolReader"]

#: A distance code of 15 bits and 13 extra bits.
MAX_SYMBOL_BITS = 28
#: Registers between a pick and its symbol.
SYMBOL_STAGES = 6

# The smallest match length and distance.
_FIRST_LENGTH, _FIRST_DISTANCE = 3, 1


class SymbolKind(enum.Enum, shape=3):
    """Meaning of a :class:`Symbol`."""

    LITERAL = 0
    LENGTH = 1
    DISTANCE = 2
    END_OF_BLOCK = 3
    DRY = 4
    BAD_LITERAL = 5
    BAD_DISTANCE = 6


class Symbol(data.Struct):
    """A decoded symbol: ``value`` is a byte, a match length or a distance; of the other kinds, anything."""

    valid: 1
    kind: SymbolKind
    value: 16
    bits: 5


class SymbolReader(wiring.Component):
    """Look picks up: cut out their code and extra bits, read the symbol RAM, add base and extra.

    Latency :data:`SYMBOL_STAGES` cycles, :data:`~rackgate.inflate.chain.PICKS` symbols a cycle, never stalls.

    Parameters
    ----------
    contexts:
        Number of symbol RAMs, one a context.
    lanes:
        Bits of a block.

    Members
    -------
    context: whose symbol RAM is read. tables: the codes in force; both stable while picks are in flight.
    picks: symbols found in the block that begins ``bits``. bits: that block and what follows it.
    left: how many of ``bits`` are the source's, from the first on: a pick that stops beyond is DRY.
    writes: from the contexts' table builders.
    symbols: what the picks mean. clear: forget what is in flight.

    The RAMs keep their contents over reset; they are written before each block that reads them.
    """

    def __init__(self, *, contexts: int = 2, lanes: int = 16):
        self.contexts = operator.index(contexts)
        self.lanes = operator.index(lanes)
        super().__init__({
            "context": In(3),
            "tables": In(CodeTables),
            "picks": In(data.ArrayLayout(Pick, PICKS)),
            "bits": In(self.lanes * lookahead_blocks(self.lanes, MAX_SYMBOL_BITS)),
            "left": In(6),
            "writes": In(data.ArrayLayout(SymbolWrite, self.contexts)),
            "symbols": Out(data.ArrayLayout(Symbol, PICKS)),
            "clear": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        rams = []
        for context in range(self.contexts):
            ram = Memory(shape=9, depth=SYMBOL_RAM_DEPTH, init=[])
            m.submodules[f"ram_{context}"] = ram
            write = ram.write_port()
            m.d.comb += [write.en.eq(self.writes[context].enable), write.addr.eq(self.writes[context].address),
                         write.data.eq(self.writes[context].symbol)]
            rams.append(ram)
        for number in range(PICKS):
            reads = []
            for ram in rams:
                read = ram.read_port()
                m.d.comb += read.en.eq(1)
                reads.append(read)
            self._pick(m, number, reads)
        return m

    def _pick(self, m, number, reads):
        def stage(name, value):
            register = Signal(value.shape(), name=f"{name}_{number}", reset_less=not name.startswith("pick"))
            m.d.sync += register.eq(value)
            return register

        # 1: the pick and its bits, registered; 2: the bits moved to the bottom.
        pick_1 = stage("pick_1", self.picks[number])
        bits_1 = stage("bits_1", self.bits)
        left_1 = stage("left_1", self.left)
        pick_2 = stage("pick_2", pick_1)
        ahead_2 = stage("ahead_2", select([bits_1[k:k + MAX_SYMBOL_BITS] for k in range(self.lanes)], pick_1.offset))
        left_2, stop_2 = stage("left_2", left_1), stage("stop_2", pick_1.offset + pick_1.bits)

        # 3: the code as a number, what its length adds to it, and the extra bits after it.
        reverse = Cat(reversed(ahead_2[:MAX_LENGTH]))
        by_code = {length: Cat(_extend(reverse[MAX_LENGTH - length:], 12), self.tables.literal_base[str(length)],
                               self.tables.distance_index[str(length)], ahead_2[length:length + 13])
                   for length in LENGTHS}
        chosen_3 = stage("chosen_3", select([by_code[max(length, 1)] for length in range(MAX_LENGTH + 1)], pick_2.code))
        pick_3, dry_3 = stage("pick_3", pick_2), stage("dry_3", stop_2 > left_2)
        code, base, index, extra = chosen_3[:12], chosen_3[12:24], chosen_3[24:29], chosen_3[29:42]

        # 4: the symbol RAM's address goes out; distance symbols come from registers.
        for read in reads:
            m.d.comb += read.addr.eq((code + base)[:12])
        index_4 = stage("index_4", (code[:5] + index)[:5])
        pick_4, dry_4, extra_4 = stage("pick_4", pick_3), stage("dry_4", dry_3), stage("extra_4", extra)

        # 5: what the RAM gave, registered, as block RAM is slow.
        ram = select([read.data for read in reads], self.context)
        distance = select(self.tables.distance_symbol, index_4)
        symbol_5 = stage("symbol_5", Mux(pick_4.is_distance, distance, ram))
        pick_5, dry_5, extra_5 = stage("pick_5", pick_4), stage("dry_5", dry_4), stage("extra_5", extra_4)

        # 6: base plus extra bits.
        symbol = Signal(Symbol, name=f"symbol_{number}")
        m.d.sync += self._meaning(symbol, pick_5, symbol_5, extra_5, dry_5)
        m.d.comb += self.symbols[number].eq(symbol)
        with m.If(self.clear):
            for register in (pick_1, pick_2, pick_3, pick_4, pick_5, symbol):
                m.d.sync += register.valid.eq(0)

    def _meaning(self, symbol, pick, number, extra, dry):
        """Assignments of stage 6 for symbol ``number`` of the pick's alphabet."""
        is_literal = ~pick.is_distance & ~number[8]
        # Without their offsets, values are the symbol's bits and extra bits in a row: no adder for each symbol.
        length = select([_length_value(low, extra) for low in range(32)], number[:5])
        distance = select([_distance_value(low, extra) for low in range(32)], number[:5])
        value = Mux(is_literal, number[:8], Mux(pick.is_distance, distance, length))
        offset = Mux(is_literal, 0, Mux(pick.is_distance, _FIRST_DISTANCE, _FIRST_LENGTH))
        kind = Mux(pick.is_distance, SymbolKind.DISTANCE,
                   Mux(is_literal, SymbolKind.LITERAL,
                       Mux(number == 256, SymbolKind.END_OF_BLOCK, SymbolKind.LENGTH)))
        wrong = pick.bad | Mux(pick.is_distance, at_least(number[:5], 30), at_least(number, 286))
        bad = Mux(pick.is_distance, SymbolKind.BAD_DISTANCE, SymbolKind.BAD_LITERAL)
        return [
            symbol.valid.eq(pick.valid),
            symbol.bits.eq(pick.bits),
            symbol.kind.eq(Mux(dry, SymbolKind.DRY, Mux(wrong, bad, kind))),
            symbol.value.eq(value + offset),
        ]


def _extend(value, width):
    return Cat(value, Const(0, width))[:width]


def _length_value(low, extra):
    """Match length less :data:`_FIRST_LENGTH` of the symbol with those ``low`` five bits (RFC 1951 3.2.5)."""
    index = (low - 257) % 32
    if index >= 28:
        return Const(258 - _FIRST_LENGTH, 8)
    bits = length_extra_bits(index)
    return Cat(extra[:bits], Const(index if index < 4 else 4 + index % 4, 8))[:8]


def _distance_value(symbol, extra):
    """Distance less :data:`_FIRST_DISTANCE` of distance symbol ``symbol`` (RFC 1951 3.2.5)."""
    bits = distance_extra_bits(symbol)
    return Cat(extra[:bits], Const(symbol if symbol < 2 else 2 + symbol % 2, 15))[:15]
