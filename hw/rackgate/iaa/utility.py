# SPDX-License-Identifier: Apache-2.0
"""Operations that need no decompressor: CRC64, FILL, copies, and reading an AECS."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.checksum.crc64 import CRC64
from rackgate.dma.reader import Reader
from rackgate.dma.writer import Writer
from rackgate.iaa.aecsread import AecsFields, AecsReader
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["Utility", "UtilityJob", "UtilityOperation", "UtilityResult"]


class UtilityOperation(enum.Enum, shape=2):
    """What a :class:`Utility` does."""

    CRC64 = 0
    FILL = 1
    AECS = 2
    COPY = 3


class UtilityJob(data.Struct):
    """``address`` and ``size`` in bytes; ``value`` is the polynomial, the pattern, or the address to copy to."""

    operation: UtilityOperation
    lane: 3
    address: ADDR_WIDTH
    size: 32
    value: 64
    invert: 1
    big_endian: 1


class UtilityResult(data.Struct):
    """``failed``: an access was answered with an error, and nothing else counts. ``value`` is the CRC."""

    failed: 1
    value: 64
    aecs: AecsFields


class Utility(wiring.Component):
    """Do one operation at a time.

    CRC64 takes ``step`` bytes a cycle (see :class:`~rackgate.checksum.crc64.CRC64`), FILL and COPY 8, an AECS about 200
    cycles; each the memory's latency more. After an access that was answered with an error, they begin no other, but
    for the AECS.
    Reset forgets the operation; bursts under way must be reset with it.

    Parameters
    ----------
    step:
        Bytes a cycle of CRC64: 1, 2, 4 or 8.
    window:
        See :class:`~rackgate.iaa.aecsread.AecsReader`.

    Members
    -------
    i: operations. o: the result of each. lane: whose operation it is, from taking it to its result.
    busy: one is under way.
    ar, r, aw, w, b: AXI4 channels.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, step: int = 2, window: int = 32768):
        self.step = step
        self._aecs = AecsReader(window=window)
        self._crc = CRC64(step=step)
        self._reader = Reader(addr_width=ADDR_WIDTH, id_width=1)
        self._writer = Writer(addr_width=ADDR_WIDTH, id_width=1, contexts=1, fifo_depth=32)
        bus = AXI4Signature(addr_width=ADDR_WIDTH, id_width=1)
        super().__init__({
            "i": In(stream.Signature(UtilityJob)),
            "o": Out(stream.Signature(UtilityResult)),
            "lane": Out(3),
            "busy": Out(1),
            **{name: bus.members[name] for name in ("ar", "r", "aw", "w", "b")},
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc, m.submodules.reader, m.submodules.writer = crc, reader, writer = (
            self._crc, self._reader, self._writer)
        m.submodules.aecs = aecs = self._aecs
        for part, names in ((reader, ("ar", "r")), (writer, ("aw", "w", "b"))):
            for name in names:
                wiring.connect(m, getattr(part, name), wiring.flipped(getattr(self, name)))
        job, result, left = Signal(UtilityJob), self.o.payload, Signal(33)
        is_aecs, is_copy = job.operation == UtilityOperation.AECS, job.operation == UtilityOperation.COPY
        is_begun = Signal()
        m.d.comb += [
            self.lane.eq(job.lane),
            reader.i.payload.addr.eq(job.address),
            reader.i.payload.size.eq(job.size),
            writer.address[0].eq(Mux(is_copy, job.value, job.address)),
            crc.i_job.payload.polynomial.eq(job.value),
            crc.i_job.payload.invert.eq(job.invert), crc.i_job.payload.big_endian.eq(job.big_endian),
            aecs.i.payload.eq(reader.o.payload),
        ]
        self._words(m, crc, reader, job, left)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [job.eq(self.i.payload), left.eq(self.i.payload.size), result.eq(0), is_begun.eq(0)]
                with m.If(self.i.valid):
                    m.next = "READ"
                    with m.If(self.i.payload.operation == UtilityOperation.FILL):
                        m.next = "FILL"
            with m.State("READ"):
                m.d.comb += [reader.i.valid.eq(1), aecs.start.eq(1)]
                with m.If(reader.i.ready):
                    m.next = "CRC_JOB"
                    with m.If(is_aecs):
                        m.next = "AECS"
                    with m.Elif(is_copy):
                        m.next = "COPY"
            with m.State("AECS"):
                m.d.comb += [aecs.i.valid.eq(reader.o.valid), reader.o.ready.eq(aecs.i.ready)]
                with m.If(aecs.done):
                    m.d.sync += [result.aecs.eq(aecs.o), result.failed.eq(aecs.failed)]
                    m.next = "RESULT"
            with m.State("CRC_JOB"):
                m.d.comb += crc.i_job.valid.eq(1)
                with m.If(crc.i_job.ready):
                    m.next = "CRC"
            with m.State("CRC"):
                is_error = reader.o.valid & reader.o.payload.error
                m.d.comb += [crc.i.valid.eq(reader.o.valid & ~is_error), reader.o.ready.eq(crc.i.ready & ~is_error)]
                with m.If(is_error):
                    m.d.sync += result.failed.eq(1)
                    m.next = "STOP"
                with m.Elif(crc.i.valid & crc.i.ready & crc.i.payload.last):
                    m.next = "CRC_RESULT"
            with m.State("STOP"):  # nothing more is read, and the CRC ends without another byte
                m.d.comb += [
                    reader.cancel.eq(1), crc.i.valid.eq(1), crc.i.payload.count.eq(0), crc.i.payload.last.eq(1),
                ]
                with m.If(crc.i.ready):
                    m.next = "CRC_RESULT"
            with m.State("CRC_RESULT"):
                m.d.comb += crc.o.ready.eq(~reader.busy)
                with m.If(crc.o.valid & ~reader.busy):
                    m.d.sync += result.value.eq(crc.o.payload)
                    m.next = "RESULT"
            with m.State("FILL"):
                self._fill(m, writer, job, left, is_begun)
                with m.If(is_begun & (left == 0)):
                    m.next = "WRITTEN"
            with m.State("COPY"):
                self._copy(m, reader, writer, result, is_begun)
                with m.If(writer.i.valid & writer.i.ready & writer.i.payload.flush):
                    m.d.comb += reader.cancel.eq(1)
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If(writer.idle[0] & ~reader.busy):
                    m.d.sync += result.failed.eq(result.failed | writer.errors[0])
                    m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m

    def _copy(self, m, reader, writer, result, is_begun):
        """Give the writer what is read, a word at a time; after an error a flush, and nothing more."""
        word, piece, part = reader.o.payload, writer.i.payload, self._crc.i.payload
        is_error = word.error | writer.errors[0]
        m.d.comb += [
            writer.i.valid.eq(~is_begun | reader.o.valid),
            reader.o.ready.eq(is_begun & writer.i.ready),
            piece.begin.eq(~is_begun),
            piece.data.eq(word.data),
            piece.first.eq(part.first),
            piece.count.eq(Mux(is_begun & ~is_error, part.count, 0)),
            piece.flush.eq(is_begun & (word.last | is_error)),
        ]
        with m.If(writer.i.valid & writer.i.ready):
            m.d.sync += is_begun.eq(1)
            with m.If(is_begun & word.error):
                m.d.sync += result.failed.eq(1)

    def _words(self, m, crc, reader, job, left):
        """The reader's aligned words as those of the CRC: which bytes of each count."""
        word, first, count = crc.i.payload, Signal(3), Signal(4)
        is_first = Signal(init=1)
        m.d.comb += [
            first.eq(Mux(is_first, job.address[:3], 0)),
            count.eq(Mux(left < 8 - first, left, 8 - first)),
            word.data.eq(reader.o.payload.data), word.first.eq(first), word.count.eq(count),
            word.last.eq(reader.o.payload.last),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += is_first.eq(1)
        with m.Elif(Mux(job.operation == UtilityOperation.COPY, reader.o.valid & reader.o.ready,
                        crc.i.valid & crc.i.ready)):
            m.d.sync += [is_first.eq(0), left.eq(left - count)]

    def _fill(self, m, writer, job, left, is_begun):
        """Give the writer the pattern, a word at a time, the last one with a flush."""
        piece = writer.i.payload
        is_last = (left <= 8) | writer.errors[0]  # after an error nothing more is to be written
        m.d.comb += [
            writer.i.valid.eq(~is_begun | (left != 0)),
            piece.begin.eq(~is_begun),
            piece.data.eq(job.value),
            piece.count.eq(Mux(~is_begun, 0, Mux(left <= 8, left[:4], 8))),
            piece.flush.eq(is_begun & is_last),
        ]
        with m.If(writer.i.valid & writer.i.ready):
            m.d.sync += is_begun.eq(1)
            with m.If(is_begun):
                m.d.sync += left.eq(Mux(is_last, 0, left - 8))
