# SPDX-License-Identifier: Apache-2.0
"""The fields of each context's next move."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CONTEXTS, NODES
from rackgate.collective.isa import REGISTER_BITS, Field
from rackgate.collective.records import ADDRESS_BITS

__all__ = ["Latch", "LatchFields", "Peer"]


class Peer(data.Struct):
    """A rank, as far as moves want to know it: its node, whether there is none, and whether it means any."""

    node: 4
    is_bad: 1
    is_any: 1


class LatchFields(data.Struct):
    """:class:`~rackgate.collective.isa.Field`. ``is_illegal``: ``control`` has an operand that does not exist."""

    control: 9
    is_illegal: 1
    count: 32
    local: ADDRESS_BITS
    other: ADDRESS_BITS
    result: ADDRESS_BITS
    source: Peer
    destination: Peer
    tag: 32


class Latch(wiring.Component):
    """Keep the fields of the next move of each context; ranks as nodes.

    Reset does nothing: a call's fields are cleared when it begins.

    Members
    -------
    write, context, field, value:
        Write a field; it can be read from the next cycle on.
    clear:
        With ``write``: set all fields of the context to 0, which is ``value``.
    size:
        Of the context's communicator.
    rank, node:
        Lookup of a rank's node in it.
    read, fields:
        All fields of a context, combinationally.
    """

    write: In(1)
    clear: In(1)
    context: In(range(CONTEXTS))
    field: In(range(len(Field)))
    value: In(REGISTER_BITS)
    size: In(5)
    rank: Out(range(NODES))
    node: In(range(NODES))
    read: In(range(CONTEXTS))
    fields: Out(LatchFields)

    def elaborate(self, platform):
        m = Module()
        value, peer, is_illegal = self.value, Signal(Peer), Signal()
        m.d.comb += [
            self.rank.eq(value),
            peer.node.eq(self.node), peer.is_bad.eq(value >= self.size), peer.is_any.eq(value[:32].all()),
            is_illegal.eq(value[0:2].all() | value[2:4].all() | value[4:6].all()),
        ]
        for field, written, read in (
            (Field.CONTROL, Cat(value[:9], is_illegal), Cat(self.fields.control, self.fields.is_illegal)),
            (Field.COUNT, value, self.fields.count), (Field.TAG, value, self.fields.tag),
            (Field.LOCAL, value, self.fields.local), (Field.OTHER, value, self.fields.other),
            (Field.RESULT, value, self.fields.result),
            (Field.SOURCE, peer, self.fields.source.as_value()),
            (Field.DESTINATION, peer, self.fields.destination.as_value()),
        ):
            m.submodules[field.name.lower()] = memory = Memory(shape=len(read), depth=CONTEXTS, init=[])
            port, out = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [
                port.addr.eq(self.context), port.data.eq(written),
                port.en.eq(self.write & (self.clear | (self.field == field))),
                out.addr.eq(self.read), read.eq(out.data),
            ]
        return m
