# SPDX-License-Identifier: Apache-2.0
"""The NIC as a device."""

import operator

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4LiteSignature, AXI4Signature
from rackgate.axi.isolator import Isolator
from rackgate.csr.bank import Bank
from rackgate.stream.edge import FrameEntry, FrameExit
from rackgate.stream.packet import PacketSignature
from rackgate.zeronic.abi import REGISTERS, RINGS, Control, Counter
from rackgate.zeronic.rx.unit import ReceiveUnit
from rackgate.zeronic.tx.unit import SendUnit

__all__ = ["Zeronic"]

#: Memory ports, by what goes through them.
_PAYLOAD, _RINGS = 0, 1

_READ, _WRITE = ("ar", "r"), ("aw", "w", "b")


class Zeronic(wiring.Component):
    """A NIC that moves payload between the wire and memory by stream position, and headers to and from rings.

    What it does with frames and commands is in :mod:`rackgate.zeronic.abi` and :mod:`rackgate.zeronic.messages`. Frames
    are Ethernet without FCS; what the MAC found damaged is marked by ``error``. Frames keep their order. When memory or
    a ring is full, ``net_rx`` is not taken: nothing is dropped here.

    Parameters
    ----------
    width:
        Bytes a cycle of memory and wire: 8, 16 or 32.
    flows:
        Flows, a power of two from 16 to 1024.
    segments:
        Segments of a flow and direction, a power of two from 8 to 64.
    regions:
        Memory regions, a power of two from 8 to 256.
    intervals:
        Ranges of placed bytes that are remembered for each flow, 8, 16, 32 or 64.
    build:
        What the BUILD registers say, 64 bits.

    Members
    -------
    csr: AXI4-Lite target. mem: AXI4 initiators, 0 for payload, 1 for rings. net_rx, net_tx: frames. irq: level
    interrupt.

    Reset, and CONTROL.RESET, forget everything; then the tables are cleared, which takes as many cycles as the largest
    has places (STATUS.READY tells), and no frame and no command is taken before. CONTROL.RESET lets transfers on the
    memory ports end; a frame that has begun at ``net_tx`` then ends with ``error``, the rest of one that has begun at
    ``net_rx`` is not let in.
    """

    def __init__(self, width: int = 8, flows: int = 256, segments: int = 32, regions: int = 64, intervals: int = 32, *,
                 build: int = 0):
        self.build = operator.index(build)
        if not 0 <= self.build < 1 << 64:
            raise ValueError(f"build must fit 64 bits, not {build:#x}")
        self._receive = ReceiveUnit(width, flows=flows, segments=segments, regions=regions, intervals=intervals)
        self._send = SendUnit(width, flows=flows, segments=segments, regions=regions)
        self.width, self.flows, self.segments = self._send.width, self._send.flows, self._send.segments
        self.regions, self.intervals = self._send.regions, operator.index(intervals)
        self._bus = AXI4Signature(addr_width=40, data_width=8 * self.width, id_width=4)
        super().__init__({
            "csr": In(AXI4LiteSignature()),
            "mem": Out(self._bus).array(2),
            "net_rx": In(PacketSignature(self.width)), "net_tx": Out(PacketSignature(self.width)),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        restart = Signal()
        m.submodules.receive = ResetInserter(restart)(self._receive)
        m.submodules.send = ResetInserter(restart)(self._send)
        m.submodules.bank = bank = Bank(REGISTERS, values={
            "PARAM_WIDTH": self.width, "PARAM_FLOWS": self.flows, "PARAM_SEGMENTS": self.segments,
            "PARAM_REGIONS": self.regions, "PARAM_INTERVALS": self.intervals,
            "BUILD_LO": self.build & 0xFFFFFFFF, "BUILD_HI": self.build >> 32})
        wiring.connect(m, wiring.flipped(self.csr), bank.bus)
        isolators = self._memory(m, restart)
        m.submodules.entry, m.submodules.exit = entry, exit_ = FrameEntry(self.width), FrameExit(self.width)
        wiring.connect(m, wiring.flipped(self.net_rx), entry.i)
        wiring.connect(m, self._send.net_tx, exit_.i)
        wiring.connect(m, exit_.o, wiring.flipped(self.net_tx))
        self._join(m, bank, entry)
        self._rings(m, bank)
        self._tell(m, bank, restart)
        self._restart(m, bank, (entry, exit_), isolators, restart)
        return m

    def _memory(self, m, restart):
        """Both units' channels, through what lets transfers end before a restart."""
        isolators = []
        channels = {_PAYLOAD: (self._receive.data, self._send.memory), _RINGS: (self._receive.rings, self._send.rings)}
        for port, (writer, reader) in channels.items():
            m.submodules[f"isolator_{port}"] = isolator = ResetInserter(restart)(Isolator(self._bus))
            inner = wiring.flipped(isolator.i)
            for names, unit in ((_READ, reader), (_WRITE, writer)):
                for name in names:
                    wiring.connect(m, getattr(unit, name), wiring.flipped(getattr(inner, name)))
            wiring.connect(m, isolator.o, wiring.flipped(self.mem[port]))
            isolators.append(isolator)
        return isolators

    def _join(self, m, bank, entry):
        """What commands say to the receiving side, and what lets frames and commands in."""
        receive, send = self._receive, self._send
        for name in ("post", "retire", "flow", "key", "region", "profile", "fence", "unsent"):
            wiring.connect(m, getattr(send, name), getattr(receive, name))
        is_on = Signal()
        within = Signal()  # a frame has begun: it is let in whole
        frames = entry.o
        m.d.comb += [
            is_on.eq(within | ((bank.control & Control.RECEIVE) != 0) & receive.ready),
            receive.net_rx.valid.eq(frames.valid & is_on), receive.net_rx.payload.eq(frames.payload),
            frames.ready.eq(receive.net_rx.ready & is_on),
            send.enable.eq(((bank.control & Control.SEND) != 0) & receive.ready),
        ]
        with m.If(frames.valid & frames.ready):
            m.d.sync += within.eq(~frames.payload.last)

    def _rings(self, m, bank):
        """Rings of entries and of commands."""
        receive, send = self._receive, self._send
        for ring in range(RINGS):
            name = f"ring{ring}"
            m.d.comb += [
                receive.base[ring].eq(Cat(getattr(bank, f"{name}_base_lo"), getattr(bank, f"{name}_base_hi")[:8])),
                receive.log_size[ring].eq(getattr(bank, f"{name}_size")),
                receive.consumer[ring].eq(getattr(bank, f"{name}_consumer")),
                getattr(bank, f"{name}_producer").eq(receive.producer[ring]),
            ]
        m.d.comb += [
            receive.coalesce_cycles.eq(bank.coalesce_cycles), receive.coalesce_bytes.eq(bank.coalesce_bytes),
            send.base.eq(Cat(bank.command_base_lo, bank.command_base_hi[:8])),
            send.log_size.eq(bank.command_size), send.producer.eq(bank.command_producer),
            bank.command_consumer.eq(send.consumer),
        ]

    def _tell(self, m, bank, restart):
        """Status, interrupts, counters."""
        receive, send = self._receive, self._send
        has_commands, had_commands = Signal(), Signal()
        m.d.comb += [
            has_commands.eq(send.consumer != bank.command_producer),
            bank.status.eq(Cat(receive.ready & send.ready, receive.idle, send.idle, send.halted)),
            bank.irq_status_set.eq(Cat(receive.entry_written, had_commands & ~has_commands)),
        ]
        m.d.sync += [
            had_commands.eq(has_commands & ~restart),
            self.irq.eq((bank.irq_status & bank.irq_enable).any()),
        ]
        for counter in Counter:
            name = counter.name.lower()
            steps = [getattr(unit.events, name) for unit in (receive, send) if name in unit.events.signature.members]
            # Through a register: what is counted may come late in a cycle.
            count, step = Signal(32, name=f"count_{name}"), Signal(sum(steps).shape(), name=f"step_{name}")
            m.d.sync += [step.eq(sum(steps)), count.eq(count + step)]
            with m.If(restart):
                m.d.sync += [step.eq(0), count.eq(0)]
            m.d.comb += getattr(bank, f"count_{name}").eq(count)

    def _restart(self, m, bank, edges, isolators, restart):
        """CONTROL.RESET: let what is outside end, then forget."""
        entry, exit_ = edges
        stop = Signal()
        m.d.comb += [bank.clear.eq(restart), *(part.stop.eq(stop) for part in (*isolators, *edges)),
                     entry.restart.eq(restart)]
        with m.FSM():
            with m.State("RUN"):
                with m.If(bank.control_written & ((bank.control & Control.RESET) != 0)):
                    m.next = "STOP"
            with m.State("STOP"):
                m.d.comb += stop.eq(1)
                with m.If(Cat(part.quiet for part in (*isolators, exit_)).all()):
                    m.d.sync += restart.eq(1)
                    m.next = "FORGET"
            with m.State("FORGET"):  # a register resets all: nothing that is quiet has begun since
                m.d.comb += stop.eq(1)
                m.d.sync += restart.eq(0)
                m.next = "RUN"
