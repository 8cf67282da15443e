# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""zeronic.rx.coalescer against the golden model's: the same entries with the same content, in the same order."""

import random
from collections import deque

import pytest
from iaa_stage import Stage

from rackgate.verif.stimulus import receive, send, simulate
from rackgate.zeronic.messages import Entry, EntryFlag, EntryKind
from rackgate.zeronic.rx.coalescer import Coalescer
from rackgate.zeronic.rx.merge import HeaderCompare
from rackgate.zeronic.rx.records import ContentSource
from rackgate_sim.zeronic.coalescer import Coalescer as Model
from rackgate_sim.zeronic.coalescer import Item

WIDTHS = (8, 16, 32)
STAGES = {width: Stage(lambda width=width: Coalescer(width), ("o", "words")) for width in WIDTHS}
FOREVER = (1 << 31) - 1
ACK, PSH, FIN = 0x10, 0x08, 0x01


def packets(raw, width, rng):
    """The packed words of some bytes, with noise where bytes do not count."""
    words = []
    for at in range(0, len(raw) or 1, width):
        part = raw[at:at + width]
        data = int.from_bytes(part, "little") | rng.getrandbits(8 * width) >> 8 * len(part) << 8 * len(part)
        words.append({"data": data, "count": len(part), "last": at + width >= len(raw)})
    return words


class Traffic:
    """Frames of some flows that mostly go on where the last one of their flow ended."""

    def __init__(self, rng, flows):
        self.rng = rng
        self.flows = {number: [rng.getrandbits(32), bytearray(rng.randbytes(rng.choice([40, 52, 52, 60, 80]))),
                               rng.randrange(2)] for number in rng.sample(range(1024), flows)}

    def frame(self):
        """A frame: (Decision, header bytes, whether its writes fail)."""
        rng, number = self.rng, self.rng.choice(list(self.flows))
        flow = self.flows[number]
        if rng.random() < 0.05:
            return {"is_fence": 1, "ring": rng.randrange(2), "position": rng.getrandbits(16)}, b"", False
        if rng.random() < 0.08:
            flow[0] = rng.getrandbits(32)
        if rng.random() < 0.05:
            flow[1] = bytearray(rng.randbytes(rng.choice([40, 52])))
        position, header, ring = flow
        if rng.random() < 0.1:
            at = rng.choice([1, 8, 28, 34, len(header) - 1])  # a byte that must be the same
            header = bytearray(header)
            header[at] ^= 1 << rng.randrange(8)
        for part in (slice(2, 6), slice(10, 12), slice(36, 38)):
            header[part] = rng.randbytes(part.stop - part.start)
        flags = ACK | rng.choice([0, 0, 0, 0, PSH, FIN if rng.random() < 0.3 else 0])
        header[24:28], header[33] = position.to_bytes(4, "big"), flags
        payload = rng.choice([0, 1, 1448, rng.randrange(1, 2000)])
        deferred, has_flow = rng.random() < 0.05, rng.random() > 0.03
        placed = payload if rng.random() < 0.9 and not deferred else rng.randrange(payload + 1)
        offset = rng.randrange(payload - placed + 1)
        flow[0] = (position + payload) & 0xFFFF_FFFF
        decision = {"word": rng.getrandbits(16), "length": rng.randrange(60, 9310), "checked": 1, "has_flow": has_flow,
                    "split": has_flow, "flow": number, "ring": ring if has_flow else 0, "coalesce": has_flow,
                    "position": position, "headers": len(header) + 14, "payload": payload, "flags": flags,
                    "deferred": deferred or not has_flow, "placed_offset": offset, "placed": placed if has_flow else 0}
        return decision, bytes(header), rng.random() < 0.05


def item_of(decision, header, fails):
    """What the model takes for a frame; the content of a deferred one is where it is."""
    has_flow, fails = decision["has_flow"], fails and decision["placed"]
    flags = EntryFlag.CHECKED | (EntryFlag.FLOW if has_flow else 0) | (EntryFlag.WRITE_ERROR if fails else 0)
    deferred = decision["deferred"]
    size = decision["length"] if deferred else len(header)
    entry = Entry(EntryKind.DEFERRED if deferred else EntryKind.HEADER, flags, 0, 0, size, frames=1)
    if has_flow:
        entry = entry._replace(flow=decision["flow"], payload=decision["payload"], headers=decision["headers"],
                               placed_offset=decision["placed_offset"], placed=decision["placed"])
    may_merge = not deferred and not fails and 0 < decision["placed"] == decision["payload"]
    return Item(decision["ring"], entry, decision["word"] if deferred else header, bool(may_merge))


def expected_of(frames, cycles, most):
    """The entries by the model, and how many frames are merged."""
    model, items = Model(), []
    model.cycles, model.most = cycles, most
    for decision, header, fails in frames:
        if decision.get("is_fence"):
            fence = Entry(EntryKind.FENCE, size=0, flow=decision["position"])
            items += [*model.flush_all(), Item(decision["ring"], fence, b"")]
        else:
            items += model.put(item_of(decision, header, fails), 0)
    return items, model


def run(width, frames, wanted, *, seed, cycles, most=65000, idle=0.0, stall=0.0, late=0.0, wait=0):
    """Send frames; check that the entries are those ``wanted``; return how many frames were merged."""
    seen, merged, reads, places = [], [], deque(), deque()
    total, contents = len(wanted), sum(item.entry.kind == EntryKind.HEADER for item in wanted)

    def scene(dut):
        async def source(ctx):
            ctx.set(dut.cycles, cycles)
            ctx.set(dut.most, most)
            await send(ctx, dut.i, [decision for decision, _, _ in frames], rng=random.Random(seed + 1), idle=idle)

        async def headers(ctx):
            rng = random.Random(seed + 2)
            for decision, header, _ in frames:
                if not decision.get("is_fence") and not decision["deferred"]:
                    await send(ctx, dut.headers, packets(header, width, rng), rng=rng, idle=idle)

        async def placed(ctx):
            errors = [{"error": fails} for decision, _, fails in frames if decision.get("placed")]
            await send(ctx, dut.placed, errors, rng=random.Random(seed + 3), idle=max(idle, late))

        async def sink(ctx):
            rng = random.Random(seed + 4)
            for _ in range(total):
                job, = await receive(ctx, dut.o, 1, rng=rng, stall=stall)
                entry = Entry(*(int(job.entry[name]) for name in Entry._fields))
                assert not entry.content or job.source == (
                    ContentSource.FRAME if entry.kind == EntryKind.DEFERRED else ContentSource.SLOT)
                seen.append(Item(job.ring, entry, job.place if entry.kind == EntryKind.DEFERRED else b""))
                if entry.kind == EntryKind.HEADER:
                    reads.append((len(seen) - 1, job.place, entry.content))
            ctx.set(dut.o.ready, 1)
            for _ in range(wait):
                _, _, valid = await ctx.tick().sample(dut.o.valid)
                assert not valid, "an entry too many"

        async def reader(ctx):
            for _ in range(contents):
                while not reads:
                    await ctx.tick()
                index, slot, size = reads.popleft()
                places.append(index)
                await send(ctx, dut.read, [{"slot": slot, "size": size}], rng=random.Random(seed + 5), idle=idle)

        async def collector(ctx):
            for _ in range(contents):
                raw, is_last = b"", False
                while not is_last:
                    word, = await receive(ctx, dut.words, 1, rng=random.Random(seed + len(raw)), stall=stall)
                    raw, is_last = raw + word.data.to_bytes(width, "little")[:word.count], word.last
                index = places.popleft()
                seen[index] = seen[index]._replace(content=raw)

        async def counter(ctx):
            while True:
                _, _, strobe, valid, ready = await ctx.tick().sample(dut.merged, dut.i.valid, dut.i.ready)
                if strobe and valid and ready:
                    merged.append(1)

        return [source, headers, placed, sink, reader, collector], [counter]

    STAGES[width].run(scene, limit=30_000)
    assert [item._replace(may_merge=False) for item in wanted] == seen
    return len(merged)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("flows,idle,stall", [(3, 0, 0), (3, 0.3, 0.3), (20, 0, 0.5), (9, 0.3, 0)])
def test_random(width, flows, idle, stall, seed):
    rng = random.Random(100 * seed + width + flows)
    traffic = Traffic(rng, flows)
    frames = [traffic.frame() for _ in range(250)] + [({"is_fence": 1, "ring": 0, "position": 7}, b"", False)]
    most = rng.choice([3000, 65000])
    wanted, model = expected_of(frames, FOREVER, most)
    assert run(width, frames, wanted, seed=seed, cycles=FOREVER, most=most, idle=idle, stall=stall,
               wait=50) == model.merged
    assert model.merged > 5


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_memory_is_later_than_headers(width, seed):
    """What the comparison of headers has found holds until the frame's writes have been answered."""
    traffic = Traffic(random.Random(seed), 3)
    frames = [traffic.frame() for _ in range(150)]
    frames.append(({"is_fence": 1, "ring": 0, "position": 7}, b"", False))
    wanted, model = expected_of(frames, FOREVER, 65000)
    assert run(width, frames, wanted, seed=seed, cycles=FOREVER, late=0.95) == model.merged


@pytest.mark.parametrize("width", WIDTHS)
def test_off(width, seed):
    traffic = Traffic(random.Random(seed), 4)
    frames = [traffic.frame() for _ in range(100)]
    wanted, _ = expected_of(frames, 0, 65000)
    assert len(wanted) == 100
    assert run(width, frames, wanted, seed=seed, cycles=0, wait=50) == 0


def frame_of(flow, position, payload, flags=ACK):
    """A frame that may be merged, and its headers."""
    header = bytearray(52)
    header[24:28], header[33] = position.to_bytes(4, "big"), flags
    return {"checked": 1, "has_flow": 1, "split": 1, "flow": flow, "coalesce": 1, "position": position, "headers": 66,
            "payload": payload, "placed": payload, "flags": flags}, bytes(header), False


@pytest.mark.parametrize("width", WIDTHS)
def test_time_out(width):
    """Merged headers go up ``cycles`` after their first frame, whatever comes behind it; others wait for their own."""
    rng, times = random.Random(width), {}

    def scene(dut):
        async def source(ctx):
            ctx.set(dut.cycles, 200)
            ctx.set(dut.most, 65000)
            ctx.set(dut.o.ready, 1)
            ctx.set(dut.placed.valid, 1)
            for number in range(6):
                decision, header, _ = frame_of(number % 2, 100 + number // 2 * 10, 10)
                ctx.set(dut.i.payload, decision)
                ctx.set(dut.i.valid, 1)
                await send(ctx, dut.headers, packets(header, width, rng))
                while not ctx.get(dut.i.ready):
                    await ctx.tick()
                await ctx.tick()
                ctx.set(dut.i.valid, 0)
                times[f"taken {number}"] = times["now"]
                for _ in range(20):
                    await ctx.tick()
            while len(times["entries"]) < 2:
                await ctx.tick()

        async def watcher(ctx):
            times.update(now=0, entries=[])
            while True:
                _, _, valid, job = await ctx.tick().sample(dut.o.valid, dut.o.payload)
                times["now"] += 1
                if valid:
                    times["entries"].append((times["now"], job.entry.flow, job.entry.frames, job.entry.payload))

        return [source], [watcher]

    STAGES[width].run(scene, limit=2000)
    for number, (cycle, *entry) in enumerate(times["entries"]):
        assert entry == [number, 3, 30]
        assert 200 <= cycle - times[f"taken {number}"] <= 205


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("cycles,extra", [(0, 1), (1000, 4)])
def test_cycles_of_a_frame(width, cycles, extra):
    """n + 1 for headers of n words that go up at once, n + 4 when they are merged."""
    rng, ends = random.Random(width), []

    def scene(dut):
        frames = [frame_of(0, 100 + 10 * number, 10) for number in range(8)]

        async def source(ctx):
            ctx.set(dut.cycles, cycles)
            ctx.set(dut.most, 65000)
            await send(ctx, dut.i, [decision for decision, _, _ in frames])

        async def headers(ctx):
            await send(ctx, dut.headers, [word for _, header, _ in frames for word in packets(header, width, rng)])

        async def watcher(ctx):
            ctx.set(dut.o.ready, 1)
            ctx.set(dut.placed.valid, 1)
            for cycle in range(8 * (52 // 8 + 8)):
                _, _, valid, ready = await ctx.tick().sample(dut.i.valid, dut.i.ready)
                if valid and ready:
                    ends.append(cycle)

        return [source, headers, watcher], []

    STAGES[width].run(scene)
    assert {after - before for before, after in zip(ends[1:], ends[2:], strict=False)} == {-(-52 // width) + extra}
    assert len(ends) == 8


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_every_bit_of_a_header_is_compared(width, seed):
    """Headers that differ in one bit are alike if it is one of those that may differ, or lies behind their end."""
    rng, dut = random.Random(seed), HeaderCompare(width)
    # IPv4's length, identification and checksum, TCP's sequence number and checksum (RFC 791, 9293); and PSH.
    free = {*range(16, 48), *range(80, 96), *range(192, 224), *range(288, 304), 8 * 33 + PSH.bit_length() - 1}

    async def testbench(ctx):
        for size in (40, 52, 80):
            raw = int.from_bytes(rng.randbytes(size), "little")
            for bit in range(8 * -(-size // width) * width):
                other, seen = raw ^ 1 << bit, 0
                ctx.set(dut.begin, 1)
                await ctx.tick()
                ctx.set(dut.begin, 0)
                for index in range(-(-size // width) + 1):
                    ctx.set(dut.right, seen)  # the word of the cycle before
                    seen = other >> 8 * width * index & (1 << 8 * width) - 1
                    ctx.set(dut.step, index * width < size)
                    ctx.set(dut.index, index)
                    ctx.set(dut.count, max(min(size - index * width, width), 0))
                    ctx.set(dut.left, raw >> 8 * width * index & (1 << 8 * width) - 1)
                    await ctx.tick()
                assert ctx.get(dut.is_same) == (bit in free or bit >= 8 * size), (size, bit)

    simulate(dut, testbench)
