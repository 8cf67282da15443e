# SPDX-License-Identifier: Apache-2.0
"""What frames must know of their flows."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collisions import ATTRIBUTE
from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.messages import FlowFlag
from rackgate.zeronic.records import FLOW_BITS, FlowUpdate
from rackgate.zeronic.tables.flowtable import check_flows

__all__ = ["FlowState"]

#: What is kept of the flags of a flow, and where it is in them.
_FLAGS = {"receive": FlowFlag.RECEIVE, "ring": FlowFlag.RING_1, "coalesce": FlowFlag.COALESCE}


class FlowState(wiring.Component):
    """Keep each flow's flags and cursor.

    A lookup a cycle, in order, latency 2 cycles. An update takes 4 cycles, and its last keeps lookups off; a lookup
    taken after it sees it. A cursor only goes forward, unless the flow begins.

    After reset all flows are cleared, one a cycle: no flags, cursor 0; until then (``ready``) nothing is taken.
    ``i.ready`` depends on no input.

    Parameters
    ----------
    flows:
        A power of two from 16 to 1,024.
    carried:
        Shape of what goes with a lookup.

    Members
    -------
    i:
        ``flow``, and what is ``carried`` with it.
    o:
        ``receive``, ``ring``, ``coalesce``: the flow's flags (:class:`~rackgate.zeronic.messages.FlowFlag`), and its
        ``cursor``.
    update:
        Flows that begin, and cursors (:class:`~rackgate.zeronic.records.FlowUpdate`). Higher bits of ``flow`` than
        there are flows do not count.
    ready:
        All flows have been cleared.
    idle:
        No lookup is under way.
    """

    i: stream.Interface
    o: stream.Interface
    update: stream.Interface

    def __init__(self, flows: int = 256, *, carried=1):
        self.flows, self.carried = check_flows(flows), carried
        state = {**dict.fromkeys(_FLAGS, 1), "cursor": 32}
        self._row = data.StructLayout(state)
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"flow": FLOW_BITS, "carried": carried}))),
            "o": Out(stream.Signature(data.StructLayout({**state, "carried": carried}))),
            "update": In(stream.Signature(FlowUpdate)),
            "ready": Out(1),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # No lookup is taken while there is a write, and what is read for an update counts before its own.
        m.submodules.memory = memory = Memory(shape=self._row, depth=self.flows, init=[], attrs={ATTRIBUTE: 1})
        uncleared = Signal(range(self.flows), init=self.flows - 1)
        writes, port = Signal(), memory.write_port()
        with m.If(~self.ready):
            m.d.comb += [port.en.eq(1), port.addr.eq(uncleared)]
            m.d.sync += [uncleared.eq(uncleared - 1), self.ready.eq(uncleared == 0)]
        with m.Else():
            self._update(m, port, memory.read_port(), writes)
        self._look(m, memory.read_port(), writes)
        return m

    def _look(self, m, port, writes):
        # Behind it stands all that a frame waits for: that must not reach back to the front.
        m.submodules.known = known = SkidBuffer(self.o.payload.shape())
        wiring.connect(m, known.o, wiring.flipped(self.o))
        moves, is_there, carried = known.i.ready, Signal(), Signal.like(self.i.payload.carried)
        m.d.comb += [
            self.i.ready.eq(self.ready & moves & ~writes),
            self.idle.eq(~is_there & ~self.o.valid),
            known.i.valid.eq(is_there), known.i.payload.carried.eq(carried),
            *(known.i.payload[name].eq(port.data[name]) for name in (*_FLAGS, "cursor")),
            port.addr.eq(self.i.payload.flow),
            port.en.eq(self.i.ready),
        ]
        with m.If(moves):
            m.d.sync += [
                is_there.eq(self.i.valid & self.i.ready),
                carried.eq(self.i.payload.carried),
            ]

    def _update(self, m, port, old, writes):
        """Read what is there, compare, write."""
        update, known, is_behind = self.update.payload, Signal(self._row), Signal()
        m.d.comb += [
            old.addr.eq(update.flow),
            port.addr.eq(update.flow),
            port.en.eq(writes & (update.begin | ~is_behind)),
            self.update.ready.eq(writes),
        ]
        m.d.sync += [known.eq(old.data), is_behind.eq((update.cursor - known.cursor)[31])]
        with m.FSM():
            with m.State("READ"):
                with m.If(self.update.valid):
                    m.next = "KEEP"
            with m.State("KEEP"):
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += writes.eq(1)
                m.next = "READ"
        m.d.comb += [
            port.data.cursor.eq(update.cursor),
            *(port.data[name].eq(Mux(update.begin, update.flags[flag.bit_length() - 1], known[name]))
              for name, flag in _FLAGS.items()),
        ]
