# SPDX-License-Identifier: Apache-2.0
"""From frames to packets that are whole and right, and nothing else."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.pisa.abi import Rejection
from rackgate.pisa.checksum import ChecksumUnit, WordSum, delayed, swapped
from rackgate.pisa.declare import Pipeline
from rackgate.pisa.extract import CAUSES, Extractor, frame_layout
from rackgate.pisa.graph import extracted_always
from rackgate.pisa.layout import fill, phv_layout
from rackgate.pisa.payload import about_layout
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue

__all__ = ["FRAMES", "Parser"]

#: Frames that a parser works on at a time: those that have begun and whose checksums are not yet known.
FRAMES = 16


class Parser(wiring.Component):
    """Take frames in, a word a cycle, and give out the packets in them.

    A frame is kept in the slot that its first word takes; without a free one the parser is not ready. When it has ended
    the packet comes out, with the payload's place told to the store; or it is rejected, counted and its slot given
    back. Order is kept. Every frame comes to an end here, whatever its length and content; what is behind the slot's
    last byte is not kept. ``latency`` cycles from the last word to the packet. ``i.ready`` comes from registers.
    Reset forgets all frames; what comes then is taken for the begin of one.

    Parameters
    ----------
    pipeline:
        The declaration.
    width:
        Bytes of a word.
    slot_bits:
        Bits of a slot's number.
    slot_size:
        Bytes of a slot.

    Members
    -------
    i:
        Frames.
    slot:
        Free slots.
    write, write_slot, write_index, write_data, tell, tell_slot, told:
        As of :class:`~.payload.FrameStore`.
    o:
        Packets.
    put:
        Slots of rejected frames.
    received, accepted:
        High for a cycle for each frame that has ended, and for each packet.
    rejected:
        So for each rejected frame: the bit of its :class:`~.abi.Rejection`.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, pipeline: Pipeline, *, width: int, slot_bits: int, slot_size: int):
        self.pipeline, self.width, self.slot_bits, self.slot_size = pipeline, width, slot_bits, slot_size
        self._extractor = Extractor(pipeline, width, slot_size)
        self._words = slot_size // width
        checked = pipeline.parser.verify
        self._sum = None
        if any(item.payload for item in (*checked, *pipeline.checksums)):
            self._sum = WordSum(width, self._words)
        self._sum_late = 1 + self._sum.latency if self._sum else 0
        layout = frame_layout(pipeline, slot_size).members["fields"]
        always = extracted_always(pipeline.parser)
        self._units = [ChecksumUnit(item, layout, always, payload_late=self._sum_late) for item in checked]
        #: Cycles from a frame's header vector to what its checksums say.
        self._verdict = max([self._sum_late, *(unit.latency for unit in self._units)])
        self.latency = 3 + self._verdict + 1
        super().__init__({
            "i": In(PacketSignature(width)),
            "slot": In(stream.Signature(slot_bits)),
            "write": Out(1), "write_slot": Out(slot_bits), "write_index": Out(range(self._words)),
            "write_data": Out(8 * width),
            "tell": Out(1), "tell_slot": Out(slot_bits), "told": Out(about_layout(slot_size)),
            "o": Out(stream.Signature(phv_layout(pipeline, slot_bits=slot_bits))),
            "put": Out(stream.Signature(slot_bits, always_ready=True)),
            "received": Out(1), "accepted": Out(1), "rejected": Out(len(Rejection)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.extractor = extractor = self._extractor
        takes, slot, leaves = Signal(), Signal(self.slot_bits), Signal()
        self._take(m, takes, slot, leaves)
        m.d.comb += [
            extractor.i.valid.eq(takes), extractor.i.payload.eq(self.i.payload),
            self.write.eq(takes & (extractor.index < self._words)), self.write_slot.eq(slot),
            self.write_index.eq(extractor.index), self.write_data.eq(self.i.payload.data),
            self.received.eq(takes & self.i.payload.last),
        ]
        # Slots of frames that have ended, in their order: a frame has 3 cycles to get through the extractor.
        m.submodules.frames = frames = Queue(data.StructLayout(
            {"frame": extractor.o.payload.shape(), "slot": self.slot_bits}), depth=FRAMES)
        m.submodules.verdicts = verdicts = Queue(data.StructLayout({"agrees": 1, "sum": 16}), depth=FRAMES)
        m.d.comb += [
            frames.i.valid.eq(extractor.o.valid), frames.i.payload.frame.eq(extractor.o.payload),
            frames.i.payload.slot.eq(delayed(m, slot, 3, "slot")),
        ]
        self._judge(m, verdicts)
        m.d.sync += Assert(~frames.i.valid | frames.i.ready, "a frame finds no room behind the extractor")
        m.d.sync += Assert(~verdicts.i.valid | verdicts.i.ready, "a verdict finds no room")
        self._join(m, frames, verdicts, leaves)
        return m

    def _take(self, m, takes, slot, leaves):
        """Begin a frame only with a slot, and with room for it further on."""
        is_within, kept, inside = Signal(), Signal(self.slot_bits), Signal(range(FRAMES + 1))
        begins = Signal()
        m.d.comb += [
            self.i.ready.eq(is_within | self.slot.valid & (inside != FRAMES)),
            takes.eq(self.i.valid & self.i.ready),
            begins.eq(takes & ~is_within),
            self.slot.ready.eq(begins),
            slot.eq(kept),
        ]
        with m.If(begins):
            m.d.comb += slot.eq(self.slot.payload)
            m.d.sync += kept.eq(self.slot.payload)
        with m.If(takes):
            m.d.sync += is_within.eq(~self.i.payload.last)
        m.d.sync += inside.eq(inside + begins - leaves)

    def _judge(self, m, verdicts):
        """Checksums of each frame, in step with each other."""
        frame = self._extractor.o
        total = Signal(16)
        if self._sum:
            m.submodules.sum = self._sum
            wiring.connect(m, self._extractor.payload, self._sum.i)
            # The words were those of the frame; a payload that begins at an odd byte has others.
            is_odd = delayed(m, frame.payload.start[0], self._sum_late, "is_odd")
            m.d.comb += total.eq(Mux(is_odd, swapped(self._sum.o.payload), self._sum.o.payload))
        agrees = []
        for number, unit in enumerate(self._units):
            m.submodules[f"check_{number}"] = unit
            m.d.comb += [
                unit.i.valid.eq(frame.valid), *fill(unit.i.payload, frame.payload.fields),
                unit.payload_sum.eq(total),
            ]
            agrees.append(delayed(m, unit.o.payload.agrees, self._verdict - unit.latency, f"agrees_{number}"))
        m.d.comb += [
            verdicts.i.valid.eq(delayed(m, frame.valid, self._verdict, "is_judged")),
            verdicts.i.payload.agrees.eq(Cat(agrees).all() if agrees else 1),
            verdicts.i.payload.sum.eq(delayed(m, total, self._verdict - self._sum_late, "total")),
        ]

    def _join(self, m, frames, verdicts, leaves):
        """Give out what is right; give back the slots of all else."""
        frame, slot, out = frames.o.payload.frame, frames.o.payload.slot, self.o.payload
        is_there, is_good, is_out = Signal(), Signal(), Signal()
        is_rejected = Signal(len(Rejection))
        early = Cat(frame.causes[CAUSES.index(cause)] if cause in CAUSES
                    else ~frame.causes.any() & ~verdicts.o.payload.agrees for cause in Rejection)
        m.d.comb += [
            is_there.eq(frames.o.valid & verdicts.o.valid),
            is_rejected.eq(early),
            is_good.eq(~is_rejected.any()),
            self.o.valid.eq(is_there & is_good),
            is_out.eq(self.o.valid & self.o.ready),
            leaves.eq(is_out | is_there & ~is_good),
            frames.o.ready.eq(leaves), verdicts.o.ready.eq(leaves),
            *fill(out, frame.fields),
        ]
        m.d.comb += [out.payload_slot.eq(slot), out.has_payload.eq(1), out.owns_slot.eq(1)]
        m.d.comb += [
            self.tell.eq(is_out), self.tell_slot.eq(slot), self.told.start.eq(frame.start),
            self.told.length.eq(frame.length), self.told.sum.eq(verdicts.o.payload.sum),
            self.put.valid.eq(is_there & ~is_good), self.put.payload.eq(slot),
            self.accepted.eq(is_out), self.rejected.eq(is_rejected & self.put.valid.replicate(len(Rejection))),
        ]
