# SPDX-License-Identifier: Apache-2.0
"""The back half of the receive chain: from what was decided about frames to memory and rings."""

import operator

from amaranth.hdl import Assert, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.dma.packer import packed_layout
from rackgate.stream.arbiter import Arbiter
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.messages import EntryFlag, EntryKind
from rackgate.zeronic.records import ADDRESS_BITS, check_width
from rackgate.zeronic.rx.coalescer import Coalescer
from rackgate.zeronic.rx.entries import EntryWriter
from rackgate.zeronic.rx.framebuffer import FrameRange, read_layout
from rackgate.zeronic.rx.placement import Placement
from rackgate.zeronic.rx.records import ContentSource, Decision, EntryJob, Move, Notice
from rackgate.zeronic.rx.releaser import Releaser
from rackgate.zeronic.rx.tally import Tally

__all__ = ["Delivery", "write_channels"]


def write_channels(width: int) -> wiring.Signature:
    """The write channels of an AXI4 initiator of the NIC with words of ``width`` bytes."""
    bus = AXI4Signature(addr_width=ADDRESS_BITS, data_width=8 * width, id_width=4)
    return wiring.Signature({name: bus.members[name] for name in ("aw", "w", "b")})


class Delivery(wiring.Component):
    """Place payload, and write the entries of frames whose payload is in memory; release the frames.

    Up to ``frames`` frames may be decided and not done. Payload and content of DEFERRED entries share the frame
    buffer's reads and take turns; headers do not. When a ring is full or memory slow, ``decisions`` waits; ``moves``
    waits only for memory. Reset forgets everything; bursts under way must be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.
    frames:
        From 2 on.

    Members
    -------
    decisions, moves:
        What becomes of frames, and the moves of those of which something is ``placed``, each in order. The moves of a
        frame must not come before its decision was taken, or could be.
    headers:
        See :class:`~.coalescer.Coalescer`.
    unsent:
        Of what to write an entry of kind UNSENT (:class:`~.records.Notice`).
    read, words, release:
        Of the :class:`~.framebuffer.FrameBuffer`: ``read``, with a tag of one bit, ``o`` and ``release``.
    cycles, most:
        See :class:`~.coalescer.Coalescer`.
    base, log_size, consumer, producer:
        See :class:`~.rings.Rings`.
    data, rings:
        AXI4 write channels for payload and for entries.
    events:
        See :class:`~.tally.Tally`; and ``entries``, ``ring_full``, ``write_error`` also of rings.
    idle:
        Nothing is under way, but for contexts of the Coalescer.
    """

    decisions: stream.Interface
    moves: stream.Interface
    headers: stream.Interface
    unsent: stream.Interface
    read: stream.Interface
    words: stream.Interface
    release: stream.Interface

    def __init__(self, width, *, frames=16):
        self.width, self.frames = check_width(width), operator.index(frames)
        if self.frames < 2:
            raise ValueError(f"frames must be at least 2, not {frames}")
        self._entries, self._coalescer, self._tally = EntryWriter(self.width), Coalescer(self.width), Tally()
        self._placement = Placement(self.width)
        entries, coalescer = self._entries.signature.members, self._coalescer.signature.members
        events = {name: member for name, member in self._tally.signature.members.items() if member.flow == Out}
        super().__init__({
            "decisions": In(stream.Signature(Decision)),
            "moves": In(stream.Signature(Move)),
            "unsent": In(stream.Signature(Notice)),
            "read": Out(stream.Signature(read_layout(1))),
            "words": In(stream.Signature(packed_layout(self.width, 1))),
            "release": Out(stream.Signature(FrameRange, always_ready=True)),
            **{name: coalescer[name] for name in ("headers", "cycles", "most")},
            **{name: entries[name] for name in ("base", "log_size", "consumer", "producer")},
            "data": Out(write_channels(self.width)),
            "rings": Out(write_channels(self.width)),
            "events": Out(wiring.Signature({**events, "entries": Out(1), "ring_full": Out(1), "write_error": Out(2)})),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.coalescer, m.submodules.entries = coalescer, entries = self._coalescer, self._entries
        m.submodules.placement, m.submodules.tally = self._placement, self._tally
        m.submodules.decided = decided = Queue(Decision, depth=self.frames, block_ram=False)
        m.submodules.arbiter = arbiter = Arbiter(EntryJob, 2)
        wiring.connect(m, wiring.flipped(self.decisions), decided.i)
        wiring.connect(m, wiring.flipped(self.headers), coalescer.headers)
        wiring.connect(m, coalescer.o, arbiter.i[0])
        wiring.connect(m, arbiter.o, entries.i)
        for name in ("aw", "w", "b"):
            wiring.connect(m, getattr(entries, name), getattr(wiring.flipped(self.rings), name))
            wiring.connect(m, getattr(self._placement, name), getattr(wiring.flipped(self.data), name))
        for k, _ in enumerate(self.base):
            m.d.comb += [entries.base[k].eq(self.base[k]), entries.log_size[k].eq(self.log_size[k]),
                         entries.consumer[k].eq(self.consumer[k]), self.producer[k].eq(entries.producer[k])]
        notice, job = self.unsent.payload, arbiter.i[1].payload
        m.d.comb += [
            coalescer.cycles.eq(self.cycles), coalescer.most.eq(self.most),
            arbiter.i[1].valid.eq(self.unsent.valid), self.unsent.ready.eq(arbiter.i[1].ready),
            job.ring.eq(notice.ring), job.entry.kind.eq(EntryKind.UNSENT), job.entry.flags.eq(EntryFlag.FLOW),
            job.entry.flow.eq(notice.flow),
            self.idle.eq((decided.level == 0) & ~coalescer.o.valid & ~arbiter.o.valid & entries.idle),
        ]
        self._place(m)
        self._read(m)
        self._retire(m, decided.o)
        return m

    def _place(self, m):
        """Payload to memory. There is room for the answers of all frames under way: reads are never held up by them."""
        placement = self._placement
        # Also of those whose decision is about to come in, or at the Coalescer.
        m.submodules.placed = placed = Queue(placement.placed.payload.shape(), depth=self.frames + 2, block_ram=False)
        wiring.connect(m, wiring.flipped(self.moves), placement.i)
        wiring.connect(m, placement.placed, placed.i)
        wiring.connect(m, placed.o, self._coalescer.placed)
        m.d.sync += Assert(~placement.placed.valid | placement.placed.ready, "more frames are placed than decided")

    def _read(self, m):
        """The frame buffer for payload (tag 0) and for entries (tag 1); slots for entries."""
        placement, coalescer, entries = self._placement, self._coalescer, self._entries
        fetch, words = entries.fetch, self.words
        m.submodules.reads = reads = Arbiter(read_layout(1), 2)
        # Whether content is taken must not hang on what is asked for at the same time: the placer's turn would, too.
        m.submodules.contents = contents = SkidBuffer(read_layout(1))
        wiring.connect(m, contents.o, reads.i[1])
        wiring.connect(m, reads.o, wiring.flipped(self.read))
        wiring.connect(m, coalescer.words, entries.headers)
        is_frame, payload, content = fetch.payload.source == ContentSource.FRAME, reads.i[0], contents.i
        m.d.comb += [
            payload.valid.eq(placement.read.valid), placement.read.ready.eq(payload.ready),
            *(payload.payload[name].eq(placement.read.payload[name]) for name in ("word", "offset", "size")),
            content.valid.eq(fetch.valid & is_frame),
            content.payload.word.eq(fetch.payload.place), content.payload.size.eq(fetch.payload.size),
            content.payload.tag.eq(1),
            coalescer.read.valid.eq(fetch.valid & ~is_frame),
            coalescer.read.payload.slot.eq(fetch.payload.place), coalescer.read.payload.size.eq(fetch.payload.size),
            fetch.ready.eq(content.ready & is_frame | coalescer.read.ready & ~is_frame),
            words.ready.eq(placement.words.ready & ~words.payload.tag | entries.frames.ready & words.payload.tag),
        ]
        for target, tag in ((placement.words, 0), (entries.frames, 1)):
            m.d.comb += [
                target.valid.eq(words.valid & (words.payload.tag == tag)),
                *(target.payload[name].eq(words.payload[name]) for name in ("data", "count", "last", "error")),
            ]

    def _retire(self, m, decided):
        """Frames that are done leave the frame buffer, and are counted."""
        coalescer, entries, tally, frame = self._coalescer, self._entries, self._tally, decided.payload
        m.submodules.releaser = releaser = Releaser(frames=self.frames)
        wiring.connect(m, releaser.o, wiring.flipped(self.release))
        is_done = decided.valid & decided.ready
        m.d.comb += [
            coalescer.i.payload.eq(frame),
            coalescer.i.valid.eq(decided.valid & releaser.i.ready),
            decided.ready.eq(coalescer.i.ready),
            releaser.i.valid.eq(is_done & ~frame.is_fence),
            releaser.i.payload.frame.word.eq(frame.word), releaser.i.payload.frame.size.eq(frame.length),
            releaser.i.payload.is_read.eq(frame.deferred),
            releaser.was_read.eq(entries.frames.valid & entries.frames.ready & entries.frames.payload.last),
            tally.done.eq(is_done), tally.frame.eq(frame),
            tally.has_failed.eq(coalescer.failed), tally.is_merged.eq(coalescer.merged),
            *(getattr(self.events, name).eq(getattr(tally, name)) for name in self.events.signature.members
              if name not in ("entries", "ring_full", "write_error")),
            self.events.entries.eq(entries.written),
            self.events.ring_full.eq(entries.is_full),
            self.events.write_error.eq(tally.write_error + entries.failed),
        ]
