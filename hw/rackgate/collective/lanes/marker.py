# SPDX-License-Identifier: Apache-2.0
"""Words of packets with what is known of their packet."""

import operator

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.packet import PacketSignature, packet_layout
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer

__all__ = ["Marker", "marked_layout"]


def marked_layout(width: int, shape) -> data.StructLayout:
    """Output of a :class:`Marker`: a ``word`` and its packet's ``mark``."""
    return data.StructLayout({"word": packet_layout(width), "mark": shape})


class Marker(wiring.Component):
    """Keep a mark for each packet that is to come, and give it out with each of the packet's words.

    The words pass without a register, and wait for their mark; a mark can be used 2 cycles after it came. ``i.ready``
    and marks come from registers; ``words.ready`` depends combinationally on ``o.ready``. Reset forgets the marks.

    Parameters
    ----------
    width:
        Bytes of a word.
    shape:
        Shape of a mark.
    packets:
        Marks that can be kept, at least 1; two more are on their way out.

    Members
    -------
    i:
        Marks.
    words:
        Packets; an empty one is a word with ``count`` 0.
    o:
        Marked words (:func:`marked_layout`).
    """

    i: stream.Interface
    words: stream.Interface
    o: stream.Interface

    def __init__(self, width, shape, *, packets=8):
        self.shape = shape
        self.packets = operator.index(packets)
        if self.packets < 1:
            raise ValueError(f"packets must be at least 1, not {packets}")
        super().__init__({
            "i": In(stream.Signature(shape)),
            "words": In(PacketSignature(width)),
            "o": Out(stream.Signature(marked_layout(width, shape))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.marks = marks = Queue(self.shape, depth=self.packets, block_ram=False)
        m.submodules.front = front = SkidBuffer(self.shape)  # a RAM's output would come too late in the cycle
        wiring.connect(m, wiring.flipped(self.i), marks.i)
        wiring.connect(m, marks.o, front.i)
        m.d.comb += [
            self.o.payload.word.eq(self.words.payload),
            self.o.payload.mark.eq(front.o.payload),
            self.o.valid.eq(self.words.valid & front.o.valid),
            self.words.ready.eq(self.o.ready & front.o.valid),
            front.o.ready.eq(self.words.valid & self.o.ready & self.words.payload.last),
        ]
        return m
