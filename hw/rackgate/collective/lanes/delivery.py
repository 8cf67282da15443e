# SPDX-License-Identifier: Apache-2.0
"""Results of the receive lane to memory, to a kernel's stream and to the link."""

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.arith.convert import Compress, Expand
from rackgate.collective.lanes.detour import Detour
from rackgate.collective.lanes.marker import Marker
from rackgate.stream.fork import Fork
from rackgate.stream.packet import PacketSignature, packet_layout

__all__ = ["Delivery", "delivery_layout"]

#: Input of a :class:`Delivery`: where a segment goes, whether to ``compress`` it (only with ``send``), and whether it
#: is the ``last`` of its move.
delivery_layout = data.StructLayout({"to_memory": 1, "to_stream": 1, "send": 1, "compress": 1, "last": 1})
_first_layout = data.StructLayout({"send": 1, "keep": 1, "compress": 1})
_kept_layout = data.StructLayout({"to_memory": 1, "to_stream": 1, "last": 1})


class Delivery(wiring.Component):
    """Give each segment to all places it is for, at a time.

    What is sent as 16-bit floats is kept as the 32-bit floats that equal these: all who have a part in it hold the
    same bits. Each place takes a word when it can; the slowest sets the pace.

    One word a cycle, without a gap between segments that are all compressed or all not. Latency 1 cycle to the link and
    2 to memory and kernel, none without ``convert``; of what is compressed 5 and 8. ``words.ready`` depends
    combinationally on the readies of the places without ``convert`` only, ``i.ready`` on no input. Reset forgets what
    is under way.

    Parameters
    ----------
    width:
        Bytes of a word.
    convert:
        Build what converts. Without it ``compress`` must not be set.
    segments:
        Segments that ``i`` may be ahead, at least 1.

    Members
    -------
    i:
        One for each segment (:data:`delivery_layout`), at any time before its words.
    words:
        Segments as packets; an empty one is a word with ``count`` 0.
    link, memory:
        Segments as packets, as they are. For an empty one ``to_memory`` and ``to_stream`` must not be set.
    kernel:
        Kernel's stream: ``last`` only on the last word of the last segment of a move. With it ``error``: a segment of
        the move for the kernel had one.
    skip_kernel:
        While it is high, words for the kernel are thrown away.
    passed, passed_error:
        For a cycle: the last word of a segment has been taken by the link, and is on its way to the other places; and
        whether it had ``error``.
    streamed:
        For a cycle: the last word of a segment was taken by the kernel, or thrown away.
    """

    i: stream.Interface
    words: stream.Interface
    link: stream.Interface
    memory: stream.Interface
    kernel: stream.Interface

    def __init__(self, width, *, convert=True, segments=8):
        self.width, self.convert = width, bool(convert)
        packets = PacketSignature(width)
        super().__init__({
            "i": In(stream.Signature(delivery_layout)),
            "words": In(packets),
            "link": Out(packets),
            "memory": Out(packets),
            "kernel": Out(packets),
            "skip_kernel": In(1),
            "passed": Out(1),
            "passed_error": Out(1),
            "streamed": Out(1),
        })
        self._is_bad = Signal()  # a segment of the move for the kernel had an error
        self._first = Marker(width, _first_layout, packets=segments)
        self._kept = Marker(width, _kept_layout, packets=segments)
        self._compressed = Marker(width, 1, packets=segments)

    def elaborate(self, platform):
        m = Module()
        m.submodules.first, m.submodules.kept = first, kept = self._first, self._kept
        m.submodules.first_fork = first_fork = Fork(packet_layout(self.width), 2)
        m.submodules.kept_fork = kept_fork = Fork(packet_layout(self.width), 2)
        for fork, marker in ((first_fork, first), (kept_fork, kept)):
            m.d.comb += [
                fork.i.payload.item.eq(marker.o.payload.word),
                fork.i.valid.eq(marker.o.valid),
                marker.o.ready.eq(fork.i.ready),
            ]
        mark = first.o.payload.mark
        m.d.comb += [
            first_fork.i.payload.to.eq(Cat(mark.send, mark.keep)),
            kept_fork.i.payload.to.eq(Cat(kept.o.payload.mark.to_memory, kept.o.payload.mark.to_stream)),
            self.passed.eq(first_fork.i.valid & first_fork.i.ready & first_fork.i.payload.item.last),
            self.passed_error.eq(first_fork.i.payload.item.error),
        ]
        wiring.connect(m, first_fork.o[0], wiring.flipped(self.link))
        wiring.connect(m, kept_fork.o[0], wiring.flipped(self.memory))
        self._accept(m)
        if self.convert:
            self._convert(m, first_fork.o[1], mark.compress)
        else:
            wiring.connect(m, wiring.flipped(self.words), first.words)
            wiring.connect(m, first_fork.o[1], kept.words)
        self._stream(m, kept_fork.o[1], kept.o.payload.mark.last)
        return m

    def _accept(self, m):
        segment, is_kept, has_room = self.i.payload, Signal(), Signal()
        markers = [self._first, self._kept, *([self._compressed] if self.convert else [])]
        m.d.comb += [
            is_kept.eq(segment.to_memory | segment.to_stream),
            has_room.eq(Cat(marker.i.ready for marker in markers).all()),
            self.i.ready.eq(has_room),
            *(marker.i.valid.eq(self.i.valid & has_room) for marker in markers),
            self._kept.i.valid.eq(self.i.valid & has_room & is_kept),
            self._first.i.payload.eq(Cat(segment.send, is_kept, segment.compress)),
            self._kept.i.payload.eq(Cat(segment.to_memory, segment.to_stream, segment.last)),
            self._compressed.i.payload.eq(segment.compress),
        ]
        with m.If(self.i.valid):
            m.d.sync += Assert(~segment.compress | segment.send if self.convert else ~segment.compress,
                               "a segment is to be compressed that is not sent, or cannot be")

    def _convert(self, m, keep, is_compressed):
        """Round on the way to all places, and back on the way to those that keep."""
        m.submodules.compressed = compressed = self._compressed
        m.submodules.compress, m.submodules.expand = compress, expand = Compress(self.width), Expand(self.width)
        m.submodules.to_half, m.submodules.back = to_half, back = Detour(self.width), Detour(self.width)
        to_half.lead(m, compress, held=True)
        back.lead(m, expand)
        wiring.connect(m, wiring.flipped(self.words), compressed.words)
        wiring.connect(m, to_half.o, self._first.words)
        wiring.connect(m, back.o, self._kept.words)
        m.d.comb += [
            to_half.i.payload.word.eq(compressed.o.payload.word),
            to_half.i.payload.convert.eq(compressed.o.payload.mark),
            to_half.i.valid.eq(compressed.o.valid),
            compressed.o.ready.eq(to_half.i.ready),
            back.i.payload.word.eq(keep.payload),
            back.i.payload.convert.eq(is_compressed),
            back.i.valid.eq(keep.valid),
            keep.ready.eq(back.i.ready),
        ]

    def _stream(self, m, words, is_last):
        m.d.comb += [
            self.kernel.payload.eq(words.payload),
            self.kernel.payload.last.eq(words.payload.last & is_last),
            self.kernel.payload.error.eq(words.payload.last & is_last & (words.payload.error | self._is_bad)),
            self.kernel.valid.eq(words.valid),
            words.ready.eq(self.kernel.ready | self.skip_kernel),
            self.streamed.eq(words.valid & words.ready & words.payload.last),
        ]
        with m.If(self.streamed):
            m.d.sync += self._is_bad.eq(~is_last & (words.payload.error | self._is_bad))
