# SPDX-License-Identifier: Apache-2.0
"""Packet streams at the rim of what may be restarted: frames stay frames."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.packet import PacketSignature

__all__ = ["FrameEntry", "FrameExit"]


class FrameEntry(wiring.Component):
    """Let frames in; after a restart of what is behind it, drop the rest of the frame that had begun.

    No latency, no throughput lost. Reset expects the begin of a frame.

    Parameters
    ----------
    width:
        Bytes of a word.

    Members
    -------
    i, o:
        Frames.
    stop:
        Take nothing more.
    restart:
        For a cycle, while ``stop`` is high: what is behind has forgotten all.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int):
        super().__init__({"i": In(PacketSignature(width)), "o": Out(PacketSignature(width)), "stop": In(1),
                          "restart": In(1)})

    def elaborate(self, platform):
        m = Module()
        is_within, is_skipping = Signal(), Signal()
        m.d.comb += [
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(self.i.valid & ~self.stop & ~is_skipping),
            self.i.ready.eq(~self.stop & (self.o.ready | is_skipping)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += is_within.eq(~self.i.payload.last)
            with m.If(self.i.payload.last):
                m.d.sync += is_skipping.eq(0)
        with m.If(self.restart):
            m.d.sync += is_skipping.eq(is_within)
        return m


class FrameExit(wiring.Component):
    """Let frames out; when what is before it is about to be restarted, end the frame that has begun as a damaged one.

    Latency 1 cycle, one word a cycle. A word that is on offer stays until it is taken. Reset forgets it.

    Parameters
    ----------
    width:
        Bytes of a word.

    Members
    -------
    i, o:
        Frames.
    stop:
        Take nothing more, and end what has begun.
    quiet:
        With ``stop``: no frame has begun, nothing is on offer.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int):
        super().__init__({"i": In(PacketSignature(width)), "o": Out(PacketSignature(width)), "stop": In(1),
                          "quiet": Out(1)})

    def elaborate(self, platform):
        m = Module()
        is_within, is_free = Signal(), Signal()  # the last word that was taken in has more behind it
        m.d.comb += [
            is_free.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(is_free & ~self.stop),
            self.quiet.eq(self.stop & ~self.o.valid & ~is_within),
        ]
        with m.If(is_free):
            m.d.sync += self.o.valid.eq(self.i.valid & ~self.stop)
            with m.If(self.i.valid & ~self.stop):
                m.d.sync += [self.o.payload.eq(self.i.payload), is_within.eq(~self.i.payload.last)]
            with m.If(self.stop & is_within):
                m.d.sync += [
                    self.o.valid.eq(1), self.o.payload.eq(0), self.o.payload.count.eq(1), self.o.payload.last.eq(1),
                    self.o.payload.error.eq(1), is_within.eq(0),
                ]
        return m
