# SPDX-License-Identifier: Apache-2.0
"""Throughput and latency of the lock pipelines' gateware, counted in cycles of the native simulation.

Packets are given back to back, on a handful of hot locks; every output is compared with the model's.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.fisslock import faithful, hardened
from rackgate.fisslock.abi import VERSION, Type
from rackgate.netlock import pipeline as netlock
from rackgate.netlock.abi import Op
from rackgate.netlock.placement import uniform
from rackgate.pisa.declare import Action, Pipeline, standard
from rackgate.pisa.layout import control_layout, name_of, phv_layout
from rackgate.pisa.liveness import deparsed
from rackgate.pisa.pipeline import PipelineCore
from rackgate.pisa.tables import runtime_table
from rackgate_sim.native import Event, Simulation, build
from rackgate_sim.pisa.model import PipelineModel

__all__ = ["COPIES_LATENCY", "Core", "Measured", "faithful_core", "fused_core", "measure", "netlock_core"]

#: Cycles in which a packet's copies are made, behind the ingress stages; see ``PipelineCore``.
COPIES_LATENCY = 2

_HOST, _SLOT_BITS = 1, 1


class Core(NamedTuple):
    """A pipeline, words to begin with by register and index, and packets: fields by ``owner__field``, in a circle.

    ``locks`` is how many locks it has, ``hot`` how many of them the packets are for. ``entries`` are those of tables
    that are filled at run time: key, action, arguments.
    """

    pipeline: Pipeline
    words: Mapping[str, Mapping[int, int]]
    packets: Callable[[], Iterator[Mapping[str, int]]]
    locks: int
    hot: int
    entries: Mapping[str, Sequence[tuple[int, Action, Mapping[str, int]]]] = {}


class Measured(NamedTuple):
    """Cycles of ``packets`` packets.

    ``packets_per_cycle`` is that at the output; ``latency`` is the cycles from a packet's entry into the ingress stages
    to its copy, of the first packets, before anything waits; ``passes`` counts recirculated ones too.
    """

    packets: int
    packets_per_cycle: float
    latency: int
    passes: int
    cycles: int


def _bare(declared: Pipeline) -> Pipeline:
    """Without the egress stages: the table of hosts, which is the same for all."""
    return dataclasses.replace(declared, egress=())


def _hot(locks: int, hot: int) -> list[int]:
    """Locks spread over all, the last one among them."""
    return [number * (locks - 1) // max(1, hot - 1) for number in range(hot)]


def fused_core(locks: int, word: int = 18, hot: int = 4) -> Core:
    """FissLock as users run it: exclusive ACQUIRE and FREE of free locks, in turn."""

    def packets() -> Iterator[Mapping[str, int]]:
        epoch, common = 0, {"lock__version": VERSION, "lock__exclusive": 1, "lock__machine_id": _HOST,
                            "lock__agent": _HOST}
        wrap = {18: 7, 36: 20}[word]
        while True:
            epoch = (epoch + 1) % (1 << wrap)
            for kind in (Type.ACQUIRE, Type.FREE):
                for number in _hot(locks, hot):
                    yield {**common, "lock__type": kind, "lock__id": number, "lock__epoch": epoch}

    return Core(_bare(hardened.pipeline(locks=locks, word=word)), {}, packets, locks, hot)


def faithful_core(locks: int, hot: int = 4) -> Core:
    """FissLock as published: exclusive ACQUIRE and FREE of free locks, in turn."""

    def packets() -> Iterator[Mapping[str, int]]:
        while True:
            for kind in (Type.ACQUIRE, Type.FREE):
                for number in _hot(locks, hot):
                    yield {"lock__type": kind, "lock__id": number, "lock__mode": 1, "lock__old_mode": 1,
                           "lock__machine_id": _HOST, "lock__agent": _HOST}

    return Core(_bare(faithful.pipeline(locks=locks)), {}, packets, locks, hot)


def netlock_core(locks: int, slots: int, hot: int = 4, waiting: int = 0) -> Core:
    """NetLock: each hot lock has ``waiting`` exclusive requests in its queue; an ACQUIRE and a RELEASE in turn."""
    slices = uniform(_hot(locks, hot), slots)
    declared = _bare(netlock.pipeline(locks=locks, slots=slots))
    entries = {"locks": [(one.lock, netlock.LOCAL, {"index": one.lock}) for one in slices],
               "servers": [(number, netlock.SERVER, {"host": _HOST}) for number in range(netlock.PARTITIONS)]}
    words: dict[str, dict[int, int]] = {}
    for register in declared.registers:
        for one in slices:
            fields, low, word = one.registers.get(register.name), 0, 0
            if fields is not None:
                for name, part in register.word.fields.items():
                    word |= fields[name] << low
                    low += part.width
                words.setdefault(register.name, {})[one.lock] = word

    def packets() -> Iterator[Mapping[str, int]]:
        task = 0
        for _ in range(waiting):
            for number in _hot(locks, hot):
                yield {"lock__op": Op.ACQUIRE, "lock__mode": 1, "lock__client": _HOST, "lock__id": number}
        while True:
            task += 1
            for kind in (Op.ACQUIRE, Op.RELEASE):
                for number in _hot(locks, hot):
                    yield {"lock__op": kind, "lock__mode": 1, "lock__client": _HOST, "lock__id": number,
                           "lock__task": task}

    return Core(declared, words, packets, locks, hot, entries)


class _Stamped(wiring.Component):
    """A core that also tells, as streams, the cycles in which packets enter its ingress, and in which something leaves.

    Bit 32 of what ``entered`` tells: it is recirculated. ``entry_NAME`` takes entries of table NAME.
    """

    def __init__(self, pipeline: Pipeline):
        self.core = PipelineCore(pipeline, slot_bits=_SLOT_BITS, make_table=runtime_table)
        members = self.core.signature.members
        self.tables = {table.name: getattr(self.core, f"entries_{table.name}") for table in pipeline.tables}
        super().__init__({
            "i": members["i"], "o": members["o"],
            "entered": Out(stream.Signature(33)), "left": Out(stream.Signature(32)),
            **{f"entry_{name}": In(stream.Signature(data.StructLayout({
                "place": port.place.shape(), "word": port.word.shape()}))) for name, port in self.tables.items()},
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        wiring.connect(m, wiring.flipped(self.i), core.i)
        wiring.connect(m, core.o, wiring.flipped(self.o))
        cycle = Signal(32)
        m.d.sync += [
            cycle.eq(cycle + 1),
            self.entered.valid.eq(core.enters),
            self.entered.payload.eq(cycle | core.enters_again << 32),
            self.left.valid.eq(core.o.valid & core.o.ready),
            self.left.payload.eq(cycle),
        ]
        for name, port in self.tables.items():
            entry = getattr(self, f"entry_{name}")
            m.d.comb += [port.request.eq(entry.valid), port.write.eq(1), port.place.eq(entry.payload.place),
                         port.word.eq(entry.payload.word), entry.ready.eq(port.done)]
        return m


class _Run:
    """One core under the native simulation, beside its model."""

    def __init__(self, core: Core, seed: int, variant: str, progress: Callable[[str], None]):
        declared = core.pipeline
        self.core, self.model = core, PipelineModel(declared)
        library = build(_Stamped(declared), name=f"stamped_{declared.name}", variant=variant, progress=progress)
        self.simulation = Simulation(library, seed=seed)
        self.layout = phv_layout(declared, slot_bits=_SLOT_BITS)
        self.places = {name_of(item): number for number, item in enumerate(declared.phv)}
        live = deparsed(declared)
        self.shown = [(name_of(item), number) for number, item in enumerate(declared.phv)
                      if item in live and item is not standard.drop]

    def control(self) -> None:
        """Write the entries and the words to begin with, in the gateware and in the model."""
        payloads = []
        fields = {name: field.offset + self.layout["control"].offset
                  for name, field in control_layout(self.core.pipeline)}
        for name, entries in self.core.entries.items():
            for key, action, arguments in entries:
                self.simulation.stream(f"entry_{name}").push(
                    {"place": place, "word": word}
                    for place, word in self.model.tables[name].insert(key, action, **arguments))
        for number, register in enumerate(self.core.pipeline.registers):
            for index, word in self.core.words.get(register.name, {}).items():
                values = {"valid": 1, "write": 1, "register": number, "index": index, "data": word}
                payloads.append(sum(value << fields[name] for name, value in values.items()))
                self.model.registers[register.name][index] = word
        self.simulation.stream("i").push(payloads)
        self._wait("o", len(payloads), 4 * max(item.depth for item in self.core.pipeline.registers) + 100_000)
        while any(self.simulation.stream(f"entry_{name}").pending for name in self.core.entries):
            self.simulation.run(64)
        for name in ("o", "entered", "left"):
            self.simulation.stream(name).pop_all()

    def vectors(self, count: int) -> list[list[int]]:
        """The first packets, as header vectors."""
        packets, out = self.core.packets(), []
        for _ in range(count):
            vector = self.model.vector(headers=self.core.pipeline.headers)
            for name, value in next(packets).items():
                vector[self.places[name]] = value
            out.append(vector)
        return out

    def push(self, vectors: Sequence[Sequence[int]]) -> None:
        """Give packets to the gateware."""
        offsets = [self.layout[name_of(item)].offset for item in self.core.pipeline.phv]
        self.simulation.stream("i").push(
            sum(value << offset for value, offset in zip(vector, offsets, strict=True)) for vector in vectors)

    def _pop(self, name: str) -> list[int]:
        return [int(item) for item in self.simulation.stream(name).pop_all()]

    def _wait(self, name: str, count: int, limit: int) -> None:
        end = self.simulation.cycle + limit
        while (came := self.simulation.stream(name).available) < count:
            if self.simulation.cycle >= end:
                raise self.simulation.timeout(f"{count} at {name}, {came} came", limit)
            self.simulation.run(64, Event.DRAIN)

    def collect(self, vectors: list[list[int]], limit: int) -> tuple[list[int], list[int]]:
        """Run until nothing is inside, compare with the model, and return the cycles of entries and of exits."""
        waiting, again = list(reversed(vectors)), []
        expected: list[dict[str, int] | None] = []
        entered: list[int] = []
        left: list[int] = []
        end = self.simulation.cycle + limit
        compared = 0
        while waiting or again or compared < len(expected):
            if self.simulation.cycle >= end:
                raise self.simulation.timeout(f"{len(waiting)} packets to enter", limit)
            self.simulation.run(500, Event.DRAIN)
            for stamp in self._pop("entered"):
                entered.append(stamp)
                vector = again.pop(0) if stamp >> 32 & 1 else waiting.pop()
                copies = self.model.one_pass(vector)
                if not copies:
                    expected.append(None)
                for number, copy in copies:
                    if self.core.pipeline.copies[number].recirculate:
                        again.append(copy)
                    else:
                        expected.append({name: copy[place] for name, place in self.shown})
            left += self._pop("left")
            for payload in self._pop("o"):
                self._compare(payload, expected[compared], compared)
                compared += 1
        return entered, left

    def _compare(self, payload: int, expected: dict[str, int] | None, number: int) -> None:
        def value(name: str) -> int:
            field = self.layout[name]
            return payload >> field.offset & (1 << field.width) - 1

        found = None if value("standard__drop") else {name: value(name) for name, _ in self.shown}
        if found != expected:
            raise AssertionError(f"{self.core.pipeline.name}: output {number} is {found}, the model's {expected}")


def measure(core: Core, packets: int, *, seed: int = 1, variant: str = "fast",
            progress: Callable[[str], None] = lambda line: None) -> Measured:
    """Build a core, run ``packets`` packets through it and compare what leaves with the model.

    Raises
    ------
    AssertionError
        The gateware and the model differ.
    SimulationTimeout
        It takes more than 100 cycles for each packet.
    """
    run = _Run(core, seed, variant, progress)
    run.control()
    vectors = run.vectors(packets)
    begin = run.simulation.cycle
    run.push(vectors)
    deepest = max(register.depth for register in core.pipeline.registers)
    entered, left = run.collect(vectors, 100 * packets + 4 * deepest + 100_000)
    latency = left[0] - (entered[0] & 0xFFFF_FFFF)
    return Measured(packets, (packets - 1) / (left[-1] - left[0]), latency, len(entered),
                    run.simulation.cycle - begin)
