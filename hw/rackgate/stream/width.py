# SPDX-License-Identifier: Apache-2.0
"""Packet streams made wider and narrower."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.packet import PacketSignature

__all__ = ["Narrower", "Widener"]


def _ratio(narrow: int, wide: int) -> int:
    """Narrow words of a wide one; both signatures have checked their widths, which are powers of two."""
    if wide < narrow:
        raise ValueError(f"the wide side must have at least the narrow side's {narrow} bytes, not {wide}")
    return wide // narrow


class Widener(wiring.Component):
    """Put the words of a packet stream together to wider ones.

    One narrow word a cycle; the wide word is on offer the cycle after the last that it is made of. ``o`` comes from
    registers, bytes that do not count are 0; ``i.ready`` depends combinationally on ``o.ready``. Reset forgets the
    words that have come, and expects the begin of a packet.

    Parameters
    ----------
    narrow, wide:
        Bytes of a word at ``i`` and at ``o``.

    Members
    -------
    i, o:
        The two ends.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, narrow: int, wide: int):
        super().__init__({"i": In(PacketSignature(narrow)), "o": Out(PacketSignature(wide))})
        self.narrow, self.wide, self._count = narrow, wide, _ratio(narrow, wide)

    def elaborate(self, platform):
        m = Module()
        place = Signal(range(self._count))
        i, o = self.i.payload, self.o.payload
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            is_end = i.last | (place == self._count - 1)
            with m.If(place == 0):
                m.d.sync += o.data.eq(i.data)
            with m.Else():
                m.d.sync += o.data.word_select(place, 8 * self.narrow).eq(i.data)
            with m.If(is_end):
                m.d.sync += place.eq(0)
            with m.Else():
                m.d.sync += place.eq(place + 1)
            m.d.sync += [
                self.o.valid.eq(is_end), o.count.eq(place * self.narrow + i.count),
                o.last.eq(i.last), o.error.eq(i.error),
            ]
        return m


class Narrower(wiring.Component):
    """Cut the words of a packet stream into narrower ones. No latency: a narrow word a cycle.

    ``o`` depends combinationally on ``i``, and ``i.ready`` on both. Reset begins with the first part of a word.

    Parameters
    ----------
    wide, narrow:
        Bytes of a word at ``i`` and at ``o``.

    Members
    -------
    i, o:
        The two ends.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, wide: int, narrow: int):
        super().__init__({"i": In(PacketSignature(wide)), "o": Out(PacketSignature(narrow))})
        self.wide, self.narrow, self._count = wide, narrow, _ratio(narrow, wide)

    def elaborate(self, platform):
        m = Module()
        place, left, is_end = Signal(range(self._count)), Signal(range(self.wide + 1)), Signal()
        i, o = self.i.payload, self.o.payload
        m.d.comb += [
            left.eq(i.count - place * self.narrow),
            is_end.eq(left <= self.narrow),
            self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready & is_end),
            o.data.eq(i.data.word_select(place, 8 * self.narrow)), o.count.eq(self.narrow),
            o.last.eq(i.last & is_end), o.error.eq(i.error & is_end),
        ]
        with m.If(is_end):
            m.d.comb += o.count.eq(left)
        with m.If(self.o.valid & self.o.ready):
            with m.If(is_end):
                m.d.sync += place.eq(0)
            with m.Else():
                m.d.sync += place.eq(place + 1)
        return m
