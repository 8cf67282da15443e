# SPDX-License-Identifier: Apache-2.0
"""The gateware of a pipeline, from header vector to header vectors."""

from functools import reduce
from operator import or_

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.hdl import Const as Constant
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.queue import Queue

from .chain import Chain, MakeTable
from .copies import Copies
from .declare import Pipeline
from .layout import control_layout, fill, name_of, packet_layout, phv_layout
from .liveness import carried, deparsed, live_before, live_behind_ingress
from .registerarray import RegisterArray

__all__ = ["PipelineCore"]


class PipelineCore(wiring.Component):
    """The stages of a pipeline: header vectors in, header vectors of the copies out.

    **Throughput** is one packet a cycle, whatever registers the packets access; a packet of which n > 1 copies are made
    takes n cycles. ``latency`` cycles pass from ``i`` to the end of the ingress stages, 2 more until its first copy is
    made, and ``egress_latency`` in the egress stages. Inside the stages nothing stalls: a packet enters when there is
    room for it behind them, so that a stall at ``o`` comes back to ``i`` and no further.

    **Order.** What comes out at ``o`` is what processing one packet after the other would give, in the order in which
    they enter the ingress; so are accesses to registers. Of a packet the copies come one after the other in the
    declared order. At least one thing comes out for each packet that does not recirculate: if no copy is made, the
    packet with ``standard__drop`` set. Fields that nothing reads any more are 0.

    **Recirculation.** A copy that recirculates goes to the end of a queue, from which packets enter before those of
    ``i``. It cannot come to a deadlock: no more packets are let in than the queue has room for, counted from ``i``
    until their last pass is over, and at most one copy of a packet recirculates, so the queue has room for all that
    there are, and the place where copies are made waits for nothing but ``o``.

    **Control plane.** A payload with ``control.valid`` accesses a register in its turn among the packets; it comes out
    with ``control`` filled in. A second one waits at ``i`` until the first was taken at ``o``: ``i.ready`` depends on
    that bit and on registers.

    **Reset** empties everything, and ``i`` becomes ready when all registers have their first value again, in as many
    cycles as the deepest has words.

    Parameters
    ----------
    pipeline:
        The declaration.
    slot_bits:
        Bits of a payload's slot number.
    make_table:
        Makes the component of a table that is filled at run time: called with the table and the layouts of what of a
        packet comes in and goes out, it returns a component with ``i`` and ``o``, streams of these that are never
        stalled, the attribute ``latency``, and a member ``entries``, an interface through which entries are put in. Of
        that the core reads two signals: no packet enters from the cycle after ``ready`` is low or ``request`` high.
    depth:
        Packets that fit between ``i`` and the copies. By default enough for one a cycle.

    Members
    -------
    i, o:
        Packets, :func:`~.layout.phv_layout`. Metadata other than ``standard`` is taken to be 0 at ``i``.
    enters, enters_again, enters_control:
        A packet enters the ingress in this cycle; it recirculates; it is an access of the control plane.
    entries_NAME:
        The member ``entries`` of the component of table NAME.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, pipeline: Pipeline, *, slot_bits: int = 4, make_table: MakeTable | None = None,
                 depth: int | None = None):
        self.pipeline = pipeline
        layout = phv_layout(pipeline, slot_bits=slot_bits)
        slot = {"payload_slot": slot_bits, "has_payload": 1, "owns_slot": 1}
        leaving = {**slot, "dropped": 1}
        self.recirculates = any(copy.recirculate for copy in pipeline.copies)
        behind, out = live_behind_ingress(pipeline), deparsed(pipeline)
        self.ingress = Chain(pipeline.ingress, carried(pipeline.ingress, behind, clears_metadata=not self.recirculates),
                             slot, make_table=make_table, depth=depth)
        self.egress = Chain(pipeline.egress, carried(pipeline.egress, out), leaving, make_table=make_table) \
            if pipeline.egress else None
        self.copies = Copies(pipeline.copies, packet_layout(behind, slot),
                             packet_layout(live_before(pipeline.egress, out), leaving))
        tables = {}
        for chain in (self.ingress, self.egress):
            for stage, component in zip(chain.stages, chain.components, strict=True) if chain else ():
                if "entries" in component.signature.members:
                    tables[f"entries_{stage.name}"] = component
        self._tables = tables
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._queue = Queue(packet_layout(self.ingress.carry.before, slot), depth=self.ingress.depth) \
            if self.recirculates else None
        self._inside = Signal(range(self.ingress.depth + 1))  # packets that have not ended
        self._control = Signal(control_layout(pipeline))  # the access of the control plane that is under way
        self._is_waiting = Signal()  # it has not yet entered
        super().__init__({
            "i": In(stream.Signature(layout)),
            "o": Out(stream.Signature(layout)),
            "enters": Out(1),
            "enters_again": Out(1),
            "enters_control": Out(1),
            **{name: component.signature.members["entries"] for name, component in tables.items()},
        })

    @property
    def latency(self) -> int:
        """Cycles from ``i`` to the end of the ingress stages."""
        return self.ingress.latency

    @property
    def egress_latency(self) -> int:
        """Cycles in the egress stages."""
        return self.egress.latency if self.egress else 0

    def elaborate(self, platform):
        m = Module()
        m.submodules.ingress = ingress = self.ingress
        m.submodules.copies = copies = self.copies
        for name, component in self._tables.items():
            wiring.connect(m, wiring.flipped(getattr(self, name)), component.entries)
        wiring.connect(m, ingress.o, copies.i)
        if self.egress:
            m.submodules.egress = self.egress
            wiring.connect(m, copies.o, self.egress.i)
        last = self.egress.o if self.egress else copies.o
        control, is_waiting, room = self._control, self._is_waiting, Signal()
        ready = self._registers(m, control)
        again = self._again(m, room)

        is_new, next_ = Signal(), ingress.i.payload
        m.d.comb += [
            is_new.eq(ready & room & ~again.valid & ~is_waiting),
            self.i.ready.eq(is_new & ingress.i.ready & ~(control.valid & self.i.payload.control.valid)),
            ingress.i.valid.eq(ready & (again.valid | room & is_waiting
                                        | is_new & self.i.valid & ~self.i.payload.control.valid)),
            again.ready.eq(ready & ingress.i.ready),
            self.enters.eq(ingress.i.valid & ingress.i.ready),
            self.enters_again.eq(self.enters & again.valid),
            self.enters_control.eq(self.enters & next_.is_control),
        ]
        with m.If(again.valid):
            m.d.comb += fill(next_, again.payload)
        with m.Else():
            m.d.comb += [*fill(next_, self.i.payload), *self._clear_metadata(next_), next_.is_control.eq(is_waiting)]
        with m.If(self.i.valid & self.i.ready & self.i.payload.control.valid):
            m.d.sync += [control.eq(self.i.payload.control), is_waiting.eq(1)]
        with m.If(is_waiting & ~again.valid & room & ready & ingress.i.ready):
            m.d.sync += is_waiting.eq(0)

        m.d.comb += [self.o.valid.eq(last.valid), last.ready.eq(self.o.ready), *fill(self.o.payload, last.payload)]
        m.d.comb += self.o.payload.standard__drop.eq(last.payload.standard__drop | last.payload.dropped)
        with m.If(last.payload.is_control):
            m.d.comb += self.o.payload.control.eq(control)
            with m.If(~control.write):
                m.d.comb += self.o.payload.control.data.eq(self._found(control))
            with m.If(self.o.valid & self.o.ready):
                m.d.sync += control.valid.eq(0)
        return m

    def _clear_metadata(self, packet):
        own = [name_of(item) for metadata in self.pipeline.metadata for item in metadata.fields.values()]
        members = {name for name, _ in packet.shape()}
        return [packet[name].eq(0) for name in own if name in members]

    def _registers(self, m, control):
        """Connect the register arrays to the control plane. Returns whether packets may enter."""
        arrays = self._arrays()
        for number, array in enumerate(arrays):
            access = array.access
            m.d.comb += [
                access.select.eq(control.register == number),
                access.write.eq(control.write),
                # An index that has more bits than the array's must not come to one that it has.
                access.index.eq(Mux(control.index < array.stage.register.depth, control.index, ~0)),
                access.data.eq(control.data),
            ]
        tables = [table.entries for table in self._tables.values()]
        ready = Signal()  # a register, for those it is made of are far apart
        m.d.sync += ready.eq(Cat(one.ready for one in [*arrays, *tables]).all()
                             & ~Cat(one.request for one in tables).any())
        return ready

    def _arrays(self):
        return [component for component in self.ingress.components if isinstance(component, RegisterArray)]

    def _found(self, control):
        """What the control plane has read."""
        return reduce(or_, (Mux(control.register == number, array.found, 0)
                            for number, array in enumerate(self._arrays())), Constant(0, 1))

    def _again(self, m, room):
        """The queue of packets that recirculate, and whether it has room for one that comes at all."""
        if self._queue is None:
            m.d.comb += room.eq(1)
            return stream.Signature(self.ingress.i.payload.shape()).create()
        m.submodules.again = queue = self._queue
        inside = self._inside
        comes = self.ingress.i.valid & self.ingress.i.ready & ~queue.o.valid
        m.d.comb += [
            room.eq(inside != queue.depth),
            queue.i.valid.eq(self.copies.again.valid),
            *fill(queue.i.payload, self.copies.again.payload),
        ]
        m.d.sync += [
            inside.eq(inside + comes - self.copies.ends),
            Assert(~queue.i.valid | queue.i.ready, "a packet that recirculates finds no room"),
            Assert(queue.level <= inside, "more packets recirculate than came"),
        ]
        return queue.o
