# SPDX-License-Identifier: Apache-2.0
"""Which flow a frame belongs to."""

import operator

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.collisions import ATTRIBUTE
from rackgate.zeronic.abi import HASH_FOLD, HASH_TURNS, WAYS
from rackgate.zeronic.records import FLOW_BITS, FlowKey, KeyUpdate

__all__ = ["FlowTable", "check_flows", "hash_of"]

#: Bits of a key that are compared in one step: two levels of LUTs behind the RAM.
_CHUNK = 8


def check_flows(flows: int) -> int:
    """``flows`` if a NIC may have so many, else ValueError; TypeError if it is no integer."""
    if operator.index(flows) not in [1 << n for n in range(4, FLOW_BITS + 1)]:
        raise ValueError(f"flows must be a power of two from 16 to {1 << FLOW_BITS}, not {flows}")
    return operator.index(flows)


def hash_of(key) -> Value:
    """:func:`~rackgate.zeronic.abi.flow_hash` of a :class:`~rackgate.zeronic.records.FlowKey`, in gates."""
    halves = (key.source[16:], key.source[:16], key.destination[16:], key.destination[:16], key.source_port,
              key.destination_port)
    value = Value.cast(key.profile)
    for turn, half in zip(HASH_TURNS, halves, strict=True):
        value = value ^ half.rotate_left(turn)
    return value ^ value[HASH_FOLD:]


class FlowTable(wiring.Component):
    """Find keys: a set-associative table of twice as many places as there are flows, 4 in a set.

    A lookup a cycle, in order, latency 2 cycles. An update goes before a lookup that waits at the same time; a lookup
    taken after it sees it. The host writes each key to the set of its hash, and once: of two equal keys in a set the
    one of the lower way is found, and one in another set is not.

    After reset the places are cleared, a set a cycle; until then (``ready``) nothing is taken. ``i.ready`` depends
    combinationally on ``o.ready`` and ``update.valid``.

    Parameters
    ----------
    flows:
        A power of two from 16 to 1,024.
    carried:
        Shape of what goes with a lookup.

    Members
    -------
    i:
        ``key``, and what is ``carried`` with it.
    o:
        ``hit``: there is such a key, and it is ``flow``'s. Without it ``flow`` means nothing.
    update:
        Places to write (:class:`~rackgate.zeronic.records.KeyUpdate`). Higher bits of ``place`` and ``flow`` than the
        table has do not count.
    ready:
        The table has been cleared.
    idle:
        No lookup is under way.
    """

    i: stream.Interface
    o: stream.Interface
    update: stream.Interface

    def __init__(self, flows: int = 256, *, carried=1):
        self.flows, self.carried = check_flows(flows), carried
        self.sets = 2 * self.flows // WAYS
        self._row = data.StructLayout({"valid": 1, "flow": range(self.flows), "key": FlowKey})
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"key": FlowKey, "carried": carried}))),
            "o": Out(stream.Signature(data.StructLayout({"hit": 1, "flow": FLOW_BITS, "carried": carried}))),
            "update": In(stream.Signature(KeyUpdate)),
            "ready": Out(1),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        moves, is_there, asked = Signal(), Signal(), Signal.like(self.i.payload)
        uncleared = Signal(range(self.sets), init=self.sets - 1)
        hashed, written = Signal(16), self.update.payload
        set_bits = exact_log2(self.sets)
        m.d.comb += [
            hashed.eq(hash_of(self.i.payload.key)),
            self.idle.eq(~is_there & ~self.o.valid),
            moves.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(self.ready & moves & ~self.update.valid),
            self.update.ready.eq(self.ready),
        ]
        with m.If(~self.ready):
            m.d.sync += [uncleared.eq(uncleared - 1), self.ready.eq(uncleared == 0)]
        with m.If(moves):
            m.d.sync += [
                is_there.eq(self.i.valid & self.i.ready),
                asked.eq(self.i.payload),
                self.o.valid.eq(is_there),
                self.o.payload.carried.eq(asked.carried),
            ]
        hits, flows = Signal(WAYS), []
        for way in range(WAYS):
            # No lookup is taken while there is a write.
            memory = Memory(shape=self._row, depth=self.sets, init=[], attrs={ATTRIBUTE: 1})
            m.submodules[f"way_{way}"] = memory
            r_port, w_port = memory.read_port(), memory.write_port()
            m.d.comb += [
                r_port.addr.eq(hashed[:set_bits]),
                r_port.en.eq(self.i.ready),
                w_port.addr.eq(Mux(self.ready, written.place[2:], uncleared)),
                w_port.en.eq(~self.ready | self.update.valid & (written.place[:2] == way)),
                w_port.data.valid.eq(self.ready & written.valid),
                w_port.data.flow.eq(written.flow),
                w_port.data.key.eq(written.key),
            ]
            # Two steps: parts of keys are compared in the cycle in which the memory gives them, the next puts these
            # together.
            row, mine, wanted = r_port.data, Value.cast(r_port.data.key), Value.cast(asked.key)
            parts = [mine[at:at + _CHUNK] == wanted[at:at + _CHUNK] for at in range(0, len(mine), _CHUNK)]
            equals, flow = Signal(len(parts) + 1, name=f"equals_{way}"), Signal(range(self.flows), name=f"flow_{way}")
            with m.If(moves):
                m.d.sync += [equals.eq(Cat(row.valid, *parts)), flow.eq(row.flow)]
            m.d.comb += hits[way].eq(equals.all())
            flows.append(flow)
        m.d.comb += [self.o.payload.hit.eq(hits.any()), self.o.payload.flow.eq(flows[-1])]
        for way in reversed(range(WAYS - 1)):
            with m.If(hits[way]):
                m.d.comb += self.o.payload.flow.eq(flows[way])
        return m
