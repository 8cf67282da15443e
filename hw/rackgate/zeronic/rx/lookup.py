# SPDX-License-Identifier: Apache-2.0
"""Frames, and what the tables say of them."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.records import FLOW_BITS, FlowUpdate, KeyUpdate, LookedUp, Verdict
from rackgate.zeronic.tables.flowstate import FlowState
from rackgate.zeronic.tables.flowtable import FlowTable

__all__ = ["Lookup", "fence_layout"]

#: A token that takes its place between frames (:class:`~rackgate.zeronic.messages.Fence`).
fence_layout = data.StructLayout({"ring": 1, "cookie": 16})

_SAME = ("position", "headers", "payload", "flags")


class Lookup(wiring.Component):
    """Find the flow of each frame, and what it must know of it; let fences in between frames.

    One a cycle, in order, latency 4 cycles. What is looked up after an update was taken sees it, so a fence that comes
    in after updates has before it all frames that have not seen them. A fence goes before a frame that waits at the
    same time.

    A frame without ``split`` belongs to no flow, and so does one whose key is not in the table; it has ring 0. The
    payload may be placed (``split``) if the flow is one that receives.

    After reset nothing is taken until the tables are clear (``ready``). ``i.ready`` depends combinationally on
    ``o.ready`` and on the ``valid`` of ``fence``, ``key`` and ``flow``. Reset forgets all.

    Parameters
    ----------
    flows:
        A power of two from 16 to 1,024.

    Members
    -------
    i:
        Frames (:class:`~rackgate.zeronic.records.Verdict`).
    fence:
        Fences (:data:`fence_layout`).
    o:
        Both (:class:`~rackgate.zeronic.records.LookedUp`).
    key, flow:
        Updates of the tables, taken when they are done.
    ready:
        The tables are clear.
    idle:
        Nothing is under way.
    """

    i: stream.Interface
    fence: stream.Interface
    o: stream.Interface
    key: stream.Interface
    flow: stream.Interface

    def __init__(self, flows: int = 256):
        asked = data.StructLayout({"is_fence": 1, "ring": 1, "cookie": 16, "frame": Verdict})
        found = data.StructLayout({"asked": asked, "has_flow": 1, "flow": FLOW_BITS})
        self._table, self._state = FlowTable(flows, carried=asked), FlowState(flows, carried=found)
        self.flows = self._table.flows
        super().__init__({
            "i": In(stream.Signature(Verdict)),
            "fence": In(stream.Signature(fence_layout)),
            "o": Out(stream.Signature(LookedUp)),
            "key": In(stream.Signature(KeyUpdate)),
            "flow": In(stream.Signature(FlowUpdate)),
            "ready": Out(1),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table, m.submodules.state = table, state = self._table, self._state
        wiring.connect(m, wiring.flipped(self.key), table.update)
        wiring.connect(m, wiring.flipped(self.flow), state.update)
        asked, passed, found = table.i.payload.carried, table.o.payload.carried, state.i.payload.carried
        m.d.comb += [
            table.i.valid.eq(self.i.valid | self.fence.valid),
            self.fence.ready.eq(table.i.ready),
            self.i.ready.eq(table.i.ready & ~self.fence.valid),
            table.i.payload.key.eq(self.i.payload.key),
            asked.is_fence.eq(self.fence.valid),
            asked.ring.eq(self.fence.payload.ring),
            asked.cookie.eq(self.fence.payload.cookie),
            asked.frame.eq(self.i.payload),
            state.i.valid.eq(table.o.valid),
            table.o.ready.eq(state.i.ready),
            state.i.payload.flow.eq(table.o.payload.flow),
            found.asked.eq(passed),
            found.flow.eq(table.o.payload.flow),
            found.has_flow.eq(passed.frame.split & table.o.payload.hit),
            self.ready.eq(table.ready & state.ready),
            self.idle.eq(table.idle & state.idle),
        ]
        self._join(m)
        return m

    def _join(self, m):
        known, found, out = self._state.o.payload, self._state.o.payload.carried, self.o.payload
        verdict, frame = found.asked.frame, self.o.payload.frame
        m.d.comb += [
            self.o.valid.eq(self._state.o.valid),
            self._state.o.ready.eq(self.o.ready),
            out.is_fence.eq(found.asked.is_fence),
            out.ring.eq(found.asked.ring),
            out.cookie.eq(found.asked.cookie),
            *(getattr(frame, name).eq(getattr(verdict, name)) for name in _SAME),
            frame.checked.eq(verdict.split),
            frame.has_flow.eq(found.has_flow),
            frame.split.eq(found.has_flow & known.receive),
            frame.flow.eq(found.flow),
            frame.ring.eq(found.has_flow & known.ring),
            frame.coalesce.eq(known.coalesce),
            frame.cursor.eq(known.cursor),
        ]
