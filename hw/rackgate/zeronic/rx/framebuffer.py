# SPDX-License-Identifier: Apache-2.0
"""Frames as they come in, until it is known what becomes of them."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.collisions import ATTRIBUTE
from rackgate.dma.packer import Packer, packed_layout
from rackgate.dma.planner import plan_layout
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.records import LENGTH_BITS, check_width

__all__ = ["FrameBuffer", "FrameRange", "read_layout"]

#: Bytes that a buffer holds if nothing else is said.
_SIZE = 32768
#: Reads whose words are not all out.
_READS = 4


class FrameRange(data.Struct):
    """Where a frame is: its first word in the buffer, and its bytes."""

    word: 16
    size: LENGTH_BITS


def read_layout(tag) -> data.StructLayout:
    """``size`` bytes from byte ``offset`` of the frame whose first word is ``word``; ``tag`` comes back with them."""
    return data.StructLayout({"word": 16, "offset": LENGTH_BITS, "size": LENGTH_BITS, "tag": tag})


class FrameBuffer(wiring.Component):
    """A circular memory of frames, which are written in order, judged in order, read at will, and released in order.

    A frame begins at a word of its own. It may be judged long after its last word, while others come in behind it. What
    is judged bad is not read and not released: its place is free when all frames kept before it are released.
    When the memory is full, ``write`` waits; nothing is lost.

    A word a cycle in, and a word a cycle out, at once. The first packed word of a read leaves 5 cycles after its
    command, if nothing is before it; reads go out in order, without a gap, and one of n words takes n cycles, or n + 1
    if its first byte is not byte 0 of a word. A read may begin in the cycle after its frame was judged. ``write.ready``
    depends on no input.

    Asserted: only words of kept frames are read, and released; a frame is judged when it is whole; no frame is longer
    than the memory. Reset forgets all frames and reads; the memory's content stays, but no longer counts.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.
    words:
        Size of the memory, a power of two from 16 to 65,536; by default 32 KiB. The longest frame must be shorter by a
        word.
    frames:
        Frames that may be written and not judged, at least 2.
    tag:
        Shape of a read's tag.

    Members
    -------
    write:
        Words of frames; ``last`` ends a frame.
    judged:
        For a cycle: the oldest frame that was not judged is to be kept, or not.
    first:
        The first word of that frame. A frame that is kept is known by it until it is released.
    read:
        Commands (:func:`read_layout`).
    o:
        Packed words (:func:`~rackgate.dma.packer.packed_layout`), never with ``error``.
    release:
        For a cycle: the oldest kept frame, which must have been read.
    idle:
        Nothing is stored.
    """

    write: stream.Interface
    judged: stream.Interface
    read: stream.Interface
    o: stream.Interface
    release: stream.Interface

    def __init__(self, width: int = 8, *, words: int | None = None, frames: int = 32, tag=1):
        self.width, self.tag, self.frames = check_width(width), tag, operator.index(frames)
        self.words = _SIZE // self.width if words is None else operator.index(words)
        if self.words not in [1 << n for n in range(4, 17)]:
            raise ValueError(f"words must be a power of two from 16 to 65536, not {words}")
        if self.frames < 2:
            raise ValueError(f"frames must be at least 2, not {frames}")
        super().__init__({
            "write": In(stream.Signature(data.StructLayout({"data": 8 * self.width, "last": 1}))),
            "judged": In(stream.Signature(data.StructLayout({"keep": 1}), always_ready=True)),
            "first": Out(16),
            "read": In(stream.Signature(read_layout(tag))),
            "o": Out(stream.Signature(packed_layout(self.width, tag))),
            "release": In(stream.Signature(FrameRange, always_ready=True)),
            "idle": Out(1),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        # The word that is written belongs to no kept frame, so it is not the one that is read.
        self._memory = Memory(shape=8 * self.width, depth=self.words, init=[], attrs={ATTRIBUTE: 1})
        # In the order of the circle: the oldest word not released, the first not judged, the next to be written.
        self._oldest, self._unjudged, self._next = (Signal(range(self.words), name=name)
                                                    for name in ("oldest", "unjudged", "next"))
        self._kept = Signal(range(self.words + 1))  # frames kept and not released
        self._has_room = Signal()
        self._ends = Queue(range(self.words), depth=self.frames, block_ram=False)  # words behind the frames not judged
        self._plans = Queue(plan_layout(self.width, tag), depth=_READS)
        self._packer = Packer(self.width, tag=tag)
        # Words to be read: of the read under way, and of one that waits.
        part = data.StructLayout({"word": range(self.words), "left": LENGTH_BITS})
        self._now, self._ahead, self._has_ahead = Signal(part), Signal(part), Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory, m.submodules.ends = self._memory, self._ends
        m.submodules.plans, m.submodules.packer = self._plans, self._packer
        self._store(m)
        self._free(m)
        self._fetch(m)
        return m

    def _store(self, m):
        port, ends = self._memory.write_port(), self._ends
        after, room, puts = Signal.like(self._next), Signal.like(self._next), Signal()
        m.d.comb += [
            after.eq(self._next + 1),
            room.eq(self._oldest - self._next - 1),
            self.write.ready.eq(self._has_room),
            puts.eq(self.write.valid & self._has_room),
            port.addr.eq(self._next),
            port.data.eq(self.write.payload.data),
            port.en.eq(puts),
            ends.i.valid.eq(puts & self.write.payload.last),
            ends.i.payload.eq(after),
        ]
        # Known a cycle ahead to keep the path short.
        m.d.sync += self._has_room.eq(((room >= 2) | (room == 1) & ~puts) & (ends.level < self.frames - 1))
        with m.If(puts):
            m.d.sync += [
                self._next.eq(after),
                Assert((after != self._oldest) & ends.i.ready, "there is no room for a word"),
            ]
        m.d.sync += Assert((room != 0) | (ends.level != 0) | (self._kept != 0) | (self._oldest != self._unjudged),
                           "a frame is longer than the memory")

    def _free(self, m):
        ends, keeps, freed, end = self._ends, Signal(), self.release, Signal.like(self._oldest)
        m.d.comb += [
            self.first.eq(self._unjudged),
            ends.o.ready.eq(self.judged.valid),
            keeps.eq(self.judged.valid & self.judged.payload.keep),
            end.eq(freed.payload.word + (freed.payload.size + self.width - 1 >> exact_log2(self.width))),
            self.idle.eq((self._kept == 0) & (self._unjudged == self._next)),
        ]
        m.d.sync += self._kept.eq(self._kept + keeps - freed.valid)
        with m.If(self.judged.valid):
            m.d.sync += [self._unjudged.eq(ends.o.payload), Assert(ends.o.valid, "judged before the frame was whole")]
        with m.If(freed.valid):
            m.d.sync += [self._oldest.eq(end), Assert(self._kept != 0, "nothing to release")]
        with m.Elif(self._kept == 0):  # of what has been judged nothing is left
            m.d.sync += self._oldest.eq(self._unjudged)

    def _fetch(self, m):
        """Words of the memory, through a register of their own, to where they are packed."""
        port, plans, packer, index = self._memory.read_port(), self._plans, self._packer, exact_log2(self.width)
        command, place = self.read.payload, self.read.payload.offset
        now, ahead, has_ahead = self._now, self._ahead, self._has_ahead
        asked = Signal.like(now)
        takes, is_free, steps, is_fetched, ends, moves = (Signal(name=name) for name in (
            "takes", "is_free", "steps", "is_fetched", "ends", "moves"))
        word = packer.i
        m.d.comb += [
            asked.word.eq(command.word + (place >> index)),
            asked.left.eq((place[:index] + command.size + self.width - 1) >> index),
            self.read.ready.eq(~has_ahead & plans.i.ready),
            takes.eq(self.read.valid & self.read.ready & (command.size != 0)),
            plans.i.valid.eq(self.read.valid & ~has_ahead),
            plans.i.payload.shift.eq(place),
            plans.i.payload.end.eq(place + command.size - 1),
            plans.i.payload.is_empty.eq(command.size == 0),
            plans.i.payload.tag.eq(command.tag),
            moves.eq(~word.valid | word.ready),
            steps.eq((now.left != 0) & (~is_fetched | moves)),
            is_free.eq((now.left == 0) | steps & (now.left == 1)),
            port.addr.eq(now.word),
            port.en.eq(~is_fetched | moves),
        ]
        with m.If(steps):
            m.d.sync += [now.word.eq(now.word + 1), now.left.eq(now.left - 1)]
        with m.If(is_free):
            m.d.sync += [now.eq(Mux(has_ahead, ahead, asked)), has_ahead.eq(0)]
            with m.If(~has_ahead & ~takes):
                m.d.sync += now.left.eq(0)
        with m.Elif(takes):
            m.d.sync += [ahead.eq(asked), has_ahead.eq(1)]
        with m.If(port.en):
            m.d.sync += [is_fetched.eq(steps), ends.eq(now.left == 1)]
        with m.If(moves):
            m.d.sync += [word.valid.eq(is_fetched), word.payload.data.eq(port.data), word.payload.last.eq(ends)]
        # The next plan stands in a register: it decides whether the memory moves on.
        m.submodules.plan = plan = SkidBuffer(plan_layout(self.width, self.tag))
        wiring.connect(m, plans.o, plan.i)
        wiring.connect(m, plan.o, packer.plans)
        wiring.connect(m, packer.o, wiring.flipped(self.o))
        m.d.sync += Assert(~steps | self._is_kept(now.word), "a word is read that is no kept frame's")

    def _is_kept(self, word):
        """Whether ``word`` is between the oldest and the first that is not judged."""
        at, end = (word - self._oldest)[:len(word)], (self._unjudged - self._oldest)[:len(word)]
        return at < end
