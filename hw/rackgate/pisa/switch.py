# SPDX-License-Identifier: Apache-2.0
"""The device that any declared pipeline becomes."""

import operator
from collections.abc import Mapping

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.axi.bus import AXI4LiteSignature
from rackgate.csr.bank import Bank
from rackgate.csr.map import RegisterMap
from rackgate.pisa.abi import COUNTERS, MAX_WORD, Rejection, data_words, fingerprint, switch_registers
from rackgate.pisa.catalogue import PIPELINES, SWITCH_PARAMETERS
from rackgate.pisa.control import Control
from rackgate.pisa.declare import Pipeline
from rackgate.pisa.deparser import Deparser
from rackgate.pisa.parser import Parser
from rackgate.pisa.payload import FrameStore, SlotPool
from rackgate.pisa.pipeline import PipelineCore
from rackgate.pisa.tables import runtime_table
from rackgate.stream.arbiter import Arbiter
from rackgate.stream.edge import FrameEntry, FrameExit
from rackgate.stream.packet import PacketSignature

__all__ = ["Switch", "named_switch"]


class Switch(wiring.Component):
    """A pipeline with streams of frames around it and a control plane.

    What software sees is described in :mod:`rackgate.pisa.abi`. A frame goes into a slot as it comes; when it has ended
    and is right, its headers go through the pipeline, one packet a cycle; the copies leave with the payload from the
    slot, a word a cycle and a cycle between two frames. Frames leave in the order of the pipeline. While no slot is
    free, ``net_rx`` is not ready. Nothing that comes in can keep the device from taking the next frame, but for a
    ``net_tx`` that is never ready, and a pipeline whose packets recirculate for ever.

    Parameters
    ----------
    pipeline:
        The declaration.
    width:
        Bytes a cycle of the packet streams: 1, 2, 4, 8, 16, 32 or 64.
    slots:
        Frames that may be within at a time, a power of two from 2 to 64.
    slot_size:
        Bytes of the largest frame, a power of two from 64 on.
    registers:
        The register map: :func:`~rackgate.pisa.abi.switch_registers` with a device code and names of parameters.
    parameters:
        Values of those, for the PARAM registers.
    build:
        What the BUILD registers say, 64 bits.

    Members
    -------
    csr: AXI4-Lite target. net_rx, net_tx: packet streams. irq: level interrupt.

    Reset, and CONTROL.RESET, forget all packets, words and entries. The latter waits until the word on offer at
    ``net_tx`` has been taken; a frame that has begun there ends with ``error``, the rest of one that has begun at
    ``net_rx`` is not let in.
    """

    def __init__(self, pipeline: Pipeline, width: int = 8, slots: int = 32, slot_size: int = 2048, *,
                 registers: RegisterMap | None = None, parameters: Mapping[str, int] | None = None, build: int = 0):
        self.pipeline = pipeline
        self.width, self.slots, self.slot_size = operator.index(width), operator.index(slots), operator.index(slot_size)
        self.registers = registers or switch_registers("PISA")
        self.parameters = dict(parameters or {})
        self.build = operator.index(build)
        if not 0 <= self.build < 1 << 64:
            raise ValueError(f"build must fit 64 bits, not {build:#x}")
        self._store, self._pool = FrameStore(self.width, self.slots, self.slot_size), SlotPool(self.slots)
        rim = {"width": self.width, "slot_bits": exact_log2(self.slots), "slot_size": self.slot_size}
        self._parser, self._deparser = Parser(pipeline, **rim), Deparser(pipeline, **rim)
        self._core = PipelineCore(pipeline, slot_bits=rim["slot_bits"], make_table=runtime_table)
        self._control = Control(pipeline)
        super().__init__({
            "csr": In(AXI4LiteSignature()),
            "net_rx": In(PacketSignature(self.width)),
            "net_tx": Out(PacketSignature(self.width)),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        restart = Signal()
        turns = Arbiter(self._core.i.payload.shape(), 2)
        for name, part in (("store", self._store), ("pool", self._pool), ("parser", self._parser), ("turns", turns),
                           ("core", self._core), ("deparser", self._deparser), ("control", self._control)):
            m.submodules[name] = ResetInserter(restart)(part)
        m.submodules.entry = entry = FrameEntry(self.width)
        m.submodules.exit = exit_ = FrameExit(self.width)
        words = data_words(self._control.width)
        m.submodules.bank = bank = Bank(self.registers, values=self._constants(), absent=[
            f"{kind}_{number}" for kind in ("DATA", "RESULT") for number in range(words, MAX_WORD // 32)])
        wiring.connect(m, wiring.flipped(self.csr), bank.bus)
        wiring.connect(m, wiring.flipped(self.net_rx), entry.i)
        wiring.connect(m, exit_.o, wiring.flipped(self.net_tx))
        self._connect(m, turns, entry, exit_)
        self._command(m, bank, words)
        self._count(m, bank, restart)
        self._restart(m, bank, entry, exit_, restart)
        return m

    def _constants(self):
        return {
            "PARAM_WIDTH": self.width, "PARAM_SLOTS": self.slots, "PARAM_SLOT_SIZE": self.slot_size,
            "PIPELINE": fingerprint(self.pipeline), "BUILD_LO": self.build & 0xFFFFFFFF, "BUILD_HI": self.build >> 32,
            **{f"PARAM_{name.upper()}": value for name, value in self.parameters.items()},
        }

    def _connect(self, m, turns, entry, exit_):
        """The way of a packet."""
        store, pool, parser, deparser = self._store, self._pool, self._parser, self._deparser
        core, control = self._core, self._control
        wiring.connect(m, entry.o, parser.i)
        wiring.connect(m, pool.free, parser.slot)
        wiring.connect(m, parser.o, turns.i[0])
        wiring.connect(m, turns.o, core.i)
        wiring.connect(m, deparser.o, exit_.i)
        wiring.connect(m, parser.put, pool.put[0])
        wiring.connect(m, deparser.put, pool.put[1])
        for table in self.pipeline.tables:
            name = f"entries_{table.name}"
            wiring.connect(m, getattr(control, name), getattr(core, name))
        for name in ("write", "write_slot", "write_index", "write_data", "tell", "tell_slot", "told"):
            m.d.comb += getattr(store, name).eq(getattr(parser, name))
        for name in ("ask_slot", "read", "read_slot", "read_index"):
            m.d.comb += getattr(store, name).eq(getattr(deparser, name))
        m.d.comb += [deparser.read_data.eq(store.read_data), deparser.about.eq(store.about)]
        # Accesses of the control plane go in and come out among the packets.
        is_access = core.o.payload.control.valid
        m.d.comb += [
            turns.i[1].valid.eq(control.request.valid), turns.i[1].payload.control.eq(control.request.payload),
            control.request.ready.eq(turns.i[1].ready),
            control.response.valid.eq(core.o.valid & is_access), control.response.payload.eq(core.o.payload.control),
            deparser.i.valid.eq(core.o.valid & ~is_access), deparser.i.payload.eq(core.o.payload),
            core.o.ready.eq(is_access | deparser.i.ready),
        ]

    def _command(self, m, bank, words):
        """The command's registers."""
        control = self._control
        m.d.comb += [
            control.start.eq(bank.command_written), control.operation.eq(bank.command),
            control.target.eq(bank.target), control.index.eq(bank.index),
            control.data.eq(Cat(getattr(bank, f"data_{number}") for number in range(words))),
            *(getattr(bank, f"result_{number}").eq(control.result[32 * number:32 * number + 32])
              for number in range(words)),
            bank.status.eq(Cat(control.ready, control.busy, control.ready & self._pool.is_idle, control.fresh)
                           | control.error << 8),
        ]

    def _count(self, m, bank, restart):
        """The counters."""
        events = {"RECEIVED": self._parser.received, "ACCEPTED": self._parser.accepted,
                  **{f"REJECTED_{cause.name}": self._parser.rejected[cause] for cause in Rejection},
                  "DROPPED": self._deparser.dropped, "SENT": self._deparser.sent,
                  "RECIRCULATED": self._core.enters_again}
        for name in COUNTERS:
            counter = Signal(32, name=name.lower())
            m.d.sync += counter.eq(counter + events[name])
            with m.If(restart):
                m.d.sync += counter.eq(0)
            m.d.comb += getattr(bank, name.lower()).eq(counter)

    def _restart(self, m, bank, entry, exit_, restart):
        """The interrupt, and CONTROL.RESET."""
        control, was_ready = self._control, Signal()
        m.d.sync += [was_ready.eq(control.ready & ~restart), self.irq.eq((bank.irq_status & bank.irq_enable).any())]
        m.d.comb += [
            bank.irq_status_set.eq(Cat(control.done, control.ready & ~was_ready, control.refused)),
            bank.clear.eq(restart), entry.restart.eq(restart),
        ]
        with m.FSM():
            with m.State("RUN"):
                with m.If(bank.control_written & bank.control[0]):
                    m.next = "STOP"
            with m.State("STOP"):
                m.d.comb += [entry.stop.eq(1), exit_.stop.eq(1)]
                with m.If(exit_.quiet):
                    m.d.comb += restart.eq(1)
                    m.next = "RUN"


def named_switch(name: str, *, build: int = 0, **parameters: int) -> Switch:
    """The switch with the pipeline of that name in the catalogue; parameters of both, by default the catalogue's.

    Raises
    ------
    ValueError
        There is no such pipeline, or a parameter is wrong.
    """
    if name not in PIPELINES:
        raise ValueError(f"name must be one of {', '.join(PIPELINES)}, not {name!r}")
    known = PIPELINES[name]
    own = {**known.parameters, **{key: value for key, value in parameters.items() if key not in SWITCH_PARAMETERS}}
    around = {key: parameters.get(key, value) for key, value in SWITCH_PARAMETERS.items()}
    return Switch(known.pipeline(**own), registers=known.map, parameters=own, build=build, **around)
