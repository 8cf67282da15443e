# SPDX-License-Identifier: Apache-2.0
"""From symbols of the code-length code to code lengths."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.length_code import LengthSymbol

__all__ = ["CodeLength", "RunExpander"]


class CodeLength(data.Struct):
    """A symbol of a block's literal/length code, or of its ``distance`` code, and its code length (not zero)."""

    valid: 1
    distance: 1
    symbol: 9
    length: 4


class RunExpander(wiring.Component):
    """Writes runs out (RFC 1951 3.2.7) and checks that they end where they should.

    A symbol that repeats a length other than zero takes a cycle for each repetition, any other one cycle.
    All outputs but ``more`` are combinational. Reset leaves it unusable until ``start``.

    Members
    -------
    start, literals, total:
        Begins with the first of ``total`` lengths, ``literals`` of which are for the literal/length code.
    strict:
        Runs must not lead from one code to the other, nor begin as a copy with the first distance length.
    valid, symbol:
        A symbol, held until ``over``.
    take, is_run, run:
        Before each symbol: the next one will have the length ``run``, or one if not ``is_run``. At the last one's
        ``over`` at the earliest, again if it turns out to be longer.
    o:
        Code lengths other than zero.
    over, more:
        This is the symbol's last cycle; there are more lengths after its own.
    fault:
        An ``abi.ErrorCode`` if the symbol is wrong, else zero. Only in its first cycle.
    """

    start: In(1)
    literals: In(9)
    total: In(9)
    strict: In(1)
    valid: In(1)
    symbol: In(LengthSymbol)
    take: In(1)
    is_run: In(1)
    run: In(8)
    o: Out(CodeLength)
    over: Out(1)
    more: Out(1)
    fault: Out(8)

    def elaborate(self, platform):
        m = Module()
        run = self.symbol.run
        room, left = Signal(9), Signal(9)  # lengths not yet read, of the literal/length code and of both
        index, distance, begun = Signal(9), Signal(), Signal()
        previous, after_zero = Signal(4), Signal()
        turn, is_last = Signal(3, init=1), Signal()  # of a copied length; it is the last one
        length, is_copy = Signal(4), Signal()
        step, crosses = Signal(8), Signal()  # lengths in this cycle; the next one is the first of the distance code
        m.d.comb += [
            length.eq(Mux(self.symbol.previous, previous, Mux(self.symbol.zero, 0, self.symbol.literal))),
            is_copy.eq(self.symbol.previous & ~after_zero),
            self.over.eq(~is_copy | is_last),
            self.o.valid.eq(self.valid & length.any()),
            self.o.distance.eq(distance),
            self.o.symbol.eq(index),
            self.o.length.eq(length),
            step.eq(Mux(is_copy, 1, run)),
            crosses.eq(~distance & (step >= room)),
        ]
        # These two are found out ahead, as the loop over the source's window waits for them. No run is shorter than 3.
        m.d.sync += is_last.eq(self.valid & ~self.over & (turn + 1 == run))
        with m.If(self.take):
            m.d.sync += self.more.eq(Mux(self.is_run, self.run < left, Mux(self.valid, run + 1 < left, left > 1)))
        with m.If(self.valid):
            m.d.sync += [previous.eq(length), after_zero.eq(~length.any()), begun.eq(1), room.eq(room - step),
                         distance.eq(distance | crosses), index.eq(Mux(crosses, step - room, index + step))]
            with m.If(self.over):
                m.d.sync += [turn.eq(1), left.eq(left - run)]
            with m.Else():
                m.d.sync += turn.eq(turn + 1)
        with m.If(self.start):
            m.d.sync += [room.eq(self.literals), left.eq(self.total), index.eq(0), distance.eq(0), begun.eq(0),
                         turn.eq(1)]

        with m.If(turn == 1):
            with m.If(self.symbol.previous & ~begun):
                m.d.comb += self.fault.eq(ErrorCode.FIRST_LITERAL_LENGTH_REPEATS)
            with m.Elif(self.strict & self.symbol.previous & distance & (index == 0)):
                m.d.comb += self.fault.eq(ErrorCode.FIRST_DISTANCE_LENGTH_REPEATS)
            with m.Elif(self.strict & ~distance & (run > room)):
                m.d.comb += self.fault.eq(ErrorCode.LITERAL_LENGTHS_OVERRUN)
            with m.Elif(run > left):
                m.d.comb += self.fault.eq(ErrorCode.DISTANCE_LENGTHS_OVERRUN)
        return m
