# SPDX-License-Identifier: Apache-2.0
"""The lane of the collective engine that takes what was received, reduces, keeps, copies and passes on."""

from collections.abc import Iterable

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.arith.abi import ElementType
from rackgate.arith.convert import Expand
from rackgate.arith.reducer import Reducer
from rackgate.collective.lanes.delivery import Delivery
from rackgate.collective.lanes.departure import Departure
from rackgate.collective.lanes.detour import Detour
from rackgate.collective.lanes.join import Join, join_layout, rest_layout
from rackgate.collective.lanes.message import MessageOperand, message_layout
from rackgate.collective.lanes.operand import NO_TAG, Operand, OperandSource, operand_layout
from rackgate.collective.lanes.retirement import Retirement
from rackgate.collective.packets.unloader import Unloader, free_layout, read_layout
from rackgate.collective.records import SIZE_BITS, HeaderFields, ReceiveSegment, Retired
from rackgate.dma.fetcher import Fetcher
from rackgate.dma.placer import Placer
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer

__all__ = ["ReceiveLane", "built_types"]

#: Segments that the lane has under way before it stops taking more.
SEGMENTS = 8


def built_types(width: int) -> frozenset[ElementType]:
    """Element types that a lane of ``width`` bytes can reduce: those that fit a word."""
    return frozenset(each for each in ElementType if each.size <= width)


class ReceiveLane(wiring.Component):
    """Reduce, keep and pass on segments of up to two operands.

    The first operand is memory or a kernel's stream, the second a received packet or memory. With ``reduce`` and both
    the result is ``function(second, first)``, else the second if there is one, else the first; a first operand that
    has no part in the result is not read. Without any the result is zeros. It goes to memory, a kernel's stream and
    the link, any of them at a time; what is sent as 16-bit floats is kept rounded to these.

    Segments are retired in the order they come, when all places have them. A segment goes on whatever happens to it:
    after a read error its bytes can be any, and it retires with ``read_error``. A packet that is longer than the
    segment (when expanded) is cut, a shorter one filled with any bytes: whoever gives out the segment knows both
    sizes. A packet is thrown away by a segment of size 0 with nothing to do. A segment of size 0 reads and writes
    nothing, and may send a header.

    Throughput: a segment of n words takes n cycles, with nothing between one segment and the next; an operand or
    result whose address is no multiple of ``width`` takes one cycle more. From ``packet`` to ``payload``, and to the
    placer, it is 4 cycles; 2 more for what is expanded, the reducer's latency for what is reduced, 4 for what is
    compressed (6 to the placer). Only when something that did not take such a way follows something that did, it waits
    that long. A segment is taken every other cycle at most, and its packet asked for in the same cycle. No output
    depends combinationally on an input but ``read`` on ``i``, and ``ready`` of packets and kernel's streams. Reset
    forgets all segments; bursts under way must be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8, 16, 32 or 64.
    types:
        Element types that can be reduced, by default all that fit a word.
    convert:
        Build what makes 16-bit floats of 32-bit ones and back. Without it ``expand`` and ``compress`` must not be set.
    addr_width, id_width:
        Of the memory's bus, see :class:`~rackgate.dma.fetcher.Fetcher`.
    ids:
        AXI ids of the first operand, the second one, and the result.
    departing:
        Words that may wait for their turn at the packetizer while the lane goes on; 0: two, in registers.

    Members
    -------
    i:
        Segments. ``has_packet`` excludes ``has_other``. The header is looked at with ``send`` only.
    read, packet, free:
        Receive buffers, see :class:`~rackgate.collective.packets.unloader.Unloader`.
    ar_local, r_local, ar_other, r_other, aw, w, b:
        AXI4 channels of the first operand, the second one, and the result.
    header, payload:
        To the packetizer; no payload for size 0.
    kernel, skip_kernel:
        Source of segments with ``from_stream``, see :class:`~rackgate.collective.lanes.operand.Operand`.
        ``skip_kernel`` also throws away words for ``kernel_out``.
    kernel_out:
        Results for a kernel, see :class:`~rackgate.collective.lanes.delivery.Delivery`.
    retired:
        One for each segment.
    """

    i: stream.Interface
    read: stream.Interface
    packet: stream.Interface
    free: stream.Interface
    ar_local: stream.Interface
    r_local: stream.Interface
    ar_other: stream.Interface
    r_other: stream.Interface
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface
    header: stream.Interface
    payload: stream.Interface
    kernel: stream.Interface
    kernel_out: stream.Interface
    retired: stream.Interface

    def __init__(self, width=8, *, types: Iterable[ElementType] | None = None, convert=True, addr_width=40, id_width=4,
                 ids=(0, 1, 2), departing=0):
        bus = {"addr_width": addr_width, "id_width": id_width}
        local_id, other_id, result_id = ids
        self._local = Fetcher(width, tag=NO_TAG, id=local_id, **bus)
        self._other = Fetcher(width, tag=NO_TAG, id=other_id, **bus)
        self._placer = Placer(width, tag=NO_TAG, id=result_id, **bus)
        self.width, self.convert = self._local.width, bool(convert)
        self._reducer = Reducer(self.width, built_types(self.width) if types is None else types,
                                sideband=rest_layout(self.width))
        self._unloader = Unloader(self.width, packets=SEGMENTS)
        self._messages = Queue(message_layout, depth=SEGMENTS, block_ram=False)
        self._operands = Queue(operand_layout, depth=SEGMENTS, block_ram=False)
        self._joins = Queue(join_layout, depth=SEGMENTS, block_ram=False)
        # The placer takes a command when most of the last one is written: too late for the fetchers of the next.
        self._places = Queue(data.StructLayout({"addr": self._placer.addr_width, "size": SIZE_BITS}), depth=SEGMENTS,
                             block_ram=False)
        self._delivery = Delivery(self.width, convert=self.convert, segments=SEGMENTS)
        self._departure = Departure(self.width, segments=SEGMENTS, words=departing)
        self._retirement = Retirement(segments=SEGMENTS)
        packets, fetcher, placer = PacketSignature(self.width), self._local.signature, self._placer.signature
        super().__init__({
            "i": In(stream.Signature(ReceiveSegment)),
            "read": Out(stream.Signature(read_layout)), "packet": In(packets),
            "free": Out(stream.Signature(free_layout)),
            "ar_local": fetcher.members["ar"], "r_local": fetcher.members["r"],
            "ar_other": fetcher.members["ar"], "r_other": fetcher.members["r"],
            "aw": placer.members["aw"], "w": placer.members["w"], "b": placer.members["b"],
            "header": Out(stream.Signature(HeaderFields)), "payload": Out(packets),
            "kernel": In(packets), "skip_kernel": In(1), "kernel_out": Out(packets),
            "retired": Out(stream.Signature(Retired)),
        })

    def elaborate(self, platform):
        m = Module()
        for name in ("local", "other", "placer", "places", "unloader", "messages", "operands", "joins", "delivery",
                     "departure", "retirement"):
            m.submodules[name] = getattr(self, f"_{name}")
        ports = (
            (self._local, "ar", self.ar_local), (self._local, "r", self.r_local), (self._other, "ar", self.ar_other),
            (self._other, "r", self.r_other), (self._placer, "aw", self.aw), (self._placer, "w", self.w),
            (self._placer, "b", self.b), (self._unloader, "read", self.read), (self._unloader, "packet", self.packet),
            (self._unloader, "free", self.free), (self._departure, "header", self.header),
            (self._departure, "payload", self.payload), (self._delivery, "kernel", self.kernel_out),
            (self._retirement, "o", self.retired),
        )
        for block, name, port in ports:
            wiring.connect(m, getattr(block, name), wiring.flipped(port))
        self._accept(m)
        self._reduce(m)
        self._deliver(m)
        return m

    def _accept(self, m):
        """Hand a segment's parts to all that have to do with them, at once."""
        segment = self.i.payload
        is_empty, has_second, has_first, has_other, has_room, send = (Signal(name=name) for name in (
            "is_empty", "has_second", "has_first", "has_other", "has_room", "send"))
        m.d.comb += [
            is_empty.eq(segment.size == 0),
            has_second.eq(segment.has_packet | segment.has_other),
            has_first.eq(~has_second | segment.reduce & (segment.has_local | segment.from_stream)),
            has_other.eq(segment.has_other & ~is_empty),
        ]
        takers = (
            (self._unloader.i, segment.has_packet),
            (self._other.i, has_other),
            (self._local.i, has_first & segment.has_local & ~segment.from_stream & ~is_empty),
            (self._places.i, segment.to_memory & ~is_empty),
            (self._messages.i, has_second),
            (self._operands.i, has_first),
            (self._joins.i, 1), (self._delivery.i, 1), (self._retirement.i, 1),
            (self._departure.headers, segment.send),
        )
        # Only a segment takes room away, so what had some a cycle before and was given none has some.
        m.d.comb += self.i.ready.eq(has_room)
        m.d.sync += has_room.eq(Cat(taker.ready for taker, _ in takers).all() & ~(self.i.valid & has_room))
        for taker, is_meant in takers:
            m.d.comb += taker.valid.eq(self.i.valid & has_room & is_meant)
            m.d.sync += Assert(~has_room | taker.ready, "room for a segment has gone")
        with m.If(self.i.valid):
            m.d.sync += [
                Assert(~(segment.has_packet & segment.has_other), "a segment has two second operands"),
                Assert(~segment.send | ((segment.header.size == 0) == is_empty),
                       "a segment and its packet are not both empty"),
            ]
        self._fill(m, is_empty, has_second, has_first, has_other)

    def _fill(self, m, is_empty, has_second, has_first, has_other):
        """What each of them is told."""
        segment, source = self.i.payload, self._operands.i.payload.source
        is_kept = Cat(segment.to_memory, segment.to_stream) & (~is_empty).replicate(2)
        told = (
            (self._unloader.i, {"slot": segment.slot, "size": segment.packet_size, "expand": segment.expand}),
            (self._other.i, {"addr": segment.other, "size": segment.size}),
            (self._local.i, {"addr": segment.local, "size": segment.size}),
            (self._places.i, {"addr": segment.result, "size": segment.size}),
            (self._messages.i, {"from_memory": has_other, "size": segment.size,
                                "has_words": segment.has_packet & (segment.packet_size != 0)}),
            (self._operands.i, {"size": segment.size}),
            (self._joins.i, {"has_received": has_second, "has_local": has_first, "function": segment.function,
                             "element": segment.element}),
            (self._delivery.i, {"to_memory": is_kept[0], "to_stream": is_kept[1], "send": segment.send,
                                "compress": segment.compress & segment.send, "last": segment.last}),
            (self._retirement.i, {"move": segment.move, "to_memory": is_kept[0], "to_stream": is_kept[1],
                                  "send": segment.send}),
        )
        for taker, values in told:
            m.d.comb += [taker.payload[name].eq(value) for name, value in values.items()]
        m.d.comb += self._departure.headers.payload.eq(segment.header)
        with m.If(segment.from_stream):
            m.d.comb += source.eq(OperandSource.KERNEL)
        with m.Elif(segment.has_local & ~is_empty):
            m.d.comb += source.eq(OperandSource.MEMORY)

    def _reduce(self, m):
        """Operands to results."""
        m.submodules.message = message = MessageOperand(self.width)
        m.submodules.operand = operand = Operand(self.width)
        m.submodules.join = join = Join(self.width)
        wiring.connect(m, self._messages.o, message.i)
        wiring.connect(m, self._other.o, message.memory)
        wiring.connect(m, self._operands.o, operand.i)
        wiring.connect(m, self._local.o, operand.memory)
        wiring.connect(m, wiring.flipped(self.kernel), operand.kernel)
        m.submodules.join_front = join_front = SkidBuffer(join_layout)  # a RAM's output comes too late in the cycle
        wiring.connect(m, self._joins.o, join_front.i)
        wiring.connect(m, join_front.o, join.i)
        wiring.connect(m, message.o, join.received)
        wiring.connect(m, operand.o, join.local)
        m.d.comb += operand.skip_kernel.eq(self.skip_kernel)
        packet = self._unloader.o
        if self.convert:
            m.submodules.expand, m.submodules.detour = expand, detour = Expand(self.width), Detour(self.width)
            detour.lead(m, expand)
            wiring.connect(m, packet, detour.i)
            wiring.connect(m, detour.o, message.packet)
        else:
            m.d.comb += [
                message.packet.payload.eq(packet.payload.word),
                message.packet.valid.eq(packet.valid),
                packet.ready.eq(message.packet.ready),
            ]

        self._combine(m, join)

    def _combine(self, m, join):
        """Two operands through the reducer; one past it."""
        m.submodules.reducer = reducer = self._reducer
        m.submodules.past = past = Detour(self.width)
        operands, into, result = join.o.payload, reducer.i.payload, reducer.o.payload
        m.d.comb += [
            past.i.valid.eq(join.o.valid),
            join.o.ready.eq(past.i.ready),
            past.i.payload.convert.eq(join.is_pair),
            past.i.payload.word.data.eq(operands.b),
            *(past.i.payload.word[name].eq(operands.sideband[name]) for name, _ in operands.sideband.shape()),
            reducer.i.valid.eq(past.converter_i.valid),
            past.converter_i.ready.eq(reducer.i.ready),
            into.eq(operands),
            past.converter_o.valid.eq(reducer.o.valid),
            reducer.o.ready.eq(past.converter_o.ready),
            past.converter_o.payload.data.eq(result.data),
            *(past.converter_o.payload[name].eq(result.sideband[name]) for name, _ in operands.sideband.shape()),
        ]
        wiring.connect(m, past.o, self._delivery.words)

    def _deliver(self, m):
        """Results to where they go."""
        link, written, done = self._delivery.link, self._retirement.written, self._placer.done
        place, command = self._places.o, self._placer.i
        wiring.connect(m, link, self._departure.i)
        m.d.comb += [
            command.valid.eq(place.valid),
            place.ready.eq(command.ready),
            command.payload.addr.eq(place.payload.addr),
            command.payload.size.eq(place.payload.size),
            self._delivery.skip_kernel.eq(self.skip_kernel),
            self._placer.words.valid.eq(self._delivery.memory.valid),
            self._delivery.memory.ready.eq(self._placer.words.ready),
            # Of errors, only the memory's own come back with ``done``.
            self._placer.words.payload.eq(self._delivery.memory.payload),
            self._placer.words.payload.error.eq(0),
            written.valid.eq(done.valid),
            written.payload.error.eq(done.payload.error),
            done.ready.eq(written.ready),
        ]
        m.d.sync += [  # a cycle later, as these come last of all
            self._retirement.passed.eq(self._delivery.passed),
            self._retirement.passed_error.eq(self._delivery.passed_error),
            self._retirement.sent.eq(self._departure.sent),
            self._retirement.streamed.eq(self._delivery.streamed),
        ]
