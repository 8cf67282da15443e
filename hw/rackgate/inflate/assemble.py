# SPDX-License-Identifier: Apache-2.0
"""From symbols to entries: lengths meet their distances, and the block ends exactly once."""

from amaranth.hdl import Assert, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.chain import PICKS
from rackgate.inflate.entry import Entry, Kind, Mark, Stop
from rackgate.inflate.symbols import Symbol, SymbolKind

__all__ = ["EntryAssembler"]


class EntryAssembler(wiring.Component):
    """Pair match lengths with distances and make one :class:`Entry` of a cycle's symbols.

    Latency one cycle. Downstream must have room: ``o`` is never refused (asserted). After the first symbol
    that ends the block (end of block, dry, an error) or ``abort``, one MARK follows in the next cycle and
    symbols are ignored until ``start``, which comes after the MARK. A length whose distance has not come by then is
    dropped: it counts as not decoded.

    Members
    -------
    start: a run begins: at ``position``, for ``context``, with ``final`` for its MARK.
    symbols: in order. abort: end with Mark.ABORT. o: entries.
    running: symbols are taken. stopped: strobe as the MARK enters ``o``; from the next cycle on, to
    ``start``, ``stop`` is valid.

    Reset ends a run without a MARK.
    """

    start: In(1)
    position: In(32)
    context: In(3)
    final: In(1)
    symbols: In(data.ArrayLayout(Symbol, PICKS))
    abort: In(1)
    o: Out(stream.Signature(Entry))
    running: Out(1)
    stopped: Out(1)
    stop: Out(Stop)

    def elaborate(self, platform):
        m = Module()
        token = Signal(Entry)
        mark = Signal(Entry)
        ending, last = self._tokens(m, token)

        # What the MARK will say: an end-of-block symbol counts as decoded, anything else does not.
        end_of_block = last.kind == SymbolKind.END_OF_BLOCK
        end_bits = Mux(end_of_block & ~self.abort, last.bits, 0)
        with m.If(self.running & (ending | self.abort)):
            m.d.sync += [
                self.running.eq(0),
                self.stopped.eq(1),
                mark.bits.eq(end_bits),
                mark.error.eq(Mux(last.kind == SymbolKind.BAD_LITERAL, ErrorCode.BAD_LITERAL_CODE, Mux(
                    last.kind == SymbolKind.BAD_DISTANCE, ErrorCode.BAD_DISTANCE_CODE, ErrorCode.NONE))),
                mark.mark.eq(Mux(self.abort, Mark.ABORT, Mux(end_of_block, Mark.END_OF_BLOCK, Mux(
                    last.kind == SymbolKind.DRY, Mark.DRY, Mark.ERROR)))),
            ]
        with m.Else():
            m.d.sync += self.stopped.eq(0)
        # The position follows a cycle later, as a sum of its own: it has until the cycle after ``stopped``.
        carried_out = Mux(self.o.valid & (self.o.p.kind == Kind.TOKEN), self.o.p.bits, 0)
        m.d.sync += self.stop.position.eq(self.stop.position + (carried_out + Mux(self.stopped, mark.bits, 0)))
        with m.If(self.start):
            m.d.sync += [self.running.eq(1), self.stop.position.eq(self.position), mark.kind.eq(Kind.MARK),
                         mark.context.eq(self.context), mark.final.eq(self.final)]
        m.d.comb += [self.stop.mark.eq(mark.mark), token.kind.eq(Kind.TOKEN), token.context.eq(mark.context)]

        m.d.sync += [
            self.o.valid.eq((self.running & ~self.abort & (token.has_match | (token.literals != 0))) | self.stopped),
            self.o.payload.eq(Mux(self.stopped, mark, token)),
            Assert(~self.o.valid | self.o.ready, "an entry met a full queue"),
        ]
        return m

    def _tokens(self, m, token):
        """Drive ``token`` from this cycle's symbols up to the first that ends the block.

        Returns whether one does, and that symbol. Whether symbols are taken is up to the caller: it is known late.
        """
        length, length_bits = Signal(9), Signal(5)
        active, held, held_bits = Const(1, 1), length, length_bits
        bits, lengths, literals, ending = Const(0, 1), Const(0, 1), Const(0, 1), Const(0, 1)
        last = Signal(Symbol)
        m.d.comb += last.eq(self.symbols[PICKS - 1])
        for number, symbol in enumerate(self.symbols):
            here = active & symbol.valid
            is_literal = here & (symbol.kind == SymbolKind.LITERAL)
            is_length = here & (symbol.kind == SymbolKind.LENGTH)
            is_distance = here & (symbol.kind == SymbolKind.DISTANCE)
            ends = here & ~(is_literal | is_length | is_distance)
            with m.If(is_literal):
                m.d.comb += token.bytes[literals].eq(symbol.value[:8])
            with m.If(is_distance):
                m.d.comb += [token.has_match.eq(1), token.length.eq(held), token.distance.eq(symbol.value)]
            if number < PICKS - 1:
                with m.If(ends):
                    m.d.comb += last.eq(symbol)
            bits = bits + Mux(is_literal | is_distance, symbol.bits, 0)
            lengths = lengths | Mux(is_distance, held_bits, 0)  # not two in a cycle: a length is between two distances
            held, held_bits = Mux(is_length, symbol.value[:9], held), Mux(is_length, symbol.bits, held_bits)
            literals, ending, active = literals + is_literal, ending | ends, active & ~ends
        m.d.comb += [token.bits.eq(bits + lengths), token.literals.eq(literals)]
        m.d.sync += [length.eq(held), length_bits.eq(held_bits)]
        return ending, last
