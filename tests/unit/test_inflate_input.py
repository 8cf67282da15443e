# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The input buffer against a plain integer."""

import random

import pytest
from amaranth.sim import Simulator

from rackgate.inflate.input import InputBuffer


class Bench:
    """An InputBuffer, words for it (``None`` is one that could not be read), and what it should show."""

    def __init__(self, words, end, *, gap=0.0, seed=0):
        self.dut = InputBuffer()
        self.words, self.end, self.gap = words, end, gap
        self.random = random.Random(seed)
        failed = words.index(None) if None in words else len(words)
        self.stop = min(end, 64 * failed)
        self.value = sum((word or 0) << 64 * k for k, word in enumerate(words)) & ((1 << self.stop) - 1)
        self.position = 0

    def run(self, testbench):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)
        simulator.add_testbench(testbench)
        simulator.add_testbench(self._feed, background=True)
        simulator.run()

    async def _feed(self, ctx):
        self.sent, dut = 0, self.dut
        while True:
            give = self.sent < len(self.words) and self.random.random() >= self.gap
            if give:
                word = self.words[self.sent]
                last = self.sent == len(self.words) - 1
                ctx.set(dut.i.payload, {"data": 0x5555 if word is None else word, "last": last, "error": word is None})
            ctx.set(dut.i.valid, give)
            while True:
                ready = (await ctx.tick().sample(dut.i.ready))[-1]
                if ready or not give:
                    self.sent += give
                    break

    async def restart(self, ctx, position, **others):
        for name, value in {"restart": 1, "restart_position": position, "end": self.end, **others}.items():
            ctx.set(getattr(self.dut, name), value)
        await ctx.tick()
        for name in ("restart", *others):
            ctx.set(getattr(self.dut, name), 0)
        self.position = position

    def check(self, ctx):
        """Compare what the window shows; returns (level, exhausted)."""
        dut = self.dut
        level, exhausted = ctx.get(dut.level), ctx.get(dut.exhausted)
        assert ctx.get(dut.position) == self.position
        assert level <= min(32, self.stop - self.position)
        if level or exhausted:
            assert ctx.get(dut.window) == self.value >> self.position & 0xFFFFFFFF
        if exhausted:
            assert level == self.stop - self.position
            assert ctx.get(dut.error) == (self.stop < self.end)
        return level, exhausted

    async def take(self, ctx, count):
        ctx.set(self.dut.take, count != 0)
        ctx.set(self.dut.consume, count or self.random.randrange(64) * ctx.get(self.dut.primed))
        await ctx.tick()
        ctx.set(self.dut.take, 0)
        ctx.set(self.dut.consume, 0)
        self.position += count

    async def wait_level(self, ctx, level, limit=200):
        for _ in range(limit):
            if ctx.get(self.dut.level) >= level or ctx.get(self.dut.exhausted):
                return
            await ctx.tick()
        raise AssertionError(f"no {level} bits in {limit} cycles at {self.position}")


def words_for(bits, generator, extra=0):
    return [generator.getrandbits(64) for _ in range(-(-bits // 64) + extra)]


@pytest.mark.parametrize("seed", range(6))
def test_random_consumption_and_restarts(seed):
    print("seed", seed)
    generator = random.Random(seed)
    end = generator.randrange(2000, 6000)
    bench = Bench(words_for(end, generator, extra=seed % 2 * 12), end, gap=(0, 0.5, 0.9)[seed % 3], seed=seed)

    async def testbench(ctx):
        start = furthest = generator.randrange(64)
        await bench.restart(ctx, start)
        quiet = 0
        while True:
            furthest = max(furthest, bench.position)
            level, exhausted = bench.check(ctx)
            if exhausted and level == 0:
                assert bench.position == end
                break
            if generator.random() < 0.03:
                low = min(bench.position, max(start, furthest - 384))
                high = min(end, bench.position + generator.choice((40, 400, 1500)))
                await bench.restart(ctx, generator.choice((low, generator.randint(low, bench.position),
                                                           generator.randint(bench.position, high))))
                continue
            count = generator.randint(0, level) if generator.random() < 0.8 else level
            quiet = 0 if level else quiet + 1
            assert quiet < 300
            await bench.take(ctx, count)

    bench.run(testbench)


@pytest.mark.parametrize(("step", "every"), [(16, 1), (13, 1), (32, 2), (31, 2), (17, 2), (1, 1)])
def test_sustained_rate(step, every):
    """From the first full window to 96 bits before the end, ``step`` bits can be taken every ``every`` cycles."""
    generator = random.Random(step)
    end = 64 * 60
    bench = Bench(words_for(end, generator), end)

    async def testbench(ctx):
        await bench.restart(ctx, 0)
        await bench.wait_level(ctx, 32)
        cycles = 0
        while bench.position + 96 + step < end:
            level, _ = bench.check(ctx)
            assert level >= step, f"{level} bits after {cycles} cycles"
            await bench.take(ctx, step)
            for _ in range(every - 1):
                await ctx.tick()
            cycles += 1

    bench.run(testbench)


def test_restart_latency():
    bench = Bench(words_for(640, random.Random(1)), 640)

    async def testbench(ctx):
        await bench.restart(ctx, 0)
        await bench.wait_level(ctx, 32)
        for position in (0, 64, 256, 8, 31):
            await bench.restart(ctx, position)
            for _ in range(5):
                assert ctx.get(bench.dut.level) == 0
                await ctx.tick()
            assert bench.check(ctx)[0] == 32

    bench.run(testbench)


@pytest.mark.parametrize("end", [0, 5, 31, 32, 33, 63, 64, 65, 100, 128])
def test_every_start_before_the_end(end):
    """Whatever the start, exactly the bits before ``end`` are shown, then the source is exhausted."""
    bench = Bench(words_for(end, random.Random(end)), end)

    async def testbench(ctx):
        for start in range(end + 1):
            await bench.restart(ctx, start)
            seen = 0
            while bench.position < end:
                await bench.wait_level(ctx, 1)
                level, _ = bench.check(ctx)
                await bench.take(ctx, min(level, 7))
                seen += 1
            await bench.wait_level(ctx, 1)
            assert bench.check(ctx) == (0, 1)
            for _ in range(4):
                await ctx.tick()
                assert bench.check(ctx) == (0, 1)

    bench.run(testbench)


def test_part_of_the_ring_stays_behind():
    bench = Bench(words_for(64 * 40, random.Random(2)), 64 * 40)

    async def testbench(ctx):
        await bench.restart(ctx, 64 * 20)
        await ctx.tick().repeat(60)
        loaded = (bench.position + 32 + 64 + 32) // 64
        assert bench.sent == loaded + 7
        await bench.restart(ctx, 64 * 20 - 384)
        await bench.wait_level(ctx, 32)
        assert bench.check(ctx) == (32, 0)

    bench.run(testbench)


def test_not_exhausted_while_words_are_to_come():
    words = words_for(256, random.Random(3))
    bench = Bench(words[:2], 256)
    bench.stop = 128

    async def testbench(ctx):
        await bench.restart(ctx, 40)
        await bench.wait_level(ctx, 32)
        while ctx.get(bench.dut.level):
            await bench.take(ctx, bench.check(ctx)[0])
        assert bench.position >= 96
        for _ in range(20):
            assert ctx.get(bench.dut.level) == 0
            assert ctx.get(bench.dut.exhausted) == 0
            await ctx.tick()
        await bench.restart(ctx, 256)
        await ctx.tick().repeat(5)
        assert ctx.get(bench.dut.exhausted) == 1

    bench.run(testbench)


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_failed_word_ends_the_source_with_error(bad):
    generator = random.Random(bad)
    words = words_for(400, generator)
    words[bad] = None
    bench = Bench(words, 400)

    async def testbench(ctx):
        await bench.restart(ctx, 0)
        for _ in range(60):
            level, exhausted = bench.check(ctx)
            if level:
                assert ctx.get(bench.dut.error) == exhausted
            await bench.take(ctx, min(level, 11))
        assert bench.check(ctx) == (0, 1)
        assert bench.position == 64 * bad
        assert ctx.get(bench.dut.error) == 1
        await bench.restart(ctx, max(0, 64 * bad - 70))
        for _ in range(20):
            level, _ = bench.check(ctx)
            assert ctx.get(bench.dut.error) == 1
            await bench.take(ctx, min(level, 11))
        assert bench.check(ctx) == (0, 1)
        ctx.set(bench.dut.flush, 1)
        await ctx.tick()
        ctx.set(bench.dut.flush, 0)
        assert ctx.get(bench.dut.error) == 0

    bench.run(testbench)


@pytest.mark.parametrize("start", [1, 8, 31, 32, 33, 63])
def test_nothing_is_shown_of_a_failed_first_word(start):
    bench = Bench([None, 1, 2], 192)

    async def testbench(ctx):
        await bench.restart(ctx, start)
        bench.stop = start
        for _ in range(30):
            bench.check(ctx)
            await ctx.tick()
        assert ctx.get(bench.dut.level) == 0
        assert (ctx.get(bench.dut.exhausted), ctx.get(bench.dut.error)) == (1, 1)

    bench.run(testbench)


@pytest.mark.parametrize("end", [0, 8, 31, 32, 40, 56])
def test_an_empty_source_is_exhausted_without_a_word(end):
    bench = Bench([], end)
    bench.stop = end

    async def testbench(ctx):
        await bench.restart(ctx, end)
        await bench.wait_level(ctx, 1, limit=10)
        for _ in range(10):
            assert bench.check(ctx) == (0, 1)
            await ctx.tick()

    bench.run(testbench)


def test_unneeded_failed_word_is_no_error():
    words = words_for(256, random.Random(4))
    bench = Bench([*words[:2], None], 128)

    async def testbench(ctx):
        await bench.restart(ctx, 3)
        while not bench.check(ctx)[1] or bench.position < 128:
            await bench.take(ctx, min(32, ctx.get(bench.dut.level)))
        assert ctx.get(bench.dut.error) == 0

    bench.run(testbench)


def test_flush_empties_a_reader_and_starts_again():
    generator = random.Random(5)
    new = words_for(500, generator)
    bench = Bench(words_for(64 * 40, generator), 64 * 40)
    dut = bench.dut

    async def testbench(ctx):
        await bench.restart(ctx, 0)
        await bench.wait_level(ctx, 32)
        ctx.set(dut.flush, 1)
        await ctx.tick().repeat(41)
        ctx.set(dut.flush, 0)
        assert (ctx.get(dut.i.valid), ctx.get(dut.level), ctx.get(dut.position)) == (0, 0, 0)
        bench.words += new
        bench.end = bench.stop = 500
        bench.value = sum(word << 64 * k for k, word in enumerate(new)) & ((1 << 500) - 1)
        await bench.restart(ctx, 13)
        while bench.position < 500:
            await bench.wait_level(ctx, 1)
            level, _ = bench.check(ctx)
            await bench.take(ctx, level)

    bench.run(testbench)


def test_restart_with_flush():
    generator = random.Random(6)
    bench = Bench(words_for(300, generator), 300)

    async def testbench(ctx):
        await bench.restart(ctx, 0)
        await bench.wait_level(ctx, 32)
        await ctx.tick().repeat(10)
        again = words_for(200, generator)
        bench.end = bench.stop = 200
        bench.value = sum(word << 64 * k for k, word in enumerate(again)) & ((1 << 200) - 1)
        await bench.restart(ctx, 77, flush=1)
        bench.words += again
        while bench.position < 200:
            await bench.wait_level(ctx, 1)
            level, _ = bench.check(ctx)
            await bench.take(ctx, level)

    bench.run(testbench)


def refuse(action, message):
    """``action(ctx, bench)`` must trip the assertion ``message``."""
    bench = Bench(words_for(64 * 40, random.Random(7)), 64 * 40)

    async def testbench(ctx):
        await bench.restart(ctx, 0)
        await bench.wait_level(ctx, 32)
        await action(ctx, bench)
        await ctx.tick()

    with pytest.raises(AssertionError, match=message):
        bench.run(testbench)


def test_assertions():
    async def too_much(ctx, bench):
        await bench.take(ctx, 33)

    async def behind_end(ctx, bench):
        await bench.restart(ctx, 64 * 40 + 1)

    async def gone(ctx, bench):
        await bench.restart(ctx, 64 * 30)
        await bench.wait_level(ctx, 32)
        await bench.restart(ctx, 64 * 12)

    refuse(too_much, "more bits consumed")
    refuse(behind_end, "behind the end")
    refuse(gone, "left the ring")


@pytest.mark.parametrize("depth", [8, 15, 24])
def test_depth(depth):
    with pytest.raises(ValueError, match=f"depth must be a power of two of at least 16, not {depth}"):
        InputBuffer(depth=depth)


def test_depth_type():
    with pytest.raises(TypeError):
        InputBuffer(depth="16")
