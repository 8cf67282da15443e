# SPDX-License-Identifier: Apache-2.0
"""The header of a gzip member (RFC 1952 2.3)."""

from contextlib import contextmanager

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode

__all__ = ["DEFLATE", "MAGIC", "GzipHeader"]

#: ID1 and ID2, first byte lowest.
MAGIC = 0x8B1F
#: The compression method, of zlib headers as well.
DEFLATE = 8


class GzipHeader(wiring.Component):
    """Pass over a gzip header, with its optional fields, and check what can be checked.

    ``start`` begins at the header's first byte; one cycle of ``done`` ends it and tells how: ``error`` is an
    :class:`~rackgate.inflate.abi.ErrorCode` or zero, ``dry`` says that the source ends first. Checks come in zlib's
    order and need as many bytes at a time as zlib's, so that both find the same fault first: the magic, the
    method, the reserved flags, and the CRC-16, for whose sake the header passes at a byte a cycle.

    ``consume`` depends combinationally on ``window`` and ``level``. Reset forgets a header under way; there is no
    memory.

    Members
    -------
    window, level, exhausted, consume
        The input buffer: next 32 bits, how many of them there are, whether these are the last.
    """

    start: In(1)
    window: In(32)
    level: In(6)
    exhausted: In(1)
    consume: Out(6)
    done: Out(1)
    dry: Out(1)
    error: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(8).create()
        has_byte, has_two, take = Signal(), Signal(), Signal()
        m.d.comb += [
            has_byte.eq(self.level >= 8), has_two.eq(self.level >= 16),
            crc.data.eq(self.window[:8]), crc.valid.eq(take),
        ]
        with m.If(take):
            m.d.comb += self.consume.eq(8)

        def finish(error=ErrorCode.NONE):
            m.d.comb += [self.done.eq(1), self.error.eq(error)]
            m.next = "IDLE"

        @contextmanager
        def when(enough):
            """Do the body once there is ``enough`` source; end if there never will be."""
            with m.If(enough):
                yield
            with m.Elif(self.exhausted):
                m.d.comb += self.dry.eq(1)
                finish()

        has_checksum, has_extra, has_name, has_comment = present = Signal(4)
        remaining = Signal(17)

        def skip(state, then):
            """Pass ``remaining`` bytes, at least one."""
            with m.State(state), when(has_byte):
                m.d.comb += take.eq(1)
                m.d.sync += remaining.eq(remaining - 1)
                with m.If(remaining == 1):
                    m.next = then

        def skip_string(state, is_present, then):
            """Pass bytes up to and including a zero."""
            with m.State(state):
                with m.If(~is_present):
                    m.next = then
                with m.Else(), when(has_byte):
                    m.d.comb += take.eq(1)
                    with m.If(self.window[:8] == 0):
                        m.next = then

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += crc.start.eq(1)
                with m.If(self.start):
                    m.next = "MAGIC"
            with m.State("MAGIC"), when(has_two):
                m.d.sync += remaining.eq(2)
                m.next = "TAKE_MAGIC"
                with m.If(self.window[:16] != MAGIC):
                    finish(ErrorCode.GZIP_MAGIC)
            skip("TAKE_MAGIC", "METHOD")
            with m.State("METHOD"), when(has_two):
                m.d.sync += [present.eq(self.window[9:13]), remaining.eq(8)]
                m.next = "TAKE_FIXED"
                with m.If(self.window[:8] != DEFLATE):
                    finish(ErrorCode.GZIP_METHOD)
                with m.Elif(self.window[13:16].any()):
                    finish(ErrorCode.GZIP_FLAGS)
            skip("TAKE_FIXED", "EXTRA")  # method, flags, time, extra flags, system
            with m.State("EXTRA"):
                with m.If(~has_extra):
                    m.next = "NAME"
                with m.Else(), when(has_two):
                    m.d.sync += remaining.eq(self.window[:16] + 2)
                    m.next = "TAKE_EXTRA"
            skip("TAKE_EXTRA", "NAME")
            skip_string("NAME", has_name, "COMMENT")
            skip_string("COMMENT", has_comment, "CHECKSUM")
            with m.State("CHECKSUM"):
                with m.If(~has_checksum):
                    finish()
                with m.Else(), when(has_two):
                    m.d.comb += self.consume.eq(16)
                    finish()
                    with m.If(self.window[:16] != crc.crc[:16]):
                        finish(ErrorCode.GZIP_HEADER_CRC)
        return m
