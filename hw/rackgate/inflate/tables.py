# SPDX-License-Identifier: Apache-2.0
"""The codes of a block, from the source to the tables of the body decoder."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.builder import TableBuilder
from rackgate.inflate.code import CodeTables, SymbolWrite
from rackgate.inflate.lengths import CodeLengthReader

__all__ = ["BlockTables"]


class BlockTables(wiring.Component):
    """Reads the codes of a dynamic block (RFC 1951 3.2.7), or sets up the fixed ones (3.2.6).

    Cycles from ``start`` to ``done``: 48 and one for each symbol of the code-length code (but a repeated
    length other than zero: one for each repetition), if the source comes fast enough; fixed codes: 2, and 290
    the first time after reset, as their symbols must be written to the symbol RAM once.

    ``take`` depends combinationally on ``level``; ``consume`` is a register, and zero when codes are not being read.
    Reset ends what is under way and leaves the tables as they are.

    Members
    -------
    start, fixed:
        Begins; ``window`` is at the first bit after the block type from the next cycle on. Not before ``done``.
    strict:
        Code lengths must not run across the literal/distance border. Stable until ``done``.
    window, level, exhausted, take, consume:
        As of :class:`~rackgate.inflate.input.InputBuffer`. On success exactly the codes are consumed, of fixed ones
        nothing.
    done, error, dry:
        It has ended: with an ``error`` (an ``abi.ErrorCode``, else zero); ``dry``: the source ends before the
        codes do; else the tables and the symbol RAM hold. ``error`` and ``dry`` are valid with ``done``.
    tables, o_symbol:
        The tables, stable from ``done`` to the next ``start``; writes to the symbol RAM, the last one before ``done``.
    """

    start: In(1)
    fixed: In(1)
    strict: In(1)
    window: In(32)
    level: In(6)
    exhausted: In(1)
    take: Out(1)
    consume: Out(6)
    done: Out(1)
    error: Out(8)
    dry: Out(1)
    tables: Out(CodeTables)
    o_symbol: Out(SymbolWrite)

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = CodeLengthReader()
        m.submodules.builder = builder = TableBuilder()
        is_short = reader.dry | reader.error.any()
        m.d.comb += [
            reader.start.eq(self.start & ~self.fixed), reader.strict.eq(self.strict),
            reader.window.eq(self.window), reader.level.eq(self.level), reader.exhausted.eq(self.exhausted),
            self.take.eq(reader.take), self.consume.eq(reader.consume),
            builder.start.eq(self.start), builder.fixed.eq(self.fixed),
            builder.i.eq(reader.o), builder.finish.eq(reader.done & ~is_short),
            self.done.eq((reader.done & is_short) | builder.done),
            self.error.eq(reader.error | builder.error),
            self.dry.eq(reader.dry),
            self.tables.eq(builder.tables), self.o_symbol.eq(builder.o_symbol),
        ]
        return m
