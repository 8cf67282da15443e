# SPDX-License-Identifier: Apache-2.0
"""Headers and trailers of zlib (RFC 1950) and gzip (RFC 1952) streams."""

from contextlib import contextmanager

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.abi import ErrorCode, Format
from rackgate.inflate.gzip import DEFLATE, MAGIC, GzipHeader
from rackgate.inflate.steady import SteadySource

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

    HEADER and TRAILER first skip to a byte boundary; ``at_trailer`` is high when a TRAILER has got there. NEXT skips
    zero bytes and leaves the magic of the next header in the source.

    All outputs but ``at_trailer`` and ``source.take`` are registers. Reset forgets the task; there is no memory.

    Members
    -------
    start, task, format : In
        The task, and an :class:`~rackgate.inflate.abi.Format`; both stable until ``done``; not raw.
    source
        The input buffer, through registers; see :class:`~rackgate.inflate.steady.Steady`.
    offset : In(3)
        Bit position within the byte, when the source is settled.
    crc32, adler32, length : In(32)
        What the trailer must hold.
    """

    start: In(1)
    task: In(FrameTask)
    format: In(2)
    source: In(SteadySource)
    offset: In(3)
    crc32: In(32)
    adler32: In(32)
    length: In(32)
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
        done = Signal()
        source, padding = self.source, Signal(3)  # padding: up to the byte boundary, when the source is settled
        m.d.sync += padding.eq(-self.offset)
        m.d.sync += [self.done.eq(done), self.dry.eq(0), self.error.eq(0), self.preset.eq(0), self.absent.eq(0)]
        m.d.comb += [
            gzip.window.eq(source.window), gzip.level.eq(source.level), gzip.exhausted.eq(source.exhausted),
            source.take.eq(gzip.consume),
        ]

        def finish(*outcome):
            m.d.comb += done.eq(1)
            m.d.sync += outcome
            m.next = "IDLE"

        @contextmanager
        def when(bits):
            """Do the body once there are ``bits`` of source; end the task if there never will be."""
            with m.If(source.level >= bits):
                yield
            with m.Elif(source.exhausted):
                finish(self.dry.eq(1))

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.next = "ALIGN"
                    with m.If(self.task == FrameTask.NEXT):
                        m.next = "PADDING"
            with m.State("ALIGN"), m.If(source.settled):
                with m.If(padding == 0):
                    with m.If(self.task == FrameTask.TRAILER):
                        m.d.comb += self.at_trailer.eq(1)
                        m.next = "CHECK"
                    with m.Elif(self.format == Format.ZLIB):
                        m.next = "ZLIB"
                    with m.Else():
                        m.d.comb += gzip.start.eq(1)
                        m.next = "GZIP"
                with m.Else(), when(padding):
                    m.d.comb += source.take.eq(padding)
            with m.State("GZIP"):
                with m.If(gzip.done):
                    finish(self.dry.eq(gzip.dry), self.error.eq(gzip.error))
            self._zlib_header(m, source, when, finish)
            self._trailer(m, source, when, finish)
            with m.State("PADDING"):
                is_zero, is_first = source.window[:8] == 0, source.window[:8] == MAGIC & 0xFF
                with m.If((source.level >= 8) & is_zero):
                    m.d.comb += source.take.eq(8)
                with m.Elif((source.level >= 8) & ~is_first):
                    finish(self.absent.eq(1))
                with m.Else(), when(16):
                    finish(self.absent.eq(source.window[8:16] != MAGIC >> 8))
        return m

    def _zlib_header(self, m, source, when, finish):
        digits = Signal(range(3 * 31 + 2))
        method, flags = source.window[:8], source.window[8:16]
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
                m.d.comb += source.take.eq(16)
                with m.If(flags[5]):
                    m.next = "DICTIONARY"
                with m.Else():
                    finish()
        with m.State("DICTIONARY"), when(32):
            m.d.comb += source.take.eq(32)
            m.d.sync += self.dictionary.eq(_swapped(source.window))
            finish(self.preset.eq(1))

    def _trailer(self, m, source, when, finish):
        with m.State("CHECK"), when(32):
            m.d.comb += source.take.eq(32)
            with m.If(self.format == Format.ZLIB):
                finish()
                with m.If(_swapped(source.window) != self.adler32):
                    finish(self.error.eq(ErrorCode.ADLER_MISMATCH))
            with m.Else():
                m.next = "LENGTH"
                with m.If(source.window != self.crc32):
                    finish(self.error.eq(ErrorCode.CRC_MISMATCH))
        with m.State("LENGTH"), when(32):
            m.d.comb += source.take.eq(32)
            finish()
            with m.If(source.window != self.length):
                finish(self.error.eq(ErrorCode.LENGTH_MISMATCH))


def _swapped(word):
    """``word`` with its bytes in the other order: RFC 1950 stores the most significant one first."""
    return Cat(*(word.word_select(index, 8) for index in reversed(range(4))))
