# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The MAC's byte sides: each against the model of a PHY, whose FCS is zlib's."""

import random
import zlib
from collections import Counter

import pytest
from ethernet_bench import Gathered, drive_receive, drive_transmit, words

from rackgate.checksum.bytecrc32 import RESIDUE, ByteCRC32
from rackgate.mac.receive import RECEIVE_ERRORS, ReceiveMac
from rackgate.mac.transmit import TransmitMac
from rackgate.verif.stimulus import send, simulate
from rackgate_sim.phy import ByteTime, Faults, Phy, on_the_wire


def test_crc(seed):
    rng, dut = random.Random(seed), ByteCRC32()

    async def testbench(ctx):
        for size in (0, 1, 2, 5, 64):
            content = rng.randbytes(size)
            for extra, expected in ((b"", zlib.crc32(content)), (zlib.crc32(content).to_bytes(4, "little"), RESIDUE)):
                ctx.set(dut.restart, 1)
                ctx.set(dut.valid, rng.random() < 0.5)
                await ctx.tick()
                ctx.set(dut.restart, 0)
                for byte in content + extra:
                    ctx.set(dut.valid, 0)
                    await ctx.tick().repeat(rng.randrange(1, 3))
                    ctx.set(dut.data, byte)
                    ctx.set(dut.valid, 1)
                    await ctx.tick()
                ctx.set(dut.valid, 0)
                assert ctx.get(dut.value) == expected

    simulate(dut, testbench)


class Receiver:
    """A ReceiveMac, with what comes out of it and what it tells."""

    def __init__(self, phy, *, longest=1518, every=1):
        self.dut, self.phy, self.every = ReceiveMac(longest=longest), phy, every
        self.out, self.errors = Gathered(1), Counter()

    def run(self, *, settle=30):
        async def testbench(ctx):
            while not self.phy.is_idle:
                await ctx.tick()
            await ctx.tick().repeat(settle)

        async def pins(ctx):
            await drive_receive(ctx, self.dut, self.phy, every=self.every, domain="sync")

        async def watch(ctx):
            while True:
                _, _, valid, word, errors = await ctx.tick().sample(self.dut.o.valid, self.dut.o.payload,
                                                                    self.dut.errors)
                if valid:
                    self.out.put(word)
                self.errors.update(name for name in RECEIVE_ERRORS if errors[name])

        simulate(self.dut, testbench, models=[pins, watch], limit=1_000_000)
        assert self.out.is_between, "the last frame has no end"
        return self.out.frames


@pytest.mark.parametrize("every,gap", [(1, 12), (1, 1), (3, 12), (10, 1)])
def test_receive_good_frames(seed, every, gap):
    rng = random.Random(seed)
    phy = Phy(rng=rng, faults=Faults(preamble=0.5), gap=gap)
    frames = [rng.randbytes(size) for size in (60, 61, 63, 64, rng.randrange(65, 200))]
    for frame in frames:
        phy.send(frame)
    receiver = Receiver(phy, every=every)
    assert receiver.run() == [(frame, False) for frame in frames]
    assert not receiver.errors


def test_receive_bad_frames(seed):
    rng = random.Random(seed)
    phy = Phy(rng=rng, faults=Faults(flip=0.3, cut=0.3, flag=0.3, noise=0.3, preamble=0.3))
    for _ in range(40):
        phy.send(rng.randbytes(rng.randrange(60, 130)))
    receiver = Receiver(phy)
    receiver.run()
    good = [frame for frame, is_damaged in receiver.out.frames if not is_damaged]
    # A frame may lose its begin to a flipped delimiter; the PHY flips none, so each spoiled one is told of, once.
    assert len(good) == 40 - len(phy.spoiled) and not set(good) & set(phy.spoiled)
    assert 0 < len(phy.spoiled) == sum(receiver.errors.values()) - receiver.errors["false_starts"]
    assert all(receiver.errors[name] for name in ("phy_errors", "runts", "fcs_errors", "false_starts"))


@pytest.mark.parametrize("content,reason,size", [
    (b"", "runts", 0), (b"abcd", "runts", 0), (b"abcde", "runts", 1), (b"x" * 63, "runts", 59),
    (b"x" * 64, "fcs_errors", 60), (b"x" * 104, "fcs_errors", 100), (b"x" * 105, "long", 100),
    (b"x" * 900, "long", 100),
])
def test_receive_one_bad_frame(content, reason, size):
    phy = Phy()
    preamble = on_the_wire(b"")[:8]
    phy.send_bytes(ByteTime(byte, True) for byte in preamble + content)
    phy.send_bytes([ByteTime()])
    good = bytes(range(100))  # the longest, right behind it
    phy.send(good)
    receiver = Receiver(phy, longest=100)
    receiver.run()
    assert receiver.out.frames == [*([(content[:size], True)] if size else []), (good, False)]
    assert receiver.errors == {reason: 1}


@pytest.mark.parametrize("start", [b"\x00", b"\x55\x55\x54", b"\x55" * 7 + b"\xD4", b"\x55" * 20, b"\x5D"])
def test_receive_false_start(start, seed):
    rng, phy = random.Random(seed), Phy()
    phy.send_bytes(ByteTime(byte, True) for byte in start)
    if start != b"\x55" * 20:  # this one ends before its delimiter
        phy.send_bytes(ByteTime(byte, True) for byte in on_the_wire(rng.randbytes(60)))
    phy.send_bytes([ByteTime()])
    good = rng.randbytes(60)
    phy.send(good)
    receiver = Receiver(phy)
    assert receiver.run() == [(good, False)] and receiver.errors == {"false_starts": 1}


def test_receive_garbage_then_a_good_frame(seed):
    rng, phy = random.Random(seed), Phy()
    for _ in range(60):
        valid = rng.random() < 0.6
        phy.send_bytes(ByteTime(rng.choice((0x55, 0xD5, rng.getrandbits(8))), valid, rng.random() < 0.1)
                       for _ in range(rng.randrange(1, 40)))
    phy.send_bytes([ByteTime()])
    good = rng.randbytes(77)
    phy.send(good)
    frames = Receiver(phy).run()
    assert frames[-1] == (good, False) and all(is_damaged for _, is_damaged in frames[:-1])


def test_receive_ignores_errors_between_frames():
    phy = Phy()
    phy.send_bytes([ByteTime(0x0E, False, True)] * 5)
    phy.send(bytes(60))
    receiver = Receiver(phy)
    assert receiver.run() == [(bytes(60), False)] and not receiver.errors


@pytest.mark.parametrize("longest", [59, 9601])
def test_receive_longest_is_checked(longest):
    with pytest.raises(ValueError, match=f"longest must be 60 to 9600 bytes, not {longest}"):
        ReceiveMac(longest=longest)


def transmit(items, *, every=1, idle=0.0, rng=None, settle=60):
    """Send words through a TransmitMac to a PHY; return the PHY, and how often it told of an underrun."""
    dut, phy, underruns = TransmitMac(), Phy(), 0

    async def testbench(ctx):
        await send(ctx, dut.i, items, rng=rng, idle=idle)
        await ctx.tick().repeat(settle * every)
        while not phy.is_idle:
            await ctx.tick()

    async def pins(ctx):
        await drive_transmit(ctx, dut, phy, every=every, domain="sync")

    async def watch(ctx):
        nonlocal underruns
        while True:
            _, _, underrun = await ctx.tick().sample(dut.underrun)
            underruns += underrun

    simulate(dut, testbench, models=[pins, watch], limit=1_000_000)
    return phy, underruns


@pytest.mark.parametrize("every", [1, 2, 10])
def test_transmit(every, seed):
    rng = random.Random(seed)
    frames = [rng.randbytes(size) for size in (1, 14, 59, 60, 61, rng.randrange(62, 200))]
    phy, underruns = transmit([word for frame in frames for word in words(frame, 1)], every=every)
    assert list(phy.taken) == [frame.ljust(60, b"\0") for frame in frames]
    assert not underruns and not phy.broken


def test_transmit_at_line_rate(seed):
    rng, dut, phy = random.Random(seed), TransmitMac(), Phy()
    frames, busy = [rng.randbytes(size) for size in (60, 60, 100, 30)], []

    async def testbench(ctx):
        await send(ctx, dut.i, [word for frame in frames for word in words(frame, 1)])
        await ctx.tick().repeat(60)

    async def pins(ctx):
        ctx.set(dut.tx_strobe, 1)
        while True:
            _, _, data, enable, error = await ctx.tick().sample(dut.tx_data, dut.tx_enable, dut.tx_error)
            busy.append(enable)
            phy.from_mac(ByteTime(data, bool(enable), bool(error)))

    simulate(dut, testbench, models=[pins])
    assert [frame[:len(own)] for frame, own in zip(phy.taken, frames, strict=True)] == frames
    sizes = [8 + max(len(frame), 60) + 4 for frame in frames]
    first = busy.index(1)
    assert busy[first:].count(1) == sum(sizes)
    end = len(busy) - busy[::-1].index(1)
    assert end - first == sum(sizes) + 12 * (len(frames) - 1), "gaps are not of 12 byte times"


def test_transmit_underrun_and_damage(seed):
    rng = random.Random(seed)
    frames = [rng.randbytes(size) for size in (80, 70, 64, 20)]
    dut, phy = TransmitMac(), Phy()
    told = []

    async def testbench(ctx):
        first = words(frames[0], 1)
        await send(ctx, dut.i, first[:40])
        await ctx.tick().repeat(30)  # an underrun
        await send(ctx, dut.i, first[40:])
        await send(ctx, dut.i, words(frames[1], 1))
        await send(ctx, dut.i, words(frames[2], 1, is_damaged=True))
        await send(ctx, dut.i, words(frames[3], 1))
        await ctx.tick().repeat(90)

    async def pins(ctx):
        await drive_transmit(ctx, dut, phy, domain="sync")

    async def watch(ctx):
        while True:
            told.append((await ctx.tick().sample(dut.underrun))[2])

    simulate(dut, testbench, models=[pins, watch])
    assert list(phy.taken) == [frames[1], frames[3].ljust(60, b"\0")]
    assert phy.broken == 2 and sum(told) == 1


@pytest.mark.parametrize("name,value,message", [
    ("GAP", 11, "a gap of 11 byte times"), ("LEAST_SIZE", 59, "what is no frame"), ("START", 0x5D, "what is no frame"),
    ("PREAMBLE_SIZE", 7, "what is no frame"), ("FCS_SIZE", 3, "what is no frame"),
])
def test_a_wrong_transmitter_is_found(name, value, message, monkeypatch, seed):
    """The bench can fail: the model of the PHY goes by numbers of its own."""
    monkeypatch.setattr(f"rackgate.mac.transmit.{name}", value)
    with pytest.raises(AssertionError, match=message):
        transmit([word for _ in range(2) for word in words(bytes(range(50)), 1)])


@pytest.mark.parametrize("name,value", [("RESIDUE", 0x2144DF1D), ("FCS_SIZE", 3), ("LEAST_SIZE", 61)])
def test_a_wrong_receiver_is_found(name, value, monkeypatch):
    monkeypatch.setattr(f"rackgate.mac.receive.{name}", value)
    phy = Phy()
    phy.send(bytes(range(60)))
    assert Receiver(phy).run() != [(bytes(range(60)), False)]
