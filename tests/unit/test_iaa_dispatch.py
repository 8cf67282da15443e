# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Which queue is served, by which lane, and in what order."""

import random

import pytest
from amaranth.hdl import Module
from iaa_front_bench import Lanes

from rackgate.iaa.abi import GROUPS, Opcode
from rackgate.iaa.chooser import Chooser
from rackgate.iaa.dispatch import Dispatch
from rackgate.iaa.lane_map import LaneMap
from rackgate.verif.stimulus import simulate
from rackgate.verif.stream_rules import watch


def test_choice(seed):
    """Against a model: highest priority in the group, then the one granted longest ago."""
    rng = random.Random(seed)
    dut = Chooser(5)
    order = list(range(5))  # least recently granted first

    async def testbench(ctx):
        for _ in range(60):
            priority = [rng.randrange(1, 4) for _ in range(5)]
            members = [rng.getrandbits(5) for _ in range(GROUPS)]
            for queue in range(5):
                ctx.set(dut.priority[queue], priority[queue])
            for group in range(GROUPS):
                ctx.set(dut.members[group], members[group])
            for _ in range(20):
                work, lanes = rng.getrandbits(5) | rng.getrandbits(5), rng.getrandbits(GROUPS)
                ctx.set(dut.has_work, work)
                ctx.set(dut.has_lane, lanes)
                await ctx.tick().repeat(2)
                waits = [queue for queue in range(5) if work >> queue & 1
                         and any(members[g] >> queue & lanes >> g & 1 for g in range(GROUPS))]
                top = [queue for queue in waits if not any(
                    priority[other] > priority[queue] and any(members[g] >> queue & members[g] >> other & 1
                                                              for g in range(GROUPS)) for other in waits)]
                expected = next((queue for queue in order if queue in top), None)
                assert ctx.get(dut.choice) == (0 if expected is None else 1 << expected)
                if rng.random() < 0.7:
                    ctx.set(dut.grant, 1)
                    await ctx.tick()
                    ctx.set(dut.grant, 0)
                    if expected is not None:
                        order.remove(expected)
                        order.append(expected)

    simulate(dut, testbench)


@pytest.mark.parametrize("engines,contexts", [(1, 1), (2, 3), (8, 1)])
def test_lane_search(seed, engines, contexts):
    rng = random.Random(f"{seed} {engines}")
    lanes = engines * contexts
    dut = LaneMap(engines=engines, contexts=contexts, queues=4)
    owner = {}

    async def testbench(ctx):
        found = 0
        for _ in range(80):
            ready = [lane for lane in range(lanes) if rng.random() < 0.7]
            retired = [lane for lane in owner if rng.random() < 0.3]
            ctx.set(dut.ready, sum(1 << lane for lane in ready))
            ctx.set(dut.retired, sum(1 << lane for lane in retired))
            await ctx.tick()
            ctx.set(dut.retired, 0)
            for lane in retired:
                del owner[lane]
            allowed = rng.getrandbits(engines)
            ctx.set(dut.engines_allowed, allowed)
            ctx.set(dut.search, 1)
            await ctx.tick()
            ctx.set(dut.search, 0)
            assert ctx.get(dut.running) == sum(1 << queue for queue in set(owner.values()))
            free = [lane for lane in ready if lane not in owner]
            assert ctx.get(dut.has_free) == sum(1 << e for e in {lane // contexts for lane in free})
            cycles = 0
            while not ctx.get(dut.done):
                await ctx.tick()
                cycles += 1
            assert cycles == engines + 1
            load = [sum(lane // contexts == e for lane in owner) for e in range(engines)]
            candidates = [lane for lane in free if allowed >> lane // contexts & 1]
            assert ctx.get(dut.found) == bool(candidates)
            if candidates:
                best = min(candidates, key=lambda lane: (load[lane // contexts], lane))
                assert ctx.get(dut.lane) == 1 << best
                owner[best] = rng.randrange(4)
                found += 1
                ctx.set(dut.queue, owner[best])
                ctx.set(dut.give, 1)
                await ctx.tick()
                ctx.set(dut.give, 0)
                assert ctx.get(dut.running) >> owner[best] & 1, "it must not look idle in between"
        assert found > 10

    simulate(dut, testbench)


class Storage:
    """Queues in software: a descriptor is (tag, opcode); words of it are made up from the tag."""

    def __init__(self, queues):
        self.queues, self.taken = [[] for _ in range(queues)], []

    def run(self, dut):
        """Model of the storage and its read port."""
        async def model(ctx):
            previous = (0, 0)
            while True:
                ctx.set(dut.has_work, sum(bool(queue) << k for k, queue in enumerate(self.queues)))
                for k in range(len(self.queues)):
                    ctx.set(dut.head[k], k)
                entry, word = previous
                tag, opcode = self.queues[entry][0] if self.queues[entry] else (0, 0)
                ctx.set(dut.data, {0: opcode << 56 | 5, 2: tag}.get(word, tag << 32 | word))
                previous = ctx.get(dut.read_entry), ctx.get(dut.read_word)
                _, _, take, queue = await ctx.tick().sample(dut.take, dut.take_queue)
                if take:
                    self.taken.append(self.queues[queue].pop(0)[0])
        return model


def run(testbench, *, hold, groups, priorities, queues=3, rng=None, stall=0.0, **parameters):
    """Run ``await testbench(ctx, dut, storage, lanes)``; the lanes."""
    dut = Dispatch(queues=queues, entries=8, **parameters)
    storage, lanes = Storage(queues), Lanes(dut.o, dut.retired, hold=hold, rng=rng, stall=stall)
    m = Module()
    m.submodules.dut = dut
    for lane, o in enumerate(dut.o):
        watch(m, o, name=f"o_{lane}")

    async def bench(ctx):
        for group, (members, engines) in enumerate(groups):
            ctx.set(dut.members[group], members)
            ctx.set(dut.engine_masks[group], engines)
        for queue, priority in enumerate(priorities):
            ctx.set(dut.settings[queue].priority, priority)
        await ctx.tick().repeat(3)
        await testbench(ctx, dut, storage, lanes)

    simulate(m, bench, models=[storage.run(dut), lanes.run])
    return storage, lanes


async def rest(ctx, dut):
    """Wait until all is done."""
    for _ in range(20_000):
        await ctx.tick()
        if not ctx.get(dut.has_work | dut.running):
            await ctx.tick().repeat(3)
            return
    raise AssertionError("it does not come to rest")


def test_priorities_and_turns():
    """Queue 2 goes first; queues 0 and 1 then take turns."""
    async def testbench(ctx, dut, storage, lanes):
        storage.queues[:] = [[(100 + k, 0) for k in range(4)], [(200 + k, 0) for k in range(4)],
                             [(300 + k, 0) for k in range(3)]]
        await rest(ctx, dut)

    storage, lanes = run(testbench, hold=lambda handed: 1, groups=[(0b111, 1)], priorities=[1, 1, 2], contexts=2)
    assert storage.taken == [300, 301, 302, 100, 200, 101, 201, 102, 202, 103, 203]
    assert [handed.tag for handed in lanes.handed] == storage.taken
    # 10 cycles to read one, one to take it, 3 till the next choice.
    starts = [handed.cycle for handed in lanes.handed]
    assert {after - before for before, after in zip(starts, starts[1:], strict=False)} == {13}


def test_groups_and_load():
    """Queue 0 may use engine 0 only, queue 1 engines 1 and 3; work is spread over engines before their contexts."""
    async def testbench(ctx, dut, storage, lanes):
        storage.queues[:] = [[(k, 0) for k in range(3)], [(100 + k, 0) for k in range(6)], [(200, 0)]]
        await ctx.tick().repeat(300)
        assert [h.lane for h in lanes.handed if h.queue == 0] == [0, 1]
        assert [h.lane for h in lanes.handed if h.queue == 1] == [2, 6, 3, 7]
        assert ctx.get(dut.has_work) == 0b111
        lanes.release()
        lanes.hold = lambda handed: 1
        await ctx.tick().repeat(300)
        assert storage.queues == [[], [], [(200, 0)]], "queue 2 is in no group"
        assert ctx.get(dut.running) == 0

    run(testbench, hold=lambda handed: None, groups=[(0b001, 0b0001), (0b010, 0b1010), (0b100, 0)],
        priorities=[1, 1, 15], engines=4, contexts=2)


def test_drain_waits_at_the_head():
    """Others pass a DRAIN that waits; those behind it in its queue do not."""
    async def testbench(ctx, dut, storage, lanes):
        storage.queues[:] = [[(1, 0), (2, Opcode.DRAIN), (3, Opcode.DRAIN), (4, 0)], [(11, Opcode.DRAIN)], []]
        await ctx.tick().repeat(150)
        assert {handed.tag for handed in lanes.handed} == {1, 11}
        storage.queues[1].append((12, 0))
        await ctx.tick().repeat(60)
        assert lanes.handed[-1].tag == 12
        lanes.release()
        await ctx.tick().repeat(60)
        assert lanes.handed[-1].tag == 2
        await ctx.tick().repeat(60)
        assert lanes.handed[-1].tag == 2, "a DRAIN waits for a DRAIN"
        lanes.release()
        await ctx.tick().repeat(60)
        assert [handed.tag for handed in lanes.handed[-2:]] == [3, 4]

    run(testbench, hold=lambda handed: None, groups=[(0b111, 1)], priorities=[5, 1, 1], contexts=4)


def test_random_work(seed):
    """All is handed out once, in the order of its queue, by lanes that come and go."""
    rng = random.Random(seed)
    given = [[] for _ in range(3)]

    async def testbench(ctx, dut, storage, lanes):
        for tag in range(60):
            queue = rng.randrange(3)
            given[queue].append(tag)
            storage.queues[queue].append((tag, rng.choice([0, 0, Opcode.DRAIN, Opcode.DECOMPRESS])))
            await ctx.tick().repeat(rng.randrange(1, 25))
        await rest(ctx, dut)

    _, lanes = run(testbench, hold=lambda handed: rng.randrange(60), groups=[(0b011, 0b01), (0b110, 0b11)],
                   priorities=[1, 2, 2], rng=rng, stall=0.5, engines=2, contexts=2)
    for queue in range(3):
        assert [handed.tag for handed in lanes.handed if handed.queue == queue] == given[queue]
        assert queue or all(handed.lane < 2 for handed in lanes.handed if handed.queue == 0)


def test_bad_parameters():
    for block in (lambda **more: LaneMap(**{"engines": 1, "contexts": 1, "queues": 1} | more), Dispatch):
        with pytest.raises(ValueError, match="engines must be 1 to 8, not 0"):
            block(engines=0)
        with pytest.raises(ValueError, match="contexts must be 1 to 8, not 9"):
            block(contexts=9)
        with pytest.raises(ValueError, match="queues must be 1 to 8, not 9"):
            block(queues=9)
    with pytest.raises(ValueError, match="queues must be 1 to 8, not 9"):
        Chooser(9)
