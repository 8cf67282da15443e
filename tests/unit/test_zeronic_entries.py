# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""zeronic.rx.entries: the host reads from memory exactly the entries that went in, while rings wrap and fill."""

import random
from collections import deque

import pytest
from iaa_stage import Stage

from rackgate.verif.stimulus import AXI4Memory, receive, send
from rackgate.zeronic.messages import Entry, EntryKind
from rackgate.zeronic.rx.entries import EntryWriter
from rackgate.zeronic.rx.records import ContentSource

BASES, SIZE = (0x20_0000_0040, 0x20_0010_0000), 0x200000
WIDTHS = (8, 16, 32)
STAGES = {width: Stage(lambda width=width: EntryWriter(width), ("fetch", "aw", "w")) for width in WIDTHS}


def packets(raw, width, rng):
    """The packed words of some bytes (one of count 0 for none), with noise where bytes do not count."""
    words = []
    for at in range(0, len(raw) or 1, width):
        part = raw[at:at + width]
        data = int.from_bytes(part, "little") | rng.getrandbits(8 * width) >> 8 * len(part) << 8 * len(part)
        words.append({"data": data, "count": len(part), "last": at + width >= len(raw)})
    return words


def some_entries(rng, count, most=200):
    """Entries of all kinds for both rings: (ring, entry without size, content)."""
    entries = []
    for _ in range(count):
        kind = rng.choice([EntryKind.HEADER, EntryKind.HEADER, EntryKind.DEFERRED, EntryKind.FENCE])
        content = b"" if kind == EntryKind.FENCE else rng.randbytes(
            rng.randrange(28, 81) if kind == EntryKind.HEADER else rng.randrange(14, most))
        entry = Entry(kind, rng.getrandbits(3), 0, rng.getrandbits(16), len(content), rng.getrandbits(17),
                      rng.getrandbits(15), rng.getrandbits(17), rng.getrandbits(7), rng.getrandbits(8))
        entries.append((rng.choice([0, 0, 1]), entry, content))
    return entries


class Host:
    """Reads rings as a driver does, from memory alone."""

    def __init__(self, memory, log_sizes):
        self.memory, self.sizes = memory, [1 << log for log in log_sizes]
        self.consumer, self.entries = [0, 0], ([], [])
        self.pads = 0

    def poll(self, ring, producer):
        """Take one entry of a ring."""
        if self.consumer[ring] == producer:
            return
        size = self.sizes[ring]
        assert (producer - self.consumer[ring]) & 0xFFFF_FFFF <= size, "more than the ring holds"
        at = BASES[ring] - BASES[0] + self.consumer[ring] % size
        kind, units = self.memory[at], int.from_bytes(self.memory[at + 2:at + 4], "little")
        assert self.consumer[ring] % size + 8 * units <= size, "an entry runs past the end of its ring"
        if kind == EntryKind.PAD:
            self.pads += 1
        else:
            entry = Entry.from_bytes(self.memory[at:at + 16])
            padded = self.memory[at + 16:at + 8 * units]
            assert len(padded) == -(-entry.content // 8) * 8 and not any(padded[entry.content:])
            self.entries[ring].append((entry, bytes(padded[:entry.content])))
        self.consumer[ring] = (self.consumer[ring] + 8 * units) & 0xFFFF_FFFF


def run(width, entries, *, seed, log_sizes=(12, 12), idle=0.0, stall=0.0, latency=0, pace=0.5, bad=()):
    """Write entries; check what the host reads and that nothing else is written. Returns the host and counts."""
    rng, memory = random.Random(seed), bytearray(b"\xA5" * SIZE)
    model = AXI4Memory(memory, base=BASES[0], rng=random.Random(seed + 1), stall=stall, bad=bad, width=width,
                       latency=latency)
    host, counts = Host(memory, log_sizes), {"written": 0, "failed": 0, "full": 0}
    contents = {source: deque() for source in ContentSource}
    lost = [2 + -(-len(content) // 8) > 1 << log_sizes[ring] - 3 if log_sizes[ring] else True
            for ring, _, content in entries]
    wanted = sum(not gone for gone in lost)
    done = []

    def scene(dut):
        async def source(ctx):
            await ctx.tick()  # rings count from two cycles after their sizes are set, and an entry asks a cycle later
            for ring, entry, content in entries:
                job = {"ring": ring, "entry": {**entry._asdict(), "size": rng.getrandbits(16)},
                       "source": ContentSource.FRAME if entry.kind == EntryKind.DEFERRED else ContentSource.SLOT,
                       "place": len(content)}
                await send(ctx, dut.i, [job], rng=random.Random(seed + 2), idle=idle)

        async def fetcher(ctx):
            for (_, entry, content), gone in zip(entries, lost, strict=True):
                if content:
                    fetch, = await receive(ctx, dut.fetch, 1, rng=rng, stall=stall)
                    is_frame = entry.kind == EntryKind.DEFERRED
                    assert (fetch.source, fetch.place) == (ContentSource(int(is_frame)), len(content))
                    assert fetch.size == (0 if gone else len(content))
                    contents[fetch.source].append(b"" if gone else content)
            done.append(1)

        def giver(target, kind):
            async def give(ctx):
                while not done or contents[kind]:
                    if contents[kind]:
                        await send(ctx, getattr(dut, target), packets(contents[kind].popleft(), width, rng), rng=rng,
                                   idle=idle)
                    else:
                        await ctx.tick()
            return give

        async def reader(ctx):
            for ring, log in enumerate(log_sizes):
                ctx.set(dut.base[ring], BASES[ring])
                ctx.set(dut.log_size[ring], log)
            quiet = 0
            while sum(map(len, host.entries)) < wanted or quiet < 30:
                _, _, first, second, written, failed, full = await ctx.tick().sample(
                    dut.producer[0], dut.producer[1], dut.written, dut.failed, dut.is_full)
                counts["written"] += written
                counts["failed"] += failed
                counts["full"] += full
                for ring, producer in enumerate((first, second)):
                    if rng.random() < pace:
                        host.poll(ring, producer)
                        ctx.set(dut.consumer[ring], host.consumer[ring])
                quiet = quiet + 1 if sum(map(len, host.entries)) == wanted else 0
            assert ctx.get(dut.idle), "not idle though all is read"

        return [source, fetcher, giver("headers", ContentSource.SLOT), giver("frames", ContentSource.FRAME), reader], [
            model.writer(dut.aw, dut.w, dut.b)]

    STAGES[width].run(scene, limit=200_000)
    for ring in range(2):
        expected = [(entry._replace(size=2 + -(-len(content) // 8)), content)
                    for (at, entry, content), gone in zip(entries, lost, strict=True) if at == ring and not gone]
        assert host.entries[ring] == expected
    for address in model.written:
        assert any(log and base <= address < base + (1 << log) for base, log in zip(BASES, log_sizes, strict=True))
    assert counts["written"] == wanted
    return host, counts


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle,stall,latency,pace", [(0, 0, 0, 1), (0.2, 0.3, 10, 0.5), (0, 0, 30, 0.006)])
def test_random(width, idle, stall, latency, pace, seed):
    entries = some_entries(random.Random(seed + width), 60, most=900)
    host, counts = run(width, entries, seed=seed, idle=idle, stall=stall, latency=latency, pace=pace)
    assert host.pads and counts["failed"] == 0
    assert pace > 0.1 or counts["full"]


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_the_longest_frames(width, seed):
    """They need pads of thousands of bytes, and most of a ring at a time."""
    rng = random.Random(seed)
    entries = [(0, Entry(EntryKind.DEFERRED, content=size), rng.randbytes(size)) for size in (9310, 9000, 14, 9310)]
    host, counts = run(width, entries, seed=seed, log_sizes=(14, 12))
    assert host.pads == 2 and counts["full"]


@pytest.mark.parametrize("width", WIDTHS)
def test_what_has_no_place_is_lost_and_the_rest_is_not(width, seed):
    """A ring that is not there, and an entry longer than its ring; RING_FULL counts them."""
    rng = random.Random(seed)
    entries = [(0, Entry(EntryKind.FENCE, flow=1), b""), (1, Entry(EntryKind.FENCE, flow=2), b""),
               (0, Entry(EntryKind.DEFERRED, content=4081), rng.randbytes(4081)),
               (1, Entry(EntryKind.HEADER, content=40), rng.randbytes(40)),
               (0, Entry(EntryKind.DEFERRED, content=4080), rng.randbytes(4080)),
               (1, Entry(EntryKind.DEFERRED, content=60), rng.randbytes(60)),
               (0, Entry(EntryKind.HEADER, content=50), rng.randbytes(50))]
    host, counts = run(width, entries, seed=seed, log_sizes=(12, 0), pace=1)
    assert len(host.entries[0]) == 3 and counts["full"] >= 4


def test_a_write_that_is_refused_is_told(seed):
    entries = [(0, Entry(EntryKind.HEADER, content=40), bytes(40)) for _ in range(3)]

    memory, rng = bytearray(SIZE), random.Random(seed)
    model = AXI4Memory(memory, base=BASES[0], bad=[BASES[0] + 56 + 30])
    seen = []

    def scene(dut):
        async def source(ctx):
            ctx.set(dut.base[0], BASES[0])
            ctx.set(dut.log_size[0], 12)
            await ctx.tick()
            for _, entry, content in entries:
                await send(ctx, dut.i, [{"entry": entry._asdict()}])
                await receive(ctx, dut.fetch, 1)
                await send(ctx, dut.headers, packets(content, 8, rng))
            while ctx.get(dut.producer[0]) != 3 * 56:
                await ctx.tick()

        async def watcher(ctx):
            while True:
                _, _, failed, producer = await ctx.tick().sample(dut.failed, dut.producer[0])
                if failed:
                    seen.append(producer)

        return [source], [model.writer(dut.aw, dut.w, dut.b), watcher]

    STAGES[8].run(scene)
    assert seen == [56]


def test_a_consumer_ahead_of_the_producer_only_waits(seed):
    """The ring is full until the host says something that can be."""
    def scene(dut):
        async def source(ctx):
            ctx.set(dut.base[0], BASES[0])
            ctx.set(dut.log_size[0], 12)
            await ctx.tick()
            ctx.set(dut.consumer[0], 8)
            await send(ctx, dut.i, [{"entry": {"kind": EntryKind.FENCE}}])
            for _ in range(50):
                _, _, address = await ctx.tick().sample(dut.aw.valid)
                assert not address
            ctx.set(dut.consumer[0], 0)
            while ctx.get(dut.producer[0]) != 16:
                await ctx.tick()

        return [source], [AXI4Memory(bytearray(SIZE), base=BASES[0]).writer(dut.aw, dut.w, dut.b)]

    STAGES[8].run(scene, limit=1000)
