# SPDX-License-Identifier: Apache-2.0
"""The echo device: registers, and a copier of memory."""

import operator

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4LiteSignature, AXI4Signature
from rackgate.csr.bank import Bank
from rackgate.dma.reader import Reader
from rackgate.dma.writer import Writer
from rackgate.echo.abi import REGISTERS, WORD_BYTES, Cause

__all__ = ["Echo"]

_ADDR_WIDTH = 40
_ID_WIDTH = 1


class Echo(wiring.Component):
    """Copy ranges of memory, a word a cycle: a system to bring up a board, its link and its memory with.

    What software sees is described in :mod:`rackgate.echo.abi`. A copy of n words takes n cycles and some tens more,
    if the memory keeps up. All of a range is read in order and written in order; where they overlap, what is read of
    the overlap may be old or new. The interrupt comes after the memory has answered the last write.

    Parameters
    ----------
    build:
        What the BUILD registers say, 64 bits.

    Members
    -------
    csr: AXI4-Lite target. mem: AXI4 initiator. irq: level interrupt.

    Reset forgets the copy; bursts under way must be reset with it.
    """

    def __init__(self, *, build: int = 0):
        self.build = operator.index(build)
        if not 0 <= self.build < 1 << 64:
            raise ValueError(f"build must fit 64 bits, not {build:#x}")
        super().__init__({
            "csr": In(AXI4LiteSignature()),
            "mem": Out(AXI4Signature(addr_width=_ADDR_WIDTH, id_width=_ID_WIDTH)),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = Bank(REGISTERS, values={
            "BUILD_LO": self.build & 0xFFFFFFFF, "BUILD_HI": self.build >> 32})
        m.submodules.reader = reader = Reader(addr_width=_ADDR_WIDTH, id_width=_ID_WIDTH, fifo_depth=32)
        m.submodules.writer = writer = Writer(addr_width=_ADDR_WIDTH, id_width=_ID_WIDTH, contexts=1, fifo_depth=32)
        wiring.connect(m, wiring.flipped(self.csr), bank.bus)
        for part, channels in ((reader, ("ar", "r")), (writer, ("aw", "w", "b"))):
            for name in channels:
                wiring.connect(m, getattr(part, name), wiring.flipped(getattr(self.mem, name)))
        source, destination = (Cat(getattr(bank, f"{end}_lo"), getattr(bank, f"{end}_hi"))
                               for end in ("source", "destination"))
        is_busy, causes, is_right = Signal(), Signal(3), Signal()
        m.d.comb += [
            is_right.eq((((source | destination | bank.size) & WORD_BYTES - 1) == 0)
                        & ~(source | destination)[_ADDR_WIDTH:].any()),
            reader.i.payload.addr.eq(source), reader.i.payload.size.eq(bank.size),
            writer.address[0].eq(destination),
            bank.status.eq(is_busy), bank.irq_status_set.eq(causes),
        ]
        m.d.sync += self.irq.eq((bank.irq_status & bank.irq_enable).any())
        self._copy(m, bank, reader, writer, is_right, is_busy, causes)
        self._count(m, bank, is_busy, causes[0])
        return m

    def _copy(self, m, bank, reader, writer, is_right, is_busy, causes):
        """Begin both ends, pass the words, and wait for the last answer."""
        is_faulty, word, piece = Signal(), reader.o.payload, writer.i.payload
        with m.FSM():
            with m.State("IDLE"):
                with m.If(bank.start_written):
                    m.d.sync += is_faulty.eq(0)
                    m.next = "BEGIN"
                    with m.If(~is_right):
                        m.d.comb += causes.eq(Cause.REFUSED.value)
                        m.next = "IDLE"
            with m.State("BEGIN"):
                m.d.comb += [is_busy.eq(1), piece.begin.eq(1), writer.i.valid.eq(1)]
                with m.If(writer.i.ready):
                    m.next = "COPY"
                    with m.If(bank.size == 0):
                        m.next = "DRAIN"
            with m.State("COPY"):
                # Taken by the reader once: it is not ready again before the last word has left it.
                m.d.comb += [
                    is_busy.eq(1),
                    writer.i.valid.eq(reader.o.valid), reader.o.ready.eq(writer.i.ready),
                    piece.data.eq(word.data ^ bank.change.replicate(2)),
                    piece.count.eq(WORD_BYTES), piece.flush.eq(word.last),
                ]
                with m.If(reader.o.valid & reader.o.ready):
                    m.d.sync += is_faulty.eq(is_faulty | word.error)
                    with m.If(word.last):
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += is_busy.eq(1)
                with m.If(writer.idle[0] & ~reader.busy):
                    m.d.comb += causes.eq(Cause.DONE.value)
                    with m.If(is_faulty | writer.errors[0]):
                        m.d.comb += causes.eq((Cause.DONE | Cause.FAULT).value)
                    m.next = "IDLE"
        with m.If(is_busy & piece.begin & writer.i.valid & writer.i.ready):
            m.d.comb += reader.i.valid.eq(1)
            m.d.sync += Assert(reader.i.ready, "the reader is not ready for a copy")

    def _count(self, m, bank, is_busy, is_done):
        now, high, copies, busy = Signal(64), Signal(32), Signal(32), Signal(32)
        m.d.comb += [bank.cycles_lo.eq(now[:32]), bank.cycles_hi.eq(high), bank.copies.eq(copies),
                     bank.busy_cycles.eq(busy)]
        m.d.sync += [now.eq(now + 1), busy.eq(busy + is_busy), copies.eq(copies + is_done)]
        with m.If(bank.cycles_lo_read):
            m.d.sync += high.eq(now[32:])
