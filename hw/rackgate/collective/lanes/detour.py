# SPDX-License-Identifier: Apache-2.0
"""Packets through a converter or past it, in order."""

import operator

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.arith.convert import convert_layout
from rackgate.stream.packet import PacketSignature, packet_layout
from rackgate.stream.skid import SkidBuffer

__all__ = ["Detour"]


class Detour(wiring.Component):
    """Lead each packet through a converter, or past it, and keep their order.

    Packets that pass wait until the converter is empty: only then is there a gap, and none between packets that go the
    same way. An empty packet (one word with ``count`` 0) always passes, so converters need not know of them.

    Latency 1 cycle: ``o`` and ``converter_o.ready`` come from registers; ``i.ready`` depends combinationally on
    ``i.payload`` and on ``converter_i.ready``. Reset takes the converter for empty: it has to be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word.
    packets:
        Packets that may be in the converter, at least 1.

    Members
    -------
    i:
        Words (:func:`~rackgate.arith.convert.convert_layout`).
    converter_i, converter_o:
        To the converter's input, and from its output: a packet comes out, at least a cycle later, for each that goes
        in, in order.
    o:
        Packets.
    """

    i: stream.Interface
    converter_i: stream.Interface
    converter_o: stream.Interface
    o: stream.Interface

    def __init__(self, width, *, packets=15):
        self.packets = operator.index(packets)
        if self.packets < 1:
            raise ValueError(f"packets must be at least 1, not {packets}")
        signature = PacketSignature(width)
        super().__init__({
            "i": In(stream.Signature(convert_layout(width))),
            "converter_i": Out(signature),
            "converter_o": In(signature),
            "o": Out(signature),
        })
        # Made here so that a proof can state invariants about it.
        self._inside = Signal(range(self.packets + 1))  # packets that have begun to go in and not ended to come out
        self._is_begun = Signal()  # the packet at ``i`` is one of them
        self._held, self._is_held = Signal(packet_layout(width), reset_less=True), Signal()

    def elaborate(self, platform):
        m = Module()
        converts, has_room, is_empty, enters, leaves = (Signal(name=name) for name in (
            "converts", "has_room", "is_empty", "enters", "leaves"))
        word = self.i.payload.word
        m.submodules.skid = skid = SkidBuffer(self.o.payload.shape())
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        m.d.comb += [
            is_empty.eq(self._inside == 0),
            converts.eq(self.i.payload.convert & (word.count != 0)),
            has_room.eq(self._is_begun | (self._inside != self.packets)),
            self.converter_i.valid.eq(self.i.valid & converts & has_room),
            self.converter_i.payload.eq(word),
            self.converter_o.ready.eq(~is_empty & skid.i.ready),
            enters.eq(self.converter_i.valid & self.converter_i.ready & ~self._is_begun),
            leaves.eq(self.converter_o.valid & self.converter_o.ready & self.converter_o.payload.last),
        ]
        with m.If(is_empty):
            m.d.comb += [skid.i.payload.eq(word), skid.i.valid.eq(self.i.valid & ~converts)]
        with m.Else():
            m.d.comb += [skid.i.payload.eq(self.converter_o.payload), skid.i.valid.eq(self.converter_o.valid)]
        with m.If(converts):
            m.d.comb += self.i.ready.eq(has_room & self.converter_i.ready)
        with m.Else():
            m.d.comb += self.i.ready.eq(is_empty & skid.i.ready)

        m.d.sync += [
            self._inside.eq(self._inside + enters - leaves),
            Assert(~is_empty | ~self.converter_o.valid, "a packet comes out of the converter that never went in"),
        ]
        with m.If(self.converter_i.valid & self.converter_i.ready):
            m.d.sync += self._is_begun.eq(~word.last)
        return m

    def lead(self, m, converter, *, held=False):
        """Connect a :class:`~rackgate.arith.convert.Compress` or :class:`~rackgate.arith.convert.Expand`.

        ``held``: with a register behind it. Compress, which gives a word in two cycles and stands while it is not
        taken, then keeps its pace if the word is taken only in the second of these.
        """
        m.d.comb += [
            converter.i.payload.word.eq(self.converter_i.payload),
            converter.i.payload.convert.eq(1),
            converter.i.valid.eq(self.converter_i.valid),
            self.converter_i.ready.eq(converter.i.ready),
        ]
        if not held:
            wiring.connect(m, converter.o, self.converter_o)
            return
        m.d.comb += converter.o.ready.eq(~self._is_held | self.converter_o.ready)
        with m.If(converter.o.ready):
            m.d.sync += [self._is_held.eq(converter.o.valid), self._held.eq(converter.o.payload)]
        m.d.comb += [self.converter_o.valid.eq(self._is_held), self.converter_o.payload.eq(self._held)]
