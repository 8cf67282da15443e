# SPDX-License-Identifier: Apache-2.0
"""The operand of a segment that comes from memory or from a kernel's stream."""

from amaranth.hdl import Assert, Module, Mux, Signal, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.records import SIZE_BITS
from rackgate.dma.packer import packed_layout
from rackgate.stream.packet import PacketSignature
from rackgate.stream.skid import SkidBuffer

__all__ = ["NO_TAG", "Operand", "OperandSource", "operand_layout"]


#: Tag of the lanes' commands to their fetchers: words come in order, nothing else need be known.
NO_TAG = unsigned(0)


class OperandSource(enum.Enum, shape=2):
    """Where an operand comes from."""

    NOWHERE = 0  # zeros
    MEMORY = 1
    KERNEL = 2


#: Input of an :class:`Operand`: where to take ``size`` bytes from.
operand_layout = data.StructLayout({"source": OperandSource, "size": SIZE_BITS})


class Operand(wiring.Component):
    """Make a packet of exactly ``size`` bytes for each segment; one of size 0 is a word with ``count`` 0.

    From ``memory`` come the packed words of a :class:`~rackgate.dma.fetcher.Fetcher` that was given the same sizes.
    The ``kernel``'s stream is one of bytes: its ``last`` is not looked at, and a segment takes ``ceil(size / width)``
    words of it. ``error`` on the last word: the memory failed, or the kernel marked a word with ``error``, or gave
    one with another ``count`` than the segment needs, or was skipped.

    One word a cycle, also across segments. Latency 1 cycle, 2 from the command. ``i.ready`` depends combinationally
    on ``memory.valid`` and ``kernel.valid``, no other output on an input but ``memory.ready`` and ``kernel.ready`` on
    ``skip_kernel``. Reset forgets what is under way.

    Parameters
    ----------
    width:
        Bytes of a word.

    Members
    -------
    i:
        Commands (:data:`operand_layout`).
    memory, kernel:
        Words of the two sources.
    skip_kernel:
        While it is high, what a segment lacks of the kernel's stream is replaced by zeros.
    o:
        Packets.
    """

    i: stream.Interface
    memory: stream.Interface
    kernel: stream.Interface
    o: stream.Interface

    def __init__(self, width):
        packets = PacketSignature(width)
        self.width = width
        super().__init__({
            "i": In(stream.Signature(operand_layout)),
            "memory": In(stream.Signature(packed_layout(width, NO_TAG))),
            "kernel": In(packets),
            "skip_kernel": In(1),
            "o": Out(packets),
        })
        # Made here so that a proof can state invariants about it.
        self._is_busy = Signal()
        self._command = Signal(operand_layout)  # its size: bytes that are left
        self._is_bad = Signal()  # a word before was

    def elaborate(self, platform):
        m = Module()
        m.submodules.skid = skid = SkidBuffer(self.o.payload.shape())
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        word, is_taken, is_final, is_bad = skid.i.payload, Signal(), Signal(), Signal()
        m.d.comb += [
            is_taken.eq(skid.i.valid & skid.i.ready),
            is_final.eq(self._command.size <= self.width),
            word.last.eq(is_final),
            word.count.eq(Mux(is_final, self._command.size, self.width)),
            word.error.eq(is_final & (is_bad | self._is_bad)),
            self.i.ready.eq(~self._is_busy | is_taken & is_final),
        ]
        self._choose(m, skid, is_bad)
        with m.If(is_taken):
            m.d.sync += [
                self._command.size.eq(self._command.size - self.width),
                self._is_bad.eq(is_bad | self._is_bad),
                self._is_busy.eq(~is_final),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [self._is_busy.eq(1), self._command.eq(self.i.payload), self._is_bad.eq(0)]
        return m

    def _choose(self, m, skid, is_bad):
        word, memory, kernel = skid.i.payload, self.memory, self.kernel
        with m.Switch(self._command.source):
            with m.Case(OperandSource.MEMORY):
                m.d.comb += [
                    skid.i.valid.eq(self._is_busy & memory.valid),
                    memory.ready.eq(self._is_busy & skid.i.ready),
                    word.data.eq(memory.payload.data),
                    is_bad.eq(memory.payload.error),
                ]
                with m.If(skid.i.valid):
                    m.d.sync += Assert((memory.payload.count == word.count) & (memory.payload.last == word.last),
                                       "the memory's words are not those of the segment")
            with m.Case(OperandSource.KERNEL):
                # An empty segment takes nothing.
                wants = Signal()
                m.d.comb += [
                    wants.eq(self._command.size != 0),
                    skid.i.valid.eq(self._is_busy & (kernel.valid | self.skip_kernel | ~wants)),
                    kernel.ready.eq(self._is_busy & wants & skid.i.ready),
                    is_bad.eq(wants & (~kernel.valid | kernel.payload.error | (kernel.payload.count != word.count))),
                ]
                with m.If(kernel.valid):
                    m.d.comb += word.data.eq(kernel.payload.data)
            with m.Default():
                m.d.comb += skid.i.valid.eq(self._is_busy)
