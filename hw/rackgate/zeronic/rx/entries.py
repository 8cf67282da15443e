# SPDX-License-Identifier: Apache-2.0
"""Entries to the rings in memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.dma.placer import Placer
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.zeronic.messages import Entry, EntryKind
from rackgate.zeronic.records import ADDRESS_BITS
from rackgate.zeronic.rx.records import UNITS_BITS, ContentRequest, ContentSource, EntryJob, RawEntry
from rackgate.zeronic.rx.rings import Rings, Room

__all__ = ["EntryWriter"]

#: Bytes of a unit of an entry's size; of what is written of a pad.
_UNIT = 8
#: Entries that have a place and wait for their words.
_LAUNCHES = 4


class _Launch(data.Struct):
    """Words to come: the first of ``entry``, then those of ``source`` if it has content; of a ``lost`` one none."""

    entry: RawEntry
    source: ContentSource
    is_pad: 1
    is_lost: 1
    has_content: 1


class _Job(data.Struct):
    """An entry, and how many units it takes in its ring."""

    job: EntryJob
    units: UNITS_BITS


class EntryWriter(wiring.Component):
    """Write entries to their rings, and count them to the host when they are in memory.

    Each entry is written by two ranges, its first 16 bytes and its content with the zeros behind it; of a pad 8 bytes
    are. Places: see :class:`~.rings.Rings`. Entries of both rings take turns as they come: one that waits for room
    holds up all behind it.

    An entry with content takes 3 cycles, and as many as it and its content cover words of memory, if that is more; its
    first burst is out 6 cycles after ``i``, when nothing is in the way; ``producer`` moves a cycle after the answer to
    the last one. ``i.ready`` comes from registers. Reset forgets entries and rings; bursts under way must be reset with
    it.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Entries (:class:`~.records.EntryJob`).
    base, log_size, consumer, producer, is_full:
        See :class:`~.rings.Rings`.
    fetch:
        Content that is wanted, in order (:class:`~.records.ContentRequest`). It must be taken even if no content is.
    headers, frames:
        Content from slots and of frames, as packets, each in the order of ``fetch``; none is a word of ``count`` 0.
    written:
        High in the cycle in which an entry that is no pad is in memory. ``failed``: in the one in which an entry or pad
        counts as written though a write of it was answered with an error.
    idle:
        No entry is under way.
    aw, w, b:
        AXI4 write channels.
    """

    i: stream.Interface
    fetch: stream.Interface
    headers: stream.Interface
    frames: stream.Interface

    def __init__(self, width):
        # Tag: what has been written, with ``last`` of it; a pad does not count.
        tag = data.StructLayout({"room": Room, "last": 1, "is_pad": 1})
        self._placer = Placer(width, tag=tag, addr_width=ADDRESS_BITS, fifo_depth=32)
        self.width = self._placer.width
        self._rings = Rings()
        rings = self._rings.signature.members
        super().__init__({
            "i": In(stream.Signature(EntryJob)),
            **{name: rings[name] for name in ("base", "log_size", "consumer", "producer", "is_full")},
            "fetch": Out(stream.Signature(ContentRequest)),
            "headers": In(PacketSignature(self.width)),
            "frames": In(PacketSignature(self.width)),
            "written": Out(1), "failed": Out(1), "idle": Out(1),
            **{name: self._placer.signature.members[name] for name in ("aw", "w", "b")},
        })
        self._second = Signal()  # the range of the content is next
        self._under_way = Signal(8)  # entries between ``i`` and memory

    def elaborate(self, platform):
        m = Module()
        m.submodules.rings, m.submodules.placer = rings, placer = self._rings, self._placer
        m.submodules.jobs = jobs = Queue(_Job, depth=4, block_ram=False)
        m.submodules.launches = launches = Queue(_Launch, depth=_LAUNCHES, block_ram=False)
        for name in ("aw", "w", "b"):
            wiring.connect(m, getattr(placer, name), wiring.flipped(getattr(self, name)))
        for k in range(len(self.base)):
            m.d.comb += [rings.base[k].eq(self.base[k]), rings.log_size[k].eq(self.log_size[k]),
                         rings.consumer[k].eq(self.consumer[k]), self.producer[k].eq(rings.producer[k])]
        m.d.comb += self.is_full.eq(rings.is_full)
        m.d.comb += [
            jobs.i.valid.eq(self.i.valid), self.i.ready.eq(jobs.i.ready), jobs.i.payload.job.eq(self.i.payload),
            jobs.i.payload.units.eq((self.i.payload.entry.content + Entry.SIZE + _UNIT - 1) >> 3),
        ]
        self._launch(m, jobs.o, launches.i)
        self._send(m, launches.o)
        self._finish(m)
        return m

    def _launch(self, m, jobs, launches):
        """An entry that has a place: its ranges to the placer, its content asked for, its words to come."""
        rings, command, job, fetch = self._rings, self._placer.i, jobs.payload.job, self.fetch
        place, units, launch = rings.o.payload, jobs.payload.units, launches.payload
        has_content, is_last, wants = Signal(), Signal(), Signal()
        others = Signal()  # all but the placer take it
        # A job is known a cycle before its place is, so what is said of its content comes from registers.
        is_some, size = Signal(), Signal(range(_UNIT << UNITS_BITS))
        m.d.sync += [is_some.eq(job.entry.content != 0), size.eq(units - Entry.SIZE // _UNIT << 3)]
        m.d.comb += [
            rings.i.valid.eq(jobs.valid),
            rings.i.payload.ring.eq(job.ring),
            rings.i.payload.units.eq(units),
            jobs.ready.eq(rings.i.ready),
            has_content.eq(~place.pad & is_some),
            is_last.eq(self._second | ~has_content | place.lost),
            # The words may come from the first range on; the content is asked for once.
            wants.eq(has_content & is_last),
            others.eq((launches.ready | self._second) & (fetch.ready | ~wants)),
            command.valid.eq(rings.o.valid & ~place.lost & others),
            command.payload.addr.eq(place.address + Mux(self._second, Entry.SIZE, 0)),
            command.payload.size.eq(Mux(place.pad, _UNIT, Mux(self._second, size, Entry.SIZE))),
            command.payload.tag.room.ring.eq(place.ring),
            command.payload.tag.room.units.eq(place.units),
            command.payload.tag.last.eq(is_last),
            command.payload.tag.is_pad.eq(place.pad),
            rings.o.ready.eq(is_last & others & (command.ready | place.lost)),
            launches.valid.eq(rings.o.valid & ~self._second & (command.ready | place.lost) & (fetch.ready | ~wants)),
            launch.entry.eq(job.entry),
            launch.entry.size.eq(place.units),
            launch.source.eq(job.source),
            launch.is_pad.eq(place.pad), launch.is_lost.eq(place.lost), launch.has_content.eq(has_content),
            fetch.valid.eq(rings.o.valid & wants & (launches.ready | self._second) & (command.ready | place.lost)),
            fetch.payload.source.eq(job.source), fetch.payload.place.eq(job.place),
            fetch.payload.size.eq(Mux(place.lost, 0, job.entry.content)),
        ]
        with m.If(place.pad):
            m.d.comb += [launch.entry.eq(0), launch.entry.kind.eq(EntryKind.PAD), launch.entry.size.eq(place.units)]
        with m.If(rings.o.valid & others & (command.ready | place.lost)):
            m.d.sync += self._second.eq(~is_last)

    def _send(self, m, launches):
        """The words of the entries, one after the other."""
        launch, words, beat = launches.payload, self._placer.words, Signal(1)
        size, head = Mux(launch.is_pad, _UNIT, Entry.SIZE), launch.entry.as_value()
        count, keep, content = Signal(range(self.width + 1)), Signal(8 * self.width), Signal(PacketSignature(
            self.width).members["payload"].shape)
        is_headers = launch.source == ContentSource.SLOT
        takes, valid = Signal(), Signal()
        m.d.comb += [
            content.eq(Mux(is_headers, self.headers.payload, self.frames.payload)),
            valid.eq(Mux(is_headers, self.headers.valid, self.frames.valid)),
            self.headers.ready.eq(takes & is_headers),
            self.frames.ready.eq(takes & ~is_headers),
            # What is left of the last word is zeros, up to a whole unit.
            count.eq((content.count + _UNIT - 1)[3:] << 3),
            keep.eq(Cat((content.count > k).replicate(8) for k in range(self.width))),
        ]
        with m.FSM():
            with m.State("HEAD"):
                is_last = (beat == 1) | launch.is_pad | (self.width >= Entry.SIZE)
                m.d.comb += [
                    words.valid.eq(launches.valid & ~launch.is_lost),
                    words.payload.data.eq(Mux(beat, head[64:], head)),
                    words.payload.count.eq(size if self.width >= Entry.SIZE else _UNIT),
                    words.payload.last.eq(is_last),
                    launches.ready.eq((words.ready & is_last | launch.is_lost) & ~launch.has_content),
                ]
                with m.If(launches.valid & (words.ready | launch.is_lost)):
                    m.d.sync += beat.eq(~is_last & ~launch.is_lost)
                    with m.If((is_last | launch.is_lost) & launch.has_content):
                        m.next = "CONTENT"
            with m.State("CONTENT"):
                m.d.comb += [
                    words.valid.eq(valid & ~launch.is_lost),
                    words.payload.data.eq(content.data & keep),
                    words.payload.count.eq(count),
                    words.payload.last.eq(content.last),
                    takes.eq(words.ready | launch.is_lost),
                    launches.ready.eq(takes & valid & content.last),
                ]
                with m.If(launches.ready):
                    m.next = "HEAD"

    def _finish(self, m):
        """Writes that have been answered."""
        done, rings = self._placer.done, self._rings
        tag, is_lost, is_bad = done.payload.tag, Signal(), Signal()  # the first range of an entry failed
        m.d.comb += [
            done.ready.eq(1),
            rings.written.valid.eq(done.valid & tag.last),
            rings.written.payload.eq(tag.room),
            self.written.eq(done.valid & tag.last & ~tag.is_pad),
            self.failed.eq(done.valid & tag.last & (done.payload.error | is_bad)),
            self.idle.eq(self._under_way == 0),
        ]
        with m.If(done.valid):
            m.d.sync += is_bad.eq(~tag.last & done.payload.error)
        m.d.sync += is_lost.eq(rings.o.valid & rings.o.ready & rings.o.payload.lost)
        m.d.sync += self._under_way.eq(self._under_way + (self.i.valid & self.i.ready) - self.written - is_lost)

