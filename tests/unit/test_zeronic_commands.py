# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""CommandReader and CommandDecoder: what is in the ring comes out in order, garbage is skipped, no more is read."""

import random
import struct
from typing import Any

import pytest
from zeronic_send import WIDTHS, collect, feed, garbage, pad, watched

from rackgate.verif.stimulus import AXI4Memory, receive, simulate
from rackgate.zeronic.abi import Right
from rackgate.zeronic.commandreader import CommandReader
from rackgate.zeronic.commands import CommandDecoder
from rackgate.zeronic.messages import (
    Command,
    CommandKind,
    Cursor,
    Fence,
    Flow,
    Key,
    Post,
    Profile,
    Region,
    Retire,
    Send,
)

RING, LOG_SIZE = 0x7_0040, 12
SIZE = 1 << LOG_SIZE
FLOWS, REGIONS = 32, 8


# CommandReader -------------------------------------------------------------------------------------------------------


def read(width, steps, *, seed=1, stall=0.0, latency=0, bad=(), settings=None):
    """Ring the doorbell by ``steps``; return the bytes that come, the memory, and whether the reader halted."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    ring = bytearray(rng.randbytes(SIZE))
    memory = AXI4Memory(ring, base=RING, width=width, stall=stall, latency=latency, rng=random.Random(seed + 1),
                        bad=bad)
    dut, words, halted = CommandReader(width, id=3), [], []
    want = b""

    async def host(ctx):
        nonlocal want
        produced = 0
        for name, value in {"base": RING | 0x3F, "log_size": LOG_SIZE, "enable": 1, **(settings or {})}.items():
            ctx.set(getattr(dut, name), value)
        for step in steps:
            while step <= SIZE and produced + step - width * len(words) > SIZE and not bad:
                await ctx.tick()
            want += b"".join(bytes([ring[at % SIZE]]) for at in range(produced, produced + step))
            produced += step
            ctx.set(dut.producer, produced % 2**32 | rng.randrange(32))
            await ctx.tick().repeat(rng.randrange(1, 40) if stall else 1)
        for _ in range(60 + sum(steps) // width if bad else 60):
            await ctx.tick()
            while not bad and not settings and not ctx.get(dut.idle):
                await ctx.tick()
        halted.append(ctx.get(dut.halted))

    simulate(watched(dut, dut.ar, dut.o), host,
             models=[memory.reader(dut.ar, dut.r), collect(dut.o, words, seed + 2, stall)])
    return b"".join(word.to_bytes(width, "little") for word in words), want, memory, halted[0]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stall,latency", [(0, 0), (0.3, 0), (0.1, 40)])
def test_all_words_come_in_order(width, stall, latency, seed):
    rng = random.Random(seed)
    steps = [32 * rng.choice([1, 1, 2, 3, 20, 100]) for _ in range(20)]
    came, want, memory, halted = read(width, steps, seed=seed, stall=stall, latency=latency)
    assert came == want
    assert not halted
    for id, addr, beats in memory.reads:
        assert id == 3
        assert RING <= addr
        assert addr + beats * width <= RING + SIZE
    assert sum(beats for _, _, beats in memory.reads) * width == sum(steps), "each word is read once"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("at", [0, 100, 1030])
def test_an_error_halts(width, at, seed):
    """What is before the bad word comes, nothing from there on."""
    came, want, _, halted = read(width, [32] * 50, seed=seed, bad=[RING + at])
    assert halted
    assert came == want[:at // width * width]


@pytest.mark.parametrize("settings", [{"log_size": 0}, {"log_size": 11}, {"log_size": 27}, {"log_size": 31},
                                      {"enable": 0}])
def test_no_ring(settings):
    came, _, memory, halted = read(8, [320], settings=settings)
    assert (came, memory.reads, halted) == (b"", [], 0)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_doorbell_that_is_too_far_ahead_is_not_obeyed(width):
    came, _, memory, _ = read(width, [SIZE + 32], settings={"enable": 1})
    assert came == b""
    assert not memory.reads
    assert len(read(width, [SIZE])[0]) == SIZE


@pytest.mark.parametrize("width", WIDTHS)
def test_at_most_1_kib_is_read_ahead(width):
    dut = CommandReader(width)
    memory = AXI4Memory(bytearray(SIZE), base=RING, width=width)

    async def host(ctx):
        ctx.set(dut.base, RING)
        ctx.set(dut.log_size, LOG_SIZE)
        ctx.set(dut.enable, 1)
        ctx.set(dut.producer, SIZE)
        await ctx.tick().repeat(400)
        assert sum(beats for _, _, beats in memory.reads) * width in range(1024, 1024 + 2 * 64 + 1)
        assert len(await receive(ctx, dut.o, SIZE // width)) == SIZE // width

    simulate(dut, host, models=[memory.reader(dut.ar, dut.r)])


def test_bad_reader():
    wrong: Any = "8"
    with pytest.raises(ValueError, match="id must fit 4 bits, not 16"):
        CommandReader(8, id=16)
    with pytest.raises(ValueError, match="width of a NIC must be one of"):
        CommandReader(4)
    with pytest.raises(TypeError):
        CommandReader(wrong)


# CommandDecoder ------------------------------------------------------------------------------------------------------

PORTS = ("flow", "key", "region", "profile", "fence", "send")


class Run:
    """What comes out of a decoder for a row of commands: (port, payload) in order, of ``words`` the bytes."""

    def __init__(self, width, commands, *, seed=1, idle=0.0, stall=0.0, hold=()):
        print(f"seed {seed}")
        self.width, self.came, self.bytes = width, [], []
        self.counts = {"command": 0, "bad_command": 0}
        self.dut = dut = CommandDecoder(width, flows=FLOWS, regions=REGIONS)
        ports = {name: getattr(dut, name) for name in PORTS}
        ports |= {f"{name}{way}": getattr(dut, name)[way] for name in ("post", "retire") for way in range(2)}
        content = b"".join(commands)
        words = [int.from_bytes(content[at:at + width], "little") for at in range(0, len(content), width)]

        async def finish(ctx):
            for name in hold:
                ctx.set(getattr(dut, name), 1)
            await feed(dut.i, words, seed, idle)(ctx)
            for _ in range(60):
                await ctx.tick()
                while not hold and not ctx.get(dut.idle):
                    await ctx.tick()
            self.consumer = ctx.get(dut.consumer)

        simulate(watched(dut, dut.words, *ports.values()), finish, models=[
            *(self._collect(name, port, seed + k, stall) for k, (name, port) in enumerate(ports.items())),
            self._words(seed, stall), self._count])

    def _collect(self, name, port, seed, stall):
        async def run(ctx):
            rng = random.Random(seed)
            while True:
                payload, = await receive(ctx, port, 1, rng=rng, stall=stall)
                self.came.append((name, payload))
        return run

    def _words(self, seed, stall):
        async def run(ctx):
            rng, raw = random.Random(seed + 99), b""
            while True:
                word, = await receive(ctx, self.dut.words, 1, rng=rng, stall=stall)
                raw += word.data.to_bytes(self.width, "little")
                if word.last:
                    self.bytes.append(raw)
                    raw = b""
        return run

    async def _count(self, ctx):
        async for _, _, command, bad in ctx.tick().sample(self.dut.command, self.dut.bad_command):
            self.counts["command"] += command
            self.counts["bad_command"] += bad


def is_refused(raw):
    """What messages.py says of a command, as far as no table and no header of a SEND is needed."""
    kind, flags, units, flow, argument = struct.unpack_from("<BBHHH", raw)
    if units == 0 or kind not in list(CommandKind):
        return True
    if kind not in (CommandKind.PAD, CommandKind.FENCE, CommandKind.REGION, CommandKind.PROFILE) and flow >= FLOWS:
        return True
    match kind:
        case CommandKind.POST:
            return int.from_bytes(raw[22:24], "little") >= REGIONS
        case CommandKind.KEY:
            return argument >= 2 * FLOWS
        case CommandKind.REGION:
            end = int.from_bytes(raw[8:13], "little") + int.from_bytes(raw[16:21], "little")
            return argument >= REGIONS or end > 1 << 40
        case CommandKind.PROFILE:
            checksum, position, size = raw[9:12]
            return (argument > 3 or checksum > 2 or position % 2 == 1 or size in range(1, 8) or size > 60
                    or position + 4 > (size or 20))
        case CommandKind.SEND:
            payload, segment = struct.unpack_from("<IH", raw, 8)
            gather, offload, snoop = (flags >> bit & 1 for bit in range(3))
            room = 32 * units - 16 - argument - (0 if gather else payload)
            frame = min(payload, segment or payload)
            return (argument not in range(14, 95) or payload > 65495 or frame > 9216 or room < 0
                    or not offload and bool(gather or snoop or segment))
    return False


def goods(rng):
    """A command of each kind that carries something, with what must come of it."""
    flow, way = rng.randrange(FLOWS), rng.randrange(2)
    post = Post(flow, way, rng.getrandbits(32), rng.getrandbits(32), rng.randrange(REGIONS), rng.getrandbits(40))
    key = Key(flow, rng.randrange(2 * FLOWS), True, rng.getrandbits(32), rng.getrandbits(32), rng.getrandbits(16),
              rng.getrandbits(16), rng.randrange(4))
    base = rng.getrandbits(40)
    region = Region(rng.randrange(REGIONS), Right.READ, base, rng.randrange(2**40 - base + 1), rng.randrange(FLOWS + 1))
    profile = Profile(rng.randrange(4), rng.getrandbits(8), rng.randrange(3), 56, 60, rng.getrandbits(16),
                      rng.getrandbits(16))
    flows, cursor = Flow(flow, rng.getrandbits(8), rng.getrandbits(32)), Cursor(flow, rng.getrandbits(32))
    retire, fence = Retire(flow, way, rng.getrandbits(8)), Fence(rng.randrange(2), rng.getrandbits(16))
    return [
        (post, f"post{way}", (flow, post.start, post.length, post.region, post.offset)),
        (retire, f"retire{way}", (flow, retire.count)),
        (cursor, "flow", (flow, 0, 0, cursor.position)),
        (flows, "flow", (flow, 1, flows.flags, flows.cursor)),
        (fence, "fence", tuple(fence)),
        (key, "key", (key.place, 1, flow, (key.source, key.destination, key.source_port, key.destination_port,
                                          key.profile))),
        (region, "region", (region.region, 1, base, region.length, region.owner)),
        (profile, "profile", tuple(profile)),
    ]


def plain(value):
    """A view's fields, as a tuple."""
    return tuple(plain(item) if hasattr(item, "shape") else item
                 for item in (value[name] for name, _ in value.shape()))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.3, 0.5)])
def test_every_command(width, idle, stall, seed):
    rng = random.Random(seed)
    commands, want, contents = [], [], []
    for _ in range(8):
        items = goods(rng)
        rng.shuffle(items)
        for command, port, payload in items:
            commands.append(command.to_bytes())
            want.append((port, payload))
        order = Send(rng.randrange(FLOWS), 0, rng.randbytes(rng.randrange(14, 95)), size := rng.randrange(120), 0,
                     rng.randbytes(size))
        commands += [order.to_bytes(), pad(rng.randrange(1, 4))]
        want.append(("send", (order.flow, 0, 0, 0, len(order.header), size, 0)))
        contents.append(commands[-2][16:])
    run = Run(width, commands, seed=seed, idle=idle, stall=stall)
    assert [(name, plain(payload)) for name, payload in run.came] == want
    assert [raw[:len(content)] for raw, content in zip(run.bytes, contents, strict=True)] == contents
    assert all(not any(raw[len(content):]) and len(raw) - len(content) <= 16
               for raw, content in zip(run.bytes, contents, strict=True))
    assert run.counts == {"command": len(commands), "bad_command": 0}
    assert run.consumer == sum(map(len, commands))


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_garbage_is_skipped_and_what_follows_works(width, seed):
    rng = random.Random(seed)
    commands, want, refused = [], [], 0
    for _ in range(80):
        commands.append(garbage(rng, FLOWS))
        refused += is_refused(commands[-1])
        command, port, payload = rng.choice(goods(rng))
        commands.append(command.to_bytes())
        want.append((port, payload))
    run = Run(width, commands, seed=seed, idle=0.1, stall=0.2)
    came = [(name, plain(payload)) for name, payload in run.came]
    assert refused in range(25, 70)
    assert run.counts == {"command": len(commands), "bad_command": refused}
    left = iter(came)
    assert all(item in left for item in want), "the good ones come in order, others between them"
    passed = sum(not is_refused(raw) and raw[0] != CommandKind.PAD for raw in commands)
    assert len(came) == passed


@pytest.mark.parametrize("name,waits", [
    ("header_pending", {"post0", "post1", "retire0", "retire1", "flow", "fence", "key", "region", "profile"}),
    ("search_pending", {"post1"}), ("send_pending", {"retire1", "flow begins", "region"})])
def test_what_waits(name, waits, seed):
    rng, seen = random.Random(seed), set()
    for command, port, payload in [item for _ in range(8) for item in goods(rng)]:
        kind = "flow begins" if port == "flow" and payload[1] and name != "header_pending" else port
        if kind in seen:
            continue
        seen.add(kind)
        run = Run(8, [command.to_bytes()], hold=[name])
        assert bool(run.came) == (kind not in waits), port
        assert run.consumer == (0 if kind in waits else 32)


@pytest.mark.parametrize("flags,fields,is_good", [
    (3, {"argument": 94, "payload": 65495, "segment": 9216, "units": 4}, True),
    (3, {"argument": 95, "units": 4}, False),
    (3, {"argument": 13}, False), (0, {"argument": 14, "units": 1}, True), (3, {"payload": 65496, "segment": 1}, False),
    (3, {"payload": 1 << 16, "segment": 1}, False), (3, {"payload": 9217}, False), (3, {"payload": 9216}, True),
    (3, {"payload": 9217, "segment": 9217}, False), (1, {"payload": 1}, False), (4, {}, False),
    (0, {"segment": 1}, False), (7, {"payload": 5, "segment": 100}, True), (2, {"payload": 59, "units": 4}, False),
    (2, {"payload": 58, "units": 4}, True), (3, {"argument": 49, "units": 2}, False),
    (3, {"argument": 48, "units": 2}, True)])
def test_limits_of_send(flags, fields, is_good):
    units = fields.get("units", 3)
    raw = Command(CommandKind.SEND, flags, units, 5, fields.get("argument", 54)).to_bytes()
    raw += struct.pack("<IHH", fields.get("payload", 0), fields.get("segment", 0), 0) + bytes(32 * units - 16)
    assert is_refused(raw) is not is_good
    run = Run(8, [raw])
    assert [name for name, _ in run.came] == ["send"] * is_good
    assert run.counts == {"command": 1, "bad_command": int(not is_good)}


def test_bad_decoder():
    wrong: Any = "8"
    for name, most in (("flows", 1024), ("regions", 256)):
        for value in (0, most + 1):
            with pytest.raises(ValueError, match=f"{name} must be 1 to {most}, not {value}"):
                CommandDecoder(8, **{name: value})
        with pytest.raises(TypeError):
            CommandDecoder(8, **{name: wrong})
