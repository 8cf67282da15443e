# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Packetizer and Depacketizer against the abi's packets, and against each other."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from collective_packets import SAME, Item, content, fields, random_item, renumbered, split, words

from rackgate.collective.abi import Header, PacketType
from rackgate.collective.packets.depacketizer import WIDTHS, Depacketizer
from rackgate.collective.packets.packetizer import Packetizer
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch

NODE = 5
SHAPES = [(4, 0.1, 0.5), (8, 0, 0), (8, 0.4, 0.1), (8, 0.1, 0.5), (16, 0.1, 0.5), (32, 0.1, 0.5),
          (64, 0.4, 0.1)]
STROBES = ("received", "bad_header", "bad_sequence", "bad_length")


@pytest.mark.parametrize("width", [1, 2, 12, 128])
def test_widths(width):
    with pytest.raises(ValueError, match=f"width must be one of .*, not {width}"):
        Packetizer(width, 1)
    with pytest.raises(ValueError, match=f"width must be one of .*, not {width}"):
        Depacketizer(width)


def test_parameters():
    for segment in (128, 1000, 8192):
        with pytest.raises(ValueError, match=f"segment must be one of .*, not {segment}"):
            Depacketizer(8, segment=segment)
    for n in (0, 9):
        with pytest.raises(ValueError, match=f"n must be 1 to 8, not {n}"):
            Packetizer(8, n)
    for call in (lambda: Packetizer(8.0), lambda: Depacketizer("8"), lambda: Depacketizer(8, segment=None)):
        with pytest.raises(TypeError):
            call()


# Packetizer ----------------------------------------------------------------------------------------------------------


def transmit(width, sources, *, seed, idle=0.0, stall=0.0):
    """Send each source's items; return the packets that leave, as bytes."""
    m = Module()
    m.submodules.dut = dut = Packetizer(width, len(sources))
    watch(m, dut.o, name="o")
    m.d.comb += dut.node.eq(NODE)
    packets, total = [], sum(map(len, sources))
    strobes = {"sent": 0, "sent_size": 0, "sent_credit": 0, "sent_clear": 0}

    def headers(k):
        async def run(ctx):
            items = [fields(item.header, node=item.header.destination, size=len(item.payload)) for item in sources[k]]
            await send(ctx, dut.header[k], items, rng=random.Random(seed + k), idle=idle)
        return run

    def payloads(k):
        async def run(ctx):
            stream = [word for item in sources[k] for word in words(item.payload, width)]
            await send(ctx, dut.payload[k], stream, rng=random.Random(seed + 50 + k), idle=idle)
        return run

    async def sink(ctx):
        rng = random.Random(seed + 99)
        for _ in range(total):
            stream = []
            while not stream or not stream[-1].last:
                stream += await receive(ctx, dut.o, 1, rng=rng, stall=stall)
            assert not stream[-1].error
            packets.append(content(stream)[0])

    async def count(ctx):
        async for _, _, sent, size, credit, clear in ctx.tick().sample(dut.sent, dut.sent_size, dut.sent_credit,
                                                                       dut.sent_clear):
            if sent:
                strobes["sent"] += 1
                strobes["sent_size"] += size
                strobes["sent_credit"] += credit
                strobes["sent_clear"] += clear

    simulate(m, *(make(k) for k in range(len(sources)) for make in (headers, payloads)), sink, models=[count])
    items = [item for source in sources for item in source]
    assert strobes == {"sent": total, "sent_size": sum(len(item.payload) for item in items),
                       "sent_credit": sum(item.header.type == PacketType.CREDIT for item in items),
                       "sent_clear": sum(item.header.type == PacketType.CLEAR_TO_SEND for item in items)}
    return packets


@pytest.mark.thorough
@pytest.mark.parametrize("width,idle,stall", SHAPES)
def test_packetizer(width, idle, stall, seed):
    rng = random.Random(seed + width)
    sources = [[random_item(rng, source=NODE, destination=rng.randrange(16), sequence=0, segment=256)
                for _ in range(15)] for _ in range(3)]
    left, sent = [list(items) for items in sources], [0] * 16
    for raw in transmit(width, sources, seed=seed, idle=idle, stall=stall):
        header = Header.from_bytes(raw)
        assert header.source == NODE and header.sequence == sent[header.destination]
        sent[header.destination] += 1
        for items in left:
            if items and renumbered(items[0], header.sequence).raw(width) == raw:
                items.pop(0)
                break
        else:
            raise AssertionError(f"a packet that nobody sent, or out of order: {header}")


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_no_bubble(width, seed):
    """Two sources that always have packets of two words and more: a word in each cycle, from the third on."""
    rng, dut = random.Random(seed), Packetizer(width, 2)
    items = [[random_item(rng, source=NODE, destination=3, sequence=0, segment=256, sizes=(3 * width, 256 - width))
              for _ in range(20)] for _ in range(2)]
    items = [[item for item in source if item.payload] for source in items]
    seen = []

    def source(k):
        async def run(ctx):
            await send(ctx, dut.header[k], [fields(item.header, node=3, size=len(item.payload)) for item in items[k]])
        return run

    def payload(k):
        async def run(ctx):
            await send(ctx, dut.payload[k], [word for item in items[k] for word in words(item.payload, width)])
        return run

    async def sink(ctx):
        ctx.set(dut.o.ready, 1)
        packets = 0
        while packets < 2 * min(map(len, items)):
            _, _, valid, last = await ctx.tick().sample(dut.o.valid, dut.o.payload.last)
            seen.append(valid)
            packets += valid and last

    simulate(dut, source(0), source(1), payload(0), payload(1), sink)
    assert seen == [0, 0] + [1] * (len(seen) - 2)


def test_turns(seed):
    """Sources that all have packets at all times take turns."""
    rng = random.Random(seed)
    sources = [[Item(Header(0, tag=k, destination=1, length=40), rng.randbytes(40)) for _ in range(6)]
               for k in range(4)]
    order = [Header.from_bytes(raw).tag for raw in transmit(8, sources, seed=seed)]
    assert order == [0, 1, 2, 3] * 6


def test_waiting_source_holds_nobody_up():
    """A header whose words do not come stays behind those of others; and goes when they do."""
    dut = Packetizer(8, 2)

    async def testbench(ctx):
        ctx.set(dut.header[0].payload, fields(Header(0, tag=1, length=8), node=1, size=8))
        ctx.set(dut.header[0].valid, 1)
        ctx.set(dut.o.ready, 1)
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.o.valid)
        ctx.set(dut.header[1].payload, fields(Header(0, tag=2), node=1, size=0))
        ctx.set(dut.header[1].valid, 1)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.o.valid)
        assert not ctx.get(dut.header[0].ready)
        await ctx.tick().repeat(4)
        ctx.set(dut.header[1].valid, 0)
        await ctx.tick().repeat(6)
        assert not ctx.get(dut.o.valid)
        ctx.set(dut.payload[0].payload, {"data": 7, "count": 8, "last": 1})
        ctx.set(dut.payload[0].valid, 1)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.o.valid)

    simulate(dut, testbench)


# Depacketizer --------------------------------------------------------------------------------------------------------


def take_apart(width, raws, *, segment=256, seed=0, idle=0.0, stall=0.0, errors=()):
    """Headers and payloads that a depacketizer makes of packets (bytes), and its strobes."""
    m = Module()
    m.submodules.dut = dut = Depacketizer(width, segment=segment)
    watch(m, dut.o, name="o")
    watch(m, dut.header, name="header")
    m.d.comb += dut.node.eq(NODE)
    headers, stream, strobes = [], [], dict.fromkeys((*STROBES, "size"), 0)

    async def source(ctx):
        link = [word for k, raw in enumerate(raws) for word in words(raw, width, error=k in errors)]
        await send(ctx, dut.i, link, rng=random.Random(seed), idle=idle)
        await ctx.tick().repeat(2 * segment // width + 100 if stall else segment // width + 20)

    def collect(port, into, salt):
        async def run(ctx):
            rng = random.Random(seed + salt)
            while True:
                into.extend(await receive(ctx, port, 1, rng=rng, stall=stall))
        return run

    async def count(ctx):
        ports = [getattr(dut, name) for name in STROBES]
        async for _, _, size, *values in ctx.tick().sample(dut.received_size, *ports):
            strobes["size"] += size * values[0]
            for name, value in zip(STROBES, values, strict=True):
                strobes[name] += value

    simulate(m, source, models=[collect(dut.header, headers, 1), collect(dut.o, stream, 2), count])
    return headers, [content(packet) for packet in split(stream)], strobes


def shown(header):
    """What a header should come out as."""
    return {name: getattr(header, name) for name in (*SAME, "node", "size")}


def expected(items):
    headers = [fields(item.header, node=item.header.source, size=len(item.payload)) for item in items]
    return headers, [(item.payload, 0) for item in items if item.payload]


@pytest.mark.thorough
@pytest.mark.parametrize("width,idle,stall", SHAPES)
def test_depacketizer(width, idle, stall, seed):
    rng, sent, items = random.Random(seed + width), [0] * 16, []
    for _ in range(60):
        source = rng.choice((0, 3, 15))
        items.append(random_item(rng, source=source, destination=NODE, sequence=sent[source], segment=256))
        sent[source] += 1
    raws = [item.raw(width) for item in items]
    headers, payloads, strobes = take_apart(width, raws, seed=seed, idle=idle, stall=stall)
    assert ([shown(header) for header in headers], payloads) == expected(items)
    assert strobes == {"received": 60, "size": sum(len(item.payload) for item in items), "bad_header": 0,
                       "bad_sequence": 0, "bad_length": 0}


@pytest.mark.thorough
@pytest.mark.parametrize("width", [4, 16])
def test_every_bit_of_a_header_counts(width, seed):
    """A packet with any bit of its header flipped is dropped, and the next good one is taken."""
    rng, raws, good = random.Random(seed), [], []
    for bit in range(256):
        item = random_item(rng, source=2, destination=NODE, sequence=len(good), segment=256, sizes=(0, 5, 2 * width))
        raw = bytearray(item.raw(width))
        raw[bit // 8] ^= 1 << bit % 8
        raws += [bytes(raw)]
        if bit % 16 == 0:
            raws += [item.raw(width)]
            good.append(item)
    headers, payloads, strobes = take_apart(width, raws, seed=seed)
    assert ([shown(header) for header in headers], payloads) == expected(good)
    assert (strobes["bad_header"], strobes["bad_sequence"], strobes["bad_length"]) == (256, 0, 0)


def test_foreign_headers():
    """Whole headers, with a right CRC, that are not for this engine, or that it does not know."""
    good = Header(PacketType.DATA, destination=NODE, source=1)
    bad = [good._replace(type=3), good._replace(type=15), good._replace(destination=NODE + 1),
           good._replace(destination=NODE + 256), good._replace(source=16), good._replace(communicator=8),
           good._replace(length=4, offset=5), good._replace(length=0, offset=1 << 31)]
    headers, payloads, strobes = take_apart(8, [*(header.to_bytes() for header in bad), good.to_bytes()])
    assert [header.node for header in headers] == [1] and not payloads
    assert strobes["bad_header"] == len(bad)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_wrong_lengths(width, seed):
    """Payloads that are too long, too short, missing or not wanted; each is followed by a good packet."""
    rng, items, raws, wanted = random.Random(seed), [], [], []
    for size, change in ((40, 1), (40, -1), (40, 8), (40, -8), (40, 300), (40, -40), (0, 1), (0, 300), (256, -1),
                         (256, 1), (256, -256), (64, -32), (64, 32), (40, 0)):
        for alter in (change, 0):
            item = Item(Header(0, destination=NODE, sequence=len(items), length=size), rng.randbytes(size))
            payload = item.payload[:size + alter] if alter < 0 else item.payload + rng.randbytes(alter)
            items.append(item)
            raws.append(item.raw(width)[:max(32, width)] + payload)
            if size:
                wanted.append((payload[:size], int(alter != 0)))
    headers, payloads, strobes = take_apart(width, raws, seed=seed, stall=0.2)
    assert [header.size for header in headers] == [len(item.payload) for item in items]
    for (got, error), (payload, is_wrong) in zip(payloads, wanted, strict=True):
        assert error == is_wrong
        whole = len(payload) if len(payload) == len(got) else len(payload) // width * width
        assert got[:whole] == payload[:whole]
        assert not any(got[-(-len(payload) // width) * width:]), "padding that is not zero"
    assert (strobes["bad_length"], strobes["bad_header"]) == (13, 0)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_runts(width):
    """Packets that end within their header; the next one is good."""
    good = Header(0, destination=NODE).to_bytes().ljust(width, b"\0")
    runts = [good[:size] for size in (1, min(width // 2, 30), min(width, 28), 28, 31)]
    headers, _, strobes = take_apart(width, [*runts, good])
    assert len(headers) == 1
    assert strobes["bad_header"] == len(runts)


def test_sequence(seed):
    """What comes twice, or behind something lost, is dropped with its payload."""
    items = [Item(Header(0, destination=NODE, source=7, sequence=k, tag=k, length=20), bytes([k]) * 20)
             for k in range(6)]
    order = [0, 0, 1, 3, 4, 2, 2, 3, 5, 4, 5]
    headers, payloads, strobes = take_apart(8, [items[k].raw(8) for k in order])
    assert [header.tag for header in headers] == [0, 1, 2, 3, 4, 5]
    assert [payload[0] for payload, _ in payloads] == [0, 1, 2, 3, 4, 5]
    assert strobes["bad_sequence"] == 5


def test_link_error():
    """A packet that the link gives up: its last payload word says so; without a payload it is dropped."""
    empty = Item(Header(0, destination=NODE, sequence=1))
    items = [Item(Header(0, destination=NODE, length=12), bytes(12)), empty, empty]
    headers, payloads, strobes = take_apart(8, [item.raw(8) for item in items], errors=(0, 1))
    assert (len(headers), payloads) == (2, [(bytes(12), 1)])
    assert (strobes["bad_header"], strobes["bad_length"]) == (1, 1)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_depacketizer_keeps_up(width):
    """Packets with payload come in at a word a cycle; headers leave 2 cycles behind their last word."""
    dut = Depacketizer(width, segment=256)
    items = [Item(Header(0, destination=0, sequence=k, length=256), bytes(256)) for k in range(8)]
    link = [word for item in items for word in words(item.raw(width), width)]
    seen = []

    async def source(ctx):
        for word in link:
            ctx.set(dut.i.payload, word)
            ctx.set(dut.i.valid, 1)
            _, _, ready, valid, payload = await ctx.tick().sample(dut.i.ready, dut.header.valid, dut.o.valid)
            assert ready
            seen.append((valid, payload))

    ctx_ready = (dut.header.ready, dut.o.ready)

    async def sink(ctx):
        for ready in ctx_ready:
            ctx.set(ready, 1)

    simulate(dut, source, sink)
    beats = max(1, 32 // width)
    assert [valid for valid, _ in seen].index(1) == beats + 1
    assert [payload for _, payload in seen].index(1) <= beats + 3


# Together ------------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_loop_back(width, seed):
    """What a packetizer makes of three sources a depacketizer takes apart."""
    rng, m = random.Random(seed + width), Module()
    m.submodules.tx = tx = Packetizer(width, 3)
    m.submodules.rx = rx = Depacketizer(width, segment=512)
    wiring.connect(m, tx.o, rx.i)
    m.d.comb += [tx.node.eq(NODE), rx.node.eq(NODE)]
    count = 10 if width < 32 else 4
    sources = [[random_item(rng, source=NODE, destination=NODE, sequence=0, segment=512) for _ in range(count)]
               for _ in range(3)]
    headers, stream = [], []

    def transmitter(k):
        async def run(ctx):
            items = [fields(item.header, node=NODE, size=len(item.payload)) for item in sources[k]]
            await send(ctx, tx.header[k], items)
        return run

    def payload(k):
        async def run(ctx):
            part = [word for item in sources[k] for word in words(item.payload, width)]
            await send(ctx, tx.payload[k], part, rng=random.Random(seed + k), idle=0.2)
        return run

    async def heads(ctx):
        headers.extend(await receive(ctx, rx.header, 3 * count, rng=random.Random(seed), stall=0.3))

    async def tails(ctx):
        count = sum(len(words(item.payload, width)) for source in sources for item in source)
        stream.extend(await receive(ctx, rx.o, count, rng=random.Random(seed + 9), stall=0.1))

    simulate(m, *(make(k) for k in range(3) for make in (transmitter, payload)), heads, tails)
    payloads = iter([content(packet) for packet in split(stream)])
    left = [list(source) for source in sources]
    for header in headers:
        got, error = next(payloads) if header.size else (b"", 0)
        assert not error
        for items in left:
            if items and fields(items[0].header, node=NODE, size=len(items[0].payload)) == shown(header) \
                    and items[0].payload == got:
                items.pop(0)
                break
        else:
            raise AssertionError(f"a packet that nobody sent, or out of order: {header}")
