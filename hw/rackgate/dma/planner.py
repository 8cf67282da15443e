# SPDX-License-Identifier: Apache-2.0
"""Commands, split into what the bus must know and what the data path must know."""

import operator

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.dma.cutter import SIZE_BITS, Cutter
from rackgate.stream.queue import Queue

__all__ = ["Planner", "command_layout", "plan_layout"]


def command_layout(tag, *, addr_width: int) -> data.StructLayout:
    """A range of ``size`` bytes from byte address ``addr`` on, with a ``tag`` that comes back with its data."""
    return data.StructLayout({"addr": addr_width, "size": SIZE_BITS, "tag": tag})


def plan_layout(width: int, tag) -> data.StructLayout:
    """What the data path of ``width`` bytes must know of a command.

    Byte ``shift`` of the first word of memory is the range's first byte, byte ``end`` of the last one its last.
    ``is_empty``: the size is 0, and neither counts.
    """
    index = exact_log2(width)
    return data.StructLayout({"shift": index, "end": index, "is_empty": 1, "tag": tag})


class Planner(wiring.Component):
    """Take commands; give out their bursts and their plans, each in order and at its own pace.

    A command whose size is 0 has a plan and no burst. A burst comes 2 cycles after its command, a plan 1 cycle;
    a burst and a plan a cycle. ``i.ready`` depends on no input. Reset forgets everything.

    Parameters
    ----------
    width, addr_width, burst:
        As in :class:`~rackgate.dma.cutter.Cutter`.
    tag:
        Shape of a command's tag.
    commands:
        Plans that may wait, at least 1.

    Members
    -------
    i:
        Commands (:func:`command_layout`).
    bursts:
        See :func:`~rackgate.dma.cutter.burst_layout`.
    plans:
        See :func:`plan_layout`.
    """

    i: stream.Interface
    bursts: stream.Interface
    plans: stream.Interface

    def __init__(self, width, *, tag, addr_width=40, burst=16, commands=8):
        # Made here, not in elaborate, so that a proof can state invariants about it.
        self._cutter = Cutter(width, addr_width=addr_width, burst=burst)
        self.width, self.addr_width, self.burst = self._cutter.width, self._cutter.addr_width, self._cutter.burst
        self.tag = tag
        self.commands = operator.index(commands)
        if self.commands < 1:
            raise ValueError(f"commands must be at least 1, not {commands}")
        super().__init__({
            "i": In(stream.Signature(command_layout(tag, addr_width=self.addr_width))),
            "bursts": Out(self._cutter.o.signature),
            "plans": Out(stream.Signature(plan_layout(self.width, tag))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.cutter = cutter = self._cutter
        m.submodules.plans = plans = Queue(self.plans.payload.shape(), depth=self.commands, block_ram=False)
        wiring.connect(m, cutter.o, wiring.flipped(self.bursts))
        wiring.connect(m, plans.o, wiring.flipped(self.plans))
        command, index = self.i.payload, exact_log2(self.width)
        m.d.comb += [
            self.i.ready.eq(cutter.i.ready & plans.i.ready),
            cutter.i.valid.eq(self.i.valid & plans.i.ready),
            cutter.i.payload.addr.eq(command.addr),
            cutter.i.payload.size.eq(command.size),
            plans.i.valid.eq(self.i.valid & cutter.i.ready),
            plans.i.payload.shift.eq(command.addr[:index]),
            plans.i.payload.end.eq(command.addr[:index] + command.size[:index] - 1),
            plans.i.payload.is_empty.eq(command.size == 0),
            plans.i.payload.tag.eq(command.tag),
        ]
        return m
