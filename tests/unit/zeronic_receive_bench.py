# SPDX-License-Identifier: Apache-2.0
"""The NIC's receiving side with memory, rings and a host on a bench, next to the golden model."""

import random
from collections import Counter as Tally
from collections import deque

from iaa_stage import Stage

from rackgate.verif.stimulus import AXI4Memory, send
from rackgate.zeronic.abi import WAYS, Counter, Direction, Right, flow_hash
from rackgate.zeronic.messages import Cursor, Entry, EntryKind, Fence, Flow, FlowFlag, Key, Post, Region, Retire
from rackgate.zeronic.rx.unit import ReceiveUnit
from rackgate_sim.inflate.model import BusError
from rackgate_sim.zeronic.coalescer import Coalescer
from rackgate_sim.zeronic.parse import FlowKey
from rackgate_sim.zeronic.receiver import Receiver, item
from rackgate_sim.zeronic.segments import Region as ModelRegion
from rackgate_sim.zeronic.segments import Segment
from rackgate_sim.zeronic.tables import Tables

__all__ = ["DATA", "DATA_SIZE", "SIZES", "Damaged", "Reference", "run", "flow_of"]

#: Of the unit on the bench.
SIZES = {"flows": 16, "segments": 8, "regions": 8, "intervals": 8}
#: Memory for payload.
DATA, DATA_SIZE = 0x12_0000_0000, 0x60000
_RINGS, _RING_SIZE = 0x20_0000_0000, 1 << 16
_STAGES = {width: Stage(lambda width=width: ReceiveUnit(width, **SIZES), ()) for width in (8, 16, 32)}


class Damaged(bytes):
    """A frame that the MAC marks."""


class _Memory:
    """What the model writes to."""

    def __init__(self, bad):
        self.content, self.bad = bytearray(DATA_SIZE), frozenset(bad)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.content[address - DATA:address - DATA + size])

    def write(self, address: int, data: bytes) -> None:
        if self.bad.intersection(range(address, address + len(data))):
            raise BusError("refused")
        self.content[address - DATA:address - DATA + len(data)] = data


class Reference:
    """The golden model of the receiving side."""

    def __init__(self, cycles=0, bad=()):
        self.counts, self.memory = dict.fromkeys(Counter, 0), _Memory(bad)
        self._tables = Tables(SIZES["flows"], SIZES["segments"], SIZES["intervals"])
        self._receiver, self._coalescer = Receiver(self.memory, self._tables, self.counts), Coalescer()
        self._coalescer.cycles, self._coalescer.most = cycles, 65000
        self.items = []

    def take(self, step):
        """Do a step of a script: a command, a fence, or a frame."""
        tables = self._tables
        match step:
            case Cursor():
                tables.flows[step.flow].guard.advance(step.position)
            case Flow():
                tables.flows[step.flow].begin(FlowFlag(step.flags), step.cursor)
            case Key():
                key = FlowKey(*(getattr(step, name) for name in FlowKey._fields))
                tables.set_key(step.place, key, step.flow if step.valid else None)
            case Post():
                segments = tables.flows[step.flow].segments[Direction.RECEIVE]
                is_taken = segments.post(Segment(step.start, step.length, step.region, step.offset))
                self.counts[Counter.BAD_COMMAND] += not is_taken
            case Retire():
                tables.flows[step.flow].segments[Direction.RECEIVE].retire(step.count)
            case Region():
                tables.regions.register(step.region, ModelRegion(Right(step.rights), step.base, step.length,
                                                                   step.owner))
            case Fence():
                fence = item(step.ring, Entry(EntryKind.FENCE, flow=step.cookie))
                self.items += [*self._coalescer.flush_all(), fence]
            case bytes():
                made = self._receiver.receive(step, isinstance(step, Damaged))
                self.items += self._coalescer.put(made, 0) if made else []

    def entries(self, ring):
        """The entries of a ring, with content."""
        return [(one.entry, one.content) for one in self.items if one.ring == ring]

    def events(self):
        """The counters that this side counts, but for those of cycles."""
        self.counts[Counter.MERGED], self.counts[Counter.ENTRIES] = self._coalescer.merged, len(self.items)
        return +Tally({one.name.lower(): count for one, count in self.counts.items() if one != Counter.RING_FULL})


def _update(step):
    """The stream that a command goes to, and its payload."""
    match step:
        case Flow():
            return "flow", {"flow": step.flow, "begin": 1, "flags": step.flags, "cursor": step.cursor}
        case Cursor():
            return "flow", {"flow": step.flow, "begin": 0, "cursor": step.position}
        case Key():
            names = ("source", "destination", "source_port", "destination_port", "profile")
            return "key", {"flow": step.flow, "place": step.place, "valid": step.valid,
                           "key": {name: getattr(step, name) for name in names}}
        case Post():
            return "post", {name: getattr(step, name) for name in ("flow", "start", "length", "region", "offset")}
        case Retire():
            return "retire", {"flow": step.flow, "count": step.count}
        case Fence():
            return "fence", step._asdict()
        case Region():
            return "region", {name: getattr(step, name) for name in ("region", "rights", "base", "length", "owner")}
    raise TypeError(f"{step!r} is no command")


def flow_of(number, key, cursor, flags):
    """A flow that begins, with a key."""
    source, destination, source_port, destination_port = key
    value = flow_hash(source, destination, source_port, destination_port, 0)
    place = value % (2 * SIZES["flows"] // WAYS) * WAYS + number % WAYS
    return [Flow(number, flags, cursor), Key(number, place, True, source, destination, source_port, destination_port)]


def _words_of(frame, width):
    """A frame as a packet."""
    words = [{"data": int.from_bytes(frame[at:at + width], "little"), "count": len(frame[at:at + width])}
             for at in range(0, len(frame), width)]
    words[-1] |= {"last": 1, "error": isinstance(frame, Damaged)}
    return words


class _Host:
    """Reads rings from memory as a driver does."""

    def __init__(self, memory, log_size):
        self.memory, self.size = memory, 1 << log_size
        self.consumer, self.entries = [0, 0], ([], [])

    def poll(self, ring, producer):
        """Take an entry, if there is one."""
        if self.consumer[ring] == producer:
            return
        at = self.consumer[ring] % self.size
        where = ring * _RING_SIZE + at
        units = int.from_bytes(self.memory[where + 2:where + 4], "little")
        assert units and at + 8 * units <= self.size
        if self.memory[where] != EntryKind.PAD:
            entry = Entry.from_bytes(self.memory[where:where + 16])
            self.entries[ring].append((entry, bytes(self.memory[where + 16:where + 16 + entry.content])))
        self.consumer[ring] += 8 * units


class Probe:
    """What happened when, in cycles: words taken at ``net_rx``, beats at memory, entries."""

    def __init__(self):
        self.last_words, self.beats, self.first_beats, self.answers, self.ring_beats, self.entries = (
            [], [], [], [], [], [])


def run(width, script, *, seed=0, idle=0.0, stall=0.0, latency=0, pace=1.0, log_size=14, cycles=0, bad=(),
        settles=True, reference=None, limit=6000):
    """Play a script to the unit; hold entries, memory and events against the model's. Returns the model and a probe.

    A script has commands and frames (``bytes``). Commands wait until all frames before them are done (``settles``), as
    in the model.
    """
    reference = reference or Reference(cycles, bad)
    for step in script:
        reference.take(step)
    data, rings = bytearray(DATA_SIZE), bytearray(2 * _RING_SIZE)
    models = [AXI4Memory(memory, base=base, rng=random.Random(seed + k), stall=stall, width=width, latency=latency,
                         bad=bad) for k, (memory, base) in enumerate(((data, DATA), (rings, _RINGS)))]
    host, events, probe = _Host(rings, log_size), Tally(), Probe()
    wanted = [len(reference.entries(ring)) for ring in range(2)]
    is_done = deque()

    def scene(dut):
        async def source(ctx):
            rng = random.Random(seed + 5)
            for ring in range(2):
                ctx.set(dut.base[ring], _RINGS + ring * _RING_SIZE)
                ctx.set(dut.log_size[ring], log_size)
            ctx.set(dut.coalesce_cycles, cycles)
            ctx.set(dut.coalesce_bytes, 65000)
            while not ctx.get(dut.ready):
                await ctx.tick()
            for step in script:
                if isinstance(step, bytes):
                    await send(ctx, dut.net_rx, _words_of(step, width), rng=rng, idle=idle)
                    continue
                quiet = 0
                while settles and quiet < 20:
                    quiet = quiet + 1 if ctx.get(dut.idle) else 0
                    await ctx.tick()
                name, payload = _update(step)
                await send(ctx, getattr(dut, name), [payload])
            quiet = 0
            while quiet < 60 or [len(entries) for entries in host.entries] != wanted:
                quiet = quiet + 1 if ctx.get(dut.idle) else 0
                await ctx.tick()
            is_done.append(1)

        async def watcher(ctx):
            rng, cycle = random.Random(seed + 6), 0
            names = list(dut.events.signature.members)
            while True:
                sampled = await ctx.tick().sample(
                    dut.producer[0], dut.producer[1], dut.net_rx.valid & dut.net_rx.ready & dut.net_rx.payload.last,
                    dut.data.w.valid & dut.data.w.ready, dut.data.b.valid & dut.data.b.ready,
                    dut.rings.w.valid & dut.rings.w.ready, dut.entry_written,
                    *(getattr(dut.events, name) for name in names))
                _, _, first, second, last, beat, answer, ring_beat, entry, *counts = sampled
                for times, happens in ((probe.last_words, last), (probe.beats, beat), (probe.answers, answer),
                                       (probe.ring_beats, ring_beat), (probe.entries, entry)):
                    if happens:
                        times.append(cycle)
                events.update(dict(zip(names, counts, strict=True)))
                for ring, producer in enumerate((first, second)):
                    if rng.random() < pace:
                        host.poll(ring, producer)
                        ctx.set(dut.consumer[ring], host.consumer[ring])
                cycle += 1

        return [source], [watcher, models[0].writer(dut.data.aw, dut.data.w, dut.data.b),
                          models[1].writer(dut.rings.aw, dut.rings.w, dut.rings.b)]

    _STAGES[width].run(scene, limit=limit)
    for ring in range(2):
        for found, expected in zip(host.entries[ring], reference.entries(ring), strict=True):
            assert found == expected, f"{found}, not {expected}"
    if not bad:
        assert data == reference.memory.content
        assert len(set(models[0].written)) == len(models[0].written) or not settles, "a byte is written twice"
    events.pop("ring_full")
    assert +events == reference.events(), f"{+events}, not {reference.events()}"
    return reference, probe
