# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The parts of the collective engine's lanes, each alone."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from collective_lane_bench import (
    clock,
    kernel_words,
    packet_words,
    packetizer,
    payload_bytes,
    sender,
    taker,
    watched,
)

from rackgate.arith.abi import ElementType, Function
from rackgate.collective.lanes.departure import Departure
from rackgate.collective.lanes.detour import Detour
from rackgate.collective.lanes.join import Join
from rackgate.collective.lanes.marker import Marker
from rackgate.collective.lanes.message import MessageOperand
from rackgate.collective.lanes.operand import Operand, OperandSource
from rackgate.collective.lanes.retirement import Retirement
from rackgate.collective.packets.unloader import Unloader
from rackgate.stream.fork import Fork
from rackgate.stream.packet import packet_layout
from rackgate.stream.queue import Queue
from rackgate.verif.stimulus import send, simulate

STALLS = pytest.mark.parametrize("stall", [0, 0.4])
EMPTY = {"data": 0, "count": 0, "last": 1, "error": 0}


def packed(content, **flags):
    """Words of a packet as the lanes have them inside: an empty one is a word."""
    return packet_words(content, 8, **flags) or [EMPTY]


def contents_of(rng, count, largest=40):
    return [rng.randbytes(rng.choice([0, rng.randrange(9), rng.randrange(largest)])) for _ in range(count)]


def joined(words):
    """Packets from words that came out, empty ones too, as (content, error)."""
    packets, content = [], b""
    for word in words:
        content += word.data.to_bytes(8, "little")[:word.count]
        if word.last:
            packets.append((content, word.error))
            content = b""
    assert not content
    return packets


@STALLS
def test_marker(seed, stall):
    rng, results, dut = random.Random(seed), {}, Marker(8, 4, packets=3)
    contents = contents_of(rng, 30)
    marks = [rng.randrange(16) for _ in contents]
    words = [word for content in contents for word in packed(content)]
    simulate(watched(dut, "o"), sender(dut.i, marks, seed, stall), sender(dut.words, words, seed + 1, stall),
             taker(results, "o", dut.o, len(words), seed + 2, stall))
    assert [each.mark for each in results["o"]] == [
        mark for content, mark in zip(contents, marks, strict=True) for _ in packed(content)]
    assert joined(each.word for each in results["o"]) == [(content, 0) for content in contents]


class Delayed(wiring.Component):
    """A converter for a Detour: inverts, and takes its time."""

    def __init__(self, detour):
        self.detour = detour
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.detour = detour = self.detour
        m.submodules.first = first = Queue(packet_layout(8), depth=3)
        m.submodules.second = second = Queue(packet_layout(8), depth=2)
        wiring.connect(m, detour.converter_i, first.i)
        wiring.connect(m, first.o, second.i)
        wiring.connect(m, second.o, detour.converter_o)
        m.d.comb += detour.converter_o.payload.data.eq(~second.o.payload.data)
        return m


@STALLS
def test_detour(seed, stall):
    rng, results, dut = random.Random(seed), {}, Detour(8, packets=2)
    contents = contents_of(rng, 60)
    ways = [rng.randrange(2) for _ in contents]
    words = [{"word": word, "convert": way} for content, way in zip(contents, ways, strict=True)
             for word in packed(content)]
    simulate(Delayed(dut), sender(dut.i, words, seed, stall), taker(results, "o", dut.o, len(words), seed + 1, stall))
    assert joined(results["o"]) == [(bytes(byte ^ 0xFF for byte in content) if way else content, 0)
                                    for content, way in zip(contents, ways, strict=True)]


def test_detour_takes_a_cycle():
    cycles, dut = [], Detour(8)
    words = [{"word": word, "convert": 0} for word in packed(bytes(80)) * 2]
    simulate(Delayed(dut), sender(dut.i, words, 1, 0), taker({}, "o", dut.o, 20, 1, 0), clock(cycles, dut.o, 20))
    assert cycles == list(range(2, 22))


@STALLS
def test_fork(seed, stall):
    rng, results, dut = random.Random(seed), {}, Fork(packet_layout(8), 3)
    words = [{"item": {"data": k, "count": 8, "last": 0, "error": 0}, "to": rng.randrange(8)} for k in range(100)]
    expected = [[k for k, word in enumerate(words) if word["to"] >> output & 1] for output in range(3)]
    simulate(dut, sender(dut.i, words, seed, stall), *(
        taker(results, output, dut.o[output], len(expected[output]), seed + output, stall) for output in range(3)))
    assert [[word.data for word in results[output]] for output in range(3)] == expected


@STALLS
def test_join(seed, stall):
    rng, results, dut = random.Random(seed), {}, Join(8)
    segments, received, local, expected = [], [], [], []
    for _ in range(30):
        size = rng.choice([0, 8, rng.randrange(40)])
        sides, errors = rng.randrange(1, 4), (rng.random() < 0.2, rng.random() < 0.2)
        segments.append({"has_received": sides & 1, "has_local": sides >> 1, "function": Function.MAX,
                         "element": ElementType.INT32})
        a, b = (packed(rng.randbytes(size), error=error) for error in errors)
        received += a if sides & 1 else []
        local += b if sides & 2 else []
        for x, y in zip(a, b, strict=True):
            error = bool(sides & 1 and x["error"]) | bool(sides & 2 and y["error"])
            expected.append((x["data"] if sides == 3 else None, (y if sides & 2 else x)["data"],
                             Function.MAX if sides == 3 else Function.PASS, x["count"], bool(x["last"]), error))
    simulate(dut, sender(dut.i, segments, seed, stall), sender(dut.received, received, seed + 1, stall),
             sender(dut.local, local, seed + 2, stall), taker(results, "o", dut.o, len(expected), seed + 3, stall))
    got = [(word.a if word.function == Function.MAX else None, word.b, word.function, word.sideband.count,
            bool(word.sideband.last), bool(word.sideband.error)) for word in results["o"]]
    assert got == expected


@STALLS
def test_operand(seed, stall):
    rng, results, dut = random.Random(seed), {}, Operand(8)
    commands, memory, kernel, expected = [], [], [], []
    for _ in range(40):
        source, content = rng.choice(list(OperandSource)), rng.randbytes(rng.choice([0, 8, rng.randrange(40)]))
        commands.append({"source": source, "size": len(content)})
        error = 0
        if source == OperandSource.NOWHERE:
            content = bytes(len(content))
        elif source == OperandSource.KERNEL:
            kernel += kernel_words(content, 8, rng)
        else:
            error = int(rng.random() < 0.2)
            memory += [{**word, "tag": 0} for word in packed(content, error=error) or [EMPTY]]
        expected.append((content, bool(error and content)))
    count = sum(len(packed(content)) for content, _ in expected)
    simulate(watched(dut, "o"), sender(dut.i, commands, seed, stall), sender(dut.memory, memory, seed + 1, stall),
             sender(dut.kernel, kernel, seed + 2, stall), taker(results, "o", dut.o, count, seed + 3, stall))
    assert joined(results["o"]) == expected


@STALLS
def test_message(seed, stall):
    rng, results, dut = random.Random(seed), {}, MessageOperand(8)
    commands, memory, packet, expected = [], [], [], []
    for _ in range(60):
        content, size = rng.randbytes(rng.randrange(40)), rng.choice([0, 8, rng.randrange(40)])
        from_memory, error = rng.random() < 0.3, int(rng.random() < 0.2)
        if from_memory:
            content = rng.randbytes(size)
            memory += [{**word, "tag": 0} for word in packed(content, error=error)]
        else:
            packet += packet_words(content, 8, error=error)
        commands.append({"from_memory": from_memory, "has_words": bool(content) and not from_memory, "size": size})
        is_cut = -(-len(content) // 8) > max(1, -(-size // 8))
        expected.append((size, content[:size], bool(error and content and not is_cut)))
    count = sum(max(1, -(-size // 8)) for size, _, _ in expected)
    simulate(watched(dut, "o"), sender(dut.i, commands, seed, stall), sender(dut.memory, memory, seed + 1, stall),
             sender(dut.packet, packet, seed + 2, stall), taker(results, "o", dut.o, count, seed + 3, stall))
    got = joined(results["o"])
    assert [(len(content), content[:len(known)], error) for (content, error), (_, known, _)
            in zip(got, expected, strict=True)] == expected


@STALLS
def test_unloader(seed, stall):
    rng, results, dut = random.Random(seed), {}, Unloader(8, packets=3)
    contents = [rng.randbytes(rng.choice([0, 2, 8, 2 * rng.randrange(20)])) for _ in range(40)]
    commands = [{"slot": rng.randrange(256), "size": len(content), "expand": rng.randrange(2)} for content in contents]
    words = [word for content in contents for word in packet_words(content, 8)]
    simulate(watched(dut, "o", "read", "free"), sender(dut.i, commands, seed, stall),
             sender(dut.packet, words, seed + 1, stall), taker(results, "o", dut.o, len(words), seed + 2, stall),
             taker(results, "read", dut.read, sum(map(bool, contents)), seed + 3, stall),
             taker(results, "free", dut.free, len(commands), seed + 4, stall))
    assert payload_bytes([each.word for each in results["o"]], 8) == [(content, 0) for content in contents if content]
    assert [each.convert for each in results["o"]] == [
        command["expand"] for command in commands for _ in range(-(-command["size"] // 8))]
    assert [(each.slot, each.size) for each in results["read"]] == [
        (command["slot"], command["size"]) for command in commands if command["size"]]
    assert [each.slot for each in results["free"]] == [command["slot"] for command in commands]


@pytest.mark.parametrize("waiting", [0, 2, 9])
@STALLS
def test_departure(seed, stall, waiting):
    """Empty segments give no payload, and none is over before its header was taken, nor told before it was."""
    rng, results, dut = random.Random(seed), {}, Departure(8, segments=3, words=waiting)
    contents = contents_of(rng, 40)
    words = [word for content in contents for word in packed(content)]
    headers = [{"tag": k, "size": len(content)} for k, content in enumerate(contents)]

    async def watch_order(ctx):
        headers = left = sent = 0
        while sent < len(contents):
            _, _, header, word, ends = await ctx.tick().sample(
                dut.header.valid & dut.header.ready,
                dut.payload.valid & dut.payload.ready & dut.payload.payload.last, dut.sent)
            headers, left, sent = headers + header, left + word, sent + ends
            assert sent <= headers
            assert sum(map(bool, contents[:sent])) == left

    simulate(watched(dut, "header", "payload"), sender(dut.headers, headers, seed, stall),
             sender(dut.i, words, seed + 1, stall),
             packetizer(results, dut.header, dut.payload, list(map(len, contents)), seed + 2, stall), watch_order)
    assert [each.tag for each in results["header"]] == list(range(40))
    assert payload_bytes(results["payload"], 8) == [(content, 0) for content in contents if content]


@pytest.mark.parametrize("delay", range(12, 26))
def test_empty_segment_behind_words_that_wait(delay):
    """While the last word of the segment before is still in block RAM, and nothing is on offer, it is not over."""
    dut, told = Departure(8, segments=3, words=4), []
    words = packed(bytes(8 * 20))

    async def source(ctx):
        await send(ctx, dut.headers, [{"size": 160}, {"size": 0}])
        await send(ctx, dut.i, words[:19])
        ctx.set(dut.payload.ready, 1)
        await ctx.tick().repeat(delay)
        await send(ctx, dut.i, [words[19], EMPTY])

    async def watch(ctx):
        ctx.set(dut.header.ready, 1)
        left = 0
        while len(told) < 2:
            _, _, valid, ready, last, ends = await ctx.tick().sample(
                dut.payload.valid, dut.payload.ready, dut.payload.payload.last, dut.sent)
            left += valid & ready & last
            if ends:
                told.append(left)

    simulate(dut, source, watch)
    assert told == [1, 1]


@STALLS
def test_retirement(seed, stall):
    """In order, and never before all that a segment waits for has come."""
    rng, dut = random.Random(seed), Retirement(segments=4)
    names = ("to_memory", "to_stream", "send")
    segments = [{"move": rng.randrange(32), **{name: rng.randrange(2) for name in names}} for _ in range(60)]
    errors = [(rng.random() < 0.2, bool(each["to_memory"] and rng.random() < 0.2)) for each in segments]
    came = {name: [] for name in ("passed", *names)}

    async def strobe(ctx, name, port, salt):
        """One for each segment that is under way and wants it, later and later."""
        delay = random.Random(seed + salt)
        wanted = [k for k, each in enumerate(segments) if name == "passed" or each[name]]
        for k in wanted:
            while k >= len(accepted) or delay.random() < stall or (name != "passed" and k >= len(came["passed"]) + 3):
                await ctx.tick()
            if name == "passed":
                ctx.set(dut.passed_error, errors[k][0])
            ctx.set(port, 1)
            came[name].append(k)
            await ctx.tick()
            ctx.set(port, 0)

    accepted = []

    async def accept(ctx):
        for each in segments:
            ctx.set(dut.i.payload, each)
            ctx.set(dut.i.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(dut.i.ready)
            accepted.append(each)
            ctx.set(dut.i.valid, 0)

    async def check(ctx):
        for k, each in enumerate(segments):
            valid = False
            while not valid:
                ctx.set(dut.o.ready, rng.random() >= stall)
                _, _, valid, ready, retired = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
                valid &= ready
            assert (retired.move, retired.read_error, retired.write_error) == (each["move"], *errors[k])
            assert k in came["passed"] and all(k in came[name] for name in ("to_stream", "send") if each[name])

    written = [{"error": errors[k][1]} for k, each in enumerate(segments) if each["to_memory"]]
    strobes = (("passed", dut.passed, 1), ("to_stream", dut.streamed, 2), ("send", dut.sent, 3))

    def strober(name, port, salt):
        async def run(ctx):
            await strobe(ctx, name, port, salt)
        return run

    simulate(watched(dut, "o"), accept, check, sender(dut.written, written, seed + 4, stall),
             *(strober(*each) for each in strobes))


@pytest.mark.parametrize("make, message", [
    (lambda: Fork(8, 0), "n must be at least 1"), (lambda: Departure(8, segments=0), "segments must be at least 1"),
    (lambda: Departure(8, words=1), "words must be 0, or at least 2, not 1"),
    (lambda: Marker(8, 1, packets=0), "packets must be at least 1"),
    (lambda: Detour(8, packets=0), "packets must be at least 1"),
    (lambda: Unloader(8, packets=0), "packets must be at least 1"),
    (lambda: Retirement(segments=0), "segments must be at least 1"),
], ids=["Fork", "Departure", "Departure words", "Marker", "Detour", "Unloader", "Retirement"])
def test_parameters_of_parts(make, message):
    with pytest.raises(ValueError, match=message):
        make()
