# SPDX-License-Identifier: Apache-2.0
"""Completion records to memory."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature, Burst, Response
from rackgate.iaa.abi import COMPLETION_SIZE
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["CompletionWriter", "RawCompletion", "RecordJob"]

_BEATS = COMPLETION_SIZE // 8


class RawCompletion(data.Struct):
    """The 64 bytes of ``abi.Completion``, first field at the lowest address."""

    status: 8
    error: 8
    fault_info: 8
    reserved_0: 8
    completed: 32
    fault_address: 64
    invalid_flags: 64
    output_size: 32
    output_bits: 8
    reserved_1: 8
    xor_checksum: 16
    crc: 32
    minimum: 32
    maximum: 32
    sum: 32
    unused_bits: 8
    reserved_2: 8
    members: 16
    cycles: 32
    adler32: 32
    reserved_3: 32


class RecordJob(data.Struct):
    """A record for ``address``, a multiple of 64."""

    address: ADDR_WIDTH
    record: RawCompletion


class CompletionWriter(wiring.Component):
    """Write completion records, the first 8 bytes of each after the rest has been answered.

    So who sees the status sees the whole record. One at a time: 15 cycles and twice the memory's latency each.
    Bursts never cross 4 KiB. ``i.ready`` is high between records, whatever ``i.valid`` is.

    Members
    -------
    i: records. done, failed: strobe when one has been answered; with ``failed`` it is not in memory.
    busy: one is being written.
    aw, w, b: AXI4 write channels.

    Reset forgets the record under way; its bursts must be reset with it.
    """

    i: stream.Interface
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface

    def __init__(self):
        bus = AXI4Signature(addr_width=ADDR_WIDTH, id_width=1)
        super().__init__({
            "i": In(stream.Signature(RecordJob)),
            "done": Out(1),
            "failed": Out(1),
            "busy": Out(1),
            **{name: bus.members[name] for name in ("aw", "w", "b")},
        })

    def elaborate(self, platform):
        m = Module()
        words = Signal(8 * COMPLETION_SIZE)  # turned round a beat at a time: the first one comes last
        address, left, is_head = Signal(ADDR_WIDTH), Signal(range(_BEATS)), Signal()
        response = self.b.payload.resp
        is_refused = (response == Response.SLVERR) | (response == Response.DECERR)
        m.d.comb += [
            self.aw.payload.addr.eq(Mux(is_head, address, address | 8)),
            self.aw.payload.len.eq(Mux(is_head, 0, _BEATS - 2)),
            self.aw.payload.size.eq(3),
            self.aw.payload.burst.eq(Burst.INCR),
            self.w.payload.data.eq(words[64:128]),
            self.w.payload.strb.eq(0xFF),
            self.w.payload.last.eq(left == 0),
        ]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    address.eq(self.i.payload.address), words.eq(self.i.payload.record.as_value()),
                    is_head.eq(0), left.eq(_BEATS - 2),
                ]
                with m.If(self.i.valid):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += self.aw.valid.eq(1)
                with m.If(self.aw.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += self.w.valid.eq(1)
                with m.If(self.w.ready):
                    m.d.sync += words.eq(words.rotate_right(64))
                    with m.If(left == 0):
                        m.next = "ANSWER"
                    with m.Else():
                        m.d.sync += left.eq(left - 1)
            with m.State("ANSWER"):
                m.d.comb += [self.b.ready.eq(1), self.failed.eq(is_refused), self.done.eq(
                    self.b.valid & (is_head | is_refused))]
                with m.If(self.b.valid):
                    m.d.sync += is_head.eq(1)
                    m.next = "ADDRESS"
                    with m.If(self.done):
                        m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m
