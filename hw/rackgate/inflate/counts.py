# SPDX-License-Identifier: Apache-2.0
"""How many codes there are of each length, while the code lengths come in."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.code import LENGTHS
from rackgate.inflate.logic import at_least, select
from rackgate.inflate.runs import CodeLength

__all__ = ["Counts", "LengthCounter"]


class Counts(data.Struct):
    """Codes of one length: all literal/length codes, those of match lengths among them, distance codes."""

    total: 9
    lengths: 5
    distances: 5


class LengthCounter(wiring.Component):
    """Counts symbols by code length, and ranks them.

    The counts are in a LUT RAM that ``clear`` takes 16 cycles to empty; symbols must not come before.
    Outputs are combinational. Reset does not clear the counts.

    Members
    -------
    clear:
        Begins anew.
    i:
        A symbol with its code length, in symbol order, distances after literals.
    rank:
        Literal/length symbols before ``i`` of the same code length.
    place:
        For a match length or a distance: symbols of that class before ``i`` that stand before it in code order
        too, that is, are not longer.
    length, counts:
        The counts of a length, while ``i`` is not valid.
    """

    clear: In(1)
    i: In(CodeLength)
    rank: Out(9)
    place: Out(5)
    length: In(4)
    counts: Out(Counts)

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Memory(shape=Counts, depth=16, init=[])
        read, write = ram.read_port(domain="comb"), ram.write_port()
        cleared, clearing = Signal(4), Signal()
        item = self.i
        is_length = Signal()
        m.d.comb += [
            is_length.eq(~item.distance & at_least(item.symbol, 257)),
            read.addr.eq(Mux(item.valid, item.length, self.length)),
            write.addr.eq(Mux(clearing, cleared, item.length)),
            write.en.eq(clearing | item.valid),
            self.counts.eq(read.data),
            self.rank.eq(read.data.total),
        ]
        with m.If(~clearing):
            m.d.comb += [
                write.data.total.eq(read.data.total + ~item.distance),
                write.data.lengths.eq(read.data.lengths + is_length),
                write.data.distances.eq(read.data.distances + item.distance),
            ]
        with m.If(self.clear):
            m.d.sync += [cleared.eq(0), clearing.eq(1)]
        with m.Elif(clearing):
            m.d.sync += [cleared.eq(cleared + 1), clearing.eq(cleared != 15),
                         Assert(~item.valid, "a code length before the counts are clear")]

        below = {length: Signal(5, name=f"below_{length}") for length in LENGTHS}  # not longer than that
        distances_begun, is_first = Signal(), Signal()
        m.d.comb += [
            is_first.eq(item.distance & ~distances_begun),
            self.place.eq(Mux(is_first, 0, select([0, *below.values()], item.length))),
        ]
        with m.If(item.valid & (item.distance | is_length)):
            m.d.sync += distances_begun.eq(item.distance)
            for length, count in below.items():
                m.d.sync += count.eq(Mux(is_first, 0, count) + ~at_least(item.length, length + 1))
        with m.If(self.clear):
            m.d.sync += [distances_begun.eq(0), *(count.eq(0) for count in below.values())]
        return m
