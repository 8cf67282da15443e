# SPDX-License-Identifier: Apache-2.0
"""The IAA-style device: portals and work queues in front, engines behind, memory ports for them."""

import operator

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.axi.bus import AXI4LiteSignature, AXI4Signature
from rackgate.axi.isolator import Isolator
from rackgate.axi.read_arbiter import ReadArbiter
from rackgate.axi.write_arbiter import WriteArbiter
from rackgate.iaa.abi import InterruptCause
from rackgate.iaa.engine import ENGINE_BUS, IaaEngine
from rackgate.iaa.front import Front
from rackgate.iaa.pagerequest import PageRequests
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["Iaa"]

#: Counters of events, by register.
_COUNTERS = ("completed", "bytes_in", "bytes_out", "busy_cycles", "tlb_hits", "tlb_misses", "page_faults")


class Iaa(wiring.Component):
    """Intel's In-Memory Analytics Accelerator, as far as decompression goes, and more (see :mod:`rackgate.iaa.abi`).

    Descriptors come through the portals in ``csr`` and are carried out by the engines; everything else is in the
    memory behind ``mem``, whose ports all see the same. An engine writes about 5 bytes a cycle and reads less, a port
    carries 8 in each direction: one port for all is what limits from the second engine on. Nothing is read outside the
    aligned 8-byte words that hold a source, and nothing is written outside a destination or a completion record.

    Parameters
    ----------
    engines:
        Engines: 1, 2, 4 or 8.
    contexts:
        Descriptors that an engine works on at a time, 1 to 5.
    window:
        Bytes of history, 4096 (as IAA has) or 32768.
    lanes:
        Source bits that an engine decodes a cycle, 8 or 16.
    queues, entries:
        Work queues, 1 to 8, and the descriptors that they hold together.
    ports:
        Memory ports: 1, 2, 4 or 8, at most one an engine. Engines next to each other share one.
    build:
        What the BUILD registers say, 64 bits.

    Members
    -------
    csr: AXI4-Lite target, 64 KiB. mem: AXI4 initiator, an array of them with several ``ports``. irq: level interrupt.

    Reset stops everything and forgets all descriptors.
    """

    def __init__(self, engines: int = 1, contexts: int = 2, window: int = 32768, lanes: int = 16, queues: int = 4,
                 entries: int = 64, ports: int = 1, *, build: int = 0):
        self.engines = operator.index(engines)
        self.ports = operator.index(ports)
        self.build = operator.index(build)
        if not 0 <= self.build < 1 << 64:
            raise ValueError(f"build must fit 64 bits, not {build:#x}")
        self._front = Front(
            engines=engines, queues=queues, entries=entries, contexts=contexts, reporters=engines,
            values={"PARAM_WINDOW": window, "PARAM_LANES": lanes, "PARAM_PORTS": self.ports,
                    "BUILD_LO": self.build & 0xFFFFFFFF, "BUILD_HI": self.build >> 32})
        self._engines = [IaaEngine(contexts=contexts, window=window, lanes=lanes) for _ in range(self.engines)]
        if self.ports not in (1, 2, 4, 8) or self.ports > self.engines:
            raise ValueError(f"ports must be 1, 2, 4 or 8 and at most {self.engines}, one an engine, not {ports}")
        self._share = self.engines // self.ports
        self._bus = AXI4Signature(addr_width=ADDR_WIDTH, id_width=ENGINE_BUS.id_width + ceil_log2(self._share))
        super().__init__({
            "csr": In(AXI4LiteSignature(addr_width=16)),
            "mem": Out(self._bus) if self.ports == 1 else Out(self._bus).array(self.ports),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.front = front = self._front
        requests = PageRequests(engines=self.engines)
        parts = {"requests": requests, **{f"engine_{number}": engine for number, engine in enumerate(self._engines)}}
        for name, part in parts.items():
            m.submodules[name] = ResetInserter(front.restart)(part)
        wiring.connect(m, wiring.flipped(self.csr), front.csr)
        now = Signal(64)
        for number, engine in enumerate(self._engines):
            self._connect(m, front, requests, number, engine)
            m.d.comb += engine.now.eq(now)
        quiet = [self._port(m, front, port) for port in range(self.ports)]
        m.d.comb += [front.stopped.eq(front.stop & Cat(quiet).all()), self.irq.eq(front.irq)]
        self._page_requests(m, front, requests)
        self._count(m, front, now)
        return m

    def _port(self, m, front, port):
        """A memory port and the engines that share it; returns whether it is quiet."""
        isolator = Isolator(self._bus)
        read = ReadArbiter(self._share, addr_width=ADDR_WIDTH, id_width=ENGINE_BUS.id_width)
        write = WriteArbiter(self._share, addr_width=ADDR_WIDTH, id_width=ENGINE_BUS.id_width)
        for name, part in (("isolator", isolator), ("read", read), ("write", write)):
            m.submodules[f"{name}_{port}"] = ResetInserter(front.restart)(part)
        for number, engine in enumerate(self._engines[port * self._share:(port + 1) * self._share]):
            for ours, theirs in (("ar", read.i_ar), ("r", read.o_r), ("aw", write.i_aw), ("w", write.i_w),
                                 ("b", write.o_b)):
                wiring.connect(m, getattr(engine.mem, ours), theirs[number])
        for ours, theirs in ((read.o_ar, isolator.i.ar), (isolator.i.r, read.i_r), (write.o_aw, isolator.i.aw),
                             (write.o_w, isolator.i.w), (isolator.i.b, write.i_b)):
            wiring.connect(m, ours, theirs)
        wiring.connect(m, isolator.o, wiring.flipped(self.mem if self.ports == 1 else self.mem[port]))
        m.d.comb += isolator.stop.eq(front.stop)
        return isolator.quiet

    def _connect(self, m, front, requests, number, engine):
        """An engine's lanes, errors and page requests."""
        first = number * engine.contexts
        for lane in range(engine.contexts):
            wiring.connect(m, front.work[first + lane], engine.i[lane])
            m.d.comb += front.retired[first + lane].eq(engine.retired[lane])
        wiring.connect(m, engine.error, front.error[number])
        wiring.connect(m, engine.o_question, requests.i[number])
        m.d.comb += [
            engine.i_answer.eq(requests.o[number]),
            engine.abort.eq(front.abort),
            engine.generation.eq(front.bank.aecs_generation),
            engine.invalidate.eq(front.bank.tlb_invalidate_written),
        ]

    def _page_requests(self, m, front, requests):
        """The registers of the page requests, and the causes of interrupts."""
        bank, shown = front.bank, requests.shown
        pasids = [getattr(bank, f"wq{queue}_mode")[8:28] for queue in range(front.queues)]
        pasid = Signal(20)
        with m.Switch(shown.queue):
            for queue, value in enumerate(pasids):
                with m.Case(queue):
                    m.d.comb += pasid.eq(value)
        m.d.comb += [
            bank.page_request.eq(Cat(shown.valid, shown.write, Signal(2), shown.engine, shown.queue, Signal(1), pasid)),
            bank.page_address_lo.eq(Cat(Signal(12), shown.page[:20])),
            bank.page_address_hi.eq(shown.page[20:]),
            requests.respond.eq(bank.page_response_written), requests.code.eq(bank.page_response[:4]),
            requests.timeout.eq(bank.page_timeout),
            front.irq_set[InterruptCause.PAGE_REQUEST.bit_length() - 1].eq(requests.raised),
            front.irq_set[InterruptCause.COMPLETION.bit_length() - 1].eq(
                Cat(engine.interrupt for engine in self._engines).any()),
        ]

    def _count(self, m, front, now):
        """The counters. CYCLES_HI is latched by a read of CYCLES_LO, so the pair is consistent."""
        bank, high, engines = front.bank, Signal(32), self._engines
        steps = {
            "completed": sum(engine.completed for engine in engines),
            "bytes_in": sum(engine.consumed for engine in engines),
            "bytes_out": sum(engine.produced for engine in engines),
            "busy_cycles": Cat(engine.busy for engine in engines).any(),
            "tlb_hits": sum(engine.hits for engine in engines),
            "tlb_misses": sum(engine.misses for engine in engines),
            "page_faults": sum(engine.faults for engine in engines),
        }
        m.d.sync += now.eq(now + 1)
        m.d.comb += [bank.cycles_lo.eq(now[:32]), bank.cycles_hi.eq(high)]
        with m.If(bank.cycles_lo_read):
            m.d.sync += high.eq(now[32:])
        for name in _COUNTERS:
            counter = Signal(32, name=name)
            m.d.comb += getattr(bank, name).eq(counter)
            m.d.sync += counter.eq(counter + steps[name])
            with m.If(front.restart):
                m.d.sync += counter.eq(0)
        with m.If(front.restart):
            m.d.sync += [now.eq(0), high.eq(0)]
