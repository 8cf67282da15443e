# SPDX-License-Identifier: Apache-2.0
"""Write responses, gathered into one answer a command."""

import operator

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature, Response
from rackgate.stream.queue import Queue

__all__ = ["Answers", "done_layout"]


def done_layout(tag) -> data.StructLayout:
    """The ``tag`` of a command all of whose writes are answered; ``error`` if one was answered with an error."""
    return data.StructLayout({"error": 1, "tag": tag})


class Answers(wiring.Component):
    """Count the responses to the bursts of each command, and say when a command is done.

    All bursts have one AXI id, so their responses come in order (IHI 0022 A5.3). An element of ``i`` is a burst, or a
    command that has none; ``last`` ends its command. ``done`` follows a cycle after the last response, or 2
    cycles after the element without a burst when it is the only one; a command a cycle. ``b.ready`` falls for a cycle
    for each element without a burst. A response without a burst fails an assertion. Reset forgets everything.

    Parameters
    ----------
    tag:
        Shape of a command's tag.
    id_width:
        Bits of the AXI id.
    outstanding:
        Elements that may wait: bursts for a response, and commands for ``done`` to be taken, at least 2.

    Members
    -------
    i:
        Elements, in the order of their addresses on the bus, each before its response. To be taken at once:
        ``has_room`` says a cycle ahead whether it will be.
    has_room:
        An element may be given in the next cycle, whether or not one is in this.
    b:
        AXI4 write responses.
    done:
        Commands that are done (:func:`done_layout`), in order.
    """

    i: stream.Interface
    b: stream.Interface
    done: stream.Interface

    def __init__(self, *, tag, id_width=4, outstanding=16):
        self.outstanding = operator.index(outstanding)
        if self.outstanding < 2:
            raise ValueError(f"outstanding must be at least 2, not {outstanding}")
        element = data.StructLayout({"is_burst": 1, "last": 1, "error": 1, "tag": tag})
        super().__init__({
            "i": In(stream.Signature(element)),
            "has_room": Out(1),
            "b": AXI4Signature(id_width=id_width).members["b"],
            "done": Out(stream.Signature(done_layout(tag))),
        })
        # Made here, not in elaborate, so that a proof can state invariants about it.
        self._elements = Queue(element, depth=self.outstanding, block_ram=False)
        self._finished = Queue(done_layout(tag), depth=self.outstanding, block_ram=False)
        self._count = Signal(range(self.outstanding + 1))  # elements waiting, and commands not taken at ``done``
        self._is_bad = Signal()  # an error has come for the command in front

    def elaborate(self, platform):
        m = Module()
        m.submodules.elements, m.submodules.finished = elements, finished = self._elements, self._finished
        wiring.connect(m, wiring.flipped(self.i), elements.i)
        wiring.connect(m, finished.o, wiring.flipped(self.done))
        front, is_retired, is_error, is_left = elements.o.payload, Signal(), Signal(), Signal()
        m.d.comb += [
            self.b.ready.eq(~elements.o.valid | front.is_burst),
            is_retired.eq(elements.o.valid & (self.b.valid | ~front.is_burst)),
            elements.o.ready.eq(self.b.valid | ~front.is_burst),
            is_error.eq(self._is_bad | front.error | front.is_burst & (
                (self.b.payload.resp == Response.SLVERR) | (self.b.payload.resp == Response.DECERR))),
            finished.i.valid.eq(is_retired & front.last),
            finished.i.payload.error.eq(is_error),
            finished.i.payload.tag.eq(front.tag),
            # What leaves: a burst that is not its command's last, or a command at ``done``.
            is_left.eq(self.done.valid & self.done.ready),
            self.has_room.eq(self._count < self.outstanding - 1),
        ]
        m.d.sync += [
            self._count.eq(self._count + self.i.valid - is_left - (is_retired & ~front.last)),
            Assert(~self.i.valid | self.i.ready, "an element came for which there is no room"),
            Assert(~finished.i.valid | finished.i.ready, "a command is done for which there is no room"),
            Assert(~self.b.valid | elements.o.valid, "a response came to a write that was not sent"),
        ]
        with m.If(is_retired):
            m.d.sync += self._is_bad.eq(is_error & ~front.last)
        return m
