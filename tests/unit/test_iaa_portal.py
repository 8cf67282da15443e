# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""iaa.Portal: descriptors word by word, from clients that behave and from those that do not."""

import random

import pytest
from amaranth.hdl import Module

from rackgate.axi.bus import Response
from rackgate.iaa.portal import Portal
from rackgate.verif.stimulus import simulate
from rackgate.verif.stream_rules import watch


class Model:
    """What each word does: its response, and what is put into which queue."""

    def __init__(self, queues):
        self.begun = [None] * queues  # [place, words so far, room]
        self.put, self.lost = [], []
        self.is_open, self.is_full, self.is_limited, self.is_dedicated = ([False] * queues for _ in range(4))

    def close(self, queue):
        self.is_open[queue] = False
        self.begun[queue] = None

    def write(self, queue, place, word, value, strobe):
        if queue >= len(self.begun) or not self.is_open[queue]:
            return Response.SLVERR
        begun = self.begun[queue]
        is_next = word == 0 or (begun is not None and begun[0] == place and len(begun[1]) == word)
        if strobe != 0xF or not is_next:
            if begun is not None and begun[0] == place:
                self.begun[queue] = None
            return Response.SLVERR
        if word == 0:
            begun = self.begun[queue] = [place, [], not self.is_full[queue]]
        begun[1].append(value)
        if word < 15:
            return Response.OKAY
        self.begun[queue] = None
        if begun[2] and (self.is_dedicated[queue] or not self.is_limited[queue]):
            self.put.append((queue, begun[1]))
            return Response.OKAY
        if self.is_dedicated[queue]:
            self.lost.append(queue)
            return Response.OKAY
        return Response.SLVERR


class Bench:
    """A host at the portal, and the storage behind it."""

    def __init__(self, ctx, dut, model, rng):
        self.ctx, self.dut, self.model, self.rng = ctx, dut, model, rng
        self.staged, self.put = {}, []

    async def tick(self):
        ctx, dut = self.ctx, self.dut
        _, _, stage, queue, word, value, put = await ctx.tick().sample(dut.stage, dut.queue, dut.word, dut.value,
                                                                       dut.put)
        if stage:
            self.staged.setdefault(queue, [None] * 16)[word] = value
        if put:
            self.put.append((queue, list(self.staged[queue])))

    def levels(self):
        for name in ("is_open", "is_full", "is_limited", "is_dedicated"):
            self.ctx.set(getattr(self.dut, name), sum(bit << k for k, bit in enumerate(getattr(self.model, name))))

    async def write(self, queue, place, word, value, strobe=0xF):
        ctx, bus = self.ctx, self.dut.bus
        ctx.set(bus.aw.payload.addr, queue << 12 | place << 6 | word << 2)
        ctx.set(bus.w.payload, {"data": value, "strb": strobe})
        late = self.rng.choice(["address", "data", ""])
        ctx.set(bus.aw.valid, late != "address")
        ctx.set(bus.w.valid, late != "data")
        if late:
            assert not ctx.get(bus.aw.valid & bus.aw.ready | bus.w.valid & bus.w.ready)
            await self.tick()
        ctx.set(bus.aw.valid, 1)
        ctx.set(bus.w.valid, 1)
        assert ctx.get(bus.aw.ready & bus.w.ready)
        await self.tick()
        ctx.set(bus.aw.valid, 0)
        ctx.set(bus.w.valid, 0)
        expected = self.model.write(queue, place, word, value, strobe)
        while not ctx.get(bus.b.valid):
            await self.tick()
        for _ in range(self.rng.randrange(2)):
            await self.tick()
        assert ctx.get(bus.b.payload.resp) == expected, f"queue {queue} place {place} word {word} strobe {strobe:#x}"
        ctx.set(bus.b.ready, 1)
        await self.tick()
        ctx.set(bus.b.ready, 0)
        return expected


def run(testbench, *, queues=3, rng=None):
    dut, model = Portal(queues), Model(queues)
    lost, rng = [], rng or random.Random(0)
    m = Module()
    m.submodules.dut = dut
    watch(m, dut.bus.b, name="b")
    watch(m, dut.bus.r, name="r")
    watch(m, dut.overflow, name="overflow")

    async def take(ctx):
        while True:
            ready = rng.random() < 0.4
            ctx.set(dut.overflow.ready, ready)
            *_, valid, queue = await ctx.tick().sample(dut.overflow.valid, dut.overflow.payload)
            if valid and ready:
                lost.append(queue)

    async def bench(ctx):
        bench = Bench(ctx, dut, model, rng)
        model.is_open[:] = [True] * queues
        bench.levels()
        await bench.tick()
        await testbench(bench)
        await bench.tick()
        assert bench.put == model.put and lost == model.lost

    simulate(m, bench, models=[take])
    return model


def test_clients_at_random(seed):
    """Clients write whole and broken descriptors to the same queues; levels change between words."""
    rng = random.Random(seed)
    answers = {Response.OKAY: 0, Response.SLVERR: 0}

    async def testbench(bench):
        clients = [None] * 3
        for _ in range(900):
            who = rng.randrange(3)
            if clients[who] is None:
                clients[who] = [rng.choice([0, 0, 1, 2, 5]), rng.randrange(3), 0]
            queue, place, word = clients[who]
            strobe = 0xF
            if rng.random() < 0.01:
                strobe = rng.randrange(15)
            if rng.random() < 0.01:
                word = rng.randrange(16)
            answer = await bench.write(queue, place, word, rng.getrandbits(32), strobe)
            answers[answer] += word == 15
            is_over = word == 15 or (answer == Response.SLVERR and rng.random() < 0.9)
            clients[who] = None if is_over else [queue, place, word + 1]
            if rng.random() < 0.7:  # let one client get further
                clients[:] = [clients[who] if k == who else clients[k] for k in range(3)]
            if rng.random() < 0.1:
                for levels in (bench.model.is_full, bench.model.is_limited):
                    levels[rng.randrange(3)] = rng.random() < 0.3
            if rng.random() < 0.01:
                bench.model.close(closed := rng.randrange(3))
                bench.levels()
                await bench.tick()
                bench.model.is_open[closed] = rng.random() < 0.8
            if rng.random() < 0.01:
                bench.model.is_open[:] = [True] * 3
            bench.levels()
            await bench.tick()

    model = run(testbench, rng=rng)
    assert len(model.put) >= 3 and answers[Response.SLVERR]


def words(tag):
    return [tag << 8 | word for word in range(16)]


def test_answers_of_full_queues():
    async def testbench(bench):
        model = bench.model
        for is_dedicated, at_first, at_last, is_limited, expected in (
                (False, False, False, False, "put"), (False, True, False, False, "retry"),
                (False, False, True, True, "retry"), (False, False, False, True, "retry"),
                (True, False, False, True, "put"), (True, True, False, False, "lost")):
            model.is_dedicated[1] = is_dedicated
            model.is_full[1], model.is_limited[1] = at_first, is_limited
            bench.levels()
            counts = len(model.put), len(model.lost)
            for word, value in enumerate(words(7)):
                model.is_full[1] = at_first if word == 0 else at_last
                bench.levels()
                answer = await bench.write(1, 9, word, value)
            assert answer == (Response.SLVERR if expected == "retry" else Response.OKAY)
            assert len(model.put) - counts[0] == (expected == "put")
            assert len(model.lost) - counts[1] == (expected == "lost")

    run(testbench)


def test_no_descriptor_is_made_of_two():
    """Two clients at one place, in all interleavings of two runs: a mixture must not be put unless it is in order."""
    async def testbench(bench):
        for split in range(1, 16):
            # Client 1 stops, client 2 begins at another place and ends: that is the one.
            for word in range(split):
                await bench.write(0, 3, word, words(1)[word])
            for word in range(16):
                assert await bench.write(0, 4, word, words(2)[word]) == Response.OKAY
                if word == 8:
                    assert await bench.write(0, 3, split, words(1)[split]) == Response.SLVERR
            # At the same place, word by word in turn: neither.
            for word in range(16):
                await bench.write(0, 3, word, words(1)[word])
                await bench.write(0, 3, word, words(2)[word])

    model = run(testbench)
    # Word 0 of client 2 begins again, its word 1 follows client 1's: refused, and all is forgotten.
    assert model.put == [(0, words(2))] * 15


def test_reads_answer_zero():
    async def testbench(bench):
        ctx, bus = bench.ctx, bench.dut.bus
        ctx.set(bus.ar.valid, 1)
        ctx.set(bus.ar.payload.addr, 0x7FFC)
        ctx.set(bus.r.ready, 1)
        await bench.tick()
        for _ in range(3):
            assert ctx.get(bus.r.valid) and ctx.get(bus.ar.ready)
            assert (ctx.get(bus.r.payload.data), ctx.get(bus.r.payload.resp)) == (0, Response.OKAY)
            await bench.tick()
        ctx.set(bus.r.ready, 0)
        await bench.tick()
        assert not ctx.get(bus.ar.ready)
        ctx.set(bus.ar.valid, 0)
        ctx.set(bus.r.ready, 1)
        await bench.tick()
        assert not ctx.get(bus.r.valid)

    run(testbench, queues=1)


def test_bad_parameters():
    with pytest.raises(ValueError, match="queues must be 1 to 8, not 0"):
        Portal(0)
