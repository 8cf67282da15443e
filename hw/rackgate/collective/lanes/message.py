# SPDX-License-Identifier: Apache-2.0
"""The operand of a segment that comes from a received packet, or from memory in its place."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.lanes.operand import NO_TAG
from rackgate.collective.records import SIZE_BITS
from rackgate.dma.packer import packed_layout
from rackgate.stream.packet import PacketSignature
from rackgate.stream.skid import SkidBuffer

__all__ = ["MessageOperand", "message_layout"]

#: Input of a :class:`MessageOperand`: take ``size`` bytes of ``memory`` (``from_memory``), or of a packet of
#: ``packet``, which is empty and not there at all if not ``has_words``.
message_layout = data.StructLayout({"from_memory": 1, "has_words": 1, "size": SIZE_BITS})


class MessageOperand(wiring.Component):
    """Make a packet of exactly ``size`` bytes for each segment; one of size 0 is a word with ``count`` 0.

    A packet from ``packet`` that is longer is cut, the rest of it thrown away; a shorter one is filled with any
    bytes. From ``memory`` come the packed words of a :class:`~rackgate.dma.fetcher.Fetcher` that was given the same
    sizes. ``error`` on the last word repeats that of the source, except that of a packet that is cut.

    One word a cycle, also across segments. Latency 1 cycle, 2 from the command. ``i.ready`` depends combinationally
    on ``packet.valid`` and ``memory.valid``. Reset forgets what is under way.

    Parameters
    ----------
    width:
        Bytes of a word.

    Members
    -------
    i:
        Commands (:data:`message_layout`).
    packet, memory:
        Words of the two sources.
    o:
        Packets.
    """

    i: stream.Interface
    packet: stream.Interface
    memory: stream.Interface
    o: stream.Interface

    def __init__(self, width):
        packets = PacketSignature(width)
        self.width = width
        super().__init__({
            "i": In(stream.Signature(message_layout)),
            "packet": In(packets),
            "memory": In(stream.Signature(packed_layout(width, NO_TAG))),
            "o": Out(packets),
        })
        # Made here so that a proof can state invariants about it.
        self._is_busy = Signal()
        self._is_from_memory = Signal()
        self._left = Signal(SIZE_BITS)  # bytes still to come out
        self._has_words = Signal()  # the packet has words that were not taken
        self._is_out = Signal()  # the last word is out; the rest of the packet is thrown away
        self._is_bad = Signal()  # the packet ended with an error

    def elaborate(self, platform):
        m = Module()
        m.submodules.skid = skid = SkidBuffer(self.o.payload.shape())
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        packet, memory, word, is_final = self.packet, self.memory, skid.i.payload, Signal()
        m.d.comb += [
            is_final.eq(self._left <= self.width),
            word.data.eq(packet.payload.data),
            word.last.eq(is_final),
            word.count.eq(Mux(is_final, self._left, self.width)),
            skid.i.valid.eq(self._is_busy & ~self._is_out & (packet.valid | ~self._has_words)),
            packet.ready.eq(self._is_busy & self._has_words & ~self._is_from_memory & (self._is_out | skid.i.ready)),
        ]
        with m.If(self._is_from_memory):
            m.d.comb += [
                word.data.eq(memory.payload.data),
                word.error.eq(memory.payload.error),
                skid.i.valid.eq(self._is_busy & memory.valid),
                memory.ready.eq(self._is_busy & skid.i.ready),
            ]
            with m.If(skid.i.valid):
                m.d.sync += Assert((memory.payload.count == word.count) & (memory.payload.last == is_final),
                                   "the memory's words are not those of the segment")
        with m.Else():
            m.d.comb += word.error.eq(is_final & (self._is_bad | self._has_words & packet.payload.last
                                                  & packet.payload.error))
        self._step(m, skid, is_final)
        return m

    def _step(self, m, skid, is_final):
        """A segment ends when its last word is out and its packet has no more words."""
        is_taken, ends_packet, is_out, ends = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            is_taken.eq(skid.i.valid & skid.i.ready),
            ends_packet.eq(self.packet.valid & self.packet.ready & self.packet.payload.last),
            is_out.eq(self._is_out | is_taken & is_final),
            ends.eq(is_out & (self._is_from_memory | ~self._has_words | ends_packet)),
            self.i.ready.eq(~self._is_busy | ends),
        ]
        with m.If(is_taken):
            m.d.sync += self._left.eq(self._left - self.width)
        with m.If(ends_packet):
            m.d.sync += [self._has_words.eq(0), self._is_bad.eq(self.packet.payload.error)]
        m.d.sync += self._is_out.eq(is_out & ~ends)
        with m.If(ends):
            m.d.sync += self._is_busy.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                self._is_busy.eq(1),
                self._is_from_memory.eq(self.i.payload.from_memory),
                self._left.eq(self.i.payload.size),
                self._has_words.eq(self.i.payload.has_words & ~self.i.payload.from_memory),
                self._is_bad.eq(0),
            ]
