# SPDX-License-Identifier: Apache-2.0
"""The lane of the collective engine that sends what is in memory."""

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.arith.convert import Compress
from rackgate.collective.lanes.departure import Departure
from rackgate.collective.lanes.detour import Detour
from rackgate.collective.lanes.marker import Marker
from rackgate.collective.lanes.operand import NO_TAG, Operand, OperandSource, operand_layout
from rackgate.collective.records import HeaderFields, Retired, SendSegment
from rackgate.dma.fetcher import Fetcher
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue

__all__ = ["SEGMENTS", "SendLane"]

#: Segments that a lane has under way before it stops taking more.
SEGMENTS = 8


class SendLane(wiring.Component):
    """Send segments of memory, or of a kernel's stream, as payloads of packets.

    Segments are sent and retired in the order they come. A segment goes on whatever happens to it: after an error of
    the memory its payload has any bytes, ``error`` on the last word, and it retires with ``read_error``. A segment of
    size 0 reads nothing and gives a header only.

    Throughput: a segment of n words takes n cycles, one more if its address is no multiple of ``width``, twice as
    long per word if it is compressed, with nothing between one segment and the next; they are taken every other cycle
    at most. A header is offered two cycles after its segment came; the first word of payload 9 cycles after it and the
    latency of the memory. No output depends combinationally on an input but ``kernel.ready`` on ``skip_kernel``. Reset
    forgets all segments; bursts under way must be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8, 16, 32 or 64.
    convert:
        Build what makes 16-bit floats of 32-bit ones. Without it ``compress`` must not be set.
    addr_width, id_width, id:
        Of the memory's bus, see :class:`~rackgate.dma.fetcher.Fetcher`.

    Members
    -------
    i:
        Segments. Only ``header.size`` of the header is looked at, and whether it is 0 must be as for ``size``.
    header, payload:
        To the packetizer; no payload for ``size`` 0.
    retired:
        One for each segment, when its payload was taken but for the last words, which are on offer (of size 0: when
        its header was).
    kernel, skip_kernel:
        Source of segments with ``from_stream``, see :class:`~rackgate.collective.lanes.operand.Operand`.
    ar, r:
        AXI4 read channels.
    """

    i: stream.Interface
    header: stream.Interface
    payload: stream.Interface
    retired: stream.Interface
    kernel: stream.Interface
    ar: stream.Interface
    r: stream.Interface

    def __init__(self, width=8, *, convert=True, addr_width=40, id_width=4, id=0):
        self._fetcher = Fetcher(width, tag=NO_TAG, addr_width=addr_width, id_width=id_width, id=id)
        self.width, self.convert = self._fetcher.width, bool(convert)
        self._commands = Queue(operand_layout, depth=SEGMENTS, block_ram=False)
        packets = PacketSignature(self.width)
        super().__init__({
            "i": In(stream.Signature(SendSegment)),
            "header": Out(stream.Signature(HeaderFields)),
            "payload": Out(packets),
            "retired": Out(stream.Signature(Retired)),
            "kernel": In(packets),
            "skip_kernel": In(1),
            "ar": self._fetcher.signature.members["ar"],
            "r": self._fetcher.signature.members["r"],
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetcher = fetcher = self._fetcher
        m.submodules.commands = commands = self._commands
        m.submodules.operand = operand = Operand(self.width)
        m.submodules.departure = departure = Departure(self.width, segments=SEGMENTS)
        m.submodules.moves = moves = Queue(self.i.payload.move.shape(), depth=SEGMENTS, block_ram=False)
        for name in ("ar", "r"):
            wiring.connect(m, getattr(fetcher, name), wiring.flipped(getattr(self, name)))
        for name in ("header", "payload"):
            wiring.connect(m, getattr(departure, name), wiring.flipped(getattr(self, name)))
        wiring.connect(m, commands.o, operand.i)
        wiring.connect(m, fetcher.o, operand.memory)
        wiring.connect(m, wiring.flipped(self.kernel), operand.kernel)
        m.d.comb += operand.skip_kernel.eq(self.skip_kernel)

        queues = [commands.i, departure.headers, moves.i]
        words = operand.o
        if self.convert:
            m.submodules.marker = marker = Marker(self.width, 1, packets=SEGMENTS)
            wiring.connect(m, operand.o, marker.words)
            m.d.comb += marker.i.payload.eq(self.i.payload.compress)
            queues.append(marker.i)
            words = self._convert(m, marker.o)
        self._accept(m, queues)
        segment = self.i.payload
        m.d.comb += [
            commands.i.payload.size.eq(segment.size),
            departure.headers.payload.eq(segment.header),
            moves.i.payload.eq(segment.move),
        ]
        self._retire(m, words, departure.i, moves.o)
        return m

    def _accept(self, m, queues):
        """Hand a segment's parts to all that have to do with it, at once."""
        segment, fetch, needs_memory, has_room = self.i.payload, self._fetcher.i, Signal(), Signal()
        m.d.comb += [
            needs_memory.eq(~segment.from_stream & (segment.size != 0)),
            self.i.ready.eq(has_room),
            fetch.valid.eq(self.i.valid & has_room & needs_memory),
            fetch.payload.addr.eq(segment.address),
            fetch.payload.size.eq(segment.size),
            *(queue.valid.eq(self.i.valid & has_room) for queue in queues),
        ]
        # Only a segment takes room away, so what had some a cycle before and was given none has some.
        takers = Cat(fetch.ready, *(queue.ready for queue in queues))
        m.d.sync += [
            has_room.eq(takers.all() & ~(self.i.valid & has_room)),
            Assert(~has_room | takers.all(), "room for a segment has gone"),
        ]
        with m.If(segment.from_stream):
            m.d.comb += self._commands.i.payload.source.eq(OperandSource.KERNEL)
        with m.Elif(needs_memory):
            m.d.comb += self._commands.i.payload.source.eq(OperandSource.MEMORY)
        with m.If(self.i.valid):
            m.d.sync += [
                Assert((segment.size == 0) == (segment.header.size == 0), "only one of segment and packet is empty"),
                Assert(~segment.compress | self.convert, "a segment is to be compressed, and nothing built for it"),
            ]

    def _convert(self, m, marked):
        m.submodules.compress = compress = Compress(self.width)
        m.submodules.detour = detour = Detour(self.width)
        detour.lead(m, compress)
        m.d.comb += [
            detour.i.payload.word.eq(marked.payload.word),
            detour.i.payload.convert.eq(marked.payload.mark),
            detour.i.valid.eq(marked.valid),
            marked.ready.eq(detour.i.ready),
        ]
        return detour.o

    def _retire(self, m, words, departure, moves):
        """A last word waits until the segment can be retired with it."""
        word, can_retire, can_pass, ends = words.payload, Signal(), Signal(), Signal()
        m.d.comb += [
            can_retire.eq(~self.retired.valid | self.retired.ready),
            can_pass.eq(can_retire | ~word.last),
            departure.payload.eq(word),
            departure.valid.eq(words.valid & can_pass),
            words.ready.eq(departure.ready & can_pass),
            ends.eq(words.valid & words.ready & word.last),
            moves.ready.eq(ends),
        ]
        with m.If(can_retire):
            m.d.sync += [
                self.retired.valid.eq(ends),
                self.retired.payload.move.eq(moves.payload),
                self.retired.payload.read_error.eq(word.error),
            ]
        m.d.sync += Assert(~ends | moves.valid, "a segment ends that was never taken")
