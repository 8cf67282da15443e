# SPDX-License-Identifier: Apache-2.0
"""The half of the NIC that sends: from the ring of commands to the wire."""

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.stream.fork import Fork
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.abi import Direction, Right
from rackgate.zeronic.commandreader import CommandReader
from rackgate.zeronic.commands import CommandDecoder
from rackgate.zeronic.records import (
    ADDRESS_BITS,
    FLOW_BITS,
    LENGTH_BITS,
    FlowUpdate,
    KeyUpdate,
    PostUpdate,
    ProfileUpdate,
    RegionUpdate,
    RetireUpdate,
)
from rackgate.zeronic.relay import Relay
from rackgate.zeronic.tables.cover import Cover
from rackgate.zeronic.tx.assembler import Assembler
from rackgate.zeronic.tx.editor import Editor
from rackgate.zeronic.tx.gather import Gather
from rackgate.zeronic.tx.intake import Intake
from rackgate.zeronic.tx.joiner import Joiner
from rackgate.zeronic.tx.merger import Merger
from rackgate.zeronic.tx.records import SLOTS, FrameJob
from rackgate.zeronic.tx.rings import FlowRings
from rackgate.zeronic.tx.segmenter import Segmenter
from rackgate.zeronic.tx.slicer import Slicer, slice_layout

__all__ = ["SendUnit"]

#: Frames that wait for their payload.
_FRAMES = 16
#: Engines of the search by width: as many requests as there are frames.
_ENGINES = {8: 1, 16: 2, 32: 3}


class SendUnit(wiring.Component):
    """Take commands from their ring, send frames, and give to the receiving half what is for it.

    What each command does and what is refused: :mod:`rackgate.zeronic.messages`. Commands take effect strictly in
    order. An update has been applied when the output for it is taken, and the table here, if there is one, has taken
    it too; this costs 2 cycles more than the table takes. ``consumer`` passes an update when it has been applied, and a
    SEND when its words have been taken; its frames follow in order, and updates that they could see wait for them.
    ``halted``: the memory refused to read the ring; no command is taken any more until reset, and one that had begun is
    not carried out.

    Memory is read only where the ring is, and where :class:`~rackgate.zeronic.tables.cover.Cover` says that a region
    allows it.

    Timing: frames of one command leave without a gap but for one cycle a frame, as long as the payload of each is one
    piece of memory; each further piece costs a cycle. From the last word of a lone frame's header on the ring's port to
    its first word on the wire it takes what the memory takes, a cycle for each word of payload, the search (see Cover),
    and 15 cycles, at widths 16 and 32 19.

    Reset forgets everything and clears the tables, an entry a cycle; bursts under way must be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word of memory and wire: 8, 16 or 32.
    flows, segments, regions:
        As of :class:`~rackgate.zeronic.top.Zeronic`.

    Members
    -------
    net_tx:
        Frames, never with ``error``; a frame that has begun never pauses.
    memory, rings:
        AXI4 read channels: payload, and the ring of commands.
    base, log_size, producer, consumer:
        As in registers COMMAND_*.
    enable:
        Read commands; those that have been read are carried out.
    post, retire, flow, key, region, profile, fence:
        Updates for the receiving half. ``flow``: of commands FLOW and CURSOR, and what SNOOP finds.
    unsent:
        Commands that were cut off.
    events:
        Members named as the counters that they add to.
    ready:
        The tables are clear.
    idle:
        No command is announced or under way, and no frame.
    halted:
        See above.
    """

    net_tx: stream.Interface
    flow: stream.Interface
    region: stream.Interface
    post: stream.Interface
    retire: stream.Interface
    unsent: stream.Interface

    def __init__(self, width: int = 8, *, flows: int = 256, segments: int = 32, regions: int = 64):
        self._decoder = CommandDecoder(width, flows=flows, regions=regions)
        self.width, self.flows, self.regions = self._decoder.width, self._decoder.flows, self._decoder.regions
        self._cover = Cover(Right.READ, flows=flows, segments=segments, regions=regions, engines=_ENGINES[self.width])
        self.segments = segments
        bus = AXI4Signature(addr_width=ADDRESS_BITS, data_width=8 * self.width)
        reads = wiring.Signature({"ar": bus.members["ar"], "r": bus.members["r"]})
        super().__init__({
            "net_tx": Out(PacketSignature(self.width)), "memory": Out(reads), "rings": Out(reads),
            "base": In(ADDRESS_BITS), "log_size": In(5), "producer": In(32), "consumer": Out(32), "enable": In(1),
            "post": Out(stream.Signature(PostUpdate)), "retire": Out(stream.Signature(RetireUpdate)),
            "flow": Out(stream.Signature(FlowUpdate)), "key": Out(stream.Signature(KeyUpdate)),
            "region": Out(stream.Signature(RegionUpdate)), "profile": Out(stream.Signature(ProfileUpdate)),
            "fence": Out(stream.Signature(data.StructLayout({"ring": 1, "cookie": 16}))),
            "unsent": Out(stream.Signature(data.StructLayout({"ring": 1, "flow": FLOW_BITS}))),
            "events": Out(wiring.Signature({
                "frames_sent": Out(1), "bytes_sent": Out(LENGTH_BITS), "unsent": Out(1), "commands": Out(1),
                "bad_command": Out(1), "bad_region": Out(1)})),
            "ready": Out(1), "idle": Out(1), "halted": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = CommandReader(self.width)
        m.submodules.decoder = decoder = self._decoder
        m.submodules.intake = intake = Intake(self.width)
        m.submodules.rings = rings = FlowRings(self.flows)
        m.submodules.cover = cover = self._cover
        wiring.connect(m, reader.o, decoder.i)
        wiring.connect(m, decoder.send, intake.i)
        wiring.connect(m, decoder.words, intake.words)
        for port in ("ar", "r"):
            inner, outer = getattr(reader, port), getattr(wiring.flipped(self.rings), port)
            wiring.connect(m, inner, outer)
        told = self._update(m, decoder, intake, cover, rings)
        segmenter, gather, assembler = self._make_frames(m, intake, cover)

        sends = Signal(range(SLOTS + _FRAMES + 1))  # SEND commands whose last frame is not yet stored
        m.d.sync += [
            sends.eq(sends + (intake.o.valid & intake.o.ready) - assembler.done),
            Assert(~assembler.done | (sends != 0), "a frame of no command"),
        ]
        m.d.comb += [
            reader.base.eq(self.base), reader.log_size.eq(self.log_size), reader.producer.eq(self.producer),
            reader.enable.eq(self.enable), self.consumer.eq(decoder.consumer), self.halted.eq(reader.halted),
            decoder.header_pending.eq(intake.pending | told),
            decoder.search_pending.eq(segmenter.busy | gather.searching),
            decoder.send_pending.eq((sends != 0) | assembler.unsent.valid),
            self.ready.eq(cover.ready & rings.ready),
            self.idle.eq(reader.idle & decoder.idle & ~intake.pending & ~told & (sends == 0) & ~assembler.unsent.valid
                         & assembler.idle),
        ]
        wiring.connect(m, assembler.o, wiring.flipped(self.net_tx))
        wiring.connect(m, assembler.unsent, rings.i)
        wiring.connect(m, rings.o, wiring.flipped(self.unsent))
        self._count(m, decoder, intake, cover, assembler)
        return m

    def _update(self, m, decoder, intake, cover, rings):
        """Updates to their tables. Of those that go to both halves each takes its own when it can, the command goes on
        when all have. Returns whether a cursor of SNOOP is on its way.
        """
        ports = {name: getattr(decoder, name) for name in ("flow", "key", "region", "profile", "fence")}
        for direction in Direction:
            suffix = direction.name.lower()
            ports[f"post_{suffix}"], ports[f"retire_{suffix}"] = decoder.post[direction], decoder.retire[direction]
        updates = {}
        for name, port in ports.items():  # none counts as taken before its table has it
            m.submodules[f"relay_{name}"] = relay = Relay(port.payload.shape())
            wiring.connect(m, port, relay.i)
            updates[name] = relay.o
        for name in ("key", "profile", "fence"):
            wiring.connect(m, updates[name], wiring.flipped(getattr(self, name)))
        for name in ("post", "retire"):
            wiring.connect(m, updates[f"{name}_receive"], wiring.flipped(getattr(self, name)))
            wiring.connect(m, updates[f"{name}_send"], getattr(cover, name))
        m.submodules.cursors = cursors = SkidBuffer(FlowUpdate)
        wiring.connect(m, intake.cursor, cursors.i)

        m.submodules.flows = flows = Fork(FlowUpdate, 3)
        m.submodules.shared_regions = shared = Fork(RegionUpdate, 2)
        is_begin = updates["flow"].payload.begin
        for source, fork, to in ((updates["flow"], flows, Cat(1, is_begin, is_begin)),
                                 (updates["region"], shared, 0b11)):
            m.d.comb += [fork.i.valid.eq(source.valid), source.ready.eq(fork.i.ready),
                         fork.i.payload.item.eq(source.payload), fork.i.payload.to.eq(to)]
        with m.If(cursors.o.valid):  # never in the same cycle as an update by a command, which waits for it
            m.d.comb += [self.flow.payload.eq(cursors.o.payload), self.flow.valid.eq(1),
                         cursors.o.ready.eq(self.flow.ready)]
        with m.Else():
            wiring.connect(m, flows.o[0], wiring.flipped(self.flow))
        m.d.comb += [cover.clear.valid.eq(flows.o[1].valid), flows.o[1].ready.eq(cover.clear.ready),
                     cover.clear.payload.eq(flows.o[1].payload.flow)]
        wiring.connect(m, flows.o[2], rings.update)
        wiring.connect(m, shared.o[0], wiring.flipped(self.region))
        wiring.connect(m, shared.o[1], cover.region)
        m.d.sync += Assert(~(cursors.o.valid & decoder.flow.valid), "two updates of flows at a time")
        return cursors.o.valid

    def _make_frames(self, m, intake, cover):
        """From the headers of commands to frames on the wire."""
        m.submodules.segmenter = segmenter = Segmenter(self.width)
        m.submodules.gather = gather = Gather(self.width)
        m.submodules.slicer = slicer = Slicer(self.width)
        m.submodules.editor = editor = Editor(self.width)
        m.submodules.merger = merger = Merger(self.width)
        m.submodules.joiner = joiner = Joiner(self.width)
        m.submodules.assembler = assembler = Assembler(self.width)
        m.submodules.frames = frames = Queue(FrameJob, depth=_FRAMES)
        m.submodules.slices = slices = SkidBuffer(slice_layout(self.width))
        m.submodules.payload = payload = SkidBuffer(intake.payload.payload.shape())
        for source, target in (
                (intake.o, segmenter.i), (segmenter.frames, frames.i), (frames.o, editor.i), (editor.o, merger.header),
                (segmenter.gathers, gather.i), (gather.o, merger.gathered), (gather.request, cover.request),
                (cover.piece, gather.piece), (cover.result, gather.result),
                (segmenter.slices, slices.i), (slices.o, slicer.slices),
                (intake.payload, payload.i), (payload.o, slicer.i), (slicer.o, merger.inline), (merger.o, joiner.i),
                (joiner.o, assembler.i)):
            wiring.connect(m, source, target)
        for port in ("ar", "r"):
            inner, outer = getattr(gather, port), getattr(wiring.flipped(self.memory), port)
            wiring.connect(m, inner, outer)

        word = len(Cat(intake.address.as_value()))
        m.submodules.headers = headers = Memory(shape=8 * self.width, depth=1 << word, init=[])
        write, read = headers.write_port(), headers.read_port()
        m.d.comb += [
            write.addr.eq(intake.address), write.data.eq(intake.content), write.en.eq(intake.write),
            read.addr.eq(editor.address), read.en.eq(editor.read), editor.content.eq(read.data),
            intake.freed.eq(editor.freed),
        ]
        return segmenter, gather, assembler

    def _count(self, m, decoder, intake, cover, assembler):
        """Each event adds to the counter of its name."""
        events, post = self.events, cover.post
        refused = (decoder.bad_command, intake.bad_command, cover.refused & post.valid & post.ready,
                   cover.region_refused & cover.region.valid & cover.region.ready)
        m.d.comb += [
            events.frames_sent.eq(assembler.sent),
            events.commands.eq(decoder.command),
            events.bad_command.eq(Cat(refused).any()),
            events.unsent.eq(self.unsent.valid & self.unsent.ready),
            events.bad_region.eq(assembler.bad_region),
        ]
        with m.If(assembler.sent):
            m.d.comb += events.bytes_sent.eq(assembler.sent_bytes)
        m.d.sync += Assert(sum(refused) <= 1, "two commands are refused at a time")
