# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The front with its frame buffer: verdicts and content of frames against plain Python."""

import random
from collections import Counter, deque

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from zeronic_frames import (
    BARE_PROFILE,
    DEFAULT,
    FRAME_MOST,
    LATER_TCP,
    UDP_PROFILE,
    judge,
    random_frame,
    tcp_frame,
    udp_frame,
)

from rackgate.verif.stimulus import send, simulate
from rackgate.verif.stream_rules import watch
from rackgate.zeronic.messages import ChecksumKind, Profile
from rackgate.zeronic.rx.framebuffer import FrameBuffer
from rackgate.zeronic.rx.front import Front

WIDTHS = (8, 16, 32)
DROPS = ("bad_frame", "bad_ip_checksum", "bad_checksum")
LATENCY = {8: 7, 16: 8, 32: 8}
TOLD_LATENCY = 5
_FLAGS = 47  # the last byte that a verdict on TCP is made of


@pytest.mark.parametrize("width,error", [(4, ValueError), (64, ValueError), ("8", TypeError)])
def test_parameters(width, error):
    with pytest.raises(error):
        Front(width)


class Bench:
    """A front and its buffer: sends frames, reads back each that has a verdict, and compares both."""

    def __init__(self, width, rng, *, words: int | None = 64, idle=0.0, stall=0.0, slow=0.0):
        self.width, self.rng, self.idle, self.stall, self.slow = width, rng, idle, stall, slow
        self.front, self.buffer, self.m = Front(width), FrameBuffer(width, words=words, tag=1), Module()
        self.m.submodules.front, self.m.submodules.buffer = self.front, self.buffer
        wiring.connect(self.m, self.front.write, self.buffer.write)
        wiring.connect(self.m, self.front.judged, self.buffer.judged)
        self.m.d.comb += self.front.first.eq(self.buffer.first)
        watch(self.m, self.front.verdicts, name="verdicts")
        watch(self.m, self.front.endings, name="endings")
        self.restart = Signal()
        # Cycles of words with a last field and of verdicts, of last words and of endings; cycles without ready.
        self.fields, self.told, self.ends, self.came, self.waits = [], [], [], [], 0
        self.tally = Counter()

    def run(self, frames, *, updates=(), begun=b""):
        """``frames``: content, or content and True if it is damaged. ``updates``: before which frame, profiles.

        ``begun`` is the begin of a frame in whose midst there is a reset, before all others.
        """
        frames = [(frame, False) if isinstance(frame, bytes) else frame for frame in frames]
        updates, profiles, wanted, judged = deque(updates), list(DEFAULT), deque(), deque()
        state = {"cycle": 0, "over": 0, "kept": 0}

        async def clock(ctx):
            """Count, and see what happens to each frame."""
            front, left = self.front, len(frames)
            names = [getattr(front, name) for name in DROPS]
            while left:
                _, _, received, size, *drops, judges, keep = await ctx.tick().sample(
                    front.received, front.received_bytes, *names, front.judged.valid, front.judged.payload.keep)
                state["cycle"] += 1
                assert received == judges and sum(drops) == (received and not keep)
                if received:
                    content, (drop, outcome) = wanted.popleft()
                    found = next((name for name, is_set in zip(DROPS, drops, strict=True) if is_set), None)
                    assert found == drop, content.hex()
                    assert size == (0 if found else len(content))
                    self.tally[found or ("split" if outcome["split"] else "whole")] += 1
                    if not found:
                        judged.append((content, outcome))
                    left -= 1
                else:
                    assert not size
            for _ in range(20):
                await ctx.tick()
            state["over"] = 1

        async def source(ctx):
            rng, port = self.rng, self.front.i
            if begun:
                await send(ctx, self.front.profile, [Profile(0, 0, 0, 0, 0)._asdict()])
                words = [int.from_bytes(begun[at:at + self.width], "little") for at in range(0, len(begun), self.width)]
                await send(ctx, port, [{"data": word, "count": self.width} for word in words])
                ctx.set(self.restart, 1)
                await ctx.tick()
                ctx.set(self.restart, 0)
            for number, (content, damaged) in enumerate(frames):
                while updates and updates[0][0] <= number:
                    _, profile = updates.popleft()
                    payload = profile._asdict()
                    ctx.set(self.front.profile.payload, payload)
                    ctx.set(self.front.profile.valid, 1)
                    ready = 0
                    while not ready:
                        _, _, ready = await ctx.tick().sample(self.front.profile.ready)
                    ctx.set(self.front.profile.valid, 0)
                    profiles[profile.profile] = profile
                parts = [content[at:at + self.width] for at in range(0, len(content), self.width)]
                for place, part in enumerate(parts):
                    while rng.random() < self.idle:
                        await ctx.tick()
                    # What is beyond the count must not matter.
                    filled = part + rng.randbytes(self.width - len(part))
                    last = part is parts[-1]
                    ctx.set(port.payload, {"data": int.from_bytes(filled, "little"), "count": len(part), "last": last,
                                           "error": damaged if last else 0})
                    ctx.set(port.valid, 1)
                    ready = 0
                    while not ready:
                        _, _, ready = await ctx.tick().sample(port.ready)
                        self.waits += not ready
                    ctx.set(port.valid, 0)
                    if place == min(_FLAGS // self.width, len(parts) - 1):
                        self.fields.append(state["cycle"])
                self.ends.append(state["cycle"])
                wanted.append((content, judge(content, damaged=damaged, profiles=profiles)))

        async def sink(ctx):
            """Take verdicts and endings, read the frames, give them back in order."""
            rng, verdicts, endings, buffer = self.rng, self.front.verdicts, self.front.endings, self.buffer
            told, ended_frames, reads, asks, part = deque(), deque(), deque(), deque(), b""
            while not state["over"] or reads or judged:
                takes_verdict, takes_ending = rng.random() >= self.stall, rng.random() >= self.stall
                ctx.set(verdicts.ready, takes_verdict)
                ctx.set(endings.ready, takes_ending)
                ctx.set(buffer.o.ready, rng.random() >= self.stall)
                ctx.set(buffer.read.valid, bool(asks))
                if asks:
                    word, length = asks[0]
                    ctx.set(buffer.read.payload, {"word": word, "offset": 0, "size": length})
                done = None
                _, _, restarts, tells, verdict, ended, ending, asked, comes, word, takes = await ctx.tick().sample(
                    self.restart, verdicts.valid, verdicts.payload, endings.valid, endings.payload, buffer.read.ready,
                    buffer.o.valid, buffer.o.payload, buffer.o.ready)
                ctx.set(buffer.release.valid, 0)
                if asks and asked:
                    asks.popleft()
                if comes and takes:
                    part += word.data.to_bytes(self.width, "little")[:word.count]
                    if word.last:
                        where, content = reads.popleft()
                        assert part == content
                        part, done = b"", (where, content)
                if done:
                    ctx.set(buffer.release.payload, {"word": done[0], "size": len(done[1])})
                    ctx.set(buffer.release.valid, 1)
                if restarts:  # of the frame that was cut off there may have been a verdict
                    told.clear()
                elif tells and takes_verdict:
                    self.told.append(state["cycle"])
                    told.append(verdict)
                if ended and takes_ending:
                    self.came.append(state["cycle"])
                    assert told or tells, "an ending before its verdict"
                    ended_frames.append(ending)
                while ended_frames and told:
                    ending, verdict = ended_frames.popleft(), told.popleft()
                    if not ending.keep:
                        continue
                    assert judged, "an ending of no frame"
                    content, outcome = judged.popleft()
                    assert ending.length == outcome.pop("length") == len(content)
                    for name, value in outcome.items():
                        found = getattr(verdict, name)
                        if name == "key":
                            found = {field: getattr(found, field) for field in value}
                        assert found == value, (name, content.hex())
                    asks.append((ending.word, len(content)))
                    reads.append((ending.word, content))
                if rng.random() < self.slow:
                    ctx.set(verdicts.ready, 0)
                    ctx.set(endings.ready, 0)
                    ctx.set(buffer.o.ready, 0)
                    ctx.set(buffer.read.valid, 0)
                    for _ in range(rng.randrange(40)):
                        await ctx.tick()
                        ctx.set(buffer.release.valid, 0)
            for _ in range(4):
                await ctx.tick()
                ctx.set(buffer.release.valid, 0)
            assert ctx.get(self.front.idle) and ctx.get(buffer.idle)

        simulate(ResetInserter(self.restart)(self.m), clock, sink, source, limit=400_000)
        assert not wanted and not judged and not updates
        return self.tally


@pytest.mark.thorough
@pytest.mark.parametrize("width,idle,stall,slow", [(8, 0, 0, 0), (8, 0.2, 0.3, 0.02), (16, 0, 0, 0.05),
                                                   (16, 0.1, 0.5, 0), (32, 0, 0, 0), (32, 0.3, 0.3, 0.05)])
def test_frames(width, idle, stall, slow, seed):
    """Frames of all kinds, good and bad, with profiles that change in between, at any pace."""
    rng = random.Random(seed)
    frames = [(random_frame(rng), rng.random() < 0.05) for _ in range(160)]
    updates = [(20, UDP_PROFILE), (30, BARE_PROFILE), (60, LATER_TCP),
               (60, Profile(0, 0, 0, 0, 0)), (90, UDP_PROFILE._replace(mask=0)), (130, UDP_PROFILE._replace(profile=0)),
               (150, UDP_PROFILE._replace(protocol=0))]
    bench = Bench(width, rng, words=64, idle=idle, stall=stall, slow=slow)
    tally = bench.run(frames, updates=updates)
    assert set(tally) == {*DROPS, "split", "whole"} and tally["split"] > 40, tally
    if slow or stall:
        assert bench.waits, "the buffer was never full"


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_lengths(width, seed):
    """All lengths up to 130: good frames, frames cut off, padded ones, and others; each is judged."""
    rng, frames = random.Random(seed), []
    for size in range(1, 131):
        frames += [(rng.randbytes(12) + b"\x08\x06" + bytes(130))[:size], tcp_frame(rng, rng.randbytes(100))[:size]]
        if size >= 54:
            frames += [tcp_frame(rng, rng.randbytes(size - 54)), tcp_frame(rng, b"").ljust(size, b"\x5A")]
    tally = Bench(width, rng).run(frames)
    assert tally == {"whole": 117, "bad_frame": 13 + 130, "split": 2 * 77}


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_every_bit(width, seed):
    """Each bit of a frame turned, one at a time: what is still split differs in MAC addresses and padding only."""
    rng = random.Random(seed)
    good = tcp_frame(rng, rng.randbytes(rng.randrange(5, 13)), flags="A")
    end = len(good)
    padded, frames = good + bytes(5), []
    for bit in range(8 * len(padded)):
        frame = bytearray(padded)
        frame[bit // 8] ^= 1 << bit % 8
        frames.append(bytes(frame))
    harmless = [frame for frame in frames if judge(frame)[1].get("split")]
    assert all(frame[12:end] == good[12:end] for frame in harmless) and len(harmless) == 8 * (12 + 5)
    tally = Bench(width, rng).run(frames)
    assert tally["split"] == len(harmless)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_long(width, seed):
    """The longest frame, longer ones, and a frame behind each."""
    rng, frames = random.Random(seed), []
    for size in (FRAME_MOST, FRAME_MOST + 1, FRAME_MOST + 2, FRAME_MOST + 3 + width):
        good = tcp_frame(rng, rng.randbytes(FRAME_MOST - 54))
        frames += [good.ljust(size, b"\0"), tcp_frame(rng, b"next")]
    tally = Bench(width, rng, words=None).run(frames)
    assert tally == {"split": 5, "bad_frame": 3}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("payload", [0, 1, 10, 200])
def test_pace(width, payload, seed):
    """Frames back to back: ready all the time, each ending as late as all, and the verdict before the payload's end."""
    rng = random.Random(seed)
    bench = Bench(width, rng, words=None)
    bench.run([tcp_frame(rng, rng.randbytes(payload)) for _ in range(40)])
    assert bench.waits <= 1, bench.waits  # the first cycle after reset
    assert {came - end for end, came in zip(bench.ends, bench.came, strict=True)} == {LATENCY[width]}
    assert {told - end for end, told in zip(bench.fields, bench.told, strict=True)} == {TOLD_LATENCY}


@pytest.mark.parametrize("width", WIDTHS)
def test_only_bad(width, seed):
    """Bad frames do not fill the buffer, however many come while a good one is held."""
    rng = random.Random(seed)
    good, bad = tcp_frame(rng, b"good"), (tcp_frame(rng, bytes(100)), True)
    tally = Bench(width, rng, words=32).run([*[bad] * 20, good, *[bad] * 20, good, bad])
    assert tally == {"split": 2, "bad_frame": 41}


@pytest.mark.parametrize("kind", list(ChecksumKind))
def test_checksum_kinds(kind, seed):
    """What must be there is missed, what was not sent is not."""
    rng, frames = random.Random(seed), []
    for checksum in (None, None, 0, 0xFFFF, rng.getrandbits(16)) * 6:
        fields = {} if checksum is None else {"chksum": checksum}
        frames.append(udp_frame(rng, rng.randbytes(rng.randrange(14, 40)), **fields))
    tally = Bench(16, rng).run(frames, updates=[(0, Profile(0, 17, kind, position=16, size=22))])
    right = {ChecksumKind.NONE: 30, ChecksumKind.TCP: 12, ChecksumKind.UDP: 18}[kind]
    assert tally == Counter(split=right, bad_checksum=30 - right)


@pytest.mark.parametrize("width", WIDTHS)
def test_zeros(width, seed):
    """A right checksum may be 0, or all ones in its place: the sum cannot tell them apart."""
    rng, frames = random.Random(seed), []
    for size in range(20):
        payload = rng.randbytes(2 * size)
        fields = {"sport": 1, "dport": 2, "seq": 3, "ack": 4, "flags": "A", "window": 5}
        state = rng.getstate()
        frame = tcp_frame(rng, payload + b"\0\0", **fields)
        rng.setstate(state)
        frame = tcp_frame(rng, payload + frame[50:52], **fields)
        assert frame[50:52] == b"\0\0"
        frames += [frame, frame[:50] + b"\xFF\xFF" + frame[52:], frame[:50] + b"\0\x01" + frame[52:]]
    assert Bench(width, rng).run(frames) == {"split": 40, "bad_checksum": 20}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [32, 96, 480])
def test_reset(width, size, seed):
    """A reset in the midst of a frame, and of its headers: what comes next is a frame's begin, and profiles are new."""
    rng = random.Random(seed)
    frames = [tcp_frame(rng, rng.randbytes(rng.randrange(80))) for _ in range(5)]
    tally = Bench(width, rng).run(frames, begun=tcp_frame(rng, rng.randbytes(500))[:size])
    assert tally == {"split": 5}
