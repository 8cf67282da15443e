# SPDX-License-Identifier: Apache-2.0
"""How many packets each node may still be sent."""

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import COMMUNICATORS, NODES
from rackgate.collective.records import Credit, Opening

__all__ = ["Credits"]


class Credits(wiring.Component):
    """Credits that the peers have given this node, one count for each communicator and node.

    An opening sets the counts of its communicator, a node a cycle. Credits that come back are added, one record a
    cycle, in cycles in which none is looked for or taken. More than 255 of one peer cannot be: it fails an assertion,
    as taking one where there is none does.

    Members
    -------
    open:
        Openings; ready again after 16 cycles.
    add:
        Credits that came back. Those of a communicator that opens meanwhile wait.
    communicator, node, look:
        Whose count is looked at; strobe: it may be taken in the next cycle.
    available:
        There is one, in the same cycle.
    take:
        Take one of what was looked at in the cycle before.

    Reset: no credits. The counts, in LUT RAM, are cleared at the same pace, 128 cycles, during which nothing is ready
    and none is available.
    """

    open: stream.Interface
    add: stream.Interface

    def __init__(self):
        super().__init__({
            "open": In(stream.Signature(Opening)),
            "add": In(stream.Signature(Credit)),
            "communicator": In(range(COMMUNICATORS)),
            "node": In(range(NODES)),
            "look": In(1),
            "available": Out(1),
            "take": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=COMMUNICATORS * NODES, init=[])
        # Which counts are above 0, beside them: whether a move can go on must not wait for all bits of one.
        m.submodules.above = above = Memory(shape=1, depth=COMMUNICATORS * NODES, init=[])
        write, asked, added = memory.write_port(), memory.read_port(domain="comb"), memory.read_port(domain="comb")
        mark, is_above = above.write_port(), above.read_port(domain="comb")
        is_clear, place = Signal(), Signal(range(COMMUNICATORS * NODES))  # place: of the clearing, then of an opening
        opening = Signal(Opening)
        is_opening = Signal()
        total = Signal(9)
        found, found_at = Signal(8), Signal(range(COMMUNICATORS * NODES))  # a cycle ago, and where
        m.d.sync += [found.eq(asked.data), found_at.eq(asked.addr)]
        m.d.comb += [
            asked.addr.eq(Cat(self.node, self.communicator)), is_above.addr.eq(asked.addr),
            mark.addr.eq(write.addr), mark.en.eq(write.en),
            added.addr.eq(Cat(self.add.payload.node, self.add.payload.communicator)),
            total.eq(added.data + self.add.payload.count),
            self.available.eq(is_clear & is_above.data),
            self.open.ready.eq(is_clear & ~is_opening),
            self.add.ready.eq(is_clear & ~is_opening & ~self.look & ~self.take),
        ]
        with m.If(self.take):
            m.d.comb += [write.en.eq(1), write.addr.eq(found_at), write.data.eq(found - 1), mark.data.eq(found != 1)]
        with m.Elif(~is_clear | is_opening):
            m.d.comb += [write.en.eq(1), write.addr.eq(Cat(place[:4], opening.communicator)),
                         write.data.eq(opening.credits), mark.data.eq(opening.credits != 0)]
            m.d.sync += place.eq(place + 1)
            with m.If(~is_clear):
                m.d.comb += write.addr.eq(place)
                m.d.sync += is_clear.eq(place == COMMUNICATORS * NODES - 1)
            with m.Elif(place[:4] == NODES - 1):
                m.d.sync += is_opening.eq(0)
        with m.Elif(self.add.valid & self.add.ready):
            m.d.comb += [write.en.eq(1), write.addr.eq(added.addr), write.data.eq(total),
                         mark.data.eq((added.data != 0) | (self.add.payload.count != 0))]
            m.d.sync += Assert(total <= 255, "a peer has given more credits than can be")
        with m.If(self.open.valid & self.open.ready):
            m.d.sync += [opening.eq(self.open.payload), is_opening.eq(1), place.eq(0)]
        m.d.sync += [
            Assert(~self.take | is_clear & (found != 0), "a credit is taken where there is none"),
            Assert(~is_clear | (is_above.data == (asked.data != 0)), "a count and its mark differ"),
        ]
        return m
