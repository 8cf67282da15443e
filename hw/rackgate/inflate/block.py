# SPDX-License-Identifier: Apache-2.0
"""Block headers (RFC 1951 3.2.3)."""

from contextlib import contextmanager

from amaranth.hdl import Module, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.code import CodeTables, SymbolWrite
from rackgate.inflate.steady import SteadySource
from rackgate.inflate.tables import BlockTables

__all__ = ["BlockHeader", "BlockType"]


class BlockType(enum.Enum, shape=2):
    """BTYPE, as it stands in the source."""

    STORED = 0
    FIXED = 1
    DYNAMIC = 2
    RESERVED = 3


class BlockHeader(wiring.Component):
    """Take a block's header from the source, with all that comes before its first symbol or byte.

    ``start`` begins at the header's first bit; one cycle of ``done`` ends it and tells how: ``error`` is an
    :class:`~rackgate.inflate.abi.ErrorCode` or zero, ``dry`` says that the source ends first. If neither, ``final``
    and ``is_stored`` stand from then on, and the source is where the block's content begins: with ``is_stored`` that
    is ``length`` bytes (valid in the cycle of ``done``), else ``tables`` and the symbol RAM hold the codes.

    While a dynamic block's codes are read, ``take`` depends combinationally on ``level``; ``consume`` is a register.
    Reset forgets a header under way and leaves the symbol RAM, which is not here, as it is.

    Members
    -------
    strict : In(1)
        Code lengths must not run across the literal/distance border.
    source
        The input buffer, through registers; see :class:`~rackgate.inflate.steady.Steady`.
    window, level, exhausted, take, consume
        The input buffer itself, for the codes: next 32 bits, how many of them there are, whether these are the last.
    offset : In(3)
        Bit position within the byte, when the source is settled.
    """

    start: In(1)
    strict: In(1)
    source: In(SteadySource)
    window: In(32)
    level: In(6)
    exhausted: In(1)
    offset: In(3)
    take: Out(1)
    consume: Out(6)
    done: Out(1)
    dry: Out(1)
    error: Out(8)
    final: Out(1)
    is_stored: Out(1)
    length: Out(16)
    tables: Out(CodeTables)
    o_symbol: Out(SymbolWrite)

    def elaborate(self, platform):
        m = Module()
        m.submodules.tables = tables = BlockTables()
        done = Signal()
        source, padding = self.source, Signal(3)  # padding: up to the byte boundary, when the source is settled
        m.d.sync += padding.eq(-self.offset)
        m.d.sync += [self.done.eq(done), self.dry.eq(0), self.error.eq(0)]
        kind = source.window[1:3]
        is_fixed = Signal()
        complement = source.window[16:32]
        m.d.comb += [
            tables.fixed.eq(is_fixed), tables.strict.eq(self.strict),
            tables.window.eq(self.window), tables.level.eq(self.level), tables.exhausted.eq(self.exhausted),
            self.take.eq(tables.take), self.consume.eq(tables.consume),
            self.tables.eq(tables.tables), self.o_symbol.eq(tables.o_symbol),
            self.length.eq(source.window[:16]),
        ]

        def finish(*outcome):
            m.d.comb += done.eq(1)
            m.d.sync += outcome
            m.next = "IDLE"

        @contextmanager
        def when(bits):
            """Do the body once there are ``bits`` of source; end if there never will be."""
            with m.If(source.level >= bits):
                yield
            with m.Elif(source.exhausted):
                finish(self.dry.eq(1))

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.next = "TYPE"
            with m.State("TYPE"), when(3):
                m.d.comb += source.take.eq(3)
                m.d.sync += [
                    self.final.eq(source.window[0]), self.is_stored.eq(kind == BlockType.STORED),
                    is_fixed.eq(kind == BlockType.FIXED),
                ]
                with m.Switch(kind):
                    with m.Case(BlockType.STORED):
                        m.next = "ALIGN"
                    with m.Case(BlockType.RESERVED):
                        finish(self.error.eq(ErrorCode.BAD_BLOCK_TYPE))
                    with m.Default():
                        m.next = "BEGIN"
            with m.State("ALIGN"), m.If(source.settled):
                with when(padding):
                    m.d.comb += source.take.eq(padding)
                    m.next = "LENGTH"
            with m.State("LENGTH"), when(32):
                m.d.comb += source.take.eq(32)
                finish()
                with m.If(self.length != ~complement):
                    finish(self.error.eq(ErrorCode.STORED_LENGTH_MISMATCH))
            with m.State("BEGIN"):
                m.d.comb += tables.start.eq(1)
                m.next = "TABLES"
            with m.State("TABLES"):
                with m.If(tables.done):
                    finish(self.error.eq(tables.error), self.dry.eq(tables.dry))
        return m
