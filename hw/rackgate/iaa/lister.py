# SPDX-License-Identifier: Apache-2.0
"""From a LIST to its descriptors."""

import operator

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.dma.reader import Reader
from rackgate.iaa.abi import DESCRIPTOR_SIZE
from rackgate.iaa.work import Space, Work
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["ListJob", "ListResult", "Lister"]

_WORDS = DESCRIPTOR_SIZE // 8


class ListJob(data.Struct):
    """An array of descriptors, ``size`` bytes at ``address``, in the space and with the limit of the LIST."""

    address: ADDR_WIDTH
    size: 32
    space: Space
    max_transfer_shift: 5


class ListResult(data.Struct):
    """``count`` descriptors were carried out, ``member_failed`` if one of them had another status than SUCCESS.

    ``failed``: those behind them could not be read.
    """

    count: 26
    member_failed: 1
    failed: 1


class Lister(wiring.Component):
    """Read the descriptors of a list, hand them out, and wait until all have retired.

    Descriptors follow each other at least 9 cycles apart. Reset forgets the list; reads under way must be
    reset with it.

    Parameters
    ----------
    lanes:
        Lanes that may retire a descriptor in the same cycle.

    Members
    -------
    i: lists. o: their descriptors. o_result: how a list went.
    retired, succeeded: bit per lane, strobes: done with one of the list's descriptors; it had SUCCESS.
    space: of the list under way.
    ar, r: AXI4 read channels.
    """

    i: stream.Interface
    o: stream.Interface
    o_result: stream.Interface

    def __init__(self, *, lanes: int):
        self.lanes = operator.index(lanes)
        if self.lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        self._reader = Reader(addr_width=ADDR_WIDTH, id_width=1, fifo_depth=32, burst=_WORDS, outstanding=2)
        bus = AXI4Signature(addr_width=ADDR_WIDTH, id_width=1)
        super().__init__({
            "i": In(stream.Signature(ListJob)),
            "o": Out(stream.Signature(Work)),
            "o_result": Out(stream.Signature(ListResult)),
            "retired": In(self.lanes), "succeeded": In(self.lanes),
            "space": Out(Space),
            "ar": bus.members["ar"], "r": bus.members["r"],
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = self._reader
        for name in ("ar", "r"):
            wiring.connect(m, getattr(reader, name), wiring.flipped(getattr(self, name)))
        job, words, number = Signal(ListJob), Signal(8 * DESCRIPTOR_SIZE), Signal(range(_WORDS))
        pending, result, work, is_end = Signal(range(self.lanes + 1)), self.o_result.payload, self.o.payload, Signal()
        is_handed = self.o.valid & self.o.ready
        m.d.comb += [
            reader.i.payload.addr.eq(job.address), reader.i.payload.size.eq(job.size),
            work.descriptor.eq(words), work.space.eq(job.space), work.listed.eq(1),
            work.max_transfer_shift.eq(job.max_transfer_shift),
            self.space.eq(job.space),
        ]
        m.d.sync += [
            pending.eq(pending + is_handed - sum(self.retired[k] for k in range(self.lanes))),
            Assert(~self.retired.any() | (pending != 0), "a descriptor retires that was not handed out"),
        ]
        with m.If((self.retired & ~self.succeeded).any()):
            m.d.sync += result.member_failed.eq(1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [job.eq(self.i.payload), number.eq(0)]
                with m.If(self.i.valid):
                    m.d.sync += result.eq(0)
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += reader.i.valid.eq(1)
                with m.If(reader.i.ready):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += reader.o.ready.eq(1)
                with m.If(reader.o.valid):
                    m.d.sync += [words.eq(Cat(words[64:], reader.o.payload.data)), number.eq(number + 1),
                                 is_end.eq(reader.o.payload.last)]
                    with m.If(reader.o.payload.error):
                        m.d.sync += result.failed.eq(1)
                    with m.If(number == _WORDS - 1):
                        m.next = "HAND"
            with m.State("HAND"):
                m.d.comb += self.o.valid.eq(~result.failed)
                with m.If(result.failed | self.o.ready):
                    m.next = "READ"
                    with m.If(is_end):
                        m.next = "WAIT"
                with m.If(is_handed):
                    m.d.sync += result.count.eq(result.count + 1)
            with m.State("WAIT"):
                with m.If(pending == 0):
                    m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += self.o_result.valid.eq(1)
                with m.If(self.o_result.ready):
                    m.next = "IDLE"
        return m
