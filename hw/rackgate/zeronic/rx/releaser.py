# SPDX-License-Identifier: Apache-2.0
"""When a frame may leave the frame buffer."""

import operator

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.queue import Queue
from rackgate.zeronic.rx.framebuffer import FrameRange

__all__ = ["Releaser"]


class Releaser(wiring.Component):
    """Release frames in order: those that go up whole when they have been read, others at once.

    One a cycle, a cycle after it came. ``i.ready`` comes from registers. Reset forgets all frames.

    Parameters
    ----------
    frames:
        Frames that may wait, at least 1.

    Members
    -------
    i:
        Frames (``frame``: :class:`~.framebuffer.FrameRange`) that nobody reads any more, but if ``is_read``.
    was_read:
        Strobe: the next of those that are read has been.
    o:
        Frames to be released.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, frames=16):
        self.frames = operator.index(frames)
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, not {frames}")
        self._shape = data.StructLayout({"frame": FrameRange, "is_read": 1})
        super().__init__({
            "i": In(stream.Signature(self._shape)),
            "was_read": In(1),
            "o": Out(stream.Signature(FrameRange, always_ready=True)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.waiting = waiting = Queue(self._shape, depth=self.frames, block_ram=False)
        wiring.connect(m, wiring.flipped(self.i), waiting.i)
        front, goes, reads = waiting.o.payload, Signal(), Signal(range(self.frames + 1))
        m.d.comb += [
            goes.eq(waiting.o.valid & (~front.is_read | (reads != 0))),
            waiting.o.ready.eq(goes),
            self.o.valid.eq(goes),
            self.o.payload.eq(front.frame),
        ]
        m.d.sync += [
            reads.eq(reads + self.was_read - (goes & front.is_read)),
            Assert(~self.was_read | (reads != self.frames), "more frames were read than there are"),
        ]
        return m
