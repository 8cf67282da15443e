# SPDX-License-Identifier: Apache-2.0
"""What the engine knows of its communicators."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import COMMUNICATORS, NODES
from rackgate.collective.records import Opening

__all__ = ["Communicators", "Membership"]

#: Words of a communicator's configuration: size and rank, credits, nodes from NODES on.
_MEMBERSHIP, _CREDITS = 0, 1


class Membership(data.Struct):
    """How many ranks there are, and which one this node is."""

    size: 5
    rank: 4


class Communicators(wiring.Component):
    """Keep the communicators that the host has written, as :class:`~rackgate.collective.abi.ConfigSpace` says.

    Writing a communicator's first word closes it. Writing its credits opens it, if its size is 1 to 16, its rank
    smaller, and it is valid: everyone is told by ``open``, and in the cycle after that was taken ``is_open`` is
    high, ``is_broken`` low, and its collectives are numbered from 1 on. Lookups are combinational. Reset closes all;
    the nodes stay in memory.

    Members
    -------
    address, value, write:
        A word, address relative to the first communicator's.
    open:
        Communicators that open.
    is_opening:
        One opens, or waits for its turn.
    is_open, is_broken:
        Bit per communicator.
    break_:
        Communicators in which a call has failed; they are broken from the next cycle on.
    communicator, membership, operation:
        Of a communicator; ``operation``: number of its next collective, 1 to 65535, and then 1 again.
    count:
        A collective of ``communicator`` begins.
    node_communicator, rank, node:
        Node of a rank.
    """

    open: stream.Interface

    def __init__(self):
        communicator = range(COMMUNICATORS)
        super().__init__({
            "address": In(8), "value": In(32), "write": In(1),
            "open": Out(stream.Signature(Opening)),
            "is_opening": Out(1),
            "is_open": Out(COMMUNICATORS), "is_broken": Out(COMMUNICATORS), "break_": In(COMMUNICATORS),
            "communicator": In(communicator), "membership": Out(Membership), "operation": Out(16), "count": In(1),
            "node_communicator": In(communicator), "rank": In(range(NODES)), "node": Out(range(NODES)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memberships = memberships = Memory(shape=Membership, depth=COMMUNICATORS, init=[])
        m.submodules.nodes = nodes = Memory(shape=4, depth=COMMUNICATORS * NODES, init=[])
        word, number, written = self.address[:5], self.address[5:], Signal(Membership)
        is_membership = self.write & (word == _MEMBERSHIP)
        write, read = memberships.write_port(), memberships.read_port(domain="comb")
        m.d.comb += [
            written.size.eq(self.value[:5]), written.rank.eq(self.value[8:12]),
            write.addr.eq(number), write.data.eq(written), write.en.eq(is_membership),
            read.addr.eq(self.communicator), self.membership.eq(read.data),
        ]
        write, read = nodes.write_port(), nodes.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(Cat(word[:4], number)), write.data.eq(self.value), write.en.eq(self.write & word[4]),
            read.addr.eq(Cat(self.rank, self.node_communicator)), self.node.eq(read.data),
        ]
        is_good = ((written.size != 0) & (written.size <= NODES) & (written.rank < written.size) & self.value[31])
        self._open(m, word, number, is_membership, is_good)
        self._number(m)
        return m

    def _open(self, m, word, number, is_membership, is_good):
        """One communicator opens after the other; those whose credits were written meanwhile wait."""
        m.submodules.credits = credits = Memory(shape=16, depth=COMMUNICATORS, init=[])
        write, read = credits.write_port(), credits.read_port(domain="comb")
        is_credits, waits, is_valid = self.write & (word == _CREDITS), Signal(COMMUNICATORS), Signal(COMMUNICATORS)
        first, still_opens = Signal(range(COMMUNICATORS)), Signal()  # not when its first word was written meanwhile
        m.d.comb += [write.addr.eq(number), write.data.eq(self.value), write.en.eq(is_credits), read.addr.eq(first)]
        for k in reversed(range(COMMUNICATORS)):
            with m.If(waits[k]):
                m.d.comb += first.eq(k)
        m.d.comb += self.is_opening.eq(self.open.valid | waits.any())
        m.d.sync += self.is_broken.eq(self.is_broken | self.break_)
        with m.If(~self.open.valid & waits.any()):
            m.d.sync += [
                waits.bit_select(first, 1).eq(0), self.open.valid.eq(is_valid.bit_select(first, 1)),
                self.open.payload.communicator.eq(first), self.open.payload.credits.eq(read.data[:8]),
                self.open.payload.eager.eq(read.data[8:]), still_opens.eq(1),
            ]
        with m.If(self.open.valid & self.open.ready):
            opened = self.open.payload.communicator
            m.d.sync += [self.open.valid.eq(0), self.is_broken.bit_select(opened, 1).eq(0)]
            with m.If(still_opens):
                m.d.sync += self.is_open.bit_select(opened, 1).eq(1)
        with m.If(is_credits):
            m.d.sync += waits.bit_select(number, 1).eq(1)
        with m.If(is_membership):
            m.d.sync += [is_valid.bit_select(number, 1).eq(is_good), self.is_open.bit_select(number, 1).eq(0),
                         waits.bit_select(number, 1).eq(0)]
            with m.If((number == first) | (number == self.open.payload.communicator)):
                m.d.sync += still_opens.eq(0)

    def _number(self, m):
        """The memory has the number of the last collective; it counts once there has been one."""
        m.submodules.operations = operations = Memory(shape=16, depth=COMMUNICATORS, init=[])
        read, write = operations.read_port(domain="comb"), operations.write_port()
        has_counted = Signal(COMMUNICATORS)
        counts = has_counted.bit_select(self.communicator, 1) & ~read.data.all()
        m.d.comb += [
            read.addr.eq(self.communicator), self.operation.eq(Mux(counts, read.data, 0) + 1),
            write.addr.eq(self.communicator), write.data.eq(self.operation), write.en.eq(self.count),
        ]
        with m.If(self.count):
            m.d.sync += has_counted.bit_select(self.communicator, 1).eq(1)
        with m.If(self.open.valid & self.open.ready):
            m.d.sync += has_counted.bit_select(self.open.payload.communicator, 1).eq(0)
