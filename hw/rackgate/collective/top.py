# SPDX-License-Identifier: Apache-2.0
"""The collective engine as a device."""

import operator

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.arith.abi import ElementType, types_mask
from rackgate.axi.bus import AXI4LiteSignature
from rackgate.axi.isolator import Isolator
from rackgate.collective.abi import REGISTERS, Control
from rackgate.collective.control.unit import ControlUnit
from rackgate.collective.datapath import EVENTS, Datapath
from rackgate.collective.link.abi import Link, LinkCounter
from rackgate.collective.link.udp import UdpLink
from rackgate.collective.records import CompletionFields, Key
from rackgate.csr.bank import Bank
from rackgate.stream.edge import FrameEntry, FrameExit
from rackgate.stream.packet import PacketSignature

__all__ = ["CONVERT", "Collective"]

#: Bit of ``types`` that says that 32-bit floats can travel as 16-bit ones.
CONVERT = 1 << 31


def _types(mask: int, width: int) -> list[ElementType]:
    if not 0 <= mask & ~CONVERT < 1 << len(ElementType):
        raise ValueError(f"types must have bits of {len(ElementType)} element types and CONVERT only, not {mask:#x}")
    types = [element for element in ElementType if mask >> element & 1]
    if any(element.size > width for element in types):
        raise ValueError(f"types must be of at most {width} bytes, the width, not {', '.join(e.name for e in types)}")
    return types


class Collective(wiring.Component):
    """Collective operations between nodes, carried out by programs (see :mod:`rackgate.collective.abi`).

    Parameters
    ----------
    width:
        Bytes a cycle of link, memory and kernels' streams: 4, 8, 16, 32 or 64.
    segment:
        Payload bytes of the largest packet, a power of two from 256 to 4096. The same on all nodes.
    slots:
        Receive buffers of a segment each, a power of two from 16 to 256.
    program:
        Words of program memory, a power of two up to 4096.
    types:
        Sum of ``1 << ElementType`` of those that can be reduced, and :data:`CONVERT`. By default all that fit.
    calls:
        Calls that may wait, 4 to 64.
    ports:
        Memory ports, 1 or 2 (see :class:`~rackgate.collective.datapath.Datapath`).
    link:
        What is on the way from and to net_rx and net_tx, a :class:`~rackgate.collective.link.abi.Link`. With UDP they
        carry Ethernet frames without FCS, and ``width`` is 4, 8 or 16.
    kernels:
        Ports for calls of kernels in the fabric, 0 to 8. They have two calls each at a time.
    build:
        What the BUILD registers say, 64 bits.

    Members
    -------
    csr: AXI4-Lite target. mem: AXI4 initiator. net_rx, net_tx: packets of the link. irq: level interrupt.
    kernel, kernel_out: the streams of a kernel in the fabric, for operands and results.
    kernel_call, kernel_completion: of each kernel, words of its calls (:class:`~.control.kernelport.KernelPort` gives
    them), and their completions in the order in which they ended. ``restart`` is there with kernels: high for a cycle
    when CONTROL.RESET makes the engine forget their calls.

    Reset, and CONTROL.RESET, forget everything; after the latter the programs have to be written again. A packet that
    has begun at ``net_tx`` then ends with ``error``, the rest of one that has begun at ``net_rx`` is not let in.
    """

    def __init__(self, width: int = 8, segment: int = 1024, slots: int = 64, program: int = 2048,
                 types: int | None = None, calls: int = 16, ports: int = 2, link: int = Link.DIRECT, *,
                 kernels: int = 0, build: int = 0):
        self.width, self.segment, self.slots = operator.index(width), operator.index(segment), operator.index(slots)
        self.program, self.calls, self.build = operator.index(program), operator.index(calls), operator.index(build)
        if not 0 <= self.build < 1 << 64:
            raise ValueError(f"build must fit 64 bits, not {build:#x}")
        if types is None:
            types = types_mask(element for element in ElementType if element.size <= self.width) | CONVERT
        self.types = operator.index(types)
        self._datapath = Datapath(self.width, self.segment, self.slots, types=_types(self.types, self.width),
                                  convert=bool(self.types & CONVERT), ports=operator.index(ports))
        if link not in tuple(Link):
            raise ValueError(f"link must be one of {', '.join(f'{one} ({one.name})' for one in Link)}, not {link}")
        self.link = Link(link)
        self._link = UdpLink(self.width, segment=self.segment, slots=self.slots) if self.link is Link.UDP else None
        self._control = ControlUnit(program=self.program, calls=self.calls, kernels=kernels, segment=self.segment,
                                     types=self.types)
        super().__init__({
            "csr": In(AXI4LiteSignature()),
            "mem": Out(self._datapath.bus) if ports == 1 else Out(self._datapath.bus).array(ports),
            "net_rx": In(PacketSignature(self.width)), "net_tx": Out(PacketSignature(self.width)),
            "kernel": In(PacketSignature(self.width)), "kernel_out": Out(PacketSignature(self.width)),
            "irq": Out(1),
            "kernel_call": In(stream.Signature(32)).array(kernels),
            "kernel_completion": Out(stream.Signature(CompletionFields)).array(kernels),
            **({"restart": Out(1)} if kernels else {}),
        })
        self._kernels = kernels

    def elaborate(self, platform):
        m = Module()
        restart = Signal()
        for name, part in (("control", self._control), ("datapath", self._datapath), ("link", self._link)):
            if part is not None:
                m.submodules[name] = ResetInserter(restart)(part)
        isolators = [ResetInserter(restart)(Isolator(self._datapath.bus)) for _ in self._datapath.mem]
        for number, isolator in enumerate(isolators):
            m.submodules[f"isolator_{number}"] = isolator
        edges = {"net_rx": FrameEntry(self.width), "net_tx": FrameExit(self.width), "kernel": FrameEntry(self.width),
                 "kernel_out": FrameExit(self.width)}
        for name, edge in edges.items():
            m.submodules[f"{name}_edge"] = edge
        m.submodules.bank = bank = Bank(REGISTERS, values={
            "PARAM_WIDTH": self.width, "PARAM_SEGMENT": self.segment, "PARAM_SLOTS": self.slots,
            "PARAM_TYPES": self.types, "PARAM_PROGRAM": self.program, "PARAM_LINK": self.link,
            "BUILD_LO": self.build & 0xFFFFFFFF, "BUILD_HI": self.build >> 32})
        wiring.connect(m, wiring.flipped(self.csr), bank.bus)
        for inner, isolator, ours in zip(self._datapath.mem, isolators,
                                         [self.mem] if len(isolators) == 1 else self.mem, strict=True):
            wiring.connect(m, inner, isolator.i)
            wiring.connect(m, isolator.o, wiring.flipped(ours))
        self._join(m, edges)
        for ours, inner in zip(self.kernel_call, self._control.kernel_call, strict=True):
            wiring.connect(m, wiring.flipped(ours), inner)
        for ours, inner in zip(self.kernel_completion, self._control.kernel_completion, strict=True):
            wiring.connect(m, inner, wiring.flipped(ours))
        if self._kernels:
            m.d.comb += self.restart.eq(restart)
        self._command(m, bank)
        self._probe(m, bank, restart)
        self._count(m, bank, restart)
        self._restart(m, bank, edges, isolators, restart)
        return m

    def _join(self, m, edges):
        """Sequencer and datapath, datapath and the outside."""
        control, datapath = self._control, self._datapath
        if self._link is not None:
            wiring.connect(m, datapath.net_tx, self._link.i)
            wiring.connect(m, self._link.o, datapath.net_rx)
        for name, edge in edges.items():
            ours, inner = getattr(self, name), getattr(datapath, name)
            if self._link is not None and name.startswith("net_"):
                inner = getattr(self._link, name)
            if isinstance(edge, FrameEntry):
                wiring.connect(m, wiring.flipped(ours), edge.i)
                wiring.connect(m, edge.o, inner)
            else:
                wiring.connect(m, inner, edge.i)
                wiring.connect(m, edge.o, wiring.flipped(ours))
        wiring.connect(m, control.move, datapath.move)
        wiring.connect(m, control.open, datapath.open)
        m.d.comb += [
            datapath.is_open.eq(control.is_open), datapath.is_broken.eq(control.is_broken),
            datapath.kill.eq(control.kill), control.killed.eq(datapath.killed), control.failed.eq(datapath.failed),
            *(control.failure[k].eq(datapath.failure[k]) for k in range(len(datapath.failure))),
            control.done.eq(datapath.done), control.received.eq(datapath.received),
        ]

    def _command(self, m, bank):
        """Registers that command, and those that tell."""
        control, datapath = self._control, self._datapath
        address = Signal(13)
        with m.If(bank.config_address_written):
            m.d.sync += address.eq(bank.config_address)
        with m.Elif(bank.config_data_written):
            m.d.sync += address.eq(address + 1)
        first = control.completion
        m.d.comb += [
            control.enable.eq((bank.control & Control.ENABLE) != 0),
            datapath.node.eq(bank.node), datapath.timeout.eq(bank.timeout),
            control.config_address.eq(address), control.config_data.eq(bank.config_data),
            control.config_write.eq(bank.config_data_written),
            control.call_word.eq(bank.call_word), control.call_word_write.eq(bank.call_word_written),
            bank.call_space.eq(control.call_space),
            control.abort_id.eq(bank.abort), control.abort_write.eq(bank.abort_written),
            bank.completions.eq(control.completions),
            bank.completion_0.eq(Cat(first.id, first.status, first.cause, first.node)),
            bank.completion_1.eq(first.cycles), bank.completion_2.eq(first.bytes),
            bank.completion_3.eq(first.tag),
            control.completion_pop.eq(bank.completion_pop_written),
            bank.irq_status_set.eq(control.call_ended),
        ]
        if self._link is not None:
            m.d.comb += [
                self._link.node.eq(bank.node), self._link.settings.address.eq(bank.link_address),
                self._link.settings.port.eq(bank.link_port), self._link.settings.session.eq(bank.link_session),
                self._link.timeout.eq(bank.link_timeout), self._link.delay.eq(bank.link_ack_delay),
            ]
        m.d.sync += self.irq.eq((bank.irq_status & bank.irq_enable).any())

    def _probe(self, m, bank, restart):
        """A probe, from the write of PROBE to its answer. One that is written meanwhile is dropped."""
        probe, probed, is_done = self._datapath.probe, self._datapath.probed, Signal()
        key, word, tag = Signal(Key), Signal(32), Signal(32)
        m.d.comb += [
            key.communicator.eq(word[8:11]), key.node.eq(word[:4]), key.any_node.eq(word[4]),
            key.any_tag.eq(word[5]), key.tag.eq(tag), probe.payload.eq(key),
            bank.probe_0.eq(Cat(probed.node, probed.element, probed.compressed, Const(0, 21), probed.found & is_done,
                                is_done)),
            bank.probe_1.eq(probed.tag), bank.probe_2.eq(probed.length),
        ]
        with m.If(probe.ready & probe.valid):
            m.d.sync += [probe.valid.eq(0), is_done.eq(1)]
        with m.If(bank.probe_written & ~probe.valid):
            m.d.sync += [probe.valid.eq(1), is_done.eq(0), word.eq(bank.probe), tag.eq(bank.probe_tag)]
        with m.If(restart):
            m.d.sync += [probe.valid.eq(0), is_done.eq(0)]

    def _count(self, m, bank, restart):
        """The counters."""
        events = self._datapath.events
        steps = {
            **{name: getattr(events, name) for name in EVENTS}, "calls": self._control.ended,
            "bytes_sent": Mux(events.packets_sent, events.bytes_sent, 0),
            "bytes_received": Mux(events.packets_received, events.bytes_received, 0),
        }
        if self._link is not None:
            steps |= {f"link_{one.name.lower()}": getattr(self._link.events, one.name.lower()) for one in LinkCounter}
        for name, value in steps.items():
            step, count = Signal(len(value), name=f"step_{name}"), Signal(32, name=name)
            m.d.sync += [step.eq(value), count.eq(count + step)]  # what happens comes late in its cycle
            with m.If(restart):
                m.d.sync += [step.eq(0), count.eq(0)]
            m.d.comb += getattr(bank, f"count_{name}").eq(count)

    def _restart(self, m, bank, edges, isolators, restart):
        """CONTROL.RESET: let what is outside end, then forget."""
        stop, forget = Signal(), Signal()
        entries = [edge for edge in edges.values() if isinstance(edge, FrameEntry)]
        exits = [edge for edge in edges.values() if isinstance(edge, FrameExit)]
        m.d.comb += [bank.clear.eq(forget), *(part.stop.eq(stop) for part in (*isolators, *edges.values())),
                     *(edge.restart.eq(restart) for edge in entries)]
        # From a register, as it goes everywhere: nothing that is quiet has begun since. The bank goes before, for a
        # host that writes its next register at once, as it may when nothing was under way.
        m.d.sync += restart.eq(forget)
        with m.FSM():
            with m.State("RUN"):
                with m.If(bank.control_written & ((bank.control & Control.RESET) != 0)):
                    m.next = "STOP"
            with m.State("STOP"):
                m.d.comb += stop.eq(1)
                with m.If(Cat(part.quiet for part in (*isolators, *exits)).all()):
                    m.d.comb += forget.eq(1)
                    m.next = "FORGET"
            with m.State("FORGET"):
                m.d.comb += stop.eq(1)
                m.next = "RUN"
