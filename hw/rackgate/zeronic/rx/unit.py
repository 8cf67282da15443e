# SPDX-License-Identifier: Apache-2.0
"""The receiving side of the NIC."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.fork import Fork
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.zeronic.abi import Right
from rackgate.zeronic.records import (
    FlowUpdate,
    KeyUpdate,
    Piece,
    PostUpdate,
    ProfileUpdate,
    RegionUpdate,
    RetireUpdate,
    check_width,
)
from rackgate.zeronic.rx.decider import Decider
from rackgate.zeronic.rx.delivery import Delivery, write_channels
from rackgate.zeronic.rx.framebuffer import FrameBuffer
from rackgate.zeronic.rx.front import Front
from rackgate.zeronic.rx.guard import Guard
from rackgate.zeronic.rx.headerbuffer import HeaderBuffer
from rackgate.zeronic.rx.lookup import Lookup
from rackgate.zeronic.rx.planner import Planner, Question
from rackgate.zeronic.rx.records import HEADERS_BITS, Fence, Notice
from rackgate.zeronic.rx.trimmer import Trimmer
from rackgate.zeronic.tables.cover import Cover

__all__ = ["ReceiveUnit"]

#: Engines of Cover, by width: what frames of the least size at full rate need.
_ENGINES = {8: 1, 16: 2, 32: 3}
#: Events of the front and of what follows it, by counter.
_FRONT_EVENTS = {"frames_received": "received", "bytes_received": "received_bytes", "bad_frame": "bad_frame",
                 "bad_ip_checksum": "bad_ip_checksum", "bad_checksum": "bad_checksum"}
#: Frames that wait for Cover, or are judged and not done.
_FRAMES = 16
#: Payload of merged headers at most, whatever COALESCE_BYTES says.
_BYTES_MOST = 65000


class ReceiveUnit(wiring.Component):
    """Frames from the wire to memory and rings, as :mod:`rackgate.zeronic.abi` says.

    Front, frame buffer, Lookup, Planner, Cover, Guard, Decider, Trimmer, and what is in Delivery, one behind the other;
    each has a docstring of its own. Flow and memory are looked for as soon as a frame's headers have come; nothing is
    granted, written or told before its end has, and is right. Frames keep their order up to the rings, but for merged
    headers. When a ring is full or memory slow, ``net_rx`` waits. Reset forgets everything and clears the tables;
    bursts under way must be reset with it.

    The first word of a lone frame is at memory 23 cycles after its last has come, with 256 bytes of payload and more
    at width 8: the place was found meanwhile. With 64 bytes it is 36 cycles, with one byte 41.

    Parameters
    ----------
    width, flows, segments, regions, intervals:
        As of :class:`~rackgate.zeronic.top.Zeronic`.

    Members
    -------
    net_rx:
        Frames. They may come before ``ready``, and then wait.
    data, rings:
        AXI4 write channels, for payload and for entries.
    post, retire, flow, key, region, profile:
        Updates of the tables; each is taken when it is done. ``post`` and ``retire`` are of direction RECEIVE.
    fence:
        Fences, each taken when it has its place between frames (:class:`~.records.Fence`).
    unsent:
        Flows of commands that could not be sent (:class:`~.records.Notice`).
    coalesce_cycles, coalesce_bytes:
        The registers.
    base, log_size, consumer, producer:
        Of the rings: see :class:`~.rings.Rings`.
    events:
        One for each counter (:class:`~rackgate.zeronic.abi.Counter`) of this side, in lower case: what is to be added
        to it in this cycle. ``bad_command``: a segment was refused.
    entry_written:
        High in a cycle in which an entry has been written.
    ready:
        The tables are clear.
    idle:
        No frame is under way from the wire to a ring; merged headers may wait.
    """

    net_rx: stream.Interface
    post: stream.Interface
    retire: stream.Interface
    flow: stream.Interface
    key: stream.Interface
    region: stream.Interface
    profile: stream.Interface
    fence: stream.Interface
    unsent: stream.Interface

    def __init__(self, width: int = 8, *, flows: int = 256, segments: int = 32, regions: int = 64, intervals: int = 32):
        self.width = check_width(width)
        self._front, self._lookup = Front(self.width), Lookup(flows)
        self._cover = Cover(Right.WRITE, flows=flows, segments=segments, regions=regions, engines=_ENGINES[self.width])
        self._guard, self._delivery = Guard(flows, intervals), Delivery(self.width, frames=_FRAMES)
        self.segments = segments
        delivery = self._delivery.signature.members
        front = {name: self._front.signature.members[inner] for name, inner in _FRONT_EVENTS.items()}
        super().__init__({
            "net_rx": In(PacketSignature(self.width)),
            "data": Out(write_channels(self.width)),
            "rings": Out(write_channels(self.width)),
            "post": In(stream.Signature(PostUpdate)),
            "retire": In(stream.Signature(RetireUpdate)),
            "flow": In(stream.Signature(FlowUpdate)),
            "key": In(stream.Signature(KeyUpdate)),
            "region": In(stream.Signature(RegionUpdate)),
            "profile": In(stream.Signature(ProfileUpdate)),
            "fence": In(stream.Signature(Fence)),
            "unsent": In(stream.Signature(Notice)),
            "coalesce_cycles": In(32), "coalesce_bytes": In(32),
            **{name: delivery[name] for name in ("base", "log_size", "consumer", "producer")},
            "events": Out(wiring.Signature({
                **front, **delivery["events"].signature.members, "unknown_flow": Out(1), "bad_command": Out(1)})),
            "entry_written": Out(1), "ready": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.front, m.submodules.lookup = self._front, self._lookup
        m.submodules.cover, m.submodules.guard, m.submodules.delivery = self._cover, self._guard, self._delivery
        m.submodules.planner, m.submodules.decider = planner, decider = Planner(), Decider()
        m.submodules.frames = frames = FrameBuffer(self.width, tag=1)
        m.submodules.heads = heads = HeaderBuffer(self.width)
        self._take_in(m, frames, heads)
        wiring.connect(m, self._front.verdicts, self._lookup.i)
        wiring.connect(m, self._lookup.o, planner.i)
        self._ask(m, planner, decider)
        self._cut(m, decider)
        self._hand_over(m, decider, frames, heads)
        self._update(m)
        self._tell(m, frames)
        return m

    def _take_in(self, m, frames, heads):
        """Frames through the front into their buffer, and their first words into another."""
        front = self._front
        wiring.connect(m, wiring.flipped(self.net_rx), front.i)
        m.d.comb += [
            front.write.ready.eq(frames.write.ready & heads.write.ready),
            front.first.eq(frames.first),
        ]
        for buffer, other in ((frames, heads), (heads, frames)):
            m.d.comb += [
                buffer.write.payload.eq(front.write.payload),
                buffer.write.valid.eq(front.write.valid & other.write.ready),
                buffer.judged.payload.eq(front.judged.payload),
                buffer.judged.valid.eq(front.judged.valid),
            ]

    def _ask(self, m, planner, decider):
        """Where the payload may go: segments by Cover, bytes by Guard."""
        cover, guard, wanted, covered = self._cover, self._guard, planner.cover, decider.covered
        m.submodules.questions = questions = Queue(Question, depth=_FRAMES, block_ram=False)
        wiring.connect(m, planner.o, questions.i)
        wiring.connect(m, questions.o, decider.i)
        m.d.comb += [
            cover.request.valid.eq(wanted.valid), wanted.ready.eq(cover.request.ready),
            *(cover.request.payload[name].eq(wanted.payload[name]) for name in ("flow", "position", "size")),
            covered.valid.eq(cover.result.valid), cover.result.ready.eq(covered.ready),
            *(covered.payload[name].eq(cover.result.payload[name]) for name in ("covered", "no_segment", "bad_region")),
            guard.request.valid.eq(decider.guard.valid), decider.guard.ready.eq(guard.request.ready),
            *(guard.request.payload[name].eq(decider.guard.payload[name]) for name in (
                "flow", "position", "size", "covered_start", "covered_size")),
        ]
        wiring.connect(m, guard.o, decider.judged)
        wiring.connect(m, self._front.endings, decider.endings)
        m.d.comb += self.events.unknown_flow.eq(decider.unknown_flow)

    def _cut(self, m, decider):
        """Pieces wait for what is decided. There is room for all those of a frame, so that Cover can end it."""
        m.submodules.pieces = pieces = Queue(Piece, depth=self.segments + 1, block_ram=False)
        m.submodules.trimmer = trimmer = Trimmer()
        wiring.connect(m, self._cover.piece, pieces.i)
        wiring.connect(m, decider.order, trimmer.order)
        wiring.connect(m, pieces.o, trimmer.pieces)
        wiring.connect(m, trimmer.o, self._delivery.moves)

    def _hand_over(self, m, decider, frames, heads):
        """Decisions to Delivery, and to the buffer of headers what it shall give out."""
        delivery, decision = self._delivery, decider.o.payload
        wanted = data.StructLayout({"wanted": 1, "end": HEADERS_BITS})
        m.submodules.wanted = queue = Queue(wanted, depth=_FRAMES, block_ram=False)
        m.d.comb += [
            decider.o.ready.eq(delivery.decisions.ready & (queue.i.ready | decision.is_fence)),
            delivery.decisions.payload.eq(decision),
            delivery.decisions.valid.eq(decider.o.valid & (queue.i.ready | decision.is_fence)),
            queue.i.payload.wanted.eq(~decision.deferred),
            queue.i.payload.end.eq(decision.headers - 1),
            queue.i.valid.eq(decider.o.valid & ~decision.is_fence & delivery.decisions.ready),
        ]
        wiring.connect(m, queue.o, heads.read)
        wiring.connect(m, heads.o, delivery.headers)
        wiring.connect(m, delivery.read, frames.read)
        wiring.connect(m, frames.o, delivery.words)
        wiring.connect(m, delivery.release, frames.release)
        for name in ("data", "rings"):
            for channel in ("aw", "w", "b"):
                wiring.connect(m, getattr(getattr(delivery, name), channel),
                               getattr(wiring.flipped(getattr(self, name)), channel))

    def _update(self, m):
        """Commands to the tables. A flow is told to all who know of it; it is taken when the last one has taken it."""
        lookup, cover, guard = self._lookup, self._cover, self._guard
        m.submodules.flows = flows = Fork(FlowUpdate, 3)
        for outer, inner in ((self.post, cover.post), (self.retire, cover.retire), (self.region, cover.region),
                             (self.key, lookup.key), (self.profile, self._front.profile),
                             (self.unsent, self._delivery.unsent)):
            wiring.connect(m, wiring.flipped(outer), inner)
        wiring.connect(m, flows.o[0], lookup.flow)
        wiring.connect(m, flows.o[1], guard.update)
        m.d.comb += [
            flows.i.valid.eq(self.flow.valid), self.flow.ready.eq(flows.i.ready),
            flows.i.payload.item.eq(self.flow.payload),
            flows.i.payload.to.eq(Cat(1, 1, self.flow.payload.begin)),  # a list of segments is cleared as a flow begins
            cover.clear.valid.eq(flows.o[2].valid), flows.o[2].ready.eq(cover.clear.ready),
            cover.clear.payload.eq(flows.o[2].payload.flow),
            lookup.fence.valid.eq(self.fence.valid), self.fence.ready.eq(lookup.fence.ready),
            *(lookup.fence.payload[name].eq(self.fence.payload[name]) for name in ("ring", "cookie")),
        ]

    def _tell(self, m, frames):
        front, lookup, delivery = self._front, self._lookup, self._delivery
        m.d.comb += [
            delivery.cycles.eq(self.coalesce_cycles),
            delivery.most.eq(Mux(self.coalesce_bytes > _BYTES_MOST, _BYTES_MOST, self.coalesce_bytes)),
            self.events.bad_command.eq(self._cover.refused),
            self.entry_written.eq(delivery.events.entries),
            self.ready.eq(lookup.ready & self._cover.ready & self._guard.ready),
            self.idle.eq(front.idle & frames.idle & lookup.idle & delivery.idle),
        ]
        for name, inner in _FRONT_EVENTS.items():
            m.d.comb += getattr(self.events, name).eq(getattr(front, inner))
        for name in delivery.events.signature.members:
            m.d.comb += getattr(self.events, name).eq(getattr(delivery.events, name))
        for k, _ in enumerate(self.base):
            m.d.comb += [delivery.base[k].eq(self.base[k]), delivery.log_size[k].eq(self.log_size[k]),
                         delivery.consumer[k].eq(self.consumer[k]), self.producer[k].eq(delivery.producer[k])]
