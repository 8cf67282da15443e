# SPDX-License-Identifier: Apache-2.0
"""Walk the translation tables in memory."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature, Burst, Response
from rackgate.iaa.tlb import PAGE_WIDTH
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["TableEntry", "WALK_BUS", "Walk", "Walked", "Walker"]

#: The port that the tables are read through.
WALK_BUS = AXI4Signature(addr_width=ADDR_WIDTH, id_width=1)


class Walk(data.Struct):
    """What is asked: a page, in the address space whose level-4 table is the frame ``table``."""

    table: PAGE_WIDTH
    page: PAGE_WIDTH


class Walked(data.Struct):
    """The answer: no page, or its frame; ``writable`` if every level says so."""

    present: 1
    writable: 1
    frame: PAGE_WIDTH


class TableEntry(data.Struct):
    """An entry of the tables, from bit 0 on (Intel SDM 3A 4.5, ``abi.PageTableEntry``)."""

    present: 1
    writable: 1
    other: 5
    large: 1
    ignored: 4
    frame: PAGE_WIDTH
    beyond: 52 - ADDR_WIDTH  # of the frame's address: memory has no such
    upper: 12


class Walker(wiring.Component):
    """Walk x86-64's 4-level tables, one walk at a time.

    Each level is a read of 8 bytes; a walk takes their latencies and 2 cycles a level, and 2 more. Pages of 2 MiB
    end at the third level. Not present is also what the bus answers with an error, what lies beyond the
    memory's addresses, and what has the large bit where it does not map 2 MiB (pages of 1 GiB are not known).

    Reset forgets the walk; a read under way must be reset with it.

    Members
    -------
    i, o: walks and answers. ar, r: AXI4 read channels; ``r.ready`` is high while a read is under way.
    """

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(Walk)),
            "o": Out(stream.Signature(Walked)),
            "ar": WALK_BUS.members["ar"],
            "r": WALK_BUS.members["r"],
        })

    def elaborate(self, platform):
        m = Module()
        left = Signal(PAGE_WIDTH)  # the page's bits of the levels to come, the next level's 9 on top
        page, level = Signal(PAGE_WIDTH), Signal(range(1, 5))
        entry, is_error = Signal(TableEntry), Signal()
        answer = self.o.payload  # ``frame`` is the table's on the way
        m.d.comb += [
            self.ar.payload.addr.eq(Cat(Signal(3), left[-9:], answer.frame)),
            self.ar.payload.size.eq(3),
            self.ar.payload.burst.eq(Burst.INCR),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    left.eq(self.i.payload.page),
                    page.eq(self.i.payload.page),
                    level.eq(4),
                    answer.frame.eq(self.i.payload.table),
                    answer.writable.eq(1),
                ]
                with m.If(self.i.valid):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += self.ar.valid.eq(1)
                with m.If(self.ar.ready):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.r.ready.eq(1)
                m.d.sync += [
                    entry.eq(self.r.payload.data),
                    is_error.eq((self.r.payload.resp == Response.SLVERR) | (self.r.payload.resp == Response.DECERR)),
                    Assert(~self.r.valid | self.r.payload.last, "a read of one beat has more"),
                ]
                with m.If(self.r.valid):
                    m.next = "LOOK"
            with m.State("LOOK"):
                is_good, is_large, is_end = Signal(), Signal(), Signal()
                m.d.comb += [
                    is_large.eq(entry.large & (level == 2)),
                    is_good.eq(entry.present & ~is_error & (entry.beyond == 0) & ~(entry.large & (level > 2))),
                    is_end.eq(~is_good | is_large | (level == 1)),
                ]
                m.d.sync += [
                    answer.present.eq(is_good),
                    answer.writable.eq(answer.writable & entry.writable),
                    answer.frame.eq(entry.frame),
                    level.eq(level - 1),
                    left.eq(left << 9),
                ]
                # A large page's frame takes the page's bits of the level that is left out.
                m.d.sync += answer.frame[:9].eq(Mux(is_large, page[:9], entry.frame[:9]))
                m.next = "ASK"
                with m.If(is_end):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
