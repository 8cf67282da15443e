# SPDX-License-Identifier: Apache-2.0
"""The inflate device: registers, descriptor ring, engine, memory port."""

import operator

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4LiteSignature, AXI4Signature
from rackgate.axi.isolator import Isolator
from rackgate.axi.read_arbiter import ReadArbiter
from rackgate.axi.write_arbiter import WriteArbiter
from rackgate.csr.bank import Bank
from rackgate.inflate.abi import REGISTERS
from rackgate.inflate.engine import Engine
from rackgate.inflate.record import RecordWriter
from rackgate.inflate.ring import RingReader
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["Inflate"]

_ID_WIDTH = 5  # 8 contexts and the ring, with one id bit each


class Inflate(wiring.Component):
    """A Deflate, zlib and gzip decompressor (RFC 1951, 1950, 1952) that works on memory.

    What software sees is described in :mod:`rackgate.inflate.abi`. Two literals or a match of up to 8 bytes a
    cycle; the source at up to ``lanes`` bits a cycle. Sources, destinations and descriptors are in the memory behind
    ``mem``; nothing is read outside the aligned 8-byte words that hold a source, and nothing is written outside
    a destination or a completion record.

    Parameters
    ----------
    contexts:
        Jobs that can be under way at a time, 1 to 8.
    window:
        Bytes of history of each context, 4096 or 32768.
    lanes:
        Source bits decoded a cycle, 8 or 16.
    build:
        What the BUILD registers say, 64 bits.

    Members
    -------
    csr: AXI4-Lite target. mem: AXI4 initiator. irq: level interrupt.

    Reset stops everything and forgets all jobs.
    """

    def __init__(self, contexts: int = 2, window: int = 32768, lanes: int = 16, *, build: int = 0):
        self.contexts = operator.index(contexts)
        self.window = operator.index(window)
        self.lanes = operator.index(lanes)
        self.build = operator.index(build)
        if not 1 <= self.contexts <= 8:
            raise ValueError(f"contexts must be 1 to 8, not {contexts}")
        if self.window not in (4096, 32768):
            raise ValueError(f"window must be 4096 or 32768, not {window}")
        if self.lanes not in (8, 16):
            raise ValueError(f"lanes must be 8 or 16, not {lanes}")
        if not 0 <= self.build < 1 << 64:
            raise ValueError(f"build must fit 64 bits, not {build:#x}")
        super().__init__({
            "csr": In(AXI4LiteSignature()),
            "mem": Out(AXI4Signature(addr_width=ADDR_WIDTH, id_width=_ID_WIDTH)),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = Bank(REGISTERS, values={
            "PARAM_CONTEXTS": self.contexts, "PARAM_WINDOW": self.window, "PARAM_LANES": self.lanes,
            "BUILD_LO": self.build & 0xFFFFFFFF, "BUILD_HI": self.build >> 32,
        })
        engine = Engine(contexts=self.contexts, window=self.window, lanes=self.lanes)
        ring, record = RingReader(contexts=self.contexts), RecordWriter()
        isolator = Isolator(self.mem.signature)
        read = ReadArbiter(self.contexts + 1, addr_width=ADDR_WIDTH, id_width=1)
        write = WriteArbiter(2, addr_width=ADDR_WIDTH, id_width=3)
        restart = Signal()
        for name, part in (("engine", engine), ("ring", ring), ("record", record), ("isolator", isolator),
                           ("read", read), ("write", write)):
            m.submodules[name] = ResetInserter(restart)(part)
        wiring.connect(m, wiring.flipped(self.csr), bank.bus)
        wiring.connect(m, engine.o, record.i)
        for context in range(self.contexts):
            wiring.connect(m, ring.o[context], engine.i[context])
        for number, (ar, r) in enumerate([*zip(engine.ar, engine.r, strict=True), (ring.ar, ring.r)]):
            wiring.connect(m, ar, read.i_ar[number])
            wiring.connect(m, r, read.o_r[number])
        for number, user in enumerate((engine, record)):
            for ours, theirs in ((user.aw, write.i_aw), (user.w, write.i_w), (user.b, write.o_b)):
                wiring.connect(m, ours, theirs[number])
        _widen_ids(m, isolator.i, read, write)
        wiring.connect(m, isolator.o, wiring.flipped(self.mem))
        self._control(m, bank, ring, record, isolator, restart)
        self._count(m, bank, engine, ring, record, restart)
        return m

    def _control(self, m, bank, ring, record, isolator, restart):
        """Ring registers, interrupt, and the restart that waits for the memory."""
        fault_address, irq_set = Signal(64), Signal(2)
        m.d.comb += [
            ring.enable.eq(bank.control[0] & ~isolator.stop),
            ring.base.eq(Cat(bank.ring_base_lo, bank.ring_base_hi)),
            ring.size.eq(bank.ring_size),
            ring.tail.eq(bank.ring_tail),
            bank.ring_head.eq(ring.head),
            bank.fault_addr_lo.eq(fault_address[:32]),
            bank.fault_addr_hi.eq(fault_address[32:]),
            bank.irq_status_set.eq(irq_set),
            irq_set[0].eq(record.done & ~record.failed & record.outcome.interrupt),
            irq_set[1].eq(ring.fault | (record.done & record.failed)),
            bank.clear.eq(restart),
        ]
        m.d.sync += self.irq.eq((bank.irq_status & bank.irq_enable).any())
        with m.If(record.done & record.failed):
            m.d.sync += fault_address.eq(record.outcome.address)
        with m.Elif(ring.fault):
            m.d.sync += fault_address.eq(ring.fault_address)

        # A register, as it goes everywhere.
        m.d.sync += restart.eq(0)
        with m.If(restart):
            m.d.sync += fault_address.eq(0)
        with m.FSM():
            with m.State("RUN"):
                with m.If(bank.control_written & bank.control[1]):
                    m.next = "STOP"
            with m.State("STOP"):
                m.d.comb += isolator.stop.eq(1)
                with m.If(isolator.quiet):
                    m.d.sync += restart.eq(1)
                    m.next = "RESTART"
            with m.State("RESTART"):
                m.d.comb += isolator.stop.eq(1)
                m.next = "RUN"

    def _count(self, m, bank, engine, ring, record, restart):
        """The counters. CYCLES_HI is latched by a read of CYCLES_LO, so the pair is consistent."""
        now, high = Signal(64), Signal(32)
        completed, busy, consumed, produced = (Signal(32, name=name) for name in (
            "completed", "busy_cycles", "bytes_in", "bytes_out"))
        m.d.comb += [
            engine.now.eq(now),
            bank.cycles_lo.eq(now[:32]), bank.cycles_hi.eq(high),
            bank.completed.eq(completed), bank.busy_cycles.eq(busy),
            bank.bytes_in.eq(consumed), bank.bytes_out.eq(produced),
        ]
        m.d.sync += [now.eq(now + 1), busy.eq(busy + engine.busy)]
        with m.If(bank.cycles_lo_read):
            m.d.sync += high.eq(now[32:])
        with m.If(record.done):
            outcome = record.outcome.record
            m.d.sync += [consumed.eq(consumed + outcome.consumed), produced.eq(produced + outcome.produced),
                         completed.eq(completed + ~record.failed)]
        with m.If(restart):
            m.d.sync += [counter.eq(0) for counter in (now, high, completed, busy, consumed, produced)]


def _widen_ids(m, bus, read, write):
    """Connect the arbiters to ``bus``, whose ids are wider."""
    for ours, theirs in ((read.o_ar, bus.ar), (write.o_aw, bus.aw), (write.o_w, bus.w), (bus.r, read.i_r),
                         (bus.b, write.i_b)):
        m.d.comb += [theirs.valid.eq(ours.valid), ours.ready.eq(theirs.ready)]
        m.d.comb += [theirs.payload[name].eq(ours.payload[name]) for name, _ in ours.payload.shape()]
