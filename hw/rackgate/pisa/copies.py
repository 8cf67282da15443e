# SPDX-License-Identifier: Apache-2.0
"""From a packet that went through the ingress stages to the copies that are made of it."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.hdl import Const as Constant
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .declare import Copy
from .layout import name_of, value_in
from .lower import first_of, lower

__all__ = ["Copies"]


class Copies(wiring.Component):
    """Make the copies of each packet, in the declared order, before those of the next.

    A packet takes a cycle for each copy, at least one; latency 2 cycles. Something comes of every packet: if no copy
    applies, it comes out at ``o`` with ``dropped`` set; an access of the control plane comes out as it is. Of all that
    comes of a packet exactly one has its ``owns_slot``: the copy that recirculates, or else the last. ``i.ready``
    depends on ``o.ready``. Reset empties it.

    Parameters
    ----------
    copies:
        The declarations.
    i_layout, o_layout:
        What of a packet comes in and goes out (:func:`~.layout.packet_layout`), both with ``has_payload`` and
        ``owns_slot``, ``o_layout`` with ``dropped``.

    Members
    -------
    i:
        Packets.
    o:
        What leaves.
    again:
        Copies that recirculate; must always be ready.
    ends:
        In the cycle before its last copy is offered: a packet ends here, for none of its copies recirculates.
    """

    def __init__(self, copies: Sequence[Copy], i_layout: data.StructLayout, o_layout: data.StructLayout):
        self.copies = tuple(copies)
        super().__init__({
            "i": In(stream.Signature(i_layout)),
            "o": Out(stream.Signature(o_layout)),
            "again": Out(stream.Signature(i_layout, always_ready=True)),
            "ends": Out(1),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._held = Signal(i_layout)
        #: What is still to come of the packet held: each copy, and in the highest bit the packet itself.
        self._left = Signal(len(self.copies) + 1)
        self._has_more = Signal()  # ... of which there is more than one
        self._recirculates = Signal()

    def elaborate(self, platform):
        m = Module()
        packet, known, count = self.i.payload, {}, len(self.copies)
        wanted, now, moves, free = Signal(count), Signal(count + 1), Signal(), Signal()
        at = value_in(packet)
        m.d.comb += wanted.eq(Mux(packet.is_control, 0, Cat(lower(copy.when, at, known) for copy in self.copies)))
        goes_round = self._any(wanted)
        is_last, is_again, rest = ~self._has_more, self._any(now), Signal(count + 1)
        m.d.comb += [
            now.eq(Cat(first_of(list(self._left)))),
            rest.eq(self._left & ~now),
            free.eq(~self.o.valid | self.o.ready),
            moves.eq(free & self._left.any()),
            self.i.ready.eq(free & is_last),
            self.ends.eq(moves & is_last & ~self._recirculates),
        ]
        with m.If(moves):
            m.d.sync += [self._left.eq(rest), self._has_more.eq(_has_two(rest))]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                self._held.eq(packet),
                self._left.eq(Mux(wanted.any(), wanted, 1 << count)),
                self._has_more.eq(_has_two(wanted)),
                self._recirculates.eq(goes_round),
            ]
        leaving = [k for k in range(count) if not self.copies[k].recirculate]
        again = [k for k in range(count) if self.copies[k].recirculate]
        with m.If(free):
            m.d.sync += self.o.valid.eq(moves & ~is_again)
            self._make(m, self.o.payload, now, leaving)
            m.d.sync += [
                self.o.payload.dropped.eq(now[count] & ~self._held.is_control),
                self.o.payload.owns_slot.eq(self._held.owns_slot & is_last & ~self._recirculates),
            ]
        m.d.sync += self.again.valid.eq(moves & is_again)
        self._make(m, self.again.payload, now, again)
        m.d.sync += [
            Assert(~self._recirculates | ~self._held.is_control, "an access of the control plane recirculates"),
            Assert(self._has_more == _has_two(self._left), "the last copy is not known as such"),
        ]
        return m

    def _any(self, bits):
        """Whether the copy that recirculates is among those of ``bits``."""
        return reduce(or_, (bits[k] for k, copy in enumerate(self.copies) if copy.recirculate), Constant(0, 1))

    def _make(self, m, out, now, numbers):
        """Register in ``out`` the one of the copies ``numbers`` whose bit is set, or the packet as it is."""
        at, known, members = value_in(self._held), {}, {name for name, _ in self._held.shape()}
        values = {name: self._held[name] for name, _ in out.shape() if name in members}
        for k in numbers:
            for item in self.copies[k].assigns:
                name = name_of(item.target)
                if name in values:
                    values[name] = Mux(now[k], lower(item.value, at, known), values[name])
            if not self.copies[k].payload:
                values["has_payload"] = values["has_payload"] & ~now[k]
        m.d.sync += [out[name].eq(value) for name, value in values.items()]


def _has_two(bits):
    """Whether more than one bit is 1."""
    return reduce(or_, (bits[k] & bits[:k].any() for k in range(1, len(bits))), Constant(0, 1))
