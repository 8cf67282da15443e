# SPDX-License-Identifier: Apache-2.0
"""From the place and size of a symbol to its meaning."""

import operator

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode
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

__all__ = ["MAX_SYMBOL_BITS", "SYMBOL_STAGES", "Symbol", "SymbolKind", "SymbolReader"]

#: A distance code of 15 bits and 13 extra bits.
MAX_SYMBOL_BITS = 28
#: Registers between a pick and its symbol.
SYMBOL_STAGES = 6


class SymbolKind(enum.Enum, shape=3):
    """Meaning of a :class:`Symbol`."""

    LITERAL = 0
    LENGTH = 1
    DISTANCE = 2
    END_OF_BLOCK = 3
    DRY = 4
    ERROR = 5


class Symbol(data.Struct):
    """A decoded symbol: ``value`` is a byte, a match length, a distance or an ``abi.ErrorCode``."""

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
        ahead_2 = stage("ahead_2", Array(bits_1[k:k + MAX_SYMBOL_BITS] for k in range(self.lanes))[pick_1.offset])
        left_2, stop_2 = stage("left_2", left_1), stage("stop_2", pick_1.offset + pick_1.bits)

        # 3: the code as a number, what its length adds to it, and the extra bits after it.
        reverse = Cat(reversed(ahead_2[:MAX_LENGTH]))
        by_code = {length: Cat(_extend(reverse[MAX_LENGTH - length:], 12), self.tables.literal_base[str(length)],
                               self.tables.distance_index[str(length)], ahead_2[length:length + 13])
                   for length in LENGTHS}
        chosen = Array([by_code[max(length, 1)] for length in range(MAX_LENGTH + 1)])[pick_2.code]
        chosen_3 = stage("chosen_3", chosen)
        pick_3, dry_3 = stage("pick_3", pick_2), stage("dry_3", stop_2 > left_2)
        code, base, index, extra = chosen_3[:12], chosen_3[12:24], chosen_3[24:29], chosen_3[29:42]

        # 4: the symbol RAM's address goes out; distance symbols come from registers.
        for read in reads:
            m.d.comb += read.addr.eq((code + base)[:12])
        distance_4 = stage("distance_4", self.tables.distance_symbol[(code[:5] + index)[:5]])
        pick_4, dry_4, extra_4 = stage("pick_4", pick_3), stage("dry_4", dry_3), stage("extra_4", extra)

        # 5: what the RAM gave, registered, as block RAM is slow.
        ram = Array(read.data for read in reads)[self.context[:max(1, (self.contexts - 1).bit_length())]]
        symbol_5 = stage("symbol_5", Mux(pick_4.is_distance, distance_4, ram))
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
        length = Array(_length_value(index, extra) for index in range(32))[(number - 1)[:5]]
        distance = Array(_distance_value(index, extra) for index in range(32))[number[:5]]
        kind = Mux(pick.is_distance, SymbolKind.DISTANCE,
                   Mux(number < 256, SymbolKind.LITERAL,
                       Mux(number == 256, SymbolKind.END_OF_BLOCK, SymbolKind.LENGTH)))
        wrong = pick.bad | Mux(pick.is_distance, number >= 30, number >= 286)
        error = Mux(pick.is_distance, ErrorCode.BAD_DISTANCE_CODE, ErrorCode.BAD_LITERAL_CODE)
        value = Mux(pick.is_distance, distance, Mux(number < 256, number, length))
        return [
            symbol.valid.eq(pick.valid),
            symbol.bits.eq(pick.bits),
            symbol.kind.eq(Mux(dry, SymbolKind.DRY, Mux(wrong, SymbolKind.ERROR, kind))),
            symbol.value.eq(Mux(wrong, error, value)),
        ]


def _extend(value, width):
    return Cat(value, Const(0, width))[:width]


def _length_value(index, extra):
    """Match length of symbol ``257 + index`` (RFC 1951 3.2.5)."""
    if index == 28:
        return Const(258, 9)
    bits = length_extra_bits(index)
    base = 3 + index if bits == 0 else 3 + ((4 + index % 4) << bits)
    return Const(base, 9) + extra[:bits]


def _distance_value(index, extra):
    """Distance of distance symbol ``index`` (RFC 1951 3.2.5)."""
    bits = distance_extra_bits(index)
    base = 1 + index if bits == 0 else 1 + ((2 + index % 2) << bits)
    return Const(base, 16) + extra[:bits]
