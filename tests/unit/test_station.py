# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The station's gateware against its golden model, on good and bad frames from Scapy."""

import random

import pytest
from amaranth.hdl import Module
from ethernet_bench import Gathered, read_register, take_all, words, write_register
from station_frames import ADDRESS, PEERS, arp, datagram, padded, ping, random_frame

from rackgate.bridge.abi import MESSAGE_BYTES
from rackgate.net.frames import Endpoint
from rackgate.net.station.abi import STATION_REGISTERS, StationCounter
from rackgate.net.station.station import Station
from rackgate.verif.stimulus import send, simulate
from rackgate.verif.stream_rules import watch
from rackgate_sim.station import Dropped, ForSystem, Message, Reply, StationModel

#: An EtherType for experiments (IEEE 802): of the system's frames.
EXPERIMENT = b"\x88\xB5"


class Bench:
    """A station between a network, a system and a bridge that answers a message with bytes of its choice, or not."""

    def __init__(self, width, *, rng, idle=0.0, stall=0.0, takes_frames=True, takes_messages=True, **parameters):
        self.width, self.rng, self.idle, self.stall = width, rng, idle, stall
        self.takes_frames, self.takes_messages = takes_frames, takes_messages
        self.dut = Station(width, **parameters)
        self.model = StationModel()
        self.sent, self.system, self.messages = Gathered(width), Gathered(width), Gathered(4)
        self.answers: list[bytes | None] = []  # None: the bridge keeps silent

    async def _net(self, ctx):
        await take_all(ctx, self.dut.net_tx, self.sent, rng=random.Random(self.rng.random()), stall=self.stall)

    async def _system(self, ctx):
        stall = self.stall if self.takes_frames else 2
        await take_all(ctx, self.dut.system_rx, self.system, rng=random.Random(self.rng.random()), stall=stall)

    async def _bridge(self, ctx):
        dut, rng = self.dut, random.Random(self.rng.random())
        while True:
            ready = self.takes_messages and rng.random() >= self.stall
            ctx.set(dut.o_message.ready, ready)
            _, _, valid, word = await ctx.tick().sample(dut.o_message.valid, dut.o_message.payload)
            if not (valid and ready):
                continue
            self.messages.put(word)
            if word.last:
                ctx.set(dut.o_message.ready, 0)
                size = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, rng.randrange(1, 60)))
                self.answers.append(rng.randbytes(size) if rng.random() < 0.8 else None)
                await ctx.tick().repeat(rng.randrange(1, 30))
                await send(ctx, dut.i_answer, words(self.answers[-1] or b"", 4), rng=rng, idle=self.idle)

    async def feed(self, ctx, frames, *, spoil=0.0):
        """Frames from the network; the MAC says of some that they are damaged. Returns what the model says of each."""
        outcomes = []
        for frame in frames:
            is_damaged = self.rng.random() < spoil
            outcomes.append((frame, is_damaged, self.model.receive(frame, is_damaged=is_damaged)))
            await send(ctx, self.dut.net_rx, words(frame, self.width, is_damaged=is_damaged), rng=self.rng,
                       idle=self.idle)
        return outcomes

    async def counters(self, ctx):
        """Counters that are not 0."""
        found = {counter.name: await read_register(ctx, self.dut.csr, STATION_REGISTERS[f"COUNT_{counter.name}"].offset)
                 for counter in StationCounter}
        return {name: value for name, value in found.items() if value}

    def run(self, *testbenches, limit=200_000):
        m = Module()
        m.submodules.dut = self.dut
        for name in ("net_tx", "system_rx", "o_message"):
            watch(m, getattr(self.dut, name), name=name)
        simulate(m, *testbenches, models=[self._net, self._system, self._bridge], limit=limit)
        assert self.sent.is_between and self.system.is_between and self.messages.is_between

    def replies(self):
        """Frames sent, by what they are: of the station itself, answers, the system's."""
        found = {"replies": [], "answers": [], "system": []}
        for frame, is_damaged in self.sent.frames:
            assert not is_damaged
            kind = "system" if frame[12:14] == EXPERIMENT else "answers" if frame[23] == 17 and \
                frame[12:14] == b"\x08\0" else "replies"
            found[kind].append(frame)
        return found


@pytest.mark.thorough
@pytest.mark.parametrize("width,idle,stall", [(4, 0, 0.1), (8, 0.3, 0.4), (16, 0, 0.3)])
def test_random_frames(width, idle, stall, seed):
    rng = random.Random(seed)
    bench = Bench(width, rng=rng, idle=idle, stall=stall)
    own = [PEERS[0][0].encode()[:12] + EXPERIMENT + rng.randbytes(rng.randrange(1, 100)) for _ in range(12)]
    outcomes, counters = [], {}

    async def network(ctx):
        outcomes.extend(await bench.feed(ctx, [random_frame(rng) for _ in range(60)], spoil=0.1))
        await ctx.tick().repeat(1500)
        counters.update(await bench.counters(ctx))

    async def system(ctx):
        source = random.Random(seed + 1)
        for number, frame in enumerate(own):
            await send(ctx, bench.dut.system_tx, words(frame, width, is_damaged=number % 5 == 4), rng=source, idle=idle)

    bench.run(network, system)
    assert bench.system.frames == [(frame, is_damaged) for frame, is_damaged, outcome in outcomes
                                   if outcome == ForSystem()]
    asked = [outcome for *_, outcome in outcomes if isinstance(outcome, Message)]
    assert bench.messages.frames == [(message.content, False) for message in asked]
    found = bench.replies()
    assert found["replies"] == [outcome.frame for *_, outcome in outcomes if isinstance(outcome, Reply)]
    assert found["answers"] == [bench.model.answer(message.sender, content)
                                for message, content in zip(asked, bench.answers, strict=True) if content]
    assert found["system"] == [frame for number, frame in enumerate(own) if number % 5 != 4]
    told = {
        "ARP_REPLIES": sum(frame[12:14] == b"\x08\x06" for frame in found["replies"]),
        "ECHO_REPLIES": sum(frame[12:14] == b"\x08\x00" for frame in found["replies"]),
        "ANSWERS": len(found["answers"]), "MESSAGES": len(asked),
        "DAMAGED": sum(isinstance(outcome, Dropped) for *_, outcome in outcomes),
        "SYSTEM_FRAMES": sum(not is_damaged for _, is_damaged in bench.system.frames),
    }
    assert counters == {name: value for name, value in told.items() if value}


@pytest.mark.thorough
def test_each_bit_of_a_header_counts(seed):
    """Requests and datagrams with one bit changed, of all that are in the headers."""
    rng = random.Random(seed)
    bench = Bench(16, rng=rng)
    good = [padded(frame) for frame in (arp(PEERS[0]), ping(PEERS[0], b"abc"), datagram(PEERS[1], b"abcd"))]
    places = [(place, bit) for place in range(42) for bit in (range(8) if place in (20, 21) else [rng.randrange(8)])]
    frames = [frame[:place] + bytes([frame[place] ^ 1 << bit]) + frame[place + 1:]
              for frame in good for place, bit in places]
    outcomes = []

    async def network(ctx):
        outcomes.extend(await bench.feed(ctx, frames))
        await ctx.tick().repeat(500)

    bench.run(network)
    assert bench.system.frames == [(frame, False) for frame, _, outcome in outcomes if outcome == ForSystem()]
    assert bench.messages.frames == [(outcome.content, False) for *_, outcome in outcomes
                                     if isinstance(outcome, Message)]
    assert bench.replies()["replies"] == [outcome.frame for *_, outcome in outcomes if isinstance(outcome, Reply)]


@pytest.mark.thorough
def test_longest(seed):
    """The largest ping, message and answer pass; a longer answer is dropped, and the next passes."""
    rng = random.Random(seed)
    bench = Bench(8, rng=rng)
    frames = [ping(PEERS[0], rng.randbytes(1472)), datagram(PEERS[1], rng.randbytes(MESSAGE_BYTES), source=99)]
    contents = [rng.randbytes(size) for size in (MESSAGE_BYTES + 1, MESSAGE_BYTES, 1)]
    outcomes = []

    async def network(ctx):
        outcomes.extend(await bench.feed(ctx, frames))
        await ctx.tick().repeat(2000)
        for content in contents:
            await send(ctx, bench.dut.i_answer, words(content, 4))
        await ctx.tick().repeat(1200)

    bench.run(network)
    message = outcomes[1][2]
    assert bench.messages.frames == [(message.content, False)]
    answers = [content for content in [*bench.answers, *contents[1:]] if content]
    assert bench.replies() == {"replies": [outcomes[0][2].frame], "system": [],
                               "answers": [bench.model.answer(message.sender, content) for content in answers]}


@pytest.mark.thorough
@pytest.mark.parametrize("width", [4, 8])
def test_nothing_stops_for_want_of_room(width, seed):
    """A system and a bridge that take nothing: frames are lost and counted, ping is answered throughout."""
    rng = random.Random(seed)
    bench = Bench(width, rng=rng, takes_frames=False, takes_messages=False, messages=512, backlog=64)
    frames, counters = [], {}
    for number in range(10):
        frames += [padded(ping(PEERS[0], bytes([number]))), padded(arp(PEERS[1], asked="192.0.2.77")) + bytes(100),
                   datagram(PEERS[0], rng.randbytes(480))]

    async def network(ctx):
        outcomes.extend(await bench.feed(ctx, frames))
        await ctx.tick().repeat(300)
        counters.update(await bench.counters(ctx))
        assert ctx.get(bench.dut.errors) == counters["NO_ROOM"]

    outcomes = []
    bench.run(network)
    assert bench.replies()["replies"] == [outcome.frame for *_, outcome in outcomes if isinstance(outcome, Reply)]
    # 123 words a message: four fit.
    assert counters == {"ECHO_REPLIES": 10, "MESSAGES": 4, "NO_ROOM": 6,
                        "SYSTEM_LOST": 10 - (64 + 4) // (160 // width)}


@pytest.mark.parametrize("width", [4, 8])
def test_pace(width, seed):
    """Datagrams of the least size, one behind the other, take no more than their words and 14 cycles each."""
    rng = random.Random(seed)
    bench = Bench(width, rng=rng, takes_messages=False)
    items = [word for _ in range(30) for word in words(padded(datagram(PEERS[0], rng.randbytes(8))), width)]

    async def network(ctx):
        cycles = 0
        ctx.set(bench.dut.net_rx.valid, 1)
        for item in items:
            ctx.set(bench.dut.net_rx.payload, item)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(bench.dut.net_rx.ready)
                cycles += 1
        ctx.set(bench.dut.net_rx.valid, 0)
        assert cycles <= 30 * (15 + 14)
        await ctx.tick().repeat(100)
        assert await bench.counters(ctx) == {"MESSAGES": 30}

    bench.run(network)


def test_another_address(seed):
    bench = Bench(4, rng=random.Random(seed))
    mac, address, port = 0x02_00_00_AA_BB_CC, 0x0A_01_02_03, 5555
    there = {"to": "02:00:00:aa:bb:cc", "asked": "10.1.2.3"}
    outcomes = []

    async def network(ctx):
        for name, value in (("MAC_LOW", mac & 0xFFFF_FFFF), ("MAC_HIGH", mac >> 32), ("ADDRESS", address),
                            ("PORT", port)):
            await write_register(ctx, bench.dut.csr, STATION_REGISTERS[name].offset, value)
        bench.model = StationModel(mac, address, port)
        outcomes.extend(await bench.feed(ctx, [
            padded(arp(PEERS[0], asked=there["asked"])), padded(arp(PEERS[0], asked=ADDRESS)),
            padded(ping(PEERS[0], b"x", **there)), padded(datagram(PEERS[1], b"y", port=port, **there)),
            padded(datagram(PEERS[1], b"y", **there))]))
        await ctx.tick().repeat(300)

    bench.run(network)
    kinds = [type(outcome) for *_, outcome in outcomes]
    assert kinds == [Reply, ForSystem, Reply, Message, ForSystem]
    assert bench.replies()["replies"] == [outcomes[0][2].frame, outcomes[2][2].frame]
    assert len(bench.system.frames) == 2 and bench.messages.frames == [(b"y", False)]


def test_peer_is_that_of_the_message(seed):
    """A message that waits does not change to whom the answer of the one before goes."""
    bench = Bench(4, rng=random.Random(seed), takes_messages=False)
    frames = [padded(datagram(PEERS[number], b"abcd", source=100 + number)) for number in (0, 1)]

    async def network(ctx):
        await bench.feed(ctx, frames)
        await ctx.tick().repeat(50)
        for number in (0, 1):
            ctx.set(bench.dut.o_message.ready, 1)
            await ctx.tick().until(bench.dut.o_message.valid)
            ctx.set(bench.dut.o_message.ready, 0)
            await ctx.tick().repeat(20)
            await send(ctx, bench.dut.i_answer, words(bytes([number]) * 8, 4))
        await ctx.tick().repeat(100)

    async def bridge(ctx):
        return

    bench._bridge = bridge
    bench.run(network)
    senders = [Endpoint(*(bench.model.receive(frame).sender)) for frame in frames]
    assert bench.replies()["answers"] == [bench.model.answer(sender, bytes([number]) * 8)
                                          for number, sender in enumerate(senders)]


@pytest.mark.parametrize("arguments,message", [
    ({"width": 2}, "width must be 4, 8 or 16 bytes, not 2"), ({"mac": 0}, "mac must be a number of 48 bits above 0"),
    ({"mac": 1 << 40}, "mac must be no address of a group"), ({"address": 1 << 32}, "address must be a number of 32"),
    ({"port": 0}, "port must be a number of 16 bits"), ({"messages": 400}, "messages must be at least 512, not 400"),
])
def test_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        Station(**arguments)
