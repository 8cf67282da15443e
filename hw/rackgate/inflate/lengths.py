# SPDX-License-Identifier: Apache-2.0
"""Reads the code lengths of a dynamic block (RFC 1951 3.2.7)."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.length_code import LengthCode
from rackgate.inflate.logic import at_least
from rackgate.inflate.runs import CodeLength, RunExpander

__all__ = ["CodeLengthReader"]


class CodeLengthReader(wiring.Component):
    """Reads HLIT, HDIST and HCLEN, the code-length code, and the code lengths written in it.

    The lengths come in symbol order, literals first, those that are zero not at all; nothing can hold
    them up. The first comes at least 28 cycles after ``start``. A symbol of the code-length code takes a cycle,
    one that stands for a run two, a repeated length other than zero a cycle for each repetition and one more, and what
    comes before them 28 cycles. Within the last 15 bits of the source all that is taken takes two cycles. ``take``
    depends combinationally on ``level``; ``consume`` is a register, and zero but between ``start`` and ``done``. Reset
    ends what is under way.

    Members
    -------
    start, strict:
        Begins, with ``window`` at the first bit of HLIT from the next cycle on. ``strict`` (stable until
        ``done``): a run must not begin with the first distance length, nor lead from literals to distances.
    window, level, exhausted, take, consume:
        As of :class:`~rackgate.inflate.input.InputBuffer`. On success exactly the code lengths are consumed.
    o:
        The lengths; ``o.valid`` for one cycle each.
    done:
        All have been read, or ``error`` (an ``abi.ErrorCode``) or ``dry`` says why not; these two are
        valid with ``done``. Comes at least one cycle after the last length.
    """

    start: In(1)
    strict: In(1)
    window: In(32)
    level: In(6)
    exhausted: In(1)
    take: Out(1)
    consume: Out(6)
    o: Out(CodeLength)
    done: Out(1)
    error: Out(8)
    dry: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.code = code = LengthCode()
        m.submodules.runs = runs = RunExpander()
        hlit, hdist, hclen = self.window[:5], self.window[5:10], self.window[10:14]
        left, group = Signal(6), Signal(range(4))  # bits of the code-length code's lengths; fives of them read
        rest = Signal.like(left)  # of them when the next ones have been taken
        taken, pending = Signal(), Signal()  # bits of a symbol have been; a symbol is in ``code.symbol``
        wanted, may = Signal(4), Signal()  # how many bits are to be taken next, a register; whether now
        taking = Signal()  # in a state that takes bits
        take, short = self._take(m, wanted, may)
        m.d.comb += [
            rest.eq(left - wanted),
            code.consume.eq(wanted),
            pending.eq(taken & ~code.more), may.eq(taking & (~pending | (runs.over & runs.more))),
            code.window.eq(self.window), runs.symbol.eq(code.symbol), runs.valid.eq(pending),
            runs.strict.eq(self.strict), runs.take.eq(take), runs.is_run.eq(code.more), runs.run.eq(code.run),
            runs.literals.eq(257 + hlit), runs.total.eq(258 + hlit + hdist), self.o.eq(runs.o),
            *(code.lengths[3 * k:3 * k + 3].eq(Mux(at_least(left, 3 * k + 1), self.window[3 * k:], 0))
              for k in range(5)),
        ]

        def end(**outcome):
            m.d.sync += [taking.eq(0), taken.eq(0)]
            m.d.sync += [getattr(self, name).eq(value) for name, value in outcome.items()]
            m.next = "DONE"

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [self.error.eq(ErrorCode.NONE), self.dry.eq(0), taken.eq(0), group.eq(0)]
                with m.If(self.start):
                    m.d.sync += [wanted.eq(14), taking.eq(1)]
                    m.next = "COUNTS"
            with m.State("COUNTS"):
                m.d.comb += [runs.start.eq(1), code.clear.eq(1)]
                m.d.sync += left.eq(12 + (hclen << 1) + hclen)
                with m.If(take):
                    m.d.sync += wanted.eq(Mux(hclen.any(), 15, 12))
                    m.next = "CODE"
                    with m.If(at_least(hlit, 287 - 257)):
                        end(error=ErrorCode.TOO_MANY_LITERAL_CODES)
                    with m.Elif(at_least(hdist, 31 - 1)):
                        end(error=ErrorCode.TOO_MANY_DISTANCE_CODES)
                with m.Elif(short):
                    end(dry=1)
            with m.State("CODE"):
                m.d.comb += code.load.eq(take)
                with m.If(take):
                    m.d.sync += [left.eq(rest), wanted.eq(Mux(at_least(rest, 15), 15, rest)), group.eq(group + 1)]
                    with m.If(group == 3):
                        m.d.comb += code.build.eq(1)
                        m.d.sync += taking.eq(0)
                        m.next = "BUILD"
                with m.Elif(short):
                    end(dry=1)
            with m.State("BUILD"):
                with m.If(code.built):
                    m.next = "FIRST"
                    with m.If(code.error.any()):
                        end(error=code.error)
            with m.State("FIRST"):
                m.d.sync += wanted.eq(code.first)
                with m.If(self.level[4:].any() | self.exhausted):
                    m.d.sync += taking.eq(1)
                    m.next = "SYMBOLS"
            with m.State("SYMBOLS"):
                m.d.comb += code.take.eq(take)
                with m.If(may):
                    m.d.sync += taken.eq(take)
                with m.If(take):
                    m.d.sync += wanted.eq(code.following)
                with m.If(short):
                    end(dry=1)
                with m.Elif(pending & runs.fault.any()):
                    end(error=runs.fault)
                with m.Elif(pending & runs.over & ~runs.more):
                    end()
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.d.sync += wanted.eq(0)
                m.next = "IDLE"
        return m

    def _take(self, m, wanted, may):
        """Consumes ``wanted`` bits if they are there: (are taken, will never be there).

        A comparison with ``level`` is too slow for the loop over the window. So it is done only when the
        source may end within those bits, in a cycle of its own.
        """
        compared, fits = Signal(), Signal()
        m.d.comb += [
            self.take.eq(may & (self.level[4:].any() | (compared & fits))),
            self.consume.eq(wanted),
        ]
        m.d.sync += [compared.eq(may & self.exhausted & ~self.take), fits.eq(wanted <= self.level)]
        return self.take, may & compared & ~fits
