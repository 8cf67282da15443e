# SPDX-License-Identifier: Apache-2.0
"""The gateware of a pipeline against its model: any packets, all outputs, all registers, in the native simulation."""

import dataclasses
import functools
from collections import deque

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from rackgate.net.headers import ethernet, udp
from rackgate.net.hosts import route
from rackgate.pisa.declare import Compute, assign, standard
from rackgate.pisa.expr import cat
from rackgate.pisa.layout import name_of, phv_layout
from rackgate.pisa.liveness import deparsed
from rackgate.pisa.pipeline import PipelineCore
from rackgate_sim.native import Event, Simulation, build
from rackgate_sim.pisa.model import PipelineModel

__all__ = ["Differential", "Observed", "control_access", "differential", "with_control"]

_SLOT_BITS = 4
_AT_ONCE = 4096


def without_hosts(pipeline):
    """The pipeline with the host's number and flow written into the packet, in place of the table of hosts."""
    shown = Compute("show", [assign(ethernet.destination, route.host.resize(48)),
                             assign(udp.source_port, cat(route.to_client).resize(16))])
    assert pipeline.egress[-1].name == "hosts"
    return dataclasses.replace(pipeline, egress=(*pipeline.egress[:-1], shown))


class Observed(wiring.Component):
    """A core, with what enters it as a stream that must not be stalled: bit 0 recirculates, bit 1 control plane."""

    def __init__(self, pipeline, **parameters):
        self.core = PipelineCore(pipeline, slot_bits=_SLOT_BITS, **parameters)
        members = self.core.signature.members
        super().__init__({"i": members["i"], "o": members["o"], "entered": Out(stream.Signature(2))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = self.core
        wiring.connect(m, wiring.flipped(self.i), core.i)
        wiring.connect(m, core.o, wiring.flipped(self.o))
        m.d.sync += [
            self.entered.valid.eq(core.enters),
            self.entered.payload.eq(core.enters_again | core.enters_control << 1),
        ]
        return m


class Packer:
    """Between values of some fields and one number, as a layout has it."""

    def __init__(self, layout, fields):
        self.offsets = [layout[name_of(item)].offset for item in fields]
        self.fields = fields
        self.known = {}

    def __call__(self, values):
        key = tuple(values)
        if (number := self.known.get(key)) is None:
            number = sum(value << offset for value, offset in zip(key, self.offsets, strict=True))
            if len(self.known) < 1 << 18:
                self.known[key] = number
        return number


def control_access(register, index, data=None):
    """What a generator of packets yields for an access of the control plane: to a register by number."""
    return {"valid": 1, "write": int(data is not None), "register": register, "index": index, "data": data or 0}


@functools.cache
def library_of(pipeline, name, variant):
    """A pipeline's core as a library; its Verilog is written once in a process."""
    return build(Observed(pipeline), name=name, variant=variant)


def with_control(rng, pipeline, packets, *, share=0.02, is_writing=True):
    """``packets`` with accesses of the control plane among them: reads, or as many writes."""
    registers = pipeline.registers
    while True:
        if not registers or rng.random() >= share:
            yield next(packets)
            continue
        number = rng.randrange(len(registers))
        register = registers[number]
        highest = (1 << max(1, *((item.depth - 1).bit_length() for item in registers), 1)) - 1
        yield control_access(number, rng.choice([0, 1, register.depth - 1, rng.randint(0, highest)]),
                             rng.choice([None, rng.getrandbits(register.width)]) if is_writing else None)


class Differential:
    """A core under the native simulation, and a model that goes through the same.

    Parameters
    ----------
    pipeline:
        The declaration.
    seed:
        Seed of the stalls.
    library:
        A library of :class:`Observed` that was built before.
    """

    def __init__(self, pipeline, *, seed=0, name="", library=None, variant="fast"):
        self.pipeline = pipeline
        self.model = PipelineModel(pipeline)
        self.library = library or library_of(pipeline, name or f"core_{pipeline.name}", variant)
        self.simulation = Simulation(self.library, seed=seed)
        self.layout = phv_layout(pipeline, slot_bits=_SLOT_BITS)
        self.places = {item: place for place, item in enumerate(pipeline.phv)}
        live = deparsed(pipeline)
        self.out = [item for item in pipeline.phv if item in live and item is not standard.drop]
        self.out_places = [self.places[item] for item in self.out]
        self.pack_in = Packer(self.layout, pipeline.phv)
        self.pack_out = Packer(self.layout, self.out)
        self.bit = {name: self.layout[name].offset for name in
                    ("payload_slot", "has_payload", "owns_slot", "standard__drop", "control")}
        self.control = {name: field.offset + self.bit["control"] for name, field in self.layout["control"].shape}
        self.slot = 0
        self.waiting = deque()  # given, not yet entered
        self.again = deque()
        self.expected = deque()
        self.passes = self.compared = 0

    # Both sides

    def give(self, packets):
        """Queue packets: vectors in the order of the pipeline's ``phv``, or what :func:`control_access` makes."""
        payloads = []
        for packet in packets:
            if isinstance(packet, dict):
                payloads.append(sum(value << self.control[name] for name, value in packet.items()))
                self.waiting.append(packet)
                continue
            slot = self.slot = (self.slot + 7) % (1 << _SLOT_BITS + 2)
            number, has = slot & (1 << _SLOT_BITS) - 1, slot >> _SLOT_BITS & 1
            flags = number << self.bit["payload_slot"] | has << self.bit["has_payload"] | has << self.bit["owns_slot"]
            payloads.append(self.pack_in(packet) | flags)
            self.waiting.append((list(packet), number, has, has))
        self.simulation.stream("i").push(payloads)

    def take(self, limit):
        """Run until all that was given has come to its end, at most ``limit`` cycles, and compare."""
        simulation = self.simulation
        out, entered = simulation.stream("o"), simulation.stream("entered")
        end = simulation.cycle + limit
        while True:
            for kind in entered.pop_all():
                self._pass(kind)
            for number in out.pop_all():
                self._compare(number)
            if not (self.waiting or self.again or self.expected):
                return
            if simulation.cycle >= end:
                raise simulation.timeout(f"{len(self.waiting)} packets to enter, {len(self.again)} to enter again, "
                                         f"{len(self.expected)} outputs", limit)
            simulation.run(200, Event.DRAIN)

    def run(self, packets, count, *, limit=100):
        """Take ``count`` packets from an iterator through both, with ``limit`` cycles for each."""
        left = count
        while left:
            some = min(left, _AT_ONCE)
            self.give(next(packets) for _ in range(some))
            self.take(some * limit + 200_000)
            left -= some

    def check_registers(self, most=5000):
        """Read the registers through the control plane, as far as they were written, and some that were not."""
        for number, register in enumerate(self.pipeline.registers):
            written = sorted(self.model.registers[register.name])[:most]
            others = {0, register.depth - 1, register.depth, 2 * register.depth} - set(written)
            bits = self.layout["control"].shape["index"].width
            self.give(control_access(number, index) for index in [*written, *others] if index < 1 << bits)
            self.take(2000 * (len(written) + 8))

    # The model

    def _pass(self, kind):
        packet = self.again.popleft() if kind & 1 else self.waiting.popleft()
        self.passes += 1
        if isinstance(packet, dict):
            assert kind == 2, "an access of the control plane entered as a packet"
            self.expected.append(self._access(packet))
            return
        assert not kind & 2, "a packet entered as an access of the control plane"
        phv, slot, has, owns = packet
        copies = self.model.one_pass(phv)
        declared = self.pipeline.copies
        if not copies:
            self.expected.append((None, slot, None, owns, 1))
        circles = any(declared[number].recirculate for number, _ in copies)
        for place, (number, copy) in enumerate(copies):
            has_now = has & declared[number].payload
            if declared[number].recirculate:
                self.again.append((copy, slot, has_now, owns))
                continue
            self.model.leave(copy)
            owns_now = owns & (not circles and place == len(copies) - 1)
            self.expected.append((self.pack_out([copy[k] for k in self.out_places]), slot, has_now, owns_now,
                                  copy[self.places[standard.drop]]))

    def _access(self, access):
        number, index = access["register"], access["index"]
        registers = self.pipeline.registers
        word = 0
        if number < len(registers) and index < registers[number].depth:
            words = self.model.registers[registers[number].name]
            if access["write"]:
                words[index] = access["data"]
            word = words.get(index, registers[number].init)
        return {**access, "data": access["data"] if access["write"] else word}

    def _compare(self, number):
        self.compared += 1
        assert self.expected, f"output {self.compared}: nothing more was to come: {self._show(number)}"
        expected, bit = self.expected.popleft(), self.bit
        if isinstance(expected, dict):
            wanted = sum(value << self.control[name] for name, value in expected.items())
            low = bit["control"]
            assert number >> low == wanted >> low, f"output {self.compared}: {expected}, not {self._show(number)}"
            return
        fields, slot, has, owns, drop = expected
        wanted = slot << bit["payload_slot"] | owns << bit["owns_slot"] | drop << bit["standard__drop"]
        if fields is not None:
            wanted |= fields | has << bit["has_payload"]
            if number != wanted:
                raise AssertionError(f"output {self.compared}: {self._show(number)}\n  not {self._show(wanted)}")
            return
        mask = 1 << bit["owns_slot"] | 1 << bit["standard__drop"] | ((1 << _SLOT_BITS) - 1) << bit["payload_slot"]
        assert number & mask == wanted and not number >> bit["control"] & 1, \
            f"output {self.compared}: {self._show(number)}\n  not a drop of slot {slot}"

    def _show(self, number):
        shown = {name: number >> field.offset & (1 << field.width) - 1 for name, field in self.layout
                 if name != "control"}
        shown |= {f"control.{name}": number >> self.control[name] & (1 << field.width) - 1
                  for name, field in self.layout["control"].shape}
        return {name: value for name, value in shown.items() if value}


def differential(pipeline, packets, count, *, seed, stall_i=0.0, stall_o=0.0, library=None, variant="fast", limit=100):
    """Take ``count`` of ``packets`` (vectors, see :meth:`Differential.give`) through gateware and model and compare.

    Compares all that comes out, and at the end the registers. Returns the :class:`Differential`; the seed is printed.
    """
    print(f"{pipeline.name}: {count} packets, seed {seed}")
    both = Differential(pipeline, seed=seed, library=library, variant=variant)
    both.simulation.stream("i").stall(stall_i)
    both.simulation.stream("o").stall(stall_o)
    both.simulation.run(max((register.depth for register in pipeline.registers), default=0))  # first, words are written
    both.run(iter(packets), count, limit=limit)
    both.check_registers()
    return both
