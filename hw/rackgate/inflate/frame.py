# SPDX-License-Identifier: Apache-2.0
"""Headers and trailers of zlib (RFC 1950) and gzip (RFC 1952) streams."""

from contextlib import contextmanager

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode, Format
from rackgate.inflate.gzip import DEFLATE, MAGIC, GzipHeader
from rackgate.inflate.steady import Steady

__all__ = ["Frame", "FrameTask"]


class FrameTask(enum.Enum, shape=2):
    """What a :class:`Frame` is to do."""

    HEADER = 0
    TRAILER = 1
    NEXT = 2  # find out whether a further gzip member follows


class Frame(wiring.Component):
    """Parse a zlib or gzip header, check a trailer, or find out whether another gzip member follows.

    A task begins with ``start`` and ends with one cycle of ``done``, which tells how: ``error`` is an
    :class:`~rackgate.inflate.abi.ErrorCode` or zero; ``dry`` says that the source ends first; ``preset`` that a zlib
    header asks for the dictionary whose id is then in ``dictionary``; ``absent`` that no member follows. Checks
    are made in zlib's order, on as many bytes at a time as zlib asks for, so that both find the same fault first.

    HEADER and TRAILER first skip to a byte boundary; ``at_trailer`` is high when a TRAILER has got there, which
    is all there is to a raw one. NEXT skips zero bytes and leaves the magic of the next header in the source.

    Bits are taken in every third cycle at most, and all outputs but ``at_trailer`` are registers. Reset forgets the
    task; there is no memory.

    Members
    -------
    start, task, format : In
        The task, and an :class:`~rackgate.inflate.abi.Format`; both stable until ``done``. No raw HEADER.
    window, level, exhausted, take, consume
        The input buffer: next 32 bits, how many of them there are, whether these are the last.
    offset : In(3)
        Bit position within the byte.
    crc32, adler32, length : In(32)
        What the trailer must hold.
    """

    start: In(1)
    task: In(FrameTask)
    format: In(2)
    window: In(32)
    level: In(6)
    exhausted: In(1)
    offset: In(3)
    crc32: In(32)
    adler32: In(32)
    length: In(32)
    take: Out(1)
    consume: Out(6)
    done: Out(1)
    dry: Out(1)
    error: Out(8)
    preset: Out(1)
    absent: Out(1)
    at_trailer: Out(1)
    dictionary: Out(32)

    def elaborate(self, platform):
        m = Module()
        m.submodules.gzip = gzip = GzipHeader()
        m.submodules.steady = steady = Steady()
        done = Signal()
        # Up to the byte boundary, and whether that many are there, when ``steady`` is settled.
        padding, has_padding = Signal(3), Signal()
        m.d.sync += [padding.eq(-self.offset), has_padding.eq(self.level >= (-self.offset)[:3])]
        m.d.sync += [self.done.eq(done), self.dry.eq(0), self.error.eq(0), self.preset.eq(0), self.absent.eq(0)]
        m.d.comb += [
            steady.i_window.eq(self.window), steady.i_level.eq(self.level), steady.i_exhausted.eq(self.exhausted),
            self.take.eq(steady.o_take), self.consume.eq(steady.consume),
            gzip.window.eq(steady.window), gzip.level.eq(steady.level), gzip.exhausted.eq(steady.exhausted),
            steady.take.eq(gzip.consume),
        ]

        def finish(*outcome):
            m.d.comb += done.eq(1)
            m.d.sync += outcome
            m.next = "IDLE"

        @contextmanager
        def when(bits):
            """Do the body once there are ``bits`` of source; end the task if there never will be."""
            with m.If(steady.level >= bits):
                yield
            with m.Elif(steady.exhausted):
                finish(self.dry.eq(1))

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.next = "ALIGN"
                    with m.If(self.task == FrameTask.NEXT):
                        m.next = "PADDING"
            with m.State("ALIGN"), m.If(steady.settled):
                with m.If(padding == 0):
                    with m.If(self.task == FrameTask.TRAILER):
                        m.d.comb += self.at_trailer.eq(1)
                        m.next = "CHECK"
                    with m.Elif(self.format == Format.ZLIB):
                        m.next = "ZLIB"
                    with m.Else():
                        m.d.comb += gzip.start.eq(1)
                        m.next = "GZIP"
                with m.Elif(has_padding):
                    m.d.comb += steady.take.eq(padding)
                with m.Elif(steady.exhausted):
                    finish(self.dry.eq(1))
            with m.State("GZIP"):
                with m.If(gzip.done):
                    finish(self.dry.eq(gzip.dry), self.error.eq(gzip.error))
            self._zlib_header(m, steady, when, finish)
            self._trailer(m, steady, when, finish)
            with m.State("PADDING"):
                is_zero, is_first = steady.window[:8] == 0, steady.window[:8] == MAGIC & 0xFF
                with m.If((steady.level >= 8) & is_zero):
                    m.d.comb += steady.take.eq(8)
                with m.Elif((steady.level >= 8) & ~is_first):
                    finish(self.absent.eq(1))
                with m.Else(), when(16):
                    finish(self.absent.eq(steady.window[8:16] != MAGIC >> 8))
        return m

    def _zlib_header(self, m, steady, when, finish):
        digits = Signal(range(3 * 31 + 2))
        method, flags = steady.window[:8], steady.window[8:16]
        with m.State("ZLIB"), when(16):
            # CMF * 256 + FLG must be a multiple of 31. As 32 is 1 modulo 31, so must be the sum of its digits
            # in base 32.
            header = Cat(flags, method)
            m.d.sync += digits.eq(header[0:5] + header[5:10] + header[10:15] + header[15])
            m.next = "ZLIB_CHECK"
        with m.State("ZLIB_CHECK"):
            with m.If(~digits.matches(0, 31, 62, 93)):
                finish(self.error.eq(ErrorCode.ZLIB_HEADER_CHECK))
            with m.Elif(method[:4] != DEFLATE):
                finish(self.error.eq(ErrorCode.ZLIB_METHOD))
            with m.Elif(method[7]):
                finish(self.error.eq(ErrorCode.ZLIB_WINDOW))
            with m.Else():
                m.d.comb += steady.take.eq(16)
                with m.If(flags[5]):
                    m.next = "DICTIONARY"
                with m.Else():
                    finish()
        with m.State("DICTIONARY"), when(32):
            m.d.comb += steady.take.eq(32)
            m.d.sync += self.dictionary.eq(_swapped(steady.window))
            finish(self.preset.eq(1))

    def _trailer(self, m, steady, when, finish):
        with m.State("CHECK"):
            with m.If(self.format == Format.RAW):
                finish()
            with m.Else(), when(32):
                m.d.comb += steady.take.eq(32)
                with m.If(self.format == Format.ZLIB):
                    finish()
                    with m.If(_swapped(steady.window) != self.adler32):
                        finish(self.error.eq(ErrorCode.ADLER_MISMATCH))
                with m.Else():
                    m.next = "LENGTH"
                    with m.If(steady.window != self.crc32):
                        finish(self.error.eq(ErrorCode.CRC_MISMATCH))
        with m.State("LENGTH"), when(32):
            m.d.comb += steady.take.eq(32)
            finish()
            with m.If(steady.window != self.length):
                finish(self.error.eq(ErrorCode.LENGTH_MISMATCH))


def _swapped(word):
    """``word`` with its bytes in the other order: RFC 1950 stores the most significant one first."""
    return Cat(*(word.word_select(index, 8) for index in reversed(range(4))))
