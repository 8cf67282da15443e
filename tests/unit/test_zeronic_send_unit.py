# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""SendUnit: commands in a ring become updates and frames, in order, whatever stalls."""

import random
from collections import Counter as Tally

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from zeronic_send import (
    ACK,
    FIN,
    GATHERED,
    PSH,
    WIDTHS,
    collect,
    expected,
    garbage,
    pad,
    random_header,
    unpacked,
    watched,
)

from rackgate.verif.stimulus import AXI4Memory, simulate
from rackgate.zeronic.abi import Direction, Right
from rackgate.zeronic.messages import Cursor, Fence, Flow, FlowFlag, Key, Post, Profile, Region, Retire, Send, SendFlag
from rackgate.zeronic.tx.unit import SendUnit

RING, LOG_SIZE = 0x4_0040, 12
DATA, DATA_SIZE = 0x10_0000, 0x1_0000
FLOWS, SEGMENTS, REGIONS = 16, 8, 8
UPDATES = ("post", "retire", "flow", "key", "region", "profile", "fence")
EVENTS = ("frames_sent", "bytes_sent", "unsent", "commands", "bad_command", "bad_region")


class Bench:
    """Runs commands through a SendUnit; afterwards has all that came out."""

    def __init__(self, width, *, seed=1, stall=0.0, latency=0, bad=(), bad_ring=()):
        print(f"seed {seed}")
        self.width, self.seed, self.stall = width, seed, stall
        rng = random.Random(seed)
        self.data = bytearray(rng.randbytes(DATA_SIZE))
        self.ring = bytearray(rng.randbytes(1 << LOG_SIZE))
        self.memory = AXI4Memory(self.data, base=DATA, width=width, latency=latency, stall=stall, bad=bad,
                                 rng=random.Random(seed + 1))
        self.rings = AXI4Memory(self.ring, base=RING, width=width, latency=latency, stall=stall, bad=bad_ring,
                                rng=random.Random(seed + 2))
        self.dut = SendUnit(width, flows=FLOWS, segments=SEGMENTS, regions=REGIONS)
        self.came = {name: [] for name in (*UPDATES, "unsent")}
        self.words, self.frames, self.events, self.halted = [], [], Tally(), False
        self.produced = self.cycles = 0

    def run(self, commands, *, limit=200_000, until=None, apart=False, models=()):
        """Ring the doorbell now and then; with ``apart`` for each command when the one before is over."""
        dut, seed = self.dut, self.seed
        ports = [getattr(dut, name) for name in self.came]
        models = [*models]
        models += [collect(port, self.came[name], seed + 10 + k, self.stall)
                   for k, (name, port) in enumerate(zip(self.came, ports, strict=True))]
        models += [self.memory.reader(dut.memory.ar, dut.memory.r), self.rings.reader(dut.rings.ar, dut.rings.r),
                   self._take, self._count]

        async def host(ctx):
            rng = random.Random(seed + 3)
            ctx.set(dut.base, RING)
            ctx.set(dut.log_size, LOG_SIZE)
            ctx.set(dut.enable, 1)
            for command in commands:
                while self.produced + len(command) - ctx.get(dut.consumer) > 1 << LOG_SIZE:
                    ctx.set(dut.producer, self.produced)  # else nothing makes room
                    await ctx.tick()
                for byte in command:  # a command may go on at the begin of the ring
                    self.ring[self.produced % (1 << LOG_SIZE)] = byte
                    self.produced += 1
                if apart:
                    await ctx.tick().repeat(2)
                    while not ctx.get(dut.idle):
                        await ctx.tick()
                if apart or not self.stall or rng.random() < 0.5:
                    ctx.set(dut.producer, self.produced)
                    await ctx.tick().repeat(rng.randrange(1, 60) if self.stall else 1)
            ctx.set(dut.producer, self.produced)
            await ctx.tick().repeat(2)
            while not (until(ctx) if until else ctx.get(dut.idle)):
                await ctx.tick()
            await ctx.tick().repeat(30)
            assert until or ctx.get(dut.consumer) == self.produced
            self.halted = ctx.get(dut.halted)

        simulate(watched(dut, dut.net_tx, *ports), host, models=models, limit=limit)
        assert not self.words, "a part of a frame is left"
        assert self.events["frames_sent"] == len(self.frames)
        assert self.events["bytes_sent"] == sum(map(len, self.frames))
        return self

    async def _take(self, ctx):
        """Frames; ``valid`` must not fall within one."""
        rng, port, inside = random.Random(self.seed + 4), self.dut.net_tx, False
        while True:
            ready = not self.stall or rng.random() >= self.stall
            ctx.set(port.ready, ready)
            _, _, valid, word = await ctx.tick().sample(port.valid, port.payload)
            assert valid or not inside, "a frame pauses"
            inside = inside or valid
            if valid and ready:
                assert not word.error and (word.last or word.count == self.width) and word.count
                self.words.append(word)
                if word.last:
                    self.frames.append(unpacked(self.words, self.width))
                    self.words.clear()
                    inside = False

    async def _count(self, ctx):
        signals = [getattr(self.dut.events, name) for name in EVENTS]
        async for _, _, *values in ctx.tick().sample(*signals):
            self.cycles += 1
            self.events.update(dict(zip(EVENTS, values, strict=True)))


class Host:
    """Makes commands, and knows what must come of them."""

    def __init__(self, rng, data):
        self.rng, self.data = rng, data
        self.commands, self.frames, self.unsent, self.updates = [], [], [], {name: [] for name in UPDATES}
        self.streams = {}  # by flow: start, and where each byte is (None: cannot be read)
        self.rings = {}

    def begin(self, flow, *, pieces=3, most=2500, start=None):
        """A flow with some segments, some of them in a gap's distance from each other."""
        rng = self.rng
        start = rng.choice([rng.getrandbits(32), 2**32 - rng.randrange(1, 2000)]) if start is None else start
        flags = rng.choice([0, FlowFlag.RING_1, FlowFlag.RECEIVE, FlowFlag.COALESCE | FlowFlag.RING_1])
        self.commands.append(Flow(flow, flags, rng.getrandbits(32)).to_bytes())
        self.updates["flow"].append((flow, 1, int(flags), int.from_bytes(self.commands[-1][8:12], "little")))
        self.rings[flow] = int(bool(flags & FlowFlag.RING_1))
        places = []
        for _ in range(pieces):
            size, at = rng.choice([1, 2, 7, rng.randrange(1, most)]), rng.randrange(DATA_SIZE - most)
            self.commands.append(Post(flow, Direction.SEND, (start + len(places)) % 2**32, size, 0, at).to_bytes())
            places += range(at, at + size)
        self.streams[flow] = start, places

    def send(self, order, places=()):
        """A SEND command, and its frames: those before the first with a byte that cannot be gathered."""
        self.commands.append(order.to_bytes())
        if order.flags & SendFlag.SNOOP and order.header[47] & ACK:
            self.updates["flow"].append((order.flow, 0, None, int.from_bytes(order.header[42:46], "big")))
        if not order.flags & SendFlag.GATHER:
            self.frames += expected(order, order.inline)
            return
        payload = bytes(self.data[place] if place is not None else 0 for place in places)
        step = order.segment or order.payload or 1
        good = list(places).index(None) // step if None in places else None
        self.frames += expected(order, payload)[:good]
        if None in places:
            self.unsent.append((self.rings[order.flow], order.flow))

    def random_send(self):
        rng, flow = self.rng, self.rng.randrange(FLOWS)
        kind = rng.choice(["gather"] * 4 + ["inline", "plain"])
        size = rng.choice([0, 1, 2, 31, 32, 33, rng.randrange(3000)])
        least = max(size // 12, 1)
        segment = rng.choice([0, rng.randrange(least, least + 2000), rng.randrange(least, least + 60)])
        if kind == "plain":
            header = rng.randbytes(rng.randrange(14, 95))
            self.send(Send(flow, 0, header, size, 0, rng.randbytes(size)))
            return
        snoop = rng.choice([0, SendFlag.SNOOP])
        if kind == "inline":
            self.send(Send(flow, SendFlag.OFFLOAD | snoop, random_header(rng), size, segment, rng.randbytes(size)))
            return
        start, places = self.streams.get(flow, (0, []))
        offset = rng.randrange(len(places) + 1)
        size = min(size, len(places) - offset) if rng.random() < 0.9 else size
        wanted = (places[offset:offset + size] + [None] * size)[:size]
        header = random_header(rng, seq=(start + offset) % 2**32)
        if flow not in self.streams and size:
            self.rings.setdefault(flow, 0)
        self.send(Send(flow, GATHERED | snoop, header, size, segment), wanted)

    def random_update(self):
        rng, flow = self.rng, self.rng.randrange(FLOWS)
        match rng.choice(["post", "retire", "flow", "cursor", "key", "profile", "fence", "pad"]):
            case "post":
                post = Post(flow, Direction.RECEIVE, rng.getrandbits(32), rng.getrandbits(31) + 1,
                            rng.randrange(REGIONS), rng.getrandbits(40))
                self._add("post", post, (flow, post.start, post.length, post.region, post.offset))
            case "retire":
                self._add("retire", Retire(flow, Direction.RECEIVE, 77), (flow, 77))
            case "flow":
                self.begin(flow)
            case "cursor":
                cursor = Cursor(flow, rng.getrandbits(32))
                self._add("flow", cursor, (flow, 0, None, cursor.position))
            case "key":
                key = Key(flow, rng.randrange(2 * FLOWS), rng.random() < 0.5, rng.getrandbits(32), rng.getrandbits(32),
                          rng.getrandbits(16), rng.getrandbits(16), rng.randrange(4))
                self._add("key", key, (key.place, int(key.valid), flow, *key[3:]))
            case "profile":
                profile = Profile(rng.randrange(4), 17, 2, 8, 24, 4791, 0xFFFF)
                self._add("profile", profile, tuple(profile))
            case "fence":
                fence = Fence(rng.randrange(2), rng.getrandbits(16))
                self._add("fence", fence, tuple(fence))
            case "pad":
                self.commands.append(pad(rng.randrange(1, 5)))

    def _add(self, name, command, update):
        self.commands.append(command.to_bytes())
        self.updates[name].append(update)

    def check(self, bench, *, bad=0):
        assert bench.frames == self.frames
        assert [(item.ring, item.flow) for item in bench.came["unsent"]] == self.unsent
        flows = [(item.flow, item.begin, item.flags if item.begin else None, item.cursor)
                 for item in bench.came["flow"]]
        assert flows == self.updates["flow"]
        posts = [(item.flow, item.start, item.length, item.region, item.offset) for item in bench.came["post"]]
        assert posts == self.updates["post"]
        assert [(item.flow, item.count) for item in bench.came["retire"]] == self.updates["retire"]
        keys = [(item.place, item.valid, item.flow, item.key.source, item.key.destination, item.key.source_port,
                 item.key.destination_port, item.key.profile) for item in bench.came["key"]]
        assert keys == self.updates["key"]
        profiles = [(item.profile, item.protocol, item.checksum, item.position, item.size, item.port, item.mask)
                    for item in bench.came["profile"]]
        assert profiles == self.updates["profile"]
        assert [(item.ring, item.cookie) for item in bench.came["fence"]] == self.updates["fence"]
        assert bench.events["unsent"] == len(self.unsent)
        assert bench.events["commands"] == len(self.commands)
        assert bench.events["bad_command"] == bad


def everything(rng, data):
    """A host with region 0, which is all the data."""
    host = Host(rng, data)
    host.commands.append(Region(0, Right.READ, DATA, DATA_SIZE).to_bytes())
    return host


@pytest.mark.parametrize("width", WIDTHS)
def test_one_frame_as_scapy_reads_it(width, seed):
    rng = random.Random(seed)
    bench = Bench(width, seed=seed)
    host = everything(rng, bench.data)
    host.begin(3, pieces=1, start=1000)
    places = host.streams[3][1]
    header = bytearray(random_header(rng, seq=1000, flags=ACK | PSH | FIN, options=bytes([1, 1, 8, 10, *range(8)])))
    header[20:22] = b"\x40\x00"  # no fragment
    host.send(Send(3, GATHERED, bytes(header), len(places)), places)
    bench.run(host.commands)
    host.check(bench)
    frame, = bench.frames
    seen = Ether(frame)
    rebuilt = Ether(frame)
    del rebuilt[IP].chksum, rebuilt[IP].len, rebuilt[TCP].chksum
    rebuilt = Ether(bytes(rebuilt))
    assert (seen[IP].chksum, seen[IP].len, seen[TCP].chksum) == (
        rebuilt[IP].chksum, rebuilt[IP].len, rebuilt[TCP].chksum)
    assert bytes(seen[TCP].payload) == bytes(bench.data[place] for place in places)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stall", [0, 0.3])
def test_random(width, stall, seed, count=25):
    seed = 100 * seed + width + int(10 * stall)
    rng = random.Random(seed)
    bench = Bench(width, seed=seed, stall=stall, latency=rng.choice([0, 30]))
    host = everything(rng, bench.data)
    for flow in range(0, FLOWS, 2):
        host.begin(flow)
    for _ in range(count):
        rng.choice([host.random_send, host.random_send, host.random_update])()
    bench.run(host.commands)
    host.check(bench)
    assert len(bench.came["region"]) == 1


def timed(width, size, segment, *, seed):
    """A SEND of one piece of memory, 20 cycles away, when all is idle. Cycles at which words came and went:
    header (the last of its words came from the ring), search, piece, address (each begins), data (the last came),
    and for the wire the first word and all last ones."""
    bench, rng = Bench(width, seed=seed, latency=20), random.Random(seed)
    host, dut, seen = everything(rng, bench.data), bench.dut, {}
    host.begin(3, pieces=0, start=1000)
    host.commands.append(Post(3, Direction.SEND, 1000, size, 0, 3).to_bytes())
    word = (32 * len(host.commands) + 16 + 54 - 1) // width
    host.send(Send(3, GATHERED, random_header(rng, seq=1000, options=b""), size, segment), range(3, 3 + size))
    ports = {"ring": dut.rings.r, "search": dut._cover.request, "piece": dut._cover.piece, "address": dut.memory.ar,
             "data": dut.memory.r, "wire": dut.net_tx}

    async def watch(ctx):
        cycle = 0
        signals = [(port.valid, port.ready) for port in ports.values()]
        async for _, _, last, *values in ctx.tick().sample(dut.net_tx.payload.last, *sum(signals, ())):
            for name, valid, ready in zip(ports, values[::2], values[1::2], strict=True):
                if valid and ready:
                    seen.setdefault(name, []).append(cycle)
                    if name == "wire" and last:
                        seen.setdefault("ends", []).append(cycle)
            cycle += 1

    bench.run(host.commands, apart=True, models=[watch])
    host.check(bench)
    first = {name: seen[name][0] for name in ("search", "piece", "address", "wire")}
    return first | {"header": seen["ring"][word], "data": seen["data"][-1], "ends": seen["ends"]}


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_latency(width, seed):
    """What is behind "15 cycles" and so on in the docstring."""
    cycles = timed(width, 200, 0, seed=seed)
    steps = (cycles["search"] - cycles["header"], cycles["address"] - cycles["piece"], cycles["wire"] - cycles["data"])
    assert steps == {8: (4, 3, 8), 16: (4, 3, 12), 32: (3, 3, 13)}[width]


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("segment", [10, 100, 1448])
def test_frames_follow_each_other(width, segment, seed):
    """Frames that are cut from one command: at most a cycle more than they have words."""
    ends = timed(width, 12 * segment, segment, seed=seed)["ends"][2:]
    assert len(ends) == 10
    assert ends[-1] - ends[0] <= 9 * (-(-(54 + segment) // width) + 1) + 2  # 2 where the memory's FIFO runs empty


@pytest.mark.soak
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variant", range(6))
def test_random_long(width, variant, seed):
    test_random(width, [0, 0.1, 0.3][variant % 3], 1000 * seed + variant, count=300)


#: Why a byte cannot be gathered, and whether a region forbids it.
CAUSES = {"no segment": False, "memory": False, "no right": True, "outside": True, "another's": True}


@pytest.mark.thorough
@pytest.mark.parametrize("width,cause", [*zip([8, 16, 32, 8, 16], CAUSES, strict=True), (8, "memory"), (32, "memory")])
def test_what_cannot_be_gathered_is_not_sent(width, cause, seed):
    """Frames before the first bad one are sent, those behind it in its command are not; other commands are."""
    rng = random.Random(seed)
    bad = [DATA + 0x8000 + 250] if cause == "memory" else []
    bench = Bench(width, seed=seed, latency=20, bad=bad)
    host = everything(rng, bench.data)
    regions = {"no right": Region(1, Right.WRITE, DATA + 0x8000, 1000), "outside": Region(1, Right.READ, DATA, 0x8000),
               "another's": Region(1, Right.READ, DATA + 0x8000, 1000, 9)}
    number = 1 if cause in regions else 0
    if number:
        host.commands.append(regions[cause].to_bytes())
    flow, start = 6, 2**32 - 100
    host.begin(flow, pieces=0, start=start)
    offset = 0 if cause in ("no right", "another's") else 0x8000
    host.commands.append(Post(flow, Direction.SEND, start, 500, 0, 0x100).to_bytes())
    if cause != "no segment":
        host.commands.append(Post(flow, Direction.SEND, (start + 500) % 2**32, 500, number, offset).to_bytes())
    places: list[int | None] = [0x100 + k for k in range(500)]
    if cause == "memory":  # one byte is bad
        places += [*range(0x8000, 0x8000 + 250), None, *range(0x8000 + 251, 0x8000 + 500)]
    else:
        places += [None] * 500
    header = random_header(rng, seq=start)
    for size, segment in ((1000, 100), (400, 200), (1000, 0)):
        host.send(Send(flow, GATHERED, header, size, segment), places[:size])
    host.send(Send(flow, SendFlag.OFFLOAD, header, 300, 7, rng.randbytes(300)))
    bench.run(host.commands)
    host.check(bench)
    assert len(bench.frames) == (7 if cause == "memory" else 5) + 2 + 43
    assert bench.events["unsent"] == 2
    assert bench.events["bad_region"] == 2 * CAUSES[cause]


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_updates_take_effect_between_the_sends_around_them(width, seed):
    """With a slow memory: a POST does not help a SEND ahead of it; FLOW, RETIRE and REGION do not harm one."""
    rng = random.Random(seed)
    bench = Bench(width, seed=seed, latency=60)
    host = everything(rng, bench.data)

    def gather(places):
        host.send(Send(4, GATHERED, random_header(rng, seq=1000), 300, 100), places)

    def post(start, place, region=0):
        host.commands.append(Post(4, Direction.SEND, start, 150, region, place).to_bytes())

    host.begin(4, pieces=0, start=1000)
    post(1000, 0x10)
    places = [*range(0x10, 0x10 + 150), *range(0x900, 0x900 + 150)]
    gather(places[:150] + [None] * 150)
    post(1150, 0x900)
    gather(places)
    host.commands.append(Retire(4, Direction.SEND, 1).to_bytes())
    gather([None] * 300)
    host.begin(4, pieces=0)
    gather([None] * 300)
    post(1000, 0x10)
    post(1150, 0x900)
    gather(places)
    host.commands.append(Region(0, 0, DATA, DATA_SIZE).to_bytes())
    gather([None] * 300)
    bench.run(host.commands)
    host.check(bench)
    assert bench.events["bad_region"] == 1
    assert len(bench.came["region"]) == 2


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_posts_that_the_list_refuses(width, seed):
    bench = Bench(width, seed=seed)
    rng = random.Random(seed)
    host = everything(rng, bench.data)
    host.begin(2, pieces=SEGMENTS, start=5)
    start, places = host.streams[2]
    host.commands.append(Post(2, Direction.SEND, start + len(places), 10, 0, 0).to_bytes())
    bench.run(host.commands)
    host.check(bench, bad=1)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_garbage_in_the_ring(width, seed):
    """Nothing hangs, nothing outside ring and regions is read, and good commands behind it work."""
    rng = random.Random(seed)
    bench = Bench(width, seed=seed, stall=0.1)
    host = everything(rng, bench.data)
    host.commands += [garbage(rng, FLOWS) for _ in range(60)]
    host.commands.append(Region(0, Right.READ, DATA, DATA_SIZE).to_bytes())
    host.begin(9, pieces=1)
    start, places = host.streams[9]
    host.send(Send(9, GATHERED, header := random_header(rng, seq=start), len(places), 500), places)
    bench.run(host.commands)
    good = expected(Send(9, GATHERED, header, len(places), 500), bytes(bench.data[place] for place in places))
    assert bench.frames[-len(good):] == good
    assert bench.events["commands"] == len(host.commands)
    assert bench.events["bad_command"] > 10
    assert all(RING <= addr and addr + beats * width <= RING + (1 << LOG_SIZE) for _, addr, beats in bench.rings.reads)
    assert all(DATA <= addr and addr + beats * width <= DATA + DATA_SIZE for _, addr, beats in bench.memory.reads)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_a_ring_that_cannot_be_read(width, seed):
    """The commands before the bad word are carried out, then none; a command that is cut in two is not."""
    rng = random.Random(seed)
    bench = Bench(width, seed=seed, bad_ring=[RING + 32 * 5])
    host = everything(rng, bench.data)
    host.begin(1, pieces=2)  # four commands so far
    host.send(Send(1, SendFlag.OFFLOAD, random_header(rng), 200, 0, rng.randbytes(200)))
    bench.run(host.commands, until=lambda ctx: ctx.get(bench.dut.halted))
    assert bench.halted
    assert bench.frames == []
    assert bench.events["commands"] == 4


def test_bad_parameters():
    with pytest.raises(ValueError, match="width of a NIC must be one of"):
        SendUnit(64)
    with pytest.raises(ValueError, match="flows must be"):
        SendUnit(8, flows=0)
