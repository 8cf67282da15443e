# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Parser and deparser back to back, and frames to send through them."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.pisa.abi import Rejection
from rackgate.pisa.deparser import Deparser
from rackgate.pisa.parser import Parser
from rackgate.pisa.payload import FrameStore, SlotPool
from rackgate.stream.packet import PacketSignature
from rackgate.stream.skid import SkidBuffer
from rackgate_sim.pisa.model import PipelineModel


class Loop(wiring.Component):
    """A switch whose pipeline does nothing: what the parser lets in goes to the deparser."""

    def __init__(self, pipeline, width, *, slots=4, slot_size=2048):
        bits = (slots - 1).bit_length()
        self.parser = Parser(pipeline, width=width, slot_bits=bits, slot_size=slot_size)
        self.deparser = Deparser(pipeline, width=width, slot_bits=bits, slot_size=slot_size)
        self.store, self.pool = FrameStore(width, slots, slot_size), SlotPool(slots)
        super().__init__({
            "i": In(PacketSignature(width)), "o": Out(PacketSignature(width)), "is_idle": Out(1),
            "received": Out(1), "accepted": Out(1), "rejected": Out(len(Rejection)), "sent": Out(1), "dropped": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.parser = parser = self.parser
        m.submodules.deparser = deparser = self.deparser
        m.submodules.store = store = self.store
        m.submodules.pool = pool = self.pool
        wiring.connect(m, wiring.flipped(self.i), parser.i)
        wiring.connect(m, deparser.o, wiring.flipped(self.o))
        wiring.connect(m, pool.free, parser.slot)
        m.submodules.core = core = SkidBuffer(parser.o.payload.shape())  # a packet takes a cycle at least
        wiring.connect(m, parser.o, core.i)
        wiring.connect(m, core.o, deparser.i)
        wiring.connect(m, parser.put, pool.put[0])
        wiring.connect(m, deparser.put, pool.put[1])
        for name in ("write", "write_slot", "write_index", "write_data", "tell", "tell_slot", "told"):
            m.d.comb += getattr(store, name).eq(getattr(parser, name))
        for name in ("ask_slot", "read", "read_slot", "read_index"):
            m.d.comb += getattr(store, name).eq(getattr(deparser, name))
        m.d.comb += [deparser.read_data.eq(store.read_data), deparser.about.eq(store.about),
                     self.is_idle.eq(pool.is_idle)]
        for name in ("received", "accepted", "rejected"):
            m.d.comb += getattr(self, name).eq(getattr(parser, name))
        m.d.comb += [self.sent.eq(deparser.sent), self.dropped.eq(deparser.dropped)]
        return m


def words(frame, width, *, is_damaged=False):
    """A frame's words as payloads of a packet stream."""
    out = []
    for place in range(0, len(frame), width):
        part = frame[place:place + width]
        last = place + width >= len(frame)
        out.append({"data": int.from_bytes(part, "little"), "count": len(part), "last": last,
                    "error": last and is_damaged})
    return out


def expected(pipeline, frames, slot_size):
    """What the loop makes of frames given as (bytes, is_damaged), and the model that was asked."""
    model, out = PipelineModel(pipeline, slot_size=slot_size), []
    for frame, is_damaged in frames:
        packet = model.parse(frame, is_damaged=is_damaged)
        if packet is not None and (sent := model.deparse(packet)):
            out.append(sent)
    return out, model
