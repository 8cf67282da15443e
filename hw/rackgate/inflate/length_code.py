# SPDX-License-Identifier: Apache-2.0
"""The code-length code: the prefix code in which a dynamic block's code lengths are written."""

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.logic import at_least, select

__all__ = ["ORDER", "LengthCode", "LengthSymbol"]

#: Order in which the lengths of the code-length code stand in the source (RFC 1951 3.2.7).
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)

_LONGEST = 7
_LENGTHS = range(1, _LONGEST + 1)
_SHARES = (0, *(1 << _LONGEST - length for length in _LENGTHS))  # of 128 codes of 7 bits, for each length
_REPEATS = {16: 2, 17: 3, 18: 7}  # symbols that stand for runs, and their extra bits
_BITS = 7  # of a code, or the extra bits of a run


class LengthSymbol(data.Struct):
    """A symbol of the code-length code: ``run`` code lengths, namely zeros, the ``previous`` one, or ``literal``."""

    literal: 4
    run: 8
    previous: 1
    zero: 1


class LengthCode(wiring.Component):
    """Holds the code-length code as comparators and decodes a symbol a cycle, or in two if it stands for a run.

    A code's length is the smallest L whose limit the first L bits are below (see :mod:`rackgate.inflate.code`).
    The limits are sums of powers of two, so they are added up while one pass goes over the lengths. Run symbols
    are matched as patterns of their own; a cycle later, when the match is known, their extra bits are taken. The values
    of the others come, a cycle later too, from a LUT RAM that is addressed by length and rank.

    How many bits come next is found out while the ones before are taken: the length of the code at each place where
    it could begin, so that only a choice among them is in the loop over the window.

    ``build`` may come with the last ``load``; ``built`` comes 21 cycles later. Reset makes the code useless
    until it is built again.

    Members
    -------
    load, lengths:
        Takes five lengths in the order of the source, the first in the low bits. Four loads make up the code,
        with zeros after the last length (20 in all).
    clear, build, built, error:
        Forgets the code, before ``build`` makes a new one; with ``built``, ``error`` is an ``abi.ErrorCode``, zero if
        the code is complete.
    window, first:
        Source, first bit in bit 0; length of the code there. Combinational.
    take, consume, following, symbol, more:
        Takes ``consume`` bits: as many as ``first`` or ``following`` said, which says how many are to be taken next
        (combinational). In the next cycle ``more`` says that they are extra bits of the symbol, or else ``symbol`` is
        the symbol. Both stand until the next ``take``.
    run:
        With ``more``, the run that ``symbol`` will have. Combinational.
    """

    load: In(1)
    lengths: In(15)
    clear: In(1)
    build: In(1)
    built: Out(1)
    error: Out(8)
    window: In(2 * _BITS)
    first: Out(3)
    take: In(1)
    consume: In(3)
    following: Out(3)
    symbol: Out(LengthSymbol)
    more: Out(1)
    run: Out(8)

    def elaborate(self, platform):
        m = Module()
        stored = Signal(data.ArrayLayout(3, 20))
        with m.If(self.load):
            m.d.sync += stored.eq(Cat(stored.as_value()[15:], self.lengths))
        in_order = [stored[ORDER.index(symbol)] for symbol in range(19)]
        limits = {length: Signal(length + 1, name=f"limit_{length}") for length in _LENGTHS}
        codes = {symbol: Signal(_LONGEST, name=f"code_{symbol}") for symbol in _REPEATS}  # left-aligned
        m.submodules.values = values = Memory(shape=4, depth=80, init=[])
        self._build(m, in_order, limits, codes, values.write_port())
        self._decode(m, in_order, limits, codes, values.read_port(domain="comb"))
        return m

    def _build(self, m, in_order, limits, codes, write):
        """One pass over the symbols: a register with the length, then the sums."""
        step, running, last = Signal(range(19)), Signal(), Signal()
        number, length, is_last = Signal(range(19)), Signal(3), Signal()
        m.d.comb += last.eq(running & (step == 18))
        m.d.sync += [
            step.eq(Mux(running, step + 1, 0)),
            number.eq(step),
            length.eq(Mux(running, select(in_order, step), 0)),
            is_last.eq(last),
            self.built.eq(is_last),
        ]
        with m.If(self.build):
            m.d.sync += [Assert(~running, "build before the last one has ended"), running.eq(1)]
        with m.Elif(last):
            m.d.sync += running.eq(0)

        counts = {own: Signal(min(own, 4), name=f"count_{own}") for own in _LENGTHS}
        share = Signal(_LONGEST)  # of the code space, in units of 1/128
        top, over = Signal(8), Signal()
        m.d.comb += [
            share.eq(select(_SHARES, length)),
            top.eq(limits[_LONGEST] + share),
            write.addr.eq(_address(length, counts)),
            write.data.eq(number),
            write.en.eq((length != 0) & ~number[4]),
        ]
        m.d.sync += over.eq(over | at_least(top, 129))
        for own in _LENGTHS:
            m.d.sync += limits[own].eq(limits[own] + share[_LONGEST - own:])
            with m.If((length == own) & ~number[4]):
                m.d.sync += counts[own].eq(counts[own] + 1)
        for symbol, code in codes.items():
            # Codes stand in the order of length, then of symbol.
            with m.If((length < in_order[symbol]) | ((length == in_order[symbol]) & ~at_least(number, symbol))):
                m.d.sync += code.eq(code + share)
        with m.If(self.clear):
            m.d.sync += [signal.eq(0) for signal in (*limits.values(), *codes.values(), *counts.values(), over)]

        with m.If(over):  # first, as the sums may then have wrapped to anything
            m.d.comb += self.error.eq(ErrorCode.CODE_LENGTHS_OVERSUBSCRIBED)
        with m.Elif(limits[_LONGEST] == 0):
            m.d.comb += self.error.eq(ErrorCode.UNDEFINED_CODE_LENGTH_CODE)
        with m.Elif(limits[_LONGEST] != 128):
            m.d.comb += self.error.eq(ErrorCode.CODE_LENGTHS_INCOMPLETE)

    def _decode(self, m, in_order, limits, codes, read):
        code = _first_bit_highest(self.window)
        ranks = {}
        for own in _LENGTHS:
            first = Cat(Const(0, 1), limits[own - 1]) if own > 1 else Const(0, 1)
            ranks[own] = Signal(min(own, 4), name=f"rank_{own}")
            m.d.comb += ranks[own].eq(code[_LONGEST - own:] - first)
        lengths = [_length(_first_bit_highest(self.window[place:]), limits) for place in range(_LONGEST + 1)]
        matches = {}
        for symbol in _REPEATS:
            own = in_order[symbol]
            # One past its 7-bit patterns. Two comparisons are faster than matching under a mask.
            above_all = Signal(_LONGEST + 1, name=f"end_{symbol}")
            m.d.sync += above_all.eq(codes[symbol] + select(_SHARES, own))
            matches[symbol] = Signal(name=f"is_{symbol}")
            m.d.comb += matches[symbol].eq((code >= codes[symbol]) & (code < above_all))

        taken = Signal(data.StructLayout({"address": 7, "run": 8, "previous": 1, "zero": 1, "long": 1}))
        has_extra = ~self.more & Cat(matches.values()).any()
        extra_bits = Mux(matches[16], _REPEATS[16], Mux(matches[17], _REPEATS[17], _REPEATS[18]))
        m.d.comb += [
            self.first.eq(lengths[0]),
            self.following.eq(Mux(has_extra, extra_bits, select(lengths, self.consume))),
        ]
        extra = Cat(self.window[:2], self.window[2] & taken.zero, self.window[3:_BITS] & taken.long.replicate(4))
        m.d.comb += self.run.eq(extra + Mux(taken.long, 11, 3))
        with m.If(self.take):
            m.d.sync += self.more.eq(has_extra)
            with m.If(self.more):
                m.d.sync += taken.run.eq(self.run)
            with m.Else():
                m.d.sync += [
                    taken.address.eq(_address(self.consume, ranks)),
                    taken.run.eq(1),
                    taken.previous.eq(matches[16]),
                    taken.zero.eq(matches[17] | matches[18]),
                    taken.long.eq(matches[18]),
                ]
        with m.If(self.clear):
            m.d.sync += self.more.eq(0)
        m.d.comb += [
            read.addr.eq(taken.address),
            self.symbol.literal.eq(read.data),
            self.symbol.run.eq(taken.run),
            self.symbol.previous.eq(taken.previous),
            self.symbol.zero.eq(taken.zero),
        ]


def _first_bit_highest(window):
    return Cat(reversed(window[:_LONGEST]))


def _length(code, limits):
    """Length of the code that ``code`` begins with, first bit highest."""
    # Limits never fall, so this is a row of ones and then zeros: the code is longer than 1, 2, ...
    above = [code[_LONGEST - own:] >= limits[own] for own in _LENGTHS]
    return Cat(~above[0] | (above[1] & ~above[2]) | (above[3] & ~above[4]) | above[5],
               (above[0] & ~above[2]) | above[4],
               above[2])


def _address(length, ranks):
    """Place of a symbol's value: 16 a length from 4 on; the shorter ones, with 14 codes at most, share 16."""
    places = [Const(0, 7)]
    for own in _LENGTHS:
        bank = Const(max(own - 3, 0), 3)
        marker = Cat(Const(int(own in (2, 3)), 1), Const(0, 3))[:4 - min(own, 4)]
        places.append(Cat(ranks[own], marker, bank))
    return select(places, length)
