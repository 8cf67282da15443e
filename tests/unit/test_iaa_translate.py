# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The translator between an engine's random bursts and a memory that reorders, with faults and page requests."""

import random
from collections import deque

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from rackgate.axi.bus import Burst, Response
from rackgate.iaa.abi import PAGE_SIZE, PageResponse
from rackgate.iaa.addresspath import PathParameters
from rackgate.iaa.pagerequest import PageRequests
from rackgate.iaa.translate import Translator
from rackgate.verif.stimulus import AXI4Memory, simulate
from rackgate.verif.stream_rules import watch
from rackgate_sim.iaa.pagetable import LARGE_SIZE, PageTable

SIZE = 3 * LARGE_SIZE
#: Virtual addresses: of pages to read, of pages to write, and of a large page that holds both kinds.
READ, WRITE, LARGE = 0x7F00_1230_0000, 0x0000_4040_0000, 0x2000_0000_0000
BURST = 8


class World:
    """Memory with tables of two queues, and what each page of them is."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.memory = bytearray(SIZE)
        frames = list(range(PAGE_SIZE, LARGE_SIZE, PAGE_SIZE))
        rng.shuffle(frames)
        self.tables = [PageTable(self.memory, frames) for _ in range(2)]
        #: (queue, virtual page) -> (frame, kind); a "lazy" page is mapped when it is asked for.
        self.pages = {}
        for queue, table in enumerate(self.tables):
            for start, kinds in ((READ, ("there", "there", "there", "lazy", "never")),
                                 (WRITE, ("there", "there", "there", "lazy", "never", "read-only", "upgrade"))):
                for k in range(12):
                    frame, kind = frames.pop(), rng.choice(kinds)
                    virtual = start + PAGE_SIZE * k
                    self.pages[queue, virtual] = frame, kind
                    if start == READ or kind == "read-only":
                        self.memory[frame:frame + PAGE_SIZE] = rng.randbytes(PAGE_SIZE)
                    if kind in ("there", "read-only", "upgrade"):
                        table.map(virtual, frame, writable=kind == "there" and start == WRITE)
            large = LARGE_SIZE * (1 + queue)
            table.map(LARGE, large, large=True)
            for k in (0, 7, 511):
                self.pages[queue, LARGE + PAGE_SIZE * k] = large + PAGE_SIZE * k, "there"

    def pages_of(self, queue, write):
        """Pages to read or to write: none that is written is read."""
        def is_read(page, kind):
            return READ <= page < READ + LARGE_SIZE or page in (LARGE, LARGE + 511 * PAGE_SIZE) or kind == "read-only"

        return [page for (of, page), (_, kind) in self.pages.items()
                if of == queue and (not READ <= page < READ + LARGE_SIZE and (page < READ and kind == "read-only"
                                    or not is_read(page, kind)) if write else is_read(page, kind))]

    def answer(self, queue, page, write):
        """The host's answer; None to leave it to the timeout."""
        frame, kind = self.pages[queue, page]
        if kind == "lazy" or kind == "upgrade" and write:
            self.tables[queue].map(page, frame, writable=page < READ)
            return PageResponse.SUCCESS
        return self.rng.choice([PageResponse.INVALID, PageResponse.FAILURE, None])

    def is_good(self, queue, address, write):
        """Whether a blocking access ends well."""
        kind = self.pages[queue, address // PAGE_SIZE * PAGE_SIZE][1]
        return kind in ("there", "lazy") or kind == "upgrade" or not write and kind == "read-only"

    def physical(self, queue, address):
        return self.pages[queue, address // PAGE_SIZE * PAGE_SIZE][0] + address % PAGE_SIZE


class Bench:
    """An engine that gives random jobs, a memory and a host, around a translator."""

    def __init__(self, world, *, contexts=2, depth=4, stall=0.3, entries=8, seed=0, host=True):
        self.world, self.contexts, self.stall, self.rng = world, contexts, stall, random.Random(seed)
        self.parameters = PathParameters(contexts=contexts, id_width=5, id_shift=1, depth=depth, burst=BURST)
        self.dut = dut = Translator(self.parameters, entries=entries)
        self.requests = PageRequests(engines=1, depth=2 * contexts)
        self.module = m = Module()
        m.submodules.dut, m.submodules.requests = dut, self.requests
        wiring.connect(m, dut.o_question, self.requests.i[0])
        m.d.comb += dut.i_answer.eq(self.requests.o[0])
        for name, port in (("ar", dut.o.ar), ("aw", dut.o.aw), ("w", dut.o.w), ("r", dut.i.r), ("b", dut.i.b),
                           ("question", dut.o_question), ("walk", dut.walk_ar)):
            watch(m, port, name=name)
        self.model = AXI4Memory(world.memory, rng=random.Random(seed + 1) if stall else None, stall=stall)
        self.walks = AXI4Memory(world.memory, rng=random.Random(seed + 2) if stall else None, stall=stall)
        self.models = [self.model.reader(dut.o.ar, dut.o.r), self.model.writer(dut.o.aw, dut.o.w, dut.o.b),
                       self.walks.reader(dut.walk_ar, dut.walk_r), *self.channels()]
        if host:
            self.models.append(self.host)
        self.to_send = {"ar": deque(), "aw": deque(), "w": deque()}
        # Of each id what is under way: bursts as dicts.
        self.under_way = {"r": {}, "b": {}}
        #: For each context and direction, the bursts in order, with ``error`` once answered.
        self.bursts = {(k, write): [] for k in range(contexts) for write in (0, 1)}
        self.counts = {"hits": 0, "misses": 0, "faults": 0}
        self.models.append(self.count)

    def issue(self, context, queue, address, beats, write):
        rng = self.rng
        burst = {"context": context, "queue": queue, "address": address, "beats": beats, "write": write, "error": None,
                 "id": context << 1 | rng.randrange(2), "beat": 0}
        request = {"addr": address, "id": burst["id"], "len": beats - 1, "size": 3, "burst": Burst.INCR}
        self.bursts[context, write].append(burst)
        self.under_way["b" if write else "r"].setdefault(burst["id"], deque()).append(burst)
        self.to_send["aw" if write else "ar"].append(request)
        if write:
            burst["words"] = [(rng.getrandbits(64), rng.choice([0xFF, rng.getrandbits(8)])) for _ in range(beats)]
            self.to_send["w"].extend({"data": word, "strb": strobe, "last": k == beats - 1}
                                     for k, (word, strobe) in enumerate(burst["words"]))
        return burst

    def channels(self):
        def sender(name):
            async def run(ctx):
                port, queue = getattr(self.dut.i, name), self.to_send[name]
                while True:
                    if not queue or self.rng.random() < self.stall:
                        await ctx.tick()
                        continue
                    ctx.set(port.payload, queue.popleft())
                    ctx.set(port.valid, 1)
                    ready = False
                    while not ready:
                        *_, ready = await ctx.tick().sample(port.ready)
                    ctx.set(port.valid, 0)
            return run

        def taker(name):
            async def run(ctx):
                port = getattr(self.dut.i, name)
                while True:
                    ready = self.rng.random() >= self.stall
                    ctx.set(port.ready, ready)
                    *_, valid, answer = await ctx.tick().sample(port.valid, port.payload)
                    if valid and ready:
                        self.take(name, answer)
            return run
        return [sender("ar"), sender("aw"), sender("w"), taker("r"), taker("b")]

    def take(self, name, answer):
        queue = self.under_way[name].get(answer.id)
        assert queue, f"an answer that nobody waits for: {answer!r}"
        burst, is_error = queue[0], answer.resp == Response.SLVERR
        assert is_error or answer.resp == Response.OKAY
        if name == "r":
            assert burst["error"] in (None, is_error)
            if not is_error:
                place = self.world.physical(burst["queue"], burst["address"]) + 8 * burst["beat"]
                assert answer.data == int.from_bytes(self.world.memory[place:place + 8], "little")
            burst["beat"] += 1
            assert answer.last == (burst["beat"] == burst["beats"])
        burst["error"] = is_error
        if name == "b" or answer.last:
            burst["done"] = True
            queue.popleft()

    async def host(self, ctx):
        """Answer page requests late; map what can be mapped."""
        requests, rng = self.requests, self.rng
        ctx.set(requests.timeout, 150)
        while True:
            await ctx.tick()
            if not ctx.get(requests.shown.valid):
                continue
            shown = ctx.get(requests.shown)
            code = self.world.answer(shown.queue, shown.page * PAGE_SIZE, shown.write)
            if code is None:
                while ctx.get(requests.shown) == shown and ctx.get(requests.shown.valid):
                    await ctx.tick()
                continue
            for _ in range(rng.randrange(40)):
                await ctx.tick()
            if ctx.get(requests.shown) == shown:
                ctx.set(requests.code, code)
                ctx.set(requests.respond, 1)
                await ctx.tick()
                ctx.set(requests.respond, 0)

    async def count(self, ctx):
        while True:
            *_, hits, misses, faults = await ctx.tick().sample(self.dut.hits, self.dut.misses, self.dut.faults)
            for name, value in (("hits", hits), ("misses", misses), ("faults", faults)):
                self.counts[name] += value

    def set_space(self, ctx, context, queue, *, block, translate=1):
        ctx.set(self.dut.space[context], {"translate": translate, "block": block, "queue": queue,
                                          "table": self.world.tables[queue].root // PAGE_SIZE})

    async def finish(self, ctx, bursts):
        while not all(burst.get("done") for burst in bursts):
            await ctx.tick()

    async def clear(self, ctx, context):
        ctx.set(self.dut.clear[context], 1)  # others may clear in the same cycle
        await ctx.tick()
        ctx.set(self.dut.clear[context], 0)
        await ctx.tick()

    def check(self):
        """What reached memory is what was answered well: each burst once, in order, at its frame."""
        assert not any(self.to_send.values()) and not any(q for of in self.under_way.values() for q in of.values())
        for (context, write), bursts in self.bursts.items():
            log = self.model.writes if write else self.model.reads
            reached = [entry for entry in log if entry[0] >> 1 == context]
            assert reached == [(b["id"], b.get("physical") or self.world.physical(b["queue"], b["address"]), b["beats"])
                               for b in bursts if not b["error"]]

    def run(self, *testbenches, limit=40_000):
        simulate(self.module, *testbenches, models=self.models, limit=limit)
        self.check()


def job(bench, context, jobs, expected):
    """A testbench: random jobs of a context, each in a random space; what is answered must be right."""
    world, rng = bench.world, random.Random(bench.rng.random())

    async def run(ctx):
        for _ in range(jobs):
            queue, block = rng.randrange(2), rng.random() < 0.7
            bench.set_space(ctx, context, queue, block=block)
            bursts = []
            for write in (0, 1):
                pages = rng.sample(world.pages_of(queue, write), 3)
                for _ in range(rng.randrange(1, 9)):
                    beats = rng.randint(1, BURST)
                    address = rng.choice(pages) + 8 * rng.randrange(512 - beats)
                    bursts.append((write, bench.issue(context, queue, address, beats, write)))
                    if rng.random() < 0.3:
                        await ctx.tick().repeat(rng.randint(1, 30))
            await bench.finish(ctx, [burst for _, burst in bursts])
            fault = ctx.get(bench.dut.fault[context])
            errors = [burst for _, burst in bursts if burst["error"]]
            assert bool(errors) == bool(fault.valid)
            for write in (0, 1):  # all after the first
                flags = [burst["error"] for of, burst in bursts if of == write]
                assert flags == sorted(flags)
            for of, burst in bursts:
                if not burst["error"]:
                    assert world.is_good(queue, burst["address"], of)
                    if of:
                        for k, (word, strobe) in enumerate(burst["words"]):
                            for lane in range(8):
                                if strobe >> lane & 1:
                                    place = world.physical(queue, burst["address"]) + 8 * k + lane
                                    expected[place] = expected.get(place, []) + [word >> 8 * lane & 0xFF]
            if fault.valid:
                bad = [burst for of, burst in bursts if burst["address"] == fault.address and of == fault.write]
                assert any(burst["error"] for burst in bad)
                if fault.timeout:  # so may a request that waits behind others'
                    assert block
                elif block:
                    assert not any(world.is_good(queue, burst["address"], fault.write) for burst in bad)
            await bench.clear(ctx, context)
            assert not ctx.get(bench.dut.fault[context].valid)
    return run


@pytest.mark.thorough
@pytest.mark.parametrize("contexts,depth,stall,seed", [(1, 2, 0.3, 12), (3, 4, 0, 2), (2, 2, 0.3, 3)])
def test_random(contexts, depth, stall, seed, jobs=3):
    print(f"seed {seed}")
    world = World(seed)
    bench, expected = Bench(world, contexts=contexts, depth=depth, stall=stall, seed=seed), {}

    async def invalidate(ctx):
        rng = random.Random(seed)
        while True:
            for _ in range(rng.randint(1, 300)):
                await ctx.tick()
            ctx.set(bench.dut.invalidate, 1)
            await ctx.tick()
            ctx.set(bench.dut.invalidate, 0)

    bench.models.append(invalidate)
    bench.run(*(job(bench, context, jobs, expected) for context in range(contexts)), limit=60_000)
    # Of bytes that several contexts wrote, any may be the last.
    assert all(world.memory[place] in values for place, values in expected.items())
    assert bench.counts["faults"] and bench.counts["misses"] and bench.counts["hits"]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(16))
def test_random_long(seed):
    rng = random.Random(seed)
    test_random(rng.randint(1, 8), rng.choice([2, 4, 8]), rng.choice([0, 0.1, 0.5]), 100 + seed, jobs=12)


def directed(*, contexts=2, depth=8, entries=8, host=False):
    """A bench without delays: pages "there" are mapped, others are not."""
    world = World(5)
    return world, Bench(world, contexts=contexts, depth=depth, stall=0, entries=entries, host=host)


def page_of(world, kind, *, queue=0, write=0, skip=0):
    return [page for page in world.pages_of(queue, write) if world.pages[queue, page][1] == kind][skip]


async def watch_cycles(ctx, ports, log, cycles):
    """The cycles in which something passes at each port."""
    for cycle in range(cycles):
        for name, port in ports.items():
            if ctx.get(port.valid) and ctx.get(port.ready):
                log.setdefault(name, []).append(cycle)
        await ctx.tick()


@pytest.mark.parametrize("translate", [0, 1])
def test_latency_and_throughput(translate):
    """A read's address takes 1 cycle, a write's 2 and its data 1, and no cycle goes by without a beat."""
    world, bench = directed()
    dut, log = bench.dut, {}
    ports = {f"{side}_{name}": getattr(port, name) for side, port in (("i", dut.i), ("o", dut.o))
             for name in ("ar", "aw", "w", "r")}
    pages = [page_of(world, "there"), page_of(world, "there", write=1)]

    async def testbench(ctx):
        for context in range(2):
            bench.set_space(ctx, context, 0, block=0, translate=translate)
            if translate:  # the last translations are known
                await bench.finish(ctx, [bench.issue(context, 0, pages[write], 1, write) for write in (0, 1)])
        for name in ("hits", "misses"):
            bench.counts[name] = 0
        await ctx.tick().repeat(5)
        for k in range(12):
            for write in (0, 1):
                address = pages[write] + 64 * k
                if not translate:
                    world.pages[0, pages[write]] = frame, _ = world.pages[0, pages[write]][0], "there"
                    address = frame + 64 * k
                    world.pages[0, frame] = frame, "there"
                bench.issue(k % 2, 0, address, BURST, write)
        await watch_cycles(ctx, ports, log, 140)
        assert bench.counts == {"hits": 24 * translate, "misses": 0, "faults": 0}

    bench.run(testbench)
    assert [after - before for before, after in zip(log["i_ar"], log["o_ar"], strict=True)] == [1] * 12
    assert log["o_aw"][0] - log["i_aw"][0] == 2
    assert log["o_w"] == list(range(log["o_w"][0], log["o_w"][0] + 12 * BURST))
    assert log["i_r"] == log["o_r"] == list(range(log["o_r"][0], log["o_r"][0] + 12 * BURST))


@pytest.mark.parametrize("write", [0, 1])
def test_others_pass_one_that_waits(write):
    """While a context waits for the host, as many of its bursts as can be parked hold nobody up."""
    world, bench = directed()
    page = page_of(world, "lazy", write=write)

    async def testbench(ctx):
        for context in range(2):
            bench.set_space(ctx, context, 0, block=1)
        waiting = [bench.issue(0, 0, page + 64 * k, BURST, write) for k in range(8)]
        others = [bench.issue(1, 0, page_of(world, "there", write=of, skip=k % 2) + 64 * k, BURST, of)
                  for k in range(10) for of in (0, 1)]
        other_way = [bench.issue(0, 0, page_of(world, "there", write=1 - write), 4, 1 - write)]
        await bench.finish(ctx, others + other_way)
        assert not any(burst.get("done") for burst in waiting)
        shown = ctx.get(bench.requests.shown)
        assert shown.valid and shown.page == page // PAGE_SIZE and shown.write == write and shown.queue == 0
        world.tables[0].map(page, world.pages[0, page][0])
        ctx.set(bench.requests.code, PageResponse.SUCCESS)
        ctx.set(bench.requests.respond, 1)
        await ctx.tick()
        ctx.set(bench.requests.respond, 0)
        log = {}
        await watch_cycles(ctx, {"w": bench.dut.o.w}, log, 120)
        await bench.finish(ctx, waiting)
        assert not any(burst["error"] for burst in waiting)
        if write:  # and its data go at a beat a cycle
            assert log["w"] == list(range(log["w"][0], log["w"][0] + 8 * BURST))

    bench.run(testbench, limit=3000)
    assert bench.counts["faults"] == 1


def test_a_late_answer_keeps_the_context():
    """A context that failed is not done with as long as a page request of it is open."""
    world, bench = directed()
    read, write = page_of(world, "never"), page_of(world, "never", write=1)

    async def respond(ctx, code):
        ctx.set(bench.requests.code, code)
        ctx.set(bench.requests.respond, 1)
        await ctx.tick()
        ctx.set(bench.requests.respond, 0)

    async def testbench(ctx):
        bench.set_space(ctx, 0, 0, block=1)
        first = bench.issue(0, 0, write + 8, 2, 1)
        await ctx.tick().repeat(60)
        second = bench.issue(0, 0, read + 16, 3, 0)
        await ctx.tick().repeat(60)
        await respond(ctx, PageResponse.INVALID)
        await ctx.tick().repeat(60)
        assert first["error"] and second["error"] is None
        fault = ctx.get(bench.dut.fault[0])
        assert fault.valid and fault.write and fault.address == write + 8 and not fault.timeout
        await respond(ctx, PageResponse.SUCCESS)
        await bench.finish(ctx, [second])
        assert second["error"] and ctx.get(bench.dut.fault[0]) == fault
        await bench.clear(ctx, 0)
        assert not ctx.get(bench.dut.fault[0].valid)

    bench.run(testbench, limit=2000)


def test_timeout():
    world, bench = directed()
    page = page_of(world, "never")

    async def testbench(ctx):
        bench.set_space(ctx, 1, 0, block=1)
        ctx.set(bench.requests.timeout, 80)
        burst = bench.issue(1, 0, page + 40, 1, 0)
        while not ctx.get(bench.requests.shown.valid):
            await ctx.tick()
        assert ctx.get(bench.requests.raised)
        await ctx.tick().repeat(76)
        assert ctx.get(bench.requests.shown.valid) and burst["error"] is None
        await bench.finish(ctx, [burst])
        fault = ctx.get(bench.dut.fault[1])
        assert (fault.valid, fault.timeout, fault.write, fault.address) == (1, 1, 0, page + 40)

    bench.run(testbench, limit=400)


def test_invalidate():
    """A page that moves is found at its new place after ``invalidate``, and at its old one before."""
    world, bench = directed()
    page, other = page_of(world, "there"), page_of(world, "there", skip=1)

    async def testbench(ctx):
        bench.set_space(ctx, 0, 0, block=0)
        await bench.finish(ctx, [bench.issue(0, 0, page, 2, 0)])
        frames = [world.pages[0, of][0] for of in (page, other)]
        world.tables[0].map(page, frames[1], writable=False)
        burst = bench.issue(0, 0, page, 2, 0)
        await bench.finish(ctx, [burst])
        for of in bench.bursts[0, 0]:
            of["physical"] = frames[0]
        ctx.set(bench.dut.invalidate, 1)
        await ctx.tick()
        ctx.set(bench.dut.invalidate, 0)
        world.pages[0, page] = frames[1], "there"
        await bench.finish(ctx, [bench.issue(0, 0, page, 2, 0)])
        assert bench.counts == {"hits": 1, "misses": 2, "faults": 0}

    bench.run(testbench, limit=1000)


@pytest.mark.parametrize("parameters,message", [
    ({"contexts": 9}, "contexts must be 1 to 8, not 9"),
    ({"contexts": 4, "id_width": 2, "id_shift": 1}, "id_shift must leave room for 4 contexts in 2 bits, not be 1"),
    ({"depth": 6}, "depth must be a power of two and at least 2, not 6"),
    ({"burst": 12}, "burst must be a power of two from 1 to 256, not 12"),
])
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        PathParameters(**parameters)


def test_bad_parameters_of_parts():
    with pytest.raises(ValueError, match="entries must be a power of two from 2 to 256, not 48"):
        Translator(PathParameters(), entries=48)
    with pytest.raises(ValueError, match="engines must be 1 to 16, not 0"):
        PageRequests(engines=0)


def test_queues_are_kept_apart():
    """The same page, right after each other, in two address spaces."""
    world, bench = directed()
    page = next(page for page in world.pages_of(0, 0)
                if page != LARGE and all(world.pages[queue, page][1] == "there" for queue in range(2)))

    async def testbench(ctx):
        for k in range(4):
            bench.set_space(ctx, 0, k % 2, block=0)
            await bench.finish(ctx, [bench.issue(0, k % 2, page + 8 * k, 2, 0)])

    bench.run(testbench, limit=1000)
    assert bench.counts == {"hits": 2, "misses": 2, "faults": 0}  # the TLB has both


def test_invalidate_during_a_walk():
    """Whenever it comes, no translation from before it is found after it."""
    world, bench = directed()
    page, other = page_of(world, "there"), page_of(world, "there", skip=1)
    frames = [world.pages[0, of][0] for of in (page, other)]
    world.memory[frames[1]:frames[1] + PAGE_SIZE] = world.memory[frames[0]:frames[0] + PAGE_SIZE]

    async def testbench(ctx):
        bench.set_space(ctx, 0, 0, block=0)
        for after in range(2, 26, 3):
            first = bench.issue(0, 0, page, 1, 0)
            for _ in range(after):
                await ctx.tick()
            frames.reverse()
            world.tables[0].map(page, frames[0])
            ctx.set(bench.dut.invalidate, 1)
            await ctx.tick()
            ctx.set(bench.dut.invalidate, 0)
            await bench.finish(ctx, [first])
            first["physical"] = bench.model.reads[-1][1]  # of before or after
            second = bench.issue(0, 0, page, 1, 0)
            second["physical"] = frames[0]
            await bench.finish(ctx, [second])
            ctx.set(bench.dut.invalidate, 1)
            await ctx.tick()
            ctx.set(bench.dut.invalidate, 0)

    bench.run(testbench, limit=6000)


def test_clear_while_the_other_direction_was_looked_up():
    """Whenever the host's no to a write comes, a read that is being looked up leaves no fault behind ``clear``."""
    world, bench = directed()
    read, write = page_of(world, "never"), page_of(world, "never", write=1)

    async def testbench(ctx):
        requests = bench.requests
        for after in range(4, 28, 3):
            bench.set_space(ctx, 0, 0, block=1)
            first = bench.issue(0, 0, write, 1, 1)
            while not ctx.get(requests.shown.valid):
                await ctx.tick()
            second = bench.issue(0, 0, read, 1, 0)
            for _ in range(after):
                await ctx.tick()
            ctx.set(requests.code, PageResponse.INVALID)
            ctx.set(requests.respond, 1)
            await ctx.tick()
            ctx.set(requests.respond, 0)
            while not (first.get("done") and second.get("done")):
                ctx.set(requests.respond, ctx.get(requests.shown.valid))
                await ctx.tick()
            ctx.set(requests.respond, 0)
            assert first["error"] and second["error"]
            await bench.clear(ctx, 0)
            for _ in range(40):
                await ctx.tick()
                assert not ctx.get(bench.dut.fault[0].valid) and not ctx.get(requests.shown.valid)

    bench.run(testbench, limit=6000)
