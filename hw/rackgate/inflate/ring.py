# SPDX-License-Identifier: Apache-2.0
"""Descriptors from the ring in memory to the contexts."""

import operator

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.dma.reader import Reader
from rackgate.inflate.abi import DESCRIPTOR_SIZE, MAX_DESTINATION_SIZE, MAX_SOURCE_SIZE, Flag, Format, Opcode, Status
from rackgate.inflate.task import ADDR_WIDTH, Task

__all__ = ["RawDescriptor", "RingReader"]

_WORDS = DESCRIPTOR_SIZE // 8


class RawDescriptor(data.Struct):
    """The 64 bytes of ``abi.Descriptor``, first field at the lowest address."""

    opcode: 8
    framing: 8
    flags: 8
    context: 8
    tag: 32
    source: 64
    destination: 64
    source_size: 32
    destination_size: 32
    completion: 64
    start_bit: 32
    reserved: 160


class RingReader(wiring.Component):
    """Read descriptors in ring order, check them, and hand each to its context.

    The next descriptor is fetched as soon as the one before has been handed over, so it waits ready while
    its context is busy; it holds up those behind it. Checks and their order are those of the golden model
    (``rackgate_sim.inflate.model.check``); addresses beyond :data:`ADDR_WIDTH` bits are refused as bus errors. A
    descriptor that cannot be read, or whose completion address is no multiple of 64, is dropped with ``fault``.

    Parameters
    ----------
    contexts:
        Number of contexts, 1 to 8.

    Members
    -------
    enable: fetch. base: byte address of the ring; bits 5:0 are not looked at.
    size: descriptors in the ring, a power of two; with 0 nothing is fetched.
    tail: descriptors ever put in. head: descriptors ever taken. Both modulo 65536.
    fault, fault_address: strobe, and the address it is about.
    busy: a descriptor has been asked for and not yet been handed over.
    o: one stream a context.
    ar, r: AXI4 read channels.

    Reset sets ``head`` to 0 and forgets the descriptor under way; its burst must be reset with it.
    """

    def __init__(self, *, contexts: int = 2):
        self.contexts = operator.index(contexts)
        if not 1 <= self.contexts <= 8:
            raise ValueError(f"contexts must be 1 to 8, not {contexts}")
        self._reader = Reader(addr_width=ADDR_WIDTH, id_width=1, fifo_depth=_WORDS, burst=_WORDS, outstanding=1)
        bus = AXI4Signature(addr_width=ADDR_WIDTH, id_width=1)
        super().__init__({
            "enable": In(1),
            "base": In(64),
            "size": In(16),
            "tail": In(16),
            "head": Out(16),
            "fault": Out(1),
            "fault_address": Out(64),
            "busy": Out(1),
            "o": Out(stream.Signature(Task)).array(self.contexts),
            "ar": bus.members["ar"],
            "r": bus.members["r"],
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = self._reader
        for name in ("ar", "r"):
            wiring.connect(m, getattr(reader, name), wiring.flipped(getattr(self, name)))

        raw = Signal(RawDescriptor)
        failed = Signal()
        address = Signal(64)
        task = Signal(Task)
        handed = Signal()
        m.d.comb += [
            address.eq((self.base[6:] + (self.head & (self.size - 1))) << 6),
            reader.i.payload.addr.eq(address),
            reader.i.payload.size.eq(DESCRIPTOR_SIZE),
            handed.eq(Cat(o.valid & o.ready for o in self.o).any()),
        ]
        for o in self.o:
            m.d.comb += o.payload.eq(task)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += failed.eq(0)
                with m.If(self.enable & (self.size != 0) & (self.head != self.tail)):
                    m.d.sync += self.fault_address.eq(address)
                    m.next = "FETCH"
            with m.State("FETCH"):
                with m.If(self.fault_address[ADDR_WIDTH:].any()):
                    m.d.sync += [failed.eq(1), self.head.eq(self.head + 1)]
                    m.next = "CHECK"
                with m.Else():
                    m.d.comb += reader.i.valid.eq(1)
                    with m.If(reader.i.ready):
                        m.next = "READ"
            with m.State("READ"):
                m.d.comb += reader.o.ready.eq(1)
                with m.If(reader.o.valid):
                    m.d.sync += [raw.eq(Cat(raw.as_value()[64:], reader.o.payload.data)),
                                 failed.eq(failed | reader.o.payload.error)]
                    with m.If(reader.o.payload.last):
                        m.d.sync += self.head.eq(self.head + 1)
                        m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += self._decode(task, raw)
                m.next = "HAND"
                with m.If(~failed):
                    m.d.sync += self.fault_address.eq(raw.completion)
                with m.If(failed | raw.completion[:6].any() | raw.completion[ADDR_WIDTH:].any()):
                    m.next = "FAULT"
            with m.State("FAULT"):
                m.d.comb += self.fault.eq(1)
                m.next = "IDLE"
            with m.State("HAND"):
                for context, o in enumerate(self.o):
                    m.d.comb += o.valid.eq(task.context == context)
                m.d.sync += Assert(task.context < self.contexts, "a task for a context that there is not")
                with m.If(handed):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m

    def _decode(self, task, raw):
        """Assignments that make ``task`` of a descriptor."""
        return [
            task.status.eq(self._refusal(raw)),
            task.load.eq(raw.opcode == Opcode.LOAD),
            task.tables.eq(raw.opcode == Opcode.TABLES),
            task.canned.eq((raw.flags & Flag.CANNED).any()),
            task.framing.eq(raw.framing),
            task.resume.eq((raw.flags & Flag.RESUME).any()),
            task.last.eq((raw.flags & Flag.LAST).any()),
            task.multi.eq((raw.flags & Flag.MULTI).any()),
            task.interrupt.eq((raw.flags & Flag.INTERRUPT).any()),
            task.strict_lengths.eq((raw.flags & Flag.STRICT_LENGTHS).any()),
            task.context.eq(Mux(raw.context < self.contexts, raw.context, 0)),
            task.start_bit.eq(raw.start_bit),
            task.tag.eq(raw.tag),
            task.source.eq(raw.source),
            task.source_size.eq(raw.source_size),
            task.destination.eq(raw.destination),
            task.destination_size.eq(raw.destination_size),
            task.completion.eq(raw.completion),
        ]

    def _refusal(self, raw):
        """The status that the descriptor is refused with, or IN_PROGRESS."""
        is_load = raw.opcode == Opcode.LOAD
        known_flags = sum(Flag)
        is_raw_only = (raw.opcode == Opcode.TABLES) | (raw.flags & Flag.CANNED).any()
        checks = [
            (~Cat(raw.opcode == opcode for opcode in Opcode).any(), Status.BAD_OPCODE),
            ((raw.framing > max(Format)) | (is_raw_only & (raw.framing != Format.RAW))
             | (raw.flags & ~known_flags & 0xFF).any() | (raw.context >= self.contexts), Status.BAD_FLAGS),
            ((raw.source_size > MAX_SOURCE_SIZE) | (raw.destination_size > MAX_DESTINATION_SIZE)
             | (raw.start_bit > Mux(is_load, 0, 7)), Status.BAD_SIZE),
            (raw.reserved.any(), Status.RESERVED_NONZERO),
            (_is_beyond(raw.source, raw.source_size), Status.READ_ERROR),
            (_is_beyond(raw.destination, raw.destination_size), Status.WRITE_ERROR),
        ]
        status = Const(Status.IN_PROGRESS, 8)
        for condition, refusal in reversed(checks):
            status = Mux(condition, refusal, status)
        return status


def _is_beyond(address, size):
    """Whether a range of bytes passes the end of the address space."""
    end = address[:ADDR_WIDTH] + size
    return address[ADDR_WIDTH:].any() | (end[ADDR_WIDTH] & end[:ADDR_WIDTH].any())
