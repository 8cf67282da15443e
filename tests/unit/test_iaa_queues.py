# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Storage of the work queues, and the places that queues get in it."""

import random

import pytest

from rackgate.iaa.queues import Queues
from rackgate.iaa.regions import Regions
from rackgate.verif.stimulus import simulate


def test_random_traffic(seed):
    """Three queues of sizes 1, 2 and 5 against lists; words are staged in any order, and again."""
    rng = random.Random(seed)
    places = [(6, 6), (0, 1), (7, 11)]
    dut = Queues(3, entries=12)
    model, staged = [[], [], []], [{}, {}, {}]

    async def testbench(ctx):
        for queue, (first, last) in enumerate(places):
            ctx.set(dut.first[queue], first)
            ctx.set(dut.last[queue], last)
            ctx.set(dut.threshold[queue], 2)
        ctx.set(dut.clear, 0b111)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        expected = None
        for _ in range(1500):
            sizes = [last - first + 1 for first, last in places]
            for name in ("stage", "put", "take"):
                ctx.set(getattr(dut, name), 0)
            queue = rng.randrange(3)
            ctx.set(dut.queue, queue)
            has_room = len(model[queue]) < sizes[queue]
            is_put = has_room and len(staged[queue]) == 16 and rng.random() < 0.8
            if has_room and not is_put:
                word, value = rng.choice([k for k in range(16) if k not in staged[queue]] or [3]), rng.getrandbits(32)
                ctx.set(dut.stage, 1)
                ctx.set(dut.word, word)
                ctx.set(dut.value, value)
            ctx.set(dut.put, is_put)
            # Read any word of any oldest descriptor; the data come a cycle later.
            source = rng.randrange(3)
            look = rng.randrange(8)
            ctx.set(dut.read_entry, ctx.get(dut.head[source]))
            ctx.set(dut.read_word, look)
            following = (model[source][0][2 * look] | model[source][0][2 * look + 1] << 32) if model[source] else None
            other = queue if is_put else rng.randrange(3)  # often both at once
            is_taken = bool(model[other]) and rng.random() < (0.5 if is_put else 0.03)
            ctx.set(dut.take, is_taken)
            ctx.set(dut.take_queue, other)
            if expected is not None:
                assert ctx.get(dut.data) == expected
            await ctx.tick()
            expected = following
            if has_room and not is_put:
                staged[queue][word] = value
            if is_put:
                model[queue].append([staged[queue][word] for word in range(16)])
                staged[queue] = {}
            if is_taken:
                model[other].pop(0)
            assert [ctx.get(level) for level in dut.occupancy] == [len(queue) for queue in model]
            assert ctx.get(dut.has_work) == sum(bool(queue) << k for k, queue in enumerate(model))
            if not is_put and not is_taken:  # these are a cycle later
                ctx.set(dut.stage, 0)
                ctx.set(dut.read_entry, 0)
                ctx.set(dut.take, 0)
                ctx.set(dut.put, 0)
                await ctx.tick()
                expected = None
                assert ctx.get(dut.is_full) == sum((len(queue) == size) << k
                                                   for k, (queue, size) in enumerate(zip(model, sizes, strict=True)))
                assert ctx.get(dut.is_limited) == sum((len(queue) >= 2) << k for k, queue in enumerate(model))

    simulate(dut, testbench)


def test_clear_moves_a_queue():
    dut = Queues(1, entries=8)

    async def testbench(ctx):
        ctx.set(dut.last[0], 3)
        ctx.set(dut.put, 1)
        await ctx.tick().repeat(3)
        ctx.set(dut.put, 0)
        assert ctx.get(dut.occupancy[0]) == 3
        ctx.set(dut.first[0], 5)
        ctx.set(dut.last[0], 6)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        assert (ctx.get(dut.occupancy[0]), ctx.get(dut.head[0])) == (0, 5)

    simulate(dut, testbench)


def place_model(sizes, places, is_open, queue, entries):
    """The place of a queue, or None."""
    first = sum(sizes[:queue])
    last = first + sizes[queue] - 1
    if not sizes[queue] or last >= entries:
        return None
    for other, here in enumerate(places):
        if other != queue and is_open[other] and here[0] <= last and first <= here[1]:
            return None
    return first, last


@pytest.mark.parametrize("queues,entries", [(1, 4), (3, 8), (8, 20)])
def test_places(seed, queues, entries):
    rng = random.Random(f"{seed} {queues}")
    dut = Regions(queues, entries=entries)
    seen = set()

    async def testbench(ctx):
        sizes, places, is_open = [0] * queues, [(0, 0)] * queues, [False] * queues
        for _ in range(60):
            for k in range(queues):
                if rng.random() < 0.4:
                    sizes[k] = rng.choice([rng.randrange(4), rng.randrange(4), entries, entries + 1, 0xFFFF])
                    ctx.set(dut.size[k], sizes[k])
                if rng.random() < 0.4:
                    is_open[k] = False
            closed = [k for k in range(queues) if not is_open[k]]
            if not closed:
                continue
            queue = rng.choice(closed)
            ctx.set(dut.is_open, sum(bit << k for k, bit in enumerate(is_open)))
            ctx.set(dut.queue, queue)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            cycles = 0
            while not ctx.get(dut.done):
                await ctx.tick()
                cycles += 1
            assert cycles <= 2 * queues + 1
            place = place_model(sizes, places, is_open, queue, entries)
            assert bool(ctx.get(dut.fits)) == (place is not None)
            seen.add(place is not None)
            await ctx.tick()
            if place is not None:
                places[queue], is_open[queue] = place, True
            for k in range(queues):
                assert (ctx.get(dut.first[k]), ctx.get(dut.last[k])) == places[k] or not is_open[k]

    simulate(dut, testbench)
    assert seen == {False, True}


def test_bad_parameters():
    for block in (Queues, Regions):
        with pytest.raises(ValueError, match="queues must be 1 to 8, not 9"):
            block(9)
        with pytest.raises(ValueError, match="entries must be [12] to 1024, not 0"):
            block(2, entries=0)
    with pytest.raises(ValueError, match="words must be 1, 2, 4 or 8, not 3"):
        Queues(2, words=3)
