# SPDX-License-Identifier: Apache-2.0
"""A stage of assignments."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .declare import Compute
from .layout import name_of, value_in
from .lower import lower

__all__ = ["ComputeStage", "hand_on"]


def hand_on(m: Module, source: data.View, target: data.View) -> None:
    """Register in ``target`` every member that it has; those that ``source`` lacks become 0."""
    names = {name for name, _ in source.shape()}
    m.d.sync += [target[name].eq(source[name] if name in names else 0) for name, _ in target.shape()]


class ComputeStage(wiring.Component):
    """Carry out the assignments of a :class:`~.declare.Compute`, one packet a cycle, latency 1 cycle, no stalls.

    Reset empties it.

    Parameters
    ----------
    stage:
        The declaration.
    i_layout, o_layout:
        What of a packet comes in and goes out, :func:`~.layout.carried_layout`.

    Members
    -------
    i, o:
        Packets, never stalled.
    """

    latency = 1

    def __init__(self, stage: Compute, i_layout: data.StructLayout, o_layout: data.StructLayout):
        self.stage = stage
        super().__init__({
            "i": In(stream.Signature(i_layout, always_ready=True)),
            "o": Out(stream.Signature(o_layout, always_ready=True)),
        })

    def elaborate(self, platform):
        m = Module()
        packet, out, known = self.i.payload, self.o.payload, {}
        value_of = value_in(packet)
        members = {name for name, _ in out.shape()}
        m.d.sync += self.o.valid.eq(self.i.valid)
        hand_on(m, packet, out)
        with m.If(lower(self.stage.when, value_of, known)):
            for item in self.stage.assigns:
                if name_of(item.target) in members:
                    m.d.sync += out[name_of(item.target)].eq(lower(item.value, value_of, known))
        return m
