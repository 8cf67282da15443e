# SPDX-License-Identifier: Apache-2.0
"""Payload from the frame buffer to memory."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.dma.placer import Placer
from rackgate.stream.packet import PacketSignature
from rackgate.zeronic.records import ADDRESS_BITS
from rackgate.zeronic.rx.framebuffer import read_layout
from rackgate.zeronic.rx.records import Move

__all__ = ["Placement"]


class Placement(wiring.Component):
    """Write the moves of frames to memory, and say when all of a frame's have been answered.

    As many bytes a cycle as a word has, with at most a bubble a move: see :class:`~rackgate.dma.placer.Placer`. A read
    is offered in the cycle in which its move is; the first address is out 2 cycles after the first word of what was
    read, and all of that must come without waiting for another user of the bus. ``i.ready`` depends combinationally on
    ``read.ready``. ``placed`` comes a cycle after the last answer of the frame. Reset forgets everything; bursts under
    way must be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.
    burst, outstanding:
        As of :class:`~rackgate.dma.placer.Placer`.

    Members
    -------
    i:
        Moves (:class:`~.records.Move`).
    read:
        What to read of the frame buffer (:func:`~.framebuffer.read_layout`, without a tag), in order.
    words:
        What was read, as packets, in order.
    placed:
        One a frame that has moves, in order: all its writes have been answered. ``error``: one with an error.
    aw, w, b:
        AXI4 write channels.

    Raises
    ------
    ValueError, TypeError
        When a parameter is out of range or no integer.
    """

    i: stream.Interface
    read: stream.Interface
    words: stream.Interface
    placed: stream.Interface

    def __init__(self, width, *, burst=16, outstanding=16):
        # One bit tells a frame's last move. What was read of the frame buffer comes without a gap.
        self._placer = Placer(width, tag=1, addr_width=ADDRESS_BITS, fifo_depth=2 * burst, burst=burst,
                              outstanding=outstanding, is_eager=True)
        super().__init__({
            "i": In(stream.Signature(Move)),
            "read": Out(stream.Signature(read_layout(0))),
            "words": In(PacketSignature(self._placer.width)),
            "placed": Out(stream.Signature(data.StructLayout({"error": 1}))),
            **{name: self._placer.signature.members[name] for name in ("aw", "w", "b")},
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.placer = placer = self._placer
        for name in ("words", "aw", "w", "b"):
            inner, outer = getattr(placer, name), wiring.flipped(getattr(self, name))
            wiring.connect(m, inner, outer)
        move, done, is_bad = self.i.payload, placer.done, Signal()  # a write of the frame in front failed
        m.d.comb += [
            self.i.ready.eq(self.read.ready & placer.i.ready),
            self.read.valid.eq(self.i.valid & placer.i.ready),
            self.read.payload.word.eq(move.word),
            self.read.payload.offset.eq(move.offset),
            self.read.payload.size.eq(move.size),
            placer.i.valid.eq(self.i.valid & self.read.ready),
            placer.i.payload.addr.eq(move.address),
            placer.i.payload.size.eq(move.size),
            placer.i.payload.tag.eq(move.last),
            self.placed.valid.eq(done.valid & done.payload.tag),
            self.placed.payload.error.eq(done.payload.error | is_bad),
            done.ready.eq(self.placed.ready | ~done.payload.tag),
        ]
        with m.If(done.valid & done.ready):
            m.d.sync += is_bad.eq(~done.payload.tag & (is_bad | done.payload.error))
        return m
