# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""ReceiveBuffer, and the whole Receiver: from packets on the link to words for the lane."""

import random
from collections import defaultdict

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from collective_packets import Item, content, words

from rackgate.collective.abi import Header, HeaderFlag
from rackgate.collective.packets.depacketizer import WIDTHS
from rackgate.collective.packets.receivebuffer import ReceiveBuffer
from rackgate.collective.packets.receiver import Receiver
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch

NODE = 3
#: Cycles that the tables need after a reset, and a communicator to be opened.
SWEEP = 200


def test_parameters():
    for make in (ReceiveBuffer, Receiver):
        with pytest.raises(ValueError, match=r"width must be one of .* not 12"):
            make(12)
        with pytest.raises(ValueError, match=r"segment must be one of .* not 100"):
            make(8, segment=100)
        with pytest.raises(ValueError, match="slots must be a power of two from 2 to 256, not 24"):
            make(8, slots=24)
        with pytest.raises(TypeError):
            make(8, slots="2")


# ReceiveBuffer -------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("width,idle,stall", [(4, 0.1, 0.4), (8, 0, 0), (8, 0.6, 0.1), (8, 0.1, 0.6), (64, 0.3, 0.3)])
def test_buffer(width, idle, stall, seed):
    """Payloads are read while and after they are written; some are dropped, some read in another order."""
    rng, m = random.Random(seed), Module()
    m.submodules.dut = dut = ReceiveBuffer(width, segment=256, slots=8)
    watch(m, dut.words, name="words")
    items = [(rng.randbytes(rng.choice((1, width, 256, rng.randrange(1, 257)))), rng.random() < 0.2, rng.random() < 0.2)
             for _ in range(60)]
    free, readable, got, wanted = list(range(8)), [], [], []

    async def admissions(ctx):
        for payload, is_dropped, error in items:
            while not free:
                await ctx.tick()
            slot = free[0] if is_dropped else free.pop(rng.randrange(len(free)))
            while rng.random() < idle:
                await ctx.tick()
            if not is_dropped:
                readable.append((slot, payload, error))
            await send(ctx, dut.admit, [{"slot": slot, "drop": is_dropped}])

    async def payloads(ctx):
        for payload, _, error in items:
            await send(ctx, dut.i, words(payload, width, error=error), rng=random.Random(seed + 1), idle=idle)

    async def reads(ctx):
        left = sum(not is_dropped for _, is_dropped, _ in items)
        while left:
            while not readable:
                await ctx.tick()
            await ctx.tick()  # a read may follow when the admission is offered
            slot, payload, error = readable.pop(rng.randrange(len(readable)))
            wanted.append((slot, payload, error))
            await send(ctx, dut.read, [{"slot": slot, "size": 0}] * rng.randrange(2)
                       + [{"slot": slot, "size": len(payload)}])
            left -= 1

    async def taker(ctx):
        for _ in range(sum(not is_dropped for _, is_dropped, _ in items)):
            stream = []
            while not stream or not stream[-1].last:
                stream += await receive(ctx, dut.words, 1, rng=random.Random(seed + len(got)), stall=stall)
            slot, payload, error = wanted[len(got)]
            assert content(stream) == (payload, error)
            got.append(payload)
            free.append(slot)

    simulate(m, admissions, payloads, reads, taker)


def test_buffer_back_to_back():
    """Reads follow each other without a cycle between; the first word comes 3 cycles after its command."""
    dut = ReceiveBuffer(8, segment=256, slots=4)
    seen = []

    async def testbench(ctx):
        for slot in range(4):
            await send(ctx, dut.admit, [{"slot": slot, "drop": 0}])
            await send(ctx, dut.i, words(bytes([slot]) * 256, 8))
        ctx.set(dut.words.ready, 1)

        async def watcher():
            _, _, valid, payload = await ctx.tick().sample(dut.words.valid, dut.words.payload)
            seen.append(payload.data & 255 if valid else None)

        for slot, size in ((0, 256), (1, 8), (2, 1), (3, 24), (0, 256)):
            ctx.set(dut.read.payload, {"slot": slot, "size": size})
            ctx.set(dut.read.valid, 1)
            while not ctx.get(dut.read.ready):
                await watcher()
            await watcher()
        ctx.set(dut.read.valid, 0)
        for _ in range(40):
            await watcher()

    simulate(dut, testbench)
    assert seen[:3 + 32 + 1 + 1 + 3 + 32] == [None] * 3 + [0] * 32 + [1, 2] + [3] * 3 + [0] * 32


def test_buffer_cut_through():
    """A word that is waited for comes 3 cycles after it was written."""
    dut = ReceiveBuffer(8, segment=256, slots=2)

    async def testbench(ctx):
        await send(ctx, dut.admit, [{"slot": 1, "drop": 0}])
        await send(ctx, dut.read, [{"slot": 1, "size": 16}])
        ctx.set(dut.words.ready, 1)
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.words.valid)
        await send(ctx, dut.i, [{"data": 7, "count": 8}])
        await ctx.tick().repeat(1)
        assert not ctx.get(dut.words.valid)
        await ctx.tick()
        assert ctx.get(dut.words.valid) and ctx.get(dut.words.payload.data) == 7

    simulate(dut, testbench)


# Receiver ------------------------------------------------------------------------------------------------------------


class Bench:
    """A Receiver whose user takes each packet as soon as it is there, reads it and frees it."""

    def __init__(self, width, *, segment=256, slots=16, seed=0, stall=0.0, resettable=False):
        self.dut, self.seed, self.stall, self.width = Receiver(width, segment=segment, slots=slots), seed, stall, width
        self.reset = Signal()
        self.module = Module()
        self.module.submodules.dut = ResetInserter(self.reset)(self.dut) if resettable else self.dut
        if not resettable:
            watch(self.module, self.dut.words, name="words")
        self.module.d.comb += self.dut.node.eq(NODE)
        self.got, self.order, self.frees = defaultdict(list), [], []
        self.strobes = defaultdict(int)

    async def open(self, ctx, communicator=0, credits=8):
        await send(ctx, self.dut.open, [{"communicator": communicator, "credits": credits}])
        ctx.set(self.dut.is_open, ctx.get(self.dut.is_open) | 1 << communicator)

    async def post(self, ctx, move, *, tag, node, communicator=0):
        key = {"communicator": communicator, "tag": tag, "node": node}
        await send(ctx, self.dut.post, [{"move": move, "key": key}])

    async def taker(self, ctx):
        """Take a packet every few cycles."""
        rng = random.Random(self.seed + 1)
        while True:
            waiting = [k for k in range(17) if ctx.get(self.dut.has_packet) >> k & 1]
            if not waiting:
                await ctx.tick()
                continue
            queue = rng.choice(waiting)
            ctx.set(self.dut.take_move, queue)
            ctx.set(self.dut.take, 1)
            await ctx.tick()
            ctx.set(self.dut.take, 0)
            packet = ctx.get(self.dut.taken)
            self.order.append((queue, packet))
            if packet.size:
                await send(ctx, self.dut.read, [{"slot": packet.slot, "size": packet.size}])
            else:
                self.got[queue].append((packet.tag, packet.node, b"", 0))
                self.frees.append(packet.slot)

    async def reader(self, ctx):
        rng = random.Random(self.seed + 2)
        stream, index = [], 0
        while True:
            word, = await receive(ctx, self.dut.words, 1, rng=rng, stall=self.stall)
            stream.append(word)
            if word.last:
                while not self.order[index][1].size:
                    index += 1
                queue, packet = self.order[index]
                self.got[queue].append((packet.tag, packet.node, *content(stream)))
                self.frees.append(packet.slot)
                stream, index = [], index + 1

    async def freer(self, ctx):
        while True:
            if self.frees:
                await send(ctx, self.dut.free, [{"slot": self.frees.pop(0)}])
            else:
                await ctx.tick()

    async def counter(self, ctx):
        names = ("received", "bad_header", "bad_sequence", "bad_length", "no_buffer", "no_communicator",
                 "matched_posted", "matched_late")
        async for _, _, *values in ctx.tick().sample(*(getattr(self.dut, name) for name in names)):
            for name, value in zip(names, values, strict=True):
                self.strobes[name] += value

    @property
    def models(self):
        return [self.taker, self.reader, self.freer, self.counter]


def message(rng, node, tag, sizes, *, sequence, segment=256, flags=0):
    """The packets of a message; all but the last are full."""
    total, items, offset = sum(sizes), [], 0
    for k, size in enumerate(sizes):
        marks = flags | (HeaderFlag.FIRST if k == 0 else 0) | (HeaderFlag.LAST if k == len(sizes) - 1 else 0)
        items.append(Item(Header(0, int(marks), destination=NODE, source=node, sequence=sequence + k, tag=tag,
                                 length=total, offset=offset), rng.randbytes(size)))
        offset += size
    assert all(size == segment for size in sizes[:-1])
    return items


@pytest.mark.thorough
@pytest.mark.parametrize("width,idle,stall", [(4, 0.1, 0.3), (8, 0, 0), (8, 0.5, 0.1), (8, 0.1, 0.4), (16, 0, 0.2),
                                              (32, 0.2, 0.2), (64, 0.1, 0.1)])
def test_messages(width, idle, stall, seed):
    """Messages of three nodes, posted before and after they come, and some for streams."""
    rng, bench = random.Random(seed), Bench(width, seed=seed, stall=stall)
    dut, links, wanted = bench.dut, defaultdict(list), {}
    for move in range(12):
        node = rng.choice((1, 6, 15))
        sizes = [256] * rng.choice((0, 1, 1)) + [rng.choice((0, 1, 256, rng.randrange(1, 256)))]
        sizes = [256, *sizes[1:]] if len(sizes) > 1 and sizes[-1] == 0 else sizes
        if len(sizes) > 1 and sizes[-1] == 0:
            sizes = sizes[:-1]
        is_stream = move % 6 == 5
        items = message(rng, node, 100 + move, sizes, sequence=len(links[node]), flags=HeaderFlag.STREAM * is_stream)
        links[node] += items
        wanted[move] = (node, items, is_stream)
    link = []
    while any(links.values()):
        node = rng.choice([node for node in links if links[node]])
        link.append(links[node].pop(0))

    async def source(ctx):
        await ctx.tick().repeat(SWEEP)
        for item in link:
            # Fewer than the credits are under way: what came is taken in the end, or posted late.
            await send(ctx, dut.i, words(item.raw(width), width), rng=random.Random(seed + 7), idle=idle)
            while len(link) and sum(map(len, bench.got.values())) + 6 < link.index(item):
                await ctx.tick()

    async def testbench(ctx):
        ctx.set(dut.credit.ready, 1)
        ctx.set(dut.credit_packet.ready, 1)
        await bench.open(ctx, credits=16)
        moves = [move for move in wanted if not wanted[move][2]]
        for move in moves:
            while rng.random() < 0.95 and move not in (0, 1) and not _is_needed(bench, link, wanted, move):
                await ctx.tick()
            await bench.post(ctx, move, tag=100 + move, node=wanted[move][0])
        while sum(map(len, bench.got.values())) < len(link):
            await ctx.tick()

    simulate(bench.module, source, testbench, models=bench.models)
    streams = [(item.header.tag, node, item.payload, 0) for item in link for node in [item.header.source]
               if item.header.flags & HeaderFlag.STREAM]
    assert bench.got.pop(16, []) == streams
    assert dict(bench.got) == {move: [(100 + move, node, item.payload, 0) for item in items]
                               for move, (node, items, is_stream) in wanted.items() if not is_stream}
    assert bench.strobes["received"] == len(link)
    assert not any(bench.strobes[name] for name in ("bad_header", "bad_sequence", "bad_length", "no_buffer"))


def _is_needed(bench, link, wanted, move):
    """The source waits for this move: there are no more packets for others."""
    return bench.strobes["received"] > sum(map(len, bench.got.values())) + 3


@pytest.mark.thorough
def test_latency():
    """Header's last word to has_packet: 5 cycles; to the first word that is read 9, as it is written in the 6th."""
    dut = Receiver(8)
    item = message(random.Random(1), 2, 9, [256], sequence=0)[0]

    async def testbench(ctx):
        ctx.set(dut.node, NODE)
        ctx.set(dut.words.ready, 1)
        ctx.set(dut.read.payload, {"slot": 0, "size": 256})
        await send(ctx, dut.open, [{"communicator": 0, "credits": 1}])
        ctx.set(dut.is_open, 1)
        await send(ctx, dut.post, [{"move": 0, "key": {"tag": 9, "node": 2}}])
        stream, shown, first = words(item.raw(8), 8), None, None
        for cycle in range(20):
            ctx.set(dut.i.payload, stream[cycle])
            ctx.set(dut.i.valid, 1)
            has_packet = ctx.get(dut.has_packet[0])
            if has_packet and shown is None:
                shown = cycle
                ctx.set(dut.read.valid, 1)
            elif shown is not None:
                ctx.set(dut.read.valid, 0)
            if ctx.get(dut.words.valid) and first is None:
                first = cycle
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            assert ready
        assert (shown, first) == (3 + 5, 3 + 6 + 3)

    simulate(dut, testbench)


@pytest.mark.thorough
def test_full_rate():
    """Posted packets of a segment each come in at a word a cycle, and are read at a word a cycle."""
    bench = Bench(8, slots=4)
    dut = bench.dut
    link = [item for k in range(8) for item in message(random.Random(k), 1, k, [256], sequence=k)]
    stops = []

    async def source(ctx):
        await ctx.tick().repeat(SWEEP)
        for word in [word for item in link for word in words(item.raw(8), 8)]:
            ctx.set(dut.i.payload, word)
            ctx.set(dut.i.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(dut.i.ready)
                stops.append(not ready)
        ctx.set(dut.i.valid, 0)

    async def testbench(ctx):
        ctx.set(dut.credit_packet.ready, 1)
        await bench.open(ctx, credits=4)
        for move in range(8):
            await bench.post(ctx, move, tag=move, node=1)
        while sum(map(len, bench.got.values())) < len(link):
            await ctx.tick()

    simulate(bench.module, source, testbench, models=bench.models)
    assert not any(stops)
    assert [bench.got[move][0][2] for move in range(8)] == [item.payload for item in link]


@pytest.mark.thorough
def test_damaged_payload():
    """A payload that is cut or damaged is read in full, with an error on its last word; the next one is good."""
    bench = Bench(8)
    first, second = message(random.Random(4), 1, 7, [256, 40], sequence=0)
    link = [Item(first.header, first.payload[:100]), second]

    async def testbench(ctx):
        await bench.open(ctx)
        await bench.post(ctx, 2, tag=7, node=1)
        for item in link:
            await send(ctx, bench.dut.i, words(item.raw(8), 8))
        while len(bench.got[2]) < 2:
            await ctx.tick()

    simulate(bench.module, testbench, models=bench.models)
    (_, _, cut, error), (*_, last, last_error) = bench.got[2]
    assert (len(cut), cut[:96], error) == (256, first.payload[:96], 1)
    assert (last, last_error) == (second.payload, 0)
    assert bench.strobes["bad_length"] == 1


@pytest.mark.thorough
def test_reset(seed):
    """After a reset at any time all begins anew, whatever the memories hold."""
    rng = random.Random(seed)
    bench = Bench(8, slots=4, resettable=True)
    dut = bench.dut

    async def testbench(ctx):
        ctx.set(dut.credit_packet.ready, 1)
        for turn in range(5):
            bench.got.clear()
            await bench.open(ctx, credits=4)
            for tag in range(4):
                item, = message(rng, 1, tag, [64], sequence=tag)
                await send(ctx, dut.i, words(item.raw(8), 8))
                if tag < 2:
                    await bench.post(ctx, tag, tag=tag, node=1)
            for _ in range(rng.randrange(60, 90)):
                await ctx.tick()
            assert [len(bench.got[move]) for move in range(2)] == [1, 1], turn
            item, = message(rng, 1, 9, [200], sequence=4)
            await send(ctx, dut.i, words(item.raw(8), 8)[:rng.randrange(1, 25)])
            ctx.set(bench.reset, 1)
            await ctx.tick()
            ctx.set(bench.reset, 0)
            ctx.set(dut.is_open, 0)
        assert bench.strobes["no_buffer"] == 0

    simulate(bench.module, testbench, models=bench.models)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_bare_headers(width):
    """Messages without a payload come at least every 4 cycles and the header's own words."""
    bench = Bench(width)
    dut = bench.dut
    link = [item for k in range(12) for item in message(random.Random(k), 1, k, [0], sequence=k)]
    cycles = [0]

    async def testbench(ctx):
        ctx.set(dut.credit_packet.ready, 1)
        await bench.open(ctx, credits=16)
        for move in range(12):
            await bench.post(ctx, move, tag=move, node=1)
        for word in [word for item in link for word in words(item.raw(width), width)]:
            ctx.set(dut.i.payload, word)
            ctx.set(dut.i.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(dut.i.ready)
                cycles[0] += 1
        ctx.set(dut.i.valid, 0)
        while sum(map(len, bench.got.values())) < len(link):
            await ctx.tick()

    simulate(bench.module, testbench, models=bench.models)
    assert cycles[0] <= 12 * (max(1, 32 // width) + 4)
