# SPDX-License-Identifier: Apache-2.0
"""From packets to frames."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, Value
from amaranth.hdl import Const as Constant
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.pisa.checksum import ChecksumUnit, delayed, header_bytes
from rackgate.pisa.declare import Pipeline, standard
from rackgate.pisa.emitter import Emitter
from rackgate.pisa.graph import always_valid
from rackgate.pisa.layout import fill, name_of, phv_layout, value_in
from rackgate.pisa.payload import about_layout
from rackgate.stream.queue import Queue

__all__ = ["PACKETS", "Deparser"]

#: Packets that a deparser works on at a time: those whose checksums are not yet known.
PACKETS = 16


class Deparser(wiring.Component):
    """Make frames of packets: the valid headers in the declared order, their checksums, the payload.

    A word a cycle, and a cycle between two frames. Order is kept. A packet with ``standard.drop``, or without a byte,
    makes no frame. The slot of a packet that owns it is given back when its last word has been taken, or when it is
    dropped: so packets of the same slot that came before are out. Reset stops within a frame.

    Parameters
    ----------
    pipeline:
        The declaration.
    width:
        Bytes of a word.
    slot_bits, slot_size:
        Bits of a slot's number, bytes of a slot.

    Members
    -------
    i:
        Packets.
    ask_slot, about, read, read_slot, read_index, read_data:
        As of :class:`~.payload.FrameStore`.
    o:
        Frames.
    put:
        Slots that are no longer needed.
    sent, dropped:
        High for a cycle for each frame, and for each packet that made none.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, pipeline: Pipeline, *, width: int, slot_bits: int, slot_size: int):
        self.pipeline, self.slot_bits = pipeline, slot_bits
        self._always = always_valid(pipeline)
        layout = phv_layout(pipeline, slot_bits=slot_bits)
        self._units = [ChecksumUnit(item, layout, self._always) for item in pipeline.checksums]
        self._check_order()
        self._emitter = Emitter(pipeline, width=width, slot_bits=slot_bits, slot_size=slot_size)
        members = self._emitter.signature.members
        super().__init__({
            "i": In(stream.Signature(layout)),
            "ask_slot": Out(slot_bits), "about": In(about_layout(slot_size)),
            **{name: members[name] for name in ("read", "read_slot", "read_index", "read_data", "o", "put", "sent",
                                                "dropped")},
        })

    def _check_order(self):
        """A checksum that covers one that is computed before it would have to wait for it."""
        for number, item in enumerate(self.pipeline.checksums):
            for other in self.pipeline.checksums[:number]:
                if other.target.owner in item.headers:
                    raise ValueError(f"checksum {item.target!r} must not cover {other.target!r}, which is another one")

    def elaborate(self, platform):
        m = Module()
        m.submodules.emitter = emitter = self._emitter
        headers = [item for header in self.pipeline.emit for item in (header.is_valid, *header.fields.values())]
        kept = data.StructLayout({
            **{name_of(item): item.width for item in headers},
            "drop": 1, "has_payload": 1, "owns_slot": 1, "payload_slot": self.slot_bits,
            "start": self.about.start.shape(), "length": self.about.length.shape(),
        })
        m.submodules.packets = packets = Queue(kept, depth=PACKETS)
        packet, comes, takes = self.i.payload, Signal(), Signal()
        m.d.comb += [
            self.ask_slot.eq(packet.payload_slot),
            self.i.ready.eq(packets.i.ready),
            packets.i.valid.eq(self.i.valid),
            comes.eq(self.i.valid & self.i.ready),
            *fill(packets.i.payload, self.about, packet),
            packets.i.payload.drop.eq(packet[name_of(standard.drop)]),
        ]
        answers, are_there = self._answers(m, comes, takes)
        order, behind = emitter.i.payload, packets.o.payload
        content, size = self._head(value_in(behind), answers)
        m.d.comb += [
            emitter.i.valid.eq(packets.o.valid & are_there),
            takes.eq(emitter.i.valid & emitter.i.ready),
            packets.o.ready.eq(takes),
            order.head.eq(Cat(content)),
            order.head_size.eq(size),
            order.start.eq(behind.start),
            order.length.eq(Mux(behind.has_payload, behind.length, 0)),
            order.drop.eq(behind.drop),
            order.slot.eq(behind.payload_slot),
            order.owns_slot.eq(behind.owns_slot),
        ]
        m.d.comb += [self.read.eq(emitter.read), self.read_slot.eq(emitter.read_slot),
                     self.read_index.eq(emitter.read_index), emitter.read_data.eq(self.read_data),
                     self.sent.eq(emitter.sent), self.dropped.eq(emitter.dropped)]
        wiring.connect(m, emitter.o, wiring.flipped(self.o))
        wiring.connect(m, emitter.put, wiring.flipped(self.put))
        return m

    def _answers(self, m, comes, takes):
        """By target its checksum and whether the packet has it, for the packet in front; whether they are known."""
        if not self._units:
            return {}, Constant(1, 1)
        shape = data.ArrayLayout(self._units[0].o.payload.shape(), len(self._units))
        m.submodules.answers = queue = Queue(shape, depth=PACKETS)
        latency = max(unit.latency for unit in self._units)
        for number, unit in enumerate(self._units):
            m.submodules[f"checksum_{number}"] = unit
            m.d.comb += [
                unit.i.valid.eq(comes), unit.i.payload.eq(self.i.payload),
                unit.payload_sum.eq(Mux(self.i.payload.has_payload, self.about.sum, 0)),
                queue.i.payload[number].eq(delayed(m, unit.o.payload.as_value(), latency - unit.latency,
                                                   f"answer_{number}")),
            ]
        m.d.comb += [queue.i.valid.eq(delayed(m, comes, latency, "is_answered")), queue.o.ready.eq(takes)]
        m.d.sync += Assert(~queue.i.valid | queue.i.ready, "a checksum finds no room")
        return {id(unit.checksum.target): queue.o.payload[number] for number, unit in enumerate(self._units)}, \
            queue.o.valid

    def _head(self, at, answers):
        """The bytes of the valid headers, one behind the other, and how many they are."""

        def with_answers(item):
            answer = answers.get(id(item))
            return at(item) if answer is None else Mux(answer.applies, answer.answer, at(item))

        content: list[Value] = []
        size = Constant(0, 1)
        for header in reversed(self.pipeline.emit):
            longer = header_bytes(header, with_answers) + content
            if header in self._always:
                content, size = longer, size + header.size
            else:
                shorter = content + [Constant(0, 8)] * header.size
                valid = at(header.is_valid)
                content = [Mux(valid, byte, other) for byte, other in zip(longer, shorter, strict=True)]
                size = size + Mux(valid, header.size, 0)
        return content, size
