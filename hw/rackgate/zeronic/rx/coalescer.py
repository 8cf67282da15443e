# SPDX-License-Identifier: Apache-2.0
"""Frames become entries; headers of frames that go on where the last one ended become one."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.packet import PacketSignature
from rackgate.zeronic.abi import ETHERNET_SIZE
from rackgate.zeronic.messages import EntryFlag, EntryKind
from rackgate.zeronic.rx.headerslots import HeaderSlots
from rackgate.zeronic.rx.merge import FLAGS_BYTE, Contexts, HeaderCompare
from rackgate.zeronic.rx.records import ContentSource, Decision, EntryJob

__all__ = ["Coalescer"]

_ACK, _PSH, _PSH_BIT = 0x10, 0x08, 3  # of TCP's flags
_FRAMES_MOST = 255


class Coalescer(wiring.Component):
    """Make the entry of each frame when its payload is in memory; merge headers that may be.

    What may be merged: see :class:`~rackgate.zeronic.messages.EntryKind`. Merged headers wait in one of 8 contexts,
    and go up when PSH has come, when they have waited for ``cycles``, before another entry of their flow, before a
    fence, or, the oldest, when a context is wanted. So entries of a flow keep their order, others of a ring need not.

    Headers of n words take n + 1 cycles when no headers wait, else n + 3, and n + 4 if some of their flow do; other
    frames and fences 3; each entry that goes up before it 2 more. The entry leaves a cycle after ``placed`` has come,
    when nothing is in the way. ``i.ready`` depends combinationally on ``i``, ``placed`` and ``o.ready``,
    ``headers.ready`` on ``i``. Reset forgets the contexts.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Frames and fences, in order (:class:`~.records.Decision`). One is taken when it is done.
    headers:
        Of each frame that is not deferred, as a packet, from IPv4's on.
    placed:
        For each frame of which something is ``placed``: it is in memory; ``error``: it may not be.
    failed, merged:
        In the cycle in which ``i`` is taken: ``placed.error``; it was merged into the entry of another.
    cycles, most:
        COALESCE_CYCLES (0: merge nothing; less than 2**31) and COALESCE_BYTES.
    o:
        Entries (:class:`~.records.EntryJob`).
    read, words:
        As ``read`` and ``o`` of :class:`~.headerslots.HeaderSlots`: for who writes the entries.
    """

    i: stream.Interface
    headers: stream.Interface
    placed: stream.Interface
    o: stream.Interface
    read: stream.Interface
    words: stream.Interface

    def __init__(self, width):
        self._slots, self._contexts = HeaderSlots(width), Contexts()
        self.width = self._slots.width
        self._compare = HeaderCompare(self.width)
        super().__init__({
            "i": In(stream.Signature(Decision)),
            "headers": In(PacketSignature(self.width)),
            "placed": In(stream.Signature(data.StructLayout({"error": 1}))),
            "failed": Out(1), "merged": Out(1),
            "cycles": In(32), "most": In(17),
            "o": Out(stream.Signature(EntryJob)),
            "read": self._slots.signature.members["read"],
            "words": self._slots.signature.members["o"],
        })
        self._at = Signal.like(self._contexts.at)  # the context of the flow, or the oldest
        self._slot = Signal.like(self._slots.free_slot)  # of the headers that come
        self._may_wait = Signal()  # the frame's headers may be merged with others
        # It goes on where the context at ``at`` ends, whose headers are as long; and has room in it. A cycle before
        # that: all but the room; bytes of both.
        self._fits, self._goes_on, self._total = Signal(), Signal(), Signal(18)
        self._has_context = Signal()  # its flow has one
        self._frame, self._has_placed = Signal(Decision), Signal()  # ``i`` a cycle ago; something of it is placed
        self._is_taken = Signal(init=1)  # it is done, and ``i`` has moved on

    def elaborate(self, platform):
        m = Module()
        m.submodules.slots, m.submodules.contexts = slots, contexts = self._slots, self._contexts
        m.submodules.compare = self._compare
        wiring.connect(m, wiring.flipped(self.read), slots.read)
        wiring.connect(m, slots.o, wiring.flipped(self.words))
        frame, is_free, is_complete = self.i.payload, Signal(), Signal()
        m.d.comb += [
            is_free.eq(~self.o.valid | self.o.ready),
            is_complete.eq(~self._has_placed | self.placed.valid),
            self.failed.eq(self._has_placed & self.placed.payload.error),
            self.placed.ready.eq(self.i.ready & self._has_placed),
            contexts.flow.eq(frame.flow), contexts.cycles.eq(self.cycles), contexts.at.eq(self._at),
        ]
        m.d.sync += [self._frame.eq(frame), self._has_placed.eq(frame.placed != 0)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += self._at.eq(0)
                with m.If(contexts.is_due):
                    m.next = "FLUSH"
                with m.Elif(self.i.valid & contexts.is_empty & slots.has_free & ~frame.is_fence & ~frame.deferred):
                    # Nobody waits who could be concerned.
                    m.d.comb += self.headers.ready.eq(1)
                    m.d.sync += [self._slot.eq(slots.free_slot), self._is_taken.eq(0), self._has_context.eq(0)]
                    m.next = "LOAD"
                    with m.If(self.headers.valid & self.headers.payload.last):
                        m.next = "JUDGE"
                with m.Elif(self.i.valid):
                    m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.comb += self._compare.begin.eq(1)  # not later: what was found holds while the memory is waited for
                m.d.sync += [self._slot.eq(slots.free_slot), self._is_taken.eq(0)]
                with m.If(~frame.is_fence):
                    m.d.sync += [self._at.eq(contexts.place), self._has_context.eq(contexts.has_flow & frame.has_flow)]
                with m.If(frame.is_fence | frame.deferred):
                    m.next = "JUDGE"
                with m.Elif(slots.has_free):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.headers.ready.eq(1)
                with m.If(self.headers.valid & self.headers.payload.last):
                    m.next = "JUDGE"
                    with m.If(self._may_wait & self._has_context):
                        m.next = "COMPARE"
            with m.State("COMPARE"):  # the last word
                m.next = "JUDGE"
            with m.State("JUDGE"):
                with m.If(is_complete):
                    self._judge(m, is_free)
            with m.State("FLUSH"):
                with m.If(is_free):
                    self._flush(m)
                    m.next = "JUDGE"
                    with m.If(self._is_taken):
                        m.next = "IDLE"
        self._look(m, Mux(fsm.ongoing("IDLE"), slots.free_slot, self._slot))
        return m

    def _judge(self, m, is_free):
        """A frame whose payload is in memory: it joins a context, or that goes, and it begins one or goes up itself."""
        frame, contexts, slots = self._frame, self._contexts, self._slots
        ends = frame.flags[_PSH_BIT]
        with m.If(self._may_wait & self._has_context & self._fits & self._compare.is_same & ~self.failed):
            m.d.comb += [self.i.ready.eq(1), self.merged.eq(1), contexts.update.eq(1)]
            m.next = "IDLE"
            with m.If(ends):
                m.next = "FLUSH"
        with m.Elif(Mux(frame.is_fence, ~contexts.is_empty, self._has_context)):
            m.next = "FLUSH"
        with m.Elif(self._may_wait & ~ends & ~self.failed):
            with m.If(contexts.is_full):
                m.d.sync += self._at.eq(0)
                m.next = "FLUSH"
            with m.Else():
                m.d.comb += [self.i.ready.eq(1), contexts.append.eq(1), slots.take.eq(1)]
                m.next = "IDLE"
        with m.Elif(is_free):
            m.d.comb += [self.i.ready.eq(1), slots.take.eq(~frame.is_fence & ~frame.deferred)]
            m.d.sync += self.o.valid.eq(1)
            self._enter(m)
            m.next = "IDLE"
        with m.If(self.i.ready):
            m.d.sync += self._is_taken.eq(1)

    def _look(self, m, slot):
        """The headers into their slot, next to those of the context; what the context will be with the frame."""
        coming, frame = self.i.payload, self._frame
        contexts, slots, compare = self._contexts, self._slots, self._compare
        found, context, index, takes = contexts.found, contexts.context, Signal.like(slots.put_index), Signal()
        m.d.comb += [
            takes.eq(self.headers.valid & self.headers.ready),
            slots.put.eq(takes | self.merged & frame.flags[_PSH_BIT]),
            slots.put_slot.eq(slot), slots.put_index.eq(index),
            slots.put_data.eq(self.headers.payload.data), slots.put_bytes.eq(-1),
            slots.look_slot.eq(found.slot), slots.look_index.eq(index),
            slots.taken_slot.eq(self._slot),
            compare.step.eq(takes), compare.index.eq(index), compare.left.eq(self.headers.payload.data),
            compare.count.eq(self.headers.payload.count), compare.right.eq(slots.looked),
            context.eq(found),
            context.next.eq(frame.position + frame.payload),
        ]
        with m.If(self.merged):  # in a cycle in which no headers come
            m.d.comb += [
                slots.put_slot.eq(found.slot), slots.put_index.eq(FLAGS_BYTE // self.width),
                slots.put_data.eq((_ACK | _PSH) << 8 * (FLAGS_BYTE % self.width)),
                slots.put_bytes.eq(1 << FLAGS_BYTE % self.width),
                context.payload.eq(found.payload + frame.payload),
                context.frames.eq(found.frames + 1),
            ]
        with m.Else():
            m.d.comb += [
                context.ring.eq(frame.ring), context.slot.eq(self._slot), context.headers.eq(frame.headers),
                context.payload.eq(frame.payload), context.frames.eq(1),
            ]
        m.d.sync += [
            self._may_wait.eq(coming.coalesce & coming.split & ~coming.deferred & ~coming.is_fence & (self.cycles != 0)
                              & (coming.payload != 0) & (coming.placed == coming.payload)
                              & (coming.flags | _PSH == _ACK | _PSH)),
            self._goes_on.eq((found.next == coming.position) & (found.ring == coming.ring)
                             & (found.headers == coming.headers) & (found.frames != _FRAMES_MOST)),
            self._total.eq(found.payload + coming.payload),
            self._fits.eq(self._goes_on & (self._total <= self.most)),
        ]
        with m.If(takes):
            m.d.sync += index.eq(Mux(self.headers.payload.last, 0, index + 1))

    def _enter(self, m):
        """The entry of the frame or fence at ``i``."""
        frame, job = self._frame, self.o.payload
        entry, is_plain = job.entry, frame.has_flow & ~frame.is_fence
        kind = Mux(frame.is_fence, EntryKind.FENCE, Mux(frame.deferred, EntryKind.DEFERRED, EntryKind.HEADER))
        flags = Cat(is_plain, frame.checked, self.failed)  # as EntryFlag
        m.d.sync += [
            job.ring.eq(frame.ring),
            job.source.eq(Mux(frame.deferred, ContentSource.FRAME, ContentSource.SLOT)),
            job.place.eq(Mux(frame.deferred, frame.word, self._slot)),
            entry.eq(0),
            entry.kind.eq(kind),
        ]
        with m.If(frame.is_fence):
            m.d.sync += entry.flow.eq(frame.position)
        with m.Else():
            m.d.sync += [
                entry.flags.eq(flags),
                entry.content.eq(Mux(frame.deferred, frame.length, frame.headers - ETHERNET_SIZE)),
                entry.frames.eq(1),
            ]
        with m.If(is_plain):
            m.d.sync += [
                entry.flow.eq(frame.flow), entry.payload.eq(frame.payload), entry.headers.eq(frame.headers),
                entry.placed_offset.eq(frame.placed_offset), entry.placed.eq(frame.placed),
            ]

    def _flush(self, m):
        """The entry of the context at ``at``, which ends."""
        contexts, job, found = self._contexts, self.o.payload, self._contexts.found
        entry = job.entry
        m.d.comb += contexts.remove.eq(1)
        m.d.sync += [
            self._has_context.eq(0),
            self.o.valid.eq(1),
            job.ring.eq(found.ring), job.source.eq(ContentSource.SLOT), job.place.eq(found.slot),
            entry.eq(0),
            entry.kind.eq(EntryKind.HEADER), entry.flags.eq(EntryFlag.FLOW | EntryFlag.CHECKED),
            entry.flow.eq(contexts.found_flow), entry.content.eq(found.headers - ETHERNET_SIZE),
            entry.payload.eq(found.payload), entry.placed.eq(found.payload), entry.headers.eq(found.headers),
            entry.frames.eq(found.frames),
        ]
