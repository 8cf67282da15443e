# SPDX-License-Identifier: Apache-2.0
"""Completion records to memory."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature, Burst, Response
from rackgate.inflate.abi import COMPLETION_SIZE
from rackgate.inflate.jobstate import Progress
from rackgate.inflate.task import ADDR_WIDTH, Record

__all__ = ["Outcome", "RecordWriter"]

_BEATS = COMPLETION_SIZE // 8

class Outcome(data.Struct):
    """A record, what is to be done with it, and what stands in no record of ours."""

    address: ADDR_WIDTH
    interrupt: 1
    xor_checksum: 16
    progress: Progress
    record: Record


class RecordWriter(wiring.Component):
    """Write completion records, each as one burst of 8 beats, and say when it is in memory.

    One at a time: 10 cycles and the memory's latency each. The address is a multiple of 64, so a burst never
    crosses 4 KiB. ``i.ready`` is high between records, whatever ``i.valid`` is.

    Members
    -------
    i: records. busy: one is being written.
    done: strobe, the last one (``outcome``) has been answered; ``failed`` if with an error.
    aw, w, b: AXI4 write channels.

    Reset forgets the record under way; its burst must be reset with it.
    """

    i: stream.Interface
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface

    def __init__(self):
        bus = AXI4Signature(addr_width=ADDR_WIDTH, id_width=3)
        super().__init__({
            "i": In(stream.Signature(Outcome)),
            "busy": Out(1),
            "done": Out(1),
            "failed": Out(1),
            "outcome": Out(Outcome),
            "aw": bus.members["aw"],
            "w": bus.members["w"],
            "b": bus.members["b"],
        })

    def elaborate(self, platform):
        m = Module()
        words = Signal(8 * COMPLETION_SIZE)
        beat = Signal(range(_BEATS))
        m.d.comb += [
            self.aw.payload.addr.eq(self.outcome.address),
            self.aw.payload.len.eq(_BEATS - 1),
            self.aw.payload.size.eq(3),
            self.aw.payload.burst.eq(Burst.INCR),
            self.w.payload.data.eq(words[:64]),
            self.w.payload.strb.eq(0xFF),
            self.w.payload.last.eq(beat == _BEATS - 1),
            self.failed.eq((self.b.payload.resp == Response.SLVERR) | (self.b.payload.resp == Response.DECERR)),
        ]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [self.outcome.eq(self.i.payload), words.eq(self.i.payload.record), beat.eq(0)]
                with m.If(self.i.valid):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += self.aw.valid.eq(1)
                with m.If(self.aw.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += self.w.valid.eq(1)
                with m.If(self.w.ready):
                    m.d.sync += [words.eq(words[64:]), beat.eq(beat + 1)]
                    with m.If(beat == _BEATS - 1):
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [self.b.ready.eq(1), self.done.eq(self.b.valid)]
                with m.If(self.b.valid):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m
