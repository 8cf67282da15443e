# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The bridge's link over a UART: bytes on the pins, frames of bytes, and what noise does to them."""

import random

import pytest
from amaranth.hdl import Module

from rackgate.bridge.abi import MESSAGE_BYTES, MESSAGE_WORDS
from rackgate.bridge.framing import END, ESC, ESC_END, ESC_ESC, FrameDecoder, encode_frame
from rackgate.bridge.slip import FrameReceiver, FrameSender
from rackgate.bridge.uart import UartReceiver, UartTransmitter
from rackgate.bridge.uart_link import UartLink
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch


def watched(dut, name):
    m = Module()
    m.submodules.dut = dut
    watch(m, getattr(dut, name), name=name)
    return m


def line_of(raw, period, *, stop=1):
    """Levels and how long they last, in cycles."""
    for byte in raw:
        yield from ((bit, period) for bit in [0, *(byte >> k & 1 for k in range(8)), stop])


async def play(ctx, pin, levels):
    """Put levels on a pin; lengths may be fractions of a cycle."""
    due, now = 0.0, 0
    for level, length in levels:
        ctx.set(pin, level)
        due += length
        while now < round(due):
            await ctx.tick()
            now += 1
    ctx.set(pin, 1)


async def listen(ctx, pin, period, found):
    """Append the bytes on a pin, for ever; each must have its stop bit."""
    while True:
        while ctx.get(pin):
            await ctx.tick()
        bits = []
        for place in range(10):
            await ctx.tick().repeat(period if place else period // 2)
            bits.append(ctx.get(pin))
        assert (bits[0], bits[9]) == (0, 1), bits
        found.append(sum(bit << place for place, bit in enumerate(bits[1:9])))


def packets_of(words):
    """Bytes of whole messages, and those with an error as ``None``."""
    packets, raw = [], b""
    for word in words:
        raw += word.data.to_bytes(4, "little")[:word.count]
        if word.last:
            packets.append(None if word.error else raw)
            raw = b""
    assert not raw, "a message has no end"
    return packets


def words_of(message):
    places = range(0, len(message), 4)
    return [{"data": int.from_bytes(message[place:place + 4], "little"), "count": len(message[place:place + 4]),
             "last": place == places[-1]} for place in places]


def some_message(rng, most=40):
    return bytes(rng.choice([END, ESC, ESC_END, ESC_ESC, rng.randrange(256)]) for _ in range(rng.randrange(1, most)))


@pytest.mark.parametrize("divisor", [4, 5, 8, 33])
@pytest.mark.parametrize("skew", [-1, 0, 1])
def test_receiver(divisor, skew):
    """Every other baud rate that is promised, bytes one behind the other."""
    skew = 1 + skew * (0.02 if divisor < 16 else 0.04)
    dut, raw, found = UartReceiver(divisor), bytes(range(0, 256, 7)), []

    async def collect(ctx):
        async for _, _, byte, strobe, damaged in ctx.tick().sample(dut.byte, dut.strobe, dut.damaged):
            assert not damaged
            if strobe:
                found.append(byte)

    async def bench(ctx):
        await play(ctx, dut.rx, line_of(raw, divisor * skew))
        await ctx.tick().repeat(2 * divisor)

    simulate(dut, bench, models=[collect])
    assert bytes(found) == raw


def test_receiver_noise():
    """A spike is no byte; a byte without stop bit is damaged, a break once; then all is well."""
    dut, found = UartReceiver(16), []

    async def collect(ctx):
        async for _, _, byte, strobe, damaged in ctx.tick().sample(dut.byte, dut.strobe, dut.damaged):
            found.extend([byte] * strobe + ["damaged"] * damaged)

    async def bench(ctx):
        for levels in ([(0, 5), (1, 40)], line_of(b"a", 16), line_of(b"b", 16, stop=0), [(1, 32)], line_of(b"c", 16),
                       [(0, 1000), (1, 40)], line_of(b"d", 16), [(1, 20)]):
            await play(ctx, dut.rx, levels)

    simulate(dut, bench, models=[collect])
    assert found == [ord("a"), "damaged", ord("c"), "damaged", ord("d")]


@pytest.mark.parametrize("divisor", [4, 9])
def test_transmitter(divisor, seed):
    dut, raw, found = UartTransmitter(divisor), random.Random(seed).randbytes(30), []

    async def bench(ctx):
        assert ctx.get(dut.tx) == 1
        await send(ctx, dut.i, raw[:20])
        await send(ctx, dut.i, raw[20:], rng=random.Random(seed), idle=0.9)
        await ctx.tick().repeat(12 * divisor)

    async def collect(ctx):
        await listen(ctx, dut.tx, divisor, found)

    simulate(dut, bench, models=[collect])
    assert bytes(found) == raw


def test_transmitter_does_not_pause():
    """A byte needs ten bits, and a cycle to be taken."""
    dut = UartTransmitter(4)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        taken = 0
        for _ in range(41 * 5):
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken += ready
        assert taken == 5

    simulate(dut, bench)


def feed_frames(dut, events, words, *, stall=0.0, seed=0, spacing=2):
    """Give bytes, ``None`` for a damaged one; collect words; return how many frames were dropped."""
    rng, dropped = random.Random(seed), []

    async def give(ctx):
        for event in events:
            ctx.set(dut.byte, 0x55 if event is None else event)
            ctx.set(dut.damaged if event is None else dut.strobe, 1)
            _, _, drop = await ctx.tick().sample(dut.dropped)
            dropped.append(drop)
            ctx.set(dut.strobe, 0)
            ctx.set(dut.damaged, 0)
            if spacing:
                await ctx.tick().repeat(spacing)
        await ctx.tick().repeat(400 if stall else 8)

    async def collect(ctx):
        while True:
            words.extend(await receive(ctx, dut.o, 1, rng=rng, stall=stall))

    simulate(watched(dut, "o"), give, models=[collect])
    return sum(dropped)


def test_frames_in(seed):
    rng, words = random.Random(seed), []
    messages = [some_message(rng) for _ in range(40)]
    wire = b"".join(encode_frame(message) for message in messages)
    assert feed_frames(FrameReceiver(), wire, words, seed=seed) == 0
    assert packets_of(words) == messages


def test_random_bytes_in(seed):
    """Whatever comes, the hardware finds the messages that the host's decoder finds."""
    rng, words = random.Random(seed), []
    wire = [rng.choice([END, ESC, ESC_END, ESC_ESC, rng.randrange(256)]) for _ in range(1500)]
    reference = FrameDecoder(MESSAGE_BYTES)
    dropped = feed_frames(FrameReceiver(), [*wire, END], words, seed=seed)
    messages = reference.feed(bytes([*wire, END]))
    assert dropped == reference.damaged > 0
    assert [packet for packet in packets_of(words) if packet is not None] == messages


@pytest.mark.parametrize("size", [1, 4, 5, 39])
def test_damaged_byte(size):
    """A damaged byte at any place costs its frame, and no other."""
    words, message = [], bytes(range(size))
    good = list(encode_frame(message))
    for place in range(1, len(good)):
        found = []
        wire = good + good[:place] + [None] + good[place:] + good
        assert feed_frames(FrameReceiver(), wire, found) == 1
        assert [packet for packet in packets_of(found) if packet is not None] == [message] * 2
        words += found
        if place > 6:
            break


def test_longest_frame():
    for size, dropped in ((MESSAGE_BYTES, 0), (MESSAGE_BYTES + 1, 1), (3 * MESSAGE_BYTES, 1)):
        words, message = [], bytes(size)
        wire = encode_frame(message) + encode_frame(b"next")
        assert feed_frames(FrameReceiver(), wire, words, spacing=0) == dropped
        assert packets_of(words) == [None if dropped else message, b"next"]
        assert len(words) <= MESSAGE_WORDS + 1


@pytest.mark.parametrize("variant", range(4))
def test_frames_that_are_not_taken(variant, seed):
    """Words that are taken too late cost frames; those that come are whole, in their order, and the rest is counted."""
    rng, words = random.Random(seed + variant), []
    messages = [number.to_bytes(2, "little") * rng.randrange(2, 20) for number in range(60)]
    wire = b"".join(encode_frame(message) for message in messages)
    dropped = feed_frames(FrameReceiver(), wire, words, stall=0.95, seed=seed + variant)
    found = [packet for packet in packets_of(words) if packet is not None]
    rest = iter(messages)
    assert all(packet in rest for packet in found)
    assert 0 < dropped == len(messages) - len(found) < len(messages)


@pytest.mark.parametrize("stall", [0, 0.5])
def test_frames_out(stall, seed):
    rng, dut = random.Random(seed), FrameSender()
    messages = [some_message(rng) for _ in range(30)]
    wire = b"".join(encode_frame(message) for message in messages)
    found = []

    async def give(ctx):
        await send(ctx, dut.i, [word for message in messages for word in words_of(message)], rng=rng, idle=stall)

    async def take(ctx):
        found.extend(await receive(ctx, dut.o, len(wire), rng=random.Random(seed), stall=stall))

    simulate(watched(dut, "o"), give, take)
    assert bytes(found) == wire


def test_link(seed):
    """Both ways at once, from pin to pin; noise before, a break in the middle."""
    rng, divisor = random.Random(seed), 4
    dut = UartLink(divisor)
    messages = [[some_message(rng, 20) for _ in range(8)] for _ in range(2)]
    words, found = [], []

    async def host(ctx):
        await play(ctx, dut.rx, line_of(b"noise", divisor))
        for number, message in enumerate(messages[0]):
            await play(ctx, dut.rx, line_of(encode_frame(message), divisor))
            if number == 3:
                await play(ctx, dut.rx, line_of(encode_frame(b"lost"), divisor, stop=0))
                await play(ctx, dut.rx, [(0, 300), (1, 2 * divisor)])
        await ctx.tick().repeat(3 * divisor)

    async def device(ctx):
        await send(ctx, dut.i, [word for message in messages[1] for word in words_of(message)])

    async def take(ctx):
        while True:
            words.extend(await receive(ctx, dut.o, 1, rng=rng, stall=0.5))

    async def collect(ctx):
        await listen(ctx, dut.tx, divisor, found)

    async def end(ctx):
        await ctx.tick().repeat(3)
        wire = sum(len(encode_frame(message)) for message in messages[1])
        while len(found) < wire:
            await ctx.tick()
        assert ctx.get(dut.errors) > 0

    simulate(watched(dut, "o"), host, device, end, models=[take, collect])
    assert packets_of(words) == [b"noise", *messages[0]]
    assert FrameDecoder(MESSAGE_BYTES).feed(bytes(found)) == messages[1]


@pytest.mark.parametrize("make,rule", [
    (lambda: UartReceiver(3), "divisor must be at least 4 cycles, not 3"),
    (lambda: UartTransmitter(3), "divisor must be at least 4 cycles, not 3"),
    (lambda: UartLink(3), "divisor must be at least 4 cycles, not 3"),
    (lambda: UartLink(4, words=367), "words must be at least a message, 368, not 367"),
])
def test_bad_parameters(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()
