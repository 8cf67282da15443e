# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Output stage: words reach the writer unchanged and in order, sums are zlib's."""

import random
import zlib
from functools import partial

import pytest

from rackgate.inflate.checks import OutputChecks
from rackgate.inflate.contexts import ContextStore
from rackgate.inflate.entry import Summary
from rackgate.inflate.output import OutputStage
from rackgate.verif.stimulus import receive, send, simulate


def _word(context, data=b"", first=0, *, end=0):
    return {"data": int.from_bytes(bytes(first) + data, "little"), "first": first, "count": len(data),
            "context": context, "start": 0, "end": end}


def _start(context, *, new_job=1, check=1):
    return {"data": new_job | check << 2, "first": 0, "count": 0, "context": context, "start": 1, "end": 0}


def _segment(context, data, first):
    """Words of ``data`` from byte ``first`` of a word on, the last one with ``end``."""
    words = []
    while first + len(data) >= 8:
        words.append(_word(context, data[:8 - first], first))
        data, first = data[8 - first:], 0
    return [*words, _word(context, data, first, end=1)]


class Bench:
    """An output stage, what goes in and what must come out."""

    def __init__(self, contexts=2, idle=0.0, seed=0):
        print(f"seed {seed}")
        self.contexts, self.idle, self.random = contexts, idle, random.Random(seed)
        self.words: list[dict] = []
        self.summaries: list[tuple] = []
        self.cycles = 0

    def run(self):
        dut = OutputStage(contexts=self.contexts)
        wanted = [word for word in self.words if word["data"] & 1 or not word["start"]]
        pieces, summaries, cycles = [], [], 0
        rngs = [random.Random(self.random.random()) for _ in range(3)]

        async def count(ctx):
            nonlocal cycles
            async for _ in ctx.tick():
                cycles += 1

        async def put(ctx):
            await send(ctx, dut.i, self.words, rng=rngs[0], idle=self.idle)

        async def take(ctx):
            pieces.extend(await receive(ctx, dut.o, len(wanted), rng=rngs[1], stall=self.idle))
            self.cycles = cycles
            await ctx.tick().repeat(8)
            assert not ctx.get(dut.o.valid), "more pieces than words"

        async def take_summaries(ctx):
            summaries.extend(await receive(ctx, dut.o_summary, len(self.summaries), rng=rngs[2], stall=self.idle))
            await ctx.tick().repeat(60)
            assert not ctx.get(dut.o_summary.valid), "more summaries than ends"

        simulate(dut, put, take, take_summaries, models=[count], limit=50_000)
        for piece, word in zip(pieces, wanted, strict=True):
            assert (piece.begin, piece.flush, piece.context) == (word["start"], word["end"], word["context"])
            assert (piece.count, piece.first) == (word["count"], word["first"])
            assert piece.data == word["data"]
        found = [(item.context, item.summary.crc32, item.summary.adler32, item.summary.total) for item in summaries]
        assert found == self.summaries


@pytest.mark.thorough
@pytest.mark.parametrize("idle", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_segments_of_contexts_in_turn(seed, idle):
    contexts = 1 + seed
    bench = Bench(contexts, idle, seed)
    rng = bench.random
    sums = [None] * contexts
    for _ in range(60):
        context = rng.randrange(contexts)
        check = sums[context] is None or rng.random() < 0.4
        bench.words.append(_start(context, new_job=rng.randrange(2), check=check))
        if check:
            sums[context] = (0, 1, 0)
        data = rng.randbytes(rng.choice([0, 1, rng.randrange(20), rng.randrange(300)]))
        bench.words += _segment(context, data, rng.choice([0, rng.randrange(8)]))
        crc32, adler32, total = sums[context]
        sums[context] = (zlib.crc32(data, crc32), zlib.adler32(data, adler32), total + len(data))
        bench.summaries.append((context, *sums[context]))
    bench.run()


@pytest.mark.thorough
@pytest.mark.parametrize(("pages", "lost"), [(2, 0), (8, 73)])
def test_eight_bytes_a_cycle(pages, lost):
    """Pages of two contexts in turn: the queue hides what an end costs the checksums, but not end after end."""
    bench = Bench()
    for context in (0, 1) * (pages // 2):
        data = bench.random.randbytes(4096)
        bench.words += [_start(context), *_segment(context, data, 0)]
        bench.summaries.append((context, zlib.crc32(data), zlib.adler32(data), len(data)))
    bench.run()
    assert bench.cycles <= len(bench.words) + 3 + lost


def test_total_beyond_32_bits():
    """Carries cross the words of the sum; the store keeps all of it."""
    store = ContextStore(Summary.as_shape(), contexts=2)

    async def exchange(ctx):
        ctx.set(store.i, {"crc32": 1, "adler32": 2, "total": 1 << 63 | 5})
        ctx.set(store.new, 1)
        ctx.set(store.swap, 1)
        assert ctx.get(store.o.total) == 0
        await ctx.tick()
        ctx.set(store.swap, 0)
        assert ctx.get(store.o.total) == 0, "what was stored for context 0 is not context 1's"
        ctx.set(store.new, 0)
        assert ctx.get(store.o.total) == 1 << 63 | 5

    simulate(store, exchange)


@pytest.mark.parametrize("block", [OutputStage, OutputChecks, partial(ContextStore, Summary)])
def test_parameters(block):
    with pytest.raises(ValueError, match="^contexts must be 1 to 8, not 0$"):
        block(contexts=0)
